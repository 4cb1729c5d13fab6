#include "net/http.h"

#include "base/json.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEADERS_MAX = 12, IDLE_S = 75, TICK_MS = 1000, STREAM_BLOCK = 16 << 10 };

/* A client's connection, for the clock of a request that never becomes whole. */
struct line {
    struct http *h;
    struct line *next;
    int fd;
    bool is_again;     /* it has brought a request before */
    uint64_t until_ms; /* the request that is read, or the next one, is whole; 0: none is read */
};

enum phase { READING, ASKED /* the owner has it */, REPLYING, STREAMING };

struct exchange {
    struct http *h;
    struct exchange *next;
    struct MHD_Connection *c;
    struct line *line;
    enum phase phase;
    char method[16], path[256], peer[HTTP_ADDR_TEXT];
    struct text body; /* the request's */
    bool is_too_long;
    void *user;
    struct {
        char name[32], value[256];
    } header[HEADERS_MAX];
    unsigned n_headers;
    struct MHD_Response *reply;  /* owned until it is queued */
    unsigned status;             /* of it */
    struct text out;             /* what the stream has not sent */
    uint64_t at;                 /* of the stream: its first byte */
    bool is_ended, is_suspended; /* the stream; the connection */
    bool is_gone;                /* the client */
    bool is_told;                /* on_closed has been said */
    uv_poll_t *watch;            /* for its going; owned by the loop once closed */
};

struct http {
    struct http_config c;
    struct MHD_Daemon *daemon;
    uv_poll_t poll;
    uv_timer_t run, tick;
    struct exchange *first;
    struct line *lines;
    uint32_t n_lines;
    uint16_t port;
    bool is_closing;
    size_t body_max;
    unsigned handles; /* of h that are open */
};

/* --- libmicrohttpd's turns --- */

static void on_run(uv_timer_t *t);

/* It says itself when it wants to be called without anything having come. */
static void turn(struct http *h)
{
    MHD_UNSIGNED_LONG_LONG ms;
    if (h->is_closing) return;
    MHD_run(h->daemon);
    if (MHD_get_timeout(h->daemon, &ms) == MHD_YES)
        uv_timer_start(&h->run, on_run, ms, 0);
    else
        uv_timer_stop(&h->run);
}

static void on_run(uv_timer_t *t)
{
    turn(t->data);
}

static void on_ready(uv_poll_t *p, int status, int events)
{
    (void)status;
    (void)events;
    turn(p->data);
}

static void wake(struct exchange *x)
{
    if (!x->is_suspended) return;
    x->is_suspended = false;
    MHD_resume_connection(x->c);
    if (!x->h->is_closing) uv_timer_start(&x->h->run, on_run, 0, 0);
}

static void sleep_on(struct exchange *x)
{
    x->is_suspended = true;
    MHD_suspend_connection(x->c);
}

/* --- has the client gone? --- */

static void tell_closed(struct exchange *x)
{
    if (x->is_told || x->phase == READING) return;
    x->is_told = true;
    x->h->c.on_closed(x->h->c.arg, x);
}

static void on_watch_closed(uv_handle_t *w)
{
    free(w);
}

static void stop_watch(struct exchange *x)
{
    if (x->watch) uv_close((uv_handle_t *)x->watch, on_watch_closed);
    x->watch = NULL;
}

static void leave(struct exchange *x)
{
    stop_watch(x);
    x->is_gone = true;
    tell_closed(x);
    wake(x);
}

static void on_disconnect(uv_poll_t *p, int status, int events)
{
    if (status || (events & UV_DISCONNECT)) leave(p->data);
}

static void start_watch(struct exchange *x)
{
    x->watch = malloc(sizeof *x->watch);
    if (!x->watch) return;
    if (uv_poll_init(&x->h->c.hub->loop, x->watch, x->line->fd)) {
        free(x->watch);
        x->watch = NULL;
        return;
    }
    x->watch->data = x;
    uv_poll_start(x->watch, UV_DISCONNECT, on_disconnect);
}

/* --- a request --- */

static void peer_text(struct MHD_Connection *c, char out[HTTP_ADDR_TEXT])
{
    const union MHD_ConnectionInfo *i =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    socklen_t n = i && i->client_addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                             : sizeof(struct sockaddr_in);
    if (!i || getnameinfo(i->client_addr, n, out, HTTP_ADDR_TEXT, NULL, 0, NI_NUMERICHOST))
        snprintf(out, HTTP_ADDR_TEXT, "?");
}

