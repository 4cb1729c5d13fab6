#include "weights/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A layer's tensors and the pointers to their tiles lie in one block, freed through layer.t.
 * only: these parts of it; NULL: all. */
static enum err bind_layer(struct weights *w, struct layer *l, uint32_t index,
                           const struct parts *only, struct why *why)
{
    const struct arch *a = &w->manifest.arch;
    uint32_t n = arch_n_specs(a, index), n_tiles = manifest_n_tiles(a, index);
    size_t tensors = (size_t)n * sizeof *l->t;
    char where[32] = "the ends";

    if (index != ARCH_ENDS) snprintf(where, sizeof where, "layer %u", index);
    if (only && !store_holds_parts(w->store, &w->manifest, index, only))
        return fail(why, ERR_NOTFOUND, "%s of model %s lacks tiles of its parts in this store",
                    where, w->name.name);
    if (!only && !store_holds_layer(w->store, &w->manifest, index))
        return fail(why, ERR_NOTFOUND, "%s of model %s is not wholly in this store", where,
                    w->name.name);
    uint8_t *block = calloc(1, tensors + (size_t)n_tiles * sizeof(uint8_t *));
    if (!block) return fail(why, ERR_NOMEM, "out of memory for %s", where);

    struct tensor *t = (struct tensor *)(void *)block;
    const uint8_t **tile = (const uint8_t **)(void *)(block + tensors);
    enum err e = store_layer_tiles(w->store, &w->manifest, index, only, tile, why);
    if (e) {
        free(block);
        return e;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct tensor_spec s = arch_spec(a, index, i);
        struct tiling tiling = tiling_of(s.type, s.rows, s.cols);
        bool held = tiling.tiles == 0 || tile[0];
        t[i] = (struct tensor){ .type = s.type,
                                .rows = s.rows,
                                .cols = s.cols,
                                .tiling = tiling,
                                .tile = held ? tile : NULL };
        tile += tiling.tiles;
    }
    *l = (struct layer){ index, t };
    return ERR_OK;
}

static enum err bind_all(struct weights *w, struct why *why)
{
    const struct holding *h = &w->held;
    enum err e = ERR_OK;

    holding_span(h, &w->all_lo, &w->all_hi);
    w->all = calloc(w->all_hi - w->all_lo + 1, sizeof *w->all);
    if (!w->all) return fail(why, ERR_NOMEM, "out of memory");
    for (uint32_t i = w->all_lo; i < w->all_hi && !e; i++) {
        struct layer *l = &w->all[i - w->all_lo];
        l->index = i;
        if (holding_names(h, i))
            e = bind_layer(w, l, i, holding_is_whole(h, i) ? NULL : &h->parts, why);
    }
    w->lo = h->lo;
    w->hi = h->hi;
    w->layer = w->lo < w->hi ? w->all + (w->lo - w->all_lo) : w->all;
    if (!e && h->ends) e = bind_layer(w, &w->ends, ARCH_ENDS, NULL, why);
    return e;
}

enum err weights_open_held(struct weights *w, struct store *s, const char *model,
                           const struct holding *h, struct why *why)
{
    memset(w, 0, sizeof *w);
    w->store = s;
    enum err e = store_find_model(s, model, &w->name, &w->manifest, why);
    if (e) return e;

    uint32_t all = arch_all_layers(&w->manifest.arch);
    w->held = *h;
    if (w->held.hi == UINT32_MAX) w->held.hi = w->manifest.arch.n_layers;
    if (w->held.lo > w->held.hi || w->held.hi > all)
        return fail(why, ERR_RANGE, "layers %u to %u: model %s has layers 0 to %u", h->lo,
                    w->held.hi - 1, w->name.name, all - 1);
    e = parts_check(&h->parts, &w->manifest.arch, why);
    if (!e) e = bind_all(w, why);
    if (e) weights_close(w);
    return e;
}

enum err weights_open(struct weights *w, struct store *s, const char *model, uint32_t lo,
                      uint32_t hi, bool with_ends, struct why *why)
{
    struct holding h = { .lo = lo, .hi = hi, .ends = with_ends };
    return weights_open_held(w, s, model, &h, why);
}

enum err weights_open_predict(struct weights *w, struct why *why)
{
    const struct arch *a = &w->manifest.arch;
    if (a->n_predict == 0 || !store_holds_layer(w->store, &w->manifest, a->n_layers)) return ERR_OK;
    return bind_layer(w, &w->predict, a->n_layers, NULL, why);
}

void weights_close(struct weights *w)
{
    if (w->all)
        for (uint32_t i = 0; i < w->all_hi - w->all_lo; i++) free(w->all[i].t);
    free(w->all);
    free(w->ends.t);
    free(w->predict.t);
    w->all = w->layer = NULL;
    w->ends.t = w->predict.t = NULL;
}

uint64_t weights_bytes(const struct weights *w, uint32_t layer)
{
    const struct arch *a = &w->manifest.arch;

    if (layer == ARCH_ENDS) return w->ends.t ? arch_bytes(a, ARCH_ENDS) : 0;
    return holding_is_whole(&w->held, layer) ? arch_bytes(a, layer)
                                             : parts_bytes(&w->held.parts, a, layer);
}
