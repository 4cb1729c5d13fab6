/* attention.c - a layer up to h: norm, q k v, rope, K and V stored, attention, o, residual. */
#include "model/stage.h"

#include <string.h>

/* --- norm --- */

struct norm_pass {
    struct stage *s;
    const float *from, *weight;
    bool quantized;
};

static void norm_range(void *arg, unsigned lane, uint32_t lo, uint32_t hi)
{
    struct norm_pass *p = arg;
    struct stage *s = p->s;
    uint32_t n = s->a->hidden;
    struct vecs v = s->norm;

    (void)lane;
    if (!p->quantized) v.q = NULL;
    for (uint32_t i = lo; i < hi; i++) {
        float *y = s->norm.f + (size_t)i * n;
        s->k->norm(y, p->from + (size_t)i * n, p->weight, n, s->a->eps);
        if (!vecs_put(&v, s->k, i, 0, y, n)) mark_bad(s, i);
    }
}

void norm_rows(struct stage *s, const float *from, const float *weight, bool quantized)
{
    struct norm_pass p = { s, from, weight, quantized };

    pass_run(s->w, norm_range, &p, s->n, s->n, (uint64_t)s->n * s->a->hidden * 16);
}

/* --- q, k, v --- */

struct attn_pass {
    struct stage *s;
    const struct bound *b;
    uint32_t layer;
};

/* Units: row groups of q, k, v of head group g_lo, then the next, ... */
static void qkv_range(void *arg, unsigned lane, uint32_t lo, uint32_t hi)
{
    struct attn_pass *p = arg;
    struct stage *s = p->s;
    const struct arch *a = s->a;
    struct acts x = vecs_acts(&s->norm, 0, s->n);
    size_t q_row = (size_t)a->n_heads * a->head_dim, k_row = (size_t)a->n_kv * a->head_dim;

    (void)lane;
    while (lo < hi) {
        const struct head_group *h = p->b->heads;
        uint32_t nq = h->q->tiling.groups, nk = h->k->tiling.groups;
        uint32_t g = s->g_lo + lo / (nq + 2 * nk), at = lo % (nq + 2 * nk), start, end;
        float *y;
        size_t stride;
        const struct tensor *w;
        const float *bias;

        h += g;
        if (at < nq) {
            w = h->q, bias = h->q_bias, start = 0, end = nq;
            y = s->q + (size_t)g * s->per_group * a->head_dim, stride = q_row;
        } else if (at < nq + nk) {
            w = h->k, bias = h->k_bias, start = nq, end = nq + nk;
            y = s->kq + (size_t)g * a->head_dim, stride = k_row;
        } else {
            w = h->v, bias = h->v_bias, start = nq + nk, end = nq + 2 * nk;
            y = s->vq + (size_t)g * a->head_dim, stride = k_row;
        }
        if (end - at > hi - lo) end = at + (hi - lo);
        s->k->product(y, stride, w, bias, &x, at - start, end - start);
        lo += end - at;
    }
}

/* --- norm of heads, rope, storing --- */

static void clamp(float *x, uint32_t n)
{
    /* the range of f16; a NaN stays one */
    for (uint32_t i = 0; i < n; i++) {
        if (x[i] > 65504.0f) x[i] = 65504.0f;
        if (x[i] < -65504.0f) x[i] = -65504.0f;
    }
}

static void turn(const struct stage *s, float *head, const float *norm, uint32_t row)
{
    const struct arch *a = s->a;
    size_t at = (size_t)row * a->rope_half;

    if (norm) s->k->norm(head, head, norm, a->head_dim, a->eps);
    s->k->rotate(head, s->cos + at, s->sin + at, a->rope_half, a->rope_interleaved);
}

static void store_range(void *arg, unsigned lane, uint32_t lo, uint32_t hi)
{
    struct attn_pass *p = arg;
    struct stage *s = p->s;
    const struct arch *a = s->a;
    uint32_t hd = a->head_dim, n_g = s->g_hi - s->g_lo;
    size_t q_row = (size_t)a->n_heads * hd, k_row = (size_t)a->n_kv * hd;

    (void)lane;
    for (uint32_t i = lo; i < hi; i++) {
        float *q = s->q + i * q_row, *k = s->kq + i * k_row, *v = s->vq + i * k_row;

        q += (size_t)s->g_lo * s->per_group * hd, k += s->g_lo * hd, v += s->g_lo * hd;
        if (!all_finite(q, (size_t)n_g * s->per_group * hd) || !all_finite(k, n_g * hd) ||
            !all_finite(v, n_g * hd))
            mark_bad(s, i);
        for (uint32_t j = 0; j < n_g * s->per_group; j++)
            turn(s, q + (size_t)j * hd, p->b->q_norm, i);
        for (uint32_t g = 0; g < n_g; g++) turn(s, k + (size_t)g * hd, p->b->k_norm, i);
        clamp(k, n_g * hd);
        clamp(v, n_g * hd);
        for (uint32_t g = 0; g < n_g; g++) {
            const struct row *row = &s->row[i];
            kv_put(row->kv, s->k, p->layer, s->g_lo + g, row->pos, k + (size_t)g * hd,
                   v + (size_t)g * hd);
        }
    }
}

