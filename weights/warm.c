#include "weights/warm.h"

#include "base/log.h"
#include "weights/learnt.h"
#include "weights/memory.h"
#include "weights/units.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

/* Reads under way at a time: a disk needs several to be at its best, and guesses must leave it to
 * what is sure. */
enum { READERS = 4, GUESSING_MAX = 2 };

static const float WORTH_ALWAYS = 2; /* keep.h */
static const float BAR_MIN = 0.5f, BUSY_RATE = 1.0f / 32;
enum { PAUSE_NS = 500 * 1000 * 1000 }; /* between two layers: no step was under way */

struct warm {
    struct pager pager; /* first: its functions get a pointer to it */
    const char *learnt; /* borrowed; NULL: none */
    struct units units;
    bool fits;
    pthread_t reader[READERS], filler, idler;
    unsigned readers;     /* started */
    bool filling, idling; /* started */
    sem_t idle_go, idle_came;
    uint32_t idle_unit; /* the filler's while the idler waits, and the other way round */
    atomic_bool stop, done;
    atomic_bool *here; /* owned; [units]: IN, for those who only look */

    /* the queue of reads and what decides about it; guarded by lock */
    pthread_mutex_t lock;
    pthread_cond_t asked, came;
    struct keep *keep;                     /* owned */
    uint32_t n_in;                         /* units */
    uint32_t reading, guessing;            /* reads under way, and those of guesses */
    uint64_t done_ns;                      /* when a layer was done last */
    uint64_t reading_since_ns, reading_ns; /* how long there were reads since then */
    float busy;                            /* the share of steps' time with reads under way */
    uint32_t lazy;                         /* what the idler reads: nobody waits for that */
    uint64_t read, forgotten;
    atomic_uint_fast64_t waited_ns;
};

