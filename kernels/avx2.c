/* The table "avx2": AVX2, FMA and F16C (Intel since 2013, AMD since 2015). */
#include "kernels/lanes_avx2.h"
#include "kernels/tables.h"

static inline struct bytes16 open_q80(const uint8_t *p)
{
    struct bytes16 w;
#pragma GCC unroll 8
    for (unsigned g = 0; g < 8; g++) w.v[g] = vi_load(p + 64 * g);
    return w;
}

/* Sums of neighbouring pairs of unsigned times signed bytes, as 16 bits. */
static inline vi pairs(vi u, vi s)
{
    return (vi){ _mm256_maddubs_epi16(u.lo, s.lo), _mm256_maddubs_epi16(u.hi, s.hi) };
}
static inline vi pairs_add(vi a, vi b)
{
    return (vi){ _mm256_add_epi16(a.lo, b.lo), _mm256_add_epi16(a.hi, b.hi) };
}
static inline vi pairs_fold(vi a)
{
    const __m256i one = _mm256_set1_epi16(1);
    return (vi){ _mm256_madd_epi16(a.lo, one), _mm256_madd_epi16(a.hi, one) };
}

/* sum (n - 8) x = sum n x - 8 sum x.  A 16-bit lane gathers 16 products of at most 15 * 127:
 * 30480, no overflow. */
static inline vi dot_q40(const struct bytes16 *w, const int8_t *q, int32_t sum)
{
    vi even = pairs(w->v[0], vi_four(q));
    vi odd = pairs(w->v[1], vi_four(q + 4));
#pragma GCC unroll 3
    for (unsigned g = 2; g < 8; g += 2) {
        even = pairs_add(even, pairs(w->v[g], vi_four(q + 4 * g)));
        odd = pairs_add(odd, pairs(w->v[g + 1], vi_four(q + 4 * g + 4)));
    }
    return vi_sub(pairs_fold(pairs_add(even, odd)), vi_set(8 * sum));
}

/* w x = |w| (x with the sign of w).  A pair is at most 2 * 128 * 127 = 32512: no saturation, also
 * for w = -128, whose magnitude is 128 as an unsigned byte; |x| <= 127, so its sign can be turned.
 */
static inline vi dot_q80(const struct bytes16 *w, const int8_t *q, int32_t sum)
{
    (void)sum;
    vi acc = vi_set(0);
#pragma GCC unroll 8
    for (unsigned g = 0; g < 8; g++) {
        vi x = vi_four(q + 4 * g);
        vi turned = { _mm256_sign_epi8(x.lo, w->v[g].lo), _mm256_sign_epi8(x.hi, w->v[g].hi) };
        vi size = { _mm256_abs_epi8(w->v[g].lo), _mm256_abs_epi8(w->v[g].hi) };
        acc = vi_add(acc, pairs_fold(pairs(size, turned)));
    }
    return acc;
}

#include "kernels/driver.inc"

const struct kernels kernels_avx2 = {
    .isa = "avx2",
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
