/* What to hold: against trying everything, joiners one by one and all at once, each rule for
 * moving, and swarms that live for a day. */
#include "proto/hold.h"
#include "tests/proto/oracle.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define GB (UINT64_C(1) << 30)

static struct node_id id_of(uint64_t number)
{
    struct node_id id = { { 0 } };
    for (unsigned i = 0; i < ID_BYTES; i++)
        id.b[i] = (uint8_t)(number * 2654435761u >> (i % 4) * 8);
    memcpy(id.b + 4, &number, sizeof number);
    return id;
}

/* A model of n layers of `each` bytes. */
static struct hold_model model_of(uint32_t n, uint64_t each, uint64_t ends)
{
    struct hold_model m = { .id = { 3 }, .n_layers = n, .ends_bytes = ends };
    for (uint32_t i = 0; i < n; i++) m.layer_bytes[i] = each;
    return m;
}

static struct hold_peer peer_of(uint64_t number, uint32_t lo, uint32_t hi, bool ends, uint32_t us)
{
    return (struct hold_peer){ .id = id_of(number),
                               .n = 1,
                               .range = { { lo, hi, ends } },
                               .layer_us = us,
                               .net = (uint32_t)number };
}

/* --- everything tried, in the header's words --- */

struct grade {
    unsigned nobody, without_ends, pieces, alone, pieces_alone, narrow;
    double rate[64];
};

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static bool holds(const struct hold_peer *p, uint32_t item, uint32_t n_layers)
{
    for (uint32_t i = 0; i < p->n; i++) {
        if (item == n_layers && p->range[i].ends) return true;
        if (item < n_layers && item >= p->range[i].lo && item < p->range[i].hi) return true;
    }
    return false;
}

/* How often w layers from the first one on that has at most `most` holders, past those that have
 * more, until none is left: in each run by itself. */
static unsigned pieces_of(const unsigned *holders, uint32_t n, unsigned most, unsigned w)
{
    unsigned pieces = 0, covered = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (holders[i] > most) {
            covered = 0; /* a piece does not reach over a run's end */
        } else if (covered == 0) {
            pieces++;
            covered = w - 1;
        } else {
            covered--;
        }
    }
    return pieces;
}

/* peer[n - 1] is the one who chose. */
static struct grade grade_of(const struct hold_peer *peer, uint32_t n, const struct hold_model *m,
                             bool likes_ends)
{
    struct grade g = { 0 };
    unsigned holders[65] = { 0 }, w = peer[n - 1].range[0].hi - peer[n - 1].range[0].lo;
    for (uint32_t item = 0; item <= m->n_layers; item++) {
        bool spread = false;
        uint32_t first = 0;
        for (uint32_t i = 0; i < n; i++) {
            if (!holds(&peer[i], item, m->n_layers)) continue;
            uint32_t layers = peer[i].range[0].hi - peer[i].range[0].lo;
            if (!holders[item]++) first = peer[i].net;
            spread |= peer[i].net != first;
            if (item < m->n_layers)
                g.rate[item] += floor(1e12 / (peer[i].layer_us * (double)layers));
        }
        g.nobody += holders[item] == 0;
        g.alone += holders[item] <= 1;
        g.narrow += !spread;
    }
    g.without_ends = likes_ends && !peer[n - 1].range[0].ends;
    g.pieces = pieces_of(holders, m->n_layers, 0, w);
    g.pieces_alone = pieces_of(holders, m->n_layers, 1, w);
    qsort(g.rate, m->n_layers, sizeof *g.rate, by_value);
    return g;
}

/* < 0: a is better; 0: as good. */
static int compare_grades(const struct grade *a, const struct grade *b, uint32_t n_layers)
{
    const unsigned *x = &a->nobody, *y = &b->nobody;
    for (unsigned i = 0; i < 6; i++)
        if (x[i] != y[i]) return x[i] < y[i] ? -1 : 1;
    for (uint32_t i = 0; i < n_layers; i++)
        if (a->rate[i] != b->rate[i]) return a->rate[i] > b->rate[i] ? -1 : 1;
    return 0;
}

