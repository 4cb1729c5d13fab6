#include "weights/depot.h"

#include <stdlib.h>

struct depot {
    struct hub *hub;     /* borrowed */
    struct store *store; /* borrowed */
    uv_work_t work;
    struct depot_job *running;       /* the owner's */
    struct depot_job *first, **last; /* that wait */
    bool closing;
};

static void start_next(struct depot *d);

static void on_work(uv_work_t *w)
{
    struct depot *d = w->data;
    d->running->run(d->running, d->store);
}

static void on_after(uv_work_t *w, int status)
{
    struct depot *d = w->data;
    struct depot_job *j = d->running;

    d->running = NULL;
    j->cancelled = status != 0;
    j->done(j);
    if (d->closing)
        free(d);
    else
        start_next(d);
}

static void start_next(struct depot *d)
{
    struct depot_job *j = d->first;

    if (!j || d->running) return;
    d->first = j->next;
    if (!d->first) d->last = &d->first;
    d->running = j;
    d->work.data = d;
    if (uv_queue_work(&d->hub->loop, &d->work, on_work, on_after)) abort(); /* it cannot fail */
}

void depot_do(struct depot *d, struct depot_job *j)
{
    j->cancelled = d->closing;
    j->next = NULL;
    if (d->closing) {
        j->done(j);
        return;
    }
    *d->last = j;
    d->last = &j->next;
    start_next(d);
}

bool depot_is_idle(const struct depot *d)
{
    return !d->running && !d->first;
}

enum err depot_open(struct depot **out, struct hub *hub, struct store *s)
{
    struct depot *d = calloc(1, sizeof *d);

    if (!d) return ERR_NOMEM;
    d->hub = hub;
    d->store = s;
    d->last = &d->first;
    *out = d;
    return ERR_OK;
}

void depot_close(struct depot *d)
{
    if (!d) return;
    d->closing = true;
    for (struct depot_job *j = d->first, *next; j; j = next) {
        next = j->next;
        j->cancelled = true;
        j->done(j);
    }
    d->first = NULL;
    if (!d->running) free(d);
}