/* --- o and the residual --- */

/* Units: row groups of o.  All head groups of a range in one unit: their sum is a chain. */
static void o_range(void *arg, unsigned lane, uint32_t lo, uint32_t hi)
{
    struct attn_pass *p = arg;
    struct stage *s = p->s;
    uint32_t hidden = s->a->hidden, r0 = lo * GROUP_ROWS;
    uint32_t width = (hi * GROUP_ROWS < hidden ? hi * GROUP_ROWS : hidden) - r0;
    uint32_t total = s->n * width;
    float *sum = s->lane[lane].t0, *next = s->lane[lane].t1;

    for (uint32_t g = 0; g < s->a->n_kv; g++) {
        struct acts x = vecs_acts(&s->attn[g], 0, s->n);
        float *y = g ? next : sum;
        s->k->product(y - r0, width, p->b->heads[g].o, NULL, &x, lo, hi);
        if (!s->k->exchange(y, y, 1, total, s->a->exchange))
            for (uint32_t i = 0; i < s->n; i++)
                if (!all_finite(y + (size_t)i * width, width)) mark_bad(s, i);
        if (g) s->k->add(sum, sum, next, total);
    }
    for (uint32_t i = 0; i < s->n; i++) {
        size_t at = (size_t)i * hidden + r0;
        if (p->b->post_attn_norm)
            memcpy(s->m + at, sum + (size_t)i * width, width * sizeof *sum);
        else
            s->k->add(s->h + at, s->x + at, sum + (size_t)i * width, width);
    }
}

/* h = x + norm(a), where the architecture has that norm. */
static void after_range(void *arg, unsigned lane, uint32_t lo, uint32_t hi)
{
    struct attn_pass *p = arg;
    struct stage *s = p->s;
    uint32_t n = s->a->hidden;

    (void)lane;
    for (uint32_t i = lo; i < hi; i++) {
        size_t at = (size_t)i * n;
        s->k->norm(s->m + at, s->m + at, p->b->post_attn_norm, n, s->a->eps);
        s->k->add(s->h + at, s->x + at, s->m + at, n);
    }
}

void attention_heads(struct stage *s, const struct bound *b, uint32_t l)
{
    const struct arch *a = s->a;
    struct attn_pass p = { s, b, l };
    uint32_t n_g = s->g_hi - s->g_lo;
    uint64_t q_width = (uint64_t)n_g * s->per_group * a->head_dim;
    uint64_t kv_width = (uint64_t)n_g * a->head_dim;
    uint32_t units = n_g * (b->heads->q->tiling.groups + 2 * b->heads->k->tiling.groups);

    wait_heads(s, b);
    pass_run(s->w, qkv_range, &p, units, units, s->n * (q_width + 2 * kv_width) * a->hidden);
    pass_run(s->w, store_range, &p, s->n, s->n, s->n * (q_width + kv_width) * 16);
    attend(s, l);
}

void attention_after(struct stage *s, const struct bound *b)
{
    struct attn_pass p = { s, b, 0 };

    if (b->post_attn_norm)
        pass_run(s->w, after_range, &p, s->n, s->n, (uint64_t)s->n * s->a->hidden * 16);
}

void attention(struct stage *s, const struct bound *b, uint32_t l)
{
    const struct arch *a = s->a;
    struct attn_pass p = { s, b, l };
    uint32_t groups = b->heads->o->tiling.groups;

    s->g_lo = 0, s->g_hi = a->n_kv;
    norm_rows(s, s->x, b->attn_norm, s->quant_attn);
    attention_heads(s, b, l);
    pass_run(s->w, o_range, &p, groups, (uint32_t)(s->lane_floats / s->n / GROUP_ROWS),
             (uint64_t)s->n * a->n_heads * a->head_dim * a->hidden);
    attention_after(s, b);
}
