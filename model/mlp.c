/* mlp.c - down(silu(gate x) * (up x)): dense in parts, or routed experts with a shared one.
 *
 * Both are a list of pieces: MLPs over some of the rows whose outputs are rounded to the exchange
 * type and added in the order of the list.  Rows are grouped by expert, so each expert's weights
 * are read once for all rows that chose it. */
#include "model/stage.h"

#include <math.h>
#include <string.h>

/* Two row groups make one unit of gate and up: 32 activations, one block of what down reads. */
enum { UNIT = BLOCK, UNIT_GROUPS = BLOCK / GROUP_ROWS };

struct mlp_pass {
    struct stage *s;
    const struct bound *b;
    uint32_t n_pieces;
};

/* --- router --- */

/* Units: row groups of the router. */
static void router_range(void *arg, unsigned lane, uint32_t lo, uint32_t hi)
{
    struct mlp_pass *p = arg;
    struct stage *s = p->s;
    struct acts x = vecs_acts(&s->norm, 0, s->n);

    (void)lane;
    s->k->product(s->z, s->a->n_experts, p->b->router, NULL, &x, lo, hi);
}

/* The index of the largest of c[lo, hi) that is not taken, ties to the lower one. */
static uint32_t best(const float *c, const bool *taken, uint32_t lo, uint32_t hi)
{
    uint32_t at = hi;

    for (uint32_t i = lo; i < hi; i++)
        if (!taken[i] && (at == hi || c[i] > c[at])) at = i;
    return at;
}

/* Take all experts outside the topk_group groups with the largest sums of two best. */
static void keep_groups(const struct arch *a, const float *c, bool *taken)
{
    float score[ARCH_EXPERTS_MAX];
    bool kept[ARCH_EXPERTS_MAX] = { 0 };
    uint32_t size = a->n_experts / a->n_group;

    for (uint32_t g = 0; g < a->n_group; g++) {
        uint32_t first = best(c, taken, g * size, (g + 1) * size);
        taken[first] = true;
        score[g] = c[first] + c[best(c, taken, g * size, (g + 1) * size)];
        taken[first] = false;
    }
    for (uint32_t i = 0; i < a->topk_group; i++) kept[best(score, kept, 0, a->n_group)] = true;
    for (uint32_t e = 0; e < a->n_experts; e++) taken[e] = !kept[e / size];
}

/* chosen and weight of one row from its scores s and c = s + bias. */
static void choose(const struct arch *a, const float *score, const float *c, uint32_t *chosen,
                   float *weight)
{
    bool taken[ARCH_EXPERTS_MAX] = { 0 };
    bool mine[ARCH_EXPERTS_MAX] = { 0 };
    float sum = 0;
    uint32_t n = 0;

    if (a->n_group > 1) keep_groups(a, c, taken);
    for (uint32_t i = 0; i < a->top_k; i++) {
        uint32_t e = best(c, taken, 0, a->n_experts);
        taken[e] = mine[e] = true;
    }
    for (uint32_t e = 0; e < a->n_experts; e++) {
        if (!mine[e]) continue;
        sum += score[e];
        chosen[n++] = e;
    }
    for (uint32_t i = 0; i < n; i++) {
        float w = score[chosen[i]];
        if (a->norm_topk) w /= sum + 1e-20f;
        weight[i] = w * a->routed_scale;
    }
}

/* Units: rows. */
static void choose_range(void *arg, unsigned lane, uint32_t lo, uint32_t hi)
{
    struct mlp_pass *p = arg;
    struct stage *s = p->s;
    uint32_t n = s->a->n_experts, k = s->a->top_k;

    (void)lane;
    for (uint32_t i = lo; i < hi; i++) {
        float *z = s->z + (size_t)i * n, *c = s->c + (size_t)i * n;
        if (!all_finite(z, n)) {
            mark_bad(s, i);
            memset(z, 0, n * sizeof *z); /* so that choosing compares numbers */
        }
        s->k->sigmoid(z, z, n);
        s->k->add(c, z, p->b->router_bias, n);
        choose(s->a, z, c, s->chosen + (size_t)i * k, s->weight + (size_t)i * k);
    }
}

