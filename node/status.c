#include "node/status.h"

#include <stdio.h>
#include <stdlib.h>

/* --- small things --- */

static void add_str(struct text *out, const char *key, struct slice s)
{
    text_printf(out, "\"%s\":", key);
    json_write_str(out, s);
}

static void add_id(struct text *out, const struct node_id *id)
{
    char text[NODE_ID_TEXT];
    node_id_text(text, id);
    text_printf(out, "\"id\":\"%s\"", text);
}

static void add_number(struct text *out, const char *key, uint64_t n)
{
    text_printf(out, ",\"%s\":%llu", key, (unsigned long long)n);
}

static bool is_model(const struct status_source *s, struct slice model)
{
    return s->services && model.n == ID_BYTES &&
           memcmp(model.p, s->services->weights.name.id.b, ID_BYTES) == 0;
}

static bool is_me(const struct status_source *s, const struct entry *e)
{
    return node_id_equal(&e->id, &s->me);
}

/* --- the model, and who holds what of it --- */

uint32_t status_holders(const struct status_source *s, uint32_t holders[LAYER_MAX], uint32_t *ends)
{
    const struct directory *d = peers_directory(s->peers);
    uint32_t n = s->services->weights.manifest.arch.n_layers;

    memset(holders, 0, LAYER_MAX * sizeof *holders);
    *ends = 0;
    for (uint32_t i = 0; i < directory_n(d); i++) {
        const struct entry *e = directory_nth(d, i);
        const struct uints *l = &e->body.layers;
        if (e->body.state != RECORD_ACTIVE || !is_model(s, e->body.model)) continue;
        *ends += e->body.ends != 0;
        for (uint32_t k = 0; k + 1 < l->n; k += 2)
            for (uint32_t at = l->p[k]; at < l->p[k + 1] && at < n; at++) holders[at]++;
    }
    return n;
}

static void add_model(struct text *out, const struct status_source *s)
{
    const struct weights *w = &s->services->weights;
    uint32_t holders[LAYER_MAX], ends, lo, hi, n = status_holders(s, holders, &ends);
    char id[HASH_TEXT];

    services_served(s->services, &lo, &hi);
    hash_text(id, &w->name.id);
    text_str(out, ",\"model\":{");
    add_str(out, "name", slice_str(w->name.name));
    text_printf(out, ",\"id\":\"%s\",\"layers\":%u,\"lo\":%u,\"hi\":%u,\"ends\":%s", id, n, lo, hi,
                s->services->coordinator ? "true" : "false");
    text_printf(out, ",\"layer_us\":%u,\"holders\":[", services_layer_us(s->services));
    for (uint32_t i = 0; i < n; i++) text_printf(out, i ? ",%u" : "%u", holders[i]);
    text_printf(out, "],\"ends_holders\":%u}", ends);
}

static const char *const ways[] = { "alone", "experts", "all" };

/* Who is not asked, and why. */
static void add_refused(struct text *out, const struct nearby_state *n)
{
    char id[NODE_ID_SHORT], text[NODE_ID_SHORT + SHARING_TEXT];

    text_str(out, ",");
    add_str(out, "why", slice_str(n->why));
    text_str(out, ",\"refused\":[");
    for (uint32_t i = 0; i < n->n_refused; i++) {
        node_id_short(id, &n->refused[i].id);
        snprintf(text, sizeof text, "%s %s", id, n->refused[i].why);
        if (i) text_str(out, ",");
        json_write_str(out, slice_str(text));
    }
    text_str(out, "]");
}

static void add_hottest(struct text *out, struct group *g)
{
    enum { HOT = 3 };
    struct group_hot hot[HOT];
    uint32_t n = group_hottest(g, hot, HOT);

    text_str(out, ",\"hottest\":[");
    for (uint32_t i = 0; i < n; i++)
        text_printf(out, "%s{\"layer\":%u,\"expert\":%u,\"use\":%.3f}", i ? "," : "", hot[i].layer,
                    hot[i].expert, (double)hot[i].use);
    text_str(out, "]");
}

