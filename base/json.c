#include "base/json.h"

#include "base/hash.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <yajl/yajl_parse.h>

enum {
    NODES_MAX = 8 << 20,   /* a tokenizer.json of 256,000 tokens has about two million */
    BLOCK_BYTES = 1 << 20, /* memory is taken from the system in such pieces */
    PAIRWISE_MAX = 8       /* objects up to this size are searched without a hash table */
};

struct block {
    struct block *next;
    size_t cap, used;
    uint8_t bytes[];
};

struct json_doc {
    struct block *blocks; /* owned; newest first */
    struct json root;
    uint32_t n_nodes;
};

/* ---- memory ---------------------------------------------------------------------------- */

static void *take(struct json_doc *d, size_t n, size_t align)
{
    struct block *b = d->blocks;
    size_t at = b ? (b->used + align - 1) & ~(align - 1) : 0;
    if (!b || at > b->cap || n > b->cap - at) {
        size_t cap = n > BLOCK_BYTES ? n : BLOCK_BYTES;
        if (cap > SIZE_MAX - sizeof *b) return NULL;
        b = malloc(sizeof *b + cap);
        if (!b) return NULL;
        *b = (struct block){ .next = d->blocks, .cap = cap };
        d->blocks = b;
        at = 0;
    }
    b->used = at + n;
    return b->bytes + at;
}

/* A NUL follows each copy, so that strtod and people with a debugger can read it. */
static bool copy(struct json_doc *d, const uint8_t *p, size_t n, struct slice *out)
{
    uint8_t *to = n == SIZE_MAX ? NULL : take(d, n + 1, 1);
    if (!to) return false;
    if (n) memcpy(to, p, n);
    to[n] = 0;
    *out = slice_of(to, n);
    return true;
}

/* ---- what yajl does not check ---------------------------------------------------------- */

/* The length of the well-formed UTF-8 character at p, or 0 (Unicode 16, table 3-7). */
static size_t utf8_len(const uint8_t *p, size_t n)
{
    uint8_t a = p[0];
    if (a < 0x80) return 1;
    if (a < 0xc2 || a > 0xf4) return 0;
    size_t len = a < 0xe0 ? 2 : a < 0xf0 ? 3 : 4;
    if (n < len) return 0;
    uint8_t lo = a == 0xe0 ? 0xa0 : a == 0xf0 ? 0x90 : 0x80;
    uint8_t hi = a == 0xed ? 0x9f : a == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < lo || p[1] > hi) return 0;
    for (size_t i = 2; i < len; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    return len;
}

/* The 16-bit unit of an escape \uXXXX at p, or -1. */
static int32_t escaped_unit(const uint8_t *p, size_t n)
{
    if (n < 6 || p[0] != '\\' || p[1] != 'u') return -1;
    int32_t v = 0;
    for (int i = 2; i < 6; i++) {
        uint8_t c = p[i];
        int digit = c >= '0' && c <= '9'                 ? c - '0'
                    : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                         : -1;
        if (digit < 0) return -1;
        v = v << 4 | digit;
    }
    return v;
}

/* yajl takes overlong forms and surrogates for text, and writes '?' for half a pair of escapes.
 * Whether an escape stands inside a string is left to yajl: outside, it refuses the backslash. */
static enum err check_text(struct slice text, const char *what, struct why *why)
{
    const uint8_t *p = text.p;
    for (size_t i = 0; i < text.n;) {
        uint64_t eight;
        while (text.n - i >= 8) {
            memcpy(&eight, p + i, 8);
            uint64_t x = eight ^ 0x5c5c5c5c5c5c5c5cu; /* a backslash becomes 0 */
            if ((eight | ((x - 0x0101010101010101u) & ~x)) & 0x8080808080808080u) break;
            i += 8;
        }
        if (i == text.n) break;
        if (p[i] != '\\') {
            size_t len = utf8_len(p + i, text.n - i);
            if (!len) return fail(why, ERR_MALFORMED, "%s: invalid UTF-8 at byte %zu", what, i);
            i += len;
            continue;
        }
        int32_t unit = escaped_unit(p + i, text.n - i);
        if (unit >= 0xd800 && unit <= 0xdbff) {
            int32_t low = escaped_unit(p + i + 6, text.n - i - 6);
            if (low < 0xdc00 || low > 0xdfff)
                return fail(why, ERR_MALFORMED, "%s: half a surrogate pair at byte %zu", what, i);
            i += 12;
        } else if (unit >= 0xdc00 && unit <= 0xdfff) {
            return fail(why, ERR_MALFORMED, "%s: half a surrogate pair at byte %zu", what, i);
        } else {
            i += unit >= 0 ? 6 : text.n - i >= 2 && p[i + 1] < 0x80 ? 2 : 1;
        }
    }
    return ERR_OK;
}

