#include "weights/fetch_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>

enum { KEEP_MAX_SHIFT = 31 };

void wants_fini(struct wants *w)
{
    free(w->p);
    free(w->slot);
    *w = (struct wants){ 0 };
}

static uint32_t first_slot(const struct wants *w, const uint8_t *hash)
{
    uint32_t v;
    memcpy(&v, hash, sizeof v); /* a hash is as random as can be; who chose it is its publisher */
    return v & w->mask;
}

uint32_t wants_find(const struct wants *w, const uint8_t hash[HASH_BYTES])
{
    if (!w->slot) return UINT32_MAX;
    for (uint32_t i = first_slot(w, hash); w->slot[i]; i = (i + 1) & w->mask)
        if (memcmp(w->p[w->slot[i] - 1].hash.b, hash, HASH_BYTES) == 0) return w->slot[i] - 1;
    return UINT32_MAX;
}

/* Room for n wants. */
static enum err wants_init(struct wants *w, uint32_t n, struct why *why)
{
    uint32_t slots = 16;

    *w = (struct wants){ 0 };
    while (slots < 2 * n) slots *= 2;
    w->mask = slots - 1;
    w->p = calloc(n + 1, sizeof *w->p);
    w->slot = calloc(slots, sizeof *w->slot);
    if (w->p && w->slot) return ERR_OK;
    wants_fini(w);
    return fail(why, ERR_NOMEM, "no memory to plan a fetch of %u tiles", n);
}

static void add(struct wants *w, struct store *s, const struct want *x)
{
    uint32_t i = first_slot(w, x->hash.b);

    if (store_has(s, &x->hash)) {
        w->bytes_here += x->bytes;
        return;
    }
    while (w->slot[i] && memcmp(w->p[w->slot[i] - 1].hash.b, x->hash.b, HASH_BYTES) != 0)
        i = (i + 1) & w->mask;
    if (w->slot[i]) return; /* two tensors with the same bytes */
    w->p[w->n++] = *x;
    w->slot[i] = w->n;
    w->bytes += x->bytes;
    w->room += store_value_bytes(x->bytes);
}

/* Call f for every layer of which h has something, then for the ends. */
static enum err each_layer(const struct holding *h, enum err (*f)(void *arg, uint32_t layer),
                           void *arg)
{
    enum err e = ERR_OK;

    for (uint32_t l = 0; l < PIN_LAYERS_MAX && !e; l++)
        if (holding_names(h, l)) e = f(arg, l);
    return e || !h->ends ? e : f(arg, ARCH_ENDS);
}

struct planning {
    struct wants *out;
    struct store *s;
    const struct manifest *m;
    const struct holding *h;
    struct why *why;
};

static enum err add_table(void *arg, uint32_t layer)
{
    struct planning *p = arg;
    size_t n = (size_t)manifest_n_tiles(&p->m->arch, layer) * HASH_BYTES;
    char where[LAYER_TEXT];

    layer_text(where, layer);
    if (n > TILE_WIRE_MAX)
        return fail(p->why, ERR_RANGE, "the tile table of %s has %zu bytes, at most %d", where, n,
                    TILE_WIRE_MAX);
    struct want w = {
        .hash = *manifest_table(p->m, layer), .bytes = (uint32_t)n, .layer = layer, .table = true
    };
    add(p->out, p->s, &w);
    return ERR_OK;
}

enum err wants_tables(struct wants *out, struct store *s, const struct manifest *m,
                      const struct holding *h, struct why *why)
{
    struct planning p = { out, s, m, h, why };
    enum err e = wants_init(out, PIN_LAYERS_MAX + 1, why);

    if (!e) e = each_layer(h, add_table, &p);
    return e;
}

static enum err count_tiles(void *arg, uint32_t layer)
{
    struct planning *p = arg;
    p->out->n += manifest_n_tiles(&p->m->arch, layer);
    return ERR_OK;
}

static bool add_tile(void *arg, const struct tile_place *at, const struct hash *h)
{
    const struct planning *p = arg;
    if (at->layer != ARCH_ENDS && !holding_has(p->h, at->layer, at->spec.shard, at->spec.item))
        return true;
    struct want w = { .hash = *h,
                      .bytes = (uint32_t)at->bytes,
                      .layer = at->layer,
                      .at = at->at,
                      .cols = at->spec.cols,
                      .type = at->spec.type,
                      .weights = true };
    add(p->out, p->s, &w);
    return true;
}

static void add_tokenizer(const struct planning *p)
{
    const struct manifest *m = p->m;

    for (uint32_t i = 0; i < m->n_tokenizer; i++) {
        uint64_t left = m->tokenizer_bytes - (uint64_t)i * TILE_BYTES;
        struct want w = { .hash = m->tokenizer[i],
                          .bytes = left < TILE_BYTES ? (uint32_t)left : TILE_BYTES,
                          .layer = ARCH_ENDS,
                          .at = i };
        add(p->out, p->s, &w);
    }
}

