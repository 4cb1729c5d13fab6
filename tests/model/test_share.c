/* Layers shared by two to five hands, split at random, against one process alone, bit for bit. */
#include "model/stage.h"
#include "stage/pool.h"
#include "tests/model/group.h"
#include "tests/model/toy.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SESSIONS = 3, ROWS = 40, BATCH = 24 };

/* Some sessions: what goes in, and what one process makes of it. */
struct work {
    struct toy t;
    uint32_t layers;
    uint8_t *in[SESSIONS], *want[SESSIONS]; /* [ROWS][arch_row_bytes] */
};

static void work_open(struct work *w, unsigned shape, enum wtype type, const struct kernels *k)
{
    struct stage *s;
    struct nonfinite bad;
    struct row rows[ROWS];

    memset(w, 0, sizeof *w);
    toy_shape(shape, &w->t.a);
    toy_types(&w->t.a, type);
    toy_fill(&w->t, 17 + shape);
    w->layers = w->t.a.n_layers;
    size_t row = arch_row_bytes(&w->t.a);
    uint64_t seed = 77 + shape;
    float *f = malloc(w->t.a.hidden * sizeof *f);
    assert_int_equal(stage_open(&s, &w->t.a, w->t.layer, 0, w->layers, ROWS, k, workers_inline()),
                     ERR_OK);
    for (unsigned i = 0; i < SESSIONS; i++) {
        struct kv *kv;
        w->in[i] = malloc(ROWS * row);
        w->want[i] = malloc(ROWS * row);
        for (uint32_t r = 0; r < ROWS; r++) {
            for (uint32_t c = 0; c < w->t.a.hidden; c++) f[c] = toy_random(&seed);
            k->narrow(w->in[i] + r * row, f, w->t.a.hidden, w->t.a.exchange);
        }
        memcpy(w->want[i], w->in[i], ROWS * row);
        assert_int_equal(kv_open(&kv, &w->t.a, 0, w->layers, ROWS), ERR_OK);
        for (uint32_t r = 0; r < ROWS; r++) rows[r] = (struct row){ kv, r };
        assert_int_equal(stage_forward(s, rows, ROWS, w->want[i], &bad), ERR_OK);
        kv_close(kv);
    }
    stage_close(s);
    free(f);
}

static void work_close(struct work *w)
{
    for (unsigned i = 0; i < SESSIONS; i++) {
        free(w->in[i]);
        free(w->want[i]);
    }
    toy_free(&w->t);
}

/* A batch of the sessions' next rows, 0 to 7 of each; 0 when all is done. */
static uint32_t next_batch(struct work *w, struct kv *const *kv, uint32_t step, uint8_t *x,
                           struct row *rows, unsigned *from)
{
    size_t row = arch_row_bytes(&w->t.a);
    uint32_t n = 0;

    for (unsigned i = 0; i < SESSIONS; i++) {
        uint32_t some = 1 + (step * (i + 3)) % 7, len = kv_len(kv[i]);
        for (uint32_t j = 0; j < some && len + j < ROWS; j++, n++) {
            memcpy(x + n * row, w->in[i] + (len + j) * row, row);
            rows[n] = (struct row){ kv[i], len + j };
            from[n] = i;
        }
    }
    return n;
}

/* All sessions to their ends; a batch that fails as it is told to is tried again. */
static void run(struct work *w, struct group *g)
{
    size_t row = arch_row_bytes(&w->t.a);
    uint8_t *x = malloc(BATCH * row);
    struct row rows[BATCH];
    unsigned from[BATCH];
    struct kv *kv[SESSIONS];
    struct nonfinite bad;
    uint32_t n;

    for (unsigned i = 0; i < SESSIONS; i++) kv[i] = group_session(g, i, ROWS);
    for (uint32_t step = 0; (n = next_batch(w, kv, step, x, rows, from)) > 0; step++) {
        enum err e = stage_forward_shared(g->leader, 0, w->layers, rows, n, x, &g->sharer, &bad);
        if (e == ERR_CLOSED && g->n_collects == g->fail_at) {
            for (uint32_t i = 0; i < n; i++) assert_in_range(rows[i].pos, kv_len(rows[i].kv), ROWS);
            continue;
        }
        assert_int_equal(e, ERR_OK);
        for (uint32_t j = 0; j < n; j++)
            assert_memory_equal(x + j * row, w->want[from[j]] + rows[j].pos * row, row);
    }
    free(x);
}

