/* The table "avx512": AVX-512 F, BW, VL and VNNI (Intel servers since 2019, AMD since Zen 4).
 * 16 lanes are one register; its words are those of lanes_avx2.h. */
#include "kernels/bits.h"
#include "kernels/tables.h"

#include <immintrin.h>

/* How much driver.inc keeps in 32 registers: tokens per pass; and groups of
 * f16, bf16 and f32 that share a pass of one, two and that many tokens. */
enum { TOKENS = 8, GROUPS_ONE = 4, GROUPS_TWO = 4, GROUPS_MANY = 2 };
/* And for attention.inc: heads side by side, most and fewer; blocks of keys, vectors of columns. */
enum { HEADS_MOST = 6, HEADS_SOME = 4, KEYS_WIDE = 2, COLUMNS_WIDE = 2 };
/* And of q40 and q80: groups and tokens side by side; and up to how many tokens one pass over the
 * weights is best although registers spill: with so few, memory is what one waits for;
 * and how many fours of a block are one straight run of instructions. */
enum { QUANT_GROUPS = 2, QUANT_TOKENS = 6, QUANT_ONCE = 8, QUANT_RUN = 4 };

typedef __m512 vf;
typedef __m512i vi;

static inline vf vf_zero(void)
{
    return _mm512_setzero_ps();
}
static inline vf vf_set(float x)
{
    return _mm512_set1_ps(x);
}
static inline vf vf_load(const void *p)
{
    return _mm512_loadu_ps(p);
}
static inline void vf_store(void *p, vf v)
{
    _mm512_storeu_ps(p, v);
}
static inline vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}
static inline vf vf_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}
static inline vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}
static inline vf vf_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}
static inline vf vf_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}
/* a < b ? a : b, so that a NaN in b stays; vf_max likewise. */
static inline vf vf_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}
static inline vf vf_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}
/* Lanes j and j+8, then j+4, j+2, j+1 are added. */
static inline float vf_fold(vf v)
{
    __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(v), 1));
    __m256 e = _mm256_add_ps(_mm512_castps512_ps256(v), high);
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    q = _mm_add_ss(q, _mm_movehdup_ps(q));
    return _mm_cvtss_f32(q);
}

static inline vi vi_set(int32_t x)
{
    return _mm512_set1_epi32(x);
}
static inline vi vi_add(vi a, vi b)
{
    return _mm512_add_epi32(a, b);
}
static inline vi vi_sub(vi a, vi b)
{
    return _mm512_sub_epi32(a, b);
}
static inline vi vi_and(vi a, vi b)
{
    return _mm512_and_si512(a, b);
}
static inline vi vi_xor(vi a, vi b)
{
    return _mm512_xor_si512(a, b);
}
static inline vi vi_max(vi a, vi b)
{
    return _mm512_max_epi32(a, b);
}
static inline vi vi_left(vi a, unsigned n)
{
    return _mm512_slli_epi32(a, n);
}
static inline vi vi_right(vi a, unsigned n) /* of an unsigned */
{
    return _mm512_srli_epi32(a, n);
}
static inline vi vi_right_signed(vi a, unsigned n)
{
    return _mm512_srai_epi32(a, n);
}
/* a > b ? x : y in each lane. */
static inline vi vi_where_greater(vi a, vi b, vi x, vi y)
{
    return _mm512_mask_blend_epi32(_mm512_cmpgt_epi32_mask(a, b), y, x);
}
static inline int32_t vi_fold_max(vi v)
{
    return _mm512_reduce_max_epi32(v);
}
static inline int32_t vi_fold_add(vi v)
{
    return _mm512_reduce_add_epi32(v);
}

static inline vi vi_bits(vf a)
{
    return _mm512_castps_si512(a);
}
static inline vf vf_of_bits(vi a)
{
    return _mm512_castsi512_ps(a);
}
static inline vi vi_round(vf a) /* halves to even */
{
    return _mm512_cvtps_epi32(a);
}
static inline vf vf_of_int(vi a)
{
    return _mm512_cvtepi32_ps(a);
}

static inline vf vf_load_f16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}
static inline void vf_store_f16(void *p, vf v)
{
    _mm256_storeu_si256(p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline vi vi_load_u16(const void *p)
{
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256(p));
}
/* Lanes of 0..65535 as 16 uint16. */
static inline void vi_store_u16(void *p, vi v)
{
    _mm256_storeu_si256(p, _mm512_cvtepi32_epi16(v));
}
/* Lanes of -128..127 as 16 int8. */
static inline void vi_store_i8(void *p, vi v)
{
    _mm_storeu_si128(p, _mm512_cvtepi32_epi8(v));
}

/* --- the integers of a block --- */

/* Weights as unsigned bytes, four inputs of each row: inputs 4j .. and 16+4j ... */
struct fours {
    vi low, high;
};

/* q40: the nibbles, 0..15.  q80: w + 128. */
static inline struct fours fours_open(const uint8_t *p, unsigned j, enum wtype type,
                                      const unsigned T)
{
    (void)T;
    vi a = _mm512_loadu_si512(p + 64 * j);
    if (type == WT_Q40) {
        const vi low = vi_set(0x0f0f0f0f);
        return (struct fours){ vi_and(a, low), vi_and(vi_right(a, 4), low) };
    }
    const vi top = vi_set((int32_t)0x80808080);
    vi b = _mm512_loadu_si512(p + 64 * (j + 4));
    return (struct fours){ vi_xor(a, top), vi_xor(b, top) };
}

/* Four inputs, the same for every row. */
static inline vi vi_four(const int8_t *q)
{
    int32_t four;
    memcpy(&four, q, sizeof four);
    return vi_set(four);
}

struct isum {
    vi v;
};

/* sum (n - 8) x = sum n x - 8 sum x, and likewise with 128. */
static inline struct isum isum_start(int32_t sum, enum wtype type)
{
    return (struct isum){ vi_set((type == WT_Q40 ? -8 : -128) * sum) };
}
/* + unsigned w times x, without saturation. */
static inline struct isum isum_more(struct isum s, struct fours w, vi low, vi high, enum wtype type)
{
    (void)type;
    return (struct isum){ _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(s.v, w.low, low), w.high, high) };
}
static inline vi isum_end(struct isum s, int32_t sum, enum wtype type)
{
    (void)sum, (void)type;
    return s.v;
}

#include "kernels/driver.inc"

const struct kernels kernels_avx512 = {
    .isa = "avx512",
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
