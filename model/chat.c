#include "model/chat_impl.h"

#include "model/unicode.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- forms ----------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*render)(struct chat *c);
    const char *has[6], *lacks[3]; /* texts by which a template is known */
} forms[] = {
    [CHAT_NONE] = { .name = "none" },
    [CHAT_GLM45] = { .name = "glm-4.5",
                     .render = chat_glm45,
                     .has = { "[gMASK]<sop>", "<|assistant|>", "/nothink", "<think></think>" } },
    [CHAT_GLM4] = { .name = "glm-4",
                    .render = chat_glm4,
                    .has = { "[gMASK]<sop>", "<|assistant|>", "<|observation|>", "metadata",
                             "# 可用工具" },
                    .lacks = { "<think>", "item['tools']" } },
    [CHAT_INTELLECT3] = { .name = "intellect-3",
                          .render = chat_intellect3,
                          .has = { "<|im_start|>", "<think>", "<function=", "INTELLECT-" } },
};
enum { FORMS = sizeof forms / sizeof *forms };

const char *chat_form_name(enum chat_form f)
{
    return forms[f].name;
}

bool chat_form_parse(const char *name, enum chat_form *out)
{
    for (unsigned i = 0; i < FORMS; i++)
        if (strcmp(forms[i].name, name) == 0) {
            *out = (enum chat_form)i;
            return true;
        }
    return false;
}

static bool holds(struct slice text, const char *part)
{
    return text.n && memmem(text.p, text.n, part, strlen(part));
}

static bool looks_like(struct slice text, unsigned form)
{
    if (!forms[form].render) return false;
    for (const char *const *part = forms[form].has; *part; part++)
        if (!holds(text, *part)) return false;
    for (const char *const *part = forms[form].lacks; *part; part++)
        if (holds(text, *part)) return false;
    return true;
}

enum err chat_form_detect(struct slice template_text, enum chat_form *out, struct why *why)
{
    for (unsigned i = 0; i < FORMS; i++)
        if (looks_like(template_text, i)) {
            *out = (enum chat_form)i;
            return ERR_OK;
        }
    size_t n = 0; /* its first line names it to people */
    while (n < template_text.n && n < 60 && template_text.p[n] != '\n') n++;
    return fail(why, ERR_UNSUPPORTED,
                "the chat template that begins \"%.*s\" is none of glm-4.5, glm-4 and intellect-3",
                (int)n, n ? (const char *)template_text.p : "");
}

/* ---- writing --------------------------------------------------------------------------- */

/* What stands in the text from byte lo on is of one kind. */
static void note_part(struct chat *c, size_t lo, bool marker)
{
    struct chat_text *t = c->out;
    size_t hi = t->text.n;
    if (c->e || lo == hi) return;
    if (t->n_parts && t->part[t->n_parts - 1].marker == marker) {
        t->part[t->n_parts - 1].hi = hi;
        return;
    }
    if (t->n_parts == t->cap_parts) {
        uint32_t cap = t->cap_parts ? 2 * t->cap_parts : 32;
        struct chat_part *part = realloc(t->part, cap * sizeof *part);
        if (!part) {
            c->e = ERR_NOMEM;
            return;
        }
        t->part = part;
        t->cap_parts = cap;
    }
    t->part[t->n_parts++] = (struct chat_part){ lo, hi, marker };
}

void chat_mark(struct chat *c, const char *text)
{
    size_t lo = c->out->text.n;
    text_str(&c->out->text, text);
    note_part(c, lo, true);
}

void chat_say(struct chat *c, struct slice text)
{
    size_t lo = c->out->text.n;
    text_add(&c->out->text, text.p, text.n);
    note_part(c, lo, false);
}

void chat_say_json(struct chat *c, const struct json *v, unsigned indent)
{
    size_t lo = c->out->text.n;
    json_write(&c->out->text, v, indent);
    note_part(c, lo, false);
}

void chat_say_value(struct chat *c, const struct json *v)
{
    if (v->type == JSON_STRING)
        chat_say(c, v->text);
    else
        chat_say_json(c, v, 0);
}

void chat_text_fini(struct chat_text *c)
{
    free(c->text.p);
    free(c->part);
    *c = (struct chat_text){ 0 };
}

/* ---- reading --------------------------------------------------------------------------- */

void chat_refuse(struct chat *c, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    if (c->e) return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    c->e = fail(c->why, ERR_MALFORMED, "messages[%u]: %s", c->at, text);
}

