#include "tests/model/group.h"

#include "model/stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t draw(uint64_t *seed, uint32_t n)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*seed >> 40) % n;
}

/* --- who holds what --- */

/* Neighbouring items to hands [from, n_hands) in turns, of random length; some may have none. */
static void deal_ranges(uint8_t *who, uint32_t n, unsigned from, unsigned n_hands, uint64_t *seed)
{
    uint32_t at = 0, first = draw(seed, n_hands -= from);

    for (unsigned i = 0; i < n_hands; i++) {
        uint32_t some = i + 1 == n_hands ? n - at : draw(seed, (n - at) + 1);
        if (some > n / 2 + 1 && i + 1 < n_hands) some = n / 2 + 1 < n - at ? n / 2 + 1 : n - at;
        memset(who + at, (int)(from + (first + i) % n_hands), some);
        at += some;
    }
}

/* The layer as a hand sees it: what it does not hold has no tiles. */
static void mask(struct layer *to, const struct arch *a, const struct layer *from,
                 const struct share *held)
{
    uint32_t n = arch_n_specs(a, from->index);

    to->index = from->index;
    to->t = malloc(n * sizeof *to->t);
    memcpy(to->t, from->t, n * sizeof *to->t);
    for (uint32_t i = 0; i < n; i++) {
        struct tensor_spec s = arch_spec(a, from->index, i);
        bool of_heads = s.role == T_Q_NORM || s.role == T_K_NORM;
        bool has = s.shard == SHARD_TRUNK    ? held->trunk || of_heads
                   : s.shard == SHARD_HEADS  ? share_has(&held->heads, s.item)
                   : s.shard == SHARD_EXPERT ? share_has(&held->experts, s.item)
                                             : share_has(&held->dense, s.item);
        if (!has) to->t[i].tile = NULL;
    }
}

static void hold_experts(struct group *g, uint32_t l, enum group_way way, uint64_t *seed)
{
    for (uint32_t e = 0; e < g->a->n_experts; e++) {
        unsigned one = draw(seed, g->n);
        if (way == LEADER_HAS_NOTHING) one = 1 + draw(seed, g->n - 1);
        if (way == HEADS_ONLY) one = 0;
        share_add(&g->held[one][l].experts, e, e + 1);
        if (way != LEADER_HAS_NOTHING && way != HEADS_ONLY && draw(seed, 3) == 0)
            share_add(&g->held[draw(seed, g->n)][l].experts, e, e + 1);
    }
}

static void hold_layer(struct group *g, uint32_t l, enum group_way way, uint64_t *seed)
{
    uint8_t *heads = g->heads + (size_t)l * g->a->n_kv;
    uint8_t *dense = g->dense + (size_t)l * g->a->mlp_parts;
    unsigned from = way == LEADER_HAS_NOTHING;
    bool alone = draw(seed, 4) == 0;

    deal_ranges(heads, g->a->n_kv, from, g->n, seed);
    deal_ranges(dense, g->a->mlp_parts, from, g->n, seed);
    if (alone || way == MLP_ONLY) memset(heads, 0, g->a->n_kv);
    if (alone || way == HEADS_ONLY) memset(dense, 0, g->a->mlp_parts);
    for (uint32_t i = 0; i < g->a->n_kv; i++) share_add(&g->held[heads[i]][l].heads, i, i + 1);
    for (uint32_t i = 0; i < g->a->mlp_parts; i++) share_add(&g->held[dense[i]][l].dense, i, i + 1);
    hold_experts(g, l, alone ? HEADS_ONLY : way, seed);
    g->held[0][l].trunk = true;
    for (unsigned h = 0; way == ALL_HOLD_ALL && h < g->n; h++) {
        share_add(&g->held[h][l].heads, 0, g->a->n_kv);
        share_add(&g->held[h][l].dense, 0, g->a->mlp_parts);
        share_add(&g->held[h][l].experts, 0, g->a->n_experts);
    }
}

/* --- the sharer --- */

static struct session *session_of(struct group *g, const struct kv *kv)
{
    for (unsigned i = 0; i < GROUP_SESSIONS; i++)
        if (g->session[i].kv[0] == kv) return &g->session[i];
    fail_msg("nobody's kv");
    return NULL;
}

static void assign(struct group *g, const struct share_ask *q)
{
    uint32_t l = q->layer - g->lo;
    struct share_hand hand[GROUP_MAX];

    if (q->kind == SHARE_EXPERTS) {
        for (unsigned h = 0; h < g->n; h++)
            hand[h] = (struct share_hand){ &g->held[h][l].experts, h ? 0 : 100, 100, 1 };
        share_deal(q, hand, g->n, g->who);
        return;
    }
    for (uint32_t i = 0; i < q->n; i++)
        for (uint32_t j = 0; j < q->width; j++)
            g->who[i * q->width + j] = q->kind == SHARE_HEADS
                                           ? g->heads[l * g->a->n_kv + q->number[j]]
                                           : g->dense[l * g->a->mlp_parts + q->number[j]];
}

