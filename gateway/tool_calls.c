#include "gateway/tool_calls.h"

#include <stdlib.h>
#include <string.h>

/* START: nothing but a name may have come (GLM-4); TEXT; NAME, ARGS: inside <tool_call>; BARE: the
 * arguments after a bare name. */
enum { START, TEXT, NAME, ARGS, BARE };

enum { HELD_MAX = 1024 }; /* bytes of space before a call, or of a name, that are waited for */

static const char open_tag[] = "<tool_call>", close_tag[] = "</tool_call>";

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static void drop(struct tool_calls *t, size_t n)
{
    t->b.n -= n;
    memmove(t->b.p, t->b.p + n, t->b.n);
}

static void say(struct tool_calls *t, size_t n)
{
    if (n == 0) return;
    t->on.on_text(t->on.arg, slice_of(t->b.p, n));
    drop(t, n);
}

static void skip_space(struct tool_calls *t)
{
    size_t n = 0;
    while (n < t->b.n && is_space(t->b.p[n])) n++;
    if (n > 0) drop(t, n);
}

/* Where tag begins at or after from; b.n: nowhere. */
static size_t find(const struct tool_calls *t, size_t from, const char *tag)
{
    if (from > t->b.n) return t->b.n;
    const char *p = t->b.n > from ? memmem(t->b.p + from, t->b.n - from, tag, strlen(tag)) : NULL;
    return p ? (size_t)(p - t->b.p) : t->b.n;
}

static bool starts(const struct tool_calls *t, const char *tag)
{
    return t->b.n >= strlen(tag) && memcmp(t->b.p, tag, strlen(tag)) == 0;
}

/* Could what is there still become tag? */
static bool may_start(const struct tool_calls *t, const char *tag)
{
    size_t n = t->b.n < strlen(tag) ? t->b.n : strlen(tag);
    return n == 0 || memcmp(t->b.p, tag, n) == 0;
}

static const struct json *find_tool(const struct tool_calls *t, struct slice name)
{
    for (const struct json *x = t->tools ? t->tools->child : NULL; x; x = x->next) {
        const struct json *n = json_get(json_get(x, "function"), "name");
        if (n && n->type == JSON_STRING && n->text.n == name.n &&
            memcmp(n->text.p, name.p, name.n) == 0)
            return x;
    }
    return NULL;
}

/* --- arguments --- */

static void add_args(struct tool_calls *t, const struct text *json)
{
    if (!json->failed) t->on.on_args(t->on.arg, t->n_calls - 1, slice_of(json->p, json->n));
}

static bool is_string_by_schema(const struct tool_calls *t, struct slice key)
{
    const struct json *p =
        json_get(json_get(json_get(t->tool, "function"), "parameters"), "properties");
    for (p = p ? p->child : NULL; p; p = p->next)
        if (p->key.n == key.n && memcmp(p->key.p, key.p, key.n) == 0)
            return json_is_str(json_get(p, "type"), "string");
    return false;
}

static void add_value(struct tool_calls *t, struct text *out, struct slice key, struct slice value)
{
    struct json_doc *doc = NULL;
    if (is_string_by_schema(t, key) || json_parse(&doc, value, "a value", NULL))
        json_write_str(out, value);
    else
        json_write(out, json_root(doc), 0);
    json_free(doc);
}

static void add_arg(struct tool_calls *t, struct slice key, struct slice value)
{
    struct text out = { 0 };
    text_str(&out, t->has_args ? ", " : "{");
    json_write_str(&out, key);
    text_str(&out, ": ");
    add_value(t, &out, key, value);
    t->has_args = true;
    add_args(t, &out);
    free(out.p);
}

static void close_call(struct tool_calls *t)
{
    struct text out = { 0 };
    text_str(&out, t->has_args ? "}" : "{}");
    add_args(t, &out);
    free(out.p);
    t->state = TEXT;
}

static void begin_call(struct tool_calls *t, const struct json *tool)
{
    t->tool = tool;
    t->has_args = false;
    t->n_calls++;
    t->on.on_call(t->on.arg, t->n_calls - 1, json_get(json_get(tool, "function"), "name")->text);
}

/* --- the states; each returns false when it needs more --- */

/* GLM-4 writes the name as the first line and the arguments behind it. */
static bool at_start(struct tool_calls *t)
{
    enum { NAME_MAX_BYTES = 128 };
    size_t n = find(t, 0, "\n");
    if (t->b.n > 0 && (is_space(t->b.p[0]) || t->b.p[0] == '<')) {
        t->state = TEXT;
        return true;
    }
    if (n == t->b.n && n <= NAME_MAX_BYTES) return false;
    struct slice name = slice_of(t->b.p, n);
    while (name.n > 0 && is_space((char)name.p[name.n - 1])) name.n--;
    const struct json *tool = n < t->b.n ? find_tool(t, name) : NULL;
    if (tool && n + 1 == t->b.n) return false; /* is a '{' behind it? */
    if (tool && t->b.p[n + 1] == '{') {
        drop(t, n + 1);
        begin_call(t, tool);
        t->state = BARE;
    } else {
        t->state = TEXT;
    }
    return true;
}

