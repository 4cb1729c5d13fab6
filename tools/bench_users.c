/* bench_users.c - swarm-bench users: what happens when many ask (docs/users.md). */
#include "ask/crowd.h"
#include "home/keys.h"
#include "tools/bench.h"
#include "tools/bench_nodes.h"
#include "tools/bench_session.h"

#include <poll.h>
#include <stdlib.h>

enum {
    ROUNDS_MAX = 16,
    TOKENS_MAX = 4096,
    POSITIONS_MAX = 1 << 16,
    LIMIT_MS = 600000,
    LOOK_US = 100000, /* between two looks at a node's memory */
    CANCELLED = 8,    /* questions, */
    CANCELLED_TOKENS = 4000,
    BEGIN_MS = 20000,   /* which have so long to begin, */
    RUN_MS = 500,       /* and run so long */
    STREAM_TOKENS = 24, /* of a running answer before a prompt comes */
    SHARE_MOST = 3,     /* times a usual token, while a prompt is computed */
    FREE_MS = 1000,
    MEMORY_MIB = 64,    /* of a node, beside K, V and rows sent on */
    PERCENT_EVEN = 150, /* fastest to slowest of a crowd, at most */
    PERCENT_RATE = 80,  /* of the batched rate of one process, at least */
};

static struct bench bench;
static const char *store_dir, *model;
static uint32_t n_nodes = 4, clients = 16, many = 64, tokens = 256, prompt = 2000, rounds = 3,
                node_threads;

static const struct arg options[] = {
    { "model", ARG_STR, &model, "NAME", "which model, if the store has several" },
    { "nodes", ARG_U32, &n_nodes, "N", "nodes that share the layers (default: 4)" },
    { "clients", ARG_U32, &clients, "N", "askers of the first part (default: 16)" },
    { "many", ARG_U32, &many, "N", "of the second (default: 64)" },
    { "tokens", ARG_U32, &tokens, "N", "of an answer (default: 256)" },
    { "prompt", ARG_U32, &prompt, "N", "positions of the long prompt, about (default: 2000)" },
    { "node-threads", ARG_U32, &node_threads, "T",
      "of a node (default: what there is, divided by the nodes)" },
    { "rounds", ARG_U32, &rounds, "N", "of everything; medians are printed (default: 3)" },
    BENCH_OPTIONS(bench),
    { 0 },
};
static const struct args args = {
    .program = "swarm-bench users",
    .usage = "STORE [options]",
    .about = "Starts real nodes on loopback and lets many ask at once: tokens a second of all, how "
             "even their shares are, how a long prompt holds a running answer up, and how soon "
             "cancelled answers leave every stage.",
    .options = options,
    .more = "The isa is this program's part only: nodes choose the best by themselves. Rates are\n"
            "of the time in which all answers run. One process computes batches of as many rows\n"
            "with all threads.",
};

/* Everything under way. */
struct run {
    struct bench_session local; /* `clients` sessions */
    struct bench_node node[BENCH_NODES_MAX];
    struct link link;
    struct swarm_key swarm;
    uint32_t n_layers, n_prompt, n_kv;
    double per_word; /* positions */
    struct crowd_asker asker[CROWD_MAX];
    uint32_t n_askers;
    double looked_us, anonymous, kv; /* of the largest node: bytes, while a crowd asks */
    /* a number of each round */
    double here[ROUNDS_MAX], rate[ROUNDS_MAX], ratio[ROUNDS_MAX], many_rate[ROUNDS_MAX],
        even[ROUNDS_MAX], fair[ROUNDS_MAX], usual[ROUNDS_MAX], longest[ROUNDS_MAX],
        beside[ROUNDS_MAX], gap[ROUNDS_MAX], first_ms[ROUNDS_MAX], free_ms[ROUNDS_MAX];
};

/* --- askers --- */

static enum err add_asker(struct run *r, const char *text, uint32_t n, uint32_t begin_ms)
{
    char *conversation = crowd_question(text);
    struct crowd_asker *a = &r->asker[r->n_askers];
    if (!conversation) return ERR_NOMEM;
    *a = (struct crowd_asker){ .who = r->n_askers,
                               .conversation = conversation,
                               .tokens = n,
                               .seed = r->n_askers + 5,
                               .temperature = 1,
                               .begin_ms = begin_ms };
    r->n_askers++;
    return ERR_OK;
}

static void forget_askers(struct run *r)
{
    for (uint32_t i = 0; i < r->n_askers; i++) free((void *)(uintptr_t)r->asker[i].conversation);
    crowd_free(r->asker, r->n_askers);
    r->n_askers = 0;
}

