/* probe - what the nodes of a swarm announce, for the tests' scripts.
 *
 *   probe LINK nodes N       wait until N nodes are announced as active
 *   probe LINK sessions N    wait until they announce N open sessions together
 *   probe LINK hostile       join, then send messages that break the rules; wait for the ban
 *
 * Waits at most 15 s; then prints what there is and exits with 1. */
#include "peers/peers.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WAIT_MS = 15000, TICK_MS = 50 };

struct probe {
    struct hub hub;
    struct net *net;
    struct peers *peers;
    struct link link;
    const char *what;
    uint32_t wanted;
    uint64_t deadline_ms;
    uv_timer_t timer;
    unsigned errors; /* ERROR messages received */
    int status;
};

static void on_net_closed(void *arg)
{
    hub_stop(&((struct probe *)arg)->hub);
}

static void end(struct probe *p, int status)
{
    if (uv_is_closing((uv_handle_t *)&p->timer)) return;
    p->status = status;
    uv_close((uv_handle_t *)&p->timer, NULL);
    peers_close(p->peers);
    net_close(p->net, on_net_closed, p);
}

/* Sessions and rows that nobody granted, and a request with unreadable text. */
static void be_hostile(struct probe *p)
{
    static const uint8_t bytes[64] = { 0xff };
    struct msg open = { .type = MSG_SESS_OPEN, .rid = 7 };
    open.u.SESS_OPEN.session = slice_of(bytes, SESSION_BYTES);
    open.u.SESS_OPEN.model = slice_of(bytes, ID_BYTES);
    open.u.SESS_OPEN.prev_id = slice_of(bytes, ID_BYTES);
    open.u.SESS_OPEN.layer_hi = 200;
    open.u.SESS_OPEN.max_tokens = CONTEXT_MAX;
    struct msg act = { .type = MSG_ACT };
    act.u.ACT.session = slice_of(bytes, SESSION_BYTES);
    act.u.ACT.rows = ROWS_MAX;
    act.u.ACT.x = slice_of(bytes, sizeof bytes);
    struct msg home = act;
    home.rid = 9;
    struct msg done = { .type = MSG_STEP_DONE };
    done.u.STEP_DONE.session = slice_of(bytes, SESSION_BYTES);
    struct msg close = { .type = MSG_SESS_CLOSE };
    close.u.SESS_CLOSE.session = slice_of(bytes, SESSION_BYTES);
    struct msg ask = { .type = MSG_ASK, .rid = 8 };
    ask.u.ASK.conversation = slice_str("{\"messages\": [{\"role\": \"none\"");
    const struct msg *all[] = { &open, &act, &home, &done, &close, &ask };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        if (net_send(p->net, &p->link.id, all[i])) fprintf(stderr, "probe: message %u failed\n", i);
}

static void on_tick(uv_timer_t *t)
{
    struct probe *p = t->data;
    const struct directory *d = peers_directory(p->peers);
    uint32_t nodes = 0, sessions = 0;
    for (uint32_t i = 0; i < directory_n(d); i++) {
        const struct record_body *b = &directory_nth(d, i)->body;
        if (b->state != RECORD_ACTIVE) continue;
        nodes++;
        sessions += (uint32_t)b->sessions;
    }
    uint32_t have = strcmp(p->what, "nodes") == 0      ? nodes
                    : strcmp(p->what, "sessions") == 0 ? sessions
                                                       : p->errors;
    if (have == p->wanted && nodes > 0) {
        end(p, 0);
    } else if (now_ms(&p->hub) > p->deadline_ms) {
        fprintf(stderr, "probe: %u %s, not %u\n", have, p->what, p->wanted);
        end(p, 1);
    }
}

static void on_mail(void *arg, struct mail *m)
{
    struct probe *p = arg;
    if (uv_is_closing((uv_handle_t *)&p->timer)) {
        m->note.drop(&m->note);
        return;
    }
    if (m->m.type == MSG_ERROR) {
        p->errors++;
        fprintf(stderr, "probe: %.*s\n", (int)m->m.u.ERROR.text.n,
                (const char *)m->m.u.ERROR.text.p);
    }
    if (m->m.type == MSG_RECORDS || m->m.type == MSG_RECORDS_GET)
        peers_on_mail(p->peers, m);
    else
        m->note.drop(&m->note);
}

static void on_peer(void *arg, const struct node_id *id, bool up, const char *why)
{
    struct probe *p = arg;
    (void)why;
    if (uv_is_closing((uv_handle_t *)&p->timer)) return;
    peers_on_peer(p->peers, id, up);
    if (up && strcmp(p->what, "hostile") == 0 && node_id_equal(id, &p->link.id)) be_hostile(p);
}

static void on_change(void *arg)
{
    (void)arg;
}

static void on_join_failed(void *arg, const struct link *l, const char *why)
{
    (void)l;
    fprintf(stderr, "probe: %s\n", why);
    end(arg, 1);
}

int main(int argc, char **argv)
{
    static struct probe p;
    struct identity me;
    struct why why;
    if (argc < 3) return 2;
    p.what = argv[2];
    p.wanted = argc > 3 ? (uint32_t)atoi(argv[3]) : 2; /* hostile: SESS_OPEN and ASK are answered */
    signal(SIGPIPE, SIG_IGN);
    if (proto_init() || link_parse(&p.link, argv[1], &why) || hub_init(&p.hub)) return 2;
    identity_make(&me);
    struct net_config nc = { .me = &me,
                             .swarm = swarm_key_public(),
                             .agent = "probe",
                             .arg = &p,
                             .on_mail = on_mail,
                             .on_peer = on_peer };
    if (net_open(&p.net, &p.hub, &nc, &why)) return 2;
    struct peers_config pc = { .hub = &p.hub,
                               .net = p.net,
                               .me = &me,
                               .swarm = swarm_key_public(),
                               .join = &p.link,
                               .n_join = 1,
                               .arg = &p,
                               .on_change = on_change,
                               .on_join_failed = on_join_failed };
    if (peers_open(&p.peers, &pc)) return 2;
    uv_timer_init(&p.hub.loop, &p.timer);
    p.timer.data = &p;
    p.deadline_ms = now_ms(&p.hub) + WAIT_MS;
    uv_timer_start(&p.timer, on_tick, TICK_MS, TICK_MS);
    hub_run(&p.hub);
    hub_fini(&p.hub);
    return p.status;
}
