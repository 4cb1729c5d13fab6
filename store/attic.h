/* attic.h - what may be thrown away, within a budget of disk: pieces of computed state that would
 * take long to compute again (docs/prefix.md), in a store of their own.
 *
 * An item has a name, a head and mostly a body; it may hang on an item before it, and is of no use
 * without.  Over the budget the items with the oldest stamp go first, and of those the deepest, so
 * whoever uses an item gives it and all before it one new stamp (attic_touch).
 *
 * It survives kill -9 as any store does.  Bodies are verified when they are read.  A damaged attic
 * is emptied, for it holds nothing that cannot be made again.  Files are readable by their owner
 * alone.  One thread at a time. */
#ifndef STORE_ATTIC_H
#define STORE_ATTIC_H

#include "store/manifest.h"

struct attic;

struct attic_head {
    uint8_t owner[HASH_BYTES]; /* who may have it */
    struct hash before;        /* the item it hangs on; what it likes at depth 0 */
    uint32_t kind;
    uint32_t lo, hi, depth; /* the caller's, but for the order of eviction */
    uint64_t stamp;
    /* the attic's */
    struct hash body;
    uint64_t n; /* bytes of the body; 0: none */
};

/* Open the attic in folder dir, made if need be, and throw away what is over max_bytes.  ERR_BUSY:
 * another process has it. */
MUST_CHECK enum err attic_open(struct attic **out, const char *dir, uint64_t max_bytes,
                               struct why *why);
void attic_close(struct attic *a); /* NULL is fine */
/* Delete the attic in folder dir, if there is one. */
void attic_remove(const char *dir);

/* A stamp that is newer than all there are. */
uint64_t attic_stamp(struct attic *a);

struct attic_item {
    struct hash name;
    struct attic_head head; /* but what is the attic's */
    struct slice body;
};
/* Put items; those that are there are left out, and so is the first of which the item before it is
 * neither there nor put with it, and all that follow.  Durable when it returns.  ERR_DISKFULL,
 * ERR_IO: nothing of before is lost. */
MUST_CHECK enum err attic_put(struct attic *a, const struct attic_item *items, uint32_t n,
                              struct why *why);
/* ERR_NOTFOUND. */
MUST_CHECK enum err attic_find(struct attic *a, const struct hash *name, struct attic_head *out);
/* The body of an item into out [head.n].  ERR_MALFORMED: its bytes are not those that were put; the
 * item is deleted. */
MUST_CHECK enum err attic_body(struct attic *a, const struct hash *name, void *out);
/* Give these items this stamp. */
MUST_CHECK enum err attic_touch(struct attic *a, const struct hash *names, uint32_t n,
                                uint64_t stamp, struct why *why);
/* Every item of a kind, in no order, until f returns false. */
MUST_CHECK enum err
attic_each(struct attic *a, uint32_t kind,
           bool (*f)(void *arg, const struct hash *name, const struct attic_head *h), void *arg);

uint64_t attic_bytes(const struct attic *a); /* on disk, about */

#endif
