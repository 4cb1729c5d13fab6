/* What an owner does with a store: pins, checking, removing; and a file that somebody has garbled.
 */
#include "store/care.h"

#include "tests/store/small.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64], data[96];

static int fresh(void **state)
{
    char command[96];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static struct store *open_store(enum store_mode mode)
{
    struct store *s;
    struct why why = { "" };
    if (store_open(&s, dir, mode, &why)) fail_msg("%s", why.text);
    return s;
}

/* A small model; with a context of 99 its layer 2 is its layer 1 once more.  Its id. */
static struct hash put_model(struct store *s, struct manifest *m, const char *name,
                             uint32_t context)
{
    struct store_name n = { 0 };
    uint8_t *body;
    size_t len;
    struct why why = { "" };

    assert_int_equal(put_small(s, m), ERR_OK);
    m->arch.context = context;
    if (context == 99) m->table[2] = m->table[1];
    assert_int_equal(manifest_encode(m, &body, &len), ERR_OK);
    n.id = hash_of(slice_of(body, len));
    if (name) snprintf(n.name, sizeof n.name, "%s", name);
    if (store_put_model(s, slice_of(body, len), name ? &n : NULL, &why)) fail_msg("%s", why.text);
    free(body);
    return n.id;
}

static uint64_t count_tiles(struct store *s)
{
    struct store_usage u;
    assert_int_equal(store_usage(s, &u, NULL), ERR_OK);
    return u.tiles;
}

static uint64_t file_bytes(void)
{
    struct stat st;
    assert_int_equal(stat(data, &st), 0);
    return (uint64_t)st.st_size;
}

/* --- pins --- */

static void pins_stay(void **state)
{
    (void)state;
    struct manifest *m = calloc(1, sizeof *m);
    struct store *s = open_store(STORE_WRITE);
    struct store_pin pin, again;
    struct store_removed removed;
    struct why why = { "" };
    struct hash id = put_model(s, m, "atlas:q80", 128);

    assert_int_equal(store_pin(s, &id, &pin), ERR_OK);
    assert_true(store_pin_empty(&pin));
    pin.layer[0] = pin.layer[8] = pin.layer[PIN_LAYERS_MAX - 1] = true;
    assert_int_equal(store_put_pin(s, &id, &pin, &why), ERR_OK);
    store_close(s);

    s = open_store(STORE_READ);
    assert_int_equal(store_pin(s, &id, &again), ERR_OK);
    assert_memory_equal(&pin, &again, sizeof pin);
    assert_int_equal(store_put_pin(s, &id, &pin, &why), ERR_DENIED);
    store_close(s);

    s = open_store(STORE_WRITE);
    assert_int_equal(store_remove(s, &id, NULL, NULL, &removed, &why), ERR_BUSY);
    assert_string_equal(why.text, "atlas:q80 is pinned; unpin it first");
    again = (struct store_pin){ .ends = true };
    assert_int_equal(store_put_pin(s, &id, &again, &why), ERR_OK);
    assert_int_equal(store_pin(s, &id, &pin), ERR_OK);
    assert_memory_equal(&pin, &again, sizeof pin);
    again.ends = false;
    assert_int_equal(store_put_pin(s, &id, &again, &why), ERR_OK);
    assert_int_equal(store_put_pin(s, &id, &again, &why), ERR_OK); /* nothing to take out */
    assert_int_equal(store_remove(s, &id, NULL, NULL, &removed, &why), ERR_OK);
    store_close(s);
    free(m);
}

/* --- removing --- */

static void shared_tiles_stay(void **state)
{
    (void)state;
    struct manifest *a = calloc(1, sizeof *a), *b = calloc(1, sizeof *b), *m = calloc(1, sizeof *m);
    struct store *s = open_store(STORE_WRITE);
    struct store_removed removed;
    struct store_name n;
    struct why why = { "" };
    struct hash ida = put_model(s, a, "a", 128);
    uint64_t alone = count_tiles(s);
    struct hash idb = put_model(s, b, "b", 99);
    uint64_t both = count_tiles(s);

    assert_int_equal(both, alone); /* b has nothing of its own but a manifest */
    n = (struct store_name){ .name = "second", .id = ida };
    struct slice body;
    assert_int_equal(store_manifest(s, &ida, m, &body, &why), ERR_OK);
    uint8_t *copy = malloc(body.n);
    memcpy(copy, body.p, body.n);
    assert_int_equal(store_put_model(s, slice_of(copy, body.n), &n, &why), ERR_OK);
    free(copy);

    /* one name of two */
    assert_int_equal(store_remove_name(s, "none", &why), ERR_NOTFOUND);
    assert_int_equal(store_remove_name(s, "a", &why), ERR_OK);
    assert_int_equal(store_find_model(s, "second", &n, m, &why), ERR_OK);
    assert_int_equal(count_tiles(s), both);

    /* the model: b keeps all of its own */
    if (store_remove(s, &ida, NULL, NULL, &removed, &why)) fail_msg("%s", why.text);
    assert_true(removed.tiles > 0);
    assert_int_equal(removed.tiles, both - count_tiles(s));
    assert_true(removed.shared > 0);
    assert_int_equal(store_name_entry(s, "second", &n), ERR_NOTFOUND);
    assert_int_equal(store_manifest(s, &ida, m, NULL, &why), ERR_NOTFOUND);
    for (uint32_t l = 0; l < 4; l++) assert_true(store_holds_layer(s, b, l));
    assert_true(store_holds_layer(s, b, ARCH_ENDS));
    assert_false(store_holds_layer(s, a, 2));
    assert_int_equal(store_remove(s, &ida, NULL, NULL, &removed, &why), ERR_NOTFOUND);

    /* nothing is left of the last one */
    assert_int_equal(store_remove(s, &idb, NULL, NULL, &removed, &why), ERR_OK);
    assert_int_equal(removed.shared, 0);
    assert_int_equal(count_tiles(s), 0);
    store_close(s);
    free(a);
    free(b);
    free(m);
}

static void what_no_model_uses(void **state)
{
    (void)state;
    struct manifest *m = calloc(1, sizeof *m);
    struct store *s = open_store(STORE_WRITE);
    struct store_removed removed;
    struct hash h, id = put_model(s, m, "a", 128);
    uint64_t before = count_tiles(s);

    for (uint32_t i = 0; i < 600; i++) /* more than a batch */
        assert_int_equal(store_put(s, slice_of(&i, sizeof i), &h, NULL), ERR_OK);
    assert_int_equal(store_remove_spare(s, &removed, NULL), ERR_OK);
    assert_int_equal(removed.tiles, 600);
    assert_int_equal(removed.bytes, 2400);
    assert_int_equal(count_tiles(s), before);
    for (uint32_t l = 0; l < 4; l++) assert_true(store_holds_layer(s, m, l));
    assert_true(store_holds_layer(s, m, ARCH_ENDS));
    assert_int_equal(store_manifest(s, &id, m, NULL, NULL), ERR_OK);
    store_close(s);
    free(m);
}

static void pointers_in_use(void **state)
{
    (void)state;
    struct manifest *m = calloc(1, sizeof *m);
    struct store *s = open_store(STORE_WRITE);
    struct store_removed removed;
    struct slice v;
    struct why why = { "" };
    struct hash id = put_model(s, m, "a", 128);

    assert_int_equal(store_tile(s, &m->tokenizer[0], &v), ERR_OK);
    assert_int_equal(store_remove(s, &id, NULL, NULL, &removed, &why), ERR_BUSY);
    assert_non_null(strstr(why.text, "in use"));
    assert_int_equal(store_remove_spare(s, &removed, &why), ERR_BUSY);
    store_close(s);
    s = open_store(STORE_READ);
    assert_int_equal(store_remove(s, &id, NULL, NULL, &removed, &why), ERR_DENIED);
    store_close(s);
    free(m);
}

/* Of a mebibyte; SWARM_TILES=N for more, SWARM_TMP=DIR for another disk. */
static uint32_t n_tiles(void)
{
    const char *n = getenv("SWARM_TILES");
    return n ? (uint32_t)strtoul(n, NULL, 10) : 48;
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Tiles of lengths as models have them; the longest that one took, with the commit it caused. */
static double put_many(struct store *s, uint32_t seed)
{
    static const size_t lengths[] = {
        1032192, 1039104, TILE_BYTES, 1032192, 500000, 16384, 1039104
    };
    static uint8_t p[TILE_BYTES];
    double longest = 0;
    struct hash h;

    fill_bytes(p, sizeof p, 3);
    for (uint32_t i = 0; i < n_tiles(); i++) {
        memcpy(p, &seed, sizeof seed);
        memcpy(p + sizeof seed, &i, sizeof i);
        double t = now_s();
        assert_int_equal(store_put(s, slice_of(p, lengths[i % 7]), &h, NULL), ERR_OK);
        if (now_s() - t > longest) longest = now_s() - t;
    }
    assert_int_equal(store_commit(s, NULL), ERR_OK);
    return longest;
}

static void room_is_used_again(void **state)
{
    (void)state;
    enum { BATCH_SLACK = 20 << 20 }; /* what a removal frees, its next transaction may not use */
    struct store *s = open_store(STORE_WRITE);
    struct store_removed removed;
    struct store_usage u;
    double longest = 0;

    put_many(s, 0);
    uint64_t peak = file_bytes();
    for (uint32_t round = 1; round <= 6; round++) {
        assert_int_equal(store_remove_spare(s, &removed, NULL), ERR_OK);
        assert_int_equal(removed.tiles, n_tiles());
        assert_int_equal(store_usage(s, &u, NULL), ERR_OK);
        assert_true(u.free_bytes > peak * 9 / 10);
        double t = put_many(s, round);
        if (t > longest) longest = t;
    }
    print_message("%u tiles seven times: %llu MiB at first, %llu at last; longest put %.0f ms\n",
                  n_tiles(), (unsigned long long)peak >> 20, (unsigned long long)file_bytes() >> 20,
                  longest * 1000);
    assert_true(file_bytes() <= peak + peak / 10 + BATCH_SLACK);
    store_close(s);
}

/* A reader of a model that is removed, and whose room somebody wants to write to. */
static int read_on(int go, int ready)
{
    struct manifest *m = calloc(1, sizeof *m);
    struct store_name n;
    struct store *s;
    uint8_t *tok;
    size_t len;
    char c;
    struct hash h;

    if (!m || store_open(&s, dir, STORE_READ, NULL)) return 1;
    if (store_find_model(s, "a", &n, m, NULL)) return 2;
    uint32_t tiles = manifest_n_tiles(&m->arch, 1);
    const uint8_t **p = calloc(tiles, sizeof *p);
    struct tile_place at = tile_before_first(&m->arch, 1);
    struct slice table;
    if (!p || store_layer_tiles(s, m, 1, NULL, p, NULL)) return 3;
    if (write(ready, "r", 1) != 1 || read(go, &c, 1) != 1) return 4;
    if (store_tile(s, &m->table[1], &table)) return 5; /* removed, but not from this snapshot */
    while (tile_next(&at)) {
        h = hash_of(slice_of(p[at.at], at.bytes));
        struct hash want = table_hash(table, at.at);
        if (!hash_equal(&h, &want)) return 6;
    }
    if (store_tokenizer(s, m, &tok, &len, NULL)) return 7;
    h = hash_of(slice_of(tok, TILE_BYTES));
    return hash_equal(&h, &m->tokenizer[0]) ? 0 : 8;
}

static void readers_keep_what_they_opened(void **state)
{
    (void)state;
    struct manifest *m = calloc(1, sizeof *m);
    struct store *s = open_store(STORE_WRITE);
    struct store_removed removed;
    struct store_usage u;
    struct hash id = put_model(s, m, "a", 128);
    int go[2], ready[2], status;
    char c;

    assert_int_equal(pipe(go) | pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) _exit(read_on(go[0], ready[1]));
    assert_int_equal(read(ready[0], &c, 1), 1);
    assert_int_equal(store_usage(s, &u, NULL), ERR_OK);
    assert_int_equal(u.readers, 1);
    assert_int_equal(store_remove(s, &id, NULL, NULL, &removed, NULL), ERR_OK);
    for (uint32_t i = 0; i < 3; i++) put_many(s, i); /* as much as could take its pages */
    assert_int_equal(write(go[1], "g", 1), 1);
    waitpid(pid, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    store_close(s);
    s = open_store(STORE_READ); /* clears the mark of the reader that did not close */
    assert_int_equal(store_usage(s, &u, NULL), ERR_OK);
    assert_int_equal(u.readers, 0);
    store_close(s);
    free(m);
}

static void kill_after(void *arg, uint64_t done, uint64_t total)
{
    (void)total;
    if (done >= *(uint64_t *)arg) raise(SIGKILL);
}

/* Killed anywhere: whole, or without a name and removable by its id. */
static void a_killed_removal_goes_on(void **state)
{
    (void)state;
    struct manifest *m = calloc(1, sizeof *m), *found = calloc(1, sizeof *found);
    struct store_removed removed;
    struct store_name n;
    struct why why = { "" };
    uint64_t step = 9000;

    for (uint64_t at = 0; at < 20 * step; at += step) {
        struct store *s = open_store(STORE_WRITE);
        struct hash id = put_model(s, m, "a", 128);
        store_close(s);
        pid_t pid = fork();
        if (pid == 0) {
            struct store_removed r;
            s = open_store(STORE_WRITE);
            _exit(store_remove(s, &id, kill_after, &at, &r, NULL) ? 1 : 0);
        }
        int status;
        waitpid(pid, &status, 0);
        s = open_store(STORE_WRITE);
        assert_int_equal(store_name_entry(s, "a", &n), ERR_NOTFOUND);
        enum err e = store_manifest(s, &id, found, NULL, &why);
        if (WIFSIGNALED(status)) assert_int_equal(e, ERR_OK);
        if (!e) assert_int_equal(store_remove(s, &id, NULL, NULL, &removed, &why), ERR_OK);
        assert_int_equal(count_tiles(s), 0);
        store_close(s);
    }
    free(m);
    free(found);
}

/* --- checking --- */

struct faults {
    uint32_t n;
    char text[4][256];
};

static void on_fault(void *arg, const char *model, const char *what, const char *how)
{
    struct faults *f = arg;
    if (f->n < 4) snprintf(f->text[f->n], 256, "%s: %s: %s", model, what, how);
    f->n++;
}

/* Change a byte of a tile on the disk, so far from its first one. */
static void damage_at(const struct hash *h, long offset)
{
    struct store *s = open_store(STORE_READ);
    struct slice v;
    uint8_t head[64], *file;

    assert_int_equal(store_tile(s, h, &v), ERR_OK);
    size_t n = v.n < sizeof head ? v.n : sizeof head;
    memcpy(head, v.p, n);
    store_close(s);
    uint64_t size = file_bytes();
    int fd = open(data, O_RDWR);
    file = malloc(size);
    assert_int_equal(pread(fd, file, size, 0), size);
    uint8_t *at = memmem(file, size, head, n);
    assert_non_null(at);
    uint8_t changed = at[offset] ^ 1;
    assert_int_equal(pwrite(fd, &changed, 1, at + offset - file), 1);
    close(fd);
    free(file);
}

static void damage(const struct hash *h)
{
    damage_at(h, 0);
}

static void bad_and_missing_tiles_are_named(void **state)
{
    (void)state;
    struct manifest *m = calloc(1, sizeof *m);
    struct store *s = open_store(STORE_WRITE);
    struct faults f = { 0 };
    struct store_check c = { .fault = on_fault, .arg = &f };
    struct why why = { "" };
    struct slice table;

    put_model(s, m, "a", 128);
    assert_int_equal(store_check(s, &c, &why), ERR_OK);
    assert_int_equal(f.n + c.bad + c.missing + c.spare, 0);
    assert_int_equal(c.tiles, count_tiles(s));
    assert_int_equal(store_tile(s, &m->ends, &table), ERR_OK);
    struct hash embed = table_hash(table, 0);
    store_close(s);

    damage(&embed);
    damage(&m->tokenizer[0]);
    s = open_store(STORE_READ);
    c = (struct store_check){ .fault = on_fault, .arg = &f };
    assert_int_equal(store_check(s, &c, &why), ERR_OK);
    assert_int_equal(c.bad, 2);
    assert_string_equal(f.text[0], "a: the ends, embedding, tile 0: damaged");
    assert_string_equal(f.text[1], "a: tokenizer, piece 0: damaged");
    c.repair = true;
    assert_int_equal(store_check(s, &c, &why), ERR_DENIED);
    store_close(s);

    s = open_store(STORE_WRITE);
    memset(&f, 0, sizeof f);
    c = (struct store_check){ .repair = true, .fault = on_fault, .arg = &f };
    assert_int_equal(store_check(s, &c, &why), ERR_OK);
    assert_int_equal(c.removed, 2);
    memset(&f, 0, sizeof f);
    c = (struct store_check){ .fault = on_fault, .arg = &f };
    assert_int_equal(store_check(s, &c, &why), ERR_OK);
    assert_int_equal(c.bad, 0);
    assert_int_equal(c.missing, 2);
    assert_string_equal(f.text[0], "a: the ends, embedding, tile 0: missing");

    /* a tile of no model, and a model of which only one layer is held */
    struct hash h;
    assert_int_equal(store_put(s, slice_str("left over"), &h, NULL), ERR_OK);
    assert_int_equal(store_commit(s, NULL), ERR_OK);
    store_close(s);
    damage(&h);
    s = open_store(STORE_WRITE);
    memset(&f, 0, sizeof f);
    c = (struct store_check){ .repair = true, .fault = on_fault, .arg = &f };
    assert_int_equal(store_check(s, &c, &why), ERR_OK);
    assert_int_equal(c.spare, 1);
    assert_int_equal(c.removed, 1);
    assert_non_null(strstr(f.text[2], "no model: tile "));
    assert_false(store_has(s, &h));
    store_close(s);
    free(m);
}

/* LMDB would free as many pages as it says there, or abort. */
static void a_damaged_head_of_pages_is_not_believed(void **state)
{
    (void)state;
    struct manifest *m = calloc(1, sizeof *m);
    struct store *s = open_store(STORE_WRITE);
    struct store_check c = { .repair = true };
    struct why why = { "" };
    struct slice table;

    put_model(s, m, "a", 128);
    assert_int_equal(store_tile(s, &m->ends, &table), ERR_OK);
    struct hash embed = table_hash(table, 0);
    store_close(s);
    damage(&embed);
    damage_at(&embed, -4); /* how many pages */
    s = open_store(STORE_WRITE);
    assert_int_equal(store_check(s, &c, &why), ERR_MALFORMED);
    assert_non_null(strstr(why.text, "move it away, then convert or import again"));
    assert_int_equal(c.removed, 0);
    assert_true(store_has(s, &embed));
    store_close(s);
    free(m);
}

static void layers_that_nobody_wanted_are_no_fault(void **state)
{
    (void)state;
    struct manifest *m = calloc(1, sizeof *m);
    struct store_held held;
    struct store_check c = { 0 };
    uint8_t *body;
    size_t n;
    struct store *s = open_store(STORE_WRITE);

    put_model(s, m, NULL, 128);
    assert_int_equal(manifest_encode(m, &body, &n), ERR_OK);
    store_close(s);
    fresh(NULL);
    s = open_store(STORE_WRITE);
    assert_int_equal(put_layer(s, &m->arch, 1, &m->table[1]), ERR_OK);
    assert_int_equal(store_put_model(s, slice_of(body, n), NULL, NULL), ERR_OK);
    assert_int_equal(store_check(s, &c, NULL), ERR_OK);
    assert_int_equal(c.missing + c.bad + c.spare, 0);
    store_held(s, m, 1, &held);
    assert_int_equal(held.tiles, held.tiles_here);
    assert_int_equal(held.bytes, held.bytes_here);
    store_held(s, m, 2, &held);
    assert_int_equal(held.tiles_here, 0);
    assert_true(held.bytes > 0);
    store_close(s);
    free(body);
    free(m);
}

/* --- parts of layers --- */

/* A copy of all values that a store of parts of layer 1 has. */
struct copied {
    const struct parts *only;
    struct store *from;
    uint8_t *p[256];
    size_t len[256];
    uint32_t n, of;
};

static void copy_value(struct copied *c, const struct hash *h)
{
    struct slice v;
    assert_int_equal(store_tile(c->from, h, &v), ERR_OK);
    assert_true(c->n < 256);
    c->p[c->n] = malloc(v.n);
    memcpy(c->p[c->n], v.p, v.n);
    c->len[c->n++] = v.n;
}

static bool copy_tile(void *arg, const struct tile_place *p, const struct hash *h)
{
    struct copied *c = arg;
    c->of++;
    if (parts_have(c->only, p->layer, p->spec.shard, p->spec.item)) copy_value(c, h);
    return true;
}

static void parts_of_layers(void **state)
{
    (void)state;
    struct manifest *m = calloc(1, sizeof *m);
    struct store_pin pin = { 0 }, again;
    struct store_check c = { 0 };
    struct hash is;
    struct why why = { "" };
    uint64_t freed;
    uint8_t *body;
    size_t n;
    struct store *s = open_store(STORE_WRITE);
    struct hash id = put_model(s, m, NULL, 128);
    assert_int_equal(parts_parse(&pin.parts, 1, 2, SHARD_EXPERT, "0-1,3", &why), ERR_OK);
    assert_int_equal(parts_parse(&pin.parts, 1, 2, SHARD_HEADS, "1", &why), ERR_OK);
    assert_int_equal(parts_check(&pin.parts, &m->arch, &why), ERR_OK);

    struct copied copied = { .only = &pin.parts, .from = s };
    copy_value(&copied, &m->table[1]);
    assert_int_equal(store_each_tile(s, m, 1, copy_tile, &copied), ERR_OK);
    assert_true(copied.n - 1 > 0 && copied.n - 1 < copied.of);
    assert_int_equal(manifest_encode(m, &body, &n), ERR_OK);
    store_close(s);
    fresh(NULL);
    s = open_store(STORE_WRITE);
    for (uint32_t i = 0; i < copied.n; i++) {
        assert_int_equal(store_put(s, slice_of(copied.p[i], copied.len[i]), &is, NULL), ERR_OK);
        free(copied.p[i]);
    }
    assert_int_equal(store_put_model(s, slice_of(body, n), NULL, NULL), ERR_OK);

    /* the pin says what is to be here; nothing else is missed */
    assert_int_equal(store_check(s, &c, NULL), ERR_OK);
    assert_true(c.missing > 0);
    assert_int_equal(store_put_pin(s, &id, &pin, &why), ERR_OK);
    assert_int_equal(store_pin(s, &id, &again), ERR_OK);
    assert_memory_equal(&pin, &again, sizeof pin);
    c = (struct store_check){ 0 };
    assert_int_equal(store_check(s, &c, NULL), ERR_OK);
    assert_int_equal(c.missing + c.bad + c.spare, 0);

    /* pointers to these, and to no others */
    const uint8_t **p = calloc(manifest_n_tiles(&m->arch, 1), sizeof *p);
    struct tile_place at = tile_before_first(&m->arch, 1);
    assert_false(store_holds_layer(s, m, 1));
    assert_true(store_holds_parts(s, m, 1, &pin.parts));
    assert_int_equal(store_layer_tiles(s, m, 1, NULL, p, &why), ERR_NOTFOUND);
    assert_int_equal(store_layer_tiles(s, m, 1, &pin.parts, p, &why), ERR_OK);
    while (tile_next(&at))
        assert_int_equal(p[at.at] != NULL, parts_have(&pin.parts, 1, at.spec.shard, at.spec.item));
    free(p);
    struct parts more = pin.parts;
    assert_int_equal(parts_parse(&more, 1, 2, SHARD_EXPERT, "2", &why), ERR_OK);
    assert_false(store_holds_parts(s, m, 1, &more));
    store_close(s);

    /* what is pinned in parts is not taken out; unpinned it is */
    s = open_store(STORE_WRITE);
    assert_int_equal(store_trim(s, &id, &pin, 1 << 30, &freed, &why), ERR_OK);
    assert_int_equal(freed, 0);
    assert_int_equal(parts_cut(&pin.parts, 0, 9), ERR_OK);
    assert_int_equal(store_trim(s, &id, &pin, 1 << 30, &freed, &why), ERR_OK);
    assert_true(freed > 0);
    store_close(s);
    free(body);
    free(m);
}

/* --- a garbled file --- */

static bool touch(void *arg, const struct tile_place *p, const struct hash *h)
{
    struct slice v;
    (void)p;
    if (store_tile(arg, h, &v) == ERR_OK) (void)hash_of(v);
    return true;
}

/* Everything a reader does; whatever it finds is fine, as long as it lives. */
static int use_all(void)
{
    struct manifest *m = calloc(1, sizeof *m);
    struct store_name n;
    struct store *s;
    struct why why = { "" };
    struct store_check c = { 0 };

    signal(SIGSEGV, SIG_DFL); /* cmocka's would turn a crash into an exit */
    signal(SIGBUS, SIG_DFL);
    signal(SIGABRT, SIG_DFL);
    enum err e = store_open(&s, dir, STORE_READ, &why);
    if (e) return why.text[0] ? 1 : 3;
    if (!store_find_model(s, "a", &n, m, &why))
        for (uint32_t l = 0; l < 4; l++) (void)!store_each_tile(s, m, l, touch, s);
    e = store_check(s, &c, &why);
    store_close(s);
    free(m);
    return e || c.bad || c.missing ? 2 : 0;
}

static void garbled_pages_never_crash_a_reader(void **state)
{
    (void)state;
    enum { FLIPS = 400 };
    struct manifest *m = calloc(1, sizeof *m);
    struct store *s = open_store(STORE_WRITE);
    struct store_removed removed;
    uint32_t outcome[3] = { 0 }, x = 7;

    /* pages of every kind: a tree of some depth, and a list of free ones */
    for (uint32_t i = 0; i < 3000; i++) {
        struct hash h;
        assert_int_equal(store_put(s, slice_of(&i, sizeof i), &h, NULL), ERR_OK);
    }
    assert_int_equal(store_remove_spare(s, &removed, NULL), ERR_OK);
    for (uint32_t i = 0; i < 2000; i++) {
        struct hash h;
        assert_int_equal(store_put(s, slice_of(&i, sizeof i), &h, NULL), ERR_OK);
    }
    put_model(s, m, "a", 128);
    struct slice v;
    uint8_t tile[64];
    assert_int_equal(store_tile(s, &m->tokenizer[0], &v), ERR_OK);
    memcpy(tile, v.p, sizeof tile);
    free(m);
    store_close(s);

    uint64_t size = file_bytes();
    uint8_t *good = malloc(size);
    int fd = open(data, O_RDWR);
    assert_int_equal(pread(fd, good, size, 0), size);
    /* where the one large tile is nothing can be harmed but that */
    uint8_t *tile_at = memmem(good, size, tile, sizeof tile);
    assert_non_null(tile_at);
    uint64_t lo = (uint64_t)(tile_at - good), hi = lo + TILE_BYTES;
    for (uint32_t k = 0; k < FLIPS; k++) {
        /* half of them in the first bytes of a page, where its structure is */
        uint64_t at[4];
        for (int i = 0; i < 4; i++) {
            x = x * 1664525 + 1013904223;
            at[i] = (x >> 2) % (size - (hi - lo));
            if (at[i] >= lo && k % 8) at[i] += hi - lo;
            if (k % 2) at[i] = at[i] / 4096 * 4096 + at[i] % 64;
            uint8_t byte = (uint8_t)(good[at[i]] ^ (1u << (x >> 29)));
            assert_int_equal(pwrite(fd, &byte, 1, (off_t)at[i]), 1);
        }
        pid_t pid = fork();
        if (pid == 0) _exit(use_all());
        int status;
        waitpid(pid, &status, 0);
        if (!WIFEXITED(status) || WEXITSTATUS(status) > 2)
            fail_msg("flip %u near %llu: status %x", k, (unsigned long long)at[0], status);
        outcome[WEXITSTATUS(status)]++;
        for (int i = 0; i < 4; i++) assert_int_equal(pwrite(fd, good + at[i], 1, (off_t)at[i]), 1);
    }
    close(fd);
    free(good);
    print_message("%u refused, %u told by a hash, %u harmless\n", outcome[1], outcome[2],
                  outcome[0]);
    assert_true(outcome[1] > 20 && outcome[2] > 20);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, fresh, fresh)
    const struct CMUnitTest tests[] = {
        TEST(pins_stay),
        TEST(shared_tiles_stay),
        TEST(what_no_model_uses),
        TEST(pointers_in_use),
        TEST(room_is_used_again),
        TEST(readers_keep_what_they_opened),
        TEST(a_killed_removal_goes_on),
        TEST(bad_and_missing_tiles_are_named),
        TEST(a_damaged_head_of_pages_is_not_believed),
        TEST(layers_that_nobody_wanted_are_no_fault),
        TEST(parts_of_layers),
        TEST(garbled_pages_never_crash_a_reader),
    };
    const char *tmp = getenv("SWARM_TMP");
    snprintf(dir, sizeof dir, "%.30s/test_store_care-%ld", tmp ? tmp : "/tmp", (long)getpid());
    snprintf(data, sizeof data, "%s/data.mdb", dir);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
