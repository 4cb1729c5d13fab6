/* Models and tiles taken out; care.h says what readers see meanwhile. */
#include "store/care.h"
#include "store/hash_set.h"
#include "store/store_impl.h"

#include <stdlib.h>

enum {
    BATCH = 256, /* tiles a transaction: their free pages are a list of at most half a megabyte */
};

static enum err may_remove(const struct store *s, struct why *why)
{
    if (s->mode != STORE_WRITE)
        return fail(why, ERR_DENIED, "store %s is open for reading", s->dir);
    if (s->lent) return fail(why, ERR_BUSY, "store %s: its tiles are in use here", s->dir);
    return ERR_OK;
}

/* --- what is used --- */

struct using_ {
    struct store *s;
    struct hash_set *set;
    const struct hash *but; /* not this model; NULL: all */
    struct manifest *m;     /* owned scratch */
    enum err err;
    struct why *why;
};

static bool use(void *arg, const struct tile_place *p, const struct hash *h)
{
    struct using_ *u = arg;

    (void)p;
    u->err = hash_set_add(u->set, h, NULL);
    return !u->err;
}

static void use_layer(struct using_ *u, uint32_t layer)
{
    struct tile_place p = { 0 };

    if (u->err || !use(u, &p, manifest_table(u->m, layer))) return;
    /* A layer whose table is not here has no tiles here either. */
    (void)!store_each_tile(u->s, u->m, layer, use, u);
}

static bool use_model(void *arg, const struct hash *id)
{
    struct using_ *u = arg;

    if (u->but && hash_equal(u->but, id)) return true;
    u->err = store_manifest(u->s, id, u->m, NULL, u->why);
    for (uint32_t l = 0; !u->err && l < arch_all_layers(&u->m->arch); l++) use_layer(u, l);
    if (!u->err) use_layer(u, ARCH_ENDS);
    for (uint32_t i = 0; !u->err && i < u->m->n_tokenizer; i++)
        u->err = hash_set_add(u->set, &u->m->tokenizer[i], NULL);
    return !u->err;
}

/* Every hash that a model other than `but` needs.  A damaged manifest is an error: what it needs is
 * not known. */
static enum err used_tiles(struct store *s, struct hash_set *set, const struct hash *but,
                           struct why *why)
{
    struct using_ u = { s, set, but, calloc(1, sizeof *u.m), ERR_OK, why };

    if (!u.m || hash_set_init(set)) {
        free(u.m);
        return fail(why, ERR_NOMEM, "out of memory");
    }
    enum err e = store_each_model(s, use_model, &u, why);
    free(u.m);
    if (!e) e = u.err;
    if (e) hash_set_fini(set);
    return e == ERR_NOMEM ? fail(why, e, "out of memory") : e;
}

/* --- deleting --- */

struct batch {
    struct store *s;
    const struct hash_set *keep;
    struct hash hash[BATCH];
    uint32_t n;
    struct store_removed *out;
    void (*progress)(void *arg, uint64_t done, uint64_t total);
    void *arg;
    uint64_t total;
    enum err err;
    struct why *why;
};

static int delete_batch(struct store *s, MDB_txn *txn, void *arg)
{
    struct batch *b = arg;
    int rc = 0;

    for (uint32_t i = 0; i < b->n && !rc; i++) {
        rc = store_del_tile(s, txn, &b->hash[i]);
        if (rc == MDB_NOTFOUND) rc = 0; /* twice in one model */
    }
    return rc;
}

static enum err flush(struct batch *b)
{
    if (!b->err && b->n) b->err = store_write(b->s, delete_batch, b, "removing tiles", b->why);
    b->n = 0;
    if (b->progress) b->progress(b->arg, b->out->bytes, b->total);
    return b->err;
}

static void drop(struct batch *b, const struct hash *h)
{
    struct slice v;

    if (b->err || store_get(b->s, DB_TILES, hash_slice(h), &v)) return;
    if (b->keep && hash_set_has(b->keep, h)) {
        b->out->shared++;
        return;
    }
    b->out->tiles++;
    b->out->bytes += v.n;
    b->hash[b->n++] = *h;
    if (b->n == BATCH) flush(b);
}

/* The tiles of a layer, then its table.  A copy of it: a short one lies in a page that it shares,
 * and such pages move when others in them are removed. */
static enum err drop_layer(struct batch *b, const struct manifest *m, uint32_t layer)
{
    struct slice table;

