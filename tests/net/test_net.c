/* The actor that owns the sockets, with real sockets on loopback: reaching each other, order,
 * simultaneous dials, sizes, and everything a stranger may do to a listener. */
#include "net/net_impl.h"
#include "proto/conn_impl.h"

#include <netdb.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/net/nets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static bool both_up(void *arg)
{
    struct box *b = arg; /* two of them */
    return net_is_up(b[0].net, &b[1].me.id) && net_is_up(b[1].net, &b[0].me.id);
}

static bool is_down(void *arg)
{
    return ((struct box *)arg)->downs > 0;
}

static void open_two(struct hub *hub, struct box b[2])
{
    memset(b, 0, 2 * sizeof *b);
    assert_int_equal(hub_init(hub), ERR_OK);
    box_open(&b[0], hub);
    box_open(&b[1], hub);
}

static void close_two(struct hub *hub, struct box b[2])
{
    box_close(&b[0]);
    box_close(&b[1]);
    hub_fini(hub);
}

static bool twice_up(void *arg)
{
    return ((struct box *)arg)->ups == 2;
}

/* A machine is switched off without a word and comes back: whoever had dialled it believes its old
 * connection alive, until the new one shows another run of the program. */
static void test_restarted(void **state)
{
    (void)state;
    struct hub hub;
    struct box b[2], again = { .hub = &hub };
    struct answer a;

    open_two(&hub, b);
    assert_int_equal(dial_wait(&b[0], &b[1].me.id, "127.0.0.1", net_port(b[1].net), &a), ERR_OK);
    again.me = b[1].me;
    struct net_config c = { .me = &again.me,
                            .swarm = swarm_key_public(),
                            .agent = "test",
                            .arg = &again,
                            .on_mail = box_mail,
                            .on_peer = box_peer };
    assert_int_equal(net_open(&again.net, &hub, &c, NULL), ERR_OK);
    assert_int_equal(dial_wait(&again, &b[0].me.id, "127.0.0.1", net_port(b[0].net), &a), ERR_OK);
    assert_true(run_until(&hub, twice_up, &b[0], 1000));
    assert_int_equal(b[0].downs, 1);
    assert_non_null(strstr(b[0].last_why, "started anew"));
    assert_true(net_is_up(again.net, &b[0].me.id));
    net_close(again.net, box_closed, &again);
    assert_true(run_until(&hub, box_is_closed, &again, 1500));
    close_two(&hub, b);
}

/* --- reaching each other --- */

static void test_dial(void **state)
{
    (void)state;
    struct hub hub;
    struct box b[2];
    struct answer a;

    open_two(&hub, b);
    assert_int_equal(dial_wait(&b[0], &b[1].me.id, "127.0.0.1", net_port(b[1].net), &a), ERR_OK);
    assert_true(node_id_equal(&a.id, &b[1].me.id));
    assert_true(run_until(&hub, both_up, b, 1000));
    assert_int_equal(b[0].ups + b[1].ups, 2);
    assert_int_equal(net_addr(b[0].net, &b[1].me.id).n, 6);
    assert_true(addr_is_loopback(net_addr(b[1].net, &b[0].me.id)));

    a = (struct answer){ 0 }; /* connected already: at once */
    net_dial(b[0].net, &b[1].me.id, "127.0.0.1", 1, take_answer, &a);
    assert_int_equal(a.calls, 1);
    assert_int_equal(a.e, ERR_OK);

    /* by name, and not knowing who is there: one connection remains */
    struct addrinfo *known = NULL;
    if (getaddrinfo("localhost", NULL, NULL, &known)) {
        print_message("this machine does not know localhost: dialling by name is not tested\n");
    } else {
        freeaddrinfo(known);
        assert_int_equal(dial_wait(&b[0], NULL, "localhost", net_port(b[1].net), &a), ERR_OK);
        assert_true(a.has_id && node_id_equal(&a.id, &b[1].me.id));
    }
    run_for(&hub, 50);
    assert_int_equal(b[0].ups + b[1].ups, 2);
    assert_int_equal(b[0].downs + b[1].downs, 0);
    assert_true(net_rtt_us(b[0].net, &b[1].me.id) < 100000);
    assert_true(net_rtt_us(b[1].net, &b[0].me.id) < 100000);
    close_two(&hub, b);
    assert_int_equal(b[1].downs, 1); /* b[0] said goodbye before b[1] was closed */
    assert_non_null(strstr(b[1].last_why, "closed the connection"));
}

static void test_dial_fails(void **state)
{
    (void)state;
    struct hub hub;
    struct box b[2], other = { 0 };
    struct answer a;
    struct swarm_key key;
    uint16_t dead;

    open_two(&hub, b);
    swarm_key_make(&key);
    box_open_as(&other, &hub, &key, "127.0.0.1");

    /* another swarm */
    assert_int_equal(dial_wait(&other, NULL, "127.0.0.1", net_port(b[0].net), &a), ERR_AUTH);
    assert_non_null(strstr(a.why, "another swarm key"));
    /* another node than dialled */
    assert_int_equal(dial_wait(&b[0], &other.me.id, "127.0.0.1", net_port(b[1].net), &a), ERR_AUTH);
    assert_non_null(strstr(a.why, "answered"));
    assert_non_null(strstr(a.why, "127.0.0.1:"));
    /* nobody listens */
    dead = net_port(other.net);
    box_close(&other);
    assert_int_equal(dial_wait(&b[0], NULL, "127.0.0.1", dead, &a), ERR_IO);
    assert_non_null(strstr(a.why, "refused"));
    /* no such name: .invalid never resolves (RFC 6761) */
    assert_int_equal(dial_wait(&b[0], NULL, "nobody.invalid", 1, &a), ERR_NOTFOUND);
    assert_non_null(strstr(a.why, "nobody.invalid"));
    /* itself, by id and by address */
    assert_int_equal(dial_wait(&b[0], &b[0].me.id, "127.0.0.1", net_port(b[0].net), &a), ERR_USAGE);
    assert_int_equal(dial_wait(&b[0], NULL, "127.0.0.1", net_port(b[0].net), &a), ERR_USAGE);
    assert_non_null(strstr(a.why, "itself"));
    /* and after all that it serves as before */
    assert_int_equal(dial_wait(&b[0], &b[1].me.id, "127.0.0.1", net_port(b[1].net), &a), ERR_OK);
    assert_int_equal(b[0].downs + b[1].downs, 0);
    close_two(&hub, b);
}

