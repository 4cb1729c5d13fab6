/* The directory of a running node: all learn of all, who leaves is known to have left, and what
 * strangers say is believed no further than they can prove. */
#include "peers/peers.h"

#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/net/nets.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

/* A net with peers on it, as swarm-node has them. */
struct node {
    struct box box; /* first */
    struct peers *peers;
    unsigned changes, join_fails, errors;
    char join_why[512];
};

static void node_mail(struct box *b, struct mail *m)
{
    struct node *n = (struct node *)b;
    if (n->peers && (m->m.type == MSG_RECORDS || m->m.type == MSG_RECORDS_GET)) {
        peers_on_mail(n->peers, m);
        return;
    }
    if (m->m.type == MSG_ERROR) n->errors++;
    m->note.drop(&m->note);
}

static void node_peer(struct box *b, const struct node_id *id, bool up)
{
    struct node *n = (struct node *)b;
    if (n->peers) peers_on_peer(n->peers, id, up);
}

static void on_change(void *arg)
{
    ((struct node *)arg)->changes++;
}

static void on_join_failed(void *arg, const struct link *l, const char *why)
{
    struct node *n = arg;
    (void)l;
    n->join_fails++;
    snprintf(n->join_why, sizeof n->join_why, "%s", why);
}

static void node_open_on(struct node *n, struct hub *hub, const char *host, const struct link *join)
{
    *n = (struct node){ .box = { .on_mail = node_mail, .on_peer = node_peer } };
    box_open_as(&n->box, hub, NULL, host);
    struct peers_config c = {
        .hub = hub,
        .net = n->box.net,
        .me = &n->box.me,
        .swarm = swarm_key_public(),
        .join = join,
        .n_join = join ? 1 : 0,
        .arg = n,
        .on_change = on_change,
        .on_join_failed = on_join_failed,
    };
    assert_int_equal(peers_open(&n->peers, &c), ERR_OK);
}

static void node_open(struct node *n, struct hub *hub, const struct link *join)
{
    node_open_on(n, hub, "127.0.0.1", join);
}

/* Without a word, as if killed; say goodbye with peers_leave before. */
static void node_close(struct node *n)
{
    peers_close(n->peers);
    n->peers = NULL;
    box_close(&n->box);
}

static struct link link_to(const struct node *n)
{
    struct link l = { .id = n->box.me.id, .host = "127.0.0.1", .port = net_port(n->box.net) };
    return l;
}

static void announce(struct node *n, unsigned context)
{
    uint8_t addr[6];
    struct record_body b = { .state = RECORD_ACTIVE,
                             .context = context,
                             .name = slice_str("test") };
    b.addrs.n = 1;
    b.addrs.p[0] = loopback_addr(addr, net_port(n->box.net));
    assert_int_equal(peers_announce(n->peers, &b), ERR_OK);
}

static const struct entry *knows(const struct node *n, const struct node *of)
{
    return directory_find(peers_directory(n->peers), &of->box.me.id);
}

enum { NODES = 5 };

struct swarm {
    struct hub hub;
    struct node n[NODES];
};

static bool all_know_all(void *arg)
{
    struct swarm *s = arg;
    for (int i = 0; i < NODES; i++)
        if (directory_n(peers_directory(s->n[i].peers)) != NODES) return false;
    return true;
}

/* Each joins the one before. */
static void open_chain(struct swarm *s)
{
    struct link l;
    assert_int_equal(hub_init(&s->hub), ERR_OK);
    for (int i = 0; i < NODES; i++) {
        if (i) l = link_to(&s->n[i - 1]);
        node_open(&s->n[i], &s->hub, i ? &l : NULL);
        announce(&s->n[i], 100);
    }
}

static bool all_know_new_context(void *arg)
{
    struct swarm *s = arg;
    for (int i = 0; i < NODES; i++)
        if (!knows(&s->n[i], &s->n[0]) || knows(&s->n[i], &s->n[0])->body.context != 200)
            return false;
    return true;
}

static bool gone_everywhere(void *arg)
{
    struct swarm *s = arg;
    for (int i = 0; i < NODES - 1; i++) {
        const struct entry *e = knows(&s->n[i], &s->n[NODES - 1]);
        if (e && e->body.state != RECORD_GONE) return false;
    }
    return true;
}

static uint64_t bans(struct node *n)
{
    uint64_t count = 0;
    const struct measured *m = peers_measured(n->peers);
    for (uint32_t i = 0; i < directory_n(peers_directory(n->peers)); i++)
        count += m[i].banned || m[i].lost;
    return count;
}

