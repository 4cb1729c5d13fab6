/* gateway.c - the life of a gateway: who may ask, which request is what. */
#include "gateway/gateway_impl.h"
#include "gateway/page.h"
#include "gateway/shown.h"
#include "gateway/visitor.h"

#include "base/log.h"
#include "store/file.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MINUTE_MS = 60000, HOUR_MS = 60 * MINUTE_MS, TICK_MS = 1000 };

/* --- who may --- */

static void refuse(struct gateway *g, struct exchange *x, unsigned status, const char *type,
                   const char *code, const char *text)
{
    struct openai_error e = { .status = status, .type = type, .code = code };
    fail(&e.why, ERR_DENIED, "%s", text);
    reply_error(g, x, &e);
}

/* Takes the same time whichever key is near. */
static const struct api_key *find_key(const struct gateway *g, const char *given)
{
    char padded[GATEWAY_KEY_BYTES] = "";
    const struct api_key *found = NULL;
    size_t n = strlen(given);
    if (n == 0 || n >= GATEWAY_KEY_BYTES) return NULL;
    memcpy(padded, given, n);
    for (uint32_t i = 0; i < g->c->n_keys; i++)
        if (secret_equal(padded, g->c->key[i].key, GATEWAY_KEY_BYTES)) found = &g->c->key[i];
    return found;
}

/* Limits are a key's, or an address's. */
static void find_asker(const struct gateway *g, struct exchange *x, const struct api_key *key,
                       struct asker *who)
{
    struct text forwarded = { 0 };
    if (key) {
        snprintf(who->name, sizeof who->name, "%s", key->name);
        return;
    }
    if (g->c->n_proxies > 0) http_join_header(x, "X-Forwarded-For", &forwarded);
    asker_find(who->name, http_peer(x), forwarded.p ? forwarded.p : "", g->c->proxy,
               g->c->n_proxies);
    free(forwarded.p);
}

static bool knows_key(struct gateway *g, struct exchange *x, struct asker *who)
{
    const char *auth = http_header(x, "Authorization");
    bool is_bearer = auth && strncasecmp(auth, "Bearer ", 7) == 0;
    const struct api_key *key = is_bearer ? find_key(g, auth + 7) : NULL;
    find_asker(g, x, key, who);
    if (g->c->n_keys == 0 || key) return true;
    g->counts.refused_key++;
    refuse(g, x, 401, "authentication_error", "invalid_api_key",
           is_bearer ? "that API key is not one of this gateway's"
                     : "this gateway wants an API key: Authorization: Bearer KEY");
    return false;
}

static bool is_welcome(struct gateway *g, struct exchange *x)
{
    const char *host = http_header(x, "Host"), *origin = http_header(x, "Origin");
    if (!g->c->only_local || visitor_is_local(host, origin, g->c->cors)) return true;
    refuse(g, x, 403, "permission_error", "foreign_page",
           "only programs and pages of this machine may ask here; --cors ORIGIN lets a page of "
           "another, --open everybody who reaches this gateway, --keys who has one");
    return false;
}

static bool is_within(struct gateway *g, struct exchange *x, const struct asker *who)
{
    struct slice name = slice_str(who->name);
    uint64_t now = now_ms(&g->hub), wait = 0;
    struct openai_error e = { .status = 429, .type = "rate_limit_error" };
    if (!limits_take(g->tokens, name, 1, now, &wait))
        fail(&e.why, ERR_BUSY, "more than %.0f tokens a minute", g->c->tokens_per_minute);
    else if (!limits_take(g->minute, name, 1, now, &wait))
        fail(&e.why, ERR_BUSY, "more than %.0f requests a minute", g->c->per_minute);
    else if (!limits_take(g->hour, name, 1, now, &wait))
        fail(&e.why, ERR_BUSY, "more than %.0f requests an hour", g->c->per_hour);
    else
        return true;
    g->counts.refused_limit++;
    e.code = "rate_limit_exceeded";
    e.retry_s = (unsigned)(wait / 1000) + 1;
    reply_error(g, x, &e);
    return false;
}

