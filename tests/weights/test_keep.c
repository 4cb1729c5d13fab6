/* What stays in memory: who comes, who goes, and how often a step finds what it needs. */
#include "weights/keep.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MB = 1 << 20 };

static struct keep *keep_of(uint32_t layers, uint32_t per_layer, uint64_t room, float worth)
{
    struct keep *k;

    assert_int_equal(keep_open(&k, layers, layers * per_layer, room), ERR_OK);
    for (uint32_t u = 0; u < layers * per_layer; u++)
        assert_int_equal(keep_add(k, u / per_layer, MB, worth, true), u);
    return k;
}

/* What a reader does until nothing is asked for; the victims in order. */
static unsigned read_all(struct keep *k, uint32_t *victims)
{
    unsigned n = 0;
    uint32_t unit, gone;

    while ((unit = keep_next(k, true)) != KEEP_NONE) {
        while ((gone = keep_victim(k)) != KEEP_NONE) {
            assert_int_equal(keep_state(k, gone), KEEP_OUT);
            if (victims) victims[n] = gone;
            n++;
        }
        assert_int_equal(keep_state(k, unit), KEEP_COMING);
        keep_came(k, unit);
    }
    return n;
}

static void come_and_go(void **state)
{
    struct keep *k = keep_of(1, 6, 2 * MB, 0);
    uint32_t gone[4];
    (void)state;

    assert_true(keep_guess(k, 3, 0, 0));
    assert_true(keep_need(k, 5));
    assert_false(keep_need(k, 5)); /* asked already */
    assert_true(keep_is_wanted(k, 5) && keep_is_sure(k, 5));
    assert_true(keep_is_wanted(k, 3) && !keep_is_sure(k, 3));
    assert_int_equal(keep_next(k, false), 5); /* what is sure is first */
    assert_int_equal(keep_next(k, false), KEEP_NONE);
    assert_int_equal(keep_next(k, true), 3);
    assert_int_equal(keep_victim(k), KEEP_NONE);
    keep_came(k, 3), keep_came(k, 5);
    assert_int_equal(keep_bytes(k), 2 * MB);
    assert_false(keep_is_wanted(k, 5));

    assert_true(keep_need(k, 0)); /* nothing may go: all in memory is needed by the step */
    assert_int_equal(keep_next(k, true), 0);
    assert_int_equal(keep_victim(k), KEEP_NONE);
    keep_came(k, 0);
    assert_int_equal(keep_bytes(k), 3 * MB);
    keep_done(k, 0);
    assert_true(keep_guess(k, 1, 0, 0)); /* a guess that the step ends before it is read */
    keep_done(k, 0);
    assert_int_equal(keep_next(k, true), KEEP_NONE);
    assert_int_equal(keep_victim(k), 3); /* over the room; it was only guessed */
    assert_int_equal(keep_victim(k), KEEP_NONE);

    assert_true(keep_need(k, 4));
    assert_int_equal(read_all(k, gone), 1);
    assert_int_equal(gone[0], 0); /* of equals the one used last */
    keep_lost(k, 5);
    assert_int_equal(keep_state(k, 5), KEEP_OUT);
    assert_int_equal(keep_bytes(k), MB);
    keep_lost(k, 5);
    assert_int_equal(keep_bytes(k), MB);
    keep_found(k, 5), keep_found(k, 5);
    assert_int_equal(keep_state(k, 5), KEEP_IN);
    assert_int_equal(keep_bytes(k), 2 * MB);
    keep_lost(k, 5);
    assert_true(keep_guess(k, 5, 0, 0));
    assert_true(keep_need(k, 5)); /* from perhaps to sure */
    assert_int_equal(keep_next(k, false), 5);
    keep_close(k);
    keep_close(NULL);
}

