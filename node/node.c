#include "node/node.h"

#include "base/log.h"
#include "node/control.h"
#include "node/find.h"
#include "node/holder.h"
#include "node/keys.h"
#include "node/mover.h"
#include "node/pool.h"
#include "node/reached.h"
#include "node/runtime_dir.h"
#include "node/services.h"
#include "node/status.h"
#include "node/trips.h"
#include "node/words.h"
#include "store/file.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { N_SIGNALS = 3, NAME_MAX_BYTES = 32 };
enum { MOVE_TICK_MS = 100 };
enum { JOIN_WAIT_MS = 5000 }; /* before a node that joins says it is ready, at most */

struct node {
    /* what it is told */
    const struct node_config *c;
    struct swarm_key swarm;
    struct link join[NODE_JOIN_MAX], bootstrap[NODE_JOIN_MAX];
    char identity_file[FILE_PATH_MAX];
    struct node_id allow[NODE_ALLOW_MAX], trust[NODE_TRUST_MAX];
    char listen_host[256], advertise_host[256];
    uint16_t listen_port, advertise_port;

    /* what it holds */
    struct identity me;
    struct holder *holder;
    struct mover *mover;             /* NULL: its user says what it holds */
    struct holding holding;          /* what it serves, or will */
    bool is_held;                    /* all of it is in the store */
    bool is_moving;                  /* it is, and is not served yet: sessions are waited for */
    uint64_t moving_ms;              /* since when */
    char journal_dir[FILE_PATH_MAX]; /* for services */

    /* what it does */
    const struct kernels *kernels;
    struct pool *pool;
    struct hub hub;
    bool has_hub;
    struct net *net;
    struct peers *peers;
    struct find *find;
    struct trips trips; /* announced round trips */
    struct services services;
    struct depot_job load_job;
    enum err failed; /* why it stops by itself */
    struct why failed_why;
    struct reached reached;
    struct control control;
    struct counters counters;
    uint64_t started_ms;
    struct why join_why; /* why a join link does not answer; empty: it does, or none is given */

    uv_signal_t signal[N_SIGNALS];
    uv_timer_t join_timer, move_timer, drain_timer;
    bool has_handles;               /* these are open */
    bool is_settled[NODE_JOIN_MAX]; /* a join link is up, or has failed once */
    bool is_ready, is_draining, is_stopping;
    uint64_t drain_until_ms;
};

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

/* --- 2: what it holds --- */

static void announce(void *arg);
static void on_held(void *arg, const struct holding *h);
static void on_holder_failed(void *arg, enum err e, const char *why);
static bool computes(void *arg);
static enum err choose(void *arg, const struct manifest *m, uint64_t room, struct holding *out,
                       struct why *why);

/* Are there others to fetch from, or will there be? */
static bool may_meet_others(const struct node *n)
{
    bool is_private = memcmp(&n->swarm, swarm_key_public(), sizeof n->swarm) != 0;
    return n->c->n_join > 0 || (!n->c->no_lan && (is_private || n->c->lan_join));
}

static enum err find_holding(struct node *n, struct why *why)
{
    const struct node_config *c = n->c;
    struct holder_config hc = { .dir = c->store_dir,
                                .model = c->model,
                                .has_layers = c->has_layers,
                                .layers = { c->lo, c->hi, c->ends },
                                .no_ends = c->no_ends,
                                .disk_limit = c->disk_limit,
                                .upload = c->upload,
                                .trust = n->trust,
                                .n_trust = c->n_trust,
                                .may_fetch = may_meet_others(n),
                                .may_change = c->may_move,
                                .counters = &n->counters,
                                .arg = n,
                                .choose = choose,
                                .computes = computes,
                                .on_held = on_held,
                                .on_change = announce,
                                .on_fail = on_holder_failed,
                                .progress = c->progress };
    return holder_find(&n->holder, &hc, &n->is_held, &n->holding, why);
}

static enum err load_services(struct node *n, struct why *why)
{
    const struct node_config *c = n->c;
    bool has_room = file_path(n->journal_dir, c->store_dir, "requests", NULL) == ERR_OK;
    struct services_config sc = { .store = holder_store(n->holder),
                                  .model = holder_model(n->holder),
                                  .lo = n->holding.lo,
                                  .hi = n->holding.hi,
                                  .with_ends = n->holding.ends,
                                  .context = c->context,
                                  .kv_bytes = c->kv_bytes ? c->kv_bytes : c->ram / 4,
                                  .patience = c->patience,
                                  .no_ends = c->no_ends,
                                  .kernels = n->kernels,
                                  .hub = &n->hub,
                                  .counters = &n->counters,
                                  .journal_dir = has_room ? n->journal_dir : NULL,
                                  .allow = n->allow,
                                  .n_allow = c->n_allow,
                                  .arg = n,
                                  .on_change = announce };
    return services_load(&n->services, &sc, why);
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
    if (!e && created) log_info("made a new identity in %s", file);
    return e;
}

