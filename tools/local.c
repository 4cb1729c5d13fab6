#include "tools/local.h"

enum err local_open(struct local *l, const char *dir, const char *model, uint32_t rows_max,
                    const struct kernels *k, struct workers *w, struct why *why)
{
    enum err e = store_open(&l->store, dir, STORE_READ, why);

    if (!e) e = weights_open(&l->weights, l->store, model, 0, UINT32_MAX, true, why);
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
