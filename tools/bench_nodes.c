#include "tools/bench_nodes.h"

#include "store/file.h"
#include "tools/bench.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    READY_MS = 60000, /* a store on a slow disk */
    SETTLE_MS = 60000,
    REST_MS = 200, /* without a tick of work */
    ANSWER_MAX = 1 << 20,
    WORDS_MAX = 32,
    ASK_WORDS_MAX = 24,
    TRIAL_WORDS = 100,
    TRIAL_ROUND = 1000,
    CHILDREN_MAX = BENCH_NODES_MAX + BENCH_ASKS_MAX,
};

#define PROGRAM_LOG "program.log"

static char home[FILE_PATH_MAX], programs[FILE_PATH_MAX];
static volatile pid_t children[CHILDREN_MAX]; /* 0: none; read by the signal handler */

/* --- processes --- */

static void on_signal(int number)
{
    for (int i = 0; i < CHILDREN_MAX; i++)
        if (children[i] > 0) kill(children[i], SIGKILL);
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

/* The folder's files are ours; the runtime folder in it holds nodes' links. */
void bench_remove_folder(const char *path)
{
    char inner[FILE_PATH_MAX];
    DIR *d = opendir(path);

    for (struct dirent *e; d && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (file_path(inner, path, e->d_name, NULL)) continue;
        if (unlink(inner) != 0 && errno == EISDIR) bench_remove_folder(inner);
    }
    if (d) closedir(d);
    (void)rmdir(path);
}

enum err bench_nodes_init(struct why *why)
{
    const char *tmp = getenv("TMPDIR");
    ssize_t n = readlink("/proc/self/exe", programs, sizeof programs - 1);
    char *slash = n > 0 ? memrchr(programs, '/', (size_t)n) : NULL;

    if (!slash) return fail(why, ERR_IO, "/proc/self/exe: %s", strerror(errno));
    *slash = 0;
    enum err e = file_path(home, tmp && *tmp ? tmp : "/tmp", "swarm-bench.XXXXXX", why);
    if (e) return e;
    if (!mkdtemp(home)) return fail(why, ERR_IO, "%s: %s", home, strerror(errno));
    (void)signal(SIGINT, on_signal);
    (void)signal(SIGTERM, on_signal);
    if (setenv("HOME", home, 1) || setenv("XDG_RUNTIME_DIR", home, 1) ||
        unsetenv("XDG_CONFIG_HOME"))
        return fail(why, ERR_NOMEM, "out of memory");
    return ERR_OK;
}

static void forget_child(pid_t pid)
{
    for (int i = 0; i < CHILDREN_MAX; i++)
        if (children[i] == pid) children[i] = 0;
}

static void end_child(pid_t pid, int number)
{
    (void)kill(pid, number);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) continue;
    forget_child(pid);
}

void bench_nodes_fini(void)
{
    for (int i = 0; i < CHILDREN_MAX; i++)
        if (children[i] > 0) end_child(children[i], SIGKILL);
    if (home[0]) bench_remove_folder(home);
    home[0] = 0;
}

/* Start program with words (NULL at the end) and its output in out; errors go to log. */
static enum err start(const char *program, char *const *words, int out, const char *log, pid_t *pid,
                      struct why *why)
{
    char path[FILE_PATH_MAX];
    posix_spawn_file_actions_t files;
    int slot = 0;
    enum err e = file_path(path, programs, program, why);

    while (slot < CHILDREN_MAX && children[slot]) slot++;
    if (slot == CHILDREN_MAX) return fail(why, ERR_FULL, "too many processes");
    if (e) return e;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, out, 1);
    posix_spawn_file_actions_addopen(&files, 2, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    int rc = posix_spawn(pid, path, &files, NULL, words, environ);
    posix_spawn_file_actions_destroy(&files);
    if (rc) return fail(why, ERR_IO, "%s cannot be started: %s", path, strerror(rc));
    children[slot] = *pid;
    return ERR_OK;
}

