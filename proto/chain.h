/* chain.h - names for beginnings: of the rows that came into a stage, of the ids of a conversation.
 *
 *     root                                    what the rows belong to
 *     h_1 = BLAKE2b-256(root || rows of the first PREFIX_BLOCK positions)
 *     h_k = BLAKE2b-256(h_(k-1) || rows of block k)
 *
 * so h_k stands for all that came before.  What a stage computes is a function of its input rows
 * alone (docs/arithmetic.md): equal names, equal K and V.  A row goes into a block as its own
 * BLAKE2b-256, so that a chain can go back to a position within a block. */
#ifndef PROTO_CHAIN_H
#define PROTO_CHAIN_H

#include "proto/identity.h"

enum { CHAIN_RECENT = 4 * PREFIX_BLOCK }; /* positions that a chain can go back anywhere */

/* A row's hash, as chain_feed wants it. */
void chain_row(uint8_t out[HASH_WIRE], const void *row, size_t bytes);

/* Rows of layer lo's input for this coordinator; ids of this model. */
void chain_root_rows(uint8_t out[HASH_WIRE], const uint8_t model[ID_BYTES],
                     const struct node_id *coordinator, uint32_t lo);
void chain_root_ids(uint8_t out[HASH_WIRE], const uint8_t model[ID_BYTES]);
/* The name one block of ids after another's; out may be before. */
void chain_ids(uint8_t out[HASH_WIRE], const uint8_t before[HASH_WIRE],
               const int32_t ids[PREFIX_BLOCK]);

/* The rows of one session, by their hashes. */
struct chain {
    uint8_t root[HASH_WIRE];
    uint8_t *h;       /* owned: [n][HASH_WIRE], h_1 .. h_n */
    uint32_t n, cap;  /* blocks that are whole */
    uint32_t at;      /* positions fed */
    uint32_t back_to; /* it can go back to any position from here on, and to whole blocks */
    bool is_lost;     /* rows are missing: it says nothing any more */
    uint8_t recent[CHAIN_RECENT][HASH_WIRE]; /* rows, by position % CHAIN_RECENT */
};

void chain_init(struct chain *c, const uint8_t root[HASH_WIRE]);
void chain_fini(struct chain *c);
/* Hashes [n][HASH_WIRE] of the rows at positions pos, pos + 1, ...; those that were fed before at
 * these positions and after are forgotten.  Rows missing in between, or memory, and it is lost
 * until it is fed from position 0. */
void chain_feed(struct chain *c, uint32_t pos, const uint8_t *hashes, uint32_t n);
/* An empty chain goes on after block number c->n (from 0) with this name. */
MUST_CHECK enum err chain_know(struct chain *c, const uint8_t h[HASH_WIRE]);
/* h_(k+1), the name up to the end of block k; k == UINT32_MAX: the root. */
const uint8_t *chain_name(const struct chain *c, uint32_t k);
/* Does block k have this name?  (It may have been forgotten.) */
bool chain_is(const struct chain *c, uint32_t k, const uint8_t h[HASH_WIRE]);

#endif
