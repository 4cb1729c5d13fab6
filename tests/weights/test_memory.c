/* How much memory a control group leaves us, in both versions, in containers and without any. */
#include "weights/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static char root[] = "groups-XXXXXX";

static void put(const char *dir, const char *name, const char *text)
{
    char path[512];

    snprintf(path, sizeof path, "%s%s", root, dir);
    for (char *c = path + strlen(root) + 1; *c; c++)
        if (*c == '/') *c = 0, (void)mkdir(path, 0700), *c = '/';
    (void)mkdir(path, 0700);
    snprintf(path, sizeof path, "%s%s/%s", root, dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void limits(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(root));
    put("/memory", "memory.limit_in_bytes", "9223372036854771712\n");
    put("/memory/a/b", "memory.limit_in_bytes", "5000\n");
    put("/memory/a", "memory.limit_in_bytes", "4000\n");
    put("/s/u.service", "memory.max", "max\n");
    put("/s", "memory.max", "7000\n");
    put("/t", "memory.max", "nonsense\n");

    assert_int_equal(memory_limit_of(root, "3:cpu:/a\n2:memory:/a/b\n0::/\n"), 4000);
    assert_int_equal(memory_limit_of(root, "2:hugetlb,memory:/a/b\n"), 4000);
    assert_int_equal(memory_limit_of(root, "0::/s/u.service\n"), 7000);
    assert_int_equal(memory_limit_of(root, "4:memory:/a\n0::/s/u.service"), 4000);
    assert_int_equal(memory_limit_of(root, "0::/t\n"), UINT64_MAX);
    assert_int_equal(memory_limit_of(root, "2:memory:/\n"), 9223372036854771712u);
    assert_int_equal(memory_limit_of(root, "2:nomemory:/a\n5:memoryless:/a\n"), UINT64_MAX);
    /* a container sees the host's path and its own root */
    put("", "memory.max", "3000\n");
    assert_int_equal(memory_limit_of(root, "0::/docker/123\n"), 3000);
    static const char *const odd[] = { "", "\n\n", "x", "1:memory", "1:memory:", "::::", "0::x" };
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        assert_int_equal(memory_limit_of(root, odd[i]), UINT64_MAX);
    assert_true(memory_limit() > 1 << 20);
}

static int clean(void **state)
{
    char command[64];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test_teardown(limits, clean) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
