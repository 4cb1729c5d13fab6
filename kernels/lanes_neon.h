/* lanes_neon.h - 16 lanes as four 128-bit registers of Arm's Advanced SIMD (aarch64): the words
 * that driver.inc is written in.  For neon.c, which adds the integer dot products.
 *
 * All of it is in every aarch64 CPU since the first (armv8-a).  vminq and vmaxq are not used: of a
 * number and a NaN they make what the scalar code does not. */
#ifndef KERNELS_LANES_NEON_H
#define KERNELS_LANES_NEON_H

#include "kernels/bits.h"
#include "kernels/tensor.h"

#include <arm_neon.h>

/* How much driver.inc keeps in 32 registers of a quarter of the lanes: tokens per pass; and groups
 * of f16, bf16 and f32 that share a pass of one, two and that many tokens. */
enum { TOKENS = 4, GROUPS_ONE = 4, GROUPS_TWO = 2, GROUPS_MANY = 1 };
/* And for attention.inc: heads side by side, most and fewer; blocks of keys, vectors of columns. */
enum { HEADS_MOST = 3, HEADS_SOME = 2, KEYS_WIDE = 1, COLUMNS_WIDE = 1 };
/* And of q40 and q80: only the products of one token are driver.inc's (neon_strips.h). */
enum { QUANT_GROUPS = 1, QUANT_TOKENS = 1, QUANT_ONCE = 1, QUANT_RUN = 4 };

typedef struct {
    float32x4_t q[4]; /* lanes 0..3, 4..7, 8..11, 12..15 */
} vf;
typedef struct {
    int32x4_t q[4];
} vi;

/* One operation on each quarter of a word, of two words. */
/* clang-format off */
#define EACH(op, x) \
    { { op((x).q[0]), op((x).q[1]), op((x).q[2]), op((x).q[3]) } }
#define BOTH(op, x, y) \
    { { op((x).q[0], (y).q[0]), op((x).q[1], (y).q[1]), op((x).q[2], (y).q[2]), \
        op((x).q[3], (y).q[3]) } }
/* clang-format on */

/* 16 bytes from any address; little endian (bits.h), so they are four lanes as they come. */
static inline uint8x16_t sixteen(const void *p, size_t offset)
{
    return vld1q_u8((const uint8_t *)p + offset);
}
static inline void sixteen_put(void *p, size_t offset, uint8x16_t v)
{
    vst1q_u8((uint8_t *)p + offset, v);
}

static inline vf vf_set(float x)
{
    float32x4_t v = vdupq_n_f32(x);
    return (vf){ { v, v, v, v } };
}
static inline vf vf_zero(void)
{
    return vf_set(0);
}
static inline vf vf_load(const void *p)
{
    return (vf){ { vreinterpretq_f32_u8(sixteen(p, 0)), vreinterpretq_f32_u8(sixteen(p, 16)),
                   vreinterpretq_f32_u8(sixteen(p, 32)), vreinterpretq_f32_u8(sixteen(p, 48)) } };
}
static inline void vf_store(void *p, vf v)
{
    sixteen_put(p, 0, vreinterpretq_u8_f32(v.q[0]));
    sixteen_put(p, 16, vreinterpretq_u8_f32(v.q[1]));
    sixteen_put(p, 32, vreinterpretq_u8_f32(v.q[2]));
    sixteen_put(p, 48, vreinterpretq_u8_f32(v.q[3]));
}
static inline vf vf_add(vf x, vf y)
{
    return (vf)BOTH(vaddq_f32, x, y);
}
static inline vf vf_sub(vf x, vf y)
{
    return (vf)BOTH(vsubq_f32, x, y);
}
static inline vf vf_mul(vf x, vf y)
{
    return (vf)BOTH(vmulq_f32, x, y);
}
static inline vf vf_div(vf x, vf y)
{
    return (vf)BOTH(vdivq_f32, x, y);
}
static inline vf vf_fma(vf x, vf y, vf z)
{
    return (vf){ { vfmaq_f32(z.q[0], x.q[0], y.q[0]), vfmaq_f32(z.q[1], x.q[1], y.q[1]),
                   vfmaq_f32(z.q[2], x.q[2], y.q[2]), vfmaq_f32(z.q[3], x.q[3], y.q[3]) } };
}
/* x < y ? x : y, so that a NaN in y stays; vf_max likewise. */
static inline float32x4_t smaller(float32x4_t x, float32x4_t y)
{
    return vbslq_f32(vcltq_f32(x, y), x, y);
}
static inline float32x4_t larger(float32x4_t x, float32x4_t y)
{
    return vbslq_f32(vcgtq_f32(x, y), x, y);
}
static inline vf vf_min(vf x, vf y)
{
    return (vf)BOTH(smaller, x, y);
}
static inline vf vf_max(vf x, vf y)
{
    return (vf)BOTH(larger, x, y);
}
/* Lanes j and j+8, then j+4, j+2, j+1 are added. */
static inline float vf_fold(vf v)
{
    float32x4_t q = vaddq_f32(vaddq_f32(v.q[0], v.q[2]), vaddq_f32(v.q[1], v.q[3]));
    float32x2_t e = vadd_f32(vget_low_f32(q), vget_high_f32(q));
    return vget_lane_f32(e, 0) + vget_lane_f32(e, 1);
}

