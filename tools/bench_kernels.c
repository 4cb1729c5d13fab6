/* bench_kernels.c - swarm-bench kernels: products against the plain read of the same bytes, batched
 * products against the multiplications that this instruction set can do at all.
 *
 * One sheet of random blocks serves every shape: a block says nothing about the tensor it is in.
 * Tensors of one shape lie one after the other until the sheet is full, and each round goes through
 * all of them, so that no byte of a round is in a cache when its turn comes. */
#include "store/random.h"
#include "tools/bench.h"
#include "tools/bench_product.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    SHEET_BYTES = 704 << 20, /* the largest shape in q80: 660 MB */
    ROUND_BYTES = 320 << 20, /* of smaller ones: ten times a large last cache of a home PC */
    SHEET_COLS = 4096,
    TENSORS_MAX = 128,
    READ_BYTES = 1 << 20, /* a span of the plain read */
    ROUNDS = 7,
    ROUNDS_BATCH = 5,
};

static struct bench b;
static bool quick;

static const struct arg options[] = {
    BENCH_OPTIONS(b),
    { "quick", ARG_FLAG, &quick, NULL, "two shapes only" },
    { 0 },
};
static const struct args args = {
    .program = "swarm-bench kernels",
    .usage = "[options]",
    .about =
        "Measures the products of one token and of a batch, and attention, for every instruction "
        "set of this machine, on one thread and on all.",
    .options = options,
    .more =
        "GB/s: bytes of weights, bound by the plain read of the same bytes by the same threads\n"
        "in turns with the product. GFLOP/s: of a batch of tokens, bound by a loop of nothing\n"
        "but the instruction set's integer products. --isa NAME measures that one alone; the\n"
        "scalar reference is measured only so.",
};

static const struct shape {
    uint32_t rows, cols;
} shapes[] = {
    { 4096, 4096 }, { 1408, 4096 }, { 12288, 4096 }, { 4096, 1408 }, { 151552, 4096 },
};
static const uint32_t groups[] = { 12, 16 }; /* query heads of a KV head: GLM-4.5-Air, GLM-4-9B */
enum { GROUPS = sizeof groups / sizeof *groups };
enum { SHAPES = sizeof shapes / sizeof *shapes, QUICK_SHAPES = 2 };

static const uint32_t batches[] = { 4, 16, 64, 512 };
enum { BATCHES = sizeof batches / sizeof *batches };

/* --- the sheet --- */

struct sheet {
    enum wtype type;
    uint8_t *p; /* owned: mapped */
};

struct fill {
    struct sheet *sheet;
    struct tensor_spec spec;
    size_t tile_bytes;
};

static void fill_tile(void *arg, uint32_t i)
{
    const struct fill *f = arg;
    /* no padding, a quantized type: it cannot fail, and needs no scratch */
    if (random_tile(&f->spec, 0, i, SHEET_COLS, NULL, f->sheet->p + i * f->tile_bytes)) abort();
}

static enum err sheet_open(struct sheet *s, enum wtype type, struct workers *w, struct why *why)
{
    struct fill f = { s, { .rows = 64, .cols = SHEET_COLS, .type = type }, 0 };
    struct tiling l = tiling_of(type, f.spec.rows, f.spec.cols);
    void *p = mmap(NULL, SHEET_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED) return fail(why, ERR_NOMEM, "no memory for %d MiB", SHEET_BYTES >> 20);
    (void)madvise(p, SHEET_BYTES, MADV_HUGEPAGE); /* it is slower without, not wrong */
    s->type = type;
    s->p = p;
    f.tile_bytes = tiling_tile_bytes(&l, 0);
    w->run(w, fill_tile, &f, (uint32_t)(SHEET_BYTES / f.tile_bytes));
    return ERR_OK;
}

static void sheet_close(struct sheet *s)
{
    if (s->p) munmap(s->p, SHEET_BYTES);
    s->p = NULL;
}

/* --- tensors on it --- */

struct set {
    struct bench_product product; /* of the tensor whose turn it is */
    struct tensor t[TENSORS_MAX];
    uint32_t n, next;
    size_t bytes;            /* of all */
    const uint8_t **tile;    /* owned */
    struct bench_span *span; /* owned */
    uint32_t n_spans;
};

static enum err set_open(struct set *s, const struct sheet *sheet, struct shape shape)
{
    struct tiling l = tiling_of(sheet->type, shape.rows, shape.cols);
    size_t each = (size_t)l.groups * l.group_bytes, at = 0;

    s->n = 0;
    do s->bytes = ++s->n * each;
    while (s->n < TENSORS_MAX && s->bytes + each <= ROUND_BYTES);
    s->tile = malloc((size_t)s->n * l.tiles * sizeof *s->tile);
    s->span = malloc((s->bytes / READ_BYTES + 1) * sizeof *s->span);
    if (!s->tile || !s->span) return ERR_NOMEM;
    for (uint32_t i = 0; i < s->n; i++) {
        s->t[i] = (struct tensor){ sheet->type, shape.rows, shape.cols, l, s->tile + i * l.tiles };
        for (uint32_t k = 0; k < l.tiles; at += tiling_tile_bytes(&l, k++))
            s->tile[i * l.tiles + k] = sheet->p + at;
    }
    s->n_spans = 0;
    for (at = 0; at < s->bytes; at += READ_BYTES)
        s->span[s->n_spans++] =
            (struct bench_span){ sheet->p + at,
                                 s->bytes - at < READ_BYTES ? s->bytes - at : READ_BYTES };
    return ERR_OK;
}

