/* kept.h - K and V of blocks of positions that earlier sessions left, within a budget of memory.
 *
 * A block is known by its name (proto/chain.h), which stands for all rows before it too, and by the
 * coordinator whose session left it: nobody else finds it.  A block hangs on the one before it, as
 * conversations with the same beginning branch off each other; the one used longest ago goes first,
 * and never before those that hang on it, for without the blocks before it none is of use.
 *
 * Pure bookkeeping, of one thread; blocks that somebody holds (kept_hold) outlive their eviction.
 */
#ifndef STAGE_KEPT_H
#define STAGE_KEPT_H

#include "proto/identity.h"

enum { KEPT_MAX = 65536 }; /* blocks, whatever their size */

struct kept;

struct kept_block {
    /* what it is */
    uint8_t name[HASH_WIRE];
    struct node_id coordinator;
    uint32_t lo, hi; /* layers */
    uint32_t depth;  /* blocks before it */
    size_t bytes;    /* of data: kv_cost of PREFIX_BLOCK positions */
    /* kept.c's */
    struct kept_block *parent; /* the one before it; NULL at depth 0, or when it is evicted */
    struct kept_block *next;   /* in the slot */
    struct kept_block *newer, *older;
    uint32_t n_children, n_holders;
    bool is_evicted;
    uint8_t data[];
};

MUST_CHECK enum err kept_open(struct kept **out);
/* Every block must have been let go. */
void kept_close(struct kept *k); /* NULL is fine */

/* A block to be filled and added, held once by the caller; NULL: no memory. */
struct kept_block *kept_make(const uint8_t name[HASH_WIRE], const struct node_id *coordinator,
                             uint32_t lo, uint32_t hi, uint32_t depth, size_t bytes);
void kept_hold(struct kept_block *b);
void kept_let_go(struct kept_block *b); /* NULL is fine */

/* The block of that name with layers [lo, hi) at least; NULL: there is none. */
struct kept_block *kept_find(struct kept *k, const uint8_t name[HASH_WIRE],
                             const struct node_id *coordinator, uint32_t lo, uint32_t hi);
/* Keep b, which hangs on parent (a block that kept_find has found; NULL at depth 0), and was not
 * found.  The blocks used longest ago make room, but not those that b hangs on: false, and b is not
 * kept.  limit: bytes of all. */
bool kept_add(struct kept *k, struct kept_block *b, struct kept_block *parent, uint64_t limit);
/* It was used, and so were those before it. */
void kept_use(struct kept *k, struct kept_block *b);
/* Evict until no more than so many bytes are kept. */
void kept_shrink(struct kept *k, uint64_t limit);

uint64_t kept_bytes(const struct kept *k);
uint32_t kept_n(const struct kept *k);

#endif
