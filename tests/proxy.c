/* proxy - a bad network between two programs on one machine, without privileges.
 *
 *     swarm-proxy --target 127.0.0.1:7777 [--listen 127.0.0.1:0] [--delay MS] [--jitter MS]
 *                 [--rate BYTES/S] [--split N] [--loss N] [--cut N] [--flip N] [--blackhole 1]
 *                 [--only up|down] [--seed N]
 *
 * Forwards every connection to the target (port 0: the port it listens on itself, as a node on
 * 127.0.0.2 behind a proxy on 127.0.0.1 has it); prints HOST:PORT when it listens.  Each direction
 * of a connection is a lane: its bytes leave in order, delayed by --delay and up to --jitter more
 * (milliseconds one way), at no more than --rate, in writes of at most --split bytes.  --loss N
 * holds N of 1,000 arrivals, and what comes behind them, for 0.2 to 3 s, as a lost segment does.
 * After N bytes of a lane --cut resets the connection, --flip changes byte N, --blackhole 1
 * swallows everything and says nothing; --only confines these three to bytes towards the target
 * (up) or from it (down).
 *
 * The same words without dashes on stdin, one a line, change a running proxy ("delay 40").  Three
 * more: "drop" resets every connection, "stall MS" holds what arrives meanwhile, "garble 1" flips
 * one bit of what comes next in each lane, and says so on stderr.  Each is answered "ok"; the end
 * of a pipe on stdin ends the program.  0 switches off, also cut and flip.
 */
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { CHUNK = 64 << 10, LANE_MAX = 8 << 20 };

struct options {
    uint64_t delay, jitter, rate, split, loss, cut, flip, blackhole, seed;
    bool up, down; /* where faults happen */
};

/* Bytes on their way. */
struct parcel {
    struct parcel *next;
    struct lane *lane;
    uv_write_t write;
    uint64_t due_ms;
    size_t n; /* 0: the end of the stream */
    char bytes[];
};

struct lane {
    struct pair *pair;
    uv_tcp_t *from, *to;
    uv_timer_t timer;
    uv_shutdown_t shutdown;
    bool up, ended, paused, garble;
    struct parcel *first, **last;
    size_t queued;
    uint64_t seen;       /* bytes so far */
    double line_free_ms; /* when the line has sent all before */
    uint64_t last_due_ms;
};

struct pair {
    struct pair *prev, *next;
    uv_tcp_t client, target;
    uv_connect_t connect;
    struct lane lane[2];
    bool closing;
    unsigned handles;
};

static uv_loop_t loop;
static uv_tcp_t listener;
static struct sockaddr_in target_addr;
static struct options opt = { .up = true, .down = true, .seed = 1 };
static struct pair *pairs;
static uint64_t stalled_until_ms;

/* --- the end of a pair --- */

static void on_closed(uv_handle_t *handle)
{
    struct pair *p = handle->data;
    if (--p->handles) return;
    for (int i = 0; i < 2; i++)
        while (p->lane[i].first) {
            struct parcel *next = p->lane[i].first->next;
            free(p->lane[i].first);
            p->lane[i].first = next;
        }
    if (p->prev)
        p->prev->next = p->next;
    else
        pairs = p->next;
    if (p->next) p->next->prev = p->prev;
    free(p);
}

static void end_pair(struct pair *p, bool reset)
{
    if (p->closing) return;
    p->closing = true;
    for (int i = 0; i < 2; i++) {
        uv_tcp_t *tcp = i ? &p->target : &p->client;
        uv_close((uv_handle_t *)&p->lane[i].timer, on_closed);
        if (!reset || uv_tcp_close_reset(tcp, on_closed)) uv_close((uv_handle_t *)tcp, on_closed);
    }
}

/* --- bytes out --- */

static void forward(struct lane *l);

static void on_due(uv_timer_t *timer)
{
    forward((struct lane *)(void *)((char *)timer - offsetof(struct lane, timer)));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);
static void on_alloc(uv_handle_t *handle, size_t want, uv_buf_t *buf);

