/* hearsay.h - what a node may pass on about others in a swarm that anyone can enter.
 *
 * Whoever can make keys can sign records of any number of nodes that do not exist.  So a record is
 * passed on only when its node has shown itself, or when two others who are not one person's tell
 * of it:
 *
 *     proven      we made a handshake with that id in the last HEARSAY_MS
 *     twice told  two peers of different networks (IPv4 /16, IPv6 /32; a private address counts by
 *                 itself) had it in that time
 *
 * Then a lie ends at the first honest node, while news of real nodes still reaches all as long as
 * links are many (each node keeps at least four and makes more to prove what it hears once). */
#ifndef PROTO_HEARSAY_H
#define PROTO_HEARSAY_H

#include "base/slice.h"

enum { HEARSAY_MS = 900000 };

struct hearsay {
    uint64_t proven_ms; /* of the last handshake; 0: none */
    struct {
        uint8_t net[16], n; /* n 0: free */
        uint64_t at_ms;
    } told[2];
};

void hearsay_prove(struct hearsay *h, uint64_t now_ms);
/* A peer at addr (as on the wire) told of it. */
void hearsay_tell(struct hearsay *h, struct slice addr, uint64_t now_ms);
bool hearsay_may_pass(const struct hearsay *h, uint64_t now_ms);

#endif
