#include "node/beside.h"

#include "base/log.h"
#include "net/net.h"
#include "store/file.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { WORDS_MAX = 64, SAYS_MAX = 256, WAIT_MS = 1000, WAIT_MAX_MS = 30000, UNUSABLE = 2 };

struct beside {
    struct hub *hub;
    char file[FILE_PATH_MAX];
    char *text;                    /* owned: what the words of argv are */
    char *argv[WORDS_MAX + 1];     /* argv[0] is file */
    char *env_key, env_parent[40]; /* env_key owned; NULL: none */

    uv_process_t process;
    uv_pipe_t out; /* its standard output */
    uv_timer_t timer;
    char said[SAYS_MAX];
    size_t n_said;
    bool is_line;    /* said is whole */
    bool is_running; /* process is a handle, and so is out */
    bool is_closing;
    uint64_t started_ms, wait_ms;
    unsigned handles; /* open ones, which point here */
};

static void start(struct beside *b);

static void release(uv_handle_t *h)
{
    struct beside *b = h->data;
    if (--b->handles > 0 || !b->is_closing) return;
    free(b->text);
    if (b->env_key) explicit_bzero(b->env_key, strlen(b->env_key));
    free(b->env_key);
    free(b);
}

const char *beside_says(const struct beside *b)
{
    return b->is_running && b->is_line ? b->said : "";
}

/* --- what it prints --- */

static void on_room(uv_handle_t *h, size_t wanted, uv_buf_t *buf)
{
    static char bytes[512]; /* read at once, one program at a time */
    (void)h, (void)wanted;
    *buf = uv_buf_init(bytes, sizeof bytes);
}

static void on_output(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    struct beside *b = s->data;
    if (n < 0) {
        uv_read_stop(s);
        return;
    }
    for (ssize_t i = 0; i < n && !b->is_line; i++) {
        char c = buf->base[i];
        b->is_line = c == '\n';
        if (c >= ' ' && c < 0x7f && b->n_said + 1 < SAYS_MAX) b->said[b->n_said++] = c;
        b->said[b->n_said] = 0;
        if (b->is_line) log_info("%s: %s", b->argv[0], b->said);
    }
}

/* --- its end --- */

static void on_wait_over(uv_timer_t *t)
{
    start(t->data);
}

static void try_later(struct beside *b)
{
    bool was_well = b->is_line && now_ms(b->hub) - b->started_ms > WAIT_MAX_MS;
    b->wait_ms = was_well || !b->wait_ms ? WAIT_MS : 2 * b->wait_ms;
    if (b->wait_ms > WAIT_MAX_MS) b->wait_ms = WAIT_MAX_MS;
    uv_timer_start(&b->timer, on_wait_over, b->wait_ms, 0);
}

static void on_ended(uv_process_t *p, int64_t status, int signal)
{
    struct beside *b = p->data;
    if (b->is_closing) return;
    b->is_running = false;
    uv_close((uv_handle_t *)&b->process, release);
    uv_close((uv_handle_t *)&b->out, release);
    if (status == UNUSABLE) {
        log_warn("%s cannot use its options, see above; the node goes on without it", b->argv[0]);
        return;
    }
    try_later(b);
    log_warn("%s ended (%s %d); it is started again in %llu s", b->argv[0],
             signal ? "signal" : "status", signal ? signal : (int)status,
             (unsigned long long)b->wait_ms / 1000);
}

/* --- its start --- */

/* Ours and two more. */
static char **environment(struct beside *b)
{
    size_t n = 0, k = 0;
    while (environ[n]) n++;
    char **env = malloc((n + 3) * sizeof *env);
    if (!env) return NULL;
    for (size_t i = 0; i < n; i++)
        if (strncmp(environ[i], BESIDE_PARENT "=", sizeof BESIDE_PARENT) != 0)
            env[k++] = environ[i];
    snprintf(b->env_parent, sizeof b->env_parent, BESIDE_PARENT "=%ld", (long)getpid());
    env[k++] = b->env_parent;
    if (b->env_key) env[k++] = b->env_key;
    env[k] = NULL;
    return env;
}

