/* The environment: opening, the writer's lock, transactions.
 *
 * Writes are gathered in memory and go into LMDB in one short transaction, so that a full map can
 * be grown and the same transaction tried again, and so that the thread that commits need not be
 * the one that opened the store. */
#include "store/store_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
    ROOM_NONE = 16 << 20,         /* less than this free counts as a full disk after EIO */
    PENDING_BYTES_MAX = 16 << 20, /* gathered before a commit: about 60 ms of a plain SSD */
    PENDING_ITEMS_MAX = 1024,
};

const char *const store_db_names[DB_COUNT] = { "tiles", "models", "names", "pins", "notes" };

uint64_t store_room(const struct store *s)
{
    struct statvfs v;
    if (statvfs(s->dir, &v) != 0) return 0;
    return (uint64_t)v.f_bavail * v.f_frsize;
}

uint64_t store_disk(const struct store *s)
{
    struct statvfs v;
    if (statvfs(s->dir, &v) != 0) return 0;
    return (uint64_t)v.f_blocks * v.f_frsize;
}

uint64_t store_value_bytes(uint64_t n)
{
    enum { PAGE = 4096, PAGE_HEADER = 16 };
    return (n + PAGE_HEADER + PAGE - 1) / PAGE * PAGE;
}

enum err store_mdb_err(struct store *s, int rc, const char *doing, struct why *why)
{
    uint64_t room;

    switch (rc) {
    case 0: return ERR_OK;
    case MDB_NOTFOUND: return ERR_NOTFOUND;
    case MDB_MAP_FULL:
        return fail(why, ERR_FULL, "store %s: %s: the map is full; open the store again", s->dir,
                    doing);
    case MDB_READERS_FULL:
        return fail(why, ERR_BUSY, "store %s has %d readers already", s->dir, STORE_READERS_MAX);
    case MDB_INVALID:
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_VERSION_MISMATCH:
        return fail(why, ERR_MALFORMED,
                    "store %s: data.mdb is damaged or no store (%s); move it away, then convert or "
                    "import again",
                    s->dir, mdb_strerror(rc));
    case ENOMEM: return fail(why, ERR_NOMEM, "store %s: %s: out of memory", s->dir, doing);
    /* A short write of LMDB's reads EIO, whatever its cause. */
    case EIO:
    case ENOSPC:
    case EDQUOT:
        room = store_room(s);
        if (rc == EIO && room >= ROOM_NONE) break;
        return fail(why, ERR_DISKFULL, "store %s: the disk is full (%llu MiB are free)", s->dir,
                    (unsigned long long)(room >> 20));
    }
    return fail(why, ERR_IO, "store %s: %s: %s", s->dir, doing, mdb_strerror(rc));
}

/* --- the writer's lock --- */

static enum err take_lock(struct store *s, struct why *why)
{
    char path[FILE_PATH_MAX], pid[32] = "";
    enum err e = file_path(path, s->dir, "writer.lock", why);
    if (e) return e;

    s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->lock_fd < 0) return fail(why, ERR_IO, "%s: %s", path, strerror(errno));
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        ssize_t n = pread(s->lock_fd, pid, sizeof pid - 1, 0);
        pid[n > 0 ? n : 0] = 0;
        return fail(why, ERR_BUSY, "store %s is being written by another process (%s)", s->dir,
                    pid[0] ? pid : "unknown");
    }
    int n = snprintf(pid, sizeof pid, "pid %ld", (long)getpid());
    /* The pid is only for the sentence above. */
    if (ftruncate(s->lock_fd, 0) != 0 || pwrite(s->lock_fd, pid, (size_t)n, 0) != n) errno = 0;
    return ERR_OK;
}

/* --- opening --- */

/* LMDB trusts the file's length; a truncated one would be a SIGBUS later. */
static enum err check_length(struct store *s, const char *data_path, struct why *why)
{
    MDB_envinfo info;
    MDB_stat stat_;
    struct stat st;

    mdb_env_info(s->env, &info);
    mdb_env_stat(s->env, &stat_);
    if (stat(data_path, &st) != 0) return fail(why, ERR_IO, "%s: %s", data_path, strerror(errno));
    if ((uint64_t)st.st_size / stat_.ms_psize < (uint64_t)info.me_last_pgno + 1)
        return fail(why, ERR_MALFORMED, "%s is cut short: %llu bytes, %llu expected", data_path,
                    (unsigned long long)st.st_size,
                    ((unsigned long long)info.me_last_pgno + 1) * stat_.ms_psize);
    return ERR_OK;
}

