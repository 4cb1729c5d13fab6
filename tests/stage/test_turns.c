/* Tokens and prompts take turns: over simulated machines, neither waits too long. */
#include "stage/turns.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { MS = 1000000 };

/* A machine: a batch of n rows takes so long in each of its layers. */
struct machine {
    uint32_t n_layers, weights_us, row_us; /* the first for reading a layer once */
    uint32_t expert_us, experts;           /* reading an expert, until all are read */
};

static uint32_t layer_us(const struct machine *m, uint32_t n_rows)
{
    uint32_t read = 8 * n_rows < m->experts ? 8 * n_rows : m->experts;
    return m->weights_us + m->row_us * n_rows + m->expert_us * read;
}

/* One stream whose next token arrives away_us after the last one left, beside an endless prompt:
 * the longest time that a token takes here; *rows: of the prompt, a second. */
static uint64_t slowest_token(const struct machine *m, uint64_t away_us, double *rows)
{
    struct turns t;
    uint64_t now = 1, arrives = 1, slowest = 0, n_done = 0, n_rows = 0, at = 0, us = 0;
    turns_init(&t, 256);
    for (uint32_t i = 0; i < 20; i++) { /* alone, so that the usual time is known */
        now += layer_us(m, 1) * m->n_layers * UINT64_C(1000);
        turns_did_tokens(&t, layer_us(m, 1) * m->n_layers, now);
    }
    uint64_t start = now;
    while (now - start < UINT64_C(20000) * MS) {
        if (now >= arrives && turns_is_token(&t)) {
            uint32_t took = layer_us(m, 1) * m->n_layers;
            now += took * UINT64_C(1000);
            turns_did_tokens(&t, took, now);
            if (now - arrives > slowest && now - start > UINT64_C(3000) * MS)
                slowest = now - arrives;
            arrives = now + away_us * 1000;
            continue;
        }
        if (at == 0) n_rows = turns_rows(&t, now), us = 0;
        uint32_t n = turns_layers(&t, (uint32_t)n_rows, now);
        if (n > m->n_layers - at) n = m->n_layers - (uint32_t)at;
        uint32_t took = n * layer_us(m, (uint32_t)n_rows);
        now += took * UINT64_C(1000);
        us += took;
        turns_did_layers(&t, (uint32_t)n_rows, n, took);
        at += n;
        if (at < m->n_layers) continue;
        turns_did_prompts(&t, (uint32_t)n_rows, m->n_layers, us, now);
        n_done += n_rows;
        at = 0;
    }
    *rows = (double)n_done / 20;
    return slowest / 1000;
}

/* A dense model, experts, few and many layers, alone and in a pipeline of four. */
static void test_a_prompt_slows_a_stream_to_less_than_three_times(void **state)
{
    (void)state;
    static const struct machine machines[] = {
        { 11, 3000, 100, 0, 0 },     { 46, 3000, 100, 0, 0 },     { 2, 3000, 100, 0, 0 },
        { 11, 1500, 100, 200, 128 }, { 46, 1500, 100, 200, 128 }, { 3, 1500, 100, 200, 128 },
        { 8, 20, 8, 0, 0 },
    };
    for (unsigned i = 0; i < sizeof machines / sizeof *machines; i++)
        for (unsigned stages = 1; stages <= 4; stages += 3) {
            const struct machine *m = &machines[i];
            double rows, alone;
            uint64_t usual = (uint64_t)layer_us(m, 1) * m->n_layers;
            uint64_t slowest = slowest_token(m, (stages - 1) * usual, &rows);
            assert_true(slowest < 3 * usual || slowest < 2 * TURNS_BLINK_US);
            /* and the prompt gets a third of what it gets when no answer runs */
            (void)slowest_token(m, UINT64_C(1000000000000), &alone);
            assert_true(rows > alone / (m->n_layers > 3 ? 4 : 12));
        }
}

static void test_without_answers_batches_grow(void **state)
{
    (void)state;
    struct turns t;
    turns_init(&t, 256);
    for (uint32_t i = 0; i < 10; i++) turns_did_prompts(&t, t.rows, 10, 20000, 1);
    assert_int_equal(t.rows, 256);
    for (uint32_t i = 0; i < 10; i++) turns_did_prompts(&t, t.rows, 10, TURNS_LONG_US + 1, 1);
    assert_int_equal(t.rows, TURNS_ROWS_MIN);
    turns_init(&t, 4); /* less than any limit, by memory */
    for (uint32_t i = 0; i < 10; i++) turns_did_prompts(&t, t.rows, 10, TURNS_LONG_US + 1, 1);
    assert_int_equal(t.rows, 4);
}

/* Batches have grown while no answer ran: the first one beside an answer is small already. */
static void test_the_first_batch_beside_an_answer_is_short(void **state)
{
    (void)state;
    struct turns t;
    turns_init(&t, 256);
    for (uint32_t i = 0; i < 10; i++) {
        turns_did_layers(&t, t.rows, 10, t.rows * 10 * 50);
        turns_did_prompts(&t, t.rows, 10, t.rows * 10 * 50, 1);
    }
    assert_int_equal(turns_rows(&t, 1), 256);
    turns_did_tokens(&t, 3000, MS);
    assert_int_equal(turns_rows(&t, 2 * MS), 3000 / 50);
    assert_int_equal(turns_rows(&t, 2 * MS + UINT64_C(1000) * TURNS_STREAM_MS * 1000), 256);
    turns_init(&t, 4); /* less than any limit, by memory */
    turns_did_layers(&t, 4, 1, 100000);
    turns_did_tokens(&t, 1000, MS);
    assert_int_equal(turns_rows(&t, 2 * MS), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_prompt_slows_a_stream_to_less_than_three_times),
        cmocka_unit_test(test_without_answers_batches_grow),
        cmocka_unit_test(test_the_first_batch_beside_an_answer_is_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
