/* file.h - a small file as bytes (configurations, templates, indexes); a new file, whole or not at
 * all. */
#ifndef STORE_FILE_H
#define STORE_FILE_H

#include "base/err.h"
#include "base/slice.h"

enum { FILE_PATH_MAX = 4096 };

/* The whole of a regular file of at most max bytes; *out is owned by the caller (free) and has one
 * NUL byte past *n.  ERR_NOTFOUND: there is no such file; else ERR_IO, ERR_RANGE with why. */
MUST_CHECK enum err file_read(const char *path, size_t max, uint8_t **out, size_t *n,
                              struct why *why);

/* dir/name into out; ERR_RANGE with why when it is too long. */
MUST_CHECK enum err file_path(char out[FILE_PATH_MAX], const char *dir, const char *name,
                              struct why *why);

/* A file that appears under its name only when it is whole: bytes go to a file beside it, which
 * takes the name in the end.  Small pieces are gathered before they are written. */
struct file_out {
    const char *path; /* borrowed until file_finish */
    char tmp[FILE_PATH_MAX];
    int fd;
    enum err failed; /* the first write that failed; later ones do nothing */
    uint8_t *buf;    /* owned */
    size_t n;        /* bytes in buf */
};
/* ERR_IO with why naming the file; then there is nothing to finish. */
MUST_CHECK enum err file_create(struct file_out *f, const char *path, struct why *why);
/* The same for its owner's eyes only (0600). */
MUST_CHECK enum err file_create_private(struct file_out *f, const char *path, struct why *why);
void file_put(struct file_out *f, const void *bytes, size_t n);
/* Write what is left, make it durable and give it its name; with e not 0, or when a file_put
 * failed, take it away.  Returns e, or ERR_DISKFULL, ERR_IO with why. */
MUST_CHECK enum err file_finish(struct file_out *f, enum err e, struct why *why);

/* All n bytes to fd, however many calls it takes.  ERR_DISKFULL, ERR_IO. */
MUST_CHECK enum err file_write(int fd, const void *bytes, size_t n);

#endif
