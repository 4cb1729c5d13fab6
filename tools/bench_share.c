/* bench_share.c - swarm-bench share: the layers of a model shared by two processes of one core
 * each, against one process of one core that computes everything.
 *
 * The member is a child on the other end of a socket: no encryption, no message format, no loop of
 * events.  So this is what the arithmetic of sharing allows, and real nodes are held against it. */
#include "tools/bench_share.h"

#include "kernels/workers.h"
#include "model/share.h"
#include "tools/bench_session.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS_MAX = BENCH_SHARE_ROUNDS, LEADER = 0, MEMBER = 1 };

static struct bench b;
static const char *model;
static uint32_t tokens = 512, chunk = 256, context = 512, rounds = 7, steps = 4, heads, delay;
static bool experts_only, nodes;

static const struct arg options[] = {
    { "tokens", ARG_U32, &tokens, "N", "of the prompt (default 512; 0: none)" },
    { "chunk", ARG_U32, &chunk, "N", "of its tokens that go through together (default 256)" },
    { "context", ARG_U32, &context, "N",
      "positions behind which a token is decoded (default 512)" },
    { "heads", ARG_U32, &heads, "N", "head groups of the member (default: half of them)" },
    { "experts-only", ARG_FLAG, &experts_only, NULL, "share only experts and dense parts" },
    { "nodes", ARG_FLAG, &nodes, NULL, "real nodes on loopback too (swarm-node --share)" },
    { "delay", ARG_U32, &delay, "MS", "either way between those, through a proxy (default 0)" },
    { "model", ARG_STR, &model, "NAME", "which model, if the store has several" },
    { "rounds", ARG_U32, &rounds, "N", "times of each (default 7)" },
    { "json", ARG_FLAG, &b.json, NULL, "print JSON instead of a table" },
    { "isa", ARG_STR, &b.isa, "NAME", "as swarm-bench model has it" },
    { 0 },
};
static const struct args args = {
    .program = "swarm-bench share",
    .usage = "STORE [options]",
    .about = "Measures how much faster two processes of one core each compute the layers of a "
             "model together than one of them alone.",
    .options = options,
    .more =
        "Both hold every layer; the output head is not counted. The parts of a layer that the\n"
        "member computes: head groups, and of the experts that a token chooses as many as make\n"
        "both end at the same time. Results are compared: a bit that differs is an error.",
};

/* --- bytes through the socket --- */

struct head {
    struct share_work work; /* its pointers mean nothing */
    uint32_t fill;          /* instead of a work: so many positions of random K and V, or ... */
};
enum { READ = UINT16_MAX << 4 }; /* ... read what tokens read; answered by a byte */

static bool all_sent(int fd, const void *p, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t some = send(fd, (const uint8_t *)p + at, n - at, MSG_NOSIGNAL);
        if (some <= 0) return false;
        at += (size_t)some;
    }
    return true;
}

static bool all_got(int fd, void *p, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t some = recv(fd, (uint8_t *)p + at, n - at, 0);
        if (some <= 0) return false;
        at += (size_t)some;
    }
    return true;
}

static void pin(unsigned cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    (void)sched_setaffinity(0, sizeof set, &set); /* where there is but one, that one is used */
}

/* --- the member --- */

struct member {
    int fd;
    struct stage *stage;
    struct kv *kv;
    const struct arch *a;
    struct row row[BATCH_MAX];
    uint8_t *x, *picks, *out;
};

static bool one_work(struct member *m, struct head *h)
{
    struct share_work *w = &h->work;
    uint32_t pos[BATCH_MAX];

    w->row = m->row, w->x = m->x, w->picks = m->picks;
    if (w->n > BATCH_MAX || !all_got(m->fd, pos, w->n * sizeof *pos) ||
        !all_got(m->fd, m->x, w->n * share_x_bytes(m->a, w->kind)) ||
        !all_got(m->fd, m->picks, w->picks_len) || share_check(m->a, w))
        return false;
    for (uint32_t i = 0; i < w->n; i++) m->row[i] = (struct row){ m->kv, pos[i] };
    return !stage_share_work(m->stage, w, m->out) &&
           all_sent(m->fd, m->out, share_answer_bytes(m->a, w));
}

