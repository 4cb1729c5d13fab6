/* The table "neoni8mm": as neondot, and batches by SMMLA, which multiplies the bytes of two rows by
 * those of two tokens: 32 products an instruction, twice SDOT's (Armv8.6: Graviton 3, Apple M2). */
#define NEON_DOT
#define TABLE kernels_neoni8mm
#define ISA "neoni8mm"
#define TOKEN_PAIRS 3 /* from so many tokens on, driver.inc leaves them to us */

#include "kernels/kernels.h"

static void quantized_pairs(float *y, size_t y_stride, const struct tensor *w, const float *bias,
                            const struct acts *x, uint32_t g, uint32_t t0, uint32_t t1,
                            enum wtype type);

#include "kernels/neon.c"

/* Rows of the weights have to lie in pairs, eight inputs of each: that is done once for a strip of
 * blocks, which stays in L1 while all tokens pass over it. */
enum { STRIP = 8 };

/* Quarter i has rows 4i .. 4i+3; pair[i][0][h] inputs 8h .. 8h+7 of the first two, [1] of the
 * others. */
struct opened {
    int8x16_t pair[4][2][4];
    vf scale;
};

/* Four inputs a and the next four b of quarter i become its part h. */
INLINE void open_part(struct opened *o, unsigned i, unsigned h, int32x4_t a, int32x4_t b,
                      enum wtype type)
{
    const int8x16_t middle = vdupq_n_s8(type == WT_Q40 ? 8 : 0);
    o->pair[i][0][h] = vsubq_s8(as_bytes(vzip1q_s32(a, b)), middle);
    o->pair[i][1][h] = vsubq_s8(as_bytes(vzip2q_s32(a, b)), middle);
}

INLINE void open_block(struct opened *o, const uint8_t *p, enum wtype type)
{
    for (unsigned h = 0; h < 2; h++) {
        struct fours a = fours_open(p + SCALES_BYTES, 2 * h, type);
        struct fours b = fours_open(p + SCALES_BYTES, 2 * h + 1, type);
        for (unsigned i = 0; i < 4; i++) {
            open_part(o, i, h, a.low.q[i], b.low.q[i], type);
            open_part(o, i, h + 2, a.high.q[i], b.high.q[i], type);
        }
    }
    o->scale = vf_load_f16(p);
}

/* One block, two tokens: q their bytes, d their scales, acc[0] and acc[1] their sums. */
INLINE void add_block(vf *acc, const struct opened *o, const int8_t *const q[2], const float d[2])
{
    int8x16_t x[4];
#pragma GCC unroll 4
    for (unsigned h = 0; h < 4; h++)
        x[h] = vcombine_s8(vld1_s8(q[0] + 8 * h), vld1_s8(q[1] + 8 * h));
#pragma GCC unroll 4
    for (unsigned i = 0; i < 4; i++) {
        int32x4_t upper = vdupq_n_s32(0), lower = upper; /* row 0: token 0, token 1; row 1 ... */
#pragma GCC unroll 4
        for (unsigned h = 0; h < 4; h++) {
            upper = vmmlaq_s32(upper, o->pair[i][0][h], x[h]);
            lower = vmmlaq_s32(lower, o->pair[i][1][h], x[h]);
        }
        float32x4_t sum0 = vcvtq_f32_s32(vuzp1q_s32(upper, lower));
        float32x4_t sum1 = vcvtq_f32_s32(vuzp2q_s32(upper, lower));
        acc[0].q[i] = vfmaq_f32(acc[0].q[i], sum0, vmulq_n_f32(o->scale.q[i], d[0]));
        acc[1].q[i] = vfmaq_f32(acc[1].q[i], sum1, vmulq_n_f32(o->scale.q[i], d[1]));
    }
}

/* Tokens [t0, t1), at most TOKENS_HOT, of group g.  Of an odd number the last is made twice. */
static void quantized_pairs(float *y, size_t y_stride, const struct tensor *w, const float *bias,
                            const struct acts *x, uint32_t g, uint32_t t0, uint32_t t1,
                            enum wtype type)
{
    const size_t bytes = SCALES_BYTES + (type == WT_Q40 ? 256 : 512);
    const uint32_t blocks = x->blocks;
    const uint8_t *p = tensor_group(w, g);
    struct opened strip[STRIP];
    vf acc[TOKENS_HOT + 1];

    for (uint32_t i = 0; i < t1 - t0 + 1; i++) acc[i] = vf_zero();
    for (uint32_t b = 0, n; b < blocks; b += n) {
        n = blocks - b < STRIP ? blocks - b : STRIP;
        for (uint32_t i = 0; i < n; i++, p += bytes) {
            for (size_t line = 0; line < bytes; line += 64) __builtin_prefetch(p + AHEAD + line);
            open_block(&strip[i], p, type);
        }
        for (uint32_t t = t0; t < t1; t += 2) {
            size_t at = (size_t)t * blocks + b, at1 = t + 1 < t1 ? at + blocks : at;
            vf sum[2] = { acc[t - t0], acc[t - t0 + 1] };
            for (uint32_t i = 0; i < n; i++, at++, at1++)
                add_block(sum, &strip[i],
                          (const int8_t *[]){ x->q + at * BLOCK, x->q + at1 * BLOCK },
                          (float[]){ x->d[at], x->d[at1] });
            acc[t - t0] = sum[0], acc[t - t0 + 1] = sum[1];
        }
    }
    for (uint32_t t = t0; t < t1; t++) store_rows(y + t * y_stride, acc[t - t0], w, bias, g);
}
