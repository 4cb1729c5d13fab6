/* A model folder in a directory. */
#include "store/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE = 1 << 18 };

static enum err pass_on(int fd, const char *path, uint64_t at, uint64_t n, folder_sink sink,
                        void *arg, struct why *why)
{
    uint8_t *p = malloc(PIECE);
    enum err e = p ? ERR_OK : fail(why, ERR_NOMEM, "out of memory");

    while (!e && n > 0) {
        ssize_t got = pread(fd, p, n < PIECE ? (size_t)n : PIECE, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) {
            e = fail(why, ERR_IO, "%s: %s", path, got < 0 ? strerror(errno) : "it became shorter");
            break;
        }
        e = sink(arg, slice_of(p, (size_t)got));
        at += (uint64_t)got;
        n -= (uint64_t)got;
    }
    free(p);
    return e;
}

static enum err dir_read(struct folder_source *f, const char *file, uint64_t at, uint64_t n,
                         folder_sink sink, void *arg, struct why *why)
{
    char path[FILE_PATH_MAX];
    struct stat st;
    enum err e = file_path(path, ((struct folder_dir *)f)->dir, file, why);
    if (e) return e;

    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return fail(why, errno == ENOENT ? ERR_NOTFOUND : ERR_IO, "%s: %s", path, strerror(errno));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        e = fail(why, ERR_IO, "%s is not a file", path);
    else if (at > (uint64_t)st.st_size || n > (uint64_t)st.st_size - at)
        e = fail(why, ERR_MALFORMED, "%s is cut short: %llu bytes, at least %llu expected", path,
                 (unsigned long long)st.st_size, (unsigned long long)(at + n));
    else
        e = pass_on(fd, path, at, n, sink, arg, why);
    close(fd);
    return e;
}

static enum err dir_read_small(struct folder_source *f, const char *file, size_t max, uint8_t **out,
                               size_t *n, struct why *why)
{
    char path[FILE_PATH_MAX];
    enum err e = file_path(path, ((struct folder_dir *)f)->dir, file, why);
    return e ? e : file_read(path, max, out, n, why);
}

void folder_dir_init(struct folder_dir *d, const char *dir)
{
    *d = (struct folder_dir){ { dir_read, dir_read_small }, dir };
}
