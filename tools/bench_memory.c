/* bench_memory.c - swarm-bench memory: decoding when only a part of a model may be in memory.
 *
 * Each measurement is a process of its own in a control group of its own, whose limit is the share
 * of the weights and a little for all else; the store's file is out of the page cache when it
 * begins.  All make the same steps, and must make the same logits. */
#include "tools/bench_group.h"
#include "tools/bench_peer.h"
#include "tools/bench_session.h"
#include "weights/warm.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SHARES_MAX = 8, TOKENS_MAX = 4096, FILL_S = 120 };

static struct bench b;
static const char *model, *shares_text = "100,75,50,25", *python, *gguf;
static const char *script = "scripts/llama_race.py";
static uint32_t tokens = 32, before = 32, other_mb = 256;
static bool plain;

static const struct arg options[] = {
    { "share", ARG_STR, &shares_text, "N,N,...",
      "percent of the weights that may be in memory (default 100,75,50,25)" },
    { "before", ARG_U32, &before, "N", "tokens before those that are timed (default 32)" },
    { "tokens", ARG_U32, &tokens, "N", "tokens that are timed (default 32)" },
    { "other", ARG_U32, &other_mb, "MB", "of the limit, for all but weights (default 256)" },
    { "plain", ARG_FLAG, &plain, NULL,
      "leave it all to the kernel: page faults, oldest forgotten" },
    { "python", ARG_STR, &python, "PROGRAM",
      "also in llama.cpp: a Python with llama-cpp-python; needs --gguf" },
    { "gguf", ARG_STR, &gguf, "FILE", "the same model for it (swarm-bench gguf)" },
    { "script", ARG_STR, &script, "FILE", "our side of it (default: scripts/llama_race.py)" },
    { "model", ARG_STR, &model, "NAME", "which model, if the store has several" },
    BENCH_OPTIONS(b),
    { 0 },
};
static const struct args args = {
    .program = "swarm-bench memory",
    .usage = "STORE [options]",
    .about = "Measures how fast a model decodes when only a part of its weights may be in memory: "
             "each share in a control group with that limit (root), from a cold start.",
    .options = options,
    .more = "The bound of a share is the speed of the first share; of the disk, large reads that\n"
            "pass the page cache. 'had' are experts that were in memory when the router chose\n"
            "them, 'guessed' those that were foreseen a layer earlier.",
};

/* What a process that measured says; through a pipe. */
struct result {
    double seconds;  /* of the tokens */
    double fill_s;   /* from the start until the room was full */
    uint64_t digest; /* of all logits */
    struct warm_counts start, end;
    enum err err;
    struct why why;
};

struct run {
    struct group group;
    uint64_t weights; /* bytes of the model's tiles */
    double disk;      /* bytes a second */
    uint64_t peak;
    char file[4200];
};

/* --- in the process that measures --- */

static uint64_t digest(uint64_t h, const float *logits, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, logits + i, sizeof u);
        h = (h ^ u) * UINT64_C(0x100000001b3);
    }
    return h;
}

static enum err decode(struct bench_session *s, uint32_t n, uint64_t *h)
{
    for (uint32_t i = 0; i < n && !s->err; i++) {
        bench_session_decode(s);
        *h = digest(*h, s->logits, s->arch->vocab);
    }
    return s->err;
}

static enum err measure(struct result *r, const char *dir, uint64_t room, struct why *why)
{
    static struct bench_session s;
    struct warm *warm = NULL;
    enum err e = bench_open(&b, &args, why);

    if (!e) e = bench_session_open(&s, &b, dir, model, 1, 1, why);
    if (e) return e;
    if (!plain) {
        e = warm_open(&warm, &s.local.weights, room, NULL);
        if (e) return fail(why, e, "the weights' keeper does not start: %s", err_text(e));
        stage_tell(s.local.stage, warm_pager(warm));
        double start = bench_seconds();
        while (!warm_is_done(warm) && bench_seconds() - start < FILL_S) usleep(1000);
        r->fill_s = bench_seconds() - start;
    }
    bench_session_fill(&s, 16);
    e = decode(&s, before, &r->digest);
    if (warm) warm_counts(warm, &r->start);
    double start = bench_seconds();
    if (!e) e = decode(&s, tokens, &r->digest);
    r->seconds = bench_seconds() - start;
    if (warm) warm_counts(warm, &r->end);
    if (e) *why = s.why;
    stage_tell(s.local.stage, NULL);
    warm_close(warm);
    bench_session_close(&s);
    return e;
}

/* --- the process around it --- */

