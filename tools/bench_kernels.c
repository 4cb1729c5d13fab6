/* bench_kernels.c - swarm-bench kernels: products against the plain read of the same bytes, batched
 * products against the multiplications that this instruction set can do at all.
 *
 * One sheet of random blocks serves every shape: a block says nothing about the tensor it is in.
 * Tensors of one shape lie one after the other until the sheet is full, and each round goes through
 * all of them, so that no byte of a round is in a cache when its turn comes. */
#include "model/stage.h"
#include "store/random.h"
#include "tools/bench.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    SHEET_BYTES = 704 << 20, /* the largest shape in q80: 660 MB */
    ROUND_BYTES = 320 << 20, /* of smaller ones: ten times a large last cache of a home PC */
    SHEET_COLS = 4096,
    COLS_MAX = 4096,
    TENSORS_MAX = 128,
    TOKENS_MAX = 512,
    READ_BYTES = 1 << 20, /* a span of the plain read */
    ROUNDS = 11,
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
    .about = "Measures the products of one token and of a batch for every instruction set of this "
             "machine, on one thread and on all.",
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
    const struct kernels *k;
    struct workers *w;
    struct tensor t[TENSORS_MAX];
    uint32_t n;
    size_t bytes;         /* of all */
    const uint8_t **tile; /* owned */
    struct bench_span *span;
    uint32_t n_spans;
    struct acts x;
    float *y;      /* [x.n][rows] */
    uint32_t next; /* of a batch: the tensor whose turn it is */
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
    bench_read(s->w, s->span, s->n_spans);
}

struct one {
    const struct set *s;
    const struct tensor *t;
};

static void product_groups(void *arg, unsigned lane, uint32_t lo, uint32_t hi)
{
    const struct one *o = arg;
    (void)lane;
    o->s->k->product(o->s->y, o->t->rows, o->t, NULL, &o->s->x, lo, hi);
}

/* One product, divided among the threads as a layer's are. */
static void product(const struct set *s, const struct tensor *t)
{
    struct one o = { s, t };
    pass_run(s->w, product_groups, &o, t->tiling.groups, t->tiling.groups,
             (uint64_t)t->rows * t->cols * s->x.n);
}

static void product_set(void *arg)
{
    const struct set *s = arg;
    for (uint32_t i = 0; i < s->n; i++) product(s, &s->t[i]);
}

static void product_next(void *arg)
{
    struct set *s = arg;
    product(s, &s->t[s->next]);
    s->next = (s->next + 1) % s->n;
}

/* --- inputs --- */

struct inputs {
    int8_t *q;    /* [TOKENS_MAX][COLS_MAX] */
    float *d;     /* [TOKENS_MAX][COLS_MAX / BLOCK] */
    int32_t *sum; /* likewise */
    float *y;     /* owned: largest output */
};

static enum err inputs_open(struct inputs *in)
{
    in->q = malloc((size_t)TOKENS_MAX * COLS_MAX);
    in->d = malloc(TOKENS_MAX * COLS_MAX / BLOCK * sizeof *in->d);
    in->sum = malloc(TOKENS_MAX * COLS_MAX / BLOCK * sizeof *in->sum);
    in->y = malloc((size_t)TOKENS_MAX * 12288 * sizeof *in->y);
    return in->q && in->d && in->sum && in->y ? ERR_OK : ERR_NOMEM;
}

static void inputs_close(struct inputs *in)
{
    free(in->q);
    free(in->d);
    free(in->sum);
    free(in->y);
}

static struct acts inputs_make(struct inputs *in, const struct kernels *k, uint32_t n,
                               uint32_t cols)
{
    struct acts x = {
        .n = n, .cols = cols, .q = in->q, .d = in->d, .sum = in->sum, .blocks = cols / BLOCK
    };
    float f[COLS_MAX];

    for (uint32_t t = 0; t < n; t++) {
        for (uint32_t i = 0; i < cols; i++) f[i] = (float)((t * 31 + i) * 2654435761u >> 8) - 8e6f;
        k->quantize(f, cols, in->q + (size_t)t * cols, in->d + t * x.blocks,
                    in->sum + t * x.blocks);
    }
    return x;
}

