/* Who is next: shares are equal whoever asks how much, absence saves nothing, nobody starves. */
#include "proto/fair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { PLACES = 64 };

static struct fair_place place_of(uint64_t who, uint32_t rank, uint64_t work)
{
    return (struct fair_place){ .who = who, .rank = rank, .work = work };
}

/* Serve n pieces, to whoever is next; everybody's sum is in got[who]. */
static void serve(struct fair_queue *q, uint32_t n, uint64_t *got, uint64_t now_ms)
{
    for (uint32_t i = 0; i < n; i++) {
        struct fair_place *p = fair_next(q, now_ms);
        assert_non_null(p);
        fair_take(q, p);
        got[p->who] += p->work;
    }
}

static void test_one_with_many_does_not_keep_off_one_with_few(void **state)
{
    (void)state;
    struct fair_queue q = { 0 };
    struct fair_place p[PLACES];
    uint64_t got[3] = { 0 };
    for (uint32_t i = 0; i < 20; i++) {
        p[i] = place_of(1, 0, 100);
        fair_join(&q, &p[i], 0);
    }
    serve(&q, 5, got, 0);
    p[20] = place_of(2, 0, 100);
    fair_join(&q, &p[20], 0);
    fair_order(&q, 0);
    assert_true(p[20].place <= 2);
    serve(&q, 2, got, 0);
    assert_int_equal(got[2], 100);
}

/* Users of one client share what is his: one with many questions does not keep off another of the
 * same client, and both together have no more than a client alone. */
static void test_users_of_one_client_share_what_is_his(void **state)
{
    (void)state;
    struct fair_queue q = { 0 };
    struct fair_place p[PLACES];
    uint64_t got[3] = { 0 };
    for (uint32_t i = 0; i < 40; i++) {
        p[i] = place_of(i < 30 ? 1 : 2, 0, 100);
        p[i].user = i < 20 ? 7 : i < 30 ? 8 : 0;
        fair_join(&q, &p[i], 0);
    }
    fair_order(&q, 0);
    uint32_t first_of_8 = p[20].place;
    assert_true(first_of_8 <= 4); /* of four turns two are the client's, and one of these is 8's */
    uint64_t of_user[9] = { 0 };
    for (uint32_t i = 0; i < 20; i++) {
        struct fair_place *next = fair_next(&q, 0);
        fair_take(&q, next);
        got[next->who] += next->work;
        of_user[next->user] += next->work;
        if (next == &p[20]) assert_int_equal(i + 1, first_of_8);
    }
    assert_int_equal(got[1], 1000);
    assert_int_equal(got[2], 1000);
    assert_int_equal(of_user[7], 500);
    assert_int_equal(of_user[8], 500);
}

/* Two who always want something differ by one piece of each at most, whatever their pieces. */
static void test_shares_are_equal_whatever_the_pieces(void **state)
{
    (void)state;
    struct fair_queue q = { 0 };
    struct fair_place p[2] = { place_of(0, 0, 10), place_of(1, 0, 170) };
    uint64_t got[2] = { 0 };
    fair_join(&q, &p[0], 0);
    fair_join(&q, &p[1], 0);
    for (uint32_t i = 0; i < 1000; i++) {
        struct fair_place *next = fair_next(&q, 0);
        fair_take(&q, next);
        got[next->who] += next->work;
        fair_join(&q, next, 0);
        int64_t apart = (int64_t)got[0] - (int64_t)got[1];
        assert_true(apart <= 180 && apart >= -180);
    }
}

static void test_absence_saves_nothing_up(void **state)
{
    (void)state;
    struct fair_queue q = { 0 };
    struct fair_place p[PLACES];
    uint64_t got[3] = { 0 };
    for (uint32_t i = 0; i < 40; i++) {
        p[i] = place_of(1, 0, 10);
        fair_join(&q, &p[i], 0);
    }
    serve(&q, 30, got, 0);
    for (uint32_t i = 40; i < 60; i++) {
        p[i] = place_of(2, 0, 10);
        fair_join(&q, &p[i], 0);
    }
    serve(&q, 10, got, 0);
    assert_true(got[2] >= 40 && got[2] <= 60);
}

