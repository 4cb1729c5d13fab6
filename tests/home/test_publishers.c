/* Whose names are believed: the file, one's own key, signatures. */
#include "home/publishers.h"

#include "home/config_dir.h"
#include "home/keys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64], file[128];
static struct publishers p;
static struct why why;

static int fresh(void **state)
{
    char command[256];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s && mkdir -p %s/swarm", dir, dir);
    setenv("XDG_CONFIG_HOME", dir, 1);
    return system(command) || proto_init();
}

static void put(const char *text)
{
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static struct identity somebody(uint8_t seed, char text[NODE_ID_TEXT])
{
    struct identity me;
    uint8_t bytes[32] = { seed };
    identity_from_seed(&me, bytes);
    node_id_text(text, &me.id);
    return me;
}

static struct store_name entry_of(const struct identity *by)
{
    struct store_name n = { .name = "a:b", .id = { { 7 } } };
    name_sign(&n, by);
    return n;
}

static void signatures(void **state)
{
    (void)state;
    char text[NODE_ID_TEXT];
    struct identity me = somebody(1, text);
    struct store_name n = entry_of(&me), changed;

    assert_true(name_is_signed(&n));
    changed = n;
    changed.name[2] = 'c';
    assert_false(name_is_signed(&changed));
    changed = n;
    changed.id.b[31] ^= 1;
    assert_false(name_is_signed(&changed));
    changed = n;
    changed.publisher[0] ^= 1;
    assert_false(name_is_signed(&changed));

    assert_int_equal(publishers_load(&p, &why), ERR_OK);
    assert_int_equal(publishers_check(&p, &changed, &why), ERR_AUTH);
    assert_non_null(strstr(why.text, "the signature under a:b is not that of"));
    assert_int_equal(publishers_check(&p, &n, &why), ERR_AUTH);
    assert_non_null(strstr(why.text, "--trust-publisher "));
    assert_non_null(strstr(why.text, text));
    assert_int_equal(publishers_trust(&p, &me.id, "a friend", &why), ERR_OK);
    assert_int_equal(publishers_check(&p, &n, &why), ERR_OK);
}

static void the_file(void **state)
{
    (void)state;
    char text[4][NODE_ID_TEXT], lines[512];
    struct identity me[4];
    struct stat st;

    for (uint8_t i = 0; i < 4; i++) me[i] = somebody((uint8_t)(10 + i), text[i]);
    snprintf(lines, sizeof lines, "# mine\n\n  %s  a friend\n%s# no end of line:\n%s", text[0],
             text[1], text[2]);
    put(lines);
    assert_int_equal(publishers_load(&p, &why), ERR_OK);
    for (int i = 0; i < 4; i++) assert_true(publishers_has(&p, me[i].id.b) == (i < 3));

    /* a line more, also after one that has no end; once */
    assert_int_equal(publishers_trust(&p, &me[3].id, "later", &why), ERR_OK);
    assert_int_equal(stat(file, &st), 0);
    off_t size = st.st_size;
    assert_int_equal(publishers_trust(&p, &me[3].id, "again", &why), ERR_OK);
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_size, size);
    assert_int_equal(publishers_load(&p, &why), ERR_OK);
    for (int i = 0; i < 4; i++) assert_true(publishers_has(&p, me[i].id.b));

    put("# fine\nswm1nobody\n");
    assert_int_equal(publishers_load(&p, &why), ERR_MALFORMED);
    assert_non_null(strstr(why.text, "trusted-publishers, line 2: "));
    put("");
    assert_int_equal(publishers_load(&p, &why), ERR_OK);
    char *big = malloc((64 << 10) + 2);
    memset(big, '\n', (64 << 10) + 1);
    big[(64 << 10) + 1] = 0;
    put(big);
    free(big);
    assert_int_equal(publishers_load(&p, &why), ERR_RANGE);
}

static void too_many(void **state)
{
    (void)state;
    char text[NODE_ID_TEXT];
    struct identity me;
    FILE *f = fopen(file, "w");

    for (int i = 0; i < PUBLISHERS_MAX; i++) {
        uint8_t bytes[32] = { (uint8_t)i, (uint8_t)(i >> 8), 9 };
        identity_from_seed(&me, bytes);
        node_id_text(text, &me.id);
        fprintf(f, "%s\n", text);
    }
    fclose(f);
    assert_int_equal(publishers_load(&p, &why), ERR_RANGE); /* the demonstration's is one too */
    assert_non_null(strstr(why.text, "more than 256 keys"));
}

static void ones_own_key(void **state)
{
    (void)state;
    char path[FILE_PATH_MAX];
    struct identity me;
    bool created;

    assert_int_equal(config_file(path, "publisher.key", true, &why), ERR_OK);
    assert_int_equal(keys_identity(&me, path, true, &created, &why), ERR_OK);
    struct store_name n = entry_of(&me);
    assert_int_equal(publishers_load(&p, &why), ERR_OK);
    assert_int_equal(publishers_check(&p, &n, &why), ERR_OK);
    put(""); /* and a key that is none */
    FILE *f = fopen(path, "w");
    fputs("nothing", f);
    fclose(f);
    assert_int_not_equal(publishers_load(&p, &why), ERR_OK);
    identity_fini(&me);
}

static void the_folder(void **state)
{
    (void)state;
    char path[FILE_PATH_MAX], want[128];
    struct stat st;

    snprintf(want, sizeof want, "%s/new/.config/swarm", dir);
    unsetenv("XDG_CONFIG_HOME");
    char home[96];
    snprintf(home, sizeof home, "%s/new", dir);
    assert_int_equal(mkdir(home, 0700), 0);
    setenv("HOME", home, 1);
    assert_int_equal(config_file(path, "x", false, &why), ERR_OK);
    assert_int_not_equal(stat(want, &st), 0);
    assert_int_equal(config_file(path, "x", true, &why), ERR_OK);
    assert_int_equal(stat(want, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(strncmp(path, want, strlen(want)), 0);
    setenv("HOME", "relative", 1);
    assert_int_equal(config_file(path, "x", false, &why), ERR_USAGE);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup(f, fresh)
    const struct CMUnitTest tests[] = {
        TEST(signatures), TEST(the_file), TEST(too_many), TEST(ones_own_key), TEST(the_folder),
    };
    snprintf(dir, sizeof dir, "/tmp/test_publishers-%ld", (long)getpid());
    snprintf(file, sizeof file, "%s/swarm/trusted-publishers", dir);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    char command[256];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command) ? 1 : failed;
}
