/* The store as several processes see it: what is committed stays, whatever happens next. */
#include "store/store.h"

#include "tests/store/small.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];

static void remove_dir(const char *d)
{
    char p[512];
    DIR *h = opendir(d);

    if (!h) return;
    for (struct dirent *e; (e = readdir(h));) {
        snprintf(p, sizeof p, "%s/%s", d, e->d_name);
        unlink(p);
    }
    closedir(h);
    rmdir(d);
}

static int fresh(void **state)
{
    (void)state;
    remove_dir(dir);
    return 0;
}

static struct store *open_store(enum store_mode mode)
{
    struct store *s;
    struct why why = { "" };
    if (store_open(&s, dir, mode, &why)) fail_msg("%s", why.text);
    return s;
}

/* Run f in another process; its return value. */
static int in_child(int (*f)(void *arg), void *arg)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) _exit(f(arg));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void put_get_reopen(void **state)
{
    (void)state;
    static uint8_t big[TILE_BYTES], wide[TILE_WIRE_MAX];
    struct store *s = open_store(STORE_WRITE);
    struct hash small_h, big_h, wide_h, none = { { 1 } };
    struct slice v;
    struct stat st;

    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    fill_bytes(big, sizeof big, 1);
    fill_bytes(wide, sizeof wide, 2);
    assert_int_equal(store_put(s, slice_str("tile"), &small_h, NULL), ERR_OK);
    assert_int_equal(store_put(s, slice_of(big, sizeof big), &big_h, NULL), ERR_OK);
    assert_int_equal(store_put(s, slice_of(wide, sizeof wide), &wide_h, NULL), ERR_OK);
    struct hash expected = hash_of(slice_str("tile"));
    assert_memory_equal(small_h.b, expected.b, HASH_BYTES);

    assert_true(store_has(s, &big_h)); /* not yet committed, but there */
    assert_false(store_has(s, &none));
    assert_int_equal(store_tile(s, &none, &v), ERR_NOTFOUND);
    assert_int_equal(store_tile(s, &big_h, &v), ERR_OK);
    assert_int_equal(v.n, sizeof big);
    assert_memory_equal(v.p, big, sizeof big);

    struct slice kept = v; /* borrowed until the store closes, whatever is written next */
    for (uint32_t i = 0; i < 40; i++) {
        struct hash h;
        fill_bytes(wide, TILE_BYTES, 100 + i);
        assert_int_equal(store_put(s, slice_of(wide, TILE_BYTES), &h, NULL), ERR_OK);
    }
    assert_int_equal(store_commit(s, NULL), ERR_OK);
    assert_memory_equal(kept.p, big, sizeof big);

    assert_int_equal(store_put(s, slice_of(big, 0), &small_h, NULL), ERR_RANGE);
    assert_int_equal(store_put(s, slice_of(big, TILE_WIRE_MAX + 1), &small_h, NULL), ERR_RANGE);
    store_close(s);

    s = open_store(STORE_READ);
    assert_int_equal(store_tile(s, &wide_h, &v), ERR_OK);
    assert_int_equal(v.n, sizeof wide);
    struct hash h = hash_of(v);
    assert_memory_equal(h.b, wide_h.b, HASH_BYTES);
    assert_int_equal(store_put(s, slice_str("x"), &h, NULL), ERR_DENIED);
    assert_int_equal(store_commit(s, NULL), ERR_DENIED);
    store_close(s);
}

static void notes_follow_their_tiles(void **state)
{
    (void)state;
    struct store *s = open_store(STORE_WRITE);
    struct hash key = hash_of(slice_str("key"));
    struct slice v;

    assert_int_equal(store_note(s, &key, &v), ERR_NOTFOUND);
    assert_int_equal(store_put_note(s, &key, slice_str("one"), NULL), ERR_OK);
    assert_int_equal(store_put_note(s, &key, slice_str("second"), NULL), ERR_OK);
    assert_int_equal(store_note(s, &key, &v), ERR_OK);
    assert_true(slice_is(v, "second"));
    assert_int_equal(store_commit(s, NULL), ERR_OK);
    assert_int_equal(store_note(s, &key, &v), ERR_OK);
    assert_true(slice_is(v, "second"));
    assert_int_equal(store_put_note(s, &key, slice_str(""), NULL), ERR_OK);
    store_close(s); /* dropped: not committed */
    s = open_store(STORE_READ);
    assert_int_equal(store_note(s, &key, &v), ERR_OK);
    assert_true(slice_is(v, "second"));
    store_close(s);
}

