#include "store/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum err file_path(char out[FILE_PATH_MAX], const char *dir, const char *name, struct why *why)
{
    int n = snprintf(out, FILE_PATH_MAX, "%s/%s", dir, name);

    if (n < 0 || n >= FILE_PATH_MAX)
        return fail(why, ERR_RANGE, "the path %.100s.../%.100s is too long", dir, name);
    return ERR_OK;
}

/* Exactly n bytes of fd into p: a file that shrinks while we read it is an error. */
static enum err read_all(int fd, uint8_t *p, size_t n)
{
    while (n > 0) {
        ssize_t got = read(fd, p, n);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return ERR_IO;
        p += got;
        n -= (size_t)got;
    }
    return ERR_OK;
}

static enum err read_open(int fd, const char *path, size_t max, uint8_t **out, size_t *n,
                          struct why *why)
{
    struct stat st;

    if (fstat(fd, &st) != 0) return fail(why, ERR_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode)) return fail(why, ERR_IO, "%s is not a file", path);
    if ((uint64_t)st.st_size > max)
        return fail(why, ERR_RANGE, "%s has %lld bytes, at most %zu are read", path,
                    (long long)st.st_size, max);

    size_t len = (size_t)st.st_size;
    uint8_t *p = malloc(len + 1);
    if (!p) return fail(why, ERR_NOMEM, "%s: out of memory", path);
    if (read_all(fd, p, len)) {
        free(p);
        return fail(why, ERR_IO, "%s cannot be read", path);
    }
    p[len] = 0;
    *out = p;
    *n = len;
    return ERR_OK;
}

enum err file_read(const char *path, size_t max, uint8_t **out, size_t *n, struct why *why)
{
    int fd =
        open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe by that name must not hang us */
    if (fd < 0)
        return fail(why, errno == ENOENT ? ERR_NOTFOUND : ERR_IO, "%s: %s", path, strerror(errno));

    enum err e = read_open(fd, path, max, out, n, why);
    close(fd);
    return e;
}

/* --- a new file, whole or not at all --- */

enum { GATHER = 1 << 20 };

static enum err create(struct file_out *f, const char *path, mode_t mode, struct why *why)
{
    *f = (struct file_out){ .path = path, .fd = -1 };
    int len = snprintf(f->tmp, sizeof f->tmp, "%s.tmp-%ld", path, (long)getpid());

    if (len < 0 || (size_t)len >= sizeof f->tmp)
        return fail(why, ERR_RANGE, "the path %.100s... is too long", path);
    if (!(f->buf = malloc(GATHER))) return fail(why, ERR_NOMEM, "%s: out of memory", path);
    f->fd = open(f->tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (f->fd >= 0) return ERR_OK;
    free(f->buf);
    return fail(why, ERR_IO, "%s: %s", f->tmp, strerror(errno));
}

enum err file_create(struct file_out *f, const char *path, struct why *why)
{
    return create(f, path, 0666, why);
}

enum err file_create_private(struct file_out *f, const char *path, struct why *why)
{
    return create(f, path, 0600, why);
}

enum err file_write(int fd, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    while (n > 0) {
        ssize_t put = write(fd, p, n);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0)
            return put < 0 && (errno == ENOSPC || errno == EDQUOT) ? ERR_DISKFULL : ERR_IO;
        p += put;
        n -= (size_t)put;
    }
    return ERR_OK;
}

static void write_all(struct file_out *f, const uint8_t *p, size_t n)
{
    if (!f->failed) f->failed = file_write(f->fd, p, n);
}

static void flush(struct file_out *f)
{
    write_all(f, f->buf, f->n);
    f->n = 0;
}

void file_put(struct file_out *f, const void *bytes, size_t n)
{
    if (n > GATHER - f->n) flush(f);
    if (n > GATHER) {
        write_all(f, bytes, n);
    } else if (n > 0) {
        memcpy(f->buf + f->n, bytes, n);
        f->n += n;
    }
}

enum err file_finish(struct file_out *f, enum err e, struct why *why)
{
    enum err out = e;

    if (!e) {
        flush(f);
        out = f->failed;
        if (!out && fsync(f->fd) != 0) out = ERR_IO;
    }
    free(f->buf);
    if (close(f->fd) != 0 && !out) out = ERR_IO;
    if (!out && rename(f->tmp, f->path) != 0) out = ERR_IO;
    if (!out) return ERR_OK;
    unlink(f->tmp);
    return e ? e : fail(why, out, "%s cannot be written: %s", f->path, err_text(out));
}
