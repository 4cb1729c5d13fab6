#include "proto/mp.h"

#include <math.h>

/* --- the cursor --- */

/* n bytes, big endian; the caller has checked that they are there. */
static uint64_t load_be(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++) v = v << 8 | p[i];
    return v;
}

static bool take_be(struct mp_reader *r, unsigned n, uint64_t *v)
{
    if ((size_t)(r->end - r->p) < n) return false;
    *v = load_be(r->p, n);
    r->p += n;
    return true;
}

static bool take_bytes(struct mp_reader *r, uint64_t n, struct slice *out)
{
    if ((uint64_t)(r->end - r->p) < n) return false;
    *out = slice_of(r->p, (size_t)n);
    r->p += n;
    return true;
}

/* The smallest value that needs a length or integer of `width` bytes. */
static uint64_t least_of_width(unsigned width)
{
    return width == 1 ? 0 : width == 2 ? 0x100 : width == 4 ? 0x10000 : 0x100000000;
}

static bool take_uint(struct mp_reader *r, unsigned width, struct mp_item *it)
{
    if (!take_be(r, width, &it->u)) return false;
    it->kind = MP_UINT;
    it->minimal = it->u >= (width == 1 ? 0x80 : least_of_width(width));
    return true;
}

static bool take_int(struct mp_reader *r, unsigned width, struct mp_item *it)
{
    uint64_t v, sign = (uint64_t)1 << (8 * width - 1);

    if (!take_be(r, width, &v)) return false;
    it->kind = v & sign ? MP_NEGATIVE : MP_UINT;
    it->u = v & sign ? v | ~(sign - 1) : v;
    /* A negative value has no shorter form if it is below the next narrower type's least value;
     * values from zero up are shorter as unsigned.  -v without its sign bit is sign - low bits. */
    uint64_t magnitude = sign - (v & (sign - 1));
    uint64_t narrower = width == 1 ? 32 : (uint64_t)1 << (4 * width - 1);
    it->minimal = it->kind == MP_NEGATIVE && magnitude > narrower;
    return true;
}

static bool take_float(struct mp_reader *r, unsigned width, struct mp_item *it)
{
    uint64_t v;

    if (!take_be(r, width, &v)) return false;
    it->minimal = true; /* the two widths are two kinds, not two spellings */
    if (width == 4) {
        uint32_t bits = (uint32_t)v;
        float f;
        memcpy(&f, &bits, sizeof f);
        it->kind = MP_FLOAT32;
        it->d = (double)f;
    } else {
        it->kind = MP_FLOAT64;
        memcpy(&it->d, &v, sizeof it->d);
    }
    return true;
}

/* A string, binary, array or map whose length takes `width` bytes; `least` is the shortest one
 * that has no shorter header. */
static bool take_sized(struct mp_reader *r, enum mp_kind kind, unsigned width, uint64_t least,
                       struct mp_item *it)
{
    if (!take_be(r, width, &it->u)) return false;
    it->kind = kind;
    it->minimal = it->u >= least;
    return kind == MP_ARRAY || kind == MP_MAP || take_bytes(r, it->u, &it->bytes);
}

static bool take_small(enum mp_kind kind, uint64_t u, struct mp_item *it)
{
    it->kind = kind;
    it->minimal = true;
    it->u = u;
    return true;
}

/* The item whose first byte b has been taken. */
static bool take_item(struct mp_reader *r, uint8_t b, struct mp_item *it)
{
    if (b <= 0x7f) return take_small(MP_UINT, b, it);
    if (b <= 0x8f) return take_small(MP_MAP, b & 0x0f, it);
    if (b <= 0x9f) return take_small(MP_ARRAY, b & 0x0f, it);
    if (b <= 0xbf) return take_small(MP_STR, b & 0x1f, it) && take_bytes(r, it->u, &it->bytes);
    if (b >= 0xe0) return take_small(MP_NEGATIVE, ~(uint64_t)0xff | b, it);
    switch (b) {
    case 0xc0: return take_small(MP_NIL, 0, it);
    case 0xc2: return take_small(MP_BOOL, 0, it);
    case 0xc3: return take_small(MP_BOOL, 1, it);
    case 0xc4: return take_sized(r, MP_BIN, 1, 0, it);
    case 0xc5: return take_sized(r, MP_BIN, 2, least_of_width(2), it);
    case 0xc6: return take_sized(r, MP_BIN, 4, least_of_width(4), it);
    case 0xca: return take_float(r, 4, it);
    case 0xcb: return take_float(r, 8, it);
    case 0xcc: return take_uint(r, 1, it);
    case 0xcd: return take_uint(r, 2, it);
    case 0xce: return take_uint(r, 4, it);
    case 0xcf: return take_uint(r, 8, it);
    case 0xd0: return take_int(r, 1, it);
    case 0xd1: return take_int(r, 2, it);
    case 0xd2: return take_int(r, 4, it);
    case 0xd3: return take_int(r, 8, it);
    case 0xd9: return take_sized(r, MP_STR, 1, 32, it);
    case 0xda: return take_sized(r, MP_STR, 2, least_of_width(2), it);
    case 0xdb: return take_sized(r, MP_STR, 4, least_of_width(4), it);
    case 0xdc: return take_sized(r, MP_ARRAY, 2, 16, it);
    case 0xdd: return take_sized(r, MP_ARRAY, 4, least_of_width(4), it);
    case 0xde: return take_sized(r, MP_MAP, 2, 16, it);
    case 0xdf: return take_sized(r, MP_MAP, 4, least_of_width(4), it);
    default: return false; /* 0xc1 and the ext types */
    }
}

