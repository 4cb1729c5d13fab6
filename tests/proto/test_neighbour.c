/* When a node works for others: hours, reasons with their times, and the way back. */
#include "proto/neighbour.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* --- hours --- */

static void test_hours_parse(void **state)
{
    static const struct {
        const char *text;
        int from, to; /* -1: refused */
    } rows[] = {
        { "22:00-07:00", 1320, 420 }, { "0:00-24:00", 0, 0 },    { "7:05-7:06", 425, 426 },
        { "09:00-17:30", 540, 1050 }, { "24:00-1:00", 0, 60 },   { "", -1, 0 },
        { "22-07", -1, 0 },           { "22:00", -1, 0 },        { "22:00-", -1, 0 },
        { "22:00-07:00 ", -1, 0 },    { "25:00-07:00", -1, 0 },  { "22:60-07:00", -1, 0 },
        { "22:0-07:00", -1, 0 },      { "24:01-07:00", -1, 0 },  { "-1:00-07:00", -1, 0 },
        { "222:00-07:00", -1, 0 },    { "22:00-07:000", -1, 0 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct hours h;
        struct why why = { "" };
        enum err e = hours_parse(&h, rows[i].text, &why);
        assert_int_equal(e, rows[i].from < 0 ? ERR_USAGE : ERR_OK);
        if (e) {
            assert_non_null(strstr(why.text, "22:00-07:00"));
            continue;
        }
        assert_int_equal(h.from, rows[i].from);
        assert_int_equal(h.to, rows[i].to);
    }
}

/* --- a world --- */

static struct neighbour node;
static struct neighbour_rules rules;
static struct sensed pc;
static uint64_t now;

static int setup(void **state)
{
    (void)state;
    node = (struct neighbour){ .mode = NEIGHBOUR_RUN };
    rules = (struct neighbour_rules){
        .battery_percent = 100, .busy_percent = 50, .hot_c = 90, .resume_s = 120
    };
    for (int i = PAUSE_BATTERY; i < PAUSE_REASONS; i++) rules.on[i] = true;
    pc = (struct sensed){ .battery_percent = SENSED_UNKNOWN,
                          .celsius = SENSED_UNKNOWN,
                          .memory_wait_percent = SENSED_UNKNOWN,
                          .others_percent = SENSED_UNKNOWN };
    now = 1000;
    return 0;
}

/* So many seconds as they are, a look every two. */
static void pass(unsigned s)
{
    for (unsigned i = 0; i <= s; i += 2) {
        (void)neighbour_step(&node, &rules, &pc, now);
        now += 2000;
    }
}

static void expect(enum neighbour_mode mode, enum pause_reason reason)
{
    assert_int_equal(node.mode, mode);
    assert_int_equal(node.reason, reason);
}

static int or_unknown(int v)
{
    return v ? v : SENSED_UNKNOWN;
}

static void be(const struct sensed *row)
{
    pc = *row;
    pc.battery_percent = or_unknown(row->battery_percent);
    pc.celsius = or_unknown(row->celsius);
    pc.memory_wait_percent = or_unknown(row->memory_wait_percent);
    pc.others_percent = or_unknown(row->others_percent);
}

/* What the sensors may say (0: nothing), and what it means at once and after 14 seconds, with the
 * default reasons. */
static void test_situations(void **state)
{
    static const struct {
        const char *what;
        struct sensed pc;
        enum neighbour_mode at_once, later;
        enum pause_reason reason;
    } rows[] = {
        { "a server: nothing is known",
          { .celsius = 0 },
          NEIGHBOUR_RUN,
          NEIGHBOUR_RUN,
          PAUSE_NONE },
        { "battery, not known how full",
          { .on_battery = true },
          NEIGHBOUR_PAUSE,
          NEIGHBOUR_PAUSE,
          PAUSE_BATTERY },
        { "warm", { .celsius = 84 }, NEIGHBOUR_EASE, NEIGHBOUR_EASE, PAUSE_NONE },
        { "not warm", { .celsius = 81 }, NEIGHBOUR_RUN, NEIGHBOUR_RUN, PAUSE_NONE },
        { "hot", { .celsius = 90 }, NEIGHBOUR_EASE, NEIGHBOUR_PAUSE, PAUSE_HOT },
        { "throttled", { .is_throttled = true }, NEIGHBOUR_EASE, NEIGHBOUR_EASE, PAUSE_NONE },
        { "memory is there",
          { .all = 1000, .available = 50 },
          NEIGHBOUR_RUN,
          NEIGHBOUR_RUN,
          PAUSE_NONE },
        { "memory is short",
          { .all = 1000, .available = 49 },
          NEIGHBOUR_RUN,
          NEIGHBOUR_PAUSE,
          PAUSE_MEMORY },
        { "programs wait for memory",
          { .memory_wait_percent = 20 },
          NEIGHBOUR_RUN,
          NEIGHBOUR_PAUSE,
          PAUSE_MEMORY },
        { "we wait for weights that are larger than memory",
          { .memory_wait_percent = 90, .all = 1000, .available = 150 },
          NEIGHBOUR_RUN,
          NEIGHBOUR_RUN,
          PAUSE_NONE },
        { "programs wait for memory, and not much is there",
          { .memory_wait_percent = 20, .all = 1000, .available = 149 },
          NEIGHBOUR_RUN,
          NEIGHBOUR_PAUSE,
          PAUSE_MEMORY },
        { "load, and nobody there",
          { .others_percent = 51 },
          NEIGHBOUR_RUN,
          NEIGHBOUR_RUN,
          PAUSE_NONE },
        { "somebody reads",
          { .others_percent = 50, .is_present = true },
          NEIGHBOUR_EASE,
          NEIGHBOUR_EASE,
          PAUSE_NONE },
        { "somebody compiles",
          { .others_percent = 51, .is_present = true },
          NEIGHBOUR_EASE,
          NEIGHBOUR_PAUSE,
          PAUSE_BUSY },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        setup(NULL);
        rules.on[PAUSE_PRESENT] = rules.on[PAUSE_LOAD] = false;
        be(&rows[i].pc);
        pass(0);
        if (node.mode != rows[i].at_once) fail_msg("%s, at once: %d", rows[i].what, node.mode);
        pass(14);
        if (node.mode != rows[i].later || node.reason != rows[i].reason)
            fail_msg("%s, later: %d for %d", rows[i].what, node.mode, node.reason);
        for (int r = 0; r < PAUSE_REASONS; r++) rules.on[r] = false; /* its owner wants none */
        setup(NULL);
        for (int r = 0; r < PAUSE_REASONS; r++) rules.on[r] = false;
        be(&rows[i].pc);
        pass(14);
        expect(NEIGHBOUR_RUN, PAUSE_NONE);
    }
}

static void test_moment(void **state)
{
    (void)state;
    rules.on[PAUSE_PRESENT] = rules.on[PAUSE_LOAD] = false;
    pc.is_present = true;
    pc.others_percent = 100; /* a page is opened: 8 seconds */
    pass(8);
    pc.others_percent = 3;
    pass(4);
    pc.others_percent = 100;
    pass(8);
    expect(NEIGHBOUR_EASE, PAUSE_NONE);
    pc.is_present = false;
    pass(26);
    expect(NEIGHBOUR_EASE, PAUSE_NONE); /* it may well be warm again at once */
    pass(4);
    expect(NEIGHBOUR_RUN, PAUSE_NONE);
}

static void test_battery(void **state)
{
    (void)state;
    rules.battery_percent = 60;
    pc.on_battery = true;
    pc.battery_percent = 61;
    pass(10);
    expect(NEIGHBOUR_RUN, PAUSE_NONE);
    pc.battery_percent = 60;
    pass(0);
    expect(NEIGHBOUR_PAUSE, PAUSE_BATTERY);
    uint64_t since = node.since_ms;
    pc.on_battery = false;
    pass(116);
    expect(NEIGHBOUR_PAUSE, PAUSE_BATTERY); /* the plug is out again at once, perhaps */
    pc.on_battery = true;
    pass(0);
    pc.on_battery = false;
    pass(116);
    expect(NEIGHBOUR_PAUSE, PAUSE_BATTERY);
    assert_int_equal(node.since_ms, since);
    pass(6);
    expect(NEIGHBOUR_RUN, PAUSE_NONE);
}

/* It ends well below the limit only. */
static void test_hysteresis(void **state)
{
    (void)state;
    pc.celsius = 91;
    pass(6);
    expect(NEIGHBOUR_PAUSE, PAUSE_HOT);
    pc.celsius = 83;
    pass(600);
    expect(NEIGHBOUR_PAUSE, PAUSE_HOT);
    pc.celsius = 81;
    pass(124);
    expect(NEIGHBOUR_RUN, PAUSE_NONE);

    pc.all = 1000;
    pc.available = 40;
    pass(6);
    expect(NEIGHBOUR_PAUSE, PAUSE_MEMORY);
    pc.available = 74;
    pass(600);
    expect(NEIGHBOUR_PAUSE, PAUSE_MEMORY);
    pc.available = 75;
    pass(124);
    expect(NEIGHBOUR_RUN, PAUSE_NONE);

    pc.others_percent = 60;
    pass(12);
    expect(NEIGHBOUR_PAUSE, PAUSE_LOAD);
    pc.others_percent = 36;
    pass(600);
    expect(NEIGHBOUR_PAUSE, PAUSE_LOAD);
    pc.others_percent = 35;
    pass(124);
    expect(NEIGHBOUR_RUN, PAUSE_NONE);
}

/* A week of minutes: it works in its hours and never else, and begins at once. */
static void test_hours(void **state)
{
    (void)state;
    rules.hours[0] = (struct hours){ 22 * 60, 7 * 60 };
    rules.hours[1] = (struct hours){ 12 * 60, 13 * 60 };
    rules.n_hours = 2;
    for (unsigned m = 0; m < 7 * DAY_MINUTES; m++) {
        unsigned h = m / 60 % 24;
        pc.minute = m % DAY_MINUTES;
        pass(0);
        if (h >= 22 || h < 7 || h == 12)
            expect(NEIGHBOUR_RUN, PAUSE_NONE);
        else
            expect(NEIGHBOUR_PAUSE, PAUSE_HOURS);
    }
    pc.on_battery = true; /* its hours begin, and the plug is out */
    pc.minute = 10 * 60;
    pass(0);
    expect(NEIGHBOUR_PAUSE, PAUSE_HOURS);
    pc.minute = 12 * 60;
    pass(0);
    expect(NEIGHBOUR_PAUSE, PAUSE_BATTERY);
}

static void test_by_hand(void **state)
{
    (void)state;
    node.by_hand = true;
    pass(0);
    expect(NEIGHBOUR_PAUSE, PAUSE_BY_HAND);
    pc.on_battery = true;
    pass(1000);
    expect(NEIGHBOUR_PAUSE, PAUSE_BY_HAND);
    node.by_hand = false;
    pass(0);
    expect(NEIGHBOUR_PAUSE, PAUSE_BATTERY);
    pc.on_battery = false;
    pass(124);
    node.by_hand = true;
    pass(10);
    node.by_hand = false;
    pass(0);
    expect(NEIGHBOUR_RUN, PAUSE_NONE);
}

static void test_words(void **state)
{
    (void)state;
    assert_int_equal(pause_reason_of("battery"), PAUSE_BATTERY);
    assert_int_equal(pause_reason_of("load"), PAUSE_LOAD);
    assert_int_equal(pause_reason_of(""), PAUSE_NONE);
    assert_int_equal(pause_reason_of("sunshine"), PAUSE_NONE);
    for (int i = PAUSE_BY_HAND; i < PAUSE_REASONS; i++)
        assert_true(strlen(pause_text((enum pause_reason)i)) > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hours_parse),
        cmocka_unit_test_setup(test_situations, setup),
        cmocka_unit_test_setup(test_moment, setup),
        cmocka_unit_test_setup(test_battery, setup),
        cmocka_unit_test_setup(test_hysteresis, setup),
        cmocka_unit_test_setup(test_hours, setup),
        cmocka_unit_test_setup(test_by_hand, setup),
        cmocka_unit_test(test_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
