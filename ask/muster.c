#include "ask/muster.h"

#include <stdlib.h>

struct muster {
    struct compute *compute;
    uv_timer_t *timer;         /* closed by muster_close, freed when libuv lets go */
    struct job *first, **last; /* borrowed */
    uint32_t n;
};

static void release(struct muster *m)
{
    struct job *j = m->first;
    m->first = NULL;
    m->last = &m->first;
    m->n = 0;
    uv_timer_stop(m->timer);
    while (j) {
        struct job *next = j->next;
        compute_next(m->compute, (struct next_job *)j);
        j = next;
    }
}

static void on_timer(uv_timer_t *t)
{
    release(t->data);
}

void muster_next(struct muster *m, struct next_job *j, uint64_t most_us)
{
    j->job.next = NULL;
    *m->last = &j->job;
    m->last = &j->job.next;
    m->n++;
    if (m->n >= j->together)
        release(m);
    else if (m->n == 1)
        uv_timer_start(m->timer, on_timer, most_us / 1000 + 1, 0);
}

enum err muster_open(struct muster **out, struct hub *hub, struct compute *compute)
{
    struct muster *m = calloc(1, sizeof *m);
    uv_timer_t *timer = malloc(sizeof *timer);
    if (!m || !timer) {
        free(timer);
        free(m);
        return ERR_NOMEM;
    }
    *m = (struct muster){ .compute = compute, .timer = timer, .last = &m->first };
    uv_timer_init(&hub->loop, timer);
    timer->data = m;
    *out = m;
    return ERR_OK;
}

static void on_closed(uv_handle_t *h)
{
    free(h);
}

void muster_close(struct muster *m)
{
    if (!m) return;
    uv_close((uv_handle_t *)m->timer, on_closed);
    free(m);
}
