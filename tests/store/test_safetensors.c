/* Malformed files are each refused with the right sentence; good ones are read and written back. */
#include "store/safetensors.h"

#include "base/json.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char path[64];

static void write_raw(const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* Length, header, data_n bytes of data. */
static void write_file(uint64_t header_n, const char *header, size_t len, size_t data_n)
{
    uint8_t *p = calloc(1, 8 + len + data_n);
    for (int i = 0; i < 8; i++) p[i] = (uint8_t)(header_n >> (8 * i));
    memcpy(p + 8, header, len);
    for (size_t i = 0; i < data_n; i++) p[8 + len + i] = (uint8_t)i;
    write_raw(p, 8 + len + data_n);
    free(p);
}

static void refused(const char *says)
{
    struct safetensors *f;
    struct why why = { "" };
    enum err e = safetensors_open(&f, path, &why);

    if (!e) safetensors_close(f);
    assert_int_not_equal(e, ERR_OK);
    if (!strstr(why.text, says)) fail_msg("'%s' does not say '%s'", why.text, says);
    assert_non_null(strstr(why.text, path));
    assert_null(strchr(why.text, '\n'));
}

#define E(dtype, shape, lo, hi) \
    "{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":[" #lo "," #hi "]}"
#define ONE(dtype, shape, lo, hi) "{\"a\":" E(dtype, shape, lo, hi) "}"

static const struct {
    const char *header;
    size_t data_n;
    const char *says;
} BAD[] = {
    { "", 0, "does not begin with '{'" },
    { " {}", 0, "does not begin with '{'" },
    { "[]", 0, "does not begin with '{'" },
    { "{", 0, "" },
    { "{}x", 0, "" },
    { "{}{}", 0, "" },
    { "{\"a\"}", 0, "" },
    { "{\"a\":1,}", 0, "" },
    { "{\"\xff\":1}", 0, "" },
    { "{\"\xed\xa0\x80\":1}", 0, "" },
    { "{'a':1}", 0, "" },
    { "{}", 1, "1 bytes follow the last tensor" },
    { "{\"a\":1}", 0, "tensor a: its entry is not an object" },
    { "{\"a\":[]}", 0, "its entry is not an object" },
    { "{\"a\":{}}", 0, "dtype is missing" },
    { "{\"\":" E("\"F32\"", "[1]", 0, 4) "}", 4, "name is empty" },
    { "{\"a\\u0000b\":" E("\"F32\"", "[1]", 0, 4) "}", 4, "control characters" },
    { "{\"a\\nb\":" E("\"F32\"", "[1]", 0, 4) "}", 4, "control characters" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "data_offsets are missing" },
    { "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "shape is missing" },
    { "{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype is missing" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4,
      "an unknown field" },
    { ONE("\"F33\"", "[1]", 0, 4), 4, "unknown dtype F33" },
    { ONE("\"f32\"", "[1]", 0, 4), 4, "unknown dtype f32" },
    { ONE("32", "[1]", 0, 4), 4, "dtype is not a string" },
    { ONE("null", "[1]", 0, 4), 4, "dtype is not a string" },
    { ONE("\"F32\"", "1", 0, 4), 4, "shape is not a list" },
    { ONE("\"F32\"", "[-1]", 0, 4), 4, "not a whole number" },
    { ONE("\"F32\"", "[1.0]", 0, 4), 4, "not a whole number" },
    { ONE("\"F32\"", "[1e0]", 0, 4), 4, "not a whole number" },
    { ONE("\"F32\"", "[\"1\"]", 0, 4), 4, "not a whole number" },
    { ONE("\"F32\"", "[18446744073709551616]", 0, 4), 4, "not a whole number" },
    { ONE("\"F32\"", "[1,1,1,1,1,1,1,1,1]", 0, 4), 4, "more than 8 dimensions" },
    { ONE("\"F32\"", "[4294967296,4294967296]", 0, 4), 4, "overflows" },
    { ONE("\"F32\"", "[9223372036854775808,2]", 0, 4), 4, "overflows" },
    { ONE("\"F32\"", "[4611686018427387905]", 0, 4), 4, "overflows" },
    { ONE("\"F32\"", "[2]", 0, 4), 4, "do not fit" },
    { ONE("\"F32\"", "[1]", 0, 5), 5, "do not fit" },
    { ONE("\"BF16\"", "[3]", 0, 4), 4, "do not fit" },
    { ONE("\"F4\"", "[3]", 0, 2), 2, "do not fit" },
    { ONE("\"F32\"", "[1]", 4, 0), 4, "run backwards" },
    { ONE("\"F32\"", "[1]", 0, 4), 3, "past the end of the file" },
    { ONE("\"F32\"", "[1]", 0, 18446744073709551615), 4, "past the end of the file" },
    { ONE("\"F32\"", "[1]", -4, 0), 4, "not whole numbers" },
    { ONE("\"F32\"", "[1]", 0.0, 4), 4, "not whole numbers" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "not two numbers" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, "not two numbers" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":{}}}", 4, "not two numbers" },
    { ONE("\"F32\"", "[1]", 4, 8), 8, "a hole before its data" },
    { ONE("\"F32\"", "[1]", 0, 4), 5, "1 bytes follow" },
    { "{\"a\":" E("\"F32\"", "[1]", 0, 4) ",\"b\":" E("\"F32\"", "[1]", 8, 12) "}", 12,
      "tensor b: there is a hole" },
    { "{\"a\":" E("\"F32\"", "[2]", 0, 8) ",\"b\":" E("\"F32\"", "[1]", 4, 8) "}", 8,
      "tensor b: its data overlaps" },
    { "{\"a\":" E("\"F32\"", "[1]", 0, 4) ",\"b\":" E("\"F32\"", "[1]", 0, 4) "}", 4,
      "tensor b: its data overlaps" },
    { "{\"a\":" E("\"F32\"", "[1]", 0, 4) ",\"a\":" E("\"F32\"", "[1]", 4, 8) "}", 8, "" },
    { "{\"a\":" E("\"F32\"", "[1]", 0, 4) ",\"\\u0061\":" E("\"F32\"", "[1]", 4, 8) "}", 8, "" },
    { "{\"__metadata__\":1}", 0, "__metadata__ is not an object" },
    { "{\"__metadata__\":{\"a\":1}}", 0, "something else than text" },
    { "{\"__metadata__\":{\"a\":null}}", 0, "something else than text" },
};

static void malformed_headers_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        size_t n = strlen(BAD[i].header);
        write_file(n, BAD[i].header, n, BAD[i].data_n);
        refused(BAD[i].says);
    }
}

