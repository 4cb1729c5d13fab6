/* bench_swarm.c - swarm-bench swarm: what it costs that several nodes share a model. */
#include "proto/conn.h"
#include "tools/bench.h"
#include "tools/bench_nodes.h"
#include "tools/bench_session.h"

enum {
    ROUNDS_MAX = 64,
    TOKENS_MAX = 4096,
    START_TARGET_MS = 1500,
    HOP_TARGET_US = 150,
    MEMORY_TARGET_MIB = 64,
    SEALS = 2000, /* rows sealed and opened to time it */
};

static struct bench bench;
static const char *store_dir, *model, *question = "Tell me about Japan.";
static uint32_t n_nodes = 3, tokens = 48, sessions = 4, rounds = 5;

static const struct arg options[] = {
    { "model", ARG_STR, &model, "NAME", "which model, if the store has several" },
    { "nodes", ARG_U32, &n_nodes, "N", "nodes that share the layers (default: 3)" },
    { "tokens", ARG_U32, &tokens, "N", "of an answer, at most (default: 48)" },
    { "sessions", ARG_U32, &sessions, "N", "questions at once in the second part (default: 4)" },
    { "rounds", ARG_U32, &rounds, "N", "of everything; medians are printed (default: 5)" },
    { "question", ARG_STR, &question, "TEXT", "what is asked" },
    BENCH_OPTIONS(bench),
    { 0 },
};
static const struct args args = {
    .program = "swarm-bench swarm",
    .usage = "STORE [options]",
    .about = "Starts real nodes on loopback and asks them: tokens a second against one process "
             "that computes with the same threads, what a hop adds, how long a start takes, and "
             "how much memory a node has.",
    .options = options,
    .more = "The isa is this program's part only: nodes choose the best by themselves.\n"
            "A hop is what a token's time is more than the computing of its stages and its pick,\n"
            "divided by the connections it crosses (as many as nodes).",
};

/* Everything under way. */
struct run {
    struct bench_session local; /* of one */
    uint32_t n_layers, hidden;
    struct bench_node one, node[BENCH_NODES_MAX];
    /* a number of each round */
    double start_ms[ROUNDS_MAX], local_rate[ROUNDS_MAX], one_ratio[ROUNDS_MAX],
        one_rate[ROUNDS_MAX], rate[ROUNDS_MAX], ratio[ROUNDS_MAX], hop_us[ROUNDS_MAX],
        wait_us[ROUNDS_MAX], one_total[ROUNDS_MAX], total[ROUNDS_MAX], total_ratio[ROUNDS_MAX];
};

/* --- one process --- */

/* Tokens a second in the middle of such an answer. */
static enum err decode_here(struct run *r, const struct bench_answer *a, double *rate,
                            struct why *why)
{
    bench_session_fill(&r->local, a->n_prompt + a->n_tokens / 2);
    double began = bench_seconds();
    for (uint32_t i = 1; i < a->n_tokens && !r->local.err; i++) bench_session_decode(&r->local);
    *rate = (a->n_tokens - 1) / (bench_seconds() - began);
    if (r->local.err) *why = r->local.why;
    return r->local.err;
}

/* --- a hop's arithmetic --- */

/* Messages of one connection to the other, in memory. */
static enum err pump(struct conn *from, struct conn *to, struct why *why)
{
    struct slice p = conn_pending(from);
    enum err e = conn_feed(to, p, 0, why);
    conn_sent(from, p.n);
    return e;
}

static enum err join(struct conn **a, struct conn **b, struct identity me[2], struct why *why)
{
    struct conn_config c = { .me = &me[0],
                             .swarm = swarm_key_public(),
                             .initiator = true,
                             .agent = "swarm-bench",
                             .random = random_bytes,
                             .unix_s = 1 };
    enum err e = conn_open(a, &c);
    c.me = &me[1];
    c.initiator = false;
    if (!e) e = conn_open(b, &c);
    for (int i = 0; i < 4 && !e; i++) {
        e = pump(*a, *b, why);
        if (!e) e = pump(*b, *a, why);
    }
    return e ? e : conn_state(*a) == CONN_OPEN ? ERR_OK : ERR_AUTH;
}

/* Microseconds to encode, seal, open and decode one row. */
static enum err time_sealing(const struct run *r, double *us, struct why *why)
{
    static uint8_t x[ACT_BYTES_MAX];
    uint8_t session[SESSION_BYTES] = { 1 };
    struct identity me[2];
    struct conn *a = NULL, *b = NULL;
    struct msg m = { .type = MSG_ACT }, got;
    struct slice bytes;

