/* A store (store.h) of which tiles are the bodies and notes the heads. */
#include "store/attic.h"
#include "store/store_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    HEAD_BYTES = 3 * HASH_BYTES + 4 * 4 + 2 * 8, /* as it is stored, little endian */
    ITEM_BYTES = 512,                            /* of the tree's pages, about */
    SLACK = 16, /* of the budget, one part in so many goes at a time */
    MAP_TIMES = 2,
    MAP_LEAST = 64 << 20, /* address space */
};

struct attic {
    struct store *store; /* owned */
    uint64_t max_bytes, bytes;
    uint64_t stamp; /* the newest */
};

static const char *const files[] = { "data.mdb", "lock.mdb", "writer.lock" };

void attic_remove(const char *dir)
{
    char path[FILE_PATH_MAX];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (!file_path(path, dir, files[i], NULL)) unlink(path);
    rmdir(dir);
}

static uint64_t cost(uint64_t n)
{
    return ITEM_BYTES + (n ? store_value_bytes(n) : 0);
}

/* --- heads as bytes --- */

static void put(uint8_t **at, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) *(*at)++ = (uint8_t)(v >> 8 * i);
}

static uint64_t get(const uint8_t **at, int bytes)
{
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++) v |= (uint64_t) * (*at)++ << 8 * i;
    return v;
}

static void head_put(uint8_t out[HEAD_BYTES], const struct attic_head *h)
{
    uint8_t *at = out + 3 * HASH_BYTES;
    memcpy(out, h->owner, HASH_BYTES);
    memcpy(out + HASH_BYTES, h->before.b, HASH_BYTES);
    memcpy(out + 2 * HASH_BYTES, h->body.b, HASH_BYTES);
    put(&at, h->kind, 4);
    put(&at, h->lo, 4);
    put(&at, h->hi, 4);
    put(&at, h->depth, 4);
    put(&at, h->stamp, 8);
    put(&at, h->n, 8);
}

static bool head_get(struct attic_head *h, struct slice s)
{
    const uint8_t *at = s.p + 3 * HASH_BYTES;
    if (s.n != HEAD_BYTES) return false;
    memcpy(h->owner, s.p, HASH_BYTES);
    memcpy(h->before.b, s.p + HASH_BYTES, HASH_BYTES);
    memcpy(h->body.b, s.p + 2 * HASH_BYTES, HASH_BYTES);
    h->kind = (uint32_t)get(&at, 4);
    h->lo = (uint32_t)get(&at, 4);
    h->hi = (uint32_t)get(&at, 4);
    h->depth = (uint32_t)get(&at, 4);
    h->stamp = get(&at, 8);
    h->n = get(&at, 8);
    return true;
}

enum err attic_find(struct attic *a, const struct hash *name, struct attic_head *out)
{
    struct slice s;
    enum err e = store_get(a->store, DB_NOTES, hash_slice(name), &s);
    if (e) return e;
    return head_get(out, s) ? ERR_OK : ERR_NOTFOUND;
}

/* --- all heads --- */

/* One item as eviction sees it. */
struct item_age {
    struct hash name, body;
    uint64_t stamp, n;
    uint32_t depth;
};
struct ages {
    struct item_age *p; /* owned */
    size_t n, cap;
    bool failed;
};

enum { ANY_KIND = UINT32_MAX };

enum err attic_each(struct attic *a, uint32_t kind,
                    bool (*f)(void *arg, const struct hash *name, const struct attic_head *h),
                    void *arg)
{
    MDB_cursor *c;
    MDB_val k, v;
    int rc = mdb_cursor_open(a->store->read, a->store->db[DB_NOTES], &c);

    if (rc) return store_mdb_err(a->store, rc, "reading", NULL);
    while (!(rc = mdb_cursor_get(c, &k, &v, MDB_NEXT))) {
        struct attic_head h;
        struct hash name;
        if (k.mv_size != HASH_BYTES || !head_get(&h, slice_of(v.mv_data, v.mv_size))) continue;
        memcpy(name.b, k.mv_data, HASH_BYTES);
        if ((kind == ANY_KIND || h.kind == kind) && !f(arg, &name, &h)) break;
    }
    mdb_cursor_close(c);
    return rc == MDB_NOTFOUND ? ERR_OK : store_mdb_err(a->store, rc, "reading", NULL);
}

