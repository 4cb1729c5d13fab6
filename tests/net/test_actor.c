/* Actors: order, bounds, closing, and that no note is lost or leaked, with posters on threads. */
#include "net/actor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

struct number {
    struct note note;
    int from, value;
};

static int alive; /* notes not dropped yet; atomic */

static void number_drop(struct note *n)
{
    __atomic_sub_fetch(&alive, 1, __ATOMIC_SEQ_CST);
    free(n);
}

static enum err number_post(struct actor *a, int from, int value)
{
    struct number *m = malloc(sizeof *m);
    *m = (struct number){ { .kind = 1, .drop = number_drop }, from, value };
    __atomic_add_fetch(&alive, 1, __ATOMIC_SEQ_CST);
    enum err e = actor_post(a, &m->note);
    if (e) number_drop(&m->note);
    return e;
}

enum { THREADS = 4, EACH = 20000 };

struct counter {
    struct actor actor; /* first */
    int next[THREADS];
    int seen, stop_at;
};

static void on_number(struct actor *a, struct note *n)
{
    struct counter *c = (struct counter *)a;
    struct number *m = (struct number *)n;

    assert_int_equal(m->value, c->next[m->from]); /* each sender's notes come in its order */
    c->next[m->from]++;
    n->drop(n);
    if (++c->seen == c->stop_at) hub_stop(a->hub);
}

struct sender {
    struct counter *to;
    int from;
};

static void send_all(void *arg)
{
    struct sender *s = arg;
    for (int i = 0; i < EACH;) {
        enum err e = number_post(&s->to->actor, s->from, i);
        if (!e)
            i++;
        else
            uv_sleep(0); /* full: the loop catches up */
    }
}

static void test_threads(void **state)
{
    (void)state;
    struct hub hub;
    struct counter c = { .stop_at = THREADS * EACH };
    struct sender s[THREADS];
    uv_thread_t t[THREADS];

    assert_int_equal(hub_init(&hub), ERR_OK);
    assert_int_equal(actor_init(&c.actor, &hub, "counter", 64, on_number), ERR_OK);
    for (int i = 0; i < THREADS; i++) {
        s[i] = (struct sender){ &c, i };
        assert_int_equal(uv_thread_create(&t[i], send_all, &s[i]), 0);
    }
    hub_run(&hub);
    for (int i = 0; i < THREADS; i++) uv_thread_join(&t[i]);
    assert_int_equal(c.seen, THREADS * EACH);
    actor_fini(&c.actor);
    hub_fini(&hub);
    assert_int_equal(alive, 0);
}

/* A full mailbox refuses, a closed one refuses otherwise, and what waited is dropped. */
static void test_bounds(void **state)
{
    (void)state;
    struct hub hub;
    struct counter c = { .stop_at = 1000 };

    assert_int_equal(hub_init(&hub), ERR_OK);
    assert_int_equal(actor_init(&c.actor, &hub, "small", 3, on_number), ERR_OK);
    for (int i = 0; i < 3; i++) assert_int_equal(number_post(&c.actor, 0, i), ERR_OK);
    assert_int_equal(number_post(&c.actor, 0, 3), ERR_FULL);
    assert_int_equal(alive, 3);
    actor_fini(&c.actor);
    assert_int_equal(alive, 0);
    assert_int_equal(number_post(&c.actor, 0, 4), ERR_CLOSED);
    assert_int_equal(c.seen, 0);
    hub_fini(&hub);
}

/* A note posted by one actor to the next is delivered in the same turn of the loop, and an actor
 * may end itself, or another that has mail, from its own callback. */
struct relay {
    struct actor actor; /* first */
    struct relay *to, *ends;
    int seen;
};

static unsigned turns;

static void on_relay(struct actor *a, struct note *n)
{
    struct relay *r = (struct relay *)a;
    int value = ((struct number *)n)->value;

    n->drop(n);
    r->seen++;
    if (r->to) {
        assert_int_equal(number_post(&r->to->actor, 0, value), ERR_OK);
    } else if (value == 9) {
        hub_stop(a->hub);
    }
    if (r->ends && value == 9) actor_fini(&r->ends->actor);
}

static void on_turn(uv_prepare_t *p)
{
    (void)p;
    turns++;
}

static void test_relay(void **state)
{
    (void)state;
    struct hub hub;
    struct relay a = { .seen = 0 }, b = { .seen = 0 }, c = { .seen = 0 }, idle = { .seen = 0 };
    uv_prepare_t prepare;

    assert_int_equal(hub_init(&hub), ERR_OK);
    assert_int_equal(actor_init(&a.actor, &hub, "a", 0, on_relay), ERR_OK);
    assert_int_equal(actor_init(&b.actor, &hub, "b", 0, on_relay), ERR_OK);
    assert_int_equal(actor_init(&c.actor, &hub, "c", 0, on_relay), ERR_OK);
    assert_int_equal(actor_init(&idle.actor, &hub, "idle", 0, on_relay), ERR_OK);
    a.to = &b;
    a.ends = &a;
    b.to = &c;
    b.ends = &idle;
    uv_prepare_init(&hub.loop, &prepare);
    uv_prepare_start(&prepare, on_turn);
    turns = 0;
    for (int i = 0; i < 10; i++) assert_int_equal(number_post(&a.actor, 0, i), ERR_OK);
    hub_run(&hub);
    assert_int_equal(c.seen, 10);
    assert_in_range(turns, 1, 2);
    actor_fini(&b.actor);
    actor_fini(&c.actor);
    uv_close((uv_handle_t *)&prepare, NULL);
    hub_fini(&hub);
    assert_int_equal(alive, 0);
}

/* The time from a post on another thread to its delivery: printed, since it is part of a hop. */
static void poster(void *arg)
{
    struct counter *c = arg;
    for (int i = 0; i < 200; i++) {
        uv_sleep(1);
        assert_int_equal(number_post(&c->actor, 0, (int)(uv_hrtime() & 0x3fffffff)), ERR_OK);
    }
}

static double waited_us;

static void on_timed(struct actor *a, struct note *n)
{
    struct counter *c = (struct counter *)a;
    int now = (int)(uv_hrtime() & 0x3fffffff);
    waited_us += (double)((now - ((struct number *)n)->value) & 0x3fffffff) / 1000;
    n->drop(n);
    if (++c->seen == c->stop_at) hub_stop(a->hub);
}

static void test_wake(void **state)
{
    (void)state;
    struct hub hub;
    struct counter c = { .stop_at = 200 };
    uv_thread_t t;

    assert_int_equal(hub_init(&hub), ERR_OK);
    assert_int_equal(actor_init(&c.actor, &hub, "timed", 0, on_timed), ERR_OK);
    assert_int_equal(uv_thread_create(&t, poster, &c), 0);
    hub_run(&hub);
    uv_thread_join(&t);
    print_message("thread to loop: %.1f us on average\n", waited_us / 200);
    actor_fini(&c.actor);
    hub_fini(&hub);
    assert_int_equal(alive, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_relay),
        cmocka_unit_test(test_wake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
