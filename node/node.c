#include "node/node_impl.h"

#include "base/log.h"
#include "home/runtime_dir.h"
#include "net/words.h"
#include "node/sensors.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { NAME_MAX_BYTES = 32 };
enum { JOIN_WAIT_MS = 5000 }; /* before a node that joins says it is ready, at most */

/* --- 1: what it is told --- */

static enum err read_config(struct node *n, struct why *why)
{
    const struct node_config *c = n->c;
    enum err e = hostport_parse(n->listen_host, &n->listen_port, c->listen, why);
    if (!e && c->advertise)
        e = hostport_parse(n->advertise_host, &n->advertise_port, c->advertise, why);
    for (unsigned i = 0; i < c->n_join && !e; i++) e = link_parse(&n->join[i], c->join[i], why);
    for (unsigned i = 0; i < c->n_bootstrap && !e; i++)
        e = link_parse(&n->bootstrap[i], c->bootstrap[i], why);
    for (unsigned i = 0; i < c->n_allow && !e; i++)
        e = node_id_parse(&n->allow[i], c->allow[i], why);
    for (unsigned i = 0; i < c->n_trust && !e; i++)
        e = node_id_parse(&n->trust[i], c->trust[i], why);
    if (!e) e = keys_swarm(&n->swarm, c->swarm_key, why);
    if (!e && c->name && strlen(c->name) > NAME_MAX_BYTES)
        e = fail(why, ERR_USAGE, "--name %s: at most %d bytes", c->name, NAME_MAX_BYTES);
    return e;
}

static void name_log(const struct node *n)
{
    char name[NODE_ID_SHORT];
    node_id_short(name, &n->me.id);
    log_set_node(name);
}

static enum err open_identity(struct node *n, struct why *why)
{
    char *file = n->identity_file;
    bool created;
    enum err e = ERR_OK;
    if (!n->c->identity)
        e = file_path(file, n->c->store_dir, "identity.key", why);
    else if (snprintf(file, FILE_PATH_MAX, "%s", n->c->identity) >= FILE_PATH_MAX)
        e = fail(why, ERR_RANGE, "--identity: the path is too long");
    if (!e) e = keys_identity(&n->me, file, true, &created, why);
    if (!e) name_log(n);
    if (!e && created) log_info("made a new identity in %s", file);
    return e ? e : keys_hold_identity(&n->identity_lock, file, why);
}

static void settle_join(struct node *n, const struct node_id *id);

/* --- 2: whom it talks to --- */

static void describe_services(struct node *n, struct record_body *r)
{
    struct services *v = &n->services;
    uint32_t lo, hi;
    services_served(v, &lo, &hi);
    bool leaves = n->is_moving || n->is_draining || node_is_paused(n);
    r->state = leaves ? RECORD_DRAINING : RECORD_ACTIVE;
    r->ends = v->coordinator != NULL;
    services_describe_parts(v, r);
    if (lo == hi) return;
    r->layers = (struct uints){ .n = 2, .p = { lo, hi } };
    if (n->is_moving && n->holding.lo < n->holding.hi)
        r->coming = (struct uints){ .n = 2, .p = { n->holding.lo, n->holding.hi } };
    r->layer_us = services_layer_us(v);
    r->prefill = v->pace.prefill;
    r->kv_tokens = stage_server_free_tokens(v->stage);
    r->context = v->context;
    r->sessions = stage_server_sessions(v->stage);
}

/* Say to the swarm what has changed; peers.c gathers changes that come close together. */
void node_announce(void *arg)
{
    struct node *n = arg;
    bool serves = services_are_open(&n->services);
    if (n->is_stopping || !n->peers) return;
    struct record_body r = { .version = 2, .state = RECORD_JOINING };
    for (uint32_t i = 0; i < n->reached.n; i++)
        r.addrs.p[r.addrs.n++] = slice_of(n->reached.addr[i].b, n->reached.addr[i].n);
    holder_describe(n->holder, &r, !serves);
    if (serves) describe_services(n, &r);
    r.agent = slice_str("swarm-node " SWARM_VERSION);
    r.rtts = trips_list(&n->trips);
    r.uplink = trips_uplink(&n->trips);
    if (n->c->name) r.name = slice_str(n->c->name);
    enum err e = peers_announce(n->peers, &r);
    if (e) log_warn("this node cannot announce itself: %s", err_text(e));
}

