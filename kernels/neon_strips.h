/* neon_strips.h - the products of several tokens, by the three tables of 64-bit Arm.
 *
 * 32 registers of four rows each do not hold what a block of 16 rows needs for several tokens.  So
 * the weights of a strip of blocks are opened once, as signed bytes in the order in which they are
 * used, into memory that stays in L1; then all tokens pass over it, two at a time, four rows (a
 * quarter of a word) after four.  Included by neon.c behind driver.inc. */
#ifndef KERNELS_NEON_STRIPS_H
#define KERNELS_NEON_STRIPS_H

enum { STRIP = 8 };

/* Quarter i has rows 4i .. 4i+3.  part[i][j] has inputs 4j .. 4j+3 of each of them; with SMMLA,
 * part[i][2h] inputs 8h .. 8h+7 of the first two rows and part[i][2h + 1] of the others. */
struct opened {
    int8x16_t part[4][8];
    vf scale;
};

/* Inputs 8h .. 8h+7 of quarter i: a the first four, b the others. */
INLINE void open_part(struct opened *o, unsigned i, unsigned h, int32x4_t a, int32x4_t b,
                      enum wtype type)
{
    const int8x16_t middle = vdupq_n_s8(type == WT_Q40 ? 8 : 0);
#ifdef NEON_I8MM
    int32x4_t first = a;
    a = vzip1q_s32(first, b), b = vzip2q_s32(first, b);
#endif
    o->part[i][2 * h] = vsubq_s8(as_bytes(a), middle);
    o->part[i][2 * h + 1] = vsubq_s8(as_bytes(b), middle);
}

INLINE void open_block(struct opened *o, const uint8_t *p, enum wtype type)
{
    for (unsigned h = 0; h < 2; h++) {
        struct fours a = fours_open(p + SCALES_BYTES, 2 * h, type, 2);
        struct fours b = fours_open(p + SCALES_BYTES, 2 * h + 1, type, 2);
        for (unsigned i = 0; i < 4; i++) {
            open_part(o, i, h, a.low.q[i], b.low.q[i], type);
            open_part(o, i, h + 2, a.high.q[i], b.high.q[i], type);
        }
    }
    o->scale = vf_load_f16(p);
}

/* A block of two tokens, as the sums want it: struct inputs.  And the integers of one quarter:
 * sum[0] of the first token, sum[1] of the second. */
#if defined NEON_I8MM

struct inputs {
    int8x16_t x[4]; /* eight of the first, eight of the second token */
};

INLINE struct inputs inputs_of(const int8_t *q0, const int8_t *q1)
{
    struct inputs in;
#pragma GCC unroll 4
    for (unsigned h = 0; h < 4; h++)
        in.x[h] = vcombine_s8(vld1_s8(q0 + 8 * h), vld1_s8(q1 + 8 * h));
    return in;
}

INLINE void quarter_sums(int32x4_t sum[2], const int8x16_t *w, const struct inputs *in,
                         enum wtype type)
{
    int32x4_t upper = vdupq_n_s32(0), lower = upper; /* row 0: token 0, token 1; row 1 ... */
    (void)type;
#pragma GCC unroll 4
    for (unsigned h = 0; h < 4; h++) {
        upper = vmmlaq_s32(upper, w[2 * h], in->x[h]);
        lower = vmmlaq_s32(lower, w[2 * h + 1], in->x[h]);
    }
    sum[0] = vuzp1q_s32(upper, lower);
    sum[1] = vuzp2q_s32(upper, lower);
}

#elif defined NEON_DOT

struct inputs {
    int8x16_t x[2][2]; /* of each token the first 16, the others */
};

INLINE struct inputs inputs_of(const int8_t *q0, const int8_t *q1)
{
    return (struct inputs){ { { vld1q_s8(q0), vld1q_s8(q0 + 16) },
                              { vld1q_s8(q1), vld1q_s8(q1 + 16) } } };
}

INLINE void quarter_sums(int32x4_t sum[2], const int8x16_t *w, const struct inputs *in,
                         enum wtype type)
{
    (void)type;
#pragma GCC unroll 2
    for (unsigned t = 0; t < 2; t++) {
        int32x4_t s = vdupq_n_s32(0);
        s = vdotq_laneq_s32(s, w[0], in->x[t][0], 0);
        s = vdotq_laneq_s32(s, w[1], in->x[t][0], 1);
        s = vdotq_laneq_s32(s, w[2], in->x[t][0], 2);
        s = vdotq_laneq_s32(s, w[3], in->x[t][0], 3);
        s = vdotq_laneq_s32(s, w[4], in->x[t][1], 0);
        s = vdotq_laneq_s32(s, w[5], in->x[t][1], 1);
        s = vdotq_laneq_s32(s, w[6], in->x[t][1], 2);
        sum[t] = vdotq_laneq_s32(s, w[7], in->x[t][1], 3);
    }
}

#else

struct inputs {
    int8x16_t x[2][8]; /* of each token, four inputs four times */
};