static struct exchange *begin(struct http *h, struct MHD_Connection *c, const char *path,
                              const char *method)
{
    struct exchange *x = calloc(1, sizeof *x);
    const union MHD_ConnectionInfo *i =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    if (!x || !i || !i->socket_context) {
        free(x);
        return NULL;
    }
    x->h = h;
    x->c = c;
    x->line = i->socket_context;
    if (x->line->is_again) x->line->until_ms = uv_now(&h->c.hub->loop) + HTTP_REQUEST_MS;
    snprintf(x->method, sizeof x->method, "%s", method);
    snprintf(x->path, sizeof x->path, "%s", path);
    peer_text(c, x->peer);
    x->next = h->first;
    h->first = x;
    return x;
}

static enum MHD_Result queue(struct exchange *x)
{
    enum MHD_Result r = MHD_queue_response(x->c, x->status, x->reply);
    MHD_destroy_response(x->reply);
    x->reply = NULL;
    return r;
}

static void refuse_length(struct exchange *x)
{
    x->phase = ASKED;
    x->is_told = true; /* the owner never had it */
    http_reply(x, 413, "application/json",
               slice_str("{\"error\":{\"message\":\"the body is longer than what is "
                         "read here\",\"type\":\"invalid_request_error\",\"param\":null,"
                         "\"code\":\"too_long\"}}"));
}

static enum MHD_Result on_access(void *arg, struct MHD_Connection *c, const char *url,
                                 const char *method, const char *version, const char *data,
                                 size_t *n, void **state)
{
    struct http *h = arg;
    struct exchange *x = *state;
    (void)version;
    if (!x) {
        *state = x = begin(h, c, url, method);
        return x ? MHD_YES : MHD_NO;
    }
    if (x->is_gone || h->is_closing) return MHD_NO;
    if (*n > 0) {
        x->is_too_long |= x->body.n + *n > h->body_max;
        if (!x->is_too_long) text_add(&x->body, data, *n);
        *n = 0;
        return x->body.failed ? MHD_NO : MHD_YES;
    }
    if (x->phase == READING) {
        x->line->until_ms = 0;
        if (x->is_too_long) {
            refuse_length(x);
        } else {
            x->phase = ASKED;
            h->c.on_request(h->c.arg, x);
        }
    }
    if (x->reply) return queue(x);
    start_watch(x);
    sleep_on(x);
    return MHD_YES;
}

static void on_completed(void *arg, struct MHD_Connection *c, void **state,
                         enum MHD_RequestTerminationCode code)
{
    struct http *h = arg;
    struct exchange *x = *state, **at = &h->first;
    (void)c;
    (void)code;
    if (!x) return;
    stop_watch(x);
    tell_closed(x);
    x->line->is_again = true; /* and may bring another one */
    x->line->until_ms = uv_now(&h->c.hub->loop) + IDLE_S * 1000 + HTTP_REQUEST_MS;
    while (*at != x) at = &(*at)->next;
    *at = x->next;
    if (x->reply) MHD_destroy_response(x->reply);
    free(x->body.p);
    free(x->out.p);
    free(x);
    *state = NULL;
}

/* --- connections --- */

static void on_line(void *arg, struct MHD_Connection *c, void **context,
                    enum MHD_ConnectionNotificationCode code)
{
    struct http *h = arg;
    struct line *l = *context;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *i =
            MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
        *context = l = calloc(1, sizeof *l);
        if (!l) return;
        *l = (struct line){ .h = h,
                            .next = h->lines,
                            .fd = i ? i->connect_fd : -1,
                            .until_ms = uv_now(&h->c.hub->loop) + HTTP_REQUEST_MS };
        h->lines = l;
        h->n_lines++;
    } else if (l) {
        struct line **at = &h->lines;
        while (*at != l) at = &(*at)->next;
        *at = l->next;
        h->n_lines--;
        free(l);
        *context = NULL;
    }
}

/* Who sends a request byte by byte does not hold a place for ever.  The library, which stops
 * listening when all places are taken, listens again only when it is called after one is free, and
 * does not ask for that. */
