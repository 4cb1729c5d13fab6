/* source.h - the tensors of a checkpoint folder, whichever of its files they lie in.
 *
 * Either model.safetensors, or the files that model.safetensors.index.json lists.  Index and files
 * must agree exactly: every mapped tensor is in its file, every tensor of a file is mapped to it.
 * File names in an index are plain names in the same folder. */
#ifndef STORE_SOURCE_H
#define STORE_SOURCE_H

#include "store/manifest.h"
#include "store/safetensors.h"

struct source;

/* A tensor and where it is. */
struct source_tensor {
    const struct st_tensor *t; /* borrowed from the source */
    uint32_t file;
    bool used; /* the caller's mark */
};

MUST_CHECK enum err source_open(struct source **out, const char *dir, struct why *why);
void source_close(struct source *s); /* NULL is fine */

uint32_t source_n(const struct source *s);
struct source_tensor *source_nth(struct source *s, uint32_t i); /* ascending by name */
struct source_tensor *source_find(struct source *s, const char *name);
/* The first tensor whose name begins with prefix, or NULL. */
struct source_tensor *source_find_prefix(struct source *s, const char *prefix);

uint64_t source_bytes(const struct source *s);                  /* of all tensors */
const char *source_file(const struct source *s, uint32_t file); /* its name */

/* What a file is: header, length, times of change.  Another hash after any change that the file
 * system knows of. */
const struct hash *source_identity(const struct source *s, uint32_t file);
/* ERR_IO with why when a file has changed since it was opened. */
MUST_CHECK enum err source_check_unchanged(const struct source *s, struct why *why);

/* Bytes [lo, hi) of a tensor will be read soon; will not be read soon. */
void source_will_need(const struct st_tensor *t, uint64_t lo, uint64_t hi);
void source_done_with(const struct st_tensor *t, uint64_t lo, uint64_t hi);

#endif
