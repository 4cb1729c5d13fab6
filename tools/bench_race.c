/* bench_race.c - swarm-bench race: the same weights in llama.cpp and here, in turns.
 *
 * Both sides have their weights in memory before the clock runs.  A round is theirs, then ours,
 * then the plain read of what a token touches; a row's ratio is the median of the rounds' ratios.
 * Theirs is whichever is faster of flash attention on and off, tried before the rounds. */
#include "store/gguf.h"
#include "tools/bench_peer.h"
#include "tools/bench_session.h"
#include "tools/progress.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    ROUNDS_MAX = 51,
    CONTEXTS_MAX = 16,
    TOKENS_MIN = 4, /* of one timing */
    TOKENS_MAX = 64,
    SLACK = 256, /* positions that a timing needs past its context */
};

static struct bench b;
static const char *model, *gguf, *contexts_text = "0,8192,32768";
static const char *python = "python3", *script = "scripts/llama_race.py";
static uint32_t prefill = 512, rounds = 5;

static const struct arg options[] = {
    { "gguf", ARG_STR, &gguf, "FILE",
      "the model's GGUF; written when missing (default: STORE.gguf)" },
    { "python", ARG_STR, &python, "PROGRAM", "a Python with llama-cpp-python (default: python3)" },
    { "script", ARG_STR, &script, "FILE", "our side of it (default: scripts/llama_race.py)" },
    { "context", ARG_STR, &contexts_text, "N,N,...",
      "positions before the decoded tokens (default 0,8192,32768)" },
    { "prefill", ARG_U32, &prefill, "N", "tokens of a prompt, 0 for none (default 512)" },
    { "rounds", ARG_U32, &rounds, "N", "turns of each (default 5)" },
    { "model", ARG_STR, &model, "NAME", "which model, if the store has several" },
    BENCH_OPTIONS(b),
    { 0 },
};
static const struct args args = {
    .program = "swarm-bench race",
    .usage = "STORE [options]",
    .about = "Runs a model of a store here and, with the same weights, in llama.cpp, in turns, and "
             "prints tokens per second of both.",
    .options = options,
    .more =
        "llama.cpp runs as it is fastest: weights repacked at load, flash attention on or off,\n"
        "K and V in f16, batches of 512. Its contexts are filled with copies of 512 computed\n"
        "tokens moved to their positions; ours with random numbers. 'of the bound': the plain\n"
        "read of all bytes that a token touches, by the same threads, in the same turns.",
};

struct race {
    struct bench_session s;
    struct peer peer;
    uint32_t context[CONTEXTS_MAX];
    unsigned n_contexts;
    double theirs[ROUNDS_MAX], ours[ROUNDS_MAX], read[ROUNDS_MAX]; /* seconds for the same work */
    double ratio[ROUNDS_MAX], their_part[ROUNDS_MAX], our_part[ROUNDS_MAX];
};

/* --- the file --- */

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
    progress_set(arg, done, total);
}

/* Into the page cache, where ours is too. */
static enum err read_file(const char *path, struct why *why)
{
    enum { PIECE = 1 << 20 };
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    void *p = malloc(PIECE);
    ssize_t got = -1;

    if (fd >= 0 && p)
        while ((got = read(fd, p, PIECE)) > 0) continue;
    free(p);
    if (fd >= 0) close(fd);
    return got == 0 ? ERR_OK : fail(why, ERR_IO, "%s cannot be read", path);
}

static enum err need_gguf(struct race *r, struct why *why)
{
    struct progress p;
    struct gguf_options o = { r->s.local.weights.name.name, on_progress, &p };

    if (access(gguf, R_OK) == 0) return read_file(gguf, why);
    progress_start(&p, "writing GGUF", false);
    enum err e = gguf_write(r->s.local.store, &r->s.local.weights.manifest, gguf, &o, why);
    progress_end(&p);
    return e ? e : read_file(gguf, why);
}

/* --- turns --- */

static enum err our_decode(struct race *r, uint32_t tokens, double *seconds, struct why *why)
{
    double start = bench_seconds();

    for (uint32_t i = 0; i < tokens; i++) bench_session_decode(&r->s);
    *seconds = bench_seconds() - start;
    if (r->s.err) *why = r->s.why;
    return r->s.err;
}

static enum err our_prefill(struct race *r, double *seconds, struct why *why)
{
    double start = bench_seconds();

    bench_session_prefill(&r->s, prefill, prefill < BATCH_MAX ? prefill : BATCH_MAX);
    *seconds = bench_seconds() - start;
    if (r->s.err) *why = r->s.why;
    return r->s.err;
}

/* Whether theirs is faster with flash attention, by its better of two timings each (of one when
 * it is long). */
static enum err try_flash(struct race *r, const char *what, uint32_t context, uint32_t n,
                          bool *flash, double *seconds, struct why *why)
{
    enum { LONG_S = 2 };
    double best[2] = { INFINITY, INFINITY }, s;

    for (int i = 0; i < 4; i++) {
        if (best[i & 1] > LONG_S && best[i & 1] < INFINITY) continue;
        enum err e = peer_time(&r->peer, what, i & 1, context, n, &s, why);
        if (e) return e;
        if (s < best[i & 1]) best[i & 1] = s;
    }
    *flash = best[1] < best[0];
    *seconds = best[*flash];
    return ERR_OK;
}

/* On a terminal, what is being done: a race takes minutes. */
static void say(const char *what)
{
    if (isatty(STDERR_FILENO)) fprintf(stderr, "\r%s\033[K", what);
}

