/* eval_model.c - a whole model in one process, as one session. */
#include "model/forward.h"
#include "node/pool.h"
#include "node/weights.h"
#include "tools/eval.h"

#include <stdlib.h>
#include <time.h>

struct local {
    struct eval_model model; /* first */
    struct store *store;
    struct weights weights;
    struct pool *pool;
    struct stage *stage;
    struct ends *ends;
    struct kv *kv;
    uint8_t *x;       /* [rows_max][arch_row_bytes] */
    struct row *rows; /* [rows_max] */
};

double eval_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static enum err not_finite(const struct nonfinite *bad, uint32_t first, struct why *why)
{
    if (bad->layer == ARCH_ENDS)
        return fail(why, ERR_NONFINITE, "position %u: a logit is not finite", first + bad->pos);
    return fail(why, ERR_NONFINITE, "layer %u, position %u: a number is not finite", bad->layer,
                bad->pos);
}

static enum err step(struct eval_model *m, const int32_t *ids, uint32_t n, float *logits,
                     struct why *why)
{
    struct local *l = (struct local *)m;
    uint32_t at = kv_len(l->kv);
    struct nonfinite bad;

    if (n > m->rows_max || n > m->context - at)
        return fail(why, ERR_RANGE, "position %u is past the model's context of %u", at + n - 1,
                    m->context);
    for (uint32_t i = 0; i < n; i++) {
        if (ids[i] < 0 || (uint32_t)ids[i] >= m->vocab)
            return fail(why, ERR_RANGE,
                        "token id %d at position %u is not below the vocabulary of %u", ids[i],
                        at + i, m->vocab);
        l->rows[i] = (struct row){ l->kv, at + i };
    }
    enum err e = ends_embed(l->ends, ids, n, l->x);
    if (e) return fail(why, e, "the embedding of position %u: %s", at, err_text(e));
    e = stage_forward(l->stage, l->rows, n, l->x, &bad);
    if (e == ERR_NONFINITE) return not_finite(&bad, at, why);
    if (e) return fail(why, e, "position %u: %s", at, err_text(e));
    e = ends_logits(l->ends, l->x, n, logits, &bad);
    if (e == ERR_NONFINITE) return not_finite(&bad, at, why);
    return e ? fail(why, e, "the logits of position %u: %s", at, err_text(e)) : ERR_OK;
}

static void restart(struct eval_model *m)
{
    kv_trim(((struct local *)m)->kv, 0);
}

static void close_local(struct eval_model *m)
{
    struct local *l = (struct local *)m;

    stage_close(l->stage);
    ends_close(l->ends);
    kv_close(l->kv);
    pool_close(l->pool);
    weights_close(&l->weights);
    if (l->store) store_close(l->store);
    free(l->x);
    free(l->rows);
    free(l);
}

static enum err open_parts(struct local *l, const struct eval_options *o, struct why *why)
{
    const struct kernels *k = kernels_pick(o->isa, why);
    enum err e;

    if (!k) return ERR_UNSUPPORTED;
    if ((e = store_open(&l->store, o->store, STORE_READ, why))) return e;
    if ((e = weights_open(&l->weights, l->store, o->model, 0, UINT32_MAX, true, why))) return e;
    if ((e = pool_open(&l->pool, o->threads)))
        return fail(why, e, "cannot start %u threads", o->threads);

    const struct arch *a = &l->weights.manifest.arch;
    struct workers *w = pool_workers(l->pool);
    e = stage_open(&l->stage, a, l->weights.layer, 0, a->n_layers, o->rows_max, k, w);
    if (!e) e = ends_open(&l->ends, a, &l->weights.ends, o->rows_max, k, w);
    if (!e) e = kv_open(&l->kv, a, 0, a->n_layers, a->context);
    l->x = malloc(o->rows_max * arch_row_bytes(a));
    l->rows = malloc(o->rows_max * sizeof *l->rows);
    if (!e && (!l->x || !l->rows)) e = ERR_NOMEM;
    if (e) return fail(why, e, "cannot open model %s: %s", l->weights.name.name, err_text(e));
    l->model = (struct eval_model){ a->vocab, a->context, o->rows_max, step, restart, close_local };
    return ERR_OK;
}

enum err eval_open_local(struct eval_model **out, const struct eval_options *o, struct why *why)
{
    struct local *l = calloc(1, sizeof *l);

    *out = NULL;
    if (!l) return fail(why, ERR_NOMEM, "out of memory");
    enum err e = open_parts(l, o, why);
    if (e) {
        close_local(&l->model);
        return e;
    }
    *out = &l->model;
    return ERR_OK;
}
