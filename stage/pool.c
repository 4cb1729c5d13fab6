/* pool.c - helpers that take tasks from one ticket.
 *
 * All that a helper must agree on to take a task fits one 64-bit word: which run this is, how many
 * tasks it has, and the next one.  A compare-and-swap that moves `next` therefore proves that the
 * run is still going on, so a helper that overslept can never touch a later run's task.
 *
 *     63      48 47      24 23       0
 *     [  run   ] [ tasks  ] [  next  ]
 */
#include "stage/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
    TASKS_MAX = (1 << 24) - 1,
    SPIN_NS = 50000,          /* helpers: longer than the gaps between the passes of a token */
    SPIN_CHECK = 64,          /* looks at the ticket between two looks at the clock */
    SPIN_BEFORE_YIELD = 2000, /* the caller: a helper may have lost its core in mid-task */
};

struct helper {
    struct pool *pool;
    unsigned index;
    pthread_t thread;
};

struct pool {
    struct workers workers; /* first: run gets a pointer to it */
    unsigned n_helpers;
    bool spin;             /* no: more threads than cores */
    struct helper *helper; /* owned: [n_helpers] */

    /* the run in progress: set before the ticket is published, stable until its last task is done
     */
    void (*task)(void *arg, uint32_t i);
    void *arg;

    _Alignas(64) _Atomic(uint64_t) ticket;
    _Alignas(64) atomic_uint done;
    _Alignas(64) atomic_uint sleepers;
    atomic_bool stop;
    pthread_mutex_t lock;      /* with the bells: for sleeping only */
    pthread_cond_t bell, rest; /* of those that may take part, and of the others */
    atomic_uint limit;         /* helpers that may */
    atomic_int nice;
};

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static bool has_task(uint64_t t)
{
    return (t & 0xffffff) < (t >> 24 & 0xffffff);
}

