/* vectors.h - reading the published vector files: whole files, hex, JSON members. */
#ifndef TESTS_PROTO_VECTORS_H
#define TESTS_PROTO_VECTORS_H

#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

/* The bytes of a file and a NUL after them; fails the test when it cannot be read. */
static inline struct slice file_read(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("cannot open %s", path);
    fseek(f, 0, SEEK_END);
    long n = ftell(f);
    rewind(f);
    uint8_t *p = calloc(1, (size_t)n + 1);
    if (!p || fread(p, 1, (size_t)n, f) != (size_t)n) fail_msg("cannot read %s", path);
    fclose(f);
    return slice_of(p, (size_t)n);
}

static inline struct json_doc *file_json(const char *path)
{
    struct slice text = file_read(path);
    struct json_doc *doc = NULL;
    struct why why = { "" };
    if (json_parse(&doc, text, path, &why)) fail_msg("%s", why.text);
    free((void *)text.p);
    return doc;
}

static inline int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Hex to bytes; returns how many, and fails the test on anything else than hex. */
static inline size_t hex_bytes(uint8_t *out, size_t cap, struct slice hex)
{
    if (hex.n % 2 || hex.n / 2 > cap) fail_msg("hex of %zu digits for %zu bytes", hex.n, cap);
    for (size_t i = 0; i < hex.n; i += 2) {
        int hi = hex_digit(hex.p[i]), lo = hex_digit(hex.p[i + 1]);
        if (hi < 0 || lo < 0) fail_msg("not hex: %.*s", (int)hex.n, (const char *)hex.p);
        out[i / 2] = (uint8_t)(hi << 4 | lo);
    }
    return hex.n / 2;
}

/* The member as bytes on the heap (at least one is allocated); the empty slice when missing. */
static inline struct slice member_bytes(const struct json *v, const char *name)
{
    const struct json *m = json_get(v, name);
    if (!m || m->type != JSON_STRING) return slice_of(NULL, 0);
    uint8_t *p = calloc(1, m->text.n / 2 + 1);
    return slice_of(p, hex_bytes(p, m->text.n / 2, m->text));
}

#endif
