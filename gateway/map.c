/* map.c - GET /swarm/map, and the events of an answer that a page asks for.
 *
 * The nodes are asked for every second while somebody looks, else with the pulse; who looks gets
 * what was said last, so a thousand pages ask the coordinator no more than one. */
#include "gateway/gateway_impl.h"

#include "gateway/shown.h"

#include <stdlib.h>

enum { LOOKED_AT_MS = 10000, STALE_MS = 15000 };

static void keep(struct text *at, struct slice json)
{
    struct text fresh = { 0 };
    shown_json(&fresh, json);
    free(at->p);
    *at = fresh;
}

/* --- the nodes --- */

static void on_nodes(void *arg, struct slice json)
{
    struct gateway *g = arg;
    keep(&g->map.nodes, json);
    g->map.heard_ms = now_ms(&g->hub);
}

static void on_text(void *arg, uint32_t index, struct slice text, bool is_thinking)
{
    (void)arg, (void)index, (void)text, (void)is_thinking;
}

static void on_note(void *arg, struct slice text)
{
    (void)arg, (void)text;
}

static void on_done(void *arg, const struct msg_ASK_DONE *done)
{
    (void)done;
    ((struct gateway *)arg)->map.question = NULL;
}

/* The pulse says why. */
static void on_fail(void *arg, unsigned code, const char *text)
{
    (void)code, (void)text;
    ((struct gateway *)arg)->map.question = NULL;
}

void map_tick(struct gateway *g, bool is_pulse)
{
    static const struct msg_ASK nodes = { .plan_only = PLAN_ONLY_MAP,
                                          .conversation = { (const uint8_t *)"{}", 2 } };
    struct question_events on = { .arg = g,
                                  .on_plan = on_nodes,
                                  .on_text = on_text,
                                  .on_note = on_note,
                                  .on_done = on_done,
                                  .on_fail = on_fail };
    bool is_looked_at = g->map.looked_ms && now_ms(&g->hub) - g->map.looked_ms < LOOKED_AT_MS;
    if (g->map.question || (!is_pulse && !is_looked_at)) return;
    if (question_ask(g->questions, &nodes, &on, &g->map.question)) g->map.question = NULL;
}

void map_on_plan(struct gateway *g, struct slice json)
{
    keep(&g->map.plan, json);
}

void map_fini(struct gateway *g)
{
    free(g->map.nodes.p);
    free(g->map.plan.p);
}

static void add_known(struct text *out, const char *key, const struct text *json, bool is_known)
{
    text_printf(out, ",\"%s\":", key);
    if (is_known && json->n > 0 && !json->failed)
        text_add(out, json->p, json->n);
    else
        text_str(out, "null");
}

void map_get(struct gateway *g, struct exchange *x)
{
    struct text out = { 0 };
    uint64_t now = now_ms(&g->hub), age = now - g->map.heard_ms;
    g->map.looked_ms = now;
    text_printf(&out, "{\"up\":%s,\"why\":", g->is_up ? "true" : "false");
    shown_text(&out, slice_str(g->is_up ? "" : g->down_why.text));
    text_str(&out, ",\"model\":");
    json_write_str(&out, slice_str(g->model));
    text_printf(&out, ",\"in_flight\":%u", g->n_replies);
    add_known(&out, "swarm", &g->map.nodes, g->map.heard_ms && age < STALE_MS);
    add_known(&out, "plan", &g->map.plan, g->is_up);
    text_str(&out, "}");
    http_add_header(x, "Cache-Control", "no-store");
    reply_json(g, x, 200, &out);
    free(out.p);
}

/* --- of one answer --- */

static void begin_event(struct text *out, const char *what)
{
    text_printf(out, "event: swarm\ndata: {\"%s\":", what);
}

static void end_event(struct text *out)
{
    text_str(out, "}\n\n");
}

void map_event_plan(struct text *out, struct slice json)
{
    begin_event(out, "plan");
    shown_json(out, json);
    end_event(out);
}

void map_event_note(struct text *out, uint32_t place, struct slice sentence)
{
    begin_event(out, "note");
    shown_text(out, sentence);
    if (place > 0) text_printf(out, ",\"place\":%u", place);
    end_event(out);
}

void map_event_done(struct text *out, const struct msg_ASK_DONE *done)
{
    begin_event(out, "done");
    shown_json(out, done->stats);
    text_printf(out, ",\"prompt_tokens\":%u,\"tokens\":%u,\"reasoning_tokens\":%u",
                (unsigned)done->n_prompt, (unsigned)done->n_tokens, (unsigned)done->n_thinking);
    end_event(out);
}
