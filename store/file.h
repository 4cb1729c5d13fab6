/* file.h - a small file as bytes: configurations, templates, indexes. */
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

#endif
