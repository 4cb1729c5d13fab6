#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct json_doc *parse(const char *text)
{
    struct json_doc *doc;
    struct why why = { "" };
    enum err e = json_parse(&doc, slice_str(text), "test", &why);
    if (e) fail_msg("%s: %s", text, why.text);
    return doc;
}

/* Parse and write again. */
static void check_written(const char *text, unsigned indent, const char *expected)
{
    struct json_doc *doc = parse(text);
    struct text t = { 0 };
    json_write(&t, json_root(doc), indent);
    assert_false(t.failed);
    assert_string_equal(t.p, expected);
    free(t.p);
    json_free(doc);
}

static void check_refused_bytes(struct slice text, const char *part)
{
    struct json_doc *doc;
    struct why why = { "" };
    assert_int_equal(json_parse(&doc, text, "test", &why), ERR_MALFORMED);
    assert_null(doc);
    if (!strstr(why.text, part) || strncmp(why.text, "test: ", 6) != 0)
        fail_msg("\"%s\" does not say \"%s\"", why.text, part);
    assert_int_equal(json_parse(&doc, text, "test", NULL), ERR_MALFORMED);
}

static void check_refused(const char *text, const char *part)
{
    check_refused_bytes(slice_str(text), part);
}

static void keeps_order_and_spelling(void **state)
{
    (void)state;
    check_written(
        " {\"b\":1.50,\"a\":[-0,1e5,1E-05, 12345678901234567890123],\"c\":{},\"d\":[]} ", 0,
        "{\"b\": 1.50, \"a\": [-0, 1e5, 1E-05, 12345678901234567890123], \"c\": {}, \"d\": []}");
    check_written(
        "{\"b\":[true,false,null],\"a\":{\"x\":{}}}", 2,
        "{\n  \"b\": [\n    true,\n    false,\n    null\n  ],\n  \"a\": {\n    \"x\": {}\n  }\n}");
    check_written("\"\\u0000\\u001f\\b\\f\\n\\r\\t\\/\\\"\\\\\\u00e9\\ud83d\\ude00\x7f\"", 0,
                  "\"\\u0000\\u001f\\b\\f\\n\\r\\t/\\\"\\\\\xc3\xa9\xf0\x9f\x98\x80\x7f\"");
    check_written("7", 4, "7");
    check_written("{\"\":\"\"}", 0, "{\"\": \"\"}");
}

static void strings_are_decoded(void **state)
{
    (void)state;
    struct json_doc *doc = parse("[\"a\\u0000b\", \"\\ud834\\udd1e\", \"\xf0\x9d\x84\x9e\"]");
    const struct json *v = json_root(doc)->child;
    assert_int_equal(v->text.n, 3);
    assert_memory_equal(v->text.p, "a\0b", 3);
    assert_true(json_is_str(v->next, "\xf0\x9d\x84\x9e"));
    assert_true(json_is_str(v->next->next, "\xf0\x9d\x84\x9e"));
    assert_null(v->next->next->next);
    json_free(doc);
}

static void numbers(void **state)
{
    (void)state;
    struct json_doc *doc = parse("{\"a\":18446744073709551615,\"b\":18446744073709551616,\"c\":-1,"
                                 "\"d\":1.0,\"e\":-9223372036854775808,\"f\":-9223372036854775809,"
                                 "\"g\":1e999,\"h\":1e-05,\"i\":\"1\",\"j\":9223372036854775807,"
                                 "\"k\":9223372036854775808,\"l\":1e2}");
    const struct json *r = json_root(doc);
    uint64_t u;
    int64_t i;
    double d;
    assert_true(json_u64(json_get(r, "a"), &u) && u == UINT64_MAX);
    assert_false(json_u64(json_get(r, "b"), &u));
    assert_false(json_u64(json_get(r, "c"), &u));
    assert_false(json_u64(json_get(r, "d"), &u));
    assert_false(json_u64(json_get(r, "l"), &u));
    assert_false(json_u64(json_get(r, "i"), &u));
    assert_false(json_u64(json_get(r, "none"), &u));
    assert_true(json_i64(json_get(r, "c"), &i) && i == -1);
    assert_true(json_i64(json_get(r, "e"), &i) && i == INT64_MIN);
    assert_false(json_i64(json_get(r, "f"), &i));
    assert_true(json_i64(json_get(r, "j"), &i) && i == INT64_MAX);
    assert_false(json_i64(json_get(r, "k"), &i));
    assert_true(json_double(json_get(r, "h"), &d) && d == 1e-05);
    assert_true(json_double(json_get(r, "b"), &d) && d == 18446744073709551616.0);
    assert_false(json_double(json_get(r, "g"), &d));
    assert_false(json_double(json_get(r, "i"), &d));
    assert_null(json_get(NULL, "a"));
    assert_null(json_get(r->child, "a"));
    json_free(doc);
}

