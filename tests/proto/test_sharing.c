/* Who computes what of a shared layer: against trying every deal; what is predicted and chosen. */
#include "proto/sharing.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static double of_deal(const uint8_t *who, uint32_t n, const double *start, const double *item,
                      unsigned hands)
{
    double most = 0;

    for (unsigned h = 0; h < hands; h++) {
        double us = 0;
        for (uint32_t i = 0; i < n; i++)
            if (who[i] == h) us += us == 0 ? start[h] + item[h] : item[h];
        if (us > most) most = us;
    }
    return most;
}

static double by_trying(uint32_t n, const struct sharing_set *const *holds, const double *start,
                        const double *item, unsigned hands)
{
    uint32_t all = 1;
    double best = HUGE_VAL;

    for (uint32_t i = 0; i < n; i++) all *= hands;
    for (uint32_t code = 0; code < all; code++) {
        uint8_t who[8];
        uint32_t left = code;
        bool ok = true;
        for (uint32_t i = 0; i < n; i++, left /= hands) {
            who[i] = (uint8_t)(left % hands);
            ok &= sharing_has(holds[who[i]], i);
        }
        double us = ok ? of_deal(who, n, start, item, hands) : HUGE_VAL;
        if (us < best) best = us;
    }
    return best;
}

static void deals_are_the_best(void **state)
{
    (void)state;
    unsigned lacking = 0;

    srand(3);
    for (int round = 0; round < 3000; round++) {
        struct sharing_set set[4] = { { { 0 } } };
        const struct sharing_set *holds[4] = { &set[0], &set[1], &set[2], &set[3] };
        double start[4], item[4];
        uint8_t who[8];
        unsigned hands = 1 + (unsigned)rand() % 4;
        uint32_t n = 1 + (uint32_t)rand() % (hands == 4 ? 6 : 7);
        for (unsigned h = 0; h < hands; h++) {
            start[h] = h ? rand() % 50 : 0;
            item[h] = 1 + rand() % 30;
            for (uint32_t i = 0; i < n; i++)
                if (rand() % 3) sharing_add(&set[h], i, i + 1);
        }
        double us = sharing_deal(who, n, holds, start, item, hands);
        double best = by_trying(n, holds, start, item, hands);
        assert_true(us == best);
        if (us == HUGE_VAL) {
            lacking++;
            continue;
        }
        for (uint32_t i = 0; i < n; i++) assert_true(sharing_has(holds[who[i]], i));
        assert_true(fabs(of_deal(who, n, start, item, hands) - us) < 1e-9);
    }
    assert_true(lacking > 10 && lacking < 2900);
}

/* A layer like GLM-4.5-Air's on one core: 8 head groups of 0.5 ms, 8 of 128 experts of 0.8 ms. */
static struct sharing_layer air(void)
{
    return (struct sharing_layer){ .heads = 8,
                                   .items = 128,
                                   .top_k = 8,
                                   .trunk_us = 150,
                                   .shared_us = 800,
                                   .round_us = SHARING_ROUND_US,
                                   .ask_bytes = 4608,
                                   .piece_bytes = 8192 };
}

static struct sharing of(const struct sharing_layer *l, const struct sharing_hand *hand, unsigned n)
{
    struct sharing s = { 0 };
    for (int i = 0; i < 3; i++) sharing_add_layer(&s, l, hand, n);
    return s;
}

