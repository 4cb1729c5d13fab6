#include "tests/sim/disk_sim.h"

#include "stage/shelf.h"

#include "tests/sim/world.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FD_FIRST = 1 << 20, FDS_MAX = 1024, FOLDERS_MAX = 1024, NAME_BYTES = 128, FILES_MAX = 512 };

/* A file outlives its name while it is open. */
struct file {
    uint8_t *p; /* owned */
    size_t n, cap, n_synced;
    time_t mtime;
    unsigned refs;
};

struct name {
    char text[NAME_BYTES];
    struct file *file;   /* now; NULL: it has been removed */
    struct file *synced; /* what the folder on disk says; NULL: nothing */
};

struct folder {
    char path[64];
    struct name name[FILES_MAX];
    unsigned n;
    bool is_frozen;
    uint64_t fails_until_us;
};

struct open_file {
    struct folder *folder;
    struct file *file; /* NULL: the folder itself */
    size_t at;
    unsigned next; /* entry of readdir */
    bool is_open;
};

static struct {
    struct folder *folder[FOLDERS_MAX]; /* owned */
    unsigned n;
    struct open_file fd[FDS_MAX];
} disk;

/* --- folders and files --- */

static struct folder *folder_find(const char *path)
{
    for (unsigned i = 0; i < disk.n; i++)
        if (strcmp(disk.folder[i]->path, path) == 0) return disk.folder[i];
    return NULL;
}

static struct folder *folder_get(const char *path)
{
    struct folder *d = folder_find(path);
    if (d) return d;
    if (disk.n == FOLDERS_MAX || !(d = calloc(1, sizeof *d))) abort();
    snprintf(d->path, sizeof d->path, "%s", path);
    return disk.folder[disk.n++] = d;
}

static struct file *hold(struct file *f)
{
    if (f) f->refs++;
    return f;
}

static void release(struct file *f)
{
    if (!f || --f->refs) return;
    free(f->p);
    free(f);
}

static void set(struct file **to, struct file *f)
{
    struct file *old = *to;
    *to = hold(f);
    release(old);
}

static struct name *name_find(struct folder *d, const char *text)
{
    for (unsigned i = 0; i < d->n; i++)
        if (strcmp(d->name[i].text, text) == 0) return &d->name[i];
    return NULL;
}

/* Names that mean nothing any more make room. */
static void tidy(struct folder *d)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < d->n; i++)
        if (d->name[i].file || d->name[i].synced) d->name[kept++] = d->name[i];
    d->n = kept;
}

static bool fails(const struct folder *d)
{
    return d->fails_until_us > world_us() && draw_is(FOR_FAULTS, 70);
}

/* --- what happens to disks --- */

void disk_sim_begin(void)
{
    memset(&disk, 0, sizeof disk);
}

void disk_sim_end(void)
{
    for (unsigned i = 0; i < disk.n; i++) {
        for (unsigned k = 0; k < disk.folder[i]->n; k++) {
            set(&disk.folder[i]->name[k].file, NULL);
            set(&disk.folder[i]->name[k].synced, NULL);
        }
        free(disk.folder[i]);
    }
    disk.n = 0;
}

void disk_sim_freeze(const char *dir)
{
    folder_get(dir)->is_frozen = true;
}

void disk_sim_thaw(const char *dir)
{
    folder_get(dir)->is_frozen = false;
}

void disk_sim_pull_plug(const char *dir)
{
    struct folder *d = folder_get(dir);
    for (unsigned i = 0; i < d->n; i++) {
        struct name *k = &d->name[i];
        if (draw_is(FOR_FAULTS, 50)) set(&k->file, k->synced);
        set(&k->synced, k->file);
        struct file *f = k->file;
        if (!f || f->n <= f->n_synced) continue;
        f->n = f->n_synced + draw_below(FOR_FAULTS, f->n - f->n_synced + 1);
        if (f->n > f->n_synced && draw_is(FOR_FAULTS, 30)) /* a block that was not written */
            memset(f->p + f->n_synced, 0, f->n - f->n_synced);
        f->n_synced = f->n;
    }
    tidy(d);
}

void disk_sim_fail(const char *dir, uint64_t until_us)
{
    folder_get(dir)->fails_until_us = until_us;
}

unsigned disk_sim_files(const char *dir)
{
    const struct folder *d = folder_find(dir);
    unsigned n = 0;
    for (unsigned i = 0; d && i < d->n; i++) n += d->name[i].file != NULL;
    return n;
}

