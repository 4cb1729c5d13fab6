/* member.c - pieces of a layer for its leader. */
#include "model/stage.h"

#include <math.h>
#include <string.h>

/* --- what came --- */

/* The vectors that the products read, and what goes with quantized ones. */
static void take_x(struct stage *s, const struct share_work *w, bool quantized)
{
    size_t bytes = share_x_bytes(s->a, w->kind), n = (size_t)s->norm.blocks * BLOCK;

    for (uint32_t i = 0; i < w->n; i++) {
        const uint8_t *x = w->x + i * bytes;
        if (!quantized) {
            memcpy(s->norm.f + (size_t)i * s->a->hidden, x, bytes);
            continue;
        }
        int8_t *q = s->norm.q + i * n;
        memcpy(q, x, n);
        memcpy(s->norm.d + (size_t)i * s->norm.blocks, x + n, bytes - n);
        for (uint32_t b = 0; b < s->norm.blocks; b++) {
            int32_t sum = 0;
            for (uint32_t j = 0; j < BLOCK; j++) sum += q[b * BLOCK + j];
            s->norm.sum[(size_t)i * s->norm.blocks + b] = sum;
        }
    }
}

/* Where each piece of row i goes; returns where the next row's answer begins. */
static uint8_t *aim(struct stage *s, uint32_t i, uint32_t n, uint32_t lead, uint8_t *out)
{
    struct sharing *h = s->sharing;

    h->lead_to[i] = (uint8_t)lead;
    h->sum_to[i] = out;
    if (lead > 0) out += s->a->hidden * sizeof(float);
    for (uint32_t j = 0; j < n; j++) {
        h->to[(size_t)i * h->width + j] = j < lead ? NULL : out;
        if (j >= lead) out += arch_row_bytes(s->a);
    }
    return out;
}

/* --- heads --- */

/* Does every row continue what its kv has of this layer, or go over it again? */
static enum err check_positions(const struct share_work *w)
{
    for (uint32_t i = 0; i < w->n; i++) {
        struct kv *kv = w->row[i].kv;
        if (w->layer < kv->lo || w->layer >= kv->hi || w->lo < kv->g_lo ||
            w->hi > kv->g_lo + kv->n_kv || w->row[i].pos >= kv->cap)
            return ERR_RANGE;
        kv->fresh = UINT32_MAX;
    }
    for (uint32_t i = 0; i < w->n; i++) {
        struct kv *kv = w->row[i].kv;
        uint32_t pos = w->row[i].pos;
        if (kv->fresh == UINT32_MAX ? pos > kv->filled[w->layer - kv->lo] : pos != kv->fresh)
            return ERR_RANGE;
        kv->fresh = pos + 1;
    }
    return ERR_OK;
}

static void set_angles(struct stage *s)
{
    const struct arch *a = s->a;

    for (uint32_t i = 0; i < s->n; i++) {
        size_t at = (size_t)i * a->rope_half;
        if (s->sharing->angle[i] == s->row[i].pos) continue;
        rope_angles(s->cos + at, s->sin + at, a->rope_freq, a->rope_half, s->row[i].pos,
                    a->rope_scale);
        s->sharing->angle[i] = s->row[i].pos;
    }
}

static enum err do_heads(struct stage *s, const struct bound *b, const struct share_work *w,
                         uint8_t *out)
{
    for (uint32_t g = w->lo; g < w->hi; g++)
        if (!share_has(&b->held.heads, g)) return ERR_NOTFOUND;
    enum err e = check_positions(w);
    if (e) return e;
    take_x(s, w, s->quant_attn);
    s->sharing->width = w->hi - w->lo;
    for (uint32_t i = 0; i < w->n; i++) out = aim(s, i, w->hi - w->lo, w->lead, out);

    for (uint32_t g = w->lo; g < w->hi; g++) soon_heads(s, &b->heads[g]);
    set_angles(s);
    attend_plan(s);
    s->g_lo = w->lo, s->g_hi = w->hi;
    attention_heads(s, b, w->layer);
    shared_heads(s, b, w->lo);
    for (uint32_t i = 0; i < w->n; i++)
        w->row[i].kv->filled[w->layer - w->row[i].kv->lo] = w->row[i].pos + 1;
    return ERR_OK;
}

/* --- experts, dense parts --- */

