/* store_impl.h - what store.c, tiles.c and models.c share; nobody else includes it. */
#ifndef STORE_STORE_IMPL_H
#define STORE_STORE_IMPL_H

#include "store/file.h"
#include "store/store.h"

#include <lmdb.h>

enum { STORE_READERS_MAX = 256 }; /* processes (and threads) that read one store at once */

enum db { DB_TILES, DB_MODELS, DB_NAMES_, DB_PINS, DB_NOTES, DB_COUNT };
extern const char *const store_db_names[DB_COUNT];

/* Something to write at the next commit: key, then value. */
struct item {
    struct item *next;
    enum db db;
    size_t key_n, n;
    uint8_t bytes[];
};

/* Small tiles copied out of the map, one block for a layer; freed by store_close. */
struct copies {
    struct copies *next;
    uint8_t bytes[];
};

struct store {
    /* set once by store_open */
    enum store_mode mode;
    char dir[FILE_PATH_MAX];
    int lock_fd; /* -1 when reading */
    MDB_env *env;
    MDB_dbi db[DB_COUNT];

    /* live state */
    MDB_txn *read;              /* held while the store is open; renewed by a commit */
    bool lent;                  /* pointers into the map are out: it must stay where it is */
    struct item *first, **last; /* owned; written by store_commit, in order */
    uint32_t n_pending;
    size_t pending_bytes;
    struct copies *copies; /* owned */
};

/* LMDB's codes in our words; doing is a word for the sentence. */
enum err store_mdb_err(struct store *s, int rc, const char *doing, struct why *why);

/* Queue a value; commits by itself when much has gathered. */
MUST_CHECK enum err store_add(struct store *s, enum db db, struct slice key, struct slice value,
                              struct why *why);
/* The value queued under key, or NULL. */
const struct item *store_pending(const struct store *s, enum db db, struct slice key);
/* The committed value under key, in the map; ERR_NOTFOUND. */
MUST_CHECK enum err store_get(struct store *s, enum db db, struct slice key, struct slice *out);

/* Run f in one write transaction, once more with a larger map when that was full; what it wrote is
 * durable when this returns, and seen by this handle.  f returns LMDB's codes. */
typedef int (*store_writer)(struct store *s, MDB_txn *txn, void *arg);
MUST_CHECK enum err store_write(struct store *s, store_writer f, void *arg, const char *doing,
                                struct why *why);

/* Can data.mdb, if there is one, be walked without harm?  A child process tries (pages.c);
 * ERR_MALFORMED. */
MUST_CHECK enum err store_check_pages(const struct store *s, struct why *why);
/* mdb_del of a tile; MDB_CORRUPTED where LMDB would believe a damaged page. */
int store_del_tile(struct store *s, MDB_txn *txn, const struct hash *hash);

/* The tile table of a layer, its length checked, its hash not; ERR_NOTFOUND with why. */
MUST_CHECK enum err store_table(struct store *s, const struct manifest *m, uint32_t layer,
                                struct slice *table, struct why *why);

/* Bytes of data.mdb that hold nothing: new values go there first. */
MUST_CHECK enum err store_free_bytes(struct store *s, uint64_t *bytes);

static inline struct slice hash_slice(const struct hash *h)
{
    return slice_of(h->b, HASH_BYTES);
}

#endif
