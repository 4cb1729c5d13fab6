/* GLM-4-0414, 9B and 32B.  Their template knows the roles system, user, assistant (with "metadata",
 * the name of the function that it calls) and observation; we also write an OpenAI client's
 * tool_calls and role tool that way. */
#include "model/chat_impl.h"

static void tools(struct chat *c)
{
    chat_mark(c, "<|system|>\n# 可用工具\n");
    for (const struct json *t = c->tools->child; t; t = t->next) {
        const struct json *f = chat_function(c, t);
        chat_mark(c, "\n## ");
        chat_say(c, chat_string(f, "name"));
        chat_mark(c, "\n\n");
        chat_say_json(c, f, 4);
        chat_mark(c, "\n在调用上述函数时，请使用 Json 格式表示调用的参数。");
    }
}

static void turn(struct chat *c, const char *marker, struct slice content)
{
    chat_mark(c, marker);
    chat_mark(c, "\n");
    chat_say(c, content);
}

static void call(struct chat *c, const struct json *v)
{
    const struct json *f = chat_function(c, v);
    struct json_doc *doc;
    const struct json *args = chat_arguments(c, f, &doc);
    chat_mark(c, "<|assistant|>");
    chat_say(c, chat_string(f, "name"));
    chat_mark(c, " \n");
    if (args)
        chat_say_json(c, args, 0);
    else
        chat_say(c, slice_str("{}"));
    json_free(doc);
}

static void assistant(struct chat *c, const struct json *m)
{
    struct slice content = chat_content(c, m), function = chat_string(m, "metadata");
    const struct json *calls = chat_calls(m);
    if (function.n) {
        chat_mark(c, "<|assistant|>");
        chat_say(c, function);
        chat_mark(c, " \n");
        chat_say(c, content);
    } else if (content.n || !calls) {
        turn(c, "<|assistant|>", content);
    }
    for (const struct json *v = calls ? calls->child : NULL; v; v = v->next) call(c, v);
}

void chat_glm4(struct chat *c)
{
    chat_mark(c, "[gMASK]<sop>");
    if (c->tools) tools(c);
    for (const struct json *m = c->messages->child; m; m = m->next, c->at++)
        if (chat_role_is(m, "system")) turn(c, "<|system|>", chat_content(c, m));
    c->at = 0;
    for (const struct json *m = c->messages->child; m && !c->e; m = m->next, c->at++) {
        if (chat_role_is(m, "system")) continue; /* above: they all come first */
        if (chat_role_is(m, "user"))
            turn(c, "<|user|>", chat_content(c, m));
        else if (chat_role_is(m, "assistant"))
            assistant(c, m);
        else if (chat_role_is(m, "observation") || chat_role_is(m, "tool"))
            turn(c, "<|observation|>", chat_content(c, m));
        else
            chat_refuse_role(c, m);
    }
    if (c->generation_prompt) chat_mark(c, "<|assistant|>");
}