/* --- routes --- */

static void get_models(struct gateway *g, struct exchange *x)
{
    const char *name = g->model;
    struct text out = { 0 };
    openai_write_models(&out, &name, g->model[0] ? 1 : 0, g->started_s);
    reply_json(g, x, 200, &out);
    free(out.p);
}

void gateway_say(const struct gateway *g, struct text *out, const char *sentence)
{
    if (g->c->is_public)
        shown_sentence(out, slice_str(sentence));
    else
        text_str(out, sentence);
}

static void get_health(struct gateway *g, struct exchange *x)
{
    struct text out = { 0 }, down = { 0 };
    if (!g->is_up) gateway_say(g, &down, g->down_why.text);
    text_printf(&out, "{\"status\":\"%s\",\"model\":", g->is_up ? "ok" : "unavailable");
    json_write_str(&out, slice_str(g->model));
    text_str(&out, ",\"why\":");
    json_write_str(&out, slice_of(down.p, down.n));
    text_printf(&out, ",\"in_flight\":%u}", g->n_replies);
    reply_json(g, x, g->is_up ? 200 : 503, &out);
    free(down.p);
    free(out.p);
}

static void get_metrics(struct gateway *g, struct exchange *x)
{
    struct text out = { 0 };
    metrics_write(&out, g);
    g->counts.by_status[2]++;
    http_reply(x, 200, PROM_TYPE, slice_of(out.p, out.n));
    free(out.p);
}

static void ask_chat(struct gateway *g, struct exchange *x, const struct asker *who)
{
    reply_begin(g, x, ENDPOINT_CHAT, who);
}

static void ask_completions(struct gateway *g, struct exchange *x, const struct asker *who)
{
    reply_begin(g, x, ENDPOINT_COMPLETIONS, who);
}

static void ask_responses(struct gateway *g, struct exchange *x, const struct asker *who)
{
    reply_begin(g, x, ENDPOINT_RESPONSES, who);
}

static const struct route {
    const char *method, *path;
    bool is_open; /* without a key */
    void (*get)(struct gateway *g, struct exchange *x);
    void (*ask)(struct gateway *g, struct exchange *x, const struct asker *who); /* counts */
} routes[] = {
    { "POST", "/v1/chat/completions", false, NULL, ask_chat },
    { "POST", "/v1/completions", false, NULL, ask_completions },
    { "POST", "/v1/responses", false, NULL, ask_responses },
    { "GET", "/v1/models", false, get_models, NULL },
    { "GET", "/health", true, get_health, NULL },
    { "GET", "/metrics", false, get_metrics, NULL },
    { "GET", "/swarm/map", false, map_get, NULL },
};

static void add_cors(const struct gateway *g, struct exchange *x)
{
    if (!g->c->cors) return;
    http_add_header(x, "Access-Control-Allow-Origin", g->c->cors);
    http_add_header(x, "Vary", "Origin");
}

static bool is_preflight(struct gateway *g, struct exchange *x)
{
    if (!g->c->cors || strcmp(http_method(x), "OPTIONS") != 0) return false;
    http_add_header(x, "Access-Control-Allow-Methods", "GET, POST");
    http_add_header(x, "Access-Control-Allow-Headers",
                    "Authorization, Content-Type, *"); /* libraries add their own */
    http_reply(x, 204, "text/plain", slice_str(""));
    return true;
}

static bool is_page(struct gateway *g, struct exchange *x)
{
    unsigned status = g->c->no_page ? 0 : page_serve(x);
    if (status) g->counts.by_status[status / 100]++;
    return status != 0;
}

