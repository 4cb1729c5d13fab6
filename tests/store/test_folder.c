/* A model as a folder: written, read again, cut short, garbled, interrupted at every tile. */
#include "store/care.h"
#include "store/folder.h"

#include "tests/store/small.h"

#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char root[64], from[96], to[96], folder[96];
static struct manifest m;
static struct store_name name;

static void clear(const char *dir)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
}

static struct store *open_store(const char *dir, enum store_mode mode)
{
    struct store *s;
    struct why why = { "" };
    if (store_open(&s, dir, mode, &why)) fail_msg("%s", why.text);
    return s;
}

/* --- a folder to read --- */

static void export(void)
{
    struct store *s = open_store(from, STORE_WRITE);
    struct folder_writer w;
    struct why why = { "" };
    char text[FOLDER_NAME_MAX];
    uint8_t *body, *tokenizer;
    size_t n, tokenizer_n;

    assert_int_equal(put_small(s, &m), ERR_OK);
    assert_int_equal(manifest_encode(&m, &body, &n), ERR_OK);
    name = (struct store_name){ .name = "small:q80", .id = hash_of(slice_of(body, n)) };
    memset(name.publisher, 5, sizeof name.publisher);
    memset(name.sig, 6, sizeof name.sig);
    assert_int_equal(store_put_model(s, slice_of(body, n), &name, &why), ERR_OK);

    if (folder_create(&w, folder, &why)) fail_msg("%s", why.text);
    assert_int_equal(folder_put(&w, FOLDER_MANIFEST, slice_of(body, n), true, &why), ERR_OK);
    size_t len = folder_name_write(text, &name);
    assert_int_equal(folder_put(&w, FOLDER_NAME, slice_of(text, len), true, &why), ERR_OK);
    for (uint32_t l = 0; l < arch_all_layers(&m.arch); l++)
        if (folder_put_layer(&w, s, &m, l, &why)) fail_msg("%s", why.text);
    if (folder_put_layer(&w, s, &m, ARCH_ENDS, &why)) fail_msg("%s", why.text);
    assert_int_equal(store_tokenizer(s, &m, &tokenizer, &tokenizer_n, &why), ERR_OK);
    assert_int_equal(folder_put(&w, FOLDER_TOKENIZER, slice_of(tokenizer, tokenizer_n), true, &why),
                     ERR_OK);
    assert_int_equal(folder_finish(&w, &why), ERR_OK);
    folder_writer_fini(&w);
    free(tokenizer);
    free(body);
    store_close(s);
}

static int setup(void **state)
{
    (void)state;
    export();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    clear(root);
    return 0;
}

/* Before each test: nothing imported. */
static int fresh(void **state)
{
    (void)state;
    clear(to);
    return 0;
}

/* --- a source that counts, breaks and lies --- */

struct source {
    struct folder_source source; /* first */
    struct folder_dir dir;
    uint64_t given, tiles_given; /* bytes; of those, past the tables */
    uint64_t breaks_after;       /* bytes; then it fails */
    const char *lies_in;         /* a file of which byte lies_at is changed; NULL */
    uint64_t lies_at;
    pid_t kills; /* killed instead of failing; 0 */
    /* of the read that is passed on */
    folder_sink sink;
    void *arg;
    const char *file;
    uint64_t at;
};

static enum err pass(void *arg, struct slice bytes)
{
    struct source *s = arg;
    uint8_t copy[4096];

    while (bytes.n > 0) {
        size_t n = bytes.n < sizeof copy ? bytes.n : sizeof copy;
        if (s->given + n > s->breaks_after) n = (size_t)(s->breaks_after - s->given);
        if (n == 0) {
            if (s->kills) kill(getpid(), SIGKILL);
            return ERR_CLOSED;
        }
        memcpy(copy, bytes.p, n);
        if (s->lies_in && strcmp(s->file, s->lies_in) == 0 && s->lies_at >= s->at &&
            s->lies_at < s->at + n)
            copy[s->lies_at - s->at] ^= 4;
        enum err e = s->sink(s->arg, slice_of(copy, n));
        if (e) return e;
        s->at += n;
        s->given += n;
        bytes = slice_of(bytes.p + n, bytes.n - n);
    }
    return ERR_OK;
}

static enum err read_(struct folder_source *f, const char *file, uint64_t at, uint64_t n,
                      folder_sink sink, void *arg, struct why *why)
{
    struct source *s = (struct source *)f;

    s->sink = sink;
    s->arg = arg;
    s->file = file;
    s->at = at;
    if (at > 0 || strcmp(file, FOLDER_TOKENIZER) == 0) s->tiles_given += n;
    return s->dir.source.read(&s->dir.source, file, at, n, pass, s, why);
}