static void test_listen_fails(void **state)
{
    (void)state;
    struct hub hub;
    struct box b[2];
    struct why why = { "" };
    struct net *n;

    open_two(&hub, b);
    struct net_config c = { .me = &b[0].me,
                            .swarm = swarm_key_public(),
                            .listen_host = "127.0.0.1",
                            .listen_port = net_port(b[0].net),
                            .on_mail = box_mail,
                            .on_peer = box_peer };
    assert_int_equal(net_open(&n, &hub, &c, &why), ERR_EXISTS);
    assert_non_null(strstr(why.text, "another program listens there"));
    c.listen_host = "nobody.invalid";
    assert_int_equal(net_open(&n, &hub, &c, &why), ERR_NOTFOUND);
    close_two(&hub, b);
}

static void test_ipv6(void **state)
{
    (void)state;
    struct hub hub;
    struct box b[3] = { 0 };
    struct answer a;
    int probe = socket(AF_INET6, SOCK_STREAM, 0);
    struct sockaddr_in6 one = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };

    if (probe < 0 || bind(probe, (struct sockaddr *)&one, sizeof one)) {
        if (probe >= 0) close(probe);
        print_message("this machine has no IPv6 loopback: skipped\n");
        skip();
    }
    close(probe);
    assert_int_equal(hub_init(&hub), ERR_OK);
    box_open_as(&b[0], &hub, NULL, "::");
    box_open_as(&b[1], &hub, NULL, NULL); /* does not listen */
    box_open_as(&b[2], &hub, NULL, NULL);
    assert_int_equal(net_port(b[1].net), 0);
    assert_int_equal(dial_wait(&b[1], &b[0].me.id, "::1", net_port(b[0].net), &a), ERR_OK);
    assert_int_equal(dial_wait(&b[2], &b[0].me.id, "127.0.0.1", net_port(b[0].net), &a), ERR_OK);
    run_for(&hub, 20);
    assert_int_equal(net_addr(b[0].net, &b[1].me.id).n, 18);
    assert_int_equal(net_addr(b[0].net, &b[2].me.id).n, 6); /* not ::ffff:127.0.0.1 */
    assert_true(addr_is_loopback(net_addr(b[0].net, &b[1].me.id)));
    for (int i = 0; i < 3; i++) box_close(&b[i]);
    hub_fini(&hub);
}

/* --- messages --- */

struct sequence {
    uint32_t next;
    uint64_t sum;
    bool broken;
};

static void in_order(struct box *b, struct mail *m)
{
    struct sequence *s = b->user;
    if (m->m.type == MSG_ACT) {
        if (m->m.u.ACT.step != s->next) s->broken = true;
        s->next++;
        s->sum += m->m.u.ACT.x.n;
    }
    m->note.drop(&m->note);
}

static bool has_all(void *arg)
{
    struct sequence *s = arg;
    return s->next >= 1000 || s->broken;
}

/* Queued before the connection exists, sent over hints, in order. */
static void test_hints_and_order(void **state)
{
    (void)state;
    struct hub hub;
    struct box b[2];
    struct sequence s = { 0 };
    uint8_t addr[6], x[3000] = { 0 };

    open_two(&hub, b);
    b[1].on_mail = in_order;
    b[1].user = &s;
    struct msg m = act(0, x, sizeof x);
    assert_int_equal(net_send(b[0].net, &b[1].me.id, &m), ERR_NOTFOUND);
    net_hint(b[0].net, &b[1].me.id, loopback_addr(addr, net_port(b[1].net)));
    net_hint(b[0].net, &b[1].me.id, loopback_addr(addr, 1)); /* newer, and nobody is there */
    net_hint(b[0].net, &b[1].me.id, slice_of(addr, 5));      /* no address at all */
    for (uint32_t i = 0; i < 1000; i++) {
        m = act(i, x, i % sizeof x + 1);
        assert_int_equal(net_send(b[0].net, &b[1].me.id, &m), ERR_OK);
        if (i % 100 == 99) run_for(&hub, 1);
    }
    assert_true(run_until(&hub, has_all, &s, 3000));
    assert_false(s.broken);
    assert_int_equal(b[0].downs + b[1].downs, 0);
    close_two(&hub, b);
}

/* Waiting messages whose peer cannot be reached are reported as a peer that went down. */
static void test_hint_fails(void **state)
{
    (void)state;
    struct hub hub;
    struct box b[2];
    uint8_t addr[6], x[1] = { 0 };

    open_two(&hub, b);
    uint16_t port = net_port(b[1].net);
    struct node_id gone = b[1].me.id;
    box_close(&b[1]);
    net_hint(b[0].net, &gone, loopback_addr(addr, port));
    struct msg m = act(0, x, 1);
    assert_int_equal(net_send(b[0].net, &gone, &m), ERR_OK);
    assert_true(run_until(&hub, is_down, &b[0], 3000));
    assert_int_equal(b[0].downs, 1);
    assert_int_equal(b[0].ups, 0);
    assert_non_null(strstr(b[0].last_why, "refused"));
    assert_int_equal(net_send(b[0].net, &gone, &m), ERR_NOTFOUND); /* not again so soon */
    net_hint(b[0].net, &gone, loopback_addr(addr, port));
    assert_int_equal(net_send(b[0].net, &gone, &m), ERR_OK); /* unless it is heard of again */
    b[0].downs = 0;
    assert_true(run_until(&hub, is_down, &b[0], 3000));
    box_close(&b[0]);
    hub_fini(&hub);
}