/* --- tests --- */

static void every_split(void **state)
{
    static const enum wtype types[] = { WT_Q40, WT_Q80, WT_BF16, WT_F32 };
    static const unsigned hands[] = { 2, 3, 5 };
    const struct kernels *k = kernels_pick(NULL, NULL);
    unsigned seed = 1;
    (void)state;

    for (unsigned shape = 0; shape < TOYS; shape++)
        for (unsigned type = 0; type < sizeof types / sizeof *types; type++) {
            struct work w;
            work_open(&w, shape, types[type], k);
            for (unsigned h = 0; h < 3; h++)
                for (enum group_way way = 0; way < GROUP_WAYS; way++) {
                    struct group g;
                    group_open(&g, &w.t.a, w.t.layer, 0, w.layers, hands[h], way, BATCH, k,
                               workers_inline(), seed++);
                    run(&w, &g);
                    group_close(&g);
                }
            work_close(&w);
        }
}

/* Answers of experts and dense parts that never come: the leader computes those pieces itself. */
static void lost_answers(void **state)
{
    const struct kernels *k = kernels_pick(NULL, NULL);
    (void)state;

    for (unsigned shape = 0; shape < TOYS; shape++)
        for (unsigned every = 1; every <= 3; every++) {
            struct work w;
            struct group g;
            work_open(&w, shape, WT_Q40, k);
            group_open(&g, &w.t.a, w.t.layer, 0, w.layers, 3, ALL_HOLD_ALL, BATCH, k,
                       workers_inline(), 5 + every);
            g.lose_every = every;
            run(&w, &g);
            assert_true(g.n_lost > 0);
            group_close(&g);
            work_close(&w);
        }
}

/* A call that ends in the middle of a layer leaves its sessions as they were; members go over the
 * same positions again. */
static void failed_calls(void **state)
{
    const struct kernels *k = kernels_pick(NULL, NULL);
    struct work w;
    (void)state;

    work_open(&w, 1, WT_Q80, k);
    for (unsigned at = 1; at < 40; at += 3) {
        struct group g;
        group_open(&g, &w.t.a, w.t.layer, 0, w.layers, 3, ALL_OVER, BATCH, k, workers_inline(), 9);
        g.fail_at = at;
        run(&w, &g);
        assert_true(g.n_collects > at);
        group_close(&g);
    }
    work_close(&w);
}

/* Threads that share passes, every kernel table, members that do a work in several turns. */
static void threads_and_turns(void **state)
{
    struct pool *p;
    (void)state;

    assert_int_equal(pool_open(&p, 3), ERR_OK);
    for (unsigned n = 0; kernels_nth(n); n++)
        for (unsigned shape = 0; shape < TOYS; shape++) {
            struct work w;
            struct group g;
            work_open(&w, shape, WT_Q40, kernels_nth(n));
            group_open(&g, &w.t.a, w.t.layer, 0, w.layers, 3, ALL_OVER, BATCH, kernels_nth(n),
                       pool_workers(p), 3 + shape);
            for (unsigned h = 1; h < g.n; h++) {
                stage_close(g.stage[h]);
                assert_int_equal(stage_open(&g.stage[h], g.a, g.layer[h], 0, w.layers, 4,
                                            kernels_nth(n), pool_workers(p)),
                                 ERR_OK);
            }
            run(&w, &g);
            group_close(&g);
            work_close(&w);
        }
    pool_close(p);
}