/* What some tokens read, other experts each time. */
static void read_some(struct bench_session *s)
{
    for (uint32_t i = 0; i < steps; i++) bench_session_read(s);
}

static int be_member(struct bench_session *s, int fd)
{
    static struct member m;
    const struct arch *a = s->arch;
    uint32_t most = a->n_kv > a->top_k ? a->n_kv : a->top_k;
    struct head h;

    if (most < a->mlp_parts) most = a->mlp_parts;
    pin(1);
    m = (struct member){ .fd = fd, .a = a };
    m.x = malloc((size_t)BATCH_MAX * a->hidden * sizeof(float));
    m.picks = malloc((size_t)BATCH_MAX * (SHARE_PICKS_HEAD + (size_t)most * SHARE_PICK_BYTES));
    m.out = malloc((size_t)BATCH_MAX * most * arch_row_bytes(a));
    if (!m.x || !m.picks || !m.out || kv_open(&m.kv, a, 0, a->n_layers, a->context) ||
        stage_open(&m.stage, a, s->local.weights.layer, 0, a->n_layers, chunk, s->b->kernels,
                   workers_inline()))
        return 1;
    while (all_got(fd, &h, sizeof h)) {
        if (h.fill == READ)
            read_some(s);
        else if (h.fill > 0)
            kv_fill(m.kv, h.fill, 1);
        if (h.fill == READ && !all_sent(fd, &h, 1)) return 1;
        if (h.fill == 0 && !one_work(&m, &h)) return 1;
    }
    return 0;
}

/* --- the leader --- */

struct job {
    struct sharer sharer; /* first */
    struct bench_session s;
    pid_t child;
    int fd;
    uint8_t who[BATCH_MAX * ARCH_PARTS_MAX];
    struct share_part part;
    uint8_t *answer;
    size_t bytes, room, rounds;
    struct share_set all;
    double member_wait; /* seconds in collect */
    uint64_t hash[2];   /* of what alone, and shared, gave */
};

static void assign(struct job *j, const struct share_ask *q)
{
    const struct arch *a = j->s.arch;
    /* About what an expert of GLM-4.5-Air takes; only the proportions matter. */
    double expert = 1, row = q->n > 1 ? 0.35 : 0;
    double shared = a->n_shared * (expert + q->n * row);
    struct share_hand hand[] = { { &j->all, shared, expert, row }, { &j->all, 0, expert, row } };

    if (q->kind == SHARE_EXPERTS) {
        share_deal(q, hand, 2, j->who);
        return;
    }
    uint32_t n = q->kind == SHARE_DENSE ? q->width / 2 : experts_only ? 0 : heads;
    for (uint32_t i = 0; i < q->n; i++)
        for (uint32_t c = 0; c < q->width; c++) j->who[i * q->width + c] = c < n ? MEMBER : LEADER;
}

static enum err ask(struct sharer *by, const struct share_ask *q, bool *away)
{
    struct job *j = (struct job *)by;
    struct head h = { .fill = 0 };
    uint32_t pos[BATCH_MAX];

    assign(j, q);
    share_part_free(&j->part);
    enum err e = share_part_make(&j->part, j->s.arch, q, j->who, MEMBER);
    if (e || j->part.work.n == 0) return e;
    h.work = j->part.work;
    for (uint32_t i = 0; i < h.work.n; i++) pos[i] = q->row[j->part.at[i]].pos;
    size_t x = h.work.n * share_x_bytes(j->s.arch, q->kind);
    if (!all_sent(j->fd, &h, sizeof h) || !all_sent(j->fd, pos, h.work.n * sizeof *pos) ||
        !all_sent(j->fd, h.work.x, x) || !all_sent(j->fd, h.work.picks, h.work.picks_len))
        return ERR_CLOSED;
    j->bytes += x + h.work.picks_len + share_answer_bytes(j->s.arch, &h.work);
    j->rounds++;
    for (size_t p = 0; p < (size_t)q->n * q->width; p++) away[p] = j->who[p] == MEMBER;
    return ERR_OK;
}