static void set_close(struct set *s)
{
    free(s->tile);
    free(s->span);
}

static void read_set(void *arg)
{
    const struct set *s = arg;
    bench_read(s->product.w, s->span, s->n_spans);
}

static void product_next(void *arg)
{
    struct set *s = arg;

    s->product.t = &s->t[s->next];
    s->next = (s->next + 1) % s->n;
    bench_product_run(&s->product);
}

static void product_set(void *arg)
{
    for (uint32_t i = 0, n = ((struct set *)arg)->n; i < n; i++) product_next(arg);
}

/* --- measuring --- */

static void name_row(char out[64], const struct set *s, const char *what)
{
    snprintf(out, 64, "%s %ux%u %s, %s, %uT", wtype_name(s->t[0].type), s->t[0].rows, s->t[0].cols,
             what, s->product.k->isa, s->product.w->n);
}

static void one_token(struct set *s)
{
    struct bench_times t = bench_in_turns((struct bench_work){ product_set, s },
                                          (struct bench_work){ read_set, s }, ROUNDS);
    double bytes = (double)s->bytes;
    char name[64];

    name_row(name, s, "1 token");
    bench_add(&b, "GB/s", bytes / t.b / 1e9, bytes / t.a / 1e9, t.b_to_a, "%s", name);
}

static void many_tokens(struct set *s)
{
    struct bench_peak peak = { .isa = s->product.k->isa, .workers = s->product.w };
    struct bench_times t =
        bench_in_turns((struct bench_work){ product_next, s },
                       (struct bench_work){ bench_peak_run, &peak }, ROUNDS_BATCH);
    double flop = bench_product_flop(&s->product);
    char name[64], what[24];

    snprintf(what, sizeof what, "%u tokens", s->product.x.n);
    name_row(name, s, what);
    bench_add(&b, "GFLOP/s", peak.flop / t.b / 1e9, flop / t.a / 1e9,
              peak.flop > 0 ? flop / peak.flop * t.b_to_a : 0, "%s", name);
}

/* Products of one shape with so many tokens. */
static enum err measure_shape(const struct sheet *sheet, struct shape shape, uint32_t tokens,
                              const struct kernels *k, struct workers *w)
{
    struct set s = { .product = { .k = k, .w = w } };
    struct bench_inputs in = { 0 };

    enum err e = bench_inputs_open(&in, k, tokens, shape.cols);
    if (!e) e = set_open(&s, sheet, shape);
    s.product.y = malloc((size_t)tokens * shape.rows * sizeof *s.product.y);
    if (!s.product.y) e = ERR_NOMEM;
    if (!e) {
        s.product.x = vecs_acts(&in.v, 0, tokens);
        (tokens == 1 ? one_token : many_tokens)(&s);
    }
    free(s.product.y);
    set_close(&s);
    bench_inputs_close(&in);
    return e;
}

static enum err measure_products(const struct sheet *sheet, const struct kernels *k,
                                 struct workers *w)
{
    enum err e = ERR_OK;

    for (int i = 0; i < (quick ? QUICK_SHAPES : SHAPES) && !e; i++)
        e = measure_shape(sheet, shapes[i], 1, k, w);
    for (int i = 0; i < BATCHES && !e; i++) e = measure_shape(sheet, shapes[0], batches[i], k, w);
    return e;
}

/* For every table but the scalar one, or the one that was asked for, on one thread and on all. */
static enum err each_table(enum err (*measure_it)(const struct sheet *sheet,
                                                  const struct kernels *k, struct workers *w),
                           const struct sheet *sheet)
{
    const struct kernels *k;
    enum err e = ERR_OK;

    for (unsigned i = b.isa ? 0 : 1; (k = kernels_nth(i)) && !e; i++) {
        if (b.isa && k != b.kernels) continue;
        if (b.workers->n > 1) e = measure_it(sheet, k, workers_inline());
        if (!e) e = measure_it(sheet, k, b.workers);
    }
    return e;
}

static enum err measure_attention(const struct sheet *sheet, const struct kernels *k,
                                  struct workers *w)
{
    enum err e = ERR_OK;

    (void)sheet;
    for (int i = 0; i < (quick ? 1 : GROUPS) && !e; i++) e = bench_attention(&b, groups[i], k, w);
    return e;
}

int bench_kernels(int argc, char **argv)
{
    static const enum wtype types[] = { WT_Q40, WT_Q80 };
    struct why why = { "" };
    struct sheet sheet = { 0 };

    args_parse(&args, argc, argv, NULL, 0);
    enum err e = bench_open(&b, &args, &why);
    for (int i = 0; i < 2 && !e; i++) {
        e = sheet_open(&sheet, types[i], b.workers, &why);
        if (!e) e = each_table(measure_products, &sheet);
        sheet_close(&sheet);
    }
    if (!e) e = each_table(measure_attention, NULL);
    return bench_close(&b, e, &why);
}
