/* The compute thread: whatever is queued together, each session gets the bits it gets alone. */
#include "proto/identity.h"
#include "stage/compute.h"
#include "stage/pool.h"
#include "tests/model/toy.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SESSIONS = 5, POSITIONS = 90 };

/* The asking side: an actor that counts what comes back. */
struct asker {
    struct actor actor; /* first */
    struct hub hub;
    struct toy toy;
    struct pool *pool;
    const struct kernels *k;
    struct compute *compute;
    size_t row_bytes;
    unsigned expected, back, cancelled, failed;
};

static void keep(struct note *n)
{
    (void)n;
}

static void on_note(struct actor *a, struct note *n)
{
    struct asker *s = (struct asker *)a;
    const struct job *j = (const struct job *)n;
    s->back++;
    if (j->err == ERR_CANCELLED)
        s->cancelled++;
    else if (j->err)
        s->failed++;
    if (s->back == s->expected) hub_stop(&s->hub);
}

static int setup(void **state)
{
    struct asker *s = calloc(1, sizeof *s);
    toy_shape(0, &s->toy.a);
    s->toy.a.context = 4096;
    toy_types(&s->toy.a, WT_Q80);
    toy_fill(&s->toy, 7);
    s->k = kernels_pick(NULL, NULL);
    s->row_bytes = arch_row_bytes(&s->toy.a);
    assert_int_equal(hub_init(&s->hub), ERR_OK);
    assert_int_equal(actor_init(&s->actor, &s->hub, "asker", 0, on_note), ERR_OK);
    assert_int_equal(pool_open(&s->pool, 2), ERR_OK);
    struct compute_config c = { .arch = &s->toy.a,
                                .layers = s->toy.layer,
                                .hi = s->toy.a.n_layers,
                                .ends = &s->toy.ends,
                                .kernels = s->k,
                                .workers = pool_workers(s->pool) };
    assert_int_equal(compute_open(&s->compute, &c, NULL), ERR_OK);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct asker *s = *state;
    compute_close(s->compute);
    actor_fini(&s->actor);
    hub_fini(&s->hub);
    pool_close(s->pool);
    toy_free(&s->toy);
    free(s);
    return 0;
}

static void wait_all(struct asker *s)
{
    if (s->back < s->expected) hub_run(&s->hub);
    assert_int_equal(s->back, s->expected);
}

static uint8_t *random_rows(const struct asker *s, uint32_t n, uint64_t seed)
{
    uint8_t *x = malloc(n * s->row_bytes);
    float *f = malloc(s->toy.a.hidden * sizeof *f);
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t c = 0; c < s->toy.a.hidden; c++) f[c] = toy_random(&seed);
        s->k->narrow(x + i * s->row_bytes, f, s->toy.a.hidden, s->toy.a.exchange);
    }
    free(f);
    return x;
}

static void prepare(struct asker *s, struct job *j)
{
    j->note = (struct note){ .drop = keep };
    j->to = &s->actor;
    s->expected++;
}

static void submit(struct asker *s, struct rows_job *j, struct kv *kv, uint32_t pos, uint32_t n,
                   uint8_t *x, uint32_t lo, uint32_t hi)
{
    prepare(s, &j->job);
    j->kv = kv;
    j->pos = pos;
    j->n = n;
    j->x = x + pos * s->row_bytes;
    j->lo = lo;
    j->hi = hi;
    j->is_token = n == 1;
    compute_rows(s->compute, j);
}

/* Every session in its own chunks, all queued before the first is done; one of them only through
 * the layers from 1 on. */
