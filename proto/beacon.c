#include "proto/beacon.h"

#include <sodium.h>
#include <stdlib.h>

static const uint8_t MAGIC[4] = { 'S', 'W', 'R', 'B' };
enum { VERSION = 1 };

/* Where the fields are. */
enum {
    AT_VERSION = 4,
    AT_FLAGS = 5,
    AT_PORT = 6,
    AT_TAG = 8,
    AT_ID = 16,
    AT_INSTANCE = AT_ID + ID_BYTES,
    AT_MAC = AT_INSTANCE + INSTANCE_BYTES,
    MAC_BYTES = BEACON_BYTES - AT_MAC,
};

void beacon_key_of(struct beacon_key *out, const struct swarm_key *k)
{
    swarm_key_tag(out->tag, k);
    crypto_kdf_derive_from_key(out->mac, sizeof out->mac, 2, "swrm-lan", k->b);
}

static void mac_of(uint8_t out[MAC_BYTES], const uint8_t *bytes, const struct beacon_key *k)
{
    if (crypto_generichash(out, MAC_BYTES, bytes, AT_MAC, k->mac, sizeof k->mac)) abort();
}

void beacon_write(uint8_t out[BEACON_BYTES], const struct beacon *b, const struct beacon_key *k)
{
    memcpy(out, MAGIC, sizeof MAGIC);
    out[AT_VERSION] = VERSION;
    out[AT_FLAGS] = 0;
    out[AT_PORT] = (uint8_t)(b->port >> 8);
    out[AT_PORT + 1] = (uint8_t)b->port;
    memcpy(out + AT_TAG, k->tag, sizeof k->tag);
    memcpy(out + AT_ID, b->id.b, ID_BYTES);
    memcpy(out + AT_INSTANCE, b->instance, INSTANCE_BYTES);
    mac_of(out + AT_MAC, out, k);
}

enum err beacon_read(struct beacon *out, struct slice bytes, const struct beacon_key *k)
{
    uint8_t mac[MAC_BYTES];
    const uint8_t *p = bytes.p;

    if (bytes.n < BEACON_BYTES || bytes.n > BEACON_MAX || memcmp(p, MAGIC, sizeof MAGIC) != 0)
        return ERR_MALFORMED;
    if (p[AT_VERSION] != VERSION) return ERR_UNSUPPORTED;
    if (bytes.n != BEACON_BYTES) return ERR_MALFORMED;
    if (memcmp(p + AT_TAG, k->tag, sizeof k->tag) != 0) return ERR_DENIED;
    mac_of(mac, p, k);
    if (sodium_memcmp(mac, p + AT_MAC, MAC_BYTES) != 0) return ERR_AUTH;

    out->port = (uint16_t)(p[AT_PORT] << 8 | p[AT_PORT + 1]);
    if (out->port == 0 || p[AT_FLAGS] != 0) return ERR_MALFORMED;
    memcpy(out->id.b, p + AT_ID, ID_BYTES);
    memcpy(out->instance, p + AT_INSTANCE, INSTANCE_BYTES);
    return ERR_OK;
}