static void brute_force(void **state)
{
    uint64_t seed = 7;
    (void)state;
    for (unsigned round = 0; round < 3000; round++) {
        struct hold_model m = model_of(1 + (uint32_t)(test_random(&seed) % 9), 0, 0);
        struct hold_peer peer[8];
        uint32_t n = (uint32_t)(test_random(&seed) % 7);
        for (uint32_t i = 0; i < m.n_layers; i++) m.layer_bytes[i] = 1 + test_random(&seed) % 3;
        m.ends_bytes = 1 + test_random(&seed) % 4;
        for (uint32_t i = 0; i < n; i++) {
            uint32_t lo = (uint32_t)(test_random(&seed) % m.n_layers);
            uint32_t hi = lo + 1 + (uint32_t)(test_random(&seed) % (m.n_layers - lo));
            peer[i] = peer_of(i, lo, hi, test_random(&seed) % 2, 100u << test_random(&seed) % 3);
            peer[i].net = 1 + (uint32_t)(test_random(&seed) % 2);
        }
        struct hold_self me = { .id = id_of(99),
                                .room = 1 + test_random(&seed) % 12,
                                .layer_us = 200,
                                .net = 1,
                                .no_ends = test_random(&seed) % 4 == 0 };
        bool likes = !me.no_ends && m.ends_bytes * 4 <= me.room;

        struct grade best = { 0 };
        bool any = false;
        for (uint32_t ends = 0; ends <= !me.no_ends; ends++)
            for (uint32_t lo = 0; lo < m.n_layers; lo++) { /* the longest from each layer on */
                uint64_t bytes = ends ? m.ends_bytes : 0;
                uint32_t hi = lo;
                while (hi < m.n_layers && bytes + m.layer_bytes[hi] <= me.room)
                    bytes += m.layer_bytes[hi++];
                bool longer_before = lo > 0 && hi > lo && bytes + m.layer_bytes[lo - 1] <= me.room;
                if (hi == lo || longer_before) continue;
                peer[n] = peer_of(99, lo, hi, ends, 200);
                peer[n].net = 1;
                struct grade g = grade_of(peer, n + 1, &m, likes);
                if (!any || compare_grades(&g, &best, m.n_layers) < 0) best = g;
                any = true;
            }
        struct hold_window w;
        enum err e = hold_choose(&w, peer, n, &m, &me, false, NULL);
        assert_int_equal(e, any ? ERR_OK : ERR_FULL);
        if (e) continue;
        uint64_t bytes = w.ends ? m.ends_bytes : 0;
        for (uint32_t l = w.lo; l < w.hi; l++) bytes += m.layer_bytes[l];
        assert_true(bytes <= me.room && w.hi <= m.n_layers && !(w.ends && me.no_ends));
        peer[n] = peer_of(99, w.lo, w.hi, w.ends, 200);
        peer[n].net = 1;
        struct grade g = grade_of(peer, n + 1, &m, likes);
        if (compare_grades(&g, &best, m.n_layers) != 0)
            fail_msg("round %u: [%u, %u) is not the best", round, w.lo, w.hi);
    }
}

/* --- joining --- */

