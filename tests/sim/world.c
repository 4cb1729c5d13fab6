#include "tests/sim/world.h"

#include "base/log.h"

#include <assert.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { START_US = 1000 * SECOND, UNIX_START = 1800000000 };

struct event {
    uint64_t at, due, seq; /* due: before its place was frozen */
    struct place *place;
    void (*run)(void *arg);
    void *arg;
    size_t index; /* in the heap */
};

static struct world {
    uint64_t seed, now, seq, hash, steps;
    uint64_t chance[CHANCES];
    struct event **heap; /* owned */
    size_t n, cap;
    struct event *spare; /* owned: a list, by arg */
    struct place *here;
    bool is_verbose, failed;
} w;

/* --- chance --- */

uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t z = a * 0x9e3779b97f4a7c15u + b + 0x2545f4914f6cdd1du;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t draw(enum chance c)
{
    w.chance[c]++;
    return mix(mix(w.seed, (uint64_t)c + 1), w.chance[c]);
}

uint64_t draw_below(enum chance c, uint64_t n)
{
    return n ? draw(c) % n : 0;
}

uint64_t draw_from(enum chance c, uint64_t lo, uint64_t hi)
{
    return lo + draw_below(c, hi - lo + 1);
}

bool draw_is(enum chance c, unsigned percent)
{
    return draw_below(c, 100) < percent;
}

/* libsodium's random bytes are the world's. */
static const char *random_name(void)
{
    return "sim";
}
static uint32_t random_u32(void)
{
    return (uint32_t)draw(FOR_NODES);
}
static void random_buf(void *out, size_t n)
{
    for (uint8_t *p = out; n > 0;) {
        uint64_t r = draw(FOR_NODES);
        size_t k = n < sizeof r ? n : sizeof r;
        memcpy(p, &r, k);
        p += k;
        n -= k;
    }
}
static randombytes_implementation chance_of_nodes = { random_name, random_u32, NULL,
                                                      NULL,        random_buf, NULL };

/* --- the queue: a heap by (at, due, seq) --- */

static bool is_before(const struct event *a, const struct event *b)
{
    if (a->at != b->at) return a->at < b->at;
    if (a->due != b->due) return a->due < b->due;
    return a->seq < b->seq;
}

static void put(size_t i, struct event *e)
{
    w.heap[i] = e;
    e->index = i;
}

