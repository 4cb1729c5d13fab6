#include "tests/model/toy.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void must(bool ok)
{
    if (!ok) abort();
}

static void *get(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);
    must(p != NULL);
    return p;
}

float toy_random(uint64_t *seed)
{
    float sum = 0;

    for (int i = 0; i < 4; i++) {
        *seed = *seed * 6364136223846793005u + 1442695040888963407u;
        sum += (float)(int32_t)(*seed >> 32) * 0x1p-31f;
    }
    return sum * 0.866f;
}

/* --- shapes --- */

void toy_types(struct arch *a, enum wtype t)
{
    for (int r = 0; r < WR_COUNT; r++) a->type[r] = t;
}

const char *toy_shape(unsigned i, struct arch *a)
{
    static const char *const names[TOYS] = { "moe",       "groups, norms", "glm4 sandwich",
                                             "odd sizes", "no norm, tied", "two shared" };

    *a = (struct arch){ .family = ARCH_GLM4_MOE,
                        .n_layers = 3,
                        .hidden = 96,
                        .vocab = 100,
                        .n_heads = 6,
                        .n_kv = 2,
                        .head_dim = 32,
                        .inter = 160,
                        .mlp_parts = 3,
                        .n_dense = 1,
                        .n_experts = 8,
                        .top_k = 3,
                        .n_shared = 1,
                        .moe_inter = 64,
                        .n_group = 1,
                        .topk_group = 1,
                        .context = 1200,
                        .attn_bias = true,
                        .norm_topk = true,
                        .eps = 1e-5f,
                        .routed_scale = 1,
                        .rope_half = 8,
                        .rope_scale = 1,
                        .exchange = FT_BF16,
                        .kv = FT_F16 };
    switch (i) {
    case 1:
        a->qk_norm = true, a->n_experts = 12, a->n_group = 4, a->topk_group = 2;
        a->routed_scale = 2.5f;
        break;
    case 2:
        a->family = ARCH_GLM4, a->sandwich = a->rope_interleaved = true, a->attn_bias = false;
        a->n_dense = 3, a->n_experts = a->top_k = a->n_shared = a->moe_inter = 0;
        break;
    case 3:
        a->hidden = 77, a->vocab = 133, a->head_dim = 10, a->rope_half = 3, a->inter = 75;
        a->mlp_parts = 8, a->moe_inter = 41, a->n_heads = 9, a->n_kv = 3, a->exchange = FT_F32;
        break;
    case 4:
        a->norm_topk = false, a->routed_scale = 1.5f, a->tied = true, a->n_dense = 0, a->inter = 0;
        a->kv = FT_F32, a->n_shared = 0, a->rope_scale = 1.1, a->n_predict = 1;
        break;
    case 5: a->n_shared = 2, a->moe_inter = 40, a->head_dim = 48, a->n_kv = 1; break;
    }
    for (uint32_t f = 0; f < a->rope_half; f++)
        a->rope_freq[f] = pow(10000, -(double)f / a->rope_half);
    toy_types(a, WT_Q80);
    return names[i];
}

/* --- weights --- */

static float mean_of(enum tensor_role r)
{
    switch (r) {
    case T_ATTN_NORM:
    case T_MLP_NORM:
    case T_POST_ATTN_NORM:
    case T_POST_MLP_NORM:
    case T_Q_NORM:
    case T_K_NORM:
    case T_FINAL_NORM: return 1;
    default: return 0;
    }
}

static void fill_tensor(struct tensor *t, const struct tensor_spec *s, uint64_t *seed)
{
    struct tiling tiling = tiling_of(s->type, s->rows, s->cols);
    size_t bytes = (size_t)tiling.groups * tiling.group_bytes;
    uint8_t *data = get(bytes + 64, 1), *at = data;
    uint8_t **tile = get(tiling.tiles, sizeof *tile);
    float *rows = get((size_t)16 * s->cols, sizeof *rows);
    float scale = s->cols > 1 ? 1.5f / sqrtf((float)s->cols) : 0.3f;

    for (uint32_t g = 0; g < tiling.groups; g++) {
        uint32_t n = s->rows - g * 16 < 16 ? s->rows - g * 16 : 16;
        for (uint32_t i = 0; i < n * s->cols; i++)
            rows[i] = mean_of(s->role) + scale * toy_random(seed);
        must(group_pack(s->type, rows, s->cols, n, s->cols, at) == ERR_OK);
        at += tiling.group_bytes;
    }
    at = data;
    for (uint32_t i = 0; i < tiling.tiles; i++) {
        tile[i] = at;
        at += tiling_tile_bytes(&tiling, i);
    }
    free(rows);
    *t = (struct tensor){ s->type, s->rows, s->cols, tiling, (const uint8_t *const *)tile };
}

