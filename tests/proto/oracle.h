/* oracle.h - msgpack-c as the second opinion of the proto tests.
 *
 * Only bytes that mp_check has accepted, or that a test wrote itself, may come here. */
#ifndef TESTS_PROTO_ORACLE_H
#define TESTS_PROTO_ORACLE_H

#include "proto/mp.h"

#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>

/* A stream of test numbers, the same for the same seed (splitmix64). */
static inline uint64_t test_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static inline bool same_bytes(struct slice a, const char *p, uint32_t n)
{
    return a.n == n && (n == 0 || memcmp(a.p, p, n) == 0);
}

/* Does the cursor read the value that msgpack-c found? */
static inline bool oracle_agrees(struct mp_reader *r, const msgpack_object *o)
{
    struct mp_item it;

    if (mp_next(r, &it)) return false;
    switch (o->type) {
    case MSGPACK_OBJECT_NIL: return it.kind == MP_NIL;
    case MSGPACK_OBJECT_BOOLEAN: return it.kind == MP_BOOL && it.u == o->via.boolean;
    case MSGPACK_OBJECT_POSITIVE_INTEGER: return it.kind == MP_UINT && it.u == o->via.u64;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        return it.kind == MP_NEGATIVE && (int64_t)it.u == o->via.i64;
    case MSGPACK_OBJECT_FLOAT32:
        return it.kind == MP_FLOAT32 && !memcmp(&it.d, &o->via.f64, sizeof it.d);
    case MSGPACK_OBJECT_FLOAT64:
        return it.kind == MP_FLOAT64 && !memcmp(&it.d, &o->via.f64, sizeof it.d);
    case MSGPACK_OBJECT_STR:
        return it.kind == MP_STR && same_bytes(it.bytes, o->via.str.ptr, o->via.str.size);
    case MSGPACK_OBJECT_BIN:
        return it.kind == MP_BIN && same_bytes(it.bytes, o->via.bin.ptr, o->via.bin.size);
    case MSGPACK_OBJECT_ARRAY:
        if (it.kind != MP_ARRAY || it.u != o->via.array.size) return false;
        for (uint32_t i = 0; i < o->via.array.size; i++)
            if (!oracle_agrees(r, &o->via.array.ptr[i])) return false;
        return true;
    case MSGPACK_OBJECT_MAP:
        if (it.kind != MP_MAP || it.u != o->via.map.size) return false;
        for (uint32_t i = 0; i < o->via.map.size; i++)
            if (!oracle_agrees(r, &o->via.map.ptr[i].key) ||
                !oracle_agrees(r, &o->via.map.ptr[i].val))
                return false;
        return true;
    case MSGPACK_OBJECT_EXT: return false;
    }
    return false;
}

/* msgpack-c takes all of bytes as one object, and the cursor reads the same values. */
static inline bool oracle_reads_the_same(struct slice bytes)
{
    msgpack_unpacked u;
    size_t at = 0;
    struct mp_reader r = mp_open(bytes, false);

    msgpack_unpacked_init(&u);
    bool same =
        msgpack_unpack_next(&u, (const char *)bytes.p, bytes.n, &at) == MSGPACK_UNPACK_SUCCESS &&
        at == bytes.n && oracle_agrees(&r, &u.data) && r.p == r.end;
    msgpack_unpacked_destroy(&u);
    return same;
}

/* msgpack-c, which writes the shortest form, writes these very bytes for what it reads in them. */
static inline bool oracle_writes_the_same(struct slice bytes)
{
    msgpack_unpacked u;
    msgpack_sbuffer sb;
    msgpack_packer pk;
    size_t at = 0;

    msgpack_unpacked_init(&u);
    msgpack_sbuffer_init(&sb);
    msgpack_packer_init(&pk, &sb, msgpack_sbuffer_write);
    bool same =
        msgpack_unpack_next(&u, (const char *)bytes.p, bytes.n, &at) == MSGPACK_UNPACK_SUCCESS &&
        !msgpack_pack_object(&pk, u.data) && same_bytes(bytes, sb.data, (uint32_t)sb.size);
    msgpack_sbuffer_destroy(&sb);
    msgpack_unpacked_destroy(&u);
    return same;
}

/* Bytes written as in "de-ad" or "dead"; the result is exactly n bytes of heap, so that a
 * sanitizer sees one read too far. */
static inline uint8_t *unhex(const char *text, size_t len, size_t *n)
{
    uint8_t *out = malloc(len / 2 + 1);
    unsigned v;

    *n = 0;
    if (!out) return NULL;
    for (size_t i = 0; i + 1 < len;) {
        if (text[i] == '-') {
            i++;
            continue;
        }
        char pair[3] = { text[i], text[i + 1], 0 };
        if (sscanf(pair, "%2x", &v) != 1) break;
        out[(*n)++] = (uint8_t)v;
        i += 2;
    }
    uint8_t *exact = malloc(*n ? *n : 1);
    if (exact) memcpy(exact, out, *n);
    free(out);
    return exact;
}

static inline struct slice read_all(const char *path)
{
    FILE *f = fopen(path, "rb");
    size_t cap = 4 << 20;
    uint8_t *p = malloc(cap);
    size_t n = f && p ? fread(p, 1, cap, f) : 0;

    if (f) fclose(f);
    return slice_of(p, n);
}

#endif
