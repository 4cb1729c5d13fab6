/* bench_peak.c - the most multiplications of bytes that an instruction set can do: a loop of
 * nothing else, on registers. */
#include "tools/bench.h"

#include <string.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

enum { LOOPS = 400000, CHAINS = 12 /* hides the latency of a product */ };

#ifdef __x86_64__
/* CHAINS independent sums, each a variable of its own (arrays end up in memory); the empty asm
 * keeps the compiler from doing them once. */
#define PEAK(name, features, vec, zero, step)                                                   \
    __attribute__((target(features))) static void name(void)                                    \
    {                                                                                           \
        vec x = zero();                                                                         \
        vec a = x, b = x, c = x, d = x, e = x, f = x, g = x, h = x, i = x, j = x, k = x, l = x; \
        __asm__ volatile("" : "+v"(x)); /* not a constant */                                    \
        for (int n = 0; n < LOOPS; n++) {                                                       \
            a = step(a, x), b = step(b, x), c = step(c, x), d = step(d, x);                     \
            e = step(e, x), f = step(f, x), g = step(g, x), h = step(h, x);                     \
            i = step(i, x), j = step(j, x), k = step(k, x), l = step(l, x);                     \
            __asm__ volatile("" : "+v"(a), "+v"(b), "+v"(c), "+v"(d), "+v"(e), "+v"(f));        \
            __asm__ volatile("" : "+v"(g), "+v"(h), "+v"(i), "+v"(j), "+v"(k), "+v"(l));        \
        }                                                                                       \
    }
#define STEP_AVX2(s, x) _mm256_maddubs_epi16(s, x)
#define STEP_AVXVNNI(s, x) _mm256_dpbusd_avx_epi32(s, x, x)
#define STEP_VNNI256(s, x) _mm256_dpbusd_epi32(s, x, x)
#define STEP_AVX512(s, x) _mm512_dpbusd_epi32(s, x, x)
PEAK(peak_avx2, "avx2", __m256i, _mm256_setzero_si256, STEP_AVX2)
PEAK(peak_avxvnni, "avx2,avxvnni", __m256i, _mm256_setzero_si256, STEP_AVXVNNI)
PEAK(peak_vnni256, "avx512vl,avx512bw,avx512vnni", __m256i, _mm256_setzero_si256, STEP_VNNI256)
PEAK(peak_avx512, "avx512f,avx512bw,avx512vnni", __m512i, _mm512_setzero_si512, STEP_AVX512)

static const struct {
    const char *isa;
    void (*run)(void);
    uint32_t products; /* of bytes in a step */
} loops[] = {
    { "avx2", peak_avx2, 32 },
    { "avxvnni", peak_avxvnni, 32 },
    { "vnni256", peak_vnni256, 32 },
    { "avx512", peak_avx512, 64 },
};
enum { N_LOOPS = sizeof loops / sizeof *loops };

static void run_loop(void *arg, uint32_t i)
{
    (void)i;
    loops[*(const int *)arg].run();
}

void bench_peak_run(void *arg)
{
    struct bench_peak *p = arg;

    for (int i = 0; i < N_LOOPS; i++) {
        if (strcmp(p->isa, loops[i].isa) != 0) continue;
        p->flop = 2.0 * LOOPS * CHAINS * loops[i].products * p->workers->n;
        p->workers->run(p->workers, run_loop, &i, p->workers->n);
    }
}
#else
void bench_peak_run(void *arg)
{
    (void)arg;
}
#endif
