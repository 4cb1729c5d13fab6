#include "net/net_impl.h"

/* Token buckets against strangers who knock without end: each knock costs us a failed decryption
 * (6 us) or, with the swarm key, four scalar multiplications (265 us).  Rates as WireGuard's: 20 a
 * second with a burst of 5 for one address; 200 a second for all keeps strangers below 5 % of a
 * core.  Loopback is exempt: whoever can open sockets here has better ways to waste the processor.
 */
enum { ADDR_PER_S = 20, ADDR_BURST = 5, ALL_PER_S = 200, ALL_BURST = 64 };

static size_t key_of(uint8_t key[8], struct slice addr)
{
    size_t n = addr.n == 18 ? 8 : addr.n == 6 ? 4 : 0;
    memset(key, 0, 8);
    if (n) memcpy(key, addr.p, n);
    return n;
}

bool guard_same(struct slice a, struct slice b)
{
    uint8_t ka[8], kb[8];
    return key_of(ka, a) == key_of(kb, b) && memcmp(ka, kb, 8) == 0;
}

/* The row of a key; a new one takes the place of the row that was quiet longest. */
static struct knocker *row_of(struct guard *g, const uint8_t key[8], size_t n, uint64_t now)
{
    struct knocker *oldest = &g->row[0];
    for (int i = 0; i < GUARD_ROWS; i++) {
        struct knocker *b = &g->row[i];
        if (b->key_n == n && memcmp(b->key, key, 8) == 0) return b;
        if (b->tokens.at_ms < oldest->tokens.at_ms) oldest = b;
    }
    *oldest = (struct knocker){ .key_n = (uint8_t)n, .tokens = { ADDR_BURST, now } };
    memcpy(oldest->key, key, 8);
    return oldest;
}

bool guard_allows(struct guard *g, struct slice addr, uint64_t now)
{
    uint8_t key[8];
    size_t n = key_of(key, addr);

    if (addr_is_loopback(addr)) return true;
    if (!g->all.key_n) g->all = (struct knocker){ .key_n = 1, .tokens = { ALL_BURST, now } };
    return bucket_take(&row_of(g, key, n, now)->tokens, now, ADDR_PER_S / 1000.0, ADDR_BURST) &&
           bucket_take(&g->all.tokens, now, ALL_PER_S / 1000.0, ALL_BURST);
}