static void test_self(void **state)
{
    (void)state;
    struct hub hub;
    struct box b = { 0 };
    struct sequence s = { 0 };
    uint8_t x[10] = { 0 };

    assert_int_equal(hub_init(&hub), ERR_OK);
    box_open(&b, &hub);
    b.on_mail = in_order;
    b.user = &s;
    for (uint32_t i = 0; i < 1000; i++) {
        struct msg m = act(i, x, sizeof x);
        assert_int_equal(net_send(b.net, &b.me.id, &m), ERR_OK);
        assert_int_equal(s.next, 0); /* never inside net_send */
    }
    assert_true(run_until(&hub, has_all, &s, 1000));
    assert_false(s.broken);
    assert_true(net_is_up(b.net, &b.me.id));
    assert_int_equal(net_rtt_us(b.net, &b.me.id), 0);
    struct msg m = act(0, x, sizeof x);
    assert_int_equal(net_send(b.net, &b.me.id, &m), ERR_OK); /* waits when the net is closed */
    box_close(&b);
    hub_fini(&hub);
}

/* --- large and fast --- */

struct big {
    const uint8_t *x;
    size_t n;
    unsigned good, bad;
};

static void check_big(struct box *b, struct mail *m)
{
    struct big *g = b->user;
    if (m->m.type == MSG_ACT && m->m.u.ACT.x.n == g->n && !memcmp(m->m.u.ACT.x.p, g->x, g->n))
        g->good++;
    else
        g->bad++;
    m->note.drop(&m->note);
}

static bool eight_big(void *arg)
{
    struct big *g = arg;
    return g->good + g->bad >= 7;
}

static void test_big(void **state)
{
    (void)state;
    struct hub hub;
    struct box b[2];
    struct answer a;
    uint8_t *x = malloc(ACT_BYTES_MAX);
    struct big g = { x, ACT_BYTES_MAX, 0, 0 };

    open_two(&hub, b);
    random_bytes(x, ACT_BYTES_MAX);
    b[1].on_mail = check_big;
    b[1].user = &g;
    assert_int_equal(dial_wait(&b[0], &b[1].me.id, "127.0.0.1", net_port(b[1].net), &a), ERR_OK);
    struct msg m = act(0, x, ACT_BYTES_MAX);
    uint64_t t = uv_hrtime();
    enum err e = ERR_OK;
    for (int i = 0; i < 7; i++) assert_int_equal(net_send(b[0].net, &b[1].me.id, &m), ERR_OK);
    for (int i = 0; i < 4 && !e; i++) e = net_send(b[0].net, &b[1].me.id, &m);
    assert_int_equal(e, ERR_FULL); /* at most CONN_QUEUE_MAX waits */
    assert_true(run_until(&hub, eight_big, &g, 20000));
    double s = (double)(uv_hrtime() - t) / 1e9;
    print_message("8 MiB messages: %.0f MB/s, sender and receiver on one core\n",
                  7 * (double)ACT_BYTES_MAX / 1e6 / s);
    assert_int_equal(g.bad, 0);
    close_two(&hub, b);
    free(x);
}

struct echo {
    uint64_t at, sum, least;
    unsigned left, seen;
    uint8_t x[8192];
    struct node_id to;
};

static void send_ping(struct box *b)
{
    struct echo *e = b->user;
    struct msg m = act(e->left, e->x, sizeof e->x);
    e->at = uv_hrtime();
    assert_int_equal(net_send(b->net, &e->to, &m), ERR_OK);
}

static void bounce(struct box *b, struct mail *m)
{
    struct msg back = m->m;
    assert_int_equal(net_send(b->net, &m->from, &back), ERR_OK);
    m->note.drop(&m->note);
}

static void ping_back(struct box *b, struct mail *m)
{
    struct echo *e = b->user;
    uint64_t took = uv_hrtime() - e->at;
    m->note.drop(&m->note);
    e->seen++;
    e->sum += took;
    if (took < e->least) e->least = took;
    if (--e->left) send_ping(b);
}

static bool echo_done(void *arg)
{
    return ((struct echo *)arg)->left == 0;
}

/* One hop of a token: 8 KiB there and back, encryption and both ends' loops included. */
static void test_latency(void **state)
{
    (void)state;
    struct hub hub;
    struct box b[2];
    struct answer a;
    struct echo e = { .left = 2000, .least = UINT64_MAX };

    open_two(&hub, b);
    assert_int_equal(dial_wait(&b[0], &b[1].me.id, "127.0.0.1", net_port(b[1].net), &a), ERR_OK);
    e.to = b[1].me.id;
    b[0].user = &e;
    b[0].on_mail = ping_back;
    b[1].on_mail = bounce;
    send_ping(&b[0]);
    assert_true(run_until(&hub, echo_done, &e, 20000));
    print_message("8 KiB hop: %.1f us on average, %.1f us at best (both nodes on one core)\n",
                  (double)e.sum / e.seen / 2000, (double)e.least / 2000);
    close_two(&hub, b);
}

/* The same between two processes, as in a swarm on one machine. */
static void child_node(int out)
{
    struct hub hub;
    struct box b = { .on_mail = bounce };
    uint16_t port;

    if (hub_init(&hub)) _exit(1);
    box_open(&b, &hub);
    port = net_port(b.net);
    if (write(out, b.me.id.b, ID_BYTES) != ID_BYTES || write(out, &port, 2) != 2) _exit(1);
    hub_run(&hub); /* until it is killed */
}