static void lying_lengths_are_refused(void **state)
{
    (void)state;
    write_raw("", 0);
    refused("too short");
    write_raw("\2\0\0\0\0\0\0", 7);
    refused("too short");
    write_file(0, "", 0, 0);
    refused("does not begin");
    write_file(3, "{}", 2, 0);
    refused("cut short");
    write_file(100000001, "{}", 2, 0);
    refused("at most 100000000");
    write_file(UINT64_MAX, "{}", 2, 0);
    refused("at most 100000000");
    write_file(3, "{}\0", 3, 0); /* even a NUL */
    refused("");
    unlink(path);
    refused("No such file");
    assert_int_equal(mkdir(path, 0700), 0);
    refused("not a file");
    rmdir(path);
    assert_int_equal(mkfifo(path, 0600), 0); /* nor does it wait for a writer */
    refused("not a file");
    unlink(path);
}

static struct safetensors *open_good(const char *header, size_t data_n)
{
    struct safetensors *f;
    struct why why = { "" };
    size_t n = strlen(header);

    write_file(n, header, n, data_n);
    if (safetensors_open(&f, path, &why)) fail_msg("%s", why.text);
    return f;
}

static void odd_but_good_files_are_read(void **state)
{
    (void)state;
    struct safetensors *f = open_good("{}", 0);
    assert_int_equal(safetensors_n(f), 0);
    assert_null(safetensors_nth(f, 0));
    assert_null(safetensors_find(f, "a"));
    safetensors_close(f);

    f = open_good("{\"__metadata__\":{\"format\":\"pt\"}}      ", 0);
    assert_int_equal(safetensors_n(f), 0);
    safetensors_close(f);

    /* a scalar, an empty tensor between others, odd alignment, an escaped name */
    f = open_good(
        "{\"u\":" E("\"U8\"", "[1]", 0, 1) ",\"s\":" E("\"F32\"", "[]", 1, 5) ",\"e\":" E(
            "\"BF16\"", "[3,0]", 5, 5) ",\"\\u00e9\\ud83d\\ude00\":" E("\"F4\"", "[2]", 5, 6) "}",
        6);
    assert_int_equal(safetensors_n(f), 4);
    const struct st_tensor *t = safetensors_find(f, "s");
    assert_non_null(t);
    assert_int_equal(t->n_dims, 0);
    assert_int_equal(t->dtype, ST_F32);
    assert_int_equal(t->data.n, 4);
    assert_memory_equal(t->data.p, "\1\2\3\4", 4);
    assert_int_equal(safetensors_find(f, "e")->data.n, 0);
    t = safetensors_find(f, "\xc3\xa9\xf0\x9f\x98\x80");
    assert_non_null(t);
    assert_int_equal(t->dtype, ST_OTHER);
    assert_string_equal(t->dtype_name, "F4");
    assert_string_equal(safetensors_nth(f, 0)->name, "u");
    safetensors_close(f);
}