    identity_make(&me[0]);
    identity_make(&me[1]);
    m.u.ACT.session = slice_of(session, sizeof session);
    m.u.ACT.rows = m.u.ACT.want = 1;
    m.u.ACT.x = slice_of(x, 2 * (size_t)r->hidden);
    enum err e = join(&a, &b, me, why);
    double start = bench_seconds();
    for (unsigned i = 0; i < SEALS && !e; i++) {
        e = conn_send(a, &m);
        if (!e) e = pump(a, b, why);
        if (!e && !conn_next(b, &bytes)) e = ERR_MALFORMED;
        if (!e) e = msg_decode(&got, bytes, why);
    }
    *us = (bench_seconds() - start) / SEALS * 1e6;
    conn_close(a);
    conn_close(b);
    return e && !why->text[0] ? fail(why, e, "rows cannot be sealed: %s", err_text(e)) : e;
}

/* What a token's time is more than computing, by hop; first: of the prompt alone. */
static double hop_us(const struct bench_answer *first, const struct bench_answer *a, double *wait)
{
    double compute = 0, waited = 0, n = a->n_tokens - 1;

    for (uint32_t i = 0; i < a->n_stages; i++) {
        compute += a->stage[i].compute_us - first->stage[i].compute_us;
        waited += a->stage[i].wait_us - first->stage[i].wait_us;
    }
    compute += a->pick_us - first->pick_us;
    *wait = waited / n / a->n_stages;
    return (1e6 / a->tokens_per_s - compute / n) / a->n_stages;
}

/* --- nodes --- */

static struct bench_node node_of(uint32_t lo, uint32_t hi)
{
    return (struct bench_node){
        .store = store_dir, .model = model, .lo = lo, .hi = hi, .threads = bench.workers->n
    };
}

static enum err start_nodes(struct run *r, struct why *why)
{
    enum err e = ERR_OK;

    for (uint32_t i = 0; i < n_nodes && !e; i++) {
        r->node[i] = node_of(r->n_layers * i / n_nodes, r->n_layers * (i + 1) / n_nodes);
        r->node[i].join = i ? &r->node[0] : NULL;
        e = bench_node_start(&r->node[i], why);
    }
    return e;
}

/* From nothing to the first token of one node that holds everything. */
static enum err time_start(struct run *r, unsigned round, struct why *why)
{
    struct bench_answer a;

    bench_node_stop(&r->one);
    r->one = node_of(0, r->n_layers);
    double start = bench_seconds();
    enum err e = bench_node_start(&r->one, why);
    if (!e) e = bench_ask(&r->one, question, 1, &a, 1, why);
    r->start_ms[round] = (bench_seconds() - start) * 1e3;
    return e;
}

static enum err time_single(struct run *r, unsigned k, struct why *why)
{
    struct bench_answer a, one, first;
    enum err e = bench_ask(&r->node[0], question, 1, &first, 1, why);

    if (!e) e = bench_ask(&r->node[0], question, tokens, &a, 1, why);
    if (!e && (a.n_tokens < 2 || a.tokens_per_s <= 0))
        e = fail(why, ERR_RANGE, "the answer is too short to measure; --question asks another");
    if (!e) e = bench_ask(&r->one, question, tokens, &one, 1, why);
    if (!e) e = decode_here(r, &a, &r->local_rate[k], why);
    if (e) return e;
    r->rate[k] = a.tokens_per_s;
    r->ratio[k] = a.tokens_per_s / r->local_rate[k];
    r->one_rate[k] = one.tokens_per_s;
    r->one_ratio[k] = one.tokens_per_s / r->local_rate[k];
    r->hop_us[k] = hop_us(&first, &a, &r->wait_us[k]);
    return ERR_OK;
}

static double sum_of_rates(const struct bench_answer *a, unsigned n)
{
    double sum = 0;
    for (unsigned i = 0; i < n; i++) sum += a[i].tokens_per_s;
    return sum;
}

static enum err time_many(struct run *r, unsigned k, struct why *why)
{
    struct bench_answer a[BENCH_ASKS_MAX], one[BENCH_ASKS_MAX];
    enum err e = bench_ask(&r->node[0], question, tokens, a, sessions, why);

    if (!e) e = bench_ask(&r->one, question, tokens, one, sessions, why);
    if (e) return e;
    r->total[k] = sum_of_rates(a, sessions);
    r->one_total[k] = sum_of_rates(one, sessions);
    r->total_ratio[k] = r->total[k] / r->one_total[k];
    return ERR_OK;
}