static enum err do_experts(struct stage *s, const struct bound *b, const struct share_work *w,
                           uint8_t *out)
{
    struct sharing *h = s->sharing;
    const uint8_t *p = w->picks;
    uint32_t k = s->a->top_k;

    h->width = k;
    memset(h->todo, 0, (size_t)w->n * k * sizeof *h->todo);
    for (uint32_t i = 0; i < w->n; i++) {
        uint32_t n = p[0];
        out = aim(s, i, n, p[1], out);
        p += SHARE_PICKS_HEAD;
        for (uint32_t j = 0; j < n; j++, p += SHARE_PICK_BYTES) {
            size_t at = (size_t)i * k + j;
            uint16_t e;
            memcpy(&e, p, sizeof e);
            memcpy(&s->weight[at], p + sizeof e, sizeof s->weight[at]);
            if (!share_has(&b->held.experts, e)) return ERR_NOTFOUND;
            s->chosen[at] = e;
            h->todo[at] = true;
        }
    }
    take_x(s, w, s->quant_experts);
    shared_mlp(s, b, 0, mlp_experts(s, b, h->todo));
    return ERR_OK;
}

static enum err do_dense(struct stage *s, const struct bound *b, const struct share_work *w,
                         uint8_t *out)
{
    struct sharing *h = s->sharing;
    uint32_t first = s->n_parts, n = 0;

    memset(h->todo, 0, s->n_parts * sizeof *h->todo);
    for (uint32_t i = 0; i < s->n_parts; i++) {
        uint32_t number = h->number[i];
        if (number < w->lo || number >= w->hi) continue;
        if (!share_has(&b->held.dense, number)) return ERR_NOTFOUND;
        if (first == s->n_parts) first = i;
        h->todo[i] = true;
        n++;
    }
    h->width = n;
    for (uint32_t i = 0; i < w->n; i++) out = aim(s, i, n, w->lead, out);
    take_x(s, w, s->quant_dense);
    n = mlp_parts(s, b, h->todo);
    for (uint32_t i = 0; i < n; i++) soon_mlp(s, s->piece[i].w);
    shared_mlp(s, b, first, n);
    return ERR_OK;
}

/* --- both --- */

/* Rows with a number that is not finite: the leader shall see it. */
static void spoil(struct stage *s, uint32_t i, uint32_t n)
{
    struct sharing *h = s->sharing;
    size_t bytes = h->lead_to[i] > 0 ? s->a->hidden * sizeof(float) : 0;
    float *nan = s->lane->t0;

    for (uint32_t c = 0; c < BLOCK; c++) nan[c] = NAN;
    if (bytes > 0) memcpy(h->sum_to[i], nan, sizeof *nan);
    for (uint32_t j = 0; j < n; j++) {
        uint8_t *to = h->to[(size_t)i * h->width + j];
        if (to) s->k->narrow(to, nan, 1, s->a->exchange);
    }
}

static uint32_t pieces_of(const struct stage *s, const struct share_work *w, uint32_t i)
{
    uint32_t n = 0;

    if (w->kind != SHARE_EXPERTS) return s->sharing->width;
    while (n < s->a->top_k && s->sharing->todo[(size_t)i * s->a->top_k + n]) n++;
    return n;
}

/* At most the stage's rows. */
static enum err do_some(struct stage *s, const struct share_work *w, uint8_t *out)
{
    const struct bound *b = &s->bound[w->layer - s->lo];
    enum err e;

    stage_begin(s, w->row, w->n);
    if (w->kind == SHARE_HEADS)
        e = do_heads(s, b, w, out);
    else if (w->kind == SHARE_EXPERTS)
        e = do_experts(s, b, w, out);
    else
        e = do_dense(s, b, w, out);
    layer_done(s, w->layer);
    for (uint32_t i = 0; i < w->n && !e && s->any_bad; i++)
        if (s->bad[i]) spoil(s, i, pieces_of(s, w, i));
    return e;
}

/* Go on behind the first n rows of a work. */
static void skip_rows(const struct arch *a, struct share_work *w, uint32_t n)
{
    w->n -= n;
    w->x += n * share_x_bytes(a, w->kind);
    if (w->row) w->row += n;
    for (uint32_t i = 0; w->kind == SHARE_EXPERTS && i < n; i++) {
        size_t bytes = SHARE_PICKS_HEAD + w->picks[0] * (size_t)SHARE_PICK_BYTES;
        w->picks += bytes;
        w->picks_len -= bytes;
    }
}

enum err stage_share_work(struct stage *s, const struct share_work *w, uint8_t *out)
{
    struct share_work left = *w;
    enum err e = w->layer >= s->lo && w->layer < s->hi ? sharing_open(s) : ERR_RANGE;

    while (!e && left.n > 0) {
        struct share_work some = left;
        if (some.n > s->rows_max) some.n = s->rows_max;
        e = do_some(s, &some, out);
        out += share_answer_bytes(s->a, &some);
        skip_rows(s->a, &left, some.n);
    }
    return e;
}
