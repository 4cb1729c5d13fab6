/* foresee.c - telling a pager what is read next, the next layer's experts before they are known.
 *
 * A layer adds little to the residual: most of the experts that the next layer's router would
 * choose for what goes into this layer's MLP are those that it will choose.  That is known an MLP
 * and an attention earlier, which is when a disk can be at work for nothing.  The guess chooses
 * nothing but what is read ahead. */
#include "model/stage.h"

enum { FORESEE_ROWS = 4 }; /* of a larger batch together they choose nearly all experts */

void wait_weights(const struct stage *s, const struct tensor *w)
{
    if (s->told) s->told->wait(s->told, w);
}

bool is_here(const struct stage *s, const struct tensor *w)
{
    return !s->told || s->told->here(s->told, w);
}

void wait_heads(const struct stage *s, const struct bound *b)
{
    for (uint32_t g = s->g_lo; s->told && g < s->g_hi; g++) {
        const struct head_group *h = &b->heads[g];
        const struct tensor *const all[] = { h->q, h->k, h->v, h->o };
        for (unsigned i = 0; i < 4; i++) wait_weights(s, all[i]);
    }
}

void soon_mlp(struct stage *s, const struct mlp *m)
{
    if (!s->told) return;
    s->told->soon(s->told, m->gate);
    s->told->soon(s->told, m->up);
    s->told->soon(s->told, m->down);
}

void soon_heads(struct stage *s, const struct head_group *h)
{
    const struct tensor *const all[] = { h->q, h->k, h->v, h->o };

    for (unsigned i = 0; i < 4 && s->told; i++) s->told->soon(s->told, all[i]);
}

/* All of a layer but its routed experts, which mlp.c knows when the router has chosen.  What others
 * may compute is told when they are known to not. */
void soon_layer(struct stage *s, const struct bound *b, bool shared)
{
    if (!s->told) return;
    for (uint32_t g = 0; g < s->a->n_kv && !shared; g++) soon_heads(s, &b->heads[g]);
    if (b->router) s->told->soon(s->told, b->router);
    if (b->shared.gate) soon_mlp(s, &b->shared);
    for (uint32_t i = 0; i < s->n_parts && !b->moe && !shared; i++) soon_mlp(s, &b->items[i]);
}

void layer_done(const struct stage *s, uint32_t layer)
{
    if (s->told) s->told->done(s->told, layer);
}

/* --- guessing --- */

/* Units: row groups of the router. */
static void guess_range(void *arg, unsigned lane, uint32_t lo, uint32_t hi)
{
    struct stage *s = *(struct stage **)arg;
    const struct bound *b = *((const struct bound **)arg + 1);
    uint32_t n = s->n < FORESEE_ROWS ? s->n : FORESEE_ROWS;
    struct acts x = vecs_acts(&s->norm, 0, n);

    (void)lane;
    s->k->product(s->z, s->a->n_experts, b->router, NULL, &x, lo, hi);
}

/* The largest of c [n_experts] that is not taken, or n_experts; what is not a number is never. */
static uint32_t next_best(const struct arch *a, const float *c, const bool *taken)
{
    uint32_t at = a->n_experts;

    for (uint32_t e = 0; e < a->n_experts; e++)
        if (!taken[e] && c[e] == c[e] && (at == a->n_experts || c[e] > c[at])) at = e;
    return at;
}

static void tell_guess(struct stage *s, const struct bound *b, uint32_t e, uint32_t rank)
{
    if (!share_has(&b->held.experts, e)) return;
    s->told->maybe(s->told, b->items[e].gate, rank);
    s->told->maybe(s->told, b->items[e].up, rank);
    s->told->maybe(s->told, b->items[e].down, rank);
}

/* Scratch: norm, z and c, which the MLP that follows writes before it reads them. */
void foresee(struct stage *s, const struct bound *b)
{
    const struct arch *a = s->a;
    bool taken[FORESEE_ROWS][ARCH_EXPERTS_MAX] = { { 0 } };

    if (!s->told || !s->told->maybe || !b->moe || !b->held.trunk) return;
    uint32_t n = s->n < FORESEE_ROWS ? s->n : FORESEE_ROWS, groups = b->router->tiling.groups;
    void *arg[2] = { s, (void *)(uintptr_t)b };

    for (uint32_t i = 0; i < n; i++)
        s->k->norm(s->norm.f + (size_t)i * a->hidden, s->h + (size_t)i * a->hidden, b->mlp_norm,
                   a->hidden, a->eps);
    wait_weights(s, b->router);
    pass_run(s->w, guess_range, arg, groups, groups, (uint64_t)n * a->hidden * a->n_experts * 4);
    for (uint32_t i = 0; i < n; i++) {
        float *z = s->z + (size_t)i * a->n_experts, *c = s->c + (size_t)i * a->n_experts;
        s->k->sigmoid(z, z, a->n_experts);
        s->k->add(c, z, b->router_bias, a->n_experts);
    }
    /* each row's likeliest first, for not all may be read in time */
    for (uint32_t k = 0; k < a->top_k; k++)
        for (uint32_t i = 0; i < n; i++) {
            uint32_t e = next_best(a, s->c + (size_t)i * a->n_experts, taken[i]);
            if (e == a->n_experts) continue;
            taken[i][e] = true;
            tell_guess(s, b, e, k);
        }
}
