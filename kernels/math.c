/* Number formats and elementary functions that are the same code for every table.
 *
 * fmaf and fma are the only calls into libm: IEEE 754 leaves them no freedom (one correct result),
 * so any libm gives the same bits.  exp, sin and cos are ours because a libm's are not so bound. */
#include "kernels/bits.h"
#include "kernels/exp.h"
#include "kernels/kernels.h"

#include <math.h>

uint16_t f16_from_f32(float x)
{
    uint32_t u = bits_of_f32(x);
    uint32_t sign = u >> 16 & 0x8000;
    uint32_t a = u & F32_ABS;

    if (a > F32_INF) return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x3ff)); /* NaN, made quiet */
    if (a >= 0x477ff000) return (uint16_t)(sign | F16_INF);                /* 65520 and above */
    if (a >= 0x38800000) { /* 2^-14 and above: a normal f16 */
        a -= 112u << 23;
        return (uint16_t)(sign | (a + 0xfff + (a >> 13 & 1)) >> 13);
    }
    /* An ulp of 0.5 is 2^-24, the smallest f16: the addition rounds as we want. */
    float m = f32_of_bits(a) + 0.5f;
    return (uint16_t)(sign | (bits_of_f32(m) - 0x3f000000));
}

float f32_from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    uint32_t a = h & F16_ABS;

    if (a > F16_INF) return f32_of_bits(sign | F32_INF | 0x400000 | (a & 0x3ff) << 13);
    if (a == F16_INF) return f32_of_bits(sign | F32_INF);
    if (a >= 0x400) return f32_of_bits(sign | ((a << 13) + (112u << 23)));
    return f32_of_bits(sign | bits_of_f32((float)a * 0x1p-24f));
}

uint16_t bf16_from_f32(float x)
{
    uint32_t u = bits_of_f32(x);
    if ((u & F32_ABS) > F32_INF) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

float f32_from_bf16(uint16_t h)
{
    return f32_of_bits((uint32_t)h << 16);
}

/* 2^n for n in -126..127. */
static float power_of_two(int32_t n)
{
    return f32_of_bits((uint32_t)(n + 127) << 23);
}

float exp_f32(float x)
{
    if (x > EXP_LIMIT) x = EXP_LIMIT; /* a NaN passes both tests and stays one */
    if (x < -EXP_LIMIT) x = -EXP_LIMIT;

    float shifted = fmaf(x, EXP_LOG2E, EXP_MAGIC);
    float n = shifted - EXP_MAGIC;
    float r = fmaf(n, EXP_MINUS_LN2_HI, x);
    r = fmaf(n, EXP_MINUS_LN2_LO, r);

    float p = EXP_P5;
    p = fmaf(p, r, EXP_P4);
    p = fmaf(p, r, EXP_P3);
    p = fmaf(p, r, EXP_P2);
    p = fmaf(p, r, EXP_P1);
    p = fmaf(p, r, EXP_P0);
    p = fmaf(p, r * r, r) + 1.0f;
    if (p != p) return p;

    int32_t i = (int32_t)bits_of_f32(shifted) - (int32_t)bits_of_f32(EXP_MAGIC); /* -127..127 */
    int32_t half = i >> 1;
    return p * power_of_two(half) * power_of_two(i - half);
}

/* cos and sin of a.  k = the integer nearest to a * 2/pi, r = a - k pi/2 with pi/2 as the sum of
 * two doubles; then Taylor's series to r^15 and r^16, whose next terms are below 2^-54 on |r| <=
 * pi/4; the lowest two bits of k choose the quadrant.  For |a| < 2^31 the error stays far below
 * what the rounding to f32 adds. */
static void cos_sin(double a, double *cos_out, double *sin_out)
{
    const double magic = 0x1.8p+52; /* adding it rounds to an integer, kept in the low bits */
    double shifted = fma(a, 0x1.45f306dc9c883p-1, magic);
    double k = shifted - magic;
    double r = fma(-k, 0x1.921fb54442d18p+0, a);
    r = fma(-k, 0x1.1a62633145c07p-54, r);
    double z = r * r;

    double s = -0x1.ae7f3e733b81fp-41;     /* -1/15! */
    s = fma(s, z, 0x1.6124613a86d09p-33);  /*  1/13! */
    s = fma(s, z, -0x1.ae64567f544e4p-26); /* -1/11! */
    s = fma(s, z, 0x1.71de3a556c734p-19);  /*  1/9! */
    s = fma(s, z, -0x1.a01a01a01a01ap-13); /* -1/7! */
    s = fma(s, z, 0x1.1111111111111p-7);   /*  1/5! */
    s = fma(s, z, -0x1.5555555555555p-3);  /* -1/3! */
    s = fma(s, r * z, r);

    double c = 0x1.ae7f3e733b81fp-45;      /*  1/16! */
    c = fma(c, z, -0x1.93974a8c07c9dp-37); /* -1/14! */
    c = fma(c, z, 0x1.1eed8eff8d898p-29);  /*  1/12! */
    c = fma(c, z, -0x1.27e4fb7789f5cp-22); /* -1/10! */
    c = fma(c, z, 0x1.a01a01a01a01ap-16);  /*  1/8! */
    c = fma(c, z, -0x1.6c16c16c16c17p-10); /* -1/6! */
    c = fma(c, z, 0x1.5555555555555p-5);   /*  1/4! */
    c = fma(c, z, -0.5);
    c = fma(c, z, 1.0);

    uint64_t quadrant;
    memcpy(&quadrant, &shifted, sizeof quadrant);
    switch (quadrant & 3) {
    case 0: *cos_out = c, *sin_out = s; break;
    case 1: *cos_out = -s, *sin_out = c; break;
    case 2: *cos_out = -c, *sin_out = -s; break;
    default: *cos_out = s, *sin_out = -c; break;
    }
}

void rope_angles(float *cos_out, float *sin_out, const double *freq, uint32_t n, uint32_t position,
                 double scale)
{
    for (uint32_t i = 0; i < n; i++) {
        double c, s;
        cos_sin((double)position * freq[i], &c, &s);
        cos_out[i] = (float)(c * scale);
        sin_out[i] = (float)(s * scale);
    }
}
