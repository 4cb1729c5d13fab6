#include "base/json.h"
#include "model/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#define FIXTURES TESTS_DIR "/fixtures/"

/* ---- helpers --------------------------------------------------------------------------- */

static struct text read_file(const char *path)
{
    struct text t = { 0 };
    char piece[4096];
    size_t n;
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s can't be opened", path);
    while ((n = fread(piece, 1, sizeof piece, f)) > 0) text_add(&t, piece, n);
    fclose(f);
    assert_false(t.failed);
    return t;
}

static struct tokenizer *open_text(const char *json)
{
    struct tokenizer *t;
    struct why why = { "" };
    if (tokenizer_open(&t, slice_str(json), &why)) fail_msg("%s", why.text);
    return t;
}

static struct tokenizer *open_file(const char *path)
{
    struct text json = read_file(path);
    struct tokenizer *t = open_text(json.p);
    free(json.p);
    return t;
}

static struct json_doc *read_json(const char *path)
{
    struct text text = read_file(path);
    struct json_doc *doc;
    struct why why = { "" };
    if (json_parse(&doc, slice_of(text.p, text.n), path, &why)) fail_msg("%s", why.text);
    free(text.p);
    return doc;
}

/* Do ids equal the list of numbers v? */
static bool same_ids(const struct ids *ids, const struct json *v)
{
    uint32_t i = 0;
    if (ids->n != v->n) return false;
    for (const struct json *c = v->child; c; c = c->next, i++) {
        int64_t id;
        if (!json_i64(c, &id) || id != ids->p[i]) return false;
    }
    return true;
}

static struct text decode(const struct tokenizer *t, const struct ids *ids, bool skip_special)
{
    struct text out = { 0 };
    struct utf8_stream s = { .n = 0 };
    text_str(&out, "");
    for (uint32_t i = 0; i < ids->n; i++)
        utf8_stream_feed(&s, tokenizer_bytes(t, ids->p[i], skip_special), &out);
    utf8_stream_flush(&s, &out);
    return out;
}

static void check_ids(const struct ids *ids, const int32_t *expected, uint32_t n)
{
    assert_int_equal(ids->n, n);
    for (uint32_t i = 0; i < n; i++) assert_int_equal(ids->p[i], expected[i]);
}

#define CHECK_IDS(ids, ...)                          \
    check_ids(ids, (const int32_t[]){ __VA_ARGS__ }, \
              (uint32_t)(sizeof(int32_t[]){ __VA_ARGS__ } / sizeof(int32_t)))

/* ---- against the reference ------------------------------------------------------------- */

static void check_encode_case(const struct tokenizer *t, const char *name, const struct json *v)
{
    struct ids ids = { 0 };
    const struct json *text = json_get(v, "text"), *decoded = json_get(v, "decoded");
    assert_int_equal(tokenizer_encode_document(t, text->text, &ids), ERR_OK);
    if (!same_ids(&ids, json_get(v, "ids"))) fail_msg("%s: ids of \"%s\"", name, text->text.p);
    struct text back = decode(t, &ids, false);
    if (back.n != decoded->text.n || memcmp(back.p, decoded->text.p, back.n) != 0)
        fail_msg("%s: \"%s\" decodes to \"%s\"", name, text->text.p, back.p);
    free(back.p);
    free(ids.p);
}

static void check_decode_case(const struct tokenizer *t, const char *name, const struct json *v)
{
    struct ids ids = { 0 };
    const struct json *list = json_get(v, "ids"), *text = json_get(v, "text");
    ids.p = calloc(list->n, sizeof *ids.p);
    assert_non_null(ids.p);
    for (const struct json *c = list->child; c; c = c->next) {
        int64_t id;
        assert_true(json_i64(c, &id));
        ids.p[ids.n++] = (int32_t)id;
    }
    struct text out = decode(t, &ids, false);
    if (out.n != text->text.n || memcmp(out.p, text->text.p, out.n) != 0)
        fail_msg("%s: ids decode to \"%s\", not \"%s\"", name, out.p, text->text.p);
    free(out.p);
    free(ids.p);
}

