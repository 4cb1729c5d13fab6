#include "node/metrics.h"

#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

static void counter(struct text *out, const char *name, const char *help, uint64_t v)
{
    prom_one(out, name, PROM_COUNTER, help, (double)v);
}

static void gauge(struct text *out, const char *name, const char *help, double v)
{
    prom_one(out, name, PROM_GAUGE, help, v);
}

/* One of several words is true. */
static void one_of(struct text *out, const char *name, const char *help, const char *label,
                   const char *const *word, unsigned n, const char *is)
{
    prom_metric(out, name, PROM_GAUGE, help);
    for (unsigned i = 0; i < n; i++) {
        char text[PROM_LABEL];
        prom_label(text, label, slice_str(word[i]));
        prom_sample(out, name, text, strcmp(word[i], is) == 0);
    }
}

/* --- the process --- */

static void add_node(struct text *out, const struct status_source *s)
{
    static const char *const states[] = { "joining", "active", "paused", "draining" };
    static const char *const modes[] = { "run", "ease", "pause" };
    bool is_serving = s->services && services_are_open(s->services);
    char id[NODE_ID_TEXT], me[PROM_LABEL], name[PROM_LABEL], model[PROM_LABEL], all[4 * PROM_LABEL];
    size_t resident = 0;

    node_id_text(id, &s->me);
    prom_label(me, "id", slice_str(id));
    prom_label(name, "name", slice_str(s->name ? s->name : ""));
    prom_label(model, "model", slice_str(is_serving ? s->services->weights.name.name : ""));
    snprintf(all, sizeof all, "version=\"" SWARM_VERSION "\",%s,%s,%s", me, name, model);
    prom_metric(out, "swarm_node_info", PROM_GAUGE, "Which node this is; always 1.");
    prom_sample(out, "swarm_node_info", all, 1);
    one_of(out, "swarm_node_state", "1 for the state that it is in.", "state", states, 4, s->state);
    one_of(out, "swarm_node_neighbour_mode", "1 for what it leaves to the owner of the PC.", "mode",
           modes, 3, modes[s->mode]);
    gauge(out, "swarm_node_start_time_seconds", "When it started, in unix time.",
          (double)(unix_now() - (now_ms(s->hub) - s->started_ms) / 1000));
    if (uv_resident_set_memory(&resident)) resident = 0;
    gauge(out, "swarm_node_resident_memory_bytes", "Memory in use, mapped weights included.",
          (double)resident);
    gauge(out, "swarm_node_machine_memory_bytes", "Memory of the machine.",
          (double)uv_get_total_memory());
}

/* --- what it holds --- */

static uint32_t count_experts(const struct weights *w)
{
    const struct holding *h = &w->held;
    uint32_t lo, hi, n = 0;
    for (uint32_t l = h->lo; l < h->hi; l++) n += parts_items(&w->manifest.arch, l, SHARD_EXPERT);
    parts_span(&h->parts, &lo, &hi);
    for (uint32_t l = lo; l < hi; l++) {
        uint32_t all = holding_is_whole(h, l) || !parts_name(&h->parts, l)
                           ? 0
                           : parts_items(&w->manifest.arch, l, SHARD_EXPERT);
        for (uint32_t i = 0; i < all; i++) n += parts_have(&h->parts, l, SHARD_EXPERT, i);
    }
    return n;
}