/* --- pieces --- */

/* One piece per expert that some row chose, ascending, with those rows; returns how many. */
static uint32_t list_experts(struct stage *s, const struct bound *b, const bool *todo)
{
    const struct arch *a = s->a;
    uint32_t k = a->top_k, n = 0, at = 0;

    memset(s->count, 0, (a->n_experts + 1) * sizeof *s->count);
    for (size_t i = 0; i < (size_t)s->n * k; i++)
        if (!todo || todo[i]) s->count[s->chosen[i] + 1]++;
    for (uint32_t e = 0; e < a->n_experts; e++) {
        uint32_t rows = s->count[e + 1];
        s->count[e] = at; /* from here on: where the expert's next row goes */
        if (rows)
            s->piece[n++] = (struct piece){ .w = &b->items[e],
                                            .x.n = rows,
                                            .f = &s->inner,
                                            .first = at,
                                            .row = s->by_row + at,
                                            .weight = s->by_weight + at,
                                            .pick = todo ? s->sharing->pick + at : NULL };
        at += rows;
    }
    for (uint32_t i = 0; i < s->n; i++)
        for (uint32_t j = 0; j < k; j++) {
            uint32_t from = i * k + j;
            if (todo && !todo[from]) continue;
            uint32_t to = s->count[s->chosen[from]]++;
            s->by_row[to] = i;
            s->by_weight[to] = s->weight[from];
            if (todo) s->sharing->pick[to] = from;
        }
    return n;
}

/* Units: pieces.  Inputs of an expert's rows side by side, as products want them. */
static void gather_range(void *arg, unsigned lane, uint32_t lo, uint32_t hi)
{
    struct mlp_pass *p = arg;
    struct stage *s = p->s;

    (void)lane;
    for (uint32_t i = lo; i < hi; i++) {
        struct piece *e = &s->piece[i];
        uint32_t rows = e->x.n;
        if (rows == 1) {
            e->x = vecs_acts(&s->norm, *e->row, 1);
            continue;
        }
        for (uint32_t r = 0; r < rows; r++)
            vecs_copy(&s->gathered, e->first + r, &s->norm, e->row[r]);
        e->x = vecs_acts(&s->gathered, e->first, rows);
    }
}

void mlp_route(struct stage *s, const struct bound *b)
{
    const struct arch *a = s->a;
    struct mlp_pass p = { s, b, 0 };
    uint32_t groups = b->router->tiling.groups;

    wait_weights(s, b->router);
    pass_run(s->w, router_range, &p, groups, groups, (uint64_t)s->n * a->hidden * a->n_experts * 4);
    pass_run(s->w, choose_range, &p, s->n, s->n, (uint64_t)s->n * a->n_experts * (a->top_k + 16));
}

uint32_t mlp_experts(struct stage *s, const struct bound *b, const bool *todo)
{
    struct mlp_pass p = { s, b, 0 };
    uint32_t n = list_experts(s, b, todo);

    for (uint32_t i = 0; i < n; i++) soon_mlp(s, s->piece[i].w);
    pass_run(s->w, gather_range, &p, n, n,
             s->n == 1 ? 0 : (uint64_t)s->n * s->a->top_k * s->a->hidden);
    return n;
}

uint32_t mlp_shared(struct stage *s, const struct bound *b, uint32_t n)
{
    if (s->a->n_shared > 0)
        s->piece[n++] = (struct piece){ .w = &b->shared,
                                        .f = &s->inner_shared,
                                        .x = vecs_acts(&s->norm, 0, s->n) };
    return n;
}

