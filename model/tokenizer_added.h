/* tokenizer_added.h - added tokens: strings that are cut out of a text before anything else.
 *
 * As the reference does it: leftmost, then longest; the search goes on behind a match.  Tokens with
 * "normalized" are looked for in a second pass, in the normalized text of the gaps that the first
 * pass left.  single_word drops a match that touches a word character, lstrip and rstrip take the
 * white space beside a match.
 *
 * Here a match counts only wholly inside one of the given spans, so that the text of strangers
 * never becomes a control token. */
#ifndef MODEL_TOKENIZER_ADDED_H
#define MODEL_TOKENIZER_ADDED_H

#include "base/json.h"
#include "model/tokenizer.h"
#include "model/tokenizer_bpe.h"

struct added_token {
    struct slice content; /* as in the file; owned by the set */
    struct slice bytes;   /* what it decodes to; owned by the set */
    int32_t id;
    bool special, single_word, lstrip, rstrip, normalized;
};

/* What one pass looks for, sorted by text, so that a prefix is a range. */
struct added_pass {
    struct added_key {
        struct slice text; /* owned by the set */
        uint32_t token;    /* index */
        uint32_t order;    /* of equal texts the lowest counts */
    } * key;               /* owned */
    uint32_t n;
    uint32_t first[257]; /* keys that begin with byte c: [first[c], first[c + 1]) */
};

struct added {
    struct added_token *token; /* owned: [n] */
    uint32_t n;
    struct added_pass raw, normalized;
    uint8_t *pool;  /* owned; all strings */
    int32_t *by_id; /* owned: [n_by_id], index of the token or -1 */
    uint32_t n_by_id;
};

/* From the "added_tokens" array (NULL: none).  Ids are given as the reference gives them: that of
 * the vocabulary if the string is in it, else the next free one.  Undo with added_fini, also after
 * an error. */
MUST_CHECK enum err added_init(struct added *a, const struct json *list, const struct bpe *bpe,
                               bool nfc, struct why *why);
void added_fini(struct added *a);
const struct added_token *added_by_id(const struct added *a, int32_t id);
const struct added_token *added_by_text(const struct added *a, struct slice text);

/* A walk over one text.  Zero-initialize, then set the first five. */
struct added_scan {
    const struct added *added;
    const struct added_pass *pass;
    struct slice text;       /* well-formed UTF-8 */
    const struct span *span; /* ascending, apart, in coordinates of base + position in text */
    uint32_t n_spans;
    size_t base;
    size_t at;                         /* where to look on */
    size_t gap;                        /* where the text not yet handed out begins */
    const struct added_token *waiting; /* found, after the gap */
    size_t lo, hi;                     /* of waiting */
};
/* The next gap (token NULL) or token, in order; false at the end. */
bool added_next(struct added_scan *s, struct slice *piece, const struct added_token **token);

#endif