/* The member's answer, from bytes in memory of their own as from a network. */
static uint8_t *do_part(struct group *g, unsigned h, const struct share_ask *q)
{
    struct share_work w = g->part[h].work;
    struct row *row = malloc(w.n * sizeof *row);
    uint8_t *x = malloc(w.n * share_x_bytes(g->a, w.kind) + 1), *picks = malloc(w.picks_len + 1);

    memcpy(x + 1, w.x, w.n * share_x_bytes(g->a, w.kind)); /* any alignment */
    memcpy(picks, w.picks, w.picks_len);
    w.x = x + 1, w.picks = picks, w.row = row;
    for (uint32_t i = 0; i < w.n; i++)
        row[i] = (struct row){ session_of(g, q->row[g->part[h].at[i]].kv)->kv[h],
                               q->row[g->part[h].at[i]].pos };
    assert_int_equal(share_check(g->a, &w), ERR_OK);
    size_t bytes = share_answer_bytes(g->a, &w);
    uint8_t *out = malloc(bytes);
    g->bytes += bytes;
    assert_int_equal(stage_share_work(g->stage[h], &w, out), ERR_OK);
    free(picks);
    free(x);
    free(row);
    return out;
}

static void forget(struct group *g)
{
    for (unsigned h = 1; h < g->n; h++) {
        share_part_free(&g->part[h]);
        free(g->answer[h]);
        g->answer[h] = NULL;
    }
}

static enum err ask(struct sharer *by, const struct share_ask *q, bool *away)
{
    struct group *g = (struct group *)by;

    forget(g);
    assign(g, q);
    for (unsigned h = 1; h < g->n; h++) {
        assert_int_equal(share_part_make(&g->part[h], g->a, q, g->who, (uint8_t)h), ERR_OK);
        if (g->part[h].work.n == 0) continue;
        bool lost = q->kind != SHARE_HEADS && g->lose_every && ++g->n_asked % g->lose_every == 0;
        g->n_lost += lost;
        if (!lost) g->answer[h] = do_part(g, h, q);
    }
    for (size_t p = 0; p < (size_t)q->n * q->width; p++) away[p] = g->who[p] != 0;
    return ERR_OK;
}

static enum err collect(struct sharer *by, const struct share_ask *q, struct share_answer *to)
{
    struct group *g = (struct group *)by;

    if (++g->n_collects == g->fail_at) return ERR_CLOSED;
    for (unsigned h = 1; h < g->n; h++)
        if (g->answer[h])
            share_part_place(&g->part[h], g->a, q, g->who, (uint8_t)h, g->answer[h], to);
    return ERR_OK;
}

/* --- opening and closing --- */

void group_open(struct group *g, const struct arch *a, const struct layer *whole, uint32_t lo,
                uint32_t hi, unsigned n, enum group_way way, uint32_t rows_max,
                const struct kernels *k, struct workers *w, uint64_t seed)
{
    uint32_t n_layers = hi - lo;

    *g = (struct group){ .sharer = { ask, collect }, .a = a, .lo = lo, .hi = hi, .n = n };
    g->heads = calloc(n_layers, a->n_kv);
    g->dense = calloc(n_layers, a->mlp_parts);
    g->who = malloc((size_t)rows_max * (a->n_kv + a->mlp_parts + a->top_k));
    for (unsigned h = 0; h < n; h++) {
        g->held[h] = calloc(n_layers, sizeof *g->held[h]);
        g->layer[h] = calloc(n_layers, sizeof *g->layer[h]);
    }
    for (uint32_t l = 0; l < n_layers; l++) hold_layer(g, l, way, &seed);
    for (unsigned h = 0; h < n; h++) {
        for (uint32_t l = 0; l < n_layers; l++) mask(&g->layer[h][l], a, &whole[l], &g->held[h][l]);
        assert_int_equal(
            stage_open(h ? &g->stage[h] : &g->leader, a, g->layer[h], lo, hi, rows_max, k, w),
            ERR_OK);
    }
}

struct kv *group_session(struct group *g, unsigned i, uint32_t cap)
{
    for (unsigned h = 0; h < g->n; h++)
        assert_int_equal(kv_open(&g->session[i].kv[h], g->a, g->lo, g->hi, cap), ERR_OK);
    return g->session[i].kv[0];
}

void group_close(struct group *g)
{
    forget(g);
    for (unsigned i = 0; i < GROUP_SESSIONS; i++)
        for (unsigned h = 0; h < g->n; h++) kv_close(g->session[i].kv[h]);
    for (unsigned h = 0; h < g->n; h++) {
        stage_close(h ? g->stage[h] : g->leader);
        for (uint32_t l = 0; l < g->hi - g->lo; l++) free(g->layer[h][l].t);
        free(g->layer[h]);
        free(g->held[h]);
    }
    free(g->heads);
    free(g->dense);
    free(g->who);
}