static void test_batched_sessions_equal_lone_ones(void **state)
{
    struct asker *s = *state;
    static const uint32_t chunk[SESSIONS] = { 1, 7, 90, 33, 16 };
    uint32_t n_layers = s->toy.a.n_layers;
    uint8_t *x[SESSIONS], *want[SESSIONS];
    struct kv *kv[SESSIONS];
    struct rows_job *jobs = calloc(SESSIONS * POSITIONS, sizeof *jobs), *j = jobs;

    for (uint32_t i = 0; i < SESSIONS; i++) {
        uint32_t lo = i == 3 ? 1 : 0;
        x[i] = random_rows(s, POSITIONS, 100 + i);
        want[i] = malloc(POSITIONS * s->row_bytes);
        memcpy(want[i], x[i], POSITIONS * s->row_bytes);
        naive_forward(&s->toy, s->k, lo, n_layers, POSITIONS, want[i]);
        assert_int_equal(kv_open(&kv[i], &s->toy.a, lo, n_layers, POSITIONS), ERR_OK);
    }
    for (uint32_t at = 0; at < POSITIONS; at++)
        for (uint32_t i = 0; i < SESSIONS; i++) {
            if (at % chunk[i]) continue;
            uint32_t left = POSITIONS - at;
            submit(s, j++, kv[i], at, left < chunk[i] ? left : chunk[i], x[i], i == 3 ? 1 : 0,
                   n_layers);
        }
    wait_all(s);
    assert_int_equal(s->failed + s->cancelled, 0);
    for (uint32_t i = 0; i < SESSIONS; i++) {
        assert_memory_equal(x[i], want[i], POSITIONS * s->row_bytes);
        kv_close(kv[i]);
        free(x[i]);
        free(want[i]);
    }
    free(jobs);
}

/* Infinity in one session ends that session's jobs and no other's. */
static void test_nonfinite_hurts_only_its_session(void **state)
{
    struct asker *s = *state;
    enum { N = 20, BAD_AT = 13 };
    uint8_t *x[3], *want[3];
    struct kv *kv[3];
    struct rows_job jobs[3] = { 0 }, later = { 0 };
    float inf[1] = { INFINITY };

    for (uint32_t i = 0; i < 3; i++) {
        x[i] = random_rows(s, 2 * N, 50 + i);
        want[i] = malloc(2 * N * s->row_bytes);
        memcpy(want[i], x[i], 2 * N * s->row_bytes);
        naive_forward(&s->toy, s->k, 0, s->toy.a.n_layers, N, want[i]);
        assert_int_equal(kv_open(&kv[i], &s->toy.a, 0, s->toy.a.n_layers, 2 * N), ERR_OK);
    }
    s->k->narrow(x[1] + BAD_AT * s->row_bytes, inf, 1, s->toy.a.exchange);
    for (uint32_t i = 0; i < 3; i++) submit(s, &jobs[i], kv[i], 0, N, x[i], 0, s->toy.a.n_layers);
    submit(s, &later, kv[1], N, N, x[1], 0, s->toy.a.n_layers);
    wait_all(s);
    assert_int_equal(jobs[0].job.err, ERR_OK);
    assert_int_equal(jobs[1].job.err, ERR_NONFINITE);
    assert_int_equal(jobs[1].job.bad.layer, 0);
    assert_int_equal(jobs[1].job.bad.pos, BAD_AT);
    assert_int_equal(jobs[2].job.err, ERR_OK);
    assert_int_not_equal(later.job.err, ERR_OK);
    assert_memory_equal(x[0], want[0], N * s->row_bytes);
    assert_memory_equal(x[2], want[2], N * s->row_bytes);
    for (uint32_t i = 0; i < 3; i++) {
        kv_close(kv[i]);
        free(x[i]);
        free(want[i]);
    }
}

