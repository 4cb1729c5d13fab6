/* tokenizer_bpe.h - the vocabulary, the merges, and the merge loop of byte-level BPE.
 *
 * tokenizer.json spells bytes as printable characters (GPT-2's table: space is U+0120).  We undo
 * that once, at load: tokens are kept, found and merged as the bytes they stand for.  A vocabulary
 * string with any other character can't come out of the merge loop; it is kept as text, so that it
 * can be found by name and decoded. */
#ifndef MODEL_TOKENIZER_BPE_H
#define MODEL_TOKENIZER_BPE_H

#include "base/hash.h"
#include "base/json.h"
#include "model/tokenizer.h"

struct bpe_slot;
struct bpe_merge;

struct bpe {
    uint8_t *pool; /* owned; the bytes of all tokens */
    struct bpe_token {
        uint32_t at, n;
        enum bpe_kind { BPE_NONE, BPE_BYTES, BPE_TEXT } kind;
    } * token;             /* owned: [n_tokens] by id */
    uint32_t n_tokens;     /* one past the largest id */
    uint32_t n_strings;    /* entries of the vocabulary */
    struct bpe_slot *slot; /* owned; ids by string */
    uint32_t slot_mask;
    struct bpe_merge *merge; /* owned; ranks by pair of ids */
    uint32_t merge_mask;
    int32_t byte_id[256]; /* or -1: such a byte is dropped, as the reference does */
    bool whole_first;     /* ignore_merges: a piece that is a token is that token */
    struct hash_key key;
};

/* From the "model" object of a tokenizer.json.  Undo with bpe_fini, also after an error. */
MUST_CHECK enum err bpe_init(struct bpe *b, const struct json *model, struct why *why);
void bpe_fini(struct bpe *b);

/* The id of a string as tokenizer.json spells it, or -1. */
int32_t bpe_find_text(const struct bpe *b, struct slice text);
/* The bytes that an id stands for; empty for ids without a string. */
struct slice bpe_bytes(const struct bpe *b, int32_t id);
/* Undo GPT-2's spelling: false if a character is not of its table.  out [text.n] */
bool bpe_unspell(struct slice text, uint8_t *out, size_t *n);

/* Scratch for the merge loop.  Zero-initialize. */
struct bpe_run {
    struct bpe_symbol *symbol; /* owned */
    uint64_t *heap;            /* owned */
    size_t cap, n_heap;
};
/* Append the ids of one piece. */
MUST_CHECK enum err bpe_encode(const struct bpe *b, struct bpe_run *run, struct slice piece,
                               struct ids *out);
void bpe_run_fini(struct bpe_run *run);

MUST_CHECK enum err ids_push(struct ids *ids, int32_t id);

#endif
