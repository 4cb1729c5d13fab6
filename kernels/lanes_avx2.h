/* lanes_avx2.h - 16 lanes as two 256-bit registers: the words that driver.inc is written in.
 * For avx2.c and vnni256.inc, which add the integer dot products. */
#ifndef KERNELS_LANES_AVX2_H
#define KERNELS_LANES_AVX2_H

#include "kernels/bits.h"

#include <immintrin.h>

/* How much driver.inc keeps in 16 registers: tokens per pass; and groups of
 * f16, bf16 and f32 that share a pass of one, two and that many tokens. */
enum { TOKENS = 4, GROUPS_ONE = 4, GROUPS_TWO = 2, GROUPS_MANY = 1 };
/* And for attention.inc: heads side by side, most and fewer; blocks of keys, vectors of columns. */
enum { HEADS_MOST = 3, HEADS_SOME = 2, KEYS_WIDE = 1, COLUMNS_WIDE = 1 };

typedef struct {
    __m256 lo, hi; /* lanes 0..7, 8..15 */
} vf;
typedef struct {
    __m256i lo, hi;
} vi;

static inline vf vf_zero(void)
{
    return (vf){ _mm256_setzero_ps(), _mm256_setzero_ps() };
}
static inline vf vf_set(float x)
{
    __m256 v = _mm256_set1_ps(x);
    return (vf){ v, v };
}
static inline vf vf_load(const void *p)
{
    const float *f = p;
    return (vf){ _mm256_loadu_ps(f), _mm256_loadu_ps(f + 8) };
}
static inline void vf_store(void *p, vf v)
{
    float *f = p;
    _mm256_storeu_ps(f, v.lo);
    _mm256_storeu_ps(f + 8, v.hi);
}
static inline vf vf_add(vf a, vf b)
{
    return (vf){ _mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi) };
}
static inline vf vf_sub(vf a, vf b)
{
    return (vf){ _mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi) };
}
static inline vf vf_mul(vf a, vf b)
{
    return (vf){ _mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi) };
}
static inline vf vf_div(vf a, vf b)
{
    return (vf){ _mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi) };
}
static inline vf vf_fma(vf a, vf b, vf c)
{
    return (vf){ _mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi) };
}
/* a < b ? a : b, so that a NaN in b stays; vf_max likewise. */
static inline vf vf_min(vf a, vf b)
{
    return (vf){ _mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi) };
}
static inline vf vf_max(vf a, vf b)
{
    return (vf){ _mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi) };
}
/* Lanes j and j+8, then j+4, j+2, j+1 are added. */
static inline float vf_fold(vf v)
{
    __m256 e = _mm256_add_ps(v.lo, v.hi);
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    q = _mm_add_ss(q, _mm_movehdup_ps(q));
    return _mm_cvtss_f32(q);
}

static inline vi vi_set(int32_t x)
{
    __m256i v = _mm256_set1_epi32(x);
    return (vi){ v, v };
}
static inline vi vi_add(vi a, vi b)
{
    return (vi){ _mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi) };
}
static inline vi vi_sub(vi a, vi b)
{
    return (vi){ _mm256_sub_epi32(a.lo, b.lo), _mm256_sub_epi32(a.hi, b.hi) };
}
static inline vi vi_and(vi a, vi b)
{
    return (vi){ _mm256_and_si256(a.lo, b.lo), _mm256_and_si256(a.hi, b.hi) };
}
static inline vi vi_xor(vi a, vi b)
{
    return (vi){ _mm256_xor_si256(a.lo, b.lo), _mm256_xor_si256(a.hi, b.hi) };
}
static inline vi vi_max(vi a, vi b)
{
    return (vi){ _mm256_max_epi32(a.lo, b.lo), _mm256_max_epi32(a.hi, b.hi) };
}
static inline vi vi_left(vi a, int n)
{
    return (vi){ _mm256_slli_epi32(a.lo, n), _mm256_slli_epi32(a.hi, n) };
}
static inline vi vi_right(vi a, int n) /* of an unsigned */
{
    return (vi){ _mm256_srli_epi32(a.lo, n), _mm256_srli_epi32(a.hi, n) };
}
static inline vi vi_right_signed(vi a, int n)
{
    return (vi){ _mm256_srai_epi32(a.lo, n), _mm256_srai_epi32(a.hi, n) };
}
/* a > b ? x : y in each lane. */
static inline vi vi_where_greater(vi a, vi b, vi x, vi y)
{
    return (vi){ _mm256_blendv_epi8(y.lo, x.lo, _mm256_cmpgt_epi32(a.lo, b.lo)),
                 _mm256_blendv_epi8(y.hi, x.hi, _mm256_cmpgt_epi32(a.hi, b.hi)) };
}
static inline int32_t vi_fold_max(vi v)
{
    __m256i e = _mm256_max_epi32(v.lo, v.hi);
    __m128i q = _mm_max_epi32(_mm256_castsi256_si128(e), _mm256_extracti128_si256(e, 1));
    q = _mm_max_epi32(q, _mm_shuffle_epi32(q, 0x4e));
    q = _mm_max_epi32(q, _mm_shuffle_epi32(q, 0xb1));
    return _mm_cvtsi128_si32(q);
}
static inline int32_t vi_fold_add(vi v)
{
    __m256i e = _mm256_add_epi32(v.lo, v.hi);
    __m128i q = _mm_add_epi32(_mm256_castsi256_si128(e), _mm256_extracti128_si256(e, 1));
    q = _mm_add_epi32(q, _mm_shuffle_epi32(q, 0x4e));
    q = _mm_add_epi32(q, _mm_shuffle_epi32(q, 0xb1));
    return _mm_cvtsi128_si32(q);
}

