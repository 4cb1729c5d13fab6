/* Requests on disk: what is written is read, what is torn is cut, what is garbled is refused. */
#include "ask/journal.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { N_PROMPT = 5, N_TOKENS = 40, LIMIT = 50 };
static char dir[64], path[200];
static struct hub hub;
static const int32_t prompt[N_PROMPT] = { 3, 1, 4, 1, 5 };
static struct journal_head head = { .sampling = { .temperature = 0.7, .top_p = 0.9, .seed = 42 },
                                    .limit = LIMIT,
                                    .n_prompt = N_PROMPT };
enum { LIKELY = 3 };
static size_t item = 8; /* bytes of a token */
static unsigned n_ready;
static enum err ready_err;

static void on_ready(void *arg, enum err e)
{
    (void)arg;
    n_ready++;
    ready_err = e;
}

static int open_hub(void **state)
{
    (void)state;
    n_ready = 0;
    item = 8 + 8 * head.sampling.likely;
    memset(head.coordinator.b, 7, ID_BYTES);
    memset(head.model, 8, ID_BYTES);
    return hub_init(&hub);
}

static int open_hub_likely(void **state)
{
    head.sampling.likely = LIKELY;
    return open_hub(state);
}

static int unlikely(void **state)
{
    (void)state;
    head.sampling.likely = 0;
    return 0;
}

static void add(struct journal *j, int32_t id)
{
    struct likely l[LIKELY];
    for (int32_t i = 0; i < LIKELY; i++) l[i] = (struct likely){ id + i, -0.5f * (float)(id + i) };
    journal_add(j, id, head.sampling.likely ? l : NULL);
}

/* Until the files are as they will be. */
static void settle(void)
{
    hub_fini(&hub);
}

static struct journal_entry got;
static unsigned n_found;

static void on_found(void *arg, struct journal_entry *e)
{
    (void)arg;
    n_found++;
    free(got.ids);
    free(got.likely);
    got = *e;
}

static unsigned scan(void)
{
    n_found = 0;
    journal_scan(dir, &head.coordinator, head.model, on_found, NULL);
    return n_found;
}

static void begin(struct journal **j)
{
    assert_int_equal(journal_start(j, &hub, dir, &head, prompt, on_ready, NULL), ERR_OK);
}

/* A journal with N_TOKENS tokens 100, 101, ..., left as a killed process leaves it. */
static void leave(uint8_t request)
{
    struct journal *j;
    head.request[0] = request;
    begin(&j);
    for (int32_t i = 0; i < N_TOKENS; i++) add(j, 100 + i);
    journal_keep(j);
    settle();
    snprintf(path, sizeof path, "%s/0707070707070707-%02x000000000000000000000000000000", dir,
             request);
}

static void check_entry(uint32_t n_tokens)
{
    assert_int_equal(got.n_tokens, n_tokens);
    assert_memory_equal(got.ids, prompt, sizeof prompt);
    for (uint32_t i = 0; i < n_tokens; i++) assert_int_equal(got.ids[N_PROMPT + i], 100 + (int)i);
    assert_true(got.head.sampling.seed == 42 && got.head.sampling.temperature == 0.7);
    assert_int_equal(got.head.limit, LIMIT);
    assert_int_equal(got.likely != NULL, head.sampling.likely > 0);
    for (uint32_t i = 0; got.likely && i < n_tokens * LIKELY; i++) {
        int32_t id = 100 + (int32_t)(i / LIKELY + i % LIKELY);
        assert_int_equal(got.likely[i].id, id);
        assert_true(got.likely[i].logprob == -0.5f * (float)id);
    }
}

static void round_trip(void **state)
{
    (void)state;
    struct stat st;
    leave(1);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(scan(), 1);
    check_entry(N_TOKENS);

    /* gone on with, then ended */
    struct journal *j;
    assert_int_equal(hub_init(&hub), ERR_OK);
    assert_int_equal(journal_resume(&j, &hub, dir, &got), ERR_OK);
    add(j, 100 + N_TOKENS);
    journal_keep(j);
    settle();
    assert_int_equal(scan(), 1);
    check_entry(N_TOKENS + 1);
    assert_int_equal(hub_init(&hub), ERR_OK);
    assert_int_equal(journal_resume(&j, &hub, dir, &got), ERR_OK);
    journal_remove(j);
    settle();
    assert_int_equal(scan(), 0);
    assert_int_not_equal(stat(path, &st), 0);
}

static void durable_before_it_is_said(void **state)
{
    (void)state;
    struct journal *j;
    head.request[0] = 2;
    begin(&j);
    while (n_ready == 0) uv_run(&hub.loop, UV_RUN_ONCE);
    assert_int_equal(ready_err, ERR_OK);
    assert_int_equal(scan(), 1); /* its head is there already */
    check_entry(0);
    journal_remove(j);
    settle();
    assert_int_equal(n_ready, 1);
}

