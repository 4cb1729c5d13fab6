/* Settings from flags, environment, file and defaults: who wins, what is refused and with which
 * words, and that what check-config prints means the same when it is read again. */
#include "tools/settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct {
    const char *word, *other, *secret;
    struct arg_list list;
    uint32_t small;
    uint64_t size, large;
    double real;
    struct arg_range range;
    bool plain, on;
} v;

static enum err check_other(const void *to, struct why *why)
{
    if (strcmp(*(const char *const *)to, "bad") != 0) return ERR_OK;
    if (why) strcpy(why->text, "no such thing"); /* (cmocka takes the name fail) */
    return ERR_USAGE;
}

static const struct setting table[] = {
    { .name = "word", .type = ARG_STR, .to = &v.word, .value = "W", .help = "a word" },
    { .name = "other",
      .type = ARG_STR,
      .to = &v.other,
      .value = "W",
      .help = "a word",
      .preset = "usual",
      .check = check_other },
    { .name = "secret",
      .type = ARG_STR,
      .to = &v.secret,
      .value = "S",
      .help = "a secret",
      .is_secret = true,
      .check = check_other },
    { .name = "list", .type = ARG_LIST, .to = &v.list, .value = "W", .help = "several" },
    { .name = "small",
      .type = ARG_U32,
      .to = &v.small,
      .value = "N",
      .help = "a number",
      .preset = "7",
      .min = 2,
      .max = 99 },
    { .name = "the-size",
      .type = ARG_SIZE,
      .to = &v.size,
      .value = "SIZE",
      .help = "bytes",
      .unset = "all" },
    { .name = "large", .type = ARG_U64, .to = &v.large, .value = "N", .help = "a number" },
    { .name = "real", .type = ARG_DOUBLE, .to = &v.real, .value = "X", .help = "a number" },
    { .name = "range", .type = ARG_RANGE, .to = &v.range, .value = "A-B", .help = "layers" },
    { .name = "plain", .type = ARG_FLAG, .to = &v.plain, .help = "a switch" },
    { .name = "on", .type = ARG_FLAG, .to = &v.on, .help = "[no-]on unless told", .preset = "yes" },
    { .name = "file",
      .type = ARG_STR,
      .to = &v.word,
      .value = "W",
      .help = "x",
      .has_no_key = true },
    { 0 },
};

static struct settings s;
static char said[16384], path[256];

static void say(void *arg, const char *sentence)
{
    size_t n = strlen(said);
    (void)arg;
    for (const char *c = sentence; *c; c++) assert_true((unsigned char)*c >= 0x20 && *c != 0x7f);
    snprintf(said + n, sizeof said - n, "%s\n", sentence);
}

/* Read n bytes of file (NULL: none) after these flags; the number of mistakes, in said. */
static unsigned read_bytes(const char *flags, const char *file, size_t n)
{
    static char line[512];
    char *argv[32] = { (char *)(uintptr_t) "prog" };
    const char *pos;
    int argc = 1;

    settings_fini(&s);
    memset(&v, 0, sizeof v);
    settings_init(&s, "SETTINGS_TEST_", table);
    const struct args args = {
        .program = "prog", .usage = "", .about = "", .options = s.option, .given = s.given
    };
    snprintf(line, sizeof line, "%s", flags);
    for (char *at = strtok(line, " "); at; at = strtok(NULL, " ")) argv[argc++] = at;
    args_parse(&args, argc, argv, &pos, 1);
    said[0] = 0;
    if (!file) return settings_read(&s, NULL, say, NULL);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(file, 1, n, f), n);
    fclose(f);
    return settings_read(&s, path, say, NULL);
}

static unsigned reads(const char *flags, const char *file)
{
    return read_bytes(flags, file, file ? strlen(file) : 0);
}