static void fill_layer(const struct arch *a, struct layer *l, uint32_t index, uint64_t seed)
{
    uint32_t n = arch_n_specs(a, index);

    l->index = index;
    l->t = get(n, sizeof *l->t);
    for (uint32_t i = 0; i < n; i++) {
        struct tensor_spec s = arch_spec(a, index, i);
        fill_tensor(&l->t[i], &s, &seed);
    }
}

void toy_fill(struct toy *t, uint64_t seed)
{
    uint32_t all = arch_all_layers(&t->a);

    must(arch_check(&t->a, NULL) == ERR_OK);
    t->layer = get(all, sizeof *t->layer);
    for (uint32_t l = 0; l < all; l++) fill_layer(&t->a, &t->layer[l], l, seed + l);
    fill_layer(&t->a, &t->ends, ARCH_ENDS, seed + 1000);
}

static void free_layer(const struct arch *a, struct layer *l)
{
    for (uint32_t i = 0, n = arch_n_specs(a, l->index); i < n; i++) {
        free((void *)(uintptr_t)l->t[i].tile[0]);
        free((void *)(uintptr_t)l->t[i].tile);
    }
    free(l->t);
}

void toy_free(struct toy *t)
{
    for (uint32_t l = 0; l < arch_all_layers(&t->a); l++) free_layer(&t->a, &t->layer[l]);
    free(t->layer);
    free_layer(&t->a, &t->ends);
}

/* --- the naive forward pass --- */

struct naive {
    const struct arch *a;
    const struct kernels *k;
    const struct layer *l;
};

static const struct tensor *find(const struct naive *v, enum tensor_role r, uint32_t item)
{
    int32_t i = arch_find(v->a, v->l->index, r, item);
    return i < 0 ? NULL : &v->l->t[i];
}

static const float *vec(const struct naive *v, enum tensor_role r, uint32_t item)
{
    const struct tensor *t = find(v, r, item);
    return t ? (const float *)(const void *)t->tile[0] : NULL;
}

/* y = W x (+ bias), one vector, quantized afresh. */
static void mul(const struct naive *v, float *y, const struct tensor *w, const float *bias,
                const float *x)
{
    uint32_t blocks = (w->cols + 31) / 32;
    int8_t *q = get((size_t)blocks * 32, 1);
    float *d = get(blocks, sizeof *d);
    int32_t *sum = get(blocks, sizeof *sum);
    struct acts in = { .n = 1,
                       .cols = w->cols,
                       .f = x,
                       .f_stride = w->cols,
                       .q = q,
                       .d = d,
                       .sum = sum,
                       .blocks = blocks };

    v->k->quantize(x, w->cols, q, d, sum);
    v->k->product(y, w->rows, w, bias, &in, 0, w->tiling.groups);
    free(q);
    free(d);
    free(sum);
}

static void x_round(const struct naive *v, float *y, uint32_t n)
{
    must(v->k->exchange(y, y, 1, n, v->a->exchange));
}

/* down(silu(gate x) up x), unrounded. */
static void naive_mlp(const struct naive *v, float *y, enum tensor_role gate, uint32_t item,
                      const float *x)
{
    const struct tensor *g = find(v, gate, item);
    float *a = get(g->rows, sizeof *a), *b = get(g->rows, sizeof *b);

    mul(v, a, g, NULL, x);
    mul(v, b, find(v, gate + 1, item), NULL, x);
    v->k->swiglu(a, a, b, g->rows);
    mul(v, y, find(v, gate + 2, item), NULL, a);
    free(a);
    free(b);
}

static bool in_groups(const struct arch *a, const float *c, uint32_t e)
{
    uint32_t size = a->n_experts / a->n_group, better = 0;
    float mine = 0;

    if (a->n_group == 1) return true;
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t i = 0; i < a->n_group; i++) {
            float one = -INFINITY, two = -INFINITY;
            uint32_t g = pass ? i : e / size;
            for (uint32_t j = g * size; j < (g + 1) * size; j++) {
                if (c[j] > one)
                    two = one, one = c[j];
                else if (c[j] > two)
                    two = c[j];
            }
            if (!pass) mine = one + two;
            if (pass && (one + two > mine || (one + two == mine && g < e / size))) better++;
        }
    return better < a->topk_group;
}