static int shown(struct slice s)
{
    return (int)(s.n < 80 ? s.n : 80);
}

struct slice chat_string(const struct json *object, const char *name)
{
    const struct json *v = json_get(object, name);
    return v && v->type == JSON_STRING ? v->text : slice_of("", 0);
}

bool chat_role_is(const struct json *message, const char *role)
{
    return json_is_str(json_get(message, "role"), role);
}

void chat_refuse_role(struct chat *c, const struct json *message)
{
    const struct json *role = json_get(message, "role");
    if (role && role->type == JSON_STRING)
        chat_refuse(c, "role \"%.*s\" is unknown to this chat form", shown(role->text),
                    (const char *)role->text.p);
    else
        chat_refuse(c, "it has no role");
}

/* One part of a content list: a string or {"type": "text", "text": ...}. */
static struct slice part_text(struct chat *c, const struct json *part)
{
    if (part->type == JSON_STRING) return part->text;
    const struct json *text = json_get(part, "text");
    struct slice type = chat_string(part, "type");
    if (!slice_is(type, "text"))
        chat_refuse(c, "a content part of type \"%.*s\" is not supported", shown(type),
                    (const char *)type.p);
    else if (!text || text->type != JSON_STRING)
        chat_refuse(c, "a content part without text");
    else
        return text->text;
    return slice_of("", 0);
}

struct slice chat_content(struct chat *c, const struct json *message)
{
    const struct json *v = json_get(message, "content");
    if (!v || v->type == JSON_NULL) return slice_of("", 0);
    if (v->type == JSON_STRING) return v->text;
    if (v->type != JSON_ARRAY) {
        chat_refuse(c, "content is neither a text nor a list of parts");
        return slice_of("", 0);
    }
    c->content.n = 0;
    text_str(&c->content, "");
    for (const struct json *part = v->child; part; part = part->next) {
        struct slice s = part_text(c, part);
        text_add(&c->content, s.p, s.n);
    }
    if (c->content.failed) c->e = c->e ? c->e : ERR_NOMEM;
    return slice_of(c->content.p, c->content.n);
}

const struct json *chat_function(struct chat *c, const struct json *v)
{
    const struct json *f = json_get(v, "function");
    if (!f || f->type == JSON_NULL) f = v;
    const struct json *name = json_get(f, "name");
    if (!name || name->type != JSON_STRING) chat_refuse(c, "a function without a name");
    return f;
}

const struct json *chat_calls(const struct json *message)
{
    const struct json *calls = json_get(message, "tool_calls");
    return calls && calls->type == JSON_ARRAY && calls->n ? calls : NULL;
}

const struct json *chat_arguments(struct chat *c, const struct json *function,
                                  struct json_doc **doc)
{
    const struct json *v = json_get(function, "arguments");
    *doc = NULL;
    if (!v || v->type == JSON_NULL) return NULL;
    if (v->type == JSON_STRING) {
        if (v->text.n == 0) return NULL;
        struct why why = { "" };
        enum err e = json_parse(doc, v->text, "arguments of a call", &why);
        if (e == ERR_NOMEM) c->e = c->e ? c->e : e;
        if (e) chat_refuse(c, "%s", why.text);
        if (e) return NULL;
        v = json_root(*doc);
    }
    if (v->type == JSON_OBJECT) return v;
    chat_refuse(c, "arguments of a call are no object");
    return NULL;
}

static const uint8_t *find_first(struct slice s, const char *part)
{
    return s.n ? memmem(s.p, s.n, part, strlen(part)) : NULL;
}

/* The first byte behind the last occurrence of part, or NULL. */
static const uint8_t *find_last_end(struct slice s, const char *part)
{
    const uint8_t *end = NULL;
    size_t n = strlen(part);
    for (const uint8_t *p; (p = find_first(s, part));
         s = slice_of(p + n, s.n - (size_t)(p + n - s.p)))
        end = p + n;
    return end;
}

static struct slice from_ptr(struct slice s, const uint8_t *p)
{
    return slice_of(p, s.n - (size_t)(p - s.p));
}

static struct slice trim_newlines(struct slice s, bool left)
{
    while (s.n && (left ? s.p[0] : s.p[s.n - 1]) == '\n') s = slice_of(s.p + left, s.n - 1);
    return s;
}

