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
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail(why, errno == ENOENT ? ERR_NOTFOUND : ERR_IO, "%s: %s", path, strerror(errno));

    enum err e = read_open(fd, path, max, out, n, why);
    close(fd);
    return e;
}