static void no_store_is_said(void **state)
{
    (void)state;
    struct store *s;
    struct why why = { "" };
    char path[128];

    assert_int_equal(store_open(&s, dir, STORE_READ, &why), ERR_NOTFOUND);
    assert_non_null(strstr(why.text, "there is no store in"));
    assert_int_equal(store_open(&s, "", STORE_WRITE, &why), ERR_USAGE);
    assert_int_equal(store_open(&s, "/nonexistent/a/b", STORE_WRITE, &why), ERR_IO);

    /* something else by that name; one that cannot be looked into (root can look into all, but not
     * at names that long) is not said to be missing */
    char longer[400];
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    assert_int_equal(store_open(&s, longer, STORE_READ, &why), ERR_IO);
    assert_null(strstr(why.text, "there is no store in"));
    assert_int_equal(mkdir(dir, 0700), 0);
    snprintf(path, sizeof path, "%s/data.mdb", dir);
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 4000; i++) fputs("this is no store\n", f);
    fclose(f);
    assert_int_equal(store_open(&s, dir, STORE_READ, &why), ERR_MALFORMED);
    assert_non_null(strstr(why.text, "damaged or no store"));
    assert_int_equal(store_open(&s, dir, STORE_WRITE, &why), ERR_MALFORMED);
}

static int second_writer(void *arg)
{
    struct store *s;
    struct why *why = arg;
    enum err e = store_open(&s, dir, STORE_WRITE, why);

    if (e != ERR_BUSY || !strstr(why->text, "another process (pid ")) return 1;
    e = store_open(&s, dir, STORE_READ, why); /* reading is fine */
    if (e) return 2;
    store_close(s);
    return 0;
}

static void a_second_writer_is_refused(void **state)
{
    (void)state;
    struct why why = { "" };
    struct store *s = open_store(STORE_WRITE);
    assert_int_equal(in_child(second_writer, &why), 0);
    store_close(s);
    s = open_store(STORE_WRITE); /* the lock is free again */
    store_close(s);
}

/* --- readers while writing --- */

enum { ROUNDS = 60 };

static int reader(void *arg)
{
    const struct hash *first = arg;
    struct store *s;
    struct slice v;

    /* what was there when it opened stays readable while the other writes */
    if (store_open(&s, dir, STORE_READ, NULL)) return 1;
    for (int i = 0; i < 200; i++) {
        if (store_tile(s, first, &v)) return 2;
        struct hash h = hash_of(v);
        if (memcmp(h.b, first->b, HASH_BYTES)) return 3;
        usleep(500);
    }
    store_close(s);
    return 0;
}

