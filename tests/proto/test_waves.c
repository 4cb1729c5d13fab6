/* Groups of answers: how many, how large, and what that brings on simulated machines. */
#include "proto/waves.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* Stages of so many microseconds a token, hops of hop_us between them and at both ends. */
static struct plan plan_of(const uint32_t *us, uint32_t n, uint32_t hop_us)
{
    struct plan p = { .n = n, .head_us = 100, .home_us = hop_us };
    p.token_us = p.head_us + p.home_us;
    for (uint32_t i = 0; i < n; i++) {
        p.stage[i] =
            (struct plan_stage){ .lo = i, .hi = i + 1, .layer_us = us[i], .hop_us = hop_us };
        p.token_us += us[i] + hop_us;
    }
    return p;
}

static void test_as_many_as_keep_the_slowest_machine_busy(void **state)
{
    (void)state;
    static const uint32_t even[] = { 10000, 10000, 10000, 10000 }, odd[] = { 5000, 5000, 20000 };
    static const bool apart[4] = { false }, here[4] = { true, true, true, true };
    static const bool half[4] = { true, true };
    struct plan p = plan_of(even, 4, 0);
    assert_int_equal(waves_count(&p, apart), 4);
    assert_int_equal(waves_count(&p, here), 1); /* one machine */
    assert_int_equal(waves_count(&p, half), 2);
    p = plan_of(even, 4, 4000); /* rows on the way keep nobody busy */
    assert_int_equal(waves_count(&p, apart), 6);
    p = plan_of(odd, 3, 0);
    assert_int_equal(waves_count(&p, apart), 2);
    p = plan_of(odd, 1, 0);
    assert_int_equal(waves_count(&p, here), 1);
    p = plan_of(even, 4, 100000000); /* nonsense has an end */
    assert_int_equal(waves_count(&p, apart), PLAN_STAGES_MAX);
}

static void test_sizes(void **state)
{
    (void)state;
    assert_int_equal(waves_size(1, 16), 0);
    assert_int_equal(waves_size(4, 16), 4);
    assert_int_equal(waves_size(4, 17), 5);
    assert_int_equal(waves_size(4, 2), 1);
    assert_int_equal(waves_size(4, 0), 0);
    assert_int_equal(waves_part(16, 0), 16);
    assert_int_equal(waves_part(16, 4), 4);
    assert_int_equal(waves_part(5, 4), 5); /* a straggler joins */
    assert_int_equal(waves_part(7, 4), 4);
    assert_int_equal(waves_part(3, 4), 3);
    assert_int_equal(waves_part(1, 1), 1);
    assert_int_equal(waves_part(0, 4), 0);
}

/* Groups of n answers in a ring of 4 machines whose batch of n takes read + n * row: tokens of all
 * a second. */
static double rate(uint32_t answers, uint32_t groups, double read_us, double row_us)
{
    double n = (double)answers / groups, batch = read_us + n * row_us;
    double round = groups > 4 ? groups * batch : 4 * batch;
    return answers / round * 1e6;
}

/* No other number of groups is faster, whether reading weights or computing rows takes longer. */
static void test_the_number_is_the_best(void **state)
{
    (void)state;
    static const uint32_t us[] = { 1000, 1000, 1000, 1000 };
    static const bool apart[4] = { false };
    struct plan p = plan_of(us, 4, 0);
    p.head_us = 0;
    for (double read = 100; read <= 900; read += 400) {
        double ours = rate(16, waves_count(&p, apart), read, 1000 - read);
        for (uint32_t groups = 1; groups <= 16; groups++)
            assert_true(ours >= 0.999 * rate(16, groups, read, 1000 - read));
        assert_true(ours > 1.05 * rate(16, 16, read, 1000 - read));
        assert_true(ours > 1.2 * rate(16, 1, read, 1000 - read));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_many_as_keep_the_slowest_machine_busy),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_the_number_is_the_best),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