static int env_open(struct store *s, uint64_t map_bytes, uint64_t file_bytes)
{
    unsigned flags = MDB_NOTLS;

    if (s->mode == STORE_READ) flags |= MDB_RDONLY;

    int rc = mdb_env_create(&s->env);
    if (!rc) rc = mdb_env_set_maxdbs(s->env, DB_COUNT);
    if (!rc) rc = mdb_env_set_maxreaders(s->env, STORE_READERS_MAX);
    /* A reader takes the map's size from the file. */
    if (!rc && s->mode == STORE_WRITE)
        rc = mdb_env_set_mapsize(s->env,
                                 (size_t)(map_bytes > 2 * file_bytes ? map_bytes : 2 * file_bytes));
    if (!rc) rc = mdb_env_open(s->env, s->dir, flags, 0644);
    if (rc && s->env) {
        mdb_env_close(s->env);
        s->env = NULL;
    }
    return rc;
}

/* Address space may be limited (ulimit -v): then less of it will do. */
static int env_open_fitting(struct store *s, uint64_t map_bytes, uint64_t file_bytes)
{
    int rc = env_open(s, map_bytes, file_bytes);
    while (rc == ENOMEM && s->mode == STORE_WRITE && map_bytes > (UINT64_C(1) << 30)) {
        map_bytes /= 4;
        rc = env_open(s, map_bytes, file_bytes);
    }
    return rc;
}

/* Handles outlive the transaction that opened them only if that is committed. */
static int open_dbs(struct store *s)
{
    bool write = s->mode == STORE_WRITE;
    MDB_txn *txn;
    int rc = mdb_txn_begin(s->env, NULL, write ? 0 : MDB_RDONLY, &txn);

    if (rc == MDB_MAP_RESIZED) {
        rc = mdb_env_set_mapsize(s->env, 0);
        if (!rc) rc = mdb_txn_begin(s->env, NULL, write ? 0 : MDB_RDONLY, &txn);
    }
    if (rc) return rc;
    for (int i = 0; i < DB_COUNT && !rc; i++)
        rc = mdb_dbi_open(txn, store_db_names[i], write ? MDB_CREATE : 0, &s->db[i]);
    if (!rc) return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return rc == MDB_NOTFOUND ? MDB_INVALID : rc;
}

static enum err open_env(struct store *s, uint64_t map_bytes, struct why *why)
{
    char path[FILE_PATH_MAX];
    struct stat st = { 0 };
    enum err e = file_path(path, s->dir, "data.mdb", why);
    if (e) return e;

    if (stat(path, &st) != 0 && s->mode == STORE_READ) {
        if (errno == ENOENT || errno == ENOTDIR)
            return fail(why, ERR_NOTFOUND, "there is no store in %s", s->dir);
        return fail(why, ERR_IO, "store %s: %s", s->dir, strerror(errno));
    }
    int rc = env_open_fitting(s, map_bytes, (uint64_t)st.st_size);
    /* A file that is there, but of which LMDB cannot make sense. */
    if (st.st_size > 0 && (rc == ENOENT || rc == EINVAL)) rc = MDB_INVALID;
    if (rc) return store_mdb_err(s, rc, "opening", why);
    if (st.st_size > 0 && (e = check_length(s, path, why))) return e;

    int dead;
    mdb_reader_check(s->env, &dead); /* slots of killed readers hold on to old pages */
    if ((rc = open_dbs(s))) return store_mdb_err(s, rc, "opening its tables", why);
    rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &s->read);
    return store_mdb_err(s, rc, "reading", why);
}

static enum err open_dir(struct store *s, const char *dir, struct why *why)
{
    struct stat st;
    int n = snprintf(s->dir, sizeof s->dir, "%s", dir);

    if (n <= 0 || (size_t)n >= sizeof s->dir)
        return fail(why, ERR_USAGE, "the store's path is empty or too long");
    if (s->mode == STORE_READ) return ERR_OK;
    if (mkdir(dir, 0700) != 0 && errno != EEXIST)
        return fail(why, errno == ENOSPC ? ERR_DISKFULL : ERR_IO, "store %s: %s", dir,
                    strerror(errno));
    if (stat(dir, &st) != 0 || !S_ISDIR(st.st_mode))
        return fail(why, ERR_IO, "store %s is not a folder", dir);
    return ERR_OK;
}

enum err store_open_map(struct store **out, const char *dir, enum store_mode mode,
                        uint64_t map_bytes, struct why *why)
{
    struct store *s = calloc(1, sizeof *s);

    if (!s) return fail(why, ERR_NOMEM, "store %s: out of memory", dir);
    s->mode = mode;
    s->lock_fd = -1;
    if (hash_init()) {
        free(s);
        return fail(why, ERR_UNSUPPORTED, "libsodium does not start");
    }
    enum err e = open_dir(s, dir, why);
    /* Before the lock is taken: a child has it too, and would keep it a moment longer than us. */
    if (!e) e = store_check_pages(s, why);
    if (!e && mode == STORE_WRITE) e = take_lock(s, why);
    if (!e) e = open_env(s, map_bytes, why);
    if (e) {
        store_close(s);
        return e;
    }
    *out = s;
    return ERR_OK;
}

