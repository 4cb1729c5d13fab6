/* safetensors.h - the Hugging Face tensor file: a strict reader and a small writer.
 *
 * Format: 8-byte little-endian header length, JSON header, data (model-facts F).  Stricter than the
 * reference: duplicate names are refused too. */
#ifndef STORE_SAFETENSORS_H
#define STORE_SAFETENSORS_H

#include "base/err.h"
#include "base/slice.h"

enum st_dtype { ST_F32, ST_F16, ST_BF16, ST_I32, ST_I64, ST_U8, ST_OTHER };
enum { ST_DIMS_MAX = 8 };

struct st_tensor {
    const char *name;       /* borrowed from the file */
    enum st_dtype dtype;
    const char *dtype_name; /* as spelled, for errors */
    uint32_t n_dims;
    uint64_t dim[ST_DIMS_MAX];
    struct slice data;      /* in the map, borrowed; any alignment */
};

struct safetensors;
/* Open and check the whole header; the data is mapped, not read. */
MUST_CHECK enum err safetensors_open(struct safetensors **out, const char *path, struct why *why);
void safetensors_close(struct safetensors *f);
uint32_t safetensors_n(const struct safetensors *f);
const struct st_tensor *safetensors_nth(const struct safetensors *f, uint32_t i); /* by data offset */
const struct st_tensor *safetensors_find(const struct safetensors *f, const char *name);
struct slice safetensors_header(const struct safetensors *f); /* length and JSON, as in the file */

/* Write tensors (name, dtype, dims, data set; dtype_name is not read) to path, through a temporary
 * file renamed at the end. */
MUST_CHECK enum err safetensors_write(const char *path, const struct st_tensor *t, uint32_t n,
                                      struct why *why);

#endif
