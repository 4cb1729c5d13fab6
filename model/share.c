#include "model/share.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- which parts of a layer --- */

/* Is every tensor of these roles and this item, as far as the layer has it, bound? */
static bool bound_all(const struct arch *a, const struct layer *l, enum tensor_role lo,
                      enum tensor_role hi, uint32_t item)
{
    for (enum tensor_role r = lo; r <= hi; r++) {
        int32_t i = arch_find(a, l->index, r, item);
        if (i >= 0 && !(l->t && l->t[i].tile)) return false;
    }
    return true;
}

static bool part_empty(const struct arch *a, uint32_t part)
{
    uint32_t lo, hi;

    arch_part(a, part, &lo, &hi);
    return lo == hi;
}

void share_of(struct share *out, const struct arch *a, const struct layer *l)
{
    bool norms = bound_all(a, l, T_Q_NORM, T_K_NORM, 0);

    *out = (struct share){ .trunk = bound_all(a, l, T_ATTN_NORM, T_PREDICT_NORM, 0) };
    for (uint32_t g = 0; g < a->n_kv; g++)
        if (norms && bound_all(a, l, T_Q, T_V_BIAS, g)) share_add(&out->heads, g, g + 1);
    if (arch_is_moe(a, l->index)) {
        for (uint32_t e = 0; e < a->n_experts; e++)
            if (bound_all(a, l, T_EXPERT_GATE, T_EXPERT_DOWN, e))
                share_add(&out->experts, e, e + 1);
        return;
    }
    for (uint32_t p = 0; p < a->mlp_parts; p++)
        if (!part_empty(a, p) && bound_all(a, l, T_DENSE_GATE, T_DENSE_DOWN, p))
            share_add(&out->dense, p, p + 1);
}

bool share_whole(const struct share *s, const struct arch *a, uint32_t layer)
{
    bool whole = s->trunk, moe = arch_is_moe(a, layer);

    for (uint32_t g = 0; g < a->n_kv; g++) whole &= share_has(&s->heads, g);
    for (uint32_t e = 0; moe && e < a->n_experts; e++) whole &= share_has(&s->experts, e);
    for (uint32_t p = 0; !moe && p < a->mlp_parts; p++)
        whole &= part_empty(a, p) || share_has(&s->dense, p);
    return whole;
}

/* --- who computes which experts --- */

struct deal {
    const struct share_hand *hand;
    unsigned n_hands;
    uint16_t chosen[ARCH_EXPERTS_MAX]; /* experts, ascending */
    uint32_t n_chosen;
    uint32_t count[ARCH_EXPERTS_MAX]; /* rows that chose it */
    uint8_t who[ARCH_EXPERTS_MAX];
    uint8_t order[SHARE_HANDS_MAX];
    unsigned n_order;
    double load[SHARE_HANDS_MAX];
};

static double cost(const struct deal *d, unsigned hand, uint32_t expert)
{
    return d->hand[hand].expert_us + d->count[expert] * d->hand[hand].row_us;
}

/* The hand that would be done first with one more expert; SHARE_NOBODY when none holds it. */
static uint8_t first_done(const struct deal *d, uint32_t expert)
{
    uint8_t best = SHARE_NOBODY;
    double best_us = 0;

    for (unsigned i = 0; i < d->n_hands; i++) {
        double us = d->load[i] + cost(d, i, expert);
        if (!share_has(d->hand[i].experts, expert) || (best != SHARE_NOBODY && us >= best_us))
            continue;
        best = (uint8_t)i, best_us = us;
    }
    return best;
}

static unsigned holders(const struct deal *d, uint32_t expert)
{
    unsigned n = 0;

    for (unsigned i = 0; i < d->n_hands; i++) n += share_has(d->hand[i].experts, expert);
    return n;
}

/* Experts with this many rows and holders, each to who is done with it first. */
static void deal_some(struct deal *d, uint32_t rows, unsigned n_holders)
{
    for (uint32_t i = 0; i < d->n_chosen; i++) {
        uint32_t e = d->chosen[i];
        if (d->count[e] != rows || holders(d, e) != n_holders) continue;
        uint8_t to = d->who[e] = first_done(d, e);
        if (to != SHARE_NOBODY) d->load[to] += cost(d, to, e);
    }
}