static void settle_join(struct node *n, const struct node_id *id);

/* --- 3: whom it talks to --- */

static void describe_services(const struct node *n, struct record_body *r)
{
    const struct services *v = &n->services;
    const struct weights *w = &v->weights;
    r->state = n->is_moving || n->is_draining ? RECORD_DRAINING : RECORD_ACTIVE;
    r->ends = v->coordinator != NULL;
    if (w->lo == w->hi) return;
    r->layers = (struct uints){ .n = 2, .p = { w->lo, w->hi } };
    if (n->is_moving && n->holding.lo < n->holding.hi)
        r->coming = (struct uints){ .n = 2, .p = { n->holding.lo, n->holding.hi } };
    r->layer_us = v->pace.layer_us;
    r->prefill = v->pace.prefill;
    r->kv_tokens = stage_server_free_tokens(v->stage);
    r->context = v->context;
    r->sessions = stage_server_sessions(v->stage);
}

/* Say to the swarm what has changed; peers.c gathers changes that come close together. */
static void announce(void *arg)
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
    case MSG_SESS_OK:
    case MSG_STEP_DONE:
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
        stage_server_on_peer(n->services.stage, id, up, why);
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
    char text[400];
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
                              .on_reached = announce };
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

/* --- 4: what it serves --- */

static enum err open_services(struct node *n, struct why *why)
{
    struct services_config *c = &n->services.c;
    c->me = n->me.id;
    c->workers = pool_workers(n->pool);
    c->net = n->net;
    c->peers = n->peers;
    return services_open(&n->services, why);
}

static bool computes(void *arg)
{
    const struct services *v = &((struct node *)arg)->services;
    if (!services_are_open(v)) return false;
    return stage_server_sessions(v->stage) ||
           (v->coordinator && coordinator_requests(v->coordinator));
}

static void stop(struct node *n);
static void ready_when_settled(struct node *n);
static void publish_here(struct node *n);

static void stop_with(struct node *n, enum err e, const char *why)
{
    n->failed = fail(&n->failed_why, e, "%s", why);
    stop(n);
}

/* All that was missing has come: load it on the depot's thread, for the store is in use. */
static void on_load(struct depot_job *j, struct store *s)
{
    struct node *n = (struct node *)(void *)((char *)j - offsetof(struct node, load_job));
    (void)s;
    n->failed = load_services(n, &n->failed_why);
}

static void on_loaded(struct depot_job *j)
{
    struct node *n = (struct node *)(void *)((char *)j - offsetof(struct node, load_job));
    if (n->is_stopping || j->cancelled) return;
    if (!n->failed) n->failed = open_services(n, &n->failed_why);
    if (n->failed) {
        stop(n);
        return;
    }
    announce(n);
    if (n->is_ready)
        publish_here(n);
    else
        ready_when_settled(n);
}

static void start_load(struct node *n)
{
    n->load_job = (struct depot_job){ .run = on_load, .done = on_loaded };
    depot_do(holder_depot(n->holder), &n->load_job);
}

/* The old services go when nobody needs them any more. */
static void on_move_timer(uv_timer_t *t)
{
    struct node *n = t->data;
    bool is_late = now_ms(&n->hub) - n->moving_ms > NODE_MOVE_MS;
    if (n->is_stopping || (computes(n) && !is_late)) return;
    uv_timer_stop(t);
    n->is_moving = false;
    runtime_withdraw();
    services_stop(&n->services);
    services_close(&n->services);
    start_load(n);
}

static void on_held(void *arg, const struct holding *h)
{
    struct node *n = arg;
    n->holding = *h;
    n->is_held = true;
    if (!services_are_open(&n->services)) {
        if (!mover_is_choosing(n->mover)) start_load(n);
        return;
    }
    n->is_moving = true;
    n->moving_ms = now_ms(&n->hub);
    announce(n);
    uv_timer_start(&n->move_timer, on_move_timer, MOVE_TICK_MS, MOVE_TICK_MS);
}

enum err node_rehold(struct node *n, const struct holding *h, struct why *why)
{
    if (n->is_stopping || n->is_moving || !services_are_open(&n->services))
        return fail(why, ERR_BUSY, "this node is not serving yet, or about to serve another part");
    return holder_change(n->holder, h, why);
}

/* --- 4b: what it had better hold --- */

static enum err choose(void *arg, const struct manifest *m, uint64_t room, struct holding *out,
                       struct why *why)
{
    struct node *n = arg;
    return mover_choose(n->mover, holder_id(n->holder)->b, m, room, out, why);
}