static void wait_on(sem_t *s)
{
    while (sem_wait(s) != 0) {
    } /* a signal came */
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- reading and forgetting; called with the lock, which is given up meanwhile --- */

static void forget(struct warm *m, uint32_t unit)
{
    m->n_in--;
    m->forgotten += m->units.unit[unit].bytes;
    pthread_mutex_unlock(&m->lock);
    units_forget(&m->units, unit);
    pthread_mutex_lock(&m->lock);
}

/* keep has marked it OUT: so do we, before anybody can ask for it anew. */
static bool make_room(struct warm *m)
{
    uint32_t unit = keep_victim(m->keep);

    if (unit == KEEP_NONE) return false;
    atomic_store(&m->here[unit], false);
    forget(m, unit);
    return true;
}

/* The processor makes room while the disk is at work.  What is in the page cache already is left to
 * the faults of the step, which waits. */
static void read_unit(struct warm *m, uint32_t unit)
{
    pthread_mutex_unlock(&m->lock);
    bool is_coming = units_ask(&m->units, unit);
    pthread_mutex_lock(&m->lock);
    while (make_room(m)) {
    }
    pthread_mutex_unlock(&m->lock);
    if (is_coming) units_touch(&m->units, unit, &m->stop);
}

/* It is IN for keep: for all others, too. */
static void is_in(struct warm *m, uint32_t unit)
{
    m->n_in++;
    atomic_store(&m->here[unit], true);
    if (m->fits && m->n_in == m->units.n) {
        atomic_store(&m->done, true);
        pthread_cond_broadcast(&m->asked); /* the readers end */
    }
    pthread_cond_broadcast(&m->came);
}

static void end_unit(struct warm *m, uint32_t unit)
{
    pthread_mutex_lock(&m->lock);
    keep_came(m->keep, unit);
    m->read += m->units.unit[unit].bytes;
    is_in(m, unit);
}

static bool is_over(const struct warm *m)
{
    return atomic_load(&m->stop) || (m->fits && atomic_load(&m->done));
}

static void *read_what_is_asked(void *arg)
{
    struct warm *m = arg;

    pthread_mutex_lock(&m->lock);
    while (!is_over(m)) {
        uint32_t unit = keep_next(m->keep, m->guessing < GUESSING_MAX);
        if (unit == KEEP_NONE) {
            if (!make_room(m)) pthread_cond_wait(&m->asked, &m->lock);
            continue;
        }
        bool is_guess = !keep_is_sure(m->keep, unit);
        m->guessing += is_guess;
        if (m->reading++ == 0) m->reading_since_ns = now_ns();
        read_unit(m, unit);
        end_unit(m, unit);
        m->guessing -= is_guess;
        if (--m->reading == 0) m->reading_ns += now_ns() - m->reading_since_ns;
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

/* Runs only on cores that nobody else wants, since a step must never wait for this; so it takes no
 * lock. */
static void *read_when_idle(void *arg)
{
    struct warm *m = arg;
    struct sched_param none = { 0 };

    (void)pthread_setschedparam(pthread_self(), SCHED_IDLE, &none);
    for (;;) {
        wait_on(&m->idle_go);
        if (m->idle_unit == KEEP_NONE) return NULL;
        (void)units_ask(&m->units, m->idle_unit);
        units_touch(&m->units, m->idle_unit, &m->stop);
        sem_post(&m->idle_came);
    }
}

static void *fill_the_room(void *arg)
{
    struct warm *m = arg;

    pthread_mutex_lock(&m->lock);
    while (!atomic_load(&m->stop) && (m->lazy = keep_fill(m->keep)) != KEEP_NONE) {
        pthread_mutex_unlock(&m->lock);
        m->idle_unit = m->lazy;
        sem_post(&m->idle_go);
        wait_on(&m->idle_came);
        end_unit(m, m->lazy);
    }
    m->lazy = KEEP_NONE;
    if (!m->fits) atomic_store(&m->done, true);
    pthread_cond_broadcast(&m->asked);
    pthread_mutex_unlock(&m->lock);
    m->idle_unit = KEEP_NONE;
    sem_post(&m->idle_go);
    return NULL;
}

/* --- what steps say --- */

static bool wants(struct pager *p)
{
    struct warm *m = (struct warm *)p;
    return !(m->fits && atomic_load_explicit(&m->done, memory_order_relaxed));
}

/* A guess that comes true saves at most the time its read takes where the disk would have nothing
 * to do; one that does not costs that time where it has. */
static float bar(const struct warm *m)
{
    return m->busy > BAR_MIN ? m->busy : BAR_MIN;
}

/* How busy the disk is while steps run, over about the last 30 layers. */
static void measure(struct warm *m)
{
    uint64_t now = now_ns(), all = now - m->done_ns;

    if (m->reading > 0) m->reading_ns += now - m->reading_since_ns;
    m->reading_since_ns = now;
    if (all > 0 && all < PAUSE_NS)
        m->busy += BUSY_RATE * ((float)m->reading_ns / (float)all - m->busy);
    m->done_ns = now;
    m->reading_ns = 0;
}

static void need(struct warm *m, const struct tensor *w, bool sure, uint32_t rank)
{
    uint32_t unit = units_of(&m->units, w);

    if (unit == UNIT_NONE) return;
    bool was_here = atomic_load_explicit(&m->here[unit], memory_order_relaxed);
    bool is_lost = sure && was_here && !m->fits && !units_holds(&m->units, w);
    /* a warm page cache: to be told so by another thread would cost ten times as much */
    bool is_found = sure && !was_here && m->fits && units_are_there(&m->units, unit);
    pthread_mutex_lock(&m->lock);
    if (is_found && keep_state(m->keep, unit) == KEEP_OUT) {
        keep_found(m->keep, unit);
        is_in(m, unit);
    }
    if (is_lost && keep_state(m->keep, unit) == KEEP_IN) {
        keep_lost(m->keep, unit);
        atomic_store(&m->here[unit], false);
        m->n_in--;
    }
    if (sure ? keep_need(m->keep, unit) : keep_guess(m->keep, unit, rank, bar(m)))
        pthread_cond_signal(&m->asked);
    pthread_mutex_unlock(&m->lock);
}

static void soon(struct pager *p, const struct tensor *w)
{
    need((struct warm *)p, w, true, 0);
}

static void maybe(struct pager *p, const struct tensor *w, uint32_t rank)
{
    need((struct warm *)p, w, false, rank);
}

static bool is_here(struct pager *p, const struct tensor *w)
{
    struct warm *m = (struct warm *)p;
    uint32_t unit = units_of(&m->units, w);

    return unit == UNIT_NONE || atomic_load_explicit(&m->here[unit], memory_order_relaxed);
}

static void wait_for(struct pager *p, const struct tensor *w)
{
    struct warm *m = (struct warm *)p;
    uint32_t unit = units_of(&m->units, w);

    if (unit == UNIT_NONE || atomic_load_explicit(&m->here[unit], memory_order_acquire)) return;
    uint64_t start = now_ns();
    pthread_mutex_lock(&m->lock);
    while (!is_over(m) && unit != m->lazy && keep_is_wanted(m->keep, unit))
        pthread_cond_wait(&m->came, &m->lock);
    pthread_mutex_unlock(&m->lock);
    atomic_fetch_add_explicit(&m->waited_ns, now_ns() - start, memory_order_relaxed);
}

static void done(struct pager *p, uint32_t layer)
{
    struct warm *m = (struct warm *)p;

    pthread_mutex_lock(&m->lock);
    measure(m);
    keep_done(m->keep, layer - m->units.w->all_lo);
    if (keep_bytes(m->keep) > keep_room(m->keep)) pthread_cond_signal(&m->asked);
    pthread_mutex_unlock(&m->lock);
}

/* --- opening and closing --- */

static enum err open_keep(struct warm *m, uint64_t fits_bytes)
{
    const struct units *u = &m->units;
    uint32_t layers = u->w->all_hi - u->w->all_lo + 1;
    enum err e = keep_open(&m->keep, layers, u->n, m->fits ? UINT64_MAX : fits_bytes);

    if (e) return e;
    m->here = calloc((size_t)u->n + 1, sizeof *m->here);
    if (!m->here) return ERR_NOMEM;
    for (uint32_t i = 0; i < u->n; i++)
        (void)keep_add(m->keep, u->unit[i].layer, u->unit[i].bytes,
                       u->unit[i].always ? WORTH_ALWAYS : 0, u->unit[i].expert != UNIT_NONE);
    return ERR_OK;
}

static enum err start(struct warm *m)
{
    while (m->readers < READERS &&
           pthread_create(&m->reader[m->readers], NULL, read_what_is_asked, m) == 0)
        m->readers++;
    m->idling = m->readers > 0 && pthread_create(&m->idler, NULL, read_when_idle, m) == 0;
    m->filling = m->idling && pthread_create(&m->filler, NULL, fill_the_room, m) == 0;
    return m->filling ? ERR_OK : ERR_NOMEM;
}

enum err warm_open(struct warm **out, const struct weights *w, uint64_t fits_bytes,
                   const char *learnt)
{
    struct warm *m = calloc(1, sizeof *m);

    *out = NULL;
    if (!m) return ERR_NOMEM;
    m->pager = (struct pager){ wants, soon, maybe, is_here, wait_for, done };
    m->learnt = learnt;
    m->lazy = KEEP_NONE;
    m->idle_unit = KEEP_NONE;
    sem_init(&m->idle_go, 0, 0);
    sem_init(&m->idle_came, 0, 0);
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->asked, NULL);
    pthread_cond_init(&m->came, NULL);
    enum err e = units_open(&m->units, w);
    m->fits = m->units.bytes <= fits_bytes;
    if (m->fits) m->pager.maybe = NULL; /* it is a matter of seconds */
    if (!e) e = open_keep(m, fits_bytes);
    if (!e && m->units.n == 0) {
        atomic_store(&m->done, true); /* small enough to have been copied */
        *out = m;
        return ERR_OK;
    }
    if (!e && learnt && !m->fits) learnt_read(learnt, &m->units, m->keep);
    if (!e) e = start(m);
    if (e) {
        warm_close(m);
        return e;
    }
    *out = m;
    return ERR_OK;
}

void warm_close(struct warm *m)
{
    if (!m) return;
    pthread_mutex_lock(&m->lock);
    atomic_store(&m->stop, true);
    pthread_cond_broadcast(&m->asked);
    pthread_cond_broadcast(&m->came);
    pthread_mutex_unlock(&m->lock);
    for (unsigned i = 0; i < m->readers; i++) pthread_join(m->reader[i], NULL);
    if (m->filling)
        pthread_join(m->filler, NULL);
    else
        sem_post(&m->idle_go); /* idle_unit is KEEP_NONE */
    if (m->idling) pthread_join(m->idler, NULL);
    if (m->filling && m->learnt && !m->fits) learnt_write(m->learnt, &m->units, m->keep);
    sem_destroy(&m->idle_came);
    sem_destroy(&m->idle_go);
    pthread_cond_destroy(&m->came);
    pthread_cond_destroy(&m->asked);
    pthread_mutex_destroy(&m->lock);
    keep_close(m->keep);
    free(m->here);
    units_close(&m->units);
    free(m);
}

struct pager *warm_pager(struct warm *m)
{
    return &m->pager;
}

bool warm_is_done(const struct warm *m)
{
    return atomic_load(&m->done);
}

void warm_counts(struct warm *m, struct warm_counts *out)
{
    pthread_mutex_lock(&m->lock);
    *out = (struct warm_counts){ .bytes = m->units.bytes,
                                 .room = keep_room(m->keep),
                                 .held = keep_bytes(m->keep),
                                 .read = m->read,
                                 .forgotten = m->forgotten,
                                 .waited_ns = atomic_load(&m->waited_ns),
                                 .routed = keep_counts(m->keep) };
    pthread_mutex_unlock(&m->lock);
}

uint64_t warm_room(void)
{
    return memory_limit() / 4 * 3;
}