/* Bytes of a file that are in memory. */
static uint64_t in_memory(int fd, uint64_t size)
{
    enum { PAGES = 1 << 16 };
    static unsigned char there[PAGES];
    size_t page = (size_t)sysconf(_SC_PAGESIZE), piece = PAGES * page;
    uint64_t n = 0;

    for (uint64_t at = 0; at < size; at += piece) {
        size_t some = size - at < piece ? (size_t)(size - at) : piece;
        void *p = mmap(NULL, some, PROT_READ, MAP_SHARED, fd, (off_t)at);
        if (p == MAP_FAILED) return n;
        if (mincore(p, some, there) == 0)
            for (size_t i = 0; i < (some + page - 1) / page; i++) n += (there[i] & 1) * page;
        munmap(p, some);
    }
    return n;
}

/* Out of the page cache; what another process maps stays there, and is not in our group's limit. */
static void forget_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (fd < 0) return;
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    uint64_t left = fstat(fd, &st) == 0 ? in_memory(fd, (uint64_t)st.st_size) : 0;
    if (left > (uint64_t)st.st_size / 50)
        fprintf(stderr,
                "%s: %.0f MB of %s are in use by another program: the numbers are too high\n",
                args.program, (double)left / 1e6, path);
    close(fd);
}

static enum err in_child(struct run *r, const char *dir, uint64_t room, struct result *out,
                         struct why *why)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) != 0) return fail(why, ERR_IO, "no pipe: %s", strerror(errno));
    pid_t pid = fork();
    if (pid == 0) {
        out->err = group_enter(&r->group, &out->why);
        if (!out->err) out->err = measure(out, dir, room, &out->why);
        _exit(write(ends[1], out, sizeof *out) == sizeof *out ? 0 : 1);
    }
    close(ends[1]);
    ssize_t got = pid > 0 ? read(ends[0], out, sizeof *out) : -1;
    close(ends[0]);
    if (pid > 0) waitpid(pid, NULL, 0);
    if (got != sizeof *out)
        return fail(why, ERR_CLOSED,
                    "the process that measures was killed: its limit is too "
                    "small; --other gives it more");
    if (out->err) *why = out->why;
    return out->err;
}

static uint64_t room_of(const struct run *r, uint32_t share)
{
    return share >= 100 ? UINT64_MAX : r->weights / 100 * share;
}

static enum err limit(struct run *r, uint32_t share, struct why *why)
{
    forget_file(r->file);
    if (share >= 100) return ERR_OK;
    return group_open(&r->group, room_of(r, share) + ((uint64_t)other_mb << 20), why);
}

static enum err run_share(struct run *r, const char *dir, uint32_t share, struct result *out,
                          struct why *why)
{
    enum err e = limit(r, share, why);

    if (!e) e = in_child(r, dir, room_of(r, share), out, why);
    r->peak = group_peak(&r->group);
    group_close(&r->group);
    return e;
}

/* --- the disk --- */

struct disk_reader {
    int fd;
    uint64_t size, random, bytes;
    double until;
};

static void *read_disk(void *arg)
{
    enum { PIECE = 1 << 20 };
    struct disk_reader *d = arg;
    void *p = NULL;

    if (posix_memalign(&p, 4096, PIECE) != 0) return NULL;
    while (bench_seconds() < d->until) {
        d->random = d->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        off_t at = (off_t)((d->random >> 16) % (d->size - PIECE) & ~UINT64_C(4095));
        ssize_t n = pread(d->fd, p, PIECE, at);
        if (n <= 0) break;
        d->bytes += (uint64_t)n;
    }
    free(p);
    return NULL;
}

/* Bytes a second of reads of 1 MB here and there, eight at a time, past the page cache; 0: the file
 * system does not do that. */
static double disk_rate(const char *path)
{
    enum { THREADS = 8 };
    static const double SECONDS = 1;
    struct disk_reader d[THREADS];
    pthread_t thread[THREADS];
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT), n = 0;
    uint64_t bytes = 0;

    if (fd < 0) return 0;
    double start = bench_seconds();
    for (; n < THREADS && fstat(fd, &st) == 0 && st.st_size > 2 << 20; n++) {
        d[n] =
            (struct disk_reader){ fd, (uint64_t)st.st_size, (uint64_t)n + 1, 0, start + SECONDS };
        if (pthread_create(&thread[n], NULL, read_disk, &d[n]) != 0) break;
    }
    for (int i = 0; i < n; i++) {
        pthread_join(thread[i], NULL);
        bytes += d[i].bytes;
    }
    close(fd);
    return (double)bytes / (bench_seconds() - start);
}

/* --- rows --- */

static double share_of(uint64_t part, uint64_t all)
{
    return all ? (double)part / (double)all : 0;
}

