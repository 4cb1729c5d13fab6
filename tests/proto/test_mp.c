/* The validating pass and the cursor, against published vectors, hostile bytes and msgpack-c. */
#include "base/json.h"
#include "tests/proto/oracle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* --- the published suite --- */

/* Does the first value of bytes say what the JSON says? */
static bool says(struct mp_reader *r, const struct json *v)
{
    struct mp_item it;
    char spelled[32];

    if (mp_next(r, &it)) return false;
    switch (v->type) {
    case JSON_NULL: return it.kind == MP_NIL;
    case JSON_FALSE: return it.kind == MP_BOOL && !it.u;
    case JSON_TRUE: return it.kind == MP_BOOL && it.u;
    case JSON_NUMBER:
        if (it.kind == MP_FLOAT32 || it.kind == MP_FLOAT64) {
            double d;
            return json_double(v, &d) && d == it.d;
        }
        snprintf(spelled, sizeof spelled, it.kind == MP_NEGATIVE ? "%jd" : "%ju", (intmax_t)it.u);
        return slice_is(v->text, spelled);
    case JSON_STRING:
        return it.kind == MP_STR &&
               same_bytes(it.bytes, (const char *)v->text.p, (uint32_t)v->text.n);
    case JSON_ARRAY:
        if (it.kind != MP_ARRAY || it.u != v->n) return false;
        for (const struct json *c = v->child; c; c = c->next)
            if (!says(r, c)) return false;
        return true;
    case JSON_OBJECT:
        if (it.kind != MP_MAP || it.u != v->n) return false;
        for (const struct json *c = v->child; c; c = c->next) {
            struct slice key;
            if (mp_str(r, &key) || !same_bytes(key, (const char *)c->key.p, (uint32_t)c->key.n))
                return false;
            if (!says(r, c)) return false;
        }
        return true;
    }
    return false;
}

/* A number beyond a double's integers is spelled in a string. */
static bool says_bignum(struct mp_reader *r, const struct json *v)
{
    struct json number = *v;
    number.type = JSON_NUMBER;
    return says(r, &number);
}

static bool says_binary(struct mp_reader *r, const struct json *v)
{
    struct slice got;
    size_t n;
    uint8_t *want = unhex((const char *)v->text.p, v->text.n, &n);
    bool same = !mp_bin(r, &got) && got.n == n && (n == 0 || !memcmp(got.p, want, n));
    free(want);
    return same;
}

static void check_encoding(const struct json *entry, const struct json *hex)
{
    static const char *const plain[] = { "nil", "bool", "number", "string", "array", "map" };
    size_t n;
    uint8_t *p = unhex((const char *)hex->text.p, hex->text.n, &n);
    struct slice bytes = slice_of(p, n);
    struct mp_reader r = mp_open(bytes, false);

    if (json_get(entry, "ext") || json_get(entry, "timestamp")) {
        assert_int_equal(mp_check(bytes, MP_OBJECTS, NULL), ERR_MALFORMED);
        free(p);
        return;
    }
    assert_int_equal(mp_check(bytes, MP_OBJECTS, NULL), ERR_OK);
    assert_true(oracle_reads_the_same(bytes));
    if (json_get(entry, "binary")) assert_true(says_binary(&r, json_get(entry, "binary")));
    r = mp_open(bytes, false);
    bool is_float = n > 0 && (p[0] == 0xca || p[0] == 0xcb);
    if (json_get(entry, "bignum") && !is_float)
        assert_true(says_bignum(&r, json_get(entry, "bignum")));
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        r = mp_open(bytes, false);
        if (json_get(entry, plain[i])) assert_true(says(&r, json_get(entry, plain[i])));
    }

    r = mp_open(bytes, true);
    assert_int_equal(mp_skip(&r), oracle_writes_the_same(bytes) ? ERR_OK : ERR_MALFORMED);
    for (size_t cut = 0; cut < n; cut++)
        assert_int_equal(mp_check(slice_of(p, cut), MP_OBJECTS, NULL), ERR_MALFORMED);
    free(p);
}