static void test_two_processes(void **state)
{
    (void)state;
    struct hub hub;
    struct box b = { 0 };
    struct answer a;
    struct echo e = { .left = 2000, .least = UINT64_MAX };
    uint16_t port;
    int fd[2];

    assert_int_equal(pipe(fd), 0);
    pid_t child = fork();
    if (child == 0) {
        close(fd[0]);
        child_node(fd[1]);
        _exit(0);
    }
    close(fd[1]);
    assert_int_equal(read(fd[0], e.to.b, ID_BYTES), ID_BYTES);
    assert_int_equal(read(fd[0], &port, 2), 2);
    close(fd[0]);

    assert_int_equal(hub_init(&hub), ERR_OK);
    box_open(&b, &hub);
    assert_int_equal(dial_wait(&b, &e.to, "127.0.0.1", port, &a), ERR_OK);
    b.user = &e;
    b.on_mail = ping_back;
    send_ping(&b);
    assert_true(run_until(&hub, echo_done, &e, 20000));
    print_message("8 KiB hop: %.1f us on average, %.1f us at best (two processes)\n",
                  (double)e.sum / e.seen / 2000, (double)e.least / 2000);

    /* a process that is killed is noticed at once */
    assert_int_equal(b.downs, 0);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_true(run_until(&hub, is_down, &b, 3000));
    assert_true(node_id_equal(&b.last_id, &e.to));
    assert_false(net_is_up(b.net, &e.to));
    box_close(&b);
    hub_fini(&hub);
}

/* --- two connections --- */

struct talk {
    struct sequence got;
    unsigned sent;
    uint8_t x[100];
};

static bool talk_over(void *arg)
{
    struct box *b = arg;
    struct talk *t0 = b[0].user, *t1 = b[1].user;
    return t0->got.broken || t1->got.broken ||
           (t0->got.next >= 20 && t1->got.next >= 20 && b[0].ups && b[1].ups);
}

static void say(struct box *b, const struct box *to, unsigned n)
{
    struct talk *t = b->user;
    for (unsigned i = 0; i < n; i++) {
        struct msg m = act(t->sent++, t->x, sizeof t->x);
        assert_int_equal(net_send(b->net, &to->me.id, &m), ERR_OK);
    }
}

/* Both dial at the same moment and talk at once: nothing is lost, doubled or overtaken, whichever
 * connection each of them sees first; and one connection remains. */
static void test_simultaneous(void **state)
{
    (void)state;
    unsigned pairs = 0;

    for (int round = 0; round < 200; round++) {
        struct hub hub;
        struct box b[2];
        struct talk t[2] = { 0 };
        struct answer a[2] = { 0 };
        uint8_t addr[6];

        open_two(&hub, b);
        for (int i = 0; i < 2; i++) {
            b[i].on_mail = in_order;
            b[i].user = &t[i]; /* whose first member is the sequence */
            net_hint(b[i].net, &b[1 - i].me.id, loopback_addr(addr, net_port(b[1 - i].net)));
        }
        if (round % 2) {
            for (int i = 0; i < 2; i++)
                net_dial(b[i].net, &b[1 - i].me.id, "127.0.0.1", net_port(b[1 - i].net),
                         take_answer, &a[i]);
        }
        say(&b[0], &b[1], 5);
        for (int k = 0; k < round % 7; k++) uv_run(&hub.loop, UV_RUN_NOWAIT); /* ever later */
        say(&b[1], &b[0], 5);
        for (int k = 0; k < 15; k++) {
            uv_run(&hub.loop, UV_RUN_NOWAIT);
            if (round % 3 == 0) uv_sleep(0);
            say(&b[0], &b[1], 1);
            say(&b[1], &b[0], 1);
        }
        if (!run_until(&hub, talk_over, b, 2000))
            fail_msg("round %d: %u and %u of 20", round, t[0].got.next, t[1].got.next);
        assert_false(t[0].got.broken || t[1].got.broken);
        if (round % 2) assert_int_equal(a[0].calls + a[1].calls, 2);
        run_for(&hub, 2);
        assert_int_equal(t[0].got.next, 20);
        assert_int_equal(t[1].got.next, 20);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(b[i].ups, 1);
            assert_int_equal(b[i].downs, 0);
            assert_int_equal(b[i].net->n_socks, 1); /* the other is closed */
        }
        pairs += b[0].net->pairs;
        close_two(&hub, b);
    }
    print_message("200 simultaneous dials: %u ended in two connections\n", pairs);
}

/* --- strangers --- */

static int connect_from(uint32_t host, uint16_t port)
{
    struct sockaddr_in from = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(host) };
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof from), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static int connect_raw(uint16_t port)
{
    return connect_from(INADDR_LOOPBACK, port);
}

/* Nothing, garbage, or a handshake that stops in the middle, 200 times; and meanwhile two nodes
 * meet and talk. */
static void test_junk(void **state)
{
    (void)state;
    struct hub hub;
    struct box b[2];
    struct answer a;
    struct sequence s = { 0 };
    int fd[200];
    uint8_t junk[2000], x[64] = { 0 };

    open_two(&hub, b);
    b[1].on_mail = in_order;
    b[1].user = &s;
    for (int i = 0; i < 200; i++) {
        fd[i] = connect_raw(net_port(b[1].net));
        random_bytes(junk, sizeof junk);
        size_t n = i % 4 == 0 ? 0 : i % 4 == 1 ? sizeof junk : i % 4 == 2 ? 3 : 50;
        if (i % 2) memcpy(junk, "SWRM\1\1\0\0\0\x30", 10);
        if (n && write(fd[i], junk, n) < 0) assert_int_equal(errno, ECONNRESET);
        if (i % 20 == 0) run_for(&hub, 1);
        if (i == 120)
            assert_int_equal(dial_wait(&b[0], &b[1].me.id, "127.0.0.1", net_port(b[1].net), &a),
                             ERR_OK);
    }
    for (uint32_t i = 0; i < 1000; i++) {
        struct msg m = act(i, x, sizeof x);
        assert_int_equal(net_send(b[0].net, &b[1].me.id, &m), ERR_OK);
    }
    assert_true(run_until(&hub, has_all, &s, 2000));
    assert_false(s.broken);

    run_for(&hub, 6500); /* all of them have been hung up on by now */
    for (int i = 0; i < 200; i++) {
        ssize_t got;
        do got = read(fd[i], junk, sizeof junk);
        while (got > 0);
        assert_true(got == 0 || errno == ECONNRESET);
        close(fd[i]);
    }
    assert_true(net_is_up(b[0].net, &b[1].me.id));
    assert_int_equal(b[0].downs + b[1].downs, 0);
    close_two(&hub, b);
}