static size_t lane_max(void)
{
    /* with a rate, about what a router would hold: the sender is to feel that the line is slow */
    double room = (double)opt.rate * (double)(opt.delay + 200) / 1000;
    if (!opt.rate || room > LANE_MAX) return LANE_MAX;
    return room < CHUNK ? CHUNK : (size_t)room;
}

static void resume(struct lane *l)
{
    if (!l->paused || l->queued > lane_max() / 2 || l->pair->closing) return;
    l->paused = false;
    uv_read_start((uv_stream_t *)l->from, on_alloc, on_read);
}

static void on_written(uv_write_t *req, int status)
{
    struct parcel *c = req->data;
    struct lane *l = c->lane;
    l->queued -= c->n;
    free(c);
    if (status)
        end_pair(l->pair, false);
    else
        resume(l);
}

static void on_fin(uv_shutdown_t *req, int status)
{
    struct lane *l = req->data;
    (void)status;
    l->ended = true;
    if (l->pair->lane[0].ended && l->pair->lane[1].ended) end_pair(l->pair, false);
}

/* Send what is due, and sleep until the next is. */
static void forward(struct lane *l)
{
    while (l->first && l->first->due_ms <= uv_now(&loop) && !l->pair->closing) {
        struct parcel *c = l->first;
        l->first = c->next;
        if (!l->first) l->last = &l->first;
        if (c->n == 0) {
            free(c);
            l->shutdown.data = l;
            if (uv_shutdown(&l->shutdown, (uv_stream_t *)l->to, on_fin)) end_pair(l->pair, false);
            return;
        }
        uv_buf_t b = uv_buf_init(c->bytes, (unsigned)c->n);
        c->write.data = c;
        if (uv_write(&c->write, (uv_stream_t *)l->to, &b, 1, on_written)) {
            free(c);
            end_pair(l->pair, false);
            return;
        }
    }
    if (l->first && !l->pair->closing)
        uv_timer_start(&l->timer, on_due, l->first->due_ms - uv_now(&loop), 0);
}

/* --- bytes in --- */

static uint64_t random_below(uint64_t n)
{
    opt.seed = opt.seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (opt.seed >> 33) % n;
}

static uint64_t due_of(struct lane *l, size_t n)
{
    uint64_t due;

    uv_update_time(&loop);
    double now = (double)uv_now(&loop);
    if (l->line_free_ms < now) l->line_free_ms = now;
    if (opt.rate) l->line_free_ms += (double)n * 1000 / (double)opt.rate;
    due = (uint64_t)l->line_free_ms + opt.delay + (opt.delay > 0); /* never less than asked for */
    if (opt.jitter) due += random_below(opt.jitter + 1);
    if (opt.loss && random_below(1000) < opt.loss) due += 200 + random_below(2801);
    if (due < stalled_until_ms) due = stalled_until_ms;
    if (due < l->last_due_ms) due = l->last_due_ms; /* TCP keeps the order, so do we */
    l->last_due_ms = due;
    return due;
}

static void enqueue(struct lane *l, const char *bytes, size_t n)
{
    struct parcel *c = malloc(sizeof *c + n);
    if (!c) abort();
    c->next = NULL;
    c->lane = l;
    c->n = n;
    if (n) memcpy(c->bytes, bytes, n);
    c->due_ms = due_of(l, n);
    *l->last = c;
    l->last = &c->next;
    l->queued += n;
    forward(l);
}

/* The faults of a lane, applied to its next n bytes; false: nothing of them goes on. */
static bool spoil(struct lane *l, char *bytes, size_t n)
{
    uint64_t from = l->seen;

    l->seen += n;
    if (l->up ? !opt.up : !opt.down) return true;
    if (opt.blackhole) return false;
    if (l->garble) {
        size_t bit = random_below(n * 8);
        l->garble = false;
        bytes[bit / 8] ^= (char)(1 << bit % 8);
        fprintf(stderr, "garbled byte %llu %s\n", (unsigned long long)(from + bit / 8),
                l->up ? "up" : "down");
    }
    if (opt.flip && opt.flip >= from && opt.flip < from + n) bytes[opt.flip - from] ^= 1;
    if (opt.cut && l->seen >= opt.cut) {
        end_pair(l->pair, true);
        return false;
    }
    return true;
}

