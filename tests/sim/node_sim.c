#include "tests/sim/node_sim.h"

#include "tests/sim/disk_sim.h"

#include <assert.h>
#include <stdlib.h>

static const struct swarm_key swarm = { { 7 } };

/* --- as node/node.c --- */

static void describe_services(const struct sim_node *n, struct record_body *r)
{
    const struct services *v = &n->services;
    r->state = n->hold.is_moving || n->is_leaving ? RECORD_DRAINING : RECORD_ACTIVE;
    r->ends = v->coordinator != NULL;
    if (n->lo == n->hi) return;
    r->layers = (struct uints){ .n = 2, .p = { n->lo, n->hi } };
    if (n->hold.is_moving || n->hold.fetch)
        r->coming = (struct uints){ .n = 2, .p = { n->hold.want.lo, n->hold.want.hi } };
    r->layer_us = v->pace.layer_us;
    r->prefill = v->pace.prefill;
    r->kv_tokens = stage_server_free_tokens(v->stage);
    r->context = v->context;
    r->sessions = stage_server_sessions(v->stage);
}

void sim_node_announce(void *arg)
{
    struct sim_node *n = arg;
    const struct holding *w = &n->hold.want;
    uint8_t addr[ADDR_MIN], model[ID_BYTES];
    if (n->is_stopping || !n->peers) return;
    struct record_body r = { .state = RECORD_JOINING };
    r.addrs.p[r.addrs.n++] = net_sim_addr(n->place.host, SIM_PORT, addr);
    memset(model, SIM_MODEL_BYTE, sizeof model);
    r.model = slice_of(model, sizeof model);
    r.model_name = slice_str("hashes");
    if (services_are_open(&n->services)) {
        describe_services(n, &r);
    } else {
        r.ends = w->ends;
        if (w->lo < w->hi) r.layers = (struct uints){ .n = 2, .p = { w->lo, w->hi } };
    }
    r.agent = slice_str("sim");
    r.rtts = trips_list(&n->trips);
    r.uplink = trips_uplink(&n->trips);
    if (peers_announce(n->peers, &r)) abort();
}

static void on_service_mail(struct services *v, struct mail *m)
{
    switch (m->m.type) {
    case MSG_ACT:
        if (m->m.rid == 0)
            stage_server_on_mail(v->stage, m);
        else
            pipelines_on_mail(v->pipelines, m);
        break;
    case MSG_SESS_OPEN:
    case MSG_KV_TRIM:
    case MSG_SESS_CLOSE: stage_server_on_mail(v->stage, m); break;
    case MSG_SESS_OK:
    case MSG_STEP_DONE:
    case MSG_PREFIX:
    case MSG_SESS_FAIL:
    case MSG_ERROR: pipelines_on_mail(v->pipelines, m); break;
    case MSG_ASK:
    case MSG_ASK_RESUME:
    case MSG_ASK_HEARD:
    case MSG_ASK_CANCEL: asks_on_mail(v->asks, m); break;
    default: m->note.drop(&m->note); break;
    }
}

static void on_mail(void *arg, struct mail *m)
{
    struct sim_node *n = arg;
    struct services *v = &n->services;
    if (n->is_stopping) {
        m->note.drop(&m->note);
        return;
    }
    if (m->m.type == MSG_RECORDS || m->m.type == MSG_RECORDS_GET)
        peers_on_mail(n->peers, m);
    else if (services_are_open(v))
        on_service_mail(v, m);
    else
        m->note.drop(&m->note);
}

static void on_peer(void *arg, const struct node_id *id, bool up, const char *why)
{
    struct sim_node *n = arg;
    struct services *v = &n->services;
    if (n->is_stopping) return;
    peers_on_peer(n->peers, id, up);
    if (!services_are_open(v)) return;
    pipelines_on_peer(v->pipelines, id, up, why);
    stage_server_on_peer(v->stage, id, up, why);
    asks_on_peer(v->asks, id, up);
}

static void on_directory(void *arg)
{
    struct sim_node *n = arg;
    if (n->services.pipelines && !n->is_stopping) pipelines_on_change(n->services.pipelines);
}

static void on_join_failed(void *arg, const struct link *l, const char *why)
{
    (void)arg;
    trace("cannot join %s: %s", l->host, why);
}

static void open_net(struct sim_node *n)
{
    struct net_config nc = { .me = &n->me,
                             .swarm = &swarm,
                             .listen_host = "0.0.0.0",
                             .listen_port = SIM_PORT,
                             .agent = "sim",
                             .role = 1,
                             .arg = n,
                             .on_mail = on_mail,
                             .on_peer = on_peer };
    struct peers_config pc = { .hub = &n->hub,
                               .me = &n->me,
                               .swarm = &swarm,
                               .join = n->join,
                               .n_join = n->n_join,
                               .arg = n,
                               .on_change = on_directory,
                               .on_join_failed = on_join_failed };
    if (net_open(&n->net, &n->hub, &nc, NULL)) abort();
    pc.net = n->net;
    if (peers_open(&n->peers, &pc)) abort();
}

