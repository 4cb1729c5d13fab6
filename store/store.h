/* store.h - tiles and manifests in one LMDB environment; the only door to LMDB.
 *
 *   tiles    BLAKE2b-256 of the bytes -> the bytes (weights, tile tables, tokenizer pieces)
 *   models   model id -> manifest body
 *   names    name, as in "glm-4.5-air:q40" -> model id, publisher key, signature
 *   pins     what this machine decided to hold (care.h)
 *   notes    what a converter remembers, so that a second run need not repeat the first
 *
 * Several processes may read one store, one writes.  Never WRITEMAP or NOSYNC: a full disk is a
 * clean error and an intact store.  A process opens a store once at a time: LMDB's locks belong to
 * the process.
 *
 * Tile pointers stay valid while the store is open, because one read transaction is held.  A reader
 * keeps the snapshot it opened: whatever others write or remove, LMDB uses none of its pages again
 * before it has closed.  A writer's snapshot moves on with each commit; its pointers stay good
 * because a tile that is not removed does not move (tiles of a page or more have pages of their
 * own, shorter ones are copied), and because a handle that has lent pointers does not remove
 * (care.h has the rest of that).
 *
 * What a file says is not believed: before a store is opened a child process walks its pages
 * (pages.c), lengths are checked here, and bytes by their hashes. */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "arch/parts.h"
#include "store/manifest.h"

struct store;

enum store_mode { STORE_READ, STORE_WRITE };

/* Open the store in directory dir; STORE_WRITE creates it (0700) and takes the writer's lock:
 * ERR_BUSY with why when another process writes. */
MUST_CHECK enum err store_open(struct store **out, const char *dir, enum store_mode mode,
                               struct why *why);
/* As above, with map_bytes of address space at first instead of STORE_MAP_BYTES.  The map doubles
 * when it is full, unless tile pointers have been handed out by this handle. */
#define STORE_MAP_BYTES (UINT64_C(1) << 40)
MUST_CHECK enum err store_open_map(struct store **out, const char *dir, enum store_mode mode,
                                   uint64_t map_bytes, struct why *why);
void store_close(struct store *s); /* what is not committed is dropped; NULL is fine */

/* Bytes that the file system under the store still has for us, and how large it is. */
uint64_t store_room(const struct store *s);
uint64_t store_disk(const struct store *s);
/* Bytes that a value of n bytes takes in the file, whole pages. */
uint64_t store_value_bytes(uint64_t n);

/* The bytes of a tile, borrowed until store_close (shorter than a page: until the next commit);
 * ERR_NOTFOUND. */
MUST_CHECK enum err store_tile(struct store *s, const struct hash *h, struct slice *out);
bool store_has(struct store *s, const struct hash *h);

/* Add a tile; its hash is computed and returned.  Durable after store_commit (called by itself
 * every few tiles).  ERR_DISKFULL, ERR_IO: nothing already committed is lost. */
MUST_CHECK enum err store_put(struct store *s, struct slice bytes, struct hash *out,
                              struct why *why);
/* As above for a caller that has just computed the hash (on another thread). */
MUST_CHECK enum err store_put_hashed(struct store *s, struct slice bytes, const struct hash *h,
                                     struct why *why);
MUST_CHECK enum err store_commit(struct store *s, struct why *why);

/* A note under a key, written with the tiles that were put before it: never without them. */
MUST_CHECK enum err store_put_note(struct store *s, const struct hash *key, struct slice bytes,
                                   struct why *why);
/* Borrowed until the next commit; ERR_NOTFOUND. */
MUST_CHECK enum err store_note(struct store *s, const struct hash *key, struct slice *out);

/* A name's entry.  sig signs "swarm-model-v1\0" ‖ id ‖ name with publisher's Ed25519 key; made and
 * checked by callers (proto/identity.h). */
struct store_name {
    char name[64];
    struct hash id;
    uint8_t publisher[32];
    uint8_t sig[64];
};
/* A name is 1 to 63 letters, digits and "._-:/", beginning with a letter or digit. */
bool store_name_ok(const char *name);
/* Store a manifest and its name, at once and durably; name->id must be the body's hash, and the
 * name's earlier entry is replaced.  name NULL: the manifest alone. */
MUST_CHECK enum err store_put_model(struct store *s, struct slice body,
                                    const struct store_name *name, struct why *why);
/* The entry of exactly this name; ERR_NOTFOUND. */
MUST_CHECK enum err store_name_entry(struct store *s, const char *name, struct store_name *out);
/* Look a model up by name or by its id in hex; name NULL or "" means the only one in the store.
 * ERR_NOTFOUND with why listing the names there are. */
MUST_CHECK enum err store_find_model(struct store *s, const char *name, struct store_name *entry,
                                     struct manifest *out, struct why *why);
/* The same without reading the manifest; an id in hex is taken as it is. */
MUST_CHECK enum err store_find_id(struct store *s, const char *name, struct store_name *entry,
                                  struct why *why);
/* Call f for every name; stops when f returns false. */
MUST_CHECK enum err store_each_name(struct store *s,
                                    bool (*f)(void *arg, const struct store_name *n), void *arg,
                                    struct why *why);

/* Is every tile of layer (or ARCH_ENDS, with tokenizer) present? */
bool store_holds_layer(struct store *s, const struct manifest *m, uint32_t layer);
/* Is every tile of these parts of layer present? */
bool store_holds_parts(struct store *s, const struct manifest *m, uint32_t layer,
                       const struct parts *parts);

/* Tile pointers of a layer (or ARCH_ENDS), in table order; p [manifest_n_tiles].  Values under
 * 4 KiB are copied into memory that store_close frees, so that padding reads stay inside.
 * Lengths are checked against the architecture: ERR_MALFORMED with why.  only: these parts of the
 * layer, the pointers of others are NULL; NULL: all of it. */
MUST_CHECK enum err store_layer_tiles(struct store *s, const struct manifest *m, uint32_t layer,
                                      const struct parts *only, const uint8_t **p, struct why *why);

/* The tokenizer.json of a model, owned by the caller (free); ERR_NOTFOUND: it has none. */
MUST_CHECK enum err store_tokenizer(struct store *s, const struct manifest *m, uint8_t **out,
                                    size_t *n, struct why *why);

#endif