/* Three strikes: closed, banned, and refused when it calls again. */
static void test_strikes(void **state)
{
    (void)state;
    struct hub hub;
    struct box b[2];
    struct answer a;

    open_two(&hub, b);
    assert_int_equal(dial_wait(&b[0], &b[1].me.id, "127.0.0.1", net_port(b[1].net), &a), ERR_OK);
    assert_true(run_until(&hub, both_up, b, 1000));
    net_strike(b[1].net, &b[0].me.id, "said something silly");
    net_strike(b[1].net, &b[0].me.id, "said something silly");
    run_for(&hub, 20);
    assert_int_equal(b[1].downs, 0);
    assert_false(net_is_banned(b[1].net, &b[0].me.id));
    net_strike(b[1].net, &b[0].me.id, "said something silly");
    assert_true(run_until(&hub, is_down, &b[1], 2000));
    assert_non_null(strstr(b[1].last_why, "three times"));
    assert_true(net_is_banned(b[1].net, &b[0].me.id));
    assert_true(run_until(&hub, is_down, &b[0], 2000));
    /* the initiator believes to be connected until the other hangs up */
    (void)dial_wait(&b[0], &b[1].me.id, "127.0.0.1", net_port(b[1].net), &a);
    run_for(&hub, 50);
    assert_false(net_is_up(b[0].net, &b[1].me.id));
    assert_int_equal(b[1].ups, 1);
    struct msg m = { .type = MSG_RECORDS_GET };
    assert_int_equal(net_send(b[1].net, &b[0].me.id, &m), ERR_NOTFOUND);
    close_two(&hub, b);
}

/* How often an address may knock: a burst of 5, then 20 a second; the /64 counts as one address;
 * all strangers together get 200 a second; loopback is free. */
static void test_guard(void **state)
{
    (void)state;
    struct guard *g = calloc(1, sizeof *g);
    uint8_t a[6] = { 10, 0, 0, 1, 0, 80 }, lo[6], six[18] = { 0x20, 1, 0xd, 0xb8 };
    uint64_t now = 1000000;
    unsigned allowed = 0;

    for (int i = 0; i < 10; i++) {
        a[5] = (uint8_t)i; /* the port is not the address */
        allowed += guard_allows(g, slice_of(a, 6), now);
    }
    assert_int_equal(allowed, 5);
    assert_true(guard_allows(g, slice_of(a, 6), now + 50));
    assert_false(guard_allows(g, slice_of(a, 6), now + 50));
    for (allowed = 0; six[15] < 10; six[15]++) allowed += guard_allows(g, slice_of(six, 18), now);
    assert_int_equal(allowed, 5);
    six[5] = 1; /* another /64 */
    assert_true(guard_allows(g, slice_of(six, 18), now));
    for (int i = 0; i < 1000; i++) assert_true(guard_allows(g, loopback_addr(lo, 80), now));

    /* more addresses than rows, all at once: the common bucket holds */
    now += 10000;
    allowed = 0;
    for (int i = 0; i < 2000; i++) {
        a[1] = (uint8_t)(i >> 8);
        a[2] = (uint8_t)i;
        allowed += guard_allows(g, slice_of(a, 6), now + (uint64_t)i); /* two seconds */
    }
    assert_in_range(allowed, 400, 500);
    free(g);
}

/* --- a peer that speaks the protocol's frames but not its messages --- */

/* A node of our own making: a socket and a connection, driven by hand. */
struct raw {
    int fd;
    struct conn *conn;
    struct identity me;
};

static void raw_pump(struct raw *r, struct hub *hub)
{
    uint8_t in[4096];
    struct why why;

    for (int i = 0; i < 20; i++) {
        struct slice p = conn_pending(r->conn);
        ssize_t n = p.n ? write(r->fd, p.p, p.n) : 0;
        if (n > 0) conn_sent(r->conn, (size_t)n);
        run_for(hub, 2);
        n = read(r->fd, in, sizeof in);
        if (n > 0 && conn_feed(r->conn, slice_of(in, (size_t)n), uv_now(&hub->loop), &why)) return;
    }
}

/* Call and say the first words, of which nothing is read yet. */
static void raw_call(struct raw *r, struct hub *hub, const struct box *to)
{
    identity_make(&r->me);
    r->fd = connect_raw(net_port(to->net));
    struct conn_config c = { .me = &r->me,
                             .swarm = swarm_key_public(),
                             .initiator = true,
                             .agent = "raw",
                             .random = random_bytes,
                             .now_ms = uv_now(&hub->loop),
                             .unix_s = unix_now() };
    assert_int_equal(conn_open(&r->conn, &c), ERR_OK);
    struct slice p = conn_pending(r->conn);
    ssize_t n = write(r->fd, p.p, p.n);
    assert_true(n > 0);
    conn_sent(r->conn, (size_t)n);
}

static void raw_open(struct raw *r, struct hub *hub, const struct box *to)
{
    raw_call(r, hub, to);
    raw_pump(r, hub);
    assert_int_equal(conn_state(r->conn), CONN_OPEN);
}

