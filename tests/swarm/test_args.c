/* Command lines: what is understood, and what ends the program with one sentence and status 2. */
#include "tools/args.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static bool flag, plain;
static const char *word;
static struct arg_list list;
static uint64_t u64, size;
static uint32_t u32;
static double real;
static struct arg_range range;

static const struct arg options[] = {
    { "flag", ARG_FLAG, &flag, NULL, "[no-]may be turned off" },
    { "plain", ARG_FLAG, &plain, NULL, "may not" },
    { "word", ARG_STR, &word, "WORD", "a word" },
    { "list", ARG_LIST, &list, "WORD", "may be repeated" },
    { "u64", ARG_U64, &u64, "N", "a number" },
    { "u32", ARG_U32, &u32, "N", "a number" },
    { "real", ARG_DOUBLE, &real, "X", "a number" },
    { "size", ARG_SIZE, &size, "SIZE", "bytes" },
    { "range", ARG_RANGE, &range, "A-B", "layers" },
    { 0 },
};
static const struct command commands[] = { { "go", NULL, "begin" } };
static const struct args args = {
    .program = "prog",
    .usage = "[options] A B",
    .about = "Tests.",
    .options = options,
    .commands = commands,
    .n_commands = 1,
};
static const char *pos[2];

/* Words separated by single spaces; an empty word cannot be said. */
static int parse(const char *line)
{
    static char text[512];
    char *argv[64] = { (char *)(uintptr_t) "prog" };
    int argc = 1;

    snprintf(text, sizeof text, "%s", line);
    for (char *at = strtok(text, " "); at; at = strtok(NULL, " ")) argv[argc++] = at;
    return args_parse(&args, argc, argv, pos, 2);
}

/* What the line prints, when it ends the program; its exit status. */
static int ends(const char *line, char *said, size_t cap)
{
    int fd[2], status;
    size_t n = 0;
    ssize_t got;

    assert_int_equal(pipe(fd), 0);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        dup2(fd[1], 1);
        dup2(fd[1], 2);
        parse(line);
        _exit(99); /* it was understood */
    }
    close(fd[1]);
    while (n < cap - 1 && (got = read(fd[0], said + n, cap - 1 - n)) > 0) n += (size_t)got;
    said[n] = 0;
    close(fd[0]);
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void understood(void **state)
{
    (void)state;
    assert_int_equal(parse("--flag --word=a=b --list x --list=y --u64 18446744073709551615 "
                           "--u32 4294967295 --real -2.5e-1 --size 3G --range 4-9 one -- --two"),
                     2);
    assert_true(flag);
    assert_string_equal(word, "a=b");
    assert_int_equal(list.n, 2);
    assert_string_equal(list.v[1], "y");
    assert_true(u64 == UINT64_MAX && u32 == UINT32_MAX);
    assert_true(real == -0.25);
    assert_true(size == (uint64_t)3 << 30);
    assert_true(range.set && range.lo == 4 && range.hi == 9);
    assert_string_equal(pos[0], "one");
    assert_string_equal(pos[1], "--two");

    assert_int_equal(parse("--no-flag --range 7 --size 12 --size=2KiB --word -- -"), 1);
    assert_true(!flag && range.lo == 7 && range.hi == 7 && size == 2048);
    assert_string_equal(word, "--");
    assert_string_equal(pos[0], "-");
    assert_int_equal(parse(""), 0);
}

static void refused(void **state)
{
    static const char *const lines[][2] = {
        { "--nothing", "--nothing" },
        { "-x", "-x" },
        { "--no-plain", "--no-plain" },
        { "--flag=1", "takes no value" },
        { "--word", "needs a value" },
        { "--u32 4294967296", "whole number" },
        { "--u32 -1", "whole number" },
        { "--u32 1x", "whole number" },
        { "--u32=", "whole number" },
        { "--u64 18446744073709551616", "whole number" },
        { "--u64 +1", "whole number" },
        { "--real nan", "a number" },
        { "--real 1e999", "a number" },
        { "--real 0x10", "a number" },
        { "--size 1X", "size" },
        { "--size 99999999T", "size" },
        { "--size M", "size" },
        { "--range 9-4", "range" },
        { "--range 1-", "range" },
        { "--range 0-4294967296", "range" },
        { "a b c", "unexpected argument" },
        { "--flagg", "unknown option" },
        { "--wor\x1b[31m", "unknown option" },
    };
    char said[1024];
    (void)state;

    for (unsigned i = 0; i < sizeof lines / sizeof *lines; i++) {
        assert_int_equal(ends(lines[i][0], said, sizeof said), 2);
        if (!strstr(said, lines[i][1])) fail_msg("%s: %s", lines[i][0], said);
        char *end = strchr(said, '\n');
        assert_true(end && end[1] == 0);   /* one line */
        assert_null(strchr(said, '\x1b')); /* that moves no cursor */
        assert_int_equal(strncmp(said, "prog: ", 6), 0);
    }
}

static void help(void **state)
{
    char said[4096];
    (void)state;

    assert_int_equal(ends("--help", said, sizeof said), 0);
    for (const struct arg *o = options; o->name; o++) assert_non_null(strstr(said, o->name));
    assert_non_null(strstr(said, "usage: prog [options] A B"));
    assert_non_null(strstr(said, "\nCommands:\n  go "));
    assert_int_equal(ends("--table", said, sizeof said), 0);
    assert_ptr_equal(strstr(said, "command\tgo\t\tbegin\noption\t--flag\t\tmay be"), said);
    assert_non_null(strstr(said, "\noption\t--no-flag\t\tnot: may be turned off\n"));
    assert_non_null(strstr(said, "\noption\t--range\tA-B\tlayers\n"));
    assert_null(strstr(said, "--no-plain"));
    assert_int_equal(ends("--version", said, sizeof said), 0);
    assert_string_equal(said, "prog " SWARM_VERSION "\n");
    assert_int_equal(ends("--flag --help", said, sizeof said), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(understood),
        cmocka_unit_test(refused),
        cmocka_unit_test(help),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
