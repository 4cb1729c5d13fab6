/* forward.c - a stage: its scratch, and rows through its layers. */
#include "model/stage.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Scratch of a lane: 64 columns for every row, or a fair helping when rows are few. */
enum { LANE_COLS = 64, LANE_FLOATS_MIN = 8192 };

/* --- binding --- */

static const struct tensor *find(const struct arch *a, const struct layer *l, enum tensor_role role,
                                 uint32_t item)
{
    int32_t i = arch_find(a, l->index, role, item);
    return i < 0 || !l->t ? NULL : &l->t[i];
}

static const float *find_vector(const struct arch *a, const struct layer *l, enum tensor_role role,
                                uint32_t item)
{
    const struct tensor *t = find(a, l, role, item);
    return t && t->tile ? tensor_vector(t) : NULL;
}

static void bind(struct bound *b, const struct arch *a, const struct layer *l)
{
    b->moe = arch_is_moe(a, l->index);
    share_of(&b->held, a, l);
    b->whole = share_whole(&b->held, a, l->index);
    b->attn_norm = find_vector(a, l, T_ATTN_NORM, 0);
    b->mlp_norm = find_vector(a, l, T_MLP_NORM, 0);
    b->post_attn_norm = find_vector(a, l, T_POST_ATTN_NORM, 0);
    b->post_mlp_norm = find_vector(a, l, T_POST_MLP_NORM, 0);
    b->q_norm = find_vector(a, l, T_Q_NORM, 0);
    b->k_norm = find_vector(a, l, T_K_NORM, 0);
    b->router = find(a, l, T_ROUTER, 0);
    b->router_bias = find_vector(a, l, T_ROUTER_BIAS, 0);
    b->shared = (struct mlp){ find(a, l, T_SHARED_GATE, 0), find(a, l, T_SHARED_UP, 0),
                              find(a, l, T_SHARED_DOWN, 0) };
    for (uint32_t g = 0; g < a->n_kv; g++)
        b->heads[g] = (struct head_group){
            .q = find(a, l, T_Q, g),
            .k = find(a, l, T_K, g),
            .v = find(a, l, T_V, g),
            .o = find(a, l, T_O, g),
            .q_bias = find_vector(a, l, T_Q_BIAS, g),
            .k_bias = find_vector(a, l, T_K_BIAS, g),
            .v_bias = find_vector(a, l, T_V_BIAS, g),
        };
    if (b->moe) {
        for (uint32_t e = 0; e < a->n_experts; e++)
            b->items[e] = (struct mlp){ find(a, l, T_EXPERT_GATE, e), find(a, l, T_EXPERT_UP, e),
                                        find(a, l, T_EXPERT_DOWN, e) };
        return;
    }
    for (uint32_t p = 0, n = 0; p < a->mlp_parts; p++) {
        const struct tensor *gate = find(a, l, T_DENSE_GATE, p);
        if (gate)
            b->items[n++] =
                (struct mlp){ gate, find(a, l, T_DENSE_UP, p), find(a, l, T_DENSE_DOWN, p) };
    }
}

/* --- scratch --- */