/* What one process finds not finite, a group finds in the same layer and row. */
static void not_finite(void **state)
{
    static const enum tensor_role where[] = { T_K, T_O, T_EXPERT_DOWN, T_ATTN_NORM, T_MLP_NORM };
    const struct kernels *k = kernels_pick(NULL, NULL);
    uint8_t *x, *all;
    (void)state;

    for (unsigned i = 0; i < sizeof where / sizeof *where; i++) {
        struct work w;
        struct group g;
        struct stage *alone;
        struct kv *kv;
        struct row rows[4];
        struct nonfinite want = { 0 }, got = { 0 };
        work_open(&w, 4, WT_F32, k); /* all layers MoE */
        size_t row = arch_row_bytes(&w.t.a);
        for (uint32_t e = 0; e < (where[i] == T_EXPERT_DOWN ? w.t.a.n_experts : 1); e++) {
            struct tensor *t = &w.t.layer[1].t[arch_find(&w.t.a, 1, where[i], e)];
            float *f = (float *)(uintptr_t)t->tile[0];
            for (uint32_t c = 0; c < 16 * t->cols; c++)
                f[c] *= 1e38f; /* twice as large overflows */
            for (uint32_t c = 0; c < 16 * t->cols; c++) f[c] *= 10;
        }
        x = malloc(4 * row), all = malloc(4 * row);
        memcpy(all, w.in[0], 4 * row);
        memcpy(x, w.in[0], 4 * row);
        assert_int_equal(stage_open(&alone, &w.t.a, w.t.layer, 0, w.layers, 4, k, workers_inline()),
                         ERR_OK);
        assert_int_equal(kv_open(&kv, &w.t.a, 0, w.layers, ROWS), ERR_OK);
        for (uint32_t r = 0; r < 4; r++) rows[r] = (struct row){ kv, r };
        assert_int_equal(stage_forward(alone, rows, 4, all, &want), ERR_NONFINITE);
        group_open(&g, &w.t.a, w.t.layer, 0, w.layers, 3, LEADER_HAS_NOTHING, 4, k,
                   workers_inline(), 2);
        kv_close(kv);
        kv = group_session(&g, 0, ROWS);
        for (uint32_t r = 0; r < 4; r++) rows[r] = (struct row){ kv, r };
        assert_int_equal(stage_forward_shared(g.leader, 0, w.layers, rows, 4, x, &g.sharer, &got),
                         ERR_NONFINITE);
        assert_int_equal(got.layer, want.layer);
        assert_int_equal(got.pos, want.pos);
        assert_int_equal(kv_len(kv), 0);
        group_close(&g);
        stage_close(alone);
        free(x);
        free(all);
        work_close(&w);
    }
}

/* --- what is missing --- */

static enum err keep_all(struct sharer *s, const struct share_ask *q, bool *away)
{
    (void)s, (void)q, (void)away;
    return ERR_OK;
}
static enum err send_all(struct sharer *s, const struct share_ask *q, bool *away)
{
    (void)s;
    memset(away, true, (size_t)q->n * q->width);
    return ERR_OK;
}
static enum err find_none(struct sharer *s, const struct share_ask *q, struct share_answer *to)
{
    (void)s, (void)q, (void)to;
    return ERR_OK;
}
static enum err claim_too_much(struct sharer *s, const struct share_ask *q, struct share_answer *to)
{
    static const uint8_t some[4096];
    (void)s;
    to->sum[0] = some;
    to->lead[0] = (uint8_t)(q->width + 1);
    return ERR_OK;
}

static void missing_parts(void **state)
{
    const struct kernels *k = kernels_pick(NULL, NULL);
    struct sharer keeps = { keep_all, find_none }, sends = { send_all, find_none };
    struct sharer claims = { send_all, claim_too_much };
    struct work w;
    struct group g, full;
    struct nonfinite bad = { 99, 99 };
    (void)state;

    work_open(&w, 0, WT_Q40, k);
    size_t row = arch_row_bytes(&w.t.a);
    uint8_t *x = malloc(row);
    memcpy(x, w.in[0], row);
    group_open(&g, &w.t.a, w.t.layer, 0, w.layers, 2, LEADER_HAS_NOTHING, 4, k, workers_inline(),
               3);
    group_open(&full, &w.t.a, w.t.layer, 0, w.layers, 2, ALL_HOLD_ALL, 4, k, workers_inline(), 3);
    struct row at = { group_session(&g, 0, 4), 0 }, in_full = { group_session(&full, 0, 4), 0 };
    struct row member = { g.session[0].kv[1], 0 };

    assert_int_equal(stage_forward(g.leader, &at, 1, x, &bad), ERR_NOTFOUND);
    assert_int_equal(stage_forward_shared(g.leader, 0, 3, &at, 1, x, &keeps, &bad), ERR_NOTFOUND);
    assert_int_equal(stage_forward_shared(g.stage[1], 0, 3, &member, 1, x, &sends, &bad),
                     ERR_NOTFOUND); /* no trunk */
    assert_int_equal(bad.layer, 0);
    assert_int_equal(stage_forward_shared(full.leader, 0, 3, &in_full, 1, x, &sends, &bad),
                     ERR_NOTFOUND); /* heads that nobody computed: K and V are lost */
    assert_int_equal(stage_forward_shared(full.leader, 0, 3, &in_full, 1, x, &claims, &bad),
                     ERR_RANGE);
    assert_int_equal(kv_len(in_full.kv), 0);
    assert_memory_equal(x, w.in[0], row);
    assert_int_equal(stage_forward_shared(full.leader, 0, 3, &in_full, 1, x, &keeps, &bad), ERR_OK);
    assert_memory_equal(x, w.want[0], row);

    struct kv *half; /* a session without the head groups that the leader shall compute */
    memcpy(x, w.in[0], row);
    assert_int_equal(kv_open_heads(&half, &w.t.a, 0, 3, 1, 2, 4), ERR_OK);
    assert_int_equal(
        stage_forward_shared(full.leader, 0, 3, &(struct row){ half, 0 }, 1, x, &keeps, &bad),
        ERR_RANGE);
    kv_close(half);
    group_close(&g);
    group_close(&full);
    free(x);
    work_close(&w);
}