/* The room fills with what is worth most, in order where that is alike. */
static void filling(void **state)
{
    struct keep *k = keep_of(3, 4, 5 * MB, 0);
    static const uint32_t order[] = { 9, 6, 0, 1, 2 };
    (void)state;

    keep_set_worth(k, 6, 0.5f);
    keep_set_worth(k, 9, 0.6f);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(keep_fill(k), order[i]);
        keep_came(k, order[i]);
    }
    assert_int_equal(keep_fill(k), KEEP_NONE);
    assert_int_equal(keep_victim(k), KEEP_NONE);
    keep_close(k);
    assert_int_equal(keep_open(&k, 1, KEEP_UNITS_MAX + 1, 0), ERR_RANGE);
    assert_null(k);
}

/* Of weights that each step reads in turn, with room for 6 of 10 layers, 5 of 9 are found; who
 * forgets what was used longest ago finds none. */
static void a_cycle(void **state)
{
    struct keep *k = keep_of(10, 1, 6 * MB, 2);
    struct keep_counts before, after;
    (void)state;

    for (int step = 0; step < 1000; step++) {
        if (step == 900) before = keep_counts(k);
        for (uint32_t l = 0; l < 10; l++) {
            keep_need(k, l);
            (void)read_all(k, NULL);
            keep_done(k, l);
        }
    }
    after = keep_counts(k);
    assert_int_equal(after.needs - before.needs, 1000);
    assert_true(after.hits - before.hits >= 550);
    assert_true(keep_bytes(k) <= 6 * MB);
    keep_close(k);
}

static uint64_t random_state;
static double chance(void)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(random_state >> 40) / (double)(1 << 24);
}

/* top of n experts of which the r-th is chosen as often as 1 / r says. */
static void choose(uint32_t n, uint32_t top, uint32_t turn, bool *chosen)
{
    double sum = 0;

    memset(chosen, 0, n);
    for (uint32_t r = 1; r <= n; r++) sum += 1.0 / r;
    for (uint32_t i = 0; i < top;) {
        double at = chance() * sum;
        uint32_t r = 0;
        while (r + 1 < n && (at -= 1.0 / (r + 1)) > 0) r++;
        uint32_t e = (r * 37 + turn) % n;
        i += !chosen[e];
        chosen[e] = true;
    }
}

/* Steps through layers of 64 experts, 4 chosen, room for share of them. */
static double hit_rate(uint32_t share, uint32_t steps, uint32_t turn)
{
    enum { LAYERS = 3, EXPERTS = 64, TOP = 4 };
    struct keep *k = keep_of(LAYERS, EXPERTS, (uint64_t)LAYERS * EXPERTS * MB * share / 100, 0);
    struct keep_counts before = { 0 };
    bool chosen[EXPERTS];

    random_state = 5;
    for (uint32_t s = 0; s < steps; s++) {
        if (s == steps / 2) before = keep_counts(k);
        for (uint32_t l = 0; l < LAYERS; l++) {
            choose(EXPERTS, TOP, l * 7 + (s > steps / 4 ? turn : 0), chosen);
            for (uint32_t e = 0; e < EXPERTS; e++)
                if (chosen[e]) keep_need(k, l * EXPERTS + e);
            (void)read_all(k, NULL);
            assert_true(keep_bytes(k) <= keep_room(k));
            keep_done(k, l);
        }
    }
    struct keep_counts all = keep_counts(k);
    keep_close(k);
    return (double)(all.hits - before.hits) / (double)(all.needs - before.needs);
}

/* Without skew a quarter of the experts is found a quarter of the time; with it, the room holds the
 * quarter that is used most (which is 0.68 of the uses here), also when those become others. */
static void use_decides(void **state)
{
    (void)state;
    double quarter = hit_rate(25, 4000, 0), half = hit_rate(50, 4000, 0);
    double turned = hit_rate(25, 8000, 31);

    assert_true(quarter > 0.62 && quarter < 0.75);
    assert_true(half > 0.78 && half < 0.88);
    assert_true(turned > quarter - 0.03);
}