/* The last line of a log, without its newline. */
static void last_words(char *out, size_t cap, const char *log)
{
    uint8_t *p;
    size_t n;

    out[0] = 0;
    if (file_read(log, ANSWER_MAX, &p, &n, NULL)) return;
    while (n > 0 && p[n - 1] == '\n') n--;
    size_t from = n;
    while (from > 0 && p[from - 1] != '\n') from--;
    snprintf(out, cap, "%.*s", (int)(n - from), (const char *)p + from);
    free(p);
}

const char *bench_home(void)
{
    return home;
}

enum err bench_program(const char *const *words, double *seconds, uint64_t *memory, struct why *why)
{
    char log[FILE_PATH_MAX], said[200];
    struct rusage used = { 0 };
    int status = 1;
    pid_t pid;
    enum err e = file_path(log, home, PROGRAM_LOG, why);

    if (e) return e;
    int out = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (out < 0) return fail(why, ERR_IO, "%s: %s", log, strerror(errno));
    double began = bench_seconds();
    e = start(words[0], (char *const *)(uintptr_t)words, out, log, &pid, why);
    close(out);
    if (e) return e;
    while (wait4(pid, &status, 0, &used) < 0 && errno == EINTR) continue;
    *seconds = bench_seconds() - began;
    *memory = (uint64_t)used.ru_maxrss << 10;
    forget_child(pid);
    if (status == 0) return ERR_OK;
    last_words(said, sizeof said, log);
    return fail(why, ERR_IO, "%s", said);
}

/* --- nodes --- */

/* One line from fd, within READY_MS. */
static bool read_line(int fd, char *out, size_t cap)
{
    double until = bench_seconds() + READY_MS / 1e3;

    for (size_t n = 0; n + 1 < cap;) {
        int left = (int)((until - bench_seconds()) * 1e3);
        struct pollfd p = { .fd = fd, .events = POLLIN };
        if (left <= 0 || poll(&p, 1, left) <= 0 || read(fd, out + n, 1) != 1) return false;
        if (out[n] == '\n') {
            out[n] = 0;
            return true;
        }
        n++;
    }
    return false;
}

enum err bench_proxy_start(char line[BENCH_LINE], uint32_t delay_ms, struct why *why)
{
    static unsigned serial;
    char log[FILE_PATH_MAX], file[32], delay[16];
    const char *w[] = { "swarm-proxy", "--listen", "127.0.0.1:0", "--target",
                        "127.0.0.2:0", "--delay",  delay,         NULL };
    int pipes[2];
    pid_t pid;

    snprintf(delay, sizeof delay, "%u", delay_ms);
    snprintf(file, sizeof file, "proxy%u.log", serial++);
    enum err e = file_path(log, home, file, why);
    if (e) return e;
    if (pipe2(pipes, O_CLOEXEC)) return fail(why, ERR_IO, "pipe: %s", strerror(errno));
    e = start("swarm-proxy", (char *const *)(uintptr_t)w, pipes[1], log, &pid, why);
    close(pipes[1]);
    bool is_ready = !e && read_line(pipes[0], line, BENCH_LINE);
    close(pipes[0]);
    if (e) return fail(why, e, "swarm-proxy, which is built with the tests, does not start");
    return is_ready ? ERR_OK : fail(why, ERR_IO, "swarm-proxy does not start: see %s", log);
}

enum err bench_node_start(struct bench_node *n, struct why *why)
{
    static unsigned serial;
    char layers[32], threads[16], context[16], rtt[16], key[FILE_PATH_MAX], log[FILE_PATH_MAX];
    char file[32], words[200], listen[BENCH_LINE] = "127.0.0.1:0";
    const char *w[WORDS_MAX] = { "swarm-node", "--listen", listen,
                                 "--store",    n->store,   "--threads",
                                 threads,      "--layers", layers,
                                 "--identity", key,        "--pause-on",
                                 "never",      "--draft",  n->drafts ? "auto" : "off",
                                 NULL };
    int k = 15, pipes[2];