static bool in_text(struct tool_calls *t)
{
    size_t at = find(t, 0, open_tag);
    bool is_found = at < t->b.n;
    if (!is_found) /* the longest end that may be a tag's beginning */
        for (at = t->b.n - (t->b.n < sizeof open_tag - 2 ? t->b.n : sizeof open_tag - 2);
             at < t->b.n && memcmp(t->b.p + at, open_tag, t->b.n - at) != 0;)
            at++;
    size_t end = at;
    while (end > 0 && is_space(t->b.p[end - 1])) end--; /* before a call it means nothing */
    if (at - end > HELD_MAX) end = at;
    say(t, end);
    if (!is_found) return false;
    t->n_space = at - end;
    t->state = NAME;
    return true;
}

/* It is not one of ours: the tag was text. */
static bool not_a_call(struct tool_calls *t)
{
    say(t, t->n_space + sizeof open_tag - 1);
    t->state = TEXT;
    return true;
}

static bool in_name(struct tool_calls *t)
{
    static const char function[] = "<function=";
    size_t at = t->n_space + sizeof open_tag - 1, end;
    bool is_endless = t->b.n - at > HELD_MAX;
    while (at < t->b.n && is_space(t->b.p[at])) at++;
    size_t left = t->b.n - at, n = left < sizeof function - 1 ? left : sizeof function - 1;
    if (memcmp(t->b.p + at, function, n) == 0) {
        if (n < sizeof function - 1) return is_endless && not_a_call(t);
        at += n;
        end = find(t, at, ">");
    } else {
        for (end = at; end < t->b.n && t->b.p[end] != '\n' && t->b.p[end] != '<';) end++;
    }
    if (end == t->b.n) return is_endless && not_a_call(t);
    struct slice name = slice_of(t->b.p + at, end - at);
    while (name.n > 0 && is_space((char)name.p[name.n - 1])) name.n--;
    const struct json *tool = t->n_calls < TOOL_CALLS_MAX ? find_tool(t, name) : NULL;
    if (!tool) return not_a_call(t);
    drop(t, t->b.p[end] == '<' ? end : end + 1);
    begin_call(t, tool);
    t->state = ARGS;
    return true;
}

/* Between open and close, from at on; *end: behind close.  false: it is not all there. */
static bool between(const struct tool_calls *t, size_t at, const char *open, const char *close,
                    struct slice *out, size_t *end)
{
    while (at < t->b.n && is_space(t->b.p[at])) at++;
    if (t->b.n - at < strlen(open) || memcmp(t->b.p + at, open, strlen(open)) != 0) return false;
    at += strlen(open);
    size_t stop = find(t, at, close);
    if (stop == t->b.n) return false;
    *out = slice_of(t->b.p + at, stop - at);
    *end = stop + strlen(close);
    return true;
}

/* The form puts a newline before and behind a parameter. */
static struct slice trim_line(struct slice s)
{
    if (s.n > 0 && s.p[0] == '\n') s = slice_of(s.p + 1, s.n - 1);
    if (s.n > 0 && s.p[s.n - 1] == '\n') s.n--;
    return s;
}

static bool next_arg(struct tool_calls *t)
{
    struct slice key, value;
    size_t end;
    if (between(t, 0, "<arg_key>", "</arg_key>", &key, &end) &&
        between(t, end, "<arg_value>", "</arg_value>", &value, &end)) {
        add_arg(t, key, value);
    } else if (between(t, 0, "<parameter=", "</parameter>", &value, &end)) {
        const uint8_t *gt = memchr(value.p, '>', value.n);
        if (!gt) return false;
        key = slice_of(value.p, (size_t)(gt - value.p));
        add_arg(t, key, trim_line(slice_of(gt + 1, value.n - key.n - 1)));
    } else {
        return false;
    }
    drop(t, end);
    return true;
}

static bool in_args(struct tool_calls *t)
{
    static const char *const known[] = { "<arg_key>", "<parameter=", "</function>", close_tag };
    bool may_be = false;
    skip_space(t);
    if (starts(t, "</function>")) {
        drop(t, strlen("</function>"));
        return true;
    }
    if (starts(t, close_tag)) {
        drop(t, sizeof close_tag - 1);
        close_call(t);
        return true;
    }
    if (next_arg(t)) return true;
    for (unsigned i = 0; i < 4; i++) may_be |= may_start(t, known[i]);
    if (may_be && t->b.n < TOOL_CALL_MAX) return false;
    close_call(t); /* what the model writes here is no argument */
    return true;
}

static bool in_bare(struct tool_calls *t)
{
    if (t->b.n == 0) return false;
    t->on.on_args(t->on.arg, t->n_calls - 1, slice_of(t->b.p, t->b.n));
    t->has_args = true;
    t->b.n = 0;
    return false;
}

void tool_calls_feed(struct tool_calls *t, struct slice text)
{
    static bool (*const step[])(struct tool_calls *) = { at_start, in_text, in_name, in_args,
                                                         in_bare };
    if (!t->tools) {
        if (text.n > 0) t->on.on_text(t->on.arg, text);
        return;
    }
    text_add(&t->b, text.p, text.n);
    while (t->b.n > 0 && !t->b.failed && step[t->state](t)) continue;
}

void tool_calls_end(struct tool_calls *t)
{
    if (t->state == ARGS) close_call(t);
    if (t->state != BARE && t->b.n > 0) say(t, t->b.n);
}

void tool_calls_fini(struct tool_calls *t)
{
    free(t->b.p);
    t->b = (struct text){ 0 };
}