/* ---- building -------------------------------------------------------------------------- */

struct frame {
    struct json *v;
    const struct json **last; /* where the next child is linked */
    struct slice key;         /* the key that waits for its value */
};

struct build {
    struct json_doc *doc;
    const char *what;
    struct why *why;
    enum err e;
    yajl_handle y;
    struct hash_key hash_key; /* of this parse */
    struct frame frame[JSON_DEPTH_MAX];
    uint32_t depth;
    uint32_t *slot; /* owned; the hash table of check_keys, 1 + index of a child */
    const struct json **kid;
    size_t slots;
};

static bool same(struct slice a, struct slice b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static enum err duplicate(struct build *b, struct slice key)
{
    return fail(b->why, ERR_MALFORMED, "%s: the object that ends at byte %zu has two keys \"%.*s\"",
                b->what, yajl_get_bytes_consumed(b->y), (int)(key.n < 80 ? key.n : 80),
                (const char *)key.p);
}

static enum err check_keys_hashed(struct build *b, const struct json *v)
{
    size_t slots = 1;
    while (slots < 2 * (size_t)v->n) slots *= 2;
    if (slots > b->slots) {
        free(b->slot);
        free(b->kid);
        b->slot = malloc(slots * sizeof *b->slot);
        b->kid = malloc(slots / 2 * sizeof *b->kid);
        b->slots = b->slot && b->kid ? slots : 0;
        if (!b->slots) return ERR_NOMEM;
    }
    memset(b->slot, 0, slots * sizeof *b->slot);
    uint32_t n = 0;
    for (const struct json *c = v->child; c; c = c->next) {
        uint64_t h = hash_bytes(c->key, &b->hash_key);
        size_t i = h & (slots - 1);
        for (; b->slot[i]; i = (i + 1) & (slots - 1))
            if (same(b->kid[b->slot[i] - 1]->key, c->key)) return duplicate(b, c->key);
        b->kid[n++] = c;
        b->slot[i] = n;
    }
    return ERR_OK;
}

static enum err check_keys(struct build *b, const struct json *v)
{
    if (v->n > PAIRWISE_MAX) return check_keys_hashed(b, v);
    for (const struct json *c = v->child; c; c = c->next)
        for (const struct json *d = c->next; d; d = d->next)
            if (same(c->key, d->key)) return duplicate(b, c->key);
    return ERR_OK;
}

static int stop(struct build *b, enum err e)
{
    b->e = e;
    return 0;
}

/* A new value where the text has arrived; NULL with b->e set when it can't be. */
static struct json *add(struct build *b, enum json_type type)
{
    if (b->doc->n_nodes == NODES_MAX) {
        b->e = fail(b->why, ERR_MALFORMED, "%s: more than %d values at byte %zu", b->what,
                    NODES_MAX, yajl_get_bytes_consumed(b->y));
        return NULL;
    }
    b->doc->n_nodes++;
    if (b->depth == 0) {
        b->doc->root.type = type;
        return &b->doc->root;
    }
    struct json *v = take(b->doc, sizeof *v, _Alignof(struct json));
    if (!v) {
        b->e = ERR_NOMEM;
        return NULL;
    }
    struct frame *f = &b->frame[b->depth - 1];
    *v = (struct json){ .type = type, .key = f->key };
    *f->last = v;
    f->last = &v->next;
    f->v->n++;
    return v;
}

static int on_null(void *ctx)
{
    return add(ctx, JSON_NULL) != NULL;
}

static int on_bool(void *ctx, int value)
{
    return add(ctx, value ? JSON_TRUE : JSON_FALSE) != NULL;
}

static int on_text(struct build *b, enum json_type type, const void *p, size_t n)
{
    struct json *v = add(b, type);
    if (!v) return 0;
    return copy(b->doc, p, n, &v->text) ? 1 : stop(b, ERR_NOMEM);
}

static int on_number(void *ctx, const char *p, size_t n)
{
    return on_text(ctx, JSON_NUMBER, p, n);
}

static int on_string(void *ctx, const unsigned char *p, size_t n)
{
    return on_text(ctx, JSON_STRING, p, n);
}

static int on_key(void *ctx, const unsigned char *p, size_t n)
{
    struct build *b = ctx;
    return copy(b->doc, p, n, &b->frame[b->depth - 1].key) ? 1 : stop(b, ERR_NOMEM);
}

static int on_open(struct build *b, enum json_type type)
{
    if (b->depth == JSON_DEPTH_MAX)
        return stop(b, fail(b->why, ERR_MALFORMED, "%s: nested deeper than %d at byte %zu", b->what,
                            JSON_DEPTH_MAX, yajl_get_bytes_consumed(b->y)));
    struct json *v = add(b, type);
    if (!v) return 0;
    b->frame[b->depth++] = (struct frame){ .v = v, .last = &v->child };
    return 1;
}

static int on_object(void *ctx)
{
    return on_open(ctx, JSON_OBJECT);
}

static int on_array(void *ctx)
{
    return on_open(ctx, JSON_ARRAY);
}

static int on_object_end(void *ctx)
{
    struct build *b = ctx;
    enum err e = check_keys(b, b->frame[--b->depth].v);
    return e ? stop(b, e) : 1;
}

static int on_array_end(void *ctx)
{
    ((struct build *)ctx)->depth--;
    return 1;
}

static const yajl_callbacks callbacks = {
    .yajl_null = on_null,
    .yajl_boolean = on_bool,
    .yajl_number = on_number, /* keeps the spelling, so the integer and double calls stay unused */
    .yajl_string = on_string,
    .yajl_start_map = on_object,
    .yajl_map_key = on_key,
    .yajl_end_map = on_object_end,
    .yajl_start_array = on_array,
    .yajl_end_array = on_array_end,
};

/* The sentence for what yajl found wrong by itself. */
static enum err explain(struct build *b)
{
    unsigned char *text = yajl_get_error(b->y, 0, NULL, 0);
    int n = text ? (int)strcspn((char *)text, "\n") : 0;
    enum err e = fail(b->why, ERR_MALFORMED, "%s: %.*s at byte %zu", b->what, n ? n : 9,
                      n ? (char *)text : "not JSON ", yajl_get_bytes_consumed(b->y));
    if (text) yajl_free_error(b->y, text);
    return e;
}

static enum err run(struct build *b, struct slice text)
{
    static const uint8_t none[1];
    yajl_status s = yajl_parse(b->y, text.n ? text.p : none, text.n);
    if (s == yajl_status_ok) s = yajl_complete_parse(b->y);
    if (s == yajl_status_ok) return ERR_OK;
    return b->e ? b->e : explain(b);
}

enum err json_parse(struct json_doc **out, struct slice text, const char *what, struct why *why)
{
    *out = NULL;
    enum err e = check_text(text, what, why);
    if (e) return e;

    struct build b = { .doc = calloc(1, sizeof *b.doc), .what = what, .why = why };
    if (!b.doc) return fail(why, ERR_NOMEM, "%s: out of memory", what);
    b.y = yajl_alloc(&callbacks, NULL, &b);
    if (!b.y) {
        e = ERR_NOMEM;
        goto out;
    }
    if (!hash_key_draw(&b.hash_key)) {
        e = fail(why, ERR_IO, "%s: the system gives no random numbers", what);
        goto out;
    }
    e = run(&b, text);
out:
    if (b.y) yajl_free(b.y);
    free(b.slot);
    free(b.kid);
    if (e == ERR_NOMEM) fail(why, e, "%s: out of memory", what);
    if (e)
        json_free(b.doc);
    else
        *out = b.doc;
    return e;
}

void json_free(struct json_doc *doc)
{
    if (!doc) return;
    for (struct block *b = doc->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(doc);
}

/* ---- reading --------------------------------------------------------------------------- */

const struct json *json_root(const struct json_doc *doc)
{
    return &doc->root;
}

const struct json *json_get(const struct json *v, const char *name)
{
    if (!v || v->type != JSON_OBJECT) return NULL;
    size_t n = strlen(name);
    for (const struct json *c = v->child; c; c = c->next)
        if (c->key.n == n && memcmp(c->key.p, name, n) == 0) return c;
    return NULL;
}

bool json_double(const struct json *v, double *out)
{
    if (!v || v->type != JSON_NUMBER) return false;
    double d = strtod((const char *)v->text.p, NULL); /* NUL-terminated by copy */
    if (!(d >= -__DBL_MAX__ && d <= __DBL_MAX__)) return false;
    *out = d;
    return true;
}

static bool digits(const uint8_t *p, size_t n, uint64_t *out)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9') return false;
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, p[i] - '0', &v))
            return false;
    }
    *out = v;
    return n > 0;
}