static enum err read_small(struct folder_source *f, const char *file, size_t max, uint8_t **out,
                           size_t *n, struct why *why)
{
    struct source *s = (struct source *)f;
    return s->dir.source.read_small(&s->dir.source, file, max, out, n, why);
}

static struct source source_of_folder(void)
{
    struct source s = { .source = { read_, read_small }, .breaks_after = UINT64_MAX };
    folder_dir_init(&s.dir, folder);
    return s;
}

/* All of an import; sizes as it found them. */
static enum err import_from(struct store *s, struct source *source, struct import_options o,
                            struct import_sizes *sizes, struct why *why)
{
    struct import *im;
    enum err e = import_open(&im, s, &source->source, &o, why);

    if (e) return e;
    e = import_plan(im, sizes, why);
    if (!e) e = import_run(im, why);
    import_close(im);
    return e;
}

static enum err import(struct import_options o, struct why *why)
{
    struct source source = source_of_folder();
    struct import_sizes sizes;
    struct store *s = open_store(to, STORE_WRITE);
    enum err e = import_from(s, &source, o, &sizes, why);
    store_close(s);
    return e;
}

static void check_whole(void)
{
    struct store *s = open_store(to, STORE_READ);
    struct manifest *r = calloc(1, sizeof *r);
    struct store_check c = { 0 };
    struct store_name n;

    assert_int_equal(store_find_model(s, "small:q80", &n, r, NULL), ERR_OK);
    assert_memory_equal(&n, &name, sizeof n);
    for (uint32_t l = 0; l < arch_all_layers(&m.arch); l++) assert_true(store_holds_layer(s, r, l));
    assert_true(store_holds_layer(s, r, ARCH_ENDS));
    assert_int_equal(store_check(s, &c, NULL), ERR_OK);
    assert_int_equal(c.bad + c.missing + c.spare, 0);
    store_close(s);
    free(r);
}

/* --- tests --- */

static void there_and_back(void **state)
{
    (void)state;
    struct why why = { "" };
    char command[256];

    if (import((struct import_options){ 0 }, &why)) fail_msg("%s", why.text);
    check_whole();
    snprintf(command, sizeof command,
             "cd %s && b2sum -l 256 --quiet -c checksums.txt && ! ls *.part 2>&-", folder);
    assert_int_equal(system(command), 0);
}

static void some_layers(void **state)
{
    (void)state;
    struct why why = { "" };
    struct import_options o = { .lo = 1, .hi = 3, .no_ends = true };

    assert_int_equal(import((struct import_options){ .lo = 2, .hi = 5 }, &why), ERR_USAGE);
    assert_int_equal(import(o, &why), ERR_OK);
    struct store *s = open_store(to, STORE_READ);
    assert_false(store_holds_layer(s, &m, 0));
    assert_true(store_holds_layer(s, &m, 1));
    assert_true(store_holds_layer(s, &m, 2));
    assert_false(store_holds_layer(s, &m, 3));
    assert_false(store_holds_layer(s, &m, ARCH_ENDS));
    store_close(s);
    o = (struct import_options){ 0 }; /* the rest */
    assert_int_equal(import(o, &why), ERR_OK);
    check_whole();
}

/* A connection that breaks anywhere: what arrived is not asked for again. */
static void nothing_is_fetched_twice(void **state)
{
    (void)state;
    struct why why = { "" };

    for (uint64_t at = 100; at < 1500000; at += at < 140000 ? 3777 : 130001) {
        struct source source = source_of_folder();
        struct import_sizes first, second;
        fresh(NULL);
        struct store *s = open_store(to, STORE_WRITE);
        source.breaks_after = at;
        enum err e = import_from(s, &source, (struct import_options){ 0 }, &first, &why);
        store_close(s);
        if (!e) break;
        assert_int_equal(e, ERR_CLOSED);

        source = source_of_folder();
        s = open_store(to, STORE_WRITE);
        struct store_name n;
        assert_int_equal(store_name_entry(s, "small:q80", &n), ERR_NOTFOUND);
        e = import_from(s, &source, (struct import_options){ 0 }, &second, &why);
        store_close(s);
        if (e) fail_msg("%s", why.text);
        assert_int_equal(source.tiles_given, second.bytes - second.bytes_here);
        check_whole();
    }
}