/* A unit that every second step reads is worth about 1, and forgets it. */
static void worth(void **state)
{
    struct keep *k = keep_of(2, 2, 4 * MB, 0);
    (void)state;

    for (int step = 0; step < 6000; step++) {
        if (step % 2) keep_need(k, 1);
        keep_done(k, 0);
        if (step == 5000) keep_done(k, 7); /* no such layer */
    }
    assert_true(keep_worth(k, 1) > 0.9f && keep_worth(k, 1) < 1.1f);
    assert_true(keep_worth(k, 0) == 0 && keep_worth(k, 3) == 0);
    for (int step = 0; step < 512; step++) keep_done(k, 0);
    assert_true(keep_worth(k, 1) > 0.15f && keep_worth(k, 1) < 0.22f);
    keep_close(k);
}

/* Guesses of a rank are read as long as enough of them come true. */
static void guesses(void **state)
{
    struct keep *k = keep_of(1, 4, 4 * MB, 0);
    (void)state;

    for (int step = 0; step < 3000; step++) { /* rank 0 is right nine times of ten, rank 1 once */
        keep_guess(k, 0, 0, 0.5f);
        keep_guess(k, 1, 1, 0.5f);
        keep_guess(k, 1, 0, 0.5f); /* its first rank counts */
        (void)read_all(k, NULL);
        keep_need(k, step % 10 == 9);
        (void)read_all(k, NULL);
        keep_done(k, 0);
        keep_lost(k, 0), keep_lost(k, 1);
    }
    assert_true(keep_right(k, 0) > 0.87f && keep_right(k, 0) < 0.93f);
    assert_true(keep_right(k, 1) > 0.07f && keep_right(k, 1) < 0.13f);
    assert_true(keep_guess(k, 0, 0, 0.8f) && !keep_guess(k, 1, 1, 0.2f));
    assert_false(keep_guess(k, 2, 0, 0.99f));
    assert_true(keep_guess(k, 3, 1000, 0.5f)); /* no such rank was seen: as at first */
    struct keep_counts c = keep_counts(k);
    assert_int_equal(c.guesses, 6004);
    assert_int_equal(c.needs, 3000);
    assert_int_equal(c.right, 3000);
    assert_true(c.hits == c.early && c.hits > 2600);
    keep_close(k);
}

/* Anything in any order: what is held adds up, and nothing is two things. */
static void anything(void **state)
{
    enum { LAYERS = 4, EACH = 8, UNITS = LAYERS * EACH };
    (void)state;

    random_state = 11;
    for (int round = 0; round < 50; round++) {
        struct keep *k = keep_of(LAYERS, EACH, (uint64_t)(round % 20) * MB, 0);
        uint32_t coming[UNITS], n = 0;
        for (int i = 0; i < 2000; i++) {
            uint32_t u = (uint32_t)(chance() * UNITS), got = KEEP_NONE;
            switch ((int)(chance() * 7)) {
            case 0: keep_need(k, u); break;
            case 1: keep_guess(k, u, u % 3, 0); break;
            case 2: keep_done(k, u / EACH); break;
            case 3: got = keep_next(k, chance() < 0.5); break;
            case 4: got = keep_fill(k); break;
            case 5: keep_lost(k, u); break;
            default:
                if (n > 0) keep_came(k, coming[--n]);
                while (keep_victim(k) != KEEP_NONE) {
                }
            }
            if (got != KEEP_NONE) coming[n++] = got;
            uint64_t held = 0;
            for (uint32_t v = 0; v < UNITS; v++) held += keep_state(k, v) == KEEP_OUT ? 0 : MB;
            assert_int_equal(held, keep_bytes(k));
            for (uint32_t v = 0; v < n; v++)
                assert_int_equal(keep_state(k, coming[v]), KEEP_COMING);
        }
        keep_close(k);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(come_and_go), cmocka_unit_test(filling), cmocka_unit_test(a_cycle),
        cmocka_unit_test(use_decides), cmocka_unit_test(worth),   cmocka_unit_test(guesses),
        cmocka_unit_test(anything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