/* The memory of the nodes, now and then. */
static void look(void *arg, uint64_t now_us)
{
    struct run *r = arg;
    uint64_t anonymous, file;
    if ((double)now_us < r->looked_us + LOOK_US) return;
    r->looked_us = (double)now_us;
    for (uint32_t i = 0; i < n_nodes; i++)
        if (!bench_node_memory(&r->node[i], &anonymous, &file, NULL) &&
            (double)anonymous > r->anonymous)
            r->anonymous = (double)anonymous;
}

/* Until all are answered. */
static enum err let_ask(struct run *r, bool looks, struct why *why)
{
    struct crowd_config c = { .link = &r->link,
                              .swarm = &r->swarm,
                              .limit_ms = LIMIT_MS,
                              .arg = r,
                              .on_tick = looks ? look : NULL };
    r->looked_us = -LOOK_US;
    enum err e = crowd_run(&c, r->asker, r->n_askers, why);
    for (uint32_t i = 0; i < r->n_askers && !e; i++) {
        const struct crowd_asker *a = &r->asker[i];
        if (!a->is_done)
            e = fail(why, ERR_IO, "asker %u: %s", i, a->failed[0] ? a->failed : "no answer");
        else if (a->n_marks < 2)
            e = fail(why, ERR_RANGE, "an answer is too short to measure");
    }
    return e;
}

/* --- rates --- */

struct span {
    uint64_t from, to; /* microseconds */
};

/* The time in which all answers run. */
static struct span all_run(const struct run *r)
{
    struct span s = { 0, UINT64_MAX };
    for (uint32_t i = 0; i < r->n_askers; i++) {
        const struct crowd_asker *a = &r->asker[i];
        if (a->mark[0].us > s.from) s.from = a->mark[0].us;
        if (a->mark[a->n_marks - 1].us < s.to) s.to = a->mark[a->n_marks - 1].us;
    }
    return s;
}

/* Tokens that he had by then. */
static uint32_t tokens_by(const struct crowd_asker *a, uint64_t us)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < a->n_marks && a->mark[i].us <= us; i++) n = a->mark[i].index;
    return n;
}

struct rates {
    double all;  /* tokens a second of all together */
    double even; /* of the fastest to the slowest, while all run */
    double fair; /* the same of the tokens that they have when the first is done */
};

static enum err rates_of(const struct run *r, struct rates *out, struct why *why)
{
    struct span s = all_run(r);
    uint32_t n = 0, least = UINT32_MAX, most = 0, had_least = UINT32_MAX, had_most = 0;
    if (s.to == UINT64_MAX || s.to <= s.from)
        return fail(why, ERR_RANGE, "the answers do not all run at once; --tokens asks for more");
    for (uint32_t i = 0; i < r->n_askers; i++) {
        uint32_t had = tokens_by(&r->asker[i], s.to);
        uint32_t got = had - tokens_by(&r->asker[i], s.from);
        n += got;
        if (got < least) least = got;
        if (got > most) most = got;
        if (had < had_least) had_least = had;
        if (had > had_most) had_most = had;
    }
    if (least == 0) return fail(why, ERR_RANGE, "too few tokens; --tokens asks for more");
    *out = (struct rates){ .all = n / ((double)(s.to - s.from) / 1e6),
                           .even = (double)most / least,
                           .fair = (double)had_most / had_least };
    return ERR_OK;
}

/* n ask at once. */
static enum err ask_at_once(struct run *r, uint32_t n, bool looks, struct rates *out,
                            struct why *why)
{
    char text[64];
    enum err e = ERR_OK;
    for (uint32_t i = 0; i < n && !e; i++) {
        snprintf(text, sizeof text, "question number %u of many", i);
        e = add_asker(r, text, tokens, 0);
    }
    if (!e) e = let_ask(r, looks, why);
    if (!e) e = rates_of(r, out, why);
    if (!e) r->n_prompt = r->asker[0].n_prompt;
    forget_askers(r);
    return e;
}

/* The batched rate of one process, in the middle of such answers. */
static enum err decode_here(struct run *r, double *rate, struct why *why)
{
    enum { STEPS = 16 };
    bench_session_fill(&r->local, r->n_prompt + tokens / 2);
    bench_session_decode(&r->local);
    double began = bench_seconds();
    for (uint32_t i = 0; i < STEPS && !r->local.err; i++) bench_session_decode(&r->local);
    *rate = STEPS * clients / (bench_seconds() - began);
    if (r->local.err) *why = r->local.why;
    return r->local.err;
}

static enum err time_crowds(struct run *r, uint32_t k, struct why *why)
{
    struct rates few = { 0 }, all = { 0 };
    enum err e = ask_at_once(r, clients, false, &few, why);
    if (!e) e = decode_here(r, &r->here[k], why);
    if (!e) e = ask_at_once(r, many, true, &all, why);
    if (e) return e;
    r->rate[k] = few.all;
    r->ratio[k] = few.all / r->here[k];
    r->many_rate[k] = all.all;
    r->even[k] = all.even;
    r->fair[k] = all.fair;
    return ERR_OK;
}

