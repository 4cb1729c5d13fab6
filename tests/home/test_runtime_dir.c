/* The folder where running nodes leave their links: found, forgotten, and not believed if another
 * could have written it. */
#include "home/runtime_dir.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char home[] = "/tmp/test-runtime-XXXXXX";

static struct link some_link(uint16_t port)
{
    struct link l = { .port = port, .host = "127.0.0.1" };
    memset(l.id.b, 7, ID_BYTES);
    return l;
}

static enum err publish(const struct link *l, const char *model, struct why *why)
{
    struct local_node me = { .link = *l, .answers = true };
    snprintf(me.model, sizeof me.model, "%s", model);
    memset(me.token, 0xa5, sizeof me.token);
    return runtime_publish(&me, why);
}

static int setup(void **state)
{
    (void)state;
    if (proto_init() || !mkdtemp(home)) return -1;
    return setenv("XDG_RUNTIME_DIR", home, 1);
}

static int teardown(void **state)
{
    char cmd[64];
    (void)state;
    snprintf(cmd, sizeof cmd, "rm -rf %s", home);
    return system(cmd);
}

static void put(const char *name, const char *text, mode_t mode)
{
    char path[128];
    snprintf(path, sizeof path, "%s/swarm/%s", home, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(chmod(path, mode), 0);
}

static bool exists(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/swarm/%s", home, name);
    return access(path, F_OK) == 0;
}

static void test_find(void **state)
{
    (void)state;
    struct local_node found[4];
    struct link l = some_link(4711);
    struct why why;
    struct stat st;
    char name[32], path[128];
    unsigned n = 9;

    assert_int_equal(runtime_find(found, 4, &n, &why), ERR_OK); /* no folder yet */
    assert_int_equal(n, 0);
    assert_int_equal(publish(&l, "atlas:q80", &why), ERR_OK);
    assert_int_equal(publish(&l, "atlas:q80", &why), ERR_OK); /* again */
    snprintf(path, sizeof path, "%s/swarm", home);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    snprintf(name, sizeof name, "%ld.link", (long)getpid());
    snprintf(path, sizeof path, "%s/swarm/%s", home, name);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);

    assert_int_equal(runtime_find(found, 4, &n, &why), ERR_OK);
    assert_int_equal(n, 1);
    assert_int_equal(found[0].pid, getpid());
    assert_int_equal(found[0].link.port, 4711);
    assert_true(node_id_equal(&found[0].link.id, &l.id));
    assert_string_equal(found[0].model, "atlas:q80");
    assert_true(found[0].answers && found[0].token[0] == 0xa5 && found[0].token[31] == 0xa5);

    runtime_withdraw();
    assert_int_equal(runtime_find(found, 4, &n, &why), ERR_OK);
    assert_int_equal(n, 0);
    runtime_withdraw(); /* twice does no harm */
}

/* Files of dead processes are removed; nonsense, and files others may write, are passed over. */
static void test_stale(void **state)
{
    (void)state;
    struct local_node found[4];
    struct link l = some_link(1);
    struct why why;
    char name[32], text[400], spelled[256];
    unsigned n;

    pid_t child = fork();
    if (child == 0) _exit(0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(publish(&l, "m", &why), ERR_OK);
    runtime_withdraw();
    link_text(spelled, sizeof spelled, &l);
    snprintf(text, sizeof text, "link %s\nmodel m\nanswers no\ntoken %064d\n", spelled, 0);
    snprintf(name, sizeof name, "%ld.link", (long)child);
    put(name, text, 0600);
    put("1.link", text, 0644); /* process 1 lives, but others could have written this */
    put("rubbish.link", text, 0600);
    snprintf(name, sizeof name, "%ld.link", (long)getppid());
    put(name, "link swarm://nonsense\nmodel x\n", 0600);

    assert_int_equal(runtime_find(found, 4, &n, &why), ERR_OK);
    assert_int_equal(n, 0);
    snprintf(name, sizeof name, "%ld.link", (long)child);
    assert_false(exists(name));
    assert_true(exists("rubbish.link"));

    put("1.link", text, 0600); /* now it counts (kill says EPERM or 0: the process lives) */
    assert_int_equal(runtime_find(found, 4, &n, &why), ERR_OK);
    assert_int_equal(n, 1);
    assert_int_equal(found[0].pid, 1);
    assert_false(found[0].answers);
    text[strlen(text) - 2] = 'x'; /* no token */
    put("1.link", text, 0600);
    assert_int_equal(runtime_find(found, 4, &n, &why), ERR_OK);
    assert_int_equal(n, 0);
    put("1.link", "", 0600);
    assert_int_equal(runtime_find(found, 4, &n, &why), ERR_OK);
    assert_int_equal(n, 0);
}

static void test_foreign_folder(void **state)
{
    (void)state;
    struct local_node found[4];
    struct link l = some_link(1);
    struct why why = { "" };
    char path[128], real[128];
    unsigned n;

    snprintf(path, sizeof path, "%s/swarm", home);
    assert_int_equal(chmod(path, 0755), 0);
    assert_int_equal(runtime_find(found, 4, &n, &why), ERR_DENIED);
    assert_non_null(strstr(why.text, path));
    assert_int_equal(publish(&l, "m", &why), ERR_DENIED);
    assert_int_equal(chmod(path, 0700), 0);
    snprintf(real, sizeof real, "%s/real", home);
    assert_int_equal(rename(path, real), 0);
    assert_int_equal(symlink(real, path), 0);
    assert_int_equal(runtime_find(found, 4, &n, &why), ERR_DENIED);
    assert_int_equal(publish(&l, "m", &why), ERR_DENIED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_stale),
        cmocka_unit_test(test_foreign_folder),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