static void on_request(void *arg, struct exchange *x)
{
    struct gateway *g = arg;
    struct asker who;
    bool has_path = false;
    if (!is_welcome(g, x)) return;
    add_cors(g, x);
    if (is_preflight(g, x)) return;
    if (is_page(g, x)) return;
    for (unsigned i = 0; i < sizeof routes / sizeof *routes; i++) {
        const struct route *r = &routes[i];
        if (strcmp(http_path(x), r->path) != 0) continue;
        has_path = true;
        if (strcmp(http_method(x), r->method) != 0) continue;
        if (!r->is_open && !knows_key(g, x, &who)) return;
        if (r->get)
            r->get(g, x);
        else if (is_within(g, x, &who))
            r->ask(g, x, &who);
        return;
    }
    if (has_path)
        refuse(g, x, 405, "invalid_request_error", "method_not_allowed", "not with that method");
    else
        refuse(g, x, 404, "invalid_request_error", "unknown_url",
               "this gateway has /v1/chat/completions, /v1/completions, /v1/responses, /v1/models, "
               "/metrics");
}

static void on_closed(void *arg, struct exchange *x)
{
    (void)arg;
    reply_drop(x);
}

/* --- does the coordinator answer, and with which model? --- */

static void on_pulse_plan(void *arg, struct slice json)
{
    struct gateway *g = arg;
    struct json_doc *doc = NULL;
    if (json_parse(&doc, json, "the plan", NULL)) return;
    const struct json *m = json_get(json_root(doc), "model");
    if (m && m->type == JSON_STRING && m->text.n < sizeof g->model) {
        memcpy(g->model, m->text.p, m->text.n);
        g->model[m->text.n] = 0;
    }
    map_on_plan(g, json);
    json_free(doc);
}

static void on_pulse_text(void *arg, uint32_t index, struct slice text, bool is_thinking)
{
    (void)arg, (void)index, (void)text, (void)is_thinking;
}

static void on_pulse_note(void *arg, struct slice text)
{
    (void)arg, (void)text;
}

static void on_pulse_done(void *arg, const struct msg_ASK_DONE *done)
{
    struct gateway *g = arg;
    (void)done;
    g->pulse = NULL;
    if (!g->is_up) log_info("the swarm answers, with %s", g->model);
    g->is_up = true;
}

static void on_pulse_fail(void *arg, unsigned code, const char *text)
{
    struct gateway *g = arg;
    (void)code;
    g->pulse = NULL;
    if (g->is_up || !g->down_why.text[0]) log_warn("the swarm does not answer: %s", text);
    g->is_up = false;
    fail(&g->down_why, ERR_IO, "%s", text);
}

static void feel_pulse(struct gateway *g)
{
    static const struct msg_ASK plan = { .plan_only = 1,
                                         .conversation = { (const uint8_t *)"{}", 2 } };
    struct question_events on = { .arg = g,
                                  .on_plan = on_pulse_plan,
                                  .on_text = on_pulse_text,
                                  .on_note = on_pulse_note,
                                  .on_done = on_pulse_done,
                                  .on_fail = on_pulse_fail };
    if (!g->pulse && question_ask(g->questions, &plan, &on, &g->pulse))
        on_pulse_fail(g, 0, err_text(ERR_NOMEM));
}

/* --- what it served, day by day --- */

static void count_usage(const struct gateway *g, uint64_t out[USAGE_KINDS])
{
    const struct gateway_counts *k = &g->counts;
    const uint64_t count[USAGE_KINDS] = {
        [USAGE_REQUESTS] = k->requests,
        [USAGE_STREAMS] = k->streams,
        [USAGE_PROMPT_TOKENS] = k->prompt_tokens,
        [USAGE_CACHED_TOKENS] = k->cached_tokens,
        [USAGE_TOKENS] = k->tokens,
        [USAGE_REASONING_TOKENS] = k->reasoning_tokens,
        [USAGE_REFUSED_KEY] = k->refused_key,
        [USAGE_REFUSED_LIMIT] = k->refused_limit,
        [USAGE_CLIENT_ERRORS] = k->by_status[4],
        [USAGE_SERVER_ERRORS] = k->by_status[5],
        [USAGE_GONE] = k->gone,
        [USAGE_FIRST_TOKEN_MS] = (uint64_t)(k->first_token.sum * 1000),
    };
    memcpy(out, count, sizeof count);
}