static void fixtures_agree(void **state)
{
    (void)state;
    static const char *const names[] = { "glm",        "glm-merges",   "llama-3", "qwen",
                                         "gpt-2",      "gpt-2-prefix", "digits",  "splits",
                                         "o200k",      "alphabet",     "added",   "added-nfc",
                                         "added-space" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[512];
        uint32_t n = 0;
        snprintf(path, sizeof path, FIXTURES "tokenizers/%s.json", names[i]);
        struct tokenizer *t = open_file(path);
        snprintf(path, sizeof path, FIXTURES "tokenizers/%s.cases.json", names[i]);
        struct json_doc *doc = read_json(path);
        const struct json *encode = json_get(json_root(doc), "encode"),
                          *decode_list = json_get(json_root(doc), "decode");
        for (const struct json *v = encode->child; v; v = v->next, n++)
            check_encode_case(t, names[i], v);
        for (const struct json *v = decode_list->child; v; v = v->next, n++)
            check_decode_case(t, names[i], v);
        assert_true(n > 80);
        json_free(doc);
        tokenizer_close(t);
    }
}

static void atlas_agrees(void **state)
{
    (void)state;
    struct tokenizer *t = open_file(SOURCE_DIR "/models/atlas/tokenizer.json");
    struct json_doc *doc = read_json(FIXTURES "atlas-tokenizer-cases.json");
    assert_int_equal(json_root(doc)->n, 556);
    for (const struct json *v = json_root(doc)->child; v; v = v->next)
        check_encode_case(t, "atlas", v);
    assert_int_equal(tokenizer_size(t), 2048);
    assert_int_equal(tokenizer_find(t, "<|user|>"), 2034);
    assert_int_equal(tokenizer_find(t, "!"), 0);
    assert_int_equal(tokenizer_find(t, "no such token"), -1);
    json_free(doc);
    tokenizer_close(t);
}

/* ---- special tokens -------------------------------------------------------------------- */

/* A few letters, and <s> and <t>, of which <s> is special. */
static const char head[] =
    "{\"added_tokens\":[{\"id\":4,\"content\":\"<s>\",\"single_word\":false,\"lstrip\":false,"
    "\"rstrip\":false,\"normalized\":false,\"special\":true},{\"id\":5,\"content\":\"<t>\","
    "\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":"
    "false}],";
static const char pre[] = "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
                          "\"use_regex\":true},\"decoder\":{\"type\":\"ByteLevel\"},";
static const char model[] =
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"ab\":3,"
    "\"<\":4,\"s\":5,\">\":6},\"merges\":[[\"a\",\"b\"]]}}";

static struct tokenizer *open_toy(void)
{
    char json[2048];
    snprintf(json, sizeof json, "%s%s%s", head, pre, model);
    return open_text(json);
}

static void special_only_where_allowed(void **state)
{
    (void)state;
    struct tokenizer *t = open_toy();
    struct slice text = slice_str("ab<s>c<s><t>");
    struct ids ids = { 0 };
    int32_t s = tokenizer_find(t, "<s>");
    assert_int_equal(s,
                     7); /* not 4: after the vocabulary's seven strings, as the reference counts */

    assert_int_equal(tokenizer_encode(t, text, true, &ids), ERR_OK);
    CHECK_IDS(&ids, 3, s, 2, s, s + 1);
    ids.n = 0;
    assert_int_equal(tokenizer_encode(t, text, false, &ids), ERR_OK);
    CHECK_IDS(&ids, 3, 4, 5, 6, 2, 4, 5, 6, 4, 6); /* 't' is no token and drops out */
    ids.n = 0;
    const struct span second[] = { { 6, 9 } };
    assert_int_equal(tokenizer_encode_spans(t, text, second, 1, &ids), ERR_OK);
    CHECK_IDS(&ids, 3, 4, 5, 6, 2, s, 4, 6);
    ids.n = 0;
    const struct span cut[] = { { 2, 4 }, { 7, 12 } }; /* both tokens <s> stick out */
    assert_int_equal(tokenizer_encode_spans(t, text, cut, 2, &ids), ERR_OK);
    CHECK_IDS(&ids, 3, 4, 5, 6, 2, 4, 5, 6, s + 1);
    ids.n = 0;
    const struct span adjoining[] = { { 2, 4 }, { 4, 5 }, { 9, 100 } };
    assert_int_equal(tokenizer_encode_spans(t, text, adjoining, 3, &ids), ERR_OK);
    CHECK_IDS(&ids, 3, s, 2, 4, 5, 6, s + 1);

    assert_int_equal(tokenizer_bytes(t, s, false).n, 3);
    assert_int_equal(tokenizer_bytes(t, s, true).n, 0);
    assert_int_equal(tokenizer_bytes(t, s + 1, true).n, 3);
    assert_int_equal(tokenizer_bytes(t, -1, false).n, 0);
    assert_int_equal(tokenizer_bytes(t, INT32_MAX, false).n, 0);
    free(ids.p);
    tokenizer_close(t);
}