/* A message for services that are not open yet: only an asker hears of it. */
static void refuse_mail(struct node *n, struct mail *m)
{
    char text[200] = "this node is not ready yet";
    if (m->m.type == MSG_ASK) {
        (void)holder_text(n->holder, text, sizeof text);
        words_refuse(n->net, &m->from, m->m.rid, WIRE_BUSY, text);
    }
    m->note.drop(&m->note);
}

static void on_service_mail(struct node *n, struct mail *m)
{
    switch (m->m.type) {
    case MSG_ACT:
        /* Rows that come home carry the number of SESS_OPEN; rows for a stage carry none. */
        if (m->m.rid == 0)
            stage_server_on_mail(n->services.stage, m);
        else
            pipelines_on_mail(n->services.pipelines, m);
        break;
    case MSG_SESS_OPEN:
    case MSG_KV_TRIM:
    case MSG_SESS_CLOSE: stage_server_on_mail(n->services.stage, m); break;
    case MSG_SHARE_OPEN:
    case MSG_SHARE_WORK:
    case MSG_SHARE_CLOSE: member_on_mail(n->services.member, m); break;
    case MSG_SHARE_OK:
    case MSG_SHARE_DONE:
    case MSG_SHARE_FAIL:
        if (n->services.group)
            group_on_mail(n->services.group, m);
        else
            m->note.drop(&m->note);
        break;
    case MSG_SESS_OK:
    case MSG_STEP_DONE:
    case MSG_PREFIX:
    case MSG_SESS_FAIL:
    case MSG_ERROR: pipelines_on_mail(n->services.pipelines, m); break;
    case MSG_ASK:
    case MSG_ASK_RESUME:
    case MSG_ASK_HEARD:
    case MSG_ASK_CANCEL: asks_on_mail(n->services.asks, m); break;
    default: m->note.drop(&m->note); break;
    }
}

static void on_mail(void *arg, struct mail *m)
{
    struct node *n = arg;
    if (n->is_stopping) {
        m->note.drop(&m->note);
        return;
    }
    switch (m->m.type) {
    case MSG_RECORDS:
    case MSG_RECORDS_GET: peers_on_mail(n->peers, m); break;
    case MSG_DIALBACK:
    case MSG_DIALBACK_DONE: find_on_mail(n->find, m); break;
    case MSG_MANIFEST_GET:
    case MSG_MANIFEST:
    case MSG_TILE_GET:
    case MSG_TILE:
    case MSG_TILE_CANCEL: holder_on_mail(n->holder, m); break;
    case MSG_STATUS_GET:
    case MSG_HOLD:
    case MSG_PAUSE:
    case MSG_DRAIN: control_on_mail(&n->control, m); break;
    default:
        if (services_are_open(&n->services))
            on_service_mail(n, m);
        else
            refuse_mail(n, m);
    }
}

static void on_peer(void *arg, const struct node_id *id, bool up, const char *why)
{
    struct node *n = arg;
    char name[NODE_ID_SHORT];
    if (n->is_stopping) return;
    node_id_short(name, id);
    if (up)
        log_info("connected to %s", name);
    else
        log_info("no longer connected to %s%s%s", name, *why ? ": " : "", why);
    peers_on_peer(n->peers, id, up);
    find_on_peer(n->find, id, up);
    holder_on_peer(n->holder, id, up);
    if (services_are_open(&n->services)) {
        pipelines_on_peer(n->services.pipelines, id, up, why);
        if (n->services.group) group_on_peer(n->services.group, id, up, why);
        stage_server_on_peer(n->services.stage, id, up, why);
        member_on_peer(n->services.member, id, up);
        asks_on_peer(n->services.asks, id, up);
    }
    if (up) settle_join(n, id);
}

static void on_directory(void *arg)
{
    struct node *n = arg;
    if (n->is_stopping) return;
    holder_on_directory(n->holder);
    if (services_are_open(&n->services)) pipelines_on_change(n->services.pipelines);
}

static void on_join_failed(void *arg, const struct link *l, const char *why)
{
    char text[NODE_LINK_TEXT];
    link_text(text, sizeof text, l);
    log_warn("cannot join %s: %s (trying again now and then)", text, why);
    struct node *n = arg;
    (void)fail(&n->join_why, ERR_CLOSED, "cannot join %s: %s", text, why);
    settle_join(n, &l->id);
}

static enum err open_find(struct node *n)
{
    struct find_config fc = { .hub = &n->hub,
                              .net = n->net,
                              .peers = n->peers,
                              .me = &n->me,
                              .swarm = &n->swarm,
                              .lan = !n->c->no_lan,
                              .lan_join = n->c->lan_join,
                              .identity_file = n->identity_file,
                              .bootstrap = n->bootstrap,
                              .n_bootstrap = n->c->n_bootstrap,
                              .reached = &n->reached,
                              .advertised = n->c->advertise != NULL,
                              .portmap = !n->c->no_portmap,
                              .arg = n,
                              .on_reached = node_announce };
    return find_open(&n->find, &fc);
}

