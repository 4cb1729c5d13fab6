/* Whom a request is from: what strangers write into a header moves nobody's limit. */
#include "gateway/asker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void test_behind_proxies(void **state)
{
    static const struct {
        const char *peer, *forwarded, *want;
    } cases[] = {
        { "203.0.113.9", "", "203.0.113.9" },
        { "203.0.113.9", "198.51.100.1", "203.0.113.9" }, /* a stranger's claim */
        { "10.1.2.3", "", "10.1.2.3" },
        { "10.1.2.3", "198.51.100.1", "198.51.100.1" },
        { "10.1.2.3", "192.0.2.66, 198.51.100.1", "198.51.100.1" }, /* the first is a claim */
        { "10.1.2.3", "192.0.2.66,198.51.100.1 , 10.9.9.9", "198.51.100.1" },
        { "10.1.2.3", "192.0.2.66, ::1, 10.9.9.9", "192.0.2.66" },
        { "10.1.2.3", "198.51.100.1:4711", "198.51.100.1" },
        { "10.1.2.3", "[2001:db8:1:2:3::4]:4711", "2001:db8:1:2::/64" },
        { "10.1.2.3", "2001:db8:1:2:ffff::4", "2001:db8:1:2::/64" },
        { "10.1.2.3", "::ffff:198.51.100.1", "198.51.100.1" },
        { "::ffff:10.1.2.3", "198.51.100.1", "198.51.100.1" },
        { "::1", "198.51.100.1", "198.51.100.1" },
        { "fe80::1%eth0", "198.51.100.1", "fe80::/64" },
        { "10.1.2.3", "unknown", "10.1.2.3" },
        { "10.1.2.3", "198.51.100.1, unknown", "10.1.2.3" },
        { "10.1.2.3", "198.51.100.1,", "10.1.2.3" },
        { "10.1.2.3", ",,,", "10.1.2.3" },
        { "10.1.2.3", "1.2.3.4.5", "10.1.2.3" },
        { "10.1.2.3", "[", "10.1.2.3" },
        { "11.1.2.3", "198.51.100.1", "11.1.2.3" },
        { "172.31.0.1", "198.51.100.1", "198.51.100.1" },
        { "172.32.0.1", "198.51.100.1", "172.32.0.1" },
        { "nonsense", "198.51.100.1", "?" },
    };
    static const char *const trusted[] = { "10.0.0.0/8", "::1", "172.16.0.0/12" };
    struct proxy_net net[3];
    char out[ASKER_BYTES];
    (void)state;
    for (unsigned i = 0; i < 3; i++) assert_int_equal(proxy_parse(&net[i], trusted[i], NULL), 0);
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        asker_find(out, cases[i].peer, cases[i].forwarded, net, 3);
        assert_string_equal(out, cases[i].want);
    }
    asker_find(out, "10.1.2.3", "198.51.100.1", net, 0); /* nobody is trusted */
    assert_string_equal(out, "10.1.2.3");
}

static void test_nets(void **state)
{
    static const char *const bad[] = { "",           "10.0.0",     "10.0.0.0/33", "10.0.0.0/",
                                       "::1/129",    "10.0.0.0/x", "10.0.0.0/8x", "host",
                                       "10.0.0.0/-1" };
    struct proxy_net net;
    struct why why;
    (void)state;
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        why.text[0] = 0;
        assert_int_equal(proxy_parse(&net, bad[i], &why), ERR_MALFORMED);
        assert_non_null(strstr(why.text, bad[i]));
    }
    assert_int_equal(proxy_parse(&net, "0.0.0.0/0", &why), ERR_OK);
    assert_int_equal(net.bits, 96);
    assert_int_equal(proxy_parse(&net, "fd00::/8", &why), ERR_OK);
    assert_int_equal(net.bits, 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_behind_proxies),
        cmocka_unit_test(test_nets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
