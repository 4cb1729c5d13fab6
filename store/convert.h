/* convert.h - a checkpoint's tensors into tiles, on all cores, in bounded memory.
 *
 *     plan      every tensor found and checked, what an earlier run did looked up, room computed
 *     run       batches of tiles: while one is packed by the workers, the one before it is written
 *               and the one after it read ahead
 *     finish    tile tables, manifest body, id
 *
 * The bytes of a tile depend on its tensor and the options alone, so threads, shards, resuming and
 * the choice of layers to keep change no hash: the same source and options give the same id.
 *
 * What a tensor became is noted in the store (key: the source file's identity, the region, the
 * types; value: the tile hashes) in the transaction that holds its last tile.  A run that was
 * killed is resumed by looking the notes up; a source file that changed has another identity. */
#ifndef STORE_CONVERT_H
#define STORE_CONVERT_H

#include "kernels/workers.h"
#include "store/hf_config.h"
#include "store/store.h"

struct convert_options {
    enum wtype type; /* of every role that has none of its own */
    bool has_type[WR_COUNT];
    enum wtype type_of[WR_COUNT];
    enum ftype exchange, kv;
    uint32_t mlp_parts;
    uint32_t lo, hi;  /* layers [lo, hi) whose tiles are stored; hi 0: all, prediction layer too */
    bool no_ends;     /* do not store the ends and the tokenizer */
    const char *chat; /* chat form's name */
    struct slice tokenizer; /* tokenizer.json; empty: a model without.  Borrowed until finish */
    struct workers *workers;
    /* Called now and then on the caller's thread: bytes of the source done, of those to do. */
    void (*progress)(void *arg, uint64_t done, uint64_t total);
    void *arg;
};

struct convert_sizes {
    uint32_t tensors;       /* in the source */
    uint64_t bytes_source;  /* all of them */
    uint64_t bytes_earlier; /* what an earlier run has done already */
    uint64_t bytes_read;    /* what this run reads */
    uint64_t bytes_kept;    /* tiles that the store will hold of this model */
    uint64_t bytes_write;   /* what this run adds to the file, whole pages */
    uint64_t bytes_room;    /* free on the file system */
};

struct convert;

/* Plan the conversion of the checkpoint in dir.  cfg, options and store are borrowed until
 * convert_close; cfg is completed by what the tensors say.  Every refusal is one sentence naming
 * the tensor or key. */
MUST_CHECK enum err convert_open(struct convert **out, struct store *s, const char *dir,
                                 struct hf_config *cfg, const struct convert_options *o,
                                 struct why *why);
void convert_close(struct convert *c); /* NULL is fine */

const struct convert_sizes *convert_sizes(const struct convert *c);
const struct arch *convert_arch(const struct convert *c);

/* ERR_DISKFULL with why when what is to be written will not fit. */
MUST_CHECK enum err convert_check_room(const struct convert *c, struct why *why);

/* Pack and store all tiles.  ERR_NONFINITE with why naming tensor and element. */
MUST_CHECK enum err convert_run(struct convert *c, struct why *why);

/* Store tables and tokenizer; the manifest's body (owned by the caller: free) and its id. */
MUST_CHECK enum err convert_finish(struct convert *c, uint8_t **body, size_t *n, struct hash *id,
                                   struct why *why);

#endif
