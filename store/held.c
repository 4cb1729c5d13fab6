/* What is in a store: room, models, and how much of each layer. */
#include "store/care.h"
#include "store/store_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* mdb_reader_list says "pid thread txnid" in text, a line for each, after a heading. */
static int count_reader(const char *line, void *arg)
{
    struct store_usage *u = arg;
    long pid = strtol(line, NULL, 10);

    if (pid > 0 && pid != (long)getpid()) u->readers++;
    return 0;
}

enum err store_free_bytes(struct store *s, uint64_t *bytes)
{
    enum { FREE_DBI = 0 }; /* LMDB's own: transaction number -> pages that it freed */
    MDB_cursor *c;
    MDB_val k, v;
    MDB_stat tree;
    size_t pages = 0, n;
    int rc = mdb_stat(s->read, s->db[DB_TILES], &tree);

    if (!rc) rc = mdb_cursor_open(s->read, FREE_DBI, &c);
    if (rc) return store_mdb_err(s, rc, "counting", NULL);
    while (!(rc = mdb_cursor_get(c, &k, &v, MDB_NEXT))) {
        if (v.mv_size < sizeof n) continue;
        memcpy(&n, v.mv_data, sizeof n);
        pages += n;
    }
    mdb_cursor_close(c);
    *bytes = (uint64_t)pages * tree.ms_psize;
    return rc == MDB_NOTFOUND ? ERR_OK : store_mdb_err(s, rc, "counting", NULL);
}

enum err store_usage(struct store *s, struct store_usage *out, struct why *why)
{
    MDB_stat tree;
    struct stat st;
    int fd;

    *out = (struct store_usage){ 0 };
    int rc = mdb_env_get_fd(s->env, &fd);
    if (!rc && fstat(fd, &st) != 0) rc = EIO;
    if (!rc) out->file_bytes = (uint64_t)st.st_size;
    if (!rc) rc = mdb_stat(s->read, s->db[DB_TILES], &tree);
    if (!rc) out->tiles = tree.ms_entries;
    if (!rc && store_free_bytes(s, &out->free_bytes)) rc = EIO;
    if (!rc && mdb_reader_list(s->env, count_reader, out) < 0) rc = EIO;
    return store_mdb_err(s, rc, "counting", why);
}

enum err store_each_model(struct store *s, bool (*f)(void *arg, const struct hash *id), void *arg,
                          struct why *why)
{
    MDB_cursor *c;
    MDB_val k, v;
    struct hash id;
    int rc = mdb_cursor_open(s->read, s->db[DB_MODELS], &c);

    if (rc) return store_mdb_err(s, rc, "listing its models", why);
    while (!(rc = mdb_cursor_get(c, &k, &v, MDB_NEXT))) {
        if (k.mv_size != HASH_BYTES) continue; /* its hash cannot be right: nobody finds it */
        memcpy(id.b, k.mv_data, HASH_BYTES);
        if (!f(arg, &id)) break;
    }
    mdb_cursor_close(c);
    return rc == MDB_NOTFOUND ? ERR_OK : store_mdb_err(s, rc, "listing its models", why);
}

enum err store_each_tile(struct store *s, const struct manifest *m, uint32_t layer,
                         bool (*f)(void *arg, const struct tile_place *p, const struct hash *h),
                         void *arg)
{
    struct tile_place p = tile_before_first(&m->arch, layer);
    struct slice table;
    enum err e = store_table(s, m, layer, &table, NULL);

    while (!e && tile_next(&p)) {
        struct hash h = table_hash(table, p.at);
        if (!f(arg, &p, &h)) break;
    }
    return e;
}

struct counting {
    struct store *s;
    struct store_held *out;
};

static bool count_tile(void *arg, const struct tile_place *p, const struct hash *h)
{
    struct counting *c = arg;

    if (store_has(c->s, h)) {
        c->out->tiles_here++;
        c->out->bytes_here += p->bytes;
    }
    return true;
}

void store_held(struct store *s, const struct manifest *m, uint32_t layer, struct store_held *out)
{
    struct counting c = { s, out };

    *out = (struct store_held){ .tiles = manifest_n_tiles(&m->arch, layer),
                                .bytes = arch_bytes(&m->arch, layer) };
    (void)!store_each_tile(s, m, layer, count_tile, &c); /* without a table all stays 0 */
}
