/* Attention over many positions: however rows, chunks and head groups are shared out, the bits are
 * those of one row at a time on one thread, and those of the naive pass. */
#include "model/stage.h"
#include "stage/pool.h"
#include "tests/model/toy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* An emulator takes minutes for what a processor does in seconds. */
#ifdef EMULATED
enum { LONG = 1100, THREADS = 2 };
#else
enum { LONG = 3000, THREADS = 5 };
#endif

/* A model of one layer, whose time goes into attention. */
static void toy_of_one(struct toy *t, unsigned shape, uint32_t context)
{
    *t = (struct toy){ 0 };
    toy_shape(shape, &t->a);
    t->a.n_layers = 1;
    t->a.n_dense = t->a.n_dense ? 1 : 0;
    t->a.context = context;
    toy_fill(t, 31 + shape);
}

static uint8_t *inputs(const struct toy *t, uint32_t n, uint64_t seed)
{
    size_t row = arch_row_bytes(&t->a);
    uint8_t *x = malloc(n * row);
    float *f = malloc(t->a.hidden * sizeof *f);

    assert_true(x && f);
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t c = 0; c < t->a.hidden; c++) f[c] = toy_random(&seed);
        kernels_nth(0)->narrow(x + i * row, f, t->a.hidden, t->a.exchange);
    }
    free(f);
    return x;
}

static uint8_t *copy(const uint8_t *x, size_t n)
{
    uint8_t *y = malloc(n);
    assert_non_null(y);
    memcpy(y, x, n);
    return y;
}

/* Rows [at, at + n) of x through the stage, in place. */
static void step(struct stage *s, struct kv *kv, uint8_t *x, size_t row, uint32_t at, uint32_t n)
{
    struct row rows[BATCH_MAX];
    struct nonfinite bad;

    for (uint32_t i = 0; i < n; i++) rows[i] = (struct row){ kv, at + i };
    assert_int_equal(stage_forward(s, rows, n, x + at * row, &bad), ERR_OK);
}

/* All n positions in the given pieces; the last one repeats. */
static uint8_t *through(const struct toy *t, struct workers *w, const uint8_t *in, uint32_t n,
                        const uint32_t *piece)
{
    size_t row = arch_row_bytes(&t->a);
    uint8_t *x = copy(in, n * row);
    struct stage *s;
    struct kv *kv;

    assert_int_equal(stage_open(&s, &t->a, t->layer, 0, 1, BATCH_MAX, kernels_pick(NULL, NULL), w),
                     ERR_OK);
    assert_int_equal(kv_open(&kv, &t->a, 0, 1, n), ERR_OK);
    for (uint32_t at = 0, some; at < n; at += some) {
        some = *piece < n - at ? *piece : n - at;
        if (piece[1]) piece++;
        step(s, kv, x, row, at, some);
    }
    kv_close(kv);
    stage_close(s);
    return x;
}

/* One by one, as a prompt in large pieces, in odd ones, on 1 to 5 threads: one answer. */
static void long_contexts(void **state)
{
    enum { N = LONG };
    static const uint32_t single[] = { 1, 0 }, whole[] = { 512, 0 };
    static const uint32_t odd[] = { 500, 11, 1, 1, 1, 37, 473, 2, 64, 511, 5, 333, 0 };
    (void)state;

    for (unsigned shape = 0; shape < 6; shape += 5) { /* 2 KV heads, then 1 */
        struct toy t;
        toy_of_one(&t, shape, N);
        size_t bytes = N * arch_row_bytes(&t.a);
        uint8_t *in = inputs(&t, N, 3), *want = through(&t, workers_inline(), in, N, single);
        for (unsigned threads = 1; threads <= THREADS; threads++) {
            struct pool *p;
            assert_int_equal(pool_open(&p, threads), ERR_OK);
            const uint32_t *const pieces[] = { whole, odd, single };
            for (unsigned i = 0; i < (threads == 2 ? 3 : 2); i++) {
                uint8_t *got = through(&t, pool_workers(p), in, N, pieces[i]);
                assert_memory_equal(got, want, bytes);
                free(got);
            }
            pool_close(p);
        }
        free(in);
        free(want);
        toy_free(&t);
    }
}