static uint8_t file[1 << 13];
static size_t file_n;

static void slurp(void)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    file_n = fread(file, 1, sizeof file, f);
    fclose(f);
}

/* Cut at every byte, and every bit flipped: the good tokens before it, or nothing. */
static void torn_and_garbled(void **state)
{
    (void)state;
    struct journal_entry e;
    leave(3);
    slurp();
    size_t first = file_n - N_TOKENS * item;
    for (size_t n = 0; n < file_n; n++) {
        enum err err = journal_parse(&e, slice_of(file, n), NULL);
        assert_int_equal(err == ERR_OK, n >= first);
        if (!err) assert_int_equal(e.n_tokens, (n - first) / item);
        if (!err) assert_int_equal(e.n_good, first + item * e.n_tokens);
        free(e.ids);
        free(e.likely);
    }
    for (size_t at = 0; at < file_n; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            file[at] ^= (uint8_t)(1U << bit);
            enum err err = journal_parse(&e, slice_of(file, file_n), NULL);
            assert_int_equal(err == ERR_OK, at >= first);
            if (!err) assert_int_equal(e.n_tokens, (at - first) / item);
            free(e.ids);
        free(e.likely);
            file[at] ^= (uint8_t)(1U << bit);
        }
    }
    /* what is torn off is written anew */
    struct journal *j;
    assert_int_equal(truncate(path, (off_t)(file_n - item * 10 - 3)), 0);
    assert_int_equal(scan(), 1);
    check_entry(N_TOKENS - 11);
    assert_int_equal(hub_init(&hub), ERR_OK);
    assert_int_equal(journal_resume(&j, &hub, dir, &got), ERR_OK);
    for (int32_t i = N_TOKENS - 11; i < N_TOKENS; i++) add(j, 100 + i);
    journal_keep(j);
    settle();
    assert_int_equal(scan(), 1);
    check_entry(N_TOKENS);
    unlink(path);
}

/* What is not ours, of another model, too old or worthless does not come back. */
static void refused(void **state)
{
    (void)state;
    struct stat st;
    leave(4);
    struct node_id other = { { 9 } };
    n_found = 0;
    journal_scan(dir, &other, head.model, on_found, NULL);
    assert_int_equal(n_found, 0);
    assert_int_equal(stat(path, &st), 0); /* another node's: left alone */

    struct timespec old[2] = { { .tv_sec = time(NULL) - JOURNAL_KEEP_S - 60 },
                               { .tv_sec = time(NULL) - JOURNAL_KEEP_S - 60 } };
    assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
    assert_int_equal(scan(), 0);
    assert_int_not_equal(stat(path, &st), 0);

    assert_int_equal(hub_init(&hub), ERR_OK);
    leave(5);
    journal_scan(dir, &head.coordinator, other.b, on_found, NULL);
    assert_int_equal(n_found, 0);
    assert_int_not_equal(stat(path, &st), 0);

    /* under another's name; a link; a folder */
    assert_int_equal(hub_init(&hub), ERR_OK);
    leave(6);
    char wrong[220];
    snprintf(wrong, sizeof wrong, "%s", path);
    memcpy(strrchr(wrong, '-') + 1, "ff", 2);
    assert_int_equal(rename(path, wrong), 0);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    assert_int_equal(scan(), 0);
    assert_int_not_equal(lstat(wrong, &st), 0);
    assert_int_not_equal(lstat(path, &st), 0);
}

/* A disk that cannot be written to: it is said once, and nothing else happens. */
static void no_disk(void **state)
{
    (void)state;
    struct journal *j;
    assert_int_equal(journal_start(&j, &hub, "/proc/none", &head, prompt, on_ready, NULL), ERR_OK);
    for (int32_t i = 0; i < 3; i++) add(j, i);
    while (n_ready == 0) uv_run(&hub.loop, UV_RUN_ONCE);
    assert_int_equal(ready_err, ERR_IO);
    add(j, 4);
    journal_remove(j);
    settle();

    /* nobody waits any more */
    assert_int_equal(hub_init(&hub), ERR_OK);
    begin(&j);
    journal_remove(j);
    settle();
    assert_int_equal(n_ready, 1);
    assert_int_equal(scan(), 0);
}

static int clean(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(round_trip, open_hub),
        cmocka_unit_test_setup(durable_before_it_is_said, open_hub),
        cmocka_unit_test_setup(torn_and_garbled, open_hub),
        cmocka_unit_test_setup_teardown(round_trip, open_hub_likely, unlikely),
        cmocka_unit_test_setup_teardown(torn_and_garbled, open_hub_likely, unlikely),
        cmocka_unit_test_setup(refused, open_hub),
        cmocka_unit_test_setup(no_disk, open_hub),
    };
    snprintf(dir, sizeof dir, "/tmp/swarm-journal-test.%d", (int)getpid());
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(got.ids);
    return clean() ? 1 : failed;
}
