/* The layout and the costs of a session's memory. */
#include "model/stage.h"
#include "tests/model/toy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* Every vector has its own place, and the last one ends where kv_cost says. */
static void layout(void **state)
{
    (void)state;
    for (unsigned i = 0; i < TOYS; i++) {
        struct arch a;
        struct kv *kv;
        toy_shape(i, &a);
        assert_int_equal(kv_open(&kv, &a, 1, 3, 10), ERR_OK);
        size_t one = 10u * a.head_dim * ftype_bytes(a.kv);
        uint8_t *at = kv_k(kv, 1, 0);
        for (uint32_t l = 1; l < 3; l++)
            for (uint32_t g = 0; g < a.n_kv; g++) {
                assert_ptr_equal(kv_k(kv, l, g), at);
                assert_ptr_equal(kv_v(kv, l, g), at + one);
                memset(at, 0x55, 2 * one);
                at += 2 * one;
            }
        assert_int_equal(at - (uint8_t *)kv_k(kv, 1, 0), kv_cost(&a, 1, 3, 10));
        assert_int_equal(kv_cap(kv), 10);
        assert_int_equal(kv_len(kv), 0);
        kv_close(kv);
    }
}

/* Reserving a long context takes no memory until it fills. */
static void reserved_only(void **state)
{
    struct arch a;
    struct kv *kv;
    (void)state;

    toy_shape(0, &a);
    a.context = 1 << 20;
    a.head_dim = 128;
    assert_true(kv_cost(&a, 0, 3, 1 << 20) == (uint64_t)3 << 30);
    assert_int_equal(kv_open(&kv, &a, 0, 3, 1 << 20), ERR_OK);
    ((uint8_t *)kv_v(kv, 2, 1))[0] = 1;
    kv_close(kv);
    kv_close(NULL);
}

static void bounds(void **state)
{
    struct arch a;
    struct kv *kv;
    (void)state;

    toy_shape(4, &a); /* with a prediction layer */
    assert_int_equal(kv_open(&kv, &a, 0, 5, 10), ERR_RANGE);
    assert_null(kv);
    assert_int_equal(kv_open(&kv, &a, 2, 1, 10), ERR_RANGE);
    assert_int_equal(kv_open(&kv, &a, 0, 4, 10), ERR_OK);
    kv_close(kv);
    assert_int_equal(kv_open(&kv, &a, 2, 2, 10), ERR_OK); /* a stage without layers */
    kv_close(kv);
}

/* What a stage says it costs covers what it takes. */
static void stage_costs(void **state)
{
    struct toy t = { 0 };
    struct stage *s;
    (void)state;

    toy_shape(1, &t.a);
    toy_fill(&t, 1);
    assert_int_equal(stage_open(&s, &t.a, t.layer, 0, 3, 37, kernels_nth(0), workers_inline()),
                     ERR_OK);
    assert_true(s->arena.cap + s->scores_bytes <= stage_cost(&t.a, 3, 37, 1));
    assert_true(stage_cost(&t.a, 3, 512, 8) > stage_cost(&t.a, 3, 37, 1));
    stage_close(s);

    for (uint64_t bytes = stage_cost(&t.a, 3, 300, 1); bytes > 200000; bytes -= bytes / 3) {
        uint32_t most = stage_rows_within(&t.a, 3, 1, bytes);
        assert_in_range(most, 2, BATCH_MAX / 2);
        for (uint32_t rows = most; rows <= 2 * most; rows += most) {
            assert_int_equal(
                stage_open(&s, &t.a, t.layer, 0, 3, rows, kernels_nth(0), workers_inline()),
                ERR_OK);
            assert_int_equal(s->arena.cap <= bytes, rows == most);
            stage_close(s);
        }
    }
    assert_int_equal(stage_rows_within(&t.a, 3, 1, UINT64_MAX), BATCH_MAX);
    assert_int_equal(stage_rows_within(&t.a, 3, 1, 0), 1);
    toy_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layout),
        cmocka_unit_test(reserved_only),
        cmocka_unit_test(bounds),
        cmocka_unit_test(stage_costs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