/* A cancelled session's jobs all come back, and only once; its neighbour's are computed. */
static void test_cancel(void **state)
{
    struct asker *s = *state;
    enum { JOBS = 30, N = 64 };
    uint8_t *x = random_rows(s, JOBS * N, 3), *other = random_rows(s, N, 4);
    struct rows_job *jobs = calloc(JOBS, sizeof *jobs), neighbour = { 0 };
    struct kv *kv, *kv2;

    assert_int_equal(kv_open(&kv, &s->toy.a, 0, s->toy.a.n_layers, JOBS * N), ERR_OK);
    assert_int_equal(kv_open(&kv2, &s->toy.a, 0, s->toy.a.n_layers, N), ERR_OK);
    for (uint32_t i = 0; i < JOBS; i++) submit(s, &jobs[i], kv, i * N, N, x, 0, s->toy.a.n_layers);
    submit(s, &neighbour, kv2, 0, N, other, 0, s->toy.a.n_layers);
    compute_cancel(s->compute, kv);
    wait_all(s);
    assert_true(s->cancelled > 0);
    assert_int_equal(s->failed, 0);
    assert_int_equal(neighbour.job.err, ERR_OK);
    kv_close(kv);
    kv_close(kv2);
    free(x);
    free(other);
    free(jobs);
}

/* Jobs that wait when the thread is stopped come back cancelled. */
static void test_close_gives_everything_back(void **state)
{
    struct asker *s = *state;
    enum { JOBS = 30, N = 64 };
    uint8_t *x = random_rows(s, JOBS * N, 3);
    struct rows_job *jobs = calloc(JOBS, sizeof *jobs);
    struct kv *kv;

    assert_int_equal(kv_open(&kv, &s->toy.a, 0, s->toy.a.n_layers, JOBS * N), ERR_OK);
    for (uint32_t i = 0; i < JOBS; i++) submit(s, &jobs[i], kv, i * N, N, x, 0, s->toy.a.n_layers);
    compute_close(s->compute);
    s->compute = NULL;
    wait_all(s);
    assert_true(s->cancelled > 0);
    kv_close(kv);
    free(x);
    free(jobs);
}

/* Rows that are not the next ones are refused, and nothing waits for them for ever. */
static void test_wrong_position(void **state)
{
    struct asker *s = *state;
    uint8_t *x = random_rows(s, 8, 3);
    struct rows_job job = { 0 };
    struct kv *kv;

    assert_int_equal(kv_open(&kv, &s->toy.a, 0, s->toy.a.n_layers, 8), ERR_OK);
    submit(s, &job, kv, 2, 4, x, 0, s->toy.a.n_layers);
    wait_all(s);
    assert_int_equal(job.job.err, ERR_RANGE);
    kv_close(kv);
    free(x);
}

static int32_t largest(const float *logits, uint32_t n)
{
    uint32_t at = 0;
    for (uint32_t i = 1; i < n; i++)
        if (logits[i] > logits[at]) at = i;
    return (int32_t)at;
}

/* Many tokens at once: each is its own row's, and its embedding comes with it. */
static void test_next_tokens(void **state)
{
    struct asker *s = *state;
    enum { N = 40 };
    const struct arch *a = &s->toy.a;
    uint8_t *x = random_rows(s, N, 5), *rows = malloc(N * s->row_bytes),
            *embedded = malloc(s->row_bytes);
    float *logits = malloc(a->vocab * sizeof *logits);
    struct next_job jobs[N] = { 0 };
    struct ends *ends;

    memcpy(rows, x, N * s->row_bytes);
    for (uint32_t i = 0; i < N; i++) {
        prepare(s, &jobs[i].job);
        jobs[i].x = x + i * s->row_bytes;
        jobs[i].sampling = (struct sampling){ .top_p = 1 };
        jobs[i].usable = a->vocab;
        jobs[i].position = i + 1;
        compute_next(s->compute, &jobs[i]);
    }
    wait_all(s);
    assert_int_equal(ends_open(&ends, a, &s->toy.ends, 1, s->k, workers_inline()), ERR_OK);
    for (uint32_t i = 0; i < N; i++) {
        assert_int_equal(jobs[i].job.err, ERR_OK);
        naive_logits(&s->toy, s->k, rows + i * s->row_bytes, logits);
        assert_int_equal(jobs[i].token, largest(logits, a->vocab));
        assert_int_equal(ends_embed(ends, &jobs[i].token, 1, embedded), ERR_OK);
        assert_memory_equal(x + i * s->row_bytes, embedded, s->row_bytes);
    }
    ends_close(ends);
    free(x);
    free(rows);
    free(embedded);
    free(logits);
}

