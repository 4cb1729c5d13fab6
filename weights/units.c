#include "weights/units.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    HEAD_BYTES = 8 << 20,  /* of a unit of the output head */
    LOOK_BYTES = 1 << 20,  /* at once, whether it is in memory */
    ASK_BYTES = 128 << 10, /* at once: of more than its read-ahead the kernel may drop the rest */
};

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

/* --- cutting --- */

/* The pages of a tile, whole. */
static struct span span_of(const struct units *u, const struct tensor *t, uint32_t tile)
{
    uintptr_t at = (uintptr_t)t->tile[tile], lo = at & ~(uintptr_t)(u->page - 1);
    uintptr_t hi = at + tiling_tile_bytes(&t->tiling, tile);

    return (struct span){ (uint8_t *)lo, (hi - lo + u->page - 1) & ~(size_t)(u->page - 1) };
}

static bool is_copied(const struct units *u, const struct tensor *t, uint32_t tile)
{
    return tiling_tile_bytes(&t->tiling, tile) < u->page;
}

static enum err new_unit(struct units *u, uint32_t layer, const struct tensor_spec *s)
{
    if ((u->n & (u->n - 1)) == 0) {
        void *more = realloc(u->unit, (u->n ? 2 * (size_t)u->n : 1) * sizeof *u->unit);
        if (!more) return ERR_NOMEM;
        u->unit = more;
    }
    bool is_looked_up = s->role == T_EMBED && !u->w->manifest.arch.tied;
    u->unit[u->n++] = (struct unit){ .layer = layer,
                                     .expert = s->shard == SHARD_EXPERT ? s->item : UNIT_NONE,
                                     .always = s->shard != SHARD_EXPERT && !is_looked_up,
                                     .first = u->n_spans };
    return ERR_OK;
}

/* To the last unit; what follows its last span makes that longer. */
static enum err add_span(struct units *u, struct span s)
{
    struct unit *to = &u->unit[u->n - 1];
    struct span *last = to->n ? &u->span[u->n_spans - 1] : NULL;

    to->bytes += s.n;
    u->bytes += s.n;
    if (last && last->p + last->n == s.p) {
        last->n += s.n;
        return ERR_OK;
    }
    if (u->n_spans == u->span_cap) {
        uint32_t cap = u->span_cap ? 2 * u->span_cap : 256;
        void *more = realloc(u->span, cap * sizeof *u->span);
        if (!more) return ERR_NOMEM;
        u->span = more;
        u->span_cap = cap;
    }
    u->span[u->n_spans++] = s;
    to->n++;
    return ERR_OK;
}

/* Belongs the tensor to the unit that the one before began? */
static bool is_same(const struct tensor_spec *a, const struct tensor_spec *b)
{
    return a->shard == b->shard && a->item == b->item && b->shard != SHARD_ENDS;
}

static enum err cut_tensor(struct units *u, uint32_t layer, const struct tensor *t,
                           const struct tensor_spec *s, bool *begun, uint32_t *unit)
{
    *unit = *begun ? u->n - 1 : UNIT_NONE;
    for (uint32_t i = 0; t->tile && i < t->tiling.tiles; i++) {
        if (is_copied(u, t, i)) continue;
        bool is_full = s->shard == SHARD_ENDS && *begun && u->unit[u->n - 1].bytes >= HEAD_BYTES;
        if (!*begun || is_full) {
            enum err e = new_unit(u, layer, s);
            if (e) return e;
            *begun = true;
        }
        if (*unit == UNIT_NONE) *unit = u->n - 1;
        enum err e = add_span(u, span_of(u, t, i));
        if (e) return e;
    }
    return ERR_OK;
}

static enum err cut_layer(struct units *u, const struct layer *l, uint32_t index)
{
    const struct arch *a = &u->w->manifest.arch;
    uint32_t n = l->t ? arch_n_specs(a, l->index) : 0;
    struct unit_map *map = &u->map[u->n_maps];
    struct tensor_spec before = { 0 };
    bool begun = false;

    if (n == 0) return ERR_OK;
    *map = (struct unit_map){ l->t, n, calloc(n, sizeof *map->unit) };
    if (!map->unit) return ERR_NOMEM;
    u->n_maps++;
    for (uint32_t i = 0; i < n; i++) {
        struct tensor_spec s = arch_spec(a, l->index, i);
        if (i > 0 && !is_same(&before, &s)) begun = false;
        enum err e = cut_tensor(u, index, &l->t[i], &s, &begun, &map->unit[i]);
        if (e) return e;
        before = s;
    }
    return ERR_OK;
}

