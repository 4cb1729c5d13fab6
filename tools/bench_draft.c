/* bench_draft.c - swarm-bench draft: what tokens that are guessed ahead bring, and what they cost
 * where they bring nothing. */
#include "tools/bench.h"
#include "tools/bench_nodes.h"
#include "tools/local.h"

enum { ROUNDS_MAX = 32, TOKENS_MAX = 4096, CASES = 5 };

static struct bench bench;
static const char *store_dir, *model, *question = "Tell me about Japan.",
                                      *copying = "Describe Japan.";
static const char *text =
    "Japan is in Eastern Asia. Its capital is Tokyo. About 127.1 million people "
    "live there, on 377,930 square kilometres. They speak Japanese. They pay "
    "with the Japanese Yen (JPY). It has no land borders.";
static uint32_t n_nodes = 3, tokens = 128, delay = 40, rounds = 3;

static const struct arg options[] = {
    { "model", ARG_STR, &model, "NAME", "which model, if the store has several" },
    { "nodes", ARG_U32, &n_nodes, "N", "nodes that share the layers (default: 3)" },
    { "delay", ARG_U32, &delay, "MS", "each way, to every node but the first (default: 40)" },
    { "tokens", ARG_U32, &tokens, "N", "of an answer, at most (default: 128)" },
    { "rounds", ARG_U32, &rounds, "N", "of everything; medians are printed (default: 3)" },
    { "question", ARG_STR, &question, "TEXT", "what is asked" },
    { "copying", ARG_STR, &copying, "TEXT", "what is asked about the text" },
    { "text", ARG_STR, &text, "TEXT", "what the copying answer is to repeat, as system message" },
    BENCH_OPTIONS(bench),
    { 0 },
};
static const struct args args = {
    .program = "swarm-bench draft",
    .usage = "STORE [options]",
    .about = "Starts nodes behind proxies that delay, and one that holds everything, and asks the "
             "same with and without guesses in turns: tokens a second, and the ratio in one run.",
    .options = options,
    .more =
        "The defaults are for atlas.  The proxy is swarm-proxy, which is built with the tests.\n"
        "Bound is without guesses, achieved with them.",
};

/* A question, and where it is asked. */
struct drafted {
    const char *what, *how; /* how: of swarm-ask --draft */
    bool at_home;
    const char *words[8]; /* for swarm-ask besides */
    /* a number of each round */
    double plain[ROUNDS_MAX], guessed[ROUNDS_MAX], ratio[ROUNDS_MAX];
    double drafted, accepted;
};
static struct drafted cases[CASES] = {
    { .what = "the prediction layer", .how = "mtp", .words = { "--greedy" } },
    { .what = "the prediction layer, temperature 1",
      .how = "mtp",
      .words = { "--temperature", "1", "--seed", "7" } },
    { .what = "a text that is copied, by n-grams", .how = "ngram", .words = { "--greedy" } },
    { .what = "where nothing can be guessed (temperature 100)",
      .how = "auto",
      .words = { "--temperature", "100", "--seed", "7" } },
    { .what = "at home, where a row costs what a token does",
      .how = "auto",
      .at_home = true,
      .words = { "--greedy" } },
};

/* Everything under way. */
struct run {
    uint32_t n_layers;
    char line[BENCH_NODES_MAX][BENCH_LINE];
    struct bench_node one, node[BENCH_NODES_MAX];
};

static enum err look_at_model(struct run *r, struct why *why)
{
    struct local l = { 0 };
    enum err e = local_open(&l, store_dir, model, 1, bench.kernels, bench.workers, why);
    r->n_layers = e ? 0 : l.weights.manifest.arch.n_layers;
    local_close(&l);
    if (!e && r->n_layers < n_nodes)
        return fail(why, ERR_USAGE, "the model has %u layers, too few for %u nodes", r->n_layers,
                    n_nodes);
    return e;
}

static struct bench_node node_of(uint32_t lo, uint32_t hi)
{
    return (struct bench_node){
        .store = store_dir, .model = model, .lo = lo, .hi = hi, .threads = 1, .drafts = true
    };
}

