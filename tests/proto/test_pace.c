/* A sender behind a line with a long queue, in simulated time: it uses the line and leaves the
 * queue short. */
#include "proto/pace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { STEP_US = 100, DELAYS = 20000 };

/* Bytes flow into a queue that the line empties; what has passed is acknowledged a round trip
 * later, and TCP smooths what it measures over eight segments. */
struct line {
    double rate; /* bytes a second */
    double rtt_us;
    double queue;                   /* bytes */
    double others;                  /* bytes a second that somebody else puts in */
    double jitter_us;               /* a round trip is longer by up to so much, for no reason */
    double ours, theirs;            /* bytes of the queue */
    double sent, acked, srtt, base; /* what the sender knows */
    double passed[DELAYS];          /* ours, and the round trip, by time: a ring */
    double trip[DELAYS];
    uint64_t now_us;
};

static void flow(struct line *l, double send_rate)
{
    double dt = STEP_US / 1e6, out = l->rate * dt;
    unsigned at = (unsigned)(l->now_us / STEP_US) % DELAYS;
    unsigned back = (unsigned)(l->rtt_us / STEP_US);
    l->ours += send_rate * dt;
    l->sent += send_rate * dt;
    l->theirs += l->others * dt;
    l->queue = l->ours + l->theirs;
    if (out > l->queue) out = l->queue;
    double mine = l->queue > 0 ? out * l->ours / l->queue : 0;
    l->ours -= mine;
    l->theirs -= out - mine;
    l->queue -= out;
    l->passed[at] = mine;
    l->trip[at] = l->rtt_us + l->queue / l->rate * 1e6 + l->jitter_us * (rand() % 1000) / 1000;
    unsigned then = (at + DELAYS - back) % DELAYS;
    double got = l->now_us / STEP_US >= back ? l->passed[then] : 0;
    if (got > 0) {
        l->acked += got;
        double weight = got / 1448 / 16;
        if (weight > 1) weight = 1;
        l->srtt += (l->trip[then] - l->srtt) * weight;
    }
    l->now_us += STEP_US;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

struct result {
    double p95_ms, most_ms, used; /* queue in the last part, the largest ever, share of the line */
};

struct world {
    double rate, rtt_us, jitter_us, seconds;
    double others, from, to; /* somebody puts so much in between these seconds */
};

/* The sender always has more to send. */
static struct result run(const struct world *w)
{
    static struct line l;
    static double seen[1 << 20];
    struct pace p = { .rate = 0 };
    struct result r = { .most_ms = 0 };
    unsigned n = 0;
    double send = 0, before = 0, window = 8 * 1448;

    srand(1);
    l = (struct line){ .rate = w->rate,
                       .rtt_us = w->rtt_us,
                       .jitter_us = w->jitter_us,
                       .srtt = w->rtt_us,
                       .base = w->rtt_us };
    for (l.now_us = 0; l.now_us < w->seconds * 1e6;) {
        double t = (double)l.now_us / 1e6;
        if (l.now_us % 10000 == 0) {
            struct pace_sample s = { l.now_us + 1,
                                     (uint32_t)l.srtt,
                                     (uint32_t)l.base,
                                     (uint64_t)l.acked,
                                     (uint32_t)(l.sent - l.acked),
                                     true };
            send = pace_step(&p, &s);
        }
        /* TCP's own slow start is under it: a window a round trip, growing by what arrives. */
        double tcp = (window + l.acked) / (l.srtt / 1e6);
        l.others = t >= w->from && t < w->to ? w->others : 0;
        flow(&l, send < tcp ? send : tcp);
        double ms = l.queue / w->rate * 1e3;
        if (ms > r.most_ms && !l.others) r.most_ms = ms;
        if (t < w->seconds / 2) before = l.acked;
        if (t >= w->seconds / 2 && n < sizeof seen / sizeof *seen) seen[n++] = ms;
    }
    qsort(seen, n, sizeof *seen, by_size);
    r.p95_ms = seen[n * 95 / 100];
    r.used = (l.acked - before) / (w->rate * w->seconds / 2);
    return r;
}

static void test_lines(void **state)
{
    static const double mbit[] = { 2, 5, 10, 16, 40, 100, 1000 };
    static const double rtt_ms[] = { 0.2, 2, 10, 30, 60, 120 };
    (void)state;
    for (size_t i = 0; i < sizeof mbit / sizeof *mbit; i++)
        for (size_t k = 0; k < sizeof rtt_ms / sizeof *rtt_ms; k++) {
            struct result r = run(&(struct world){
                .rate = mbit[i] * 125000, .rtt_us = rtt_ms[k] * 1000, .seconds = 12 });
            printf("%5.0f Mbit/s, %5.1f ms: queue %4.1f ms (95 %%), %5.1f ms at most; %3.0f %% of "
                   "the line\n",
                   mbit[i], rtt_ms[k], r.p95_ms, r.most_ms, r.used * 100);
            bool is_coarse = rtt_ms[k] < 2 && mbit[i] < 10; /* gulps of TCP, a rare kind of line */
            assert_true(r.p95_ms < (is_coarse ? 80 : 15));
            assert_true(r.most_ms < (is_coarse ? 250 : 50));
            assert_true(r.used > 0.9);
        }
}

/* Somebody else fills the line for three seconds: we step back, and come again. */
static void test_others(void **state)
{
    (void)state;
    struct result r = run(&(struct world){
        .rate = 2e6, .rtt_us = 20000, .seconds = 16, .others = 1.2e6, .from = 2, .to = 5 });
    assert_true(r.used > 0.85);
    assert_true(r.p95_ms < 20);
}

/* A line whose round trips vary, as by radio: it is used, though they are hardly ever short. */
static void test_jitter(void **state)
{
    static const double jitter_ms[] = { 5, 15, 30, 45 };
    (void)state;
    for (size_t i = 0; i < sizeof jitter_ms / sizeof *jitter_ms; i++) {
        struct result r = run(&(struct world){
            .rate = 2e6, .rtt_us = 10000, .seconds = 16, .jitter_us = jitter_ms[i] * 1000 });
        printf("round trips of 10 to %.0f ms: queue %.1f ms (95 %%), %.0f %% of the line\n",
               10 + jitter_ms[i], r.p95_ms, r.used * 100);
        assert_true(r.p95_ms < 25);
        assert_true(r.used > 0.6);
    }
}

/* What trickles says nothing about the line. */
static void test_trickle(void **state)
{
    struct pace p = { .rate = 0 };
    double first = 0;
    (void)state;
    for (uint64_t t = 1; t < 5000000; t += 10000) {
        struct pace_sample s = { t, 60000, 20000, t / 100, 0, false }; /* an ACK waits 40 ms */
        double r = pace_step(&p, &s);
        if (t == 1) first = r;
        assert_true(r == first);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_others),
        cmocka_unit_test(test_jitter),
        cmocka_unit_test(test_trickle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
