#include "proto/codec.h"

#include "proto/mp.h"

#include <assert.h>
#include <math.h>
#include <msgpack.h>

/* --- the tables --- */

enum { FIELD_REQ = false, FIELD_OPT = true, FIELDS_MAX = 32, ENVELOPE = 3 };

/* Each table is the static of a function of its own, so that `owner` can name the message's struct
 * for the offsets of its rows. */
#define ROW(name_, key_, type_, opt_, min_, max_, meaning_) \
    { #name_, key_, meaning_, FIELD_##type_, FIELD_##opt_, offsetof(owner, name_), min_, max_ },
#define TABLE(NAME, struct_, type_, limit_, meaning_, FIELDS)                                     \
    static const struct message *table_##NAME(void)                                               \
    {                                                                                             \
        typedef struct_ owner;                                                                    \
        static const struct field rows[] = { FIELDS(ROW) };                                       \
        static const struct message table = { #NAME,        meaning_, type_,                      \
                                              limit_,       rows,     sizeof rows / sizeof *rows, \
                                              sizeof(owner) };                                    \
        static_assert(sizeof rows / sizeof *rows <= FIELDS_MAX, "get_body has a bit each");       \
        return &table;                                                                            \
    }

#define M(NAME, id, limit, meaning) \
    TABLE(NAME, struct msg_##NAME, MSG_##NAME, limit, meaning, NAME##_FIELDS)
MESSAGE_LIST(M)
#undef M
TABLE(RECORD, struct record_body, (enum msg_type)0, RECORD_BYTES_MAX - SIG_BYTES,
      "the body of a signed announcement", RECORD_FIELDS)

const struct message *message_nth(unsigned i)
{
    static const struct message *(*const tables[])(void) = {
#define M(NAME, id, limit, meaning) table_##NAME,
        MESSAGE_LIST(M)
#undef M
    };
    return i < sizeof tables / sizeof *tables ? tables[i]() : NULL;
}

const struct message *message_find(unsigned type)
{
    switch (type) {
#define M(NAME, id, limit, meaning) \
    case id: return table_##NAME();
        MESSAGE_LIST(M)
#undef M
    default: return NULL;
    }
}

const struct message *record_message(void)
{
    return table_RECORD();
}

const char *wire_error_text(unsigned code)
{
    switch (code) {
#define E(NAME, code_, text) \
    case code_: return text;
        WIRE_ERROR_LIST(E)
#undef E
    default: return "an error of a kind this program does not know";
    }
}

/* --- one field of a struct --- */

/* What the table bounds: a number's value, a text's or binary's length, a list's count. */
static uint64_t size_of(const struct field *f, const void *at)
{
    switch (f->type) {
    case FIELD_U: return *(const uint64_t *)at;
    case FIELD_BIN:
    case FIELD_STR: return ((const struct slice *)at)->n;
    case FIELD_BINS: return ((const struct bins *)at)->n;
    case FIELD_UINTS: return ((const struct uints *)at)->n;
    case FIELD_DBL: break;
    }
    return 0;
}

static bool is_absent(const struct field *f, const void *at)
{
    if (!f->optional) return false;
    return f->type == FIELD_DBL ? *(const double *)at == 0 : size_of(f, at) == 0;
}

static bool in_bounds(const struct field *f, const void *at)
{
    if (is_absent(f, at)) return true;
    if (f->type == FIELD_DBL) { /* no comparison holds for NaN */
        double d = *(const double *)at;
        return d >= (double)f->min && d <= (double)f->max && !(d == 0 && signbit(d));
    }
    uint64_t n = size_of(f, at);
    return n >= f->min && n <= f->max;
}

static const void *field_at(const struct field *f, const void *body)
{
    return (const char *)body + f->offset;
}

/* --- writing --- */

struct out {
    uint8_t *p;
    size_t n, cap;
};

static int write_out(void *to, const char *bytes, size_t n)
{
    struct out *o = to;

    if (n > o->cap - o->n) return -1;
    if (n) memcpy(o->p + o->n, bytes, n);
    o->n += n;
    return 0;
}

static int put_str(msgpack_packer *pk, struct slice s)
{
    int bad = msgpack_pack_str(pk, s.n);
    return bad || s.n == 0 ? bad : msgpack_pack_str_body(pk, s.p, s.n);
}

static int put_bin(msgpack_packer *pk, struct slice s)
{
    int bad = msgpack_pack_bin(pk, s.n);
    return bad || s.n == 0 ? bad : msgpack_pack_bin_body(pk, s.p, s.n);
}

static int put_bins(msgpack_packer *pk, const struct bins *b)
{
    int bad = msgpack_pack_array(pk, b->n);
    for (uint32_t i = 0; i < b->n && !bad; i++) bad = put_bin(pk, b->p[i]);
    return bad;
}

static int put_uints(msgpack_packer *pk, const struct uints *u)
{
    int bad = msgpack_pack_array(pk, u->n);
    for (uint32_t i = 0; i < u->n && !bad; i++) bad = msgpack_pack_uint32(pk, u->p[i]);
    return bad;
}

static int put_value(msgpack_packer *pk, const struct field *f, const void *at)
{
    switch (f->type) {
    case FIELD_U: return msgpack_pack_uint64(pk, *(const uint64_t *)at);
    case FIELD_DBL: return msgpack_pack_double(pk, *(const double *)at);
    case FIELD_BIN: return put_bin(pk, *(const struct slice *)at);
    case FIELD_STR: return put_str(pk, *(const struct slice *)at);
    case FIELD_BINS: return put_bins(pk, at);
    case FIELD_UINTS: return put_uints(pk, at);
    }
    return -1;
}

/* The body of table t as a map; optional fields that are zero or empty are left out. */
static enum err put_body(msgpack_packer *pk, const struct message *t, const void *body)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < t->n_fields; i++) {
        const struct field *f = &t->fields[i];
        const void *at = field_at(f, body);
        if (!in_bounds(f, at)) return ERR_RANGE;
        if (f->type == FIELD_STR && !utf8_is_valid(*(const struct slice *)at)) return ERR_RANGE;
        n += !is_absent(f, at);
    }
    if (msgpack_pack_map(pk, n)) return ERR_FULL;
    for (uint32_t i = 0; i < t->n_fields; i++) {
        const struct field *f = &t->fields[i];
        const void *at = field_at(f, body);
        if (is_absent(f, at)) continue;
        if (put_str(pk, slice_str(f->key)) || put_value(pk, f, at)) return ERR_FULL;
    }
    return ERR_OK;
}