static bool substitute_found(void *arg)
{
    struct swarm *s = arg;
    for (int i = 0; i < 2; i++)
        if (net_is_up(s->n[3].box.net, &s->n[i].box.me.id)) return true;
    return false;
}

static void test_chain(void **state)
{
    (void)state;
    struct swarm *s = calloc(1, sizeof *s);
    uint64_t t = uv_hrtime();

    open_chain(s);
    assert_true(run_until(&s->hub, all_know_all, s, 3000));
    print_message("five in a chain know each other after %.1f ms\n",
                  (double)(uv_hrtime() - t) / 1e6);

    /* learned of, but not dialled: the ends of the chain are not connected */
    assert_false(net_is_up(s->n[0].box.net, &s->n[4].box.me.id));
    /* yet reachable when needed, by the address in the record */
    struct msg m = { .type = MSG_PING };
    assert_int_equal(net_send(s->n[0].box.net, &s->n[4].box.me.id, &m), ERR_OK);
    run_for(&s->hub, 50);
    assert_true(net_is_up(s->n[0].box.net, &s->n[4].box.me.id));

    /* the same again is no news; a change is, though two in a second are told as one */
    unsigned changes = s->n[4].changes;
    announce(&s->n[0], 100);
    run_for(&s->hub, 50);
    assert_int_equal(s->n[4].changes, changes);
    announce(&s->n[0], 150);
    announce(&s->n[0], 200);
    assert_true(run_until(&s->hub, all_know_new_context, s, 3000));

    /* one leaves with a word */
    peers_leave(s->n[4].peers);
    node_close(&s->n[4]);
    assert_true(run_until(&s->hub, gone_everywhere, s, 1000));
    assert_int_equal(knows(&s->n[0], &s->n[4])->body.state, RECORD_GONE);

    /* one in the middle disappears: its neighbours do not plan with it, and who joined by it finds
     * another way into the swarm */
    run_for(&s->hub, 20);
    uint64_t before = bans(&s->n[1]);
    node_close(&s->n[2]);
    run_for(&s->hub, 20);
    assert_int_equal(bans(&s->n[1]), before + 1);
    assert_false(net_is_up(s->n[3].box.net, &s->n[2].box.me.id));
    assert_true(run_until(&s->hub, substitute_found, s, 3000));
    assert_true(s->n[3].join_fails == 1);
    assert_non_null(strstr(s->n[3].join_why, "refused"));

    node_close(&s->n[0]);
    node_close(&s->n[1]);
    node_close(&s->n[3]);
    hub_fini(&s->hub);
    free(s);
}

static bool joined(void *arg)
{
    struct node *n = arg; /* two of them */
    return knows(&n[1], &n[0]) && knows(&n[0], &n[1]);
}

/* The node joined by starts later; the failure is told once; and a lost link is joined again. */
static void test_join_later(void **state)
{
    (void)state;
    struct hub hub;
    struct node *n = calloc(2, sizeof *n);
    struct link l;

    assert_int_equal(hub_init(&hub), ERR_OK);
    node_open(&n[0], &hub, NULL);
    l = link_to(&n[0]);
    struct identity keep = n[0].box.me;
    node_close(&n[0]);
    node_open(&n[1], &hub, &l);
    announce(&n[1], 1);
    run_for(&hub, 1600); /* two tries */
    assert_int_equal(n[1].join_fails, 1);

    /* somebody else has that address now: another reason, told again */
    struct node *other = calloc(1, sizeof *other);
    other->box = (struct box){ .hub = &hub };
    identity_make(&other->box.me);
    struct net_config c = { .me = &other->box.me,
                            .swarm = swarm_key_public(),
                            .listen_host = "127.0.0.1",
                            .listen_port = l.port,
                            .arg = &other->box,
                            .on_mail = box_mail,
                            .on_peer = box_peer };
    struct why why;
    assert_int_equal(net_open(&other->box.net, &hub, &c, &why), ERR_OK);
    run_for(&hub, 3000);
    assert_int_equal(n[1].join_fails, 2);
    assert_non_null(strstr(n[1].join_why, "answered"));
    box_close(&other->box);
    free(other);

    n[0] = (struct node){ .box = { .on_mail = node_mail, .on_peer = node_peer, .hub = &hub } };
    n[0].box.me = keep;
    c.me = &n[0].box.me;
    c.arg = &n[0].box;
    assert_int_equal(net_open(&n[0].box.net, &hub, &c, &why), ERR_OK);
    struct peers_config pc = { .hub = &hub,
                               .net = n[0].box.net,
                               .me = &n[0].box.me,
                               .swarm = swarm_key_public(),
                               .arg = &n[0],
                               .on_change = on_change,
                               .on_join_failed = on_join_failed };
    assert_int_equal(peers_open(&n[0].peers, &pc), ERR_OK);
    announce(&n[0], 1);
    assert_true(run_until(&hub, joined, n, 8000));
    node_close(&n[0]);
    node_close(&n[1]);
    hub_fini(&hub);
    free(n);
}

