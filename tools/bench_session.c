#include "tools/bench_session.h"

#include "model/share.h"

#include <math.h>
#include <stdlib.h>

enum { READ_BYTES = 1 << 20 /* a span of the plain read */ };

const char *bench_part_name(enum bench_part p)
{
    static const char *const names[] = { "attention", "dense MLP", "MoE", "output head", "rest" };
    return names[p];
}

/* --- opening --- */

enum err bench_session_open(struct bench_session *s, struct bench *b, const char *dir,
                            const char *model, uint32_t batch, uint32_t rows, struct why *why)
{
    s->b = b;
    s->batch = batch;
    s->random = 1;
    enum err e = local_open(&s->local, dir, model, rows, b->kernels, b->workers, why);
    if (e) return e;
    s->arch = &s->local.weights.manifest.arch;
    s->kv = calloc(batch, sizeof *s->kv);
    s->x = malloc(rows * arch_row_bytes(s->arch));
    s->logits = malloc((size_t)batch * s->arch->vocab * sizeof *s->logits);
    s->rows = malloc(rows * sizeof *s->rows);
    s->ids = malloc(rows * sizeof *s->ids);
    if (!s->kv || !s->x || !s->logits || !s->rows || !s->ids)
        return fail(why, ERR_NOMEM, "no memory for %u rows", rows);
    s->kv[0] = s->local.kv;
    for (uint32_t i = 1; i < batch && !e; i++)
        e = kv_open(&s->kv[i], s->arch, 0, s->arch->n_layers, s->arch->context);
    return e ? fail(why, e, "no memory for %u sessions", batch) : ERR_OK;
}

void bench_session_close(struct bench_session *s)
{
    for (uint32_t i = 1; s->kv && i < s->batch; i++) kv_close(s->kv[i]);
    free(s->kv);
    free(s->x);
    free(s->logits);
    free(s->rows);
    free(s->ids);
    local_close(&s->local);
}

void bench_session_fill(struct bench_session *s, uint32_t len)
{
    for (uint32_t i = 0; i < s->batch; i++) kv_fill(s->kv[i], len, i + 1);
}

/* --- steps --- */

static uint32_t below(struct bench_session *s, uint32_t n)
{
    s->random = s->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((s->random >> 32) * n >> 32);
}

static void ended(struct bench_session *s, enum bench_part part)
{
    double now = bench_seconds();
    s->part[part] += now - s->last;
    s->last = now;
}

static void on_lap(void *arg, uint32_t layer, enum stage_part done)
{
    struct bench_session *s = arg;

    switch (done) {
    case STAGE_ENTER: ended(s, SPENT_REST); break;
    case STAGE_ATTENTION: ended(s, SPENT_ATTENTION); break;
    case STAGE_MLP: ended(s, arch_is_moe(s->arch, layer) ? SPENT_MOE : SPENT_DENSE); break;
    }
}

static void failed(struct bench_session *s, enum err e, const char *what)
{
    if (s->err) return;
    s->err = fail(&s->why, e, "%s: %s", what, err_text(e));
}

/* Rows through embedding and layers; their parts are timed. */
static bool forward(struct bench_session *s, uint32_t n)
{
    struct nonfinite bad;

    for (uint32_t i = 0; i < n; i++) s->ids[i] = (int32_t)below(s, s->arch->vocab);
    stage_laps(s->local.stage, on_lap, s);
    s->last = bench_seconds();
    enum err e = ends_embed(s->local.ends, s->ids, n, s->x);
    if (!e)
        e = stage_forward_shared(s->local.stage, 0, s->arch->n_layers, s->rows, n, s->x, s->sharer,
                                 &bad);
    ended(s, SPENT_REST);
    if (e) failed(s, e, "a step through the layers");
    return !e;
}

static void head(struct bench_session *s, uint32_t first, uint32_t n)
{
    struct nonfinite bad;

    enum err e =
        ends_logits(s->local.ends, s->x + first * arch_row_bytes(s->arch), n, s->logits, &bad);
    ended(s, SPENT_HEAD);
    if (e) failed(s, e, "the logits");
}

void bench_session_decode(struct bench_session *s)
{
    for (uint32_t i = 0; i < s->batch; i++) s->rows[i] = (struct row){ s->kv[i], kv_len(s->kv[i]) };
    if (!forward(s, s->batch)) return;
    head(s, 0, s->batch);
    for (uint32_t i = 0; i < s->batch; i++) kv_trim(s->kv[i], s->rows[i].pos);
}

void bench_session_prefill(struct bench_session *s, uint32_t n, uint32_t rows)
{
    uint32_t some = 0;

    kv_trim(s->kv[0], 0);
    for (uint32_t at = 0; at < n; at += some) {
        some = n - at < rows ? n - at : rows;
        for (uint32_t i = 0; i < some; i++) s->rows[i] = (struct row){ s->kv[0], at + i };
        if (!forward(s, some)) return;
    }
    head(s, some - 1, 1);
}

/* --- what a step reads and computes --- */

uint32_t bench_experts(const struct arch *a, uint32_t rows)
{
    double none = pow(1 - (double)a->top_k / a->n_experts, rows); /* that nobody chose it */
    return (uint32_t)lround((1 - none) * a->n_experts);
}