static void readers_while_writing(void **state)
{
    (void)state;
    static uint8_t p[TILE_BYTES];
    struct store *s = open_store(STORE_WRITE);
    struct hash first, h;
    pid_t pid[3];

    fill_bytes(p, sizeof p, 77);
    assert_int_equal(store_put(s, slice_of(p, sizeof p), &first, NULL), ERR_OK);
    assert_int_equal(store_commit(s, NULL), ERR_OK);
    for (int i = 0; i < 3; i++) {
        pid[i] = fork();
        if (pid[i] == 0) _exit(reader(&first));
    }
    for (uint32_t i = 0; i < ROUNDS; i++) {
        fill_bytes(p, 100000, i);
        assert_int_equal(store_put(s, slice_of(p, 100000 + i), &h, NULL), ERR_OK);
        assert_int_equal(store_commit(s, NULL), ERR_OK);
    }
    for (int i = 0; i < 3; i++) {
        int status;
        waitpid(pid[i], &status, 0);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
    store_close(s);
}

/* --- models --- */

static struct store_name name_of(const char *name, struct slice body)
{
    struct store_name n = { .id = hash_of(body) };
    snprintf(n.name, sizeof n.name, "%s", name);
    memset(n.publisher, 5, sizeof n.publisher);
    memset(n.sig, 6, sizeof n.sig);
    return n;
}

static void put_model(struct store *s, const struct manifest *m, const char *name)
{
    uint8_t *body;
    size_t n;
    struct why why = { "" };
    assert_int_equal(manifest_encode(m, &body, &n), ERR_OK);
    struct store_name entry = name_of(name, slice_of(body, n));
    if (store_put_model(s, slice_of(body, n), &entry, &why)) fail_msg("%s", why.text);
    free(body);
}

static bool count_names(void *arg, const struct store_name *n)
{
    int *count = arg;
    assert_int_equal(n->publisher[31], 5);
    assert_int_equal(n->sig[63], 6);
    return ++*count < 2;
}

static void models_and_names(void **state)
{
    (void)state;
    struct store *s = open_store(STORE_WRITE);
    struct manifest *m = calloc(1, sizeof *m), *r = calloc(1, sizeof *r);
    struct store_name entry, bad;
    struct why why = { "" };
    char hex[2 * HASH_BYTES + 1];
    uint8_t *body;
    size_t n;
    int count = 0;

    assert_int_equal(store_find_model(s, NULL, &entry, r, &why), ERR_NOTFOUND);
    assert_non_null(strstr(why.text, "holds no model"));
    assert_int_equal(put_small(s, m), ERR_OK);
    put_model(s, m, "atlas:q80");
    assert_int_equal(store_find_model(s, NULL, &entry, r, &why), ERR_OK);
    assert_string_equal(entry.name, "atlas:q80");
    assert_int_equal(store_find_model(s, "", &entry, r, &why), ERR_OK);
    assert_int_equal(r->arch.n_layers, 3);

    m->arch.context = 99; /* another model */
    put_model(s, m, "atlas:q40");
    assert_int_equal(store_find_model(s, NULL, &entry, r, &why), ERR_NOTFOUND);
    assert_non_null(strstr(why.text, "2 models, say which: atlas:q40, atlas:q80"));
    assert_int_equal(store_find_model(s, "atlas", &entry, r, &why), ERR_NOTFOUND);
    assert_non_null(strstr(why.text, "it has atlas:q40, atlas:q80"));
    assert_int_equal(store_find_model(s, "atlas:q40", &entry, r, &why), ERR_OK);
    assert_int_equal(r->arch.context, 99);
    for (int i = 0; i < HASH_BYTES; i++) snprintf(hex + 2 * i, 3, "%02x", entry.id.b[i]);
    memset(&entry, 0, sizeof entry);
    assert_int_equal(store_find_model(s, hex, &entry, r, &why), ERR_OK);
    assert_string_equal(entry.name, "atlas:q40");
    hex[0] = hex[0] == '0' ? '1' : '0';
    assert_int_equal(store_find_model(s, hex, &entry, r, &why), ERR_NOTFOUND);
    assert_int_equal(store_each_name(s, count_names, &count, NULL), ERR_OK);
    assert_int_equal(count, 2);

    /* a name can move; a name that signs something else, or is none, is refused */
    put_model(s, m, "atlas:q80");
    assert_int_equal(store_find_model(s, "atlas:q80", &entry, r, &why), ERR_OK);
    assert_int_equal(r->arch.context, 99);
    assert_int_equal(manifest_encode(m, &body, &n), ERR_OK);
    bad = name_of("x", slice_str("else"));
    assert_int_equal(store_put_model(s, slice_of(body, n), &bad, &why), ERR_AUTH);
    bad = name_of("a b", slice_of(body, n));
    assert_int_equal(store_put_model(s, slice_of(body, n), &bad, &why), ERR_USAGE);
    bad = name_of("x", slice_of(body, n - 1));
    assert_int_equal(store_put_model(s, slice_of(body, n - 1), &bad, &why), ERR_MALFORMED);
    free(body);
    store_close(s);
    free(m);
    free(r);
}

static void names_that_are_none(void **state)
{
    (void)state;
    static const char *const BAD[] = {
        "",
        " ",
        "a b",
        ":a",
        "-a",
        ".a",
        "a\n",
        "a\x7f",
        "\xc3\xa4",
        "a*",
        "0123456789012345678901234567890123456789012345678901234567890123",
    };
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) assert_false(store_name_ok(BAD[i]));
    assert_true(store_name_ok("glm-4.5-air:q40"));
    assert_true(store_name_ok("a"));
    assert_true(store_name_ok("org/Model_1:bf16"));
}

