/* Weights come into memory before they are needed: all of them where they fit, else what is used
 * most and what a step is about to read. */
#include "weights/learnt.h"
#include "weights/warm.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { PAGE = 4096 };

/* Weights in a file, tiles 16 bytes behind the beginning of a page as in a store. */
struct made {
    struct weights w;
    int fd;
    uint8_t *map;
    size_t bytes;
    uint8_t small[64];
};

static void shape(struct arch *a)
{
    *a = (struct arch){ .family = ARCH_GLM4,
                        .n_layers = 2,
                        .hidden = 512,
                        .vocab = 4096,
                        .n_heads = 8,
                        .n_kv = 2,
                        .head_dim = 64,
                        .inter = 1536,
                        .mlp_parts = 2,
                        .n_dense = 2,
                        .n_group = 1,
                        .topk_group = 1,
                        .context = 64,
                        .eps = 1e-5f,
                        .routed_scale = 1,
                        .rope_half = 16,
                        .rope_scale = 1,
                        .exchange = FT_BF16,
                        .kv = FT_F16 };
    for (int r = 0; r < WR_COUNT; r++) a->type[r] = WT_Q80;
    assert_int_equal(arch_check(a, NULL), ERR_OK);
}

static size_t place_layer(struct made *m, struct layer *l, uint32_t index, size_t at)
{
    uint32_t n = arch_n_specs(&m->w.manifest.arch, index);

    l->index = index;
    if (m->map) l->t = calloc(n, sizeof *l->t);
    for (uint32_t i = 0; i < n; i++) {
        struct tensor_spec s = arch_spec(&m->w.manifest.arch, index, i);
        struct tiling tiling = tiling_of(s.type, s.rows, s.cols);
        const uint8_t **tile = m->map ? calloc(tiling.tiles, sizeof *tile) : NULL;
        for (uint32_t t = 0; t < tiling.tiles; t++) {
            size_t size = tiling_tile_bytes(&tiling, t);
            if (tile) tile[t] = size < PAGE ? m->small : m->map + at + 16;
            if (size >= PAGE) at += (16 + size + PAGE - 1) / PAGE * PAGE;
        }
        if (tile) l->t[i] = (struct tensor){ s.type, s.rows, s.cols, tiling, tile };
    }
    return at;
}

static size_t place(struct made *m)
{
    size_t at = 0;

    for (uint32_t i = 0; i < 2; i++) at = place_layer(m, &m->w.layer[i], i, at);
    return place_layer(m, &m->w.ends, ARCH_ENDS, at);
}

static int make(void **state)
{
    struct made *m = calloc(1, sizeof *m);
    char path[] = "warm-XXXXXX", page[PAGE] = "";

    shape(&m->w.manifest.arch);
    m->w.hi = m->w.held.hi = m->w.all_hi = 2;
    m->w.layer = m->w.all = calloc(2, sizeof *m->w.layer);
    m->bytes = place(m);
    m->fd = mkstemp(path);
    assert_true(m->fd >= 0);
    unlink(path);
    for (size_t at = 0; at < m->bytes; at += PAGE) assert_int_equal(write(m->fd, page, PAGE), PAGE);
    assert_int_equal(fsync(m->fd), 0);
    m->map = mmap(NULL, m->bytes, PROT_READ, MAP_SHARED, m->fd, 0);
    assert_true(m->map != MAP_FAILED);
    assert_int_equal(place(m), m->bytes);
    *state = m;
    return 0;
}

static int unmake(void **state)
{
    struct made *m = *state;

    for (uint32_t l = 0; l < 3; l++) {
        struct layer *layer = l < 2 ? &m->w.layer[l] : &m->w.ends;
        uint32_t n = arch_n_specs(&m->w.manifest.arch, layer->index);
        for (uint32_t i = 0; i < n; i++) free((void *)(uintptr_t)layer->t[i].tile);
        free(layer->t);
    }
    free(m->w.layer);
    munmap(m->map, m->bytes);
    close(m->fd);
    free(m);
    return 0;
}

/* Pages of [at, at + n) that are in memory. */
static size_t present(const struct made *m, size_t at, size_t n)
{
    size_t pages = (n + PAGE - 1) / PAGE, count = 0;
    unsigned char *in = malloc(pages);

    assert_int_equal(mincore(m->map + at, n, in), 0);
    for (size_t i = 0; i < pages; i++) count += in[i] & 1;
    free(in);
    return count;
}

