/* Which tile is asked of whom: rules of gather.h one by one, then random swarms of peers who are
 * slow, lie, refuse, leave and come back; everything arrives, and nothing is asked for too often.
 */
#include "proto/gather.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

static uint64_t seed;

static uint32_t draw(void)
{
    uint64_t z = seed += 0x9e3779b97f4a7c15u; /* SplitMix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)(z ^ z >> 31);
}

static struct gather *open_with(const uint16_t *group, uint32_t n)
{
    struct gather *g;
    assert_int_equal(gather_open(&g, group, n), ERR_OK);
    seed = 1;
    return g;
}

static void add_peer(struct gather *g, unsigned peer, bool near, uint32_t lo, uint32_t hi)
{
    bool has[GATHER_GROUPS] = { false };
    for (uint32_t i = lo; i < hi; i++) has[i] = true;
    gather_peer(g, peer, near, has);
}

/* All that may be asked now: how many of each peer. */
static unsigned ask_all(struct gather *g, uint64_t now, unsigned count[GATHER_PEERS],
                        struct gather_ask *last)
{
    struct gather_ask a;
    unsigned n = 0;

    memset(count, 0, GATHER_PEERS * sizeof *count);
    while (gather_next(g, now, draw(), &a)) {
        count[a.peer]++;
        n++;
        if (last) *last = a;
        assert_true(n < 10000);
    }
    return n;
}

static void bring(struct gather *g, unsigned peer, uint32_t piece, uint64_t now)
{
    bool wanted;
    assert_true(gather_arrived(g, peer, piece, now, &wanted));
    assert_true(wanted);
    gather_stored(g, piece);
}

static void test_window(void **state)
{
    uint16_t group[100] = { 0 };
    unsigned count[GATHER_PEERS];
    struct gather_ask a[200];
    unsigned n = 0;
    (void)state;

    struct gather *g = open_with(group, 100);
    add_peer(g, 3, false, 0, 1);
    while (gather_next(g, 0, draw(), &a[n])) n++;
    assert_int_equal(n, GATHER_BEGIN);
    for (unsigned k = 0; k < 50; k++) { /* each that it brings earns one more */
        bring(g, 3, a[k].piece, 10 * k);
        while (gather_next(g, 10 * k, draw(), &a[n])) n++;
        assert_true(gather_owes(g, 3) <= GATHER_WINDOW);
    }
    assert_int_equal(gather_owes(g, 3), GATHER_WINDOW);
    assert_int_equal(gather_left(g), 50);
    assert_int_equal(ask_all(g, 500, count, NULL), 0);
    gather_close(g);
}

static void test_near_first(void **state)
{
    uint16_t group[60];
    unsigned count[GATHER_PEERS];
    (void)state;

    for (unsigned i = 0; i < 60; i++) group[i] = i < 30 ? 0 : 1;
    struct gather *g = open_with(group, 60);
    add_peer(g, 0, true, 0, 1);  /* this LAN: layer 0 */
    add_peer(g, 1, false, 0, 2); /* elsewhere: both */
    struct gather_ask a;
    unsigned near_n = 0, far_n = 0;
    while (gather_next(g, 0, draw(), &a)) {
        if (a.peer == 0) near_n++;
        if (a.peer == 1) far_n++;
        assert_true(a.peer == 0 || group[a.piece] == 1); /* what the near one can give it gives */
    }
    assert_int_equal(near_n, GATHER_BEGIN);
    assert_int_equal(far_n, GATHER_BEGIN);
    gather_peer_gone(g, 0); /* then the far one has to */
    gather_peer_gone(g, 1);
    add_peer(g, 1, false, 0, 1);
    assert_int_equal(ask_all(g, 1, count, NULL), GATHER_BEGIN);
    gather_close(g);
}

/* The group that the fewest have comes first; who fetches at once fetches different pieces. */
static void test_rarest(void **state)
{
    uint16_t group[64];
    struct gather_ask a;
    (void)state;

    for (unsigned i = 0; i < 64; i++) group[i] = i < 32 ? 5 : 6;
    struct gather *g = open_with(group, 64);
    add_peer(g, 0, true, 5, 7);
    add_peer(g, 1, true, 6, 7);
    add_peer(g, 2, true, 6, 7);
    unsigned rare = 0;
    while (gather_next(g, 0, draw(), &a))
        if (a.peer == 0) rare += group[a.piece] == 5;
    assert_int_equal(rare, GATHER_BEGIN);
    gather_close(g);

    unsigned same = 0;
    for (unsigned k = 0; k < 100; k++) {
        uint32_t first[2];
        for (unsigned i = 0; i < 2; i++) {
            g = open_with(group, 64);
            seed = 1000 * i + k;
            add_peer(g, 0, true, 5, 7);
            assert_true(gather_next(g, 0, draw(), &a));
            first[i] = a.piece;
            gather_close(g);
        }
        same += first[0] == first[1];
    }
    assert_true(same < 15);
}

/* What is owed for long is asked of an idle peer too; who is second may stop. */
static void test_end(void **state)
{
    uint16_t group[4] = { 0 };
    unsigned count[GATHER_PEERS], other;
    struct gather_ask a;
    bool wanted;
    (void)state;

    struct gather *g = open_with(group, 4);
    add_peer(g, 0, true, 0, 1);
    assert_int_equal(ask_all(g, 100, count, NULL), 4);
    add_peer(g, 1, true, 0, 1);
    assert_int_equal(ask_all(g, 100 + GATHER_OWED_MS - 1, count, NULL), 0); /* not yet */
    assert_int_equal(ask_all(g, 100 + GATHER_OWED_MS, count, &a), 4);
    assert_int_equal(count[1], 4);
    add_peer(g, 2, true, 0, 1); /* two are enough */
    assert_int_equal(ask_all(g, 100 + 2 * GATHER_OWED_MS, count, NULL), 0);
    assert_true(gather_arrived(g, 1, a.piece, 3000, &wanted) && wanted);
    assert_true(gather_cancel(g, a.piece, &other));
    assert_int_equal(other, 0);
    assert_false(gather_cancel(g, a.piece, &other));
    gather_stored(g, a.piece);
    assert_true(gather_arrived(g, 0, a.piece, 3001, &wanted)); /* it was under way: no lie */
    assert_false(wanted);
    assert_false(gather_arrived(g, 0, a.piece, 3002, &wanted)); /* twice is */
    gather_close(g);
}

static void test_refused(void **state)
{
    uint16_t group[2] = { 0 };
    struct gather_ask a;
    unsigned count[GATHER_PEERS];
    (void)state;

    struct gather *g = open_with(group, 2);
    add_peer(g, 0, true, 0, 1);
    assert_true(gather_next(g, 0, draw(), &a));
    assert_true(gather_refused(g, 0, a.piece, false, 0)); /* does not have it: never again */
    assert_false(gather_refused(g, 0, a.piece, false, 0));
    uint32_t refused = a.piece;
    assert_int_equal(ask_all(g, 0, count, &a), 1);
    assert_int_not_equal(a.piece, refused);
    assert_true(gather_refused(g, 0, a.piece, true, 0)); /* busy: later */
    assert_int_equal(ask_all(g, GATHER_PAUSE_MS - 1, count, NULL), 0);
    assert_int_equal(ask_all(g, GATHER_PAUSE_MS, count, NULL), 1);
    add_peer(g, 1, true, 0, 1);
    assert_int_equal(ask_all(g, GATHER_PAUSE_MS, count, &a), 1);
    assert_int_equal(a.piece, refused);
    gather_close(g);
}

static void test_lies(void **state)
{
    uint16_t group[8] = { 0 };
    struct gather_ask a;
    bool wanted;
    (void)state;

    struct gather *g = open_with(group, 8);
    add_peer(g, 0, true, 0, 1);
    add_peer(g, 1, true, 0, 1);
    assert_false(gather_arrived(g, 0, 0, 0, &wanted)); /* nobody asked */
    assert_true(gather_next(g, 0, draw(), &a));
    assert_false(gather_arrived(g, 1 - a.peer, a.piece, 0, &wanted)); /* not of that one */
    assert_true(gather_arrived(g, a.peer, a.piece, 0, &wanted) && wanted);
    assert_false(gather_arrived(g, a.peer, a.piece, 0, &wanted)); /* again */
    gather_bad(g, a.piece); /* false bytes: wanted again, of somebody */
    assert_int_equal(gather_left(g), 8);
    gather_peer_gone(g, a.peer);
    unsigned count[GATHER_PEERS];
    uint32_t bad = a.piece, seen = 0;
    while (gather_next(g, 0, draw(), &a)) {
        seen += a.piece == bad;
        bring(g, a.peer, a.piece, 0);
    }
    assert_int_equal(seen, 1);
    assert_int_equal(gather_left(g), 0);
    assert_int_equal(ask_all(g, 99999, count, NULL), 0);
    gather_close(g);
}

/* Who brings nothing is relieved, left alone for longer and longer; what comes late is taken. */
static void test_late(void **state)
{
    uint16_t group[8] = { 0 };
    unsigned count[GATHER_PEERS];
    struct gather_ask a;
    bool wanted;
    uint64_t now = 1000;
    (void)state;

    struct gather *g = open_with(group, 8);
    add_peer(g, 0, true, 0, 1);
    assert_int_equal(ask_all(g, now, count, &a), GATHER_BEGIN);
    gather_tick(g, now + GATHER_LATE_MS - 1);
    assert_int_equal(gather_owes(g, 0), GATHER_BEGIN);
    now += GATHER_LATE_MS;
    gather_tick(g, now);
    assert_int_equal(gather_owes(g, 0), 0);
    assert_int_equal(ask_all(g, now, count, NULL), 0);
    assert_true(gather_arrived(g, 0, a.piece, now, &wanted) && wanted);
    gather_stored(g, a.piece);
    add_peer(g, 1, false, 0, 1); /* and a far one is good enough while the near one rests */
    assert_int_equal(ask_all(g, now, count, NULL), GATHER_BEGIN);
    assert_int_equal(count[1], GATHER_BEGIN);
    assert_true(ask_all(g, now + GATHER_LATE_MS, count, NULL) > 0); /* another try */
    assert_true(count[0] > 0);
    gather_close(g);
}

/* --- random swarms --- */

struct world {
    struct gather *g;
    uint32_t n, asked, stored;
    uint16_t group[400];
    bool here[GATHER_PEERS], has[GATHER_PEERS][GATHER_GROUPS];
    unsigned kind[GATHER_PEERS]; /* 0 good, 1 slow, 2 silent, 3 liar, 4 often busy */
    struct {
        unsigned peer;
        uint32_t piece;
        uint64_t due;
    } way[4096];
    unsigned n_way;
};

static void leave(struct world *w, unsigned peer)
{
    gather_peer_gone(w->g, peer);
    w->here[peer] = false;
    for (unsigned i = 0; i < w->n_way;)
        if (w->way[i].peer == peer)
            w->way[i] = w->way[--w->n_way];
        else
            i++;
}

static void join(struct world *w, unsigned peer)
{
    w->here[peer] = true;
    w->kind[peer] = peer == 0 ? 0 : draw() % 5; /* one is good and has everything */
    for (unsigned k = 0; k < GATHER_GROUPS; k++) w->has[peer][k] = peer == 0 || draw() % 2;
    gather_peer(w->g, peer, draw() % 2, w->has[peer]);
}

static void deliver(struct world *w, unsigned i, uint64_t now)
{
    unsigned peer = w->way[i].peer, other;
    uint32_t piece = w->way[i].piece;
    bool wanted;

    w->way[i] = w->way[--w->n_way];
    if (w->kind[peer] == 4 && draw() % 2) {
        assert_true(gather_refused(w->g, peer, piece, draw() % 2, now));
        return;
    }
    assert_true(gather_arrived(w->g, peer, piece, now, &wanted));
    if (!wanted) return;
    if (w->kind[peer] == 3) {
        gather_bad(w->g, piece);
        leave(w, peer);
        return;
    }
    (void)gather_cancel(w->g, piece, &other);
    gather_stored(w->g, piece);
    w->stored++;
}

static void test_random(void **state)
{
    enum { WORLDS = 200, STEP_MS = 50 };
    uint64_t all = 0, extra = 0;
    (void)state;

    for (unsigned k = 0; k < WORLDS; k++) {
        static struct world w;
        w = (struct world){ 0 };
        seed = 77 + k;
        w.n = 1 + draw() % 400;
        for (uint32_t i = 0; i < w.n; i++) w.group[i] = (uint16_t)(draw() % (1 + k % 258));
        assert_int_equal(gather_open(&w.g, w.group, w.n), ERR_OK);
        join(&w, 0);
        for (unsigned p = 1; p < draw() % GATHER_PEERS; p++) join(&w, p);
        uint64_t now = 1;
        for (; gather_left(w.g); now += STEP_MS) {
            struct gather_ask a;
            if (now > 3600000) fail_msg("world %u does not end: %u left", k, gather_left(w.g));
            while (gather_next(w.g, now, draw(), &a)) {
                assert_true(w.here[a.peer] && w.has[a.peer][w.group[a.piece]]);
                assert_true(gather_owes(w.g, a.peer) <= GATHER_WINDOW && w.n_way < 4096);
                w.asked++;
                unsigned ms = w.kind[a.peer] == 1 ? 20000 : 100;
                if (w.kind[a.peer] == 2) continue;
                w.way[w.n_way].peer = a.peer;
                w.way[w.n_way].piece = a.piece;
                w.way[w.n_way++].due = now + draw() % ms;
            }
            for (unsigned i = 0; i < w.n_way;)
                if (w.way[i].due <= now)
                    deliver(&w, i, now);
                else
                    i++;
            unsigned p = 1 + draw() % (GATHER_PEERS - 1);
            if (draw() % 40 == 0) w.here[p] ? leave(&w, p) : join(&w, p);
            gather_tick(w.g, now);
        }
        assert_int_equal(w.stored, w.n);
        all += w.n;
        extra += w.asked - w.n;
        gather_close(w.g);
    }
    print_message("%u swarms, %llu pieces, %llu asked for more than once\n", WORLDS,
                  (unsigned long long)all, (unsigned long long)extra);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_window),  cmocka_unit_test(test_near_first),
        cmocka_unit_test(test_rarest),  cmocka_unit_test(test_end),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_lies),
        cmocka_unit_test(test_late),    cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
