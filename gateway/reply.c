/* reply.c - one request of an HTTP client: its questions to the swarm, and the answer as it comes.
 */
#include "gateway/gateway_impl.h"

#include "gateway/logprobs.h"
#include "gateway/responses.h"
#include "gateway/tool_calls.h"
#include "store/manifest.h"

#include <stdio.h>
#include <stdlib.h>

enum { DONE_CANCELLED = 2, CALLS_MAX = 32, KEEP_ALIVE_MS = 15000 };

/* One of the answers that were asked for. */
struct choice {
    struct reply *r;
    uint32_t index;
    struct question *question; /* NULL: it has ended */
    struct msg_ASK ask;
    struct stops stops;
    struct tool_calls calls;
    struct logprobs logprobs;
    struct whole_choice whole; /* what has come; of a stream only the calls' ids and the end */
    uint32_t n_tokens;
    struct text traced; /* owned: events, where they are kept */
};

struct reply {
    struct gateway *g;
    struct reply *next;
    struct exchange *x;
    struct openai_ask a;
    struct reply_head head;
    struct asker who;
    char model[65];
    struct choice choice[CHOICES_MAX];
    struct responses responses; /* of that endpoint */
    uint32_t n_open;
    uint8_t asker[ASKER_TAG]; /* whom the swarm takes him for */
    struct usage usage;
    uint64_t asked_ns, said_ms;
    bool has_begun; /* the stream's head is sent */
    bool has_text;
    bool is_over;
};

/* --- what is said to the client --- */

void reply_json(struct gateway *g, struct exchange *x, unsigned status, const struct text *json)
{
    g->counts.by_status[status / 100]++;
    http_reply(x, json->failed ? 500 : status, "application/json",
               json->failed ? slice_str("") : slice_of(json->p, json->n));
}

void reply_error(struct gateway *g, struct exchange *x, const struct openai_error *e)
{
    struct text json = { 0 };
    char seconds[16];
    openai_write_error(&json, e);
    snprintf(seconds, sizeof seconds, "%u", e->retry_s);
    if (e->retry_s) http_add_header(x, "Retry-After", seconds);
    if (e->status == 401) http_add_header(x, "WWW-Authenticate", "Bearer");
    reply_json(g, x, e->status, &json);
    free(json.p);
}

static void put(struct reply *r, struct text *event)
{
    if (!event->failed) http_put(r->x, slice_of(event->p, event->n));
    free(event->p);
    r->said_ms = now_ms(&r->g->hub);
}

/* From here on a failure is an event of the stream. */
static void begin_stream(struct reply *r)
{
    if (r->has_begun || !r->a.stream) return;
    r->has_begun = true;
    r->g->counts.streams++;
    r->g->counts.by_status[2]++;
    http_stream(r->x, "text/event-stream");
    if (r->a.endpoint == ENDPOINT_RESPONSES) {
        struct text event = { 0 };
        responses_begin(&r->responses, &r->head, &event);
        put(r, &event);
    }
    for (uint32_t i = 0; i < r->a.n && r->a.endpoint == ENDPOINT_CHAT; i++) {
        struct text event = { 0 };
        openai_write_delta(&event, &r->head, &(struct delta){ .kind = DELTA_ROLE, .choice = i });
        put(r, &event);
    }
}

/* Is it said as it comes?  (Else it is gathered in the choice.) */
static bool is_said(const struct choice *c)
{
    return c->r->a.stream || c->r->a.endpoint == ENDPOINT_RESPONSES;
}

static void say(struct choice *c, const struct delta *d)
{
    struct reply *r = c->r;
    struct text event = { 0 };
    begin_stream(r);
    if (r->a.endpoint == ENDPOINT_RESPONSES)
        responses_delta(&r->responses, d, r->a.stream ? &event : NULL);
    else
        openai_write_delta(&event, &r->head, d);
    if (event.n > 0)
        put(r, &event);
    else
        free(event.p);
}

