/* Stops are found whatever way the stream is cut, and nothing of them, or behind them, is said:
 * compared with strstr over the whole text, for every cut and for random pieces. */
#include "gateway/stops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct heard {
    char text[4096];
    size_t n;
};

static void hear(void *arg, struct slice text)
{
    struct heard *h = arg;
    assert_true(h->n + text.n < sizeof h->text);
    memcpy(h->text + h->n, text.p, text.n);
    h->n += text.n;
    h->text[h->n] = 0;
}

static struct stops stops_of(const char *const *text, unsigned n)
{
    struct stops s = { .n = n };
    for (unsigned i = 0; i < n; i++) {
        s.len[i] = strlen(text[i]);
        memcpy(s.text[i], text[i], s.len[i]);
    }
    return s;
}

/* What is to be said: up to the first stop.  Where two begin at one place it does not matter. */
static size_t expected(const char *whole, const char *const *stop, unsigned n)
{
    const char *first = whole + strlen(whole);
    for (unsigned i = 0; i < n; i++) {
        const char *at = strstr(whole, stop[i]);
        if (at && at < first) first = at;
    }
    return (size_t)(first - whole);
}

static void check(const char *whole, const char *const *stop, unsigned n_stops, unsigned seed)
{
    struct stops s = stops_of(stop, n_stops);
    struct heard h = { .n = 0 };
    size_t n = strlen(whole), want = expected(whole, stop, n_stops);
    bool found = false;
    for (size_t at = 0; at < n && !found;) {
        size_t k = seed == 0 ? 1 : 1 + (seed = seed * 1103515245 + 12345) / 65536 % 7;
        if (k > n - at) k = n - at;
        found = stops_feed(&s, slice_of(whole + at, k), hear, &h);
        at += k;
    }
    if (!found) stops_flush(&s, hear, &h);
    assert_int_equal(found, want < n);
    assert_int_equal(h.n, want);
    assert_memory_equal(h.text, whole, want);
}

static void test_every_cut(void **state)
{
    static const char *const stop[] = { "END", "\n\n", "aab", "E" };
    static const char *const whole[] = { "abc END def", "a\n\nb",  "aaaab", "aaaaa",
                                         "EEN",         "no such", "\n",    "EN D\n \nENDx" };
    (void)state;
    for (unsigned w = 0; w < 8; w++)
        for (unsigned n = 0; n <= 4; n++)
            for (unsigned seed = 0; seed < 50; seed++) check(whole[w], stop, n, seed);
}

static void test_random(void **state)
{
    static const char *const stop[] = { "aba", "bb", "abab", "cacac" };
    char whole[200];
    unsigned r = 7;
    (void)state;
    for (unsigned round = 0; round < 5000; round++) {
        size_t n = (r = r * 1103515245 + 12345) / 65536 % 60;
        for (size_t i = 0; i < n; i++)
            whole[i] = (char)('a' + (r = r * 1103515245 + 12345) / 65536 % 3);
        whole[n] = 0;
        check(whole, stop, 1 + round % 4, round);
    }
}

/* Long pieces, and stops of the greatest length. */
static void test_long(void **state)
{
    char stop[STOP_BYTES_MAX + 1], whole[1500];
    const char *const one[] = { stop };
    (void)state;
    memset(stop, 'x', STOP_BYTES_MAX);
    stop[STOP_BYTES_MAX] = 0;
    memset(whole, 'x', sizeof whole - 1);
    whole[sizeof whole - 1] = 0;
    whole[200] = 'y';
    check(whole, one, 1, 0);
    struct stops s = stops_of(one, 1);
    struct heard h = { .n = 0 };
    assert_true(stops_feed(&s, slice_str(whole), hear, &h));
    assert_int_equal(h.n, 201);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
