#include "tools/local.h"

/* What is measured may be less than the model. */
static enum err change(struct local *l, struct why *why)
{
    struct arch *a = &l->weights.manifest.arch;

    if (l->layers) {
        a->n_layers = l->layers;
        a->n_predict = 0;
        if (a->n_dense > a->n_layers) a->n_dense = a->n_layers;
    }
    if (l->top_k) a->top_k = l->top_k;
    return arch_check(a, why);
}

enum err local_open(struct local *l, const char *dir, const char *model, uint32_t rows_max,
                    const struct kernels *k, struct workers *w, struct why *why)
{
    enum err e = store_open(&l->store, dir, STORE_READ, why);

    if (!e)
        e = weights_open(&l->weights, l->store, model, 0, l->layers ? l->layers : UINT32_MAX, true,
                         why);
    if (!e) e = change(l, why);
    if (e) return e;
    const struct arch *a = &l->weights.manifest.arch;
    e = stage_open(&l->stage, a, l->weights.layer, 0, a->n_layers, rows_max, k, w);
    if (!e) e = ends_open(&l->ends, a, &l->weights.ends, rows_max, k, w);
    if (!e) e = kv_open(&l->kv, a, 0, a->n_layers, a->context);
    return e ? fail(why, e, "cannot open model %s: %s", l->weights.name.name, err_text(e)) : ERR_OK;
}

void local_close(struct local *l)
{
    stage_close(l->stage);
    ends_close(l->ends);
    kv_close(l->kv);
    weights_close(&l->weights);
    store_close(l->store);
}