static void one_by_one(void **state)
{
    struct hold_model m = model_of(46, 13 * GB / 10, GB);
    struct hold_peer peer[16];
    (void)state;
    /* 10 layers and the ends each: as few nodes as there can be cover the model; then twice,
     * nearly. */
    for (uint32_t n = 0; n < 10; n++) {
        struct hold_self me = { .id = id_of(n), .room = 14 * GB, .layer_us = 2000, .net = n };
        struct hold_window w;
        assert_int_equal(hold_choose(&w, peer, n, &m, &me, false, NULL), ERR_OK);
        assert_true(w.hi - w.lo == 10 && w.ends);
        peer[n] = peer_of(n, w.lo, w.hi, w.ends, 2000);
        struct hold_state s = hold_state(peer, n + 1, &m);
        if (n >= 4) assert_int_equal(s.nobody, 0);
        if (n == 9) assert_true(s.alone <= 4);
    }
    struct why why;
    struct hold_window w;
    struct hold_self small = { .id = id_of(77), .room = GB };
    assert_int_equal(hold_choose(&w, peer, 10, &m, &small, false, &why), ERR_FULL);
    assert_non_null(strstr(why.text, "1.0 GiB hold no layer"));
    /* What is scarce: a node for whom the ends are dear takes them when nobody has them. */
    for (uint32_t i = 0; i < 10; i++) peer[i].range[0].ends = false;
    struct hold_self me = { .id = id_of(78), .room = 3 * GB };
    assert_int_equal(hold_choose(&w, peer, 10, &m, &me, false, NULL), ERR_OK);
    assert_true(w.ends && w.hi - w.lo == 1);
    /* A node that has room for all holds all. */
    me.room = 100 * GB;
    assert_int_equal(hold_choose(&w, peer, 0, &m, &me, false, NULL), ERR_OK);
    assert_true(w.lo == 0 && w.hi == 46 && w.ends);
}

/* All choose without knowing of each other, announce, and choose again. */
static void at_once(void **state)
{
    struct hold_model m = model_of(46, GB, GB);
    (void)state;
    for (uint64_t trial = 0; trial < 20; trial++) {
        enum { N = 12 };
        struct hold_peer peer[N];
        struct hold_self me[N];
        for (uint32_t i = 0; i < N; i++) {
            struct hold_window w;
            me[i] = (struct hold_self){
                .id = id_of(trial * N + i), .room = (9 + i % 4) * GB, .layer_us = 1000, .net = i
            };
            assert_int_equal(hold_choose(&w, NULL, 0, &m, &me[i], false, NULL), ERR_OK);
            peer[i] = peer_of(trial * N + i, w.lo, w.hi, w.ends, 1000);
            peer[i].joining = true;
        }
        /* each chooses again after a moment of its own, so one after the other, until it stays */
        for (uint32_t i = 0; i < 4 * N; i++) {
            struct hold_peer others[N];
            struct hold_window w;
            uint32_t k = (i * 7 + (uint32_t)trial) % N, n = 0;
            for (uint32_t j = 0; j < N; j++)
                if (j != k) others[n++] = peer[j];
            assert_int_equal(hold_choose(&w, others, n, &m, &me[k], true, NULL), ERR_OK);
            peer[k].range[0] = w;
        }
        struct hold_state s = hold_state(peer, N, &m);
        if (s.nobody > 0) fail_msg("trial %u: %u layers are left out", (unsigned)trial, s.nobody);
    }
}

/* --- moving --- */

static void closes_gaps(void **state)
{
    struct hold_model m = model_of(12, GB, GB);
    struct hold_self me = {
        .id = id_of(50), .room = 4 * GB, .layer_us = 1000, .net = 50, .no_ends = true
    };
    struct hold_window to;
    (void)state;
    /* 0-3 three times, 4-7 once, 8-11 nobody. */
    struct hold_peer peer[4] = { peer_of(1, 0, 4, true, 1000), peer_of(2, 0, 4, true, 1000),
                                 peer_of(3, 4, 8, false, 1000) };
    struct hold_now now = { .have = { 0, 4, false }, .unix_s = 1000000, .sessions = 3 };
    assert_int_equal(hold_move(&to, &now, peer, 3, &m, &me), HOLD_STAY); /* a restart is no gap */
    assert_int_equal(now.gap_since_s, 1000000);
    now.unix_s += HOLD_GAP_S - 1;
    assert_int_equal(hold_move(&to, &now, peer, 3, &m, &me), HOLD_STAY);
    now.unix_s += 1 + HOLD_STEP_S * 2; /* now all three volunteers have had their turn */
    assert_int_equal(hold_move(&to, &now, peer, 3, &m, &me), HOLD_GAP);
    assert_true(to.lo == 8 && to.hi == 12);
    /* Somebody is on the way: nothing to do, and the memory is fresh again. */
    struct hold_peer with = peer[1];
    peer[1].coming = (struct hold_window){ 8, 12, false };
    assert_int_equal(hold_move(&to, &now, peer, 3, &m, &me), HOLD_STAY);
    assert_int_equal(now.gap_since_s, 0);
    peer[1] = with;
    /* Nobody to spare: mine would be missing, and no fewer. */
    struct hold_peer few[2] = { peer_of(3, 4, 8, true, 1000) };
    struct hold_now alone = { .have = { 0, 4, false }, .unix_s = 1000000, .gap_since_s = 1 };
    assert_int_equal(hold_move(&to, &alone, few, 1, &m, &me), HOLD_STAY);
    /* Overlapping windows that leave a gap: moving along closes it, spare or not. */
    struct hold_peer row[2] = { peer_of(1, 0, 4, true, 1000), peer_of(2, 3, 8, true, 1000) };
    struct hold_now over = { .have = { 6, 10, false }, .unix_s = 1000000, .gap_since_s = 1 };
    assert_int_equal(hold_move(&to, &over, row, 2, &m, &me), HOLD_GAP);
    assert_true(to.lo == 8 && to.hi == 12);
}