static enum err add_tiles(void *arg, uint32_t layer)
{
    struct planning *p = arg;
    char where[LAYER_TEXT];
    enum err e = store_each_tile(p->s, p->m, layer, add_tile, p);

    layer_text(where, layer);
    if (e) return fail(p->why, e, "the tile table of %s cannot be read", where);
    if (layer == ARCH_ENDS) add_tokenizer(p);
    return ERR_OK;
}

enum err wants_tiles(struct wants *out, struct store *s, const struct manifest *m,
                     const struct holding *h, struct why *why)
{
    struct wants counted = { 0 };
    struct planning p = { &counted, s, m, h, why };
    enum err e = each_layer(h, count_tiles, &p);

    if (!e) e = wants_init(out, counted.n + (h->ends ? m->n_tokenizer : 0), why);
    p.out = out;
    if (!e) e = each_layer(h, add_tiles, &p);
    return e;
}

/* --- what is here; the disk --- */

bool holding_is_here(struct store *s, const struct manifest *m, const struct holding *h)
{
    for (uint32_t l = 0; l < arch_all_layers(&m->arch); l++) {
        if (holding_is_whole(h, l)
                ? !store_holds_layer(s, m, l)
                : parts_name(&h->parts, l) && !store_holds_parts(s, m, l, &h->parts))
            return false;
    }
    return !h->ends || store_holds_layer(s, m, ARCH_ENDS);
}

uint64_t disk_room(struct store *s, uint64_t limit)
{
    struct store_usage u;
    struct why why;

    if (store_usage(s, &u, &why)) return 0;
    uint64_t all = store_disk(s), keep = all / 20, free_ = store_room(s);
    if (keep > UINT64_C(1) << KEEP_MAX_SHIFT) keep = UINT64_C(1) << KEEP_MAX_SHIFT;
    uint64_t room = u.free_bytes + (free_ > keep ? free_ - keep : 0);
    uint64_t used = u.file_bytes - u.free_bytes;
    if (limit && used >= limit) return 0;
    return limit && limit - used < room ? limit - used : room;
}

enum err disk_check(struct store *s, uint64_t limit, uint64_t need, struct why *why)
{
    uint64_t room = disk_room(s, limit);

    if (disk_need(need) <= room) return ERR_OK;
    uint64_t more = disk_need(need) >> 20;
    return fail(why, ERR_DISKFULL,
                "%llu MiB more are needed, and %llu MiB may be used (%s); free some, or hold fewer "
                "layers: --layers A-B",
                (unsigned long long)more, (unsigned long long)(room >> 20),
                limit ? "--disk, and 5 % of the disk stay free" : "5 % of the disk stay free");
}

/* --- a tile that came --- */

static void name_want(char out[PLACE_TEXT], const struct want *w, const struct manifest *m)
{
    struct tile_place p = tile_before_first(&m->arch, w->layer);
    char layer[LAYER_TEXT];

    layer_text(layer, w->layer);
    if (w->table)
        snprintf(out, PLACE_TEXT, "the tile table of %s", layer);
    else
        snprintf(out, PLACE_TEXT, "piece %u of the tokenizer", w->at);
    if (!w->weights) return;
    while (tile_next(&p) && p.at < w->at) continue;
    tile_place_text(out, &p);
}

enum err want_check(const struct want *w, const struct manifest *m, struct slice bytes,
                    struct why *why)
{
    char what[PLACE_TEXT];
    struct hash is;

    if (bytes.n != w->bytes) {
        name_want(what, w, m);
        return fail(why, ERR_MALFORMED, "%s with %zu bytes instead of %u", what, bytes.n, w->bytes);
    }
    is = hash_of(bytes);
    if (!hash_equal(&is, &w->hash)) {
        name_want(what, w, m);
        return fail(why, ERR_MALFORMED, "%s with other bytes than the model's", what);
    }
    if (!w->weights || tile_finite(w->type, w->cols, bytes.p, bytes.n)) return ERR_OK;
    name_want(what, w, m);
    return fail(why, ERR_NONFINITE, "%s holds a number that is not finite", what);
}

uint32_t layers_here(struct store *s, const struct manifest *m, uint32_t *pairs, uint32_t max)
{
    uint32_t n = 0, all = arch_all_layers(&m->arch);

    for (uint32_t l = 0; l < all && n + 2 <= max; l++) {
        if (!store_holds_layer(s, m, l)) continue;
        pairs[n] = l;
        while (l < all && store_holds_layer(s, m, l)) l++;
        pairs[n + 1] = l;
        n += 2;
    }
    return n;
}
