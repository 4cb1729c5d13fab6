/* kernels.h - arithmetic for one instruction set behind one table.
 *
 * Every table gives the same bits: docs/arithmetic.md ("arith: 1") fixes each operation and its
 * order, ref.c is that text in C, the others are held to it by memcmp.  Floats are f32, round to
 * nearest even, subnormals kept.  No function here allocates, locks or reads a clock.
 *
 * red16: 16 lanes, lane j takes elements j, j+16, ... in order (fma for products, add for sums),
 * starting at +0; elements past the end are +0 and take part; then lanes j and j+8, j+4, j+2, j+1
 * are added.  Pointers may be unaligned unless a line says otherwise; outputs never alias inputs
 * unless a line says so. */
#ifndef KERNELS_KERNELS_H
#define KERNELS_KERNELS_H

#include "kernels/tensor.h"

enum {
    KV_CHUNK = 512, /* positions per attention chunk, absolute */
    KV_BLOCK = 16,  /* positions whose keys lie interleaved */
};

/* How vectors travel and how K and V are stored.  The numbers are in manifests. */
enum ftype { FT_F32 = 0, FT_F16 = 1, FT_BF16 = 2 };
static inline size_t ftype_bytes(enum ftype t)
{
    return t == FT_F32 ? 4 : 2;
}

/* n input vectors of a product.  For f16, bf16 and f32 weights f is read; for q40 and q80 the
 * quantized form, made by quantize(): a = max|x| of a block; a < 2^-100: all zero and d = 0, else
 * q = round-to-even(x * (127/a)), d = a/127.  A block with a value that is not finite gets d = NaN,
 * so that the product is not finite either. */
struct acts {
    uint32_t n;     /* vectors */
    uint32_t cols;  /* inputs of each */
    const float *f; /* [n][f_stride] */
    size_t f_stride;
    const int8_t *q;    /* [n][blocks * 32], padding 0 */
    const float *d;     /* [n][blocks] */
    const int32_t *sum; /* [n][blocks]: sum of each block's q */
    uint32_t blocks;    /* ceil(cols / 32): blocks of one vector */
};

/* Query heads that look at the same keys and values: those of a head group, of one row or of
 * several rows of a session.
 *
 *   keys     blocks of KV_BLOCK positions, each [hd][KV_BLOCK], type kv: a lane is a position, so
 *            the 16 lanes of a score's red16 are 16 registers and no register is ever folded
 *   values   [position][hd], type kv: a lane is a column */
struct heads {
    uint32_t n;    /* query heads */
    uint32_t hd;   /* elements of a head */
    enum ftype kv; /* FT_F16 or FT_F32 */
    size_t stride; /* floats from one head's scores to the next one's */
};

struct kernels {
    const char *isa; /* "scalar", "avx2", ... as pick.c lists them */

    /* y[t][r] = sum over c of w[r][c] x[t][c] + bias[r], rows of groups [g0, g1) of w.
     *   y      [x->n][y_stride]; rows at or past w->rows are not written
     *   bias   [rows] readable to a multiple of 16, or NULL: nothing is added
     *   order  quantized: acc = fma((float)isum, dw * dx, acc), blocks in order;
     *          else acc = fma(w, x, acc), inputs in order; y = acc + bias */
    void (*product)(float *y, size_t y_stride, const struct tensor *w, const float *bias,
                    const struct acts *x, uint32_t g0, uint32_t g1);

    /* x [cols] into q [blocks*32], d [blocks], sum [blocks] (struct acts). */
    void (*quantize)(const float *x, uint32_t cols, int8_t *q, float *d, int32_t *sum);

    /* y_i = w_i * (x_i * r), r = 1 / sqrt(red16(x*x) / n + eps).  y may be x. */
    void (*norm)(float *y, const float *x, const float *w, uint32_t n, float eps);

    /* f_i = silu(g_i) * u_i, silu(g) = g / (1 + exp(-g)).  f may be g or u. */
    void (*swiglu)(float *f, const float *g, const float *u, uint32_t n);

    /* Rotate the first 2 * half elements of one head in place: a pair (a, b) becomes
     *     a' = fma(a, c, -(b*s)),  b' = fma(b, c, a*s)
     * interleaved: pairs (2i, 2i+1); else (i, i + half).  c, s [half] from rope_angles. */
    void (*rotate)(float *head, const float *c, const float *s, uint32_t half, bool interleaved);

    /* s_i = 1 / (1 + exp(-z_i)).  s may be z. */
    void (*sigmoid)(float *s, const float *z, uint32_t n);

    /* y_i = a_i + b_i.  y may be a or b. */
    void (*add)(float *y, const float *a, const float *b, uint32_t n);

    /* X(x * s) stored as f32 values; y may be x.  s = 1 for a plain rounding (then no multiply
     * happens: 1 * x = x).  Returns false when any result is not finite. */
    bool (*exchange)(float *y, const float *x, float s, uint32_t n, enum ftype t);

    /* f32 <-> stored elements: round to nearest even (beyond the range: infinite), and widen
     * exactly. */
    void (*narrow)(void *y, const float *x, uint32_t n, enum ftype t);
    void (*widen)(float *y, const void *x, uint32_t n, enum ftype t);

    /* s[j * stride + t] = red16(q_j * k_t) * scale for heads j and positions t in [0, n).
     *   q   [h->n][hd]
     *   k   from the first position of a block on; whole blocks are read, and s is written to the
     *       next multiple of KV_BLOCK */
    void (*scores)(float *s, const float *q, const void *k, const struct heads *h, uint32_t n,
                   float scale);

    /* The largest of s[0..n), -0 below +0; n >= 1. */
    float (*max)(const float *s, uint32_t n);

    /* One chunk of at most KV_CHUNK positions: s[i] = exp(s[i] - max), returns red16(s). */
    float (*exp_sum)(float *s, uint32_t n, float max);

    /* o[j][c] = fma(e[j * stride + t], v[t][c], o[j][c]) for heads j, columns c, and t in 0..n in
     * order; o [h->n][hd] starts as given. */
    void (*weigh)(float *o, const float *e, const void *v, const struct heads *h, uint32_t n);
};

/* The i-th table that this machine can run; table 0 is the scalar reference, the fastest is last;
 * NULL past the end.  Tests walk all of them. */
const struct kernels *kernels_nth(unsigned i);

/* The best table for this machine (isa NULL), or the one so named; NULL with why when this CPU
 * lacks it or the name is unknown. */
const struct kernels *kernels_pick(const char *isa, struct why *why);

/* Hashes of outputs over fixed inputs, compared with golden values: a machine whose arithmetic
 * differs must not serve.  Takes under 50 ms.  ERR_UNSUPPORTED with why when it differs. */
MUST_CHECK enum err kernels_selftest(const struct kernels *k, struct why *why);

/* --- parts that are the same code for every table (math.c) --- */

/* exp on f32, argument clamped to +-88; error in docs/arithmetic.md. */
float exp_f32(float x);

/* cos and sin of (double)position * f for each frequency, times scale (1 unless yarn), as f32. */
void rope_angles(float *cos_out, float *sin_out, const double *freq, uint32_t n, uint32_t position,
                 double scale);

/* f16 and bf16 <-> f32, round to nearest even, subnormals kept. */
uint16_t f16_from_f32(float x);
float f32_from_f16(uint16_t h);
uint16_t bf16_from_f32(float x);
float f32_from_bf16(uint16_t h);

#endif
