/* Foreign pages in this machine's browser do not get through a door that has no key. */
#include "gateway/visitor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct {
    const char *host, *origin, *cors;
    bool want;
} cases[] = {
    /* programs */
    { "127.0.0.1:8080", NULL, NULL, true },
    { "localhost:8080", NULL, NULL, true },
    { "LOCALHOST", NULL, NULL, true },
    { "swarm.localhost:8080", NULL, NULL, true },
    { "[::1]:8080", NULL, NULL, true },
    { "[::1]", NULL, NULL, true },
    { "192.168.1.7:8080", NULL, NULL, true }, /* a forwarded port */
    { NULL, NULL, NULL, true },
    { "", NULL, NULL, true },
    /* our own page, and others of this machine */
    { "127.0.0.1:8080", "http://127.0.0.1:8080", NULL, true },
    { "localhost:8080", "http://localhost:8080", NULL, true },
    { "127.0.0.1:8080", "http://localhost:3000", NULL, true },
    { "127.0.0.1:8080", "http://[::1]:3000", NULL, true },
    { "192.168.1.7:8080", "http://192.168.1.7:8080", NULL, true },
    { "127.0.0.1:8080", "chrome-extension://abcdefgh", NULL, true },
    /* a name that turns into 127.0.0.1 */
    { "evil.example:8080", NULL, NULL, false },
    { "evil.example:8080", "http://evil.example:8080", NULL, false },
    { "evil.example", NULL, "*", false },
    { "localhost.evil.example", NULL, NULL, false },
    { "127.0.0.1.evil.example", NULL, NULL, false },
    { "notlocalhost", NULL, NULL, false },
    { ".localhost", NULL, NULL, false },
    { "127.0.0.1:80x", NULL, NULL, false },
    { "127.0.0.1@evil.example", NULL, NULL, false },
    { "[::1", NULL, NULL, false },
    { "[::1]x", NULL, NULL, false },
    { "[]", NULL, NULL, false },
    { ":8080", NULL, NULL, false },
    { "127.1", NULL, NULL, false },
    /* a page that sends a question and hopes */
    { "127.0.0.1:8080", "http://evil.example", NULL, false },
    { "127.0.0.1:8080", "https://evil.example", NULL, false },
    { "127.0.0.1:8080", "http://6.6.6.6", NULL, false },
    { "127.0.0.1:8080", "http://localhost.evil.example", NULL, false },
    { "127.0.0.1:8080", "http://127.0.0.1@evil.example", NULL, false },
    { "127.0.0.1:8080", "null", NULL, false },
    { "127.0.0.1:8080", "http://", NULL, false },
    { NULL, "http://evil.example", NULL, false },
    /* unless it may */
    { "127.0.0.1:8080", "https://good.example", "https://good.example", true },
    { "127.0.0.1:8080", "https://evil.example", "https://good.example", false },
    { "127.0.0.1:8080", "https://evil.example", "*", true },
    { "127.0.0.1:8080", "null", "*", true },
};

static void test_visitors(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
        if (visitor_is_local(cases[i].host, cases[i].origin, cases[i].cors) != cases[i].want)
            fail_msg("Host %s, Origin %s", cases[i].host ? cases[i].host : "(none)",
                     cases[i].origin ? cases[i].origin : "(none)");
}

int main(void)
{
    static const struct CMUnitTest tests[] = { cmocka_unit_test(test_visitors) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
