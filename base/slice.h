/* slice.h - some bytes that belong to someone else. */
#ifndef BASE_SLICE_H
#define BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Borrowed bytes; the field that holds one says until when.  p may be NULL when n is 0. */
struct slice {
    const uint8_t *p;
    size_t n;
};

static inline struct slice slice_of(const void *p, size_t n)
{
    return (struct slice){ (const uint8_t *)p, n };
}

static inline struct slice slice_str(const char *s)
{
    return slice_of(s, strlen(s));
}

static inline bool slice_is(struct slice s, const char *text)
{
    return s.n == strlen(text) && (s.n == 0 || memcmp(s.p, text, s.n) == 0);
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

#endif