/* --- tokens in a row --- */

/* A session that decodes, and what its tokens are when made one step at a time. */
struct teller {
    struct kv *kv;
    uint8_t *x; /* its row */
    struct decode_job job;
    struct sampling sampling;
    int32_t want[POSITIONS], got[POSITIONS];
    uint32_t n_got;
};

/* What the session must say: forward, logits, pick, embed, alone and on one thread. */
static void tell_slowly(struct asker *s, struct teller *t, uint32_t n)
{
    const struct arch *a = &s->toy.a;
    uint8_t *x = malloc(POSITIONS * s->row_bytes), *last = malloc(POSITIONS * s->row_bytes);
    float *logits = malloc(a->vocab * sizeof *logits);
    struct sampler *sampler;
    struct ends *ends;
    assert_int_equal(ends_open(&ends, a, &s->toy.ends, 1, s->k, workers_inline()), ERR_OK);
    assert_int_equal(sampler_open(&sampler, a->vocab, draw_hash), ERR_OK);
    memcpy(x, t->x, s->row_bytes);
    for (uint32_t i = 0; i < n; i++) {
        memcpy(last, x, (i + 1) * s->row_bytes);
        naive_forward(&s->toy, s->k, 0, a->n_layers, i + 1, last);
        naive_logits(&s->toy, s->k, last + i * s->row_bytes, logits);
        t->want[i] = (int32_t)sampler_pick(sampler, &t->sampling, logits, a->vocab, i + 1);
        if (i + 1 < n)
            assert_int_equal(ends_embed(ends, &t->want[i], 1, x + (i + 1) * s->row_bytes), ERR_OK);
    }
    sampler_close(sampler);
    ends_close(ends);
    free(x);
    free(last);
    free(logits);
}

static void go_on(struct asker *s, struct teller *t, uint32_t n, const int32_t *eos)
{
    struct decode_job *d = &t->job;
    prepare(s, &d->rows.job);
    d->rows.kv = t->kv;
    d->rows.hi = s->toy.a.n_layers;
    d->rows.x = t->x;
    d->rows.pos = t->n_got;
    d->next.sampling = t->sampling;
    d->next.usable = s->toy.a.vocab;
    d->eos = eos;
    d->n_eos = eos != NULL;
    d->limit = n - t->n_got < DECODE_MAX ? n - t->n_got : DECODE_MAX;
    compute_decode(s->compute, d);
}

static void teller_open(struct asker *s, struct teller *t, uint32_t i)
{
    *t = (struct teller){ .sampling = { .temperature = i, .top_p = 1, .seed = i } };
    t->x = random_rows(s, 1, 70 + i);
    assert_int_equal(kv_open(&t->kv, &s->toy.a, 0, s->toy.a.n_layers, POSITIONS), ERR_OK);
}

static void teller_close(struct teller *t)
{
    kv_close(t->kv);
    free(t->x);
}

/* Several sessions at a time, greedy and with dice, beside a prompt: their tokens are those of one
 * step at a time. */
