/* The table "avx2": AVX2, FMA and F16C (Intel since 2013, AMD since 2015). */
#include "kernels/lanes_avx2.h"
#include "kernels/tables.h"

/* How much driver.inc keeps in registers of q40 and q80: groups and tokens side by side; up to how
 * many tokens one pass over the weights is best although registers spill (with so few, memory is
 * what one waits for); and how many fours of a block are one straight run of instructions (more
 * make gcc 12 fetch all inputs first and spill the sums). */
enum { QUANT_GROUPS = 1, QUANT_TOKENS = 4, QUANT_ONCE = 4, QUANT_RUN = 1 };

static inline struct fours fours_open(const uint8_t *p, unsigned j, enum wtype type,
                                      const unsigned T)
{
    return type == WT_Q40 ? fours_open_q40(p, j, T) : fours_open_q80(p, j);
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

/* q40: 16-bit lanes, each of which gathers 16 products of at most 15 * 127: 30480, no overflow.
 * q80: 32-bit lanes. */
struct isum {
    vi v;
};

static inline struct isum isum_start(int32_t sum, enum wtype type)
{
    (void)sum, (void)type;
    return (struct isum){ vi_set(0) };
}

/* w x = |w| (x with the sign of w).  A pair is at most 2 * 128 * 127 = 32512: no saturation, also
 * for w = -128, whose magnitude is 128 as an unsigned byte; |x| <= 127, so its sign can be turned.
 */
static inline vi signed_fours(vi w, vi x)
{
    vi turned = { _mm256_sign_epi8(x.lo, w.lo), _mm256_sign_epi8(x.hi, w.hi) };
    vi size = { _mm256_abs_epi8(w.lo), _mm256_abs_epi8(w.hi) };
    return pairs_fold(pairs(size, turned));
}

static inline struct isum isum_more(struct isum s, struct fours w, vi low, vi high, enum wtype type)
{
    if (type == WT_Q40)
        return (struct isum){ pairs_add(pairs_add(s.v, pairs(w.low, low)), pairs(w.high, high)) };
    return (
        struct isum){ vi_add(vi_add(s.v, signed_fours(w.low, low)), signed_fours(w.high, high)) };
}

/* sum (n - 8) x = sum n x - 8 sum x. */
static inline vi isum_end(struct isum s, int32_t sum, enum wtype type)
{
    return type == WT_Q40 ? vi_sub(pairs_fold(s.v), vi_set(8 * sum)) : s.v;
}

#include "kernels/driver.inc"

const struct kernels kernels_avx2 = {
    .isa = "avx2",
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
