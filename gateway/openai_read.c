/* openai_read.c - a request's body becomes what the swarm is asked. */
#include "gateway/openai.h"

#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reader {
    struct openai_ask *out;
    struct openai_error *e;
};

static enum err refuse(struct reader *r, enum err err, const char *param, const char *text)
{
    struct openai_error *e = r->e;
    e->status = err == ERR_NOMEM ? 503 : 400;
    e->type = err == ERR_NOMEM ? "server_error" : "invalid_request_error";
    e->code = err == ERR_UNSUPPORTED ? "unsupported_parameter" : NULL;
    snprintf(e->param, sizeof e->param, "%s", param);
    return fail(&e->why, err, "%s", text);
}

static enum err wrong(struct reader *r, const char *param, const char *is_to_be)
{
    char text[200];
    snprintf(text, sizeof text, "'%s' is to be %s", param, is_to_be);
    return refuse(r, ERR_MALFORMED, param, text);
}

static enum err unsupported(struct reader *r, const char *param, const char *but)
{
    char text[240];
    snprintf(text, sizeof text, "'%s' is not supported here%s%s", param, *but ? ": " : "", but);
    return refuse(r, ERR_UNSUPPORTED, param, text);
}

/* --- one function a parameter --- */

typedef enum err read_param(struct reader *r, const char *name, const struct json *v);

static enum err read_model(struct reader *r, const char *name, const struct json *v)
{
    if (v->type != JSON_STRING || v->text.n >= sizeof r->out->model)
        return wrong(r, name, "the name of a model");
    memcpy(r->out->model, v->text.p, v->text.n);
    return ERR_OK;
}

static enum err read_bool(struct reader *r, const char *name, const struct json *v, bool *out)
{
    if (v->type != JSON_TRUE && v->type != JSON_FALSE) return wrong(r, name, "true or false");
    *out = v->type == JSON_TRUE;
    return ERR_OK;
}

static enum err read_stream(struct reader *r, const char *name, const struct json *v)
{
    return read_bool(r, name, v, &r->out->stream);
}

static enum err read_stream_options(struct reader *r, const char *name, const struct json *v)
{
    if (v->type != JSON_OBJECT) return wrong(r, name, "an object");
    for (const struct json *x = v->child; x; x = x->next) {
        if (slice_is(x->key, "include_usage")) {
            enum err e = read_bool(r, "stream_options.include_usage", x, &r->out->with_usage);
            if (e) return e;
        } else if (!slice_is(x->key, "include_obfuscation")) { /* nothing is obfuscated, nor was */
            return unsupported(r, "stream_options", "only include_usage is");
        }
    }
    return ERR_OK;
}

static enum err read_real(struct reader *r, const char *name, const struct json *v, double lo,
                          double hi, unsigned bit, double *out)
{
    char range[64];
    snprintf(range, sizeof range, "a number from %g to %g", lo, hi);
    if (!json_double(v, out) || !(*out >= lo && *out <= hi)) return wrong(r, name, range);
    r->out->ask.sampling |= 1u << bit;
    return ERR_OK;
}

static enum err read_temperature(struct reader *r, const char *name, const struct json *v)
{
    return read_real(r, name, v, 0, 2, 0, &r->out->ask.temperature);
}

static enum err read_top_p(struct reader *r, const char *name, const struct json *v)
{
    enum err e = read_real(r, name, v, 0, 1, 1, &r->out->ask.top_p);
    if (!e && r->out->ask.top_p == 0) r->out->ask.top_p = 1e-9; /* the most probable one alone */
    return e;
}

static enum err read_min_p(struct reader *r, const char *name, const struct json *v)
{
    return read_real(r, name, v, 0, 0.999999, 2, &r->out->ask.min_p);
}

/* On the wire a penalty is above 0. */
static enum err read_penalty(struct reader *r, const char *name, const struct json *v, double *out)
{
    double x;
    if (!json_double(v, &x) || !(x >= -2 && x <= 2)) return wrong(r, name, "a number from -2 to 2");
    *out = x == 0 ? 0 : 3 + x;
    return ERR_OK;
}

static enum err read_frequency(struct reader *r, const char *name, const struct json *v)
{
    return read_penalty(r, name, v, &r->out->ask.frequency);
}

static enum err read_presence(struct reader *r, const char *name, const struct json *v)
{
    return read_penalty(r, name, v, &r->out->ask.presence);
}

static enum err read_logprobs(struct reader *r, const char *name, const struct json *v)
{
    return read_bool(r, name, v, &r->out->with_logprobs);
}

