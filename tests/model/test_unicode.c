#include "model/tokenizer_pattern.h"
#include "model/unicode.h"
#include "model/unicode_nfc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* ---- tables ---------------------------------------------------------------------------- */

static struct uset property(const char *name)
{
    struct uset s = { 0 };
    if (!unicode_add_property(&s, slice_str(name))) fail_msg("no property %s", name);
    uset_close(&s);
    assert_false(s.failed);
    return s;
}

static uint32_t count(const struct uset *s)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n; i++) n += s->r[i].hi - s->r[i].lo + 1;
    return n;
}

static void check_count(const char *name, uint32_t expected)
{
    struct uset s = property(name);
    if (count(&s) != expected) fail_msg("%s has %u", name, count(&s));
    uset_fini(&s);
}

/* Counts of Unicode 16. */
static void categories_are_complete(void **state)
{
    (void)state;
    check_count("L", 141028);
    check_count("Letter", 141028);
    check_count("N", 1911);
    check_count("Nd", 760);
    check_count("decimal_number", 760);
    check_count("M", 2501);
    check_count("Alphabetic", 142759);
    check_count("White_Space", 25);
    check_count("Han", 99030);
    check_count("ASCII", 128);
    check_count("Any", 0x110000);
    check_count("Cs", 2048);

    static const char *const groups[] = { "L", "M", "N", "P", "S", "Z", "C" };
    struct uset all = { 0 };
    uint32_t sum = 0;
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        struct uset s = property(groups[i]);
        sum += count(&s);
        uset_add_all(&all, &s);
        uset_fini(&s);
    }
    uset_close(&all);
    assert_int_equal(sum, 0x110000); /* no code point twice */
    assert_int_equal(count(&all), 0x110000);
    uset_fini(&all);

    struct uset none = { 0 };
    assert_false(unicode_add_property(&none, slice_str("Klingon")));
    assert_false(unicode_add_property(&none, slice_str("")));
    assert_false(unicode_add_property(&none, slice_str("LL L")));
    assert_int_equal(none.n, 0);
}

static void single_questions(void **state)
{
    (void)state;
    struct uset space = property("White_Space"), number = property("N");
    for (uint32_t c = 0; c <= UNICODE_MAX; c++) {
        if (unicode_is_space(c) != uset_has(&space, c)) fail_msg("space %x", c);
        if (unicode_is_number(c) != uset_has(&number, c)) fail_msg("number %x", c);
    }
    uset_fini(&space);
    uset_fini(&number);
    assert_true(unicode_is_space(0x85) && unicode_is_space(0x3000));
    assert_false(unicode_is_space(0x180e) || unicode_is_space(0x1c) || unicode_is_space(0xfeff));
    assert_true(unicode_is_word('_') && unicode_is_word(0x200d) && unicode_is_word(0x1c89));
    assert_false(unicode_is_word('-') || unicode_is_word(0xb2));
    assert_true(unicode_is_normalizing('A') && unicode_is_normalizing(0xe9));
    assert_false(unicode_is_normalizing(0x1ac4)); /* a mark of Unicode 14 */
}

static void sets(void **state)
{
    (void)state;
    struct uset a = { 0 }, b = { 0 };
    uset_add(&a, 30, 40);
    uset_add(&a, 1, 5);
    uset_add(&a, 6, 9);
    uset_add(&a, 35, 50);
    uset_close(&a);
    assert_int_equal(a.n, 2);
    assert_true(uset_has(&a, 1) && uset_has(&a, 9) && uset_has(&a, 50) && !uset_has(&a, 51));
    assert_false(uset_has(&a, 0) || uset_has(&a, 10) || uset_has(&a, 29));
    uset_add(&b, 8, 31);
    uset_close(&b);
    uset_keep(&b, &a);
    assert_int_equal(count(&b), 4); /* 8 9 30 31 */
    uset_invert(&a);
    assert_true(uset_has(&a, 0) && uset_has(&a, UNICODE_MAX) && !uset_has(&a, 1));
    uset_invert(&a);
    assert_int_equal(count(&a), 30);
    uset_keep(&b, &a);
    assert_int_equal(count(&b), 4);
    assert_false(uset_same(&a, &b));
    uset_fini(&a);
    uset_fini(&b);
    uset_invert(&a);
    assert_int_equal(count(&a), 0x110000);
    uset_fini(&a);
}

