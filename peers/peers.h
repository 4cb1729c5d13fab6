/* peers.h - the actor that keeps the directory: joins, announces, passes records on.
 *
 * A record of our own is made when what we say changes (at once when it is what we serve, else at
 * most once a second) and every 100 s; it goes to every connected
 * peer, and each peer passes news on, so that all learn of all.  On connecting each side asks for
 * the other's records.  In the public swarm only what hearsay.h allows is passed on, and links are
 * made to prove what was heard once.  On leaving a record with state "gone" goes out. */
#ifndef PEERS_PEERS_H
#define PEERS_PEERS_H

#include "net/net.h"
#include "proto/directory.h"
#include "proto/plan.h"

struct peers;

struct peers_config {
    struct hub *hub;
    struct net *net; /* borrowed until peers_close */
    const struct identity *me;
    const struct swarm_key *swarm; /* borrowed until peers_close */
    const struct link *join;       /* [n_join] copied: dialled now and again while unconnected */
    uint32_t n_join;
    void *arg;
    /* The directory changed: somebody came, went, or says something new. */
    void (*on_change)(void *arg);
    /* A join link could not be reached (why in words), said once per change of reason. */
    void (*on_join_failed)(void *arg, const struct link *l, const char *why);
};

MUST_CHECK enum err peers_open(struct peers **out, const struct peers_config *c);
void peers_close(struct peers *p);

/* What we announce from now on (fields id, seq, made, expires are filled in); copied.  A node that
 * only asks announces nothing: it never calls this. */
MUST_CHECK enum err peers_announce(struct peers *p, const struct record_body *body);
/* Announce "gone" now (clean shutdown). */
void peers_leave(struct peers *p);

/* id does not answer: it is not planned with for a while, unless it is heard of again. */
void peers_suspect(struct peers *p, const struct node_id *id);

/* net.c's events are handed on by whoever owns both: */
void peers_on_mail(struct peers *p, struct mail *m); /* RECORDS, RECORDS_GET; takes m */
void peers_on_peer(struct peers *p, const struct node_id *id, bool up);

/* For planning, on the loop's thread: the directory and what was measured, in its order (the caller
 * may add to it; it is made anew at each call). */
const struct directory *peers_directory(const struct peers *p);
struct measured *peers_measured(struct peers *p);

#endif