static void test_published_suite(void **state)
{
    struct json_doc *doc;
    struct slice text = read_all(TESTS_DIR "/vectors/msgpack/msgpack-test-suite.json");
    unsigned n = 0;

    (void)state;
    assert_int_equal(json_parse(&doc, text, "msgpack-test-suite.json", NULL), ERR_OK);
    for (const struct json *group = json_root(doc)->child; group; group = group->next)
        for (const struct json *entry = group->child; entry; entry = entry->next) {
            const struct json *list = json_get(entry, "msgpack");
            assert_non_null(list);
            for (const struct json *hex = list->child; hex; hex = hex->next, n++)
                check_encoding(entry, hex);
        }
    assert_int_equal(n, 233);
    json_free(doc);
    free((void *)(uintptr_t)text.p);
}

static void test_hostile_verdicts(void **state)
{
    FILE *f = fopen(TESTS_DIR "/vectors/msgpack/hostile.txt", "r");
    char line[1024];
    unsigned n = 0;

    (void)state;
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        if (line[0] == '#' || line[0] == '\n') continue;
        const char *verdict = strrchr(line, '|');
        assert_non_null(verdict);
        size_t len;
        uint8_t *p = unhex(line, strcspn(line, " |"), &len);
        bool accept = strncmp(verdict + 2, "ACCEPT", 6) == 0;
        assert_true(accept || strncmp(verdict + 2, "REJECT", 6) == 0);
        struct why why = { "" };
        enum err e = mp_check(slice_of(p, len), MP_OBJECTS, &why);
        assert_true(accept ? e == ERR_OK : e != ERR_OK && why.text[0]);
        free(p);
        n++;
    }
    fclose(f);
    assert_int_equal(n, 16);

    uint64_t u;
    struct slice one = slice_of("\xcd\x00\x01", 3); /* the vector that records refuse */
    struct mp_reader plain = mp_open(one, false), record = mp_open(one, true);
    assert_int_equal(mp_uint(&plain, &u), ERR_OK);
    assert_int_equal(u, 1);
    assert_int_equal(mp_uint(&record, &u), ERR_MALFORMED);
}

/* --- limits --- */

static enum err check_text(const char *bytes, size_t n, uint32_t max_objects)
{
    uint8_t *p = malloc(n ? n : 1); /* exact, so that a sanitizer sees one read too far */
    memcpy(p, bytes, n);
    enum err e = mp_check(slice_of(p, n), max_objects, NULL);
    if (!e) assert_true(oracle_reads_the_same(slice_of(p, n)));
    free(p);
    return e;
}
#define CHECK_BYTES(text) check_text(text, sizeof(text) - 1, MP_OBJECTS)

static void test_depth(void **state)
{
    (void)state;
    assert_int_equal(CHECK_BYTES("\x91\x91\x91\x91\x91\x91\xc0"), ERR_OK);
    assert_int_equal(CHECK_BYTES("\x91\x91\x91\x91\x91\x91\x91\xc0"), ERR_RANGE);
    assert_int_equal(CHECK_BYTES("\x91\x91\x91\x91\x91\x90"), ERR_OK);
    assert_int_equal(CHECK_BYTES("\x91\x91\x91\x91\x91\x91\x90"), ERR_RANGE);
    assert_int_equal(CHECK_BYTES("\x81\xa1z\x81\xa1z\x81\xa1z\x81\xa1z\x81\xa1z\x81\xa1z\x01"),
                     ERR_OK);
    /* Six levels may come again and again. */
    assert_int_equal(CHECK_BYTES("\x92\x91\x91\x91\x91\x91\x01\x91\x91\x91\x91\x91\x01"), ERR_OK);
}