/* fair_order says beforehand what fair_next does. */
static void test_places_are_honest(void **state)
{
    (void)state;
    unsigned seed = 11;
    for (uint32_t round = 0; round < 200; round++) {
        struct fair_queue q = { 0 };
        struct fair_place p[PLACES];
        uint64_t got[8] = { 0 };
        uint32_t n = 2 + (uint32_t)rand_r(&seed) % (PLACES - 2);
        for (uint32_t i = 0; i < n; i++) {
            p[i] = place_of((uint64_t)rand_r(&seed) % 8, (uint32_t)rand_r(&seed) % 3,
                            1 + (uint64_t)rand_r(&seed) % 500);
            fair_join(&q, &p[i], i * 700);
        }
        uint64_t now = n * 700;
        serve(&q, n / 3, got, now);
        fair_order(&q, now);
        uint32_t at = 1;
        while (q.n > 0) {
            struct fair_place *next = fair_next(&q, now);
            assert_int_equal(next->place, at++);
            fair_take(&q, next);
        }
    }
}

static void test_ranks_go_first_but_not_for_ever(void **state)
{
    (void)state;
    struct fair_queue q = { 0 };
    struct fair_place stranger = place_of(1, 2, 10), own[PLACES];
    fair_join(&q, &stranger, 0);
    uint64_t now = 0;
    for (uint32_t i = 0; i < PLACES; i++, now += 1000) { /* one a second, always of rank 0 */
        own[i] = place_of(2, 0, 10);
        fair_join(&q, &own[i], now);
        struct fair_place *next = fair_next(&q, now);
        fair_take(&q, next);
        if (next != &stranger) continue;
        assert_true(now >= FAIR_RANK_MS && now <= 2 * FAIR_RANK_MS);
        return;
    }
    fail_msg("the stranger starves");
}

static void test_who_could_not_be_served_is_where_he_was(void **state)
{
    (void)state;
    struct fair_queue q = { 0 };
    struct fair_place p[3] = { place_of(1, 0, 50), place_of(1, 0, 60), place_of(2, 0, 70) };
    for (uint32_t i = 0; i < 3; i++) fair_join(&q, &p[i], 0);
    fair_take(&q, fair_next(&q, 0));
    fair_return(&q, &p[0]);
    assert_ptr_equal(fair_next(&q, 0), &p[0]);
    fair_order(&q, 0);
    assert_int_equal(p[0].place, 1);
    assert_int_equal(p[2].place, 2);
    fair_leave(&q, &p[0]);
    assert_ptr_equal(fair_next(&q, 0), &p[1]);
}

/* More who than clocks: the table is bounded, and those it remembers are right. */
static void test_many_strangers(void **state)
{
    (void)state;
    struct fair_shares s = { 0 };
    for (uint64_t who = 1; who <= 3 * FAIR_SHARES; who++) {
        fair_serve(&s, who, 1000 + who);
        assert_true(s.n <= FAIR_SHARES);
        assert_int_equal(fair_clock(&s, who), s.now + 1000 + who);
    }
    fair_correct(&s, 3 * FAIR_SHARES, -5000000);
    assert_int_equal(fair_clock(&s, 3 * FAIR_SHARES), s.now);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_with_many_does_not_keep_off_one_with_few),
        cmocka_unit_test(test_users_of_one_client_share_what_is_his),
        cmocka_unit_test(test_shares_are_equal_whatever_the_pieces),
        cmocka_unit_test(test_absence_saves_nothing_up),
        cmocka_unit_test(test_places_are_honest),
        cmocka_unit_test(test_ranks_go_first_but_not_for_ever),
        cmocka_unit_test(test_who_could_not_be_served_is_where_he_was),
        cmocka_unit_test(test_many_strangers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
