/* recall.h - what a coordinator remembers of beginnings: which name (chain.h) the rows of these ids
 * have at which layer's input.
 *
 * Ids become rows at layer 0 and other rows at every layer after it.  A stage names the rows that
 * it received, so a coordinator learns from the stages that computed a conversation what to ask
 * those of the next one for.  Bounded: the one asked for longest ago makes room. */
#ifndef PROTO_RECALL_H
#define PROTO_RECALL_H

#include "proto/chain.h"

enum { RECALL_MAX = 32768 }; /* a million positions at one layer */

struct recall;
MUST_CHECK enum err recall_open(struct recall **out);
void recall_close(struct recall *r); /* NULL is fine */

/* The rows at layer lo's input, of the ids named `ids`, are named `rows`. */
void recall_put(struct recall *r, const uint8_t ids[HASH_WIRE], uint32_t lo,
                const uint8_t rows[HASH_WIRE]);
/* false: not known. */
bool recall_get(struct recall *r, const uint8_t ids[HASH_WIRE], uint32_t lo,
                uint8_t rows[HASH_WIRE]);
uint32_t recall_n(const struct recall *r); /* how much it knows */

#endif
