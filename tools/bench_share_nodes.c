/* bench_share_nodes.c - swarm-bench share --nodes: two real nodes on loopback that share their
 * layers, one core each, against one of them alone. */
#include "tools/bench_share.h"

#include "tools/bench_nodes.h"

#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

enum {
    WORDS_FEW = 8,
    WORDS_MORE = 40,
    QUESTION_MAX = 65536,
    ANSWER_TOKENS = 41,
    SHARING_MS = 30000,
    RTT_MAX = 1000, /* ms */
};

/* Milliseconds in the layers, median of the rounds. */
struct took {
    double token, prompt, predicted; /* of a token */
};

/* Words that no question before had in this order: nothing of it is remembered. */
static const char *question(uint32_t words)
{
    static const char *const word[] = {
        "river",  "paper",  "yellow", "engine", "winter", "music",
        "bridge", "letter", "forest", "window", "ocean",  "market"
    };
    static char text[QUESTION_MAX];
    static uint64_t seed = 7;
    size_t n = 0;

    for (uint32_t i = 0; i < words && n + 16 < sizeof text; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        n += (size_t)snprintf(text + n, sizeof text - n, "%s ", word[(seed >> 33) % 12]);
    }
    return text;
}

/* How many words make a prompt of about so many tokens. */
static enum err find_words(const struct bench_node *n, uint32_t tokens, uint32_t *words,
                           struct why *why)
{
    struct bench_answer few, more;
    enum err e = bench_ask(n, question(WORDS_FEW), 1, &few, 1, why);

    if (!e) e = bench_ask(n, question(WORDS_MORE), 1, &more, 1, why);
    if (e) return e;
    double each = ((double)more.n_prompt - few.n_prompt) / (WORDS_MORE - WORDS_FEW);
    *words = WORDS_FEW;
    if (each > 0 && tokens > few.n_prompt) *words += (uint32_t)((tokens - few.n_prompt) / each);
    return ERR_OK;
}

static enum err ask_all(const struct bench_node *n, const struct bench_share *c, struct took *out,
                        struct why *why)
{
    double token[BENCH_SHARE_ROUNDS], prompt[BENCH_SHARE_ROUNDS];
    struct bench_answer a;
    uint32_t words = 0;
    enum err e = find_words(n, c->tokens, &words, why);

    for (uint32_t i = 0; i < c->rounds && !e; i++) {
        e = bench_ask(n, question(WORDS_FEW), ANSWER_TOKENS, &a, 1, why);
        if (!e && a.n_tokens < 2) e = fail(why, ERR_IO, "the model ends after one token");
        if (!e) token[i] = 1e3 / a.tokens_per_s - a.pick_us / 1e3 / a.n_tokens;
        if (!e) e = bench_ask(n, question(words), 1, &a, 1, why);
        if (!e) prompt[i] = a.stage[0].compute_us / 1e3 / a.n_prompt * c->tokens;
        if (!e && a.n_stages != 1) e = fail(why, ERR_IO, "the layers are %u stages", a.n_stages);
    }
    if (e) return e;
    out->token = bench_median(token, c->rounds);
    out->prompt = bench_median(prompt, c->rounds);
    return ERR_OK;
}

/* A node on one core: a child has its parent's cores. */
static enum err start_on(struct bench_node *n, unsigned cpu, struct why *why)
{
    cpu_set_t all, one;
    bool known = !sched_getaffinity(0, sizeof all, &all);

    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    (void)sched_setaffinity(0, sizeof one, &one);
    enum err e = bench_node_start(n, why);
    if (known) (void)sched_setaffinity(0, sizeof all, &all);
    return e;
}

/* What the leader says of a token in all layers: the end of its sentence on prediction. */
static enum err read_prediction(const struct bench_node *leader, uint32_t layers,
                                struct took *alone, struct took *both, struct why *why)
{
    char line[BENCH_LOG_LINE];
    const char *at;

    if (!bench_node_says(leader, " ms alone,", SHARING_MS, line) ||
        !(at = strstr(line, "a layer takes")) ||
        sscanf(at, "a layer takes %lf ms alone, %*f ms with experts shared, %lf", &alone->predicted,
               &both->predicted) != 2)
        return fail(why, ERR_TIMEOUT, "the two nodes do not share their layers");
    alone->predicted *= layers;
    both->predicted *= layers;
    return ERR_OK;
}

static enum err run(const struct bench_share *c, struct took *alone, struct took *both,
                    struct why *why)
{
    char line[BENCH_LINE];

    struct bench_node one = { .store = c->dir, .model = c->model, .hi = c->layers, .threads = 1 };
    struct bench_node leader = one, member = one;

    leader.share = member.share = true;
    member.join = &leader;
    leader.share_rtt = member.share_rtt = c->delay ? RTT_MAX : 0;
    enum err e = start_on(&one, 0, why);
    if (!e) bench_node_settle(&one);
    if (!e) e = ask_all(&one, c, alone, why);
    if (one.pid) bench_node_stop(&one);
    if (!e && c->delay) e = bench_proxy_start(line, c->delay, why);
    if (c->delay) leader.line = line;
    if (!e) e = start_on(&leader, 0, why);
    if (!e) e = start_on(&member, 1, why);
    if (!e) e = read_prediction(&leader, c->layers, alone, both, why);
    if (!e) bench_node_settle(&leader);
    if (!e) bench_node_settle(&member);
    if (!e) e = ask_all(&leader, c, both, why);
    if (member.pid) bench_node_stop(&member);
    if (leader.pid) bench_node_stop(&leader);
    return e;
}

enum err bench_share_nodes(struct bench *b, const struct bench_share *c, struct why *why)
{
    struct took alone, both;
    enum err e = bench_nodes_init(why);

    if (e) return e;
    e = run(c, &alone, &both, why);
    bench_nodes_fini();
    if (e) return e;
    bench_add(b, "ms", alone.token, both.token, alone.token / both.token,
              "nodes: decode, %u layers", c->layers);
    bench_add(b, "ms", alone.predicted, both.predicted, alone.predicted / both.predicted,
              "nodes: decode, %u layers, predicted", c->layers);
    bench_add(b, "ms", alone.prompt, both.prompt, alone.prompt / both.prompt,
              "nodes: prefill of %u, %u layers", c->tokens, c->layers);
    return ERR_OK;
}
