#include "tools/bench_product.h"

#include <stdlib.h>

enum err bench_inputs_open(struct bench_inputs *in, const struct kernels *k, uint32_t n,
                           uint32_t cols)
{
    struct arena plan = { 0 };
    float *x = malloc(cols * sizeof *x);

    vecs_take(&in->v, &plan, n, cols, false, true); /* add up ... */
    enum err e = x ? arena_init(&in->arena, plan.used) : ERR_NOMEM;
    if (!e) vecs_take(&in->v, &in->arena, n, cols, false, true); /* ... and carve */
    for (uint32_t t = 0; t < n && !e; t++) {
        for (uint32_t i = 0; i < cols; i++)
            x[i] = (float)((t * 31 + i + 1) * 2654435761u >> 8) / (1 << 23) - 1;
        if (!vecs_put(&in->v, k, t, 0, x, cols)) e = ERR_NONFINITE;
    }
    free(x);
    return e;
}

void bench_inputs_close(struct bench_inputs *in)
{
    arena_fini(&in->arena);
}

static void some_groups(void *arg, unsigned lane, uint32_t lo, uint32_t hi)
{
    const struct bench_product *p = *(const struct bench_product **)arg;

    (void)lane;
    p->k->product(p->y, p->t->rows, p->t, NULL, &p->x, lo, hi);
}

void bench_product_run(const struct bench_product *p)
{
    pass_run(p->w, some_groups, &p, p->t->tiling.groups, p->t->tiling.groups,
             (uint64_t)p->t->rows * p->t->cols * p->x.n);
}

double bench_product_flop(const struct bench_product *p)
{
    return 2.0 * p->t->rows * p->t->cols * p->x.n;
}
