/* GLM-4.5, GLM-4.5-Air, GLM-4.6: the published template, rule by rule. */
#include "model/chat_impl.h"

static void tools(struct chat *c)
{
    chat_mark(c, "<|system|>\n# Tools\n\n"
                 "You may call one or more functions to assist with the user query.\n\n"
                 "You are provided with function signatures within <tools></tools> XML tags:\n"
                 "<tools>\n");
    for (const struct json *t = c->tools->child; t; t = t->next) {
        chat_say_json(c, t, 0);
        chat_mark(c, "\n");
    }
    chat_mark(c, "</tools>\n\n"
                 "For each function call, output the function name and arguments within the "
                 "following XML format:\n"
                 "<tool_call>{function-name}\n"
                 "<arg_key>{arg-key-1}</arg_key>\n<arg_value>{arg-value-1}</arg_value>\n"
                 "<arg_key>{arg-key-2}</arg_key>\n<arg_value>{arg-value-2}</arg_value>\n"
                 "...\n</tool_call>");
}

static void user(struct chat *c, const struct json *m)
{
    static const char switch_off[] = "/nothink";
    size_t n = strlen(switch_off);
    struct slice text = chat_content(c, m);
    chat_mark(c, "<|user|>\n");
    if (c->think == THINK_OFF) { /* once at the end, whether the user or we wrote it */
        if (text.n >= n && memcmp(text.p + text.n - n, switch_off, n) == 0) text.n -= n;
        chat_say(c, text);
        chat_mark(c, switch_off);
    } else {
        chat_say(c, text);
    }
}

static void call(struct chat *c, const struct json *v)
{
    const struct json *f = chat_function(c, v);
    struct json_doc *doc;
    const struct json *args = chat_arguments(c, f, &doc);
    chat_mark(c, "\n<tool_call>");
    chat_say(c, chat_string(f, "name"));
    chat_mark(c, "\n");
    for (const struct json *a = args ? args->child : NULL; a; a = a->next) {
        chat_mark(c, "<arg_key>");
        chat_say(c, a->key);
        chat_mark(c, "</arg_key>\n<arg_value>");
        chat_say_value(c, a);
        chat_mark(c, "</arg_value>\n");
    }
    chat_mark(c, "</tool_call>");
    json_free(doc);
}

/* Reasoning is shown only behind the last question of the user. */
static void assistant(struct chat *c, const struct json *m, bool last_turn)
{
    struct chat_answer a = chat_split_thinking(c, m);
    struct slice content = chat_strip(a.content);
    chat_mark(c, "<|assistant|>\n<think>");
    if (last_turn) chat_say(c, chat_strip(a.reasoning));
    chat_mark(c, "</think>");
    if (content.n) {
        chat_mark(c, "\n");
        chat_say(c, content);
    }
    const struct json *calls = chat_calls(m);
    for (const struct json *v = calls ? calls->child : NULL; v; v = v->next) call(c, v);
}

static void response(struct chat *c, struct slice text)
{
    chat_mark(c, "\n<tool_response>\n");
    chat_say(c, text);
    chat_mark(c, "\n</tool_response>");
}

/* A result as one text, or a list of results. */
static void tool(struct chat *c, const struct json *m, bool first_of_run)
{
    const struct json *v = json_get(m, "content");
    bool list = v && v->type == JSON_ARRAY;
    if (list || first_of_run) chat_mark(c, "<|observation|>");
    if (!list) {
        response(c, chat_content(c, m));
        return;
    }
    for (const struct json *r = v->child; r; r = r->next) {
        const struct json *output = json_get(r, "output");
        chat_mark(c, "\n<tool_response>\n");
        if (output)
            chat_say_value(c, output);
        else if (json_is_str(json_get(r, "type"), "text"))
            chat_say(c, chat_string(r, "text"));
        else
            chat_say_value(c, r);
        chat_mark(c, "\n</tool_response>");
    }
}

static uint32_t last_user(const struct json *messages)
{
    uint32_t at = 0, last = 0; /* counted from 1; 0: there is none */
    for (const struct json *m = messages->child; m; m = m->next) {
        at++;
        if (chat_role_is(m, "user")) last = at;
    }
    return last;
}

void chat_glm45(struct chat *c)
{
    uint32_t last = last_user(c->messages);
    const struct json *before = NULL;
    chat_mark(c, "[gMASK]<sop>");
    if (c->tools) tools(c);
    for (const struct json *m = c->messages->child; m && !c->e; before = m, m = m->next, c->at++) {
        if (chat_role_is(m, "user")) {
            user(c, m);
        } else if (chat_role_is(m, "assistant")) {
            assistant(c, m, c->at >= last);
        } else if (chat_role_is(m, "tool")) {
            tool(c, m, !before || !chat_role_is(before, "tool"));
        } else if (chat_role_is(m, "system")) {
            chat_mark(c, "<|system|>\n");
            chat_say(c, chat_content(c, m));
        } else {
            chat_refuse_role(c, m);
        }
    }
    if (!c->generation_prompt) return;
    chat_mark(c, "<|assistant|>");
    if (c->think == THINK_OFF) chat_mark(c, "\n<think></think>");
}