enum err mp_next(struct mp_reader *r, struct mp_item *out)
{
    struct mp_reader at = *r;

    *out = (struct mp_item){ 0 };
    if (at.p == at.end) return ERR_MALFORMED;
    uint8_t b = *at.p++;
    if (!take_item(&at, b, out)) return ERR_MALFORMED;
    if (at.canonical && !out->minimal) return ERR_MALFORMED;
    r->p = at.p;
    return ERR_OK;
}

static enum err next_of_kind(struct mp_reader *r, enum mp_kind kind, struct mp_item *it)
{
    struct mp_reader at = *r;
    enum err e = mp_next(&at, it);

    if (e) return e;
    if (it->kind != kind)
        return kind == MP_UINT && it->kind == MP_NEGATIVE ? ERR_RANGE : ERR_MALFORMED;
    r->p = at.p;
    return ERR_OK;
}

enum err mp_uint(struct mp_reader *r, uint64_t *out)
{
    struct mp_item it;
    enum err e = next_of_kind(r, MP_UINT, &it);

    if (!e) *out = it.u;
    return e;
}

enum err mp_double(struct mp_reader *r, double *out)
{
    struct mp_reader at = *r;
    struct mp_item it;
    enum err e = next_of_kind(&at, MP_FLOAT64, &it);

    if (e) return e;
    if (!isfinite(it.d) || (it.d == 0 && signbit(it.d))) return ERR_RANGE;
    r->p = at.p;
    *out = it.d;
    return ERR_OK;
}

enum err mp_str(struct mp_reader *r, struct slice *out)
{
    struct mp_item it;
    enum err e = next_of_kind(r, MP_STR, &it);

    if (!e) *out = it.bytes;
    return e;
}

enum err mp_bin(struct mp_reader *r, struct slice *out)
{
    struct mp_item it;
    enum err e = next_of_kind(r, MP_BIN, &it);

    if (!e) *out = it.bytes;
    return e;
}

enum err mp_array(struct mp_reader *r, uint32_t *n)
{
    struct mp_item it;
    enum err e = next_of_kind(r, MP_ARRAY, &it);

    if (!e) *n = (uint32_t)it.u;
    return e;
}

enum err mp_map(struct mp_reader *r, uint32_t *n)
{
    struct mp_item it;
    enum err e = next_of_kind(r, MP_MAP, &it);

    if (!e) *n = (uint32_t)it.u;
    return e;
}

enum err mp_skip(struct mp_reader *r)
{
    struct mp_reader at = *r;

    for (uint64_t owed = 1; owed > 0; owed--) {
        struct mp_item it;
        enum err e = mp_next(&at, &it);
        if (e) return e;
        if (it.kind == MP_ARRAY) owed += it.u;
        if (it.kind == MP_MAP) owed += 2 * it.u;
        if (owed - 1 > (uint64_t)(at.end - at.p)) return ERR_MALFORMED; /* a byte each, at least */
    }
    r->p = at.p;
    return ERR_OK;
}

/* --- the validating pass --- */

bool utf8_is_valid(struct slice s)
{
    for (size_t i = 0; i < s.n;) {
        uint8_t b = s.p[i];
        unsigned more = b < 0x80 ? 0 : b < 0xe0 ? 1 : b < 0xf0 ? 2 : 3;
        if (b == 0 || (b >= 0x80 && b < 0xc2) || b > 0xf4) return false;
        if (s.n - i <= more) return false;
        for (unsigned k = 1; k <= more; k++)
            if ((s.p[i + k] & 0xc0) != 0x80) return false;
        /* The second byte rules out overlong forms, surrogates and values past U+10FFFF. */
        uint8_t second = more ? s.p[i + 1] : 0;
        if (b == 0xe0 && second < 0xa0) return false;
        if (b == 0xed && second > 0x9f) return false;
        if (b == 0xf0 && second < 0x90) return false;
        if (b == 0xf4 && second > 0x8f) return false;
        i += more + 1;
    }
    return true;
}

