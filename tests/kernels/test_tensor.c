/* Tiling, packing and the check of what a peer sends, against the header's words and an
 * independently written Q4_0 and Q8_0. */
#include "kernels/kernels.h"
#include "kernels/tensor.h"
#include "tests/kernels/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const enum wtype types[] = { WT_F32, WT_F16, WT_BF16, WT_Q40, WT_Q80 };
#define EACH_TYPE(t) for (unsigned t##_ = 0; t##_ < WT_COUNT && (t = types[t##_], true); t##_++)

static void names(void **state)
{
    (void)state;
    enum wtype t, back;
    EACH_TYPE(t)
    {
        assert_true(wtype_parse(wtype_name(t), &back));
        assert_int_equal(t, back);
    }
    assert_string_equal(wtype_name(WT_Q40), "q40");
    assert_string_equal(wtype_name(WT_BF16), "bf16");
    assert_string_equal(wtype_name((enum wtype)77), "unknown");
    assert_false(wtype_parse("q4", &t));
    assert_false(wtype_parse("", &t));
}

static void group_sizes(void **state)
{
    (void)state;
    assert_int_equal(wtype_group_bytes(WT_F32, 7), 7 * 64);
    assert_int_equal(wtype_group_bytes(WT_F16, 7), 7 * 32);
    assert_int_equal(wtype_group_bytes(WT_BF16, 7), 7 * 32);
    assert_int_equal(wtype_group_bytes(WT_Q40, 32), 288);
    assert_int_equal(wtype_group_bytes(WT_Q40, 33), 576);
    assert_int_equal(wtype_group_bytes(WT_Q80, 1), 544);
    assert_int_equal(wtype_group_bytes(WT_Q80, 4096), 128 * 544);
    assert_int_equal(wtype_group_bytes(WT_Q80, UINT32_MAX), ((size_t)1 << 27) * 544);
}

static void tilings(void **state)
{
    (void)state;
    struct tiling l = tiling_of(WT_Q40, 4096, 4096); /* 36864 bytes a group */
    assert_int_equal(l.groups, 256);
    assert_int_equal(l.groups_per_tile, 28);
    assert_int_equal(l.tiles, 10);
    assert_int_equal(tiling_tile_bytes(&l, 0), 28 * 36864);
    assert_int_equal(tiling_tile_bytes(&l, 9), 4 * 36864);

    l = tiling_of(WT_F32, 20, 40000); /* wider than a tile: one group each */
    assert_int_equal(l.groups_per_tile, 1);
    assert_int_equal(l.tiles, 2);
    assert_int_equal(tiling_tile_bytes(&l, 1), 40000 * 64);

    l = tiling_of(WT_F32, 262128, 1); /* the longest vector of one tile */
    assert_int_equal(l.tiles, 1);
    assert_int_equal(tiling_tile_bytes(&l, 0), 262128 * 4);
    assert_int_equal(tiling_of(WT_F32, 262129, 1).tiles, 2);

    uint64_t seed = 1;
    for (int i = 0; i < 2000; i++) {
        enum wtype t = types[draw(&seed) % WT_COUNT];
        uint32_t rows = 1 + (uint32_t)(draw(&seed) % 100000);
        uint32_t cols = 1 + (uint32_t)(draw(&seed) % 20000);
        l = tiling_of(t, rows, cols);
        size_t sum = 0;
        for (uint32_t tile = 0; tile < l.tiles; tile++) {
            size_t n = tiling_tile_bytes(&l, tile);
            assert_true(n > 0 && (n <= TILE_BYTES || l.groups_per_tile == 1));
            sum += n;
        }
        assert_int_equal(sum, l.groups * l.group_bytes);
        assert_int_equal(l.groups, (rows + 15) / 16);
    }
}

/* --- an independent Q4_0 and Q8_0, in the words of ggml's reference --- */

/* Nearest f16 of a finite double, halves to even, as bits; found by rounding in steps of the
 * spacing at that magnitude. */
