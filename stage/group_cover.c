/* What a group can compute, and what it cannot. */
#include "stage/group_impl.h"

#include <stdio.h>

/* Everything that is there of a layer. */
static struct share all_of(const struct group *g, uint32_t layer)
{
    struct share all = g->own[layer - g->lo];
    for (unsigned i = 0; i < GROUP_MEMBERS_MAX; i++) {
        const struct mate *m = &g->mate[i];
        if (m->state != MATE_IN) continue;
        const struct share *s = &m->held[layer - g->lo];
        for (unsigned w = 0; w < ARCH_EXPERTS_MAX / 64; w++) {
            all.heads.bit[w] |= s->heads.bit[w];
            all.experts.bit[w] |= s->experts.bit[w];
            all.dense.bit[w] |= s->dense.bit[w];
        }
    }
    return all;
}

/* The first of n items that is not there; n: all are. */
static uint32_t first_lacking(const struct share_set *s, uint32_t n)
{
    uint32_t i = 0;
    while (i < n && share_has(s, i)) i++;
    return i;
}

bool group_covers(const struct group *g, uint32_t layer)
{
    struct share all = all_of(g, layer);
    if (!share_whole(&all, g->a, layer)) return false;
    for (uint32_t k = 0; k < g->a->n_kv; k++)
        if (deal_head(g->box.now, layer, k) == SHARE_NOBODY) return false;
    return true;
}

void group_lacks(const struct group *g, uint32_t layer, char *out, size_t size)
{
    struct share all = all_of(g, layer);
    uint32_t head = first_lacking(&all.heads, g->a->n_kv);
    uint32_t expert = first_lacking(&all.experts, g->a->n_experts);
    if (head < g->a->n_kv)
        snprintf(out, size, "head group %u of layer %u is held by nobody who shares it", head,
                 layer);
    else if (arch_is_moe(g->a, layer) && expert < g->a->n_experts)
        snprintf(out, size, "expert %u of layer %u is held by nobody who shares it", expert, layer);
    else
        snprintf(out, size, "not all of layer %u is held by those who share it", layer);
}

void group_served(const struct group *g, uint32_t *lo, uint32_t *hi)
{
    uint32_t end = g->lo + g->n_layers;
    *lo = *hi = g->lo;
    for (uint32_t l = g->lo, n = 0; l < end; l++) {
        n = group_covers(g, l) ? n + 1 : 0;
        if (n <= *hi - *lo) continue;
        *lo = l + 1 - n;
        *hi = l + 1;
    }
}
