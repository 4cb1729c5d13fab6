/* Keys in files and options, and where a node is reached. */
#include "home/keys.h"
#include "peers/reached.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64], path[128];

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/swarm-keys.XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/key", dir);
    return proto_init();
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

static void write_file(const char *bytes, size_t n)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static unsigned mode_of(const char *file)
{
    struct stat st;
    assert_int_equal(stat(file, &st), 0);
    return st.st_mode & 0777;
}

static void test_identity_is_made_once(void **state)
{
    struct identity a, b;
    struct why why;
    bool created;
    (void)state;
    assert_int_equal(keys_identity(&a, path, false, &created, &why), ERR_NOTFOUND);
    assert_non_null(strstr(why.text, path));
    assert_int_equal(keys_identity(&a, path, true, &created, NULL), ERR_OK);
    assert_true(created);
    assert_int_equal(mode_of(path), 0600);
    assert_int_equal(keys_identity(&b, path, true, &created, NULL), ERR_OK);
    assert_false(created);
    assert_memory_equal(&a, &b, sizeof a);
}

static void test_broken_identity(void **state)
{
    struct identity me;
    struct why why;
    bool created;
    (void)state;
    write_file("swarm-id-v1 but no more", 23);
    assert_int_not_equal(keys_identity(&me, path, true, &created, &why), ERR_OK);
    assert_non_null(strstr(why.text, path));
    write_file("", 0);
    assert_int_not_equal(keys_identity(&me, path, true, &created, &why), ERR_OK);
    assert_int_not_equal(keys_identity(&me, dir, true, &created, &why), ERR_OK);
}

static void test_swarm_keys(void **state)
{
    struct swarm_key k, l;
    struct why why;
    char text[SWARM_KEY_TEXT];
    (void)state;
    assert_int_equal(keys_swarm(&k, NULL, NULL), ERR_OK);
    assert_memory_equal(&k, swarm_key_public(), sizeof k);
    assert_int_equal(keys_swarm(&k, path, &why), ERR_NOTFOUND);
    assert_int_equal(keys_new_swarm(path, NULL), ERR_OK);
    assert_int_equal(mode_of(path), 0600);
    assert_int_equal(keys_swarm(&k, path, NULL), ERR_OK);
    assert_int_equal(keys_new_swarm(path, &why), ERR_EXISTS); /* never over another key */
    assert_int_equal(keys_swarm(&l, path, NULL), ERR_OK);
    assert_memory_equal(&k, &l, sizeof k);
    swarm_key_text(text, &k);
    assert_int_equal(keys_swarm(&l, text, NULL), ERR_OK);
    assert_memory_equal(&k, &l, sizeof k);
    text[10] = text[10] == 'q' ? 'p' : 'q';
    assert_int_not_equal(keys_swarm(&l, text, &why), ERR_OK);
    write_file("garbage\n", 8);
    assert_int_not_equal(keys_swarm(&l, path, &why), ERR_OK);
    assert_non_null(strstr(why.text, path));
}

static void test_reached(void **state)
{
    struct hub hub;
    struct reached r;
    struct why why;
    char text[80];
    (void)state;
    assert_int_equal(hub_init(&hub), ERR_OK);
    assert_int_equal(reached_find(&r, &hub, NULL, 0, "127.0.0.1", 7000, &why), ERR_OK);
    assert_string_equal(r.host, "127.0.0.1");
    assert_int_equal(r.port, 7000);
    assert_int_equal(r.n, 1);
    assert_memory_equal(r.addr[0].b, "\x7f\0\0\1\x1b\x58", 6);

    assert_int_equal(reached_find(&r, &hub, "::1", 80, "0.0.0.0", 7000, &why), ERR_OK);
    assert_string_equal(r.host, "::1");
    assert_int_equal(r.port, 80);
    assert_int_equal(r.addr[0].n, 18);
    assert_int_equal(reached_find(&r, &hub, "127.0.0.2", 0, "0.0.0.0", 7000, &why), ERR_OK);
    assert_int_equal(r.port, 7000);

    /* Every interface: at least loopback, and a host that is one of the addresses. */
    assert_int_equal(reached_find(&r, &hub, NULL, 0, "0.0.0.0", 7000, &why), ERR_OK);
    assert_true(r.n >= 1);
    assert_true(addr_text(text, sizeof text, slice_of(r.addr[0].b, r.addr[0].n)));
    assert_memory_equal(text, r.host, strlen(r.host));
    for (uint32_t i = 1; i < r.n; i++)
        assert_false(addr_is_loopback(slice_of(r.addr[i].b, r.addr[i].n)));

    assert_int_equal(reached_find(&r, &hub, "no such host", 1, "0.0.0.0", 7000, &why),
                     ERR_NOTFOUND);
    assert_non_null(strstr(why.text, "no such host"));
    hub_fini(&hub);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_identity_is_made_once),
        TEST(test_broken_identity),
        TEST(test_swarm_keys),
        TEST(test_reached),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