static void raw_close(struct raw *r)
{
    conn_close(r->conn);
    close(r->fd);
    identity_fini(&r->me);
}

/* Send a PING whose bytes are replaced by others, sealed as if it were a good message. */
static void raw_send(struct raw *r, const void *bytes, size_t n)
{
    struct msg m = { .type = MSG_PING, .u.PING.stamp = UINT64_MAX - 1 };
    assert_int_equal(records_queue(r->conn, &m), ERR_OK);
    struct outgoing *o = r->conn->queue[0].last;
    assert_true(n <= o->n);
    r->conn->queued -= o->n - n;
    memcpy(o->bytes, bytes, n);
    o->n = (uint32_t)n;
    records_pump(r->conn);
}

/* Somebody calls, and before a word of it is read a hundred others do: silent ones of its own
 * address, or talkative ones of another, of which each begins well.  It gets in. */
static void test_crowd_at_the_door(void **state)
{
    (void)state;
    enum { CROWD = 100 };
    static const char hello[] = "SWRM\1\1\0\0\0\x30";

    for (int is_loud = 0; is_loud < 2; is_loud++) {
        struct hub hub;
        struct box b = { 0 };
        struct raw guest;
        int fd[CROWD];
        assert_int_equal(hub_init(&hub), ERR_OK);
        box_open(&b, &hub);
        raw_call(&guest, &hub, &b);
        for (int i = 0; i < CROWD; i++) {
            fd[i] = connect_from(INADDR_LOOPBACK + (is_loud ? 1 : 0), net_port(b.net));
            if (is_loud) assert_true(write(fd[i], hello, sizeof hello - 1) > 0);
        }
        raw_pump(&guest, &hub);
        assert_int_equal(conn_state(guest.conn), CONN_OPEN);
        raw_close(&guest);
        for (int i = 0; i < CROWD; i++) close(fd[i]);
        box_close(&b);
        hub_fini(&hub);
    }
}

/* The next message that is no PING: ERROR's code, or 0. */
static unsigned raw_error(struct raw *r)
{
    struct slice bytes;
    struct msg m;
    while (conn_next(r->conn, &bytes)) {
        assert_int_equal(msg_decode(&m, bytes, NULL), ERR_OK);
        if (m.type == MSG_ERROR) return (unsigned)m.u.ERROR.code;
    }
    return 0;
}

static void test_bad_messages(void **state)
{
    (void)state;
    struct hub hub;
    struct box b[2];
    struct raw r;

    open_two(&hub, b);
    raw_open(&r, &hub, &b[0]);
    assert_int_equal(b[0].ups, 1);

    /* a type nobody knows yet: an answer, no strike, however often */
    for (int i = 0; i < 5; i++) raw_send(&r, "\x93\xcc\xfa\x07\x80", 5);
    raw_pump(&r, &hub);
    for (int i = 0; i < 5; i++) assert_int_equal(raw_error(&r), WIRE_UNSUPPORTED);
    assert_int_equal(b[0].downs, 0);

    /* messages that break the rules: told so, and the third one is the last */
    raw_send(&r, "\x93\x02\x00\x81\xa1t\xa1x", 8); /* a PING whose stamp is text */
    raw_pump(&r, &hub);
    assert_int_equal(raw_error(&r), WIRE_BAD_MESSAGE);
    raw_send(&r, "\x93\x02\x00\x80", 4); /* a PING without a stamp */
    raw_pump(&r, &hub);
    assert_int_equal(raw_error(&r), WIRE_BAD_MESSAGE);
    assert_int_equal(b[0].downs, 0);
    raw_send(&r, "\x93\x01\x00\x80", 4); /* HELLO, which is over */
    raw_pump(&r, &hub);
    assert_true(run_until(&hub, is_down, &b[0], 2000));
    assert_true(net_is_banned(b[0].net, &r.me.id));
    assert_int_equal(b[0].mails, 0);
    raw_close(&r);

    /* sealed bytes that begin no message, and lengths that lie, end a connection at once */
    b[0].downs = 0;
    raw_open(&r, &hub, &b[0]);
    raw_send(&r, "\xdd\xff\xff\xff\xff", 5);
    raw_pump(&r, &hub);
    assert_true(run_until(&hub, is_down, &b[0], 2000));
    assert_non_null(strstr(b[0].last_why, "begin no message"));
    raw_close(&r);
    close_two(&hub, b);
}

/* --- mails that nobody drops --- */

struct hoard {
    struct mail *m[200];
    unsigned n, want;
};

static bool hoard_is_full(void *arg)
{
    return ((struct hoard *)arg)->n > 64;
}

static bool hoard_has_rest(void *arg)
{
    return ((struct hoard *)arg)->n == ((struct hoard *)arg)->want;
}

static void hoard_mail(struct box *b, struct mail *m)
{
    struct hoard *h = b->user;
    if (h->n < 200)
        h->m[h->n++] = m;
    else
        m->note.drop(&m->note);
}

static unsigned hoard_empty(struct hoard *h)
{
    unsigned n = h->n;
    for (unsigned i = 0; i < n; i++) h->m[i]->note.drop(&h->m[i]->note);
    h->n = 0;
    return n;
}

/* What one peer makes us hold is bounded: beyond that we stop reading, and TCP stops the peer.
 * When the mails are dropped it goes on. */