INLINE struct inputs inputs_of(const int8_t *q0, const int8_t *q1)
{
    struct inputs in;
#pragma GCC unroll 8
    for (unsigned j = 0; j < 8; j++) {
        in.x[0][j] = as_bytes(vi_four(q0 + 4 * j).q[0]);
        in.x[1][j] = as_bytes(vi_four(q1 + 4 * j).q[0]);
    }
    return in;
}

/* A 16-bit lane gathers, of q40, 8 products of at most 8 * 127, two lanes 16256; of q80, 2 of at
 * most 128 * 127, 32512: no overflow. */
INLINE void quarter_sums(int32x4_t sum[2], const int8x16_t *w, const struct inputs *in,
                         enum wtype type)
{
#pragma GCC unroll 2
    for (unsigned t = 0; t < 2; t++) {
        const int8x16_t *x = in->x[t];
        if (type == WT_Q40) {
            struct products p = times(w[0], x[0]);
#pragma GCC unroll 8
            for (unsigned j = 1; j < 8; j++) p = plus_times(p, w[j], x[j]);
            sum[t] = vpaddlq_s16(vpaddq_s16(p.low, p.high));
            continue;
        }
        int32x4_t low = vdupq_n_s32(0), high = low;
#pragma GCC unroll 8
        for (unsigned j = 0; j < 8; j += 2) {
            struct products p = plus_times(times(w[j], x[j]), w[j + 1], x[j + 1]);
            low = vpadalq_s16(low, p.low);
            high = vpadalq_s16(high, p.high);
        }
        sum[t] = vpaddq_s32(low, high);
    }
}

#endif

/* One block, two tokens: acc[0] and acc[1] their sums, d0 and d1 their scales. */
INLINE void add_block(vf acc[2], const struct opened *o, const struct inputs *in, float d0,
                      float d1, enum wtype type)
{
#pragma GCC unroll 4
    for (unsigned i = 0; i < 4; i++) {
        int32x4_t sum[2];
        quarter_sums(sum, o->part[i], in, type);
        acc[0].q[i] = vfmaq_f32(acc[0].q[i], vcvtq_f32_s32(sum[0]), vmulq_n_f32(o->scale.q[i], d0));
        acc[1].q[i] = vfmaq_f32(acc[1].q[i], vcvtq_f32_s32(sum[1]), vmulq_n_f32(o->scale.q[i], d1));
    }
}

/* n blocks, tokens t and t1, from block b on. */
INLINE void add_strip(vf *acc, vf *acc1, const struct opened *strip, uint32_t n,
                      const struct acts *x, uint32_t t, uint32_t t1, uint32_t b, enum wtype type)
{
    size_t at = (size_t)t * x->blocks + b, at1 = (size_t)t1 * x->blocks + b;
    vf sum[2] = { *acc, *acc1 };
    for (uint32_t i = 0; i < n; i++, at++, at1++) {
        struct inputs in = inputs_of(x->q + at * BLOCK, x->q + at1 * BLOCK);
        add_block(sum, &strip[i], &in, x->d[at], x->d[at1], type);
    }
    *acc1 = sum[1];
    *acc = sum[0];
}

/* Tokens [t0, t1), at most TOKENS_HOT, of group g.  Of an odd number the last is its own pair. */
INLINE void strips(float *y, size_t y_stride, const struct tensor *w, const float *bias,
                   const struct acts *x, uint32_t g, uint32_t t0, uint32_t t1, enum wtype type)
{
    const size_t bytes = SCALES_BYTES + (type == WT_Q40 ? 256 : 512);
    const uint8_t *p = tensor_group(w, g);
    struct opened strip[STRIP];
    vf acc[TOKENS_HOT];

    for (uint32_t i = 0; i < t1 - t0; i++) acc[i] = vf_zero();
    for (uint32_t b = 0, n; b < x->blocks; b += n) {
        n = x->blocks - b < STRIP ? x->blocks - b : STRIP;
        for (uint32_t i = 0; i < n; i++, p += bytes) {
            for (size_t line = 0; line < bytes; line += 64) __builtin_prefetch(p + AHEAD + line);
            open_block(&strip[i], p, type);
        }
        for (uint32_t t = t0; t < t1; t += 2) {
            uint32_t other = t + 1 < t1 ? t + 1 : t;
            add_strip(&acc[t - t0], &acc[other - t0], strip, n, x, t, other, b, type);
        }
    }
    for (uint32_t t = t0; t < t1; t++) store_rows(y + t * y_stride, acc[t - t0], w, bias, g);
}

static void quantized_strips(float *y, size_t y_stride, const struct tensor *w, const float *bias,
                             const struct acts *x, uint32_t g, uint32_t t0, uint32_t t1,
                             enum wtype type)
{
    if (type == WT_Q40)
        strips(y, y_stride, w, bias, x, g, t0, t1, WT_Q40);
    else
        strips(y, y_stride, w, bias, x, g, t0, t1, WT_Q80);
}

#endif
