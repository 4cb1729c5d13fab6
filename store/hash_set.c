#include "store/hash_set.h"

#include <stdlib.h>

enum { CAP_FIRST = 1024 };

enum err hash_set_init(struct hash_set *s)
{
    *s = (struct hash_set){ .cap = CAP_FIRST };
    if (!hash_key_draw(&s->key)) return ERR_UNSUPPORTED;
    s->slot = calloc(s->cap, sizeof *s->slot);
    s->used = calloc(s->cap, sizeof *s->used);
    if (s->slot && s->used) return ERR_OK;
    hash_set_fini(s);
    return ERR_NOMEM;
}

void hash_set_fini(struct hash_set *s)
{
    free(s->slot);
    free(s->used);
    *s = (struct hash_set){ 0 };
}

/* The slot of h, or the empty one where it would be. */
static size_t slot_of(const struct hash_set *s, const struct hash *h)
{
    size_t at = (size_t)hash_bytes(slice_of(h->b, HASH_BYTES), &s->key) & (s->cap - 1);

    while (s->used[at] && !hash_equal(&s->slot[at], h)) at = (at + 1) & (s->cap - 1);
    return at;
}

static enum err grow(struct hash_set *s)
{
    struct hash_set big = { .cap = 2 * s->cap, .n = s->n, .key = s->key };

    big.slot = calloc(big.cap, sizeof *big.slot);
    big.used = calloc(big.cap, sizeof *big.used);
    if (!big.slot || !big.used) {
        hash_set_fini(&big);
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < s->cap; i++) {
        if (!s->used[i]) continue;
        size_t at = slot_of(&big, &s->slot[i]);
        big.slot[at] = s->slot[i];
        big.used[at] = true;
    }
    hash_set_fini(s);
    *s = big;
    return ERR_OK;
}

enum err hash_set_add(struct hash_set *s, const struct hash *h, bool *fresh)
{
    if (4 * s->n >= 3 * s->cap) {
        enum err e = grow(s);
        if (e) return e;
    }
    size_t at = slot_of(s, h);
    if (fresh) *fresh = !s->used[at];
    if (s->used[at]) return ERR_OK;
    s->slot[at] = *h;
    s->used[at] = true;
    s->n++;
    return ERR_OK;
}

bool hash_set_has(const struct hash_set *s, const struct hash *h)
{
    return s->used[slot_of(s, h)];
}