static uint16_t nearest_f16(double x)
{
    uint16_t sign = signbit(x) ? 0x8000 : 0;
    double a = fabs(x);
    int e;
    frexp(a, &e); /* a = m * 2^e, m in [0.5, 1) */
    int step = a < 0x1p-14 ? -24 : e - 11;
    double n = nearbyint(ldexp(a, -step));
    double r = ldexp(n, step);
    if (r >= 65536) return (uint16_t)(sign | 0x7c00);
    if (r < 0x1p-14) return (uint16_t)(sign | (int)(r * 0x1p24));
    frexp(r, &e);
    int mantissa = (int)(ldexp(r, 11 - e)) - 1024;
    return (uint16_t)(sign | (e + 14) << 10 | mantissa);
}

static uint16_t ggml_q40(const float *x, uint8_t q[32])
{
    float amax = 0, max = 0;
    for (int j = 0; j < 32; j++) {
        if (amax < fabsf(x[j])) {
            amax = fabsf(x[j]);
            max = x[j];
        }
    }
    volatile float d = max / -8;
    volatile float id = d != 0 ? 1.0f / d : 0.0f;
    uint16_t scale = nearest_f16((double)d);
    for (int j = 0; j < 32; j++) {
        volatile float scaled = x[j] * id;
        volatile float shifted = scaled + 8.5f;
        int v = (scale & 0x7fff) == 0 ? 8 : (int8_t)shifted;
        q[j] = (uint8_t)(v < 15 ? v : 15);
    }
    return scale;
}

static uint16_t ggml_q80(const float *x, int8_t q[32])
{
    float amax = 0;
    for (int j = 0; j < 32; j++) amax = fmaxf(amax, fabsf(x[j]));
    volatile float d = amax / 127;
    volatile float id = d != 0 ? 1.0f / d : 0.0f;
    uint16_t scale = nearest_f16((double)d);
    for (int j = 0; j < 32; j++) {
        volatile float scaled = x[j] * id;
        q[j] = (int8_t)((scale & 0x7fff) == 0 ? 0 : roundf(scaled));
    }
    return scale;
}

static uint16_t u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

/* Where the header says that input i of a row lies in a block. */
static int nibble_at(const uint8_t *block, unsigned row, unsigned i)
{
    unsigned g = i % 16 / 4, j = i % 4;
    uint8_t byte = block[32 + g * 64 + row * 4 + j];
    return i < 16 ? byte & 15 : byte >> 4;
}

static int8_t int8_at(const uint8_t *block, unsigned row, unsigned i)
{
    return (int8_t)block[32 + i / 4 * 64 + row * 4 + i % 4];
}

/* One block: 16 rows of 32, n_rows of them given. */
static void check_block(const float *rows, uint32_t stride, uint32_t n_rows, uint32_t cols)
{
    uint8_t p40[288], p80[544];
    assert_int_equal(group_pack(WT_Q40, rows, stride, n_rows, cols, p40), ERR_OK);
    assert_int_equal(group_pack(WT_Q80, rows, stride, n_rows, cols, p80), ERR_OK);
    for (unsigned r = 0; r < 16; r++) {
        float x[32] = { 0 };
        uint8_t q40[32];
        int8_t q80[32];
        if (r < n_rows) memcpy(x, rows + r * stride, cols * sizeof *x);
        assert_int_equal(u16(p40 + 2 * r), ggml_q40(x, q40));
        assert_int_equal(u16(p80 + 2 * r), ggml_q80(x, q80));
        for (unsigned i = 0; i < 32; i++) {
            assert_int_equal(nibble_at(p40, r, i), q40[i]);
            assert_int_equal(int8_at(p80, r, i), q80[i]);
        }
    }
}

static void packs_as_ggml(void **state)
{
    (void)state;
    uint64_t seed = 2;
    for (int round = 0; round < 400; round++) {
        float rows[16 * 37];
        enum kind kind = (enum kind)(round % KINDS);
        uint32_t n_rows = 1 + (uint32_t)(draw(&seed) % 16), cols = 1 + (uint32_t)(draw(&seed) % 32);
        draw_values(rows, 16 * 37, &seed, kind, 5e5f);
        check_block(rows, 37, n_rows, cols);
    }
}

