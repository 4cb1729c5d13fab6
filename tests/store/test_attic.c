/* What may be thrown away: the budget, the order, damage. */
#include "store/attic.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { BODY = 20000, MAX = 1 << 20, EACH = 20480 + 512 /* what one costs */ };

static char dir[64];

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/test_attic.XXXXXX");
    return mkdtemp(dir) ? 0 : 1;
}

static int teardown(void **state)
{
    struct stat st;
    (void)state;
    attic_remove(dir);
    return stat(dir, &st) == 0; /* nothing else was left there */
}

static struct attic *open_attic(uint64_t max_bytes)
{
    struct attic *a;
    struct why why = { "" };
    if (attic_open(&a, dir, max_bytes, &why)) fail_msg("%s", why.text);
    return a;
}

static struct hash name(uint32_t n)
{
    return hash_of(slice_of(&n, sizeof n));
}

static const uint8_t *body(uint32_t n)
{
    static uint8_t b[BODY];
    uint32_t r = n * 2654435761u + 1;
    for (uint32_t i = 0; i < BODY; i++) {
        r = r * 1664525 + 1013904223;
        b[i] = (uint8_t)(r >> 24);
    }
    return b;
}

static enum err put(struct attic *a, uint32_t n, uint32_t before, uint32_t depth, uint64_t stamp)
{
    struct attic_item item = { .name = name(n), .body = slice_of(body(n), BODY) };
    item.head = (struct attic_head){ .owner = { 9 },
                                     .before = name(before),
                                     .kind = 1,
                                     .lo = 2,
                                     .hi = 4,
                                     .depth = depth,
                                     .stamp = stamp };
    return attic_put(a, &item, 1, NULL);
}

static bool has(struct attic *a, uint32_t n)
{
    struct attic_head h;
    uint8_t got[BODY];
    struct hash k = name(n);
    if (attic_find(a, &k, &h)) return false;
    assert_int_equal(h.n, BODY);
    assert_int_equal(attic_body(a, &k, got), ERR_OK);
    assert_memory_equal(got, body(n), BODY);
    return true;
}

static bool count(void *arg, const struct hash *n, const struct attic_head *h)
{
    (void)n, (void)h;
    ++*(unsigned *)arg;
    return true;
}

static void test_comes_back(void **state)
{
    struct attic_head h;
    struct hash k = name(2);
    struct stat st;
    char path[80];
    unsigned n = 0;
    (void)state;
    struct attic *a = open_attic(MAX);
    assert_int_equal(put(a, 1, 0, 0, 5), ERR_OK);
    assert_int_equal(put(a, 2, 1, 1, 6), ERR_OK);
    assert_int_equal(put(a, 2, 1, 1, 9), ERR_OK); /* it is there */
    assert_int_equal(put(a, 4, 3, 2, 6), ERR_OK); /* hangs on nothing that is */
    assert_false(has(a, 4));
    assert_int_equal(attic_bytes(a), 2 * EACH);
    attic_close(a);
    a = open_attic(MAX);
    assert_true(has(a, 1) && has(a, 2));
    assert_int_equal(attic_bytes(a), 2 * EACH);
    assert_int_equal(attic_find(a, &k, &h), ERR_OK);
    assert_int_equal(h.stamp, 6);
    assert_int_equal(h.owner[0], 9);
    assert_int_equal(h.depth + 10 * h.hi + 100 * h.lo, 241);
    k = name(1);
    assert_true(hash_equal(&h.before, &k));
    assert_true(attic_stamp(a) > 6);
    assert_int_equal(attic_each(a, 1, count, &n), ERR_OK);
    assert_int_equal(attic_each(a, 2, count, &n), ERR_OK);
    assert_int_equal(n, 2);
    snprintf(path, sizeof path, "%s/data.mdb", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 077, 0);
    attic_close(a);
}