static void add_rows(struct race *r, const char *who, bool flash, double tokens)
{
    double theirs = bench_median(r->theirs, rounds), ours = bench_median(r->ours, rounds);

    bench_add(&b, "tokens/s", tokens / theirs, tokens / ours, bench_median(r->ratio, rounds),
              "%s, flash attention %s", who, flash ? "on" : "off");
}

static enum err race_decode(struct race *r, uint32_t context, struct why *why)
{
    bool flash;
    double s;
    char who[64];

    snprintf(who, sizeof who, "decode behind %u tokens", context);
    say(who);
    enum err e = try_flash(r, "decode", context, TOKENS_MIN, &flash, &s, why);
    if (e) return e;
    double fit = 0.5 / (s / TOKENS_MIN); /* about half a second of theirs */
    uint32_t n = fit < TOKENS_MIN ? TOKENS_MIN : fit > TOKENS_MAX ? TOKENS_MAX : (uint32_t)fit;
    bench_session_fill(&r->s, context);
    e = our_decode(r, TOKENS_MIN, &s, why);
    for (uint32_t i = 0; i < rounds && !e; i++) {
        e = peer_time(&r->peer, "decode", flash, context, n, &r->theirs[i], why);
        if (!e) e = our_decode(r, n, &r->ours[i], why);
        if (e) return e;
        double start = bench_seconds();
        bench_session_read(&r->s);
        r->read[i] = (bench_seconds() - start) * n;
        r->ratio[i] = r->theirs[i] / r->ours[i];
        r->their_part[i] = r->read[i] / r->theirs[i];
        r->our_part[i] = r->read[i] / r->ours[i];
    }
    if (e) return e;
    add_rows(r, who, flash, n);
    double theirs = bench_median(r->their_part, rounds), ours = bench_median(r->our_part, rounds);
    bench_add(&b, "of bound", theirs, ours, 0, "  plain read: %.1f tokens/s",
              n / bench_median(r->read, rounds));
    return ERR_OK;
}

static enum err race_prefill(struct race *r, struct why *why)
{
    bool flash;
    double s;
    char who[64];

    snprintf(who, sizeof who, "prefill of %u tokens", prefill);
    say(who);
    enum err e = try_flash(r, "prefill", 0, prefill, &flash, &s, why);

    if (!e) e = our_prefill(r, &s, why);
    for (uint32_t i = 0; i < rounds && !e; i++) {
        e = peer_time(&r->peer, "prefill", flash, 0, prefill, &r->theirs[i], why);
        if (!e) e = our_prefill(r, &r->ours[i], why);
        r->ratio[i] = r->theirs[i] / r->ours[i];
    }
    if (e) return e;
    add_rows(r, who, flash, prefill);
    return ERR_OK;
}

/* --- the command --- */

static enum err read_contexts(struct race *r, struct why *why)
{
    uint32_t most = r->s.arch->context;

    if (!bench_numbers(contexts_text, r->context, CONTEXTS_MAX, &r->n_contexts))
        return fail(why, ERR_USAGE, "--context: up to %d numbers with commas between are needed",
                    CONTEXTS_MAX);
    for (unsigned i = 0; i < r->n_contexts; i++)
        if (most < SLACK || r->context[i] > most - SLACK)
            return fail(why, ERR_USAGE,
                        "--context %u: the model has %u positions, and %d are kept "
                        "for what is decoded",
                        r->context[i], most, SLACK);
    if (rounds < 1 || rounds > ROUNDS_MAX || prefill > most)
        return fail(why, ERR_USAGE, "--rounds is 1 to %d, --prefill at most %u", ROUNDS_MAX, most);
    return ERR_OK;
}

static enum err open_both(struct race *r, const char *dir, struct why *why)
{
    double start = bench_seconds();
    enum err e = bench_session_open(&r->s, &b, dir, model, 1, BATCH_MAX, why);
    double seconds = bench_seconds() - start;

    if (!e) e = read_contexts(r, why);
    if (!e) e = need_gguf(r, why);
    if (e) return e;
    struct peer_options o = { .python = python,
                              .script = script,
                              .gguf = gguf,
                              .threads = b.workers->n,
                              .context = prefill + SLACK };
    for (unsigned i = 0; i < r->n_contexts; i++)
        if (o.context < r->context[i] + SLACK) o.context = r->context[i] + SLACK;
    say("llama.cpp opens the model");
    e = peer_open(&r->peer, &o, why);
    if (e) return e;
    bench_session_warm(&r->s);
    bench_add(&b, "s", r->peer.load_s, seconds, r->peer.load_s / seconds,
              "open the model, file in memory");
    return ERR_OK;
}

static enum err race(struct race *r, const char *dir, struct why *why)
{
    enum err e = open_both(r, dir, why);

    if (!e && prefill) e = race_prefill(r, why);
    for (unsigned i = 0; i < r->n_contexts && !e; i++) e = race_decode(r, r->context[i], why);
    say("");
    return e;
}

int bench_race(int argc, char **argv)
{
    static struct race r;
    const char *dir;
    char *own = NULL;
    struct why why = { "" };

    if (args_parse(&args, argc, argv, &dir, 1) != 1)
        return die(&args, 2, "STORE is missing: the folder of a store");
    b.bound_is = "llama.cpp", b.achieved_is = "ours";
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/') n--;
    if (!gguf) {
        if (!(own = malloc(n + 6))) return die(&args, 1, "out of memory");
        snprintf(own, n + 6, "%.*s.gguf", (int)n, dir);
        gguf = own;
    }
    enum err e = bench_open(&b, &args, &why);
    if (!e) e = race(&r, dir, &why);
    peer_close(&r.peer);
    bench_session_close(&r.s);
    free(own);
    return bench_close(&b, e, &why);
}