static void add_weights(struct text *out, const struct services *v)
{
    const struct weights *w = &v->weights;
    struct warm_counts c = { 0 };

    gauge(out, "swarm_node_model_layers", "Layers of the model.", w->manifest.arch.n_layers);
    gauge(out, "swarm_node_layers_held", "Layers that it holds whole.", w->hi - w->lo);
    gauge(out, "swarm_node_experts_held", "Experts that it holds, of all layers.",
          count_experts(w));
    gauge(out, "swarm_node_ends_held", "1: it can be asked.", v->coordinator != NULL);
    gauge(out, "swarm_node_layer_seconds", "A layer's time for one token, as announced.",
          services_layer_us(v) / 1e6);
    if (v->warm) warm_counts(v->warm, &c);
    gauge(out, "swarm_node_weights_bytes", "Weights that it computes with.", (double)c.bytes);
    gauge(out, "swarm_node_weights_room_bytes", "Of them in memory at most.",
          (double)(c.room < c.bytes ? c.room : c.bytes));
    gauge(out, "swarm_node_weights_memory_bytes", "Of them in memory.", (double)c.held);
    counter(out, "swarm_node_weights_read_bytes_total", "Weights read from the disk.", c.read);
    counter(out, "swarm_node_weights_forgotten_bytes_total", "Weights let go for others.",
            c.forgotten);
    prom_one(out, "swarm_node_weights_wait_seconds_total", PROM_COUNTER,
             "Threads that waited for weights from the disk.", (double)c.waited_ns / 1e9);
    counter(out, "swarm_node_experts_needed_total", "Experts and other routed units used.",
            c.routed.needs);
    counter(out, "swarm_node_experts_hit_total", "Of them in memory when they were needed.",
            c.routed.hits);
    counter(out, "swarm_node_experts_guessed_total", "Experts read ahead by a guess.",
            c.routed.guesses);
    counter(out, "swarm_node_experts_guessed_right_total", "Of them needed then.", c.routed.right);
}

/* --- what it does --- */

static void add_queues(struct text *out, const struct services *v)
{
    const struct coordinator *c = v->coordinator;
    gauge(out, "swarm_node_sessions", "Open sessions of its layers.",
          stage_server_sessions(v->stage));
    gauge(out, "swarm_node_requests", "Questions that it coordinates.",
          c ? coordinator_requests(c) : 0);
    gauge(out, "swarm_node_requests_waiting", "Of them waiting for their turn.",
          c ? coordinator_waiting(c) : 0);
    gauge(out, "swarm_node_compute_queue", "Jobs that wait for the processor.",
          compute_depth(v->compute));
    gauge(out, "swarm_node_free_positions", "Positions of conversations that still fit.",
          stage_server_free_tokens(v->stage));
    gauge(out, "swarm_node_kv_bytes", "K and V of sessions.",
          (double)stage_server_kv_used(v->stage));
    gauge(out, "swarm_node_kv_limit_bytes", "K and V at most.", (double)v->kv_bytes);
}

static void add_prefixes(struct text *out, const struct services *v)
{
    struct prefixes_state p;
    stage_server_prefixes(v->stage, &p);
    gauge(out, "swarm_node_prefix_bytes", "K and V kept of earlier conversations.",
          (double)p.bytes);
    gauge(out, "swarm_node_prefix_disk_bytes", "The same on disk.", (double)p.disk_bytes);
    counter(out, "swarm_node_prefix_hits_total", "Sessions that began with them.", p.hits);
    counter(out, "swarm_node_prefix_rows_total", "Rows not computed for it, times layers.",
            p.saved);
}

static void add_sharing(struct text *out, const struct services *v)
{
    gauge(out, "swarm_node_group_members", "Nodes that compute parts of its layers.",
          v->group ? group_n(v->group) : 0);
    gauge(out, "swarm_node_shares", "Nodes that it computes parts of layers for.",
          v->member ? member_shares(v->member) : 0);
}

/* Who holds the layer that fewest hold, as far as is known here. */
static void add_holders(struct text *out, const struct status_source *s)
{
    uint32_t holders[LAYER_MAX], ends, n = status_holders(s, holders, &ends), least = UINT32_MAX;
    for (uint32_t i = 0; i < n; i++)
        if (holders[i] < least) least = holders[i];
    gauge(out, "swarm_node_layer_holders_min", "Nodes that hold the layer that fewest hold.",
          n ? least : 0);
    gauge(out, "swarm_node_ends_holders", "Nodes that can be asked.", ends);
}

static void add_services(struct text *out, const struct status_source *s)
{
    add_weights(out, s->services);
    add_queues(out, s->services);
    add_prefixes(out, s->services);
    add_sharing(out, s->services);
    add_holders(out, s);
}

/* --- what it counted --- */

