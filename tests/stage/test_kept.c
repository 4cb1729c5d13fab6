/* Blocks that are kept: who finds them, and which go first. */
#include "proto/chain.h"
#include "stage/kept.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { BYTES = 100 };
static const struct node_id me = { { 1 } }, you = { { 2 } };

static const uint8_t *name(uint32_t n)
{
    static uint8_t h[HASH_WIRE];
    chain_row(h, &n, sizeof n);
    return h;
}

/* Block n of layers [2, 4), behind `before`. */
static struct kept_block *put(struct kept *k, uint32_t n, struct kept_block *before, uint64_t limit)
{
    uint32_t depth = before ? before->depth + 1 : 0;
    struct kept_block *b = kept_make(name(n), &me, 2, 4, depth, BYTES);
    assert_non_null(b);
    memset(b->data, (int)n, BYTES);
    bool is_kept = kept_add(k, b, before, limit);
    kept_let_go(b);
    return is_kept ? b : NULL;
}

static struct kept_block *find(struct kept *k, uint32_t n)
{
    return kept_find(k, name(n), &me, 2, 4);
}

static void test_found_by_its_coordinator_only(void **state)
{
    struct kept *k;
    (void)state;
    assert_int_equal(kept_open(&k), ERR_OK);
    struct kept_block *b = put(k, 1, NULL, 1000);
    assert_ptr_equal(find(k, 1), b);
    assert_null(find(k, 2));
    assert_null(kept_find(k, name(1), &you, 2, 4));
    assert_null(kept_find(k, name(1), &me, 2, 5));
    assert_null(kept_find(k, name(1), &me, 3, 4));
    assert_ptr_equal(kept_find(k, name(1), &me, 2, 3), b); /* some of its layers */
    assert_int_equal(kept_bytes(k), BYTES);
    kept_close(k);
}

static void test_the_budget_holds(void **state)
{
    struct kept *k;
    (void)state;
    assert_int_equal(kept_open(&k), ERR_OK);
    struct kept_block *last = NULL, *root = NULL;
    for (uint32_t i = 0; i < 10; i++) {
        last = put(k, i, last, 10 * BYTES);
        assert_non_null(last);
        if (!root) root = last;
    }
    /* Nothing is left but what it would hang on. */
    assert_null(put(k, 10, last, 10 * BYTES));
    assert_int_equal(kept_n(k), 10);
    assert_null(put(k, 10, last, BYTES / 2));
    /* Another beginning: the end of the first goes. */
    assert_non_null(put(k, 100, NULL, 10 * BYTES));
    assert_null(find(k, 9));
    assert_non_null(find(k, 8));
    /* A branch of the first: what was used last stays with all before it. */
    struct kept_block *branch = put(k, 200, find(k, 2), 10 * BYTES);
    assert_non_null(branch);
    assert_null(find(k, 8));
    kept_shrink(k, 5 * BYTES);
    assert_int_equal(kept_bytes(k), 5 * BYTES);
    for (uint32_t i = 0; i < 3; i++) assert_non_null(find(k, i));
    assert_non_null(find(k, 200));
    assert_non_null(find(k, 100));
    for (uint32_t i = 3; i < 10; i++) assert_null(find(k, i));
    kept_use(k, find(k, 100));
    kept_shrink(k, BYTES);
    assert_non_null(find(k, 100));
    kept_close(k);
}

static void test_held_ones_outlive_their_eviction(void **state)
{
    struct kept *k;
    (void)state;
    assert_int_equal(kept_open(&k), ERR_OK);
    struct kept_block *b = put(k, 5, NULL, 1000);
    kept_hold(b);
    kept_shrink(k, 0);
    assert_null(find(k, 5));
    assert_int_equal(kept_bytes(k), 0);
    assert_true(b->is_evicted);
    assert_int_equal(b->data[BYTES - 1], 5);
    kept_use(k, b); /* does not bring it back */
    assert_int_equal(kept_n(k), 0);
    kept_let_go(b);
    kept_close(k);
}

/* Random conversations over few beginnings, against a model that knows each block's last use. */
static void test_random(void **state)
{
    enum { TREES = 7, DEEP = 12, STEPS = 20000, LIMIT = 40 * BYTES };
    struct kept *k;
    uint32_t r = 1;
    (void)state;
    assert_int_equal(kept_open(&k), ERR_OK);
    for (int step = 0; step < STEPS; step++) {
        struct kept_block *before = NULL;
        r = r * 1664525 + 1013904223;
        uint32_t tree = (r >> 20) % TREES, deep = (r >> 8) % DEEP, fork = (r >> 16) % DEEP;
        for (uint32_t d = 0; d <= deep; d++) {
            uint32_t n = tree * 10000 + d + (d > fork ? 100 * fork : 0);
            struct kept_block *b = find(k, n);
            if (b) kept_use(k, b);
            if (!b) b = put(k, n, before, LIMIT);
            assert_non_null(b);
            assert_int_equal(b->depth, d);
            assert_ptr_equal(b->parent, before);
            before = b;
        }
        for (struct kept_block *b = before; b; b = b->parent) assert_false(b->is_evicted);
        assert_true(kept_bytes(k) <= LIMIT && kept_bytes(k) == (uint64_t)kept_n(k) * BYTES);
    }
    kept_close(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found_by_its_coordinator_only),
        cmocka_unit_test(test_the_budget_holds),
        cmocka_unit_test(test_held_ones_outlive_their_eviction),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