static void test_counts(void **state)
{
    (void)state;
    assert_int_equal(check_text("\x93\x01\x02\x03", 4, 4), ERR_OK);
    assert_int_equal(check_text("\x93\x01\x02\x03", 4, 3), ERR_RANGE);
    assert_int_equal(check_text("\xc0", 1, 1), ERR_OK);
    assert_int_equal(check_text("\xc0", 1, 0), ERR_RANGE);
    /* Each count alone fits into what follows; their sum does not. */
    assert_int_equal(CHECK_BYTES("\x95\x94\x93\x92\x91\x01"), ERR_MALFORMED);
    struct why why; /* and it is seen as soon as the sum is too large, not where the bytes end */
    assert_int_equal(mp_check(slice_of("\x94\x93\xc0\xc0\xc0\xc0", 6), MP_OBJECTS, &why),
                     ERR_MALFORMED);
    assert_string_equal(why.text, "byte 1: 6 values announced, 4 bytes left");
    assert_int_equal(CHECK_BYTES("\x94\x92\x01\x02\x01"), ERR_MALFORMED);
    assert_int_equal(CHECK_BYTES("\xdf\x80\x00\x00\x00\xa1\x61\x01"), ERR_MALFORMED);
    assert_int_equal(CHECK_BYTES(""), ERR_MALFORMED);
    for (unsigned b = 0xc7; b <= 0xd8; b++) { /* ext, in its eight spellings */
        if (b > 0xc9 && b < 0xd4) continue;
        char ext[20] = { (char)b, 1, 1 };
        for (size_t n = 1; n <= sizeof ext; n++)
            assert_int_equal(check_text(ext, n, MP_OBJECTS), ERR_MALFORMED);
    }
}

static void test_keys(void **state)
{
    char many[3 + 4 * (MP_KEYS_MAX + 1)] = "\xde\x00";

    (void)state;
    assert_int_equal(CHECK_BYTES("\x81\xb0"
                                 "0123456789abcdef"
                                 "\x01"),
                     ERR_OK);
    assert_int_equal(CHECK_BYTES("\x81\xb1"
                                 "0123456789abcdefg"
                                 "\x01"),
                     ERR_RANGE);
    assert_int_equal(CHECK_BYTES("\x81\x01\x01"), ERR_MALFORMED);
    assert_int_equal(CHECK_BYTES("\x81\xc4\x01\x61\x01"), ERR_MALFORMED);
    assert_int_equal(CHECK_BYTES("\x81\x90\x01"), ERR_MALFORMED);
    assert_int_equal(CHECK_BYTES("\x82\xa1\x61\x01\xd9\x01\x61\x01"), ERR_MALFORMED);
    assert_int_equal(CHECK_BYTES("\x82\xa0\x01\xa0\x01"), ERR_MALFORMED);
    /* The same key may come in a map and in a map inside it. */
    assert_int_equal(CHECK_BYTES("\x82\xa1\x61\x81\xa1\x61\x01\xa1\x62\x01"), ERR_OK);
    assert_int_equal(CHECK_BYTES("\x82\xa1\x61\x81\xa1\x61\x01\xa1\x61\x01"), ERR_MALFORMED);

    for (unsigned n = MP_KEYS_MAX; n <= MP_KEYS_MAX + 1; n++) {
        many[2] = (char)n;
        for (unsigned i = 0; i < n; i++)
            memcpy(many + 3 + 4 * i,
                   (char[4]){ (char)0xa2, (char)('A' + i / 26), (char)('a' + i % 26), 1 }, 4);
        assert_int_equal(check_text(many, 3 + 4 * n, MP_OBJECTS),
                         n == MP_KEYS_MAX ? ERR_OK : ERR_RANGE);
    }
}

