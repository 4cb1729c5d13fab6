#include "stage/kept.h"

#include "base/hash.h"

#include <assert.h>
#include <stdlib.h>

enum { SLOTS = 8192 };

struct kept {
    struct hash_key key;
    struct kept_block *slot[SLOTS];
    struct kept_block *newest, *oldest; /* children are older than what they hang on */
    uint64_t bytes;
    uint32_t n;
};

enum err kept_open(struct kept **out)
{
    struct kept *k = calloc(1, sizeof *k);
    if (!k || !hash_key_draw(&k->key)) {
        free(k);
        return ERR_NOMEM;
    }
    *out = k;
    return ERR_OK;
}

void kept_close(struct kept *k)
{
    if (!k) return;
    kept_shrink(k, 0);
    free(k);
}

uint64_t kept_bytes(const struct kept *k)
{
    return k->bytes;
}

uint32_t kept_n(const struct kept *k)
{
    return k->n;
}

/* --- one block --- */

struct kept_block *kept_make(const uint8_t name[HASH_WIRE], const struct node_id *coordinator,
                             uint32_t lo, uint32_t hi, uint32_t depth, size_t bytes)
{
    struct kept_block *b = malloc(sizeof *b + bytes);
    if (!b) return NULL;
    *b = (struct kept_block){ .coordinator = *coordinator,
                              .lo = lo,
                              .hi = hi,
                              .depth = depth,
                              .bytes = bytes,
                              .n_holders = 1 };
    memcpy(b->name, name, HASH_WIRE);
    return b;
}

void kept_hold(struct kept_block *b)
{
    b->n_holders++;
}

void kept_let_go(struct kept_block *b)
{
    if (b && --b->n_holders == 0) free(b);
}

/* --- the table and the order of use --- */

static struct kept_block **slot_of(struct kept *k, const uint8_t name[HASH_WIRE])
{
    return &k->slot[hash_bytes(slice_of(name, HASH_WIRE), &k->key) % SLOTS];
}

static void unlink_use(struct kept *k, struct kept_block *b)
{
    *(b->newer ? &b->newer->older : &k->newest) = b->older;
    *(b->older ? &b->older->newer : &k->oldest) = b->newer;
}

static void link_newest(struct kept *k, struct kept_block *b)
{
    b->newer = NULL;
    b->older = k->newest;
    *(k->newest ? &k->newest->newer : &k->oldest) = b;
    k->newest = b;
}

/* From the end to the beginning, so that the beginning is the newest. */
void kept_use(struct kept *k, struct kept_block *b)
{
    for (; b && !b->is_evicted; b = b->parent) {
        unlink_use(k, b);
        link_newest(k, b);
    }
}

static void evict(struct kept *k, struct kept_block *b)
{
    struct kept_block **at = slot_of(k, b->name);
    assert(b->n_children == 0);
    while (*at != b) at = &(*at)->next;
    *at = b->next;
    unlink_use(k, b);
    if (b->parent) b->parent->n_children--;
    b->parent = NULL;
    b->is_evicted = true;
    k->bytes -= b->bytes;
    k->n--;
    kept_let_go(b);
}

void kept_shrink(struct kept *k, uint64_t limit)
{
    while (k->oldest && k->bytes > limit) evict(k, k->oldest);
}

/* --- */

struct kept_block *kept_find(struct kept *k, const uint8_t name[HASH_WIRE],
                             const struct node_id *coordinator, uint32_t lo, uint32_t hi)
{
    for (struct kept_block *b = *slot_of(k, name); b; b = b->next)
        if (b->lo == lo && b->hi >= hi && memcmp(b->name, name, HASH_WIRE) == 0 &&
            node_id_equal(&b->coordinator, coordinator))
            return b;
    return NULL;
}

bool kept_add(struct kept *k, struct kept_block *b, struct kept_block *parent, uint64_t limit)
{
    assert((b->depth == 0) == (parent == NULL));
    if (b->bytes > limit) return false;
    kept_use(k, parent);
    while (k->bytes > limit - b->bytes || k->n >= KEPT_MAX) {
        if (k->oldest == parent) return false; /* nothing is left but what it hangs on */
        evict(k, k->oldest);
    }
    struct kept_block **slot = slot_of(k, b->name);
    b->next = *slot;
    *slot = b;
    b->parent = parent;
    if (parent) parent->n_children++;
    kept_hold(b);
    k->bytes += b->bytes;
    k->n++;
    link_newest(k, b);
    kept_use(k, parent);
    return true;
}