static enum bench_part part_of(const struct tensor_spec *t)
{
    switch (t->role) {
    case T_MLP_NORM:
    case T_POST_MLP_NORM:
    case T_ROUTER:
    case T_ROUTER_BIAS:
    case T_SHARED_GATE:
    case T_SHARED_UP:
    case T_SHARED_DOWN:
    case T_EXPERT_GATE:
    case T_EXPERT_UP:
    case T_EXPERT_DOWN: return SPENT_MOE;
    case T_DENSE_GATE:
    case T_DENSE_UP:
    case T_DENSE_DOWN: return SPENT_DENSE;
    default: return SPENT_ATTENTION;
    }
}

static void add_bytes(void *arg, const void *p, size_t n)
{
    (void)p;
    *(double *)arg += (double)n;
}

void bench_session_bytes(const struct bench_session *s, double bytes[PARTS])
{
    const struct arch *a = s->arch;
    uint32_t experts = a->n_experts ? bench_experts(a, s->batch) : 0;

    for (int p = 0; p < PARTS; p++) bytes[p] = 0;
    for (uint32_t l = 0; l < a->n_layers; l++)
        for (uint32_t i = 0, n = arch_n_specs(a, l); i < n; i++) {
            struct tensor_spec t = arch_spec(a, l, i);
            struct tiling g = tiling_of(t.type, t.rows, t.cols);
            enum bench_part part = part_of(&t);
            if (part == SPENT_MOE && !arch_is_moe(a, l)) part = SPENT_DENSE; /* its norms */
            if (t.shard != SHARD_EXPERT || t.item < experts)
                bytes[part] += (double)g.groups * (double)g.group_bytes;
        }
    bytes[SPENT_HEAD] = (double)arch_token_bytes(a, ARCH_ENDS);
    for (uint32_t i = 0; i < s->batch; i++) kv_each(s->kv[i], add_bytes, &bytes[SPENT_ATTENTION]);
}

double bench_session_flop(const struct bench_session *s, uint32_t n)
{
    const struct arch *a = s->arch;
    double weights = 0, pairs = (double)n * (n + 1) / 2; /* of a position and one it looks at */

    for (uint32_t l = 0; l < a->n_layers; l++)
        for (uint32_t i = 0, specs = arch_n_specs(a, l); i < specs; i++) {
            struct tensor_spec t = arch_spec(a, l, i);
            if (t.cols > 1 && (t.shard != SHARD_EXPERT || t.item < a->top_k))
                weights += (double)t.rows * t.cols;
        }
    return 2 * weights * n + 4.0 * a->n_heads * a->head_dim * a->n_layers * pairs +
           2.0 * a->vocab * a->hidden;
}

/* --- the plain read of it --- */

struct spans {
    struct bench_span *p; /* owned */
    uint32_t n, cap;
};

static void add_span(void *arg, const void *p, size_t n)
{
    struct spans *to = arg;
    const uint8_t *at = p;

    while (n > 0) {
        size_t some = n < READ_BYTES ? n : READ_BYTES;
        if (to->n == to->cap) {
            uint32_t cap = to->cap ? 2 * to->cap : 4096;
            void *more = realloc(to->p, cap * sizeof *to->p);
            if (!more) return; /* a shorter read: the bound looks worse, never better */
            to->p = more;
            to->cap = cap;
        }
        to->p[to->n++] = (struct bench_span){ at, some };
        at += some, n -= some;
    }
}

static void add_tensor(struct spans *to, const struct tensor *t)
{
    for (uint32_t i = 0; i < t->tiling.tiles; i++)
        add_span(to, t->tile[i], tiling_tile_bytes(&t->tiling, i));
}

/* n of the layer's experts, each as likely as another. */
static void choose(struct bench_session *s, bool chosen[ARCH_EXPERTS_MAX], uint32_t n)
{
    uint32_t all = s->arch->n_experts, left = n;

    for (uint32_t e = 0; e < all; e++) {
        chosen[e] = below(s, all - e) < left;
        left -= chosen[e];
    }
}

static void read_tensors(struct bench_session *s, uint32_t experts)
{
    const struct arch *a = s->arch;
    struct spans spans = { 0 };
    bool chosen[ARCH_EXPERTS_MAX];

    for (uint32_t l = 0; l < a->n_layers; l++) {
        choose(s, chosen, experts);
        for (uint32_t i = 0, n = arch_n_specs(a, l); i < n; i++) {
            struct tensor_spec t = arch_spec(a, l, i);
            if (t.shard != SHARD_EXPERT || chosen[t.item])
                add_tensor(&spans, &s->local.weights.layer[l].t[i]);
        }
    }
    add_tensor(&spans,
               &s->local.weights.ends.t[arch_find(a, ARCH_ENDS, a->tied ? T_EMBED : T_HEAD, 0)]);
    for (uint32_t i = 0; i < s->batch; i++) kv_each(s->kv[i], add_span, &spans);
    bench_read(s->b->workers, spans.p, spans.n);
    free(spans.p);
}

void bench_session_read(struct bench_session *s)
{
    read_tensors(s, s->arch->n_experts ? bench_experts(s->arch, s->batch) : 0);
}

void bench_session_warm(struct bench_session *s)
{
    struct spans spans = { 0 };

    read_tensors(s, s->arch->n_experts);
    add_tensor(&spans, &s->local.weights.ends.t[arch_find(s->arch, ARCH_ENDS, T_EMBED, 0)]);
    bench_read(s->b->workers, spans.p, spans.n);
    free(spans.p);
}