static void on_alloc(uv_handle_t *handle, size_t want, uv_buf_t *buf)
{
    static char inbox[CHUNK];
    (void)handle;
    (void)want;
    *buf = uv_buf_init(inbox, sizeof inbox);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct pair *p = stream->data;
    struct lane *l = &p->lane[stream == (uv_stream_t *)&p->target];

    if (n == 0 || p->closing) return;
    if (n < 0) {
        if (n != UV_EOF)
            end_pair(p, true);
        else
            enqueue(l, NULL, 0);
        return;
    }
    if (!spoil(l, buf->base, (size_t)n)) return;
    size_t most = opt.split ? opt.split : (size_t)n;
    for (size_t at = 0; at < (size_t)n && !p->closing; at += most)
        enqueue(l, buf->base + at, (size_t)n - at < most ? (size_t)n - at : most);
    if (l->queued > lane_max() && !p->closing) {
        l->paused = true;
        uv_read_stop(stream);
    }
}

/* --- connections --- */

static void on_connect(uv_connect_t *req, int status)
{
    struct pair *p = req->data;

    if (p->closing) return;
    if (status) {
        end_pair(p, true);
        return;
    }
    uv_tcp_nodelay(&p->client, 1);
    uv_tcp_nodelay(&p->target, 1);
    uv_read_start((uv_stream_t *)&p->client, on_alloc, on_read);
    uv_read_start((uv_stream_t *)&p->target, on_alloc, on_read);
}

static void on_connection(uv_stream_t *server, int status)
{
    if (status) return;
    struct pair *p = calloc(1, sizeof *p);
    if (!p) abort();
    uv_tcp_init(&loop, &p->client);
    uv_tcp_init(&loop, &p->target);
    p->client.data = p->target.data = p->connect.data = p;
    for (int i = 0; i < 2; i++) {
        struct lane *l = &p->lane[i];
        *l = (struct lane){ .pair = p, .up = i == 0 };
        l->from = i ? &p->target : &p->client;
        l->to = i ? &p->client : &p->target;
        l->last = &l->first;
        uv_timer_init(&loop, &l->timer);
        l->timer.data = p;
    }
    p->handles = 4;
    p->next = pairs;
    if (p->next) p->next->prev = p;
    pairs = p;
    if (uv_accept(server, (uv_stream_t *)&p->client) ||
        uv_tcp_connect(&p->connect, &p->target, (struct sockaddr *)&target_addr, on_connect))
        end_pair(p, true);
}

/* --- orders --- */

static bool address(const char *text, struct sockaddr_in *out)
{
    char host[64];
    const char *colon = strrchr(text, ':');

    if (!colon || (size_t)(colon - text) >= sizeof host) return false;
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = 0;
    return uv_ip4_addr(host, atoi(colon + 1), out) == 0;
}

/* "delay" "40"; false: no such word or no number. */
static bool set(const char *word, const char *value)
{
    struct {
        const char *word;
        uint64_t *at;
    } words[] = { { "delay", &opt.delay }, { "jitter", &opt.jitter },       { "rate", &opt.rate },
                  { "split", &opt.split }, { "loss", &opt.loss },           { "cut", &opt.cut },
                  { "flip", &opt.flip },   { "blackhole", &opt.blackhole }, { "seed", &opt.seed } };
    char *end;

    if (strcmp(word, "garble") == 0) {
        for (struct pair *p = pairs; p; p = p->next)
            p->lane[0].garble = p->lane[1].garble = atoi(value) != 0;
        return true;
    }
    if (strcmp(word, "stall") == 0) {
        stalled_until_ms = uv_now(&loop) + strtoull(value, &end, 10);
        return end != value && *end == 0;
    }

    if (strcmp(word, "only") == 0) {
        opt.up = strcmp(value, "down") != 0;
        opt.down = strcmp(value, "up") != 0;
        return true;
    }
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(word, words[i].word) != 0) continue;
        *words[i].at = strtoull(value, &end, 10);
        return end != value && *end == 0;
    }
    return false;
}