/* --- its end --- */

static void free_reply(struct reply *r)
{
    struct reply **at = &r->g->first;
    while (*at != r) at = &(*at)->next;
    *at = r->next;
    r->g->n_replies--;
    for (uint32_t i = 0; i < r->a.n; i++) {
        struct choice *c = &r->choice[i];
        if (c->question) question_drop(c->question);
        tool_calls_fini(&c->calls);
        logprobs_fini(&c->logprobs);
        for (uint32_t k = 0; k < c->whole.n_calls; k++) {
            free(c->whole.call[k].name.p);
            free(c->whole.call[k].args.p);
        }
        free(c->whole.call);
        free(c->whole.content.p);
        free(c->whole.reasoning.p);
        free(c->whole.logprobs.p);
        if (!r->g->is_stopping) traces_keep(&r->g->traces, &r->g->hub, &c->traced);
        free(c->traced.p);
    }
    responses_fini(&r->responses);
    openai_ask_fini(&r->a);
    free(r);
}

/* The exchange goes on by itself; nothing of it points here any more. */
static void end_reply(struct reply *r)
{
    http_set_user(r->x, NULL);
    free_reply(r);
}

static void count_tokens(struct reply *r)
{
    struct gateway_counts *k = &r->g->counts;
    const struct usage *u = &r->usage;
    k->prompt_tokens += u->n_prompt;
    k->cached_tokens += u->n_cached;
    k->tokens += u->n_tokens;
    k->reasoning_tokens += u->n_reasoning;
    limits_charge(r->g->tokens, slice_str(r->who.name), u->n_prompt + u->n_tokens,
                  now_ms(&r->g->hub));
}

void reply_drop(struct exchange *x)
{
    struct reply *r = http_user(x);
    if (!r) return;
    r->g->counts.gone++;
    for (uint32_t i = 0; i < r->a.n; i++) /* what was made for him is his */
        if (r->choice[i].question) r->usage.n_tokens += r->choice[i].n_tokens;
    count_tokens(r);
    free_reply(r);
}

static void fail_reply(struct reply *r, const struct openai_error *e)
{
    count_tokens(r);
    if (r->has_begun) {
        struct text event = { 0 };
        if (r->a.endpoint == ENDPOINT_RESPONSES) {
            responses_error(&r->responses, e, &event);
        } else {
            text_str(&event, "data: ");
            openai_write_error(&event, e);
            text_str(&event, "\n\n");
        }
        put(r, &event);
        http_end(r->x);
    } else {
        reply_error(r->g, r->x, e);
    }
    end_reply(r);
}

static void finish(struct reply *r)
{
    struct text out = { 0 };
    count_tokens(r);
    if (r->a.endpoint == ENDPOINT_RESPONSES) {
        const char *end = r->choice[0].whole.finish;
        responses_end(&r->responses, &r->head, end, &r->usage, r->a.stream ? &out : NULL);
        if (!r->a.stream) responses_write(&r->responses, &r->head, end, &r->usage, &out);
    }
    if (r->a.endpoint == ENDPOINT_RESPONSES && r->a.stream) {
        put(r, &out);
        http_end(r->x);
    } else if (r->a.endpoint == ENDPOINT_RESPONSES) {
        reply_json(r->g, r->x, 200, &out);
        free(out.p);
    } else if (r->a.stream) {
        if (r->a.with_usage) openai_write_usage(&out, &r->head, &r->usage);
        openai_write_done(&out);
        put(r, &out);
        http_end(r->x);
    } else {
        struct whole_choice whole[CHOICES_MAX];
        for (uint32_t i = 0; i < r->a.n; i++) whole[i] = r->choice[i].whole;
        openai_write_whole(&out, &r->head, whole, r->a.n, &r->usage);
        reply_json(r->g, r->x, 200, &out);
        free(out.p);
    }
    end_reply(r);
}

/* --- what the swarm says --- */

