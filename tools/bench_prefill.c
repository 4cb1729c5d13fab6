/* bench_prefill.c - swarm-bench prefill: a prompt through a whole model, against the batched
 * product of one of its matrices. */
#include "tools/bench_product.h"
#include "tools/bench_session.h"

#include <stdlib.h>

enum { ROUNDS_MAX = 51 };

static struct bench b;
static const char *model;
static uint32_t tokens = 512, chunk = BATCH_MAX, rounds = 3;

static const struct arg options[] = {
    { "tokens", ARG_U32, &tokens, "N", "of the prompt (default 512)" },
    { "chunk", ARG_U32, &chunk, "N", "tokens that go through together (default 512, the most)" },
    { "model", ARG_STR, &model, "NAME", "which model, if the store has several" },
    { "rounds", ARG_U32, &rounds, "N", "prompts that are timed (default 3)" },
    BENCH_OPTIONS(b),
    { 0 },
};
static const struct args args = {
    .program = "swarm-bench prefill",
    .usage = "STORE [options]",
    .about = "Measures how fast a prompt goes through a whole model of a store in one process, and "
             "which part of a layer takes the time.",
    .options = options,
    .more =
        "The bound is the speed of the product alone: the query weights of one layer after the\n"
        "other with a whole chunk, by the same threads, in turns with the prompts. Parts:\n"
        "milliseconds of a prompt.",
};

struct job {
    struct bench_session s;
    struct bench_inputs in;
    struct bench_product product;
    double part[PARTS][ROUNDS_MAX];
    unsigned round; /* the first is not counted */
};

static void one_prompt(void *arg)
{
    struct job *j = arg;

    if (j->s.err) return;
    for (int p = 0; p < PARTS; p++) j->s.part[p] = 0;
    bench_session_prefill(&j->s, tokens, chunk);
    for (int p = 0; p < PARTS && j->round; p++) j->part[p][j->round - 1] = j->s.part[p];
    j->round++;
}

/* All head groups of all layers: as many bytes as a prompt sees once. */
static void products(void *arg)
{
    struct job *j = arg;
    const struct arch *a = j->s.arch;

    for (uint32_t l = 0; l < a->n_layers; l++)
        for (uint32_t g = 0; g < a->n_kv; g++) {
            j->product.t = &j->s.local.weights.layer[l].t[arch_find(a, l, T_Q, g)];
            bench_product_run(&j->product);
        }
}

static enum err prepare(struct job *j, const char *dir, struct why *why)
{
    if (rounds < 1 || rounds > ROUNDS_MAX || chunk < 1 || chunk > BATCH_MAX || tokens < 1)
        return fail(why, ERR_USAGE, "--rounds is 1 to %d, --chunk 1 to %d, --tokens at least 1",
                    ROUNDS_MAX, BATCH_MAX);
    if (chunk > tokens) chunk = tokens;
    enum err e = bench_session_open(&j->s, &b, dir, model, 1, chunk, why);
    if (e) return e;
    const struct arch *a = j->s.arch;
    if (tokens > a->context)
        return fail(why, ERR_USAGE, "--tokens %u: the model has %u positions", tokens, a->context);
    if (!wtype_quantized(a->type[WR_ATTN]))
        return fail(why, ERR_USAGE, "%s has weights that are not quantized", dir);
    j->product = (struct bench_product){ .k = b.kernels, .w = b.workers };
    uint32_t rows = a->n_heads / a->n_kv * a->head_dim;
    j->product.y = malloc((size_t)chunk * rows * sizeof *j->product.y);
    e = j->product.y ? bench_inputs_open(&j->in, b.kernels, chunk, a->hidden) : ERR_NOMEM;
    if (e) return fail(why, e, "no memory for products");
    j->product.x = vecs_acts(&j->in.v, 0, chunk);
    bench_session_warm(&j->s);
    return ERR_OK;
}

static void add_rows(struct job *j, struct bench_times t)
{
    const struct arch *a = j->s.arch;
    double flop = bench_session_flop(&j->s, tokens);
    double product = bench_product_flop(&j->product) * a->n_layers * a->n_kv;
    double ratio = flop / product * t.b_to_a;
    char who[64];

    snprintf(who, sizeof who, "%u tokens by %u, %uT", tokens, chunk, b.workers->n);
    bench_add(&b, "tokens/s", tokens * product / t.b / flop, tokens / t.a, ratio, "%s: prefill",
              who);
    bench_add(&b, "GFLOP/s", product / t.b / 1e9, flop / t.a / 1e9, ratio, "%s: %.0f GFLOP", who,
              flop / 1e9);
    for (int p = 0; p < PARTS; p++) {
        double took = bench_median(j->part[p], rounds);
        if (took > 0)
            bench_add(&b, "ms", 0, took * 1e3, 0, "%s: %s", who,
                      bench_part_name((enum bench_part)p));
    }
}

int bench_prefill(int argc, char **argv)
{
    static struct job j;
    const char *dir;
    struct why why = { "" };

    if (args_parse(&args, argc, argv, &dir, 1) != 1)
        return die(&args, 2, "STORE is missing: the folder of a store");
    enum err e = bench_open(&b, &args, &why);
    if (!e) e = prepare(&j, dir, &why);
    if (!e) {
        struct bench_times t = bench_in_turns((struct bench_work){ one_prompt, &j },
                                              (struct bench_work){ products, &j }, rounds);
        e = j.s.err;
        if (e)
            why = j.s.why;
        else
            add_rows(&j, t);
    }
    bench_inputs_close(&j.in);
    free(j.product.y);
    bench_session_close(&j.s);
    return bench_close(&b, e, &why);
}
