/* Names of beginnings, and what a coordinator remembers of them. */
#include "proto/recall.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { ROWS = 20 * PREFIX_BLOCK };

static const uint8_t root[HASH_WIRE] = { 7 };

static void make_rows(uint8_t *h, uint32_t n, uint32_t seed)
{
    for (uint32_t i = 0; i < n; i++)
        chain_row(h + (size_t)i * HASH_WIRE, (uint32_t[]){ i, seed }, 2 * sizeof(uint32_t));
}

/* The chain of all rows at once is the oracle. */
static void check_same(const struct chain *c, const uint8_t *rows, uint32_t n)
{
    struct chain all;
    chain_init(&all, root);
    chain_feed(&all, 0, rows, n);
    assert_false(c->is_lost);
    assert_int_equal(c->at, n);
    assert_int_equal(c->n, n / PREFIX_BLOCK);
    for (uint32_t k = 0; k < c->n; k++) assert_true(chain_is(c, k, chain_name(&all, k)));
    chain_fini(&all);
}

static void test_pieces_make_the_same_names(void **state)
{
    (void)state;
    uint8_t *rows = malloc((size_t)ROWS * HASH_WIRE);
    make_rows(rows, ROWS, 1);
    for (uint32_t step = 1; step < 80; step += 7) {
        struct chain c;
        chain_init(&c, root);
        for (uint32_t at = 0; at < ROWS; at += step)
            chain_feed(&c, at, rows + (size_t)at * HASH_WIRE, at + step < ROWS ? step : ROWS - at);
        check_same(&c, rows, ROWS);
        chain_fini(&c);
    }
    free(rows);
}

/* Every row, the one before, its position and the root count. */
static void test_all_counts(void **state)
{
    (void)state;
    uint8_t *rows = malloc((size_t)ROWS * HASH_WIRE), other[HASH_WIRE] = { 8 };
    make_rows(rows, ROWS, 1);
    struct chain a, b;
    chain_init(&a, root);
    chain_feed(&a, 0, rows, ROWS);
    for (uint32_t i = 0; i < ROWS; i += 37) {
        rows[(size_t)i * HASH_WIRE] ^= 1;
        chain_init(&b, root);
        chain_feed(&b, 0, rows, ROWS);
        for (uint32_t k = 0; k < a.n; k++)
            assert_int_equal(chain_is(&b, k, chain_name(&a, k)), k < i / PREFIX_BLOCK);
        chain_fini(&b);
        rows[(size_t)i * HASH_WIRE] ^= 1;
    }
    chain_init(&b, other);
    chain_feed(&b, 0, rows, ROWS);
    assert_false(chain_is(&b, 0, chain_name(&a, 0)));
    chain_fini(&b);
    chain_fini(&a);
    free(rows);

    struct node_id me = { { 1 } }, you = { { 2 } };
    uint8_t model[ID_BYTES] = { 3 }, model2[ID_BYTES] = { 4 }, h[4][HASH_WIRE];
    chain_root_rows(h[0], model, &me, 0);
    chain_root_rows(h[1], model, &you, 0);
    chain_root_rows(h[2], model, &me, 1);
    chain_root_rows(h[3], model2, &me, 0);
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < i; k++) assert_memory_not_equal(h[i], h[k], HASH_WIRE);
}

/* Back to anywhere near, to whole blocks anywhere, and on with other rows. */
static void test_goes_back(void **state)
{
    (void)state;
    uint8_t *rows = malloc((size_t)ROWS * HASH_WIRE);
    for (uint32_t to = 0; to <= ROWS; to += 5) {
        struct chain c;
        make_rows(rows, ROWS, 1);
        chain_init(&c, root);
        chain_feed(&c, 0, rows, ROWS);
        make_rows(rows + (size_t)to * HASH_WIRE, ROWS - to, 9);
        chain_feed(&c, to, rows + (size_t)to * HASH_WIRE, ROWS - to);
        bool is_near = to / PREFIX_BLOCK * PREFIX_BLOCK >= ROWS - CHAIN_RECENT;
        if (is_near || to % PREFIX_BLOCK == 0)
            check_same(&c, rows, ROWS);
        else
            assert_true(c.is_lost);
        chain_feed(&c, 0, rows, ROWS);
        check_same(&c, rows, ROWS);
        chain_fini(&c);
    }
    free(rows);
}

