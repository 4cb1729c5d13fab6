/* bench_model.c - swarm-bench model and kv: decoding with a whole model, against the plain read of
 * the weights, keys and values that a token touches. */
#include "tools/bench_session.h"

#include <stdlib.h>
#include <string.h>

enum { ROUNDS_MAX = 201, BATCH_BENCH_MAX = 64, CONTEXTS_MAX = 16 };

static struct bench b;
static const char *model, *contexts_text = "512,8192,32768";
static uint32_t batch = 1, context = 128, rounds = 21, layers, experts;

#define MODEL_OPTIONS                                                                         \
    { "model", ARG_STR, &model, "NAME", "which model, if the store has several" },            \
        { "batch", ARG_U32, &batch, "N", "sessions that decode together (default 1)" },       \
        { "layers", ARG_U32, &layers, "N", "only the first N layers (default: all)" },        \
        { "experts", ARG_U32, &experts, "N", "that a token chooses (default: the model's)" }, \
    {                                                                                         \
        "rounds", ARG_U32, &rounds, "N", "tokens that are timed (default 21)"                 \
    }

static const struct arg model_options[] = {
    { "context", ARG_U32, &context, "N", "positions before the token (default 128)" },
    MODEL_OPTIONS,
    BENCH_OPTIONS(b),
    { 0 },
};
static const struct args model_args = {
    .program = "swarm-bench model",
    .usage = "STORE [options]",
    .about = "Measures how fast a whole model of a store decodes in one process, and which part of "
             "a layer takes the time.",
    .options = model_options,
    .more =
        "The bound is the plain read of the bytes that a token touches (all weights but the\n"
        "experts that were not chosen, the output head, K and V), from the same map by the same\n"
        "threads in turns with the tokens. Parts: milliseconds of a token, bound by their bytes\n"
        "at that read's speed.",
};

static const struct arg kv_options[] = {
    { "context", ARG_STR, &contexts_text, "N,N,...",
      "positions before the token (default 512,8192,32768)" },
    MODEL_OPTIONS,
    BENCH_OPTIONS(b),
    { 0 },
};
static const struct args kv_args = {
    .program = "swarm-bench kv",
    .usage = "STORE [options]",
    .about = "Measures how fast a whole model decodes behind long contexts, whose keys and values "
             "are random numbers.",
    .options = kv_options,
    .more =
        "The bound is that of swarm-bench model: weights of a token and all K and V, read once.",
};

/* --- one measurement --- */

/* What the rounds gave. */
struct rounds {
    double token[ROUNDS_MAX], read[ROUNDS_MAX], ratio[ROUNDS_MAX];
    double part[PARTS][ROUNDS_MAX];
};

static void run_rounds(struct bench_session *s, struct rounds *r)
{
    bench_session_decode(s);
    for (uint32_t i = 0; i < rounds && !s->err; i++) {
        for (int p = 0; p < PARTS; p++) s->part[p] = 0;
        double start = bench_seconds();
        bench_session_decode(s);
        double middle = bench_seconds();
        bench_session_read(s);
        r->token[i] = middle - start;
        r->read[i] = bench_seconds() - middle;
        r->ratio[i] = r->read[i] / r->token[i];
        for (int p = 0; p < PARTS; p++) r->part[p][i] = s->part[p];
    }
}

static void add_rows(const struct bench_session *s, struct rounds *r, uint32_t len)
{
    double bytes[PARTS], all = 0;
    char who[64];

    bench_session_bytes(s, bytes);
    for (int p = 0; p < PARTS; p++) all += bytes[p];
    double token = bench_median(r->token, rounds), read = bench_median(r->read, rounds);
    double ratio = bench_median(r->ratio, rounds);
    snprintf(who, sizeof who, "context %u, batch %u, %uT", len, s->batch, b.workers->n);
    bench_add(&b, "tokens/s", s->batch / read, s->batch / token, ratio, "%s: decode", who);
    bench_add(&b, "GB/s", all / read / 1e9, all / token / 1e9, ratio, "%s: %.0f MB a step", who,
              all / 1e6);
    for (int p = 0; p < PARTS; p++) {
        double took = bench_median(r->part[p], rounds), least = bytes[p] / (all / read);
        if (took > 0 && (bytes[p] > 0 || p == SPENT_REST))
            bench_add(&b, "ms", least * 1e3, took * 1e3, least / took, "%s: %s", who,
                      bench_part_name((enum bench_part)p));
    }
}

/* --- the commands --- */

static enum err check_numbers(const uint32_t *contexts, unsigned n, const struct arch *a,
                              struct why *why)
{
    for (unsigned i = 0; i < n; i++)
        if (contexts[i] >= a->context)
            return fail(why, ERR_USAGE, "--context %u: the model has %u positions", contexts[i],
                        a->context);
    return ERR_OK;
}

static enum err measure(struct bench_session *s, const char *dir, const uint32_t *contexts,
                        unsigned n, struct why *why)
{
    struct rounds *r;

    if (batch < 1 || batch > BATCH_BENCH_MAX || rounds < 1 || rounds > ROUNDS_MAX)
        return fail(why, ERR_USAGE, "--batch is 1 to %d, --rounds 1 to %d", BATCH_BENCH_MAX,
                    ROUNDS_MAX);
    s->local.layers = layers;
    s->local.top_k = experts;
    enum err e = bench_session_open(s, &b, dir, model, batch, batch, why);
    if (!e) e = check_numbers(contexts, n, s->arch, why);
    if (e) return e;
    if (!(r = malloc(sizeof *r))) return fail(why, ERR_NOMEM, "out of memory");
    bench_session_warm(s);
    for (unsigned i = 0; i < n && !s->err; i++) {
        bench_session_fill(s, contexts[i]);
        run_rounds(s, r);
        if (!s->err) add_rows(s, r, contexts[i]);
    }
    free(r);
    if (s->err) *why = s->why;
    return s->err;
}

static int run(const struct args *args, int argc, char **argv,
               enum err (*contexts_of)(uint32_t *to, unsigned *n, struct why *why))
{
    static struct bench_session s;
    uint32_t contexts[CONTEXTS_MAX];
    unsigned n = 0;
    const char *dir;
    struct why why = { "" };

    if (args_parse(args, argc, argv, &dir, 1) != 1)
        return die(args, 2, "STORE is missing: the folder of a store");
    enum err e = bench_open(&b, args, &why);
    if (!e) e = contexts_of(contexts, &n, &why);
    if (!e) e = measure(&s, dir, contexts, n, &why);
    bench_session_close(&s);
    return bench_close(&b, e, &why);
}

static enum err one_context(uint32_t *to, unsigned *n, struct why *why)
{
    (void)why;
    to[(*n)++] = context;
    return ERR_OK;
}

static enum err list_of_contexts(uint32_t *to, unsigned *n, struct why *why)
{
    if (bench_numbers(contexts_text, to, CONTEXTS_MAX, n)) return ERR_OK;
    return fail(why, ERR_USAGE, "--context: up to %d numbers with commas between are needed",
                CONTEXTS_MAX);
}

int bench_model(int argc, char **argv)
{
    return run(&model_args, argc, argv, one_context);
}

int bench_kv(int argc, char **argv)
{
    return run(&kv_args, argc, argv, list_of_contexts);
}
