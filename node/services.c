#include "node/services.h"

#include "base/log.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { PATIENCE_S = 30, PLAN_PATIENCE_MS = 2000 };

/* --- load --- */

static void name_learnt(struct services *s)
{
    const uint8_t *id = s->weights.name.id.b;
    int n = s->c.store_dir ? snprintf(s->learnt, sizeof s->learnt, "%s/experts-%02x%02x%02x%02x",
                                      s->c.store_dir, id[0], id[1], id[2], id[3])
                           : 0;
    if (n >= (int)sizeof s->learnt) s->learnt[0] = 0;
}

static enum err load_weights(struct services *s, struct why *why)
{
    const struct services_config *c = &s->c;
    enum err e = weights_open_held(&s->weights, c->store, c->model, &c->hold, why);
    bool predicts = c->hold.ends && (c->draft == DRAFT_AUTO || c->draft == DRAFT_MTP);
    if (!e && predicts) e = weights_open_predict(&s->weights, why);
    if (e) return e;
    name_learnt(s);
    e = warm_open(&s->warm, &s->weights, c->room, s->learnt[0] ? s->learnt : NULL);
    if (e) return fail(why, e, "%s", err_text(e));

    char held[HOLDING_TEXT];
    struct holding layers = c->hold;

    layers.ends = false;
    holding_text(held, &layers);
    log_info("holding %s of %s%s", held, s->weights.name.name, c->hold.ends ? " and the ends" : "");
    return ERR_OK;
}

/* With the ends and a tokenizer it coordinates; else no_coordinator says why not. */
static enum err load_tokenizer(struct services *s, struct why *why)
{
    const struct manifest *m = &s->weights.manifest;
    if (!s->weights.ends.t) {
        s->no_coordinator = s->c.no_ends ? "this node was started with --no-ends, so it does not "
                                           "coordinate; ask another node of the swarm"
                                         : "this node does not hold the ends of the model, so it "
                                           "does not coordinate; ask another node of the swarm";
        return ERR_OK;
    }
    if (m->tokenizer_bytes == 0) {
        s->no_coordinator = "the model has no tokenizer, so it cannot be asked";
        return ERR_OK;
    }
    uint8_t *json;
    size_t size;
    if (!chat_form_parse(m->chat, &s->form))
        return fail(why, ERR_UNSUPPORTED, "the chat form %s is not known to this version", m->chat);
    enum err e = store_tokenizer(s->c.store, m, &json, &size, why);
    if (e) return e;
    e = tokenizer_open(&s->tokenizer, slice_of(json, size), why);
    free(json);
    return e;
}

static uint64_t quarter_of_memory(void)
{
    return warm_room() / 3; /* which is three quarters */
}

static void choose_limits(struct services *s)
{
    const struct arch *a = &s->weights.manifest.arch;
    s->kv_bytes = s->c.kv_bytes ? s->c.kv_bytes : quarter_of_memory();
    s->prefix_bytes = s->c.no_prefix ? 0 : s->c.prefix_bytes ? s->c.prefix_bytes : s->kv_bytes / 2;
    s->context = s->c.context && s->c.context < a->context ? s->c.context : a->context;
    if (s->context > CONTEXT_MAX) s->context = CONTEXT_MAX;
}

enum err services_load(struct services *s, const struct services_config *c, struct why *why)
{
    *s = (struct services){ .c = *c };
    enum err e = load_weights(s, why);
    if (!e) e = load_tokenizer(s, why);
    if (!e) choose_limits(s);
    return e;
}

/* --- open --- */

/* It is to share what it holds, or has to: it holds the trunk of layers, but not all of them. */
static bool leads_others(const struct services *s)
{
    uint32_t lo, hi;
    holding_led(&s->weights.held, &lo, &hi);
    return s->c.share ? lo < hi : hi - lo > s->weights.hi - s->weights.lo;
}

/* How layers are shared now: head groups too, experts only, not at all. */
static enum sharing_way way_of(const struct services *s)
{
    return s->nearby ? nearby_state(s->nearby)->way : SHARING_ALL;
}

/* What do those who share our layers bring? */
static void weigh(struct services *s)
{
    if (group_n(s->group) == 0 || group_weigh(s->group, &s->pace, &s->shared))
        s->shared = (struct sharing){ 0 };
}

/* Others came or went. */
static void say_weighed(const struct services *s)
{
    const struct sharing *w = &s->shared;
    char text[SHARING_TEXT];
    uint32_t n = group_n(s->group);

    if (w->n_layers == 0) return;
    sharing_text(text, w);
    if (sharing_pays(w))
        log_info("by prediction with %u other%s %s", n, n > 1 ? "s" : "", text);
    else if (w->us[SHARING_ALL] < HUGE_VAL && s->c.share == SHARING_ON)
        log_warn("sharing layers brings nothing here by prediction: %s; with --share auto this "
                 "node computes them alone",
                 text);
}