/* --- a long prompt beside a running answer --- */

/* r->asker[1]'s prompt is computed in [from, to): of asker 0, by then and meanwhile. */
static enum err pace_of(struct run *r, uint32_t k, struct why *why)
{
    const struct crowd_asker *a = &r->asker[0], *b = &r->asker[1];
    uint64_t from = b->begin_us, to = b->mark[0].us;
    double ignored;
    if (!crowd_pace(a, 0, from, &r->usual[k], &r->longest[k]) ||
        !crowd_pace(a, from, to, &ignored, &r->gap[k]))
        return fail(why, ERR_RANGE, "too few tokens beside the prompt; --prompt asks for a longer");
    uint32_t n = tokens_by(a, to) - tokens_by(a, from);
    r->beside[k] = (double)(to - from) / (n ? n : 1);
    r->first_ms[k] = (double)(to - from) / 1e3;
    return ERR_OK;
}

/* The answer runs until the prompt is through, however long that takes. */
static enum err time_prompt(struct run *r, uint32_t k, struct why *why)
{
    struct text t = { 0 };
    uint32_t begin_ms = 200 + (uint32_t)(STREAM_TOKENS * 1e3 * clients / r->rate[k]);
    bench_words(&t, (uint32_t)(prompt / r->per_word), k);
    enum err e = t.failed ? ERR_NOMEM : add_asker(r, "tell me all", TOKENS_MAX, 0);
    if (!e) e = add_asker(r, t.p, 4, begin_ms);
    free(t.p);
    if (!e) e = let_ask(r, false, why);
    if (!e) e = pace_of(r, k, why);
    r->n_kv = r->asker[1].n_prompt;
    forget_askers(r);
    return e;
}

/* --- cancelled --- */

/* Do all nodes have so many sessions? */
static enum err have_sessions(const struct run *r, uint32_t n, bool *yes, struct why *why)
{
    struct bench_work_of w;
    enum err e = ERR_OK;
    *yes = true;
    for (uint32_t i = 0; i < n_nodes && !e; i++) {
        e = bench_node_work(&r->node[i], &w, why);
        if (!e && (w.sessions != n || (n == 0 && w.requests > 0))) *yes = false;
    }
    return e;
}

static enum err wait_for_sessions(const struct run *r, uint32_t n, struct why *why)
{
    double until = bench_seconds() + BEGIN_MS / 1e3;
    bool yes = false;
    enum err e = ERR_OK;
    while (!yes && !e) {
        e = have_sessions(r, n, &yes, why);
        if (!e && !yes && bench_seconds() > until)
            e = fail(why, ERR_TIMEOUT, n ? "answers do not begin" : "cancelled answers stay");
    }
    return e;
}

static enum err time_cancel(struct run *r, uint32_t k, struct why *why)
{
    enum err e = bench_asks_begin(&r->node[0], "tell me all", CANCELLED_TOKENS, CANCELLED, why);
    if (!e) e = wait_for_sessions(r, CANCELLED, why);
    if (!e) (void)poll(NULL, 0, RUN_MS);
    double began = bench_seconds();
    bench_asks_interrupt();
    if (!e) e = wait_for_sessions(r, 0, why);
    r->free_ms[k] = (bench_seconds() - began) * 1e3;
    bench_asks_end();
    return e;
}

/* --- the whole --- */

static enum err check_options(struct why *why)
{
    if (n_nodes < 1 || n_nodes > BENCH_NODES_MAX)
        return fail(why, ERR_USAGE, "--nodes: 1 to %d", BENCH_NODES_MAX);
    if (clients < 1 || clients > 64 || many < 1 || many > 64)
        return fail(why, ERR_USAGE, "--clients, --many: 1 to 64");
    if (tokens < 8 || tokens > TOKENS_MAX)
        return fail(why, ERR_USAGE, "--tokens: 8 to %d", TOKENS_MAX);
    if (prompt < 1 || prompt > POSITIONS_MAX)
        return fail(why, ERR_USAGE, "--prompt: 1 to %d", POSITIONS_MAX);
    if (rounds < 1 || rounds > ROUNDS_MAX)
        return fail(why, ERR_USAGE, "--rounds: 1 to %d", ROUNDS_MAX);
    return ERR_OK;
}