/* Out of memory with all of it; false where the file system keeps files there (tmpfs). */
static bool forget(struct made *m)
{
    assert_int_equal(madvise(m->map, m->bytes, MADV_DONTNEED), 0);
    assert_int_equal(posix_fadvise(m->fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    return present(m, 0, m->bytes) == 0;
}

static void rest(void)
{
    nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

static void all_that_fits(void **state)
{
    struct made *m = *state;
    struct warm *warm;

    forget(m);
    assert_int_equal(warm_open(&warm, &m->w, UINT64_MAX, NULL), ERR_OK);
    for (int i = 0; i < 20000 && !warm_is_done(warm); i++) rest();
    assert_true(warm_is_done(warm));
    assert_int_equal(present(m, 0, m->bytes), m->bytes / PAGE);
    warm_close(warm);
    for (int i = 0; i < 50; i++) { /* stopped anywhere on its way */
        forget(m);
        assert_int_equal(warm_open(&warm, &m->w, UINT64_MAX, NULL), ERR_OK);
        if (i % 2) rest();
        warm_close(warm);
    }
}

/* A step as a stage would announce it: each layer's matrices are in memory when they are read. */
static void step(struct made *m, struct pager *p)
{
    const struct arch *a = &m->w.manifest.arch;

    assert_true(p->wants(p));
    for (uint32_t l = 0; l < 2; l++) {
        uint32_t n = arch_n_specs(a, l);
        for (uint32_t i = 0; i < n; i++) p->soon(p, &m->w.layer[l].t[i]);
        for (uint32_t i = 0; i < n; i++) {
            const struct tensor *t = &m->w.layer[l].t[i];
            p->wait(p, t);
            for (uint32_t j = 0; j < t->tiling.tiles; j++) {
                size_t size = tiling_tile_bytes(&t->tiling, j);
                if (size >= PAGE)
                    assert_int_equal(present(m, (size_t)(t->tile[j] - 16 - m->map), size + 16),
                                     (size + 16 + PAGE - 1) / PAGE);
            }
        }
        p->done(p, l);
    }
}

/* Of a cycle through more than the room, what is read is there, and no more than the room stays. */
static void what_fits(void **state)
{
    struct made *m = *state;
    const struct arch *a = &m->w.manifest.arch;
    struct warm *warm;
    struct warm_counts c;
    uint64_t room = arch_bytes(a, 1);

    if (!forget(m)) skip();
    assert_int_equal(warm_open(&warm, &m->w, room, NULL), ERR_OK);
    for (int i = 0; i < 20000 && !warm_is_done(warm); i++) rest();
    assert_true(warm_is_done(warm));
    warm_counts(warm, &c);
    assert_true(c.held <= room && c.held > room / 2);
    assert_true(c.room == room && c.bytes > room);

    struct pager *p = warm_pager(warm);
    for (int i = 0; i < 20; i++) step(m, p);
    p->soon(p, &m->w.layer[0].t[arch_find(a, 0, T_ATTN_NORM, 0)]); /* lies outside the map */
    for (int i = 0; i < 20000; i++) {
        warm_counts(warm, &c);
        if (c.held <= room && present(m, 0, m->bytes) <= room / PAGE) break;
        rest();
    }
    assert_true(c.held <= room);
    assert_true(present(m, 0, m->bytes) <= room / PAGE);
    assert_true(c.forgotten > 0 && c.read > c.forgotten);

    assert_true(forget(m)); /* somebody else needed the memory */
    step(m, p);
    warm_close(warm);
    warm_close(NULL);
}

/* Stopped in the middle of anything, also of a step that waits. */
static void stopped(void **state)
{
    struct made *m = *state;
    struct warm *warm;

    for (int i = 0; i < 30; i++) {
        forget(m);
        assert_int_equal(warm_open(&warm, &m->w, (uint64_t)i * PAGE * 16, NULL), ERR_OK);
        struct pager *p = warm_pager(warm);
        uint32_t n = arch_n_specs(&m->w.manifest.arch, 0);
        for (uint32_t t = 0; t < n; t++) p->soon(p, &m->w.layer[0].t[t]);
        if (i % 3) rest();
        warm_close(warm);
    }
}

/* A file of what was learnt: only this model's, only what it should look like. */
static void learnt(void **state)
{
    static const char *const wrong[] = { "x",
                                         "1",
                                         "1 2",
                                         "1 2 3",
                                         "1 2 3 ",
                                         "-1 2 3",
                                         "1 2 20001\n",
                                         "1 999999 3\n",
                                         "1  2 3\n",
                                         "\n",
                                         "99999999999999999999 1 1\n" };
    struct made *m = *state;
    struct units u;
    struct keep *k;
    char text[200], head[100] = "swarm-experts 1 ";

    assert_int_equal(units_open(&u, &m->w), ERR_OK);
    assert_int_equal(keep_open(&k, 4, 1, 0), ERR_OK);
    for (int i = 0; i < 64; i++) strcat(head, "0"); /* the made model's id is zero */
    snprintf(text, sizeof text, "%s\n", head);
    assert_true(learnt_parse(text, &u, k));
    snprintf(text, sizeof text, "%s\n0 1 20000\n7 3 1\n", head); /* no experts, no such layer */
    assert_true(learnt_parse(text, &u, k));
    text[20] = '1';
    assert_false(learnt_parse(text, &u, k));
    assert_false(learnt_parse("", &u, k));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        snprintf(text, sizeof text, "%s\n%s", head, wrong[i]);
        assert_false(learnt_parse(text, &u, k));
    }
    keep_close(k);
    units_close(&u);
}

static void room(void **state)
{
    (void)state;
    assert_true(warm_room() > 64 << 20);
    assert_true(warm_room() < (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_that_fits, make, unmake),
        cmocka_unit_test_setup_teardown(what_fits, make, unmake),
        cmocka_unit_test_setup_teardown(stopped, make, unmake),
        cmocka_unit_test_setup_teardown(learnt, make, unmake),
        cmocka_unit_test(room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
