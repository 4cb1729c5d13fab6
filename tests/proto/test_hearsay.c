/* What may be passed on about nodes: those that have shown themselves, or two know of. */
#include "proto/hearsay.h"

#include "proto/identity.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct hearsay h;

static int setup(void **state)
{
    (void)state;
    h = (struct hearsay){ .proven_ms = 0 };
    return 0;
}

static void told(const char *by, uint64_t now)
{
    uint8_t addr[ADDR_MAX];
    size_t n = addr_parse(addr, by);
    assert_true(n > 0);
    hearsay_tell(&h, slice_of(addr, n), now);
}

static void test_proof(void **state)
{
    (void)state;
    assert_false(hearsay_may_pass(&h, 0));
    hearsay_prove(&h, 0);
    assert_true(hearsay_may_pass(&h, 1));
    assert_true(hearsay_may_pass(&h, HEARSAY_MS));
    assert_false(hearsay_may_pass(&h, HEARSAY_MS + 1));
}

static void test_two_of_one_person(void **state)
{
    (void)state;
    for (uint64_t t = 1; t < 100; t++) { /* any number of peers of one network are one */
        told("203.0.113.5:1", t);
        told("203.0.7.1:2", t);
    }
    assert_false(hearsay_may_pass(&h, 100));
    told("198.51.100.1:1", 100);
    assert_true(hearsay_may_pass(&h, 101));
    told("203.0.9.9:1", 100); /* its place is renewed, the other's is kept */
    assert_true(hearsay_may_pass(&h, 101));
    assert_false(hearsay_may_pass(&h, 100 + HEARSAY_MS));
}

static void test_kinds_of_addresses(void **state)
{
    (void)state;
    told("[2001:db8:1::1]:1", 5);
    told("[2001:db8:2::1]:1", 5);
    assert_false(hearsay_may_pass(&h, 6));
    told("192.168.1.2:1", 5);
    assert_true(hearsay_may_pass(&h, 6));
    setup(NULL);
    told("192.168.1.2:1", 5); /* two PCs of a home */
    told("192.168.1.2:9", 5);
    assert_false(hearsay_may_pass(&h, 6));
    told("192.168.1.3:1", 5);
    assert_true(hearsay_may_pass(&h, 6));
    setup(NULL);
    hearsay_tell(&h, slice_of(NULL, 0), 5); /* not connected any more */
    assert_false(hearsay_may_pass(&h, 6));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_proof, setup),
        cmocka_unit_test_setup(test_two_of_one_person, setup),
        cmocka_unit_test_setup(test_kinds_of_addresses, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
