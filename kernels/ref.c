/* The table "scalar": docs/arithmetic.md in C.  Written to be read; the other tables are held to
 * its bits.  fmaf and sqrtf have one correct result by IEEE 754, whatever libm or CPU computes it.
 */
#include "kernels/bits.h"
#include "kernels/kernels.h"
#include "kernels/tables.h"

#include <math.h>

enum { LANES = 16, SCALES_BYTES = GROUP_ROWS * 2 };

/* Fold 16 lanes into one: j and j+8, then j+4, j+2, j+1. */
static float fold(float lane[LANES])
{
    for (unsigned half = LANES / 2; half > 0; half /= 2)
        for (unsigned j = 0; j < half; j++) lane[j] = lane[j] + lane[j + half];
    return lane[0];
}

/* Element i of a stored vector. */
static float element(const void *p, size_t i, enum ftype t)
{
    switch (t) {
    case FT_F32: return f32_at(p, i);
    case FT_F16: return f32_from_f16(u16_at(p, i));
    case FT_BF16: return f32_from_bf16(u16_at(p, i));
    }
    return 0;
}

/* --- products --- */

/* Sum over one block of one row of n * x, exact.  The weight of input i of a q40 row is a nibble:
 * byte 4g+j holds input 4g+j low and 16+4g+j high. */
static int32_t dot_q40(const uint8_t *block, unsigned row, const int8_t *q)
{
    int32_t sum = 0;
    for (unsigned i = 0; i < BLOCK / 2; i++) {
        uint8_t pair = block[SCALES_BYTES + (i / 4 * GROUP_ROWS + row) * 4 + i % 4];
        sum += ((pair & 15) - 8) * q[i] + ((pair >> 4) - 8) * q[i + BLOCK / 2];
    }
    return sum;
}

static int32_t dot_q80(const uint8_t *block, unsigned row, const int8_t *q)
{
    int32_t sum = 0;
    for (unsigned i = 0; i < BLOCK; i++)
        sum += (int8_t)block[SCALES_BYTES + (i / 4 * GROUP_ROWS + row) * 4 + i % 4] * q[i];
    return sum;
}

static float row_quantized(enum wtype type, const uint8_t *group, unsigned row,
                           const struct acts *x, uint32_t t)
{
    size_t bytes = wtype_group_bytes(type, BLOCK);
    const int8_t *q = x->q + (size_t)t * x->blocks * BLOCK;
    const float *d = x->d + (size_t)t * x->blocks;
    float acc = 0;

    for (uint32_t b = 0; b < x->blocks; b++, group += bytes, q += BLOCK) {
        int32_t isum = type == WT_Q40 ? dot_q40(group, row, q) : dot_q80(group, row, q);
        float dw = f32_from_f16(u16_at(group, row));
        acc = fmaf((float)isum, dw * d[b], acc);
    }
    return acc;
}

static float row_float(enum wtype type, const uint8_t *group, unsigned row, const struct acts *x,
                       uint32_t t)
{
    enum ftype stored = type == WT_F32 ? FT_F32 : type == WT_F16 ? FT_F16 : FT_BF16;
    const float *f = x->f + t * x->f_stride;
    float acc = 0;

    for (uint32_t c = 0; c < x->cols; c++)
        acc = fmaf(element(group, (size_t)c * GROUP_ROWS + row, stored), f[c], acc);
    return acc;
}

static void product(float *y, size_t y_stride, const struct tensor *w, const float *bias,
                    const struct acts *x, uint32_t g0, uint32_t g1)
{
    for (uint32_t r = g0 * GROUP_ROWS; r < g1 * GROUP_ROWS && r < w->rows; r++) {
        const uint8_t *group = tensor_group(w, r / GROUP_ROWS);
        unsigned row = r % GROUP_ROWS;

        for (uint32_t t = 0; t < x->n; t++) {
            float acc = wtype_quantized(w->type) ? row_quantized(w->type, group, row, x, t)
                                                 : row_float(w->type, group, row, x, t);
            y[t * y_stride + r] = bias ? acc + f32_at(bias, r) : acc;
        }
    }
}

/* Adding 1.5 * 2^23 and taking it away rounds to the nearest integer, halves to even; |x| < 2^22.
 */
static int32_t round_half_even(float x)
{
    return (int32_t)(x + 0x1.8p23f - 0x1.8p23f);
}

static void quantize_block(const float *x, uint32_t n, int8_t *q, float *d, int32_t *sum)
{
    uint32_t most = 0; /* bits of |x| compare as |x| does, and a NaN is above all */
    for (uint32_t i = 0; i < n; i++) {
        uint32_t a = bits_of_f32(x[i]) & F32_ABS;
        if (a > most) most = a;
    }
    memset(q, 0, BLOCK);
    *sum = 0;

    float a = f32_of_bits(most);
    if (most >= F32_INF || a < 0x1p-100f) {
        *d = most >= F32_INF ? NAN : 0; /* what is not finite stays so until it is noticed */
        return;
    }
    float scale = 127 / a;
    for (uint32_t i = 0; i < n; i++) {
        q[i] = (int8_t)round_half_even(x[i] * scale);
        *sum += q[i];
    }
    *d = a / 127;
}

