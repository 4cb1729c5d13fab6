/* random.h - a model of random weights, straight into a store: what is measured when the real
 * weights are not at hand, or would take a day to fetch.
 *
 * The same architecture, types and seed give the same bytes and so the same model id, on every
 * machine and with any number of threads.  No two tiles are alike (equal ones would be stored
 * once, and stay in a cache).  Matrices have a standard deviation of 1 / sqrt(inputs), norms lie
 * around 1: activations keep their size however many layers there are. */
#ifndef STORE_RANDOM_H
#define STORE_RANDOM_H

#include "kernels/workers.h"
#include "store/hf_config.h"
#include "store/store.h"

struct random_options {
    enum wtype type; /* of every matrix that may be quantized */
    enum ftype exchange, kv;
    uint32_t mlp_parts;
    uint32_t layers; /* only the first so many, and no prediction layer; 0: all */
    uint64_t seed;
    /* Experts' use: 0, all about alike; s, the r-th most used of a layer about as often as r^-s
     * says, by the router's bias. */
    float skew;
    const char *chat;       /* chat form's name */
    struct slice tokenizer; /* tokenizer.json; empty: a model without.  Borrowed */
    struct workers *workers;
    /* Called now and then on the caller's thread: bytes of tiles stored, of all.  NULL: nobody. */
    void (*progress)(void *arg, uint64_t done, uint64_t total);
    void *arg;
};

/* Complete cfg by what config.json left to the tensors, and by the options; ERR_* with why when
 * such a model cannot be. */
MUST_CHECK enum err random_settle(struct hf_config *cfg, const struct random_options *o,
                                  struct why *why);

/* Make and store all tiles of a settled model; the manifest's body (owned by the caller: free) and
 * its id. */
MUST_CHECK enum err random_model(struct store *s, const struct hf_config *cfg,
                                 const struct random_options *o, uint8_t **body, size_t *n,
                                 struct hash *id, struct why *why);

/* One tile of a matrix alone: out [tiling_tile_bytes].  key names it: another key, other numbers.
 *   inputs   of the whole product, of which spec may be a part: the values' deviation is
 *            1 / sqrt(inputs)
 *   rows     scratch [GROUP_ROWS][spec->cols] */
MUST_CHECK enum err random_tile(const struct tensor_spec *spec, uint32_t tile, uint64_t key,
                                uint32_t inputs, float *rows, uint8_t *out);

#endif