static void test_hoard(void **state)
{
    (void)state;
    struct hub hub;
    struct box b[2];
    struct answer a;
    struct hoard h = { .n = 0 };
    uint8_t *x = calloc(1, 1 << 20);
    unsigned sent = 0;

    open_two(&hub, b);
    b[1].on_mail = hoard_mail;
    b[1].user = &h;
    assert_int_equal(dial_wait(&b[0], &b[1].me.id, "127.0.0.1", net_port(b[1].net), &a), ERR_OK);
    for (int i = 0; i < 100; i++) {
        struct msg m = act(sent, x, 1 << 20);
        if (!net_send(b[0].net, &b[1].me.id, &m)) sent++;
        run_for(&hub, 3);
    }
    (void)run_until(&hub, hoard_is_full, &h, 5000);
    run_for(&hub, 50);
    assert_in_range(h.n, 64, 70);
    assert_in_range(sent, 80, 100); /* the rest waits with the sender */
    for (unsigned i = 0; i < h.n; i++) h.m[i]->note.drop(&h.m[i]->note);
    h.want = sent - h.n;
    h.n = 0;
    assert_true(run_until(&hub, hoard_has_rest, &h, 5000));
    for (unsigned i = 1; i < h.n; i++) h.m[i]->note.drop(&h.m[i]->note);
    close_two(&hub, b);
    assert_int_equal(h.m[0]->n > 1 << 20, true); /* a mail outlives its net */
    h.m[0]->note.drop(&h.m[0]->note);
    free(x);
}

/* --- a bad network --- */

struct proxy {
    pid_t pid;
    int orders, answers;
    uint16_t port;
};