    n->serial = ++serial;
    snprintf(layers, sizeof layers, "%u-%u", n->lo, n->hi - 1);
    snprintf(threads, sizeof threads, "%u", n->threads);
    snprintf(context, sizeof context, "%u", n->context);
    snprintf(file, sizeof file, "node%u.key", serial);
    enum err e = file_path(key, home, file, why);
    snprintf(file, sizeof file, "node%u.log", serial);
    if (!e) e = file_path(log, home, file, why);
    if (e) return e;
    if (n->line) {
        const char *port = strrchr(n->line, ':');
        snprintf(listen, sizeof listen, "127.0.0.2%s", port ? port : ":0");
        w[k++] = "--advertise", w[k++] = n->line;
    }
    if (n->model) w[k++] = "--model", w[k++] = n->model;
    if (!n->keeps) w[k++] = "--no-prefix";
    if (n->context) w[k++] = "--ctx", w[k++] = context;
    if (n->join) w[k++] = "--join", w[k++] = n->join->link;
    if (n->share) w[k++] = "--share", w[k++] = "on";
    snprintf(rtt, sizeof rtt, "%u", n->share_rtt);
    if (n->share_rtt) w[k++] = "--share-rtt", w[k++] = rtt;
    if (pipe2(pipes, O_CLOEXEC)) return fail(why, ERR_IO, "pipe: %s", strerror(errno));
    e = start("swarm-node", (char *const *)(uintptr_t)w, pipes[1], log, &n->pid, why);
    close(pipes[1]);
    bool is_ready = !e && read_line(pipes[0], n->link, sizeof n->link);
    close(pipes[0]);
    if (e || is_ready) return e;
    end_child(n->pid, SIGKILL);
    last_words(words, sizeof words, log);
    return fail(why, ERR_IO, "a node does not start: %s", words);
}

void bench_node_stop(struct bench_node *n)
{
    if (n->pid) end_child(n->pid, SIGTERM);
    n->pid = 0;
}

bool bench_node_says(const struct bench_node *n, const char *words, uint32_t ms,
                     char out[BENCH_LOG_LINE])
{
    char path[FILE_PATH_MAX], file[32], line[BENCH_LOG_LINE];
    double until = bench_seconds() + ms / 1e3;
    bool found = false;

    snprintf(file, sizeof file, "node%u.log", n->serial);
    if (file_path(path, home, file, NULL)) return false;
    for (; !found && bench_seconds() < until; (void)poll(NULL, 0, REST_MS)) {
        FILE *f = fopen(path, "re");
        while (f && !found && fgets(line, sizeof line, f)) found = strstr(line, words) != NULL;
        if (f) fclose(f);
    }
    if (found && out) memcpy(out, line, sizeof line);
    return found;
}

/* Clock ticks that a process has been at work; 0: it cannot be known. */
static unsigned long long ticks_of(pid_t pid)
{
    char path[64];
    unsigned long long user = 0, system = 0;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f) return 0;
    if (fscanf(f, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
               &system) != 2)
        user = system = 0;
    fclose(f);
    return user + system;
}

void bench_node_settle(const struct bench_node *n)
{
    double until = bench_seconds() + SETTLE_MS / 1e3;

    for (unsigned long long before = ticks_of(n->pid) + 1, now; bench_seconds() < until;) {
        now = ticks_of(n->pid);
        if (now == before) return;
        before = now;
        (void)poll(NULL, 0, REST_MS);
    }
}

enum err bench_node_memory(const struct bench_node *n, uint64_t *anonymous, uint64_t *file,
                           struct why *why)
{
    char path[64], line[200];
    unsigned long long kib, rss = 0, anon = 0;

    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)n->pid);
    FILE *f = fopen(path, "r");
    if (!f) return fail(why, ERR_IO, "%s: %s", path, strerror(errno));
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "Rss: %llu", &kib) == 1) rss = kib;
        if (sscanf(line, "Anonymous: %llu", &kib) == 1) anon = kib;
    }
    fclose(f);
    *anonymous = (uint64_t)anon << 10;
    *file = (uint64_t)(rss > anon ? rss - anon : 0) << 10;
    return ERR_OK;
}

