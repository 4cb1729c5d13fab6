/* uv_sim.c - the part of libuv that actors use, over the world's clock.
 *
 * Many loops live in one process, one per simulated node; a loop belongs to the place that was
 * entered when it was made.  Nothing here blocks: uv_run only ends what is being closed.  Work of
 * uv_queue_work takes a moment of the world's time and runs on the world's only thread.  A function
 * that is not here is in uv_missing.c and says so when it is called. */
#include "net/bell.h"
#include "tests/sim/world.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { HANDLE_CLOSING = 1, HANDLE_CLOSED = 2 };

struct work {
    struct work *next;
    uv_work_t *req; /* borrowed */
    struct event *event;
    struct sim_loop *loop;
    uv_work_cb work;
    uv_after_work_cb after;
};

struct sim_loop {
    uv_loop_t *uv;
    struct place *place;
    uv_handle_t *handles; /* a list through u.reserved[0] */
    uv_handle_t *closing; /* a list through next_closing */
    struct event *closer;
    struct work *works; /* owned */
};

static struct sim_loop *loop_of(const uv_loop_t *l)
{
    return l->internal_fields;
}

/* --- time --- */

uint64_t uv_now(const uv_loop_t *l)
{
    (void)l;
    return world_us() / MS;
}

uint64_t uv_hrtime(void)
{
    return world_us() * 1000;
}

void uv_update_time(uv_loop_t *l)
{
    (void)l;
}

uint64_t uv_get_total_memory(void)
{
    return (uint64_t)16 << 30;
}

/* --- locks: there is one thread --- */

int uv_mutex_init(uv_mutex_t *m)
{
    memset(m, 0, sizeof *m);
    return 0;
}
void uv_mutex_destroy(uv_mutex_t *m)
{
    (void)m;
}
void uv_mutex_lock(uv_mutex_t *m)
{
    (void)m;
}
void uv_mutex_unlock(uv_mutex_t *m)
{
    (void)m;
}

/* --- loops --- */

int uv_loop_init(uv_loop_t *l)
{
    memset(l, 0, sizeof *l);
    struct sim_loop *s = calloc(1, sizeof *s);
    if (!s) return UV_ENOMEM;
    s->uv = l;
    s->place = world_here();
    assert(s->place);
    l->internal_fields = s;
    return 0;
}

int uv_loop_close(uv_loop_t *l)
{
    struct sim_loop *s = loop_of(l);
    if (s->handles || s->closing || s->works) return UV_EBUSY;
    free(s);
    l->internal_fields = NULL;
    return 0;
}

void uv_stop(uv_loop_t *l)
{
    l->stop_flag = 1;
}

static void handle_init(uv_loop_t *l, uv_handle_t *h, uv_handle_type type, size_t size)
{
    struct sim_loop *s = loop_of(l);
    void *data = h->data;
    memset(h, 0, size);
    h->data = data;
    h->loop = l;
    h->type = type;
    h->u.reserved[0] = s->handles;
    s->handles = h;
}

static void forget_handle(struct sim_loop *s, const uv_handle_t *h)
{
    uv_handle_t **at = &s->handles;
    while (*at != h) at = (uv_handle_t **)&(*at)->u.reserved[0];
    *at = h->u.reserved[0];
}

static void close_all(struct sim_loop *s)
{
    while (s->closing) {
        uv_handle_t *h = s->closing;
        s->closing = h->next_closing;
        h->flags = HANDLE_CLOSED;
        forget_handle(s, h);
        if (h->close_cb) h->close_cb(h);
    }
}

static void on_closer(void *arg)
{
    struct sim_loop *s = arg;
    s->closer = NULL;
    close_all(s);
}

static void finish_work(struct work *k)
{
    struct work **at = &k->loop->works;
    while (*at != k) at = &(*at)->next;
    *at = k->next;
    k->work(k->req);
    uv_after_work_cb after = k->after;
    uv_work_t *req = k->req;
    free(k);
    if (after) after(req, 0);
}

/* The end of a loop: what is closing is closed, work is finished, and nothing else happens. */
int uv_run(uv_loop_t *l, uv_run_mode mode)
{
    struct sim_loop *s = loop_of(l);
    struct place *before = world_enter(s->place);
    (void)mode;
    while (s->closing || s->works) {
        while (s->works) {
            world_cancel(s->works->event);
            finish_work(s->works);
        }
        world_cancel(s->closer);
        s->closer = NULL;
        close_all(s);
    }
    (void)world_enter(before);
    return 0;
}