static void utf8_round_trip(void **state)
{
    (void)state;
    for (uint32_t c = 0; c <= UNICODE_MAX; c++) {
        uint8_t p[4];
        size_t len, n = utf8_put(c, p);
        bool bad;
        uint32_t back = utf8_get(p, n, &len, &bad);
        bool surrogate = c >= 0xd800 && c <= 0xdfff;
        if (bad != surrogate) fail_msg("%x", c);
        if (!bad && (back != c || len != n || utf8_len(p[0]) != n)) fail_msg("%x", c);
        if (n > 1) { /* cut short */
            utf8_get(p, n - 1, &len, &bad);
            if (!bad || len > n - 1) fail_msg("%x", c);
        }
    }
    assert_true(utf8_valid(slice_str("a\xc3\xa9")));
    assert_false(utf8_valid(slice_str("a\xc3")));
}

/* ---- normalization --------------------------------------------------------------------- */

static void check_nfc(const char *in, const char *out)
{
    struct text t = { 0 };
    unicode_nfc(slice_str(in), &t);
    assert_string_equal(t.p, out);
    free(t.p);
}

static void nfc(void **state)
{
    (void)state;
    check_nfc("plain", "plain");
    check_nfc("e\xcc\x81", "\xc3\xa9");
    check_nfc("\xc3\xa9", "\xc3\xa9");
    check_nfc("e\xcc\xa3\xcc\x81", "\xe1\xba\xb9\xcc\x81");              /* already in order */
    check_nfc("e\xcc\x81\xcc\xa3", "\xe1\xba\xb9\xcc\x81");              /* put in order */
    check_nfc("\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8", "\xea\xb0\x81");   /* Hangul */
    check_nfc("\xe2\x84\xaa", "K");                                      /* Kelvin */
    check_nfc("\xe0\xa5\x98", "\xe0\xa4\x95\xe0\xa4\xbc");               /* excluded */
    check_nfc("a\xf0\x9f\x98\x80\xcc\x81", "a\xf0\x9f\x98\x80\xcc\x81"); /* on an emoji */
    check_nfc("e\xe1\xab\x84\xcc\x81", "e\xe1\xab\x84\xcc\x81");         /* a wall between */
    check_nfc(">\xcc\xb8=\xcc\xb8", "\xe2\x89\xaf\xe2\x89\xa0");
}

/* ---- patterns -------------------------------------------------------------------------- */

/* Pieces joined by '|'. */
static void check_cut(const char *regex, const char *text, const char *expected)
{
    struct pattern *p;
    struct why why = { "" };
    struct pattern_cutter c = { 0 };
    char out[256] = "";
    struct slice piece;
    if (pattern_open(&p, slice_str(regex), &why)) fail_msg("%s", why.text);
    assert_int_equal(pattern_cut_start(&c, p, slice_str(text)), ERR_OK);
    for (;;) {
        assert_int_equal(pattern_cut(&c, &piece), ERR_OK);
        if (piece.n == 0) break;
        if (out[0]) strcat(out, "|");
        strncat(out, (const char *)piece.p, piece.n);
    }
    if (strcmp(out, expected) != 0) fail_msg("%s on %s: %s, not %s", regex, text, out, expected);
    pattern_cutter_fini(&c);
    pattern_close(p);
}