bool json_u64(const struct json *v, uint64_t *out)
{
    return v && v->type == JSON_NUMBER && digits(v->text.p, v->text.n, out);
}

uint64_t json_number_of(const struct json *object, const char *key)
{
    uint64_t n = 0;
    return json_u64(json_get(object, key), &n) ? n : 0;
}

double json_real_of(const struct json *object, const char *key)
{
    double d = 0;
    return json_double(json_get(object, key), &d) ? d : 0;
}

bool json_i64(const struct json *v, int64_t *out)
{
    if (!v || v->type != JSON_NUMBER) return false;
    bool minus = v->text.n > 0 && v->text.p[0] == '-';
    uint64_t u;
    if (!digits(v->text.p + minus, v->text.n - minus, &u)) return false;
    if (u > (uint64_t)INT64_MAX + minus) return false;
    *out = minus ? (int64_t)(0 - u) : (int64_t)u;
    return true;
}

bool json_is_true(const struct json *v)
{
    return v && v->type == JSON_TRUE;
}

bool json_is_str(const struct json *v, const char *text)
{
    return v && v->type == JSON_STRING && slice_is(v->text, text);
}

/* ---- writing --------------------------------------------------------------------------- */

static bool room(struct text *t, size_t n)
{
    if (t->failed) return false;
    if (n < t->cap - t->n) return true; /* one byte stays for the NUL */
    size_t cap = t->cap ? t->cap : 128;
    while (cap - t->n <= n && cap <= SIZE_MAX / 2) cap *= 2;
    char *p = cap - t->n > n ? realloc(t->p, cap) : NULL;
    if (!p) {
        t->failed = true;
        return false;
    }
    t->p = p;
    t->cap = cap;
    return true;
}