/* An array or map of which some values are still to come. */
struct level {
    uint64_t owed; /* values, keys included */
    bool map;
    uint32_t key_base; /* its first key in struct pass */
};

struct pass {
    struct level level[MP_DEPTH];
    uint32_t depth;
    struct slice key[MP_KEYS_MAX]; /* of the open maps, outermost first */
    uint32_t n_keys;
    uint64_t owed; /* values to come, over all levels */
    size_t at;     /* offset of the item at hand, for errors */
    struct why *why;
};

static enum err check_key(struct pass *s, const struct level *l, const struct mp_item *it)
{
    if (it->kind != MP_STR)
        return fail(s->why, ERR_MALFORMED, "byte %zu: a map's key is not a string", s->at);
    if (it->bytes.n > MP_KEY_MAX)
        return fail(s->why, ERR_RANGE, "byte %zu: a key of %zu bytes, at most %d", s->at,
                    it->bytes.n, MP_KEY_MAX);
    for (uint32_t i = l->key_base; i < s->n_keys; i++)
        if (s->key[i].n == it->bytes.n && !memcmp(s->key[i].p, it->bytes.p, it->bytes.n))
            return fail(s->why, ERR_MALFORMED, "byte %zu: the key \"%.*s\" comes twice", s->at,
                        (int)it->bytes.n, (const char *)it->bytes.p);
    if (s->n_keys == MP_KEYS_MAX)
        return fail(s->why, ERR_RANGE, "byte %zu: more than %d keys", s->at, MP_KEYS_MAX);
    s->key[s->n_keys++] = it->bytes;
    return ERR_OK;
}

static enum err check_value(struct pass *s, const struct mp_item *it)
{
    if ((it->kind == MP_FLOAT32 || it->kind == MP_FLOAT64) && !isfinite(it->d))
        return fail(s->why, ERR_RANGE, "byte %zu: a number is not finite", s->at);
    if (it->kind == MP_STR && !utf8_is_valid(it->bytes))
        return fail(s->why, ERR_MALFORMED, "byte %zu: a string is not UTF-8 without NUL", s->at);
    return ERR_OK;
}

/* Go into a container, unless it is empty. */
static enum err enter(struct pass *s, const struct mp_item *it, size_t remaining)
{
    uint64_t n = it->kind == MP_MAP ? 2 * it->u : it->u;

    /* The sum over all levels, so that nesting cannot multiply what a few bytes promise. */
    s->owed += n;
    if (s->owed > remaining)
        return fail(s->why, ERR_MALFORMED, "byte %zu: %llu values announced, %zu bytes left", s->at,
                    (unsigned long long)s->owed, remaining);
    if (s->depth == MP_DEPTH)
        return fail(s->why, ERR_RANGE, "byte %zu: nested deeper than %d", s->at, MP_DEPTH);
    if (n > 0) s->level[s->depth++] = (struct level){ n, it->kind == MP_MAP, s->n_keys };
    return ERR_OK;
}

static void leave_finished(struct pass *s)
{
    while (s->depth > 0 && s->level[s->depth - 1].owed == 0)
        s->n_keys = s->level[--s->depth].key_base;
}

static enum err check_item(struct pass *s, const struct mp_item *it, size_t remaining)
{
    enum err e = check_value(s, it);
    if (e) return e;

    if (s->depth > 0) {
        struct level *l = &s->level[s->depth - 1];
        if (l->map && l->owed % 2 == 0 && (e = check_key(s, l, it))) return e;
        l->owed--;
    }
    s->owed--;
    if (it->kind == MP_ARRAY || it->kind == MP_MAP) return enter(s, it, remaining);
    return ERR_OK;
}

enum err mp_check(struct slice bytes, uint32_t max_objects, struct why *why)
{
    struct mp_reader r = mp_open(bytes, false);
    struct pass s = { .owed = 1, .why = why };

    for (uint32_t n = 0; s.owed > 0; n++) {
        struct mp_item it;
        s.at = (size_t)(r.p - bytes.p);
        if (n == max_objects)
            return fail(why, ERR_RANGE, "byte %zu: more than %u values", s.at, max_objects);
        if (mp_next(&r, &it))
            return fail(why, ERR_MALFORMED, "byte %zu: cut short, or no kind that is allowed",
                        s.at);
        enum err e = check_item(&s, &it, (size_t)(r.end - r.p));
        if (e) return e;
        leave_finished(&s);
    }
    if (r.p != r.end)
        return fail(why, ERR_MALFORMED, "%zu bytes follow the message", (size_t)(r.end - r.p));
    return ERR_OK;
}
