/* Penalties and log probabilities against a plain computation of both, with the library's exp and
 * log; and that a replayed position finds what it found before. */
#include "model/tally.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { VOCAB = 500, TOKENS = 300, FIRST = 40 };

static uint64_t mix(uint64_t seed, uint64_t position)
{
    uint64_t z = seed * 0x9e3779b97f4a7c15 + position * 0xbf58476d1ce4e5b9 + 1;
    for (int i = 0; i < 3; i++) z = (z ^ z >> 31) * 0x94d049bb133111eb;
    return z ^ z >> 29;
}

/* Some of them equal, so that ties are broken. */
static void make_logits(float *l, uint32_t position)
{
    for (uint32_t i = 0; i < VOCAB; i++)
        l[i] = (float)(int)(mix(position, i) % 4000) / 250.0f - 8.0f;
}

static void check_likely(const struct likely *got, uint32_t n, const float *logits, uint32_t usable,
                         uint32_t id)
{
    double sum = 0;
    for (uint32_t i = 0; i < usable; i++) sum += exp((double)logits[i]);
    assert_int_equal(got[0].id, id);
    assert_true(fabs((double)got[0].logprob - ((double)logits[id] - log(sum))) < 1e-5);
    bool taken[VOCAB] = { false };
    for (uint32_t k = 1; k < n; k++) {
        uint32_t best = 0;
        while (taken[best]) best++;
        for (uint32_t i = best; i < usable; i++)
            if (!taken[i] && logits[i] > logits[best]) best = i;
        taken[best] = true;
        assert_int_equal(got[k].id, best);
        assert_true(fabs((double)got[k].logprob - ((double)logits[best] - log(sum))) < 1e-5);
    }
}

static void against_plain(struct sampling p, uint32_t usable)
{
    struct sampler *s;
    struct tally *t;
    int32_t ids[TOKENS];
    float logits[VOCAB], own[VOCAB], before[VOCAB];
    assert_int_equal(sampler_open(&s, VOCAB, mix), ERR_OK);
    assert_int_equal(tally_open(&t, &p, VOCAB, FIRST, NULL, 0, TOKENS), ERR_OK);
    for (uint32_t n = 0; n < TOKENS; n++) {
        make_logits(logits, n);
        memcpy(own, logits, sizeof own);
        memcpy(before, logits, sizeof before);
        for (uint32_t i = 0; i < VOCAB; i++) {
            unsigned c = 0;
            for (uint32_t k = 0; k < n; k++) c += ids[k] == (int32_t)i;
            if (c) own[i] = (float)((double)own[i] - (c * p.frequency + p.presence));
        }
        tally_begin(t);
        uint32_t want = sampler_pick(s, &p, own, usable, FIRST + n);
        uint32_t id = tally_pick(t, s, &p, logits, usable, FIRST + n);
        assert_int_equal(id, want);
        assert_memory_equal(logits, before, sizeof logits);
        if (p.likely) check_likely(tally_fresh(t, 0), p.likely, logits, usable, id);
        ids[n] = (int32_t)id;
    }
    /* Guesses that were wrong, a replay, and one who begins in the middle find the same. */
    for (uint32_t from = TOKENS - 5; from >= 37; from -= 37) {
        struct tally *late;
        tally_begin(t);
        assert_int_equal(tally_open(&late, &p, VOCAB, FIRST, ids, from, TOKENS), ERR_OK);
        for (uint32_t n = from; n < from + 5 && n < TOKENS; n++) {
            make_logits(logits, n);
            assert_int_equal(tally_pick(t, s, &p, logits, usable, FIRST + n), ids[n]);
            assert_int_equal(tally_pick(late, s, &p, logits, usable, FIRST + n), ids[n]);
        }
        tally_close(late);
    }
    tally_close(t);
    sampler_close(s);
}

static void test_plain(void **state)
{
    (void)state;
    against_plain((struct sampling){ .top_p = 1, .frequency = 1.5 }, VOCAB);
    against_plain((struct sampling){ .top_p = 1, .presence = 2, .likely = 1 }, VOCAB);
    against_plain((struct sampling){ .top_p = 1, .frequency = -2, .presence = 0.1 }, VOCAB);
    against_plain((struct sampling){ .temperature = 1.2,
                                     .top_p = 0.95,
                                     .seed = 3,
                                     .frequency = 0.7,
                                     .presence = 0.3,
                                     .likely = 1 + LIKELY_MAX },
                  VOCAB - 20);
    against_plain((struct sampling){ .temperature = 1, .top_p = 1, .likely = 5 }, 4);
}

static void test_wanted(void **state)
{
    (void)state;
    struct sampling p = { .temperature = 1, .top_p = 1 };
    struct why why;
    assert_false(tally_is_wanted(&p));
    p.presence = -0.5;
    assert_true(tally_is_wanted(&p));
    assert_int_equal(sampling_check(&p, &why), ERR_OK);
    p.presence = -2.01;
    assert_int_equal(sampling_check(&p, &why), ERR_RANGE);
    p.presence = (double)NAN;
    assert_int_equal(sampling_check(&p, &why), ERR_RANGE);
    p = (struct sampling){ .temperature = 1, .top_p = 1, .likely = 1 + LIKELY_MAX };
    assert_true(tally_is_wanted(&p));
    assert_int_equal(sampling_check(&p, &why), ERR_OK);
    p.likely++;
    assert_int_equal(sampling_check(&p, &why), ERR_RANGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_wanted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
