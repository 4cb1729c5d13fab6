/* The table "neon": Advanced SIMD as every aarch64 CPU has it.  neondot.c includes this
 * file to make the table of CPUs that multiply bytes faster: SDOT, four products a lane (Armv8.4
 * and many before: Raspberry Pi 5, Apple M1, phones since about 2018). */
#include "kernels/lanes_neon.h"
#include "kernels/tables.h"

static inline int8x16_t as_bytes(int32x4_t x)
{
    return vreinterpretq_s8_s32(x);
}

#ifdef NEON_DOT

#define DOT(acc, w, x, four)                                              \
    (vi)                                                                  \
    {                                                                     \
        {                                                                 \
            vdotq_laneq_s32((acc).q[0], as_bytes((w).q[0]), x, four),     \
                vdotq_laneq_s32((acc).q[1], as_bytes((w).q[1]), x, four), \
                vdotq_laneq_s32((acc).q[2], as_bytes((w).q[2]), x, four), \
                vdotq_laneq_s32((acc).q[3], as_bytes((w).q[3]), x, four)  \
        }                                                                 \
    }

/* start + sum of w times q: the weights of group g meet the four bytes g of q. */
static inline vi dot_from(int32_t start, const struct bytes16 *w, const int8_t *q)
{
    const int8x16_t low = vld1q_s8(q), high = vld1q_s8(q + 16);
    vi acc = vi_set(start);
    acc = DOT(acc, w->v[0], low, 0);
    acc = DOT(acc, w->v[1], low, 1);
    acc = DOT(acc, w->v[2], low, 2);
    acc = DOT(acc, w->v[3], low, 3);
    acc = DOT(acc, w->v[4], high, 0);
    acc = DOT(acc, w->v[5], high, 1);
    acc = DOT(acc, w->v[6], high, 2);
    return DOT(acc, w->v[7], high, 3);
}

/* sum (n - 8) x = sum n x - 8 sum x. */
static inline vi dot_q40(const struct bytes16 *w, const int8_t *q, int32_t sum)
{
    return dot_from(-8 * sum, w, q);
}
static inline vi dot_q80(const struct bytes16 *w, const int8_t *q, int32_t sum)
{
    (void)sum;
    return dot_from(0, w, q);
}

#else

/* Four inputs, the same for every row. */
static inline int8x16_t four(const int8_t *q)
{
    int32_t x;
    memcpy(&x, q, sizeof x);
    return as_bytes(vdupq_n_s32(x));
}

/* Products of 4 rows and 4 inputs each, as 16 bits, are added to those of other inputs. */
struct products {
    int16x8_t low, high; /* rows 0 and 1; 2 and 3 */
};
static inline struct products times(int32x4_t w, int8x16_t x)
{
    return (struct products){ vmull_s8(vget_low_s8(as_bytes(w)), vget_low_s8(x)),
                              vmull_high_s8(as_bytes(w), x) };
}
static inline struct products plus_times(struct products p, int32x4_t w, int8x16_t x)
{
    return (struct products){ vmlal_s8(p.low, vget_low_s8(as_bytes(w)), vget_low_s8(x)),
                              vmlal_high_s8(p.high, as_bytes(w), x) };
}

/* A 16-bit lane gathers 8 products of at most 15 * 127, two lanes 30480: no overflow. */
static inline vi dot_q40(const struct bytes16 *w, const int8_t *q, int32_t sum)
{
    struct products p[4];
    vi isum = vi_set(-8 * sum); /* sum (n - 8) x = sum n x - 8 sum x */
#pragma GCC unroll 8
    for (unsigned g = 0; g < 8; g++) {
        int8x16_t x = four(q + 4 * g);
#pragma GCC unroll 4
        for (unsigned i = 0; i < 4; i++)
            p[i] = g ? plus_times(p[i], w->v[g].q[i], x) : times(w->v[g].q[i], x);
    }
#pragma GCC unroll 4
    for (unsigned i = 0; i < 4; i++)
        isum.q[i] = vpadalq_s16(isum.q[i], vpaddq_s16(p[i].low, p[i].high));
    return isum;
}

/* A 16-bit lane gathers 2 products of at most 128 * 127: 32512, no overflow. */
static inline vi dot_q80(const struct bytes16 *w, const int8_t *q, int32_t sum)
{
    vi low = vi_set(0), high = vi_set(0); /* a row's sum in two neighbouring lanes */
    (void)sum;
#pragma GCC unroll 4
    for (unsigned g = 0; g < 8; g += 2) {
        int8x16_t x = four(q + 4 * g), x1 = four(q + 4 * g + 4);
#pragma GCC unroll 4
        for (unsigned i = 0; i < 4; i++) {
            struct products p = plus_times(times(w->v[g].q[i], x), w->v[g + 1].q[i], x1);
            low.q[i] = vpadalq_s16(low.q[i], p.low);
            high.q[i] = vpadalq_s16(high.q[i], p.high);
        }
    }
    return (vi)BOTH(vpaddq_s32, low, high);
}

#endif

#include "kernels/driver.inc"

#ifndef TABLE /* neondot.c names its own */
#define TABLE kernels_neon
#define ISA "neon"
#endif

const struct kernels TABLE = {
    .isa = ISA,
    .product = product,
    .quantize = quantize,
    .norm = norm,
    .swiglu = swiglu,
    .sigmoid = sigmoid,
    .add = add,
    .exchange = exchange,
    .narrow = narrow,
    .widen = widen,
    .scores = scores,
    .max = max,
    .exp_sum = exp_sum,
    .weigh = weigh,
};