/* --- layers --- */

static void layers_as_tiles(void **state)
{
    (void)state;
    struct store *s = open_store(STORE_WRITE);
    struct manifest *m = calloc(1, sizeof *m);
    struct why why = { "" };
    uint8_t *tok;
    size_t n;

    assert_int_equal(put_small(s, m), ERR_OK);
    assert_int_equal(store_commit(s, NULL), ERR_OK);
    for (uint32_t l = 0; l <= arch_all_layers(&m->arch); l++) {
        uint32_t layer = l == arch_all_layers(&m->arch) ? ARCH_ENDS : l, at = 0;
        const uint8_t **p = calloc(manifest_n_tiles(&m->arch, layer), sizeof *p);

        assert_true(store_holds_layer(s, m, layer));
        if (store_layer_tiles(s, m, layer, NULL, p, &why)) fail_msg("%s", why.text);
        for (uint32_t i = 0; i < arch_n_specs(&m->arch, layer); i++) {
            struct tensor_spec spec = arch_spec(&m->arch, layer, i);
            struct tiling t = tiling_of(spec.type, spec.rows, spec.cols);
            for (uint32_t k = 0; k < t.tiles; k++, at++) {
                size_t len = tiling_tile_bytes(&t, k);
                uint8_t *expected = malloc(len);
                fill_bytes(expected, len, layer * 1000 + i * 10 + k);
                assert_memory_equal(p[at], expected, len);
                if (len < 4096) assert_int_equal((uintptr_t)p[at] % 64, 0);
                free(expected);
            }
        }
        free(p);
    }
    assert_int_equal(store_tokenizer(s, m, &tok, &n, &why), ERR_OK);
    assert_int_equal(n, TILE_BYTES + 10);
    uint8_t *expected = malloc(n);
    fill_bytes(expected, n, 5);
    assert_memory_equal(tok, expected, n);
    free(expected);
    free(tok);
    store_close(s);
    free(m);
}

/* A tile of a wrong length, a missing tile, a table of a wrong length: each is a sentence. */
static void corrupt_layers_are_refused(void **state)
{
    (void)state;
    struct store *s = open_store(STORE_WRITE);
    struct manifest *m = calloc(1, sizeof *m);
    struct why why = { "" };
    uint8_t *tok;
    size_t len;

    assert_int_equal(put_small(s, m), ERR_OK);
    uint32_t n = manifest_n_tiles(&m->arch, 1);
    const uint8_t **p = calloc(n, sizeof *p);
    struct hash *table = calloc(n, sizeof *table);
    struct slice v;
    assert_int_equal(store_tile(s, &m->table[1], &v), ERR_OK);
    memcpy(table, v.p, v.n);

    struct hash was = table[n - 1];
    assert_int_equal(store_put(s, slice_str("short"), &table[n - 1], NULL), ERR_OK);
    assert_int_equal(store_put(s, slice_of(table, v.n), &m->table[1], NULL), ERR_OK);
    assert_int_equal(store_layer_tiles(s, m, 1, NULL, p, &why), ERR_MALFORMED);
    assert_non_null(strstr(why.text, "of layer 1 has 5 bytes"));

    memset(&table[n - 1], 9, HASH_BYTES);
    assert_int_equal(store_put(s, slice_of(table, v.n), &m->table[1], NULL), ERR_OK);
    assert_int_equal(store_layer_tiles(s, m, 1, NULL, p, &why), ERR_NOTFOUND);
    assert_non_null(strstr(why.text, "lacks tile"));
    assert_false(store_holds_layer(s, m, 1));

    table[n - 1] = was;
    assert_int_equal(store_put(s, slice_of(table, v.n - HASH_BYTES), &m->table[1], NULL), ERR_OK);
    assert_int_equal(store_layer_tiles(s, m, 1, NULL, p, &why), ERR_MALFORMED);
    assert_non_null(strstr(why.text, "tile table of layer 1"));
    memset(&m->table[1], 9, HASH_BYTES);
    assert_int_equal(store_layer_tiles(s, m, 1, NULL, p, &why), ERR_NOTFOUND);
    assert_int_equal(store_layer_tiles(s, m, 99, NULL, p, &why), ERR_RANGE);
    assert_true(store_holds_layer(s, m, 2));
    assert_false(store_holds_layer(s, m, 99));

    m->tokenizer[1] = m->tokenizer[0];
    assert_int_equal(store_tokenizer(s, m, &tok, &len, &why), ERR_MALFORMED);
    memset(&m->tokenizer[1], 9, HASH_BYTES);
    assert_int_equal(store_tokenizer(s, m, &tok, &len, &why), ERR_NOTFOUND);
    assert_false(store_holds_layer(s, m, ARCH_ENDS));
    m->n_tokenizer = 0;
    assert_int_equal(store_tokenizer(s, m, &tok, &len, &why), ERR_NOTFOUND);
    free(table);
    free(p);
    store_close(s);
    free(m);
}

