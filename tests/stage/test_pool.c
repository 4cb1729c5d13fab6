/* Every task once, whatever the number of tasks, threads and runs; nobody is left asleep. */
#include "stage/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

struct job {
    atomic_uint *hits;
    uint64_t *plain; /* written without atomics: the join must make it visible */
    uint64_t round;
};

static void touch(void *arg, uint32_t i)
{
    struct job *j = arg;

    atomic_fetch_add_explicit(&j->hits[i], 1, memory_order_relaxed);
    j->plain[i] = j->round * 1000003 + i;
}

static void once(struct pool *p, uint32_t n, uint64_t round)
{
    struct workers *w = pool_workers(p);
    struct job j = { calloc(n + 1, sizeof *j.hits), calloc(n + 1, sizeof *j.plain), round };

    w->run(w, touch, &j, n);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(j.hits[i], 1);
        assert_int_equal(j.plain[i], round * 1000003 + i);
    }
    assert_int_equal(j.hits[n], 0);
    free(j.hits);
    free(j.plain);
}

static void each_task_once(void **state)
{
    (void)state;
    for (unsigned threads = 1; threads <= 5; threads++) {
        struct pool *p;
        assert_int_equal(pool_open(&p, threads), ERR_OK);
        assert_int_equal(pool_workers(p)->n, threads);
        for (uint64_t round = 0; round < 3000; round++) once(p, (uint32_t)(round % 9), round);
        once(p, 100000, 1);
        pool_close(p);
    }
}

/* Runs after pauses in which the helpers have gone to sleep. */
static void wakes_up(void **state)
{
    struct pool *p;
    (void)state;

    assert_int_equal(pool_open(&p, 3), ERR_OK);
    for (uint64_t round = 0; round < 60; round++) {
        nanosleep(&(struct timespec){ 0, (long)(round % 6) * 100000 }, NULL);
        once(p, 50, round);
    }
    pool_close(p);
}

/* More tasks than one ticket counts. */
static void count(void *arg, uint32_t i)
{
    uint64_t *sum = arg;
    *sum += i;
}
static void very_many(void **state)
{
    struct pool *p;
    uint64_t sum = 0, n = (1u << 24) + 12345;
    (void)state;

    assert_int_equal(pool_open(&p, 1), ERR_OK);
    pool_workers(p)->run(pool_workers(p), count, &sum, (uint32_t)n);
    assert_int_equal(sum, n * (n - 1) / 2);
    pool_close(p);
}

static void sizes(void **state)
{
    struct pool *p;
    (void)state;

    assert_int_equal(pool_open(&p, 0), ERR_OK);
    assert_true(pool_workers(p)->n >= 1);
    pool_close(p);
    assert_int_equal(pool_open(&p, 100000), ERR_RANGE);
    assert_null(p);
    pool_close(NULL);
}

/* However many of them take part, and while that changes. */
static void some_rest(void **state)
{
    struct pool *p;
    (void)state;

    assert_int_equal(pool_open(&p, 4), ERR_OK);
    pool_nice(p, 5);
    for (uint64_t round = 0; round < 400; round++) {
        pool_limit(p, (unsigned)(round / 7 % 5));
        once(p, 50, round);
        if (round % 50 == 0) nanosleep(&(struct timespec){ 0, 200000 }, NULL);
    }
    pool_nice(p, POOL_IDLE);
    pool_limit(p, 1);
    pool_close(p); /* some rest, some sleep */
}

/* How many threads compute at once with a limit, after helpers had the time to hear of it. */
static atomic_uint at_once, most;
static void be_seen(void *arg, uint32_t i)
{
    unsigned now = atomic_fetch_add(&at_once, 1) + 1, had = atomic_load(&most);
    (void)arg, (void)i;
    while (now > had && !atomic_compare_exchange_weak(&most, &had, now)) continue;
    nanosleep(&(struct timespec){ 0, 300000 }, NULL);
    atomic_fetch_sub(&at_once, 1);
}
static void not_more_than_the_limit(void **state)
{
    struct pool *p;
    (void)state;

    assert_int_equal(pool_open(&p, 4), ERR_OK);
    for (unsigned limit = 1; limit <= 4; limit++) {
        pool_limit(p, limit);
        for (int tries = 0; tries < 5; tries++) { /* one may have been in the middle of a look */
            atomic_store(&most, 0);
            pool_workers(p)->run(pool_workers(p), be_seen, NULL, 40);
            if (tries > 0 && atomic_load(&most) <= limit) break;
        }
        assert_true(atomic_load(&most) <= limit);
    }
    assert_true(atomic_load(&most) > 1);
    pool_close(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_task_once), cmocka_unit_test(wakes_up),
        cmocka_unit_test(very_many),      cmocka_unit_test(sizes),
        cmocka_unit_test(some_rest),      cmocka_unit_test(not_more_than_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