static inline vi vi_bits(vf a)
{
    return (vi){ _mm256_castps_si256(a.lo), _mm256_castps_si256(a.hi) };
}
static inline vf vf_of_bits(vi a)
{
    return (vf){ _mm256_castsi256_ps(a.lo), _mm256_castsi256_ps(a.hi) };
}
static inline vi vi_round(vf a) /* halves to even */
{
    return (vi){ _mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi) };
}
static inline vf vf_of_int(vi a)
{
    return (vf){ _mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi) };
}

static inline vf vf_load_f16(const void *p)
{
    const __m128i *h = p;
    return (vf){ _mm256_cvtph_ps(_mm_loadu_si128(h)), _mm256_cvtph_ps(_mm_loadu_si128(h + 1)) };
}
static inline void vf_store_f16(void *p, vf v)
{
    __m128i *h = p;
    _mm_storeu_si128(h, _mm256_cvtps_ph(v.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    _mm_storeu_si128(h + 1, _mm256_cvtps_ph(v.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline vi vi_load_u16(const void *p)
{
    const __m128i *h = p;
    return (vi){ _mm256_cvtepu16_epi32(_mm_loadu_si128(h)),
                 _mm256_cvtepu16_epi32(_mm_loadu_si128(h + 1)) };
}
/* Lanes of 0..65535 as 16 uint16. */
static inline void vi_store_u16(void *p, vi v)
{
    __m256i mixed = _mm256_packus_epi32(v.lo, v.hi); /* quarters lo0 hi0 lo1 hi1 */
    _mm256_storeu_si256(p, _mm256_permute4x64_epi64(mixed, 0xd8));
}
/* Lanes of -128..127 as 16 int8. */
static inline void vi_store_i8(void *p, vi v)
{
    __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(v.lo, v.hi), 0xd8);
    _mm_storeu_si128(
        p, _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}

/* --- the integers of a block --- */

static inline vi vi_load(const void *p)
{
    const __m256i *i = p;
    return (vi){ _mm256_loadu_si256(i), _mm256_loadu_si256(i + 1) };
}
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

/* Nibbles as bytes 0..15, for T tokens.  With one token loads are scarce, since each input is
 * broadcast by one: both nibbles are to come of one load, where gcc would make one for each. */
static inline struct fours fours_open_q40(const uint8_t *p, unsigned j, const unsigned T)
{
    const vi low = vi_set(0x0f0f0f0f);
    vi pairs = vi_load(p + 64 * j);
    if (T == 1) __asm__("" : "+x"(pairs.lo), "+x"(pairs.hi));
    return (struct fours){ vi_and(pairs, low), vi_and(vi_right(pairs, 4), low) };
}
/* Signed bytes as they are. */
static inline struct fours fours_open_q80(const uint8_t *p, unsigned j)
{
    return (struct fours){ vi_load(p + 64 * j), vi_load(p + 64 * (j + 4)) };
}

#endif