static void sift_up(size_t i)
{
    struct event *e = w.heap[i];
    while (i > 0 && is_before(e, w.heap[(i - 1) / 2])) {
        put(i, w.heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    put(i, e);
}

static void sift_down(size_t i)
{
    struct event *e = w.heap[i];
    for (;;) {
        size_t k = 2 * i + 1;
        if (k >= w.n) break;
        if (k + 1 < w.n && is_before(w.heap[k + 1], w.heap[k])) k++;
        if (!is_before(w.heap[k], e)) break;
        put(i, w.heap[k]);
        i = k;
    }
    put(i, e);
}

static void insert(struct event *e)
{
    if (w.n == w.cap) {
        w.cap = w.cap ? 2 * w.cap : 1024;
        w.heap = realloc(w.heap, w.cap * sizeof *w.heap);
        if (!w.heap) abort();
    }
    w.heap[w.n] = e;
    sift_up(w.n++);
}

static void take_out(struct event *e)
{
    size_t i = e->index;
    struct event *last = w.heap[--w.n];
    if (last == e) return;
    w.heap[i] = last;
    last->index = i;
    sift_up(i);
    sift_down(last->index);
}

static void recycle(struct event *e)
{
    e->arg = w.spare;
    w.spare = e;
}

struct event *world_at(struct place *p, uint64_t us, void (*run)(void *arg), void *arg)
{
    struct event *e = w.spare;
    if (e)
        w.spare = e->arg;
    else if (!(e = malloc(sizeof *e)))
        abort();
    uint64_t at = us > w.now ? us : w.now;
    *e = (struct event){ .at = at, .due = at, .seq = ++w.seq, .place = p, .run = run, .arg = arg };
    insert(e);
    return e;
}

void world_cancel(struct event *e)
{
    if (!e) return;
    take_out(e);
    recycle(e);
}

/* --- the clock --- */

bool place_is_frozen(const struct place *p)
{
    return p->thaw_us > w.now;
}

static void step(void)
{
    struct event *e = w.heap[0];
    w.now = e->at;
    take_out(e);
    if (e->place && place_is_frozen(e->place)) {
        e->at = e->place->thaw_us;
        insert(e);
        return;
    }
    struct event copy = *e;
    recycle(e);
    w.steps++;
    w.here = copy.place;
    w.hash = mix(w.hash, copy.at);
    copy.run(copy.arg);
    w.here = NULL;
}

void world_run(uint64_t until_us)
{
    while (!w.failed && w.n > 0 && w.heap[0]->at <= until_us) step();
    if (!w.failed && w.now < until_us) w.now = until_us;
}

bool world_is_idle(uint64_t until_us)
{
    return w.n == 0 || w.heap[0]->at > until_us;
}

uint64_t world_us(void)
{
    return w.now;
}

uint64_t world_hash(void)
{
    return w.hash;
}

uint64_t world_steps(void)
{
    return w.steps;
}

struct place *world_here(void)
{
    return w.here;
}

struct place *world_enter(struct place *p)
{
    struct place *before = w.here;
    w.here = p;
    return before;
}

void world_begin(uint64_t seed, bool is_verbose)
{
    if (sodium_init() < 0) abort(); /* draws, the first time */
    w = (struct world){ .seed = mix(seed, 42), .now = START_US, .is_verbose = is_verbose };
    w.hash = mix(seed, 7);
    if (randombytes_set_implementation(&chance_of_nodes)) abort();
}

void world_end(void)
{
    for (size_t i = 0; i < w.n; i++) free(w.heap[i]);
    free(w.heap);
    while (w.spare) {
        struct event *next = w.spare->arg;
        free(w.spare);
        w.spare = next;
    }
    w.heap = NULL;
    w.n = w.cap = 0;
}

/* --- clocks that nodes read: the linker puts these in the place of the C library's --- */

int __wrap_clock_gettime(clockid_t id, struct timespec *t);
time_t __wrap_time(time_t *out);

static uint64_t unix_us(void)
{
    int64_t skew = w.here ? w.here->skew_s : 0;
    return (uint64_t)((int64_t)UNIX_START + skew) * SECOND + w.now;
}

int __wrap_clock_gettime(clockid_t id, struct timespec *t)
{
    uint64_t us = id == CLOCK_REALTIME ? unix_us() : w.now;
    *t =
        (struct timespec){ .tv_sec = (time_t)(us / SECOND), .tv_nsec = (long)(us % SECOND) * 1000 };
    return 0;
}

time_t __wrap_time(time_t *out)
{
    time_t t = (time_t)(unix_us() / SECOND);
    if (out) *out = t;
    return t;
}

/* --- the trace --- */

bool trace_is_on(void)
{
    return w.is_verbose;
}

void trace_bytes(const void *p, size_t n)
{
    const uint8_t *b = p;
    uint64_t h = w.hash;
    for (; n >= 8; b += 8, n -= 8) {
        uint64_t x;
        memcpy(&x, b, 8);
        h = mix(h, x);
    }
    uint64_t rest = 0;
    memcpy(&rest, b, n);
    w.hash = mix(h, rest);
}

static void say(const char *mark, const char *text)
{
    printf("%12.6f %-6s %s%s\n", (double)(w.now - START_US) / SECOND, w.here ? w.here->name : "-",
           mark, text);
}

void trace(const char *fmt, ...)
{
    if (!w.is_verbose) return;
    char text[600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    say("", text);
}

void broken(const char *fmt, ...)
{
    char text[600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!w.failed) say("BROKEN: ", text);
    w.failed = true;
}

bool world_failed(void)
{
    return w.failed;
}

/* In the place of base/log.c: what nodes log is part of the trace. */
void log_set_level(enum log_level level)
{
    (void)level;
}

void log_line(enum log_level level, const char *fmt, ...)
{
    static const char *const mark[] = { "error: ", "warning: ", "", "debug: " };
    if (!w.is_verbose) return;
    char text[600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    say(mark[level], text);
}
