/* Is the environment's file sound enough to be read?
 *
 * LMDB believes its pages: a flipped bit in one is a pointer that leads anywhere, and the process
 * that follows it dies.  So before a store is opened, a child process opens it, walks every table,
 * looks every key up again and checks that every value lies inside the file; if it dies, only it
 * does.  This reads the tree's inner pages and leaves, not the tiles: 60 GB of tiles have about
 * 5 MB of those.  Whether a tile's bytes are right its hash says, when somebody asks. */
#include "store/store_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum verdict { SOUND, DAMAGED, UNKNOWN };

struct walk {
    MDB_env *env;
    MDB_txn *txn;
    const uint8_t *map;
    uint64_t file, pages; /* bytes of the file; pages in use */
};

static bool inside(const struct walk *w, MDB_val v)
{
    uint64_t at = (uint64_t)((const uint8_t *)v.mv_data - w->map);

    return (const uint8_t *)v.mv_data >= w->map && at <= w->file && v.mv_size <= w->file - at;
}

/* The pages that a transaction left free: how many, then each, the highest first. */
static bool free_list_ok(const struct walk *w, MDB_val v)
{
    const size_t *p = v.mv_data;
    size_t n = v.mv_size / sizeof *p;

    if (n == 0 || v.mv_size % sizeof *p || p[0] > n - 1) return false;
    for (size_t i = 1; i <= p[0]; i++)
        if (p[i] < 2 || p[i] >= w->pages || (i > 1 && p[i] >= p[i - 1])) return false;
    return true;
}

/* Keys must ascend: on a tree with a loop in it they do not, so this ends. */
static bool ascends(MDB_val before, MDB_val k)
{
    size_t n = before.mv_size < k.mv_size ? before.mv_size : k.mv_size;
    int c = memcmp(before.mv_data, k.mv_data, n);
    return c ? c < 0 : before.mv_size < k.mv_size;
}

static bool found_again(const struct walk *w, MDB_dbi dbi, MDB_val k, MDB_val v)
{
    MDB_val again;
    return mdb_get(w->txn, dbi, &k, &again) == 0 && again.mv_data == v.mv_data &&
           again.mv_size == v.mv_size;
}

static enum verdict walk_db(const struct walk *w, MDB_dbi dbi)
{
    enum { FREE_DBI = 0 }; /* LMDB's own: transaction number -> pages that it freed */
    MDB_cursor *c;
    MDB_val k, v, before = { 0 };
    size_t txn, txn_before = 0;
    int rc = mdb_cursor_open(w->txn, dbi, &c);

    if (rc) return DAMAGED;
    while (!(rc = mdb_cursor_get(c, &k, &v, MDB_NEXT))) {
        if (!inside(w, k) || !inside(w, v)) return DAMAGED;
        if (dbi == FREE_DBI) {
            if (k.mv_size != sizeof txn) return DAMAGED;
            memcpy(&txn, k.mv_data, sizeof txn);
            if (txn <= txn_before || !free_list_ok(w, v)) return DAMAGED;
            txn_before = txn;
            continue;
        }
        if (before.mv_data && !ascends(before, k)) return DAMAGED;
        if (!found_again(w, dbi, k, v)) return DAMAGED;
        before = k;
    }
    return rc == MDB_NOTFOUND ? SOUND : DAMAGED;
}

static enum verdict walk_all(struct walk *w)
{
    enum verdict verdict = walk_db(w, 0);

    for (int i = 0; i < DB_COUNT && verdict == SOUND; i++) {
        MDB_dbi dbi;
        int rc = mdb_dbi_open(w->txn, store_db_names[i], 0, &dbi);
        /* a store whose first writer was killed may lack some */
        if (rc == 0)
            verdict = walk_db(w, dbi);
        else if (rc != MDB_NOTFOUND)
            verdict = DAMAGED;
    }
    return verdict;
}

static enum verdict try_open(const struct store *s, struct walk *w)
{
    int rc = mdb_env_create(&w->env);

    if (!rc) rc = mdb_env_set_maxdbs(w->env, DB_COUNT);
    if (!rc) rc = mdb_env_set_maxreaders(w->env, STORE_READERS_MAX);
    if (!rc) rc = mdb_env_open(w->env, s->dir, MDB_NOTLS | MDB_RDONLY, 0644);
    if (!rc) rc = mdb_txn_begin(w->env, NULL, MDB_RDONLY, &w->txn);
    /* What is no damage the opener will find out too, and say. */
    return rc == 0 ? SOUND : UNKNOWN;
}