static void on_weigh(void *arg)
{
    weigh(arg);
}

uint32_t services_layer_us(const struct services *s)
{
    const struct sharing *w = &s->shared;
    double us = w->us[way_of(s)];

    return w->n_layers && us < HUGE_VAL ? (uint32_t)(us / w->n_layers) + 1 : s->pace.layer_us;
}

/* Say it when layers can be served no more, or again; they are announced so. */
static void on_group(void *arg)
{
    struct services *s = arg;
    uint32_t lo, hi, led_lo, led_hi;
    char lack[120];
    services_served(s, &lo, &hi);
    holding_led(&s->weights.held, &led_lo, &led_hi);
    if (lo != s->served_lo || hi != s->served_hi) {
        if (lo < hi) log_info("serving layers %u-%u with %u others", lo, hi - 1, group_n(s->group));
        uint32_t first = lo < hi && lo == led_lo ? hi : led_lo;
        if (first < led_hi && !group_covers(s->group, first)) {
            group_lacks(s->group, first, lack, sizeof lack);
            log_warn("not all layers are served: %s", lack);
        }
    }
    s->served_lo = lo;
    s->served_hi = hi;
    weigh(s);
    say_weighed(s);
    s->c.on_change(s->c.arg);
}

void services_served(const struct services *s, uint32_t *lo, uint32_t *hi)
{
    *lo = s->weights.lo;
    *hi = s->weights.hi;
    if (s->group) group_served(s->group, lo, hi);
}

void services_describe_parts(struct services *s, struct record_body *r)
{
    const struct pace *p = &s->pace;

    r->parts = holding_wire(&s->weights.held, s->parts);
    if (p->heads_us || p->expert_us || p->dense_us)
        r->piece_us = (struct uints){ 3, { p->heads_us, p->expert_us, p->dense_us } };
    if (s->group && group_n(s->group)) r->together = 1 + group_n(s->group);
}

static enum err open_group(struct services *s)
{
    s->served_lo = s->weights.lo;
    s->served_hi = s->weights.hi;
    struct group_config gc = { .hub = s->c.hub,
                               .net = s->c.net,
                               .weights = &s->weights,
                               .me = s->c.me,
                               .counters = s->c.counters,
                               .arg = s,
                               .on_change = on_group };
    return group_open(&s->group, &gc);
}

static uint64_t kv_of_stage(void *arg)
{
    return stage_server_kv_used(((struct services *)arg)->stage);
}

static enum err open_member(struct services *s)
{
    struct member_config mc = { .hub = s->c.hub,
                                .net = s->c.net,
                                .compute = s->compute,
                                .weights = &s->weights,
                                .me = s->c.me,
                                .context = s->context,
                                .kv_bytes = s->kv_bytes,
                                .counters = s->c.counters,
                                .arg = s,
                                .kv_elsewhere = kv_of_stage };
    return member_open(&s->member, &mc);
}

static enum err open_nearby(struct services *s)
{
    struct nearby_config sc = { .hub = s->c.hub,
                                .net = s->c.net,
                                .peers = s->c.peers,
                                .group = s->group,
                                .weights = &s->weights,
                                .me = s->c.me,
                                .pace = &s->pace,
                                .rtt_us = s->c.share_rtt * 1000,
                                .how = s->c.share == SHARING_AUTO ? SHARING_AUTO : SHARING_ON,
                                .arg = s,
                                .on_weigh = on_weigh };
    return nearby_open(&s->nearby, &sc);
}

static enum err open_compute(struct services *s, struct why *why)
{
    struct compute_config cc = { .arch = &s->weights.manifest.arch,
                                 .layers = s->weights.layer,
                                 .lo = s->weights.lo,
                                 .hi = s->weights.hi,
                                 .all = s->weights.all,
                                 .all_lo = s->weights.all_lo,
                                 .all_hi = s->weights.all_hi,
                                 .ends = s->tokenizer ? &s->weights.ends : NULL,
                                 .predict = s->tokenizer && s->weights.predict.t
                                                ? &s->weights.predict
                                                : NULL,
                                 .pager = warm_pager(s->warm),
                                 .kernels = s->c.kernels,
                                 .workers = s->c.workers,
                                 .nice = s->c.nice,
                                 .hub = s->c.hub };
    enum err e = compute_open(&s->compute, &cc, why);
    if (e) return e;
    s->pace = compute_measure(s->compute);
    log_info("computing with %u threads, %s%s", s->c.workers->n, s->c.kernels->isa,
             s->pace.layer_us ? "" : "; no layers to serve");
    if (s->pace.layer_us) log_info("a layer takes %u us for one token", s->pace.layer_us);
    return ERR_OK;
}

