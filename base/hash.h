/* hash.h - a keyed hash for tables whose keys come from files and peers.
 *
 * With a key drawn at run time nobody can write a file whose keys all meet in one slot.  Not for
 * signatures or content: those use BLAKE2b. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include "base/slice.h"

#include <sys/random.h>

struct hash_key {
    uint64_t k[2];
};

/* false: the system has no random numbers to give. */
static inline bool hash_key_draw(struct hash_key *key)
{
    if (getrandom(key->k, sizeof key->k, 0) != sizeof key->k) return false;
    key->k[1] |= 1;
    return true;
}

static inline uint64_t hash_mix(uint64_t a, uint64_t b)
{
    unsigned __int128 m = (unsigned __int128)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static inline uint64_t hash_u64(uint64_t v, const struct hash_key *key)
{
    return hash_mix(hash_mix(v ^ key->k[0], key->k[1]) + key->k[0], 0x9e3779b97f4a7c15u);
}

static inline uint64_t hash_bytes(struct slice s, const struct hash_key *key)
{
    uint64_t h = key->k[0] ^ s.n;
    size_t i = 0;
    for (; i + 8 <= s.n; i += 8) {
        uint64_t v;
        memcpy(&v, s.p + i, 8);
        h = hash_mix(h ^ v, key->k[1]) + key->k[0];
    }
    uint64_t v = 0;
    for (unsigned shift = 0; i < s.n; i++, shift += 8) v |= (uint64_t)s.p[i] << shift;
    h = hash_mix(h ^ v, key->k[1]) + key->k[0];
    return hash_mix(h, 0x9e3779b97f4a7c15u);
}

#endif