static enum err rechoose(void *arg, const struct holding *to, struct why *why)
{
    struct node *n = arg;
    n->is_held = false;
    enum err e = holder_rechoose(n->holder, to, why);
    return e == ERR_BUSY ? holder_change(n->holder, to, why) : e; /* it has all come already */
}

static void on_settled(void *arg)
{
    struct node *n = arg;
    if (n->is_held && !n->is_stopping && !services_are_open(&n->services)) start_load(n);
}

static enum err move(void *arg, const struct holding *to, struct why *why)
{
    return node_rehold(arg, to, why);
}

static bool state_for_mover(void *arg, struct mover_state *out)
{
    struct node *n = arg;
    const struct services *v = &n->services;
    char text[8];
    if (!n->is_ready || !services_are_open(v) || n->is_moving ||
        holder_text(n->holder, text, sizeof text))
        return false;
    *out = (struct mover_state){ .have = n->holding,
                                 .manifest = &v->weights.manifest,
                                 .model = v->weights.name.id.b,
                                 .layer_us = v->pace.layer_us,
                                 .sessions = stage_server_sessions(v->stage) };
    return true;
}

static uint64_t room_for_weights(const struct node_config *c)
{
    if (!c->ram) return warm_room();
    uint64_t kv = c->kv_bytes ? c->kv_bytes : c->ram / 4;
    return c->ram > kv ? c->ram - kv : 0;
}

static enum err open_mover(struct node *n, struct why *why)
{
    struct mover_config mc = { .hub = &n->hub,
                               .peers = n->peers,
                               .me = n->me.id,
                               .room = room_for_weights(n->c),
                               .disk = n->c->disk_limit,
                               .no_ends = n->c->no_ends,
                               .may_move = n->c->may_move,
                               .arg = n,
                               .state = state_for_mover,
                               .rechoose = rechoose,
                               .on_settled = on_settled,
                               .move = move };
    if (n->c->has_layers || (n->is_held && !n->c->may_move)) return ERR_OK;
    enum err e = mover_open(&n->mover, &mc);
    return e ? fail(why, e, "%s", err_text(e)) : ERR_OK;
}

static void on_holder_failed(void *arg, enum err e, const char *why)
{
    struct node *n = arg;
    if (services_are_open(&n->services))
        log_warn("what this node holds stays as it is: %s", why);
    else
        stop_with(n, e, why);
}

/* --- 5: its own user --- */

static void own_link(const struct node *n, char *out, size_t cap)
{
    struct link l = { .id = n->me.id, .port = n->reached.port };
    snprintf(l.host, sizeof l.host, "%s", n->reached.host);
    link_text(out, cap, &l);
}

static void describe(void *arg, struct text *out)
{
    struct node *n = arg;
    char link[400], reach[800], progress[200] = "";
    own_link(n, link, sizeof link);
    find_text(n->find, reach, sizeof reach);
    counters_refresh(&n->counters);
    (void)holder_text(n->holder, progress, sizeof progress);
    struct status_source s = { .me = n->me.id,
                               .name = n->c->name,
                               .state = n->is_draining ? "draining"
                                        : n->is_ready  ? "active"
                                                       : "joining",
                               .link = link,
                               .reach = reach,
                               .started_ms = n->started_ms,
                               .hub = &n->hub,
                               .net = n->net,
                               .peers = n->peers,
                               .services = &n->services,
                               .counters = &n->counters,
                               .progress = progress,
                               .note = n->join_why.text };
    status_json(out, &s);
}

static enum err rehold(void *arg, const struct holding *h, struct why *why)
{
    return node_rehold(arg, h, why);
}

/* As SIGTERM does it; the message has been dealt with when the signal arrives.  (A second SIGTERM
 * would stop at once.) */
static void drain(void *arg)
{
    const struct node *n = arg;
    if (!n->is_draining) (void)uv_kill(uv_os_getpid(), SIGTERM);
}

/* swarm-ask and `swarm-node status` of this user find us by this; over loopback when we listen
 * there. */
static void publish_here(struct node *n)
{
    struct why why;
    struct local_node me = { .link = { .id = n->me.id, .port = net_port(n->net) },
                             .answers = n->services.coordinator != NULL && !n->is_draining };
    bool is_any = strcmp(n->listen_host, "0.0.0.0") == 0 || strcmp(n->listen_host, "::") == 0;
    snprintf(me.link.host, sizeof me.link.host, "%s", is_any ? "127.0.0.1" : n->listen_host);
    snprintf(me.model, sizeof me.model, "%s", n->services.weights.name.name);
    memcpy(me.token, n->control.token, TOKEN_BYTES);
    if (runtime_publish(&me, &why))
        log_warn("swarm-ask and swarm-node status will not find this node by themselves: %s",
                 why.text);
    explicit_bzero(&me, sizeof me);
}