static bool add_age(void *arg, const struct hash *name, const struct attic_head *h)
{
    struct ages *all = arg;
    if (all->n == all->cap) {
        size_t cap = 2 * all->cap + 256;
        struct item_age *p = realloc(all->p, cap * sizeof *p);
        all->failed = !p;
        if (!p) return false;
        all->p = p;
        all->cap = cap;
    }
    all->p[all->n++] = (struct item_age){ *name, h->body, h->stamp, h->n, h->depth };
    return true;
}

/* --- eviction --- */

static int by_age(const void *x, const void *y)
{
    const struct item_age *a = x, *b = y;
    if (a->stamp != b->stamp) return a->stamp < b->stamp ? -1 : 1;
    return a->depth > b->depth ? -1 : a->depth < b->depth;
}

struct deletion {
    const struct item_age *p;
    size_t n;
};

static int del(struct store *s, MDB_txn *txn, enum db db, const struct hash *name)
{
    MDB_val k = { HASH_BYTES, (void *)(uintptr_t)name->b };
    int rc = mdb_del(txn, s->db[db], &k, NULL);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int delete_items(struct store *s, MDB_txn *txn, void *arg)
{
    const struct deletion *d = arg;
    int rc = 0;
    for (size_t i = 0; i < d->n && !rc; i++) {
        rc = del(s, txn, DB_NOTES, &d->p[i].name);
        if (!rc && d->p[i].n) rc = del(s, txn, DB_TILES, &d->p[i].body);
    }
    return rc;
}

/* Make room for so many bytes, in steps, for looking at all heads is not for nothing. */
static enum err make_room(struct attic *a, uint64_t bytes, struct why *why)
{
    enum { STEP = 64 }; /* items in a transaction, whose free pages are a list */
    struct ages all = { 0 };
    uint64_t goal = a->max_bytes - a->max_bytes / SLACK;

    if (bytes > goal) return fail(why, ERR_FULL, "it is larger than all the room");
    if (a->bytes + bytes <= a->max_bytes) return ERR_OK;
    enum err e = attic_each(a, ANY_KIND, add_age, &all);
    if (!e && all.failed) e = fail(why, ERR_NOMEM, "out of memory");
    if (!e && all.n) qsort(all.p, all.n, sizeof *all.p, by_age);
    for (size_t i = 0; !e && i < all.n && a->bytes + bytes > goal;) {
        struct deletion d = { all.p + i, 0 };
        while (d.n < STEP && i < all.n && a->bytes + bytes > goal) {
            uint64_t less = cost(all.p[i++].n);
            a->bytes -= less < a->bytes ? less : a->bytes;
            d.n++;
        }
        e = store_write(a->store, delete_items, &d, "making room", why);
    }
    free(all.p);
    return e;
}

static void drop(struct attic *a, const struct hash *name, const struct attic_head *h)
{
    struct item_age age = { *name, h->body, 0, h->n, 0 };
    struct deletion d = { &age, 1 };
    uint64_t less = cost(h->n);
    if (store_write(a->store, delete_items, &d, "deleting", NULL)) return; /* it is a miss anyway */
    a->bytes -= less < a->bytes ? less : a->bytes;
}

/* --- items in and out --- */

/* Is the item before it there, or among those that are being put? */
static bool hangs(struct attic *a, const struct attic_item *items, uint32_t i)
{
    struct attic_head h;
    const struct hash *before = &items[i].head.before;
    if (items[i].head.depth == 0) return true;
    for (uint32_t k = 0; k < i; k++)
        if (hash_equal(&items[k].name, before)) return true;
    return !attic_find(a, before, &h);
}

static enum err put_item(struct attic *a, const struct attic_item *item, struct why *why)
{
    uint8_t bytes[HEAD_BYTES];
    struct attic_head h = item->head;
    enum err e = ERR_OK;
    h.n = item->body.n;
    memset(&h.body, 0, sizeof h.body);
    if (h.n) e = store_put(a->store, item->body, &h.body, why);
    head_put(bytes, &h);
    if (!e) e = store_put_note(a->store, &item->name, slice_of(bytes, sizeof bytes), why);
    if (!e) a->bytes += cost(h.n);
    if (h.stamp > a->stamp) a->stamp = h.stamp;
    return e;
}

enum err attic_put(struct attic *a, const struct attic_item *items, uint32_t n, struct why *why)
{
    struct attic_head h;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < n; i++) bytes += cost(items[i].body.n);
    enum err e = make_room(a, bytes, why);
    for (uint32_t i = 0; i < n && !e; i++) {
        if (!attic_find(a, &items[i].name, &h)) continue;
        if (!hangs(a, items, i)) break;
        e = put_item(a, &items[i], why);
    }
    return e ? e : store_commit(a->store, why);
}