static void naive_moe(const struct naive *v, float *m, const float *u)
{
    const struct arch *a = v->a;
    float z[64], c[64], *y = get(a->hidden, sizeof *y), sum = 0;
    bool mine[64] = { 0 };

    mul(v, z, find(v, T_ROUTER, 0), NULL, u);
    v->k->sigmoid(z, z, a->n_experts);
    for (uint32_t e = 0; e < a->n_experts; e++) c[e] = z[e] + vec(v, T_ROUTER_BIAS, 0)[e];
    for (uint32_t e = 0; e < a->n_experts; e++) {
        uint32_t better = 0;
        for (uint32_t j = 0; j < a->n_experts; j++)
            better += in_groups(a, c, j) && (c[j] > c[e] || (c[j] == c[e] && j < e));
        mine[e] = in_groups(a, c, e) && better < a->top_k;
        if (mine[e]) sum += z[e];
    }
    for (uint32_t e = 0; e < a->n_experts; e++) {
        if (!mine[e]) continue;
        float w = a->norm_topk ? z[e] / (sum + 1e-20f) : z[e];
        w *= a->routed_scale;
        naive_mlp(v, y, T_EXPERT_GATE, e, u);
        for (uint32_t i = 0; i < a->hidden; i++) y[i] *= w;
        x_round(v, y, a->hidden);
        for (uint32_t i = 0; i < a->hidden; i++) m[i] += y[i];
    }
    if (a->n_shared > 0) {
        naive_mlp(v, y, T_SHARED_GATE, 0, u);
        x_round(v, y, a->hidden);
        for (uint32_t i = 0; i < a->hidden; i++) m[i] += y[i];
    }
    free(y);
}

static void naive_dense(const struct naive *v, float *m, const float *u)
{
    float *y = get(v->a->hidden, sizeof *y);

    for (uint32_t p = 0; p < v->a->mlp_parts; p++) {
        if (!find(v, T_DENSE_GATE, p)) continue;
        naive_mlp(v, y, T_DENSE_GATE, p, u);
        x_round(v, y, v->a->hidden);
        for (uint32_t i = 0; i < v->a->hidden; i++) m[i] += y[i];
    }
    free(y);
}

static void rotate(const struct naive *v, float *head, enum tensor_role norm, uint32_t pos)
{
    float c[ARCH_ROPE_MAX], s[ARCH_ROPE_MAX];

    if (v->a->qk_norm) v->k->norm(head, head, vec(v, norm, 0), v->a->head_dim, v->a->eps);
    rope_angles(c, s, v->a->rope_freq, v->a->rope_half, pos, v->a->rope_scale);
    v->k->rotate(head, c, s, v->a->rope_half, v->a->rope_interleaved);
}

static void store(const struct naive *v, uint8_t *at, float *x)
{
    for (uint32_t i = 0; i < v->a->head_dim; i++) x[i] = fminf(fmaxf(x[i], -65504), 65504);
    v->k->narrow(at, x, v->a->head_dim, v->a->kv);
}

/* red16(q * key) */
static float naive_score(const struct naive *v, const float *q, const uint8_t *key)
{
    uint32_t hd = v->a->head_dim, padded = (hd + 15) / 16 * 16;
    float *k = get(padded, sizeof *k), lane[16] = { 0 };

    v->k->widen(k, key, hd, v->a->kv);
    for (uint32_t i = 0; i < padded; i++)
        lane[i % 16] = fmaf(i < hd ? q[i] : 0, k[i], lane[i % 16]);
    for (int half = 8; half > 0; half /= 2)
        for (int j = 0; j < half; j++) lane[j] += lane[j + half];
    free(k);
    return lane[0];
}

/* One query head over the keys and values [pos + 1][head_dim] of its group. */
static void naive_head(const struct naive *v, float *out, const float *q, const uint8_t *keys,
                       const uint8_t *values, uint32_t pos)
{
    uint32_t hd = v->a->head_dim;
    size_t row = hd * ftype_bytes(v->a->kv);
    float *s = get(pos + 1, sizeof *s), *o = get(hd, sizeof *o), *value = get(hd, sizeof *value);
    float z = 0;

    for (uint32_t t = 0; t <= pos; t++)
        s[t] = naive_score(v, q, keys + t * row) * (float)(1 / sqrt((double)hd));
    float max = v->k->max(s, pos + 1);
    memset(out, 0, hd * sizeof *out);
    for (uint32_t t = 0; t <= pos; t += 512) {
        uint32_t n = pos + 1 - t < 512 ? pos + 1 - t : 512;
        memset(o, 0, hd * sizeof *o);
        z += v->k->exp_sum(s + t, n, max);
        for (uint32_t i = 0; i < n; i++) {
            v->k->widen(value, values + (t + i) * row, hd, v->a->kv);
            for (uint32_t c = 0; c < hd; c++) o[c] = fmaf(s[t + i], value[c], o[c]);
        }
        for (uint32_t c = 0; c < hd; c++) out[c] += o[c];
    }
    for (uint32_t c = 0; c < hd; c++) out[c] /= z;
    free(s);
    free(o);
    free(value);
}