/* With whom layers are shared, and what that brings. */
static void add_sharing(struct text *out, const struct services *v)
{
    const struct sharing *w = &v->shared;
    char text[SHARING_TEXT], parts[PARTS_TEXT];

    if (v->weights.held.parts.n) {
        parts_text(parts, &v->weights.held.parts);
        text_str(out, ",");
        add_str(out, "parts", slice_str(parts));
    }
    if (!v->group || !v->nearby) return;
    sharing_text(text, w);
    text_printf(out, ",\"sharing\":{\"how\":\"%s\",\"way\":\"%s\",\"others\":%u",
                sharing_how_text(v->c.share), ways[nearby_state(v->nearby)->way],
                group_n(v->group));
    if (w->n_layers) {
        text_printf(out, ",\"best\":\"%s\",", ways[sharing_choose(w, SHARING_ALONE)]);
        add_str(out, "predicted", slice_str(text));
    }
    add_refused(out, nearby_state(v->nearby));
    add_hottest(out, v->group);
    text_str(out, "}");
}

/* What earlier conversations left. */
static void add_prefixes(struct text *out, const struct services *v)
{
    struct prefixes_state p;
    stage_server_prefixes(v->stage, &p);
    text_printf(out, ",\"prefixes\":{\"hits\":%llu", (unsigned long long)p.hits);
    add_number(out, "bytes", p.bytes);
    add_number(out, "limit", p.max_bytes);
    add_number(out, "positions", p.positions);
    add_number(out, "rows_saved", p.saved);
    add_number(out, "disk_bytes", p.disk_bytes);
    text_str(out, "}");
}

static void add_work(struct text *out, const struct status_source *s)
{
    const struct services *v = s->services;

    add_sharing(out, v);
    add_number(out, "sessions", stage_server_sessions(v->stage));
    add_number(out, "requests", v->coordinator ? coordinator_requests(v->coordinator) : 0);
    add_number(out, "waiting", v->coordinator ? coordinator_waiting(v->coordinator) : 0);
    add_number(out, "free_positions", stage_server_free_tokens(v->stage));
    add_number(out, "kv_used", stage_server_kv_used(v->stage));
    add_number(out, "kv_limit", v->kv_bytes);
    add_prefixes(out, v);
}

/* --- given and taken --- */

static void add_counters(struct text *out, const struct counters *c)
{
    add_number(out, "since", c->since);
    text_str(out, ",\"counters\":{");
    for (unsigned k = 0; k < COUNTERS; k++)
        text_printf(out, "%s\"%s\":{\"per_s\":%.2f,\"now\":%llu,\"total\":%llu}", k ? "," : "",
                    counter_key((enum counter)k), counters_rate(c, (enum counter)k),
                    (unsigned long long)c->now[k], (unsigned long long)(c->now[k] + c->before[k]));
    text_str(out, "}");
}

/* --- peers --- */

static void add_address(struct text *out, const struct status_source *s, const struct entry *e)
{
    struct slice addr = net_addr(s->net, &e->id);
    char text[80] = "";

    if (!addr.n && e->body.addrs.n) addr = e->body.addrs.p[0];
    if (addr.n && !addr_text(text, sizeof text, addr)) text[0] = 0;
    text_str(out, ",");
    add_str(out, "address", slice_str(text));
}

static void add_peer(struct text *out, const struct status_source *s, const struct entry *e)
{
    static const char *const states[] = { "joining", "active", "draining", "gone" };
    const struct record_body *b = &e->body;
    struct traffic t = net_traffic(s->net, &e->id);
    uint32_t rtt = net_rtt_us(s->net, &e->id);

    text_str(out, "{");
    add_id(out, &e->id);
    text_str(out, ",");
    add_str(out, "name", b->name);
    add_address(out, s, e);
    text_printf(out, ",\"state\":\"%s\",\"connected\":%s", states[b->state & 3],
                net_is_up(s->net, &e->id) ? "true" : "false");
    if (rtt != UINT32_MAX) add_number(out, "rtt_us", rtt);
    text_str(out, ",");
    add_str(out, "model", b->model_name);
    text_printf(out, ",\"same_model\":%s,\"layers\":[", is_model(s, b->model) ? "true" : "false");
    for (uint32_t k = 0; k < b->layers.n; k++) text_printf(out, k ? ",%u" : "%u", b->layers.p[k]);
    text_printf(out, "],\"ends\":%s", b->ends ? "true" : "false");
    add_number(out, "layer_us", b->layer_us);
    add_number(out, "sessions", b->sessions);
    add_number(out, "bytes_in", t.in);
    add_number(out, "bytes_out", t.out);
    text_str(out, "}");
}