static void proxy_start(struct proxy *p, uint16_t target)
{
    int in[2], out[2];
    char to[32], line[64] = "";

    snprintf(to, sizeof to, "127.0.0.1:%u", target);
    assert_int_equal(pipe(in) | pipe(out), 0);
    p->pid = fork();
    if (p->pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        for (int fd = 3; fd < 64; fd++) close(fd);
        execl(PROXY, "swarm-proxy", "--target", to, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    assert_true(read(out[0], line, sizeof line - 1) > 0);
    p->answers = out[0];
    p->orders = in[1];
    p->port = (uint16_t)atoi(strchr(line, ':') + 1);
}

static void proxy_order(struct proxy *p, const char *order)
{
    char ok[3];
    assert_int_equal(dprintf(p->orders, "%s\n", order), strlen(order) + 1);
    assert_int_equal(read(p->answers, ok, 3), 3);
}

static void proxy_stop(struct proxy *p)
{
    close(p->orders);
    close(p->answers);
    assert_int_equal(waitpid(p->pid, NULL, 0), p->pid);
}

static void test_far_away(void **state)
{
    (void)state;
    struct hub hub;
    struct box b[2];
    struct answer a;
    struct proxy p;
    struct echo e = { .left = 10, .least = UINT64_MAX };

    open_two(&hub, b);
    proxy_start(&p, net_port(b[1].net));
    proxy_order(&p, "delay 15");
    assert_int_equal(dial_wait(&b[0], &b[1].me.id, "127.0.0.1", p.port, &a), ERR_OK);
    e.to = b[1].me.id;
    b[0].user = &e;
    b[0].on_mail = ping_back;
    b[1].on_mail = bounce;
    send_ping(&b[0]);
    assert_true(run_until(&hub, echo_done, &e, 5000));
    assert_true(e.least >= 30000000);
    print_message("30 ms away: %.2f ms there and back\n", (double)e.sum / e.seen / 1e6);
    assert_in_range(net_rtt_us(b[0].net, &b[1].me.id), 30000, 500000);
    close_two(&hub, b);
    proxy_stop(&p);
}

static bool all_came(void *arg)
{
    const struct big *g = arg;
    return g->good == 24;
}

/* A line of 8 MB/s: what is sent says how fast it is, once the buffers on the way are full. */
static void test_slow_line(void **state)
{
    (void)state;
    enum { BYTES = 1 << 20, TIMES = 24 };
    struct hub hub;
    struct box b[2];
    struct answer a;
    struct proxy p;
    uint8_t *x = malloc(BYTES);
    struct big g = { x, BYTES, 0, 0 };

    random_bytes(x, BYTES);
    open_two(&hub, b);
    assert_int_equal(net_uplink_kbit(b[0].net), 0);
    proxy_start(&p, net_port(b[1].net));
    proxy_order(&p, "rate 8000000");
    assert_int_equal(dial_wait(&b[0], &b[1].me.id, "127.0.0.1", p.port, &a), ERR_OK);
    b[1].on_mail = check_big;
    b[1].user = &g;
    struct msg m = act(0, x, BYTES);
    for (int i = 0; i < TIMES; i++) assert_int_equal(net_send(b[0].net, &b[1].me.id, &m), ERR_OK);
    assert_true(run_until(&hub, all_came, &g, 30000));
    print_message("a line of 64000 kbit/s is measured as %u\n", net_uplink_kbit(b[0].net));
    assert_in_range(net_uplink_kbit(b[0].net), 64000 / 5, 64000 * 2);
    assert_int_equal(net_line_kbit(b[0].net, &b[1].me.id), net_uplink_kbit(b[0].net));
    assert_int_equal(net_line_kbit(b[1].net, &b[0].me.id), 0);
    assert_int_equal(net_uplink_kbit(b[1].net), 0);
    close_two(&hub, b);
    proxy_stop(&p);
    free(x);
}

static bool neither_up(void *arg)
{
    struct box *b = arg;
    return !net_is_up(b[0].net, &b[1].me.id) && !net_is_up(b[1].net, &b[0].me.id);
}

static bool one_good(void *arg)
{
    return ((struct big *)arg)->good == 1;
}

/* A changed byte anywhere, or a connection cut anywhere: never a wrong message, always a word to
 * the owner, and the next connection is as good as new. */
static void test_damage(void **state)
{
    (void)state;
    static const char *const faults[] = { "flip 2",     "flip 5",   "flip 30",   "flip 100",
                                          "flip 300",   "flip 600", "flip 2000", "flip 9000",
                                          "flip 40000", "cut 4",    "cut 50",    "cut 200",
                                          "cut 700",    "cut 9001", "cut 60000" };
    struct hub hub;
    struct box b[2];
    struct answer a;
    struct proxy p;
    uint8_t x[5000];
    struct big g = { x, sizeof x, 0, 0 };
    unsigned failed_dials = 0;

    open_two(&hub, b);
    random_bytes(x, sizeof x);
    b[1].on_mail = check_big;
    b[1].user = &g;
    proxy_start(&p, net_port(b[1].net));
    for (size_t i = 0; i < sizeof faults / sizeof *faults * 2; i++) {
        proxy_order(&p, i % 2 ? "only up" : "only down");
        proxy_order(&p, faults[i / 2]);
        (void)dial_wait(&b[0], &b[1].me.id, "127.0.0.1", p.port, &a);
        if (a.e) failed_dials++;
        struct msg m = act(0, x, sizeof x);
        for (int k = 0; k < 15; k++) {
            if (net_send(b[0].net, &b[1].me.id, &m)) break;
            run_for(&hub, 2);
        }
        proxy_order(&p, "drop"); /* faults beyond what went through */
        if (!run_until(&hub, neither_up, b, 6000)) fail_msg("%s: still up", faults[i / 2]);
        proxy_order(&p, "flip 0");
        proxy_order(&p, "cut 0");
    }
    run_for(&hub, 20);
    assert_int_equal(b[0].ups, b[0].downs);
    assert_int_equal(b[1].ups, b[1].downs);
    assert_int_equal(g.bad, 0);
    assert_in_range(failed_dials, 8, 24);
    assert_int_equal(dial_wait(&b[0], &b[1].me.id, "127.0.0.1", p.port, &a), ERR_OK);
    g.good = 0;
    struct msg m = act(0, x, sizeof x);
    assert_int_equal(net_send(b[0].net, &b[1].me.id, &m), ERR_OK);
    assert_true(run_until(&hub, one_good, &g, 3000));
    close_two(&hub, b);
    proxy_stop(&p);
}

/* --- silence --- */

static bool both_down(void *arg)
{
    struct box **two = arg;
    return two[0]->downs > 0 && two[1]->downs > 0;
}

/* A peer that stops, and a line that swallows everything: both are noticed, in the time that
 * net_impl.h names; what we send piles up to the limit and no further.  A peer that only has no
 * room for more, because it is busy, is not taken for dead. */
static void test_silence(void **state)
{
    (void)state;
    struct hub hub;
    struct box b[2], c = { 0 };
    struct box *waits[2] = { &c, &b[0] };
    struct answer a;
    struct node_id id;
    struct proxy p;
    struct hoard h = { .n = 0 };
    uint16_t port;
    int fd[2];
    uint8_t *x = calloc(1, 1 << 20);

    assert_int_equal(pipe(fd), 0);
    pid_t child = fork();
    if (child == 0) {
        close(fd[0]);
        child_node(fd[1]);
        _exit(0);
    }
    close(fd[1]);
    assert_int_equal(read(fd[0], id.b, ID_BYTES), ID_BYTES);
    assert_int_equal(read(fd[0], &port, 2), 2);
    close(fd[0]);

    open_two(&hub, b);
    box_open(&c, &hub);
    proxy_start(&p, net_port(b[1].net));
    assert_int_equal(dial_wait(&b[0], &b[1].me.id, "127.0.0.1", p.port, &a), ERR_OK);
    assert_int_equal(dial_wait(&c, &id, "127.0.0.1", port, &a), ERR_OK);
    b[1].on_mail = hoard_mail;
    b[1].user = &h;
    assert_int_equal(dial_wait(&c, &b[1].me.id, "127.0.0.1", net_port(b[1].net), &a), ERR_OK);
    h.want = 100;
    for (unsigned i = 0; i < h.want; i++) {
        struct msg big = act(i, x, 1 << 20);
        assert_int_equal(net_send(c.net, &b[1].me.id, &big), ERR_OK);
        run_for(&hub, 5);
    }
    proxy_order(&p, "blackhole 1");
    kill(child, SIGSTOP);
    struct msg m = act(0, x, 1 << 20);
    enum err e = ERR_OK;
    unsigned sent = 0;
    for (; !e && sent < 200; sent++) {
        e = net_send(c.net, &id, &m);
        uv_run(&hub.loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(e, ERR_FULL);
    assert_in_range(sent, 60, 90);

    assert_true(run_until(&hub, both_down, waits, 30000));
    assert_non_null(strstr(c.last_why, "too slowly"));
    assert_non_null(strstr(b[0].last_why, "three PINGs"));
    assert_int_equal(c.downs, 1);
    assert_true(net_is_up(c.net, &b[1].me.id));
    assert_in_range(h.n, 64, 70);
    h.want -= hoard_empty(&h);
    assert_true(run_until(&hub, hoard_has_rest, &h, 5000));
    (void)hoard_empty(&h);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    box_close(&c);
    close_two(&hub, b);
    proxy_stop(&p);
    free(x);
}

static int setup(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    return proto_init();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_restarted),     cmocka_unit_test(test_dial),
        cmocka_unit_test(test_dial_fails),    cmocka_unit_test(test_listen_fails),
        cmocka_unit_test(test_ipv6),          cmocka_unit_test(test_hints_and_order),
        cmocka_unit_test(test_hint_fails),    cmocka_unit_test(test_self),
        cmocka_unit_test(test_big),           cmocka_unit_test(test_latency),
        cmocka_unit_test(test_two_processes), cmocka_unit_test(test_simultaneous),
        cmocka_unit_test(test_junk),          cmocka_unit_test(test_strikes),
        cmocka_unit_test(test_guard),         cmocka_unit_test(test_bad_messages),
        cmocka_unit_test(test_hoard),         cmocka_unit_test(test_far_away),
        cmocka_unit_test(test_slow_line),     cmocka_unit_test(test_damage),
        cmocka_unit_test(test_silence),       cmocka_unit_test(test_crowd_at_the_door),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
