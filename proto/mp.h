/* mp.h - MessagePack as we allow it: one validating pass, then a bounded cursor.
 *
 * msgpack-c's unpacker allocates what a count claims before it has seen one element (5 bytes ask
 * it for 128 GiB), and accepts duplicate keys, broken UTF-8, NaN and trailing bytes.  So bytes from
 * outside go through mp_check first: one pass over them, no allocation, at most MP_DEPTH levels.
 * The cursor then reads values in place; it checks every length again, so it is safe on any bytes.
 * Writing is msgpack-c's, into a fixed buffer (codec.c).
 *
 * Allowed: nil, booleans, integers, finite floats, strings (UTF-8 without NUL), binaries, arrays,
 * maps whose keys are unique strings of at most MP_KEY_MAX bytes.  Refused: ext types and 0xc1. */
#ifndef PROTO_MP_H
#define PROTO_MP_H

#include "base/err.h"
#include "base/slice.h"

enum {
    MP_DEPTH = 6,     /* arrays and maps inside one another */
    MP_KEY_MAX = 16,  /* bytes of a map's key */
    MP_KEYS_MAX = 64, /* keys of all maps that are open at once */
    MP_OBJECTS = 512, /* values in one message, keys included */
};

/* Refuse bytes that are not exactly one allowed object of at most max_objects values.
 *   ERR_MALFORMED   not MessagePack, cut short, something follows, or a kind we do not allow
 *   ERR_RANGE       too deep, too many values or keys, a key too long, a float not finite */
MUST_CHECK enum err mp_check(struct slice bytes, uint32_t max_objects, struct why *why);

/* No NUL, no overlong form, no surrogate, nothing past U+10FFFF. */
bool utf8_is_valid(struct slice s);

enum mp_kind {
    MP_NIL,
    MP_BOOL,
    MP_UINT,
    MP_NEGATIVE, /* an integer below zero */
    MP_FLOAT32,
    MP_FLOAT64,
    MP_STR,
    MP_BIN,
    MP_ARRAY,
    MP_MAP,
};

/* One header, and the bytes of a string or binary. */
struct mp_item {
    enum mp_kind kind;
    bool minimal; /* no shorter encoding of this value exists */
    uint64_t u;   /* UINT; NEGATIVE in two's complement; BOOL 0 or 1; ARRAY elements; MAP pairs */
    double d;     /* FLOAT32, FLOAT64 */
    struct slice bytes; /* STR, BIN; borrowed */
};

struct mp_reader {
    const uint8_t *p, *end;
    bool canonical; /* refuse encodings that are not minimal */
};

static inline struct mp_reader mp_open(struct slice bytes, bool canonical)
{
    return (struct mp_reader){ bytes.p, bytes.n ? bytes.p + bytes.n : bytes.p, canonical };
}

/* All return ERR_MALFORMED at the end of the bytes and on another kind than the one asked for;
 * the reader then stays where it was. */
MUST_CHECK enum err mp_next(struct mp_reader *r, struct mp_item *out);
MUST_CHECK enum err mp_uint(struct mp_reader *r, uint64_t *out); /* ERR_RANGE: below zero */
MUST_CHECK enum err mp_double(struct mp_reader *r, double *out); /* ERR_RANGE: not finite, or -0 */
MUST_CHECK enum err mp_str(struct mp_reader *r, struct slice *out);
MUST_CHECK enum err mp_bin(struct mp_reader *r, struct slice *out);
MUST_CHECK enum err mp_array(struct mp_reader *r, uint32_t *n);
MUST_CHECK enum err mp_map(struct mp_reader *r, uint32_t *n);
/* Pass over one whole value. */
MUST_CHECK enum err mp_skip(struct mp_reader *r);

#endif