static void killed_imports_go_on(void **state)
{
    (void)state;
    struct why why = { "" };
    uint64_t held = 0;

    for (int k = 0; k < 25; k++) {
        pid_t pid = fork();
        if (pid == 0) {
            struct source source = source_of_folder();
            struct import_sizes sizes;
            struct store *s;
            source.breaks_after = 5000 + (uint64_t)k * 9000;
            source.kills = 1;
            if (store_open(&s, to, STORE_WRITE, NULL)) _exit(1);
            (void)!import_from(s, &source, (struct import_options){ 0 }, &sizes, NULL);
            _exit(0);
        }
        waitpid(pid, NULL, 0);
        struct store *s = open_store(to, STORE_READ);
        struct store_check c = { 0 };
        assert_int_equal(store_check(s, &c, NULL), ERR_OK);
        assert_int_equal(c.bad, 0);
        assert_true(c.tiles >= held);
        held = c.tiles;
        store_close(s);
    }
    if (import((struct import_options){ 0 }, &why)) fail_msg("%s", why.text);
    check_whole();
}

static void a_small_map_grows(void **state)
{
    (void)state;
    struct source source = source_of_folder();
    struct import_sizes sizes;
    struct why why = { "" };
    struct store *s;

    assert_int_equal(store_open_map(&s, to, STORE_WRITE, 256 << 10, &why), ERR_OK);
    if (import_from(s, &source, (struct import_options){ 0 }, &sizes, &why))
        fail_msg("%s", why.text);
    store_close(s);
    check_whole();
}

/* --- disks of every size --- */

/* In a namespace of its own: 0, or where it went wrong; 77: not allowed here. */
static int fill_disks(void)
{
    struct why why = { "" };
    char options[32];
    int full = 0;

    if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return 77;
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) return 77;
    if (mkdir(to, 0700) != 0) return 1;
    for (int kib = 32; kib <= 3072; kib += 64) {
        snprintf(options, sizeof options, "size=%dk", kib);
        if (mount("tmpfs", to, "tmpfs", 0, options) != 0) return 77;
        struct source source = source_of_folder();
        struct import_options o = { 0 };
        struct import_sizes sizes = { 0 };
        struct import *im = NULL;
        struct store_check c = { 0 };
        struct store *s = NULL;
        struct store_name n;

        enum err e = store_open(&s, to, STORE_WRITE, &why);
        if (!e) e = import_open(&im, s, &source.source, &o, &why);
        /* the plan sees that it will not fit; go on all the same */
        if (im) e = import_plan(im, &sizes, &why);
        if (im && (!e || (e == ERR_DISKFULL && sizes.bytes))) e = import_run(im, &why);
        if (e && e != ERR_DISKFULL) return 2;
        if (e && !why.text[0]) return 3;
        full += e == ERR_DISKFULL;
        if (s && store_check(s, &c, NULL)) return 4;
        if (s && (c.bad || (store_name_entry(s, "small:q80", &n) == ERR_OK) != (e == ERR_OK)))
            return 5;
        import_close(im);
        store_close(s);
        if (s) { /* what was stored is there again */
            struct store_check again = { 0 };
            if (store_open(&s, to, STORE_READ, &why)) return e ? 6 : 7;
            if (store_check(s, &again, NULL) || again.bad || again.tiles != c.tiles) return 8;
            store_close(s);
        }
        if (umount(to) != 0) return 9;
    }
    return full > 15 ? 0 : 10;
}

static void disks_of_every_size(void **state)
{
    (void)state;
    int status;
    pid_t pid = fork();

    if (pid == 0) _exit(fill_disks());
    waitpid(pid, &status, 0);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        print_message("skipped: mounting a small tmpfs is not allowed here\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* One wrong bit anywhere: a sentence that names the place, and nothing of it in the store. */
static void lies_are_found(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        uint64_t at;
        const char *says;
    } lies[] = {
        { "layer-000.tiles", 3, "layer-000.tiles: its tile table is not the manifest's" },
        { "layer-002.tiles", 2000, "layer-002.tiles: layer 2, " },
        { "ends.tiles", 9000, "has other bytes than the model" },
        { "tokenizer.json", TILE_BYTES + 2, "tokenizer.json, piece 1 has other bytes" },
    };

    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        struct source source = source_of_folder();
        struct import_sizes sizes;
        struct why why = { "" };
        struct store_check c = { 0 };
        struct store_name n;
        fresh(NULL);
        source.lies_in = lies[i].file;
        source.lies_at = lies[i].at;
        struct store *s = open_store(to, STORE_WRITE);
        assert_int_equal(import_from(s, &source, (struct import_options){ 0 }, &sizes, &why),
                         ERR_MALFORMED);
        if (!strstr(why.text, lies[i].says)) fail_msg("'%s', not '%s'", why.text, lies[i].says);
        assert_int_equal(store_name_entry(s, "small:q80", &n), ERR_NOTFOUND);
        assert_int_equal(store_check(s, &c, NULL), ERR_OK);
        assert_int_equal(c.bad, 0);
        store_close(s);
    }
}