static void refuses(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",          " ",   "{",       "[1,]",    "{\"a\":1,}",  "01",    "1.",  "-",     "+1",
        "nul",       "\"a", "\"\n\"",  "\"\\x\"", "1 2",         "{a:1}", "NaN", "[1 2]", "/*c*/1",
        "\"\\u12\"", "'a'", "{\"a\"}", "]",       "\"\\u00g0\"", "{1:2}", ".5"
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) check_refused(bad[i], "");
    check_refused("{\"a\":1,\"b\":2,\"a\":3}", "two keys \"a\"");
    check_refused("{\"x\":{\"\\u0061\":1,\"a\":3}}", "two keys \"a\"");
    check_refused("\"\\ud800\"", "surrogate pair at byte 1");
    check_refused("\"\\ud800\\u0041\"", "surrogate pair at byte 1");
    check_refused("\"a\\udc00\"", "surrogate pair at byte 2");
    check_refused_bytes(slice_of("[1]\0", 4), "");
    check_refused_bytes(slice_of("\"\0\"", 3), "");
}

static void refuses_bad_utf8(void **state)
{
    (void)state;
    static const char *const bad[] = { "\"\x80\"",
                                       "\"\xc0\x80\"",
                                       "\"\xc1\xbf\"",
                                       "\"\xe0\x9f\xbf\"",
                                       "\"\xed\xa0\x80\"",
                                       "\"\xf0\x8f\xbf\xbf\"",
                                       "\"\xf4\x90\x80\x80\"",
                                       "\"\xf5\x80\x80\x80\"",
                                       "\"\xe2\x82\"",
                                       "\"\xff\"",
                                       "\"\xe2\"" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        check_refused(bad[i], "invalid UTF-8 at byte 1");
    check_refused("\"12345678901234567890\xff\"", "byte 21");
    json_free(
        parse("\"\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf\xc2\x80\xe0\xa0\x80\xf0\x90\x80\x80\""));
}

static void depth_is_bounded(void **state)
{
    (void)state;
    char text[2 * JSON_DEPTH_MAX + 3] = "";
    memset(text, '[', JSON_DEPTH_MAX);
    memset(text + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
    json_free(parse(text));
    memset(text, '[', JSON_DEPTH_MAX + 1);
    memset(text + JSON_DEPTH_MAX + 1, ']', JSON_DEPTH_MAX + 1);
    check_refused(text, "nested deeper than 64 at byte 65");
}

static void large_objects(void **state)
{
    (void)state;
    struct text t = { 0 };
    text_str(&t, "{");
    for (int i = 0; i < 20000; i++) text_printf(&t, "\"key%d\": %d, ", i, i);
    size_t at = t.n;
    text_str(&t, "\"last\": [1]}");
    struct json_doc *doc = parse(t.p);
    assert_int_equal(json_root(doc)->n, 20001);
    uint64_t u;
    assert_true(json_u64(json_get(json_root(doc), "key12345"), &u) && u == 12345);
    struct text back = { 0 };
    json_write(&back, json_root(doc), 0);
    assert_string_equal(back.p, t.p);
    json_free(doc);
    free(back.p);

    t.n = at;
    text_str(&t, "\"key7\": [1]}");
    check_refused(t.p, "two keys \"key7\"");
    free(t.p);
}

static void text_grows(void **state)
{
    (void)state;
    struct text t = { 0 };
    for (int i = 0; i < 1000; i++) text_printf(&t, "%03d", i);
    assert_int_equal(t.n, 3000);
    assert_int_equal(strlen(t.p), 3000);
    assert_memory_equal(t.p + 2997, "999", 4);
    text_add(&t, NULL, 0);
    assert_false(t.failed);
    free(t.p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_order_and_spelling),
        cmocka_unit_test(strings_are_decoded),
        cmocka_unit_test(numbers),
        cmocka_unit_test(refuses),
        cmocka_unit_test(refuses_bad_utf8),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(large_objects),
        cmocka_unit_test(text_grows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