/* --- a member and what it is asked --- */

/* A row of picks: expert numbers, -1 last. */
static size_t picks(uint8_t *to, unsigned lead, const int *expert)
{
    uint8_t *p = to + SHARE_PICKS_HEAD;
    float weight = 0.5f;

    to[0] = 0, to[1] = (uint8_t)lead;
    for (; *expert >= 0; expert++, to[0]++, p += SHARE_PICK_BYTES) {
        uint16_t e = (uint16_t)*expert;
        memcpy(p, &e, sizeof e);
        memcpy(p + sizeof e, &weight, sizeof weight);
    }
    return (size_t)(p - to);
}

static void hostile_work(void **state)
{
    struct arch a;
    uint8_t p[256];
    (void)state;

    toy_shape(0, &a); /* layer 0 dense in 3 parts, 2 head groups, 8 experts, 3 chosen */
    struct share_work heads = { .kind = SHARE_HEADS, .layer = 1, .n = 1, .lo = 0, .hi = 2 };
    struct share_work dense = { .kind = SHARE_DENSE, .layer = 0, .n = 1, .lo = 1, .hi = 3 };
    struct share_work bad;
    assert_int_equal(share_check(&a, &heads), ERR_OK);
    assert_int_equal(share_check(&a, &dense), ERR_OK);
    assert_int_equal(share_answer_bytes(&a, &heads), 2 * arch_row_bytes(&a));
    heads.lead = 2;
    assert_int_equal(share_answer_bytes(&a, &heads), a.hidden * sizeof(float));
    bad = heads, bad.lead = 3;
    assert_int_equal(share_check(&a, &bad), ERR_RANGE);
    bad = heads, bad.hi = 3;
    assert_int_equal(share_check(&a, &bad), ERR_RANGE);
    bad = heads, bad.lo = 2;
    assert_int_equal(share_check(&a, &bad), ERR_RANGE);
    bad = heads, bad.layer = 3;
    assert_int_equal(share_check(&a, &bad), ERR_RANGE);
    bad = heads, bad.n = 0;
    assert_int_equal(share_check(&a, &bad), ERR_RANGE);
    bad = heads, bad.n = BATCH_MAX + 1;
    assert_int_equal(share_check(&a, &bad), ERR_RANGE);
    bad = heads, bad.kind = (enum share_kind)0;
    assert_int_equal(share_check(&a, &bad), ERR_RANGE);
    bad = dense, bad.layer = 1; /* not a dense layer */
    assert_int_equal(share_check(&a, &bad), ERR_RANGE);
    bad = dense, bad.hi = 4;
    assert_int_equal(share_check(&a, &bad), ERR_RANGE);

    static const struct {
        enum err want;
        unsigned lead;
        int expert[5], cut; /* bytes missing, or too many */
    } rows[] = {
        { ERR_OK, 0, { 0, 7, -1 }, 0 },
        { ERR_OK, 3, { 1, 2, 3, -1 }, 0 },
        { ERR_RANGE, 0, { -1 }, 0 },
        { ERR_RANGE, 0, { 8, -1 }, 0 },
        { ERR_RANGE, 0, { 3, 3, -1 }, 0 },
        { ERR_RANGE, 0, { 4, 3, -1 }, 0 },
        { ERR_RANGE, 3, { 1, 2, -1 }, 0 },
        { ERR_RANGE, 0, { 0, 1, 2, 3, -1 }, 0 },
        { ERR_MALFORMED, 0, { 0, 7, -1 }, 1 },
        { ERR_MALFORMED, 0, { 0, 7, -1 }, -1 },
        { ERR_MALFORMED, 0, { 0, 7, -1 }, 14 },
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        memset(p, 0, sizeof p);
        int n = (int)picks(p, rows[i].lead, rows[i].expert) - rows[i].cut;
        struct share_work w = {
            .kind = SHARE_EXPERTS, .layer = 1, .n = 1, .picks = p, .picks_len = (size_t)n
        };
        assert_int_equal(share_check(&a, &w), rows[i].want);
        w.layer = 0; /* not a layer of experts */
        assert_int_equal(share_check(&a, &w), ERR_RANGE);
    }
    struct share_work w = { .kind = SHARE_EXPERTS, .layer = 1, .n = 1, .picks = p };
    w.picks_len = picks(p, 0, (const int[]){ 1, -1 });
    memcpy(p + SHARE_PICKS_HEAD + 2, &(float){ NAN }, sizeof(float));
    assert_int_equal(share_check(&a, &w), ERR_RANGE);
}