static enum err collect(struct sharer *by, const struct share_ask *q, struct share_answer *to)
{
    struct job *j = (struct job *)by;
    size_t n = share_answer_bytes(j->s.arch, &j->part.work);
    double start = bench_seconds();

    if (n > j->room) {
        free(j->answer);
        j->answer = malloc(n);
        j->room = j->answer ? n : 0;
        if (!j->answer) return ERR_NOMEM;
    }
    if (!all_got(j->fd, j->answer, n)) return ERR_CLOSED;
    share_part_place(&j->part, j->s.arch, q, j->who, MEMBER, j->answer, to);
    j->member_wait += bench_seconds() - start;
    return ERR_OK;
}

static enum err start(struct job *j, const char *dir, struct why *why)
{
    int fd[2];

    if (rounds < 1 || rounds > ROUNDS_MAX || chunk < 1 || chunk > BATCH_MAX)
        return fail(why, ERR_USAGE, "--rounds is 1 to %d, --chunk 1 to %d", ROUNDS_MAX, BATCH_MAX);
    enum err e = bench_session_open(&j->s, &b, dir, model, 1, chunk, why);
    if (e) return e;
    const struct arch *a = j->s.arch;
    if (tokens > a->context || context >= a->context)
        return fail(why, ERR_USAGE, "the model has %u positions", a->context);
    if (heads == 0) heads = a->n_kv / 2;
    if (heads > a->n_kv) heads = a->n_kv;
    bench_session_warm(&j->s);
    share_add(&j->all, 0, a->n_experts);
    j->sharer = (struct sharer){ ask, collect };
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd)) return fail(why, ERR_IO, "no sockets");
    j->child = fork();
    if (j->child == 0) {
        close(fd[0]);
        _exit(be_member(&j->s, fd[1]));
    }
    close(fd[1]);
    j->fd = fd[0];
    pin(0);
    return j->child < 0 ? fail(why, ERR_IO, "no process: %s", strerror(errno)) : ERR_OK;
}

static void stop(struct job *j)
{
    if (j->fd) close(j->fd);
    if (j->child > 0) (void)waitpid(j->child, NULL, 0);
    share_part_free(&j->part);
    free(j->answer);
    bench_session_close(&j->s);
}

/* --- what is timed --- */

struct timed {
    struct job *j;
    bool shared, prompt;
    double seconds[ROUNDS_MAX]; /* of the layers */
    double busy[2];             /* seconds that the processors worked, of all rounds */
    unsigned n;
};