/* a = attention of one position; keys and values [n_kv][n][head_dim] filled up to it. */
static void naive_attention(const struct naive *v, float *a, const float *u, uint8_t *keys,
                            uint8_t *values, uint32_t pos, uint32_t n)
{
    uint32_t hd = v->a->head_dim, per = v->a->n_heads / v->a->n_kv;
    size_t row = hd * ftype_bytes(v->a->kv);
    float *q = get((size_t)per * hd, sizeof *q), *o = get((size_t)per * hd, sizeof *o);
    float *k = get(hd, sizeof *k), *p = get(v->a->hidden, sizeof *p);

    for (uint32_t g = 0; g < v->a->n_kv; g++) {
        uint8_t *ks = keys + g * n * row, *vs = values + g * n * row;
        mul(v, k, find(v, T_K, g), vec(v, T_K_BIAS, g), u);
        rotate(v, k, T_K_NORM, pos);
        store(v, ks + pos * row, k);
        mul(v, k, find(v, T_V, g), vec(v, T_V_BIAS, g), u);
        store(v, vs + pos * row, k);
        mul(v, q, find(v, T_Q, g), vec(v, T_Q_BIAS, g), u);
        for (uint32_t h = 0; h < per; h++) {
            rotate(v, q + h * hd, T_Q_NORM, pos);
            naive_head(v, o + h * hd, q + h * hd, ks, vs, pos);
        }
        mul(v, p, find(v, T_O, g), NULL, o);
        x_round(v, p, v->a->hidden);
        for (uint32_t i = 0; i < v->a->hidden; i++) a[i] = g ? a[i] + p[i] : p[i];
    }
    free(q);
    free(o);
    free(k);
    free(p);
}

static void naive_layer(const struct naive *v, uint32_t n, float *x)
{
    const struct arch *a = v->a;
    uint32_t w = a->hidden;
    size_t kv = (size_t)a->n_kv * n * a->head_dim * ftype_bytes(a->kv);
    uint8_t *keys = get(kv, 1), *values = get(kv, 1);
    float *u = get(w, sizeof *u), *h = get(w, sizeof *h), *m = get(w, sizeof *m);

    for (uint32_t t = 0; t < n; t++, x += w) {
        v->k->norm(u, x, vec(v, T_ATTN_NORM, 0), w, a->eps);
        naive_attention(v, m, u, keys, values, t, n);
        if (a->sandwich) v->k->norm(m, m, vec(v, T_POST_ATTN_NORM, 0), w, a->eps);
        for (uint32_t i = 0; i < w; i++) h[i] = x[i] + m[i];

        v->k->norm(u, h, vec(v, T_MLP_NORM, 0), w, a->eps);
        memset(m, 0, w * sizeof *m);
        if (arch_is_moe(a, v->l->index))
            naive_moe(v, m, u);
        else
            naive_dense(v, m, u);
        if (a->sandwich) v->k->norm(m, m, vec(v, T_POST_MLP_NORM, 0), w, a->eps);
        for (uint32_t i = 0; i < w; i++) x[i] = h[i] + m[i];
        x_round(v, x, w);
    }
    free(keys);
    free(values);
    free(u);
    free(h);
    free(m);
}

void naive_forward(const struct toy *t, const struct kernels *k, uint32_t lo, uint32_t hi,
                   uint32_t n, void *x)
{
    float *f = get((size_t)n * t->a.hidden, sizeof *f);

    k->widen(f, x, n * t->a.hidden, t->a.exchange);
    for (uint32_t l = lo; l < hi; l++) {
        struct naive v = { &t->a, k, &t->layer[l] };
        naive_layer(&v, n, f);
    }
    k->narrow(x, f, n * t->a.hidden, t->a.exchange);
    free(f);
}

void naive_logits(const struct toy *t, const struct kernels *k, const void *x, float *logits)
{
    struct naive v = { &t->a, k, &t->ends };
    float *f = get(t->a.hidden, sizeof *f);

    k->widen(f, x, t->a.hidden, t->a.exchange);
    k->norm(f, f, vec(&v, T_FINAL_NORM, 0), t->a.hidden, t->a.eps);
    mul(&v, logits, find(&v, t->a.tied ? T_EMBED : T_HEAD, 0), NULL, f);
    free(f);
}
