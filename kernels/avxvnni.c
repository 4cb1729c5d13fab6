/* The table "avxvnni": as avx2, with 256-bit dot products of bytes (AVX-VNNI: Intel since Alder
 * Lake, AMD since Zen 5). */
#include "kernels/lanes_avx2.h"
#include "kernels/tables.h"

/* Signed bytes as unsigned: w + 128. */
static inline struct bytes16 open_q80(const uint8_t *p)
{
    const vi top = vi_set((int32_t)0x80808080);
    struct bytes16 w;
#pragma GCC unroll 8
    for (unsigned g = 0; g < 8; g++) w.v[g] = vi_xor(vi_load(p + 64 * g), top);
    return w;
}

static inline vi dot_four(vi acc, vi u, vi s)
{
    return (vi){ _mm256_dpbusd_avx_epi32(acc.lo, u.lo, s.lo),
                 _mm256_dpbusd_avx_epi32(acc.hi, u.hi, s.hi) };
}

/* start + sum of unsigned w times x, without saturation. */
static inline vi dot_from(int32_t start, const struct bytes16 *w, const int8_t *q)
{
    vi even = vi_set(start), odd = vi_set(0);
#pragma GCC unroll 4
    for (unsigned g = 0; g < 8; g += 2) {
        even = dot_four(even, w->v[g], vi_four(q + 4 * g));
        odd = dot_four(odd, w->v[g + 1], vi_four(q + 4 * g + 4));
    }
    return vi_add(even, odd);
}

/* sum (n - 8) x = sum n x - 8 sum x, and likewise with 128. */
static inline vi dot_q40(const struct bytes16 *w, const int8_t *q, int32_t sum)
{
    return dot_from(-8 * sum, w, q);
}
static inline vi dot_q80(const struct bytes16 *w, const int8_t *q, int32_t sum)
{
    return dot_from(-128 * sum, w, q);
}

#include "kernels/driver.inc"

const struct kernels kernels_avxvnni = {
    .isa = "avxvnni",
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
