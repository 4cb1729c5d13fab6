/* eval_model.c - a whole model in one process, as one session. */
#include "stage/pool.h"
#include "tools/eval.h"
#include "tools/local.h"

#include <stdlib.h>
#include <time.h>

struct process {
    struct eval_model model; /* first */
    struct pool *pool;
    struct local local;
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
    struct process *p = (struct process *)m;
    struct local *l = &p->local;
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
        p->rows[i] = (struct row){ l->kv, at + i };
    }
    enum err e = ends_embed(l->ends, ids, n, p->x);
    if (e) return fail(why, e, "the embedding of position %u: %s", at, err_text(e));
    e = stage_forward(l->stage, p->rows, n, p->x, &bad);
    if (e == ERR_NONFINITE) return not_finite(&bad, at, why);
    if (e) return fail(why, e, "position %u: %s", at, err_text(e));
    e = ends_logits(l->ends, p->x, n, logits, &bad);
    if (e == ERR_NONFINITE) return not_finite(&bad, at, why);
    return e ? fail(why, e, "the logits of position %u: %s", at, err_text(e)) : ERR_OK;
}

static void restart(struct eval_model *m)
{
    kv_trim(((struct process *)m)->local.kv, 0);
}

static void close_local(struct eval_model *m)
{
    struct process *p = (struct process *)m;

    local_close(&p->local);
    pool_close(p->pool);
    free(p->x);
    free(p->rows);
    free(p);
}

static enum err open_parts(struct process *p, const struct eval_options *o, struct why *why)
{
    const struct kernels *k = kernels_pick(o->isa, why);
    enum err e;

    if (!k) return ERR_UNSUPPORTED;
    if ((e = pool_open(&p->pool, o->threads)))
        return fail(why, e, "cannot start %u threads", o->threads);
    e = local_open(&p->local, o->store, o->model, o->rows_max, k, pool_workers(p->pool), why);
    if (e) return e;
    const struct arch *a = &p->local.weights.manifest.arch;
    p->x = malloc(o->rows_max * arch_row_bytes(a));
    p->rows = malloc(o->rows_max * sizeof *p->rows);
    if (!p->x || !p->rows) return fail(why, ERR_NOMEM, "out of memory");
    p->model = (struct eval_model){ a->vocab, a->context, o->rows_max, step, restart, close_local };
    return ERR_OK;
}

enum err eval_open_local(struct eval_model **out, const struct eval_options *o, struct why *why)
{
    struct process *p = calloc(1, sizeof *p);

    *out = NULL;
    if (!p) return fail(why, ERR_NOMEM, "out of memory");
    enum err e = open_parts(p, o, why);
    if (e) {
        close_local(&p->model);
        return e;
    }
    *out = &p->model;
    return ERR_OK;
}
