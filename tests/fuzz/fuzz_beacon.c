/* A datagram from anyone on the network is read or refused; what is read would be written the same.
 * Almost no input has the right MAC, so a beacon of our own is made of it, too, and read back. */
#include "proto/beacon.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { LEAST = 2 + ID_BYTES + INSTANCE_BYTES };

static void check_same(struct slice bytes, const struct beacon_key *k)
{
    struct beacon b;
    uint8_t again[BEACON_BYTES];

    if (beacon_read(&b, bytes, k)) return;
    beacon_write(again, &b, k);
    if (bytes.n != sizeof again || memcmp(again, bytes.p, sizeof again) != 0) abort();
}

static void check_ours(const uint8_t *data, const struct beacon_key *k)
{
    struct beacon b = { .port = (uint16_t)(data[0] << 8 | data[1]) }, got;
    uint8_t ours[BEACON_BYTES];

    memcpy(b.id.b, data + 2, ID_BYTES);
    memcpy(b.instance, data + 2 + ID_BYTES, INSTANCE_BYTES);
    beacon_write(ours, &b, k);
    enum err e = beacon_read(&got, slice_of(ours, sizeof ours), k);
    if (e != (b.port ? ERR_OK : ERR_MALFORMED)) abort();
    if (!e && !node_id_equal(&got.id, &b.id)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct beacon_key k;

    if (proto_init()) abort();
    beacon_key_of(&k, swarm_key_public());
    check_same(slice_of(data, n), &k);
    if (n >= LEAST) check_ours(data, &k);
    return 0;
}