static enum err open_net(struct node *n, struct why *why)
{
    struct net_config nc = { .me = &n->me,
                             .swarm = &n->swarm,
                             .listen_host = n->listen_host,
                             .listen_port = n->listen_port,
                             .agent = "swarm-node " SWARM_VERSION,
                             .role = 1,
                             .upload = n->c->upload,
                             .arg = n,
                             .on_mail = on_mail,
                             .on_peer = on_peer };
    enum err e = net_open(&n->net, &n->hub, &nc, why);
    if (!e)
        e = reached_find(&n->reached, &n->hub, n->c->advertise ? n->advertise_host : NULL,
                         n->advertise_port, n->listen_host, net_port(n->net), why);
    if (e) return e;
    struct peers_config pc = { .hub = &n->hub,
                               .net = n->net,
                               .me = &n->me,
                               .swarm = &n->swarm,
                               .join = n->join,
                               .n_join = n->c->n_join,
                               .arg = n,
                               .on_change = on_directory,
                               .on_join_failed = on_join_failed };
    e = peers_open(&n->peers, &pc);
    if (!e) e = open_find(n);
    return e ? fail(why, e, "%s", err_text(e)) : ERR_OK;
}

/* --- 3: ready --- */

static void say_ready(struct node *n)
{
    char text[NODE_LINK_TEXT];
    node_link(n, text, sizeof text);
    n->is_ready = true;
    node_publish(n);
    if (n->services.weights.lo < n->services.weights.hi)
        log_info("room for %u positions of conversations, at most %u in one",
                 stage_server_free_tokens(n->services.stage), n->services.context);
    log_info("ready%s", n->services.coordinator
                            ? "; swarm-ask on this machine finds this node by itself"
                            : "");
    printf("%s\n", text);
    fflush(stdout);
}

/* A node that joins is ready when it has met those it was told of, or could not. */
void node_ready_when_settled(struct node *n)
{
    for (unsigned i = 0; i < n->c->n_join; i++)
        if (!n->is_settled[i]) return;
    if (!n->is_ready && !n->is_stopping && services_are_open(&n->services)) say_ready(n);
}

static void settle_join(struct node *n, const struct node_id *id)
{
    for (unsigned i = 0; i < n->c->n_join; i++)
        if (node_id_equal(&n->join[i].id, id)) n->is_settled[i] = true;
    if (net_is_up(n->net, id)) n->join_why.text[0] = 0;
    node_ready_when_settled(n);
}

static void on_join_timer(uv_timer_t *t)
{
    struct node *n = t->data;
    for (unsigned i = 0; i < n->c->n_join; i++) n->is_settled[i] = true;
    node_ready_when_settled(n);
}

/* --- 4: the end --- */

static void on_net_closed(void *arg)
{
    struct node *n = arg;
    services_close(&n->services);
    shelf_close(n->shelf);
    hub_stop(&n->hub);
}

/* In the order in which they depend on each other: who asks, who serves, who talks. */
void node_stop(struct node *n)
{
    if (n->is_stopping) return;
    n->is_stopping = true;
    runtime_withdraw();
    counters_stop(&n->counters);
    metrics_close(n->metrics);
    n->metrics = NULL;
    services_stop(&n->services);
    holder_close(n->holder);
    mover_close(n->mover);
    n->mover = NULL;
    find_close(n->find);
    trips_stop(&n->trips);
    pause_close(n->pause);
    n->pause = NULL;
    beside_close(n->gateway);
    n->gateway = NULL;
    if (n->peers) {
        peers_leave(n->peers);
        peers_close(n->peers);
    }
    if (n->has_handles) {
        for (int i = 0; i < NODE_SIGNALS; i++) uv_close((uv_handle_t *)&n->signal[i], NULL);
        uv_close((uv_handle_t *)&n->join_timer, NULL);
        uv_close((uv_handle_t *)&n->move_timer, NULL);
        uv_close((uv_handle_t *)&n->drain_timer, NULL);
        uv_close((uv_handle_t *)&n->away_timer, NULL);
    }
    if (n->net)
        net_close(n->net, on_net_closed, n);
    else if (n->has_hub)
        on_net_closed(n);
}

