/* Dialling back: only the address that asks, seldom, and without harm to the connection in use. */
#include "peers/dialback.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/net/nets.h"

/* Two nodes: one that dials for others, one that asks by hand. */
struct world {
    struct hub hub;
    struct box server, client;
    struct dialback *dialback;
    unsigned answers;
    uint32_t rid;
    uint64_t result;
    char text[301], addr[64];
};

static void server_mail(struct box *b, struct mail *m)
{
    dialback_on_mail(((struct world *)b->user)->dialback, m);
}

static void client_mail(struct box *b, struct mail *m)
{
    struct world *w = b->user;
    const struct msg_DIALBACK_DONE *done = &m->m.u.DIALBACK_DONE;

    if (m->m.type == MSG_DIALBACK_DONE) {
        w->answers++;
        w->rid = m->m.rid;
        w->result = done->result;
        snprintf(w->text, sizeof w->text, "%.*s", (int)done->text.n, (const char *)done->text.p);
        (void)addr_text(w->addr, sizeof w->addr, done->addr);
    }
    m->note.drop(&m->note);
}

static void no_result(void *arg)
{
    (void)arg;
    fail_msg("nobody was asked");
}

static void world_open(struct world *w)
{
    struct answer a;

    *w = (struct world){ .server = { .on_mail = server_mail, .user = w },
                         .client = { .on_mail = client_mail, .user = w } };
    assert_int_equal(hub_init(&w->hub), ERR_OK);
    box_open(&w->server, &w->hub);
    box_open(&w->client, &w->hub);
    struct dialback_config c = {
        .hub = &w->hub, .net = w->server.net, .arg = w, .on_result = no_result
    };
    assert_int_equal(dialback_open(&w->dialback, &c), ERR_OK);
    assert_int_equal(
        dial_wait(&w->client, &w->server.me.id, "127.0.0.1", net_port(w->server.net), &a), ERR_OK);
}

static void world_close(struct world *w)
{
    dialback_close(w->dialback);
    box_close(&w->server);
    box_close(&w->client);
    hub_fini(&w->hub);
}

static bool has_answer(void *arg)
{
    return ((struct world *)arg)->answers > 0;
}

/* Ask to be dialled at port; the result. */
static uint64_t ask(struct world *w, uint16_t port)
{
    struct msg m = { .type = MSG_DIALBACK, .rid = 7, .u.DIALBACK.port = port };

    w->answers = 0;
    assert_int_equal(net_send(w->client.net, &w->server.me.id, &m), ERR_OK);
    assert_true(run_until(&w->hub, has_answer, w, 12000));
    assert_int_equal(w->rid, 7);
    return w->result;
}

static void test_serving(void **state)
{
    (void)state;
    struct world *w = calloc(1, sizeof *w);
    char want[64];

    world_open(w);
    assert_int_equal(ask(w, net_port(w->client.net)), 1);
    snprintf(want, sizeof want, "127.0.0.1:%u", net_port(w->client.net));
    assert_string_equal(w->addr, want);
    assert_int_equal(ask(w, net_port(w->client.net)), 2); /* so soon again: not tried */
    run_for(&w->hub, DIALBACK_GAP_MS + 100);
    assert_int_equal(ask(w, 9), 0);
    assert_non_null(strstr(w->text, "refused"));
    run_for(&w->hub, DIALBACK_GAP_MS + 100);
    assert_int_equal(ask(w, net_port(w->server.net)), 0); /* somebody, but not who asks */

    /* the connection between the two has seen nothing of all that */
    assert_true(net_is_up(w->server.net, &w->client.me.id));
    assert_int_equal(w->client.ups + w->server.ups, 2);
    assert_int_equal(w->client.downs + w->server.downs, 0);
    world_close(w);
    free(w);
}

/* Many nodes at once: no more than DIALBACK_AT_ONCE are dialled for, the others are told so. */
static void test_crowd(void **state)
{
    (void)state;
    enum { N = DIALBACK_AT_ONCE + 4 };
    struct world *w = calloc(1, sizeof *w);
    struct world *crowd = calloc(N, sizeof *crowd);
    struct answer a;
    unsigned refused = 0, answered = 0;

    world_open(w);
    for (int i = 0; i < N; i++) {
        crowd[i].client = (struct box){ .on_mail = client_mail, .user = &crowd[i] };
        box_open(&crowd[i].client, &w->hub);
        assert_int_equal(
            dial_wait(&crowd[i].client, &w->server.me.id, "127.0.0.1", net_port(w->server.net), &a),
            ERR_OK);
    }
    for (int i = 0; i < N; i++) {
        struct msg m = { .type = MSG_DIALBACK, .rid = 7 };
        m.u.DIALBACK.port = net_port(crowd[i].client.net);
        assert_int_equal(net_send(crowd[i].client.net, &w->server.me.id, &m), ERR_OK);
    }
    for (int round = 0; round < 40 && answered < N; round++) {
        run_for(&w->hub, 50);
        answered = 0;
        for (int i = 0; i < N; i++) answered += crowd[i].answers;
    }
    assert_int_equal(answered, N);
    for (int i = 0; i < N; i++) {
        assert_in_range(crowd[i].result, 1, 2);
        refused += crowd[i].result == 2;
    }
    print_message("%u of %d were told to come later\n", refused, N);
    assert_in_range(refused, 0, N - DIALBACK_AT_ONCE);
    for (int i = 0; i < N; i++) box_close(&crowd[i].client);
    world_close(w);
    free(crowd);
    free(w);
}

static int setup(void **state)
{
    (void)state;
    return proto_init();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_serving),
        cmocka_unit_test(test_crowd),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