    if (store_table(b->s, m, layer, &table, NULL)) return b->err;
    uint8_t *copy = malloc(table.n);
    if (!copy) return b->err = fail(b->why, ERR_NOMEM, "out of memory");
    memcpy(copy, table.p, table.n);
    table.p = copy;
    for (uint32_t i = 0; i < table.n / HASH_BYTES && !b->err; i++) {
        struct hash h = table_hash(table, i);
        drop(b, &h);
    }
    free(copy);
    if (!flush(b)) drop(b, manifest_table(m, layer));
    return b->err;
}

/* --- a model --- */

static bool is_first_name(void *arg, const struct store_name *n)
{
    struct store_name *found = arg;

    if (!hash_equal(&found->id, &n->id)) return true;
    *found = *n;
    return false;
}

/* All names of the model, and its pin, in one transaction. */
static int delete_names(struct store *s, MDB_txn *txn, void *arg)
{
    const struct hash *id = arg;
    MDB_cursor *c;
    MDB_val k, v, pin = { HASH_BYTES, (void *)(uintptr_t)id->b };
    int rc = mdb_cursor_open(txn, s->db[DB_NAMES_], &c);

    if (rc) return rc;
    while (!(rc = mdb_cursor_get(c, &k, &v, MDB_NEXT))) {
        if (v.mv_size < HASH_BYTES || memcmp(v.mv_data, id->b, HASH_BYTES) != 0) continue;
        if ((rc = mdb_cursor_del(c, 0))) break;
    }
    mdb_cursor_close(c);
    if (rc == MDB_NOTFOUND) rc = mdb_del(txn, s->db[DB_PINS], &pin, NULL);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int delete_manifest(struct store *s, MDB_txn *txn, void *arg)
{
    const struct hash *id = arg;
    MDB_val k = { HASH_BYTES, (void *)(uintptr_t)id->b };

    return mdb_del(txn, s->db[DB_MODELS], &k, NULL);
}

static enum err check_pin(struct store *s, const struct hash *id, struct why *why)
{
    struct store_pin pin;
    struct store_name n = { .id = *id };

    if (store_pin(s, id, &pin) || store_pin_empty(&pin)) return ERR_OK;
    enum err e = store_each_name(s, is_first_name, &n, why);
    return e ? e
             : fail(why, ERR_BUSY, "%s is pinned; unpin it first",
                    n.name[0] ? n.name : "the model");
}

static uint64_t model_bytes(const struct manifest *m)
{
    uint64_t n = arch_bytes(&m->arch, ARCH_ENDS) + m->tokenizer_bytes;

    for (uint32_t l = 0; l < arch_all_layers(&m->arch); l++) n += arch_bytes(&m->arch, l);
    return n;
}

static enum err drop_model(struct batch *b, const struct manifest *m)
{
    for (uint32_t l = 0; l < arch_all_layers(&m->arch) && !b->err; l++) (void)!drop_layer(b, m, l);
    if (!b->err) (void)!drop_layer(b, m, ARCH_ENDS);
    for (uint32_t i = 0; i < m->n_tokenizer && !b->err; i++) drop(b, &m->tokenizer[i]);
    return flush(b);
}

enum err store_remove(struct store *s, const struct hash *id,
                      void (*progress)(void *arg, uint64_t done, uint64_t total), void *arg,
                      struct store_removed *out, struct why *why)
{
    struct hash_set keep;
    struct hash mine = *id; /* id may point into what is removed */
    struct manifest *m = calloc(1, sizeof *m);
    struct batch *b = calloc(1, sizeof *b);

    *out = (struct store_removed){ 0 };
    enum err e = m && b ? may_remove(s, why) : fail(why, ERR_NOMEM, "out of memory");
    if (!e) e = store_commit(s, why);
    if (!e) e = store_manifest(s, &mine, m, NULL, why);
    if (!e) e = check_pin(s, &mine, why);
    if (!e) e = used_tiles(s, &keep, &mine, why);
    if (!e) {
        *b = (struct batch){ s,          &keep,
                             .out = out, .progress = progress,
                             .arg = arg, .total = model_bytes(m),
                             .why = why };
        e = store_write(s, delete_names, &mine, "removing names", why);
        if (!e) e = drop_model(b, m);
        if (!e) e = store_write(s, delete_manifest, &mine, "removing the manifest", why);
        hash_set_fini(&keep);
    }
    free(m);
    free(b);
    return e;
}

/* Hashes of what is kept of m too: a tile may belong to two layers. */
static enum err keep_layers(struct store *s, struct manifest *m, const struct store_pin *keep,
                            struct hash_set *set, struct why *why)
{
    struct using_ u = { s, set, NULL, m, ERR_OK, why };

    for (uint32_t l = 0; l < arch_all_layers(&m->arch); l++)
        if (store_pin_names(keep, l)) use_layer(&u, l);
    if (keep->ends) use_layer(&u, ARCH_ENDS);
    for (uint32_t i = 0; i < m->n_tokenizer && keep->ends && !u.err; i++)
        u.err = hash_set_add(set, &m->tokenizer[i], NULL);
    return u.err;
}

static enum err drop_others(struct batch *b, const struct manifest *m, const struct store_pin *keep,
                            uint64_t need)
{
    for (uint32_t l = arch_all_layers(&m->arch); l-- > 0 && !b->err && b->out->bytes < need;)
        if (!store_pin_names(keep, l)) (void)!drop_layer(b, m, l);
    if (!keep->ends && !b->err && b->out->bytes < need) {
        (void)!drop_layer(b, m, ARCH_ENDS);
        for (uint32_t i = 0; i < m->n_tokenizer && !b->err; i++) drop(b, &m->tokenizer[i]);
    }
    return flush(b);
}

enum err store_trim(struct store *s, const struct hash *id, const struct store_pin *keep,
                    uint64_t need, uint64_t *freed, struct why *why)
{
    struct hash_set used;
    struct hash mine = *id;
    struct store_removed out = { 0 };
    struct manifest *m = calloc(1, sizeof *m);
    struct batch *b = calloc(1, sizeof *b);

    *freed = 0;
    enum err e = m && b ? store_commit(s, why) : fail(why, ERR_NOMEM, "out of memory");
    if (!e) e = store_manifest(s, &mine, m, NULL, why);
    if (!e) e = used_tiles(s, &used, &mine, why);
    if (!e) {
        *b = (struct batch){ s, &used, .out = &out, .why = why };
        e = keep_layers(s, m, keep, &used, why);
        if (!e) e = drop_others(b, m, keep, need);
        hash_set_fini(&used);
    }
    *freed = out.bytes;
    free(m);
    free(b);
    return e;
}

static int delete_name(struct store *s, MDB_txn *txn, void *arg)
{
    const char *name = arg;
    MDB_val k = { strlen(name), (void *)(uintptr_t)name };

    return mdb_del(txn, s->db[DB_NAMES_], &k, NULL);
}

enum err store_remove_name(struct store *s, const char *name, struct why *why)
{
    struct store_name n;
    enum err e = store_name_entry(s, name, &n);

    if (e) return fail(why, e, "store %s has no name %.63s", s->dir, name);
    return store_write(s, delete_name, n.name, "removing a name", why);
}

/* --- what no model uses --- */

/* Hashes are gathered before anything is deleted: a cursor of the snapshot must not move. */
static enum err gather_spare(struct batch *b)
{
    MDB_cursor *c;
    MDB_val k, v;
    struct hash_set spare;
    int rc;

    if (hash_set_init(&spare)) return fail(b->why, ERR_NOMEM, "out of memory");
    rc = mdb_cursor_open(b->s->read, b->s->db[DB_TILES], &c);
    if (rc) {
        hash_set_fini(&spare);
        return store_mdb_err(b->s, rc, "listing tiles", b->why);
    }
    while (!b->err && !(rc = mdb_cursor_get(c, &k, &v, MDB_NEXT))) {
        struct hash h;
        if (k.mv_size != HASH_BYTES) continue;
        memcpy(h.b, k.mv_data, HASH_BYTES);
        if (!hash_set_has(b->keep, &h)) b->err = hash_set_add(&spare, &h, NULL);
    }
    mdb_cursor_close(c);
    for (size_t i = 0; i < spare.cap && !b->err; i++)
        if (spare.used[i]) drop(b, &spare.slot[i]);
    hash_set_fini(&spare);
    return flush(b);
}

enum err store_remove_spare(struct store *s, struct store_removed *out, struct why *why)
{
    struct hash_set keep;
    struct batch *b = calloc(1, sizeof *b);

    *out = (struct store_removed){ 0 };
    enum err e = b ? may_remove(s, why) : fail(why, ERR_NOMEM, "out of memory");
    if (!e) e = store_commit(s, why);
    if (!e) e = used_tiles(s, &keep, NULL, why);
    if (!e) {
        *b = (struct batch){ s, &keep, .out = out, .why = why };
        e = gather_spare(b);
        hash_set_fini(&keep);
    }
    free(b);
    return e;
}
