/* gguf.h - a model of a store as one GGUF file, the format of llama.cpp: for people who want to
 * take a model elsewhere, and for measuring ourselves against a peer on the same weights.
 *
 *   gguf_tensors.c   which of our tensors make which of theirs: ours are cut, theirs are whole
 *   gguf_write.c     header, names and numbers, then the rows, streamed
 *
 * q40 becomes Q4_0, q80 Q8_0, f32, f16 and bf16 themselves: the same numbers, in rows instead of
 * groups of 16.  Norms, router and biases are F32.  The tokenizer is left out
 * (tokenizer.ggml.model = "none"): the file takes and gives token ids.
 *
 * Source: ggml, docs/gguf.md (version 3) and ggml-common.h; llama.cpp's names for the architectures
 * "glm4" (dense, interleaved rotation) and "glm4moe" (half rotation). */
#ifndef STORE_GGUF_H
#define STORE_GGUF_H

#include "store/store.h"

enum {
    GGUF_VERSION = 3,
    GGUF_ALIGNMENT = 32, /* of the data, and of each tensor in it */
    GGUF_NAME_MAX = 64,  /* a tensor's name with its end */
};

/* How our tensors lie in one of theirs. */
enum gguf_join {
    GGUF_BELOW,  /* the items' rows one after the other; experts too: [expert][row] */
    GGUF_BESIDE, /* every row is the items' rows side by side */
};

struct gguf_tensor {
    char name[GGUF_NAME_MAX];
    enum wtype type;
    uint32_t n_dims;
    uint64_t dim[3]; /* their order: elements of a row first */
    uint32_t layer;  /* or ARCH_ENDS */
    enum gguf_join join;
    uint32_t n_roles; /* 2: gate rows of all parts, then up rows of all parts */
    enum tensor_role role[2];
};

/* Every tensor of the file in its order; *out [*n] is owned by the caller (free).
 * ERR_UNSUPPORTED with why: llama.cpp has no such model, or no such width of a quantized row. */
MUST_CHECK enum err gguf_tensors(const struct arch *a, struct gguf_tensor **out, uint32_t *n,
                                 struct why *why);

/* The number of a type in the file; bytes of n elements of it; bytes of a tensor without padding.
 */
uint32_t gguf_type(enum wtype t);
uint64_t gguf_row_bytes(enum wtype t, uint64_t n);
uint64_t gguf_bytes(const struct gguf_tensor *t);

struct gguf_options {
    const char *name;                                           /* general.name; "" is fine */
    void (*progress)(void *arg, uint64_t done, uint64_t total); /* bytes; or NULL */
    void *arg;
};

/* Write the model, in less than 16 MiB of memory besides what the tile pointers of one layer take.
 * ERR_NOTFOUND with why naming the layer that the store does not hold; ERR_UNSUPPORTED;
 * ERR_DISKFULL, ERR_IO: no file is left behind. */
MUST_CHECK enum err gguf_write(struct store *s, const struct manifest *m, const char *path,
                               const struct gguf_options *o, struct why *why);

#endif