enum { HEADER = 5, NUMBER = 9 }; /* the longest header of a sized value; the longest number */

static size_t value_bound(const struct field *f, const void *at)
{
    size_t n = HEADER;

    switch (f->type) {
    case FIELD_U:
    case FIELD_DBL: return NUMBER;
    case FIELD_BIN:
    case FIELD_STR: return HEADER + ((const struct slice *)at)->n;
    case FIELD_BINS:
        for (uint32_t i = 0; i < ((const struct bins *)at)->n && i < LIST_MAX; i++)
            n += HEADER + ((const struct bins *)at)->p[i].n;
        return n;
    case FIELD_UINTS: return n + (size_t)NUMBER * ((const struct uints *)at)->n;
    }
    return 0;
}

size_t msg_bound(const struct msg *m)
{
    const struct message *t = message_find(m->type);
    size_t n = 1 + 2 * NUMBER + HEADER;

    if (!t) return 0;
    for (uint32_t i = 0; i < t->n_fields; i++)
        n += HEADER + strlen(t->fields[i].key) +
             value_bound(&t->fields[i], field_at(&t->fields[i], &m->u));
    return n;
}

enum err msg_encode(const struct msg *m, uint8_t *out, size_t cap, size_t *n)
{
    const struct message *t = message_find(m->type);
    struct out o = { out, 0, cap };
    msgpack_packer pk;

    *n = 0;
    if (!t) return ERR_RANGE;
    msgpack_packer_init(&pk, &o, write_out);
    if (msgpack_pack_array(&pk, ENVELOPE) || msgpack_pack_uint32(&pk, m->type) ||
        msgpack_pack_uint32(&pk, m->rid))
        return ERR_FULL;
    enum err e = put_body(&pk, t, &m->u);
    if (e) return e;
    if (o.n > t->limit) return ERR_RANGE;
    *n = o.n;
    return ERR_OK;
}

enum err record_body_encode(const struct record_body *b, uint8_t *out, size_t cap, size_t *n)
{
    struct out o = { out, 0, cap };
    msgpack_packer pk;

    *n = 0;
    msgpack_packer_init(&pk, &o, write_out);
    enum err e = put_body(&pk, record_message(), b);
    if (e) return e;
    if (o.n > record_message()->limit) return ERR_RANGE;
    *n = o.n;
    return ERR_OK;
}

/* --- reading --- */

static enum err get_bins(struct mp_reader *r, struct bins *out, uint64_t max)
{
    enum err e = mp_array(r, &out->n);

    if (!e && out->n > max) e = ERR_RANGE;
    for (uint32_t i = 0; !e && i < out->n; i++) e = mp_bin(r, &out->p[i]);
    return e;
}

static enum err get_uints(struct mp_reader *r, struct uints *out, uint64_t max)
{
    enum err e = mp_array(r, &out->n);

    if (!e && out->n > max) e = ERR_RANGE;
    for (uint32_t i = 0; !e && i < out->n; i++) {
        uint64_t v = 0;
        e = mp_uint(r, &v);
        if (!e && v > UINT32_MAX) e = ERR_RANGE;
        out->p[i] = (uint32_t)v;
    }
    return e;
}

static enum err get_value(struct mp_reader *r, const struct field *f, void *at)
{
    uint64_t list_max = f->max < LIST_MAX ? f->max : LIST_MAX;

    switch (f->type) {
    case FIELD_U: return mp_uint(r, at);
    case FIELD_DBL: return mp_double(r, at);
    case FIELD_BIN: return mp_bin(r, at);
    case FIELD_STR: return mp_str(r, at);
    case FIELD_BINS: return get_bins(r, at, list_max);
    case FIELD_UINTS: return get_uints(r, at, list_max);
    }
    return ERR_MALFORMED;
}