enum err attic_body(struct attic *a, const struct hash *name, void *out)
{
    struct attic_head h;
    struct slice body;
    enum err e = attic_find(a, name, &h);
    if (e) return e;
    e = store_get(a->store, DB_TILES, hash_slice(&h.body), &body);
    if (!e && body.n == h.n) memcpy(out, body.p, body.n);
    struct hash found = e || body.n != h.n ? (struct hash){ { 0 } } : hash_of(slice_of(out, h.n));
    if (hash_equal(&found, &h.body)) return ERR_OK;
    drop(a, name, &h);
    return ERR_MALFORMED;
}

enum err attic_touch(struct attic *a, const struct hash *names, uint32_t n, uint64_t stamp,
                     struct why *why)
{
    enum err e = ERR_OK;
    for (uint32_t i = 0; i < n && !e; i++) {
        struct attic_head h;
        uint8_t bytes[HEAD_BYTES];
        if (attic_find(a, &names[i], &h) || h.stamp == stamp) continue;
        h.stamp = stamp;
        head_put(bytes, &h);
        e = store_put_note(a->store, &names[i], slice_of(bytes, sizeof bytes), why);
    }
    if (stamp > a->stamp) a->stamp = stamp;
    return e ? e : store_commit(a->store, why);
}

/* --- opening --- */

uint64_t attic_stamp(struct attic *a)
{
    return ++a->stamp;
}

uint64_t attic_bytes(const struct attic *a)
{
    return a->bytes;
}

static bool count(void *arg, const struct hash *name, const struct attic_head *h)
{
    struct attic *a = arg;
    (void)name;
    a->bytes += cost(h->n);
    if (h->stamp > a->stamp) a->stamp = h->stamp;
    return true;
}

/* The pages that were freed are used again, but a file never shrinks: one that grew under a larger
 * budget is given up. */
static bool is_too_large(const char *dir, uint64_t max_bytes)
{
    char path[FILE_PATH_MAX];
    struct stat st;
    return !file_path(path, dir, files[0], NULL) && stat(path, &st) == 0 &&
           (uint64_t)st.st_size > max_bytes + max_bytes / 2 + MAP_LEAST;
}

static enum err open_store(struct attic *a, const char *dir, struct why *why)
{
    uint64_t map = MAP_TIMES * a->max_bytes + MAP_LEAST;
    char path[FILE_PATH_MAX];
    enum err e = store_open_map(&a->store, dir, STORE_WRITE, map, why);
    for (size_t i = 0; i < sizeof files / sizeof *files && !e; i++)
        if (!file_path(path, dir, files[i], NULL)) chmod(path, 0600);
    return e;
}

enum err attic_open(struct attic **out, const char *dir, uint64_t max_bytes, struct why *why)
{
    struct attic *a = calloc(1, sizeof *a);
    if (!a) return fail(why, ERR_NOMEM, "out of memory");
    a->max_bytes = max_bytes;
    if (is_too_large(dir, max_bytes)) attic_remove(dir);
    enum err e = open_store(a, dir, why);
    if (e == ERR_MALFORMED) {
        attic_remove(dir);
        e = open_store(a, dir, why);
    }
    if (!e) e = attic_each(a, ANY_KIND, count, a);
    if (!e) e = make_room(a, 0, why);
    if (e) {
        attic_close(a);
        return e;
    }
    *out = a;
    return ERR_OK;
}

void attic_close(struct attic *a)
{
    if (!a) return;
    store_close(a->store);
    free(a);
}
