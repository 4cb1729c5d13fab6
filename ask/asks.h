/* asks.h - serves the ASK messages of clients.
 *
 * Only a client on this machine (loopback) or one of the allow-list is answered; another gets one
 * sentence.  Those of this machine go first, unless no_own_first; who says so lets others go first.
 * A client whose connection breaks may come back for its requests (coordinator.h). */
#ifndef ASK_ASKS_H
#define ASK_ASKS_H

#include "ask/coordinator.h"
#include "net/net.h"

struct asks;

struct asks_config {
    struct net *net;                 /* borrowed until asks_close */
    struct coordinator *coordinator; /* likewise; NULL: this node does not coordinate */
    const char *no_coordinator;      /* then: why, in one sentence */
    const struct node_id *allow;     /* [n_allow] borrowed: who else may ask */
    uint32_t n_allow;
    uint32_t per_client; /* questions of one client, waiting ones included */
    bool no_own_first;
};

MUST_CHECK enum err asks_open(struct asks **out, const struct asks_config *c);
/* Every request must be over: after coordinator_stop. */
void asks_close(struct asks *a); /* NULL is fine */

/* Others than this machine's user ask in vain, until it is over; what is asked already goes on. */
void asks_pause(struct asks *a, bool is_paused);

void asks_on_mail(struct asks *a,
                  struct mail *m); /* ASK, ASK_RESUME, ASK_HEARD, ASK_CANCEL; takes m */
void asks_on_peer(struct asks *a, const struct node_id *id, bool up);

#endif
