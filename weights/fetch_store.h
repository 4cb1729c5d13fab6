/* fetch_store.h - what a fetch does with the store, on the depot's thread: what is missing, is
 * there room, is it what it should be. */
#ifndef WEIGHTS_FETCH_STORE_H
#define WEIGHTS_FETCH_STORE_H

#include "proto/gather.h"
#include "weights/holding.h"

enum { GROUP_ENDS = GATHER_GROUPS - 1 };

/* A tile (a table, a piece of a tokenizer) that is wanted. */
struct want {
    struct hash hash;
    uint32_t bytes; /* exactly */
    uint32_t layer; /* or ARCH_ENDS */
    uint32_t at;    /* in the layer's table, or which piece of the tokenizer; for sentences */
    bool table;     /* it is the layer's table */
    uint32_t cols;
    enum wtype type;
    bool weights; /* numbers, that must be finite */
};
struct wants {
    struct want *p; /* owned: [n], no hash twice */
    uint32_t n;
    uint64_t bytes;      /* of these */
    uint64_t bytes_here; /* of what belongs to it and is here */
    uint64_t room;       /* that these take of the disk */
    uint32_t *slot;      /* owned: [mask + 1], for wants_find */
    uint32_t mask;
};
void wants_fini(struct wants *w); /* zeroed is fine */
/* The index of the want with that hash; UINT32_MAX: there is none. */
uint32_t wants_find(const struct wants *w, const uint8_t hash[HASH_BYTES]);

static inline uint16_t want_group(const struct want *w)
{
    return (uint16_t)(w->layer == ARCH_ENDS ? GROUP_ENDS : w->layer);
}

/* What of h is missing: first the tile tables, and when those are here, the tiles. */
MUST_CHECK enum err wants_tables(struct wants *out, struct store *s, const struct manifest *m,
                                 const struct holding *h, struct why *why);
MUST_CHECK enum err wants_tiles(struct wants *out, struct store *s, const struct manifest *m,
                                const struct holding *h, struct why *why);

/* Is all of h in the store? */
bool holding_is_here(struct store *s, const struct manifest *m, const struct holding *h);
/* Bytes that may yet be written: within limit (0: none) for the whole store, and so that of the
 * file system 5 %, but at most 2 GiB, stay free. */
uint64_t disk_room(struct store *s, uint64_t limit);
/* What new tiles of so many bytes want of it: LMDB has pages of its own, and a commit copies some. */
enum { DISK_SPARE = 16 << 20 };
static inline uint64_t disk_need(uint64_t bytes)
{
    return bytes ? bytes + bytes / 100 + DISK_SPARE : 0;
}
/* How many bytes of tiles such room is enough for. */
static inline uint64_t disk_fits(uint64_t room)
{
    return room > DISK_SPARE ? (room - DISK_SPARE) / 101 * 100 : 0;
}
/* ERR_DISKFULL with why: what is wanted does not fit, and what to do. */
MUST_CHECK enum err disk_check(struct store *s, uint64_t limit, uint64_t need, struct why *why);

/* Are these the bytes?  ERR_MALFORMED with why: how not ("layer 3, ... has other bytes"). */
MUST_CHECK enum err want_check(const struct want *w, const struct manifest *m, struct slice bytes,
                               struct why *why);

/* Which layers are here wholly, as lo, hi pairs for an announcement; at most max / 2 ranges. */
uint32_t layers_here(struct store *s, const struct manifest *m, uint32_t *pairs, uint32_t max);

#endif