void text_add(struct text *t, const void *p, size_t n)
{
    if (!room(t, n)) return;
    if (n) memcpy(t->p + t->n, p, n);
    t->n += n;
    t->p[t->n] = 0;
}

void text_str(struct text *t, const char *s)
{
    text_add(t, s, strlen(s));
}

void text_printf(struct text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || !room(t, (size_t)n)) {
        t->failed = true;
        return;
    }
    va_start(ap, fmt);
    vsnprintf(t->p + t->n, (size_t)n + 1, fmt, ap);
    va_end(ap);
    t->n += (size_t)n;
}

void json_write_str(struct text *t, struct slice s)
{
    static const char short_form[32] = {
        ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r'
    };
    text_add(t, "\"", 1);
    size_t from = 0;
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        text_add(t, s.p + from, i - from);
        from = i + 1;
        if (c >= 0x20)
            text_printf(t, "\\%c", c);
        else if (short_form[c])
            text_printf(t, "\\%c", short_form[c]);
        else
            text_printf(t, "\\u%04x", c);
    }
    if (s.n > from) text_add(t, s.p + from, s.n - from);
    text_add(t, "\"", 1);
}

static void new_line(struct text *t, unsigned spaces)
{
    text_add(t, "\n", 1);
    for (unsigned i = 0; i < spaces; i++) text_add(t, " ", 1);
}

static void write_value(struct text *t, const struct json *v, unsigned indent, unsigned spaces);

static void write_children(struct text *t, const struct json *v, unsigned indent, unsigned spaces)
{
    for (const struct json *c = v->child; c; c = c->next) {
        if (indent)
            new_line(t, spaces + indent);
        else if (c != v->child)
            text_add(t, " ", 1);
        if (v->type == JSON_OBJECT) {
            json_write_str(t, c->key);
            text_add(t, ": ", 2);
        }
        write_value(t, c, indent, spaces + indent);
        if (c->next) text_add(t, ",", 1);
    }
    if (indent && v->child) new_line(t, spaces);
}

static void write_value(struct text *t, const struct json *v, unsigned indent, unsigned spaces)
{
    switch (v->type) {
    case JSON_NULL: text_str(t, "null"); break;
    case JSON_FALSE: text_str(t, "false"); break;
    case JSON_TRUE: text_str(t, "true"); break;
    case JSON_NUMBER: text_add(t, v->text.p, v->text.n); break;
    case JSON_STRING: json_write_str(t, v->text); break;
    case JSON_ARRAY:
    case JSON_OBJECT:
        text_add(t, v->type == JSON_ARRAY ? "[" : "{", 1);
        write_children(t, v, indent, spaces);
        text_add(t, v->type == JSON_ARRAY ? "]" : "}", 1);
        break;
    }
}

void json_write(struct text *t, const struct json *v, unsigned indent)
{
    write_value(t, v, indent, 0);
}