static void open_control(struct node *n)
{
    n->control = (struct control){
        .net = n->net, .arg = n, .describe = describe, .hold = rehold, .drain = drain
    };
    random_bytes(n->control.token, TOKEN_BYTES);
    n->started_ms = now_ms(&n->hub);
    counters_open(&n->counters, &n->hub, n->net, n->c->store_dir, &n->me.id);
    publish_here(n);
}

/* --- 6: ready --- */

static void say_ready(struct node *n)
{
    char text[400];
    own_link(n, text, sizeof text);
    n->is_ready = true;
    publish_here(n);
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
static void ready_when_settled(struct node *n)
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
    ready_when_settled(n);
}

static void on_join_timer(uv_timer_t *t)
{
    struct node *n = t->data;
    for (unsigned i = 0; i < n->c->n_join; i++) n->is_settled[i] = true;
    ready_when_settled(n);
}

/* --- 7: the end --- */

static void on_net_closed(void *arg)
{
    struct node *n = arg;
    services_close(&n->services);
    hub_stop(&n->hub);
}

/* In the order in which they depend on each other: who asks, who serves, who talks. */
static void stop(struct node *n)
{
    if (n->is_stopping) return;
    n->is_stopping = true;
    runtime_withdraw();
    counters_stop(&n->counters);
    services_stop(&n->services);
    holder_close(n->holder);
    mover_close(n->mover);
    n->mover = NULL;
    find_close(n->find);
    trips_stop(&n->trips);
    if (n->peers) {
        peers_leave(n->peers);
        peers_close(n->peers);
    }
    if (n->has_handles) {
        for (int i = 0; i < N_SIGNALS; i++) uv_close((uv_handle_t *)&n->signal[i], NULL);
        uv_close((uv_handle_t *)&n->join_timer, NULL);
        uv_close((uv_handle_t *)&n->move_timer, NULL);
        uv_close((uv_handle_t *)&n->drain_timer, NULL);
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
    stop(n);
}

/* Others take over what this node does for them, and its own askers get their answers. */
static void node_drain(struct node *n)
{
    enum { LOOK_MS = 20 };
    if (n->c->drain_limit == 0 || services_are_idle(&n->services)) {
        stop(n);
        return;
    }
    log_info("handing over and finishing, at most %u s; once more to stop at once",
             n->c->drain_limit);
    n->is_draining = true;
    n->drain_until_ms = now_ms(&n->hub) + n->c->drain_limit * UINT64_C(1000);
    publish_here(n);
    services_drain(&n->services);
    announce(n);
    uv_timer_start(&n->drain_timer, on_drain_timer, LOOK_MS, LOOK_MS);
}

static void on_signal(uv_signal_t *s, int number)
{
    struct node *n = s->data;
    log_info("stopping (%s)", strsignal(number));
    if (n->is_draining)
        stop(n);
    else
        node_drain(n);
}

static void open_handles(struct node *n)
{
    static const int number[N_SIGNALS] = { SIGINT, SIGTERM, SIGHUP };
    for (int i = 0; i < N_SIGNALS; i++) {
        uv_signal_init(&n->hub.loop, &n->signal[i]);
        n->signal[i].data = n;
        uv_signal_start(&n->signal[i], on_signal, number[i]);
    }
    uv_timer_init(&n->hub.loop, &n->join_timer);
    uv_timer_init(&n->hub.loop, &n->move_timer);
    uv_timer_init(&n->hub.loop, &n->drain_timer);
    n->join_timer.data = n->move_timer.data = n->drain_timer.data = n;
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
    if (!e) e = find_holding(n, why);
    if (!e && n->is_held) e = load_services(n, why);
    if (!e) e = open_identity(n, why);
    if (e) return e;

    e = hub_init(&n->hub);
    if (e) return fail(why, e, "the loop cannot start: %s", err_text(e));
    n->has_hub = true;
    e = pool_open(&n->pool, n->c->threads);
    if (e) return fail(why, e, "the threads cannot start: %s", err_text(e));
    e = open_net(n, why);
    if (e) return e;
    open_control(n);
    e = open_mover(n, why);
    if (!e) e = holder_open(n->holder, &n->hub, n->net, n->peers, &n->me.id, why);
    if (!e && n->is_held) e = open_services(n, why);
    if (e) return e;
    open_handles(n);
    trips_start(&n->trips, &n->hub, n->net, n->peers, n->me.id, announce, n);
    announce(n);
    ready_when_settled(n);
    return ERR_OK;
}

enum err node_run(const struct node_config *c, struct why *why)
{
    struct node *n = calloc(1, sizeof *n);
    if (!n) return fail(why, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    n->c = c;
    signal(SIGPIPE, SIG_IGN);

    enum err e = start(n, why);
    if (e) stop(n);
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
    explicit_bzero(&n->swarm, sizeof n->swarm);
    free(n);
    return e;
}