/* --- limits --- */

static void a_full_map_grows(void **state)
{
    (void)state;
    static uint8_t p[TILE_BYTES];
    struct store *s;
    struct hash h[24];
    struct slice v;
    struct why why = { "" };

    assert_int_equal(store_open_map(&s, dir, STORE_WRITE, 1 << 20, &why), ERR_OK);
    for (uint32_t i = 0; i < 24; i++) {
        fill_bytes(p, sizeof p, i);
        if (store_put(s, slice_of(p, sizeof p), &h[i], &why)) fail_msg("%s", why.text);
        if (i % 5 == 0 && store_commit(s, &why)) fail_msg("%s", why.text);
    }
    if (store_commit(s, &why)) fail_msg("%s", why.text);
    for (uint32_t i = 0; i < 24; i++) {
        assert_int_equal(store_tile(s, &h[i], &v), ERR_OK);
        struct hash again = hash_of(v);
        assert_memory_equal(again.b, h[i].b, HASH_BYTES);
    }
    /* pointers are out now, so the map must not move: an error, and nothing lost */
    enum err e = ERR_OK;
    for (uint32_t i = 0; i < 100 && !e; i++) {
        struct hash x;
        fill_bytes(p, sizeof p, 1000 + i);
        e = store_put(s, slice_of(p, sizeof p), &x, &why);
    }
    assert_int_equal(e, ERR_FULL);
    assert_int_equal(store_tile(s, &h[0], &v), ERR_OK);
    store_close(s);
    s = open_store(STORE_WRITE);
    for (uint32_t i = 0; i < 24; i++) assert_true(store_has(s, &h[i]));
    store_close(s);
}

static void a_truncated_file_is_refused(void **state)
{
    (void)state;
    static uint8_t p[TILE_BYTES];
    struct store *s = open_store(STORE_WRITE);
    struct hash h;
    struct why why = { "" };
    char path[128];
    struct stat st;

    for (uint32_t i = 0; i < 5; i++) {
        fill_bytes(p, sizeof p, i);
        assert_int_equal(store_put(s, slice_of(p, sizeof p), &h, NULL), ERR_OK);
    }
    assert_int_equal(store_commit(s, NULL), ERR_OK);
    store_close(s);
    snprintf(path, sizeof path, "%s/data.mdb", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(truncate(path, st.st_size / 2), 0);
    assert_int_equal(store_open(&s, dir, STORE_READ, &why), ERR_MALFORMED);
    assert_non_null(strstr(why.text, "cut short"));
    assert_int_equal(store_open(&s, dir, STORE_WRITE, &why), ERR_MALFORMED);
}

/* In a namespace of its own: a tmpfs of 8 MiB, filled until it is full. */
static int fill_disk(void *arg)
{
    static uint8_t p[TILE_BYTES];
    struct why why = { "" };
    struct store *s;
    struct hash h[64];
    struct slice v;
    enum err e = ERR_OK;
    uint32_t n = 0, kept = 0;

    (void)arg;
    if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return 77;
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) return 77;
    if (mkdir(dir, 0700) != 0) return 1;
    if (mount("tmpfs", dir, "tmpfs", 0, "size=8m") != 0) return 77;

    if (store_open(&s, dir, STORE_WRITE, &why)) return 2;
    while (!e && n < 64) {
        fill_bytes(p, sizeof p, n);
        e = store_put(s, slice_of(p, sizeof p), &h[n], &why);
        if (!e) e = store_commit(s, &why);
        if (!e) kept = ++n;
    }
    if (e != ERR_DISKFULL || !strstr(why.text, "the disk is full")) return 3;
    if (kept < 5) return 4;
    for (uint32_t i = 0; i < kept; i++) {
        if (store_tile(s, &h[i], &v)) return 5;
        struct hash again = hash_of(v);
        if (memcmp(again.b, h[i].b, HASH_BYTES)) return 6;
    }
    store_close(s);
    if (store_open(&s, dir, STORE_READ, &why)) return 7;
    for (uint32_t i = 0; i < kept; i++)
        if (!store_has(s, &h[i])) return 8;
    if (store_has(s, &h[kept])) return 9;
    store_close(s);

    /* with room again it goes on */
    if (mount("tmpfs", dir, "tmpfs", MS_REMOUNT, "size=64m") != 0) return 10;
    if (store_open(&s, dir, STORE_WRITE, &why)) return 11;
    if (store_put(s, slice_of(p, sizeof p), &h[0], &why) || store_commit(s, &why)) return 12;
    store_close(s);
    return 0;
}

