#include "proto/hearsay.h"

#include "proto/identity.h"

/* The part of an address that one person may own whole; returns its length. */
static uint8_t net_of(uint8_t net[16], struct slice addr)
{
    size_t n = addr.n == ADDR_MIN ? 4 : addr.n == ADDR_MAX ? 16 : 0;

    if (n && !addr_is_private(addr) && !addr_is_loopback(addr)) n = n == 4 ? 2 : 4;
    memset(net, 0, 16);
    if (n) memcpy(net, addr.p, n);
    return (uint8_t)n;
}

static bool is_recent(uint64_t at_ms, uint64_t now_ms)
{
    return at_ms && now_ms - at_ms < HEARSAY_MS;
}

void hearsay_prove(struct hearsay *h, uint64_t now_ms)
{
    h->proven_ms = now_ms ? now_ms : 1;
}

/* The network's own place, else the one that was told longest ago. */
void hearsay_tell(struct hearsay *h, struct slice addr, uint64_t now_ms)
{
    uint8_t net[16];
    uint8_t n = net_of(net, addr);
    int at = h->told[1].at_ms < h->told[0].at_ms;

    if (!n) return;
    for (int i = 0; i < 2; i++)
        if (h->told[i].n == n && memcmp(h->told[i].net, net, 16) == 0) at = i;
    memcpy(h->told[at].net, net, 16);
    h->told[at].n = n;
    h->told[at].at_ms = now_ms ? now_ms : 1;
}

bool hearsay_may_pass(const struct hearsay *h, uint64_t now_ms)
{
    return is_recent(h->proven_ms, now_ms) ||
           (is_recent(h->told[0].at_ms, now_ms) && is_recent(h->told[1].at_ms, now_ms));
}
