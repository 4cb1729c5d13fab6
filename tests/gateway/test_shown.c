/* What a page may show: known keys alone, short ids, no addresses. */
#include "gateway/shown.h"

#include "proto/identity.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void assert_shown(const char *json, const char *expected)
{
    struct text out = { 0 };
    shown_json(&out, slice_str(json));
    assert_string_equal(out.p, expected);
    free(out.p);
}

static void assert_said(const char *sentence, const char *expected)
{
    struct text out = { 0 };
    shown_text(&out, slice_str(sentence));
    assert_string_equal(out.p, expected);
    free(out.p);
}

static void test_known_keys(void **state)
{
    (void)state;
    assert_shown("{\"layers\": 8, \"address\": \"x\", \"nodes\": [{\"lo\": 1.50, \"name\": "
                 "\"kitchen\"}, 7]}",
                 "{\"layers\":8,\"nodes\":[{\"lo\":1.50},7]}");
    assert_shown(
        "{\"now\": {\"stages\": [{\"hop_ms\": 1}, {\"token\": 2}]}, \"ends\": true, \"why\": null}",
        "{\"now\":{\"stages\":[{\"hop_ms\":1},{}]},\"ends\":true,\"why\":null}");
    assert_shown("{\"parts\": [[\"experts\", 0, 3]]}", "{\"parts\":[[\"experts\",0,3]]}");
    assert_shown("{\"model\": \"<b>\\u0007\"}", "{\"model\":\"<b> \"}");
    assert_shown("[1]", "null");
    assert_shown("{", "null");
    assert_shown("", "null");
}

static void test_ids(void **state)
{
    (void)state;
    struct node_id id = { .b = { 1, 2, 3 } };
    char whole[NODE_ID_TEXT], part[NODE_ID_SHORT], json[256], expected[128];
    node_id_text(whole, &id);
    node_id_short(part, &id);
    snprintf(json, sizeof json, "{\"id\":\"%s\",\"left\":[{\"id\":\"%sx\"},{\"id\":5}]}", whole,
             whole);
    snprintf(expected, sizeof expected, "{\"id\":\"%s\",\"left\":[{\"id\":\"?\"},{\"id\":5}]}",
             part);
    assert_shown(json, expected);
}

static void test_addresses(void **state)
{
    (void)state;
    assert_said("the connection to 192.168.1.31:7777 is lost",
                "\"the connection to (address) is lost\"");
    assert_said("[2001:db8::1]:7777 cannot be asked", "\"(address) cannot be asked\"");
    assert_said("::1, 10.0.0.1.", "\"(address), (address)\"");
    assert_said("fe80::dead:beef", "\"(address)\"");
    /* what only looks a little like one */
    assert_said("layers 0-2, 1.5 s, 12:30, a bad face: 3.14",
                "\"layers 0-2, 1.5 s, 12:30, a bad face: 3.14\"");
    assert_said("wait...", "\"wait...\"");
    assert_said("a\nb \"c\"", "\"a b \\\"c\\\"\"");
    assert_said("", "\"\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_keys),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