static int by_place(const void *a, const void *b)
{
    const struct unit_map *x = a, *y = b;
    return ((uintptr_t)x->t > (uintptr_t)y->t) - ((uintptr_t)x->t < (uintptr_t)y->t);
}

enum err units_open(struct units *u, const struct weights *w)
{
    uint32_t layers = w->all_hi - w->all_lo;
    enum err e = ERR_OK;

    *u = (struct units){ .w = w, .page = (size_t)sysconf(_SC_PAGESIZE) };
    u->map = calloc((size_t)layers + 1, sizeof *u->map);
    if (!u->map) return ERR_NOMEM;
    for (uint32_t i = 0; i < layers && !e; i++) e = cut_layer(u, &w->all[i], i);
    if (!e) e = cut_layer(u, &w->ends, layers);
    if (!e) qsort(u->map, u->n_maps, sizeof *u->map, by_place);
    return e;
}

void units_close(struct units *u)
{
    for (uint32_t i = 0; i < u->n_maps; i++) free(u->map[i].unit);
    free(u->map);
    free(u->span);
    free(u->unit);
    *u = (struct units){ 0 };
}

uint32_t units_of(const struct units *u, const struct tensor *t)
{
    uint32_t lo = 0, hi = u->n_maps;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        const struct unit_map *m = &u->map[mid];
        if ((uintptr_t)t < (uintptr_t)m->t)
            hi = mid;
        else if ((uintptr_t)t >= (uintptr_t)(m->t + m->n))
            lo = mid + 1;
        else
            return m->unit[t - m->t];
    }
    return UNIT_NONE;
}

/* --- the kernel --- */

static bool is_missing(const struct units *u, const uint8_t *p, size_t n)
{
    unsigned char in_memory[LOOK_BYTES / 4096];

    if (n / u->page > sizeof in_memory || mincore((void *)(uintptr_t)p, n, in_memory) != 0)
        return false;
    for (size_t i = 0; i < n / u->page; i++)
        if (!(in_memory[i] & 1)) return true;
    return false;
}

/* Begin to read what is not in memory; does not wait. */
static bool ask_for(const struct units *u, struct span s)
{
    bool any = false;

    for (size_t at = 0, n; at < s.n; at += n) {
        n = s.n - at < LOOK_BYTES ? s.n - at : LOOK_BYTES;
        /* looking costs 1 us, asking for what is there 17 */
        if (!is_missing(u, s.p + at, n)) continue;
        any = true;
        for (size_t i = 0; i < n; i += ASK_BYTES)
            (void)madvise(s.p + at + i, n - i < ASK_BYTES ? n - i : ASK_BYTES, MADV_WILLNEED);
    }
    return any;
}

bool units_are_there(const struct units *u, uint32_t unit)
{
    const struct unit *v = &u->unit[unit];

    for (uint32_t i = 0; i < v->n; i++) {
        struct span s = u->span[v->first + i];
        for (size_t at = 0; at < s.n; at += LOOK_BYTES)
            if (is_missing(u, s.p + at, s.n - at < LOOK_BYTES ? s.n - at : LOOK_BYTES))
                return false;
    }
    return true;
}

bool units_ask(const struct units *u, uint32_t unit)
{
    const struct unit *v = &u->unit[unit];
    bool any = false;

    for (uint32_t i = 0; i < v->n; i++) any |= ask_for(u, u->span[v->first + i]);
    return any;
}

void units_touch(const struct units *u, uint32_t unit, const atomic_bool *stop)
{
    const struct unit *v = &u->unit[unit];

    for (uint32_t i = 0; i < v->n; i++) {
        struct span s = u->span[v->first + i];
        for (size_t at = 0; at < s.n; at += u->page) {
            if (at % LOOK_BYTES == 0 && atomic_load_explicit(stop, memory_order_relaxed)) return;
            (void)*(volatile const uint8_t *)(s.p + at);
        }
    }
}

void units_forget(const struct units *u, uint32_t unit)
{
    const struct unit *v = &u->unit[unit];

    for (uint32_t i = 0; i < v->n; i++) {
        struct span s = u->span[v->first + i];
        for (size_t at = 0, n; at < s.n; at += n) {
            n = s.n - at < LOOK_BYTES ? s.n - at : LOOK_BYTES;
            (void)madvise(s.p + at, n, MADV_PAGEOUT);
        }
    }
}

bool units_holds(const struct units *u, const struct tensor *t)
{
    uint32_t tile = t->tiling.tiles / 2;

    if (!t->tile || is_copied(u, t, tile)) return true;
    struct span s = span_of(u, t, tile);
    return !is_missing(u, s.p + s.n / 2 / u->page * u->page, u->page);
}