/* A tile whose bytes are what the manifest says and still no numbers. */
static void numbers_must_be_finite(void **state)
{
    (void)state;
    struct store *s = open_store(to, STORE_WRITE);
    struct store_check c = { .repair = true };
    struct manifest *bad = calloc(1, sizeof *bad);
    struct slice table;
    struct store_name n = { .name = "bad" };
    uint8_t *body, copy[8192], tile[4096];
    size_t body_n;
    struct why why = { "" };

    assert_int_equal(put_small(s, bad), ERR_OK);
    assert_int_equal(store_tile(s, &bad->table[0], &table), ERR_OK);
    assert_true(table.n <= sizeof copy);
    memcpy(copy, table.p, table.n);
    struct tile_place p = tile_before_first(&bad->arch, 0);
    assert_true(tile_next(&p) && p.spec.type == WT_F32 && p.bytes <= sizeof tile);
    memset(tile, 0xff, p.bytes); /* not numbers */
    struct hash h;
    assert_int_equal(store_put(s, slice_of(tile, p.bytes), &h, NULL), ERR_OK);
    memcpy(copy, h.b, HASH_BYTES);
    assert_int_equal(store_put(s, slice_of(copy, table.n), &bad->table[0], NULL), ERR_OK);
    assert_int_equal(manifest_encode(bad, &body, &body_n), ERR_OK);
    n.id = hash_of(slice_of(body, body_n));
    assert_int_equal(store_put_model(s, slice_of(body, body_n), &n, NULL), ERR_OK);
    store_close(s);

    /* its folder */
    char dir[128];
    struct folder_writer w;
    char text[FOLDER_NAME_MAX];
    snprintf(dir, sizeof dir, "%s/bad", root);
    s = open_store(to, STORE_WRITE);
    assert_int_equal(folder_create(&w, dir, &why), ERR_OK);
    assert_int_equal(folder_put(&w, FOLDER_MANIFEST, slice_of(body, body_n), true, &why), ERR_OK);
    size_t len = folder_name_write(text, &n);
    assert_int_equal(folder_put(&w, FOLDER_NAME, slice_of(text, len), true, &why), ERR_OK);
    assert_int_equal(folder_put_layer(&w, s, bad, 0, &why), ERR_OK);
    folder_writer_fini(&w);
    assert_int_equal(store_check(s, &c, NULL), ERR_OK); /* verify finds it too, and takes it out */
    assert_int_equal(c.bad, 1);
    assert_int_equal(c.removed, 1);
    store_close(s);

    struct source source = source_of_folder();
    struct import_sizes sizes;
    struct import_options o = { .lo = 0, .hi = 1, .no_ends = true };
    folder_dir_init(&source.dir, dir);
    s = open_store(to, STORE_WRITE);
    assert_int_equal(import_from(s, &source, o, &sizes, &why), ERR_MALFORMED);
    assert_non_null(strstr(why.text, "attention norm, tile 0 holds a number that is not finite"));
    assert_false(store_has(s, &h));
    store_close(s);
    free(bad);
    free(body);
}

static void put_file(const char *file, const void *p, size_t n)
{
    char path[128];
    snprintf(path, sizeof path, "%s/broken/%s", root, file);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    fclose(f);
}

