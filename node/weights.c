#include "node/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A layer's tensors and the pointers to their tiles lie in one block, freed through layer.t. */
static enum err bind_layer(struct weights *w, struct layer *l, uint32_t index, struct why *why)
{
    const struct arch *a = &w->manifest.arch;
    uint32_t n = arch_n_specs(a, index), n_tiles = manifest_n_tiles(a, index);
    size_t tensors = (size_t)n * sizeof *l->t;
    char where[32] = "the ends";

    if (index != ARCH_ENDS) snprintf(where, sizeof where, "layer %u", index);
    if (!store_holds_layer(w->store, &w->manifest, index))
        return fail(why, ERR_NOTFOUND, "%s of model %s is not wholly in this store", where,
                    w->name.name);
    uint8_t *block = calloc(1, tensors + (size_t)n_tiles * sizeof(uint8_t *));
    if (!block) return fail(why, ERR_NOMEM, "out of memory for %s", where);

    struct tensor *t = (struct tensor *)(void *)block;
    const uint8_t **tile = (const uint8_t **)(void *)(block + tensors);
    enum err e = store_layer_tiles(w->store, &w->manifest, index, tile, why);
    if (e) {
        free(block);
        return e;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct tensor_spec s = arch_spec(a, index, i);
        t[i] = (struct tensor){ .type = s.type,
                                .rows = s.rows,
                                .cols = s.cols,
                                .tiling = tiling_of(s.type, s.rows, s.cols),
                                .tile = tile };
        tile += t[i].tiling.tiles;
    }
    *l = (struct layer){ index, t };
    return ERR_OK;
}

enum err weights_open(struct weights *w, struct store *s, const char *model, uint32_t lo,
                      uint32_t hi, bool with_ends, struct why *why)
{
    memset(w, 0, sizeof *w);
    w->store = s;
    enum err e = store_find_model(s, model, &w->name, &w->manifest, why);
    if (e) return e;

    uint32_t all = arch_all_layers(&w->manifest.arch);
    if (hi == UINT32_MAX) hi = w->manifest.arch.n_layers;
    if (lo > hi || hi > all)
        return fail(why, ERR_RANGE, "layers %u to %u: model %s has layers 0 to %u", lo, hi - 1,
                    w->name.name, all - 1);
    w->lo = lo, w->hi = hi;
    w->layer = calloc(hi - lo + 1, sizeof *w->layer);
    if (!w->layer) return fail(why, ERR_NOMEM, "out of memory");
    for (uint32_t i = lo; i < hi && !e; i++) e = bind_layer(w, &w->layer[i - lo], i, why);
    if (!e && with_ends) e = bind_layer(w, &w->ends, ARCH_ENDS, why);
    if (e) weights_close(w);
    return e;
}

void weights_close(struct weights *w)
{
    if (w->layer)
        for (uint32_t i = 0; i < w->hi - w->lo; i++) free(w->layer[i].t);
    free(w->layer);
    free(w->ends.t);
    w->layer = NULL;
    w->ends.t = NULL;
}
