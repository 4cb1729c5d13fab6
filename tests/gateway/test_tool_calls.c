/* Calls in the three ways that models write them, in pieces of every size; what is no call stays
 * text; arguments are always one JSON object. */
#include "gateway/tool_calls.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char tools_json[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"parameters\":{\"type\":"
    "\"object\",\"properties\":{\"city\":{\"type\":\"string\"},\"days\":{\"type\":\"integer\"}}}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"now\"}}]";

/* Everything heard, as one line: text, then {name|args} for a call. */
struct heard {
    struct text t;
    bool in_call;
};

static void leave_call(struct heard *h)
{
    if (h->in_call) text_str(&h->t, "}");
    h->in_call = false;
}

static void on_text(void *arg, struct slice text)
{
    struct heard *h = arg;
    leave_call(h);
    text_add(&h->t, text.p, text.n);
}

static void on_call(void *arg, uint32_t index, struct slice name)
{
    struct heard *h = arg;
    leave_call(h);
    text_printf(&h->t, "{%u:%.*s|", index, (int)name.n, (const char *)name.p);
    h->in_call = true;
}

static void on_args(void *arg, uint32_t index, struct slice json)
{
    struct heard *h = arg;
    (void)index;
    assert_true(h->in_call);
    text_add(&h->t, json.p, json.n);
}

static void check(const char *whole, const char *want)
{
    struct json_doc *doc;
    assert_int_equal(json_parse(&doc, slice_str(tools_json), "tools", NULL), ERR_OK);
    for (size_t piece = 1; piece <= strlen(whole); piece++) {
        struct heard h = { 0 };
        struct tool_calls t = { .tools = json_root(doc), .on = { &h, on_text, on_call, on_args } };
        for (size_t at = 0; at < strlen(whole); at += piece) {
            size_t left = strlen(whole) - at;
            tool_calls_feed(&t, slice_of(whole + at, left < piece ? left : piece));
        }
        tool_calls_end(&t);
        leave_call(&h);
        assert_string_equal(h.t.p ? h.t.p : "", want);
        tool_calls_fini(&t);
        free(h.t.p);
    }
    json_free(doc);
}

static void test_glm45(void **state)
{
    (void)state;
    check("\nLet me see.\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Paris"
          "</arg_value>\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>",
          "\nLet me see.{0:get_weather|{\"city\": \"Paris\", \"days\": 3}}");
    /* a string stays one though it looks like a number; two calls; no arguments */
    check("<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>75001</arg_value>\n"
          "</tool_call>\n<tool_call>now\n</tool_call>",
          "{0:get_weather|{\"city\": \"75001\"}}{1:now|{}}");
    check("<tool_call>now</tool_call> done", "{0:now|{}} done");
    /* no schema for it: JSON if it is, else a string, with all that JSON has to escape */
    check("<tool_call>now\n<arg_key>a</arg_key>\n<arg_value>{\"x\": [1, 2]}</arg_value>\n"
          "<arg_key>b</arg_key>\n<arg_value>say \"hi\"\n\xc3\xa9</arg_value>\n</tool_call>",
          "{0:now|{\"a\": {\"x\": [1, 2]}, \"b\": \"say \\\"hi\\\"\\n\xc3\xa9\"}}");
}

static void test_intellect(void **state)
{
    (void)state;
    check("Checking.\n\n<tool_call>\n<function=get_weather>\n<parameter=city>\nSF\n</parameter>\n"
          "<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>",
          "Checking.{0:get_weather|{\"city\": \"SF\", \"days\": 2}}");
    check("<tool_call>\n<function=now>\n</function>\n</tool_call>", "{0:now|{}}");
}

static void test_glm4(void **state)
{
    (void)state;
    check("get_weather\n{\"city\": \"Paris\"}", "{0:get_weather|{\"city\": \"Paris\"}}");
    check("get_weather \n{\"city\": \"Paris\"}", "{0:get_weather|{\"city\": \"Paris\"}}");
    check("get_weather\nis a function", "get_weather\nis a function");
    check("now", "now");
    check("\nnow\n{", "\nnow\n{");
}

static void test_text(void **state)
{
    (void)state;
    check("plain <b>text</b> <tool", "plain <b>text</b> <tool");
    check("a <tool_call>unknown\n<arg_key>x</arg_key></tool_call> b",
          "a <tool_call>unknown\n<arg_key>x</arg_key></tool_call> b");
    check("the end \n", "the end \n");
    /* cut short, and garbage inside: still one object */
    check("<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Par",
          "{0:get_weather|{}}<arg_key>city</arg_key>\n<arg_value>Par");
    check("<tool_call>now\nnonsense</tool_call>", "{0:now|{}}nonsense</tool_call>");
}

/* What never becomes a call is not kept back for ever, and not looked through again and again. */
static void test_endless(void **state)
{
    static const char *const begins[] = { "", "x<tool_call>", "x<tool_call>  ",
                                          "x<tool_call><function=" };
    enum { PIECES = 4096, PIECE = 64 };
    char piece[PIECE];
    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        struct json_doc *doc;
        struct heard h = { 0 };
        assert_int_equal(json_parse(&doc, slice_str(tools_json), "tools", NULL), ERR_OK);
        struct tool_calls t = { .tools = json_root(doc), .on = { &h, on_text, on_call, on_args } };
        memset(piece, i < 4 ? ' ' : 'a', PIECE);
        tool_calls_feed(&t, slice_str(begins[i % 4]));
        for (unsigned k = 0; k < PIECES; k++) {
            tool_calls_feed(&t, slice_of(piece, PIECE));
            assert_true(t.b.n <= 2048);
        }
        tool_calls_end(&t);
        assert_int_equal(h.t.n, strlen(begins[i % 4]) + PIECES * PIECE); /* it was text */
        tool_calls_fini(&t);
        free(h.t.p);
        json_free(doc);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_glm45), cmocka_unit_test(test_intellect), cmocka_unit_test(test_glm4),
        cmocka_unit_test(test_text),  cmocka_unit_test(test_endless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