static void start(struct beside *b)
{
    uv_stdio_container_t stdio[3] = { { .flags = UV_IGNORE },
                                      { .flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE,
                                        .data.stream = (uv_stream_t *)&b->out },
                                      { .flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO } };
    uv_process_options_t o = { .exit_cb = on_ended,
                               .file = b->file,
                               .args = b->argv,
                               .env = environment(b),
                               .flags = UV_PROCESS_DETACHED,
                               .stdio_count = 3,
                               .stdio = stdio };
    b->n_said = 0;
    b->is_line = false;
    b->started_ms = now_ms(b->hub);
    uv_pipe_init(&b->hub->loop, &b->out, 0);
    b->out.data = b->process.data = b;
    int rc = o.env ? uv_spawn(&b->hub->loop, &b->process, &o) : UV_ENOMEM;
    free(o.env);
    b->handles += 2;
    b->is_running = rc == 0;
    if (rc == 0) {
        uv_read_start((uv_stream_t *)&b->out, on_room, on_output);
        return;
    }
    uv_close((uv_handle_t *)&b->out, release);
    if (o.env)
        uv_close((uv_handle_t *)&b->process, release);
    else
        b->handles--;
    try_later(b);
    log_warn("%s does not start: %s; trying again in %llu s", b->file, uv_strerror(rc),
             (unsigned long long)b->wait_ms / 1000);
}

/* Next to this program, as installed and as built. */
static void find_program(struct beside *b, const char *name)
{
    char own[FILE_PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", own, sizeof own - 1);
    if (n > 0) {
        own[n] = 0;
        char *slash = strrchr(own, '/');
        if (slash) *slash = 0;
        if (slash && snprintf(b->file, sizeof b->file, "%s/%s", own, name) < (int)sizeof b->file &&
            access(b->file, X_OK) == 0)
            return;
    }
    snprintf(b->file, sizeof b->file, "%s", name);
}

static char *copy_words(const struct beside_config *c)
{
    size_t n = strlen(c->link) + strlen(c->listen) + (c->options ? strlen(c->options) : 0) + 32;
    char *text = malloc(n);
    if (text)
        snprintf(text, n, "%s --listen %s %s", c->link, c->listen, c->options ? c->options : "");
    return text;
}

enum err beside_open(struct beside **out, const struct beside_config *c, struct why *why)
{
    struct beside *b = calloc(1, sizeof *b);
    unsigned n = 0;
    if (b) b->text = copy_words(c);
    if (b && c->swarm_key) {
        size_t size = sizeof BESIDE_SWARM_KEY + 1 + strlen(c->swarm_key);
        b->env_key = malloc(size);
        if (b->env_key) snprintf(b->env_key, size, BESIDE_SWARM_KEY "=%s", c->swarm_key);
    }
    if (!b || !b->text || (c->swarm_key && !b->env_key)) {
        if (b) free(b->text);
        free(b);
        return fail(why, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    }
    b->argv[n++] = (char *)(uintptr_t)c->program;
    for (char *rest = b->text, *word; (word = strtok_r(rest, " \t", &rest)); b->argv[n++] = word)
        if (n == WORDS_MAX) {
            free(b->text);
            free(b->env_key);
            free(b);
            return fail(why, ERR_RANGE, "%s takes no more than %d words", c->program, WORDS_MAX);
        }
    find_program(b, c->program);
    b->hub = c->hub;
    uv_timer_init(&c->hub->loop, &b->timer);
    b->timer.data = b;
    b->handles = 1;
    start(b);
    *out = b;
    return ERR_OK;
}

void beside_close(struct beside *b)
{
    if (!b) return;
    b->is_closing = true;
    uv_close((uv_handle_t *)&b->timer, release);
    if (!b->is_running) return;
    (void)uv_process_kill(&b->process, SIGTERM);
    uv_close((uv_handle_t *)&b->process, release);
    uv_close((uv_handle_t *)&b->out, release);
}

bool beside_heed_parent(void)
{
    const char *parent = getenv(BESIDE_PARENT);
    if (!parent) return true;
    if (prctl(PR_SET_PDEATHSIG, SIGTERM)) return true; /* it is ended when the node can */
    return getppid() == (pid_t)atol(parent);
}