/* Make a record of any identity; returns its slice. */
static struct slice record_of(const struct identity *who, uint64_t seq, struct slice addr,
                              uint8_t out[RECORD_BYTES_MAX])
{
    struct record_body b = { .version = 2, .state = RECORD_ACTIVE, .seq = seq };
    size_t n;
    b.made = unix_now();
    b.expires = b.made + 300;
    if (addr.n) b.addrs.p[b.addrs.n++] = addr;
    assert_int_equal(record_make(who, swarm_key_public(), &b, out, RECORD_BYTES_MAX, &n), ERR_OK);
    return slice_of(out, n);
}

static void send_record(struct box *from, const struct node *to, struct slice record)
{
    struct msg m = { .type = MSG_RECORDS };
    m.u.RECORDS.records.n = 1;
    m.u.RECORDS.records.p[0] = record;
    assert_int_equal(net_send(from->net, &to->box.me.id, &m), ERR_OK);
}

/* Our own earlier announcement, from a clock that was ahead: we speak up with a higher number. */
static bool reannounced(void *arg)
{
    struct node *n = arg;
    const struct entry *e = knows(&n[0], &n[1]);
    return e && e->body.context == 7;
}

static void test_earlier_life(void **state)
{
    (void)state;
    struct hub hub;
    struct node *n = calloc(2, sizeof *n);
    struct box witness = { 0 };
    struct answer a;
    uint8_t bytes[RECORD_BYTES_MAX];

    assert_int_equal(hub_init(&hub), ERR_OK);
    node_open(&n[0], &hub, NULL);
    struct link l = link_to(&n[0]);
    node_open(&n[1], &hub, &l);
    box_open(&witness, &hub);
    assert_int_equal(dial_wait(&witness, &l.id, l.host, l.port, &a), ERR_OK);
    uint64_t future = (unix_now() + 3600) * 1000000;
    send_record(&witness, &n[0], record_of(&n[1].box.me, future, slice_of(NULL, 0), bytes));
    run_for(&hub, 50);
    assert_non_null(knows(&n[0], &n[1]));
    announce(&n[1], 7);
    assert_true(run_until(&hub, reannounced, n, 3000));
    assert_true(knows(&n[0], &n[1])->body.seq > future);
    box_close(&witness);
    node_close(&n[0]);
    node_close(&n[1]);
    hub_fini(&hub);
    free(n);
}

/* Who tells what was said before what we know is told what we know. */
struct told {
    struct box box; /* first */
    uint64_t seq;   /* of the last record it got */
};

static void told_mail(struct box *b, struct mail *m)
{
    struct told *t = (struct told *)b;
    struct record_body body;
    const struct bins *r = &m->m.u.RECORDS.records;
    if (m->m.type == MSG_RECORDS && r->n == 1) {
        struct slice bytes = slice_of(r->p[0].p + SIG_BYTES, r->p[0].n - SIG_BYTES);
        assert_int_equal(record_body_decode(&body, bytes, NULL), ERR_OK);
        t->seq = body.seq;
    }
    m->note.drop(&m->note);
}

static void test_put_right(void **state)
{
    (void)state;
    struct hub hub;
    struct node n;
    struct box witness = { 0 };
    struct told behind = { .box = { .on_mail = told_mail } };
    struct identity someone;
    struct answer a;
    uint8_t bytes[RECORD_BYTES_MAX], addr[6];

    assert_int_equal(hub_init(&hub), ERR_OK);
    node_open(&n, &hub, NULL);
    struct link l = link_to(&n);
    box_open(&witness, &hub);
    box_open(&behind.box, &hub);
    identity_make(&someone);
    assert_int_equal(dial_wait(&witness, &l.id, l.host, l.port, &a), ERR_OK);
    send_record(&witness, &n, record_of(&someone, 1000, loopback_addr(addr, 9), bytes));
    run_for(&hub, 50);
    assert_int_equal(dial_wait(&behind.box, &l.id, l.host, l.port, &a), ERR_OK);
    run_for(&hub, 50);
    assert_int_equal(behind.seq, 0);
    send_record(&behind.box, &n, record_of(&someone, 1000, loopback_addr(addr, 9), bytes));
    run_for(&hub, 50);
    assert_int_equal(behind.seq, 0); /* the same is no reason to speak */
    send_record(&behind.box, &n, record_of(&someone, 999, loopback_addr(addr, 9), bytes));
    run_for(&hub, 50);
    assert_int_equal(behind.seq, 1000);
    box_close(&witness);
    box_close(&behind.box);
    node_close(&n);
    hub_fini(&hub);
    identity_fini(&someone);
}