/* Of many who could, in each moment few go. */
static void volunteers_take_turns(void **state)
{
    enum { N = 20 };
    struct hold_model m = model_of(8, GB, GB);
    struct hold_peer all[N], others[N];
    uint64_t start = 1000000;
    unsigned went = 0;
    (void)state;
    for (uint32_t i = 0; i < N; i++) all[i] = peer_of(i, 0, 4, true, 1000);
    for (uint64_t t = start; t <= start + HOLD_GAP_S + HOLD_STEP_S - 1; t += 10) {
        for (uint32_t k = 0; k < N; k++) {
            struct hold_self me = { .id = all[k].id, .room = 5 * GB, .layer_us = 1000, .net = k };
            struct hold_now now = { .have = { 0, 4, true }, .unix_s = t, .gap_since_s = start };
            struct hold_window to;
            uint32_t n = 0;
            for (uint32_t i = 0; i < N; i++)
                if (i != k) others[n++] = all[i];
            if (all[k].coming.hi || hold_move(&to, &now, others, n, &m, &me) != HOLD_GAP) continue;
            assert_true(to.lo == 4 && to.hi == 8);
            went++;
            all[k].coming = to;
        }
    }
    assert_int_equal(went, 1);
}

static void moves_when_it_pays(void **state)
{
    struct hold_model m = model_of(4, GB, GB);
    struct hold_self me = {
        .id = id_of(50), .room = 2 * GB, .layer_us = 1000, .net = 50, .no_ends = true
    };
    /* 0-1 four times, 2-3 once: at 2-3 I would double the slowest rate. */
    struct hold_peer peer[5];
    const struct hold_now good = { .have = { 0, 2, false }, .resident_s = HOLD_RESIDENT_S };
    struct hold_window to;
    unsigned went = 0;
    (void)state;
    for (uint32_t i = 0; i < 4; i++) peer[i] = peer_of(i, 0, 2, true, 1000);
    peer[4] = peer_of(4, 2, 4, true, 1000);
    for (uint64_t minute = 0; minute < 600; minute++) {
        struct hold_now now = good;
        now.unix_s = minute * 60;
        if (hold_move(&to, &now, peer, 5, &m, &me) == HOLD_FASTER) {
            went++;
            assert_true(to.lo == 2 && to.hi == 4);
            now = good, now.unix_s = minute * 60, now.sessions = 1;
            assert_int_equal(hold_move(&to, &now, peer, 5, &m, &me), HOLD_STAY);
            now = good, now.unix_s = minute * 60, now.resident_s--;
            assert_int_equal(hold_move(&to, &now, peer, 5, &m, &me), HOLD_STAY);
            now = good, now.unix_s = minute * 60;
            assert_int_equal(hold_move(&to, &now, peer + 3, 2, &m, &me),
                             HOLD_STAY); /* 1 would stay */
            peer[4].layer_us = 100;      /* 2-3 are fast already */
            assert_int_equal(hold_move(&to, &now, peer, 5, &m, &me), HOLD_STAY);
            peer[4].layer_us = 1000;
        }
    }
    if (went < 60 || went > 150) fail_msg("%u of 600 minutes were mine, of 6 nodes", went);
}

