/* cmocka.h - the few words of cmocka that the tests of arithmetic use, for builds for another CPU:
 * no distribution installs that library for a foreign CPU without reconfiguring the machine.
 * A failed assertion names its place and ends the program. */
#ifndef TESTS_CROSS_CMOCKA_H
#define TESTS_CROSS_CMOCKA_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*run)(void **state);
};

#define cmocka_unit_test(f) \
    {                       \
#f, f               \
    }
#define print_message(...) printf(__VA_ARGS__)

#define fail_msg(...)                                   \
    do {                                                \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__); \
        fprintf(stderr, __VA_ARGS__);                   \
        fputc('\n', stderr);                            \
        exit(1);                                        \
    } while (0)
#define assert_that(ok, text)            \
    do {                                 \
        if (!(ok)) fail_msg("%s", text); \
    } while (0)

#define assert_true(x) assert_that(x, #x)
#define assert_false(x) assert_that(!(x), "not " #x)
#define assert_null(p) assert_that(!(p), #p " is NULL")
#define assert_non_null(p) assert_that(p, #p " is not NULL")
#define assert_int_equal(a, b) assert_that((int64_t)(a) == (int64_t)(b), #a " == " #b)
#define assert_int_not_equal(a, b) assert_that((int64_t)(a) != (int64_t)(b), #a " != " #b)
#define assert_in_range(x, lo, hi) assert_that((x) >= (lo) && (x) <= (hi), #x " in its range")
#define assert_ptr_equal(a, b) assert_that((a) == (b), #a " == " #b)
#define assert_string_equal(a, b) assert_that(strcmp(a, b) == 0, #a " is " #b)
#define assert_memory_equal(a, b, n) assert_that(memcmp(a, b, n) == 0, #a " has the bytes of " #b)

#define cmocka_run_group_tests(tests, setup, teardown) \
    cross_run(tests, sizeof(tests) / sizeof *(tests))

static inline int cross_run(const struct CMUnitTest *tests, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        void *state = NULL;
        printf("%s\n", tests[i].name);
        fflush(stdout);
        tests[i].run(&state);
    }
    return 0;
}

#endif