struct chat_answer chat_split_thinking(struct chat *c, const struct json *message)
{
    struct chat_answer a = { .reasoning = slice_of("", 0), .content = chat_content(c, message) };
    const struct json *field = json_get(message, "reasoning_content");
    if (field && field->type == JSON_STRING) {
        a.reasoning = field->text;
        return a;
    }
    const uint8_t *close = find_first(a.content, "</think>");
    if (!close) return a;
    struct slice before = slice_of(a.content.p, (size_t)(close - a.content.p));
    before = trim_newlines(before, false);
    const uint8_t *open = find_last_end(before, "<think>");
    a.reasoning = trim_newlines(open ? from_ptr(before, open) : before, true);
    a.content = from_ptr(a.content, find_last_end(a.content, "</think>"));
    a.content = trim_newlines(a.content, true);
    return a;
}

/* White space as Python has it: Unicode's, and the four separators of ASCII. */
static bool strippable(uint32_t ch)
{
    return unicode_is_space(ch) || (ch >= 0x1c && ch <= 0x1f);
}

struct slice chat_strip(struct slice s)
{
    size_t len;
    bool bad;
    while (s.n && strippable(utf8_get(s.p, s.n, &len, &bad))) s = slice_of(s.p + len, s.n - len);
    while (s.n) {
        size_t from = s.n - 1;
        while (from > 0 && (s.p[from] & 0xc0) == 0x80) from--;
        if (!strippable(utf8_get(s.p + from, s.n - from, &len, &bad))) break;
        s.n = from;
    }
    return s;
}

/* ---- entry ----------------------------------------------------------------------------- */

static void check_request(struct chat *c)
{
    if (!c->messages || c->messages->type != JSON_ARRAY) {
        c->e = fail(c->why, ERR_MALFORMED, "messages is no list");
        return;
    }
    for (const struct json *m = c->messages->child; m; m = m->next, c->at++)
        if (m->type != JSON_OBJECT) chat_refuse(c, "it is no object");
    if (c->tools && c->tools->type == JSON_NULL) c->tools = NULL;
    if (!c->tools || c->e) return;
    if (c->tools->type != JSON_ARRAY) {
        c->e = fail(c->why, ERR_MALFORMED, "tools is no list");
        return;
    }
    for (const struct json *t = c->tools->child; t && !c->e; t = t->next) {
        const struct json *f = json_get(t, "function"), *name = json_get(f ? f : t, "name");
        if (!name || name->type != JSON_STRING)
            c->e = fail(c->why, ERR_MALFORMED, "tools: a function without a name");
    }
    if (c->tools->n == 0) c->tools = NULL;
}

enum err chat_render(enum chat_form f, const struct json *messages, const struct json *tools,
                     enum think think, bool add_generation_prompt, struct chat_text *out,
                     struct why *why)
{
    struct chat c = { .messages = messages,
                      .tools = tools,
                      .think = think,
                      .generation_prompt = add_generation_prompt,
                      .out = out,
                      .why = why };
    *out = (struct chat_text){ 0 };
    if (!forms[f].render) return fail(why, ERR_UNSUPPORTED, "this model has no chat form");
    check_request(&c);
    text_str(&out->text, "");
    c.at = 0;
    if (!c.e) forms[f].render(&c);
    if (!c.e && out->text.failed) c.e = ERR_NOMEM;
    if (c.e == ERR_NOMEM) fail(why, c.e, "out of memory");
    free(c.content.p);
    if (c.e) chat_text_fini(out);
    return c.e;
}

enum err chat_plain(enum chat_form f, struct slice text, struct chat_text *out, struct why *why)
{
    struct chat c = { .out = out, .why = why };
    *out = (struct chat_text){ 0 };
    if (f == CHAT_GLM45 || f == CHAT_GLM4) chat_mark(&c, "[gMASK]<sop>");
    chat_say(&c, text);
    if (out->text.failed) c.e = ERR_NOMEM;
    if (c.e) chat_text_fini(out);
    return c.e ? fail(why, c.e, "out of memory") : ERR_OK;
}

enum err chat_encode(const struct tokenizer *t, const struct chat_text *c, struct ids *out)
{
    struct span *span = malloc(((size_t)c->n_parts + 1) * sizeof *span);
    uint32_t n = 0;
    if (!span) return ERR_NOMEM;
    for (uint32_t i = 0; i < c->n_parts; i++)
        if (c->part[i].marker) span[n++] = (struct span){ c->part[i].lo, c->part[i].hi };
    enum err e = tokenizer_encode_spans(t, slice_of(c->text.p, c->text.n), span, n, out);
    free(span);
    return e;
}
