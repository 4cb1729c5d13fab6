/* Which experts are chosen: counted by the thread that asks for them, looked at by the loop.
 *
 * What keep.h counts of weights it counts here of every row: shares of rows, old ones with less
 * weight.  All experts begin alike, so a layer of which nothing is known deals evenly. */
#include "stage/group_impl.h"

#include <stdlib.h>
#include <string.h>

static float even(const struct arch *a)
{
    return 2.0f * (float)a->top_k / (float)a->n_experts;
}

enum err use_open(struct group *g)
{
    uint32_t n = g->n_layers * g->a->n_experts;
    if (n == 0) return ERR_OK;
    g->box.use = malloc(n * sizeof *g->box.use);
    enum err e = g->box.use ? keep_open(&g->use, g->n_layers, n, UINT64_MAX) : ERR_NOMEM;
    for (uint32_t i = 0; i < n && !e; i++) {
        uint32_t unit = keep_add(g->use, i / g->a->n_experts, 0, even(g->a), true);
        keep_found(g->use, unit); /* it need not come from anywhere */
        g->box.use[i] = even(g->a) / 2;
    }
    return e;
}

void use_close(struct group *g)
{
    keep_close(g->use);
    free(g->box.use);
}

void use_count(struct group *g, const struct share_ask *q)
{
    uint32_t n = g->a->n_experts, first = (q->layer - g->lo) * n;
    float use[ARCH_EXPERTS_MAX];
    for (uint32_t i = 0; i < q->n; i++) {
        for (uint32_t k = 0; k < q->width; k++)
            (void)keep_need(g->use, first + q->chosen[(size_t)i * q->width + k]);
        keep_done(g->use, q->layer - g->lo);
    }
    for (uint32_t e = 0; e < n; e++) use[e] = keep_worth(g->use, first + e) / 2;
    pthread_mutex_lock(&g->box.lock);
    memcpy(g->box.use + first, use, n * sizeof *use);
    g->box.n_counted += q->n;
    pthread_mutex_unlock(&g->box.lock);
}

void group_use(struct group *g, uint32_t layer, float *use)
{
    uint32_t n = g->a->n_experts;
    pthread_mutex_lock(&g->box.lock);
    memcpy(use, g->box.use + (size_t)(layer - g->lo) * n, n * sizeof *use);
    pthread_mutex_unlock(&g->box.lock);
}

/* Into a list of the most used, the most used first. */
static void put(struct group_hot *hot, uint32_t *n, uint32_t most, struct group_hot one)
{
    uint32_t at = *n < most ? (*n)++ : most;
    while (at > 0 && hot[at - 1].use < one.use) {
        if (at < most) hot[at] = hot[at - 1];
        at--;
    }
    if (at < most) hot[at] = one;
}

uint32_t group_hottest(struct group *g, struct group_hot *hot, uint32_t most)
{
    float use[ARCH_EXPERTS_MAX];
    uint32_t n = 0;
    pthread_mutex_lock(&g->box.lock);
    uint64_t counted = g->box.n_counted;
    pthread_mutex_unlock(&g->box.lock);
    if (counted == 0) return 0;
    for (uint32_t l = g->lo; l < g->lo + g->n_layers; l++) {
        if (!arch_is_moe(g->a, l)) continue;
        group_use(g, l, use);
        for (uint32_t e = 0; e < g->a->n_experts; e++)
            put(hot, &n, most, (struct group_hot){ l, e, use[e] });
    }
    return n;
}
