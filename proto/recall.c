#include "proto/recall.h"

#include "base/hash.h"

#include <stdlib.h>

enum { SLOTS = 16384, NONE = -1 };

struct entry {
    uint8_t ids[HASH_WIRE], rows[HASH_WIRE];
    uint32_t lo;
    int32_t next;         /* in the slot */
    int32_t newer, older; /* by use */
};

struct recall {
    struct hash_key key;
    int32_t slot[SLOTS];
    int32_t newest, oldest;
    uint32_t n;
    struct entry e[]; /* [RECALL_MAX]: pages are touched as it fills */
};

enum err recall_open(struct recall **out)
{
    struct recall *r = calloc(1, sizeof *r + RECALL_MAX * sizeof r->e[0]);
    if (!r || !hash_key_draw(&r->key)) {
        free(r);
        return ERR_NOMEM;
    }
    for (int i = 0; i < SLOTS; i++) r->slot[i] = NONE;
    r->newest = r->oldest = NONE;
    *out = r;
    return ERR_OK;
}

void recall_close(struct recall *r)
{
    free(r);
}

uint32_t recall_n(const struct recall *r)
{
    return r->n;
}

static int32_t *slot_of(struct recall *r, const uint8_t ids[HASH_WIRE], uint32_t lo)
{
    uint64_t h = hash_bytes(slice_of(ids, HASH_WIRE), &r->key) + lo;
    return &r->slot[hash_u64(h, &r->key) % SLOTS];
}

static int32_t find(struct recall *r, const uint8_t ids[HASH_WIRE], uint32_t lo)
{
    int32_t i = *slot_of(r, ids, lo);
    while (i != NONE && (r->e[i].lo != lo || memcmp(r->e[i].ids, ids, HASH_WIRE) != 0))
        i = r->e[i].next;
    return i;
}

/* --- the order of use --- */

static void unlink_use(struct recall *r, int32_t i)
{
    struct entry *e = &r->e[i];
    *(e->newer == NONE ? &r->newest : &r->e[e->newer].older) = e->older;
    *(e->older == NONE ? &r->oldest : &r->e[e->older].newer) = e->newer;
}

static void link_newest(struct recall *r, int32_t i)
{
    r->e[i].newer = NONE;
    r->e[i].older = r->newest;
    *(r->newest == NONE ? &r->oldest : &r->e[r->newest].newer) = i;
    r->newest = i;
}

static void use(struct recall *r, int32_t i)
{
    if (r->newest == i) return;
    unlink_use(r, i);
    link_newest(r, i);
}

/* --- */

/* A place for a new entry: a fresh one, or the oldest's. */
static int32_t take_place(struct recall *r)
{
    if (r->n < RECALL_MAX) return (int32_t)r->n++;
    int32_t i = r->oldest, *at = slot_of(r, r->e[i].ids, r->e[i].lo);
    while (*at != i) at = &r->e[*at].next;
    *at = r->e[i].next;
    unlink_use(r, i);
    return i;
}

void recall_put(struct recall *r, const uint8_t ids[HASH_WIRE], uint32_t lo,
                const uint8_t rows[HASH_WIRE])
{
    int32_t i = find(r, ids, lo);
    if (i != NONE) {
        use(r, i);
    } else {
        i = take_place(r);
        struct entry *e = &r->e[i];
        int32_t *slot = slot_of(r, ids, lo);
        memcpy(e->ids, ids, HASH_WIRE);
        e->lo = lo;
        e->next = *slot;
        *slot = i;
        link_newest(r, i);
    }
    memcpy(r->e[i].rows, rows, HASH_WIRE);
}

bool recall_get(struct recall *r, const uint8_t ids[HASH_WIRE], uint32_t lo,
                uint8_t rows[HASH_WIRE])
{
    int32_t i = find(r, ids, lo);
    if (i == NONE) return false;
    use(r, i);
    memcpy(rows, r->e[i].rows, HASH_WIRE);
    return true;
}