/* --- swarms that live --- */

struct pc {
    uint64_t up_s, until_s; /* when it came, when it goes or comes back */
    uint64_t seen_s;        /* until when others believe in it */
    bool is_up, has_disk;
    struct hold_window have; /* serves when ready_s has come */
    struct hold_window old;  /* served meanwhile, when moving */
    uint64_t ready_s, settled_s;
    uint64_t gap_since_s;
    struct hold_self self;
    uint32_t mbit;
    unsigned moves;
    struct hold_window before; /* the window it left last, and when */
    uint64_t left_s;
};

struct day {
    unsigned moves, returns, joins; /* returns: to a window left in the last six hours */
    uint64_t longest_gap_s, gap_s;  /* some layer without a holder */
    double nodes;                   /* mean */
};

static double exponential(uint64_t *seed, double mean)
{
    return -mean * log(((double)(test_random(seed) >> 11) + 1) / 9007199254740993.0);
}

/* At night (a quarter of the day) people come back four times as slowly. */
static double away_s(uint64_t *seed, uint64_t now, double mean)
{
    return exponential(seed, mean) * (now / 3600 % 24 < 6 ? 4 : 1);
}

static bool empty(const struct hold_window *w)
{
    return w->lo == w->hi && !w->ends;
}

/* What the others are told of p at this time; false: nothing. */
static bool tell(struct hold_peer *out, const struct pc *p, uint64_t now)
{
    bool is_ready = now >= p->ready_s;
    if (now >= p->seen_s) return false;
    *out = (struct hold_peer){
        .id = p->self.id, .n = 1, .layer_us = p->self.layer_us, .net = p->self.net
    };
    out->range[0] = is_ready || empty(&p->old) ? p->have : p->old;
    out->joining = !is_ready && empty(&p->old);
    if (!is_ready && !empty(&p->old)) out->coming = p->have;
    return true;
}

static uint64_t fetch_s(const struct pc *p, const struct hold_model *m, const struct hold_window *w)
{
    uint64_t bytes = w->ends ? m->ends_bytes : 0;
    for (uint32_t l = w->lo; l < w->hi; l++)
        if (l < p->have.lo || l >= p->have.hi || !p->has_disk) bytes += m->layer_bytes[l];
    return bytes * 8 / 1000000 / p->mbit + 5;
}

/* What everybody hears in this minute; at: the place of each PC in it, or NOWHERE. */
struct news {
    struct hold_peer *peer;
    uint32_t *at;
    uint32_t n;
};
#define NOWHERE UINT32_MAX

static void gather_news(struct news *w, const struct pc *pc, uint32_t n, uint64_t now)
{
    w->n = 0;
    for (uint32_t i = 0; i < n; i++)
        w->at[i] = tell(&w->peer[w->n], &pc[i], now) ? w->n++ : NOWHERE;
}

/* The news without PC i, until put_back: the last one takes its place. */
static uint32_t leave_out(struct news *w, uint32_t i, struct hold_peer *kept)
{
    if (w->at[i] == NOWHERE) return w->n;
    *kept = w->peer[w->at[i]];
    w->peer[w->at[i]] = w->peer[w->n - 1];
    return w->n - 1;
}

static void put_back(struct news *w, uint32_t i, const struct hold_peer *kept)
{
    if (w->at[i] != NOWHERE) w->peer[w->at[i]] = *kept;
}