static void quantize(const float *x, uint32_t cols, int8_t *q, float *d, int32_t *sum)
{
    for (uint32_t c = 0, b = 0; c < cols; c += BLOCK, b++)
        quantize_block(x + c, cols - c < BLOCK ? cols - c : BLOCK, q + c, &d[b], &sum[b]);
}

/* --- along a vector --- */

static void norm(float *y, const float *x, const float *w, uint32_t n, float eps)
{
    float lane[LANES] = { 0 };
    for (uint32_t i = 0; i < n; i += LANES) {
        for (uint32_t j = 0; j < LANES; j++) {
            float v = n - i > j ? x[i + j] : 0;
            lane[j] = fmaf(v, v, lane[j]);
        }
    }
    float r = 1 / sqrtf(fold(lane) / (float)n + eps);
    for (uint32_t i = 0; i < n; i++) y[i] = f32_at(w, i) * (x[i] * r);
}

static void swiglu(float *f, const float *g, const float *u, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) f[i] = g[i] / (1 + exp_f32(-g[i])) * u[i];
}

static void sigmoid(float *s, const float *z, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) s[i] = 1 / (1 + exp_f32(-z[i]));
}

static void add(float *y, const float *a, const float *b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) y[i] = a[i] + b[i];
}

static float rounded(float x, enum ftype t)
{
    switch (t) {
    case FT_F32: return x;
    case FT_F16: return f32_from_f16(f16_from_f32(x));
    case FT_BF16: return f32_from_bf16(bf16_from_f32(x));
    }
    return x;
}

static bool exchange(float *y, const float *x, float s, uint32_t n, enum ftype t)
{
    bool finite = true;
    for (uint32_t i = 0; i < n; i++) {
        y[i] = rounded(x[i] * s, t);
        finite &= (bits_of_f32(y[i]) & F32_INF) != F32_INF;
    }
    return finite;
}

static void narrow(void *y, const float *x, uint32_t n, enum ftype t)
{
    for (uint32_t i = 0; i < n; i++) {
        if (t == FT_F32)
            f32_put(y, i, x[i]);
        else
            u16_put(y, i, t == FT_F16 ? f16_from_f32(x[i]) : bf16_from_f32(x[i]));
    }
}

static void widen(float *y, const void *x, uint32_t n, enum ftype t)
{
    for (uint32_t i = 0; i < n; i++) y[i] = element(x, i, t);
}

/* --- attention --- */

/* Element i of the key at position t. */
static float key(const void *k, uint32_t t, uint32_t i, const struct heads *h)
{
    return element(k, ((size_t)(t / KV_BLOCK) * h->hd + i) * KV_BLOCK + t % KV_BLOCK, h->kv);
}

static float score(const float *q, const void *k, uint32_t t, const struct heads *h)
{
    float lane[LANES] = { 0 };
    for (uint32_t i = 0; i < h->hd; i += LANES) {
        for (uint32_t j = 0; j < LANES; j++) {
            bool there = h->hd - i > j;
            float a = there ? q[i + j] : 0;
            float b = there ? key(k, t, i + j, h) : 0;
            lane[j] = fmaf(a, b, lane[j]);
        }
    }
    return fold(lane);
}

static void scores(float *s, const float *q, const void *k, const struct heads *h, uint32_t n,
                   float scale)
{
    for (uint32_t j = 0; j < h->n; j++)
        for (uint32_t t = 0; t < n; t++)
            s[j * h->stride + t] = score(q + (size_t)j * h->hd, k, t, h) * scale;
}

/* Bits as an integer that orders as the floats do, -0 below +0. */
static int32_t ordered(float x)
{
    int32_t i = (int32_t)bits_of_f32(x);
    return i ^ (i >> 31 & F32_ABS);
}

static float max(const float *s, uint32_t n)
{
    float m = s[0];
    for (uint32_t i = 1; i < n; i++)
        if (ordered(s[i]) > ordered(m)) m = s[i];
    return m;
}

static float exp_sum(float *s, uint32_t n, float max)
{
    float lane[LANES] = { 0 };
    for (uint32_t i = 0; i < n; i += LANES) {
        for (uint32_t j = 0; j < LANES; j++) {
            if (n - i > j) s[i + j] = exp_f32(s[i + j] - max);
            lane[j] = lane[j] + (n - i > j ? s[i + j] : 0);
        }
    }
    return fold(lane);
}

static void weigh(float *o, const float *e, const void *v, const struct heads *h, uint32_t n)
{
    for (uint32_t j = 0; j < h->n; j++, o += h->hd, e += h->stride)
        for (uint32_t t = 0; t < n; t++)
            for (uint32_t c = 0; c < h->hd; c++)
                o[c] = fmaf(e[t], element(v, (size_t)t * h->hd + c, h->kv), o[c]);
}

static void rotate(float *head, const float *c, const float *s, uint32_t half, bool interleaved)
{
    uint32_t step = interleaved ? 2 : 1, apart = interleaved ? 1 : half;

    for (uint32_t i = 0; i < half; i++) {
        float *pair = head + (size_t)i * step;
        float a = pair[0], b = pair[apart];
        pair[0] = fmaf(a, c[i], -(b * s[i]));
        pair[apart] = fmaf(b, c[i], a * s[i]);
    }
}

const struct kernels kernels_scalar = {
    .isa = "scalar",
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