/* Do tasks while there are any. */
static void work(struct pool *p)
{
    uint64_t t = atomic_load_explicit(&p->ticket, memory_order_acquire);

    while (has_task(t)) {
        if (!atomic_compare_exchange_weak_explicit(&p->ticket, &t, t + 1, memory_order_acquire,
                                                   memory_order_acquire))
            continue;
        p->task(p->arg, (uint32_t)(t & 0xffffff));
        atomic_fetch_add_explicit(&p->done, 1, memory_order_release);
        t = atomic_load_explicit(&p->ticket, memory_order_acquire);
    }
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Wait a little for work without sleeping; false when it is time to sleep. */
static bool spin(struct pool *p)
{
    uint64_t until = p->spin ? now_ns() + SPIN_NS : 0;

    do {
        for (int i = 0; i < SPIN_CHECK; i++) {
            if (has_task(atomic_load_explicit(&p->ticket, memory_order_relaxed))) return true;
            relax();
        }
        sched_yield(); /* the loop may wait for this core, to send what was just computed */
    } while (p->spin && now_ns() < until);
    return false;
}

void pool_be_nice(int nice)
{
    const struct sched_param none = { 0 };
    if (nice >= POOL_IDLE) (void)pthread_setschedparam(pthread_self(), SCHED_IDLE, &none);
    if (nice > 0) (void)setpriority(PRIO_PROCESS, (id_t)gettid(), nice < 19 ? nice : 19);
}

static bool may_work(const struct helper *h)
{
    return h->index < atomic_load_explicit(&h->pool->limit, memory_order_relaxed);
}

/* Not wanted at all until the limit changes. */
static void rest(struct helper *h)
{
    struct pool *p = h->pool;
    pthread_mutex_lock(&p->lock);
    while (!may_work(h) && !atomic_load(&p->stop)) pthread_cond_wait(&p->rest, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

static void *helper(void *arg)
{
    struct helper *h = arg;
    struct pool *p = h->pool;
    int nice = 0;

    while (!atomic_load(&p->stop)) {
        if (nice != atomic_load(&p->nice)) pool_be_nice(nice = atomic_load(&p->nice));
        if (!may_work(h)) {
            rest(h);
            continue;
        }
        work(p);
        if (spin(p)) continue;
        pthread_mutex_lock(&p->lock);
        atomic_fetch_add(&p->sleepers,
                         1); /* before the last look: run publishes, then looks here */
        while (!has_task(atomic_load(&p->ticket)) && !atomic_load(&p->stop) && may_work(h) &&
               nice == atomic_load(&p->nice))
            pthread_cond_wait(&p->bell, &p->lock);
        atomic_fetch_sub(&p->sleepers, 1);
        pthread_mutex_unlock(&p->lock);
    }
    return NULL;
}

/* Everybody looks again. */
static void ring(struct pool *p)
{
    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->bell);
    pthread_cond_broadcast(&p->rest);
    pthread_mutex_unlock(&p->lock);
}

void pool_limit(struct pool *p, unsigned n)
{
    atomic_store(&p->limit, n > 0 ? n - 1 : 0);
    ring(p);
}

void pool_nice(struct pool *p, int nice)
{
    atomic_store(&p->nice, nice);
    ring(p);
}

static void run_some(struct pool *p, void (*task)(void *arg, uint32_t i), void *arg, uint32_t n)
{
    uint64_t t = atomic_load_explicit(&p->ticket, memory_order_relaxed);

    p->task = task;
    p->arg = arg;
    atomic_store_explicit(&p->done, 0, memory_order_relaxed);
    atomic_store(&p->ticket, ((t >> 48) + 1) << 48 | (uint64_t)n << 24);
    if (atomic_load(&p->sleepers) > 0) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_broadcast(&p->bell);
        pthread_mutex_unlock(&p->lock);
    }
    work(p);
    for (unsigned i = 0; atomic_load_explicit(&p->done, memory_order_acquire) < n; i++)
        if (i < SPIN_BEFORE_YIELD)
            relax();
        else
            sched_yield();
}

/* A task with its first index: more tasks than a ticket holds are several runs. */
struct shifted {
    void (*task)(void *arg, uint32_t i);
    void *arg;
    uint32_t first;
};
static void shifted_task(void *arg, uint32_t i)
{
    struct shifted *s = arg;
    s->task(s->arg, s->first + i);
}

static void run(struct workers *w, void (*task)(void *arg, uint32_t i), void *arg, uint32_t n)
{
    struct pool *p = (struct pool *)w;

    if (n <= TASKS_MAX) {
        if (n > 0) run_some(p, task, arg, n);
        return;
    }
    struct shifted s = { task, arg, 0 };
    for (uint32_t left = n; left > 0;) {
        uint32_t some = left < TASKS_MAX ? left : TASKS_MAX;
        run_some(p, shifted_task, &s, some);
        s.first += some;
        left -= some;
    }
}

unsigned pool_cores(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int n = CPU_COUNT(&set);
    return n > 0 ? (unsigned)n : 1;
}

enum err pool_open(struct pool **out, unsigned n)
{
    unsigned available = pool_cores();

    *out = NULL;
    if (n == 0) n = available;
    if (n > 1024) return ERR_RANGE;
    struct pool *p = aligned_alloc(64, (sizeof *p + 63) / 64 * 64);
    if (!p) return ERR_NOMEM;
    *p = (struct pool){ .workers = { .n = n, .run = run }, .spin = n <= available };
    p->helper = calloc(n, sizeof *p->helper);
    if (!p->helper) {
        free(p);
        return ERR_NOMEM;
    }
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->bell, NULL);
    pthread_cond_init(&p->rest, NULL);
    atomic_store(&p->limit, n);
    for (; p->n_helpers < n - 1; p->n_helpers++) {
        struct helper *h = &p->helper[p->n_helpers];
        *h = (struct helper){ .pool = p, .index = p->n_helpers };
        if (pthread_create(&h->thread, NULL, helper, h) != 0) {
            pool_close(p);
            return ERR_NOMEM;
        }
    }
    *out = p;
    return ERR_OK;
}

void pool_close(struct pool *p)
{
    if (!p) return;
    atomic_store(&p->stop, true);
    ring(p);
    for (unsigned i = 0; i < p->n_helpers; i++) pthread_join(p->helper[i].thread, NULL);
    pthread_cond_destroy(&p->bell);
    pthread_cond_destroy(&p->rest);
    pthread_mutex_destroy(&p->lock);
    free(p->helper);
    free(p);
}

struct workers *pool_workers(struct pool *p)
{
    return &p->workers;
}