static enum err open_stage(struct services *s)
{
    struct stage_server_config sc = { .hub = s->c.hub,
                                      .net = s->c.net,
                                      .compute = s->compute,
                                      .weights = &s->weights,
                                      .group = s->group,
                                      .me = s->c.me,
                                      .context = s->context,
                                      .kv_bytes = s->kv_bytes,
                                      .prefix_bytes = s->prefix_bytes,
                                      .shelf = s->c.shelf,
                                      .idle_ms = STAGE_IDLE_MS,
                                      .no_own_first = s->c.no_own_first,
                                      .counters = s->c.counters,
                                      .arg = s->c.arg,
                                      .on_change = s->c.on_change };
    return stage_server_open(&s->stage, &sc);
}

static enum err open_pipelines(struct services *s)
{
    const struct arch *a = &s->weights.manifest.arch;
    struct pipelines_config pc = { .hub = s->c.hub,
                                   .net = s->c.net,
                                   .peers = s->c.peers,
                                   .stage = s->stage,
                                   .me = s->c.me,
                                   .n_layers = a->n_layers,
                                   .row_bytes = arch_row_bytes(a),
                                   .head_us = s->pace.head_us,
                                   .patience_ms = PLAN_PATIENCE_MS,
                                   .counters = s->c.counters,
                                   .heal_ms = 1000 * (s->c.patience ? s->c.patience : PATIENCE_S) };
    memcpy(pc.model, s->weights.name.id.b, ID_BYTES);
    return pipelines_open(&s->pipelines, &pc);
}

static enum err open_coordinator(struct services *s)
{
    struct coordinator_config cc = { .hub = s->c.hub,
                                     .pipelines = s->pipelines,
                                     .compute = s->compute,
                                     .weights = &s->weights,
                                     .tokenizer = s->tokenizer,
                                     .form = s->form,
                                     .me = s->c.me,
                                     .draft = s->c.draft,
                                     .journal_dir = s->c.journal_dir,
                                     .shelf = s->c.shelf,
                                     .answers = s->c.answers,
                                     .queue = s->c.queue,
                                     .counters = s->c.counters };
    return s->tokenizer ? coordinator_open(&s->coordinator, &cc) : ERR_OK;
}

static enum err open_asks(struct services *s)
{
    struct asks_config ac = { .net = s->c.net,
                              .coordinator = s->coordinator,
                              .no_coordinator = s->no_coordinator,
                              .allow = s->c.allow,
                              .n_allow = s->c.n_allow,
                              .per_client = s->c.per_client,
                              .no_own_first = s->c.no_own_first };
    return asks_open(&s->asks, &ac);
}

enum err services_open(struct services *s, struct why *why)
{
    enum err e = leads_others(s) ? open_group(s) : ERR_OK;
    if (e) return fail(why, e, "%s", err_text(e));
    if ((e = open_compute(s, why))) return e;
    if (s->group) group_serve(s->group, s->compute);
    e = open_stage(s);
    if (!e) e = open_member(s);
    if (!e && s->group) e = open_nearby(s);
    if (!e) e = open_pipelines(s);
    if (!e) e = open_coordinator(s);
    if (!e) e = open_asks(s);
    if (!e && s->coordinator) coordinator_restore(s->coordinator);
    return e ? fail(why, e, "%s", err_text(e)) : ERR_OK;
}

/* --- the end --- */

void services_drain(struct services *s)
{
    if (s->coordinator) coordinator_drain(s->coordinator);
    if (s->stage) stage_server_drain(s->stage);
}

void services_pause(struct services *s, bool is_paused)
{
    if (!services_are_open(s)) return;
    stage_server_pause(s->stage, is_paused);
    if (s->member) member_pause(s->member, is_paused);
    asks_pause(s->asks, is_paused);
}

bool services_are_idle(const struct services *s)
{
    return (!s->coordinator || coordinator_waited_for(s->coordinator) == 0) &&
           (!s->stage || stage_server_sessions(s->stage) == 0) &&
           (!s->member || member_sessions(s->member) == 0);
}

/* In the order in which they depend on each other. */
void services_stop(struct services *s)
{
    if (s->coordinator) coordinator_stop(s->coordinator);
    if (s->stage) stage_server_stop(s->stage);
    nearby_close(s->nearby);
    s->nearby = NULL;
    if (s->member) member_stop(s->member);
    if (s->group) group_stop(s->group);
    asks_close(s->asks);
    pipelines_close(s->pipelines);
    s->asks = NULL;
    s->pipelines = NULL;
}

void services_close(struct services *s)
{
    compute_close(s->compute);
    stage_server_close(s->stage); /* its mailbox may hold jobs that are the coordinator's */
    coordinator_close(s->coordinator);
    member_close(s->member);
    group_close(s->group);
    if (s->tokenizer) tokenizer_close(s->tokenizer);
    warm_close(s->warm);
    weights_close(&s->weights);
    *s = (struct services){ .c = s->c };
}
