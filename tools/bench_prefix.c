/* bench_prefix.c - swarm-bench prefix: how much sooner the second turn of a conversation begins
 * than the first (docs/prefix.md). */
#include "tools/bench.h"
#include "tools/bench_nodes.h"
#include "tools/local.h"

#include <stdlib.h>

enum {
    ROUNDS_MAX = 16,
    POSITIONS_MAX = 1 << 17,
    GOAL = 10,
    TOKENS = 8 /* of an answer */
};

static struct bench bench;
static const char *store_dir, *model;
static uint32_t n_nodes = 2, positions = 2000, more = 64, rounds = 3;

static const struct arg options[] = {
    { "model", ARG_STR, &model, "NAME", "which model, if the store has several" },
    { "nodes", ARG_U32, &n_nodes, "N", "nodes that share the layers (default: 2)" },
    { "positions", ARG_U32, &positions, "N", "of the first turn, about (default: 2000)" },
    { "more", ARG_U32, &more, "N", "of the second turn, about (default: 64)" },
    { "rounds", ARG_U32, &rounds, "N", "conversations; medians are printed (default: 3)" },
    BENCH_OPTIONS(bench),
    { 0 },
};
static const struct args args = {
    .program = "swarm-bench prefix",
    .usage = "STORE [options]",
    .about = "Starts real nodes on loopback and asks them two questions, of which the second "
             "begins with all of the first: how long each waits for its first token.",
    .options = options,
    .more = "The isa is this program's part only: nodes choose the best by themselves.",
};

struct run {
    struct bench_node node[BENCH_NODES_MAX];
    double per_word; /* positions */
    double first_ms[ROUNDS_MAX], second_ms[ROUNDS_MAX], ratio[ROUNDS_MAX];
    uint32_t n_first, n_second, n_known; /* positions, of the last round */
};

static enum err ask(const struct run *r, struct text *question, struct bench_answer *a,
                    struct why *why)
{
    text_add(question, "", 1);
    if (question->failed) return fail(why, ERR_NOMEM, "out of memory");
    enum err e = bench_ask(&r->node[0], question->p, TOKENS, a, 1, why);
    question->n--;
    return e;
}

static enum err start_nodes(struct run *r, uint32_t n_layers, struct why *why)
{
    enum err e = ERR_OK;
    for (uint32_t i = 0; i < n_nodes && !e; i++) {
        r->node[i] = (struct bench_node){ .store = store_dir,
                                          .model = model,
                                          .lo = n_layers * i / n_nodes,
                                          .hi = n_layers * (i + 1) / n_nodes,
                                          .threads = bench.workers->n,
                                          .keeps = true,
                                          .join = i ? &r->node[0] : NULL };
        e = bench_node_start(&r->node[i], why);
        if (!e) bench_node_settle(&r->node[i]);
    }
    return e;
}

static enum err time_turns(struct run *r, uint32_t round, struct why *why)
{
    struct text t = { 0 };
    struct bench_answer a, b;
    bench_words(&t, (uint32_t)(positions / r->per_word), round);
    enum err e = ask(r, &t, &a, why);
    bench_words(&t, (uint32_t)(more / r->per_word) + 1, round + 1);
    if (!e) e = ask(r, &t, &b, why);
    free(t.p);
    if (e) return e;
    r->first_ms[round] = a.first_ms;
    r->second_ms[round] = b.first_ms;
    r->ratio[round] = a.first_ms / b.first_ms;
    r->n_first = a.n_prompt;
    r->n_second = b.n_prompt;
    r->n_known = b.n_known;
    return ERR_OK;
}

static enum err measure(struct run *r, struct why *why)
{
    struct local local = { 0 };
    if (n_nodes < 1 || n_nodes > BENCH_NODES_MAX)
        return fail(why, ERR_USAGE, "--nodes: 1 to %d", BENCH_NODES_MAX);
    if (rounds < 1 || rounds > ROUNDS_MAX)
        return fail(why, ERR_USAGE, "--rounds: 1 to %d", ROUNDS_MAX);
    if (positions < 1 || positions > POSITIONS_MAX || more < 1 || more > positions)
        return fail(why, ERR_USAGE, "--positions: 1 to %d, --more: no more than that",
                    POSITIONS_MAX);
    enum err e = local_open(&local, store_dir, model, 1, bench.kernels, bench.workers, why);
    uint32_t n_layers = local.weights.manifest.arch.n_layers;
    local_close(&local);
    if (!e) e = bench_nodes_init(why);
    if (!e) e = start_nodes(r, n_layers, why);
    if (!e) e = bench_positions_of_word(&r->node[0], &r->per_word, why);
    for (uint32_t i = 0; i < rounds && !e; i++) e = time_turns(r, i, why);
    if (e) return e;
    bench_add(&bench, "ms", 0, bench_median(r->first_ms, rounds), 0,
              "first token of a turn of %u positions", r->n_first);
    bench_add(&bench, "ms", 0, bench_median(r->second_ms, rounds), 0,
              "of the next, %u, of which %u are known", r->n_second, r->n_known);
    bench_add(&bench, "times", GOAL, bench_median(r->ratio, rounds), 0, "sooner");
    return ERR_OK;
}

int bench_prefix(int argc, char **argv)
{
    static struct run r;
    struct why why = { "" };

    if (args_parse(&args, argc, argv, &store_dir, 1) != 1)
        return die(&args, 2, "STORE is missing: the folder with a model");
    enum err e = bench_open(&bench, &args, &why);
    if (!e) e = measure(&r, &why);
    bench_nodes_fini();
    return bench_close(&bench, e, &why);
}