static void open_services(struct sim_node *n)
{
    static const struct kernels kernels = { .isa = "hashes" };
    struct services_config sc = { .store = &n->store,
                                  .hold = { .lo = n->lo, .hi = n->hi, .ends = n->has_ends },
                                  .context = n->context,
                                  .kv_bytes = n->kv_bytes,
                                  .patience = n->patience_s,
                                  .answers = n->answers,
                                  .queue = 16,
                                  .per_client = 8,
                                  .me = n->me.id,
                                  .kernels = &kernels,
                                  .workers = workers_inline(),
                                  .hub = &n->hub,
                                  .net = n->net,
                                  .peers = n->peers,
                                  .journal_dir = n->journal_dir[0] ? n->journal_dir : NULL,
                                  .allow = n->allow,
                                  .n_allow = n->n_allow,
                                  .arg = n,
                                  .on_change = sim_node_announce };
    if (services_load(&n->services, &sc, NULL) || services_open(&n->services, NULL)) abort();
}

void sim_node_serve(struct sim_node *n, const struct holding *h)
{
    n->lo = h->lo;
    n->hi = h->hi;
    n->has_ends = h->ends;
    trace("serves layers %u-%u%s", n->lo, n->hi - 1, n->has_ends ? " and the ends" : "");
    open_services(n);
    sim_node_announce(n);
}

void sim_node_unserve(struct sim_node *n)
{
    services_stop(&n->services);
    services_close(&n->services);
}

/* --- life --- */

void sim_node_start(struct sim_node *n)
{
    assert(!n->runs);
    struct place *before = world_enter(&n->place);
    trace("starts: layers %u-%u%s", n->lo, n->hi - 1, n->has_ends ? " and the ends" : "");
    n->runs = true;
    n->is_stopping = n->place.off = false;
    disk_sim_thaw(n->journal_dir);
    if (hub_init(&n->hub)) abort();
    n->is_leaving = false;
    memset(&n->services, 0, sizeof n->services);
    uv_timer_init(&n->hub.loop, &n->timer);
    n->timer.data = n;
    open_net(n);
    if (n->hold.is_own_choice)
        sim_hold_start(n);
    else
        open_services(n);
    trips_start(&n->trips, &n->hub, n->net, n->peers, n->me.id, sim_node_announce, n);
    sim_node_announce(n);
    (void)world_enter(before);
    if (n->on_up) n->on_up(n->arg, n);
}

static void on_net_closed(void *arg)
{
    struct sim_node *n = arg;
    services_close(&n->services);
}

/* After a kill nobody hears anything of this: it only takes back memory, and lets the address
 * sanitizer see that a node can end at any moment without losing any. */
static void end(struct sim_node *n)
{
    struct place *before = world_enter(&n->place);
    n->is_stopping = true;
    if (services_are_open(&n->services)) services_stop(&n->services);
    sim_hold_end(n);
    uv_close((uv_handle_t *)&n->timer, NULL);
    trips_stop(&n->trips);
    peers_leave(n->peers);
    peers_close(n->peers);
    net_close(n->net, on_net_closed, n);
    hub_run(&n->hub); /* until the net has closed */
    hub_fini(&n->hub);
    n->net = NULL;
    n->peers = NULL;
    n->runs = false;
    (void)world_enter(before);
}

void sim_node_kill(struct sim_node *n, bool is_silent)
{
    struct place *before = world_enter(&n->place);
    trace("%s", is_silent ? "is switched off" : "is killed");
    (void)world_enter(before);
    n->place.off = is_silent;
    n->place.thaw_us = 0;
    net_sim_kill(n->net, is_silent);
    disk_sim_freeze(n->journal_dir);
    end(n);
    if (is_silent) disk_sim_pull_plug(n->journal_dir);
    net_sim_refresh();
}

static void on_left(void *arg)
{
    struct sim_node *n = arg;
    if (n->runs && n->is_leaving) sim_node_stop(n);
}

static void on_leave_timer(uv_timer_t *t)
{
    struct sim_node *n = t->data;
    if (world_us() >= n->leave_until_us || services_are_idle(&n->services)) {
        uv_timer_stop(t);
        (void)world_at(NULL, world_us(), on_left, n); /* not from inside its own timer */
    }
}

void sim_node_leave(struct sim_node *n)
{
    enum { LOOK_MS = 20, LIMIT_US = 10 * SECOND };
    if (n->is_leaving) return;
    struct place *before = world_enter(&n->place);
    if (!services_are_open(&n->services) || services_are_idle(&n->services)) {
        sim_node_stop(n);
    } else {
        trace("leaves");
        n->is_leaving = true;
        n->leave_until_us = world_us() + LIMIT_US;
        services_drain(&n->services);
        sim_node_announce(n);
        uv_timer_start(&n->timer, on_leave_timer, LOOK_MS, LOOK_MS);
    }
    (void)world_enter(before);
}

void sim_node_stop(struct sim_node *n)
{
    struct place *before = world_enter(&n->place);
    trace("stops");
    (void)world_enter(before);
    end(n);
}
