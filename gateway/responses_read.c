/* responses_read.c - a body of /v1/responses as one of /v1/chat/completions, which openai_read then
 * reads and checks; what it refuses has the same name in both, or is looked at here. */
#include "gateway/responses.h"

#include <stdio.h>
#include <stdlib.h>

struct reader {
    struct openai_error *e;
    struct text *out; /* members of the other body, each ended by a comma */
    const struct json *root;
};

static enum err refuse(struct reader *r, enum err err, const char *param, const char *text)
{
    struct openai_error *e = r->e;
    *e = (struct openai_error){ .status = 400,
                                .type = "invalid_request_error",
                                .code = err == ERR_UNSUPPORTED ? "unsupported_parameter" : NULL };
    snprintf(e->param, sizeof e->param, "%s", param);
    return fail(&e->why, err, "'%s' %s", param, text);
}

static enum err wrong(struct reader *r, const char *param, const char *is_to_be)
{
    char text[160];
    snprintf(text, sizeof text, "is to be %s", is_to_be);
    return refuse(r, ERR_MALFORMED, param, text);
}

static enum err unsupported(struct reader *r, const char *param, const char *but)
{
    char text[200];
    snprintf(text, sizeof text, "is not supported here%s%s", *but ? ": " : "", but);
    return refuse(r, ERR_UNSUPPORTED, param, text);
}

typedef enum err read_param(struct reader *r, const char *name, const struct json *v);

static void write_member(struct reader *r, const char *key, const struct json *v)
{
    text_printf(r->out, "\"%s\":", key);
    json_write(r->out, v, 0);
    text_str(r->out, ",");
}

static enum err same(struct reader *r, const char *name, const struct json *v)
{
    write_member(r, name, v);
    return ERR_OK;
}

static enum err read_max(struct reader *r, const char *name, const struct json *v)
{
    uint64_t n;
    if (!json_u64(v, &n) || n < 1 || n > CONTEXT_MAX) return wrong(r, name, "a number of tokens");
    write_member(r, "max_completion_tokens", v);
    return ERR_OK;
}

/* --- the conversation --- */

static void begin_message(struct reader *r, struct slice role)
{
    text_str(r->out, "{\"role\":");
    json_write_str(r->out, slice_is(role, "developer") ? slice_str("system") : role);
    text_str(r->out, ",");
}

/* A text, or a list of texts, as one. */
static enum err write_content(struct reader *r, const char *key, const struct json *v)
{
    struct text all = { 0 };
    enum err e = ERR_OK;
    if (v && v->type == JSON_STRING) text_add(&all, v->text.p, v->text.n);
    if (!v || (v->type != JSON_STRING && v->type != JSON_ARRAY))
        e = wrong(r, "input", "a text, or a list of messages with texts");
    for (const struct json *x = v && !e ? v->child : NULL; x && !e; x = x->next) {
        const struct json *type = json_get(x, "type"), *text = json_get(x, "text");
        bool is_text = json_is_str(type, "input_text") || json_is_str(type, "output_text");
        if (!is_text || !text || text->type != JSON_STRING)
            e = unsupported(r, "input", "only input_text and output_text in a message are");
        else
            text_add(&all, text->text.p, text->text.n);
    }
    text_printf(r->out, "\"%s\":", key);
    json_write_str(r->out, slice_of(all.p, all.n));
    free(all.p);
    return e;
}

static enum err write_call(struct reader *r, const struct json *v)
{
    static const char *const keys[3] = { "call_id", "name", "arguments" };
    const struct json *s[3];
    for (unsigned i = 0; i < 3; i++) {
        s[i] = json_get(v, keys[i]);
        if (!s[i] || s[i]->type != JSON_STRING)
            return wrong(r, "input", "function_call with call_id, name and arguments as texts");
    }
    begin_message(r, slice_str("assistant"));
    text_str(r->out, "\"content\":\"\",\"tool_calls\":[{\"type\":\"function\",\"id\":");
    json_write_str(r->out, s[0]->text);
    text_str(r->out, ",\"function\":{\"name\":");
    json_write_str(r->out, s[1]->text);
    text_str(r->out, ",\"arguments\":");
    json_write_str(r->out, s[2]->text);
    text_str(r->out, "}}]},");
    return ERR_OK;
}

static enum err write_result(struct reader *r, const struct json *v)
{
    const struct json *id = json_get(v, "call_id");
    if (!id || id->type != JSON_STRING)
        return wrong(r, "input", "function_call_output with call_id and output as texts");
    begin_message(r, slice_str("tool"));
    text_str(r->out, "\"tool_call_id\":");
    json_write_str(r->out, id->text);
    text_str(r->out, ",");
    enum err e = write_content(r, "content", json_get(v, "output"));
    text_str(r->out, "},");
    return e;
}