static void hear_text(void *arg, struct slice text)
{
    struct choice *c = arg;
    struct text json = { 0 };
    logprobs_take(&c->logprobs, c->r->a.endpoint);
    if (!is_said(c)) {
        text_add(&c->whole.content, text.p, text.n);
        return;
    }
    logprobs_write(&c->logprobs, c->r->a.endpoint, &json);
    say(c, &(struct delta){ .kind = DELTA_TEXT,
                            .choice = c->index,
                            .text = text,
                            .logprobs = slice_of(json.p, json.n) });
    free(json.p);
}

static void hear_call(void *arg, uint32_t index, struct slice name)
{
    struct choice *c = arg;
    uint8_t random[12];
    logprobs_drop(&c->logprobs);
    struct whole_call *more = realloc(c->whole.call, (index + 1) * sizeof *more);
    if (!more) return;
    c->whole.call = more;
    c->whole.n_calls = index + 1;
    more[index] = (struct whole_call){ .id = "call_" };
    random_bytes(random, sizeof random);
    for (unsigned i = 0; i < sizeof random; i++)
        snprintf(more[index].id + 5 + 2 * i, 3, "%02x", random[i]);
    text_add(&more[index].name, name.p, name.n);
    if (is_said(c))
        say(c, &(struct delta){ .kind = DELTA_CALL,
                                .choice = c->index,
                                .text = name,
                                .call = index,
                                .call_id = more[index].id });
}

static void hear_args(void *arg, uint32_t index, struct slice json)
{
    struct choice *c = arg;
    logprobs_drop(&c->logprobs);
    if (index >= c->whole.n_calls) return;
    if (is_said(c))
        say(c,
            &(struct delta){ .kind = DELTA_ARGS, .choice = c->index, .text = json, .call = index });
    else
        text_add(&c->whole.call[index].args, json.p, json.n);
}

static void hear_visible(void *arg, struct slice text)
{
    struct choice *c = arg;
    logprobs_settle(&c->logprobs, text.n);
    tool_calls_feed(&c->calls, text);
}

static void first_token(struct reply *r)
{
    if (r->has_text) return;
    r->has_text = true;
    histogram_add(&r->g->counts.first_token, (double)(uv_hrtime() - r->asked_ns) / 1e9, 1);
}

/* One of several answers is shown. */
static bool is_watched(const struct choice *c)
{
    return c->r->a.with_swarm && c->index == 0;
}

/* What happens, to who watches; false: to others it is a comment. */
static bool show_note(struct choice *c, uint32_t place, struct slice text)
{
    struct text event = { 0 };
    if (!c->r->a.with_swarm) return false;
    if (!is_watched(c)) return true;
    begin_stream(c->r);
    map_event_note(&event, place, text);
    put(c->r, &event);
    return true;
}

static void on_plan(void *arg, struct slice json)
{
    struct choice *c = arg;
    struct text event = { 0 };
    begin_stream(c->r); /* it is being worked on: the client may know */
    if (!is_watched(c)) return;
    map_event_plan(&event, json);
    put(c->r, &event);
}

static void on_text(void *arg, uint32_t index, struct slice text, bool is_thinking)
{
    struct choice *c = arg;
    if (c->stops.is_found) return; /* it is being stopped */
    first_token(c->r);
    c->n_tokens = index;
    if (is_thinking && c->r->a.endpoint != ENDPOINT_COMPLETIONS) {
        if (is_said(c))
            say(c, &(struct delta){ .kind = DELTA_REASONING, .choice = c->index, .text = text });
        else
            text_add(&c->whole.reasoning, text.p, text.n);
    } else {
        logprobs_text(&c->logprobs, text.n);
        if (stops_feed(&c->stops, text, hear_visible, c))
            question_cancel(c->question); /* ends this choice, perhaps inside the call */
    }
}

static void on_likely(void *arg, struct slice likely)
{
    struct choice *c = arg;
    if (!c->stops.is_found) logprobs_feed(&c->logprobs, likely);
}

