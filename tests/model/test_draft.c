/* Guesses of tokens to come: what followed before, how many pay, and both together. */
#include "model/draft.h"
#include "model/ngram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t state = 1;

static uint32_t below(uint32_t n)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((state >> 33) % n);
}

/* --- ngram --- */

static void add_all(struct ngram *g, const int32_t *ids, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) assert_int_equal(ngram_add(g, ids[i]), ERR_OK);
}

static void test_what_followed(void **unused)
{
    (void)unused;
    static const int32_t text[] = { 7, 8, 9, 1, 2, 3, 9, 1, 5, 6, 9, 1, 2, 3, 4, 4, 9, 1, 2 };
    struct ngram g = { 0 };
    int32_t out[8];
    uint32_t agree = 9;
    ngram_find(&g, out, 8, &agree);
    assert_int_equal(agree, 0);
    add_all(&g, text, 3);
    ngram_find(&g, out, 8, &agree); /* nothing came twice */
    assert_int_equal(agree, 0);
    add_all(&g, text + 3, 16);
    ngram_find(&g, out, 8, &agree); /* the later of two places that agree as far */
    assert_int_equal(agree, 3);
    assert_memory_equal(out, ((int32_t[]){ 3, 4, 4, 9, 1, 2, 3, 4 }), sizeof out);
    add_all(&g, (int32_t[]){ 3, 9 }, 2);
    ngram_find(&g, out, 2, &agree); /* further back, but it agrees further */
    assert_int_equal(agree, 5);
    assert_memory_equal(out, ((int32_t[]){ 1, 5 }), 8);
    ngram_fini(&g);
}

static uint32_t common_end(const int32_t *ids, uint32_t a, uint32_t b)
{
    uint32_t n = 0;
    while (n < a && n < NGRAM_LONG && ids[a - 1 - n] == ids[b - 1 - n]) n++;
    return n;
}

/* Against looking everywhere, in texts where no pair of tokens is frequent. */
static void test_against_looking_everywhere(void **unused)
{
    (void)unused;
    enum { N = 3000, ALPHABET = 60, MOST = 6 };
    static int32_t ids[N];
    struct ngram g = { 0 };
    unsigned found = 0;
    for (uint32_t n = 0; n < N; n++) {
        bool copies = n > 20 && below(8) != 0;
        ids[n] = copies ? ids[n - 20] : (int32_t)below(ALPHABET);
        assert_int_equal(ngram_add(&g, ids[n]), ERR_OK);
        uint32_t best = 0, agree, looks = 0;
        for (uint32_t end = n; end >= 2 && looks < NGRAM_LOOKS; end--) {
            uint32_t same = common_end(ids, end, n + 1);
            looks += same >= 2;
            if (same > best) best = same;
        }
        if (best < NGRAM_LEAST) best = 0;
        int32_t out[MOST];
        ngram_find(&g, out, MOST, &agree);
        if (looks < NGRAM_LOOKS) assert_int_equal(agree, best);
        if (agree == 0) continue;
        found++;
        bool is_from_somewhere = false;
        for (uint32_t end = 2; end <= n && !is_from_somewhere; end++) {
            bool is_it = common_end(ids, end, n + 1) == agree;
            for (uint32_t i = 0; i < MOST && end + i <= n; i++) is_it &= out[i] == ids[end + i];
            is_from_somewhere = is_it;
        }
        assert_true(is_from_somewhere);
    }
    assert_true(found > N / 2);
    ngram_fini(&g);
}

/* --- depth --- */

/* A pipeline: a trip takes plain_us, each draft draft_us more; drafts are right with this chance.
 */
struct line {
    double plain_us, draft_us, noise;
    double chance;
};

/* Tokens a second of the controller over those without drafts, for so many tokens. */
static double gain_of(struct depth *d, uint32_t source, const struct line *l, uint32_t n_tokens,
                      double *drafts_each)
{
    double us = 0, drafts = 0, trips = 0;
    uint32_t tokens = 0;
    while (tokens < n_tokens) {
        double gain;
        uint32_t n = depth_choose(d, source, DRAFT_MAX, &gain), right = 0;
        assert_true(n <= DRAFT_MAX);
        while (right < n && below(1000) < l->chance * 1000) right++;
        double noise = 1 + l->noise * (below(2001) / 1000.0 - 1);
        double took = (l->plain_us + n * l->draft_us) * noise;
        depth_trip(d, source, n, right, took);
        us += took;
        drafts += n;
        trips++;
        tokens += 1 + right;
    }
    if (drafts_each) *drafts_each = drafts / trips;
    return tokens * l->plain_us / us;
}

static void test_far_away_many_are_right(void **unused)
{
    (void)unused;
    struct depth d;
    struct line l = { 100000, 300, 0.05, 0.8 };
    double each;
    depth_init(&d);
    double gain = gain_of(&d, DEPTH_PREDICT, &l, 400, &each);
    printf("far away, 80 %% right: %.2f times, %.1f drafts a trip\n", gain, each);
    assert_true(gain > 3 && each > 6);
}

