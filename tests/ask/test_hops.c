/* Ways are what is left between the ends of stages' work, in whatever order those are heard. */
#include "ask/hops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/* One step through two stages: ways of 100, 200 and 300 us, work of 40 and 50. */
struct heard {
    uint32_t point;
    uint64_t left_us, work_us;
};
static const struct heard whole[] = {
    { 0, 1000, 0 }, { 1, 1140, 40 }, { 2, 1390, 50 }, { 3, 1690, 0 }
};

static void hear(struct hops *h, const struct heard *x, uint32_t step, uint64_t later_us)
{
    hops_left(h, x->point, step, x->left_us + later_us, x->work_us);
}

static void assert_ways(const struct hops *h, uint32_t a, uint32_t b, uint32_t c)
{
    assert_int_equal(hops_way_us(h, 1), a);
    assert_int_equal(hops_way_us(h, 2), b);
    assert_int_equal(hops_way_us(h, 3), c);
}

static void test_any_order(void **state)
{
    (void)state;
    static const unsigned order[][4] = {
        { 0, 1, 2, 3 }, { 3, 2, 1, 0 }, { 0, 3, 1, 2 }, { 2, 0, 3, 1 }
    };
    for (unsigned k = 0; k < 4; k++) {
        struct hops h = { 0 };
        assert_ways(&h, UINT32_MAX, UINT32_MAX, UINT32_MAX);
        for (unsigned i = 0; i < 4; i++) hear(&h, &whole[order[k][i]], 7, 0);
        assert_ways(&h, 100, 200, 300);
        assert_int_equal(hops_way_us(&h, 0), UINT32_MAX);
        assert_int_equal(hops_way_us(&h, 4), UINT32_MAX);
    }
}

static void test_steps_are_not_mixed(void **state)
{
    (void)state;
    struct hops h = { 0 };
    hear(&h, &whole[0], 1, 0);
    hear(&h, &whole[1], 2, 0);
    assert_int_equal(hops_way_us(&h, 1), UINT32_MAX);
    hear(&h, &whole[0], 2, 0);
    assert_int_equal(hops_way_us(&h, 1), 100);
}

static void test_mean_follows(void **state)
{
    (void)state;
    struct hops h = { 0 };
    for (uint32_t step = 0; step < 400; step++) {
        uint64_t slower = step < 200 ? 0 : 500;
        hops_left(&h, 0, step, step * 10000, 0);
        hops_left(&h, 1, step, step * 10000 + 140 + slower, 40);
        if (step == 199) assert_int_equal(hops_way_us(&h, 1), 100);
    }
    assert_in_range(hops_way_us(&h, 1), 595, 600);
}

/* Half of a round trip that was shorter than it is said to be. */
static void test_never_below_nothing(void **state)
{
    (void)state;
    struct hops h = { 0 };
    hops_left(&h, 0, 1, 1000, 0);
    hops_left(&h, 1, 1, 990, 40);
    assert_int_equal(hops_way_us(&h, 1), 0);
    hops_left(&h, HOPS_POINTS, 1, 0, 0); /* nowhere */
    assert_int_equal(hops_way_us(&h, HOPS_POINTS), UINT32_MAX);
    hops_left(&h, HOPS_POINTS - 1, 1, 2000, 0);
    assert_int_equal(hops_way_us(&h, HOPS_POINTS - 1), UINT32_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_order),
        cmocka_unit_test(test_steps_are_not_mixed),
        cmocka_unit_test(test_mean_follows),
        cmocka_unit_test(test_never_below_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