enum err store_open(struct store **out, const char *dir, enum store_mode mode, struct why *why)
{
    return store_open_map(out, dir, mode, STORE_MAP_BYTES, why);
}

static void drop_pending(struct store *s)
{
    for (struct item *i = s->first, *next; i; i = next) {
        next = i->next;
        free(i);
    }
    s->first = NULL;
    s->last = &s->first;
    s->n_pending = 0;
    s->pending_bytes = 0;
}

void store_close(struct store *s)
{
    if (!s) return;
    drop_pending(s);
    for (struct copies *c = s->copies, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    if (s->read) mdb_txn_abort(s->read);
    if (s->env) mdb_env_close(s->env);
    if (s->lock_fd >= 0) close(s->lock_fd);
    free(s);
}

/* --- writing --- */

static int write_items(struct store *s, MDB_txn *txn, void *arg)
{
    int rc = 0;

    (void)arg;
    for (struct item *i = s->first; i && !rc; i = i->next) {
        MDB_val key = { i->key_n, i->bytes };
        MDB_val value = { i->n, i->bytes + i->key_n };
        rc = mdb_put(txn, s->db[i->db], &key, &value, i->db == DB_TILES ? MDB_NOOVERWRITE : 0);
        if (rc == MDB_KEYEXIST) rc = 0; /* the same bytes, by their hash */
    }
    return rc;
}

/* Twice the address space.  Moves the map, so no pointer into it may be out. */
static int grow(struct store *s)
{
    MDB_envinfo info;

    if (s->lent) return MDB_MAP_FULL;
    mdb_env_info(s->env, &info);
    if (info.me_mapsize > SIZE_MAX / 4) return MDB_MAP_FULL;
    mdb_txn_reset(s->read);
    int rc = mdb_env_set_mapsize(s->env, info.me_mapsize * 2);
    int again = mdb_txn_renew(s->read);
    return rc ? rc : again;
}

static int try_write(struct store *s, store_writer f, void *arg)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(s->env, NULL, 0, &txn);

    if (rc) return rc;
    if ((rc = f(s, txn, arg))) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

enum err store_write(struct store *s, store_writer f, void *arg, const char *doing, struct why *why)
{
    if (s->mode != STORE_WRITE)
        return fail(why, ERR_DENIED, "store %s is open for reading", s->dir);
    int rc = try_write(s, f, arg);
    while (rc == MDB_MAP_FULL && !(rc = grow(s))) rc = try_write(s, f, arg);
    if (rc) return store_mdb_err(s, rc, doing, why);
    mdb_txn_reset(s->read);
    return store_mdb_err(s, mdb_txn_renew(s->read), "reading", why);
}

enum err store_commit(struct store *s, struct why *why)
{
    if (s->mode == STORE_WRITE && !s->first) return ERR_OK;
    enum err e = store_write(s, write_items, NULL, "writing", why);
    if (!e) drop_pending(s);
    return e;
}

enum err store_add(struct store *s, enum db db, struct slice key, struct slice value,
                   struct why *why)
{
    if (s->mode != STORE_WRITE)
        return fail(why, ERR_DENIED, "store %s is open for reading", s->dir);
    if (s->pending_bytes >= PENDING_BYTES_MAX || s->n_pending >= PENDING_ITEMS_MAX) {
        enum err e = store_commit(s, why);
        if (e) return e;
    }
    struct item *i = malloc(sizeof *i + key.n + value.n);
    if (!i) return fail(why, ERR_NOMEM, "store %s: no memory for %zu bytes", s->dir, value.n);
    i->next = NULL;
    i->db = db;
    i->key_n = key.n;
    i->n = value.n;
    memcpy(i->bytes, key.p, key.n);
    if (value.n) memcpy(i->bytes + key.n, value.p, value.n);
    if (!s->first) s->last = &s->first;
    *s->last = i;
    s->last = &i->next;
    s->n_pending++;
    s->pending_bytes += key.n + value.n;
    return ERR_OK;
}

const struct item *store_pending(const struct store *s, enum db db, struct slice key)
{
    const struct item *found = NULL; /* the latest wins */
    for (const struct item *i = s->first; i; i = i->next)
        if (i->db == db && i->key_n == key.n && memcmp(i->bytes, key.p, key.n) == 0) found = i;
    return found;
}

enum err store_get(struct store *s, enum db db, struct slice key, struct slice *out)
{
    MDB_val k = { key.n, (void *)(uintptr_t)key.p }, v;

    if (key.n == 0 || key.n > (size_t)mdb_env_get_maxkeysize(s->env)) return ERR_NOTFOUND;
    int rc = mdb_get(s->read, s->db[db], &k, &v);
    if (rc) return store_mdb_err(s, rc, "reading", NULL);
    *out = slice_of(v.mv_data, v.mv_size);
    return ERR_OK;
}