/* Every shape around the end of a chunk, against the naive pass: pieces that end before, at and
 * after it, blocks of rows that lie across it. */
static void borders(void **state)
{
    enum { N = 530 };
    static const uint32_t pieces[][6] = {
        { 505, 1, 0 }, { 511, 1, 1, 17, 0 }, { 512, 1, 17, 0 }, { 509, 7, 14, 0 }, { 510, 20, 0 },
    };
    (void)state;

    for (unsigned shape = 0; shape < TOYS; shape++) {
        struct toy t;
        toy_of_one(&t, shape, N);
        size_t bytes = N * arch_row_bytes(&t.a);
        uint8_t *in = inputs(&t, N, 4), *want = copy(in, bytes);
        naive_forward(&t, kernels_nth(0), 0, 1, N, want);
        for (unsigned threads = 1; threads <= 4; threads += 3) {
            struct pool *p;
            assert_int_equal(pool_open(&p, threads), ERR_OK);
            for (unsigned i = 0; i < sizeof pieces / sizeof *pieces; i++) {
                uint8_t *got = through(&t, pool_workers(p), in, N, pieces[i]);
                assert_memory_equal(got, want, bytes);
                free(got);
            }
            pool_close(p);
        }
        free(in);
        free(want);
        toy_free(&t);
    }
}

/* Batches of a session far along, one that begins and one row by row between them. */
static void mixed_batches(void **state)
{
    enum { SESSIONS = 3, N = 1300, ROUNDS = 40 };
    static const uint32_t start[SESSIONS] = { 1240, 0, 500 }, each[SESSIONS] = { 1, 23, 3 };
    static const uint32_t single[] = { 1, 0 };
    struct toy t;
    (void)state;

    toy_of_one(&t, 1, N);
    size_t row = arch_row_bytes(&t.a);
    uint8_t *in[SESSIONS], *want[SESSIONS];
    for (uint32_t i = 0; i < SESSIONS; i++) {
        in[i] = inputs(&t, N, 60 + i);
        want[i] = through(&t, workers_inline(), in[i], N, single);
    }
    for (unsigned threads = 1; threads <= THREADS; threads++) {
        struct pool *p;
        struct stage *s;
        struct kv *kv[SESSIONS];
        struct nonfinite bad;
        struct row rows[64];
        uint8_t *x = malloc(64 * row);
        assert_int_equal(pool_open(&p, threads), ERR_OK);
        assert_int_equal(stage_open(&s, &t.a, t.layer, 0, 1, BATCH_MAX, kernels_pick(NULL, NULL),
                                    pool_workers(p)),
                         ERR_OK);
        for (uint32_t i = 0; i < SESSIONS; i++) {
            uint8_t *prompt = copy(in[i], N * row);
            assert_int_equal(kv_open(&kv[i], &t.a, 0, 1, N), ERR_OK);
            for (uint32_t at = 0; at < start[i]; at += 20) step(s, kv[i], prompt, row, at, 20);
            free(prompt);
        }
        for (unsigned round = 0; round < ROUNDS; round++) {
            uint32_t n = 0, session[64];
            for (uint32_t i = 0; i < SESSIONS; i++)
                for (uint32_t r = 0, at = kv_len(kv[i]); r < each[i]; r++) {
                    memcpy(x + n * row, in[i] + (at + r) * row, row);
                    rows[n] = (struct row){ kv[i], at + r };
                    session[n++] = i;
                }
            assert_int_equal(stage_forward(s, rows, n, x, &bad), ERR_OK);
            for (uint32_t r = 0; r < n; r++)
                assert_memory_equal(x + r * row, want[session[r]] + rows[r].pos * row, row);
        }
        for (uint32_t i = 0; i < SESSIONS; i++) kv_close(kv[i]);
        stage_close(s);
        pool_close(p);
        free(x);
    }
    for (uint32_t i = 0; i < SESSIONS; i++) free(in[i]), free(want[i]);
    toy_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(long_contexts),
        cmocka_unit_test(borders),
        cmocka_unit_test(mixed_batches),
    };
    pass_fork_macs = 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