/* Values on the quantizer's rounding edges, both signs of the largest, and equal magnitudes. */
static void packs_ties_as_ggml(void **state)
{
    (void)state;
    float rows[16 * 32];
    for (int r = 0; r < 16; r++)
        for (int i = 0; i < 32; i++)
            rows[r * 32 + i] = (float)(i - 16) * (r % 2 ? 0.5f : -0.5f) * (float)(1 << r / 4);
    check_block(rows, 32, 16, 32);
    for (int r = 0; r < 16; r++) {
        for (int i = 0; i < 32; i++) rows[r * 32 + i] = ((float)i - 15.5f) * 8;
        rows[r * 32 + r] = r % 2 ? 127 : -127;
    }
    check_block(rows, 32, 16, 32);
    for (int i = 0; i < 16 * 32; i++) rows[i] = i % 3 ? 0.49999997f : 127;
    check_block(rows, 32, 16, 32);
}

/* d rounds to 0 in f16 from 2^-25 down: values are all zero, and the integers say so. */
static void tiny_scales(void **state)
{
    (void)state;
    for (int e = -140; e < -10; e++) {
        float rows[32] = { 0 };
        rows[3] = ldexpf(1, e);
        rows[9] = -ldexpf(0.4f, e);
        check_block(rows, 32, 1, 32);
    }
    float zero[32] = { 0 };
    uint8_t p[288];
    assert_int_equal(group_pack(WT_Q40, zero, 32, 1, 32, p), ERR_OK);
    for (unsigned i = 32; i < 288; i++) assert_int_equal(p[i], 0x88);
}

static void refuses_what_is_not_finite(void **state)
{
    (void)state;
    const float bad[] = { NAN, -NAN, INFINITY, -INFINITY };
    uint8_t out[64 * 40];
    enum wtype t;

    EACH_TYPE(t)
    {
        for (unsigned at = 0; at < 3 * 40; at += 7) {
            for (unsigned b = 0; b < 4; b++) {
                float rows[3 * 40] = { 1, 2, 3 };
                assert_int_equal(group_pack(t, rows, 40, 3, 40, out), ERR_OK);
                rows[at] = bad[b];
                assert_int_equal(group_pack(t, rows, 40, 3, 40, out), ERR_NONFINITE);
            }
        }
    }
    float one[1] = { 65519.996f };
    assert_int_equal(group_pack(WT_F16, one, 1, 1, 1, out), ERR_OK);
    *one = 65520;
    assert_int_equal(group_pack(WT_F16, one, 1, 1, 1, out), ERR_NONFINITE);
    *one = 65519.996f * 8;
    assert_int_equal(group_pack(WT_Q40, one, 1, 1, 1, out), ERR_OK);
    *one = 65520.0f * 8;
    assert_int_equal(group_pack(WT_Q40, one, 1, 1, 1, out), ERR_NONFINITE);
    *one = 65510.0f * 127;
    assert_int_equal(group_pack(WT_Q80, one, 1, 1, 1, out), ERR_OK);
    *one = 65530.0f * 127;
    assert_int_equal(group_pack(WT_Q80, one, 1, 1, 1, out), ERR_NONFINITE);
    *one = 3.4e38f; /* the largest bf16 is 3.3895e38 */
    assert_int_equal(group_pack(WT_F32, one, 1, 1, 1, out), ERR_OK);
    assert_int_equal(group_pack(WT_BF16, one, 1, 1, 1, out), ERR_NONFINITE);
}

static void refuses_wrong_counts(void **state)
{
    (void)state;
    float x[32] = { 0 };
    uint8_t out[288];
    assert_int_equal(group_pack(WT_Q40, x, 1, 0, 1, out), ERR_RANGE);
    assert_int_equal(group_pack(WT_Q40, x, 1, 17, 1, out), ERR_RANGE);
    assert_int_equal(group_pack(WT_Q40, x, 1, 1, 0, out), ERR_RANGE);
}

/* Put the 16 bits h into byte at of a good tile and ask. */
static bool finite_with(enum wtype t, uint32_t cols, const uint8_t *good, size_t n, size_t at,
                        uint16_t h)
{
    uint8_t *p = malloc(n);
    assert_non_null(p);
    memcpy(p, good, n);
    p[at] = (uint8_t)h;
    p[at + 1] = (uint8_t)(h >> 8);
    bool finite = tile_finite(t, cols, p, n);
    free(p);
    return finite;
}

