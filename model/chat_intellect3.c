/* INTELLECT-3: ChatML with thinking always on and function calls in XML. */
#include "model/chat_impl.h"

static const char default_system[] =
    "You are INTELLECT-3, a helpful assistant developed by Prime Intellect, that can interact with "
    "a computer to solve tasks.";

static const char tools_head[] = "\n\n# Tools\n\nYou have access to the following functions:\n\n"
                                 "<tools>";

static const char tools_tail[] =
    "\n</tools>\n\n"
    "If you choose to call a function ONLY reply in the following format with NO suffix:\n\n"
    "<tool_call>\n<function=example_function_name>\n<parameter=example_parameter_1>\nvalue_1\n"
    "</parameter>\n<parameter=example_parameter_2>\n"
    "This is the value for the second parameter\nthat can span\nmultiple lines\n"
    "</parameter>\n</function>\n</tool_call>\n\n"
    "<IMPORTANT>\nReminder:\n"
    "- Function calls MUST follow the specified format: an inner <function=...></function> block "
    "must be nested within <tool_call></tool_call> XML tags\n"
    "- Required parameters MUST be specified\n"
    "- You may provide optional reasoning for your function call in natural language BEFORE the "
    "function call, but NOT after\n"
    "- If there is no function call available, answer the question like normal with your current "
    "knowledge and do not tell the user about function calls\n"
    "</IMPORTANT>";

/* The template turns into text what is neither list nor object, and its language says True. */
static void say_value(struct chat *c, const struct json *v)
{
    if (v->type == JSON_TRUE)
        chat_say(c, slice_str("True"));
    else if (v->type == JSON_FALSE)
        chat_say(c, slice_str("False"));
    else if (v->type == JSON_NULL)
        chat_say(c, slice_str("None"));
    else
        chat_say_value(c, v);
}

/* \n<key>value</key> */
static void element(struct chat *c, struct slice key, const struct json *value)
{
    chat_mark(c, "\n<");
    chat_say(c, key);
    chat_mark(c, ">");
    say_value(c, value);
    chat_mark(c, "</");
    chat_say(c, key);
    chat_mark(c, ">");
}

/* A type is turned into text even where it is a list of types: ['string', 'null']. */
static void type_element(struct chat *c, const struct json *type)
{
    if (type->type != JSON_ARRAY) {
        element(c, slice_str("type"), type);
        return;
    }
    chat_mark(c, "\n<type>[");
    for (const struct json *v = type->child; v; v = v->next) {
        chat_mark(c, v == type->child ? "'" : ", '");
        say_value(c, v);
        chat_mark(c, "'");
    }
    chat_mark(c, "]</type>");
}

static void description(struct chat *c, const struct json *of)
{
    const struct json *v = json_get(of, "description");
    if (!v || v->type != JSON_STRING || v->text.n == 0) return;
    chat_mark(c, "\n<description>");
    chat_say(c, chat_strip(v->text));
    chat_mark(c, "</description>");
}

/* The members that have no line of their own, as elements. */
static void other_keys(struct chat *c, const struct json *of, const char *const *known)
{
    if (!of || of->type != JSON_OBJECT) return;
    for (const struct json *v = of->child; v; v = v->next) {
        const char *const *k = known;
        while (*k && !slice_is(v->key, *k)) k++;
        if (!*k) element(c, v->key, v);
    }
}

static void parameter(struct chat *c, const struct json *p)
{
    static const char *const known[] = { "name", "type", "description", NULL };
    const struct json *type = json_get(p, "type");
    chat_mark(c, "\n<parameter>\n<name>");
    chat_say(c, p->key);
    chat_mark(c, "</name>");
    if (type) type_element(c, type);
    description(c, p);
    other_keys(c, p, known);
    chat_mark(c, "\n</parameter>");
}

