/* folder.h - a model as a plain folder of files, that any file host, web server or torrent carries.
 *
 *     manifest            the manifest's body; its BLAKE2b-256 is the model's id
 *     name.txt            what the model is called, by whom, and the signature under that
 *     layer-000.tiles     a layer: its tile table, then its tiles in the order of the table
 *     ...
 *     ends.tiles          embedding, final norm, output head, in the same way
 *     tokenizer.json      as the model's source had it
 *     README.md           the model's facts, for people
 *     checksums.txt       for `b2sum -l 256 -c checksums.txt`; README.md and itself left out
 *
 * Nothing in the folder says how long anything is or where it lies: names, lengths and offsets all
 * follow from the manifest.  So a tile is one range of one file, a reader knows every size before
 * it reads, no name in a folder becomes a path, and what is wrong is found by a hash.  Several
 * lie beside each other as NAME/TYPE (folder_path).
 *
 * Bytes come from a folder_source: a directory (folder_dir) or a web server (tools/fetch.h).
 * Nothing that it hands out is believed. */
#ifndef STORE_FOLDER_H
#define STORE_FOLDER_H

#include "base/json.h" /* struct text */
#include "store/file.h"
#include "store/store.h"

#define FOLDER_MANIFEST "manifest"
#define FOLDER_NAME "name.txt"
#define FOLDER_TOKENIZER "tokenizer.json"
#define FOLDER_README "README.md"
#define FOLDER_CHECKSUMS "checksums.txt"

enum {
    FOLDER_FILE_NAME = 32,
    FOLDER_NAME_MAX = 512, /* bytes of name.txt */
};

/* The file of a layer (or ARCH_ENDS): its name; how long it is, table included. */
void folder_layer_name(char out[FOLDER_FILE_NAME], uint32_t layer);
uint64_t folder_layer_bytes(const struct manifest *m, uint32_t layer);

/* Where a model of that name lies under root: "air:q40" is root/air/q40.  ERR_USAGE when a part of
 * the name begins with a dot or is empty. */
MUST_CHECK enum err folder_path(char out[FILE_PATH_MAX], const char *root, const char *name,
                                struct why *why);

/* name.txt: five lines, one form.  The signature is not checked here. */
size_t folder_name_write(char out[FOLDER_NAME_MAX], const struct store_name *n);
MUST_CHECK enum err folder_name_parse(struct store_name *out, struct slice text, struct why *why);

/* --- writing --- */

struct folder_writer {
    char dir[FILE_PATH_MAX];
    struct text checksums;                                      /* owned */
    void (*progress)(void *arg, uint64_t done, uint64_t total); /* NULL is fine */
    void *arg;
    uint64_t done, total; /* bytes of tiles; the caller sets total */
};
/* Make the folder, and those that it lies in.  A file appears whole, by its final name, or not. */
MUST_CHECK enum err folder_create(struct folder_writer *w, const char *dir, struct why *why);
void folder_writer_fini(struct folder_writer *w);
/* A small file; summed: with a line in checksums.txt. */
MUST_CHECK enum err folder_put(struct folder_writer *w, const char *name, struct slice bytes,
                               bool summed, struct why *why);
/* A layer (or ARCH_ENDS) of the store; each tile is hashed again.  ERR_NOTFOUND, ERR_MALFORMED with
 * why naming the tile. */
MUST_CHECK enum err folder_put_layer(struct folder_writer *w, struct store *s,
                                     const struct manifest *m, uint32_t layer, struct why *why);
MUST_CHECK enum err folder_finish(struct folder_writer *w, struct why *why); /* checksums.txt */

/* --- reading --- */

/* Takes bytes as they come; an error stops the reading and is returned by it. */
typedef enum err (*folder_sink)(void *arg, struct slice bytes);

struct folder_source {
    /* Give bytes [at, at + n) of file to the sink, in order.  ERR_MALFORMED with why: the file is
     * shorter. */
    enum err (*read)(struct folder_source *f, const char *file, uint64_t at, uint64_t n,
                     folder_sink sink, void *arg, struct why *why);
    /* The whole of a file of at most max bytes; *out owned by the caller (free). */
    enum err (*read_small)(struct folder_source *f, const char *file, size_t max, uint8_t **out,
                           size_t *n, struct why *why);
};

struct folder_dir {
    struct folder_source source; /* first */
    const char *dir;             /* borrowed */
};
void folder_dir_init(struct folder_dir *d, const char *dir);

struct import_options {
    uint32_t lo, hi;                                            /* layers [lo, hi); hi 0: all */
    bool no_ends;                                               /* nor the tokenizer */
    void (*progress)(void *arg, uint64_t done, uint64_t total); /* bytes of tiles; NULL is fine */
    void *arg;
};
struct import_sizes {
    uint64_t bytes;      /* of the tiles that were asked for */
    uint64_t bytes_here; /* of those, in the store already */
    uint64_t bytes_room; /* what the rest takes of the disk */
};
struct import;

/* Read manifest and name.  The caller checks the signature and whose it is before it goes on; s,
 * source and o are borrowed until import_close. */
MUST_CHECK enum err import_open(struct import **out, struct store *s, struct folder_source *source,
                                const struct import_options *o, struct why *why);
void import_close(struct import *im); /* NULL is fine */
const struct store_name *import_name(const struct import *im);
const struct manifest *import_manifest(const struct import *im);
/* Store the manifest, without its name, and the tile tables; find out what is missing.
 * ERR_DISKFULL: it will not fit. */
MUST_CHECK enum err import_plan(struct import *im, struct import_sizes *out, struct why *why);
/* Fetch what is missing, each tile's hash checked before it is stored; then the name.  What was
 * stored stays, however this ends: the next run fetches the rest. */
MUST_CHECK enum err import_run(struct import *im, struct why *why);

#endif