static uint32_t max_u32(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static uint32_t count_parts(const struct arch *a)
{
    uint32_t n = 0, lo, hi;

    for (uint32_t p = 0; p < a->mlp_parts; p++) {
        arch_part(a, p, &lo, &hi);
        n += lo < hi;
    }
    return n;
}

static void set_sizes(struct stage *s, const struct arch *a, uint32_t rows_max)
{
    s->a = a;
    s->rows_max = rows_max;
    s->per_group = a->n_heads / a->n_kv;
    s->n_parts = count_parts(a);
    s->quant_attn = wtype_quantized(a->type[WR_ATTN]);
    s->quant_dense = wtype_quantized(a->type[WR_DENSE]);
    s->quant_shared = wtype_quantized(a->type[WR_SHARED]);
    s->quant_experts = wtype_quantized(a->type[WR_EXPERTS]);
    s->lane_floats = (size_t)rows_max * LANE_COLS;
    if (s->lane_floats < LANE_FLOATS_MIN) s->lane_floats = LANE_FLOATS_MIN;
    s->heads_together = attend_heads(s);
    s->chunks = (a->context + KV_CHUNK - 1) / KV_CHUNK;
}

static void lay_out_attention(struct stage *s, struct arena *m, size_t rows)
{
    const struct arch *a = s->a;

    s->q = arena_take(m, rows * a->n_heads * a->head_dim, sizeof *s->q);
    s->kq = arena_take(m, rows * a->n_kv * a->head_dim, sizeof *s->kq);
    s->vq = arena_take(m, rows * a->n_kv * a->head_dim, sizeof *s->vq);
    for (uint32_t g = 0; g < a->n_kv; g++) {
        struct vecs v;
        vecs_take(&v, m, rows, s->per_group * a->head_dim, !s->quant_attn, s->quant_attn);
        if (s->attn) s->attn[g] = v;
    }
}

static void lay_out_parts(struct stage *s, struct arena *m, size_t rows)
{
    const struct arch *a = s->a;

    for (uint32_t p = 0, n = 0, lo, hi; p < a->mlp_parts; p++) {
        struct vecs v;
        arch_part(a, p, &lo, &hi);
        if (lo == hi) continue;
        vecs_take(&v, m, rows, hi - lo, !s->quant_dense, s->quant_dense);
        if (s->part) s->part[n++] = v;
    }
}

static void lay_out_experts(struct stage *s, struct arena *m, size_t rows)
{
    const struct arch *a = s->a;
    size_t picks = rows * a->top_k;

    if (a->n_experts == 0) return;
    vecs_take(&s->inner, m, picks, a->moe_inter, !s->quant_experts, s->quant_experts);
    vecs_take(&s->inner_shared, m, rows, a->moe_inter * a->n_shared, !s->quant_shared,
              s->quant_shared);
    vecs_take(&s->gathered, m, rows > 1 ? picks : 0, a->hidden, !s->quant_experts,
              s->quant_experts);
    s->z = arena_take(m, rows * a->n_experts, sizeof *s->z);
    s->c = arena_take(m, rows * a->n_experts, sizeof *s->c);
    s->chosen = arena_take(m, picks, sizeof *s->chosen);
    s->weight = arena_take(m, picks, sizeof *s->weight);
    s->by_row = arena_take(m, picks, sizeof *s->by_row);
    s->by_weight = arena_take(m, picks, sizeof *s->by_weight);
    s->count = arena_take(m, a->n_experts + 1, sizeof *s->count);
}

static void lay_out_lanes(struct stage *s, struct arena *m, unsigned lanes)
{
    const struct arch *a = s->a;
    size_t heads = s->heads_together;

    s->lane = arena_take(m, lanes, sizeof *s->lane);
    for (unsigned i = 0; i < lanes; i++) {
        struct lane l = {
            .t0 = arena_take(m, s->lane_floats, sizeof *l.t0),
            .t1 = arena_take(m, s->lane_floats, sizeof *l.t1),
        };
        struct scratch *t = &l.attend;
        t->max = arena_take(m, heads * s->chunks, sizeof *t->max);
        t->z = arena_take(m, heads * s->chunks, sizeof *t->z);
        t->q = arena_take(m, heads * a->head_dim, sizeof *t->q);
        t->top = arena_take(m, heads, sizeof *t->top);
        t->a = arena_take(m, (size_t)s->per_group * a->head_dim, sizeof *t->a);
        if (s->lane) s->lane[i] = l;
    }
}

/* Attention and MLP never need their scratch at the same time, nor do the two kinds of MLP: they
 * lie over each other. */
static void lay_out_steps(struct stage *s, struct arena *m, size_t rows)
{
    void (*const steps[])(struct stage *, struct arena *,
                          size_t) = { lay_out_attention, lay_out_parts, lay_out_experts };
    size_t start = m->used, end = start;

    for (unsigned i = 0; i < sizeof steps / sizeof *steps; i++) {
        m->used = start;
        steps[i](s, m, rows);
        if (m->used > end) end = m->used;
    }
    m->used = end;
}

/* The only place that knows how big each buffer is; see arena.h. */
static void lay_out(struct stage *s, struct arena *m, unsigned lanes, uint32_t n_layers)
{
    const struct arch *a = s->a;
    size_t rows = s->rows_max, wide = rows * a->hidden;
    uint32_t items = max_u32(s->n_parts, a->n_experts);

    /* products write through `scratch - first row`: room, so that this stays inside the block */
    (void)arena_take(m, max_u32(a->inter, max_u32(a->hidden, a->moe_inter * a->n_shared)),
                     sizeof(float));
    s->x = arena_take(m, wide, sizeof *s->x);
    s->h = arena_take(m, wide, sizeof *s->h);
    s->m = arena_take(m, a->sandwich ? wide : 0, sizeof *s->m);
    vecs_take(&s->norm, m, rows, a->hidden, true,
              s->quant_attn || s->quant_dense || s->quant_shared || s->quant_experts);
    s->cos = arena_take(m, rows * a->rope_half, sizeof *s->cos);
    s->sin = arena_take(m, rows * a->rope_half, sizeof *s->sin);
    s->attn = arena_take(m, a->n_kv, sizeof *s->attn);
    s->part = arena_take(m, s->n_parts, sizeof *s->part);
    s->piece = arena_take(m, items + 1, sizeof *s->piece);
    s->turn = arena_take(m, items + 1, sizeof *s->turn);
    s->bad = arena_take(m, rows, sizeof *s->bad);
    s->block = arena_take(m, rows, sizeof *s->block);
    lay_out_steps(s, m, rows);

    s->bound = arena_take(m, n_layers, sizeof *s->bound);
    for (uint32_t i = 0; i < n_layers; i++) {
        struct head_group *heads = arena_take(m, a->n_kv, sizeof *heads);
        struct mlp *mlps = arena_take(m, items, sizeof *mlps);
        if (s->bound) s->bound[i].heads = heads, s->bound[i].items = mlps;
    }
    lay_out_lanes(s, m, lanes);
}

/* Floats of a lane's scores and of its chunks' sums: 6 MB at 32,768 positions and 12 query heads a
 * row, touched only as contexts grow. */
static size_t score_floats(const struct stage *s)
{
    return (size_t)s->chunks * s->heads_together * (KV_CHUNK + SCORES_PADDING);
}
static size_t sum_floats(const struct stage *s)
{
    return (size_t)s->chunks * s->heads_together * s->a->head_dim;
}

static size_t scores_bytes(const struct stage *s, unsigned lanes)
{
    return lanes * (score_floats(s) + sum_floats(s)) * sizeof(float);
}

static uint64_t scratch_bytes(const struct arch *a, uint32_t n_layers, uint32_t rows_max,
                              unsigned threads)
{
    struct stage s = { 0 };
    struct arena plan = { 0 };

    set_sizes(&s, a, rows_max);
    lay_out(&s, &plan, threads, n_layers);
    return plan.used;
}

uint64_t stage_cost(const struct arch *a, uint32_t n_layers, uint32_t rows_max, unsigned threads)
{
    struct stage s = { 0 };

    set_sizes(&s, a, rows_max);
    return scratch_bytes(a, n_layers, rows_max, threads) + scores_bytes(&s, threads) + sizeof s;
}

uint32_t stage_rows_within(const struct arch *a, uint32_t n_layers, unsigned threads,
                           uint64_t bytes)
{
    uint32_t rows = BATCH_MAX;

    while (rows > 1 && scratch_bytes(a, n_layers, rows, threads) > bytes) rows /= 2;
    return rows;
}

static enum err map_scores(struct stage *s)
{
    s->scores_bytes = scores_bytes(s, s->w->n);
    void *p = mmap(NULL, s->scores_bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return ERR_NOMEM;
    s->scores = p;
    for (unsigned i = 0; i < s->w->n; i++) {
        struct scratch *t = &s->lane[i].attend;
        t->score = s->scores + i * (score_floats(s) + sum_floats(s));
        t->o = t->score + score_floats(s);
    }
    return ERR_OK;
}

enum err stage_open(struct stage **out, const struct arch *a, const struct layer *layers,
                    uint32_t lo, uint32_t hi, uint32_t rows_max, const struct kernels *k,
                    struct workers *w)
{
    struct arena plan = { 0 };

    *out = NULL;
    if (lo > hi || hi > arch_all_layers(a) || rows_max < 1 || rows_max > BATCH_MAX)
        return ERR_RANGE;
    struct stage *s = calloc(1, sizeof *s);
    if (!s) return ERR_NOMEM;
    s->k = k, s->w = w, s->lo = lo, s->hi = hi;
    set_sizes(s, a, rows_max);

    lay_out(s, &plan, w->n, hi - lo); /* add up ... */
    enum err e = arena_init(&s->arena, plan.used);
    if (e) goto out;
    lay_out(s, &s->arena, w->n, hi - lo); /* ... and carve */
    if ((e = map_scores(s))) goto out;
    for (uint32_t i = 0; i < hi - lo; i++) bind(&s->bound[i], a, &layers[i]);
    *out = s;
    return ERR_OK;
out:
    stage_close(s);
    return e;
}

void stage_tell(struct stage *s, struct pager *p)
{
    s->pager = p;
}

void stage_close(struct stage *s)
{
    if (!s) return;
    if (s->scores) munmap(s->scores, s->scores_bytes);
    sharing_close(s);
    arena_fini(&s->arena);
    free(s);
}

/* --- rows through the layers --- */

void mark_bad(struct stage *s, uint32_t i)
{
    atomic_store_explicit(&s->bad[i], 1, memory_order_relaxed);
    atomic_store_explicit(&s->any_bad, true, memory_order_relaxed);
}

/* Does every row continue its session?  Nothing is changed for good. */
static enum err check_rows(const struct stage *s, uint32_t lo, uint32_t hi, const struct row *rows,
                           uint32_t n)
{
    enum err e = n >= 1 && n <= s->rows_max ? ERR_OK : ERR_RANGE;

    for (uint32_t i = 0; i < n && !e; i++) {
        struct kv *kv = rows[i].kv;
        assert(kv->lo <= lo && kv->hi >= hi && kv->head_dim == s->a->head_dim &&
               kv->type == s->a->kv);
        kv->fresh = 0;
    }
    for (uint32_t i = 0; i < n && !e; i++) {
        struct kv *kv = rows[i].kv;
        if (rows[i].pos != kv->len + kv->fresh || rows[i].pos >= kv->cap) e = ERR_RANGE;
        kv->fresh++;
    }
    return e;
}

/* Units: rows.  Inputs as f32, and the angles of their positions, the same for all layers. */
static void enter_range(void *arg, unsigned lane, uint32_t lo, uint32_t hi)
{
    struct stage *s = *(struct stage **)arg;
    const uint8_t *in = *((const uint8_t **)arg + 1);
    const struct arch *a = s->a;

    (void)lane;
    for (uint32_t i = lo; i < hi; i++) {
        float *x = s->x + (size_t)i * a->hidden;
        size_t at = (size_t)i * a->rope_half;
        s->k->widen(x, in + i * arch_row_bytes(a), a->hidden, a->exchange);
        if (!all_finite(x, a->hidden)) mark_bad(s, i);
        rope_angles(s->cos + at, s->sin + at, a->rope_freq, a->rope_half, s->row[i].pos,
                    a->rope_scale);
    }
}

static enum err report_bad(const struct stage *s, uint32_t layer, struct nonfinite *bad)
{
    uint32_t i = 0;

    while (!s->bad[i]) i++;
    *bad = (struct nonfinite){ layer, s->row[i].pos };
    return ERR_NONFINITE;
}

void stage_laps(struct stage *s, stage_lap *lap, void *arg)
{
    s->lap = lap;
    s->lap_arg = arg;
}

static void part_done(const struct stage *s, uint32_t layer, enum stage_part part)
{
    if (s->lap) s->lap(s->lap_arg, layer, part);
}

void stage_begin(struct stage *s, const struct row *rows, uint32_t n)
{
    s->row = rows;
    s->n = n;
    s->told = s->pager && s->pager->wants(s->pager) ? s->pager : NULL;
    s->any_bad = false;
    for (uint32_t i = 0; i < n; i++) s->bad[i] = 0;
}

/* Is all there that the leader of a layer, alone or not, must hold? */
static enum err check_held(const struct stage *s, uint32_t lo, uint32_t hi, bool shared,
                           struct nonfinite *bad)
{
    for (uint32_t l = lo; l < hi; l++) {
        const struct bound *b = &s->bound[l - s->lo];
        *bad = (struct nonfinite){ .layer = l };
        if (!(shared ? b->held.trunk : b->whole)) return ERR_NOTFOUND;
    }
    return ERR_OK;
}

/* One layer, of which all, or with a sharer parts, are computed here. */
static enum err one_layer(struct stage *s, uint32_t l, struct sharer *by)
{
    const struct bound *b = &s->bound[l - s->lo];
    enum err e = ERR_OK;

    if (by)
        e = shared_attention(s, b, l, by);
    else
        attention(s, b, l);
    if (e) return e;
    part_done(s, l, STAGE_ATTENTION);
    /* also when it comes in a call of its own */
    if (l + 1 < s->hi) soon_layer(s, b + 1, by != NULL);
    if (l + 1 < s->hi && !by) foresee(s, b + 1);
    if (by)
        e = shared_feed_forward(s, b, l, by);
    else
        feed_forward(s, b);
    layer_done(s, l);
    if (!e) part_done(s, l, STAGE_MLP);
    return e;
}

enum err stage_forward_shared(struct stage *s, uint32_t lo, uint32_t hi, const struct row *rows,
                              uint32_t n, void *x, struct sharer *by, struct nonfinite *bad)
{
    enum err e =
        lo >= s->lo && lo <= hi && hi <= s->hi ? check_rows(s, lo, hi, rows, n) : ERR_RANGE;
    if (!e) e = check_held(s, lo, hi, by != NULL, bad);
    if (!e && by) e = sharing_open(s);
    if (e) return e;

    stage_begin(s, rows, n);
    attend_plan(s);

    void *enter[2] = { s, x };
    pass_run(s->w, enter_range, enter, n, n, (uint64_t)n * (s->a->hidden + 32 * s->a->rope_half));
    if (s->any_bad) return report_bad(s, lo, bad);
    part_done(s, lo, STAGE_ENTER);
    if (lo < hi) soon_layer(s, &s->bound[lo - s->lo], by != NULL);
    for (uint32_t l = lo; l < hi; l++) {
        *bad = (struct nonfinite){ .layer = l };
        if ((e = one_layer(s, l, by))) return e;
        if (s->any_bad) return report_bad(s, l, bad);
    }

    s->k->narrow(x, s->x, n * s->a->hidden, s->a->exchange);
    for (uint32_t i = 0; i < n; i++) rows[i].kv->len = rows[i].pos + 1;
    return ERR_OK;
}

enum err stage_forward_part(struct stage *s, uint32_t lo, uint32_t hi, const struct row *rows,
                            uint32_t n, void *x, struct nonfinite *bad)
{
    return stage_forward_shared(s, lo, hi, rows, n, x, NULL, bad);
}

enum err stage_forward(struct stage *s, const struct row *rows, uint32_t n, void *x,
                       struct nonfinite *bad)
{
    return stage_forward_part(s, s->lo, s->hi, rows, n, x, bad);
}
