/* The layout and the costs of a session's memory. */
#include "model/stage.h"
#include "tests/model/toy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
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
        size_t one = 16u * a.head_dim * ftype_bytes(a.kv);
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

/* Keys lie in blocks of positions, values one after the other; what is out of range of the type
 * does not arise (attention.c clamps). */
static void put(void **state)
{
    enum { CAP = 35 };
    const struct kernels *k = kernels_nth(0);
    (void)state;
    for (unsigned i = 0; i < TOYS; i++) {
        struct arch a;
        struct kv *kv;
        uint64_t seed = i;
        toy_shape(i, &a);
        uint32_t hd = a.head_dim = i == 3 ? 130 : a.head_dim;
        size_t size = ftype_bytes(a.kv);
        float *in = malloc((size_t)CAP * hd * 2 * sizeof *in), x, y;
        assert_int_equal(kv_open(&kv, &a, 0, 2, CAP), ERR_OK);
        for (uint32_t n = 0; n < CAP * hd * 2; n++) in[n] = toy_random(&seed);
        for (uint32_t t = CAP; t-- > 0;)
            kv_put(kv, k, 1, a.n_kv - 1, t, in + (size_t)t * hd, in + (size_t)(CAP + t) * hd);
        const uint8_t *keys = kv_k(kv, 1, a.n_kv - 1), *values = kv_v(kv, 1, a.n_kv - 1);
        for (uint32_t t = 0; t < CAP; t++)
            for (uint32_t c = 0; c < hd; c++) {
                assert_true(k->exchange(&y, in + (size_t)t * hd + c, 1, 1, a.kv));
                k->widen(&x, keys + ((size_t)(t / 16 * hd + c) * 16 + t % 16) * size, 1, a.kv);
                assert_memory_equal(&x, &y, sizeof x);
                assert_true(k->exchange(&y, in + (size_t)(CAP + t) * hd + c, 1, 1, a.kv));
                k->widen(&x, values + ((size_t)t * hd + c) * size, 1, a.kv);
                assert_memory_equal(&x, &y, sizeof x);
            }
        kv_close(kv);
        free(in);
    }
}

/* Blocks go out of one session and into another of other layers and capacity. */
static void save_and_load(void **state)
{
    enum { N = 48 };
    (void)state;
    for (unsigned i = 0; i < TOYS; i++) {
        struct arch a;
        struct kv *from, *to;
        toy_shape(i, &a);
        assert_int_equal(kv_open(&from, &a, 1, 3, 60), ERR_OK);
        assert_int_equal(kv_open(&to, &a, 1, 2, N + 1), ERR_OK);
        kv_fill(from, 60, i);
        uint8_t *block = malloc((size_t)kv_cost(&a, 1, 3, 16));
        for (uint32_t pos = 0; pos < N; pos += 16) {
            kv_save(from, pos, 16, block);
            kv_load(to, pos, 16, block);
            assert_int_equal(kv_len(to), pos + 16);
        }
        size_t bytes = (size_t)N * a.head_dim * ftype_bytes(a.kv);
        for (uint32_t g = 0; g < a.n_kv; g++) {
            assert_memory_equal(kv_k(to, 1, g), kv_k(from, 1, g), bytes);
            assert_memory_equal(kv_v(to, 1, g), kv_v(from, 1, g), bytes);
        }
        free(block);
        kv_close(from);
        kv_close(to);
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

/* --- what measuring needs --- */

static void all_numbers(void *arg, const void *p, size_t n)
{
    uint32_t *seen = arg;
    for (size_t i = 0; i < n; i += 2, ++*seen) {
        uint16_t h;
        memcpy(&h, (const uint8_t *)p + i, 2);
        float size = f32_from_f16(h & 0x7fff);
        assert_true(size >= 1 && size < 2);
    }
}

/* Random keys and values are where attention looks, and a step behind them gives numbers. */
static void filled(void **state)
{
    enum { LEN = 35 };
    struct toy t = { 0 };
    struct kv *kv;
    struct stage *s;
    struct nonfinite bad;
    uint32_t seen = 0;
    (void)state;

    toy_shape(0, &t.a);
    t.a.kv = FT_F16;
    toy_fill(&t, 1);
    assert_int_equal(kv_open(&kv, &t.a, 0, 2, LEN + 1), ERR_OK);
    kv_fill(kv, LEN, 1);
    assert_int_equal(kv_len(kv), LEN);
    kv_each(kv, all_numbers, &seen);
    assert_int_equal(seen, 2 * t.a.n_kv * (48 + LEN) * t.a.head_dim);

    uint8_t *x = calloc(1, arch_row_bytes(&t.a));
    struct row row = { kv, LEN };
    memset(x, 0x3f, arch_row_bytes(&t.a)); /* about 0.75, in either type */
    assert_int_equal(stage_open(&s, &t.a, t.layer, 0, 2, 1, kernels_nth(0), workers_inline()),
                     ERR_OK);
    assert_int_equal(stage_forward(s, &row, 1, x, &bad), ERR_OK);
    assert_int_equal(kv_len(kv), LEN + 1);
    stage_close(s);
    kv_close(kv);
    free(x);
    toy_free(&t);
}

static void note_lap(void *arg, uint32_t layer, enum stage_part done)
{
    char **to = arg;
    *to += sprintf(*to, "%u%c ", layer, "eam"[done]);
}

/* A clock hears of every part, in order, and of none when it is taken away. */
static void laps(void **state)
{
    struct toy t = { 0 };
    struct kv *kv;
    struct stage *s;
    struct nonfinite bad;
    char text[64] = "", *to = text;
    (void)state;

    toy_shape(0, &t.a);
    toy_fill(&t, 1);
    assert_int_equal(kv_open(&kv, &t.a, 1, 3, 4), ERR_OK);
    assert_int_equal(stage_open(&s, &t.a, &t.layer[1], 1, 3, 1, kernels_nth(0), workers_inline()),
                     ERR_OK);
    uint8_t *x = calloc(1, arch_row_bytes(&t.a));
    stage_laps(s, note_lap, &to);
    assert_int_equal(stage_forward(s, &(struct row){ kv, 0 }, 1, x, &bad), ERR_OK);
    assert_string_equal(text, "1e 1a 1m 2a 2m ");
    stage_laps(s, NULL, NULL);
    assert_int_equal(stage_forward(s, &(struct row){ kv, 1 }, 1, x, &bad), ERR_OK);
    assert_string_equal(text, "1e 1a 1m 2a 2m ");
    free(x);
    stage_close(s);
    kv_close(kv);
    toy_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layout),        cmocka_unit_test(put),    cmocka_unit_test(save_and_load),
        cmocka_unit_test(reserved_only), cmocka_unit_test(bounds), cmocka_unit_test(stage_costs),
        cmocka_unit_test(filled),        cmocka_unit_test(laps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
