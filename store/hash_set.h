/* hash_set.h - which hashes were seen. */
#ifndef STORE_HASH_SET_H
#define STORE_HASH_SET_H

#include "base/hash.h"
#include "store/manifest.h"

/* Zero-initialize, then hash_set_init; the slots are keyed at run time, so that nobody can make
 * tiles that all meet in one. */
struct hash_set {
    struct hash *slot; /* owned; [cap], a power of two */
    bool *used;        /* owned; [cap] */
    size_t n, cap;
    struct hash_key key;
};

MUST_CHECK enum err hash_set_init(struct hash_set *s);
void hash_set_fini(struct hash_set *s);
/* *fresh: it was not there before; NULL is fine.  ERR_NOMEM. */
MUST_CHECK enum err hash_set_add(struct hash_set *s, const struct hash *h, bool *fresh);
bool hash_set_has(const struct hash_set *s, const struct hash *h);

#endif