/* Every truncation of a real file, and each header byte changed, is refused or harmless. */
static void truncated_and_flipped_files(void **state)
{
    (void)state;
    const char *h = "{\"a\":" E("\"F32\"", "[1]", 0, 4) ",\"b\":" E("\"F16\"", "[2,1]", 4, 8) "}";
    size_t n = strlen(h), total = 8 + n + 8;
    uint8_t *p = calloc(1, total);
    struct safetensors *f;
    struct why why;

    p[0] = (uint8_t)n;
    memcpy(p + 8, h, n);
    for (size_t cut = 0; cut < total; cut++) {
        write_raw(p, cut);
        assert_int_not_equal(safetensors_open(&f, path, &why), ERR_OK);
    }
    for (size_t i = 0; i < 8 + n; i++) {
        for (int bit = 0; bit < 8; bit++) {
            p[i] ^= (uint8_t)(1 << bit);
            write_raw(p, total);
            if (safetensors_open(&f, path, &why) == ERR_OK) {
                assert_int_equal(safetensors_n(f), 2);
                safetensors_close(f);
            }
            p[i] ^= (uint8_t)(1 << bit);
        }
    }
    free(p);
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    const float x[6] = { 1, 2, 3, 4, 5, -0.0f };
    const int32_t ids[3] = { -1, 0, 7 };
    const uint8_t u[3] = { 9, 8, 7 };
    struct st_tensor t[] = {
        { .name = "u", .dtype = ST_U8, .n_dims = 1, .dim = { 3 }, .data = slice_of(u, 3) },
        { .name = "ids", .dtype = ST_I32, .n_dims = 1, .dim = { 3 }, .data = slice_of(ids, 12) },
        { .name = "x\"\\", .dtype = ST_F32, .n_dims = 2, .dim = { 2, 3 }, .data = slice_of(x, 24) },
        { .name = "s", .dtype = ST_F32, .n_dims = 0, .data = slice_of(x, 4) },
        { .name = "none", .dtype = ST_I64, .n_dims = 1, .dim = { 0 }, .data = slice_of(NULL, 0) },
    };
    struct safetensors *f;
    struct why why = { "" };

    if (safetensors_write(path, t, 5, &why)) fail_msg("%s", why.text);
    if (safetensors_open(&f, path, &why)) fail_msg("%s", why.text);
    assert_int_equal(safetensors_n(f), 5);
    for (int i = 0; i < 5; i++) {
        const struct st_tensor *r = safetensors_find(f, t[i].name);
        assert_non_null(r);
        assert_int_equal(r->dtype, t[i].dtype);
        assert_int_equal(r->n_dims, t[i].n_dims);
        assert_memory_equal(r->dim, t[i].dim, sizeof r->dim);
        assert_int_equal(r->data.n, t[i].data.n);
        if (r->data.n) assert_memory_equal(r->data.p, t[i].data.p, r->data.n);
    }
    /* wide elements lie aligned */
    assert_int_equal((uintptr_t)safetensors_find(f, "x\"\\")->data.p % 4, 0);
    safetensors_close(f);

    t[0].data.n = 2;
    assert_int_equal(safetensors_write(path, t, 5, &why), ERR_RANGE);
    t[0].data.n = 3;
    t[0].name = "ids";
    assert_int_equal(safetensors_write(path, t, 5, &why), ERR_EXISTS);
    t[0].dtype = ST_OTHER;
    assert_int_equal(safetensors_write(path, t, 5, &why), ERR_UNSUPPORTED);
    assert_int_equal(safetensors_write("/nonexistent/x", t + 1, 1, &why), ERR_IO);
}

static void published_files_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        uint32_t n;
        const char *tensor;
    } FILES[] = {
        { SOURCE_DIR "/models/atlas/model.safetensors", 0, "model.embed_tokens.weight" },
        { TESTS_DIR "/fixtures/glm4-dense/model.safetensors", 0, "lm_head.weight" },
        { TESTS_DIR "/fixtures/glm4-moe-air/expected.safetensors", 0, NULL },
    };
    for (size_t i = 0; i < sizeof FILES / sizeof FILES[0]; i++) {
        struct safetensors *f;
        struct why why = { "" };
        if (safetensors_open(&f, FILES[i].file, &why)) fail_msg("%s", why.text);
        assert_true(safetensors_n(f) > 0);
        if (FILES[i].tensor) assert_non_null(safetensors_find(f, FILES[i].tensor));
        for (uint32_t k = 0; k < safetensors_n(f); k++) {
            const struct st_tensor *t = safetensors_nth(f, k);
            assert_ptr_equal(safetensors_find(f, t->name), t);
        }
        assert_null(safetensors_find(f, "no such tensor"));
        safetensors_close(f);
    }
}

static int cleanup(void **state)
{
    (void)state;
    unlink(path);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_headers_are_refused),
        cmocka_unit_test(lying_lengths_are_refused),
        cmocka_unit_test(odd_but_good_files_are_read),
        cmocka_unit_test(truncated_and_flipped_files),
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(published_files_are_read),
    };
    snprintf(path, sizeof path, "/tmp/test_safetensors-%ld", (long)getpid());
    return cmocka_run_group_tests(tests, NULL, cleanup);
}