static void obey(char *line)
{
    char *value = strchr(line, ' ');

    if (value) *value++ = 0;
    if (strcmp(line, "drop") == 0)
        for (struct pair *p = pairs; p; p = p->next) end_pair(p, true);
    else if (line[0] && !set(line, value ? value : ""))
        fprintf(stderr, "swarm-proxy: %s: unknown order\n", line);
    puts("ok");
    fflush(stdout);
}

static void on_orders(uv_stream_t *in, ssize_t n, const uv_buf_t *buf)
{
    static char line[256];
    static size_t len;

    (void)in;
    if (n < 0) uv_stop(&loop);
    for (ssize_t i = 0; i < n; i++) {
        if (buf->base[i] != '\n') {
            if (len < sizeof line - 1) line[len++] = buf->base[i];
            continue;
        }
        line[len] = 0;
        len = 0;
        obey(line);
    }
}

static int usage(const char *what)
{
    fprintf(stderr, "swarm-proxy: %s; see the top of tests/proxy.c\n", what);
    return 2;
}

/* May the target listen on this port, too?  On its own address it can be another program's. */
static int is_free_there(in_port_t port)
{
    struct sockaddr_in there = target_addr;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    there.sin_port = port;
    int is_free = fd >= 0 && !setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) &&
                  !bind(fd, (const struct sockaddr *)&there, sizeof there) && !listen(fd, 1);
    if (fd >= 0) close(fd);
    return is_free;
}

/* Where the proxy can listen; with the system's choice of a port for both sides, one that is free
 * on both. */
static int find_place(const struct sockaddr_in *at, struct sockaddr_in *bound)
{
    for (int tries = 0; tries < 50; tries++) {
        int len = sizeof *bound;
        uv_tcp_init(&loop, &listener);
        if (uv_tcp_bind(&listener, (const struct sockaddr *)at, 0) ||
            uv_tcp_getsockname(&listener, (struct sockaddr *)bound, &len))
            return -1;
        if (at->sin_port || target_addr.sin_port || is_free_there(bound->sin_port)) return 0;
        uv_close((uv_handle_t *)&listener, NULL); /* its memory is used again after this turn */
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    return -1;
}

static int serve(const struct sockaddr_in *at)
{
    static uv_pipe_t orders;
    struct sockaddr_in bound;
    char host[64];

    if (find_place(at, &bound) || uv_listen((uv_stream_t *)&listener, 128, on_connection))
        return usage("cannot listen there");
    uv_ip4_name(&bound, host, sizeof host);
    if (!target_addr.sin_port) target_addr.sin_port = bound.sin_port;
    printf("%s:%u\n", host, ntohs(bound.sin_port));
    fflush(stdout);
    if (uv_guess_handle(0) == UV_NAMED_PIPE) { /* started from a script it has no orders */
        uv_pipe_init(&loop, &orders, 0);
        if (uv_pipe_open(&orders, 0) == 0)
            uv_read_start((uv_stream_t *)&orders, on_alloc, on_orders);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    return 0; /* the kernel closes what is open */
}

int main(int argc, char **argv)
{
    struct sockaddr_in at;
    bool has_target = false;

    signal(SIGPIPE, SIG_IGN);
    uv_ip4_addr("127.0.0.1", 0, &at);
    for (int i = 1; i + 1 < argc; i += 2) {
        bool good = strncmp(argv[i], "--", 2) == 0;
        if (good && strcmp(argv[i], "--listen") == 0)
            good = address(argv[i + 1], &at);
        else if (good && strcmp(argv[i], "--target") == 0)
            good = has_target = address(argv[i + 1], &target_addr);
        else if (good)
            good = set(argv[i] + 2, argv[i + 1]);
        if (!good) return usage(argv[i]);
    }
    if (argc % 2 == 0 || !has_target) return usage("--target HOST:PORT is needed");
    uv_loop_init(&loop);
    return serve(&at);
}