static void test_a_gap_is_silence(void **state)
{
    (void)state;
    uint8_t *rows = malloc((size_t)ROWS * HASH_WIRE);
    struct chain c;
    make_rows(rows, ROWS, 1);
    chain_init(&c, root);
    chain_feed(&c, 0, rows, 40);
    chain_feed(&c, 41, rows + 41 * HASH_WIRE, 100);
    assert_true(c.is_lost);
    chain_feed(&c, 141, rows + 141 * HASH_WIRE, 100);
    assert_true(c.is_lost);
    assert_false(chain_is(&c, 0, chain_name(&c, 0)));
    chain_fini(&c);
    free(rows);
}

/* What an earlier session's chain was goes on. */
static void test_goes_on_from_names(void **state)
{
    (void)state;
    uint8_t *rows = malloc((size_t)ROWS * HASH_WIRE);
    struct chain a, b;
    make_rows(rows, ROWS, 1);
    chain_init(&a, root);
    chain_feed(&a, 0, rows, ROWS);
    chain_init(&b, root);
    for (uint32_t k = 0; k < 9; k++) assert_int_equal(chain_know(&b, chain_name(&a, k)), ERR_OK);
    uint32_t at = 9 * PREFIX_BLOCK;
    chain_feed(&b, at, rows + (size_t)at * HASH_WIRE, ROWS - at);
    check_same(&b, rows, ROWS);
    chain_feed(&b, 8 * PREFIX_BLOCK, rows + (size_t)8 * PREFIX_BLOCK * HASH_WIRE, 40);
    check_same(&b, rows, 8 * PREFIX_BLOCK + 40);
    chain_fini(&b);

    chain_init(&b, root); /* rows of before are not known, so nothing within a block is */
    for (uint32_t k = 0; k < 9; k++) assert_int_equal(chain_know(&b, chain_name(&a, k)), ERR_OK);
    chain_feed(&b, at - 1, rows, 1);
    assert_true(b.is_lost);
    chain_fini(&b);
    chain_fini(&a);
    free(rows);
}

/* --- memory --- */

static void name(uint8_t h[HASH_WIRE], uint32_t n)
{
    chain_row(h, &n, sizeof n);
}

static void test_recalls_the_last_used(void **state)
{
    struct recall *r;
    uint8_t ids[HASH_WIRE], rows[HASH_WIRE], got[HASH_WIRE];
    (void)state;
    assert_int_equal(recall_open(&r), ERR_OK);
    for (uint32_t i = 0; i < RECALL_MAX + 1000; i++) {
        name(ids, i);
        name(rows, i + 1);
        recall_put(r, ids, i % 3, rows);
        name(ids, 0); /* is asked for all the time */
        assert_true(recall_get(r, ids, 0, got));
        assert_false(recall_get(r, ids, 1, got));
    }
    assert_int_equal(recall_n(r), RECALL_MAX);
    for (uint32_t i = 0; i < RECALL_MAX + 1000; i++) {
        name(ids, i);
        name(rows, i + 1);
        assert_int_equal(recall_get(r, ids, i % 3, got), i == 0 || i > 1000);
        if (i > 1000) assert_memory_equal(got, rows, HASH_WIRE);
    }
    name(ids, 5000);
    recall_put(r, ids, 5000 % 3, ids); /* stages disagree: the last one counts */
    assert_true(recall_get(r, ids, 5000 % 3, got));
    assert_memory_equal(got, ids, HASH_WIRE);
    assert_int_equal(recall_n(r), RECALL_MAX);
    recall_close(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_make_the_same_names),
        cmocka_unit_test(test_all_counts),
        cmocka_unit_test(test_goes_back),
        cmocka_unit_test(test_a_gap_is_silence),
        cmocka_unit_test(test_goes_on_from_names),
        cmocka_unit_test(test_recalls_the_last_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