static void close_usage(struct gateway *g)
{
    uint64_t count[USAGE_KINDS];
    count_usage(g, count);
    usage_close(g->usage, count, unix_now());
}

static void on_tick(uv_timer_t *t)
{
    struct gateway *g = t->data;
    bool is_pulse = now_ms(&g->hub) / TICK_MS % (PULSE_MS / TICK_MS) == 0 || !g->is_up;
    if (g->usage) {
        uint64_t count[USAGE_KINDS];
        count_usage(g, count);
        usage_tick(g->usage, count, unix_now());
    }
    if (is_pulse) feel_pulse(g);
    map_tick(g, is_pulse);
    replies_keep_alive(g);
}

/* --- life --- */

static void on_mail(void *arg, struct mail *m)
{
    struct gateway *g = arg;
    if (g->is_stopping)
        m->note.drop(&m->note);
    else
        questions_on_mail(g->questions, m);
}

static void on_peer(void *arg, const struct node_id *id, bool up, const char *why)
{
    struct gateway *g = arg;
    if (!g->is_stopping) questions_on_peer(g->questions, id, up, why);
}

static void on_net_closed(void *arg)
{
    hub_stop(&((struct gateway *)arg)->hub);
}

static void on_signal(uv_signal_t *s, int number)
{
    struct gateway *g = s->data;
    (void)number;
    if (g->is_stopping) return;
    g->is_stopping = true;
    http_close(g->http); /* ends every reply */
    questions_close(g->questions);
    uv_close((uv_handle_t *)&g->tick, NULL);
    for (unsigned i = 0; i < 2; i++) uv_close((uv_handle_t *)&g->signal[i], NULL);
    net_close(g->net, on_net_closed, g);
}

static void open_handles(struct gateway *g)
{
    static const int number[2] = { SIGINT, SIGTERM };
    signal(SIGPIPE, SIG_IGN);
    for (unsigned i = 0; i < 2; i++) {
        uv_signal_init(&g->hub.loop, &g->signal[i]);
        g->signal[i].data = g;
        uv_signal_start(&g->signal[i], on_signal, number[i]);
    }
    uv_timer_init(&g->hub.loop, &g->tick);
    g->tick.data = g;
    uv_timer_start(&g->tick, on_tick, 0, TICK_MS);
}

static enum err open_limits(struct gateway *g)
{
    enum err e = limits_open(&g->minute, g->c->per_minute, MINUTE_MS);
    if (!e) e = limits_open(&g->hour, g->c->per_hour, HOUR_MS);
    if (!e) e = limits_open(&g->tokens, g->c->tokens_per_minute, MINUTE_MS);
    return e;
}

static enum err open_sockets(struct gateway *g, struct why *why)
{
    enum { ROLE_ASKS = 2, ROLE_GATEWAY = 8 };
    struct net_config nc = { .me = g->c->me,
                             .swarm = g->c->swarm,
                             .agent = "swarm-gateway " SWARM_VERSION,
                             .role = ROLE_ASKS | ROLE_GATEWAY,
                             .arg = g,
                             .on_mail = on_mail,
                             .on_peer = on_peer };
    struct http_config hc = { .hub = &g->hub,
                              .host = g->c->host,
                              .port = g->c->port,
                              .arg = g,
                              .on_request = on_request,
                              .on_closed = on_closed };
    struct questions_config qc = { &g->hub, NULL, g->c->link, g->c->patience_ms };
    enum err e = http_open(&g->http, &hc, why);
    if (e) return e;
    if (g->c->usage_dir)
        e = usage_open(&g->usage, &g->hub, g->c->usage_dir, http_port(g->http), unix_now(), why);
    if (e) {
        http_close(g->http);
        return e;
    }
    e = net_open(&g->net, &g->hub, &nc, why);
    qc.net = g->net;
    if (!e && (e = questions_open(&g->questions, &qc))) {
        net_close(g->net, NULL, NULL);
        fail(why, e, "%s", err_text(e));
    }
    if (e) http_close(g->http);
    return e;
}