static enum err read_top_logprobs(struct reader *r, const char *name, const struct json *v)
{
    uint64_t n;
    if (!json_u64(v, &n) || n > 20) return wrong(r, name, "a number from 0 to 20");
    r->out->ask.likely = 1 + n;
    return ERR_OK;
}

/* Of a completion it is the number. */
static enum err read_n_logprobs(struct reader *r, const char *name, const struct json *v)
{
    r->out->with_logprobs = true;
    return read_top_logprobs(r, name, v);
}

static enum err read_top_k(struct reader *r, const char *name, const struct json *v)
{
    int64_t k;
    if (!json_i64(v, &k) || k < -1 || k > UINT32_MAX) /* -1: all, as vLLM has it */
        return wrong(r, name, "a whole number, 0 for all");
    r->out->ask.top_k = k > 0 ? (uint64_t)k : 0;
    r->out->ask.sampling |= 1u << 3;
    return ERR_OK;
}

static enum err read_seed(struct reader *r, const char *name, const struct json *v)
{
    int64_t s;
    if (!json_i64(v, &s) && !json_u64(v, &r->out->ask.seed))
        return wrong(r, name, "a whole number of 64 bits");
    if (json_i64(v, &s)) r->out->ask.seed = (uint64_t)s;
    r->out->ask.sampling |= 1u << 4;
    return ERR_OK;
}

static enum err read_max_tokens(struct reader *r, const char *name, const struct json *v)
{
    uint64_t n;
    if (!json_u64(v, &n) || n < 1 || n > CONTEXT_MAX) return wrong(r, name, "a number of tokens");
    r->out->ask.max_tokens = n;
    return ERR_OK;
}

static enum err read_n(struct reader *r, const char *name, const struct json *v)
{
    uint64_t n;
    if (!json_u64(v, &n) || n < 1 || n > CHOICES_MAX) return wrong(r, name, "1 to 8");
    r->out->n = (uint32_t)n;
    return ERR_OK;
}

static enum err add_stop(struct reader *r, const char *name, const struct json *v)
{
    struct stops *s = &r->out->stops;
    if (v->type != JSON_STRING || v->text.n == 0 || v->text.n > STOP_BYTES_MAX || s->n == STOPS_MAX)
        return wrong(r, name, "a text or at most 4 of them, of 1 to 256 bytes");
    memcpy(s->text[s->n], v->text.p, v->text.n);
    s->len[s->n++] = v->text.n;
    return ERR_OK;
}

static enum err read_stop(struct reader *r, const char *name, const struct json *v)
{
    enum err e = ERR_OK;
    if (v->type != JSON_ARRAY) return add_stop(r, name, v);
    for (const struct json *x = v->child; x && !e; x = x->next) e = add_stop(r, name, x);
    return e;
}

static enum err read_messages(struct reader *r, const char *name, const struct json *v)
{
    if (v->type != JSON_ARRAY || v->n == 0) return wrong(r, name, "a list of messages");
    return ERR_OK;
}

static enum err read_prompt(struct reader *r, const char *name, const struct json *v)
{
    if (v->type != JSON_STRING) return wrong(r, name, "one text");
    return ERR_OK;
}

static enum err read_tools(struct reader *r, const char *name, const struct json *v)
{
    if (v->type != JSON_ARRAY) return wrong(r, name, "a list of functions");
    for (const struct json *x = v->child; x; x = x->next) {
        const struct json *n = json_get(json_get(x, "function"), "name");
        if (!json_is_str(json_get(x, "type"), "function") || !n || n->type != JSON_STRING)
            return wrong(r, name,
                         "a list of {\"type\": \"function\", \"function\": {\"name\", ...}}");
    }
    if (v->n > 0) r->out->tools = v;
    return ERR_OK;
}

/* To make a model call a function it would have to be kept from writing anything else. */
static enum err read_tool_choice(struct reader *r, const char *name, const struct json *v)
{
    if (json_is_str(v, "auto") || json_is_str(v, "none")) return ERR_OK;
    return unsupported(r, name, "only \"auto\" and \"none\" are");
}

static enum err read_response_format(struct reader *r, const char *name, const struct json *v)
{
    if (json_is_str(json_get(v, "type"), "text")) return ERR_OK;
    return unsupported(r, name, "only {\"type\": \"text\"} is; ask for JSON in words");
}

static enum err set_think(struct reader *r, bool on)
{
    r->out->ask.think = on ? 1 : 2;
    return ERR_OK;
}

