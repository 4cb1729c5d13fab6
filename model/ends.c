/* ends.c - the coordinator's part: a token's embedding in, logits of the last hidden state out. */
#include "model/stage.h"

#include <stdlib.h>

struct ends {
    /* borrowed until ends_close */
    const struct arch *a;
    const struct kernels *k;
    struct workers *w;
    const struct tensor *embed, *head;
    const float *final_norm;

    uint32_t rows_max;
    struct arena arena; /* owned: everything below */
    float *x;           /* [rows][hidden] */
    struct vecs norm;   /* [rows][hidden] */

    /* the call in progress */
    const void *in;
    float *logits;
    uint32_t n;
    atomic_bool any_bad;
};

static void lay_out(struct ends *e, struct arena *m)
{
    bool quantized = wtype_quantized(e->head->type);

    e->x = arena_take(m, (size_t)e->rows_max * e->a->hidden, sizeof *e->x);
    vecs_take(&e->norm, m, e->rows_max, e->a->hidden, true, quantized);
}

enum err ends_open(struct ends **out, const struct arch *a, const struct layer *weights,
                   uint32_t rows_max, const struct kernels *k, struct workers *w)
{
    struct arena plan = { 0 };

    *out = NULL;
    if (rows_max < 1 || rows_max > BATCH_MAX) return ERR_RANGE;
    struct ends *e = calloc(1, sizeof *e);
    if (!e) return ERR_NOMEM;
    e->a = a, e->k = k, e->w = w, e->rows_max = rows_max;
    e->embed = &weights->t[arch_find(a, ARCH_ENDS, T_EMBED, 0)];
    e->head = a->tied ? e->embed : &weights->t[arch_find(a, ARCH_ENDS, T_HEAD, 0)];
    e->final_norm = tensor_vector(&weights->t[arch_find(a, ARCH_ENDS, T_FINAL_NORM, 0)]);

    lay_out(e, &plan);
    enum err err = arena_init(&e->arena, plan.used);
    if (err) {
        free(e);
        return err;
    }
    lay_out(e, &e->arena);
    *out = e;
    return ERR_OK;
}

void ends_close(struct ends *e)
{
    if (!e) return;
    arena_fini(&e->arena);
    free(e);
}

enum err ends_embed(struct ends *e, const int32_t *ids, uint32_t n, void *x)
{
    uint8_t *out = x;

    for (uint32_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= e->a->vocab) return ERR_RANGE;
    for (uint32_t i = 0; i < n; i++) {
        tensor_row(e->embed, (uint32_t)ids[i], e->x);
        if (!e->k->exchange(e->x, e->x, 1, e->a->hidden, e->a->exchange)) return ERR_NONFINITE;
        e->k->narrow(out + i * arch_row_bytes(e->a), e->x, e->a->hidden, e->a->exchange);
    }
    return ERR_OK;
}

/* Units: rows. */
static void norm_range(void *arg, unsigned lane, uint32_t lo, uint32_t hi)
{
    struct ends *e = arg;
    const struct arch *a = e->a;

    (void)lane;
    for (uint32_t i = lo; i < hi; i++) {
        float *x = e->x + (size_t)i * a->hidden, *y = e->norm.f + (size_t)i * a->hidden;
        e->k->widen(x, (const uint8_t *)e->in + i * arch_row_bytes(a), a->hidden, a->exchange);
        e->k->norm(y, x, e->final_norm, a->hidden, a->eps);
        if (!vecs_put(&e->norm, e->k, i, 0, y, a->hidden)) e->any_bad = true;
        if (!all_finite(x, a->hidden)) e->any_bad = true;
    }
}

/* Units: row groups of the head. */
static void head_range(void *arg, unsigned lane, uint32_t lo, uint32_t hi)
{
    struct ends *e = arg;
    struct acts x = vecs_acts(&e->norm, 0, e->n);
    uint32_t r0 = lo * GROUP_ROWS,
             r1 = hi * GROUP_ROWS < e->a->vocab ? hi * GROUP_ROWS : e->a->vocab;

    (void)lane;
    e->k->product(e->logits, e->a->vocab, e->head, NULL, &x, lo, hi);
    for (uint32_t i = 0; i < e->n; i++)
        if (!all_finite(e->logits + (size_t)i * e->a->vocab + r0, r1 - r0)) e->any_bad = true;
}

/* The first row with a number that is not finite, in its hidden state or its logits. */
static enum err report_bad(const struct ends *e, struct nonfinite *bad)
{
    uint32_t i = 0, h = e->a->hidden, v = e->a->vocab;

    while (i + 1 < e->n && all_finite(e->x + (size_t)i * h, h) &&
           all_finite(e->norm.f + (size_t)i * h, h) && all_finite(e->logits + (size_t)i * v, v))
        i++;
    *bad = (struct nonfinite){ ARCH_ENDS, i };
    return ERR_NONFINITE;
}

enum err ends_logits(struct ends *e, const void *x, uint32_t n, float *logits,
                     struct nonfinite *bad)
{
    uint32_t groups = e->head->tiling.groups;

    if (n < 1 || n > e->rows_max) return ERR_RANGE;
    e->in = x, e->logits = logits, e->n = n;
    e->any_bad = false;
    pass_run(e->w, norm_range, e, n, n, (uint64_t)n * e->a->hidden * 16);
    pass_run(e->w, head_range, e, groups, groups, (uint64_t)n * e->a->hidden * e->a->vocab);
    return e->any_bad ? report_bad(e, bad) : ERR_OK;
}