static void ways(void **state)
{
    (void)state;
    struct sharing_set heads = { { 0 } }, experts = { { 0 } }, low = { { 0 } }, high = { { 0 } };
    struct sharing_layer l = air();
    char text[SHARING_TEXT];

    sharing_add(&heads, 0, 8);
    sharing_add(&experts, 0, 128);
    sharing_add(&low, 0, 64);
    sharing_add(&high, 64, 128);
    struct sharing_hand h[3] = { { &heads, &experts, 500, 800, 0, 0 },
                                 { &heads, &experts, 500, 800, 200, 0 },
                                 { &heads, &experts, 250, 400, 200, 0 } };

    /* two equal ones that hold everything: 4 and 4 head groups; with the shared expert 9 experts */
    struct sharing s = of(&l, h, 2);
    assert_true(fabs(s.us[SHARING_ALONE] / 3 - (150 + 4000 + 7200)) < 1);
    assert_int_equal(sharing_choose(&s, SHARING_ALONE), SHARING_ALL);
    assert_true(s.us[SHARING_ALONE] / s.us[SHARING_ALL] > 1.6);
    assert_true(s.us[SHARING_ALL] < s.us[SHARING_EXPERTS]);
    assert_true(s.us[SHARING_EXPERTS] < s.us[SHARING_ALONE]);
    sharing_text(text, &s);
    assert_non_null(strstr(text, "takes 11.35 ms alone"));

    /* experts that lie on one side each: uneven, so slower */
    h[0].items = &low;
    h[1].items = &high;
    struct sharing t = of(&l, h, 2);
    assert_true(t.us[SHARING_ALONE] == HUGE_VAL);
    assert_true(t.us[SHARING_ALL] > s.us[SHARING_ALL]);
    assert_int_equal(sharing_choose(&t, SHARING_ALONE), SHARING_ALL);
    assert_true(fabs(t.of[0] + t.of[1] - 3 * 16) < 1e-6);

    /* use that lies on one side: as slow as that side */
    float use[128];
    for (int i = 0; i < 128; i++) use[i] = i < 64;
    l.use = use;
    l.n_use = 1;
    struct sharing u = of(&l, h, 2);
    assert_true(u.us[SHARING_EXPERTS] > t.us[SHARING_EXPERTS]);
    assert_true(fabs(u.us[SHARING_EXPERTS] / 3 - (150 + 4000 + 7200)) < 50);
    l.use = NULL;

    /* two layers that it stands for, each with its use on another side: as their mean */
    float uses[2][128];
    for (int i = 0; i < 128; i++) uses[0][i] = i < 64, uses[1][i] = i >= 64;
    l.use = uses[0];
    l.n_use = 2;
    struct sharing two = of(&l, h, 2);
    assert_true(fabs(two.us[SHARING_EXPERTS] / u.us[SHARING_EXPERTS] - 1) < 0.02);
    assert_true(fabs(two.of[1] - u.of[1] - 3 * 4) < 1);
    l.use = NULL;

    /* a third one that is twice as fast helps most */
    h[0].items = h[1].items = &experts;
    struct sharing v = of(&l, h, 3);
    assert_true(v.us[SHARING_ALL] < s.us[SHARING_ALL] * 0.75);
    assert_true(v.of[2] > v.of[1]);

    /* head groups that are dealt already, badly, or not all */
    uint8_t head_of[8] = { 0, 0, 0, 0, 0, 0, 0, 1 };
    s = of(&l, h, 2);
    l.head_of = head_of;
    t = of(&l, h, 2);
    assert_true(fabs(t.us[SHARING_ALL] - t.us[SHARING_EXPERTS] + 3 * 500) < 1);
    assert_true(t.us[SHARING_ALL] > s.us[SHARING_ALL]);
    assert_true(t.us[SHARING_EXPERTS] == s.us[SHARING_EXPERTS]);
    head_of[3] = 0xff;
    t = of(&l, h, 2);
    assert_true(t.us[SHARING_ALL] == HUGE_VAL);
    l.head_of = NULL;

    /* small layers and long ways: nothing; a line that carries little: nothing */
    struct sharing_hand small[2] = { { &heads, &experts, 2, 3, 0, 0 },
                                     { &heads, &experts, 2, 3, 200, 0 } };
    l.shared_us = 3;
    l.trunk_us = 2;
    s = of(&l, small, 2);
    assert_int_equal(sharing_choose(&s, SHARING_ALONE), SHARING_ALONE);
    assert_true(s.us[SHARING_ALL] == s.us[SHARING_ALONE]); /* nobody is asked */
    l = air();
    h[1].kbit = 1000;
    s = of(&l, h, 2);
    assert_int_equal(sharing_choose(&s, SHARING_ALONE), SHARING_ALONE);

    /* head groups only where the leader has none */
    h[1].kbit = 0;
    h[0].heads = NULL;
    s = of(&l, h, 2);
    assert_true(s.us[SHARING_EXPERTS] == HUGE_VAL);
    assert_int_equal(sharing_choose(&s, SHARING_ALONE), SHARING_ALL);
    h[1].heads = NULL;
    s = of(&l, h, 2);
    assert_true(s.us[SHARING_ALL] == HUGE_VAL);
    sharing_text(text, &s);
    assert_non_null(strstr(text, "are held by nobody"));
}

static void links(void **state)
{
    (void)state;
    char why[SHARING_TEXT];

    assert_true(sharing_is_near(0, 0, 0, false, why));
    assert_true(sharing_is_near(2000, 0, 300000, false, why));
    assert_string_equal(why, "");
    assert_false(sharing_is_near(5100, 0, 0, false, why));
    assert_string_equal(why,
                        "is 5.1 ms away, and over 2 ms each layer waits longer than sharing saves");
    assert_true(sharing_is_near(5100, 0, 0, true, why));
    assert_false(sharing_is_near(6100, 0, 0, true, why));
    assert_false(sharing_is_near(300, 0, 94000, false, why));
    assert_string_equal(why, "has a line of 94 Mbit/s, and layers need 300 to be shared");
    assert_false(sharing_is_near(300, 0, 94000, true, why));
    assert_true(sharing_is_near(300, 0, 120000, true, why));
    assert_true(sharing_is_near(5100, 6000, 0, false, why));
    assert_false(sharing_is_near(6100, 6000, 0, false, why));
    assert_non_null(strstr(why, "over 6 ms"));
}

/* It begins with a gain that is worth it, and ends where there is none. */
static void not_to_and_fro(void **state)
{
    (void)state;
    struct sharing s = { 1, { 1000, 950, 940 }, { 0 } };
    enum sharing_how how;

    assert_int_equal(sharing_choose(&s, SHARING_ALONE), SHARING_ALONE);
    assert_false(sharing_pays(&s));
    assert_int_equal(sharing_choose(&s, SHARING_EXPERTS), SHARING_EXPERTS);
    assert_int_equal(sharing_choose(&s, SHARING_ALL), SHARING_ALL);
    s.us[SHARING_EXPERTS] = 890;
    assert_true(sharing_pays(&s));
    assert_int_equal(sharing_choose(&s, SHARING_ALONE), SHARING_EXPERTS);
    assert_int_equal(sharing_choose(&s, SHARING_ALL), SHARING_EXPERTS);
    s.us[SHARING_ALL] = 790;
    assert_int_equal(sharing_choose(&s, SHARING_ALONE), SHARING_ALL);
    s = (struct sharing){ 1, { 1000, 1001, 1001 }, { 0 } };
    assert_int_equal(sharing_choose(&s, SHARING_ALL), SHARING_ALONE);

    for (int i = SHARING_OFF; i <= SHARING_ON; i++) {
        assert_true(sharing_how_parse(&how, sharing_how_text((enum sharing_how)i)));
        assert_int_equal(how, i);
    }
    assert_false(sharing_how_parse(&how, "yes"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deals_are_the_best),
        cmocka_unit_test(ways),
        cmocka_unit_test(links),
        cmocka_unit_test(not_to_and_fro),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
