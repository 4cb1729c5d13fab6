/* Tiles, layers as lists of tiles, the tokenizer's pieces, and converters' notes. */
#include "store/store_impl.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    SMALL = 4096, /* shorter values share pages with others, and are copied out */
    PAD = 64,     /* a kernel may read one vector past what it uses */
};

enum err store_tile(struct store *s, const struct hash *h, struct slice *out)
{
    if (s->first && store_pending(s, DB_TILES, hash_slice(h))) {
        enum err e = store_commit(s, NULL);
        if (e) return e;
    }
    enum err e = store_get(s, DB_TILES, hash_slice(h), out);
    if (!e) s->lent = true;
    return e;
}

bool store_has(struct store *s, const struct hash *h)
{
    struct slice v;
    if (s->first && store_pending(s, DB_TILES, hash_slice(h))) return true;
    return store_get(s, DB_TILES, hash_slice(h), &v) == ERR_OK;
}

static enum err check_length(struct slice bytes, struct why *why)
{
    if (bytes.n > 0 && bytes.n <= TILE_WIRE_MAX) return ERR_OK;
    return fail(why, ERR_RANGE, "a tile of %zu bytes, 1 to %d are possible", bytes.n,
                TILE_WIRE_MAX);
}

enum err store_put_hashed(struct store *s, struct slice bytes, const struct hash *h,
                          struct why *why)
{
    enum err e = check_length(bytes, why);
    if (e) return e;
    if (store_has(s, h)) return ERR_OK;
    return store_add(s, DB_TILES, hash_slice(h), bytes, why);
}

enum err store_put(struct store *s, struct slice bytes, struct hash *out, struct why *why)
{
    enum err e = check_length(bytes, why);
    if (e) return e;
    *out = hash_of(bytes);
    return store_put_hashed(s, bytes, out, why);
}

enum err store_put_note(struct store *s, const struct hash *key, struct slice bytes,
                        struct why *why)
{
    return store_add(s, DB_NOTES, hash_slice(key), bytes, why);
}

enum err store_note(struct store *s, const struct hash *key, struct slice *out)
{
    const struct item *i = store_pending(s, DB_NOTES, hash_slice(key));
    if (i) {
        *out = slice_of(i->bytes + i->key_n, i->n);
        return ERR_OK;
    }
    return store_get(s, DB_NOTES, hash_slice(key), out);
}

/* --- layers --- */

enum err store_table(struct store *s, const struct manifest *m, uint32_t layer, struct slice *table,
                     struct why *why)
{
    char where[LAYER_TEXT];
    layer_text(where, layer);

    if (layer != ARCH_ENDS && layer >= arch_all_layers(&m->arch))
        return fail(why, ERR_RANGE, "the model has no %s", where);
    enum err e = store_get(s, DB_TILES, hash_slice(manifest_table(m, layer)), table);
    if (e) return fail(why, e, "the store does not hold the tile table of %s", where);

    size_t expected = (size_t)manifest_n_tiles(&m->arch, layer) * HASH_BYTES;
    if (table->n != expected)
        return fail(why, ERR_MALFORMED, "the tile table of %s has %zu bytes, %zu expected", where,
                    table->n, expected);
    return ERR_OK;
}

static bool is_wanted(const struct parts *only, const struct tile_place *p)
{
    return !only || parts_have(only, p->layer, p->spec.shard, p->spec.item);
}

/* only NULL: all of the layer */
static bool holds(struct store *s, const struct manifest *m, uint32_t layer,
                  const struct parts *only)
{
    struct tile_place p = tile_before_first(&m->arch, layer);
    struct slice table;

    if (store_table(s, m, layer, &table, NULL)) return false;
    while (tile_next(&p)) {
        struct hash h = table_hash(table, p.at);
        if (is_wanted(only, &p) && !store_has(s, &h)) return false;
    }
    return true;
}

bool store_holds_parts(struct store *s, const struct manifest *m, uint32_t layer,
                       const struct parts *parts)
{
    return holds(s, m, layer, parts);
}