/* The row of a key; *i is where the last one was, since keys usually come in order. */
static bool find_row(const struct message *t, struct slice key, uint32_t *i)
{
    for (uint32_t tried = 0; tried < t->n_fields; tried++) {
        uint32_t at = (*i + tried) % t->n_fields;
        if (!slice_is(key, t->fields[at].key)) continue;
        *i = at;
        return true;
    }
    return false;
}

static enum err get_field(struct mp_reader *r, const struct message *t, const struct field *f,
                          void *body, struct why *why)
{
    void *at = (char *)body + f->offset;
    enum err e = get_value(r, f, at);

    if (e == ERR_MALFORMED)
        return fail(why, e, "%s: the value of \"%s\" is not of the declared type", t->name, f->key);
    if (e || !in_bounds(f, at))
        return fail(why, ERR_RANGE, "%s: the value of \"%s\" is out of bounds", t->name, f->key);
    if (r->canonical && is_absent(f, at))
        return fail(why, ERR_MALFORMED, "%s: \"%s\" is sent though it is empty", t->name, f->key);
    return ERR_OK;
}

static enum err get_body(struct mp_reader *r, const struct message *t, void *body, struct why *why)
{
    uint32_t n, row = 0, seen = 0;

    memset(body, 0, t->size);
    if (mp_map(r, &n)) return fail(why, ERR_MALFORMED, "%s: the body is not a map", t->name);
    for (uint32_t i = 0; i < n; i++) {
        struct slice key;
        if (mp_str(r, &key)) return fail(why, ERR_MALFORMED, "%s: a key is no string", t->name);
        if (!find_row(t, key, &row)) {
            if (r->canonical || mp_skip(r))
                return fail(why, ERR_MALFORMED, "%s: the key \"%.*s\" does not belong there",
                            t->name, (int)key.n, (const char *)key.p);
            continue;
        }
        uint32_t bit = (uint32_t)1 << row;
        if (seen & bit || (r->canonical && seen >= bit))
            return fail(why, ERR_MALFORMED, "%s: the key \"%s\" comes out of order", t->name,
                        t->fields[row].key);
        enum err e = get_field(r, t, &t->fields[row], body, why);
        if (e) return e;
        seen |= bit;
    }
    for (uint32_t i = 0; i < t->n_fields; i++)
        if (!t->fields[i].optional && !(seen >> i & 1))
            return fail(why, ERR_MALFORMED, "%s: the key \"%s\" is missing", t->name,
                        t->fields[i].key);
    return ERR_OK;
}

uint32_t msg_limit(struct slice head)
{
    struct mp_reader r = mp_open(head, false);
    uint32_t n;
    uint64_t type;

    if (mp_array(&r, &n) || n != ENVELOPE || mp_uint(&r, &type)) return 0;
    const struct message *t = type <= UINT8_MAX ? message_find((unsigned)type) : NULL;
    return t ? t->limit : MSG_UNKNOWN_MAX;
}

/* [type, rid, ...; r is left at the body. */
static enum err get_envelope(struct mp_reader *r, struct msg *m, struct why *why)
{
    uint32_t n;
    uint64_t type, rid;
    enum err e;

    if (mp_array(r, &n) || n != ENVELOPE)
        return fail(why, ERR_MALFORMED, "a message is not [type, rid, body]");
    if ((e = mp_uint(r, &type)) || (e = mp_uint(r, &rid)))
        return fail(why, e, "a message's type or rid is not an unsigned integer");
    if (type > UINT8_MAX || rid > UINT32_MAX)
        return fail(why, ERR_RANGE, "a message's type or rid is too large");
    m->type = (enum msg_type)type;
    m->rid = (uint32_t)rid;
    return ERR_OK;
}

enum err msg_decode(struct msg *m, struct slice bytes, struct why *why)
{
    struct mp_reader r = mp_open(bytes, false);
    uint32_t limit = msg_limit(bytes), n;
    enum err e;

    m->type = (enum msg_type)0;
    m->rid = 0;
    if (limit > 0 && bytes.n > limit)
        return fail(why, ERR_RANGE, "a message of %zu bytes, at most %u of its type", bytes.n,
                    limit);
    if ((e = mp_check(bytes, MP_OBJECTS, why))) return e;
    if ((e = get_envelope(&r, m, why))) return e;

    const struct message *t = message_find(m->type);
    if (t) return get_body(&r, t, &m->u, why);
    if (mp_map(&r, &n)) return fail(why, ERR_MALFORMED, "a message's body is not a map");
    return fail(why, ERR_UNSUPPORTED, "messages of type %u are not known here", (unsigned)m->type);
}

enum err record_body_decode(struct record_body *b, struct slice bytes, struct why *why)
{
    const struct message *t = record_message();
    struct mp_reader r = mp_open(bytes, true);

    if (bytes.n > t->limit)
        return fail(why, ERR_RANGE, "a record of %zu bytes, at most %u", bytes.n, t->limit);
    enum err e = mp_check(bytes, MP_OBJECTS, why);
    return e ? e : get_body(&r, t, b, why);
}
