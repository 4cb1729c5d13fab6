/* Every tile hashed again: the disk may have changed its mind. */
#include "store/care.h"
#include "store/hash_set.h"
#include "store/store_impl.h"

#include <stdio.h>
#include <stdlib.h>

struct verify {
    struct store *s;
    struct store_check *c;
    struct why *why;
    struct hash_set seen, bad; /* hashed already; to be taken out */
    struct manifest *m;        /* owned; of the model that is looked at */
    struct store_pin pin;      /* of it */
    char model[80];            /* its name or id */
    uint64_t total;
    enum err err;
};

static void tell(struct verify *v, const char *what, const char *how)
{
    if (v->c->fault) v->c->fault(v->c->arg, v->model, what, how);
}

static void count_bad(struct verify *v, const struct hash *h, const char *what, const char *how)
{
    v->c->bad++;
    tell(v, what, how);
    v->err = hash_set_add(&v->bad, h, NULL);
}

/* Hash a value that is there. */
static bool sound(struct verify *v, const struct hash *h, struct slice bytes)
{
    struct hash is = hash_of(bytes);

    v->c->tiles++;
    v->c->bytes += bytes.n;
    if (v->c->progress) v->c->progress(v->c->arg, v->c->bytes, v->total);
    return hash_equal(&is, h);
}

/* One value that a model needs.  p: the place of a tile, NULL for what is not one. */
static void check(struct verify *v, const struct hash *h, const struct tile_place *p,
                  const char *what)
{
    struct slice bytes;
    bool fresh;

    if (v->err) return;
    if (store_get(v->s, DB_TILES, hash_slice(h), &bytes)) {
        v->c->missing++;
        tell(v, what, "missing");
        return;
    }
    if ((v->err = hash_set_add(&v->seen, h, &fresh))) return;
    if (!fresh) {
        if (hash_set_has(&v->bad, h)) tell(v, what, "damaged");
    } else if (!sound(v, h, bytes)) {
        count_bad(v, h, what, "damaged");
    } else if (p && bytes.n != p->bytes) {
        count_bad(v, h, what, "of a wrong length");
    } else if (p && !tile_finite(p->spec.type, p->spec.cols, bytes.p, bytes.n)) {
        count_bad(v, h, what, "not finite");
    }
}

/* In the file, that is: what waits for a commit is not looked at. */
static bool is_here(const struct verify *v, const struct hash *h)
{
    struct slice bytes;
    return store_get(v->s, DB_TILES, hash_slice(h), &bytes) == ERR_OK;
}

/* A layer that is pinned in parts is to have these, and may have more. */
static bool is_wanted(const struct verify *v, const struct tile_place *p)
{
    if (p->layer == ARCH_ENDS || v->pin.layer[p->layer] || !parts_name(&v->pin.parts, p->layer))
        return true;
    return parts_have(&v->pin.parts, p->layer, p->spec.shard, p->spec.item);
}

static bool check_tile(void *arg, const struct tile_place *p, const struct hash *h)
{
    struct verify *v = arg;
    char what[PLACE_TEXT];

    if (!is_here(v, h) && !is_wanted(v, p)) return true;
    tile_place_text(what, p);
    check(v, h, p, what);
    return !v->err;
}

static void check_layer(struct verify *v, uint32_t layer)
{
    const struct hash *h = manifest_table(v->m, layer);
    char what[PLACE_TEXT], where[LAYER_TEXT];

    if (v->err || !is_here(v, h)) return; /* nobody wanted it here */
    layer_text(where, layer);
    snprintf(what, sizeof what, "%s, tile table", where);
    check(v, h, NULL, what);
    if (v->err || hash_set_has(&v->bad, h)) return;
    if (store_each_tile(v->s, v->m, layer, check_tile, v))
        count_bad(v, h, what, "of a wrong length");
}

static void check_tokenizer(struct verify *v)
{
    char what[PLACE_TEXT];

    if (!is_here(v, &v->m->ends)) return;
    for (uint32_t i = 0; i < v->m->n_tokenizer; i++) {
        snprintf(what, sizeof what, "tokenizer, piece %u", i);
        check(v, &v->m->tokenizer[i], NULL, what);
    }
}