/* Which experts are chosen, by how many rows; the most of one. */
static uint32_t count_rows(struct deal *d, const struct share_ask *q)
{
    struct share_set any = { { 0 } };
    uint32_t most = 0;

    for (size_t p = 0; p < (size_t)q->n * q->width; p++) {
        uint32_t e = q->chosen[p], n = ++d->count[e];
        share_add(&any, e, e + 1);
        if (n > most) most = n;
    }
    for (uint32_t w = 0; w < ARCH_EXPERTS_MAX / 64; w++)
        for (uint64_t left = any.bit[w]; left; left &= left - 1)
            d->chosen[d->n_chosen++] = (uint16_t)(w * 64 + (uint32_t)__builtin_ctzll(left));
    return most;
}

/* Do all hands that hold any of what was chosen hold all of it?  Then order has them: the leader,
 * if it is one of them, and members from the last to the first. */
static bool all_hold_all(struct deal *d)
{
    d->n_order = 0;
    for (unsigned i = 0; i < d->n_hands; i++) {
        unsigned hand = i == 0 ? 0 : d->n_hands - i;
        uint32_t n = 0;
        for (uint32_t c = 0; c < d->n_chosen; c++)
            n += share_has(d->hand[hand].experts, d->chosen[c]);
        if (n > 0 && n < d->n_chosen) return false;
        if (n > 0) d->order[d->n_order++] = (uint8_t)hand;
    }
    return d->n_order > 0;
}

/* Deal so that no hand is done after `us`: from the highest expert down, in that order.  False when
 * that is not enough time. */
static bool deal_within(struct deal *d, double us)
{
    unsigned at = 0;
    double load = d->hand[d->order[0]].start_us;

    for (uint32_t i = d->n_chosen; i-- > 0;) {
        uint32_t e = d->chosen[i];
        while (load + cost(d, d->order[at], e) > us) {
            if (++at == d->n_order) return false;
            load = d->hand[d->order[at]].start_us;
        }
        load += cost(d, d->order[at], e);
        d->who[e] = d->order[at];
    }
    return true;
}

/* Each hand neighbouring experts, the first member the lowest: then its pieces come first in the
 * rows' sums, and travel as one. */
static void deal_ranges(struct deal *d)
{
    enum { HALVINGS = 20 }; /* to a millionth */
    double lo = 0, hi = d->hand[d->order[0]].start_us;

    for (uint32_t i = 0; i < d->n_chosen; i++) hi += cost(d, d->order[0], d->chosen[i]);
    hi *= 1.001; /* one hand alone, whatever rounding does */
    for (unsigned i = 0; i < HALVINGS; i++) {
        double us = (lo + hi) / 2;
        *(deal_within(d, us) ? &hi : &lo) = us;
    }
    (void)deal_within(d, hi);
}

void share_deal(const struct share_ask *q, const struct share_hand *hands, unsigned n_hands,
                uint8_t *who)
{
    struct deal d = { .hand = hands, .n_hands = n_hands };
    size_t all = (size_t)q->n * q->width;
    uint32_t most = count_rows(&d, q);

    for (unsigned i = 0; i < n_hands; i++) d.load[i] = hands[i].start_us;
    if (all_hold_all(&d))
        deal_ranges(&d);
    else
        for (unsigned n = 0; n <= n_hands; n++) /* no choice first; then the largest */
            for (uint32_t rows = most; rows > 0; rows--) deal_some(&d, rows, n);
    for (size_t p = 0; p < all; p++) who[p] = d.who[q->chosen[p]];
}

/* --- what travels --- */

static bool quantized(const struct arch *a, enum share_kind k)
{
    enum wrole r = k == SHARE_HEADS ? WR_ATTN : k == SHARE_EXPERTS ? WR_EXPERTS : WR_DENSE;
    return wtype_quantized(a->type[r]);
}

size_t share_x_bytes(const struct arch *a, enum share_kind k)
{
    size_t blocks = (a->hidden + BLOCK - 1) / BLOCK;
    return quantized(a, k) ? blocks * (BLOCK + sizeof(float)) : a->hidden * sizeof(float);
}

