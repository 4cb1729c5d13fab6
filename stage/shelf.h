/* shelf.h - what a node keeps on disk of conversations, when its owner allows it: K and V of their
 * beginnings (prefix.h), and what their rows are called (proto/recall.h).
 *
 * Everything that touches the disk (store/attic.h) runs on a thread of libuv's pool, one job after
 * the other; what waits is bounded, and what does not fit is not kept.  The loop never waits. */
#ifndef STAGE_SHELF_H
#define STAGE_SHELF_H

#include "net/actor.h"
#include "proto/recall.h"
#include "stage/kept.h"

struct shelf;

/* Open what is in folder dir, before the loop runs: emptied when it is damaged.  ERR_BUSY, ERR_IO,
 * ... with why. */
MUST_CHECK enum err shelf_open(struct shelf **out, struct hub *hub, const char *dir,
                               uint64_t max_bytes, struct why *why);
/* Jobs that wait are dropped, the one under way ends by itself. */
void shelf_close(struct shelf *s); /* NULL is fine */
/* Delete what is in folder dir: its owner does not allow it any more. */
void shelf_remove(const char *dir);

uint64_t shelf_bytes(const struct shelf *s);

/* A number for a session: what was used by later ones is kept longer. */
uint64_t shelf_stamp(struct shelf *s);

/* Keep blocks [n], each hanging on the one before it, the first on the block called before (depth
 * 0: on none).  They are held meanwhile.  path [n_path][HASH_WIRE]: the blocks before them, that
 * were used with them; NULL: it has been said. */
void shelf_keep(struct shelf *s, struct kept_block *const *blocks, uint32_t n,
                const uint8_t *before, uint64_t stamp, const uint8_t *path, uint32_t n_path);

/* Look for the first of names that is there, and read it and all blocks before it. */
struct shelf_search {
    /* the caller's */
    struct node_id coordinator;
    uint32_t lo, hi;
    size_t layer_bytes; /* of a block */
    uint32_t most;      /* blocks */
    uint64_t stamp;     /* of the session */
    uint8_t names[PREFIX_ASKS * HASH_WIRE];
    uint32_t n_names;
    void *arg;
    void (*done)(struct shelf_search *q); /* on the loop; cancelled: with n 0 */
    /* result: the first blocks of what was looked for, as far as they are good */
    struct kept_block **block; /* owned by the caller: held once, array allocated */
    uint32_t n;
};
/* q is lent until done, which is never called from inside.  false: too much waits. */
bool shelf_find(struct shelf *s, struct shelf_search *q);

/* The rows of ids at layer lo's input are called rows [n][HASH_WIRE], after every block of ids
 * [n][HASH_WIRE]. */
void shelf_learn(struct shelf *s, uint32_t lo, uint32_t n, const uint8_t *ids, const uint8_t *rows);
/* All that was learnt before the start. */
void shelf_recall(const struct shelf *s, struct recall *into);

#endif