static void finds_what_is_not_finite(void **state)
{
    (void)state;
    enum { COLS = 70 };
    enum wtype t;

    EACH_TYPE(t)
    {
        float rows[16 * COLS];
        uint64_t seed = 3;
        draw_values(rows, 16 * COLS, &seed, ORDINARY, 0);
        size_t group = wtype_group_bytes(t, COLS), n = 2 * group;
        uint8_t *good = malloc(n);
        assert_non_null(good);
        assert_int_equal(group_pack(t, rows, COLS, 16, COLS, good), ERR_OK);
        memcpy(good + group, good, group);
        assert_true(tile_finite(t, COLS, good, n));
        assert_false(tile_finite(t, COLS, good, n - 1));
        assert_false(tile_finite(t, COLS + 32, good, n));
        assert_false(tile_finite(t, 0, good, n));
        assert_false(tile_finite((enum wtype)9, COLS, good, n));

        size_t unit = t == WT_F32 ? 4 : 2, block = t == WT_Q40 ? 288 : 544;
        for (size_t at = 0; at < n; at += unit) {
            bool number = !wtype_quantized(t) || at % block < 32;
            size_t top = at + unit - 2; /* where the exponent is */
            uint16_t inf = t == WT_F32 || t == WT_BF16 ? 0x7f80 : 0x7c00;
            assert_int_equal(finite_with(t, COLS, good, n, top, inf), !number);
            assert_int_equal(finite_with(t, COLS, good, n, top, (uint16_t)(inf | 0x8011)), !number);
            assert_true(finite_with(t, COLS, good, n, top, (uint16_t)(inf - 1)));
        }
        free(good);
    }
}

static void rows_come_back(void **state)
{
    (void)state;
    enum { ROWS = 37, COLS = 45 };
    float rows[48 * COLS] = { 0 }, back[COLS];
    uint64_t seed = 4;
    draw_values(rows, ROWS * COLS, &seed, ORDINARY, 0);
    enum wtype t;

    EACH_TYPE(t)
    {
        struct tensor w = { t, ROWS, COLS, tiling_of(t, ROWS, COLS), NULL };
        w.tiling.groups_per_tile = 2; /* so that there are two tiles */
        size_t group = w.tiling.group_bytes;
        uint8_t *bytes = malloc(3 * group + 1);
        assert_non_null(bytes);
        const uint8_t *tile[] = { bytes + 1, bytes + 1 + 2 * group }; /* odd addresses */
        w.tile = tile;
        for (uint32_t g = 0; g < 3; g++)
            assert_int_equal(group_pack(t, rows + g * 16 * COLS, COLS, g == 2 ? 5 : 16, COLS,
                                        bytes + 1 + g * group),
                             ERR_OK);
        for (uint32_t r = 0; r < ROWS; r++) {
            const float *x = rows + r * COLS;
            tensor_row(&w, r, back);
            for (uint32_t c = 0; c < COLS; c++) {
                uint32_t c0 = c / 32 * 32, n = COLS - c0 < 32 ? COLS - c0 : 32;
                float block[32] = { 0 };
                memcpy(block, x + c0, n * sizeof *x);
                uint8_t q40[32];
                int8_t q80[32];
                float want = x[c];
                if (t == WT_F16) want = f32_from_f16(nearest_f16((double)x[c]));
                if (t == WT_BF16) want = f32_from_bf16(bf16_from_f32(x[c]));
                if (t == WT_Q40) {
                    float d = f32_from_f16(ggml_q40(block, q40));
                    want = d * (float)(q40[c - c0] - 8);
                }
                if (t == WT_Q80) {
                    float d = f32_from_f16(ggml_q80(block, q80));
                    want = d * (float)q80[c - c0];
                }
                assert_memory_equal(&back[c], &want, sizeof want);
            }
        }
        free(bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(group_sizes),
        cmocka_unit_test(tilings),
        cmocka_unit_test(packs_as_ggml),
        cmocka_unit_test(packs_ties_as_ggml),
        cmocka_unit_test(tiny_scales),
        cmocka_unit_test(refuses_what_is_not_finite),
        cmocka_unit_test(refuses_wrong_counts),
        cmocka_unit_test(finds_what_is_not_finite),
        cmocka_unit_test(rows_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