static void precedence(void **state)
{
    (void)state;
    assert_int_equal(reads("", NULL), 0);
    assert_true(!v.word && v.small == 7 && v.on && !v.plain && !v.range.set && v.list.n == 0);
    assert_string_equal(v.other, "usual");

    const char *file =
        "# a comment\n\n  word=from file  # and more\r\nother = \"quoted # \\\"x\\\\\"\n"
        "small = 12\nlist = a, b c\nlist=d\nthe-size = 3G\nreal = -2.5\n"
        "range = 2-5\nplain = on\non = no\nlarge = 18446744073709551615";
    assert_int_equal(reads("", file), 0);
    assert_string_equal(v.word, "from file");
    assert_string_equal(v.other, "quoted # \"x\\");
    assert_true(v.small == 12 && v.size == (uint64_t)3 << 30 && v.real == -2.5);
    assert_true(v.range.lo == 2 && v.range.hi == 5 && v.plain && !v.on && v.large == UINT64_MAX);
    assert_int_equal(v.list.n, 4);
    assert_string_equal(v.list.v[2], "c");

    setenv("SETTINGS_TEST_THE_SIZE", "5M", 1);
    setenv("SETTINGS_TEST_SMALL", "33", 1);
    setenv("SETTINGS_TEST_LIST", "e f", 1);
    assert_int_equal(reads("--small 44 --no-on --word w", file), 0);
    assert_true(v.size == 5 << 20 && v.small == 44 && !v.on);
    assert_string_equal(v.word, "w");
    assert_int_equal(v.list.n, 2); /* decided as a whole */
    assert_int_equal(reads("--list z", file), 0);
    assert_true(v.list.n == 1 && v.small == 33);
    unsetenv("SETTINGS_TEST_THE_SIZE");
    unsetenv("SETTINGS_TEST_SMALL");
    unsetenv("SETTINGS_TEST_LIST");
}

static void mistakes(void **state)
{
    static const char *const files[][2] = {
        { "wrod = x", ":1: unknown key wrod; did you mean word?" },
        { "\n\nthe_size = 1", ":3: unknown key the_size; did you mean the-size?" },
        { "entirely-different = x", ":1: unknown key entirely-different\n" },
        { "file = x", ":1: unknown key file" },
        { "small = 1", ":1: small = 1: at least 2" },
        { "small = 100", ":1: small = 100: at most 99" },
        { "small = x", "small = x: that is not a whole number" },
        { "the-size = 1X", "that is not a size" },
        { "real = nan", "that is not a number" },
        { "range = 5-2", "that is not a range" },
        { "plain = perhaps", "that is not yes or no" },
        { "other = bad", "other = bad: no such thing" },
        { "small = 3\nsmall = 4", ":2: small is already given in line 1" },
        { "word = \"x", ":1: word: the quotes do not close" },
        { "word = \"x\" y", ":1: word: the quotes do not close" },
        { "word =  # nothing", ":1: word has no value" },
        { "word", ":1: the line that starts with 'word' is not of the form key = value" },
        { "word = \x1b[2J", ":1: a control character" },
        { "list = a b c d e f g h i j k l m n o p q", "given more than 16 times" },
    };
    (void)state;

    for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
        assert_int_equal(reads("", files[i][0]), 1);
        if (!strstr(said, files[i][1])) fail_msg("%s: %s", files[i][0], said);
        assert_int_equal(strncmp(said, path, strlen(path)), 0);
    }
    assert_int_equal(reads("", "small = \tx\ty"), 1);
    assert_int_equal(reads("", "wrod = 1\nword = fine\nsmall = 1\nnonsense"), 3); /* all are said */
    assert_int_equal(reads("--small 1", NULL), 1);
    assert_string_equal(said, "--small 1: at least 2\n");
    assert_int_equal(reads("--small 3", "small = 1000\n"), 0); /* hidden by the flag */

    setenv("SETTINGS_TEST_SMAL", "33", 1);
    setenv("SETTINGS_TEST_REAL", "x", 1);
    assert_int_equal(reads("", NULL), 2);
    assert_non_null(strstr(said, "SETTINGS_TEST_REAL=x: that is not a number"));
    assert_non_null(
        strstr(said, "SETTINGS_TEST_SMAL is no setting; did you mean SETTINGS_TEST_SMALL?"));
    unsetenv("SETTINGS_TEST_SMAL");
    unsetenv("SETTINGS_TEST_REAL");

    assert_int_equal(read_bytes("", "word = a\0b", 10), 1);
    assert_non_null(strstr(said, "zero byte"));
    settings_fini(&s);
    settings_init(&s, "SETTINGS_TEST_", table);
    said[0] = 0;
    assert_int_equal(unlink(path), 0);
    assert_int_equal(settings_read(&s, path, say, NULL), 1);
    assert_non_null(strstr(said, ": there is no such config file"));
}

