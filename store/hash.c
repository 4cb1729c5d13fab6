/* The only file of store/ that knows libsodium. */
#include "store/manifest.h"

#include <sodium.h>

enum err hash_init(void)
{
    return sodium_init() < 0 ? ERR_UNSUPPORTED : ERR_OK;
}

struct hash hash_of(struct slice s)
{
    struct hash h;
    crypto_generichash_blake2b(h.b, sizeof h.b, s.p, s.n, NULL, 0);
    return h;
}