/* --- the calls --- */

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __real_openat(int dir, const char *path, int flags, ...);
int __wrap_openat(int dir, const char *path, int flags, ...);
ssize_t __real_write(int fd, const void *p, size_t n);
ssize_t __wrap_write(int fd, const void *p, size_t n);
ssize_t __real_read(int fd, void *p, size_t n);
ssize_t __wrap_read(int fd, void *p, size_t n);
int __real_close(int fd);
int __wrap_close(int fd);
int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __real_ftruncate(int fd, off_t n);
int __wrap_ftruncate(int fd, off_t n);
off_t __real_lseek(int fd, off_t at, int from);
off_t __wrap_lseek(int fd, off_t at, int from);
int __real_unlinkat(int dir, const char *path, int flags);
int __wrap_unlinkat(int dir, const char *path, int flags);
int __real_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode);
int __real_fstat(int fd, struct stat *st);
int __wrap_fstat(int fd, struct stat *st);
DIR *__real_opendir(const char *path);
DIR *__wrap_opendir(const char *path);
struct dirent *__real_readdir(DIR *d);
struct dirent *__wrap_readdir(DIR *d);
int __real_dirfd(DIR *d);
int __wrap_dirfd(DIR *d);
int __real_closedir(DIR *d);
int __wrap_closedir(DIR *d);

static bool is_ours(const char *path)
{
    return strncmp(path, "/sim/", 5) == 0;
}

static struct open_file *of(int fd)
{
    if (fd < FD_FIRST || fd >= FD_FIRST + FDS_MAX) return NULL;
    struct open_file *o = &disk.fd[fd - FD_FIRST];
    if (!o->is_open) abort(); /* it has been closed, or never was */
    return o;
}

static int fail_with(int e)
{
    errno = e;
    return -1;
}

static int fd_new(struct folder *d, struct file *f)
{
    unsigned i = 0;
    while (i < FDS_MAX && disk.fd[i].is_open) i++;
    if (i == FDS_MAX) return fail_with(EMFILE);
    disk.fd[i] = (struct open_file){ .folder = d, .file = hold(f), .is_open = true };
    return FD_FIRST + (int)i;
}

int __wrap_open(const char *path, int flags, ...)
{
    if (!is_ours(path)) return __real_open(path, flags, 0600);
    struct folder *d = folder_find(path);
    return d ? fd_new(d, NULL) : fail_with(ENOENT);
}

int __wrap_openat(int dir, const char *path, int flags, ...)
{
    struct open_file *o = of(dir);
    if (!o) return __real_openat(dir, path, flags, 0600);
    struct folder *d = o->folder;
    struct name *k = name_find(d, path);
    if (k && k->file) {
        if (flags & O_EXCL) return fail_with(EEXIST);
        return fd_new(d, k->file);
    }
    if (!(flags & O_CREAT)) return fail_with(ENOENT);
    if (d->is_frozen || fails(d)) return fail_with(ENOSPC);
    if (!k) {
        tidy(d);
        if (d->n == FILES_MAX) return fail_with(ENOSPC);
        k = &d->name[d->n++];
        *k = (struct name){ 0 };
        snprintf(k->text, sizeof k->text, "%s", path);
    }
    struct file *f = calloc(1, sizeof *f);
    if (!f) abort();
    set(&k->file, f);
    return fd_new(d, f);
}

ssize_t __wrap_write(int fd, const void *p, size_t n)
{
    struct open_file *o = of(fd);
    if (!o) return __real_write(fd, p, n);
    struct file *f = o->file;
    if (o->folder->is_frozen) return (ssize_t)n;
    if (fails(o->folder)) {
        if (n < 2 || draw_is(FOR_FAULTS, 50)) return fail_with(ENOSPC);
        n = n / 2; /* as much as there was room for */
    }
    if (o->at + n > f->cap) {
        f->cap = 2 * (o->at + n);
        f->p = realloc(f->p, f->cap);
        if (!f->p) abort();
    }
    memcpy(f->p + o->at, p, n);
    if (o->at < f->n_synced) f->n_synced = o->at;
    o->at += n;
    if (o->at > f->n) f->n = o->at;
    f->mtime = time(NULL);
    return (ssize_t)n;
}

ssize_t __wrap_read(int fd, void *p, size_t n)
{
    struct open_file *o = of(fd);
    if (!o) return __real_read(fd, p, n);
    size_t left = o->at < o->file->n ? o->file->n - o->at : 0;
    if (n > left) n = left;
    if (n > 0) memcpy(p, o->file->p + o->at, n);
    o->at += n;
    return (ssize_t)n;
}

int __wrap_close(int fd)
{
    struct open_file *o = of(fd);
    if (!o) return __real_close(fd);
    release(o->file);
    o->is_open = false;
    return 0;
}