/* --- measuring --- */

static void name_row(char out[64], const struct set *s, const char *what)
{
    snprintf(out, 64, "%s %ux%u %s, %s, %uT", wtype_name(s->t[0].type), s->t[0].rows, s->t[0].cols,
             what, s->k->isa, s->w->n);
}

static enum err measure_one_token(const struct sheet *sheet, struct shape shape, struct inputs *in,
                                  const struct kernels *k, struct workers *w)
{
    struct set s = { .k = k, .w = w, .x = inputs_make(in, k, 1, shape.cols), .y = in->y };
    char name[64];
    enum err e = set_open(&s, sheet, shape);

    if (!e) {
        struct bench_times t = bench_in_turns((struct bench_work){ product_set, &s },
                                              (struct bench_work){ read_set, &s }, ROUNDS);
        name_row(name, &s, "1 token");
        bench_add(&b, "GB/s", (double)s.bytes / t.b / 1e9, (double)s.bytes / t.a / 1e9, t.b_to_a,
                  "%s", name);
    }
    set_close(&s);
    return e;
}

static enum err measure_batch(const struct sheet *sheet, struct shape shape, uint32_t tokens,
                              struct inputs *in, const struct kernels *k, struct workers *w)
{
    struct set s = { .k = k, .w = w, .x = inputs_make(in, k, tokens, shape.cols), .y = in->y };
    struct bench_peak peak = { .isa = k->isa, .workers = w };
    char name[64], what[24];
    double flop = 2.0 * shape.rows * shape.cols * tokens;
    enum err e = set_open(&s, sheet, shape);

    if (!e) {
        struct bench_times t =
            bench_in_turns((struct bench_work){ product_next, &s },
                           (struct bench_work){ bench_peak_run, &peak }, ROUNDS_BATCH);
        double bound = peak.flop / t.b;
        snprintf(what, sizeof what, "%u tokens", tokens);
        name_row(name, &s, what);
        bench_add(&b, "GFLOP/s", bound / 1e9, flop / t.a / 1e9,
                  bound > 0 ? flop / peak.flop * t.b_to_a : 0, "%s", name);
    }
    set_close(&s);
    return e;
}

static enum err measure(const struct sheet *sheet, struct inputs *in, const struct kernels *k,
                        struct workers *w)
{
    enum err e = ERR_OK;

    for (int i = 0; i < (quick ? QUICK_SHAPES : SHAPES) && !e; i++)
        e = measure_one_token(sheet, shapes[i], in, k, w);
    for (int i = 0; i < BATCHES && !e; i++)
        e = measure_batch(sheet, shapes[0], batches[i], in, k, w);
    return e;
}

/* Every table but the scalar one, or the one that was asked for. */
static enum err measure_tables(const struct sheet *sheet, struct inputs *in)
{
    const struct kernels *k;
    enum err e = ERR_OK;

    for (unsigned i = b.isa ? 0 : 1; (k = kernels_nth(i)) && !e; i++) {
        if (b.isa && k != b.kernels) continue;
        if (b.workers->n > 1) e = measure(sheet, in, k, workers_inline());
        if (!e) e = measure(sheet, in, k, b.workers);
    }
    return e;
}

int bench_kernels(int argc, char **argv)
{
    static const enum wtype types[] = { WT_Q40, WT_Q80 };
    struct why why = { "" };
    struct inputs in = { 0 };
    struct sheet sheet = { 0 };

    args_parse(&args, argc, argv, NULL, 0);
    enum err e = bench_open(&b, &args, &why);
    if (!e) e = inputs_open(&in);
    for (int i = 0; i < 2 && !e; i++) {
        e = sheet_open(&sheet, types[i], b.workers, &why);
        if (!e) e = measure_tables(&sheet, &in);
        sheet_close(&sheet);
    }
    inputs_close(&in);
    return bench_close(&b, e, &why);
}
