/* find.h - the actor by which a node finds others, and is found.
 *
 *     lan.c     beacons on this network
 *     meet.c    the peers file and bootstrap links
 *
 * Who is dialled because of a beacon: anyone of a private swarm, for the key is the membership; in
 * the public swarm only after a yes (lan_join, or it was met before), else the
 * person is told once what to type.  One node is dialled for a beacon at most once in
 * FIND_RETRY_MS, more seldom after failures, and at most FIND_LINKS nodes are. */
#ifndef NODE_FIND_H
#define NODE_FIND_H

#include "node/net.h"
#include "node/peers.h"

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
};

struct find;

/* ERR_NOMEM; what cannot work on this machine (no multicast, say) is logged and left out. */
MUST_CHECK enum err find_open(struct find **out, const struct find_config *c);
void find_close(struct find *f); /* before net_close */

/* net.c's events are handed on by whoever owns both. */
void find_on_peer(struct find *f, const struct node_id *id, bool up);

#endif