/* Positions follow each other in each layer, or go over old ones; parts and K and V must be there.
 */
static void member_refuses(void **state)
{
    const struct kernels *k = kernels_pick(NULL, NULL);
    struct work w;
    struct group g;
    struct kv *kv;
    (void)state;

    work_open(&w, 0, WT_Q40, k);
    group_open(&g, &w.t.a, w.t.layer, 0, w.layers, 2, LEADER_HAS_NOTHING, 4, k, workers_inline(),
               3);
    struct stage *s = g.stage[1];
    uint32_t layer = 0;
    while (!share_has(&g.held[1][layer].heads, 0)) layer++;
    assert_int_equal(kv_open_heads(&kv, &w.t.a, layer, layer + 1, 0, 1, 3), ERR_OK);
    uint8_t *x = calloc(4, share_x_bytes(&w.t.a, SHARE_HEADS)), *out = malloc(1 << 16);
    struct row rows[4];
    struct share_work work = { SHARE_HEADS, layer, 1, rows, x, 0, 1, 0, NULL, 0 };
    static const struct {
        uint32_t pos[3], n;
        enum err want;
    } steps[] = {
        { { 1 }, 1, ERR_RANGE },    { { 0, 1 }, 2, ERR_OK }, { { 3 }, 1, ERR_RANGE },
        { { 2, 4 }, 2, ERR_RANGE }, { { 1, 2 }, 2, ERR_OK }, { { 0 }, 1, ERR_OK },
        { { 1, 1 }, 2, ERR_RANGE }, { { 1 }, 1, ERR_OK },    { { 3 }, 1, ERR_RANGE },
        { { 2, 3 }, 2, ERR_RANGE }, { { 2 }, 1, ERR_OK },
    };
    for (unsigned i = 0; i < sizeof steps / sizeof *steps; i++) {
        work.n = steps[i].n;
        for (uint32_t r = 0; r < work.n; r++) rows[r] = (struct row){ kv, steps[i].pos[r] };
        assert_int_equal(stage_share_work(s, &work, out), steps[i].want);
    }
    rows[0].pos = 0, work.n = 1;
    work.hi = 2; /* a head group that this kv lacks */
    assert_int_equal(stage_share_work(s, &work, out), ERR_RANGE);
    work.hi = 1, work.layer = w.layers;
    assert_int_equal(stage_share_work(s, &work, out), ERR_RANGE);
    work.layer = layer;
    struct stage *bare; /* a node that holds nothing of these layers */
    struct layer none[3] = { { 0, NULL }, { 1, NULL }, { 2, NULL } };
    assert_int_equal(stage_open(&bare, &w.t.a, none, 0, 3, 4, k, workers_inline()), ERR_OK);
    assert_int_equal(stage_share_work(bare, &work, out), ERR_NOTFOUND);

    uint8_t p[64];
    work = (struct share_work){ .kind = SHARE_EXPERTS, .layer = 2, .n = 1, .x = x, .picks = p };
    work.picks_len = picks(p, 0, (const int[]){ 1, 5, -1 });
    assert_int_equal(stage_share_work(bare, &work, out), ERR_NOTFOUND);
    work = (struct share_work){ .kind = SHARE_DENSE, .layer = 0, .n = 1, .x = x, .hi = 3 };
    assert_int_equal(stage_share_work(bare, &work, out), ERR_NOTFOUND);
    stage_close(bare);
    kv_close(kv);
    free(x);
    free(out);
    group_close(&g);
    work_close(&w);
}

