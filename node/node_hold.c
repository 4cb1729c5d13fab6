/* node_hold.c - what a node holds and serves: found in its store or fetched, loaded, changed. */
#include "node/node_impl.h"

#include "base/log.h"
#include "home/runtime_dir.h"

enum { MOVE_TICK_MS = 100 };

static void on_held(void *arg, const struct holding *h);
static void on_holder_failed(void *arg, enum err e, const char *why);
static enum err choose(void *arg, const struct manifest *m, uint64_t room, struct holding *out,
                       struct why *why);

/* Are there others to fetch from, or will there be? */
static bool may_meet_others(const struct node *n)
{
    bool is_private = memcmp(&n->swarm, swarm_key_public(), sizeof n->swarm) != 0;
    return n->c->n_join > 0 || (!n->c->no_lan && (is_private || n->c->lan_join));
}

enum err node_find_holding(struct node *n, struct why *why)
{
    const struct node_config *c = n->c;
    struct holder_config hc = { .dir = c->store_dir,
                                .model = c->model,
                                .has_layers = c->has_layers,
                                .layers = c->hold,
                                .no_ends = c->no_ends,
                                .disk_limit = c->disk_limit,
                                .upload = c->upload,
                                .download = c->download,
                                .trust = n->trust,
                                .n_trust = c->n_trust,
                                .may_fetch = may_meet_others(n),
                                .may_change = c->may_move,
                                .counters = &n->counters,
                                .arg = n,
                                .choose = choose,
                                .computes = node_computes,
                                .on_held = on_held,
                                .on_change = node_announce,
                                .on_fail = on_holder_failed,
                                .progress = c->progress };
    return holder_find(&n->holder, &hc, &n->is_held, &n->holding, why);
}

/* Memory that weights may take. */
static uint64_t room_for_weights(const struct node_config *c)
{
    uint64_t kv = c->kv_bytes ? c->kv_bytes : c->ram / 4, all = warm_room();

    if (!c->ram) return all;
    uint64_t given = c->ram > kv ? c->ram - kv : 0;
    return given < all ? given : all;
}

enum err node_load(struct node *n, struct why *why)
{
    const struct node_config *c = n->c;
    bool has_room = file_path(n->journal_dir, c->store_dir, "requests", NULL) == ERR_OK;
    struct services_config sc = { .store = holder_store(n->holder),
                                  .store_dir = c->store_dir,
                                  .room = room_for_weights(c),
                                  .model = holder_model(n->holder),
                                  .hold = n->holding,
                                  .context = c->context,
                                  .kv_bytes = c->kv_bytes ? c->kv_bytes : c->ram / 4,
                                  .prefix_bytes = c->prefix_bytes,
                                  .no_prefix = c->no_prefix,
                                  .patience = c->patience,
                                  .answers = c->answers,
                                  .queue = c->queue,
                                  .per_client = c->per_client,
                                  .no_own_first = c->no_own_first,
                                  .draft = c->draft,
                                  .no_ends = c->no_ends,
                                  .share = c->share,
                                  .share_rtt = c->share_rtt,
                                  .kernels = n->kernels,
                                  .nice = (int)c->nice,
                                  .hub = &n->hub,
                                  .counters = &n->counters,
                                  .journal_dir = has_room ? n->journal_dir : NULL,
                                  .allow = n->allow,
                                  .n_allow = c->n_allow,
                                  .arg = n,
                                  .on_change = node_announce };
    return services_load(&n->services, &sc, why);
}

/* Its owner may have allowed it before, and not any more. */
void node_open_shelf(struct node *n)
{
    char dir[FILE_PATH_MAX], name[48], id[NODE_ID_TEXT];
    struct why why;
    node_id_text(id, &n->me.id);
    snprintf(name, sizeof name, "prefixes-%.12s", id + 4);
    if (file_path(dir, n->c->store_dir, name, NULL)) return;
    if (n->c->prefix_disk == 0 || n->c->no_prefix) {
        shelf_remove(dir);
        return;
    }
    enum err e = shelf_open(&n->shelf, &n->hub, dir, n->c->prefix_disk, &why);
    if (e) log_warn("conversations are not kept on disk: %s", why.text);
}

enum err node_open_services(struct node *n, struct why *why)
{
    struct services_config *c = &n->services.c;
    c->me = n->me.id;
    c->workers = pool_workers(n->pool);
    c->net = n->net;
    c->peers = n->peers;
    c->shelf = n->shelf;
    enum err e = services_open(&n->services, why);
    if (!e) services_pause(&n->services, node_is_paused(n));
    return e;
}

bool node_computes(void *arg)
{
    const struct services *v = &((struct node *)arg)->services;
    if (!services_are_open(v)) return false;
    return stage_server_sessions(v->stage) ||
           (v->coordinator && coordinator_requests(v->coordinator));
}

static void node_stop_with(struct node *n, enum err e, const char *why)
{
    n->failed = fail(&n->failed_why, e, "%s", why);
    node_stop(n);
}

/* All that was missing has come: load it on the depot's thread, for the store is in use. */
static void on_load(struct depot_job *j, struct store *s)
{
    struct node *n = (struct node *)(void *)((char *)j - offsetof(struct node, load_job));
    (void)s;
    n->failed = node_load(n, &n->failed_why);
}

static void on_loaded(struct depot_job *j)
{
    struct node *n = (struct node *)(void *)((char *)j - offsetof(struct node, load_job));
    if (n->is_stopping || j->cancelled) return;
    if (!n->failed) n->failed = node_open_services(n, &n->failed_why);
    if (n->failed) {
        node_stop(n);
        return;
    }
    node_announce(n);
    if (n->is_ready)
        node_publish(n);
    else
        node_ready_when_settled(n);
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
    if (n->is_stopping || (node_computes(n) && !is_late)) return;
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
    node_announce(n);
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
    if (!n->is_ready || !services_are_open(v) || n->is_moving || node_is_paused(n) ||
        holder_text(n->holder, text, sizeof text))
        return false;
    *out = (struct mover_state){ .have = n->holding,
                                 .manifest = &v->weights.manifest,
                                 .model = v->weights.name.id.b,
                                 .layer_us = v->pace.layer_us,
                                 .sessions = stage_server_sessions(v->stage) };
    return true;
}

enum err node_open_mover(struct node *n, struct why *why)
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
        node_stop_with(n, e, why);
}