bool store_holds_layer(struct store *s, const struct manifest *m, uint32_t layer)
{
    if (!holds(s, m, layer, NULL)) return false;
    if (layer != ARCH_ENDS) return true;
    for (uint32_t i = 0; i < m->n_tokenizer; i++)
        if (!store_has(s, &m->tokenizer[i])) return false;
    return true;
}

/* The value of each tile, with lengths checked; *small is what the short ones need as copies. */
static enum err find_tiles(struct store *s, const struct manifest *m, uint32_t layer,
                           const struct parts *only, struct slice table, const uint8_t **p,
                           size_t *small, struct why *why)
{
    struct tile_place at = tile_before_first(&m->arch, layer);
    char where[LAYER_TEXT];

    layer_text(where, layer);
    while (tile_next(&at)) {
        struct hash h = table_hash(table, at.at);
        struct slice v;
        p[at.at] = NULL;
        if (!is_wanted(only, &at)) continue;
        enum err e = store_get(s, DB_TILES, hash_slice(&h), &v);
        if (e)
            return fail(why, e, "the store lacks tile %u of tensor %u of %s", at.tile, at.tensor,
                        where);
        if (v.n != at.bytes)
            return fail(why, ERR_MALFORMED,
                        "tile %u of tensor %u of %s has %zu bytes, %zu expected", at.tile,
                        at.tensor, where, v.n, at.bytes);
        p[at.at] = v.p;
        if (v.n < SMALL) *small += (v.n + 2 * PAD - 1) / PAD * PAD;
    }
    return ERR_OK;
}

/* Short tiles lie anywhere in a page that they share; a read past their end could leave the map. */
static enum err copy_small(struct store *s, const struct manifest *m, uint32_t layer, size_t small,
                           const uint8_t **p, struct why *why)
{
    struct tile_place at = tile_before_first(&m->arch, layer);
    struct copies *c = calloc(1, sizeof *c + small + PAD);

    if (!c) return fail(why, ERR_NOMEM, "no memory for %zu bytes of small tiles", small);
    c->next = s->copies;
    s->copies = c;
    uint8_t *to = c->bytes + PAD - (uintptr_t)c->bytes % PAD;
    while (tile_next(&at)) {
        if (at.bytes >= SMALL || !p[at.at]) continue;
        memcpy(to, p[at.at], at.bytes);
        p[at.at] = to;
        to += (at.bytes + 2 * PAD - 1) / PAD * PAD;
    }
    return ERR_OK;
}

enum err store_layer_tiles(struct store *s, const struct manifest *m, uint32_t layer,
                           const struct parts *only, const uint8_t **p, struct why *why)
{
    struct slice table;
    size_t small = 0;

    if (s->first) {
        enum err e = store_commit(s, why);
        if (e) return e;
    }
    enum err e = store_table(s, m, layer, &table, why);
    if (!e) e = find_tiles(s, m, layer, only, table, p, &small, why);
    if (!e && small) e = copy_small(s, m, layer, small, p, why);
    if (!e) s->lent = true;
    return e;
}

enum err store_tokenizer(struct store *s, const struct manifest *m, uint8_t **out, size_t *n,
                         struct why *why)
{
    if (m->n_tokenizer == 0) return fail(why, ERR_NOTFOUND, "the model has no tokenizer");

    size_t len = (size_t)m->tokenizer_bytes, at = 0;
    uint8_t *p = malloc(len + 1);
    if (!p) return fail(why, ERR_NOMEM, "no memory for a tokenizer of %zu bytes", len);
    for (uint32_t i = 0; i < m->n_tokenizer; i++) {
        struct slice v;
        enum err e = store_tile(s, &m->tokenizer[i], &v);
        if (!e && v.n > len - at) e = ERR_MALFORMED;
        if (e) {
            free(p);
            return fail(why, e, "the store %s piece %u of the tokenizer",
                        e == ERR_NOTFOUND ? "lacks" : "has a wrong", i);
        }
        memcpy(p + at, v.p, v.n);
        at += v.n;
    }
    if (at != len) {
        free(p);
        return fail(why, ERR_MALFORMED, "the tokenizer has %zu bytes, %zu expected", at, len);
    }
    p[len] = 0;
    *out = p;
    *n = len;
    return ERR_OK;
}
