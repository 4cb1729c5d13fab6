/* A model folder made from a store. */
#include "store/folder.h"
#include "store/store_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static enum err make_dirs(char *path, struct why *why)
{
    for (char *c = path + 1;; c++) {
        char was = *c;
        if (was != '/' && was != 0) continue;
        *c = 0;
        bool good = mkdir(path, 0755) == 0 || errno == EEXIST;
        if (!good) return fail(why, ERR_IO, "%s: %s", path, strerror(errno));
        *c = was;
        if (!was) return ERR_OK;
    }
}

enum err folder_create(struct folder_writer *w, const char *dir, struct why *why)
{
    struct stat st;

    *w = (struct folder_writer){ 0 };
    int n = snprintf(w->dir, sizeof w->dir, "%s", dir);
    if (n <= 0 || (size_t)n >= sizeof w->dir)
        return fail(why, ERR_USAGE, "the folder's path is empty or too long");
    enum err e = make_dirs(w->dir, why);
    if (e) return e;
    if (stat(w->dir, &st) != 0 || !S_ISDIR(st.st_mode))
        return fail(why, ERR_IO, "%s is not a folder", w->dir);
    return ERR_OK;
}

void folder_writer_fini(struct folder_writer *w)
{
    free(w->checksums.p);
    w->checksums.p = NULL;
}

/* --- one file --- */

struct out {
    char path[FILE_PATH_MAX], part[FILE_PATH_MAX];
    int fd;
    struct hasher hasher;
};

static enum err out_open(struct out *o, const struct folder_writer *w, const char *name,
                         struct why *why)
{
    char part[FOLDER_FILE_NAME + 8];

    snprintf(part, sizeof part, "%s.part", name);
    enum err e = file_path(o->path, w->dir, name, why);
    if (!e) e = file_path(o->part, w->dir, part, why);
    if (e) return e;
    hasher_init(&o->hasher);
    o->fd = open(o->part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    return o->fd < 0 ? fail(why, ERR_IO, "%s: %s", o->part, strerror(errno)) : ERR_OK;
}

static enum err out_error(const struct out *o, int code, struct why *why)
{
    return fail(why, code == ENOSPC || code == EDQUOT ? ERR_DISKFULL : ERR_IO, "%s: %s", o->part,
                strerror(code));
}

static enum err out_add(struct out *o, struct slice bytes, struct why *why)
{
    hasher_add(&o->hasher, bytes);
    while (bytes.n > 0) {
        ssize_t n = write(o->fd, bytes.p, bytes.n);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return out_error(o, errno, why);
        bytes = slice_of(bytes.p + n, bytes.n - (size_t)n);
    }
    return ERR_OK;
}

/* Durable, then by its name; or nothing of it. */
static enum err out_close(struct out *o, enum err e, struct hash *sum, struct why *why)
{
    if (!e && fsync(o->fd) != 0) e = out_error(o, errno, why);
    if (close(o->fd) != 0 && !e) e = out_error(o, errno, why);
    if (!e && rename(o->part, o->path) != 0) e = out_error(o, errno, why);
    if (e) unlink(o->part);
    *sum = hasher_end(&o->hasher);
    return e;
}

static void add_checksum(struct folder_writer *w, const char *name, const struct hash *sum)
{
    char hex[HASH_TEXT];
    hash_text(hex, sum);
    text_printf(&w->checksums, "%s  %s\n", hex, name);
}

enum err folder_put(struct folder_writer *w, const char *name, struct slice bytes, bool summed,
                    struct why *why)
{
    struct out o;
    struct hash sum;
    enum err e = out_open(&o, w, name, why);

    if (e) return e;
    e = out_close(&o, out_add(&o, bytes, why), &sum, why);
    if (!e && summed) add_checksum(w, name, &sum);
    return e;
}

enum err folder_finish(struct folder_writer *w, struct why *why)
{
    if (w->checksums.failed) return fail(why, ERR_NOMEM, "out of memory");
    return folder_put(w, FOLDER_CHECKSUMS, slice_of(w->checksums.p, w->checksums.n), false, why);
}

/* --- a layer --- */

static enum err add_checked(struct out *o, struct slice bytes, const struct hash *h,
                            const char *what, struct why *why)
{
    struct hash is = hash_of(bytes);

    if (!hash_equal(&is, h))
        return fail(why, ERR_MALFORMED, "%s is damaged; swarm-store verify --repair removes it",
                    what);
    return out_add(o, bytes, why);
}

static enum err add_tile(struct folder_writer *w, struct store *s, struct out *o,
                         const struct tile_place *p, const struct hash *h, struct why *why)
{
    struct slice v;
    char what[PLACE_TEXT];

    tile_place_text(what, p);
    enum err e = store_get(s, DB_TILES, hash_slice(h), &v);
    if (e) return fail(why, e, "the store lacks %s", what);
    if (v.n != p->bytes)
        return fail(why, ERR_MALFORMED, "%s has %zu bytes, %zu expected", what, v.n, p->bytes);
    e = add_checked(o, v, h, what, why);
    w->done += v.n;
    if (w->progress) w->progress(w->arg, w->done, w->total);
    return e;
}

enum err folder_put_layer(struct folder_writer *w, struct store *s, const struct manifest *m,
                          uint32_t layer, struct why *why)
{
    struct tile_place p = tile_before_first(&m->arch, layer);
    struct slice table;
    struct out o;
    struct hash sum;
    char name[FOLDER_FILE_NAME], where[LAYER_TEXT];

    folder_layer_name(name, layer);
    layer_text(where, layer);
    enum err e = store_table(s, m, layer, &table, why);
    if (!e) e = out_open(&o, w, name, why);
    if (e) return e;
    e = add_checked(&o, table, manifest_table(m, layer), where, why);
    while (!e && tile_next(&p)) {
        struct hash h = table_hash(table, p.at);
        e = add_tile(w, s, &o, &p, &h, why);
    }
    e = out_close(&o, e, &sum, why);
    if (!e) add_checksum(w, name, &sum);
    return e;
}