static void put_x(uint8_t *to, const struct acts *x, uint32_t row, bool q)
{
    size_t n = (size_t)x->blocks * BLOCK;

    if (!q) {
        memcpy(to, x->f + row * x->f_stride, x->cols * sizeof *x->f);
        return;
    }
    memcpy(to, x->q + row * n, n);
    memcpy(to + n, x->d + (size_t)row * x->blocks, x->blocks * sizeof *x->d);
}

/* Dense parts of [lo, hi) that are not empty; head groups. */
static uint32_t count_parts(const struct arch *a, const struct share_work *w)
{
    uint32_t n = 0;

    if (w->kind == SHARE_HEADS) return w->hi - w->lo;
    for (uint32_t p = w->lo; p < w->hi; p++) n += !part_empty(a, p);
    return n;
}

static enum err check_row_picks(const struct arch *a, const uint8_t *p, unsigned n)
{
    uint16_t e, last = 0;
    float weight;

    for (unsigned j = 0; j < n; j++, p += SHARE_PICK_BYTES, last = e) {
        memcpy(&e, p, sizeof e);
        memcpy(&weight, p + sizeof e, sizeof weight);
        if (e >= a->n_experts || (j > 0 && e <= last) || !isfinite(weight)) return ERR_RANGE;
    }
    return ERR_OK;
}

static enum err check_picks(const struct arch *a, const struct share_work *w)
{
    const uint8_t *p = w->picks, *end = p + w->picks_len;

    for (uint32_t i = 0; i < w->n; i++) {
        if (end - p < SHARE_PICKS_HEAD) return ERR_MALFORMED;
        unsigned n = p[0], lead = p[1];
        if (n < 1 || n > a->top_k || lead > n) return ERR_RANGE;
        p += SHARE_PICKS_HEAD;
        if ((size_t)(end - p) < n * (size_t)SHARE_PICK_BYTES) return ERR_MALFORMED;
        if (check_row_picks(a, p, n)) return ERR_RANGE;
        p += n * (size_t)SHARE_PICK_BYTES;
    }
    return p == end ? ERR_OK : ERR_MALFORMED;
}

enum err share_check(const struct arch *a, const struct share_work *w)
{
    if (w->layer >= arch_all_layers(a) || w->n < 1 || w->n > BATCH_MAX) return ERR_RANGE;
    bool moe = arch_is_moe(a, w->layer);
    switch (w->kind) {
    case SHARE_HEADS:
        if (w->lo >= w->hi || w->hi > a->n_kv) return ERR_RANGE;
        break;
    case SHARE_DENSE:
        if (moe || w->lo >= w->hi || w->hi > a->mlp_parts) return ERR_RANGE;
        break;
    case SHARE_EXPERTS: return moe ? check_picks(a, w) : ERR_RANGE;
    default: return ERR_RANGE;
    }
    uint32_t n = count_parts(a, w);
    return n > 0 && w->lead <= n ? ERR_OK : ERR_RANGE;
}

/* Bytes of the answer for a row of so many pieces. */
static size_t row_answer(const struct arch *a, uint32_t n, uint32_t lead)
{
    return (lead > 0 ? a->hidden * sizeof(float) : 0) + (n - lead) * arch_row_bytes(a);
}

size_t share_answer_bytes(const struct arch *a, const struct share_work *w)
{
    const uint8_t *p = w->picks;
    size_t bytes = 0;

    if (w->kind != SHARE_EXPERTS) return w->n * row_answer(a, count_parts(a, w), w->lead);
    for (uint32_t i = 0; i < w->n; i++) {
        bytes += row_answer(a, p[0], p[1]);
        p += SHARE_PICKS_HEAD + p[0] * (size_t)SHARE_PICK_BYTES;
    }
    return bytes;
}

/* --- a part of an ask --- */

/* What a hand has of a row: how many pieces, and how many from the first on that are worth sending
 * as a sum. */
struct mine {
    uint32_t n, lead;
};