static inline vi vi_set(int32_t x)
{
    int32x4_t v = vdupq_n_s32(x);
    return (vi){ { v, v, v, v } };
}
static inline vi vi_load(const void *p)
{
    return (vi){ { vreinterpretq_s32_u8(sixteen(p, 0)), vreinterpretq_s32_u8(sixteen(p, 16)),
                   vreinterpretq_s32_u8(sixteen(p, 32)), vreinterpretq_s32_u8(sixteen(p, 48)) } };
}
static inline vi vi_add(vi x, vi y)
{
    return (vi)BOTH(vaddq_s32, x, y);
}
static inline vi vi_sub(vi x, vi y)
{
    return (vi)BOTH(vsubq_s32, x, y);
}
static inline vi vi_and(vi x, vi y)
{
    return (vi)BOTH(vandq_s32, x, y);
}
static inline vi vi_xor(vi x, vi y)
{
    return (vi)BOTH(veorq_s32, x, y);
}
static inline vi vi_max(vi x, vi y)
{
    return (vi)BOTH(vmaxq_s32, x, y);
}
static inline vi vi_left(vi x, int n)
{
    return (vi){ { x.q[0] << n, x.q[1] << n, x.q[2] << n, x.q[3] << n } };
}
static inline int32x4_t quarter_right(int32x4_t x, int n)
{
    return vreinterpretq_s32_u32(vreinterpretq_u32_s32(x) >> n);
}
static inline vi vi_right(vi x, int n) /* of an unsigned */
{
    return (vi){ { quarter_right(x.q[0], n), quarter_right(x.q[1], n), quarter_right(x.q[2], n),
                   quarter_right(x.q[3], n) } };
}
static inline vi vi_right_signed(vi x, int n)
{
    return (vi){ { x.q[0] >> n, x.q[1] >> n, x.q[2] >> n, x.q[3] >> n } };
}
/* x > y ? u : v in each lane. */
static inline vi vi_where_greater(vi x, vi y, vi u, vi v)
{
    return (vi){ { vbslq_s32(vcgtq_s32(x.q[0], y.q[0]), u.q[0], v.q[0]),
                   vbslq_s32(vcgtq_s32(x.q[1], y.q[1]), u.q[1], v.q[1]),
                   vbslq_s32(vcgtq_s32(x.q[2], y.q[2]), u.q[2], v.q[2]),
                   vbslq_s32(vcgtq_s32(x.q[3], y.q[3]), u.q[3], v.q[3]) } };
}
static inline int32_t vi_fold_max(vi v)
{
    return vmaxvq_s32(vmaxq_s32(vmaxq_s32(v.q[0], v.q[1]), vmaxq_s32(v.q[2], v.q[3])));
}
static inline int32_t vi_fold_add(vi v)
{
    return vaddvq_s32(vaddq_s32(vaddq_s32(v.q[0], v.q[1]), vaddq_s32(v.q[2], v.q[3])));
}