uint32_t mlp_parts(struct stage *s, const struct bound *b, const bool *todo)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->n_parts; i++)
        if (!todo || todo[i])
            s->piece[n++] = (struct piece){ .w = &b->items[i],
                                            .f = &s->part[i],
                                            .x = vecs_acts(&s->norm, 0, s->n) };
    return n;
}

static uint32_t units_of(const struct piece *p)
{
    return (p->w->gate->rows + UNIT - 1) / UNIT;
}

/* --- gate, up, silu --- */

/* Activations of units [lo, hi) of one piece. */
static void gate_up(struct stage *s, const struct lane *l, const struct piece *p, uint32_t lo,
                    uint32_t hi)
{
    const struct tensor *gate = p->w->gate, *up = p->w->up;
    uint32_t c0 = lo * UNIT, end = hi * UNIT < gate->rows ? hi * UNIT : gate->rows;
    uint32_t g0 = lo * UNIT_GROUPS, g1 = (end + GROUP_ROWS - 1) / GROUP_ROWS, width = end - c0;

    wait_weights(s, gate);
    s->k->product(l->t0 - c0, width, gate, NULL, &p->x, g0, g1);
    s->k->product(l->t1 - c0, width, up, NULL, &p->x, g0, g1);
    s->k->swiglu(l->t0, l->t0, l->t1, p->x.n * width);
    for (uint32_t r = 0; r < p->x.n; r++)
        if (!vecs_put(p->f, s->k, p->first + r, c0, l->t0 + (size_t)r * width, width))
            mark_bad(s, p->row ? p->row[r] : r);
}

/* Units: of all pieces, in their turns. */
static void gate_up_range(void *arg, unsigned lane, uint32_t lo, uint32_t hi)
{
    struct mlp_pass *p = arg;
    struct stage *s = p->s;
    uint32_t i = 0;

    while (i + 1 < p->n_pieces && s->piece[s->turn[i + 1]].unit <= lo) i++;
    for (; lo < hi; i++) {
        const struct piece *e = &s->piece[s->turn[i]];
        uint32_t end = e->unit + units_of(e);
        if (end > hi) end = hi;
        gate_up(s, &s->lane[lane], e, lo - e->unit, end - e->unit);
        lo = end;
    }
}

/* --- down, sums, residual --- */

/* sum += X(weight * (down f)) for a range of output rows [r0, r0 + width). */
static void down_piece(struct stage *s, const struct lane *l, const struct piece *p, uint32_t lo,
                       uint32_t hi, uint32_t width)
{
    struct acts f = vecs_acts(p->f, p->first, p->x.n);
    float *y = l->t1, *sum = l->t0;

    s->k->product(y - lo * GROUP_ROWS, width, p->w->down, NULL, &f, lo, hi);
    if (!p->row) {
        if (!s->k->exchange(y, y, 1, s->n * width, s->a->exchange))
            for (uint32_t i = 0; i < s->n; i++)
                if (!all_finite(y + (size_t)i * width, width)) mark_bad(s, i);
        s->k->add(sum, sum, y, s->n * width);
        return;
    }
    for (uint32_t r = 0; r < p->x.n; r++) {
        float *one = y + (size_t)r * width, *to = sum + (size_t)p->row[r] * width;
        if (!s->k->exchange(one, one, p->weight[r], width, s->a->exchange)) mark_bad(s, p->row[r]);
        s->k->add(to, to, one, width);
    }
}

/* x = X(h + m) for elements [at, at + n) of row i. */
void mlp_leave(struct stage *s, uint32_t i, uint32_t at, const float *m, uint32_t n)
{
    float *x = s->x + (size_t)i * s->a->hidden + at;

    s->k->add(x, s->h + (size_t)i * s->a->hidden + at, m, n);
    if (!s->k->exchange(x, x, 1, n, s->a->exchange)) mark_bad(s, i);
}

