/* shared.c - a layer whose sums have terms from elsewhere: the leader's two steps, and the passes
 * that make terms instead of sums, which members run too. */
#include "model/stage.h"

#include <stdlib.h>
#include <string.h>

enum { SUM_COLS = 512 }; /* columns of a row that one unit adds up; a lane has room for more */

/* --- scratch --- */

static uint32_t max_u32(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static void lay_out(struct sharing *h, struct arena *m, const struct arch *a, size_t rows)
{
    size_t width = max_u32(a->n_kv, max_u32(a->mlp_parts, a->top_k)), all = rows * width;

    h->away = arena_take(m, all, sizeof *h->away);
    h->todo = arena_take(m, all, sizeof *h->todo);
    h->to = arena_take(m, all, sizeof *h->to);
    h->sum_to = arena_take(m, rows, sizeof *h->sum_to);
    h->lead_to = arena_take(m, rows, sizeof *h->lead_to);
    h->pick = arena_take(m, rows * a->top_k, sizeof *h->pick);
    h->got.piece = arena_take(m, all, sizeof *h->got.piece);
    h->got.sum = arena_take(m, rows, sizeof *h->got.sum);
    h->got.lead = arena_take(m, rows, sizeof *h->got.lead);
    h->number = arena_take(m, a->mlp_parts + a->n_kv, sizeof *h->number);
    h->angle = arena_take(m, rows, sizeof *h->angle);
    h->own = arena_take(m, all, arch_row_bytes(a));
    h->shared = arena_take(m, rows, arch_row_bytes(a));
}

uint64_t share_cost(const struct arch *a, uint32_t rows_max)
{
    struct sharing h;
    struct arena plan = { 0 };

    lay_out(&h, &plan, a, rows_max);
    return plan.used + sizeof h;
}

enum err sharing_open(struct stage *s)
{
    struct arena plan = { 0 };
    const struct arch *a = s->a;
    uint32_t n = 0, lo, hi;

    if (s->sharing) return ERR_OK;
    struct sharing *h = calloc(1, sizeof *h);
    if (!h) return ERR_NOMEM;
    lay_out(h, &plan, a, s->rows_max);
    if (arena_init(&h->arena, plan.used)) {
        free(h);
        return ERR_NOMEM;
    }
    lay_out(h, &h->arena, a, s->rows_max);
    for (uint32_t p = 0; p < a->mlp_parts; p++) {
        arch_part(a, p, &lo, &hi);
        if (lo < hi) h->number[n++] = p;
    }
    for (uint32_t g = 0; g < a->n_kv; g++) h->number[s->n_parts + g] = g;
    for (uint32_t i = 0; i < s->rows_max; i++) h->angle[i] = UINT32_MAX;
    s->sharing = h;
    return ERR_OK;
}

void sharing_close(struct stage *s)
{
    if (!s->sharing) return;
    arena_fini(&s->sharing->arena);
    free(s->sharing);
    s->sharing = NULL;
}

/* --- making pieces --- */

struct pieces_pass {
    struct stage *s;
    const struct bound *b;
    uint32_t first; /* heads: the group of column 0 */
    uint32_t n;     /* mlp: pieces listed */
};

/* A finished piece's elements [r0, r0 + width): rounded, and put or added where it goes. */
static void deliver(struct stage *s, float *sum, uint32_t i, uint32_t j, float *y, float weight,
                    uint32_t r0, uint32_t width, bool from_zero)
{
    struct sharing *h = s->sharing;
    uint8_t *to = h->to[(size_t)i * h->width + j];

    if (!s->k->exchange(y, y, weight, width, s->a->exchange)) mark_bad(s, i);
    if (to) {
        s->k->narrow(to + r0 * ftype_bytes(s->a->exchange), y, width, s->a->exchange);
        return;
    }
    sum += (size_t)i * width;
    if (j == 0 && from_zero) memset(sum, 0, width * sizeof *sum);
    if (j == 0 && !from_zero)
        memcpy(sum, y, width * sizeof *sum);
    else
        s->k->add(sum, sum, y, width);
    if (j + 1 == h->lead_to[i]) memcpy(h->sum_to[i] + r0 * sizeof *sum, sum, width * sizeof *sum);
}

static uint32_t width_of(const struct stage *s, uint32_t lo, uint32_t hi)
{
    uint32_t end = hi * GROUP_ROWS < s->a->hidden ? hi * GROUP_ROWS : s->a->hidden;
    return end - lo * GROUP_ROWS;
}

/* Units: row groups of o; all head groups of a range in one unit, as their sum may be wanted. */
static void heads_range(void *arg, unsigned lane, uint32_t lo, uint32_t hi)
{
    struct pieces_pass *p = arg;
    struct stage *s = p->s;
    uint32_t r0 = lo * GROUP_ROWS, width = width_of(s, lo, hi);
    float *sum = s->lane[lane].t0, *y = s->lane[lane].t1;

    for (uint32_t g = s->g_lo; g < s->g_hi; g++) {
        struct acts x = vecs_acts(&s->attn[g], 0, s->n);
        s->k->product(y - r0, width, p->b->heads[g].o, NULL, &x, lo, hi);
        for (uint32_t i = 0; i < s->n; i++)
            deliver(s, sum, i, g - p->first, y + (size_t)i * width, 1, r0, width, false);
    }
}

void shared_heads(struct stage *s, const struct bound *b, uint32_t first)
{
    struct pieces_pass p = { s, b, first, 0 };
    uint32_t groups = b->heads->o->tiling.groups;
    uint64_t width = (uint64_t)(s->g_hi - s->g_lo) * s->per_group * s->a->head_dim;

    pass_run(s->w, heads_range, &p, groups, (uint32_t)(s->lane_floats / s->n / GROUP_ROWS),
             s->n * width * s->a->hidden);
}

/* The shared expert's X(down f), which is not a piece that is asked for. */
static void deliver_shared(struct stage *s, float *y, uint32_t r0, uint32_t width)
{
    size_t each = ftype_bytes(s->a->exchange);

    for (uint32_t i = 0; i < s->n; i++, y += width) {
        if (!s->k->exchange(y, y, 1, width, s->a->exchange)) mark_bad(s, i);
        s->k->narrow(s->sharing->shared + i * arch_row_bytes(s->a) + r0 * each, y, width,
                     s->a->exchange);
    }
}

/* Units: row groups of down; all pieces of a range in one unit. */
static void down_range(void *arg, unsigned lane, uint32_t lo, uint32_t hi)
{
    struct pieces_pass *p = arg;
    struct stage *s = p->s;
    uint32_t r0 = lo * GROUP_ROWS, width = width_of(s, lo, hi), w = s->sharing->width;
    float *sum = s->lane[lane].t0, *y = s->lane[lane].t1;

    for (uint32_t n = 0; n < p->n; n++) {
        const struct piece *e = &s->piece[n];
        struct acts f = vecs_acts(e->f, e->first, e->x.n);
        s->k->product(y - r0, width, e->w->down, NULL, &f, lo, hi);
        if (e->w == &p->b->shared) {
            deliver_shared(s, y, r0, width);
            continue;
        }
        for (uint32_t r = 0; r < e->x.n; r++) {
            uint32_t i = e->row ? e->row[r] : r;
            uint32_t j = e->pick ? e->pick[r] - i * w : (uint32_t)(e->f - s->part) - p->first;
            deliver(s, sum, i, j, y + (size_t)r * width, e->weight ? e->weight[r] : 1, r0, width,
                    true);
        }
    }
}

void shared_mlp(struct stage *s, const struct bound *b, uint32_t first, uint32_t n)
{
    struct pieces_pass p = { s, b, first, n };
    uint32_t groups = (s->a->hidden + GROUP_ROWS - 1) / GROUP_ROWS;

    if (n == 0) return;
    mlp_inner(s, b, n);
    pass_run(s->w, down_range, &p, groups, (uint32_t)(s->lane_floats / s->n / GROUP_ROWS),
             mlp_macs(s, n));
}

/* --- asking and adding up --- */

/* Nothing is known yet of the pieces of a batch; those made here go to `own`. */
static void start(struct stage *s, uint32_t width)
{
    struct sharing *h = s->sharing;
    size_t all = (size_t)s->n * width;

    h->width = width;
    memset(h->away, 0, all * sizeof *h->away);
    memset((void *)h->got.piece, 0, all * sizeof *h->got.piece);
    memset((void *)h->got.sum, 0, s->n * sizeof *h->got.sum);
    memset(h->got.lead, 0, s->n);
    for (size_t p = 0; p < all; p++) h->to[p] = h->own + p * arch_row_bytes(s->a);
}

/* Head groups and dense parts go for all rows or for none: if for some row, then for all. */
static void whole_columns(const struct sharing *h, bool *flag, uint32_t n)
{
    for (uint32_t j = 0; j < h->width; j++) {
        bool any = false;
        for (uint32_t i = 0; i < n; i++) any |= flag[(size_t)i * h->width + j];
        for (uint32_t i = 0; i < n; i++) flag[(size_t)i * h->width + j] = any;
    }
}

/* What is not away is to be done here. */
static void own_todo(struct sharing *h, size_t all)
{
    for (size_t p = 0; p < all; p++) h->todo[p] = !h->away[p];
}

/* What was to be done is done. */
static void found_own(struct sharing *h, size_t all)
{
    for (size_t p = 0; p < all; p++)
        if (h->todo[p]) h->got.piece[p] = h->to[p];
}

/* What came from nobody is to be done here; is there any? */
static bool lost_todo(const struct stage *s)
{
    struct sharing *h = s->sharing;
    bool any = false;

    for (uint32_t i = 0; i < s->n; i++)
        for (uint32_t j = 0; j < h->width; j++) {
            size_t p = (size_t)i * h->width + j;
            h->todo[p] = !h->got.piece[p] && j >= h->got.lead[i];
            any |= h->todo[p];
        }
    return any;
}

static enum err collect(struct stage *s, const struct share_ask *q, struct sharer *by)
{
    struct sharing *h = s->sharing;
    size_t all = (size_t)q->n * q->width;
    enum err e = ERR_OK;

    if (memchr(h->away, true, all)) e = by->collect(by, q, &h->got);
    for (uint32_t i = 0; i < q->n && !e; i++)
        if (h->got.lead[i] > (h->got.sum[i] ? q->width : 0)) e = ERR_RANGE;
    return e;
}

struct sum_pass {
    struct stage *s;
    const struct bound *b;
    bool heads;
};

/* h = x + sum or x = X(h + sum), for elements [at, at + n) of row i; m = sum with a norm after. */
static void settle(const struct sum_pass *p, uint32_t i, uint32_t at, const float *sum, uint32_t n)
{
    struct stage *s = p->s;
    size_t to = (size_t)i * s->a->hidden + at;

    if (p->heads ? p->b->post_attn_norm != NULL : p->b->post_mlp_norm != NULL)
        memcpy(s->m + to, sum, n * sizeof *sum);
    else if (p->heads)
        s->k->add(s->h + to, s->x + to, sum, n);
    else
        mlp_leave(s, i, at, sum, n);
}

/* Units: SUM_COLS elements of a row.  Terms in the order of docs/arithmetic.md: of head groups the
 * first is the beginning, an MLP begins with 0. */
static void sum_range(void *arg, unsigned lane, uint32_t lo, uint32_t hi)
{
    struct sum_pass *p = arg;
    struct stage *s = p->s;
    const struct sharing *h = s->sharing;
    enum ftype type = s->a->exchange;
    uint32_t units = (s->a->hidden + SUM_COLS - 1) / SUM_COLS;
    float *sum = s->lane[lane].t0, *t = s->lane[lane].t1;

    for (uint32_t u = lo; u < hi; u++) {
        uint32_t i = u / units, at = u % units * SUM_COLS, j = h->got.lead[i];
        uint32_t n = s->a->hidden - at < SUM_COLS ? s->a->hidden - at : SUM_COLS;
        const uint8_t *const *piece = h->got.piece + (size_t)i * h->width;
        size_t from = at * ftype_bytes(type);

        if (j > 0)
            memcpy(sum, h->got.sum[i] + at * sizeof *sum, n * sizeof *sum);
        else if (p->heads)
            s->k->widen(sum, piece[j++] + from, n, type);
        else
            memset(sum, 0, n * sizeof *sum);
        for (; j < h->width; j++) {
            s->k->widen(t, piece[j] + from, n, type);
            s->k->add(sum, sum, t, n);
        }
        if (!p->heads && p->b->moe && s->a->n_shared > 0) {
            s->k->widen(t, h->shared + i * arch_row_bytes(s->a) + from, n, type);
            s->k->add(sum, sum, t, n);
        }
        if (!all_finite(sum, n)) mark_bad(s, i);
        settle(p, i, at, sum, n);
    }
}

static void sum_up(struct stage *s, const struct bound *b, bool heads)
{
    struct sum_pass p = { s, b, heads };
    uint32_t units = s->n * ((s->a->hidden + SUM_COLS - 1) / SUM_COLS);

    pass_run(s->w, sum_range, &p, units, units, (uint64_t)s->n * s->a->hidden * s->sharing->width);
}

/* --- attention --- */

/* Do all rows' kv have these head groups? */
static bool kv_have(const struct stage *s, uint32_t g_lo, uint32_t g_hi)
{
    for (uint32_t i = 0; i < s->n; i++) {
        const struct kv *kv = s->row[i].kv;
        if (g_lo < kv->g_lo || g_hi > kv->g_lo + kv->n_kv) return false;
    }
    return true;
}

/* The head groups that are not away, in runs of neighbours. */
static enum err own_heads(struct stage *s, const struct bound *b, uint32_t l)
{
    const struct sharing *h = s->sharing;
    uint32_t n_kv = s->a->n_kv;

    for (uint32_t g = 0; g < n_kv; g++)
        if (!h->away[g] && !share_has(&b->held.heads, g)) return ERR_NOTFOUND;
    for (uint32_t g = 0; g < n_kv; g = s->g_hi) {
        s->g_lo = g;
        while (s->g_lo < n_kv && h->away[s->g_lo]) s->g_lo++;
        s->g_hi = s->g_lo;
        while (s->g_hi < n_kv && !h->away[s->g_hi]) soon_heads(s, &b->heads[s->g_hi++]);
        if (s->g_lo == s->g_hi) break;
        if (!kv_have(s, s->g_lo, s->g_hi)) return ERR_RANGE;
        attention_heads(s, b, l);
        shared_heads(s, b, 0);
    }
    return ERR_OK;
}

enum err shared_attention(struct stage *s, const struct bound *b, uint32_t l, struct sharer *by)
{
    struct sharing *h = s->sharing;
    size_t all = (size_t)s->n * s->a->n_kv;

    norm_rows(s, s->x, b->attn_norm, s->quant_attn);
    start(s, s->a->n_kv);
    struct acts x = vecs_acts(&s->norm, 0, s->n);
    struct share_ask q = { .kind = SHARE_HEADS,
                           .layer = l,
                           .n = s->n,
                           .width = s->a->n_kv,
                           .row = s->row,
                           .x = &x,
                           .number = h->number + s->n_parts,
                           .held = &b->held };
    enum err e = by->ask(by, &q, h->away);
    whole_columns(h, h->away, s->n);
    if (!e) e = own_heads(s, b, l);
    own_todo(h, all);
    found_own(h, all);
    if (!e) e = collect(s, &q, by);
    if (!e && lost_todo(s)) e = ERR_NOTFOUND; /* its K and V are elsewhere */
    if (e) return e;
    sum_up(s, b, true);
    attention_after(s, b);
    return ERR_OK;
}

/* --- experts, dense parts --- */

/* Are all pieces that are to be done here held here? */
static bool todo_held(const struct stage *s, const struct share_ask *q)
{
    const struct sharing *h = s->sharing;
    const struct share_set *held = q->number ? &q->held->dense : &q->held->experts;

    for (size_t p = 0; p < (size_t)q->n * q->width; p++)
        if (h->todo[p] && !share_has(held, q->number ? q->number[p % q->width] : q->chosen[p]))
            return false;
    return true;
}

static enum err make_pieces(struct stage *s, const struct bound *b, const struct share_ask *q,
                            bool with_shared)
{
    struct sharing *h = s->sharing;
    uint32_t n;

    if (!b->moe) whole_columns(h, h->todo, q->n);
    if (!todo_held(s, q)) return ERR_NOTFOUND;
    n = b->moe ? mlp_experts(s, b, h->todo) : mlp_parts(s, b, h->todo);
    if (b->moe && with_shared) n = mlp_shared(s, b, n);
    if (!b->moe)
        for (uint32_t i = 0; i < n; i++) soon_mlp(s, s->piece[i].w);
    shared_mlp(s, b, 0, n);
    found_own(h, (size_t)q->n * q->width);
    return ERR_OK;
}

enum err shared_feed_forward(struct stage *s, const struct bound *b, uint32_t l, struct sharer *by)
{
    struct sharing *h = s->sharing;
    bool quantized = b->moe ? s->quant_shared || s->quant_experts : s->quant_dense;
    struct share_ask q = { .kind = b->moe ? SHARE_EXPERTS : SHARE_DENSE,
                           .layer = l,
                           .n = s->n,
                           .width = b->moe ? s->a->top_k : s->n_parts,
                           .row = s->row,
                           .held = &b->held };

    norm_rows(s, s->h, b->mlp_norm, quantized);
    start(s, q.width);
    struct acts x = vecs_acts(&s->norm, 0, s->n);
    q.x = &x;
    if (b->moe) {
        mlp_route(s, b);
        q.chosen = s->chosen, q.weight = s->weight;
    } else {
        q.number = h->number;
    }
    enum err e = by->ask(by, &q, h->away);
    if (!b->moe) whole_columns(h, h->away, s->n);
    own_todo(h, (size_t)q.n * q.width);
    if (!e) e = make_pieces(s, b, &q, true);
    if (!e) e = collect(s, &q, by);
    if (!e && lost_todo(s)) e = make_pieces(s, b, &q, false);
    if (e) return e;
    sum_up(s, b, false);
    mlp_after(s, b);
    return ERR_OK;
}
