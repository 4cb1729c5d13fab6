#include "model/predict.h"

#include "model/stage.h"

#include <stdlib.h>

struct predict {
    /* borrowed until predict_close */
    const struct arch *a;
    const struct kernels *k;
    struct workers *w;
    const struct tensor *embed, *head, *eh_proj;
    const float *final_norm, *e_norm, *h_norm, *out_norm;

    /* owned */
    struct stage *stage;
    struct arena arena; /* everything below */
    float *g;           /* [PREDICT_ROWS][hidden]: the main model's rows after the final norm */
    float *both;        /* [2 * hidden]: one row of eh_proj's input */
    struct vecs in;     /* [PREDICT_ROWS][2 * hidden] */
    float *y;           /* [PREDICT_ROWS][hidden] */
    uint8_t *x;         /* [PREDICT_ROWS][arch_row_bytes] */
    struct vecs out;    /* [1][hidden]: what came out last, after its norm */
    float *logits;      /* [vocab] */
    struct row *rows;   /* [PREDICT_ROWS] */

    uint32_t n; /* rows of the product in progress */
};

static void lay_out(struct predict *p, struct arena *m)
{
    size_t hidden = p->a->hidden, rows = PREDICT_ROWS;

    p->g = arena_take(m, rows * hidden, sizeof *p->g);
    p->both = arena_take(m, 2 * hidden, sizeof *p->both);
    vecs_take(&p->in, m, rows, 2 * p->a->hidden, true, wtype_quantized(p->eh_proj->type));
    p->y = arena_take(m, rows * hidden, sizeof *p->y);
    p->x = arena_take(m, rows, arch_row_bytes(p->a));
    vecs_take(&p->out, m, 1, p->a->hidden, true, wtype_quantized(p->head->type));
    p->logits = arena_take(m, p->a->vocab, sizeof *p->logits);
    p->rows = arena_take(m, rows, sizeof *p->rows);
}

static void bind(struct predict *p, const struct layer *layer, const struct layer *ends)
{
    const struct arch *a = p->a;
    uint32_t l = layer->index;

    p->embed = &ends->t[arch_find(a, ARCH_ENDS, T_EMBED, 0)];
    p->head = a->tied ? p->embed : &ends->t[arch_find(a, ARCH_ENDS, T_HEAD, 0)];
    p->final_norm = tensor_vector(&ends->t[arch_find(a, ARCH_ENDS, T_FINAL_NORM, 0)]);
    p->eh_proj = &layer->t[arch_find(a, l, T_EH_PROJ, 0)];
    p->e_norm = tensor_vector(&layer->t[arch_find(a, l, T_E_NORM, 0)]);
    p->h_norm = tensor_vector(&layer->t[arch_find(a, l, T_H_NORM, 0)]);
    p->out_norm = tensor_vector(&layer->t[arch_find(a, l, T_PREDICT_NORM, 0)]);
}

enum err predict_open(struct predict **out, const struct arch *a, const struct layer *layer,
                      const struct layer *ends, const struct kernels *k, struct workers *w)
{
    struct arena plan = { 0 };

    *out = NULL;
    if (layer->index < a->n_layers || layer->index >= arch_all_layers(a)) return ERR_RANGE;
    struct predict *p = calloc(1, sizeof *p);
    if (!p) return ERR_NOMEM;
    p->a = a, p->k = k, p->w = w;
    bind(p, layer, ends);
    lay_out(p, &plan);
    enum err e = arena_init(&p->arena, plan.used);
    if (!e) lay_out(p, &p->arena);
    if (!e) e = stage_open(&p->stage, a, layer, layer->index, layer->index + 1, PREDICT_ROWS, k, w);
    if (e) {
        predict_close(p);
        return e;
    }
    *out = p;
    return ERR_OK;
}

void predict_close(struct predict *p)
{
    if (!p) return;
    stage_close(p->stage);
    arena_fini(&p->arena);
    free(p);
}

