/* Messages: what decodes has to encode, within its bound and limit, to bytes that decode to the
 * same. */
#include "proto/codec.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static uint8_t *encode(const struct msg *m, size_t *n)
{
    uint8_t *p = malloc(msg_bound(m));

    /* What we decoded is within its type's limit without its unknown keys, too. */
    if (!p || msg_encode(m, p, msg_bound(m), n)) abort();
    return p;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct msg m, again;
    struct slice bytes = slice_of(data, n);
    struct why why;
    size_t len, len2;

    uint32_t limit = msg_limit(bytes);
    enum err e = msg_decode(&m, bytes, &why);
    if (!e && (limit == 0 || n > limit)) abort();
    if (e) return 0;

    uint8_t *p = encode(&m, &len);
    if (len > limit || msg_decode(&again, slice_of(p, len), &why)) abort();
    uint8_t *q = encode(&again, &len2);
    if (again.type != m.type || again.rid != m.rid) abort();
    if (len2 != len || memcmp(p, q, len) != 0) abort();
    free(p);
    free(q);
    return 0;
}
