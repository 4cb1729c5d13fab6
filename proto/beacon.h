/* beacon.h - what a node shouts on its own network, so that others of its swarm find it.
 *
 *     "SWRB"  version 1  flags 0  port u16  swarm tag 8  id 32  instance 8  MAC 16     (72 bytes)
 *
 * Numbers are big endian.  The MAC is BLAKE2b, keyed with subkey 2 of the swarm key, over all
 * before it: who does not hold the swarm key cannot make one.  Anyone can repeat one, from any
 * address, so a beacon is a hint and no proof: the handshake that follows proves the id.  The port
 * is that of the sender's TCP listener; the address is the one the datagram came from. */
#ifndef PROTO_BEACON_H
#define PROTO_BEACON_H

#include "proto/identity.h"

enum { BEACON_BYTES = 72, BEACON_MAX = 512, INSTANCE_BYTES = 8 };

struct beacon {
    struct node_id id;
    uint16_t port;                    /* never 0 */
    uint8_t instance[INSTANCE_BYTES]; /* random, of this run of the program */
};

/* What is derived from a swarm key; wipe it with explicit_bzero. */
struct beacon_key {
    uint8_t tag[8], mac[32];
};
void beacon_key_of(struct beacon_key *out, const struct swarm_key *k);

void beacon_write(uint8_t out[BEACON_BYTES], const struct beacon *b, const struct beacon_key *k);

/* ERR_MALFORMED: no beacon; ERR_UNSUPPORTED: of a later version (longer ones, up to BEACON_MAX, are
 * kept for those); ERR_DENIED: of another swarm; ERR_AUTH: the MAC is wrong. */
MUST_CHECK enum err beacon_read(struct beacon *out, struct slice bytes, const struct beacon_key *k);

#endif
