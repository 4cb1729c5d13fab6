/* beside.h - a program that this node runs beside itself: its gateway.
 *
 *     STARTING --first line of its output--> UP --it ends--> WAITING --1, 2, 4 .. 30 s--> STARTING
 *                                                    `-- status 2: its arguments are unusable -->
 * OUT
 *
 * It has a session of its own, so that a terminal's Ctrl-C is the node's to handle, and hears of
 * the node's death from the kernel (SIGTERM; it asks for that by BESIDE_PARENT in its environment).
 * What it says on standard error is the node's. */
#ifndef NODE_BESIDE_H
#define NODE_BESIDE_H

#include "net/actor.h"

#define BESIDE_PARENT "SWARM_PARENT"        /* variable: the node's process number */
#define BESIDE_SWARM_KEY "SWARM_KEY_BESIDE" /* variable: the swarm's key, as --swarm-key takes it \
                                             */

struct beside;

struct beside_config {
    struct hub *hub;
    const char *program;   /* a file next to this program's own, else one of PATH; borrowed */
    const char *link;      /* of this node: its first argument; copied */
    const char *listen;    /* then --listen and this; copied */
    const char *options;   /* then these words, NULL: none; copied */
    const char *swarm_key; /* for BESIDE_SWARM_KEY; NULL: none; copied */
};

/* ERR_NOMEM, ERR_RANGE (too many words) with why.  What goes wrong later is logged. */
MUST_CHECK enum err beside_open(struct beside **out, const struct beside_config *c,
                                struct why *why);
/* The first line that it printed, while it is up; else empty. */
const char *beside_says(const struct beside *b);
/* Ends it; freed by the loop.  NULL is fine. */
void beside_close(struct beside *b);

/* In that program, at its start: end when the node ends.  Nothing happens when no node started it.
 * false: the node has ended already. */
bool beside_heed_parent(void);

#endif