/* The text between tokens is one text, wherever spans begin and end; malformed bytes move them. */
static void spans_cut_nothing(void **state)
{
    (void)state;
    struct tokenizer *t = open_file(SOURCE_DIR "/models/atlas/tokenizer.json");
    struct ids whole = { 0 }, spans = { 0 };
    struct slice text = slice_str("Hello world, \xff is not <think> UTF-8<think>");
    const struct span some[] = { { 3, 7 }, { 33, 100 } };
    assert_int_equal(
        tokenizer_encode(t, slice_str("Hello world, \xef\xbf\xbd is not "), false, &whole), ERR_OK);
    assert_int_equal(tokenizer_encode_spans(t, text, some, 2, &spans), ERR_OK);
    assert_true(spans.n > whole.n);
    assert_memory_equal(whole.p, spans.p, (whole.n - 1) * sizeof *whole.p);
    int32_t think = tokenizer_find(t, "<think>");
    for (uint32_t i = 0; i + 1 < spans.n; i++) assert_int_not_equal(spans.p[i], think);
    assert_int_equal(spans.p[spans.n - 1], think);
    free(whole.p);
    free(spans.p);
    tokenizer_close(t);
}

/* ---- decoding -------------------------------------------------------------------------- */

static void stream_holds_back_halves(void **state)
{
    (void)state;
    static const char text[] = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z";
    static const size_t out_after[] = { 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11 }; /* each byte */
    struct utf8_stream s = { .n = 0 };
    struct text out = { 0 };
    for (size_t i = 0; i + 1 < sizeof text; i++) {
        utf8_stream_feed(&s, slice_of(text + i, 1), &out);
        assert_int_equal(out.n, out_after[i]);
    }
    utf8_stream_flush(&s, &out);
    assert_string_equal(out.p, text);
    free(out.p);
}

/* However the bytes are cut, the text is what Python's and Rust's lossy decoding give. */
static void stream_replaces_malformed(void **state)
{
    (void)state;
#define R "\xef\xbf\xbd"
    static const struct {
        const char *in, *out;
    } cases[] = {
        { "\x80", R },
        { "\xc3", R },
        { "\xc3(", R "(" },
        { "\xe2\x82", R },
        { "\xe2\x82(", R "(" },
        { "\xe2\x28\xa1", R "(" R },
        { "\xf0\x9f\x98", R },
        { "\xf0\x9f\x98\xf0\x9f\x98\x80", R "\xf0\x9f\x98\x80" },
        { "\xed\xa0\x80", R R R },
        { "\xf4\x90\x80\x80", R R R R },
        { "\xc0\xaf", R R },
        { "\xff\xfe", R R },
        { "\xe0\x9f\xbf", R R R },
        { "\xf0\x90\x80\xc3\xa9", R "\xc3\xa9" },
        { "\xc3\xc3\xa9", R "\xc3\xa9" },
        { "a\xe2", "a" R },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t cut = 1; cut <= 4; cut++) {
            struct utf8_stream s = { .n = 0 };
            struct text out = { 0 };
            size_t n = strlen(cases[i].in);
            for (size_t at = 0; at < n; at += cut)
                utf8_stream_feed(&s, slice_of(cases[i].in + at, n - at < cut ? n - at : cut), &out);
            utf8_stream_flush(&s, &out);
            assert_string_equal(out.p, cases[i].out);
            free(out.p);
        }
}

/* ---- refusals -------------------------------------------------------------------------- */

static void refused(const char *part, const char *h, const char *p, const char *m)
{
    char json[4096];
    struct tokenizer *t;
    struct why why = { "" };
    snprintf(json, sizeof json, "%s%s%s", h, p, m);
    enum err e = tokenizer_open(&t, slice_str(json), &why);
    assert_null(t);
    assert_int_not_equal(e, ERR_OK);
    if (!strstr(why.text, part)) fail_msg("\"%s\" does not say \"%s\"", why.text, part);
}

