/* manifest.h - what a model is, in one immutable msgpack body whose BLAKE2b-256 is the model's id.
 *
 * The body holds the architecture's numbers, the arithmetic version, exchange and kv types, the
 * tokenizer's and every layer's table hashes, chat form, end tokens and sampling defaults; no
 * name, key or date: the same source and options give the same id.  Names and the publisher's
 * signature lie beside it (store.h).
 *
 * A tile table is the concatenation of the 32-byte hashes of a layer's tiles, tensors in arch_spec
 * order, tiles in order; its length follows from the architecture. */
#ifndef STORE_MANIFEST_H
#define STORE_MANIFEST_H

#include "arch/arch.h"
#include "base/slice.h"

enum {
    HASH_BYTES = 32,
    MANIFEST_BYTES_MAX = 1 << 20,
    MANIFEST_EOS_MAX = 16,
    MANIFEST_TOKENIZER_TILES_MAX = 256,
};

struct hash {
    uint8_t b[HASH_BYTES];
};

/* What the model's publisher advises; used when a request says nothing. */
struct sampling_defaults {
    bool sample;        /* false: greedy */
    double temperature; /* > 0 when sample */
    double top_p, min_p;
    uint32_t top_k; /* 0 = off */
};

struct manifest {
    struct arch arch;
    char chat[16]; /* chat form's name, "none" without one */
    uint32_t n_eos;
    int32_t eos[MANIFEST_EOS_MAX]; /* end tokens, ascending */
    struct sampling_defaults sampling;
    uint64_t tokenizer_bytes; /* of tokenizer.json; 0: a model without tokenizer */
    uint32_t n_tokenizer;
    struct hash
        tokenizer[MANIFEST_TOKENIZER_TILES_MAX]; /* its pieces, TILE_BYTES each but the last */
    struct hash table[ARCH_LAYERS_MAX + 1];      /* [arch_all_layers] */
    struct hash ends;
};

/* Encode into out (owned by the caller: free); decode with every number checked (arch_check). */
MUST_CHECK enum err manifest_encode(const struct manifest *m, uint8_t **out, size_t *n);
MUST_CHECK enum err manifest_decode(struct manifest *m, struct slice body, struct why *why);

/* Number of tiles in the table of layer (or ARCH_ENDS). */
uint32_t manifest_n_tiles(const struct arch *a, uint32_t layer);

static inline const struct hash *manifest_table(const struct manifest *m, uint32_t layer)
{
    return layer == ARCH_ENDS ? &m->ends : &m->table[layer];
}
/* The i-th hash of a table. */
static inline struct hash table_hash(struct slice table, uint32_t i)
{
    struct hash h;
    memcpy(h.b, table.p + (size_t)i * HASH_BYTES, HASH_BYTES);
    return h;
}

/* The tiles of a layer (or ARCH_ENDS) one after the other, as its table lists them:
 *     struct tile_place p = tile_before_first(a, layer);
 *     while (tile_next(&p)) ... */
struct tile_place {
    const struct arch *arch; /* borrowed */
    uint32_t layer, at;      /* at: index in the table */
    uint32_t tensor, tile;   /* index in arch_spec order, and of the tile in it */
    struct tensor_spec spec;
    struct tiling tiling;
    size_t bytes;    /* of this tile */
    uint64_t offset; /* bytes of the tiles before it */
};
struct tile_place tile_before_first(const struct arch *a, uint32_t layer);
bool tile_next(struct tile_place *p);
/* "layer 3, q of head group 2, tile 1"; "layer 3", "the ends" for a whole layer. */
enum { LAYER_TEXT = 24, PLACE_TEXT = 96 };
void layer_text(char out[LAYER_TEXT], uint32_t layer);
void tile_place_text(char out[PLACE_TEXT], const struct tile_place *p);

/* Plain BLAKE2b-256, as b2sum -l 256 prints.  Right without hash_init too, but then slow:
 * store_open calls it.  ERR_UNSUPPORTED: libsodium does not start. */
struct hash hash_of(struct slice s);
MUST_CHECK enum err hash_init(void);
static inline bool hash_equal(const struct hash *a, const struct hash *b)
{
    return memcmp(a->b, b->b, HASH_BYTES) == 0;
}

/* The same of bytes that come in pieces. */
struct hasher {
    _Alignas(64) uint8_t state[384];
};
void hasher_init(struct hasher *h);
void hasher_add(struct hasher *h, struct slice s);
struct hash hasher_end(struct hasher *h);

/* As 64 small hexadecimal digits; hash_parse takes capitals too and false means it is none. */
enum { HASH_TEXT = 2 * HASH_BYTES + 1 };
void hash_text(char out[HASH_TEXT], const struct hash *h);
bool hash_parse(struct hash *h, const char *text);

#endif
