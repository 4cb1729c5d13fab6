/* What is believed of nodes after how many steps, and what answers teach. */
#include "proto/speeds.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { NOW_S = 1700000000 };

/* A directory of n nodes, seeds 1 .. n. */
static struct directory *open_directory(uint32_t n)
{
    struct directory *d;
    assert_int_equal(directory_open(&d, swarm_key_public()), ERR_OK);
    for (uint32_t i = 1; i <= n; i++) {
        struct record_body b = { .version = 2, .seq = 1, .made = NOW_S, .expires = NOW_S + 100 };
        uint8_t seed[32] = { (uint8_t)i, (uint8_t)(i >> 8) }, record[RECORD_BYTES_MAX];
        struct identity me;
        size_t len;
        bool news;
        identity_from_seed(&me, seed);
        assert_int_equal(record_make(&me, swarm_key_public(), &b, record, sizeof record, &len),
                         ERR_OK);
        assert_int_equal(directory_offer(d, slice_of(record, len), NOW_S, &news, NULL), ERR_OK);
    }
    return d;
}

static void work(struct speeds *s, const struct directory *d, uint32_t node, uint32_t rows,
                 uint32_t pos, uint64_t us, uint64_t now_ms)
{
    struct speeds_work w = { 2, 1, rows, pos, us, rows == 1 ? 20 : 0 };
    speeds_step(s, &directory_nth(d, node)->id, &w, now_ms);
}

static void test_nodes(void **state)
{
    struct directory *d = open_directory(2);
    struct measured m[2] = { { 0 } };
    struct speeds *s;

    (void)state;
    assert_int_equal(speeds_open(&s), ERR_OK);
    /* 100 us a layer at position 0, 200 at 1000; believed from the 16th step on. */
    for (uint32_t i = 0; i < 15; i++) work(s, d, 0, 1, 100 * i, 200 + 20 * i, 1000);
    speeds_tell(s, d, m, 500, 1000);
    assert_int_equal(m[0].layer_us, 0);
    work(s, d, 0, 1, 1500, 500, 1000);
    speeds_tell(s, d, m, 500, 1000);
    assert_in_range(m[0].layer_us, 158, 162); /* with 10 us of waiting */
    assert_true(m[0].with_load);
    assert_int_equal(m[1].layer_us, 0);
    /* Long ago: it may wait for others now, or not. */
    speeds_tell(s, d, m, 500, 1000 + SPEEDS_FRESH_MS);
    assert_in_range(m[0].layer_us, 148, 152);
    assert_false(m[0].with_load);

    /* A prompt: 50 us and 3 a row; from one number of rows alone, a share each. */
    work(s, d, 1, 100, 100, 2 * 350, 1000);
    speeds_tell(s, d, m, 0, 1000);
    assert_true(m[1].chunk_us == 0 && m[1].row_ns == 3500);
    work(s, d, 1, 200, 300, 2 * 650, 1000);
    speeds_tell(s, d, m, 0, 1000);
    assert_in_range(m[1].chunk_us, 49, 51);
    assert_in_range(m[1].row_ns, 2990, 3010);
    speeds_close(s);
    directory_close(d);
}

/* The node used longest ago makes room. */
static void test_room(void **state)
{
    struct directory *d = open_directory(SPEEDS_MAX + 1);
    struct measured *m = calloc(SPEEDS_MAX + 1, sizeof *m);
    struct speeds *s;

    (void)state;
    assert_int_equal(speeds_open(&s), ERR_OK);
    for (uint32_t i = 0; i <= SPEEDS_MAX; i++)
        for (uint32_t k = 0; k < SPEEDS_STEPS; k++) work(s, d, i, 1, 0, 100, i == 7 ? 0 : 1 + i);
    speeds_tell(s, d, m, 0, 1);
    for (uint32_t i = 0; i <= SPEEDS_MAX; i++) assert_int_equal(m[i].layer_us > 0, i != 7);
    speeds_close(s);
    directory_close(d);
    free(m);
}

static void test_answers(void **state)
{
    struct speeds *s;

    (void)state;
    assert_int_equal(speeds_open(&s), ERR_OK);
    assert_true(speeds_head_us(s) == 0 && speeds_hop_us(s) == 0 && speeds_start_us(s) == 0);
    speeds_head(s, 100);
    speeds_head(s, 9000); /* a busy moment */
    speeds_head(s, 120);
    assert_int_equal(speeds_head_us(s), 120);
    for (int i = 0; i < 7; i++) speeds_head(s, 50);
    assert_int_equal(speeds_head_us(s), 50);
    speeds_hops(s, 1000, 400, 3);
    assert_int_equal(speeds_hop_us(s), 200);
    speeds_hops(s, 1000, 400, 0); /* at home: nothing to learn */
    assert_int_equal(speeds_hop_us(s), 200);
    speeds_hops(s, 1e12, 0, 1);
    speeds_hops(s, 1e12, 0, 1);
    assert_int_equal(speeds_hop_us(s), SPEEDS_HOP_MAX_US);
    speeds_start(s, 1e12);
    assert_int_equal(speeds_start_us(s), SPEEDS_START_MAX_US);
    speeds_start(s, -5);
    speeds_start(s, -5);
    assert_int_equal(speeds_start_us(s), 1);
    speeds_close(s);
}

static int start(void **state)
{
    (void)state;
    return proto_init();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nodes),
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_answers),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
