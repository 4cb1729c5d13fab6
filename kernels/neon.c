/* The table "neon": Advanced SIMD as every aarch64 CPU has it.  neondot.c includes this
 * file to make the table of CPUs that multiply bytes faster: SDOT, four products a lane (Armv8.4
 * and many before: Raspberry Pi 5, Apple M1, phones since about 2018); so does neoni8mm.c. */
#include "kernels/lanes_neon.h"
#include "kernels/tables.h"

static inline int8x16_t as_bytes(int32x4_t x)
{
    return vreinterpretq_s8_s32(x);
}

#ifdef NEON_DOT

struct isum {
    vi v;
};

static inline int32x4_t dot_four(int32x4_t acc, int32x4_t w, int32x4_t x)
{
    return vdotq_s32(acc, as_bytes(w), as_bytes(x));
}

/* sum (n - 8) x = sum n x - 8 sum x. */
static inline struct isum isum_start(int32_t sum, enum wtype type)
{
    return (struct isum){ vi_set(type == WT_Q40 ? -8 * sum : 0) };
}
static inline struct isum isum_more(struct isum s, struct fours w, vi low, vi high, enum wtype type)
{
    (void)type;
#pragma GCC unroll 4
    for (unsigned i = 0; i < 4; i++) {
        s.v.q[i] = dot_four(s.v.q[i], w.low.q[i], low.q[i]);
        s.v.q[i] = dot_four(s.v.q[i], w.high.q[i], high.q[i]);
    }
    return s;
}
static inline vi isum_end(struct isum s, int32_t sum, enum wtype type)
{
    (void)sum, (void)type;
    return s.v;
}

#else

/* Products of 4 rows and 4 inputs each, as 16 bits, are added to those of other inputs. */
struct products {
    int16x8_t low, high; /* rows 0 and 1; 2 and 3 */
};
static inline struct products times(int8x16_t w, int8x16_t x)
{
    return (struct products){ vmull_s8(vget_low_s8(w), vget_low_s8(x)), vmull_high_s8(w, x) };
}
static inline struct products plus_times(struct products p, int8x16_t w, int8x16_t x)
{
    return (struct products){ vmlal_s8(p.low, vget_low_s8(w), vget_low_s8(x)),
                              vmlal_high_s8(p.high, w, x) };
}

/* q40: 16-bit lanes, each of which gathers 8 products of at most 15 * 127; two of them 30480: no
 * overflow.  q80: a row's sum in two neighbouring lanes of low or high. */
struct isum {
    struct products p[4];
    vi low, high;
};

static inline struct isum isum_start(int32_t sum, enum wtype type)
{
    struct isum s;
    (void)sum, (void)type;
    s.low = s.high = vi_set(0);
    for (unsigned i = 0; i < 4; i++) s.p[i].low = s.p[i].high = vdupq_n_s16(0);
    return s;
}

/* q80: a 16-bit lane gathers 2 products of at most 128 * 127: 32512, no overflow. */
static inline struct isum isum_more(struct isum s, struct fours w, vi low, vi high, enum wtype type)
{
#pragma GCC unroll 4
    for (unsigned i = 0; i < 4; i++) {
        int8x16_t x = as_bytes(low.q[i]), x1 = as_bytes(high.q[i]);
        int8x16_t v = as_bytes(w.low.q[i]), v1 = as_bytes(w.high.q[i]);
        if (type == WT_Q40) {
            s.p[i] = plus_times(plus_times(s.p[i], v, x), v1, x1);
            continue;
        }
        struct products p = plus_times(times(v, x), v1, x1);
        s.low.q[i] = vpadalq_s16(s.low.q[i], p.low);
        s.high.q[i] = vpadalq_s16(s.high.q[i], p.high);
    }
    return s;
}

/* sum (n - 8) x = sum n x - 8 sum x. */
static inline vi isum_end(struct isum s, int32_t sum, enum wtype type)
{
    if (type == WT_Q80) return (vi)BOTH(vpaddq_s32, s.low, s.high);

    vi isum = vi_set(-8 * sum);
#pragma GCC unroll 4
    for (unsigned i = 0; i < 4; i++)
        isum.q[i] = vpadalq_s16(isum.q[i], vpaddq_s16(s.p[i].low, s.p[i].high));
    return isum;
}

#endif

#define OWN_BATCHES
static void quantized_strips(float *y, size_t y_stride, const struct tensor *w, const float *bias,
                             const struct acts *x, uint32_t g, uint32_t t0, uint32_t t1,
                             enum wtype type);

#include "kernels/driver.inc"
#include "kernels/neon_strips.h"

#ifndef TABLE /* who includes this names its own */
#define TABLE kernels_neon
#define ISA "neon"
#endif

const struct kernels TABLE = {
    .isa = ISA,
    .product = product,
    .quantize = quantize,
    .norm = norm,
    .swiglu = swiglu,
    .rotate = rotate,
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