static void a_full_disk_loses_nothing(void **state)
{
    (void)state;
    int rc = in_child(fill_disk, NULL);
    if (rc == 77) {
        print_message("skipped: mounting a small tmpfs is not allowed here\n");
        skip();
    }
    assert_int_equal(rc, 0);
}

/* --- kill -9 --- */

static void write_for_ever(int fd)
{
    static uint8_t p[65536];
    struct store *s;
    struct hash h;

    if (store_open(&s, dir, STORE_WRITE, NULL)) _exit(1);
    for (uint32_t i = 0;; i++) {
        memset(p, (int)i, sizeof p);
        memcpy(p, &i, sizeof i);
        pid_t me = getpid();
        memcpy(p + 4, &me, sizeof me);
        if (store_put(s, slice_of(p, sizeof p), &h, NULL) || store_commit(s, NULL)) _exit(2);
        if (write(fd, &h, sizeof h) != sizeof h) _exit(3); /* acknowledged: it must stay */
    }
}

static void killed_writers_lose_nothing_committed(void **state)
{
    (void)state;
    enum { KILLS = 20 };
    uint32_t total = 0;

    srand(1);
    for (int k = 0; k < KILLS; k++) {
        struct hash h;
        int fd[2];
        assert_int_equal(pipe(fd), 0);
        pid_t pid = fork();
        if (pid == 0) write_for_ever(fd[1]);
        close(fd[1]);
        struct pollfd first = { .fd = fd[0], .events = POLLIN };
        if (k % 2 == 0) assert_int_equal(poll(&first, 1, 20000), 1); /* the others: at any moment */
        usleep((useconds_t)(5000 + rand() % 60000));
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);

        struct store *s = open_store(STORE_WRITE); /* the dead one's lock is gone */
        while (read(fd[0], &h, sizeof h) == sizeof h) {
            struct slice v;
            assert_int_equal(store_tile(s, &h, &v), ERR_OK);
            struct hash again = hash_of(v);
            assert_memory_equal(again.b, h.b, HASH_BYTES);
            total++;
        }
        store_close(s);
        close(fd[0]);
    }
    assert_true(total >= KILLS / 2);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, fresh, fresh)
    const struct CMUnitTest tests[] = {
        TEST(put_get_reopen),
        TEST(notes_follow_their_tiles),
        TEST(no_store_is_said),
        TEST(a_second_writer_is_refused),
        TEST(readers_while_writing),
        TEST(models_and_names),
        TEST(names_that_are_none),
        TEST(layers_as_tiles),
        TEST(corrupt_layers_are_refused),
        TEST(a_full_map_grows),
        TEST(a_truncated_file_is_refused),
        TEST(a_full_disk_loses_nothing),
        TEST(killed_writers_lose_nothing_committed),
    };
    snprintf(dir, sizeof dir, "/tmp/test_store-%ld", (long)getpid());
    return cmocka_run_group_tests(tests, NULL, NULL);
}
