/* tokenizer.h - byte-level BPE from a Hugging Face tokenizer.json.
 *
 * Any pre-tokenizer pattern the file contains (pcre2, with \s, \p{L}, \p{N} replaced by our own
 * Unicode table: model-facts C.2), Split + ByteLevel sequences, normalizers NFC and none, added
 * tokens, ignore_merges.  What the file asks for and we do not do is refused by name.
 *
 * A tokenizer is only read after tokenizer_open, so threads may share one. */
#ifndef MODEL_TOKENIZER_H
#define MODEL_TOKENIZER_H

#include "base/err.h"
#include "base/slice.h"

struct tokenizer;

/* Parse a tokenizer.json.  json is borrowed for the call.  151,000 tokens load in under 300 ms. */
MUST_CHECK enum err tokenizer_open(struct tokenizer **out, struct slice json, struct why *why);
void tokenizer_close(struct tokenizer *t);

/* One past the largest id that has a string. */
uint32_t tokenizer_size(const struct tokenizer *t);

/* Id of an added or vocabulary token by its text, or -1. */
int32_t tokenizer_find(const struct tokenizer *t, const char *text);

struct ids {
    int32_t *p; /* owned: free() */
    uint32_t n, cap;
};

/* Append the ids of text (UTF-8; invalid bytes are encoded as bytes of U+FFFD as the reference
 * does after lossy decoding).
 *   special   true: added tokens in the text are recognised (the reference's default);
 *             false: text of strangers, nothing in it becomes an added token
 *   Linear in practice: 1 MB under a second, a 200 kB run of one letter too. */
MUST_CHECK enum err tokenizer_encode(const struct tokenizer *t, struct slice text, bool special,
                                     struct ids *out);

/* A whole document, as the reference's encode(text) gives it: added tokens recognised, and the ids
 * around it that a TemplateProcessing post-processor asks for.  A chat form writes its own. */
MUST_CHECK enum err tokenizer_encode_document(const struct tokenizer *t, struct slice text,
                                              struct ids *out);

/* As tokenizer_encode, but an added token counts only where it lies wholly inside one of the ranges
 * [lo, hi) of text (ascending, not overlapping; adjoining ranges count as one). */
struct span {
    size_t lo, hi;
};
MUST_CHECK enum err tokenizer_encode_spans(const struct tokenizer *t, struct slice text,
                                           const struct span *spans, uint32_t n_spans,
                                           struct ids *out);

/* The bytes of one id: empty for unknown ids and, with skip_special, for special tokens.
 * Borrowed from t. */
struct slice tokenizer_bytes(const struct tokenizer *t, int32_t id, bool skip_special);

/* Streaming decode: holds back an incomplete UTF-8 tail, replaces invalid bytes by U+FFFD. */
struct utf8_stream {
    uint8_t tail[4];
    uint32_t n;
};
/* Append to out what is complete after these bytes; flush at the end of the stream. */
struct text; /* base/json.h */
void utf8_stream_feed(struct utf8_stream *s, struct slice bytes, struct text *out);
void utf8_stream_flush(struct utf8_stream *s, struct text *out);

#endif
