/* The sampler against a slow one that sorts with qsort and filters as its header says. */
#include "kernels/kernels.h"
#include "model/sampler.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t mix(uint64_t seed, uint64_t position)
{
    uint64_t z = seed * 0x9e3779b97f4a7c15 + position * 0xbf58476d1ce4e5b9 + 1;

    for (int i = 0; i < 3; i++) z = (z ^ z >> 31) * 0x94d049bb133111eb;
    return z ^ z >> 29;
}

static const float *sorted_by;

static int by_logit(const void *a, const void *b)
{
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;

    if (sorted_by[i] != sorted_by[j]) return sorted_by[i] > sorted_by[j] ? -1 : 1;
    return i < j ? -1 : 1;
}

static uint32_t naive_pick(const struct sampling *p, const float *logits, uint32_t usable,
                           uint64_t position)
{
    uint32_t *id = malloc(usable * sizeof *id), n = usable, kept = 0;
    double *e = malloc(usable * sizeof *e), all = 0, sum = 0;

    for (uint32_t i = 0; i < n; i++) id[i] = i;
    sorted_by = logits;
    qsort(id, n, sizeof *id, by_logit);
    if (p->top_k && p->top_k < n) n = p->top_k;
    for (uint32_t i = 0; i < n; i++) {
        double x = ((double)logits[id[i]] - (double)logits[id[0]]) / p->temperature;
        e[i] = (double)exp_f32((float)x);
        all += e[i];
    }
    for (kept = 0; kept < n; kept++) { /* top-p, then min-p */
        if (p->top_p < 1 && kept > 0 && sum >= p->top_p * all) break;
        sum += e[kept];
    }
    while (kept > 1 && e[kept - 1] < p->min_p * e[0]) kept--;
    for (all = 0, n = 0; n < kept; n++) all += e[n];
    double u = (double)(mix(p->seed, position) >> 11) / 9007199254740992.0 * all;
    uint32_t at = 0;
    for (sum = e[0]; at + 1 < kept && sum <= u; sum += e[++at]) {
    }
    uint32_t got = id[at];
    free(id);
    free(e);
    return got;
}

static void like_the_slow_one(void **state)
{
    enum { VOCAB = 3000 };
    static float logits[VOCAB];
    struct sampler *s;
    (void)state;

    assert_int_equal(sampler_open(&s, VOCAB, mix), ERR_OK);
    for (uint64_t round = 0; round < 400; round++) {
        uint64_t r = mix(77, round);
        uint32_t usable = r % 5 ? VOCAB : 1 + (uint32_t)(r >> 8) % VOCAB;
        struct sampling p = { .temperature = 0.05 + (double)(r % 40) / 20, .top_p = 1, .seed = r };
        if (r & 256) p.top_k = 1 + (uint32_t)(r >> 40) % 100;
        if (r & 512) p.top_p = (double)(1 + (r >> 20) % 999) / 1000;
        if (r & 1024) p.min_p = (double)((r >> 30) % 500) / 1000;
        for (uint32_t i = 0; i < VOCAB; i++) { /* many ties, and both zeros */
            int32_t v = (int32_t)(mix(round, i) % 41) - 20;
            logits[i] = (float)v / (r & 2048 ? 2.0f : 7.0f);
            if (v == 0 && i % 2) logits[i] = -0.0f;
        }
        for (uint64_t position = 0; position < 5; position++)
            assert_int_equal(sampler_pick(s, &p, logits, usable, position),
                             naive_pick(&p, logits, usable, position));
    }
    sampler_close(s);
}

static void greedy(void **state)
{
    struct sampler *s;
    struct sampling p = { .temperature = 0, .top_p = 1 };
    float l[6] = { -3, 2, 7, 7, 1, 7 }, zeros[3] = { -0.0f, 0.0f, -1 };
    (void)state;

    assert_int_equal(sampler_open(&s, 6, mix), ERR_OK);
    assert_int_equal(sampler_pick(s, &p, l, 6, 0), 2);
    assert_int_equal(sampler_pick(s, &p, l, 2, 0), 1);
    assert_int_equal(sampler_pick(s, &p, zeros, 3, 0), 0);
    p.temperature = 1;
    p.top_k = 1;
    for (uint64_t i = 0; i < 50; i++) {
        assert_int_equal(sampler_pick(s, &p, l, 6, i), 2);
        assert_int_equal(sampler_pick(s, &p, zeros, 3, i), 0);
    }
    p.top_k = 0;
    p.top_p = 1e-9;
    for (uint64_t i = 0; i < 50; i++) assert_int_equal(sampler_pick(s, &p, l, 6, i), 2);
    sampler_close(s);
}

/* Frequencies are the probabilities; a position draws the same token again. */
static void frequencies(void **state)
{
    enum { N = 5, DRAWS = 40000 };
    struct sampler *s;
    struct sampling p = { .temperature = 0.7, .top_p = 1, .seed = 5 };
    float l[N] = { 0.5f, 1.5f, -1, 0.25f, 1 };
    double want[N], sum = 0;
    int count[N] = { 0 };
    (void)state;

    assert_int_equal(sampler_open(&s, N, mix), ERR_OK);
    for (int i = 0; i < N; i++) sum += want[i] = exp((double)l[i] / 0.7);
    for (uint64_t d = 0; d < DRAWS; d++) {
        uint32_t id = sampler_pick(s, &p, l, N, d);
        assert_int_equal(sampler_pick(s, &p, l, N, d), id);
        count[id]++;
    }
    double chi = 0;
    for (int i = 0; i < N; i++) {
        double expected = want[i] / sum * DRAWS;
        chi += (count[i] - expected) * (count[i] - expected) / expected;
    }
    assert_true(chi < 18.5); /* 0.1 % for 4 degrees of freedom */
    sampler_close(s);
}

static void parameters(void **state)
{
    struct sampling good = { .temperature = 1, .top_p = 0.9, .min_p = 0.1, .top_k = 40 }, s;
    struct why why;
    (void)state;

    assert_int_equal(sampling_check(&good, &why), ERR_OK);
    const double bad_t[] = { -1, NAN, INFINITY }, bad_p[] = { 0, -0.5, 1.01, NAN },
                 bad_m[] = { 1, -0.1, NAN };
    for (int i = 0; i < 3; i++) {
        s = good, s.temperature = bad_t[i];
        assert_int_equal(sampling_check(&s, &why), ERR_RANGE);
        s = good, s.min_p = bad_m[i];
        assert_int_equal(sampling_check(&s, &why), ERR_RANGE);
    }
    for (int i = 0; i < 4; i++) {
        s = good, s.top_p = bad_p[i];
        assert_int_equal(sampling_check(&s, &why), ERR_RANGE);
        assert_non_null(strstr(why.text, "top-p"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(like_the_slow_one),
        cmocka_unit_test(greedy),
        cmocka_unit_test(frequencies),
        cmocka_unit_test(parameters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