static const struct {
    enum counter first;
    const char *name, *labels, *help; /* help NULL: one more sample of the metric before */
} counted[] = {
    { COUNT_ANSWERS, "swarm_node_answers_total", NULL, "Answers to questions asked here." },
    { COUNT_FAILED, "swarm_node_failed_total", NULL, "Questions that failed." },
    { COUNT_TOKENS, "swarm_node_tokens_total", NULL, "Tokens of answers." },
    { COUNT_PROMPT, "swarm_node_prompt_tokens_total", NULL, "Tokens of prompts." },
    { COUNT_KNOWN, "swarm_node_known_tokens_total", NULL, "Of them known from earlier questions." },
    { COUNT_GUESSED, "swarm_node_drafts_total", NULL, "Tokens guessed ahead." },
    { COUNT_RIGHT, "swarm_node_drafts_right_total", NULL, "Of them right." },
    { COUNT_HEALS, "swarm_node_heals_total", NULL, "Stages of answers lost and replaced." },
    { COUNT_HEAL_ROWS, "swarm_node_heal_rows_total", NULL, "Rows sent again for that." },
    { COUNT_ROWS_OWN, "swarm_node_rows_total", "for=\"own\"",
      "Rows through layers: for its own questions, for others, and by others for it." },
    { COUNT_ROWS_GIVEN, "swarm_node_rows_total", "for=\"given\"", NULL },
    { COUNT_ROWS_TAKEN, "swarm_node_rows_total", "for=\"taken\"", NULL },
    { COUNT_PIECES_GIVEN, "swarm_node_pieces_total", "for=\"given\"",
      "Rows through parts of shared layers: for who leads them, and by members." },
    { COUNT_PIECES_TAKEN, "swarm_node_pieces_total", "for=\"taken\"", NULL },
    { COUNT_ROUNDS, "swarm_node_share_rounds_total", NULL, "Answers of members to its work." },
    { COUNT_BYTES_IN, "swarm_node_network_bytes_total", "direction=\"in\"",
      "Bytes of all connections." },
    { COUNT_BYTES_OUT, "swarm_node_network_bytes_total", "direction=\"out\"", NULL },
    { COUNT_WEIGHTS_GIVEN, "swarm_node_tiles_bytes_total", "for=\"given\"",
      "Bytes of weights given to others and taken from them." },
    { COUNT_WEIGHTS_TAKEN, "swarm_node_tiles_bytes_total", "for=\"taken\"", NULL },
};
_Static_assert(sizeof counted / sizeof *counted == COUNTERS, "every counter is exported");

static void add_counters(struct text *out, const struct counters *c)
{
    for (unsigned i = 0; i < COUNTERS; i++) {
        if (counted[i].help) prom_metric(out, counted[i].name, PROM_COUNTER, counted[i].help);
        prom_sample(out, counted[i].name, counted[i].labels, (double)c->now[counted[i].first]);
    }
}

static void add_times(struct text *out, const struct counters *c)
{
    static const struct {
        enum timing of;
        const char *name, *labels, *help;
    } timed[TIMINGS] = {
        { TIME_DECODE, "swarm_node_step_seconds", "kind=\"decode\"",
          "Computing a step: tokens of answers, or a chunk of a prompt." },
        { TIME_PREFILL, "swarm_node_step_seconds", "kind=\"prefill\"", NULL },
        { TIME_DECODE_WAIT, "swarm_node_step_wait_seconds", "kind=\"decode\"",
          "Waiting for the processor before a step." },
        { TIME_PREFILL_WAIT, "swarm_node_step_wait_seconds", "kind=\"prefill\"", NULL },
        { TIME_FIRST, "swarm_node_first_token_seconds", NULL,
          "From a question to the first token of its answer." },
        { TIME_TOKEN, "swarm_node_token_seconds", NULL, "A token of an answer, its mean." },
        { TIME_HEAL, "swarm_node_heal_seconds", NULL,
          "From the loss of a stage until the answer goes on." },
    };
    for (unsigned i = 0; i < TIMINGS; i++)
        prom_histogram(out, timed[i].name, timed[i].help, timed[i].labels, &c->time[timed[i].of]);
}

/* --- others --- */

