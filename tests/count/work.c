/* work.c - fixed work of the AVX2 path, for counting its instructions: scripts/count.sh runs it
 * under callgrind, which counts while the function `counted` runs.
 *
 *     work                       the names of all work
 *     work NAME CONFIG STORE     one piece; a token is of a random model with the shape of a
 *                                config.json, made in a folder that does not exist yet
 *
 * The work is the same on every machine and every run: one thread, one table, numbers from a
 * counter. */
#include "store/random.h"
#include "tools/bench_product.h"
#include "tools/local.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ROWS = 512,
    COLS = 4096,
    HEADS = 12,
    HEAD_DIM = 128,
    POSITIONS = 512,
    CONTEXT = 20,
    MAP_BYTES = 1 << 30
};

static const struct kernels *k;

static void stop(const char *what)
{
    fprintf(stderr, "work: %s\n", what);
    exit(1);
}

static void *room(size_t n)
{
    void *p = calloc(1, n);
    if (!p) stop("out of memory");
    return p;
}

static float *numbers(size_t n)
{
    float *x = room(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)((uint32_t)(i + 1) * 2654435761u >> 8) / (1 << 23) - 1;
    return x;
}

#ifdef __clang__ /* which does not specialise functions that are not to be inlined */
#define AS_WRITTEN __attribute__((noinline))
#else
#define AS_WRITTEN __attribute__((noinline, noclone))
#endif

/* What is counted: never inlined or specialised, so that callgrind finds it by its name. */
void counted(void (*work)(void *arg), void *arg);
AS_WRITTEN void counted(void (*work)(void *arg), void *arg)
{
    work(arg);
    __asm__ volatile("" ::: "memory");
}

/* --- products --- */

static void run_product(void *arg)
{
    bench_product_run(arg);
}

static void product(enum wtype type, uint32_t tokens)
{
    struct tensor_spec spec = { .role = T_Q, .rows = ROWS, .cols = COLS, .type = type };
    struct tensor t = { type, ROWS, COLS, tiling_of(type, ROWS, COLS), NULL };
    const uint8_t **tile = room(t.tiling.tiles * sizeof *tile);
    float *rows = room((size_t)GROUP_ROWS * COLS * sizeof *rows);
    struct bench_inputs in = { 0 };

    for (uint32_t i = 0; i < t.tiling.tiles; i++) {
        uint8_t *p = room(tiling_tile_bytes(&t.tiling, i));
        if (random_tile(&spec, i, i, COLS, rows, p)) stop("no tile");
        tile[i] = p;
    }
    t.tile = tile;
    if (bench_inputs_open(&in, k, tokens, COLS)) stop("no inputs");
    struct bench_product p = { k, workers_inline(), &t, vecs_acts(&in.v, 0, tokens),
                               room((size_t)tokens * ROWS * sizeof(float)) };
    counted(run_product, &p);
}

static void q40_1(const char *config, const char *dir)
{
    (void)config, (void)dir;
    product(WT_Q40, 1);
}

static void q40_64(const char *config, const char *dir)
{
    (void)config, (void)dir;
    product(WT_Q40, 64);
}

static void q80_1(const char *config, const char *dir)
{
    (void)config, (void)dir;
    product(WT_Q80, 1);
}

static void q80_64(const char *config, const char *dir)
{
    (void)config, (void)dir;
    product(WT_Q80, 64);
}

/* --- attention --- */

struct attention_work {
    struct heads h;
    float *q, *s, *o;
    uint16_t *kv;
};

static void run_attention(void *arg)
{
    struct attention_work *w = arg;

    k->scores(w->s, w->q, w->kv, &w->h, POSITIONS, 0.088f);
    for (uint32_t j = 0; j < HEADS; j++)
        (void)k->exp_sum(w->s + j * w->h.stride, POSITIONS,
                         k->max(w->s + j * w->h.stride, POSITIONS));
    k->weigh(w->o, w->s, w->kv, &w->h, POSITIONS);
}

