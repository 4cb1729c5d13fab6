/* json.h - a JSON text as a tree, and the few calls that write one.
 *
 * The only file that knows yajl.  The tree keeps what a chat template needs and
 * most parsers lose: the order of keys and the spelling of numbers.  Everything
 * parsed is hostile: depth, node count and duplicate keys are refused with a
 * sentence naming the byte offset.
 *
 * A tree is one allocation family freed by json_free; values borrow from it. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include "base/err.h"
#include "base/slice.h"

enum json_type { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

enum { JSON_DEPTH_MAX = 64 };

/* One value.  Children of arrays and objects are a list in source order. */
struct json {
    enum json_type type;
    uint32_t n;              /* children of an array or object */
    struct slice key;        /* name within the parent object; UTF-8 */
    struct slice text;       /* STRING: decoded UTF-8 (may hold NUL); NUMBER: as spelled */
    const struct json *child, *next;
};

struct json_doc; /* owns the nodes and every string */

/* Parse exactly one value (surrounding white space allowed).  what names the source in errors.
 * text is borrowed for the call only.  ERR_MALFORMED with why, ERR_NOMEM. */
MUST_CHECK enum err json_parse(struct json_doc **out, struct slice text, const char *what,
                               struct why *why);
void json_free(struct json_doc *doc); /* NULL is fine */
const struct json *json_root(const struct json_doc *doc);

/* The member called name, or NULL (also when v is NULL or no object). */
const struct json *json_get(const struct json *v, const char *name);

/* A number as double, as unsigned integer (exact spelling only: no sign, dot or exponent), as int64.
 * false when v is NULL, of another type, or out of range. */
bool json_double(const struct json *v, double *out);
bool json_u64(const struct json *v, uint64_t *out);
bool json_i64(const struct json *v, int64_t *out);
/* Of an object's member, 0 when there is no such number: for people, where 0 will do. */
uint64_t json_number_of(const struct json *object, const char *key);
double json_real_of(const struct json *object, const char *key);
bool json_is_true(const struct json *v); /* the literal true */
bool json_is_str(const struct json *v, const char *text);

/* A growing text, for writing.  Zero-initialize; after an allocation failure nothing is added and
 * failed stays true; free(p) at the end. */
struct text {
    char *p; /* owned; NUL-terminated when not NULL */
    size_t n, cap;
    bool failed;
};
void text_add(struct text *t, const void *p, size_t n);
void text_str(struct text *t, const char *s);
__attribute__((format(printf, 2, 3))) void text_printf(struct text *t, const char *fmt, ...);

/* v as a template's tojson writes it: separators ", " and ": ", non-ASCII unescaped, keys in order,
 * numbers as spelled; indent 0 = one line, else that many spaces a level (as Python's json.dumps). */
void json_write(struct text *t, const struct json *v, unsigned indent);
/* s as a JSON string with quotes. */
void json_write_str(struct text *t, struct slice s);

#endif