static void on_tick(uv_timer_t *t)
{
    struct http *h = t->data;
    uint64_t now = uv_now(&h->c.hub->loop);
    for (struct line *l = h->lines; l; l = l->next)
        if (l->until_ms && now > l->until_ms) (void)shutdown(l->fd, SHUT_RDWR);
    turn(h);
}

/* --- answers --- */

void http_add_header(struct exchange *x, const char *name, const char *value)
{
    if (x->n_headers == HEADERS_MAX) return;
    snprintf(x->header[x->n_headers].name, sizeof x->header->name, "%s", name);
    snprintf(x->header[x->n_headers].value, sizeof x->header->value, "%s", value);
    x->n_headers++;
}

static void give(struct exchange *x, struct MHD_Response *reply, unsigned status, const char *type)
{
    x->reply = reply;
    x->status = status;
    if (reply) {
        (void)MHD_add_response_header(reply, "Content-Type", type);
        for (unsigned i = 0; i < x->n_headers; i++)
            (void)MHD_add_response_header(reply, x->header[i].name, x->header[i].value);
    } else {
        x->is_gone = true; /* no memory: the connection ends */
    }
    wake(x);
}

void http_reply(struct exchange *x, unsigned status, const char *type, struct slice body)
{
    if (x->phase != ASKED || x->is_gone) return;
    x->phase = REPLYING;
    give(x,
         MHD_create_response_from_buffer(body.n, (void *)(uintptr_t)body.p, MHD_RESPMEM_MUST_COPY),
         status, type);
}

static ssize_t read_stream(void *arg, uint64_t pos, char *to, size_t max)
{
    struct exchange *x = arg;
    if (x->is_gone || x->h->is_closing) return MHD_CONTENT_READER_END_WITH_ERROR;
    size_t sent = (size_t)(pos - x->at);
    x->at = pos;
    x->out.n -= sent;
    if (x->out.n) memmove(x->out.p, x->out.p + sent, x->out.n);
    if (x->out.n == 0 && x->is_ended) return MHD_CONTENT_READER_END_OF_STREAM;
    if (x->out.n == 0) {
        if (!x->watch) start_watch(x);
        sleep_on(x);
        return 0;
    }
    size_t n = x->out.n < max ? x->out.n : max;
    memcpy(to, x->out.p, n);
    return (ssize_t)n;
}

void http_stream(struct exchange *x, const char *type)
{
    if (x->phase != ASKED || x->is_gone) return;
    x->phase = STREAMING;
    http_add_header(x, "Cache-Control", "no-store");
    http_add_header(x, "X-Accel-Buffering", "no"); /* a proxy is not to hold it back */
    give(x, MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, read_stream, x, NULL),
         200, type);
}

void http_put(struct exchange *x, struct slice bytes)
{
    if (x->phase != STREAMING || x->is_gone || x->is_ended) return;
    text_add(&x->out, bytes.p, bytes.n);
    if (x->out.failed || x->out.n > HTTP_BEHIND_MAX) x->is_gone = true; /* heard by on_closed */
    wake(x);
}

void http_end(struct exchange *x)
{
    x->is_ended = true;
    wake(x);
}

/* --- what was asked --- */

const char *http_method(const struct exchange *x)
{
    return x->method;
}

const char *http_path(const struct exchange *x)
{
    return x->path;
}

struct slice http_body(const struct exchange *x)
{
    return slice_of(x->body.p, x->body.n);
}

const char *http_header(const struct exchange *x, const char *name)
{
    return MHD_lookup_connection_value(x->c, MHD_HEADER_KIND, name);
}

struct join {
    const char *name;
    struct text *out;
};

static enum MHD_Result join_one(void *arg, enum MHD_ValueKind kind, const char *name,
                                const char *value)
{
    struct join *j = arg;
    (void)kind;
    if (!value || strcasecmp(name, j->name) != 0) return MHD_YES;
    if (j->out->n > 0) text_str(j->out, ",");
    text_str(j->out, value);
    return MHD_YES;
}

void http_join_header(const struct exchange *x, const char *name, struct text *out)
{
    struct join j = { name, out };
    MHD_get_connection_values(x->c, MHD_HEADER_KIND, join_one, &j);
}

const char *http_query(const struct exchange *x, const char *name)
{
    return MHD_lookup_connection_value(x->c, MHD_GET_ARGUMENT_KIND, name);
}

const char *http_peer(const struct exchange *x)
{
    return x->peer;
}

