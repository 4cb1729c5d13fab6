/* The status of a node on a terminal: every column where it belongs, and nothing that a stranger
 * named himself moves the cursor, widens a line or adds one. */
#include "tools/status_view.h"

#include "proto/identity.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void cell(const char *in, unsigned columns, bool utf8, const char *want)
{
    struct text out = { 0 };
    view_cell(&out, slice_str(in), columns, utf8);
    assert_int_equal(out.failed, false);
    assert_string_equal(out.p ? out.p : "", want);
    free(out.p);
}

static void cells(void **state)
{
    (void)state;
    cell("abc", 5, true, "abc  ");
    cell("abcdef", 5, true, "abcd~");
    cell("abcde", 5, true, "abcde");
    cell("K\xc3\xbc"
         "che",
         6, true,
         "K\xc3\xbc"
         "che ");
    cell("K\xc3\xbc"
         "che",
         6, false, "K?che ");
    cell("\xe6\x97\xa5\xe6\x9c\xac", 5, true, "\xe6\x97\xa5\xe6\x9c\xac "); /* two wide ones */
    cell("\xe6\x97\xa5\xe6\x9c\xac", 4, true, "\xe6\x97\xa5\xe6\x9c\xac");
    cell("\xe6\x97\xa5\xe6\x9c\xac", 3, true, "\xe6\x97\xa5~");
    cell("\033[2J\007\n\t\r", 8, true, "?[2J????");
    cell("\xc2\x9b"
         "31m",
         6, true, "?31m  "); /* the one-byte escape, C1 */
    cell("\xe2\x80\xae"
         "x",
         4, true, "?x  ");                                /* right to left from here */
    cell("e\xcc\x81\xcc\x81\xcc\x81", 6, true, "e???  "); /* marks that pile up */
    cell("\xff\xc3", 4, true, "??  ");
    cell("\xc0\xaf", 4, true, "??  "); /* overlong */
    cell("", 0, true, "");
    cell("x", 0, true, "");
}

/* Every line at most so wide, and free of control characters. */
static unsigned check_lines(const char *p, unsigned width)
{
    unsigned lines = 0, column = 0;
    for (; *p; p++) {
        unsigned char c = (unsigned char)*p;
        if (c == '\n') {
            lines++;
            column = 0;
            continue;
        }
        assert_true(c >= 0x20 && c < 0x7f); /* drawn without UTF-8 */
        assert_true(++column <= width);
    }
    return lines;
}

/* A status with n peers, all called name; the caller frees. */
static char *make_status(unsigned n, const char *name)
{
    struct text t = { 0 };
    struct node_id node = { .b = { 1 } };
    char id[NODE_ID_TEXT];
    node_id_text(id, &node);
    text_printf(&t, "{\"version\":\"1\",\"id\":\"%s\",\"name\":", id);
    json_write_str(&t, slice_str(name));
    text_str(&t, ",\"state\":\"active\",\"uptime_s\":3661,\"memory\":1048576,"
                 "\"memory_of_machine\":17179869184,\"model\":{\"name\":");
    json_write_str(&t, slice_str(name));
    text_str(&t, ",\"layers\":6,\"lo\":0,\"hi\":3,\"ends\":true,\"layer_us\":2500,"
                 "\"holders\":[2,2,2,1,0,0],\"ends_holders\":1},\"sessions\":1,\"requests\":0,"
                 "\"free_positions\":77,\"kv_used\":0,\"kv_limit\":1024,\"counters\":{\"tokens\":"
                 "{\"per_s\":12.50,\"now\":340,\"total\":123456789}},\"peers\":[");
    for (unsigned i = 0; i < n; i++) {
        text_printf(&t, "%s{\"id\":\"%s\",\"name\":", i ? "," : "", id);
        json_write_str(&t, slice_str(name));
        text_str(&t, ",\"address\":");
        json_write_str(&t, slice_str(name));
        text_printf(&t, ",\"state\":\"active\",\"connected\":%s,\"rtt_us\":12345,\"model\":",
                    i % 2 ? "false" : "true");
        json_write_str(&t, slice_str(name));
        text_printf(&t,
                    ",\"same_model\":%s,\"layers\":[0,3,4,5],\"ends\":true,\"bytes_in\":5,"
                    "\"bytes_out\":6}",
                    i % 3 ? "false" : "true");
    }
    text_printf(&t, "],\"peers_known\":%u,\"peers_connected\":1,\"warnings\":[", n);
    json_write_str(&t, slice_str(name));
    text_str(&t, "]}");
    assert_false(t.failed);
    return t.p;
}