/* The address of the door, for the person who opened it. */
static void say_ready(const struct gateway *g)
{
    bool is_v6 = strchr(g->c->host, ':') != NULL;
    printf("http://%s%s%s:%u/v1\n", is_v6 ? "[" : "", g->c->host, is_v6 ? "]" : "",
           http_port(g->http));
    fflush(stdout);
}

enum err gateway_run(const struct gateway_config *c, struct why *why)
{
    struct gateway *g = calloc(1, sizeof *g);
    if (!g) return fail(why, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    g->c = c;
    g->started_s = unix_now();
    g->traces.dir = c->traces;
    random_bytes(g->salt, sizeof g->salt);
    enum err e = open_limits(g);
    if (e) fail(why, e, "%s", err_text(e));
    if (!e && (e = hub_init(&g->hub))) fail(why, e, "the loop cannot start: %s", err_text(e));
    if (!e) {
        e = open_sockets(g, why);
        if (!e) {
            open_handles(g);
            say_ready(g);
            hub_run(&g->hub);
        }
        hub_fini(&g->hub);
    }
    map_fini(g);
    close_usage(g);
    limits_close(g->minute);
    limits_close(g->hour);
    limits_close(g->tokens);
    free(g);
    return e;
}

/* --- keys --- */

static enum err read_key(char *line, struct api_key *out, const char *path, unsigned at,
                         struct why *why)
{
    char *rest, *name = strtok_r(line, " \t\r", &rest), *key = strtok_r(NULL, " \t\r", &rest);
    if (!key || strtok_r(NULL, " \t\r", &rest))
        return fail(why, ERR_MALFORMED, "%s:%u: a line is NAME KEY", path, at);
    if (strlen(name) >= GATEWAY_NAME_BYTES || strlen(key) >= GATEWAY_KEY_BYTES || strlen(key) < 16)
        return fail(why, ERR_RANGE, "%s:%u: a name has at most %d bytes, a key 16 to %d", path, at,
                    GATEWAY_NAME_BYTES - 1, GATEWAY_KEY_BYTES - 1);
    *out = (struct api_key){ 0 };
    memcpy(out->name, name, strlen(name));
    memcpy(out->key, key, strlen(key));
    return ERR_OK;
}

enum err gateway_read_keys(const char *path, struct api_key *out, uint32_t *n, struct why *why)
{
    struct stat st;
    uint8_t *bytes;
    size_t size;
    unsigned at = 0;
    *n = 0;
    enum err e = file_read(path, 1 << 20, &bytes, &size, why);
    if (e) return e;
    if (stat(path, &st) || (st.st_mode & 077))
        e = fail(why, ERR_DENIED, "%s: others may read these keys; chmod 600 it", path);
    char *rest = (char *)bytes;
    for (char *line; !e && (line = strsep(&rest, "\n"));) {
        at++;
        line += strspn(line, " \t\r");
        if (!*line || *line == '#') continue;
        if (*n == GATEWAY_KEYS_MAX)
            e = fail(why, ERR_RANGE, "%s: more than %d keys", path, GATEWAY_KEYS_MAX);
        else
            e = read_key(line, &out[(*n)++], path, at, why);
    }
    explicit_bzero(bytes, size);
    free(bytes);
    if (!e && *n == 0) e = fail(why, ERR_MALFORMED, "%s holds no key", path);
    return e;
}
