/* dialback.h - can this node be reached from outside?  Others are asked to try.
 *
 * Up to DIALBACK_PEERS connected nodes outside of our own network, of different networks where
 * there are such, dial the address that they see us at, at the port that we name, and make a
 * handshake with us.  A node dials for others, too, but never anything else than the address from
 * which it is asked, DIALBACK_AT_ONCE at once, and for one node once in DIALBACK_GAP_MS: so it
 * can't be made to knock on other people's doors.
 *
 * One that says we are reached could lie: then others find nobody there, which is all. */
#ifndef PEERS_DIALBACK_H
#define PEERS_DIALBACK_H

#include "net/net.h"
#include "peers/peers.h"

enum {
    DIALBACK_PEERS = 3,
    DIALBACK_WAIT_MS = 12000, /* for their answers */
    DIALBACK_AT_ONCE = 8,
    DIALBACK_GAP_MS = 2000,
};

enum verdict { REACH_UNKNOWN, REACH_YES, REACH_NO };

struct dialback_config {
    struct hub *hub;
    struct net *net;     /* borrowed until dialback_close */
    struct peers *peers; /* the same */
    void *arg;
    void (*on_result)(void *arg); /* a round has ended with an answer */
};

struct dialback;

MUST_CHECK enum err dialback_open(struct dialback **out, const struct dialback_config *c);
void dialback_close(struct dialback *d); /* before net_close */

/* Start a round, when none is under way; false: there is nobody to ask. */
bool dialback_ask(struct dialback *d, uint16_t port);
bool dialback_is_asking(const struct dialback *d);
void dialback_tick(struct dialback *d);
void dialback_on_mail(struct dialback *d, struct mail *m); /* DIALBACK, DIALBACK_DONE; takes m */

void dialback_forget(struct dialback *d); /* the network is another: nothing is known */

/* What the last round with an answer said. */
enum verdict dialback_reach(const struct dialback *d);
struct slice dialback_addr(const struct dialback *d); /* that was dialled; empty: not known */
const char *dialback_why(const struct dialback *d);   /* of REACH_NO, in words */

#endif
