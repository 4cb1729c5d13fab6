/* asker.h - whom a request is from, behind the proxies that the gateway trusts.
 *
 * A proxy says for whom it asks in X-Forwarded-For, at the end of what its client claimed.  So the
 * list is read from its end, past trusted proxies, to the first address that is none; what stands
 * before it anybody could have written.  Without trusted proxies the header says nothing.
 *
 * An IPv6 address counts by its /64, for one household has that many of them. */
#ifndef GATEWAY_ASKER_H
#define GATEWAY_ASKER_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum { ASKER_BYTES = 48, PROXIES_MAX = 16 };

/* Addresses, as one prefix; IPv4 as it is mapped into IPv6. */
struct proxy_net {
    uint8_t address[16];
    unsigned bits; /* of it that count */
};

/* "10.0.0.1", "10.0.0.0/8", "fd00::/8".  ERR_MALFORMED with why. */
MUST_CHECK enum err proxy_parse(struct proxy_net *out, const char *text, struct why *why);

/* The name of him whose connection comes from peer, with X-Forwarded-For (empty: there is none).
 * Addresses in the header may have ports. */
void asker_find(char out[ASKER_BYTES], const char *peer, const char *forwarded,
                const struct proxy_net *trusted, unsigned n);

#endif