static enum err read_enable_thinking(struct reader *r, const char *name, const struct json *v)
{
    bool on = false;
    enum err e = read_bool(r, name, v, &on);
    return e ? e : set_think(r, on);
}

/* As vLLM and SGLang spell it. */
static enum err read_template(struct reader *r, const char *name, const struct json *v)
{
    if (v->type != JSON_OBJECT) return wrong(r, name, "an object");
    for (const struct json *x = v->child; x; x = x->next) {
        if (!slice_is(x->key, "enable_thinking"))
            return unsupported(r, name, "only enable_thinking in it is");
        enum err e = read_enable_thinking(r, "chat_template_kwargs.enable_thinking", x);
        if (e) return e;
    }
    return ERR_OK;
}

/* As Z.ai spells it. */
static enum err read_thinking(struct reader *r, const char *name, const struct json *v)
{
    const struct json *t = json_get(v, "type");
    if (json_is_str(t, "enabled")) return set_think(r, true);
    if (json_is_str(t, "disabled")) return set_think(r, false);
    return wrong(r, name, "{\"type\": \"enabled\"} or {\"type\": \"disabled\"}");
}

static enum err read_effort(struct reader *r, const char *name, const struct json *v)
{
    static const char *const on[] = { "minimal", "low", "medium", "high", "xhigh" };
    if (json_is_str(v, "none")) return set_think(r, false);
    for (unsigned i = 0; i < sizeof on / sizeof *on; i++)
        if (json_is_str(v, on[i]))
            return unsupported(r, name, "the model thinks or does not; only \"none\" is");
    return wrong(r, name, "\"none\"");
}

/* Our own: a page that shows what happens wants to hear of it, this often. */
static enum err read_swarm(struct reader *r, const char *name, const struct json *v)
{
    enum { WATCH_MS = 250 };
    enum err e = read_bool(r, name, v, &r->out->with_swarm);
    r->out->ask.watch_ms = r->out->with_swarm ? WATCH_MS : 0;
    return e;
}

static enum err read_user(struct reader *r, const char *name, const struct json *v)
{
    if (v->type != JSON_STRING || v->text.n >= sizeof r->out->user)
        return wrong(r, name, "a text of at most 255 bytes");
    memcpy(r->out->user, v->text.p, v->text.n);
    return ERR_OK;
}

/* --- those that may be there when they change nothing --- */

static enum err only_false(struct reader *r, const char *name, const struct json *v)
{
    return v->type == JSON_FALSE ? ERR_OK : unsupported(r, name, "only false is");
}

static enum err only_true(struct reader *r, const char *name, const struct json *v)
{
    return v->type == JSON_TRUE ? ERR_OK : unsupported(r, name, "only true is");
}

static enum err only_empty(struct reader *r, const char *name, const struct json *v)
{
    return v->type == JSON_OBJECT && v->n == 0 ? ERR_OK : unsupported(r, name, "");
}

static enum err only_one(struct reader *r, const char *name, const struct json *v)
{
    uint64_t n;
    return json_u64(v, &n) && n == 1 ? ERR_OK : unsupported(r, name, "only 1 is");
}

static enum err only_auto(struct reader *r, const char *name, const struct json *v)
{
    return json_is_str(v, "auto") || json_is_str(v, "default") ? ERR_OK : unsupported(r, name, "");
}

enum { FOR_CHAT = 1, FOR_COMPLETIONS = 2, FOR_BOTH = 3 };