static void refuses_parts(void **state)
{
    (void)state;
    static const char decoder[] = "\"decoder\":{\"type\":\"ByteLevel\"},";
    static const struct {
        const char *pre, *says;
    } cases[] = {
        { "\"pre_tokenizer\":null,", "pre_tokenizer without ByteLevel" },
        { "\"pre_tokenizer\":{\"type\":\"Whitespace\"},", "pre_tokenizer Whitespace" },
        { "\"pre_tokenizer\":{},", "pre_tokenizer without a type" },
        { "\"pre_tokenizer\":{\"type\":\"ByteLevel\"},", "add_prefix_space" },
        { "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":"
          "\"Removed\","
          "\"invert\":false},",
          "behavior Removed" },
        { "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":"
          "\"Isolated\","
          "\"invert\":true},",
          "invert" },
        { "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{},\"behavior\":\"Isolated\","
          "\"invert\":false},",
          "without a pattern" },
        { "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\","
          "\"add_prefix_space\":false},{\"type\":\"Digits\",\"individual_digits\":true}]},",
          "after ByteLevel" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char p[1024];
        snprintf(p, sizeof p, "%s%s", cases[i].pre, decoder);
        refused(cases[i].says, head, p, model);
    }
    refused("normalizer NFKC", "{\"normalizer\":{\"type\":\"NFKC\"},", pre, model);
    refused("truncation", "{\"truncation\":{\"max_length\":5},", pre, model);
    refused("padding", "{\"padding\":{\"strategy\":{\"Fixed\":5}},", pre, model);
    refused("post_processor BertProcessing", "{\"post_processor\":{\"type\":\"BertProcessing\"},",
            pre, model);
    refused("decoder Metaspace", "{\"decoder\":{\"type\":\"Metaspace\"},",
            "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},", model);
    refused("decoder without ByteLevel",
            "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},", "", model);
    refused("\"content\"", "{\"added_tokens\":[{}],", pre, model);
    refused("\"special\"", "{\"added_tokens\":[{\"content\":\"x\"}],", pre, model);
    refused("no list", "{\"added_tokens\":5,", pre, model);
}

static void refuses_models(void **state)
{
    (void)state;
    static const struct {
        const char *model, *says;
    } cases[] = {
        { "\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", "model type Unigram" },
        { "\"x\":1}", "no model" },
        { "\"model\":{\"vocab\":{\"a\":0},\"merges\":5}}", "no model" },
        { "\"model\":{\"vocab\":{\"a\":-1},\"merges\":[]}}", "the id of token \"a\"" },
        { "\"model\":{\"vocab\":{\"a\":4294967295},\"merges\":[]}}", "the id of token \"a\"" },
        { "\"model\":{\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}", "two tokens have id 0" },
        { "\"model\":{\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]}}", "two keys \"a\"" },
        { "\"model\":{\"vocab\":{\"a\":0},\"merges\":[[\"a\",\"b\"]]}}", "merge 0" },
        { "\"model\":{\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"a b\"]}}", "merge 0" },
        { "\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\",\"ab\"]}}",
          "merge 1 is no pair" },
        { "\"model\":{\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}", "merge 0 is no pair" },
        { "\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"unk_token\":\"a\"}}", "unk_token" },
        { "\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"byte_fallback\":true}}",
          "byte_fallback" },
        { "\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.1}}", "dropout" },
        { "\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"end_of_word_suffix\":\"</w>\"}}",
          "end_of_word_suffix" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refused(cases[i].says, head, pre, cases[i].model);
    refused("invalid UTF-8", "\xff", "", "");
}

/* ---- speed ----------------------------------------------------------------------------- */

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Texts that are quadratic for a naive tokenizer.  The bound is a hundred times what they take. */
static void long_runs_are_linear(void **state)
{
    (void)state;
    static const char *const files[] = { SOURCE_DIR "/models/atlas/tokenizer.json",
                                         FIXTURES "tokenizers/qwen.json",
                                         FIXTURES "tokenizers/added-nfc.json" };
    static const char *const runs[] = {
        "e", " ", "\n", "!", "7", "\xe4\xbd\xa0", "<|use", "\xcc\x81\xcc\xa3", "th"
    };
    double start = seconds();
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        struct tokenizer *t = open_file(files[f]);
        for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
            struct text text = { 0 };
            struct ids ids = { 0 };
            while (text.n < 200000) text_str(&text, runs[i]);
            assert_int_equal(tokenizer_encode(t, slice_of(text.p, text.n), true, &ids), ERR_OK);
            assert_true(ids.n > 1000);
            free(text.p);
            free(ids.p);
        }
        tokenizer_close(t);
    }
    assert_true(seconds() - start < 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fixtures_agree),
        cmocka_unit_test(atlas_agrees),
        cmocka_unit_test(special_only_where_allowed),
        cmocka_unit_test(spans_cut_nothing),
        cmocka_unit_test(stream_holds_back_halves),
        cmocka_unit_test(stream_replaces_malformed),
        cmocka_unit_test(refuses_parts),
        cmocka_unit_test(refuses_models),
        cmocka_unit_test(long_runs_are_linear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
