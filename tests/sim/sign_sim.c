/* sign_sim.c - signatures without their price: identity_sign and identity_verify of
 * proto/identity.c are wrapped by the linker.  In one seed of 16 they are the real ones; else a
 * signature is a keyed hash that only this file can make, 100 times as fast, so that a forged or
 * changed record fails as it would.  Ed25519 itself is proven by tests/proto. */
#include "tests/sim/sign_sim.h"
#include "proto/identity.h"
#include "tests/sim/world.h"

#include <string.h>

static bool is_real;
static uint64_t secret;

void sign_sim_begin(uint64_t seed)
{
    is_real = seed % 16 == 0;
    secret = mix(seed, 99);
}

void __real_identity_sign(const struct identity *me, const char *domain, struct slice bytes,
                          uint8_t sig[SIG_BYTES]);
bool __real_identity_verify(const struct node_id *id, const char *domain, struct slice bytes,
                            const uint8_t sig[SIG_BYTES]);
void __wrap_identity_sign(const struct identity *me, const char *domain, struct slice bytes,
                          uint8_t sig[SIG_BYTES]);
bool __wrap_identity_verify(const struct node_id *id, const char *domain, struct slice bytes,
                            const uint8_t sig[SIG_BYTES]);

static uint64_t add(uint64_t h, const void *p, size_t n)
{
    const uint8_t *b = p;
    for (; n >= 8; b += 8, n -= 8) {
        uint64_t x;
        memcpy(&x, b, 8);
        h = mix(h, x);
    }
    uint64_t rest = n;
    memcpy(&rest, b, n);
    return mix(h, rest + ((uint64_t)n << 56));
}

static void make(const struct node_id *id, const char *domain, struct slice bytes,
                 uint8_t sig[SIG_BYTES])
{
    uint64_t h = add(secret, id->b, ID_BYTES);
    h = add(h, domain, strlen(domain));
    h = add(h, bytes.p, bytes.n);
    for (size_t i = 0; i < SIG_BYTES; i += 8) {
        h = mix(h, i);
        memcpy(sig + i, &h, 8);
    }
}

void __wrap_identity_sign(const struct identity *me, const char *domain, struct slice bytes,
                          uint8_t sig[SIG_BYTES])
{
    if (is_real)
        __real_identity_sign(me, domain, bytes, sig);
    else
        make(&me->id, domain, bytes, sig);
}

bool __wrap_identity_verify(const struct node_id *id, const char *domain, struct slice bytes,
                            const uint8_t sig[SIG_BYTES])
{
    uint8_t right[SIG_BYTES];
    if (is_real) return __real_identity_verify(id, domain, bytes, sig);
    make(id, domain, bytes, right);
    return memcmp(right, sig, SIG_BYTES) == 0;
}