/* The oldest go first, and of a conversation its end. */
static void test_the_budget(void **state)
{
    enum { DEEP = 10, TREES = 12, FITS = MAX / EACH };
    unsigned n = 0;
    (void)state;
    struct attic *a = open_attic(MAX);
    for (uint32_t t = 0; t < TREES; t++)
        for (uint32_t d = 0; d < DEEP; d++) {
            assert_int_equal(put(a, 100 * t + d, 100 * t + d - 1, d, t + 1), ERR_OK);
            assert_true(attic_bytes(a) <= MAX);
            if (t != 2) continue;
            struct hash first[DEEP]; /* the first is used now and then */
            for (uint32_t i = 0; i < DEEP; i++) first[i] = name(i);
            assert_int_equal(attic_touch(a, first, DEEP, 1000, NULL), ERR_OK);
        }
    assert_int_equal(attic_each(a, 1, count, &n), ERR_OK);
    assert_in_range(n, FITS - FITS / 8, FITS);
    for (uint32_t t = 0; t < TREES; t++) {
        uint32_t d = 0;
        while (d < DEEP && has(a, 100 * t + d)) d++;
        if (t == 0 || t > TREES - 3) assert_int_equal(d, DEEP);
        if (t > 0 && t < 5) assert_int_equal(d, 0);
        for (; d < DEEP; d++) assert_false(has(a, 100 * t + d)); /* no gaps */
    }
    attic_close(a);
    a = open_attic(MAX / 2); /* a smaller budget holds from the start */
    assert_true(attic_bytes(a) <= MAX / 2);
    assert_true(has(a, 0));
    struct attic_item large = { .name = name(5000), .body = slice_of(body(0), BODY) };
    attic_close(a);
    a = open_attic(BODY);
    assert_int_equal(attic_put(a, &large, 1, NULL), ERR_FULL);
    attic_close(a);
    struct stat st;
    char path[80];
    snprintf(path, sizeof path, "%s/data.mdb", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size < 2 * MAX); /* pages are used again */
}

static void spoil(long from, long to, int every)
{
    char path[80];
    snprintf(path, sizeof path, "%s/data.mdb", dir);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    for (long at = from; at < to; at += every) {
        fseek(f, at, SEEK_SET);
        int c = fgetc(f);
        if (c == EOF) break;
        fseek(f, at, SEEK_SET);
        fputc(c ^ 0x10, f);
    }
    fclose(f);
}

/* A bit of a body that flips is a miss, and once; what cannot be read at all is begun anew. */
static void test_damage(void **state)
{
    uint8_t got[BODY];
    (void)state;
    struct attic *a = open_attic(MAX);
    for (uint32_t i = 0; i < 8; i++) assert_int_equal(put(a, i, i, 0, 1), ERR_OK);
    attic_close(a);

    char path[80];
    snprintf(path, sizeof path, "%s/data.mdb", dir);
    FILE *f = fopen(path, "rb");
    uint8_t *all = malloc(4 << 20);
    size_t n = fread(all, 1, 4 << 20, f);
    fclose(f);
    const uint8_t *at = memmem(all, n, body(3) + 100, 64);
    assert_non_null(at);
    long where = at - all;
    free(all);
    spoil(where, where + 1, 1);
    a = open_attic(MAX);
    struct hash k = name(3);
    assert_int_equal(attic_body(a, &k, got), ERR_MALFORMED);
    assert_int_equal(attic_body(a, &k, got), ERR_NOTFOUND);
    for (uint32_t i = 0; i < 8; i++) assert_int_equal(has(a, i), i != 3);
    assert_int_equal(put(a, 3, 3, 0, 1), ERR_OK);
    assert_true(has(a, 3));
    attic_close(a);

    spoil(0, 3 * 4096, 5);
    a = open_attic(MAX);
    assert_int_equal(attic_bytes(a), 0);
    assert_int_equal(put(a, 1, 1, 0, 1), ERR_OK);
    assert_true(has(a, 1));
    attic_close(a);
}

static void test_one_at_a_time(void **state)
{
    struct attic *a = open_attic(MAX), *b;
    struct why why;
    (void)state;
    pid_t child = fork();
    if (child == 0) _exit(attic_open(&b, dir, MAX, &why) == ERR_BUSY ? 0 : 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    attic_close(a);
}

int main(void)
{
    if (hash_init()) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_budget, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_at_a_time, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