/* --- the whole --- */

static enum err open_run(struct run *r, struct why *why)
{
    if (n_nodes < 2 || n_nodes > BENCH_NODES_MAX - 1)
        return fail(why, ERR_USAGE, "--nodes: 2 to %d", BENCH_NODES_MAX - 1);
    if (tokens < 2 || tokens > TOKENS_MAX)
        return fail(why, ERR_USAGE, "--tokens: 2 to %d", TOKENS_MAX);
    if (sessions < 1 || sessions > BENCH_ASKS_MAX)
        return fail(why, ERR_USAGE, "--sessions: 1 to %d", BENCH_ASKS_MAX);
    if (rounds < 1 || rounds > ROUNDS_MAX)
        return fail(why, ERR_USAGE, "--rounds: 1 to %d", ROUNDS_MAX);
    if (proto_init()) return fail(why, ERR_UNSUPPORTED, "libsodium does not start");

    enum err e = bench_session_open(&r->local, &bench, store_dir, model, 1, 1, why);
    if (e) return e;
    r->n_layers = r->local.arch->n_layers;
    r->hidden = r->local.arch->hidden;
    if (r->n_layers < n_nodes)
        return fail(why, ERR_USAGE, "the model has %u layers, too few for %u nodes", r->n_layers,
                    n_nodes);
    bench_session_warm(&r->local);
    return bench_nodes_init(why);
}

static void add_speed(struct run *r)
{
    double local = bench_median(r->local_rate, rounds), one = bench_median(r->one_total, rounds);

    bench_add(&bench, "tokens/s", local, bench_median(r->one_rate, rounds),
              bench_median(r->one_ratio, rounds), "one node");
    bench_add(&bench, "tokens/s", local, bench_median(r->rate, rounds),
              bench_median(r->ratio, rounds), "%u nodes", n_nodes);
    bench_add(&bench, "tokens/s", one, bench_median(r->total, rounds),
              bench_median(r->total_ratio, rounds), "%u sessions, %u nodes to one", sessions,
              n_nodes);
}

static enum err add_costs(struct run *r, struct why *why)
{
    double seal = 0, most = 0, files = 0;
    enum err e = time_sealing(r, &seal, why);

    for (uint32_t i = 0; i < n_nodes && !e; i++) {
        uint64_t anonymous, file;
        e = bench_node_memory(&r->node[i], &anonymous, &file, why);
        if ((double)anonymous > most) most = (double)anonymous;
        files += (double)file;
    }
    if (e) return e;
    double hop = bench_median(r->hop_us, rounds), wait = bench_median(r->wait_us, rounds);
    bench_add(&bench, "us", HOP_TARGET_US, hop, 0, "a hop");
    bench_add(&bench, "us", 0, seal, 0, "a hop: encode, seal, open, decode");
    bench_add(&bench, "us", 0, wait, 0, "a hop: until the compute thread has it");
    bench_add(&bench, "us", 0, hop > seal + wait ? hop - seal - wait : 0, 0,
              "a hop: sockets and loops");
    bench_add(&bench, "ms", START_TARGET_MS, bench_median(r->start_ms, rounds), 0,
              "from start to first token");
    bench_add(&bench, "MiB", MEMORY_TARGET_MIB, most / (1 << 20), 0,
              "private memory of a node after its sessions");
    bench_add(&bench, "MiB", 0, files / (1 << 20), 0, "mapped files of the %u nodes", n_nodes);
    return ERR_OK;
}

static enum err measure(struct run *r, struct why *why)
{
    enum err e = open_run(r, why);

    for (unsigned k = 0; k < rounds && !e; k++) e = time_start(r, k, why);
    if (!e) e = start_nodes(r, why);
    if (!e) bench_node_settle(&r->one);
    for (uint32_t i = 0; i < n_nodes && !e; i++) bench_node_settle(&r->node[i]);
    for (unsigned k = 0; k < rounds && !e; k++) {
        e = time_single(r, k, why);
        if (!e) e = time_many(r, k, why);
    }
    if (e) return e;
    add_speed(r);
    return add_costs(r, why);
}

int bench_swarm(int argc, char **argv)
{
    static struct run r;
    struct why why = { "" };

    if (args_parse(&args, argc, argv, &store_dir, 1) != 1)
        return die(&args, 2, "STORE is missing: the folder with a model");
    enum err e = bench_open(&bench, &args, &why);
    if (!e) e = measure(&r, &why);
    bench_nodes_fini();
    bench_session_close(&r.local);
    return bench_close(&bench, e, &why);
}
