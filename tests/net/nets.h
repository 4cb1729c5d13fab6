/* nets.h - what tests share that need several nets on one loop, and a diary of what they said.
 * Included by a test file after cmocka.h. */
#ifndef TESTS_NET_NETS_H
#define TESTS_NET_NETS_H

#include "net/net.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

/* One net with what its callbacks were told. */
struct box {
    struct net *net;
    struct identity me;
    struct hub *hub;
    unsigned ups, downs, mails;
    struct node_id last_id;
    char last_why[512];
    void (*on_mail)(struct box *b, struct mail *m); /* takes m; NULL: counted and dropped */
    void (*on_peer)(struct box *b, const struct node_id *id, bool up);
    void *user;
    bool closed;
};

static inline void box_mail(void *arg, struct mail *m)
{
    struct box *b = arg;
    b->mails++;
    if (b->on_mail)
        b->on_mail(b, m);
    else
        m->note.drop(&m->note);
}

static inline void box_peer(void *arg, const struct node_id *id, bool up, const char *why)
{
    struct box *b = arg;
    if (up) {
        b->ups++;
    } else {
        b->downs++;
        snprintf(b->last_why, sizeof b->last_why, "%s", why);
    }
    b->last_id = *id;
    if (b->on_peer) b->on_peer(b, id, up);
}

static inline void box_open_as(struct box *b, struct hub *hub, const struct swarm_key *key,
                               const char *host)
{
    struct why why = { "" };
    b->hub = hub;
    identity_make(&b->me);
    struct net_config c = {
        .me = &b->me,
        .swarm = key ? key : swarm_key_public(),
        .listen_host = host,
        .agent = "test",
        .role = 1,
        .arg = b,
        .on_mail = box_mail,
        .on_peer = box_peer,
    };
    if (net_open(&b->net, hub, &c, &why)) fail_msg("%s", why.text);
}

static inline void box_open(struct box *b, struct hub *hub)
{
    box_open_as(b, hub, NULL, "127.0.0.1");
}

static inline void box_closed(void *arg)
{
    ((struct box *)arg)->closed = true;
}

/* Let the loop run until *done, at most so long; true: it came to be. */
static inline void run_stop(uv_timer_t *t)
{
    *(bool *)t->data = true;
}

static inline bool run_until(struct hub *hub, bool (*done)(void *arg), void *arg, unsigned ms)
{
    uv_timer_t timer;
    bool late = false;

    uv_timer_init(&hub->loop, &timer);
    timer.data = &late;
    uv_update_time(&hub->loop);
    uv_timer_start(&timer, run_stop, ms, 0);
    while (!late && !done(arg)) uv_run(&hub->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(&hub->loop, UV_RUN_NOWAIT); /* so that the timer's memory may go */
    return done(arg);
}

static inline bool run_never(void *arg)
{
    (void)arg;
    return false;
}

/* So long; and on a machine that had no time for us until nothing has been left to do for a while, at
 * most ten times that. */
static inline void run_for(struct hub *hub, unsigned ms)
{
    struct pollfd ready = { .fd = uv_backend_fd(&hub->loop), .events = POLLIN };
    uint64_t end = uv_hrtime() + (uint64_t)ms * 10000000;
    (void)run_until(hub, run_never, NULL, ms);
    for (unsigned quiet = 0; quiet < (ms < 50 ? ms / 10 : 5) && uv_hrtime() < end; quiet++) {
        if (poll(&ready, 1, 5) > 0) quiet = 0;
        uv_run(&hub->loop, UV_RUN_NOWAIT); /* timers too */
    }
}

static inline bool box_is_closed(void *arg)
{
    return ((struct box *)arg)->closed;
}

static inline void box_close(struct box *b)
{
    net_close(b->net, box_closed, b);
    assert_true(run_until(b->hub, box_is_closed, b, 1500));
    struct node_id id = b->me.id; /* tests go on asking about the node that was */
    identity_fini(&b->me);
    b->me.id = id;
}

/* The answer to a net_dial. */
struct answer {
    unsigned calls;
    enum err e;
    char why[512];
    struct node_id id;
    bool has_id;
};

static inline void take_answer(void *arg, const struct node_id *id, enum err e, const char *why)
{
    struct answer *a = arg;
    a->calls++;
    a->e = e;
    a->has_id = id != NULL;
    if (id) a->id = *id;
    snprintf(a->why, sizeof a->why, "%s", why);
}

static inline bool answered(void *arg)
{
    return ((struct answer *)arg)->calls > 0;
}

static inline enum err dial_wait(struct box *from, const struct node_id *id, const char *host,
                                 uint16_t port, struct answer *a)
{
    *a = (struct answer){ 0 };
    net_dial(from->net, id, host, port, take_answer, a);
    assert_true(run_until(from->hub, answered, a, 8000));
    assert_int_equal(a->calls, 1);
    return a->e;
}

/* A message of ours that carries a number and a size. */
static inline struct msg act(uint32_t step, const uint8_t *x, size_t n)
{
    static const uint8_t session[SESSION_BYTES] = { 1 };
    struct msg m = { .type = MSG_ACT };
    m.u.ACT.session = slice_of(session, sizeof session);
    m.u.ACT.rows = 1;
    m.u.ACT.step = step;
    m.u.ACT.x = slice_of(x, n);
    return m;
}

/* The wire form of 127.0.0.1:port. */
static inline struct slice loopback_addr(uint8_t out[6], uint16_t port)
{
    const uint8_t a[6] = { 127, 0, 0, 1, (uint8_t)(port >> 8), (uint8_t)port };
    memcpy(out, a, 6);
    return slice_of(out, 6);
}

#endif
