/* meet.h - how a node returns to its swarm: by the peers file, else by bootstrap links.
 *
 * While fewer than MEET_ENOUGH nodes are connected, the addresses of the peers file (book.h) are
 * tried, the best first, MEET_DIALS at once; private ones only while this machine is in their
 * network.  Bootstrap links are tried when nobody has been reached MEET_PATIENCE_MS after the
 * start, and again, more and more seldom, while nobody is.  The file lies beside the identity, is
 * readable by its owner alone, and is written off the loop. */
#ifndef PEERS_MEET_H
#define PEERS_MEET_H

#include "net/net.h"
#include "peers/peers.h"

enum { MEET_ENOUGH = 4, MEET_DIALS = 4, MEET_PATIENCE_MS = 3000, MEET_BOOTSTRAP_MAX = 16 };

struct meet_config {
    struct hub *hub;
    struct net *net;               /* borrowed until meet_close */
    struct peers *peers;           /* the same */
    const struct swarm_key *swarm; /* read by meet_open */
    const char *file;              /* the peers file; copied; NULL: none */
    const struct link *bootstrap;  /* [n_bootstrap] copied */
    unsigned n_bootstrap;
};

struct meet;

MUST_CHECK enum err meet_open(struct meet **out, const struct meet_config *c);
void meet_close(struct meet *m); /* before net_close; what is new is still written */

void meet_on_peer(struct meet *m, const struct node_id *id, bool up);
void meet_tick(struct meet *m); /* now and then, from the owner's timer */

/* Was it met before, or since?  A person has said yes to it then. */
bool meet_knows(const struct meet *m, const struct node_id *id);
unsigned meet_connected(const struct meet *m);

/* The peers file that goes with an identity file: FILE.key -> FILE.peers. */
MUST_CHECK enum err meet_file(char *out, size_t cap, const char *identity, struct why *why);

#endif