/* Where LMDB has mapped the file; it does not tell, the kernel does. */
static const uint8_t *map_of(ino_t inode)
{
    FILE *f = fopen("/proc/self/maps", "r");
    char line[FILE_PATH_MAX + 128];
    const uint8_t *found = NULL;

    if (!f) return NULL;
    while (!found && fgets(line, sizeof line, f)) {
        uintptr_t at;
        unsigned long offset, number;
        if (sscanf(line, "%" SCNxPTR "-%*x %*s %lx %*s %lu", &at, &offset, &number) == 3 &&
            number == inode && offset == 0)
            found = (const uint8_t *)at;
    }
    fclose(f);
    return found;
}

static enum verdict inspect(const struct store *s)
{
    struct walk w = { 0 };
    MDB_envinfo info;
    MDB_stat tree;
    struct stat st;
    int fd;

    enum verdict verdict = try_open(s, &w);
    if (verdict) return verdict;
    mdb_env_info(w.env, &info);
    mdb_env_stat(w.env, &tree);
    mdb_env_get_fd(w.env, &fd);
    if (fstat(fd, &st) != 0) return UNKNOWN;
    w.map = map_of(st.st_ino);
    w.file = (uint64_t)st.st_size;
    w.pages = (uint64_t)info.me_last_pgno + 1;
    if (tree.ms_psize < 512 || (tree.ms_psize & (tree.ms_psize - 1))) return DAMAGED;
    if (w.file / tree.ms_psize < w.pages) return UNKNOWN; /* cut short */
    if (!w.map) return UNKNOWN;
    verdict = walk_all(&w);
    mdb_txn_abort(w.txn); /* gives its place among the readers back */
    mdb_env_close(w.env);
    return verdict;
}

_Noreturn static void child(const struct store *s)
{
    static const int DEADLY[] = { SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL };
    int null = open("/dev/null", O_WRONLY);

    for (size_t i = 0; i < sizeof DEADLY / sizeof *DEADLY; i++) signal(DEADLY[i], SIG_DFL);
    setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
    if (null >= 0) dup2(null, STDERR_FILENO); /* LMDB's last words are not for people */
    _exit((int)inspect(s));
}

/* A value that has pages of its own is told by their head how many they are, and LMDB frees so
 * many, or aborts.  The walk above does not read those heads: there is one for each tile. */
static bool is_head_sound(const MDB_stat *tree, MDB_val v)
{
    enum { P_OVERFLOW = 0x04 };
    struct head { /* of lmdb 0.9, on 64 bits */
        uint64_t number;
        uint16_t pad, flags;
        uint32_t pages;
    } h;
    uint64_t size = tree->ms_psize;

    _Static_assert(sizeof h == 16, "the bytes before such a value");
    if (v.mv_size < size / 2) return true; /* it lies in a leaf */
    memcpy(&h, (const uint8_t *)v.mv_data - sizeof h, sizeof h);
    return (h.flags & P_OVERFLOW) && h.pages == (sizeof h + v.mv_size + size - 1) / size;
}

int store_del_tile(struct store *s, MDB_txn *txn, const struct hash *hash)
{
    MDB_stat tree;
    MDB_val v, k = { HASH_BYTES, (void *)(uintptr_t)hash->b };
    int rc = mdb_stat(txn, s->db[DB_TILES], &tree);

    if (!rc) rc = mdb_get(txn, s->db[DB_TILES], &k, &v);
    if (rc) return rc;
    return is_head_sound(&tree, v) ? mdb_del(txn, s->db[DB_TILES], &k, NULL) : MDB_CORRUPTED;
}

enum err store_check_pages(const struct store *s, struct why *why)
{
    char path[FILE_PATH_MAX];
    struct stat st;
    int status;
    enum err e = file_path(path, s->dir, "data.mdb", why);
    if (e) return e;
    if (stat(path, &st) != 0 || st.st_size == 0) return ERR_OK; /* a new store, or none */

    pid_t got, pid = fork();
    if (pid < 0) return fail(why, ERR_IO, "store %s: fork: %s", s->dir, strerror(errno));
    if (pid == 0) child(s);
    do got = waitpid(pid, &status, 0);
    while (got < 0 && errno == EINTR);
    if (got < 0) return ERR_OK; /* somebody ignores SIGCHLD: nothing is known */
    if (WIFEXITED(status) && WEXITSTATUS(status) != DAMAGED) return ERR_OK;
    return fail(why, ERR_MALFORMED,
                "store %s: data.mdb is damaged; move it away, then convert or import again",
                s->dir);
}