/* --- who computes which experts --- */

static void deals(void **state)
{
    struct share_set all = { { 0 } }, low = { { 0 } };
    uint32_t chosen[64 * 8];
    uint8_t who[64 * 8];
    uint64_t seed = 4;
    (void)state;

    share_add(&all, 0, 128);
    share_add(&low, 0, 64);
    for (uint32_t p = 0; p < 8; p++) chosen[p] = 7 + 13 * p;
    struct share_ask q = { .kind = SHARE_EXPERTS, .n = 1, .width = 8, .chosen = chosen };
    struct share_hand two[] = { { &all, 100, 100, 1 }, { &all, 0, 100, 1 } };
    share_deal(&q, two, 2, who);
    for (uint32_t p = 0; p < 8; p++) assert_int_equal(who[p], p < 4); /* 4 and the shared one */
    struct share_set none = { { 0 } };
    struct share_hand gone[] = { { &all, 100, 100, 1 }, { &none, 0, 1, 1 }, { &all, 0, 100, 1 } };
    share_deal(&q, gone, 3, who); /* a hand that holds nothing changes nothing */
    for (uint32_t p = 0; p < 8; p++) assert_int_equal(who[p], p < 4 ? 2 : 0);
    two[0].start_us = 300;
    share_deal(&q, two, 2, who);
    for (uint32_t p = 0; p < 8; p++) assert_int_equal(who[p], p < 5);
    two[1].experts = &low; /* 5 of 8 are below 64 */
    two[0].start_us = 0;
    share_deal(&q, two, 2, who);
    unsigned n = 0;
    for (uint32_t p = 0; p < 8; p++) {
        n += who[p];
        if (chosen[p] >= 64) assert_int_equal(who[p], 0);
    }
    assert_int_equal(n, 4);
    two[0].experts = &low;
    share_deal(&q, two, 2, who);
    for (uint32_t p = 0; p < 8; p++) assert_int_equal(who[p] == SHARE_NOBODY, chosen[p] >= 64);
    share_deal(&q, two, 0, who);
    for (uint32_t p = 0; p < 8; p++) assert_int_equal(who[p], SHARE_NOBODY);

    /* a batch: the rows of an expert stay together, and all are done at about the same time */
    for (uint32_t i = 0; i < 64; i++)
        for (uint32_t j = 0; j < 8; j++) {
            seed = seed * UINT64_C(6364136223846793005) + 1;
            chosen[i * 8 + j] = j * 16 + (uint32_t)(seed >> 60);
        }
    struct share_hand three[] = { { &all, 500, 100, 50 },
                                  { &all, 0, 100, 50 },
                                  { &all, 0, 200, 100 } }; /* half as fast */
    double load[3] = { 500, 0, 0 };
    uint8_t of[128];
    memset(of, SHARE_NOBODY, sizeof of);
    q.n = 64;
    share_deal(&q, three, 3, who);
    for (uint32_t p = 0; p < 64 * 8; p++) {
        if (of[chosen[p]] == SHARE_NOBODY)
            load[who[p]] += three[who[p]].expert_us;
        else
            assert_int_equal(of[chosen[p]], who[p]);
        of[chosen[p]] = who[p];
        load[who[p]] += three[who[p]].row_us;
    }
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) assert_true(load[i] < 1.15 * load[j]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_split),  cmocka_unit_test(lost_answers),
        cmocka_unit_test(failed_calls), cmocka_unit_test(threads_and_turns),
        cmocka_unit_test(not_finite),   cmocka_unit_test(missing_parts),
        cmocka_unit_test(hostile_work), cmocka_unit_test(member_refuses),
        cmocka_unit_test(deals),
    };
    pass_fork_macs = 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