static void secrets(void **state)
{
    struct text out = { 0 };
    (void)state;
    assert_int_equal(reads("", "secret = bad"), 1);
    assert_null(strstr(said, "bad"));
    assert_int_equal(reads("--secret bad", NULL), 1);
    assert_null(strstr(said, "bad"));
    assert_int_equal(reads("", "secret = hush"), 0);
    settings_print(&s, &out);
    assert_null(strstr(out.p, "hush"));
    assert_non_null(strstr(out.p, "(hidden)"));
    free(out.p);
}

/* What is printed, read again, gives the same values. */
static void round_trip(void **state)
{
    static const char *const files[] = {
        "",
        "word = \" # \\\" \\\\ \"\nlist = a b\nthe-size = 1536\nreal = 0.1\nrange = 3\non = no",
        "word = \"\"\nlarge = 0\nsmall = 99\nplain=yes\nthe-size=2T",
    };
    (void)state;
    for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
        struct text first = { 0 }, second = { 0 }, value = { 0 };
        for (unsigned pass = 0; pass < 2; pass++) {
            struct text *values = pass ? &second : &first;
            struct text out = { 0 };
            assert_int_equal(reads("", pass ? value.p : files[i]), 0);
            settings_print(&s, &out);
            for (unsigned k = 0; k < s.n; k++)
                for (unsigned item = 0; setting_text(&s, k, item, values); item++)
                    text_str(values, "|");
            free(value.p);
            value = out;
        }
        assert_string_equal(first.p, second.p);
        free(first.p);
        free(second.p);
        free(value.p);
    }
}

/* The example with every # before a key taken away is understood but for its placeholders. */
static void documents(void **state)
{
    struct text out = { 0 }, page = { 0 };
    (void)state;
    assert_int_equal(reads("", NULL), 0);
    settings_example(&s, &out);
    char *copy = strdup(out.p);
    assert_int_equal(reads("", copy), 0);
    assert_non_null(strstr(copy, "\n#the-size = SIZE\n"));
    assert_non_null(strstr(copy, "\n#other = usual\n"));
    assert_null(strstr(copy, "#file"));
    settings_markdown(&s, &page);
    for (unsigned i = 0; i < s.n; i++) assert_non_null(strstr(page.p, s.table[i].name));
    free(copy);
    free(out.p);
    free(page.p);
}

/* Bytes of all kinds end in values or mistakes, never in anything else (run under sanitizers). */
static void noise(void **state)
{
    static const char seed[] =
        "word = \"x # y\" # z\nsmall = 12\nlist = a, b\nrange = 1-2\n= \n\"=#\\";
    char bytes[sizeof seed];
    uint64_t x = 88172645463325252u;
    (void)state;
    for (unsigned i = 0; i < 500; i++) {
        memcpy(bytes, seed, sizeof seed);
        for (unsigned k = 0; k < 1 + i % 7; k++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            bytes[x % (sizeof seed - 1)] =
                (char)((x >> 8) % 3 ? seed[(x >> 16) % (sizeof seed - 1)] : (char)(x >> 16));
        }
        (void)read_bytes("", bytes, sizeof seed - 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(precedence), cmocka_unit_test(mistakes),  cmocka_unit_test(secrets),
        cmocka_unit_test(round_trip), cmocka_unit_test(documents), cmocka_unit_test(noise),
    };
    int fd;
    snprintf(path, sizeof path, "/tmp/test-settings-XXXXXX");
    if ((fd = mkstemp(path)) < 0) return 1;
    close(fd);
    settings_init(&s, "SETTINGS_TEST_", table);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    settings_fini(&s);
    unlink(path);
    return failed;
}