/* Seconds that a process has worked. */
static double worked(pid_t pid)
{
    struct timespec t = { 0 };
    clockid_t clock;

    if (!clock_getcpuclockid(pid, &clock)) (void)clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t mix(uint64_t h, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return h;
}

static void run(void *arg)
{
    struct timed *t = arg;
    struct bench_session *s = &t->j->s;
    size_t row = arch_row_bytes(s->arch);

    if (s->err) return;
    for (int p = 0; p < PARTS; p++) s->part[p] = 0;
    s->sharer = t->shared ? &t->j->sharer : NULL;
    s->random = 1;
    double before[2] = { worked(0), worked(t->j->child) };
    uint64_t hash = 0;
    for (uint32_t i = 0; i < steps && !t->prompt; i++) {
        bench_session_decode(s);
        hash = mix(hash, s->x, row);
    }
    if (t->prompt) {
        bench_session_prefill(s, tokens, chunk);
        hash = mix(hash, s->x, row * ((tokens - 1) % chunk + 1));
    }
    double sum = s->part[SPENT_ATTENTION] + s->part[SPENT_DENSE] + s->part[SPENT_MOE];
    if (t->n < ROUNDS_MAX) t->seconds[t->n++] = sum / (t->prompt ? 1 : steps);
    t->busy[LEADER] += worked(0) - before[LEADER];
    t->busy[MEMBER] += worked(t->j->child) - before[MEMBER];
    t->j->hash[t->shared] = hash;
}

/* How much faster two processes that do nothing else read the same bytes at once than one after
 * the other: two PCs have a memory each, here it is one for both. */
static double memory_ratio(struct job *j)
{
    struct head h = { .fill = READ };
    double ratio[ROUNDS_MAX];

    for (unsigned i = 0; i < rounds; i++) {
        uint8_t done;
        double start = bench_seconds();
        read_some(&j->s);
        double one = bench_seconds() - start;
        start = bench_seconds();
        if (!all_sent(j->fd, &h, sizeof h)) return 0;
        read_some(&j->s);
        if (!all_got(j->fd, &done, 1)) return 0;
        ratio[i] = 2 * one / (bench_seconds() - start);
    }
    return bench_median(ratio, rounds);
}

static void measure(struct job *j, bool prompt)
{
    struct timed alone = { .j = j, .prompt = prompt }, both = { .j = j, .shared = true };
    const char *what = prompt ? "prefill" : "decode";

    both.prompt = prompt;
    for (unsigned i = 0; i <= rounds && !j->s.err; i++) {
        run(&alone);
        j->bytes = j->rounds = 0;
        j->member_wait = 0;
        run(&both);
        if (i == 0) { /* is not counted */
            alone.n = both.n = 0;
            memset(alone.busy, 0, sizeof alone.busy);
            memset(both.busy, 0, sizeof both.busy);
        }
        if (!j->s.err && j->hash[0] != j->hash[1])
            j->s.err = fail(&j->s.why, ERR_IO, "two processes gave another result than one");
    }
    if (j->s.err) return;
    double ratio[ROUNDS_MAX];
    for (unsigned i = 0; i < both.n; i++) ratio[i] = alone.seconds[i] / both.seconds[i];
    double one = bench_median(alone.seconds, alone.n), two = bench_median(both.seconds, both.n);
    double n = prompt ? 1 : steps;
    bench_add(&b, "ms", one * 1e3, two * 1e3, bench_median(ratio, both.n), "%s, %u layers", what,
              j->s.arch->n_layers);
    if (!prompt)
        bench_add(&b, "ratio", 0, memory_ratio(j), 0, "%s: plain reads, both at once", what);
    double each = n * both.n / 1e3;
    bench_add(&b, "ms", alone.busy[LEADER] / each, both.busy[LEADER] / each, 0,
              "%s: processor of the leader, head included", what);
    bench_add(&b, "ms", 0, both.busy[MEMBER] / each, 0, "%s: processor of the member", what);
    bench_add(&b, "ms", 0, j->member_wait / n * 1e3, 0, "%s: waiting for the member", what);
    bench_add(&b, "rounds", 0, (double)j->rounds / n, 0, "%s: rounds of messages", what);
    bench_add(&b, "KiB", 0, (double)j->bytes / n / 1024, 0, "%s: vectors on the wire", what);
}

int bench_share(int argc, char **argv)
{
    static struct job j;
    const char *dir;
    struct why why = { "" };

    if (args_parse(&args, argc, argv, &dir, 1) != 1)
        return die(&args, 2, "STORE is missing: the folder of a store");
    b.threads = 1;
    b.bound_is = "one alone", b.achieved_is = "two";
    enum err e = bench_open(&b, &args, &why);
    if (!e) e = start(&j, dir, &why);
    if (!e) {
        struct head fill = { .fill = context };
        bench_session_fill(&j.s, context);
        if (context == 0 || all_sent(j.fd, &fill, sizeof fill)) measure(&j, false);
        if (tokens > 0) measure(&j, true);
        e = j.s.err;
        why = j.s.why;
    }
    struct bench_share c = { dir, model, e ? 0 : j.s.arch->n_layers, tokens, rounds, delay };
    stop(&j);
    if (!e && nodes && tokens > 0) e = bench_share_nodes(&b, &c, &why);
    return bench_close(&b, e, &why);
}