static void test_decode_is_step_by_step(void **state)
{
    struct asker *s = *state;
    static struct teller t[3];
    struct rows_job prompt = { 0 };
    uint8_t *x = random_rows(s, POSITIONS, 9);
    struct kv *kv;
    enum { N = 70 };
    assert_int_equal(kv_open(&kv, &s->toy.a, 0, s->toy.a.n_layers, POSITIONS), ERR_OK);
    for (uint32_t i = 0; i < 3; i++) {
        teller_open(s, &t[i], i);
        tell_slowly(s, &t[i], N);
    }
    submit(s, &prompt, kv, 0, POSITIONS, x, 0, s->toy.a.n_layers);
    for (bool is_done = false; !is_done;) {
        is_done = true;
        for (uint32_t i = 0; i < 3; i++)
            if (t[i].n_got < N) go_on(s, &t[i], N, NULL);
        wait_all(s);
        for (uint32_t i = 0; i < 3; i++) {
            const struct decode_job *d = &t[i].job;
            if (t[i].n_got == N) continue;
            assert_int_equal(d->rows.job.err, ERR_OK);
            assert_in_range(d->n_tokens, 1, d->limit);
            memcpy(t[i].got + t[i].n_got, d->token, d->n_tokens * sizeof(int32_t));
            t[i].n_got += d->n_tokens;
            assert_int_equal(kv_len(t[i].kv), t[i].n_got);
            is_done &= t[i].n_got == N;
        }
    }
    for (uint32_t i = 0; i < 3; i++) {
        assert_memory_equal(t[i].got, t[i].want, N * sizeof(int32_t));
        teller_close(&t[i]);
    }
    assert_int_equal(prompt.job.err, ERR_OK);
    kv_close(kv);
    free(x);
}

/* It stops after an end token, which is among the tokens. */
static void test_decode_stops_at_the_end(void **state)
{
    struct asker *s = *state;
    static struct teller t;
    teller_open(s, &t, 2);
    tell_slowly(s, &t, 30);
    int32_t end = t.want[20];
    uint32_t first = 0;
    while (t.want[first] != end) first++;
    do {
        go_on(s, &t, 60, &end);
        wait_all(s);
        assert_int_equal(t.job.rows.job.err, ERR_OK);
        t.n_got += t.job.n_tokens;
        assert_in_range(t.n_got, 1, first + 1);
    } while (t.job.token[t.job.n_tokens - 1] != end);
    assert_int_equal(t.n_got, first + 1);
    teller_close(&t);
}

/* A row that is not finite comes back as such, with the tokens before it. */
static void test_decode_says_what_is_not_finite(void **state)
{
    struct asker *s = *state;
    static struct teller t;
    float inf[1] = { INFINITY };
    teller_open(s, &t, 0);
    s->k->narrow(t.x, inf, 1, s->toy.a.exchange);
    go_on(s, &t, 10, NULL);
    wait_all(s);
    assert_int_equal(t.job.rows.job.err, ERR_NONFINITE);
    assert_int_equal(t.job.n_tokens, 0);
    assert_int_equal(t.job.rows.job.bad.pos, 0);
    teller_close(&t);
}

/* Stopped in the middle, wherever that is: every job is back. */
static void test_decode_and_close(void **state)
{
    struct asker *s = *state;
    static struct teller t[SESSIONS];
    for (uint32_t i = 0; i < SESSIONS; i++) {
        teller_open(s, &t[i], i);
        go_on(s, &t[i], DECODE_MAX, NULL);
    }
    compute_cancel(s->compute, t[0].kv);
    compute_close(s->compute);
    s->compute = NULL;
    wait_all(s);
    assert_int_equal(s->failed, 0);
    for (uint32_t i = 0; i < SESSIONS; i++) teller_close(&t[i]);
}

static void test_measure(void **state)
{
    struct asker *s = *state;
    struct pace pace = compute_measure(s->compute);
    assert_true(pace.layer_us > 0 && pace.prefill > 0 && pace.head_us > 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_batched_sessions_equal_lone_ones),
        TEST(test_nonfinite_hurts_only_its_session),
        TEST(test_cancel),
        TEST(test_close_gives_everything_back),
        TEST(test_wrong_position),
        TEST(test_next_tokens),
        TEST(test_decode_is_step_by_step),
        TEST(test_decode_stops_at_the_end),
        TEST(test_decode_says_what_is_not_finite),
        TEST(test_decode_and_close),
        TEST(test_measure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