static void on_note(void *arg, struct slice text)
{
    struct choice *c = arg;
    struct text event = { 0 };
    c->r->g->counts.notes++;
    if (show_note(c, 0, text) || !c->r->has_begun) return;
    text_str(&event, ": "); /* a comment, which clients skip; of one line */
    for (size_t i = 0; i < text.n; i++) {
        char one = text.p[i] < ' ' ? ' ' : (char)text.p[i];
        text_add(&event, &one, 1);
    }
    text_str(&event, "\n\n");
    put(c->r, &event);
}

/* It waits for its turn: the client may as well see how far it is. */
static void on_place(void *arg, uint32_t place, struct slice text)
{
    struct choice *c = arg;
    begin_stream(c->r);
    if (!show_note(c, place, text)) on_note(c, text);
}

static void end_choice(struct choice *c, const struct msg_ASK_DONE *done)
{
    struct reply *r = c->r;
    c->question = NULL;
    if (!c->stops.is_found) {
        stops_flush(&c->stops, hear_visible, c);
        c->n_tokens = (uint32_t)done->n_tokens;
    }
    tool_calls_end(&c->calls);
    logprobs_write(&c->logprobs, r->a.endpoint, &c->whole.logprobs);
    c->whole.finish = finish_reason((unsigned)done->reason, c->whole.n_calls > 0);
    if (r->a.stream)
        say(c, &(struct delta){ .kind = DELTA_END, .choice = c->index, .finish = c->whole.finish });
    r->usage.n_prompt = (uint32_t)done->n_prompt;
    r->usage.n_cached = (uint32_t)done->n_known;
    r->usage.n_tokens += c->n_tokens;
    r->usage.n_reasoning += (uint32_t)done->n_thinking;
    if (--r->n_open == 0) finish(r);
}

static void on_done(void *arg, const struct msg_ASK_DONE *done)
{
    struct choice *c = arg;
    struct text event = { 0 };
    if (is_watched(c)) {
        begin_stream(c->r);
        map_event_done(&event, done);
        put(c->r, &event);
    }
    end_choice(arg, done);
}

/* What went wrong, as OpenAI's clients know it. */
static struct openai_error error_of(unsigned code, const char *text)
{
    struct openai_error e = { .status = 503, .type = "server_error" };
    switch (code) {
    case WIRE_BAD_REQUEST:
    case WIRE_BAD_MESSAGE: e.status = 400, e.type = "invalid_request_error"; break;
    case WIRE_KV_FULL:
        e.status = 400, e.type = "invalid_request_error", e.code = "context_length_exceeded";
        break;
    case WIRE_NO_SUCH_MODEL:
        e.status = 404, e.type = "invalid_request_error", e.code = "model_not_found";
        break;
    case WIRE_NOT_ALLOWED: e.status = 403, e.type = "permission_error"; break;
    case WIRE_RATE_LIMITED: e.status = 429, e.type = "rate_limit_error", e.retry_s = 5; break;
    case WIRE_INTERNAL:
    case WIRE_NONFINITE: e.status = 500; break;
    default: e.retry_s = 5; break; /* busy, no pipeline, not reachable: later, perhaps */
    }
    fail(&e.why, ERR_IO, "%s", text);
    return e;
}

static void on_fail(void *arg, unsigned code, const char *text)
{
    struct choice *c = arg;
    struct text said = { 0 };
    gateway_say(c->r->g, &said, text);
    struct openai_error e = error_of(code, said.p ? said.p : "");
    free(said.p);
    c->question = NULL;
    const struct msg_ASK_DONE stopped = { .n_prompt = c->r->usage.n_prompt };
    if (c->stops.is_found) /* it was to end, and has */
        end_choice(c, &stopped);
    else
        fail_reply(c->r, &e);
}

/* --- its beginning --- */

