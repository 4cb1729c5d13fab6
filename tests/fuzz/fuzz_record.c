/* Announcements: a body that decodes is canonical, so encoding it gives the same bytes; a directory
 * stands any record, and any body that is properly signed. */
#include "proto/directory.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { NOW = 1700000000 };

static void check_canonical(struct slice body)
{
    static struct record_body b;
    uint8_t again[RECORD_BYTES_MAX];
    size_t n;

    if (record_body_decode(&b, body, NULL)) return;
    if (record_body_encode(&b, again, sizeof again, &n)) abort();
    if (n != body.n || memcmp(again, body.p, n) != 0) abort();
}

static void offer(struct directory *d, struct slice record)
{
    struct why why;
    bool news;
    uint32_t before = directory_n(d);
    enum err e = directory_offer(d, record, NOW, &news, &why);

    if (news != (e == ERR_OK)) abort();
    if (e && e != ERR_DENIED && directory_n(d) != before) abort();
    for (uint32_t i = 0; i < directory_n(d); i++) {
        const struct entry *x = directory_nth(d, i);
        if (directory_find(d, &x->id) != x) abort();
        check_canonical(slice_of(x->record.p + SIG_BYTES, x->record.n - SIG_BYTES));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const uint8_t seed[32] = { 'f', 'u', 'z', 'z' };
    static struct record_body b;
    struct identity me;
    struct directory *d;
    uint8_t record[SIG_BYTES + RECORD_BYTES_MAX];

    if (proto_init() || directory_open(&d, swarm_key_public())) abort();
    offer(d, slice_of(data, n));
    check_canonical(slice_of(data, n));
    if (n <= RECORD_BYTES_MAX && !record_body_decode(&b, slice_of(data, n), NULL)) {
        /* The body as if this program's node had said it. */
        identity_from_seed(&me, seed);
        memcpy(record + SIG_BYTES, data, n);
        memcpy(record + SIG_BYTES + (b.id.p - data), me.id.b, ID_BYTES);
        record_sign(&me, swarm_key_public(), slice_of(record + SIG_BYTES, n), record);
        offer(d, slice_of(record, SIG_BYTES + n));
        directory_expire(d, UINT64_MAX);
        if (directory_n(d) != 0) abort();
    }
    directory_close(d);
    return 0;
}