static void come(struct pc *p, uint32_t i, const struct hold_model *m, uint64_t now,
                 struct news *news, struct day *day, uint64_t *seed, double stay)
{
    struct hold_window w;
    struct hold_peer kept;
    p->is_up = true;
    p->up_s = now;
    p->until_s = now + 60 + (uint64_t)exponential(seed, stay);
    p->seen_s = UINT64_MAX;
    p->gap_since_s = 0;
    p->old = (struct hold_window){ 0, 0, false };
    day->joins++;
    if (!p->has_disk) { /* a returning PC serves what it has on its disk */
        uint32_t k = leave_out(news, i, &kept);
        assert_int_equal(hold_choose(&w, news->peer, k, m, &p->self, true, NULL), ERR_OK);
        put_back(news, i, &kept);
        p->ready_s = now + fetch_s(p, m, &w);
        p->have = w;
    } else {
        p->ready_s = now + 10;
    }
    p->settled_s = p->ready_s;
    p->has_disk = true;
}

static void consider(struct pc *p, uint32_t i, const struct hold_model *m, uint64_t now,
                     struct news *news, struct day *day)
{
    struct hold_window to;
    struct hold_peer kept;
    if (now < p->ready_s) return;
    p->old = (struct hold_window){ 0, 0, false };
    struct hold_now h = { .have = p->have,
                          .resident_s = now - p->settled_s,
                          .unix_s = now,
                          .gap_since_s = p->gap_since_s };
    uint32_t k = leave_out(news, i, &kept);
    enum hold_reason why = hold_move(&to, &h, news->peer, k, m, &p->self);
    put_back(news, i, &kept);
    p->gap_since_s = h.gap_since_s;
    if (why == HOLD_STAY) return;
    day->moves++;
    day->returns += now - p->left_s < 6 * 3600 && p->before.lo == to.lo && p->before.hi == to.hi;
    p->before = p->have;
    p->left_s = now;
    p->old = p->have;
    p->ready_s = p->settled_s = now + fetch_s(p, m, &to);
    p->have = to;
}

static bool is_held(const struct pc *pc, uint32_t n, uint32_t layer, uint64_t now)
{
    for (uint32_t i = 0; i < n; i++) {
        const struct hold_window *w = now >= pc[i].ready_s ? &pc[i].have : &pc[i].old;
        if (pc[i].is_up && layer >= w->lo && layer < w->hi) return true;
    }
    return false;
}

/* n PCs, two days of which the second counts: some stay for `stay` seconds on average. */
static struct day live(uint32_t n, const struct hold_model *m, double stay, double away,
                       bool may_move, uint64_t seed)
{
    enum { DAY = 86400, STEP = 60, GHOST_S = 180 };
    struct pc *pc = calloc(n, sizeof *pc);
    struct news news = { calloc(n, sizeof *news.peer), calloc(n, sizeof *news.at), 0 };
    struct day day = { 0 };
    uint64_t gap_since = 0, samples = 0, up = 0;

    assert_true(pc && news.peer && news.at);
    for (uint32_t i = 0; i < n; i++) {
        pc[i].self = (struct hold_self){ .id = id_of(seed * 1000 + i),
                                         .room = (uint64_t)(6 + test_random(&seed) % 14) * GB,
                                         .layer_us = 1500 + (uint32_t)(test_random(&seed) % 4000),
                                         .net = 1 + (uint32_t)(test_random(&seed) % 40) };
        pc[i].mbit = 20u << test_random(&seed) % 4;
        pc[i].until_s = 1 + test_random(&seed) % 7200;
    }
    for (uint64_t now = STEP; now < 2 * DAY; now += STEP) {
        if (now == DAY) day = (struct day){ .joins = 0 };
        gather_news(&news, pc, n, now);
        for (uint32_t i = 0; i < n; i++) {
            struct pc *p = &pc[i];
            if (now >= p->until_s && p->is_up) {
                p->is_up = false;
                p->seen_s = now + GHOST_S;
                if (now < p->ready_s && !empty(&p->old)) p->have = p->old; /* half fetched */
                if (now < p->ready_s && empty(&p->old)) p->has_disk = false;
                p->until_s = now + GHOST_S + (uint64_t)away_s(&seed, now, away);
            } else if (now >= p->until_s) {
                come(p, i, m, now, &news, &day, &seed, stay);
            } else if (p->is_up && may_move) {
                consider(p, i, m, now, &news, &day);
            }
            up += p->is_up;
        }
        samples++;
        bool gap = false;
        for (uint32_t l = 0; l < m->n_layers && !gap; l++) gap = !is_held(pc, n, l, now);
        if (now < DAY) continue;
        if (!gap) gap_since = 0;
        if (gap && !gap_since) gap_since = now;
        if (gap) day.gap_s += STEP;
        if (gap && now - gap_since + STEP > day.longest_gap_s)
            day.longest_gap_s = now - gap_since + STEP;
    }
    day.nodes = (double)up / (double)samples;
    free(pc);
    free(news.peer);
    free(news.at);
    return day;
}