/* Connected ones first. */
static void add_peers(struct text *out, const struct status_source *s, uint32_t most)
{
    const struct directory *d = peers_directory(s->peers);
    uint32_t known = 0, connected = 0, listed = 0;

    text_str(out, ",\"peers\":[");
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t i = 0; i < directory_n(d); i++) {
            const struct entry *e = directory_nth(d, i);
            bool is_up = net_is_up(s->net, &e->id);
            if (is_me(s, e) || e->body.state == RECORD_GONE || is_up != (pass == 0)) continue;
            known++;
            connected += is_up;
            if (listed == most) continue;
            if (listed++) text_str(out, ",");
            add_peer(out, s, e);
        }
    text_printf(out, "],\"peers_known\":%u,\"peers_connected\":%u", known, connected);
}

/* --- what is wrong --- */

struct warnings {
    struct text *out;
    bool any;
};

static void warn(struct warnings *w, const char *text)
{
    if (w->any) text_str(w->out, ",");
    w->any = true;
    json_write_str(w->out, slice_str(text));
}

/* "layers 3-5 are held by nobody": the first such range. */
static void warn_of_layers(struct warnings *w, const struct status_source *s)
{
    uint32_t holders[LAYER_MAX], ends, n = status_holders(s, holders, &ends), lo = 0, hi;
    char text[160];

    while (lo < n && holders[lo]) lo++;
    for (hi = lo; hi < n && !holders[hi];) hi++;
    if (lo < n) {
        snprintf(text, sizeof text, "layers %u-%u are held by nobody: nothing can be answered", lo,
                 hi - 1);
        warn(w, text);
    }
    if (!ends) warn(w, "nobody holds the ends of the model: nobody can be asked");
}

static void add_warnings(struct text *out, const struct status_source *s, bool is_serving)
{
    struct warnings w = { out, false };

    text_str(out, ",\"warnings\":[");
    if (s->note && *s->note) warn(&w, s->note);
    if (is_serving) warn_of_layers(&w, s);
    text_str(out, "]");
}

/* --- all --- */

static void write_all(struct text *out, const struct status_source *s, uint32_t most_peers)
{
    size_t resident = 0;
    bool is_serving = s->services && services_are_open(s->services);

    if (uv_resident_set_memory(&resident)) resident = 0;
    text_str(out, "{\"version\":\"" SWARM_VERSION "\",");
    add_id(out, &s->me);
    text_str(out, ",");
    add_str(out, "name", slice_str(s->name ? s->name : ""));
    text_str(out, ",");
    add_str(out, "link", slice_str(s->link));
    text_str(out, ",");
    add_str(out, "reach", slice_str(s->reach ? s->reach : ""));
    text_str(out, ",");
    if (s->gateway) add_str(out, "gateway", slice_str(s->gateway));
    text_printf(out, "%s\"state\":\"%s\",", s->gateway ? "," : "", s->state);
    add_str(out, "pause", slice_str(s->pause ? s->pause : ""));
    text_str(out, ",");
    add_str(out, "progress", slice_str(s->progress));
    add_number(out, "uptime_s", (now_ms(s->hub) - s->started_ms) / 1000);
    add_number(out, "memory", resident);
    add_number(out, "memory_of_machine", uv_get_total_memory());
    if (is_serving) add_model(out, s);
    if (is_serving) add_work(out, s);
    add_counters(out, s->counters);
    add_peers(out, s, most_peers);
    add_warnings(out, s, is_serving);
    text_str(out, "}");
}

void status_json(struct text *out, const struct status_source *s)
{
    for (uint32_t most = STATUS_PEERS_MAX;; most /= 2) {
        out->n = 0;
        write_all(out, s, most);
        if (out->failed || out->n <= STATUS_MAX || most == 0) return;
    }
}