static struct mine mine_of(const struct arch *a, const uint8_t *who, uint32_t width, uint8_t hand)
{
    struct mine m = { 0 };

    for (uint32_t j = 0; j < width; j++) {
        m.lead += who[j] == hand && m.n == j;
        m.n += who[j] == hand;
    }
    if (m.lead * arch_row_bytes(a) <= a->hidden * sizeof(float)) m.lead = 0;
    return m;
}

static uint8_t *put_picks(uint8_t *to, const struct share_ask *q, const uint8_t *who, uint8_t hand,
                          uint32_t row, struct mine m)
{
    *to++ = (uint8_t)m.n;
    *to++ = (uint8_t)m.lead;
    for (uint32_t j = 0; j < q->width; j++) {
        size_t p = (size_t)row * q->width + j;
        uint16_t e = (uint16_t)q->chosen[p];
        if (who[p] != hand) continue;
        memcpy(to, &e, sizeof e);
        memcpy(to + sizeof e, &q->weight[p], sizeof q->weight[p]);
        to += SHARE_PICK_BYTES;
    }
    return to;
}

/* Head groups or dense parts of the hand, from the first to the last. */
static void set_range(struct share_work *w, const struct arch *a, const struct share_ask *q,
                      const uint8_t *who, uint8_t hand)
{
    w->lead = mine_of(a, who, q->width, hand).lead;
    w->lo = UINT32_MAX;
    for (uint32_t j = 0; j < q->width; j++) {
        if (who[j] != hand) continue;
        if (w->lo == UINT32_MAX) w->lo = q->number[j];
        w->hi = q->number[j] + 1;
    }
}

enum err share_part_make(struct share_part *p, const struct arch *a, const struct share_ask *q,
                         const uint8_t *who, uint8_t hand)
{
    size_t x_bytes = share_x_bytes(a, q->kind);
    size_t picks = q->chosen ? SHARE_PICKS_HEAD + q->width * (size_t)SHARE_PICK_BYTES : 0;
    uint32_t rows = 0;

    *p = (struct share_part){ .work = { .kind = q->kind, .layer = q->layer } };
    for (uint32_t i = 0; i < q->n; i++)
        rows += mine_of(a, who + (size_t)i * q->width, q->width, hand).n > 0;
    if (rows == 0) return ERR_OK;
    p->block = malloc(rows * (sizeof *p->at + x_bytes + picks));
    if (!p->block) return ERR_NOMEM;
    p->at = p->block;
    uint8_t *x = (uint8_t *)(p->at + rows), *to = x + rows * x_bytes;
    p->work.x = x;
    p->work.picks = to;
    for (uint32_t i = 0; i < q->n; i++) {
        struct mine m = mine_of(a, who + (size_t)i * q->width, q->width, hand);
        if (m.n == 0) continue;
        put_x(x + p->work.n * x_bytes, q->x, i, quantized(a, q->kind));
        if (q->chosen) to = put_picks(to, q, who, hand, i, m);
        p->at[p->work.n++] = i;
    }
    p->work.picks_len = (size_t)(to - p->work.picks);
    if (!q->chosen) set_range(&p->work, a, q, who, hand);
    return ERR_OK;
}

void share_part_free(struct share_part *p)
{
    free(p->block);
    *p = (struct share_part){ 0 };
}

void share_part_place(const struct share_part *p, const struct arch *a, const struct share_ask *q,
                      const uint8_t *who, uint8_t hand, const uint8_t *answer,
                      struct share_answer *to)
{
    for (uint32_t n = 0; n < p->work.n; n++) {
        uint32_t i = p->at[n], seen = 0;
        const uint8_t *mine = who + (size_t)i * q->width;
        struct mine m = mine_of(a, mine, q->width, hand);
        if (m.lead > 0) {
            to->sum[i] = answer, to->lead[i] = (uint8_t)m.lead;
            answer += a->hidden * sizeof(float);
        }
        for (uint32_t j = 0; j < q->width; j++) {
            if (mine[j] != hand || seen++ < m.lead) continue;
            to->piece[(size_t)i * q->width + j] = answer;
            answer += arch_row_bytes(a);
        }
    }
}