/* The small files: each truncation is a sentence. */
static void broken_small_files(void **state)
{
    (void)state;
    char dir[96], text[FOLDER_NAME_MAX], command[256];
    struct why why;
    uint8_t *body;
    size_t n;
    struct import *im;
    struct import_options o = { 0 };
    struct folder_dir d;

    snprintf(dir, sizeof dir, "%s/broken", root);
    snprintf(command, sizeof command, "cp -r %s %s", folder, dir);
    assert_int_equal(system(command), 0);
    folder_dir_init(&d, dir);
    struct store *s = open_store(to, STORE_WRITE);
    size_t len = folder_name_write(text, &name);
    for (size_t cut = 0; cut < len; cut++) {
        put_file(FOLDER_NAME, text, cut);
        why.text[0] = 0;
        assert_int_equal(import_open(&im, s, &d.source, &o, &why), ERR_MALFORMED);
        assert_non_null(strstr(why.text, "name.txt"));
    }
    struct store_name other = name;
    other.id.b[0] ^= 1;
    put_file(FOLDER_NAME, text, folder_name_write(text, &other));
    assert_int_equal(import_open(&im, s, &d.source, &o, &why), ERR_AUTH);
    put_file(FOLDER_NAME, text, folder_name_write(text, &name));
    assert_int_equal(import_open(&im, s, &d.source, &o, &why), ERR_OK);
    import_close(im);

    assert_int_equal(manifest_encode(&m, &body, &n), ERR_OK);
    for (size_t cut = 0; cut < n; cut += 1 + cut / 7) {
        put_file(FOLDER_MANIFEST, body, cut);
        why.text[0] = 0;
        assert_int_not_equal(import_open(&im, s, &d.source, &o, &why), ERR_OK);
        assert_true(why.text[0] != 0);
    }
    uint8_t *big = calloc(1, MANIFEST_BYTES_MAX + 1);
    put_file(FOLDER_MANIFEST, big, MANIFEST_BYTES_MAX + 1);
    assert_int_equal(import_open(&im, s, &d.source, &o, &why), ERR_RANGE);
    free(big);
    free(body);
    store_close(s);
}

static void cut_and_missing_files(void **state)
{
    (void)state;
    static const char *const files[] = { "layer-000.tiles", "layer-003.tiles", "ends.tiles",
                                         "tokenizer.json" };
    char dir[96], path[160], command[512];
    struct stat st;

    snprintf(dir, sizeof dir, "%s/cut", root);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        for (int how = 0; how < 4; how++) {
            struct source source = source_of_folder();
            struct import_sizes sizes;
            struct why why = { "" };
            snprintf(command, sizeof command, "rm -rf %s && cp -r %s %s", dir, folder, dir);
            assert_int_equal(system(command), 0);
            snprintf(path, sizeof path, "%s/%s", dir, files[i]);
            assert_int_equal(stat(path, &st), 0);
            if (how == 0) assert_int_equal(truncate(path, st.st_size - 1), 0);
            if (how == 1) assert_int_equal(truncate(path, 0), 0);
            if (how >= 2) assert_int_equal(unlink(path), 0);
            if (how == 3) assert_int_equal(mkfifo(path, 0600), 0); /* must not hang */
            fresh(NULL);
            folder_dir_init(&source.dir, dir);
            struct store *s = open_store(to, STORE_WRITE);
            enum err e = import_from(s, &source, (struct import_options){ 0 }, &sizes, &why);
            assert_int_equal(e, how < 2 ? ERR_MALFORMED : how == 2 ? ERR_NOTFOUND : ERR_IO);
            if (!strstr(why.text, files[i])) fail_msg("'%s' does not name %s", why.text, files[i]);
            if (how < 2) assert_non_null(strstr(why.text, "cut short"));
            store_close(s);
        }
    }
}

static void names_as_paths(void **state)
{
    (void)state;
    static const char *const bad[] = { "a/../b", "a/..",      "a:..:b", "a//b",
                                       "a:",     "a/.hidden", "a/./b" };
    char path[FILE_PATH_MAX];
    struct why why = { "" };

    assert_int_equal(folder_path(path, "/r", "glm-4.5-air:q40", &why), ERR_OK);
    assert_string_equal(path, "/r/glm-4.5-air/q40");
    assert_int_equal(folder_path(path, "r", "org/x:y", &why), ERR_OK);
    assert_string_equal(path, "r/org/x/y");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(folder_path(path, "/r", bad[i], &why), ERR_USAGE);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup(f, fresh)
    const struct CMUnitTest tests[] = {
        TEST(there_and_back),           TEST(some_layers),
        TEST(nothing_is_fetched_twice), TEST(killed_imports_go_on),
        TEST(a_small_map_grows),        TEST(disks_of_every_size),
        TEST(lies_are_found),           TEST(numbers_must_be_finite),
        TEST(broken_small_files),       TEST(cut_and_missing_files),
        TEST(names_as_paths),
    };
    snprintf(root, sizeof root, "/tmp/test_folder-%ld", (long)getpid());
    snprintf(from, sizeof from, "%s/from", root);
    snprintf(to, sizeof to, "%s/to", root);
    snprintf(folder, sizeof folder, "%s/models/small/q80", root);
    if (mkdir(root, 0700)) return 2;
    return cmocka_run_group_tests(tests, setup, teardown);
}