static enum err write_item(struct reader *r, const struct json *v)
{
    const struct json *type = json_get(v, "type"), *role = json_get(v, "role");
    if (json_is_str(type, "function_call")) return write_call(r, v);
    if (json_is_str(type, "function_call_output")) return write_result(r, v);
    if (json_is_str(type, "reasoning")) return ERR_OK; /* earlier turns go without, as in chat */
    if (type && !json_is_str(type, "message"))
        return unsupported(r, "input",
                           "only message, function_call, function_call_output and reasoning are");
    if (!role || role->type != JSON_STRING) return wrong(r, "input", "messages with a role");
    begin_message(r, role->text);
    enum err e = write_content(r, "content", json_get(v, "content"));
    text_str(r->out, "},");
    return e;
}

/* Lists are written with a comma after each element: the last one goes. */
static void end_list(struct reader *r)
{
    if (!r->out->failed && r->out->p[r->out->n - 1] == ',') r->out->n--;
    text_str(r->out, "],");
}

static enum err write_messages(struct reader *r)
{
    const struct json *input = json_get(r->root, "input");
    const struct json *told = json_get(r->root, "instructions");
    bool is_told = told && told->type == JSON_STRING;
    enum err e = ERR_OK;
    if (!input || (input->type != JSON_STRING && (input->type != JSON_ARRAY || input->n == 0)))
        return wrong(r, "input", "a text, or a list of messages");
    text_str(r->out, "\"messages\":[");
    if (is_told) {
        begin_message(r, slice_str("system"));
        e = write_content(r, "content", told);
        text_str(r->out, "},");
    }
    if (input->type == JSON_STRING) {
        begin_message(r, slice_str("user"));
        e = write_content(r, "content", input);
        text_str(r->out, "},");
    }
    for (const struct json *x = input->child; x && !e; x = x->next) e = write_item(r, x);
    if (!e && (r->out->failed || r->out->p[r->out->n - 1] == '['))
        return wrong(r, "input", "a text, or a list of messages"); /* of reasoning alone */
    end_list(r);
    return e;
}

static enum err read_input(struct reader *r, const char *name, const struct json *v)
{
    (void)r, (void)name, (void)v; /* write_messages does */
    return ERR_OK;
}

static enum err read_instructions(struct reader *r, const char *name, const struct json *v)
{
    return v->type == JSON_STRING ? ERR_OK : wrong(r, name, "a text");
}

/* --- what else has another form --- */

static enum err read_tools(struct reader *r, const char *name, const struct json *v)
{
    static const char *const keys[] = { "name", "description", "parameters" };
    if (v->type != JSON_ARRAY) return wrong(r, name, "a list of functions");
    if (v->n == 0) return ERR_OK;
    text_str(r->out, "\"tools\":[");
    for (const struct json *x = v->child; x; x = x->next) {
        const struct json *called = json_get(x, "name");
        if (!json_is_str(json_get(x, "type"), "function"))
            return unsupported(r, name, "only functions are");
        if (!called || called->type != JSON_STRING) return wrong(r, name, "functions with a name");
        text_str(r->out, "{\"type\":\"function\",\"function\":{");
        for (unsigned i = 0; i < sizeof keys / sizeof *keys; i++) {
            const struct json *m = json_get(x, keys[i]);
            if (m && m->type != JSON_NULL) write_member(r, keys[i], m);
        }
        r->out->n--; /* a comma: there is a name */
        text_str(r->out, "}},");
    }
    end_list(r);
    return ERR_OK;
}

static enum err read_reasoning(struct reader *r, const char *name, const struct json *v)
{
    if (v->type != JSON_OBJECT) return wrong(r, name, "an object");
    for (const struct json *x = v->child; x; x = x->next) {
        if (x->type == JSON_NULL) continue;
        if (!slice_is(x->key, "effort") || !json_is_str(x, "none"))
            return unsupported(r, name, "the model thinks or does not; only effort \"none\" is");
        write_member(r, "reasoning_effort", x);
    }
    return ERR_OK;
}

static enum err read_text(struct reader *r, const char *name, const struct json *v)
{
    if (v->type != JSON_OBJECT) return wrong(r, name, "an object");
    for (const struct json *x = v->child; x; x = x->next)
        if (x->type != JSON_NULL &&
            !(slice_is(x->key, "format") && json_is_str(json_get(x, "type"), "text")))
            return unsupported(r, name, "only the format {\"type\": \"text\"} is");
    return ERR_OK;
}

/* --- those that may be there when they change nothing --- */

static enum err only_false(struct reader *r, const char *name, const struct json *v)
{
    return v->type == JSON_FALSE ? ERR_OK : unsupported(r, name, "only false is");
}

