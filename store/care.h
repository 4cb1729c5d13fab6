/* care.h - what the owner of a store does with it: look, check, decide what to hold, take out.
 *
 * Held.  A layer whose tile table is in the store is one that somebody wanted to be there; what of
 * it is missing is told by store_each_tile.  Without the table nothing is known of its tiles.
 *
 * Pins.  What this machine decided to hold: of a model, layers and perhaps the ends, whether they
 * are here already or not.  A node fetches what is pinned and missing, serves it, and when it needs
 * room takes only what is not pinned; store_remove refuses a pinned model.  Nobody pins for others:
 * a pin says nothing about a swarm.  The record (table "pins"): key = model id; value = 35 bytes:
 * version 1, 1 when the ends are pinned else 0, then a bit for every whole layer, layer 0 in the
 * lowest bit of the first byte.  With parts of layers it is version 2, and each range follows in 9
 * bytes: layers lo and hi, the kind in one, items lo and hi, two each, big endian.
 *
 * Removing.  LMDB copies on write, so a reader's snapshot never changes under it: pages that a
 * removal frees are used again only when every read transaction that is older has ended.  What
 * follows:
 *
 *   1. Other processes may read the store (a node that serves the model, even) while tiles are
 *      removed: their pointers stay good.  The room they look at is free for new tiles only when
 *      they have closed the store; store_readers counts them.
 *   2. The handle that removes must have lent no pointers: its own snapshot moves on.  ERR_BUSY.
 *   3. One process writes, so a node that fetches keeps the tool out (ERR_BUSY from store_open).
 *   4. Readers that were killed leave a mark that would keep pages for ever; whoever opens the
 * store clears those.
 *   5. The file never shrinks; what is free in it is used first.  Tiles are removed model by model
 *      and layer by layer, in the order in which they were written, so the free pages are long
 * runs. LMDB needs a run of up to 256 pages for a tile and searches for it from the lowest page; a
 *      file with very many short holes would make that slow, and values of nearly one size do not
 *      make such holes.
 *   6. Names and pin go first, in one transaction; then tiles, some hundred a transaction; tables
 *      after their tiles; the manifest last.  After a kill -9 at any moment the model is there
 *      without a name, and removing it by its id goes on.
 *   7. On a disk without any room even a removal may find none: it needs a few pages to write to.
 */
#ifndef STORE_CARE_H
#define STORE_CARE_H

#include "store/store.h"

/* --- looking --- */

struct store_usage {
    uint64_t file_bytes; /* of data.mdb */
    uint64_t free_bytes; /* of those, for new tiles */
    uint64_t tiles;      /* tile tables and tokenizer pieces too */
    uint32_t readers;    /* other processes that have the store open */
};
MUST_CHECK enum err store_usage(struct store *s, struct store_usage *out, struct why *why);

/* Call f for the id of every manifest, named or not; stops when f returns false. */
MUST_CHECK enum err store_each_model(struct store *s, bool (*f)(void *arg, const struct hash *id),
                                     void *arg, struct why *why);
/* The manifest with that id, and its body if asked for (borrowed until the next commit); its hash
 * is checked.  ERR_NOTFOUND, ERR_MALFORMED with why. */
MUST_CHECK enum err store_manifest(struct store *s, const struct hash *id, struct manifest *out,
                                   struct slice *body, struct why *why);

/* Call f for every tile of a layer (or ARCH_ENDS) in table order; stops when f returns false.
 * ERR_NOTFOUND: its table is not here. */
MUST_CHECK enum err
store_each_tile(struct store *s, const struct manifest *m, uint32_t layer,
                bool (*f)(void *arg, const struct tile_place *p, const struct hash *h), void *arg);

/* How much of a layer (or ARCH_ENDS) is here; all 0 but tiles and bytes without its table. */
struct store_held {
    uint32_t tiles, tiles_here;
    uint64_t bytes, bytes_here;
};
void store_held(struct store *s, const struct manifest *m, uint32_t layer, struct store_held *out);

/* --- pins --- */

enum { PIN_LAYERS_MAX = ARCH_LAYERS_MAX + 1 };
struct store_pin {
    bool ends;
    bool layer[PIN_LAYERS_MAX]; /* whole */
    struct parts parts;         /* of other layers */
};
/* Is the layer pinned, whole or in parts? */
static inline bool store_pin_names(const struct store_pin *p, uint32_t layer)
{
    return p->layer[layer] || parts_name(&p->parts, layer);
}
/* What is pinned of a model; nothing: all false.  ERR_MALFORMED: the record is damaged. */
MUST_CHECK enum err store_pin(struct store *s, const struct hash *id, struct store_pin *out);
bool store_pin_empty(const struct store_pin *p);
/* Replace the record, durably; an empty one is taken out. */
MUST_CHECK enum err store_put_pin(struct store *s, const struct hash *id, const struct store_pin *p,
                                  struct why *why);

/* --- checking --- */

struct store_check {
    bool repair; /* take bad tiles out, so that they are fetched again (STORE_WRITE) */
    /* One thing that is wrong: of which model (its first name, or its id), what, and how. */
    void (*fault)(void *arg, const char *model, const char *what, const char *how);
    void (*progress)(void *arg, uint64_t done, uint64_t total); /* bytes; NULL is fine */
    void *arg;

    /* filled */
    uint64_t tiles, bytes; /* hashed, each once */
    uint64_t missing, bad; /* of held layers; not what was hashed to, or damaged in other ways */
    uint64_t spare;        /* tiles that no model uses (an interrupted conversion's) */
    uint64_t removed;      /* by repair */
};
/* Hash every tile again, check its length and that its numbers are finite.  ERR_OK also when there
 * are faults: they are counted. */
MUST_CHECK enum err store_check(struct store *s, struct store_check *c, struct why *why);

/* --- removing --- */

struct store_removed {
    uint64_t tiles, bytes;
    uint64_t shared; /* tiles that stayed, because another model has them too */
};
/* Take a model out: its names, its tiles that no other model uses, its manifest.  ERR_BUSY: this
 * handle has lent pointers, or the model is pinned.  progress may be NULL. */
MUST_CHECK enum err store_remove(struct store *s, const struct hash *id,
                                 void (*progress)(void *arg, uint64_t done, uint64_t total),
                                 void *arg, struct store_removed *out, struct why *why);
/* Take the layers (and ends) of a model out that keep does not name (not even in parts), of those
 * that are here, from the last on, until need bytes are free for new tiles; what other models use
 * stays.  The handle may have lent pointers into what is kept: that does not move.  *freed: bytes
 * of tiles taken out.
 */
MUST_CHECK enum err store_trim(struct store *s, const struct hash *id, const struct store_pin *keep,
                               uint64_t need, uint64_t *freed, struct why *why);
/* Take out one name and leave the model.  ERR_NOTFOUND. */
MUST_CHECK enum err store_remove_name(struct store *s, const char *name, struct why *why);
/* Take out every tile that no model uses: what interrupted work has left. */
MUST_CHECK enum err store_remove_spare(struct store *s, struct store_removed *out, struct why *why);

#endif