static void tool(struct chat *c, const struct json *t)
{
    static const char *const known[] = { "type", "name", "description", "parameters", NULL };
    static const char *const known_parameters[] = { "type", "properties", NULL };
    const struct json *f = chat_function(c, t), *parameters = json_get(f, "parameters"),
                      *properties = json_get(parameters, "properties");
    chat_mark(c, "\n<function>\n<name>");
    chat_say(c, chat_string(f, "name"));
    chat_mark(c, "</name>");
    description(c, f);
    chat_mark(c, "\n<parameters>");
    if (properties && properties->type == JSON_OBJECT)
        for (const struct json *p = properties->child; p; p = p->next) parameter(c, p);
    other_keys(c, parameters, known_parameters);
    chat_mark(c, "\n</parameters>");
    other_keys(c, f, known);
    chat_mark(c, "\n</function>");
}

static void system_block(struct chat *c, const struct json *system)
{
    chat_mark(c, "<|im_start|>system\n");
    if (system)
        chat_say(c, chat_content(c, system));
    else
        chat_mark(c, default_system);
    if (c->tools) {
        chat_mark(c, tools_head);
        for (const struct json *t = c->tools->child; t; t = t->next) tool(c, t);
        chat_mark(c, tools_tail);
    }
    chat_mark(c, "<|im_end|>\n");
}

static void call(struct chat *c, const struct json *v)
{
    const struct json *f = chat_function(c, v);
    struct json_doc *doc;
    const struct json *args = chat_arguments(c, f, &doc);
    chat_mark(c, "\n<tool_call>\n<function=");
    chat_say(c, chat_string(f, "name"));
    chat_mark(c, ">");
    for (const struct json *a = args ? args->child : NULL; a; a = a->next) {
        chat_mark(c, "\n<parameter=");
        chat_say(c, a->key);
        chat_mark(c, ">\n");
        say_value(c, a);
        chat_mark(c, "\n</parameter>");
    }
    chat_mark(c, "\n</function>\n</tool_call>");
    json_free(doc);
}

static void assistant(struct chat *c, const struct json *m)
{
    struct chat_answer a = chat_split_thinking(c, m);
    const struct json *calls = chat_calls(m);
    struct slice reasoning = chat_strip(a.reasoning);
    chat_mark(c, "<|im_start|>assistant");
    if (reasoning.n) {
        chat_mark(c, "\n<think>");
        chat_say(c, reasoning);
        chat_mark(c, "</think>");
    }
    if (reasoning.n || calls) a.content = chat_strip(a.content);
    if (a.content.n) {
        chat_mark(c, "\n");
        chat_say(c, a.content);
        if (calls) chat_mark(c, "\n");
    }
    for (const struct json *v = calls ? calls->child : NULL; v; v = v->next) call(c, v);
    chat_mark(c, "<|im_end|>\n");
}

/* Results of calls share one turn of the user. */
static void tool_result(struct chat *c, const struct json *m, bool first, bool last)
{
    if (first) chat_mark(c, "<|im_start|>user\n");
    chat_mark(c, "<tool_response>\n");
    chat_say(c, chat_content(c, m));
    chat_mark(c, "\n</tool_response>\n");
    if (last) chat_mark(c, "<|im_end|>\n");
}

static void turn(struct chat *c, const char *head, const struct json *m)
{
    chat_mark(c, head);
    chat_say(c, chat_content(c, m));
    chat_mark(c, "<|im_end|>\n");
}

void chat_intellect3(struct chat *c)
{
    const struct json *m = c->messages->child, *before = NULL;
    const struct json *system = m && chat_role_is(m, "system") ? m : NULL;
    if (system || c->tools) system_block(c, system);
    for (; m && !c->e; before = m, m = m->next, c->at++) {
        if (m == system) continue;
        if (chat_role_is(m, "assistant"))
            assistant(c, m);
        else if (chat_role_is(m, "tool"))
            tool_result(c, m, !before || !chat_role_is(before, "tool"),
                        !m->next || !chat_role_is(m->next, "tool"));
        else if (chat_role_is(m, "user"))
            turn(c, "<|im_start|>user\n", m);
        else if (chat_role_is(m, "system"))
            turn(c, "<|im_start|>system\n", m);
        else
            chat_refuse_role(c, m);
    }
    if (c->generation_prompt) chat_mark(c, "<|im_start|>assistant\n<think>");
}
