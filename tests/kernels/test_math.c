/* exp, sin, cos against libm in double (docs/arithmetic.md states the bounds asserted here), and
 * the 16-bit formats over all their values and all their rounding edges. */
#include "kernels/kernels.h"
#include "tests/kernels/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static float of_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

/* |got - exact| in units of the last place of an f32 near exact. */
static double ulps(float got, double exact)
{
    int e = exact == 0 ? -126 : ilogb(exact);
    return fabs((double)got - exact) / ldexp(1, (e < -126 ? -126 : e) - 23);
}

static void exp_is_close(void **state)
{
    (void)state;
    double worst = 0;
    float at = 0;
    for (uint32_t u = 0x32000000; u <= bits_of(88); u += 151) {
        for (int sign = 0; sign < 2; sign++) {
            float x = of_bits(u | (uint32_t)sign << 31);
            double error = ulps(exp_f32(x), exp((double)x));
            if (error > worst) worst = error, at = x;
        }
    }
    print_message("exp: at most %.4f ulp, at %a\n", worst, (double)at);
    assert_true(worst < 1.02);
}

static void exp_at_its_ends(void **state)
{
    (void)state;
    assert_int_equal(bits_of(exp_f32(0)), bits_of(1));
    assert_int_equal(bits_of(exp_f32(-0.0f)), bits_of(1));
    assert_int_equal(bits_of(exp_f32(of_bits(1))), bits_of(1));
    const float beyond[] = { 88, 89, 1e30f, INFINITY };
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(bits_of(exp_f32(beyond[i])), bits_of(exp_f32(88)));
        assert_int_equal(bits_of(exp_f32(-beyond[i])), bits_of(exp_f32(-88)));
    }
    assert_true(exp_f32(-88) > 0 && exp_f32(-88) < 0x1p-126f); /* subnormal, kept */
    assert_true(isfinite(exp_f32(88)));
    assert_true(isnan(exp_f32(NAN)));
    for (float x = -88; x < 88; x += 0.0625f) assert_true(exp_f32(x) <= exp_f32(x + 0.0625f));
}

static void angles_are_close(void **state)
{
    (void)state;
    uint64_t seed = 5;
    double worst = 0;
    for (int i = 0; i < 400000; i++) {
        uint32_t position = (uint32_t)draw(&seed) >> draw(&seed) % 32;
        double freq = fabs(draw_unit(&seed)) * ldexp(1, -(int)(draw(&seed) % 20));
        if (position >> 20) freq *= 0.25; /* the promise is for angles below 2^31 */
        float c, s;
        rope_angles(&c, &s, &freq, 1, position, 1);
        double angle = (double)position * freq;
        worst = fmax(worst, fmax(ulps(c, cos(angle)), ulps(s, sin(angle))));
    }
    print_message("cos, sin: at most %.7f ulp\n", worst);
    assert_true(worst < 0.50001);
}

static void angles_at_quarters(void **state)
{
    (void)state;
    for (uint32_t k = 0; k < 100000; k++) {
        double f = 1.5707963267948966;
        float c, s;
        rope_angles(&c, &s, &f, 1, k, 1);
        double angle = (double)k * f;
        assert_true(ulps(c, cos(angle)) < 0.50001 && ulps(s, sin(angle)) < 0.50001);
    }
    double freq[2] = { 0.5, 0 };
    float c[2], s[2];
    rope_angles(c, s, freq, 2, 3, 2);
    assert_int_equal(bits_of(c[0]), bits_of((float)(2 * cos(1.5))));
    assert_int_equal(bits_of(s[0]), bits_of((float)(2 * sin(1.5))));
    assert_int_equal(bits_of(c[1]), bits_of(2));
    assert_int_equal(bits_of(s[1]), 0);
}

static void rotation_pairs(void **state)
{
    (void)state;
    const float c[2] = { 0.6f, 0.8f }, s[2] = { 0.8f, -0.6f };
    float halves[5] = { 1, 2, 3, 4, 5 }, pairs[5] = { 1, 2, 3, 4, 5 };

    kernels_nth(0)->rotate(halves, c, s, 2, false);
    assert_true(halves[0] == fmaf(1, c[0], -(3 * s[0])) && halves[2] == fmaf(3, c[0], 1 * s[0]));
    assert_true(halves[1] == fmaf(2, c[1], -(4 * s[1])) && halves[3] == fmaf(4, c[1], 2 * s[1]));
    kernels_nth(0)->rotate(pairs, c, s, 2, true);
    assert_true(pairs[0] == fmaf(1, c[0], -(2 * s[0])) && pairs[1] == fmaf(2, c[0], 1 * s[0]));
    assert_true(pairs[2] == fmaf(3, c[1], -(4 * s[1])) && pairs[3] == fmaf(4, c[1], 3 * s[1]));
    assert_true(halves[4] == 5 && pairs[4] == 5);
}

/* --- 16-bit formats --- */