static void on_drain_timer(uv_timer_t *t)
{
    struct node *n = t->data;
    bool is_late = now_ms(&n->hub) >= n->drain_until_ms;
    if (!is_late && !services_are_idle(&n->services)) return;
    if (is_late) log_info("stopping with answers under way: %u s are over", n->c->drain_limit);
    node_stop(n);
}

/* Others take over what this node does for them, and its own askers get their answers. */
static void node_drain(struct node *n)
{
    enum { LOOK_MS = 20 };
    if (n->c->drain_limit == 0 || services_are_idle(&n->services)) {
        node_stop(n);
        return;
    }
    log_info("handing over and finishing, at most %u s; once more to stop at once",
             n->c->drain_limit);
    n->is_draining = true;
    n->drain_until_ms = now_ms(&n->hub) + n->c->drain_limit * UINT64_C(1000);
    node_publish(n);
    services_drain(&n->services);
    node_announce(n);
    uv_timer_start(&n->drain_timer, on_drain_timer, LOOK_MS, LOOK_MS);
}

static void on_signal(uv_signal_t *s, int number)
{
    struct node *n = s->data;
    log_info("stopping (%s)", strsignal(number));
    if (n->is_draining)
        node_stop(n);
    else
        node_drain(n);
}

static void open_handles(struct node *n)
{
    static const int number[NODE_SIGNALS] = { SIGINT, SIGTERM, SIGHUP };
    for (int i = 0; i < NODE_SIGNALS; i++) {
        uv_signal_init(&n->hub.loop, &n->signal[i]);
        n->signal[i].data = n;
        uv_signal_start(&n->signal[i], on_signal, number[i]);
    }
    uv_timer_init(&n->hub.loop, &n->join_timer);
    uv_timer_init(&n->hub.loop, &n->move_timer);
    uv_timer_init(&n->hub.loop, &n->drain_timer);
    uv_timer_init(&n->hub.loop, &n->away_timer);
    n->join_timer.data = n->move_timer.data = n->drain_timer.data = n->away_timer.data = n;
    uv_timer_start(&n->join_timer, on_join_timer, JOIN_WAIT_MS, 0);
    n->has_handles = true;
}

/* --- the life --- */

static enum err start(struct node *n, struct why *why)
{
    n->kernels = kernels_pick(NULL, why);
    if (!n->kernels) return ERR_UNSUPPORTED;
    enum err e = kernels_selftest(n->kernels, why);
    if (!e) e = read_config(n, why);
    if (!e) e = node_find_holding(n, why);
    if (!e && n->is_held) e = node_load(n, why);
    if (!e) e = open_identity(n, why);
    if (e) return e;

    e = hub_init(&n->hub);
    if (e) return fail(why, e, "the loop cannot start: %s", err_text(e));
    n->has_hub = true;
    node_open_shelf(n);
    e = pool_open(&n->pool, n->c->threads ? n->c->threads : sensors_cgroup_cores(NULL));
    if (e) return fail(why, e, "the threads cannot start: %s", err_text(e));
    pool_nice(n->pool, (int)n->c->nice);
    e = open_net(n, why);
    if (e) return e;
    node_open_control(n);
    e = node_open_metrics(n, why);
    if (!e) e = node_open_mover(n, why);
    if (!e) e = holder_open(n->holder, &n->hub, n->net, n->peers, &n->me.id, why);
    if (!e && n->is_held) e = node_open_services(n, why);
    if (e) return e;
    open_handles(n);
    e = node_open_pause(n, why);
    if (!e) e = node_open_gateway(n, why);
    if (e) return e;
    trips_start(&n->trips, &n->hub, n->net, n->peers, n->me.id, node_announce, n);
    node_announce(n);
    node_ready_when_settled(n);
    return ERR_OK;
}

enum err node_run(const struct node_config *c, struct why *why)
{
    struct node *n = calloc(1, sizeof *n);
    if (!n) return fail(why, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    n->c = c;
    n->identity_lock = -1;
    signal(SIGPIPE, SIG_IGN);

    enum err e = start(n, why);
    if (e) node_stop(n);
    if (n->has_hub) {
        if (!e || n->net) hub_run(&n->hub); /* after an error: until the sockets are closed */
        hub_fini(&n->hub);
        counters_close(&n->counters);
    }
    if (n->pool) pool_close(n->pool);
    services_close(&n->services); /* if there was no loop to do it */
    holder_free(n->holder);
    if (!e && n->failed) {
        *why = n->failed_why;
        e = n->failed;
    }
    identity_fini(&n->me);
    if (n->identity_lock >= 0) close(n->identity_lock);
    explicit_bzero(&n->swarm, sizeof n->swarm);
    free(n);
    return e;
}