/* What brings nothing costs next to nothing, from the first token on. */
static void test_never_much_slower(void **unused)
{
    (void)unused;
    static const struct line lines[] = {
        { 100000, 5000, 0.05, 0.02 },                         /* wrong */
        { 100000, 300, 0.05, 0 },     { 100, 95, 0.05, 0.9 }, /* right, but a draft costs what a
                                                                 token does */
        { 100, 200, 0.05, 0.95 },     { 1000, 600, 0.2, 0.3 }, { 1000, 3000, 0.1, 0 },
    };
    for (unsigned i = 0; i < sizeof lines / sizeof *lines; i++)
        for (uint32_t source = 0; source < DEPTH_SOURCES; source++)
            for (int home = 0; home < 2; home++) {
                struct depth d;
                double worst = 2;
                depth_init(&d);
                d.is_home = home;
                for (int k = 0; k < 20; k++) {
                    double gain = gain_of(&d, source, &lines[i], 200, NULL);
                    if (gain < worst) worst = gain;
                }
                if (worst < 0.96) printf("line %u, source %u: %.3f\n", i, source, worst);
                assert_true(worst > 0.94);
                assert_true(gain_of(&d, source, &lines[i], 4000, NULL) > 0.97);
            }
}

static void test_times_change(void **unused)
{
    (void)unused;
    struct line l = { 50000, 500, 0.05, 0 };
    struct depth d;
    depth_init(&d);
    assert_true(gain_of(&d, 2, &l, 2000, NULL) > 0.97);
    l.chance = 0.9; /* tried again some time, and believed */
    (void)gain_of(&d, 2, &l, 1000, NULL);
    assert_true(gain_of(&d, 2, &l, 500, NULL) > 2);
    l.chance = 0; /* what was gained pays for a while */
    assert_true(gain_of(&d, 2, &l, 300, NULL) > 0.8);
    assert_true(gain_of(&d, 2, &l, 3000, NULL) > 0.97);
    l.chance = 0.8;
    (void)gain_of(&d, 2, &l, 1000, NULL);
    l.draft_us = 100000; /* others have come: rows are dear */
    (void)gain_of(&d, 2, &l, 300, NULL);
    assert_true(gain_of(&d, 2, &l, 3000, NULL) > 0.97);
}

/* --- the drafter --- */

static void test_copies_are_guessed(void **unused)
{
    (void)unused;
    enum { PERIOD = 30, ROUNDS = 20, TRIP_US = 50000 };
    struct arch a = { .vocab = 1000, .context = 4096 };
    struct sampling sampling = { .top_p = 1 };
    struct drafter *d;
    int32_t ids[PERIOD * ROUNDS], draft[DRAFT_MAX];
    uint32_t n = PERIOD, n_drafts = 0, trips = 0, wrong = 0;
    for (uint32_t i = 0; i < PERIOD * ROUNDS; i++) ids[i] = (int32_t)(i % PERIOD * 7 % 500);
    assert_int_equal(drafter_open(&d, &a, DRAFT_AUTO, false), ERR_OK);
    assert_false(drafter_wants_rows(d));
    assert_int_equal(drafter_read(d, ids, n), ERR_OK);
    while (n + DRAFT_MAX < PERIOD * ROUNDS) {
        uint32_t right = 0;
        while (right < n_drafts && draft[right] == ids[n + right]) right++;
        wrong += n_drafts - right;
        struct draft_step s = { .token = ids + n,
                                .n_tokens = 1 + right,
                                .n_drafts = n_drafts,
                                .most = DRAFT_MAX,
                                .now_us = 1 + trips * TRIP_US,
                                .sampling = &sampling,
                                .usable = 1000 };
        n += 1 + right;
        trips++;
        n_drafts = drafter_next(d, NULL, NULL, &s, draft);
        assert_true(n_drafts <= DRAFT_MAX);
        assert_int_equal(drafter_read(d, ids, n), ERR_OK); /* known: nothing happens */
    }
    printf("%u tokens in %u trips, %u guesses wrong\n", n - PERIOD, trips, wrong);
    assert_true(trips < (n - PERIOD) / 4 && wrong < 10);

    struct draft_step none = { .token = ids, .n_tokens = 1, .now_us = 1, .most = 0 };
    assert_int_equal(drafter_next(d, NULL, NULL, &none, draft), 0);
    drafter_close(d);
    drafter_close(NULL);
}

static void test_words(void **unused)
{
    (void)unused;
    enum draft_mode m;
    assert_true(draft_mode_parse(&m, "auto") && m == DRAFT_AUTO);
    assert_true(draft_mode_parse(&m, "off") && m == DRAFT_OFF);
    assert_true(draft_mode_parse(&m, "ngram") && m == DRAFT_NGRAM);
    assert_true(draft_mode_parse(&m, "mtp") && m == DRAFT_MTP);
    assert_false(draft_mode_parse(&m, "of"));
    assert_false(draft_mode_parse(&m, ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_followed),
        cmocka_unit_test(test_against_looking_everywhere),
        cmocka_unit_test(test_far_away_many_are_right),
        cmocka_unit_test(test_never_much_slower),
        cmocka_unit_test(test_times_change),
        cmocka_unit_test(test_copies_are_guessed),
        cmocka_unit_test(test_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
