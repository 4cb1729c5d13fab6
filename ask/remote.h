/* remote.h - a live swarm as a function that blocks: hidden rows in, hidden rows out.
 *
 * For programs that have nothing else to do meanwhile (swarm-eval).  Joins the swarm through a
 * link without listening, and coordinates one session at a time itself. */
#ifndef ASK_REMOTE_H
#define ASK_REMOTE_H

#include "ask/pipeline.h"

struct remote;

struct remote_config {
    const struct identity *me;     /* borrowed until remote_close */
    const struct swarm_key *swarm; /* likewise */
    struct link link;
    uint8_t model[ID_BYTES];
    uint32_t n_layers;
    size_t row_bytes;
    uint32_t positions; /* of a session */
};

/* Join.  Errors with why: the link cannot be reached, nobody holds some layer, ... */
MUST_CHECK enum err remote_open(struct remote **out, const struct remote_config *c,
                                struct why *why);
/* n rows x [n][row_bytes] for positions pos .. pos + n - 1 through all layers, in place.  Position
 * 0 begins a new session. */
MUST_CHECK enum err remote_rows(struct remote *r, uint32_t pos, uint32_t n, void *x,
                                struct why *why);
void remote_close(struct remote *r); /* NULL is fine */

#endif