static void test_utf8(void **state)
{
    static const char *const good[] = {
        "",
        "a",
        "\x7f",
        "\xc2\x80",
        "\xdf\xbf",
        "\xe0\xa0\x80",
        "\xed\x9f\xbf",
        "\xee\x80\x80",
        "\xef\xbf\xbf",
        "\xf0\x90\x80\x80",
        "\xf4\x8f\xbf\xbf",
        "a\xc3\xa9z",
    };
    static const char *const bad[] = {
        "\x80",
        "\xbf",
        "\xc0\x80",
        "\xc1\xbf",
        "\xc2",
        "\xc2\x7f",
        "\xc2\xc0",
        "\xe0\x9f\xbf",
        "\xe0\xa0",
        "\xed\xa0\x80",
        "\xed\xbf\xbf",
        "\xe1\x80",
        "\xe1\x80\x7f",
        "\xf0\x8f\xbf\xbf",
        "\xf0\x90\x80",
        "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80",
        "\xff",
        "\xfe",
        "ok\xe2\x82",
    };

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(utf8_is_valid(slice_str(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(utf8_is_valid(slice_str(bad[i])));
    assert_false(utf8_is_valid(slice_of("a\0b", 3)));
    assert_int_equal(CHECK_BYTES("\xa1\x00"), ERR_MALFORMED);
    assert_int_equal(CHECK_BYTES("\xc4\x01\x00"), ERR_OK);
}

static void test_numbers(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        enum err as_uint, as_double;
    } cases[] = {
        { "\x05", 1, ERR_OK, ERR_MALFORMED },
        { "\xd0\x05", 2, ERR_OK, ERR_MALFORMED },
        { "\xff", 1, ERR_RANGE, ERR_MALFORMED },
        { "\xd3\xff\xff\xff\xff\xff\xff\xff\xff", 9, ERR_RANGE, ERR_MALFORMED },
        { "\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 9, ERR_OK, ERR_MALFORMED },
        { "\xca\x3f\x80\x00\x00", 5, ERR_MALFORMED, ERR_MALFORMED },
        { "\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00", 9, ERR_MALFORMED, ERR_OK },
        { "\xcb\x00\x00\x00\x00\x00\x00\x00\x00", 9, ERR_MALFORMED, ERR_OK },
        { "\xcb\x80\x00\x00\x00\x00\x00\x00\x00", 9, ERR_MALFORMED, ERR_RANGE }, /* -0 */
        { "\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00", 9, ERR_MALFORMED, ERR_RANGE },
        { "\xcb\xff\xf0\x00\x00\x00\x00\x00\x00", 9, ERR_MALFORMED, ERR_RANGE },
        { "\xcb\x7f\xf8\x00\x00\x00\x00\x00\x01", 9, ERR_MALFORMED, ERR_RANGE },
        { "\xc3", 1, ERR_MALFORMED, ERR_MALFORMED },
        { "\xc0", 1, ERR_MALFORMED, ERR_MALFORMED },
        { "\xa1\x31", 2, ERR_MALFORMED, ERR_MALFORMED },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mp_reader r = mp_open(slice_of(cases[i].bytes, cases[i].n), false);
        const uint8_t *start = r.p;
        uint64_t u;
        double d;
        assert_int_equal(mp_uint(&r, &u), cases[i].as_uint);
        assert_ptr_equal(r.p, cases[i].as_uint ? start : r.end);
        r.p = start;
        assert_int_equal(mp_double(&r, &d), cases[i].as_double);
        assert_ptr_equal(r.p, cases[i].as_double ? start : r.end);
    }
    assert_int_equal(CHECK_BYTES("\xca\x7f\x80\x00\x00"), ERR_RANGE);
    assert_int_equal(CHECK_BYTES("\xcb\x80\x00\x00\x00\x00\x00\x00\x00"), ERR_OK);
}

static void test_skip(void **state)
{
    struct slice s =
        slice_of("\x82\xa1\x61\x92\x01\x81\xa1\x62\xc4\x02\xff\xff\xa1\x63\xc0\x07", 16);
    struct mp_reader r = mp_open(s, false);
    uint64_t u;

    (void)state;
    assert_int_equal(mp_skip(&r), ERR_OK);
    assert_int_equal(mp_uint(&r, &u), ERR_OK);
    assert_int_equal(u, 7);
    assert_int_equal(mp_skip(&r), ERR_MALFORMED);
    for (size_t cut = 0; cut < s.n - 1; cut++) {
        r = mp_open(slice_of(s.p, cut), false);
        assert_int_equal(mp_skip(&r), ERR_MALFORMED);
        assert_ptr_equal(r.p, s.p);
    }
    r = mp_open(slice_of("\xdf\xff\xff\xff\xff\xdf\xff\xff\xff\xff", 10), false);
    assert_int_equal(mp_skip(&r), ERR_MALFORMED); /* and at once */
}

/* --- anything at all --- */

/* Bytes that start with likely headers; whatever mp_check takes, msgpack-c must take too. */
static void test_random_bytes_against_msgpack_c(void **state)
{
    static const uint8_t heads[] = { 0x00, 0x7f, 0x80, 0x81, 0x82, 0x83, 0x90, 0x91, 0x92, 0x93,
                                     0xa0, 0xa1, 0xa2, 0xa3, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5,
                                     0xc7, 0xca, 0xcb, 0xcc, 0xcd, 0xd0, 0xd1, 0xd2, 0xd9, 0xda,
                                     0xdc, 0xdd, 0xde, 0xdf, 0xe0, 0xff, 0x61, 0x62, 0x01, 0x02 };
    uint64_t seed = 3;
    unsigned accepted = 0;

    (void)state;
    for (unsigned round = 0; round < 300000; round++) {
        size_t n = 1 + test_random(&seed) % 12;
        uint8_t *p = malloc(n);
        for (size_t i = 0; i < n; i++) {
            uint64_t x = test_random(&seed);
            p[i] = x & 0x700 ? heads[(x >> 16) % sizeof heads] : (uint8_t)x;
        }
        struct slice bytes = slice_of(p, n);
        if (!mp_check(bytes, MP_OBJECTS, NULL)) {
            struct mp_reader r = mp_open(bytes, false);
            assert_true(oracle_reads_the_same(bytes));
            assert_int_equal(mp_skip(&r), ERR_OK);
            assert_ptr_equal(r.p, r.end);
            r = mp_open(bytes, true);
            assert_int_equal(mp_skip(&r), oracle_writes_the_same(bytes) ? ERR_OK : ERR_MALFORMED);
            accepted++;
        }
        free(p);
    }
    assert_true(accepted > 5000);
}

/* All inputs of one and two bytes. */
static void test_short_bytes(void **state)
{
    (void)state;
    for (unsigned v = 0; v < 0x10000; v++) {
        char b[2] = { (char)(v >> 8), (char)v };
        enum err one = check_text(b, 1, MP_OBJECTS), two = check_text(b, 2, MP_OBJECTS);
        assert_true(one == ERR_OK || one == ERR_MALFORMED);
        assert_false(one == ERR_OK && two == ERR_OK); /* no object is another's beginning */
    }
}

static void write_random(msgpack_packer *pk, uint64_t *seed, unsigned depth)
{
    uint64_t x = test_random(seed);
    unsigned n = (unsigned)(x >> 8) % 4;
    char key[16];

    switch (x % (depth > 0 ? 9 : 7)) {
    case 0: msgpack_pack_nil(pk); break;
    case 1: msgpack_pack_true(pk); break;
    case 2: msgpack_pack_uint64(pk, test_random(seed) >> (x >> 8) % 64); break;
    case 3: msgpack_pack_int64(pk, -(int64_t)(test_random(seed) >> (1 + (x >> 8) % 63))); break;
    case 4: msgpack_pack_double(pk, (double)(int64_t)test_random(seed)); break;
    case 5: msgpack_pack_str_with_body(pk, "h\xc3\xa9llo", (x >> 8) % 2 ? 6 : 0); break;
    case 6: msgpack_pack_bin_with_body(pk, &x, (x >> 8) % 9); break;
    case 7:
        msgpack_pack_array(pk, n);
        for (unsigned i = 0; i < n; i++) write_random(pk, seed, depth - 1);
        break;
    case 8:
        msgpack_pack_map(pk, n);
        for (unsigned i = 0; i < n; i++) {
            int len = snprintf(key, sizeof key, "k%u", i);
            msgpack_pack_str_with_body(pk, key, (size_t)len);
            write_random(pk, seed, depth - 1);
        }
    }
}

static void test_what_msgpack_c_writes(void **state)
{
    uint64_t seed = 4;
    msgpack_sbuffer sb;
    msgpack_packer pk;

    (void)state;
    msgpack_sbuffer_init(&sb);
    msgpack_packer_init(&pk, &sb, msgpack_sbuffer_write);
    for (unsigned round = 0; round < 20000; round++) {
        msgpack_sbuffer_clear(&sb);
        write_random(&pk, &seed, MP_DEPTH);
        struct slice bytes = slice_of(sb.data, sb.size);
        struct mp_reader r = mp_open(bytes, true);
        assert_int_equal(mp_check(bytes, 10000, NULL), ERR_OK);
        assert_true(oracle_reads_the_same(bytes));
        assert_int_equal(mp_skip(&r), ERR_OK); /* and all of it is minimal */
    }
    msgpack_sbuffer_destroy(&sb);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_suite),
        cmocka_unit_test(test_hostile_verdicts),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_skip),
        cmocka_unit_test(test_random_bytes_against_msgpack_c),
        cmocka_unit_test(test_short_bytes),
        cmocka_unit_test(test_what_msgpack_c_writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
