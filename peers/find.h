/* find.h - the actor by which a node finds others, and is found.
 *
 *     lan.c     beacons on this network
 *     meet.c    the peers file and bootstrap links
 *     reach.c   whether others can connect, and the router's help with it
 *
 * Who is dialled because of a beacon: anyone of a private swarm, for the key is the membership; in
 * the public swarm only after a yes (lan_join, or it was met before), else the
 * person is told once what to type.  One node is dialled for a beacon at most once in
 * FIND_RETRY_MS, more seldom after failures, and at most FIND_LINKS nodes are.
 *
 * One line of log says how things are, soon after the start and when that changes. */
#ifndef PEERS_FIND_H
#define PEERS_FIND_H

#include "net/net.h"
#include "peers/peers.h"
#include "peers/reached.h"

enum { FIND_RETRY_MS = 10000, FIND_LINKS = 32 };

struct find_config {
    struct hub *hub;
    struct net *net;     /* borrowed until find_close */
    struct peers *peers; /* borrowed until find_close */
    const struct identity *me;
    const struct swarm_key *swarm; /* read by find_open */
    bool lan;                      /* send and hear beacons */
    bool lan_join;                 /* yes to all of the public swarm on this network */
    const char *identity_file;     /* the peers file lies beside it; read by find_open */
    const struct link *bootstrap;  /* [n_bootstrap] copied */
    unsigned n_bootstrap;
    struct reached *reached; /* what is announced; find.c changes it until find_close */
    bool advertised;         /* a person said where this node is reached */
    bool portmap;            /* ask the router to let others in */
    void *arg;
    void (*on_reached)(void *arg); /* reached has changed: announce anew */
};

struct find;

/* ERR_NOMEM; what cannot work on this machine (no multicast, say) is logged and left out. */
MUST_CHECK enum err find_open(struct find **out, const struct find_config *c);
void find_close(struct find *f); /* before net_close */

/* net.c's events are handed on by whoever owns both. */
void find_on_peer(struct find *f, const struct node_id *id, bool up);
void find_on_mail(struct find *f, struct mail *m); /* DIALBACK, DIALBACK_DONE; takes m */

/* How things are, in one sentence; as in the log. */
void find_text(const struct find *f, char *out, size_t cap);

#endif