static void patterns_cut(void **state)
{
    (void)state;
    static const char glm[] =
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
        " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
    check_cut(glm, "I'M don't I'll we'Re", "I|'M| don|'t| I|'ll| we|'Re");
    check_cut(glm, "  two  spaces   end  ", " | two| | spaces|  | end|  ");
    check_cut(glm, "12345 6,7890.12", "123|45| |6|,|789|0|.|12");
    check_cut(glm, "'\xc5\xbfx", "'\xc5\xbf|x"); /* U+017F is an s */
    check_cut(glm, "\xe4\xbd\xa0\xe5\xa5\xbd\xef\xbc\x8c\xe4\xb8\x96",
              "\xe4\xbd\xa0\xe5\xa5\xbd|\xef\xbc\x8c\xe4\xb8\x96");
    check_cut(glm, "a\x1c\x1c b", "a|\x1c\x1c| b"); /* U+001C is no white space */
    check_cut("b", "abba", "a|b|b|a");
    check_cut("(?=\\p{Lu})", "aBcDE", "a|Bc|D|E");
    check_cut("x*", "axxb", "a|xx|b");
    check_cut("[a-c&&[^b]]+", "abcca", "a|b|cca");
    check_cut("a{,2}", "aaab", "aa|a|b");
    check_cut("a{2}+", "aaaaa", "aaaa|a");
    check_cut("^.", "ab\ncd", "a|b\n|c|d");
    check_cut("{", "a{b", "a|{|b");
    check_cut("\\b", "ab cd", "ab| |cd");
    check_cut("(?i)k", "k\xe2\x84\xaaK", "k|\xe2\x84\xaa|K");
    check_cut("q", "", "");
}

static void patterns_refused(void **state)
{
    (void)state;
    static const struct {
        const char *regex, *says;
    } cases[] = {
        { "(a", "( without )" },
        { "a)", ") without (" },
        { "[a", "a class without ]" },
        { "*a", "a repeat of nothing" },
        { "a**", "a repeat of a repeat" },
        { "a|{2}", "a repeat of nothing" },
        { "(?<n>a)", "this kind of group is not supported" },
        { "(a)\\1", "\\1 is not supported" },
        { "\\X", "\\X is not supported" },
        { "\\p{Klingon}", "\\p{Klingon} is not supported" },
        { "\\p{L", "\\p{ without }" },
        { "[[:alpha:]]", "[: :] is not supported" },
        { "[z-a]", "ends before it begins" },
        { "[a-\\d]", "a range that ends in a set" },
        { "a{3}?", "{n}? is not supported" },
        { "a{9999}", "so large a repeat count" },
        { "(?i:\xc3\xa9)", "(?i) with characters beyond ASCII" },
        { "(?i:ss)", "(?i) with ss" },
        { "a(?i)b", "(?i) within a group" },
        { "(?s:.)", "this kind of group" },
        { "\\x{110000}", "bad hexadecimal escape" },
        { "a\\", "the pattern ends too early" },
        { "(?<=a+)b", "lookbehind" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pattern *p;
        struct why why = { "" };
        assert_int_not_equal(pattern_open(&p, slice_str(cases[i].regex), &why), ERR_OK);
        assert_null(p);
        if (!strstr(why.text, cases[i].says) || !strstr(why.text, cases[i].regex))
            fail_msg("%s: \"%s\" does not say \"%s\"", cases[i].regex, why.text, cases[i].says);
    }
    struct text deep = { 0 };
    struct pattern *p;
    for (int i = 0; i < 10000; i++) text_str(&deep, "(");
    assert_int_equal(pattern_open(&p, slice_of(deep.p, deep.n), NULL), ERR_UNSUPPORTED);
    free(deep.p);
    assert_int_equal(pattern_open_literal(&p, slice_str(""), NULL), ERR_UNSUPPORTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(categories_are_complete),
        cmocka_unit_test(single_questions),
        cmocka_unit_test(sets),
        cmocka_unit_test(utf8_round_trip),
        cmocka_unit_test(nfc),
        cmocka_unit_test(patterns_cut),
        cmocka_unit_test(patterns_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