static void add_peers(struct text *out, const struct status_source *s)
{
    const struct directory *d = peers_directory(s->peers);
    struct faults f = net_faults(s->net);
    uint32_t known = 0, connected = 0;
    for (uint32_t i = 0; i < directory_n(d); i++) {
        const struct entry *e = directory_nth(d, i);
        if (node_id_equal(&e->id, &s->me) || e->body.state == RECORD_GONE) continue;
        known++;
        connected += net_is_up(s->net, &e->id);
    }
    prom_metric(out, "swarm_node_peers", PROM_GAUGE, "Nodes that it knows, and talks to.");
    prom_sample(out, "swarm_node_peers", "state=\"known\"", known);
    prom_sample(out, "swarm_node_peers", "state=\"connected\"", connected);
    counter(out, "swarm_node_strikes_total", "Peers' messages that broke the protocol.", f.strikes);
    counter(out, "swarm_node_bans_total", "Peers banned.", f.bans);
    counter(out, "swarm_node_knocks_refused_total", "Handshakes that were one too many.",
            f.refused);
    gauge(out, "swarm_node_uplink_bytes_per_second", "The slowest line to a peer; 0: not known.",
          net_uplink_kbit(s->net) * 125.0);
}

void metrics_text(struct text *out, const struct status_source *s)
{
    add_node(out, s);
    if (s->services && services_are_open(s->services)) add_services(out, s);
    add_counters(out, s->counters);
    add_times(out, s->counters);
    add_peers(out, s);
}

/* --- the door --- */

struct metrics_door {
    struct hub *hub;
    struct http *http;
    struct text page;
    uint64_t written_ms; /* 0: never */
    void (*write)(void *arg, struct text *out);
    void *arg;
};

static void on_request(void *arg, struct exchange *x)
{
    struct metrics_door *d = arg;
    uint64_t now = now_ms(d->hub);
    bool is_get = strcmp(http_method(x), "GET") == 0;
    if (strcmp(http_path(x), "/metrics") != 0) {
        http_reply(x, 404, "text/plain", slice_str("here is only /metrics\n"));
        return;
    }
    if (!is_get && strcmp(http_method(x), "HEAD") != 0) {
        http_add_header(x, "Allow", "GET, HEAD");
        http_reply(x, 405, "text/plain", slice_str("it can only be read\n"));
        return;
    }
    if (!d->written_ms || now - d->written_ms > METRICS_FRESH_MS) {
        d->page.n = 0;
        d->write(d->arg, &d->page);
        d->written_ms = now;
    }
    if (d->page.failed)
        http_reply(x, 503, "text/plain", slice_str("this node is out of memory\n"));
    else
        http_reply(x, 200, PROM_TYPE, slice_of(d->page.p, d->page.n));
}

static void on_closed(void *arg, struct exchange *x)
{
    (void)arg;
    (void)x;
}

enum err metrics_parse(char host[256], uint16_t *port, const char *text, struct why *why)
{
    char full[300];
    bool is_port = text[strspn(text, "0123456789")] == 0;
    snprintf(full, sizeof full, "%s%s", is_port ? "127.0.0.1:" : "", text);
    enum err e = hostport_parse(host, port, full, why);
    if (!e && strcmp(host, "localhost") == 0) snprintf(host, 256, "127.0.0.1");
    return e;
}

enum err metrics_open(struct metrics_door **out, struct hub *hub, const char *at,
                      void (*write)(void *arg, struct text *out), void *arg, struct why *why)
{
    char host[256];
    struct metrics_door *d = calloc(1, sizeof *d);
    if (!d) return fail(why, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    *d = (struct metrics_door){ .hub = hub, .write = write, .arg = arg };
    struct http_config c = { .hub = hub,
                             .host = host,
                             .connections = METRICS_CONNECTIONS,
                             .body_max = METRICS_BODY_MAX,
                             .arg = d,
                             .on_request = on_request,
                             .on_closed = on_closed };
    enum err e = metrics_parse(host, &c.port, at, why);
    if (!e) e = http_open(&d->http, &c, why);
    if (e) {
        free(d);
        return e;
    }
    log_info("metrics at http://%s%s%s:%u/metrics", strchr(host, ':') ? "[" : "", host,
             strchr(host, ':') ? "]" : "", http_port(d->http));
    *out = d;
    return ERR_OK;
}

void metrics_close(struct metrics_door *d)
{
    if (!d) return;
    http_close(d->http);
    free(d->page.p);
    free(d);
}
