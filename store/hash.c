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

_Static_assert(sizeof(crypto_generichash_blake2b_state) <= sizeof(struct hasher), "libsodium's");

static crypto_generichash_blake2b_state *state_of(struct hasher *h)
{
    return (crypto_generichash_blake2b_state *)(void *)h->state;
}

void hasher_init(struct hasher *h)
{
    crypto_generichash_blake2b_init(state_of(h), NULL, 0, HASH_BYTES);
}

void hasher_add(struct hasher *h, struct slice s)
{
    crypto_generichash_blake2b_update(state_of(h), s.p, s.n);
}

struct hash hasher_end(struct hasher *h)
{
    struct hash out;
    crypto_generichash_blake2b_final(state_of(h), out.b, sizeof out.b);
    return out;
}

void hash_text(char out[HASH_TEXT], const struct hash *h)
{
    sodium_bin2hex(out, HASH_TEXT, h->b, HASH_BYTES);
}

bool hash_parse(struct hash *h, const char *text)
{
    size_t n;
    const char *end;

    return strlen(text) == HASH_TEXT - 1 &&
           sodium_hex2bin(h->b, HASH_BYTES, text, HASH_TEXT - 1, NULL, &n, &end) == 0 &&
           n == HASH_BYTES && *end == 0;
}