static enum err start_nodes(struct run *r, struct why *why)
{
    enum err e = ERR_OK;
    uint32_t each = bench.workers->n / n_nodes;
    if (node_threads == 0) node_threads = each > 0 ? each : 1;
    for (uint32_t i = 0; i < n_nodes && !e; i++) {
        r->node[i] = (struct bench_node){ .store = store_dir,
                                          .model = model,
                                          .lo = r->n_layers * i / n_nodes,
                                          .hi = r->n_layers * (i + 1) / n_nodes,
                                          .threads = node_threads,
                                          .join = i ? &r->node[0] : NULL };
        e = bench_node_start(&r->node[i], why);
    }
    for (uint32_t i = 0; i < n_nodes && !e; i++) bench_node_settle(&r->node[i]);
    if (!e) e = link_parse(&r->link, r->node[0].link, why);
    return e;
}

static enum err open_run(struct run *r, struct why *why)
{
    enum err e = check_options(why);
    if (e) return e;
    if (proto_init()) return fail(why, ERR_UNSUPPORTED, "libsodium does not start");
    e = bench_session_open(&r->local, &bench, store_dir, model, clients, clients, why);
    if (e) return e;
    r->n_layers = r->local.arch->n_layers;
    if (r->n_layers < n_nodes)
        return fail(why, ERR_USAGE, "the model has %u layers, too few for %u nodes", r->n_layers,
                    n_nodes);
    bench_session_warm(&r->local);
    e = keys_swarm(&r->swarm, NULL, why);
    if (!e) e = bench_nodes_init(why);
    if (!e) e = start_nodes(r, why);
    return e ? e : bench_positions_of_word(&r->node[0], &r->per_word, why);
}

/* K and V of the crowd's answers in the largest node, and the rows that it keeps of what it sent
 * on, for a stage that is lost. */
static double crowd_bytes(const struct run *r)
{
    uint32_t n = (r->n_layers + n_nodes - 1) / n_nodes, rows = r->n_prompt + tokens;
    double sent = (double)rows * (double)arch_row_bytes(r->local.arch);
    return (sent + (double)kv_cost(r->local.arch, 0, n, rows)) * many;
}

static void add_rows(struct run *r)
{
    double here = bench_median(r->here, rounds), usual = bench_median(r->usual, rounds);
    double longest = bench_median(r->longest, rounds), mib = 1 << 20;
    bench_add(&bench, "tokens/s", 0, here, 0, "one process, batches of %u", clients);
    bench_add(&bench, "tokens/s", here * PERCENT_RATE / 100, bench_median(r->rate, rounds),
              bench_median(r->ratio, rounds), "%u clients, %u stages", clients, n_nodes);
    bench_add(&bench, "tokens/s", 0, bench_median(r->many_rate, rounds), 0, "%u clients", many);
    bench_add(&bench, "times", PERCENT_EVEN / 100.0, bench_median(r->even, rounds), 0,
              "%u clients: fastest to slowest", many);
    bench_add(&bench, "times", PERCENT_EVEN / 100.0, bench_median(r->fair, rounds), 0,
              "%u clients: most to least when the first is done", many);
    bench_add(&bench, "MiB", MEMORY_MIB + crowd_bytes(r) / mib, r->anonymous / mib, 0,
              "%u clients: private memory of the largest node", many);
    bench_add(&bench, "ms", 0, usual / 1e3, 0, "a token of a running answer");
    bench_add(&bench, "ms", 0, longest / 1e3, 0, "the longest of %u", STREAM_TOKENS);
    bench_add(&bench, "ms", SHARE_MOST * usual / 1e3, bench_median(r->beside, rounds) / 1e3, 0,
              "a token beside a prompt of %u", r->n_kv);
    bench_add(&bench, "ms", SHARE_MOST * usual / 1e3, bench_median(r->gap, rounds) / 1e3, 0,
              "the longest beside it");
    bench_add(&bench, "ms", 0, bench_median(r->first_ms, rounds), 0, "until that prompt's answer");
    bench_add(&bench, "ms", FREE_MS, bench_median(r->free_ms, rounds), 0,
              "until %d cancelled answers have left all stages", CANCELLED);
}

static enum err measure(struct run *r, struct why *why)
{
    enum err e = open_run(r, why);
    for (uint32_t k = 0; k < rounds && !e; k++) {
        e = time_crowds(r, k, why);
        if (!e) e = time_prompt(r, k, why);
        if (!e) e = time_cancel(r, k, why);
    }
    if (!e) add_rows(r);
    return e;
}

int bench_users(int argc, char **argv)
{
    static struct run r;
    struct why why = { "" };

    if (args_parse(&args, argc, argv, &store_dir, 1) != 1)
        return die(&args, 2, "STORE is missing: the folder with a model");
    bench.bound_is = "goal";
    enum err e = bench_open(&bench, &args, &why);
    if (!e) e = measure(&r, &why);
    forget_askers(&r);
    bench_nodes_fini();
    bench_session_close(&r.local);
    return bench_close(&bench, e, &why);
}