static void says_all(void **state)
{
    struct view v = { .width = 120 };
    struct text out = { 0 };
    char *json = make_status(2, "kitchen");
    (void)state;
    assert_int_equal(status_view(&out, slice_str(json), &v), ERR_OK);
    static const char *const parts[] = {
        "\"kitchen\"  active, up 1:01:01",
        "layers 0-2 of 0-5 and the ends",
        "a layer takes 2.5 ms",
        "1 session, 0 questions",
        "12.5",
        "340",
        "123.5M",
        "layers held by   0-2: 2 nodes   3: 1 node   4-5: 0 nodes   ends: 1",
        "2 other nodes known, connected to 1",
        "12.3 ms",
        "0-2,4+ends",
        "! kitchen\n",
        " far ",
    };
    for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strstr(out.p, parts[i])) fail_msg("not '%s' in:\n%s", parts[i], out.p);
    free(out.p);
    free(json);
}

/* Hostile names, all widths and heights: no control character, no line too wide, none too many. */
static void attack(void **state)
{
    static const char *const names[] = {
        "\033[2J\033[H\033]0;owned\007",
        "\n\n\n! all is well\n",
        ("\xc2\x9b"
         "2J"),
        "%s%n%s%n",
        "\xe2\x80\xae\xe2\x80\xae\xe2\x81\xa6",
        "\"},{\"id\":\"x\"",
        "\\u001b[31m",
        "",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    };
    (void)state;
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        char *json = make_status(40, names[i]);
        for (unsigned width = 1; width < 200; width += 13)
            for (unsigned height = 0; height < 60; height += 9) {
                struct view v = { .width = width, .height = height };
                struct text out = { 0 };
                assert_int_equal(status_view(&out, slice_str(json), &v), ERR_OK);
                unsigned lines = check_lines(out.p ? out.p : "", width);
                if (height) assert_true(lines <= height);
                free(out.p);
            }
        free(json);
    }
}

/* A node that lies about the form of its status: some view or an error, no crash. */
static void nonsense(void **state)
{
    static const char *const texts[] = {
        "",
        "{",
        "[]",
        "3",
        "\"x\"",
        "{}",
        "{\"model\":3,\"peers\":{},\"counters\":[],\"warnings\":7}",
        ("{\"model\":{\"holders\":[\"x\",{}],\"name\":4},\"peers\":[1,[],{\"layers\":[1]},"
         "{\"same_model\":true,\"layers\":[5,1,{},2]}],\"warnings\":[{},3]}"),
        "{\"uptime_s\":18446744073709551615,\"memory\":-1,\"peers_known\":99999999999999999999}",
    };
    (void)state;
    for (unsigned i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct view v = { .width = 80, .height = 24 };
        struct text out = { 0 };
        enum err e = status_view(&out, slice_str(texts[i]), &v);
        assert_true(e == ERR_MALFORMED || e == ERR_OK);
        assert_int_equal(e == ERR_OK, i >= 5);
        check_lines(out.p ? out.p : "", 80);
        free(out.p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cells),
        cmocka_unit_test(says_all),
        cmocka_unit_test(attack),
        cmocka_unit_test(nonsense),
    };
    return proto_init() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