static const struct param {
    const char *name;
    unsigned use;
    read_param *read;
} params[] = {
    { "model", FOR_BOTH, read_model },
    { "messages", FOR_CHAT, read_messages },
    { "prompt", FOR_COMPLETIONS, read_prompt },
    { "stream", FOR_BOTH, read_stream },
    { "stream_options", FOR_BOTH, read_stream_options },
    { "temperature", FOR_BOTH, read_temperature },
    { "top_p", FOR_BOTH, read_top_p },
    { "top_k", FOR_BOTH, read_top_k },
    { "min_p", FOR_BOTH, read_min_p },
    { "seed", FOR_BOTH, read_seed },
    { "max_tokens", FOR_BOTH, read_max_tokens },
    { "max_completion_tokens", FOR_CHAT, read_max_tokens },
    { "n", FOR_BOTH, read_n },
    { "stop", FOR_BOTH, read_stop },
    { "tools", FOR_CHAT, read_tools },
    { "tool_choice", FOR_CHAT, read_tool_choice },
    { "response_format", FOR_CHAT, read_response_format },
    { "enable_thinking", FOR_CHAT, read_enable_thinking },
    { "chat_template_kwargs", FOR_CHAT, read_template },
    { "thinking", FOR_CHAT, read_thinking },
    { "reasoning_effort", FOR_CHAT, read_effort },
    { "user", FOR_BOTH, read_user },
    { "safety_identifier", FOR_CHAT, read_user },
    { "swarm", FOR_CHAT, read_swarm },
    { "frequency_penalty", FOR_BOTH, read_frequency },
    { "presence_penalty", FOR_BOTH, read_presence },
    { "logprobs", FOR_CHAT, read_logprobs },
    { "top_logprobs", FOR_CHAT, read_top_logprobs },
    { "logprobs", FOR_COMPLETIONS, read_n_logprobs },
    { "logit_bias", FOR_BOTH, only_empty },
    { "parallel_tool_calls", FOR_CHAT, only_true },
    { "store", FOR_CHAT, only_false },
    { "echo", FOR_COMPLETIONS, only_false },
    { "best_of", FOR_COMPLETIONS, only_one },
    { "service_tier", FOR_CHAT, only_auto },
};

static enum err read_one(struct reader *r, const struct json *v)
{
    char name[64];
    if (v->type == JSON_NULL) return ERR_OK;
    unsigned use = r->out->endpoint == ENDPOINT_CHAT ? FOR_CHAT : FOR_COMPLETIONS;
    snprintf(name, sizeof name, "%.*s", (int)(v->key.n < 63 ? v->key.n : 63),
             (const char *)v->key.p);
    for (unsigned i = 0; i < sizeof params / sizeof *params; i++)
        if ((params[i].use & use) && strcmp(params[i].name, name) == 0)
            return params[i].read(r, name, v);
    return unsupported(r, name, "");
}

/* --- the whole --- */

static enum err write_conversation(struct reader *r, const struct json *root)
{
    struct openai_ask *a = r->out;
    const struct json *what = json_get(root, a->endpoint == ENDPOINT_CHAT ? "messages" : "prompt");
    if (!what || what->type == JSON_NULL)
        return wrong(r, a->endpoint == ENDPOINT_CHAT ? "messages" : "prompt", "there");
    text_str(&a->conversation, a->endpoint == ENDPOINT_CHAT ? "{\"messages\": " : "{\"prompt\": ");
    json_write(&a->conversation, what, 0);
    if (a->tools) {
        text_str(&a->conversation, ", \"tools\": ");
        json_write(&a->conversation, a->tools, 0);
    }
    text_str(&a->conversation, "}");
    if (a->conversation.failed) return refuse(r, ERR_NOMEM, "", "this gateway is out of memory");
    a->ask.conversation = slice_of(a->conversation.p, a->conversation.n);
    a->ask.model = slice_str(a->model);
    return a->ask.conversation.n <= CONVERSATION_MAX
               ? ERR_OK
               : refuse(r, ERR_MALFORMED, "messages", "the conversation is longer than a mebibyte");
}

enum err openai_read(struct openai_ask *out, enum endpoint endpoint, struct slice body,
                     struct openai_error *e)
{
    struct reader r = { out, e };
    struct why why;
    *out = (struct openai_ask){ .endpoint = endpoint, .n = 1 };
    *e = (struct openai_error){ 0 };
    enum err err = json_parse(&out->doc, body, "the body", &why);
    if (err) return refuse(&r, err == ERR_NOMEM ? err : ERR_MALFORMED, "", why.text);
    const struct json *root = json_root(out->doc);
    if (root->type != JSON_OBJECT) return refuse(&r, ERR_MALFORMED, "", "the body is no object");
    for (const struct json *v = root->child; v && !err; v = v->next) err = read_one(&r, v);
    if (err) return err;
    if (json_is_str(json_get(root, "tool_choice"), "none")) out->tools = NULL;
    if (out->with_usage && !out->stream)
        return wrong(&r, "stream_options", "there only with \"stream\": true");
    if (out->ask.likely > 0 && !out->with_logprobs)
        return wrong(&r, "top_logprobs", "there only with \"logprobs\": true");
    if (out->with_logprobs && out->ask.likely == 0) out->ask.likely = 1;
    if (out->with_swarm && !out->stream)
        return wrong(&r, "swarm", "there only with \"stream\": true");
    return write_conversation(&r, root);
}

void openai_ask_fini(struct openai_ask *a)
{
    json_free(a->doc);
    free(a->conversation.p);
    *a = (struct openai_ask){ 0 };
}
