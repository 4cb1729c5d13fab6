#include "node/warm.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <uv.h>

struct warm {
    struct pager pager; /* first: soon gets a pointer to it */
    const struct weights *w;
    size_t page;
    bool fits;
    pthread_t thread;
    bool started;
    atomic_bool stop, done;
};

/* The pages of a tile, whole. */
struct span {
    uint8_t *p;
    size_t n;
};

static struct span span_of(const struct warm *m, const struct tensor *t, uint32_t tile)
{
    uintptr_t at = (uintptr_t)t->tile[tile], lo = at & ~(uintptr_t)(m->page - 1);
    uintptr_t hi = at + tiling_tile_bytes(&t->tiling, tile);

    return (struct span){ (uint8_t *)lo, (hi - lo + m->page - 1) & ~(size_t)(m->page - 1) };
}

/* Tiles under a page were copied out of the map (store/tiles.c). */
static bool is_copied(const struct warm *m, const struct tensor *t, uint32_t tile)
{
    return tiling_tile_bytes(&t->tiling, tile) < m->page;
}

/* Begin to read what is not in memory; does not wait.  Advice: it may fail. */
static void ask_for(struct span s)
{
    (void)madvise(s.p, s.n, MADV_WILLNEED);
}

/* --- the thread --- */

static void touch(const struct warm *m, struct span s)
{
    for (size_t at = 0; at < s.n; at += m->page) (void)*(volatile const uint8_t *)(s.p + at);
}

static bool touch_layer(struct warm *m, const struct layer *l)
{
    uint32_t n = l->t ? arch_n_specs(&m->w->manifest.arch, l->index) : 0;

    for (uint32_t i = 0; i < n; i++) {
        const struct tensor *t = &l->t[i];
        for (uint32_t tile = 0; t->tile && tile < t->tiling.tiles; tile++) {
            if (atomic_load_explicit(&m->stop, memory_order_relaxed)) return false;
            if (is_copied(m, t, tile)) continue;
            /* one ahead, so that the disk always has something to do */
            if (tile == 0) ask_for(span_of(m, t, 0));
            if (tile + 1 < t->tiling.tiles) ask_for(span_of(m, t, tile + 1));
            touch(m, span_of(m, t, tile));
        }
    }
    return true;
}

static void *touch_all(void *arg)
{
    struct warm *m = arg;
    struct sched_param none = { 0 };
    bool all = true;

    /* only cores that nobody else wants: a step must never wait for this */
    (void)pthread_setschedparam(pthread_self(), SCHED_IDLE, &none);
    for (uint32_t i = 0; i < m->w->all_hi - m->w->all_lo && all; i++)
        all = touch_layer(m, &m->w->all[i]);
    if (all) all = touch_layer(m, &m->w->ends);
    if (all) atomic_store(&m->done, true);
    return NULL;
}

/* --- what is needed soon --- */

static bool is_missing(const struct warm *m, struct span s)
{
    unsigned char in_memory[TILE_WIRE_MAX / 4096 + 2];

    if (s.n / m->page > sizeof in_memory || mincore(s.p, s.n, in_memory) != 0) return false;
    for (size_t i = 0; i < s.n / m->page; i++)
        if (!(in_memory[i] & 1)) return true;
    return false;
}

static void soon(struct pager *p, const struct tensor *t)
{
    struct warm *m = (struct warm *)p;

    if (atomic_load_explicit(&m->done, memory_order_relaxed) || !t->tile) return;
    for (uint32_t tile = 0; tile < t->tiling.tiles; tile++) {
        struct span s = span_of(m, t, tile);
        /* looking costs 1 us, asking for what is there 17 */
        if (!is_copied(m, t, tile) && is_missing(m, s)) ask_for(s);
    }
}

/* --- opening and closing --- */

static uint64_t held_bytes(const struct weights *w)
{
    uint64_t bytes = weights_bytes(w, ARCH_ENDS);

    for (uint32_t i = w->all_lo; i < w->all_hi; i++) bytes += weights_bytes(w, i);
    return bytes;
}

enum err warm_open(struct warm **out, const struct weights *w, uint64_t fits_bytes)
{
    struct warm *m = calloc(1, sizeof *m);

    *out = NULL;
    if (!m) return ERR_NOMEM;
    m->pager.soon = soon;
    m->w = w;
    m->page = (size_t)sysconf(_SC_PAGESIZE);
    m->fits = held_bytes(w) <= fits_bytes;
    if (m->fits && pthread_create(&m->thread, NULL, touch_all, m) != 0) {
        free(m);
        return ERR_NOMEM;
    }
    m->started = m->fits;
    *out = m;
    return ERR_OK;
}

void warm_close(struct warm *m)
{
    if (!m) return;
    atomic_store(&m->stop, true);
    if (m->started) pthread_join(m->thread, NULL);
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

uint64_t warm_room(void)
{
    uint64_t all = uv_get_total_memory(), limit = uv_get_constrained_memory();

    if (limit > 0 && limit < all) all = limit;
    return all / 4 * 3;
}