static void name_reply(struct reply *r)
{
    uint8_t random[12];
    static const char *const prefixes[] = { [ENDPOINT_CHAT] = "chatcmpl-",
                                            [ENDPOINT_COMPLETIONS] = "cmpl-",
                                            [ENDPOINT_RESPONSES] = "resp_" };
    const char *prefix = prefixes[r->a.endpoint];
    size_t n = (size_t)snprintf(r->head.id, sizeof r->head.id, "%s", prefix);
    random_bytes(random, sizeof random);
    for (unsigned i = 0; i < sizeof random; i++)
        snprintf(r->head.id + n + 2 * i, 3, "%02x", random[i]);
    snprintf(r->model, sizeof r->model, "%s", r->a.model[0] ? r->a.model : r->g->model);
    r->head.endpoint = r->a.endpoint;
    r->head.created = unix_now();
    r->head.model = r->model;
}

/* One share of the swarm for each end user: who they are it cannot tell. */
static void name_asker(struct reply *r)
{
    struct text all = { 0 };
    text_add(&all, r->g->salt, sizeof r->g->salt);
    text_add(&all, r->who.name, strlen(r->who.name) + 1);
    text_str(&all, r->a.user);
    struct hash h = hash_of(slice_of(all.p, all.failed ? 0 : all.n));
    memcpy(r->asker, h.b, ASKER_TAG);
    r->a.ask.asker = slice_of(r->asker, ASKER_TAG);
    free(all.p);
}

static void on_trace(void *arg, struct slice events)
{
    struct choice *c = arg;
    traces_add(&c->traced, events);
}

static enum err ask(struct choice *c)
{
    enum { SET_SEED = 16 };
    struct question_events on = { c,       on_plan, on_text,   on_note, on_place,
                                  on_done, on_fail, on_likely, on_trace };
    c->ask = c->r->a.ask;
    c->ask.trace = c->r->g->traces.dir != NULL;
    if (c->ask.sampling & SET_SEED) c->ask.seed += c->index; /* n answers that differ */
    c->stops = c->r->a.stops;
    c->calls =
        (struct tool_calls){ .tools = c->r->a.tools, .on = { c, hear_text, hear_call, hear_args } };
    return question_ask(c->r->g->questions, &c->ask, &on, &c->question);
}

void reply_begin(struct gateway *g, struct exchange *x, enum endpoint endpoint,
                 const struct asker *who)
{
    struct openai_error e = { 0 };
    struct reply *r = calloc(1, sizeof *r);
    if (!r) {
        e = error_of(WIRE_NO_MEMORY, "this gateway is out of memory");
        reply_error(g, x, &e);
        return;
    }
    bool is_newer = endpoint == ENDPOINT_RESPONSES;
    if (is_newer ? responses_read(&r->a, http_body(x), &e)
                 : openai_read(&r->a, endpoint, http_body(x), &e)) {
        reply_error(g, x, &e);
        openai_ask_fini(&r->a);
        free(r);
        return;
    }
    r->g = g;
    r->x = x;
    r->who = *who;
    r->asked_ns = uv_hrtime();
    r->said_ms = now_ms(&g->hub);
    r->next = g->first;
    g->first = r;
    g->n_replies++;
    g->counts.requests++;
    http_set_user(x, r);
    name_reply(r);
    name_asker(r);
    for (uint32_t i = 0; i < r->a.n; i++) {
        r->choice[i].r = r;
        r->choice[i].index = i;
        r->n_open++;
        if (ask(&r->choice[i])) {
            e = error_of(WIRE_NO_MEMORY, "this gateway is out of memory");
            fail_reply(r, &e);
            return;
        }
    }
}

void replies_keep_alive(struct gateway *g)
{
    uint64_t now = now_ms(&g->hub);
    for (struct reply *r = g->first, *next; r; r = next) {
        next = r->next;
        if (!r->a.stream || now - r->said_ms < KEEP_ALIVE_MS) continue;
        struct text event = { 0 };
        begin_stream(r);
        text_str(&event, ": still here\n\n");
        put(r, &event);
    }
}