static bool witness_down(void *arg)
{
    return ((struct box *)arg)->downs > 0;
}

static void test_liars(void **state)
{
    (void)state;
    struct hub hub;
    struct node *n = calloc(1, sizeof *n);
    struct box liar = { 0 };
    struct identity someone;
    struct answer a;
    uint8_t bytes[RECORD_BYTES_MAX], addr[6];

    assert_int_equal(hub_init(&hub), ERR_OK);
    node_open(n, &hub, NULL);
    announce(n, 1);
    box_open(&liar, &hub);
    identity_make(&someone);
    assert_int_equal(dial_wait(&liar, &n->box.me.id, "127.0.0.1", net_port(n->box.net), &a),
                     ERR_OK);
    run_for(&hub, 20);

    /* a flood of new records of one node is not passed into the directory without end */
    for (uint64_t seq = 1; seq <= 50; seq++)
        send_record(&liar, n, record_of(&someone, seq, loopback_addr(addr, 9), bytes));
    run_for(&hub, 50);
    const struct entry *e = directory_find(peers_directory(n->peers), &someone.id);
    assert_non_null(e);
    assert_in_range(e->body.seq, 5, 15);

    /* everything can be asked for, but not all the time */
    struct msg get = { .type = MSG_RECORDS_GET, .rid = 5 };
    for (int i = 0; i < 3; i++) assert_int_equal(net_send(liar.net, &n->box.me.id, &get), ERR_OK);
    unsigned mails = liar.mails;
    run_for(&hub, 50);
    assert_int_equal(liar.mails, mails + 3); /* the records, and twice "slow down" */

    /* a signature that does not verify: three of them end it */
    for (int i = 0; i < 3; i++) {
        identity_fini(&someone);
        identity_make(&someone);
        struct slice r = record_of(&someone, 1000, loopback_addr(addr, 9), bytes);
        bytes[3] ^= 1;
        send_record(&liar, n, r);
    }
    assert_true(run_until(&hub, witness_down, &liar, 2000));
    assert_true(net_is_banned(n->box.net, &liar.me.id));
    assert_null(directory_find(peers_directory(n->peers), &someone.id));
    box_close(&liar);
    node_close(n);
    hub_fini(&hub);
    identity_fini(&someone);
    free(n);
}

/* An address of this machine that is not loopback, for the rule about loopback addresses. */
static bool outer_addr(char out[INET_ADDRSTRLEN])
{
    struct ifaddrs *all, *i;
    bool found = false;

    if (getifaddrs(&all)) return false;
    for (i = all; i && !found; i = i->ifa_next) {
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET) continue;
        if ((i->ifa_flags & IFF_LOOPBACK) || !(i->ifa_flags & IFF_UP)) continue;
        const struct sockaddr_in *in = (const struct sockaddr_in *)i->ifa_addr;
        found = inet_ntop(AF_INET, &in->sin_addr, out, INET_ADDRSTRLEN) != NULL;
    }
    freeifaddrs(all);
    return found;
}

/* A node that is only reached over loopback is not told to other machines, and a loopback address
 * in a record that came from another machine is never dialled. */
static void test_loopback_rule(void **state)
{
    (void)state;
    struct hub hub;
    struct node *n = calloc(3, sizeof *n);
    char host[INET_ADDRSTRLEN];
    struct msg m = { .type = MSG_PING };

    if (!outer_addr(host)) {
        print_message("this machine has only loopback: skipped\n");
        free(n);
        skip();
    }
    assert_int_equal(hub_init(&hub), ERR_OK);
    node_open_on(&n[0], &hub, "0.0.0.0", NULL);
    struct link far = link_to(&n[0]), near;
    snprintf(far.host, sizeof far.host, "%s", host);
    node_open(&n[1], &hub, &far); /* knows n[0] over the network */
    near = link_to(&n[1]);
    node_open(&n[2], &hub, &near); /* on loopback beside n[1] */
    for (int i = 0; i < 3; i++) announce(&n[i], 1);
    run_for(&hub, 600);
    assert_non_null(knows(&n[0], &n[1])); /* what a neighbour says of itself is heard */
    assert_non_null(knows(&n[1], &n[2]));
    assert_null(knows(&n[0], &n[2]));
    assert_non_null(knows(&n[2], &n[1]));

    /* n[0] announced 127.0.0.1 too; n[1] heard that over the network: without the link it has no
     * way to reach it, while n[2]'s address is good to n[1] */
    struct node_id id = n[0].box.me.id;
    assert_non_null(knows(&n[1], &n[0]));
    struct node_id id2 = n[2].box.me.id;
    node_close(&n[0]);
    run_for(&hub, 20);
    assert_int_equal(net_send(n[1].box.net, &id, &m), ERR_NOTFOUND);
    node_close(&n[2]);
    run_for(&hub, 20);
    assert_int_equal(net_send(n[1].box.net, &id2, &m), ERR_OK); /* dials, in vain */
    node_close(&n[1]);
    hub_fini(&hub);
    free(n);
}

