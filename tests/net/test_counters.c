/* What a node gave and took: kept over restarts, rates of the last seconds, files that do not
 * parse put aside. */
#include "net/counters.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/test-counters-XXXXXX";

static void text(void **state)
{
    struct counters a = { .since = 1234 }, b = { 0 };
    char out[COUNTERS_TEXT], again[COUNTERS_TEXT];
    (void)state;
    for (unsigned k = 0; k < COUNTERS; k++) {
        a.before[k] = 1000 * k;
        a.now[k] = k + ((uint64_t)k << 40);
    }
    counters_text(out, &a);
    assert_int_equal(counters_parse(&b, out), ERR_OK);
    assert_int_equal(b.since, 1234);
    assert_true(b.before[3] == a.before[3] + a.now[3] && b.now[3] == 0);
    counters_text(again, &b);
    assert_string_equal(out, again);

    assert_int_equal(counters_parse(&b, "since 5\ntokens 7\n"), ERR_OK); /* of an older version */
    assert_true(b.since == 5 && b.before[COUNT_TOKENS] == 7 && b.before[COUNT_ANSWERS] == 0);
    static const char *const bad[] = {
        "",
        "since\n",
        "since x\n",
        "since -1\n",
        "since 5",
        "since 5\ntokens 7",
        "tokens 7\n",
        "since 5\ntokens 99999999999999999999\n",
        "since 5\nnothing 3\n",
        "since 5\ntokens +7\n",
    };
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(counters_parse(&b, bad[i]), ERR_MALFORMED);
    assert_int_equal(b.since, 5);     /* as it was */
    for (size_t n = 0; out[n]; n++) { /* cut anywhere: refused, or whole lines of it */
        char cut[COUNTERS_TEXT];
        snprintf(cut, n + 1, "%s", out);
        enum err e = counters_parse(&b, cut);
        assert_int_equal(e == ERR_OK, n > 0 && cut[n - 1] == '\n');
    }
}

/* A loop with a net that nobody talks to, until the timer has fired `ticks` times. */
struct life {
    struct hub hub;
    struct net *net;
    struct identity me;
    struct counters c;
    uv_timer_t timer;
};

static void on_closed(void *arg)
{
    hub_stop(arg);
}

static void on_time(uv_timer_t *t)
{
    struct life *l = t->data;
    counters_stop(&l->c);
    uv_close((uv_handle_t *)t, NULL);
    net_close(l->net, on_closed, &l->hub);
}

static void live(struct life *l, uint64_t ms, uint64_t tokens)
{
    struct why why;
    memset(l, 0, sizeof *l);
    uint8_t seed[32] = { 1 };
    identity_from_seed(&l->me, seed);
    assert_int_equal(hub_init(&l->hub), ERR_OK);
    struct net_config nc = { .me = &l->me, .swarm = swarm_key_public(), .agent = "test" };
    assert_int_equal(net_open(&l->net, &l->hub, &nc, &why), ERR_OK);
    counters_open(&l->c, &l->hub, l->net, dir, &l->me.id);
    counters_add(&l->c, COUNT_TOKENS, tokens);
    counters_add(NULL, COUNT_TOKENS, 1);
    assert_true(counters_rate(&l->c, COUNT_TOKENS) == 0);
    uv_timer_init(&l->hub.loop, &l->timer);
    l->timer.data = l;
    uv_timer_start(&l->timer, on_time, ms, 0);
    hub_run(&l->hub);
    hub_fini(&l->hub);
    counters_close(&l->c);
}

static void lives(void **state)
{
    static struct life l;
    struct stat st;
    (void)state;
    live(&l, 2300, 30);
    double rate = counters_rate(&l.c, COUNT_TOKENS);
    assert_true(rate > 0 && rate <= 30);
    assert_int_equal(stat(l.c.path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    live(&l, 1, 4);
    assert_true(l.c.before[COUNT_TOKENS] == 30 && l.c.now[COUNT_TOKENS] == 4);
    uint64_t since = l.c.since;

    FILE *f = fopen(l.c.path, "a");
    fputs("rubbish", f);
    fclose(f);
    live(&l, 1, 1);
    assert_true(l.c.before[COUNT_TOKENS] == 0 && l.c.since >= since);
    char aside[600];
    snprintf(aside, sizeof aside, "%s.bad", l.c.path);
    assert_int_equal(stat(aside, &st), 0);
    live(&l, 1, 1);
    assert_true(l.c.before[COUNT_TOKENS] == 1);
}

static void no_place(void **state)
{
    static struct life l;
    char good[sizeof dir];
    (void)state;
    memcpy(good, dir, sizeof dir);
    snprintf(dir, sizeof dir, "/nonexistent");
    live(&l, 1, 3); /* a warning, no more */
    memcpy(dir, good, sizeof dir);
    assert_int_equal(l.c.now[COUNT_TOKENS], 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text),
        cmocka_unit_test(lives),
        cmocka_unit_test(no_place),
    };
    char cmd[64];
    if (proto_init() || !mkdtemp(dir)) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    return system(cmd) ? 1 : failed;
}