/* Units: row groups of down.  All pieces of a range in one unit: their sum is a chain. */
static void down_range(void *arg, unsigned lane, uint32_t lo, uint32_t hi)
{
    struct mlp_pass *p = arg;
    struct stage *s = p->s;
    const struct lane *l = &s->lane[lane];
    uint32_t hidden = s->a->hidden, r0 = lo * GROUP_ROWS;
    uint32_t width = (hi * GROUP_ROWS < hidden ? hi * GROUP_ROWS : hidden) - r0;

    memset(l->t0, 0, (size_t)s->n * width * sizeof *l->t0);
    for (uint32_t i = 0; i < p->n_pieces; i++) down_piece(s, l, &s->piece[i], lo, hi, width);
    for (uint32_t i = 0; i < s->n; i++) {
        const float *m = l->t0 + (size_t)i * width;
        if (p->b->post_mlp_norm)
            memcpy(s->m + (size_t)i * hidden + r0, m, width * sizeof *m);
        else
            mlp_leave(s, i, r0, m, width);
    }
}

/* x = X(h + norm(m)), where the architecture has that norm. */
static void after_range(void *arg, unsigned lane, uint32_t lo, uint32_t hi)
{
    struct mlp_pass *p = arg;
    struct stage *s = p->s;
    uint32_t n = s->a->hidden;

    (void)lane;
    for (uint32_t i = lo; i < hi; i++) {
        float *m = s->m + (size_t)i * n;
        s->k->norm(m, m, p->b->post_mlp_norm, n, s->a->eps);
        mlp_leave(s, i, 0, m, n);
    }
}

uint64_t mlp_macs(const struct stage *s, uint32_t n)
{
    uint64_t macs = 0;

    for (uint32_t i = 0; i < n; i++)
        macs += (uint64_t)s->piece[i].x.n * s->piece[i].w->gate->rows * s->a->hidden;
    return macs;
}

/* What is in memory is computed while the rest is read. */
static void take_turns(struct stage *s, uint32_t n)
{
    uint32_t first = 0, last = n;

    for (uint32_t i = 0; i < n; i++)
        s->turn[is_here(s, s->piece[i].w->gate) ? first++ : --last] = i;
    for (last = n; first + 1 < last; first++) { /* the rest in order, too */
        uint32_t t = s->turn[first];
        s->turn[first] = s->turn[--last];
        s->turn[last] = t;
    }
}

void mlp_inner(struct stage *s, const struct bound *b, uint32_t n)
{
    struct mlp_pass p = { s, b, n };
    uint32_t units = 0;

    take_turns(s, n);
    for (uint32_t i = 0; i < n; i++) {
        struct piece *e = &s->piece[s->turn[i]];
        e->unit = units;
        units += units_of(e);
    }
    pass_run(s->w, gate_up_range, &p, units, (uint32_t)(s->lane_floats / s->n / UNIT),
             2 * mlp_macs(s, n));
}

void mlp_after(struct stage *s, const struct bound *b)
{
    struct mlp_pass p = { s, b, 0 };

    if (b->post_mlp_norm)
        pass_run(s->w, after_range, &p, s->n, s->n, (uint64_t)s->n * s->a->hidden * 16);
}

void feed_forward(struct stage *s, const struct bound *b)
{
    bool quantized = b->moe ? s->quant_shared || s->quant_experts : s->quant_dense;
    uint32_t groups = (s->a->hidden + GROUP_ROWS - 1) / GROUP_ROWS, n;

    norm_rows(s, s->h, b->mlp_norm, quantized);
    if (b->moe) {
        mlp_route(s, b);
        n = mlp_shared(s, b, mlp_experts(s, b, NULL));
    } else {
        n = mlp_parts(s, b, NULL);
    }
    mlp_inner(s, b, n);
    struct mlp_pass p = { s, b, n };
    pass_run(s->w, down_range, &p, groups, (uint32_t)(s->lane_floats / s->n / GROUP_ROWS),
             mlp_macs(s, n));
    mlp_after(s, b);
}