static void add_rows(const struct run *r, uint32_t share, const struct result *of,
                     const struct result *all)
{
    const struct keep_counts *x = &of->start.routed, *y = &of->end.routed;
    uint64_t needs = y->needs - x->needs, read = of->end.read - of->start.read;

    bench_add(&b, "tokens/s", tokens / all->seconds, tokens / of->seconds,
              all->seconds / of->seconds, "%u %%: decode", share);
    if (needs == 0 && read == 0) return;
    bench_add(&b, "GB/s", r->disk / 1e9, (double)read / of->seconds / 1e9,
              r->disk > 0 ? (double)read / of->seconds / r->disk : 0,
              "%u %%: disk, %.0f MB a token", share, (double)read / 1e6 / tokens);
    bench_add(&b, "of chosen", share / 100.0, share_of(y->hits - x->hits, needs), 0,
              "%u %%: experts that it had", share);
    bench_add(&b, "of chosen", 0, share_of(y->right - x->right, needs), 0,
              "%u %%: experts that it guessed", share);
    if (r->peak)
        bench_add(&b, "MB", (double)room_of(r, share) / 1e6 + other_mb * 1.048576,
                  (double)r->peak / 1e6, 0, "%u %%: memory, at most", share);
}

/* --- llama.cpp under the same limit --- */

static enum err run_peer(struct run *r, uint32_t share, double *seconds, struct why *why)
{
    struct peer peer = { 0 };
    struct peer_options o = { .python = python,
                              .script = script,
                              .gguf = gguf,
                              .threads =
                                  b.threads ? b.threads : (uint32_t)sysconf(_SC_NPROCESSORS_ONLN),
                              .context = 2 * (before + tokens) + 64,
                              .map_only = true,
                              .group = &r->group };
    double s;

    forget_file(gguf);
    enum err e = limit(r, share, why);
    if (!e) e = peer_open(&peer, &o, why);
    if (!e) e = peer_time(&peer, "decode", true, 0, before, &s, why);
    if (!e) e = peer_time(&peer, "decode", true, 0, tokens, seconds, why);
    peer_close(&peer);
    group_close(&r->group);
    return e;
}

/* --- the command --- */

static enum err find_model(struct run *r, const char *dir, struct why *why)
{
    struct store *s;
    struct store_name name;
    struct manifest m;
    enum err e = store_open(&s, dir, STORE_READ, why);

    if (e) return e;
    e = store_find_model(s, model, &name, &m, why);
    if (!e) {
        r->weights = arch_bytes(&m.arch, ARCH_ENDS);
        for (uint32_t i = 0; i < m.arch.n_layers; i++) r->weights += arch_bytes(&m.arch, i);
    }
    store_close(s);
    snprintf(r->file, sizeof r->file, "%s/data.mdb", dir);
    return e;
}

static enum err check_numbers(uint32_t *share, unsigned *n, struct why *why)
{
    if (!bench_numbers(shares_text, share, SHARES_MAX, n))
        return fail(why, ERR_USAGE, "--share: up to %d percentages with commas between are needed",
                    SHARES_MAX);
    for (unsigned i = 0; i < *n; i++)
        if (share[i] < 1) return fail(why, ERR_USAGE, "--share: 1 to 100");
    if (tokens < 1 || tokens > TOKENS_MAX || before > TOKENS_MAX)
        return fail(why, ERR_USAGE, "--tokens is 1 to %d, --before 0 to %d", TOKENS_MAX,
                    TOKENS_MAX);
    if (python && !gguf)
        return fail(why, ERR_USAGE, "--python needs --gguf FILE: swarm-bench gguf writes it");
    return ERR_OK;
}

/* All that forks comes before the threads of bench_open. */
static enum err run_all(struct run *r, const char *dir, struct why *why)
{
    static struct result of[SHARES_MAX];
    double theirs[SHARES_MAX] = { 0 };
    uint32_t share[SHARES_MAX];
    unsigned n;
    enum err e = check_numbers(share, &n, why);

    if (!e) e = find_model(r, dir, why);
    if (e) return e;
    r->disk = disk_rate(r->file);
    uint64_t peak[SHARES_MAX];
    for (unsigned i = 0; i < n && !e; i++) {
        e = run_share(r, dir, share[i], &of[i], why);
        peak[i] = r->peak;
        if (!e && of[i].digest != of[0].digest)
            e = fail(why, ERR_RANGE, "%u %% in memory gives other logits than %u %%", share[i],
                     share[0]);
        if (!e && python) e = run_peer(r, share[i], &theirs[i], why);
    }
    if (!e) e = bench_open(&b, &args, why);
    for (unsigned i = 0; i < n && !e; i++) {
        r->peak = peak[i];
        add_rows(r, share[i], &of[i], &of[0]);
        if (python)
            bench_add(&b, "tokens/s", tokens / theirs[i], tokens / of[i].seconds,
                      theirs[i] / of[i].seconds, "%u %%: llama.cpp, its map, and we", share[i]);
    }
    return e;
}

int bench_memory(int argc, char **argv)
{
    static struct run r;
    const char *dir;
    struct why why = { "" };

    if (args_parse(&args, argc, argv, &dir, 1) != 1)
        return die(&args, 2, "STORE is missing: the folder of a store");
    b.args = &args;
    enum err e = run_all(&r, dir, &why);
    return bench_close(&b, e, &why);
}