enum err bench_node_work(const struct bench_node *n, struct bench_work_of *out, struct why *why)
{
    char number[24], log[FILE_PATH_MAX];
    const char *const words[] = { "swarm-node", "status", number, "--json", NULL };
    struct json_doc *doc;
    uint64_t memory;
    double seconds;
    uint8_t *p;
    size_t len;

    snprintf(number, sizeof number, "%d", (int)n->pid);
    enum err e = bench_program(words, &seconds, &memory, why);
    if (!e) e = file_path(log, home, PROGRAM_LOG, why);
    if (!e) e = file_read(log, ANSWER_MAX, &p, &len, why);
    if (e) return e;
    e = json_parse(&doc, slice_of(p, len), "swarm-node status", why);
    free(p);
    if (e) return e;
    const struct json *j = json_root(doc);
    *out = (struct bench_work_of){ .sessions = (uint32_t)json_number_of(j, "sessions"),
                                   .requests = (uint32_t)json_number_of(j, "requests"),
                                   .kv = json_number_of(j, "kv_used") };
    json_free(doc);
    return ERR_OK;
}

/* --- questions --- */

static enum err read_answer(struct bench_answer *a, const char *path, struct why *why)
{
    struct json_doc *doc;
    uint8_t *p;
    size_t n;

    enum err e = file_read(path, ANSWER_MAX, &p, &n, why);
    if (e) return e;
    e = json_parse(&doc, slice_of(p, n), "swarm-ask's answer", why);
    free(p);
    if (e) return e;
    const struct json *j = json_root(doc), *s = json_get(j, "stats"), *st = json_get(s, "stages");
    *a = (struct bench_answer){ .n_prompt = (uint32_t)json_real_of(j, "prompt_tokens"),
                                .n_tokens = (uint32_t)json_real_of(j, "tokens"),
                                .n_known = (uint32_t)json_real_of(s, "known"),
                                .first_ms = json_real_of(s, "first_token_ms"),
                                .tokens_per_s = json_real_of(s, "tokens_per_s"),
                                .pick_us = json_real_of(s, "pick_ms") * 1e3,
                                .drafted = json_real_of(s, "drafted"),
                                .accepted = json_real_of(s, "accepted") };
    for (st = st ? st->child : NULL; st && a->n_stages < BENCH_STAGES_MAX; st = st->next) {
        a->stage[a->n_stages].steps = json_real_of(st, "steps");
        a->stage[a->n_stages].compute_us = json_real_of(st, "compute_ms") * 1e3;
        a->stage[a->n_stages++].wait_us = json_real_of(st, "wait_ms") * 1e3;
    }
    json_free(doc);
    return a->n_tokens ? ERR_OK : fail(why, ERR_MALFORMED, "swarm-ask says nothing of its tokens");
}

/* The files of one question under way. */
struct asking {
    pid_t pid;
    char answer[FILE_PATH_MAX], log[FILE_PATH_MAX];
};

static enum err start_ask(struct asking *q, unsigned i, char *const *words, struct why *why)
{
    char name[32];

    snprintf(name, sizeof name, "ask%u.json", i);
    enum err e = file_path(q->answer, home, name, why);
    snprintf(name, sizeof name, "ask%u.log", i);
    if (!e) e = file_path(q->log, home, name, why);
    if (e) return e;
    int fd = open(q->answer, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return fail(why, ERR_IO, "%s: %s", q->answer, strerror(errno));
    e = start("swarm-ask", words, fd, q->log, &q->pid, why);
    close(fd);
    return e;
}

static enum err wait_ask(const struct asking *q, struct bench_answer *out, struct why *why)
{
    char words[200];
    int status = 1;