static inline vi vi_bits(vf x)
{
    return (vi)EACH(vreinterpretq_s32_f32, x);
}
static inline vf vf_of_bits(vi x)
{
    return (vf)EACH(vreinterpretq_f32_s32, x);
}
static inline vi vi_round(vf x) /* halves to even */
{
    return (vi)EACH(vcvtnq_s32_f32, x);
}
static inline vf vf_of_int(vi x)
{
    return (vf)EACH(vcvtq_f32_s32, x);
}

static inline vf vf_load_f16(const void *p)
{
    float16x8_t lo = vreinterpretq_f16_u8(sixteen(p, 0)), hi = vreinterpretq_f16_u8(sixteen(p, 16));
    return (vf){ { vcvt_f32_f16(vget_low_f16(lo)), vcvt_high_f32_f16(lo),
                   vcvt_f32_f16(vget_low_f16(hi)), vcvt_high_f32_f16(hi) } };
}
static inline void vf_store_f16(void *p, vf v)
{
    float16x8_t lo = vcvt_high_f16_f32(vcvt_f16_f32(v.q[0]), v.q[1]);
    float16x8_t hi = vcvt_high_f16_f32(vcvt_f16_f32(v.q[2]), v.q[3]);
    sixteen_put(p, 0, vreinterpretq_u8_f16(lo));
    sixteen_put(p, 16, vreinterpretq_u8_f16(hi));
}
static inline vi vi_load_u16(const void *p)
{
    uint16x8_t lo = vreinterpretq_u16_u8(sixteen(p, 0)), hi = vreinterpretq_u16_u8(sixteen(p, 16));
    return (vi){ { vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(lo))),
                   vreinterpretq_s32_u32(vmovl_high_u16(lo)),
                   vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(hi))),
                   vreinterpretq_s32_u32(vmovl_high_u16(hi)) } };
}
/* The lower 16 bits of 8 lanes. */
static inline int16x8_t lower_halves(int32x4_t x, int32x4_t y)
{
    return vuzp1q_s16(vreinterpretq_s16_s32(x), vreinterpretq_s16_s32(y));
}
/* Lanes of 0..65535 as 16 uint16. */
static inline void vi_store_u16(void *p, vi v)
{
    sixteen_put(p, 0, vreinterpretq_u8_s16(lower_halves(v.q[0], v.q[1])));
    sixteen_put(p, 16, vreinterpretq_u8_s16(lower_halves(v.q[2], v.q[3])));
}
/* Lanes of -128..127 as 16 int8. */
static inline void vi_store_i8(void *p, vi v)
{
    uint8x16_t lo = vreinterpretq_u8_s16(lower_halves(v.q[0], v.q[1]));
    uint8x16_t hi = vreinterpretq_u8_s16(lower_halves(v.q[2], v.q[3]));
    sixteen_put(p, 0, vuzp1q_u8(lo, hi));
}

/* --- the integers of a block --- */

/* Four inputs, the same for every row. */
static inline vi vi_four(const int8_t *q)
{
    int32_t four;
    memcpy(&four, q, sizeof four);
    return vi_set(four);
}

/* Weights as bytes, four inputs of each row: inputs 4j .. and 16+4j ... */
struct fours {
    vi low, high;
};

static inline int32x4_t high_nibbles(int32x4_t x)
{
    return vreinterpretq_s32_u8(vshrq_n_u8(vreinterpretq_u8_s32(x), 4));
}

/* q40: nibbles as bytes 0..15.  q80: as they are. */
static inline struct fours fours_open(const uint8_t *p, unsigned j, enum wtype type,
                                      const unsigned T)
{
    (void)T;
    vi a = vi_load(p + 64 * j);
    if (type == WT_Q80) return (struct fours){ a, vi_load(p + 64 * (j + 4)) };
    return (struct fours){ vi_and(a, vi_set(0x0f0f0f0f)), (vi)EACH(high_nibbles, a) };
}

#endif