static struct link outer_link(const struct node *n, const char *host)
{
    struct link l = link_to(n);
    snprintf(l.host, sizeof l.host, "%s", host);
    return l;
}

static void announce_at(struct node *n, const char *host)
{
    uint8_t addr[ADDR_MAX];
    char text[64];
    struct record_body b = { .state = RECORD_ACTIVE };

    snprintf(text, sizeof text, "%s:%u", host, net_port(n->box.net));
    b.addrs.p[b.addrs.n++] = slice_of(addr, addr_parse(addr, text));
    assert_int_equal(peers_announce(n->peers, &b), ERR_OK);
}

/* In the public swarm what one neighbour alone says of a node is not passed on, until that node has
 * shown itself. */
static void test_hearsay_rule(void **state)
{
    (void)state;
    struct hub hub;
    struct node *n = calloc(3, sizeof *n);
    struct box liar = { 0 };
    struct identity ghost;
    struct answer a;
    uint8_t bytes[RECORD_BYTES_MAX], addr[6] = { 203, 0, 113, 9, 0, 9 };
    char host[INET_ADDRSTRLEN];
    struct link l;

    if (!outer_addr(host)) {
        print_message("this machine has only loopback: skipped\n");
        free(n);
        skip();
    }
    assert_int_equal(hub_init(&hub), ERR_OK);
    identity_make(&ghost);
    for (int i = 0; i < 3; i++) {
        if (i) l = outer_link(&n[i - 1], host);
        node_open_on(&n[i], &hub, "0.0.0.0", i ? &l : NULL);
        announce_at(&n[i], host);
    }
    run_for(&hub, 300);
    assert_non_null(knows(&n[0], &n[2])); /* n[1] is connected to both, so it tells */
    box_open_as(&liar, &hub, NULL, "0.0.0.0");
    assert_int_equal(dial_wait(&liar, &n[0].box.me.id, host, net_port(n[0].box.net), &a), ERR_OK);
    run_for(&hub, 50);
    send_record(&liar, &n[0], record_of(&ghost, 7, slice_of(addr, 6), bytes));
    run_for(&hub, 300);
    assert_non_null(directory_find(peers_directory(n[0].peers), &ghost.id));
    assert_null(directory_find(peers_directory(n[1].peers), &ghost.id));

    /* it is no ghost: it connects, and news of it goes as far as those who can prove it */
    struct box real = { .hub = &hub, .me = ghost };
    struct net_config c = { .me = &real.me,
                            .swarm = swarm_key_public(),
                            .agent = "test",
                            .arg = &real,
                            .on_mail = box_mail,
                            .on_peer = box_peer };
    assert_int_equal(net_open(&real.net, &hub, &c, NULL), ERR_OK);
    assert_int_equal(dial_wait(&real, &n[0].box.me.id, host, net_port(n[0].box.net), &a), ERR_OK);
    run_for(&hub, 300);
    assert_non_null(directory_find(peers_directory(n[1].peers), &ghost.id));
    assert_null(directory_find(peers_directory(n[2].peers), &ghost.id));
    assert_int_equal(dial_wait(&real, &n[1].box.me.id, host, net_port(n[1].box.net), &a), ERR_OK);
    run_for(&hub, 300);
    assert_non_null(directory_find(peers_directory(n[2].peers), &ghost.id));
    box_close(&real);
    box_close(&liar);
    for (int i = 0; i < 3; i++) node_close(&n[i]);
    hub_fini(&hub);
    free(n);
}

static int setup(void **state)
{
    (void)state;
    log_set_level(getenv("DEBUG") ? LOG_DEBUG : LOG_INFO);
    return proto_init();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chain),         cmocka_unit_test(test_join_later),
        cmocka_unit_test(test_earlier_life),  cmocka_unit_test(test_liars),
        cmocka_unit_test(test_loopback_rule), cmocka_unit_test(test_hearsay_rule),
        cmocka_unit_test(test_put_right),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