static bool check_model(void *arg, const struct hash *id)
{
    struct verify *v = arg;
    struct store_name entry;
    struct why inner = { "" };
    char hex[HASH_TEXT];

    hash_text(hex, id);
    if ((v->err = store_find_id(v->s, hex, &entry, v->why))) return false;
    snprintf(v->model, sizeof v->model, "%s", entry.name[0] ? entry.name : hex);
    if (store_manifest(v->s, id, v->m, NULL, &inner)) {
        v->c->bad++;
        tell(v, "manifest", inner.text);
        return true;
    }
    if (store_pin(v->s, id, &v->pin)) v->pin = (struct store_pin){ 0 };
    for (uint32_t l = 0; l < arch_all_layers(&v->m->arch); l++) check_layer(v, l);
    check_layer(v, ARCH_ENDS);
    check_tokenizer(v);
    return !v->err;
}

/* A name whose model is not there. */
static bool check_name(void *arg, const struct store_name *n)
{
    struct verify *v = arg;
    struct slice body;

    if (!store_get(v->s, DB_MODELS, hash_slice(&n->id), &body)) return true;
    v->c->missing++;
    snprintf(v->model, sizeof v->model, "%s", n->name);
    tell(v, "manifest", "missing");
    return true;
}

/* Tiles that no model led to: an interrupted conversion's, or garbage under a wrong key. */
static enum err check_spare(struct verify *v)
{
    MDB_cursor *c;
    MDB_val key, value;
    char hex[HASH_TEXT], what[HASH_TEXT + 8];
    int rc = mdb_cursor_open(v->s->read, v->s->db[DB_TILES], &c);

    if (rc) return store_mdb_err(v->s, rc, "listing tiles", v->why);
    snprintf(v->model, sizeof v->model, "no model");
    while (!v->err && !(rc = mdb_cursor_get(c, &key, &value, MDB_NEXT))) {
        struct hash h;
        if (key.mv_size != HASH_BYTES) continue;
        memcpy(h.b, key.mv_data, HASH_BYTES);
        if (hash_set_has(&v->seen, &h)) continue;
        v->c->spare++;
        if (sound(v, &h, slice_of(value.mv_data, value.mv_size))) continue;
        hash_text(hex, &h);
        snprintf(what, sizeof what, "tile %s", hex);
        count_bad(v, &h, what, "damaged");
    }
    mdb_cursor_close(c);
    return v->err || rc == MDB_NOTFOUND ? v->err : store_mdb_err(v->s, rc, "listing tiles", v->why);
}

static int delete_bad(struct store *s, MDB_txn *txn, void *arg)
{
    const struct hash_set *bad = arg;

    for (size_t i = 0; i < bad->cap; i++) {
        if (!bad->used[i]) continue;
        int rc = store_del_tile(s, txn, &bad->slot[i]);
        if (rc && rc != MDB_NOTFOUND) return rc;
    }
    return 0;
}

static enum err verify_all(struct verify *v)
{
    enum err e = store_each_model(v->s, check_model, v, v->why);

    if (!e) e = v->err;
    if (!e) e = store_each_name(v->s, check_name, v, v->why);
    if (!e) e = check_spare(v);
    if (e || !v->c->repair || v->bad.n == 0) return e;
    e = store_write(v->s, delete_bad, &v->bad, "removing bad tiles", v->why);
    if (!e) v->c->removed = v->bad.n;
    return e;
}

/* About what there is to hash: pages of values, which are full but for the last of each. */
static uint64_t bytes_to_hash(struct store *s)
{
    MDB_stat tree;
    return mdb_stat(s->read, s->db[DB_TILES], &tree)
               ? 0
               : (uint64_t)tree.ms_overflow_pages * tree.ms_psize;
}

enum err store_check(struct store *s, struct store_check *c, struct why *why)
{
    struct verify *v = calloc(1, sizeof *v);

    if (!v) return fail(why, ERR_NOMEM, "out of memory");
    *v = (struct verify){ .s = s, .c = c, .why = why, .total = bytes_to_hash(s) };
    v->m = calloc(1, sizeof *v->m);
    enum err e = v->m ? ERR_OK : ERR_NOMEM;
    if (!e && c->repair && s->lent)
        e = fail(why, ERR_BUSY, "store %s: its tiles are in use here", s->dir);
    if (!e) e = hash_set_init(&v->seen);
    if (!e) e = hash_set_init(&v->bad);
    if (!e) e = verify_all(v);
    if (v->bad.cap) hash_set_fini(&v->bad);
    if (v->seen.cap) hash_set_fini(&v->seen);
    free(v->m);
    free(v);
    return e == ERR_NOMEM ? fail(why, e, "out of memory") : e;
}