static void attention_512(const char *config, const char *dir)
{
    struct attention_work w = {
        .h = { .n = HEADS, .hd = HEAD_DIM, .kv = FT_F16, .stride = POSITIONS },
        .q = numbers((size_t)HEADS * HEAD_DIM),
        .s = room(sizeof(float) * HEADS * POSITIONS),
        .o = room(sizeof(float) * HEADS * HEAD_DIM),
        .kv = room(sizeof(uint16_t) * HEAD_DIM * POSITIONS)
    };
    float *x = numbers((size_t)HEAD_DIM * POSITIONS);

    (void)config, (void)dir;
    k->narrow(w.kv, x, HEAD_DIM * POSITIONS, FT_F16);
    counted(run_attention, &w);
}

/* --- vectors --- */

struct vector_work {
    float *x, *y, *w, *d;
    int8_t *q;
    int32_t *sum;
};

static void run_vectors(void *arg)
{
    struct vector_work *v = arg;

    k->norm(v->y, v->x, v->w, COLS, 1e-5f);
    k->quantize(v->y, COLS, v->q, v->d, v->sum);
    k->swiglu(v->y, v->x, v->w, COLS);
    k->add(v->y, v->y, v->x, COLS);
    (void)k->exchange(v->y, v->y, 1, COLS, FT_BF16);
    k->sigmoid(v->y, v->y, COLS);
    k->narrow(v->q, v->x, COLS, FT_F16);
    k->widen(v->y, v->q, COLS, FT_F16);
}

static void vectors(const char *config, const char *dir)
{
    struct vector_work v = { .x = numbers(COLS),
                             .y = numbers(COLS),
                             .w = numbers(COLS),
                             .d = room(COLS / BLOCK * sizeof(float)),
                             .q = room(2 * COLS),
                             .sum = room(COLS / BLOCK * sizeof(int32_t)) };
    (void)config, (void)dir;
    counted(run_vectors, &v);
}

/* --- a token --- */

static void run_token(void *arg)
{
    struct local *l = arg;
    const struct arch *a = &l->weights.manifest.arch;
    struct row row = { l->kv, CONTEXT };
    struct nonfinite bad;
    int32_t id = 7;
    uint8_t *x = room(arch_row_bytes(a));
    float *logits = room(a->vocab * sizeof *logits);

    if (ends_embed(l->ends, &id, 1, x) || stage_forward(l->stage, &row, 1, x, &bad) ||
        ends_logits(l->ends, x, 1, logits, &bad))
        stop("a token cannot be computed");
}

static void make(struct store *s, const char *config, struct why *why)
{
    struct random_options o = { .type = WT_Q40,
                                .exchange = FT_BF16,
                                .kv = FT_F16,
                                .mlp_parts = 8,
                                .chat = "none",
                                .workers = workers_inline() };
    struct hf_config cfg;
    struct store_name name = { .name = "counted:q40" };
    uint8_t *body;
    size_t n;

    if (hf_config_read_file(&cfg, config, why) || random_settle(&cfg, &o, why) ||
        random_model(s, &cfg, &o, &body, &n, &name.id, why) ||
        store_put_model(s, slice_of(body, n), &name, why))
        stop(why->text);
}

static void token(const char *config, const char *dir)
{
    static struct local l;
    struct store *s;
    struct why why = { "" };

    /* callgrind has no room for a map of a terabyte, and the file remembers how large its was */
    if (store_open_map(&s, dir, STORE_WRITE, MAP_BYTES, &why)) stop(why.text);
    make(s, config, &why);
    store_close(s);
    if (local_open(&l, dir, NULL, 1, k, workers_inline(), &why)) stop(why.text);
    kv_fill(l.kv, CONTEXT, 1);
    counted(run_token, &l);
}

static const struct {
    const char *name;
    void (*run)(const char *config, const char *dir);
} works[] = {
    { "product-q40", q40_1 },
    { "product-q40-64-tokens", q40_64 },
    { "product-q80", q80_1 },
    { "product-q80-64-tokens", q80_64 },
    { "attention", attention_512 },
    { "vectors", vectors },
    { "token", token },
};

int main(int argc, char **argv)
{
    struct why why = { "" };

    if (!(k = kernels_pick("avx2", &why))) stop(why.text);
    for (size_t i = 0; i < sizeof works / sizeof *works; i++) {
        if (argc < 2) puts(works[i].name);
        if (argc != 4 || strcmp(argv[1], works[i].name) != 0) continue;
        works[i].run(argv[2], argv[3]);
        return 0;
    }
    if (argc > 1) stop("usage: work [NAME CONFIG STORE]");
    return 0;
}