/* The value of a finite 16-bit float with so many mantissa bits, by its definition. */
static double value16(uint16_t h, int mantissa_bits)
{
    int max_exponent = (1 << (15 - mantissa_bits)) - 1, bias = max_exponent / 2;
    int exponent = (h & 0x7fff) >> mantissa_bits, mantissa = h & ((1 << mantissa_bits) - 1);
    double m = exponent ? mantissa + (1 << mantissa_bits) : mantissa;
    double v = ldexp(m, (exponent ? exponent : 1) - bias - mantissa_bits);
    return h & 0x8000 ? -v : v;
}

struct format {
    int mantissa_bits;
    uint16_t inf;
    uint16_t (*from)(float);
    float (*to)(uint16_t);
};
static const struct format formats[] = {
    { 10, 0x7c00, f16_from_f32, f32_from_f16 },
    { 7, 0x7f80, bf16_from_f32, f32_from_bf16 },
};

static void widening_is_exact(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        const struct format *f = &formats[i];
        for (uint32_t h = 0; h <= 0xffff; h++) {
            float x = f->to((uint16_t)h);
            if ((h & 0x7fff) > f->inf) {
                assert_true(isnan(x));
                uint16_t again = f->from(x);
                assert_true((again & 0x7fff) > f->inf && (again & 0x8000) == (h & 0x8000));
                continue;
            }
            if ((h & 0x7fff) == f->inf)
                assert_true(isinf(x));
            else
                assert_true((double)x == value16((uint16_t)h, f->mantissa_bits));
            assert_int_equal(!!signbit(x), h >> 15);
            assert_int_equal(f->from(x), h);
        }
    }
}

/* Rounding is settled by what happens at, just below and just above each midpoint. */
static void narrowing_is_to_nearest_even(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        const struct format *f = &formats[i];
        for (uint32_t h = 0; h < f->inf; h++) {
            double lo = value16((uint16_t)h, f->mantissa_bits);
            /* past the largest the grid goes on as if it did not end */
            double hi = h + 1 < f->inf ? value16((uint16_t)(h + 1), f->mantissa_bits)
                                       : 2 * lo - value16((uint16_t)(h - 1), f->mantissa_bits);
            float middle = (float)((lo + hi) / 2);
            uint16_t even = (uint16_t)(h & 1 ? h + 1 : h);
            for (uint32_t sign = 0; sign <= 0x8000; sign += 0x8000) {
                float s = sign ? -1 : 1;
                assert_int_equal(f->from(s * middle), sign | even);
                assert_int_equal(f->from(s * nextafterf(middle, 0)), sign | h);
                assert_int_equal(f->from(s * nextafterf(middle, INFINITY)), sign | (h + 1));
            }
        }
        assert_int_equal(f->from(INFINITY), f->inf);
        assert_int_equal(f->from(-INFINITY), 0x8000 | f->inf);
        for (uint32_t u = 0x7f800001; u < 0x7fffffff; u += 12345) {
            assert_true((f->from(of_bits(u)) & 0x7fff) > f->inf);
            assert_true((f->from(of_bits(u | 0x80000000)) & 0x7fff) > f->inf);
        }
    }
}

/* Every table's narrow over a comb through all 2^32 patterns, NaN included. */
static void tables_narrow_alike(void **state)
{
    (void)state;
    const enum ftype types[] = { FT_F16, FT_BF16 };
    const struct kernels *k;
    for (uint64_t u = 0; u < (uint64_t)1 << 32; u += 16 * 1021) {
        float x[16];
        for (uint32_t i = 0; i < 16; i++) x[i] = of_bits((uint32_t)(u + i * 1021));
        for (unsigned t = 0; t < 2; t++) {
            uint16_t want[16], got[16];
            kernels_nth(0)->narrow(want, x, 16, types[t]);
            for (unsigned i = 1; (k = kernels_nth(i)) != NULL; i++) {
                k->narrow(got, x, 16, types[t]);
                assert_memory_equal(got, want, sizeof want);
            }
        }
    }
}

static void tables_widen_alike(void **state)
{
    (void)state;
    const enum ftype types[] = { FT_F16, FT_BF16 };
    static uint16_t all[65536];
    static float want[65536], got[65536];
    const struct kernels *k;
    for (uint32_t h = 0; h <= 0xffff; h++) all[h] = (uint16_t)h;
    for (unsigned t = 0; t < 2; t++) {
        kernels_nth(0)->widen(want, all, 65536, types[t]);
        for (unsigned i = 1; (k = kernels_nth(i)) != NULL; i++) {
            k->widen(got, all, 65536, types[t]);
            assert_memory_equal(got, want, sizeof want);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_close),
        cmocka_unit_test(exp_at_its_ends),
        cmocka_unit_test(angles_are_close),
        cmocka_unit_test(angles_at_quarters),
        cmocka_unit_test(rotation_pairs),
        cmocka_unit_test(widening_is_exact),
        cmocka_unit_test(narrowing_is_to_nearest_even),
        cmocka_unit_test(tables_narrow_alike),
        cmocka_unit_test(tables_widen_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
