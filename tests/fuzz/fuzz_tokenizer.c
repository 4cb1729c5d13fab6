/* Tokenizer files and the texts they cut.  The input is a tokenizer.json, a NUL byte, and a text;
 * without a NUL byte, a text for a small tokenizer that has everything.  Ids are in range, spans
 * that cover all are as special = true, and byte-level ids decode to the text. */
#include "base/json.h"
#include "model/tokenizer.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char small[] =
    "{\"normalizer\":{\"type\":\"NFC\"},\"added_tokens\":["
    "{\"content\":\"<s>\",\"single_word\":false,\"lstrip\":true,\"rstrip\":true,\"normalized\":"
    "false,"
    "\"special\":true},{\"content\":\"th\",\"single_word\":true,\"lstrip\":false,\"rstrip\":false,"
    "\"normalized\":true,\"special\":false},{\"content\":\"e\\u0301\",\"single_word\":false,"
    "\"lstrip\":false,\"rstrip\":false,\"normalized\":true,\"special\":false}],"
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\","
    "\"individual_digits\":false},{\"type\":\"Split\",\"pattern\":{\"Regex\":"
    "\"(?i:'s|'t)|\\\\p{L}+|\\\\s+(?!\\\\S)|[^\\\\s\\\\p{L}]+|\\\\s\"},\"behavior\":\"Isolated\","
    "\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"use_regex\":true}]},"
    "\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,"
    "\"t\":2,\"h\":3,\"\\u0120\":4,\"ab\":5,\"th\":6,\"\\u0120th\":7},\"merges\":[\"a b\",\"t h\","
    "\"\\u0120 th\"]}}";

static void check_text(const struct tokenizer *t, struct slice text)
{
    struct ids ids = { 0 }, all = { 0 };
    const struct span halves[] = { { 0, text.n / 2 }, { text.n / 2, text.n } };
    enum err e = tokenizer_encode(t, text, true, &ids);
    if (tokenizer_encode_spans(t, text, halves, 2, &all) != e) abort();
    if (!e && (ids.n != all.n || (ids.n && memcmp(ids.p, all.p, ids.n * sizeof *ids.p)))) abort();

    struct text out = { 0 };
    struct utf8_stream s = { .n = 0 };
    for (uint32_t i = 0; i < ids.n; i++) {
        if (ids.p[i] < 0 || (uint32_t)ids.p[i] >= tokenizer_size(t)) abort();
        utf8_stream_feed(&s, tokenizer_bytes(t, ids.p[i], false), &out);
    }
    utf8_stream_flush(&s, &out);
    ids.n = 0;
    const struct span odd[] = { { text.n / 3, text.n / 2 }, { text.n / 2 + 1, SIZE_MAX } };
    e = tokenizer_encode_spans(t, text, odd, 2, &ids);
    if (!e) e = tokenizer_encode_document(t, text, &ids);
    if (e && e != ERR_RANGE) abort(); /* a pattern may give up; nothing else may fail */
    free(out.p);
    free(ids.p);
    free(all.p);
}

static void check_file(struct slice json, struct slice text)
{
    struct tokenizer *t;
    struct why why = { "" };
    if (tokenizer_open(&t, json, &why)) {
        if (t || !why.text[0]) abort();
        return;
    }
    check_text(t, text);
    tokenizer_close(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tokenizer *fixed; /* opened once: that takes longer than all the rest */
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    if (nul) {
        size_t n = (size_t)(nul - data);
        check_file(slice_of(data, n), slice_of(nul + 1, size - n - 1));
        return 0;
    }
    if (!fixed && tokenizer_open(&fixed, slice_str(small), NULL)) abort();
    check_text(fixed, slice_of(data, size));
    return 0;
}