static int sync_file(struct open_file *o)
{
    struct folder *d = o->folder;
    if (d->is_frozen) return 0;
    if (fails(d)) return fail_with(EIO);
    if (o->file) {
        o->file->n_synced = o->file->n;
        return 0;
    }
    for (unsigned i = 0; i < d->n; i++) set(&d->name[i].synced, d->name[i].file);
    tidy(d);
    return 0;
}

int __wrap_fsync(int fd)
{
    struct open_file *o = of(fd);
    return o ? sync_file(o) : __real_fsync(fd);
}

int __wrap_fdatasync(int fd)
{
    struct open_file *o = of(fd);
    return o ? sync_file(o) : __real_fdatasync(fd);
}

int __wrap_ftruncate(int fd, off_t n)
{
    struct open_file *o = of(fd);
    if (!o) return __real_ftruncate(fd, n);
    if (o->folder->is_frozen) return 0;
    if (fails(o->folder)) return fail_with(EIO);
    if ((size_t)n < o->file->n) o->file->n = (size_t)n;
    if (o->file->n_synced > o->file->n) o->file->n_synced = o->file->n;
    return 0;
}

off_t __wrap_lseek(int fd, off_t at, int from)
{
    struct open_file *o = of(fd);
    if (!o) return __real_lseek(fd, at, from);
    o->at = from == SEEK_END ? o->file->n + (size_t)at : (size_t)at;
    return (off_t)o->at;
}

int __wrap_unlinkat(int dir, const char *path, int flags)
{
    struct open_file *o = of(dir);
    if (!o) return __real_unlinkat(dir, path, flags);
    if (o->folder->is_frozen) return 0;
    struct name *k = name_find(o->folder, path);
    if (!k || !k->file) return fail_with(ENOENT);
    set(&k->file, NULL);
    return 0;
}

int __wrap_mkdir(const char *path, mode_t mode)
{
    if (!is_ours(path)) return __real_mkdir(path, mode);
    if (folder_find(path)) return fail_with(EEXIST);
    (void)folder_get(path);
    return 0;
}

int __wrap_fstat(int fd, struct stat *st)
{
    const struct open_file *o = of(fd);
    if (!o) return __real_fstat(fd, st);
    memset(st, 0, sizeof *st);
    st->st_mode = o->file ? S_IFREG | 0600 : S_IFDIR | 0700;
    st->st_uid = geteuid();
    st->st_size = o->file ? (off_t)o->file->n : 0;
    st->st_mtime = o->file ? o->file->mtime : 0;
    return 0;
}

/* A DIR of ours is its open_file. */
static bool is_our_dir(const void *d)
{
    return (const char *)d >= (const char *)disk.fd &&
           (const char *)d < (const char *)(disk.fd + FDS_MAX);
}

DIR *__wrap_opendir(const char *path)
{
    if (!is_ours(path)) return __real_opendir(path);
    int fd = __wrap_open(path, O_RDONLY);
    return fd < 0 ? NULL : (DIR *)(void *)of(fd);
}

struct dirent *__wrap_readdir(DIR *d)
{
    static struct dirent entry;
    if (!is_our_dir(d)) return __real_readdir(d);
    struct open_file *o = (struct open_file *)(void *)d;
    while (o->next < o->folder->n) {
        const struct name *k = &o->folder->name[o->next++];
        if (!k->file) continue;
        snprintf(entry.d_name, sizeof entry.d_name, "%s", k->text);
        return &entry;
    }
    return NULL;
}

int __wrap_dirfd(DIR *d)
{
    if (!is_our_dir(d)) return __real_dirfd(d);
    return FD_FIRST + (int)((struct open_file *)(void *)d - disk.fd);
}

int __wrap_closedir(DIR *d)
{
    return is_our_dir(d) ? __wrap_close(__wrap_dirfd(d)) : __real_closedir(d);
}

/* --- what of conversations is kept on disk (stage/shelf.h): nothing --- */

bool shelf_find(struct shelf *s, struct shelf_search *q)
{
    (void)s, (void)q;
    return false;
}

void shelf_keep(struct shelf *s, struct kept_block *const *blocks, uint32_t n,
                const uint8_t *before, uint64_t stamp, const uint8_t *path, uint32_t n_path)
{
    (void)s, (void)blocks, (void)n, (void)before, (void)stamp, (void)path, (void)n_path;
}

void shelf_learn(struct shelf *s, uint32_t lo, uint32_t n, const uint8_t *ids, const uint8_t *rows)
{
    (void)s, (void)lo, (void)n, (void)ids, (void)rows;
}

void shelf_recall(const struct shelf *s, struct recall *into)
{
    (void)s, (void)into;
}

uint64_t shelf_stamp(struct shelf *s)
{
    (void)s;
    return 0;
}

uint64_t shelf_bytes(const struct shelf *s)
{
    (void)s;
    return 0;
}
