/* Layers shared by two to five hands, split at random, against one process alone, bit for bit. */
#include "model/stage.h"
#include "node/pool.h"
#include "tests/model/group.h"
#include "tests/model/toy.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SESSIONS = 3, ROWS = 40, BATCH = 24 };

/* Some sessions: what goes in, and what one process makes of it. */
struct work {
    struct toy t;
    uint32_t layers;
    uint8_t *in[SESSIONS], *want[SESSIONS]; /* [ROWS][arch_row_bytes] */
};

static void work_open(struct work *w, unsigned shape, enum wtype type, const struct kernels *k)
{
    struct stage *s;
    struct nonfinite bad;
    struct row rows[ROWS];

    memset(w, 0, sizeof *w);
    toy_shape(shape, &w->t.a);
    toy_types(&w->t.a, type);
    toy_fill(&w->t, 17 + shape);
    w->layers = w->t.a.n_layers;
    size_t row = arch_row_bytes(&w->t.a);
    uint64_t seed = 77 + shape;
    float *f = malloc(w->t.a.hidden * sizeof *f);
    assert_int_equal(stage_open(&s, &w->t.a, w->t.layer, 0, w->layers, ROWS, k, workers_inline()),
                     ERR_OK);
    for (unsigned i = 0; i < SESSIONS; i++) {
        struct kv *kv;
        w->in[i] = malloc(ROWS * row);
        w->want[i] = malloc(ROWS * row);
        for (uint32_t r = 0; r < ROWS; r++) {
            for (uint32_t c = 0; c < w->t.a.hidden; c++) f[c] = toy_random(&seed);
            k->narrow(w->in[i] + r * row, f, w->t.a.hidden, w->t.a.exchange);
        }
        memcpy(w->want[i], w->in[i], ROWS * row);
        assert_int_equal(kv_open(&kv, &w->t.a, 0, w->layers, ROWS), ERR_OK);
        for (uint32_t r = 0; r < ROWS; r++) rows[r] = (struct row){ kv, r };
        assert_int_equal(stage_forward(s, rows, ROWS, w->want[i], &bad), ERR_OK);
        kv_close(kv);
    }
    stage_close(s);
    free(f);
}

static void work_close(struct work *w)
{
    for (unsigned i = 0; i < SESSIONS; i++) {
        free(w->in[i]);
        free(w->want[i]);
    }
    toy_free(&w->t);
}

/* A batch of the sessions' next rows, 0 to 7 of each; 0 when all is done. */
static uint32_t next_batch(struct work *w, struct kv *const *kv, uint32_t step, uint8_t *x,
                           struct row *rows, unsigned *from)
{
    size_t row = arch_row_bytes(&w->t.a);
    uint32_t n = 0;

    for (unsigned i = 0; i < SESSIONS; i++) {
        uint32_t some = 1 + (step * (i + 3)) % 7, len = kv_len(kv[i]);
        for (uint32_t j = 0; j < some && len + j < ROWS; j++, n++) {
            memcpy(x + n * row, w->in[i] + (len + j) * row, row);
            rows[n] = (struct row){ kv[i], len + j };
            from[n] = i;
        }
    }
    return n;
}

/* All sessions to their ends; a batch that fails as it is told to is tried again. */
static void run(struct work *w, struct group *g)
{
    size_t row = arch_row_bytes(&w->t.a);
    uint8_t *x = malloc(BATCH * row);
    struct row rows[BATCH];
    unsigned from[BATCH];
    struct kv *kv[SESSIONS];
    struct nonfinite bad;
    uint32_t n;

    for (unsigned i = 0; i < SESSIONS; i++) kv[i] = group_session(g, i, ROWS);
    for (uint32_t step = 0; (n = next_batch(w, kv, step, x, rows, from)) > 0; step++) {
        enum err e = stage_forward_shared(g->leader, 0, w->layers, rows, n, x, &g->sharer, &bad);
        if (e == ERR_CLOSED && g->n_collects == g->fail_at) {
            for (uint32_t i = 0; i < n; i++) assert_in_range(rows[i].pos, kv_len(rows[i].kv), ROWS);
            continue;
        }
        assert_int_equal(e, ERR_OK);
        for (uint32_t j = 0; j < n; j++)
            assert_memory_equal(x + j * row, w->want[from[j]] + rows[j].pos * row, row);
    }
    free(x);
}

/* --- tests --- */

static void every_split(void **state)
{
    static const enum wtype types[] = { WT_Q40, WT_Q80, WT_BF16, WT_F32 };
    static const unsigned hands[] = { 2, 3, 5 };
    const struct kernels *k = kernels_pick(NULL, NULL);
    unsigned seed = 1;
    (void)state;

    for (unsigned shape = 0; shape < TOYS; shape++)
        for (unsigned type = 0; type < sizeof types / sizeof *types; type++) {
            struct work w;
            work_open(&w, shape, types[type], k);
            for (unsigned h = 0; h < 3; h++)
                for (enum group_way way = 0; way < GROUP_WAYS; way++) {
                    struct group g;
                    group_open(&g, &w.t.a, w.t.layer, 0, w.layers, hands[h], way, BATCH, k,
                               workers_inline(), seed++);
                    run(&w, &g);
                    group_close(&g);
                }
            work_close(&w);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