static enum err only_empty(struct reader *r, const char *name, const struct json *v)
{
    bool is_empty = (v->type == JSON_OBJECT || v->type == JSON_ARRAY) && v->n == 0;
    return is_empty ? ERR_OK : unsupported(r, name, "only an empty one is");
}

static enum err no_logprobs(struct reader *r, const char *name, const struct json *v)
{
    uint64_t n;
    return json_u64(v, &n) && n == 0 ? ERR_OK : unsupported(r, name, "only 0 is");
}

static enum err only_disabled(struct reader *r, const char *name, const struct json *v)
{
    return json_is_str(v, "disabled") ? ERR_OK : unsupported(r, name, "only \"disabled\" is");
}

enum { FOR_RESPONSES };

static const struct param {
    const char *name;
    int use;
    read_param *read;
} params[] = {
    { "model", FOR_RESPONSES, same },
    { "input", FOR_RESPONSES, read_input },
    { "instructions", FOR_RESPONSES, read_instructions },
    { "stream", FOR_RESPONSES, same },
    { "max_output_tokens", FOR_RESPONSES, read_max },
    { "temperature", FOR_RESPONSES, same },
    { "top_p", FOR_RESPONSES, same },
    { "top_k", FOR_RESPONSES, same },
    { "min_p", FOR_RESPONSES, same },
    { "seed", FOR_RESPONSES, same },
    { "stop", FOR_RESPONSES, same },
    { "frequency_penalty", FOR_RESPONSES, same },
    { "presence_penalty", FOR_RESPONSES, same },
    { "tools", FOR_RESPONSES, read_tools },
    { "tool_choice", FOR_RESPONSES, same },
    { "reasoning", FOR_RESPONSES, read_reasoning },
    { "enable_thinking", FOR_RESPONSES, same },
    { "thinking", FOR_RESPONSES, same },
    { "text", FOR_RESPONSES, read_text },
    { "user", FOR_RESPONSES, same },
    { "safety_identifier", FOR_RESPONSES, same },
    { "parallel_tool_calls", FOR_RESPONSES, same },
    { "service_tier", FOR_RESPONSES, same },
    { "store", FOR_RESPONSES, only_false },
    { "background", FOR_RESPONSES, only_false },
    { "include", FOR_RESPONSES, only_empty },
    { "metadata", FOR_RESPONSES, only_empty },
    { "top_logprobs", FOR_RESPONSES, no_logprobs },
    { "truncation", FOR_RESPONSES, only_disabled },
};

static enum err read_one(struct reader *r, const struct json *v)
{
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)(v->key.n < 63 ? v->key.n : 63),
             (const char *)v->key.p);
    if (v->type == JSON_NULL) return ERR_OK;
    for (unsigned i = 0; i < sizeof params / sizeof *params; i++)
        if (strcmp(params[i].name, name) == 0) return params[i].read(r, name, v);
    bool is_kept = strcmp(name, "previous_response_id") == 0 || strcmp(name, "conversation") == 0;
    return unsupported(r, name, is_kept ? "nothing is kept; send the whole conversation" : "");
}

static enum err translate(struct reader *r)
{
    enum err e = ERR_OK;
    text_str(r->out, "{");
    for (const struct json *v = r->root->child; v && !e; v = v->next) e = read_one(r, v);
    if (!e) e = write_messages(r);
    if (e) return e;
    if (!r->out->failed) r->out->n--; /* the last comma */
    text_str(r->out, "}");
    if (!r->out->failed) return ERR_OK;
    *r->e = (struct openai_error){ .status = 503, .type = "server_error" };
    return fail(&r->e->why, ERR_NOMEM, "this gateway is out of memory");
}

enum err responses_read(struct openai_ask *out, struct slice body, struct openai_error *e)
{
    struct text chat = { 0 };
    struct json_doc *doc = NULL;
    struct why why;
    *out = (struct openai_ask){ .endpoint = ENDPOINT_RESPONSES, .n = 1 };
    *e = (struct openai_error){ .status = 400, .type = "invalid_request_error" };
    enum err err = json_parse(&doc, body, "the body", &why);
    if (err) return fail(&e->why, err, "%s", why.text);
    struct reader r = { e, &chat, json_root(doc) };
    if (r.root->type != JSON_OBJECT)
        err = fail(&e->why, ERR_MALFORMED, "the body is no object");
    else
        err = translate(&r);
    if (!err) err = openai_read(out, ENDPOINT_CHAT, slice_of(chat.p, chat.n), e);
    out->endpoint = ENDPOINT_RESPONSES;
    json_free(doc);
    free(chat.p);
    return err;
}