void http_set_user(struct exchange *x, void *user)
{
    x->user = user;
}

void *http_user(const struct exchange *x)
{
    return x->user;
}

bool http_is_streaming(const struct exchange *x)
{
    return x->phase == STREAMING && !x->is_gone;
}

/* --- life --- */

/* Our own, because the library's errno is not always that of bind. */
static enum err listen_socket(int *out, const struct addrinfo *a)
{
    int on = 1, fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return ERR_IO;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) ||
        (a->ai_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on)) ||
        bind(fd, a->ai_addr, a->ai_addrlen) || listen(fd, SOMAXCONN)) {
        int why = errno;
        close(fd);
        errno = why;
        return ERR_IO;
    }
    *out = fd;
    return ERR_OK;
}

/* Takes the socket, which the library closes. */
static enum err start_daemon(struct http *h, const struct sockaddr *addr, int fd)
{
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME;
    if (addr->sa_family == AF_INET6) flags |= MHD_USE_IPv6;
    h->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_access, h, MHD_OPTION_LISTEN_SOCKET, fd,
        MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)(h->c.connections ? h->c.connections : HTTP_CONNECTIONS_MAX),
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned)HTTP_PER_ADDRESS_MAX,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)(HTTP_HEAD_MAX + STREAM_BLOCK), MHD_OPTION_NOTIFY_COMPLETED, on_completed, h,
        MHD_OPTION_NOTIFY_CONNECTION, on_line, h, MHD_OPTION_END);
    return h->daemon ? ERR_OK : ERR_IO;
}

static enum err listen_at(struct http *h, struct why *why)
{
    char port[8];
    struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                              .ai_socktype = SOCK_STREAM },
                    *a;
    snprintf(port, sizeof port, "%u", h->c.port);
    if (getaddrinfo(h->c.host, port, &hints, &a))
        return fail(why, ERR_USAGE, "%s is not an address to listen on", h->c.host);
    int fd;
    enum err e = listen_socket(&fd, a);
    if (!e) e = start_daemon(h, a->ai_addr, fd);
    freeaddrinfo(a);
    if (e)
        return fail(why, e, "cannot listen on %s port %u: %s", h->c.host, h->c.port,
                    strerror(errno));
    const union MHD_DaemonInfo *i = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_BIND_PORT);
    h->port = i ? i->port : h->c.port;
    return ERR_OK;
}

enum err http_open(struct http **out, const struct http_config *c, struct why *why)
{
    struct http *h = calloc(1, sizeof *h);
    if (!h) return fail(why, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    h->c = *c;
    h->body_max = c->body_max ? c->body_max : HTTP_BODY_MAX;
    enum err e = listen_at(h, why);
    const union MHD_DaemonInfo *i =
        e ? NULL : MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (!e && (!i || uv_poll_init(&c->hub->loop, &h->poll, i->epoll_fd))) {
        MHD_stop_daemon(h->daemon);
        e = fail(why, ERR_IO, "the HTTP library cannot be driven by this loop");
    }
    if (e) {
        free(h);
        return e;
    }
    uv_timer_init(&c->hub->loop, &h->run);
    uv_timer_init(&c->hub->loop, &h->tick);
    h->poll.data = h->run.data = h->tick.data = h;
    h->handles = 3;
    uv_poll_start(&h->poll, UV_READABLE, on_ready);
    uv_timer_start(&h->tick, on_tick, TICK_MS, TICK_MS);
    *out = h;
    return ERR_OK;
}

static void on_handle_closed(uv_handle_t *u)
{
    struct http *h = u->data;
    if (--h->handles == 0) free(h);
}

void http_close(struct http *h)
{
    if (!h) return;
    h->is_closing = true;
    for (struct exchange *x = h->first; x; x = x->next) {
        tell_closed(x);
        wake(x); /* the library wants nobody asleep */
    }
    uv_poll_stop(&h->poll);
    MHD_stop_daemon(h->daemon);
    uv_close((uv_handle_t *)&h->poll, on_handle_closed);
    uv_close((uv_handle_t *)&h->run, on_handle_closed);
    uv_close((uv_handle_t *)&h->tick, on_handle_closed);
}

uint16_t http_port(const struct http *h)
{
    return h->port;
}

uint32_t http_connections(const struct http *h)
{
    return h->n_lines;
}