/* --- eh_proj --- */

/* Units: row groups of eh_proj. */
static void join_range(void *arg, unsigned lane, uint32_t lo, uint32_t hi)
{
    struct predict *p = arg;
    struct acts x = vecs_acts(&p->in, 0, p->n);

    (void)lane;
    p->k->product(p->y, p->a->hidden, p->eh_proj, NULL, &x, lo, hi);
}

/* Row i of the input: the token's embedding, and g beside it. */
static bool put_row(struct predict *p, uint32_t i, int32_t token, const float *g)
{
    uint32_t hidden = p->a->hidden;

    if (token < 0 || (uint32_t)token >= p->a->vocab) return false;
    float *e = p->both, *h = p->both + hidden;
    tensor_row(p->embed, (uint32_t)token, e);
    p->k->norm(e, e, p->e_norm, hidden, p->a->eps);
    p->k->norm(h, g, p->h_norm, hidden, p->a->eps);
    return vecs_put(&p->in, p->k, i, 0, p->both, 2 * hidden);
}

/* The n rows of `in` through the layer; the last one's result is kept. */
static enum err forward(struct predict *p, struct kv *kv, uint32_t n)
{
    const struct arch *a = p->a;
    size_t row = arch_row_bytes(a);
    struct nonfinite bad;
    uint32_t groups = p->eh_proj->tiling.groups, len = kv_len(kv);

    if (len + n > kv_cap(kv)) return ERR_RANGE;
    p->n = n;
    pass_run(p->w, join_range, p, groups, groups, (uint64_t)n * a->hidden * a->hidden * 2);
    if (!p->k->exchange(p->y, p->y, 1, n * a->hidden, a->exchange)) return ERR_NONFINITE;
    p->k->narrow(p->x, p->y, n * a->hidden, a->exchange);
    for (uint32_t i = 0; i < n; i++) p->rows[i] = (struct row){ kv, len + i };
    enum err e = stage_forward(p->stage, p->rows, n, p->x, &bad);
    if (e) return e;
    p->k->widen(p->y, p->x + (n - 1) * row, a->hidden, a->exchange);
    p->k->norm(p->y, p->y, p->out_norm, a->hidden, a->eps);
    if (vecs_put(&p->out, p->k, 0, 0, p->y, a->hidden)) return ERR_OK;
    kv_trim(kv, len);
    return ERR_NONFINITE;
}

enum err predict_feed(struct predict *p, struct kv *kv, const void *x, const int32_t *next,
                      uint32_t n)
{
    const struct arch *a = p->a;
    const uint8_t *in = x;

    if (n < 1 || n > PREDICT_ROWS) return ERR_RANGE;
    for (uint32_t i = 0; i < n; i++) {
        float *g = p->g + (size_t)i * a->hidden;
        p->k->widen(g, in + i * arch_row_bytes(a), a->hidden, a->exchange);
        p->k->norm(g, g, p->final_norm, a->hidden, a->eps);
        if (!put_row(p, i, next[i], g)) return ERR_NONFINITE;
    }
    return forward(p, kv, n);
}

enum err predict_again(struct predict *p, struct kv *kv, int32_t token)
{
    return put_row(p, 0, token, p->out.f) ? forward(p, kv, 1) : ERR_NONFINITE;
}

/* --- the head --- */

static void head_range(void *arg, unsigned lane, uint32_t lo, uint32_t hi)
{
    struct predict *p = arg;
    struct acts x = vecs_acts(&p->out, 0, 1);

    (void)lane;
    p->k->product(p->logits, p->a->vocab, p->head, NULL, &x, lo, hi);
}

const float *predict_logits(struct predict *p)
{
    uint32_t groups = p->head->tiling.groups;

    pass_run(p->w, head_range, p, groups, groups, (uint64_t)p->a->hidden * p->a->vocab);
    return all_finite(p->logits, p->a->vocab) ? p->logits : NULL;
}
