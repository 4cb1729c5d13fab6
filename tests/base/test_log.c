/* Lines of JSON hold whatever a peer or file put into them, and stay lines of JSON. */
#include "base/log.h"

#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* What a call writes to stderr. */
static size_t written(char *out, size_t cap, enum log_level level, const char *text)
{
    int pipes[2], old = dup(STDERR_FILENO);
    assert_int_equal(pipe(pipes), 0);
    assert_true(dup2(pipes[1], STDERR_FILENO) >= 0);
    log_line(level, "%s", text);
    assert_true(dup2(old, STDERR_FILENO) >= 0);
    close(old);
    close(pipes[1]);
    ssize_t n = read(pipes[0], out, cap - 1);
    close(pipes[0]);
    assert_true(n >= 0);
    out[n] = 0;
    return (size_t)n;
}

/* The message comes back as `expected`; NULL: whatever it is, the line is whole. */
static void check(const char *text, const char *expected)
{
    char line[16384];
    struct why why = { "" };
    struct json_doc *doc;
    size_t n = written(line, sizeof line, LOG_INFO, text);
    assert_true(n > 2 && line[n - 1] == '\n' && !memchr(line, '\n', n - 1));
    enum err e = json_parse(&doc, slice_of(line, n), "a line", &why);
    if (e) fail_msg("%s: %s", line, why.text);
    const struct json *m = json_get(json_root(doc), "message");
    assert_true(m && m->type == JSON_STRING);
    if (expected) assert_true(slice_is(m->text, expected));
    assert_true(json_is_str(json_get(json_root(doc), "level"), "info"));
    assert_true(json_is_str(json_get(json_root(doc), "program"), "test"));
    assert_int_equal(json_get(json_root(doc), "time")->text.n, strlen("2026-01-31T12:00:00.123Z"));
    json_free(doc);
}

static void json_lines(void **state)
{
    (void)state;
    log_set_json("test");
    assert_true(log_is_json());
    check("plain", "plain");
    check("a \"quoted\" \\ word", "a \"quoted\" \\ word");
    check("tab\tline\nreturn\r\033[2J\x7f", "tab\tline\nreturn\r\033[2J\x7f");
    check("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
    check("\xff\xc3", "\xef\xbf\xbd\xef\xbf\xbd");
    check("\xc2\x9b", "\xef\xbf\xbd\xef\xbf\xbd");                 /* a C1 control */
    check("\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"); /* a surrogate */
    check("\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd");                 /* longer than need be */
    check("", "");
}

static void hostile(void **state)
{
    uint64_t seed = 1;
    char text[3000];
    (void)state;
    for (int round = 0; round < 2000; round++) {
        size_t n = (size_t)(round < 1990 ? round % 200 : 2990); /* the last ones are cut */
        for (size_t i = 0; i < n; i++) {
            seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
            text[i] = (char)((seed >> 33) % 255 + 1);
        }
        text[n] = 0;
        check(text, NULL);
    }
}

static void levels(void **state)
{
    char line[256];
    (void)state;
    assert_int_equal(written(line, sizeof line, LOG_DEBUG, "not wanted"), 0);
    log_set_level(LOG_DEBUG);
    assert_true(written(line, sizeof line, LOG_DEBUG, "wanted") > 0);
    log_set_level(LOG_INFO);
    log_set_json(NULL);
    assert_true(written(line, sizeof line, LOG_WARN, "a\nb\033") > 0);
    assert_string_equal(line + strlen("12:00:00"), " warn a?b?\n");
    /* U+009B begins sequences like ESC [; U+202E turns the line around; the rest is text. */
    assert_true(written(line, sizeof line, LOG_WARN,
                        "\xc3\xa9\xc2\x9b"
                        "1m\xe2\x80\xae\xff") > 0);
    assert_string_equal(line + strlen("12:00:00"), " warn \xc3\xa9??1m????\n");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_lines),
        cmocka_unit_test(hostile),
        cmocka_unit_test(levels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