void uv_walk(uv_loop_t *l, uv_walk_cb f, void *arg)
{
    for (uv_handle_t *h = loop_of(l)->handles, *next; h; h = next) {
        next = h->u.reserved[0];
        f(h, arg);
    }
}

const char *uv_handle_type_name(uv_handle_type type)
{
    return type == UV_TIMER ? "timer" : type == UV_POLL ? "poll" : "strange";
}

int uv_is_closing(const uv_handle_t *h)
{
    return h->flags != 0;
}

/* --- timers; u.reserved[1] is the event --- */

static void timer_clear(uv_timer_t *t)
{
    world_cancel(t->u.reserved[1]);
    t->u.reserved[1] = NULL;
}

static void on_timer(void *arg)
{
    uv_timer_t *t = arg;
    t->u.reserved[1] = NULL;
    if (t->repeat)
        t->u.reserved[1] =
            world_at(loop_of(t->loop)->place, world_us() + t->repeat * MS, on_timer, t);
    t->timer_cb(t);
}

int uv_timer_init(uv_loop_t *l, uv_timer_t *t)
{
    handle_init(l, (uv_handle_t *)t, UV_TIMER, sizeof *t);
    return 0;
}

int uv_timer_start(uv_timer_t *t, uv_timer_cb cb, uint64_t timeout, uint64_t repeat)
{
    if (t->flags || !cb) return UV_EINVAL;
    timer_clear(t);
    t->timer_cb = cb;
    t->timeout = timeout;
    t->repeat = repeat;
    t->u.reserved[1] = world_at(loop_of(t->loop)->place, world_us() + timeout * MS, on_timer, t);
    return 0;
}

int uv_timer_stop(uv_timer_t *t)
{
    timer_clear(t);
    return 0;
}

int uv_is_active(const uv_handle_t *h)
{
    return h->type == UV_TIMER ? ((const uv_timer_t *)h)->u.reserved[1] != NULL : h->flags == 0;
}

/* --- bells; data is the event --- */

enum err bell_open(struct bell *b, uv_loop_t *l, void (*on_ring)(struct bell *b))
{
    handle_init(l, (uv_handle_t *)&b->poll, UV_POLL, sizeof b->poll);
    b->on_ring = on_ring;
    b->poll.data = NULL;
    return ERR_OK;
}

static void on_ring(void *arg)
{
    struct bell *b = arg;
    b->poll.data = NULL;
    b->on_ring(b);
}

void bell_ring(struct bell *b)
{
    if (b->poll.flags || b->poll.data) return;
    b->poll.data = world_at(loop_of(b->poll.loop)->place, world_us(), on_ring, b);
}

void bell_close(struct bell *b)
{
    uv_close((uv_handle_t *)&b->poll, NULL);
}

void uv_close(uv_handle_t *h, uv_close_cb cb)
{
    struct sim_loop *s = loop_of(h->loop);
    assert(!h->flags);
    if (h->type == UV_TIMER) timer_clear((uv_timer_t *)h);
    if (h->type == UV_POLL) {
        world_cancel(h->data);
        h->data = NULL;
    }
    h->flags = HANDLE_CLOSING;
    h->close_cb = cb;
    h->next_closing = s->closing;
    s->closing = h;
    if (!s->closer) s->closer = world_at(s->place, world_us(), on_closer, s);
}

/* --- signals never come --- */

int uv_signal_init(uv_loop_t *l, uv_signal_t *h)
{
    handle_init(l, (uv_handle_t *)h, UV_SIGNAL, sizeof *h);
    return 0;
}

int uv_signal_start(uv_signal_t *h, uv_signal_cb cb, int number)
{
    (void)h, (void)cb, (void)number;
    return 0;
}

/* --- work --- */

static void on_work(void *arg)
{
    finish_work(arg);
}

int uv_queue_work(uv_loop_t *l, uv_work_t *req, uv_work_cb work, uv_after_work_cb after)
{
    struct sim_loop *s = loop_of(l);
    struct work *k = calloc(1, sizeof *k);
    if (!k) return UV_ENOMEM;
    *k = (struct work){ .req = req, .loop = s, .work = work, .after = after };
    req->loop = l;
    req->type = UV_WORK;
    uint64_t us = draw_from(FOR_WORLD, 50, draw_is(FOR_WORLD, 5) ? 200 * MS : 5 * MS);
    k->event = world_at(s->place, world_us() + us, on_work, k);
    struct work **at = &s->works; /* in order, as they will be finished when the loop ends */
    while (*at) at = &(*at)->next;
    *at = k;
    return 0;
}

int uv_cancel(uv_req_t *req)
{
    (void)req;
    return UV_EBUSY; /* it has begun already */
}
