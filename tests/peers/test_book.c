/* The peers file: written and read, bounded, patient with addresses that fail, deaf to nonsense. */
#include "peers/book.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct book book;
static char text[BOOK_TEXT_MAX];

static int setup(void **state)
{
    (void)state;
    if (proto_init()) return 1;
    book_init(&book, swarm_key_public());
    return 0;
}

static struct node_id node(unsigned i)
{
    struct node_id id = { { (uint8_t)i, (uint8_t)(i >> 8), 1 } };
    return id;
}

static struct slice at(uint8_t out[ADDR_MAX], unsigned host, unsigned port)
{
    char name[64];
    snprintf(name, sizeof name, "10.0.%u.%u:%u", host >> 8, host & 255, port);
    size_t n = addr_parse(out, name);
    assert_int_equal(n, 6);
    return slice_of(out, n);
}

static bool any(void *arg, const struct book_entry *e)
{
    (void)e;
    return !arg;
}

static void test_round_trip(void **state)
{
    (void)state;
    struct book again;
    uint8_t addr[ADDR_MAX];
    struct node_id a = node(1), b = node(2);
    struct swarm_key other = { { 1 } };

    book_met(&book, &a, at(addr, 1, 7777), 1000);
    book_met(&book, &a, at(addr, 1, 7777), 2000);
    book_heard(&book, &b, slice_of(addr, addr_parse(addr, "[2001:db8::1]:7777")), 3000);
    book_failed(&book, &b, slice_of(addr, 18), 0);
    size_t n = book_print(&book, text);
    assert_non_null(strstr(text, " 10.0.0.1:7777 2000 2 0\n"));
    assert_non_null(strstr(text, " [2001:db8::1]:7777 3000 0 1\n"));

    book_init(&again, swarm_key_public());
    assert_true(book_parse(&again, slice_of(text, n)));
    assert_int_equal(again.n, 2);
    assert_true(book_knows(&again, &a));
    assert_false(book_knows(&again, &b)); /* it never answered */
    assert_false(again.changed);
    book_init(&again, &other);
    assert_false(book_parse(&again, slice_of(text, n)));
    assert_int_equal(again.n, 0);
}

static void test_nonsense(void **state)
{
    (void)state;
    struct book b;
    char id[NODE_ID_TEXT];
    struct node_id a = node(1);
    uint64_t x = 1;

    node_id_text(id, &a);
    size_t head = book_print(&book, text);
    int n =
        snprintf(text + head, sizeof text - head,
                 "%s 10.0.0.1:0 1 1 1\n%s 10.0.0.1 1 1 1\n%s host:5 1 1 1\n%s 10.0.0.1:5 -1 1 1\n"
                 "%s 10.0.0.1:5 1 4294967296 1\nswm1no 10.0.0.1:5 1 1 1\n%s\n\n %s 10.0.0.2:5 "
                 "7 1 0 and more\r\n%s 10.0.0.3:5 9 1 0",
                 id, id, id, id, id, id, id, id);
    book_init(&b, swarm_key_public());
    assert_true(book_parse(&b, slice_of(text, head + (size_t)n)));
    assert_int_equal(b.n, 2);
    assert_int_equal(b.entry[0].seen, 7);
    assert_int_equal(b.entry[1].seen, 9);
    for (unsigned round = 0; round < 2000; round++) { /* damaged anywhere */
        char bad[sizeof text];
        size_t len = head + (size_t)n;
        memcpy(bad, text, len);
        x = x * 6364136223846793005u + 1442695040888963407u;
        bad[(x >> 33) % len] = (char)(x >> 20);
        book_init(&b, swarm_key_public());
        if (book_parse(&b, slice_of(bad, len - (x >> 50) % 100))) assert_true(b.n <= 3);
    }
}

/* Who answered stays, who was only heard of goes; a node has few addresses. */
static void test_bounds(void **state)
{
    (void)state;
    uint8_t addr[ADDR_MAX];
    struct node_id id = node(1);

    for (unsigned i = 0; i < 10; i++) book_met(&book, &id, at(addr, 1, 100 + i), 1000 + i);
    assert_int_equal(book.n, BOOK_ADDRS);
    assert_non_null(book_find(&book, &id, at(addr, 1, 109)));
    for (unsigned i = 2; i < 1000; i++) {
        id = node(i);
        book_heard(&book, &id, at(addr, i, 7), 5000 + i);
    }
    assert_int_equal(book.n, BOOK_MAX);
    id = node(1);
    assert_true(book_knows(&book, &id));
    size_t n = book_print(&book, text);
    struct book again;
    book_init(&again, swarm_key_public());
    assert_true(book_parse(&again, slice_of(text, n)));
    assert_int_equal(again.n, BOOK_MAX);
}

static void test_patience(void **state)
{
    (void)state;
    uint8_t addr[ADDR_MAX];
    struct node_id a = node(1), b = node(2);
    unsigned tries = 0;

    book_met(&book, &a, at(addr, 1, 7), 1000);
    book_heard(&book, &b, at(addr, 2, 7), 9000);
    assert_null(book_next(&book, 0, any, &tries)); /* none is allowed */
    for (uint64_t now = 0; now < 3600000; now += 1000) {
        struct book_entry *e = book_next(&book, now, any, NULL);
        if (!e) continue;
        if (now == 0) assert_true(node_id_equal(&e->id, &a)); /* it answered once */
        tries += node_id_equal(&e->id, &a);
        book_failed(&book, &e->id, slice_of(e->addr, e->addr_n), now);
    }
    assert_int_equal(tries, BOOK_TRIES);
    unsigned before = tries;
    for (uint64_t now = 3600000; now < 2 * 3600000; now += 1000) {
        struct book_entry *e = book_next(&book, now, any, NULL);
        if (!e) continue;
        tries += node_id_equal(&e->id, &a);
        book_failed(&book, &e->id, slice_of(e->addr, e->addr_n), now);
    }
    assert_in_range(tries - before, 1, BOOK_TRIES);
    book_met(&book, &a, at(addr, 1, 7), 1000); /* it lives again */
    struct book_entry *e = book_next(&book, 2 * 3600000 + 1, any, NULL);
    assert_true(e && node_id_equal(&e->id, &a));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, setup)
    const struct CMUnitTest tests[] = {
        TEST(test_round_trip),
        TEST(test_nonsense),
        TEST(test_bounds),
        TEST(test_patience),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
