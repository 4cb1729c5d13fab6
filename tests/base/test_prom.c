/* Numbers as Prometheus reads them. */
#include "base/prom.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static void samples(void **state)
{
    struct text t = { 0 };
    (void)state;
    prom_one(&t, "a_total", PROM_COUNTER, "Help.", 12345678901.0);
    prom_metric(&t, "b", PROM_GAUGE, "More.");
    prom_sample(&t, "b", "x=\"y\"", 0.1);
    prom_sample(&t, "b", "x=\"z\"", 1.0 / 3);
    assert_string_equal(t.p, "# HELP a_total Help.\n# TYPE a_total counter\na_total 12345678901\n"
                             "# HELP b More.\n# TYPE b gauge\nb{x=\"y\"} 0.1\n"
                             "b{x=\"z\"} 0.33333333333333331\n");
    free(t.p);
}

static void histograms(void **state)
{
    struct histogram h = { 0 };
    struct text t = { 0 };
    (void)state;
    histogram_add(&h, 0.0001, 1); /* a bound is within */
    histogram_add(&h, 0.002, 3);
    histogram_add(&h, 1000, 1);
    prom_histogram(&t, "s_seconds", "Help.", "kind=\"k\"", &h);
    assert_non_null(strstr(t.p, "s_seconds_bucket{kind=\"k\",le=\"0.0001\"} 1\n"));
    assert_non_null(strstr(t.p, "s_seconds_bucket{kind=\"k\",le=\"0.001\"} 1\n"));
    assert_non_null(strstr(t.p, "s_seconds_bucket{kind=\"k\",le=\"0.0025\"} 4\n"));
    assert_non_null(strstr(t.p, "s_seconds_bucket{kind=\"k\",le=\"60\"} 4\n"));
    assert_non_null(strstr(t.p, "s_seconds_bucket{kind=\"k\",le=\"+Inf\"} 5\n"));
    assert_non_null(strstr(t.p, "s_seconds_sum{kind=\"k\"} 1000.0061\n"));
    assert_non_null(strstr(t.p, "s_seconds_count{kind=\"k\"} 5\n"));
    t.n = 0;
    prom_histogram(&t, "s_seconds", NULL, NULL, &h);
    assert_null(strstr(t.p, "HELP"));
    assert_non_null(strstr(t.p, "s_seconds_bucket{le=\"0.0001\"} 1\n"));
    assert_non_null(strstr(t.p, "s_seconds_count 5\n"));
    free(t.p);
}

static void labels(void **state)
{
    char out[PROM_LABEL], longest[2 * PROM_LABEL];
    (void)state;
    prom_label(out, "l", slice_str("a\"b\\c\nd\xff"));
    assert_string_equal(out, "l=\"a\\\"b\\\\c?d?\"");
    memset(longest, '"', sizeof longest);
    prom_label(out, "l", slice_of(longest, sizeof longest));
    assert_true(strlen(out) < PROM_LABEL && out[strlen(out) - 1] == '"' &&
                out[strlen(out) - 3] == '\\');
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples),
        cmocka_unit_test(histograms),
        cmocka_unit_test(labels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