static void a_day_of_200(void **state)
{
    struct hold_model m = model_of(46, 13 * GB / 10, GB);
    (void)state;
    struct day d = live(200, &m, 4 * 3600, 5 * 3600, true, 11);
    print_message(
        "200 PCs, %.0f up: %u came, %u moved (%.3f a PC and day), %u went back, gaps %u s\n",
        d.nodes, d.joins, d.moves, d.moves / 200.0, d.returns, (unsigned)d.gap_s);
    assert_true(d.moves <= 40); /* 0.2 a node and day */
    assert_int_equal(d.returns, 0);
    assert_int_equal(d.gap_s, 0);
}

/* Few PCs, on home lines: what is missing must be fetched, and is so soon. */
static void days_of_few(void **state)
{
    struct hold_model m = model_of(46, 13 * GB / 10, GB);
    unsigned moves = 0, returns = 0, joins = 0;
    uint64_t gap_s[2] = { 0 }, longest[2] = { 0 };
    enum { DAYS = 5, PCS = 24 };
    (void)state;
    for (uint64_t seed = 1; seed <= DAYS; seed++)
        for (unsigned may_move = 0; may_move < 2; may_move++) {
            struct day d = live(PCS, &m, 8 * 3600, 3 * 3600, may_move, seed);
            gap_s[may_move] += d.gap_s;
            if (d.longest_gap_s > longest[may_move]) longest[may_move] = d.longest_gap_s;
            if (!may_move) continue;
            moves += d.moves;
            returns += d.returns;
            joins += d.joins;
        }
    print_message(
        "%d days of %d PCs: %u came, %u moved (%.2f a PC and day), %u went back; some layer "
        "missing %.1f %% of the time, at most %u min (if none moved: %.1f %%, %u min)\n",
        DAYS, PCS, joins, moves, moves / (double)(DAYS * PCS), returns,
        (double)gap_s[1] / DAYS / 864, (unsigned)(longest[1] / 60), (double)gap_s[0] / DAYS / 864,
        (unsigned)(longest[0] / 60));
    assert_true(gap_s[1] * 2 < gap_s[0]);
    assert_true(longest[1] < 4 * 3600);
    assert_true(moves <= 2 * DAYS * PCS && returns <= moves / 8);
}

/* Nobody comes or goes: moving comes to an end. */
static void a_quiet_swarm_rests(void **state)
{
    struct hold_model m = model_of(46, 13 * GB / 10, GB);
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct day d = live(40, &m, 1e9, 1, true, seed);
        if (d.moves > 2 || d.returns) fail_msg("seed %u: %u moves", (unsigned)seed, d.moves);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(brute_force),
        cmocka_unit_test(one_by_one),
        cmocka_unit_test(at_once),
        cmocka_unit_test(closes_gaps),
        cmocka_unit_test(volunteers_take_turns),
        cmocka_unit_test(moves_when_it_pays),
        cmocka_unit_test(a_quiet_swarm_rests),
        cmocka_unit_test(days_of_few),
        cmocka_unit_test(a_day_of_200),
    };
    return proto_init() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