    while (waitpid(q->pid, &status, 0) < 0 && errno == EINTR) continue;
    forget_child(q->pid);
    if (status == 0) return read_answer(out, q->answer, why);
    last_words(words, sizeof words, q->log);
    return fail(why, ERR_IO, "%s", words);
}

enum err bench_ask_so(const struct bench_node *n, const char *question, uint32_t tokens,
                      const char *const *words, struct bench_answer *out, struct why *why)
{
    struct asking q;
    char max[16];
    const char *all[ASK_WORDS_MAX] = { "swarm-ask",  n->link,        question, "--json",
                                       "--no-think", "--max-tokens", max };
    int k = 7;

    snprintf(max, sizeof max, "%u", tokens);
    while (*words && k + 1 < ASK_WORDS_MAX) all[k++] = *words++;
    enum err e = start_ask(&q, 0, (char *const *)(uintptr_t)all, why);
    return e ? e : wait_ask(&q, out, why);
}

/* Start k of the same question, into q. */
static enum err start_asks(const struct bench_node *n, const char *question, uint32_t tokens,
                           struct asking *q, unsigned k, unsigned *started, struct why *why)
{
    char max[16];
    const char *words[] = { "swarm-ask",  n->link,        question, "--json", "--greedy",
                            "--no-think", "--max-tokens", max,      NULL };
    enum err e = ERR_OK;

    *started = 0;
    snprintf(max, sizeof max, "%u", tokens);
    if (k > BENCH_ASKS_MAX) return fail(why, ERR_RANGE, "at most %d at once", BENCH_ASKS_MAX);
    for (; *started < k && !e; *started += !e)
        e = start_ask(&q[*started], *started, (char *const *)(uintptr_t)words, why);
    return e;
}

enum err bench_ask(const struct bench_node *n, const char *question, uint32_t tokens,
                   struct bench_answer *out, unsigned k, struct why *why)
{
    struct asking q[BENCH_ASKS_MAX];
    unsigned started;
    enum err e = start_asks(n, question, tokens, q, k, &started, why);

    for (unsigned i = 0; i < started; i++) {
        enum err of_one = wait_ask(&q[i], &out[i], e ? NULL : why);
        if (!e) e = of_one;
    }
    return e;
}

/* --- questions that are not waited for --- */

static struct asking begun[BENCH_ASKS_MAX];
static unsigned n_begun;

enum err bench_asks_begin(const struct bench_node *n, const char *question, uint32_t tokens,
                          unsigned k, struct why *why)
{
    return start_asks(n, question, tokens, begun, k, &n_begun, why);
}

void bench_asks_interrupt(void)
{
    for (unsigned i = 0; i < n_begun; i++) (void)kill(begun[i].pid, SIGINT);
}

void bench_asks_end(void)
{
    for (unsigned i = 0; i < n_begun; i++) end_child(begun[i].pid, SIGINT);
    n_begun = 0;
}

/* --- texts --- */

void bench_words(struct text *t, uint32_t n, uint32_t round)
{
    static const char *const word[] = { "river", "border", "capital", "island", "mountain",
                                        "city",  "coast",  "desert",  "forest", "language" };
    for (uint32_t i = 0; i < n; i++) {
        uint32_t r = (i * 2654435761u + round * 40503u) >> 7;
        text_printf(t, "%s ", word[r % (sizeof word / sizeof *word)]);
    }
}

enum err bench_positions_of_word(const struct bench_node *n, double *positions, struct why *why)
{
    struct text t = { 0 };
    struct bench_answer a;

    bench_words(&t, TRIAL_WORDS, TRIAL_ROUND);
    enum err e =
        t.failed ? fail(why, ERR_NOMEM, "out of memory") : bench_ask(n, t.p, 1, &a, 1, why);
    free(t.p);
    *positions = e ? 1 : (double)a.n_prompt / TRIAL_WORDS;
    return e;
}