static enum err start_nodes(struct run *r, struct why *why)
{
    enum err e = ERR_OK;
    for (uint32_t i = 0; i < n_nodes && !e; i++) {
        r->node[i] = node_of(r->n_layers * i / n_nodes, r->n_layers * (i + 1) / n_nodes);
        if (i > 0) e = bench_proxy_start(r->line[i], delay, why);
        if (i > 0) r->node[i].line = r->line[i];
        r->node[i].join = i ? &r->node[0] : NULL;
        if (!e) e = bench_node_start(&r->node[i], why);
    }
    r->one = node_of(0, r->n_layers);
    if (!e) e = bench_node_start(&r->one, why);
    for (uint32_t i = 0; i < n_nodes && !e; i++) bench_node_settle(&r->node[i]);
    if (!e) bench_node_settle(&r->one);
    return e;
}

static enum err ask(const struct run *r, const struct drafted *c, const char *how,
                    struct bench_answer *a, struct why *why)
{
    const char *words[16] = { "--draft", how };
    int k = 2;
    for (int i = 0; c->words[i]; i++) words[k++] = c->words[i];
    bool copies = strcmp(c->how, "ngram") == 0;
    if (copies) words[k++] = "--system", words[k++] = text;
    enum err e = bench_ask_so(c->at_home ? &r->one : &r->node[0], copies ? copying : question,
                              tokens, words, a, why);
    if (!e && a->tokens_per_s <= 0)
        e = fail(why, ERR_RANGE, "the answer is too short to measure; --question asks another");
    return e;
}

/* With and without in turns; at home an answer takes milliseconds, so many, and the median. */
static enum err measure_case(const struct run *r, struct drafted *c, unsigned round,
                             struct why *why)
{
    enum { AT_HOME = 40 };
    double rate[2][AT_HOME];
    unsigned n = c->at_home ? AT_HOME : 1;
    enum err e = ERR_OK;
    for (unsigned i = 0; i < n && !e; i++)
        for (int guess = 0; guess < 2 && !e; guess++) {
            struct bench_answer a = { 0 };
            e = ask(r, c, guess ? c->how : "off", &a, why);
            rate[guess][i] = a.tokens_per_s;
            c->drafted += a.drafted;
            c->accepted += a.accepted;
        }
    if (e) return e;
    c->plain[round] = bench_median(rate[0], n);
    c->guessed[round] = bench_median(rate[1], n);
    c->ratio[round] = c->guessed[round] / c->plain[round];
    return ERR_OK;
}

static enum err measure(struct run *r, struct why *why)
{
    if (n_nodes < 2 || n_nodes > BENCH_NODES_MAX - 1)
        return fail(why, ERR_USAGE, "--nodes: 2 to %d", BENCH_NODES_MAX - 1);
    if (tokens < 2 || tokens > TOKENS_MAX)
        return fail(why, ERR_USAGE, "--tokens: 2 to %d", TOKENS_MAX);
    if (rounds < 1 || rounds > ROUNDS_MAX)
        return fail(why, ERR_USAGE, "--rounds: 1 to %d", ROUNDS_MAX);
    enum err e = look_at_model(r, why);
    if (!e) e = bench_nodes_init(why);
    if (!e) e = start_nodes(r, why);
    for (unsigned k = 0; k < rounds && !e; k++)
        for (unsigned i = 0; i < CASES && !e; i++) e = measure_case(r, &cases[i], k, why);
    for (unsigned i = 0; i < CASES && !e; i++) {
        struct drafted *c = &cases[i];
        bench_add(&bench, "tokens/s", bench_median(c->plain, rounds),
                  bench_median(c->guessed, rounds), bench_median(c->ratio, rounds), "%s", c->what);
        bench_add(&bench, "%", 0, c->drafted > 0 ? 100 * c->accepted / c->drafted : 0, 0,
                  "  of %.0f guesses were right", c->drafted);
    }
    return e;
}

int bench_draft(int argc, char **argv)
{
    static struct run r;
    struct why why = { "" };

    if (args_parse(&args, argc, argv, &store_dir, 1) != 1)
        return die(&args, 2, "STORE is missing: the folder with a model");
    bench.bound_is = "without";
    bench.achieved_is = "with";
    enum err e = bench_open(&bench, &args, &why);
    if (!e) e = measure(&r, &why);
    bench_nodes_fini();
    return bench_close(&bench, e, &why);
}
