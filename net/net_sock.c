#include "net/net_impl.h"

#include "base/log.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdlib.h>

static void on_closed(uv_handle_t *handle);

struct sock *sock_new(struct net *n, bool initiator)
{
    struct sock *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    if (uv_tcp_init(&n->hub->loop, &s->tcp)) {
        free(s);
        return NULL;
    }
    s->tcp.data = s;
    s->net = n;
    s->initiator = initiator;
    s->born_ms = s->rx_ms = s->progress_ms = net_now(n);
    s->next = n->socks;
    if (s->next) s->next->prev = s;
    n->socks = s;
    n->n_socks++;
    n->handles++;
    return s;
}

/* --- the start --- */

/* What is here for latency: no waiting for more bytes to fill a segment, and little in the kernel's
 * queue, so that what is not sent yet is counted by conn.c.  What is here for liveness: a peer
 * whose machine has gone is noticed in 15 s also in the middle of a write. */
static void set_options(struct sock *s)
{
    uv_os_fd_t fd;
    int user_timeout = NET_BUSY_MS, notsent = NET_NOTSENT_BYTES;

    (void)uv_tcp_nodelay(&s->tcp, 1);
    (void)uv_tcp_keepalive(&s->tcp, 1, 30);
    if (uv_fileno((uv_handle_t *)&s->tcp, &fd)) return;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout, sizeof user_timeout);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &notsent, sizeof notsent);
}

/* The peer's address as on the wire; IPv4 inside IPv6 (a listener on ::) becomes plain IPv4. */
static void find_addr(struct sock *s)
{
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
    struct sockaddr_storage ss;
    int len = sizeof ss;

    if (uv_tcp_getpeername(&s->tcp, (struct sockaddr *)&ss, &len)) return;
    if (ss.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&ss;
        memcpy(s->addr, &in->sin_addr, 4);
        memcpy(s->addr + 4, &in->sin_port, 2);
        s->addr_n = 6;
    } else if (ss.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)&ss;
        const uint8_t *a = in->sin6_addr.s6_addr;
        size_t skip = memcmp(a, mapped, sizeof mapped) ? 0 : sizeof mapped;
        memcpy(s->addr, a + skip, 16 - skip);
        memcpy(s->addr + 16 - skip, &in->sin6_port, 2);
        s->addr_n = 18 - skip;
    }
    s->loopback = addr_is_loopback(slice_of(s->addr, s->addr_n));
}

static void on_alloc(uv_handle_t *handle, size_t want, uv_buf_t *buf)
{
    struct sock *s = handle->data;
    (void)want;
    *buf = uv_buf_init((char *)s->net->inbox, NET_READ_BYTES);
}

/* An error on a live connection: what the machine still wants to say (CLOSE, the version hint) is
 * offered once, without waiting. */
static void sock_fail(struct sock *s, enum err e, const char *why)
{
    struct slice p = conn_pending(s->conn);
    if (p.n && !s->writing && p.n <= NET_WRITE_BYTES && s->state != SOCK_CLOSING) {
        uv_buf_t b = uv_buf_init((char *)(uintptr_t)p.p, (unsigned)p.n);
        (void)uv_try_write((uv_stream_t *)&s->tcp, &b, 1);
    }
    sock_drop(s, e, why);
}

static void on_end(struct sock *s, ssize_t status)
{
    if (s->state == SOCK_HANDSHAKE && s->initiator && !s->heard)
        sock_drop(s, ERR_AUTH,
                  "it closed the connection during the handshake: it probably uses another swarm "
                  "key, is not a swarm node, or has no room");
    else if (s->state == SOCK_HANDSHAKE)
        sock_drop(s, ERR_CLOSED, "the connection was lost during the handshake");
    else if (status == UV_EOF)
        sock_drop(s, ERR_CLOSED, "it closed the connection without a word");
    else if (status == UV_ETIMEDOUT)
        sock_drop(s, ERR_CLOSED, "it no longer answers");
    else
        sock_drop(s, ERR_CLOSED, "the connection was lost");
}

static void count_in(struct sock *s, size_t n)
{
    s->net->traffic.in += n;
    if (s->peer) s->peer->traffic.in += n;
}

static void count_out(struct sock *s, size_t n)
{
    s->net->traffic.out += n;
    if (s->peer) s->peer->traffic.out += n;
}

static void on_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *buf)
{
    struct sock *s = stream->data;
    struct slice message;
    struct why why = { "" };

    if (got == 0 || s->state == SOCK_CLOSING) return;
    if (got < 0) {
        on_end(s, got);
        return;
    }
    if (s->state == SOCK_FINISHING) return; /* the peer has nothing more to tell us */

    s->heard = true;
    count_in(s, (size_t)got);
    s->rx_ms = net_now(s->net);
    s->ping_strikes = 0;
    enum err e = conn_feed(s->conn, slice_of(buf->base, (size_t)got), s->rx_ms, &why);
    if (s->state == SOCK_HANDSHAKE && conn_state(s->conn) == CONN_OPEN) peer_opened(s);
    while (s->state == SOCK_OPEN && conn_next(s->conn, &message)) mail_arrived(s, message);
    if (e)
        sock_fail(s, e, why.text[0] ? why.text : err_text(e));
    else
        sock_flush(s);
    if (s->state == SOCK_OPEN && tally_full(s->peer->tally)) {
        s->paused = true; /* its messages wait in our mailboxes: let TCP hold the next ones back */
        (void)uv_read_stop(stream);
    }
}

void sock_begin(struct sock *s, const struct node_id *expect)
{
    struct net *n = s->net;

    set_options(s);
    find_addr(s);
    struct conn_config c = {
        .me = n->cfg.me,
        .swarm = n->cfg.swarm,
        .expect = expect,
        .initiator = s->initiator,
        .class_ = CONN_FAST,
        .agent = n->agent,
        .role = n->cfg.role,
        .instance = n->instance,
        .observed = slice_of(s->addr, s->addr_n),
        .random = random_bytes,
        .now_ms = net_now(n),
        .unix_s = unix_now(),
    };
    enum err e = conn_open(&s->conn, &c);
    if (e) {
        sock_drop(s, e, err_text(e));
        return;
    }
    if (uv_read_start((uv_stream_t *)&s->tcp, on_alloc, on_read)) {
        sock_drop(s, ERR_IO, "the socket cannot be read");
        return;
    }
    s->state = SOCK_HANDSHAKE;
    if (!s->initiator) n->n_pending++;
    sock_flush(s);
}

/* --- bytes out --- */

static void on_fin(uv_shutdown_t *req, int status)
{
    (void)req;
    (void)status;
}

/* All is written: tell TCP, and wait for the peer to close or for sock_tick to lose patience. */
static void send_fin(struct sock *s)
{
    if (s->sent_fin) return;
    s->sent_fin = true;
    if (uv_shutdown(&s->shutdown, (uv_stream_t *)&s->tcp, on_fin))
        sock_drop(s, s->end, s->why.text);
}

static void on_written(uv_write_t *req, int status)
{
    struct sock *s = req->data;

    s->writing = false;
    s->progress_ms = net_now(s->net);
    if (s->state == SOCK_CLOSING) return;
    if (!status) flow_took(s, s->write_n);
    if (status)
        sock_drop(s, ERR_CLOSED, "the connection was lost");
    else
        sock_flush(s);
}

/* The socket is full: give libuv a copy, since conn.c may move its bytes at the next send. */
static void write_later(struct sock *s, struct slice p)
{
    size_t n = p.n < NET_WRITE_BYTES ? p.n : NET_WRITE_BYTES;

    if (!s->out) s->out = malloc(NET_WRITE_BYTES);
    if (!s->out) {
        sock_drop(s, ERR_NOMEM, err_text(ERR_NOMEM));
        return;
    }
    memcpy(s->out, p.p, n);
    uv_buf_t b = uv_buf_init((char *)s->out, (unsigned)n);
    s->write.data = s;
    s->progress_ms = net_now(s->net);
    if (uv_write(&s->write, (uv_stream_t *)&s->tcp, &b, 1, on_written)) {
        sock_drop(s, ERR_CLOSED, "the connection was lost");
        return;
    }
    s->writing = true;
    s->write_n = n;
    flow_full(s);
    conn_sent(s->conn, n);
    count_out(s, n);
}

void sock_flush(struct sock *s)
{
    pace_flush(s);
    while (!s->writing && s->state != SOCK_CLOSING && s->state != SOCK_CONNECTING) {
        struct slice p = conn_pending(s->conn);
        if (!p.n) {
            flow_empty(s);
            if (s->state == SOCK_FINISHING) send_fin(s);
            return;
        }
        size_t n = p.n < (1 << 20) ? p.n : 1 << 20;
        uv_buf_t b = uv_buf_init((char *)(uintptr_t)p.p, (unsigned)n);
        int took = uv_try_write((uv_stream_t *)&s->tcp, &b, 1);
        if (took > 0) {
            s->said = true;
            conn_sent(s->conn, (size_t)took);
            count_out(s, (size_t)took);
            flow_took(s, (size_t)took);
        } else if (took == UV_EAGAIN) {
            write_later(s, p);
        } else {
            sock_drop(s, ERR_CLOSED, "the connection was lost");
        }
    }
}

void sock_flush_all(struct net *n)
{
    if (!n->has_unsent) return;
    n->has_unsent = false;
    for (struct sock *s = n->socks; s; s = s->next) { /* frees none at once */
        if (!s->has_unsent) continue;
        s->has_unsent = false;
        sock_flush(s);
    }
}

enum err sock_send(struct sock *s, const struct msg *m)
{
    bool waits = !s->net->closing && (m->type == MSG_ACT || m->type == MSG_STEP_DONE);
    enum err e = conn_send(s->conn, m);
    if (e) return e;
    if (!waits || conn_queued(s->conn) + conn_pending(s->conn).n > NET_TOGETHER_BYTES)
        sock_flush(s);
    else
        s->has_unsent = s->net->has_unsent = true;
    return ERR_OK;
}

void sock_ping(struct sock *s, uint64_t stamp)
{
    struct msg m = { .type = MSG_PING, .u.PING.stamp = stamp };
    if (sock_send(s, &m)) log_debug("net: no room for a PING");
    sock_flush(s); /* its time runs */
}

/* --- the end --- */

static void set_end(struct sock *s, enum err e, const char *why)
{
    s->end = e;
    (void)fail(&s->why, e, "%s", why);
}

static void leave_pending(struct sock *s)
{
    if (s->state == SOCK_HANDSHAKE && !s->initiator) s->net->n_pending--;
}

void sock_finish(struct sock *s, enum err e, const char *why)
{
    if (s->state != SOCK_OPEN) {
        sock_drop(s, e, why);
        return;
    }
    set_end(s, e, why);
    s->state = SOCK_FINISHING;
    s->finish_ms = net_now(s->net);
    if (s->peer) peer_detach(s);
    if (s->paused) (void)uv_read_start((uv_stream_t *)&s->tcp, on_alloc, on_read); /* for its EOF */
    conn_shutdown(s->conn);
    sock_flush(s);
}

void sock_drop(struct sock *s, enum err e, const char *why)
{
    if (s->state == SOCK_CLOSING) return;
    if (s->state != SOCK_FINISHING) set_end(s, e, why);
    leave_pending(s);
    bool finishing = s->state == SOCK_FINISHING;
    s->state = SOCK_CLOSING;
    if (s->peer && !finishing) peer_detach(s);
    uv_close((uv_handle_t *)&s->tcp, on_closed);
    s->net->n_socks--;
}

static void on_closed(uv_handle_t *handle)
{
    struct sock *s = handle->data;
    struct net *n = s->net;

    if (s->prev)
        s->prev->next = s->next;
    else
        n->socks = s->next;
    if (s->next) s->next->prev = s->prev;
    if (s->dial) {
        char at[64];
        struct why why;
        bool known = addr_text(at, sizeof at, slice_of(s->addr, s->addr_n));
        (void)fail(&why, s->end, known ? "%s: %s" : "%s%s", known ? at : "", s->why.text);
        dial_failed(s->dial, s->end, s->conn ? 2 : 1, why.text);
    }
    if (s->peer) peer_closed(n, s->peer);
    if (s->conn) conn_close(s->conn);
    free(s->out);
    free(s);
    net_handle_closed(n);
}

/* --- the clock --- */

void sock_measure(struct sock *s)
{
    random_bytes(&s->ping_stamp, sizeof s->ping_stamp);
    s->ping_stamp = (s->ping_stamp >> 1) | 1; /* never 0, never the fence */
    s->ping_ms = net_now(s->net);
    s->ping_ns = uv_hrtime();
    sock_ping(s, s->ping_stamp);
}

static void tick_ping(struct sock *s, uint64_t now)
{
    uint64_t alive = s->rx_ms > s->progress_ms ? s->rx_ms : s->progress_ms;
    bool idle = now - alive >= NET_PING_MS;

    if (s->paused) { /* an answer would wait in the kernel; but the peer is to hear that we live */
        if (now - s->ping_ms < NET_PING_MS) return;
        s->ping_ms = now;
        s->ping_stamp = 0;
        sock_ping(s, 0);
        return;
    }
    if (now - s->ping_ms < (idle ? NET_PING_MS : NET_MEASURE_MS)) return;
    if (idle && s->ping_stamp && ++s->ping_strikes >= NET_PING_STRIKES)
        sock_drop(s, ERR_TIMEOUT, "it did not answer three PINGs");
    else
        sock_measure(s);
}

/* Bytes that libuv has written since the last look are progress too: a write is 256 KiB.  A peer
 * that takes nothing but talks is busy with what we sent before, and gets more time. */
static void tick_stall(struct sock *s, uint64_t now)
{
    size_t queue = uv_stream_get_write_queue_size((uv_stream_t *)&s->tcp);
    if (!s->writing || queue < s->queue) s->progress_ms = s->writing ? now : s->progress_ms;
    s->queue = queue;
    uint64_t limit = now - s->rx_ms > NET_STALL_MS ? NET_STALL_MS : NET_BUSY_MS;
    if (s->writing && now - s->progress_ms > limit)
        sock_drop(s, ERR_TIMEOUT, "it takes what we send too slowly");
}

void sock_tick(struct sock *s, uint64_t now)
{
    struct why why = { "" };

    switch (s->state) {
    case SOCK_CONNECTING:
        if (now - s->born_ms > NET_CONNECT_MS) sock_drop(s, ERR_TIMEOUT, "no answer in 5 s");
        return;
    case SOCK_FINISHING:
        if (now - s->finish_ms > NET_FINISH_MS) sock_drop(s, s->end, s->why.text);
        return;
    case SOCK_CLOSING: return;
    case SOCK_HANDSHAKE:
    case SOCK_OPEN: break;
    }
    if (now >= conn_deadline_ms(s->conn)) {
        enum err e = conn_tick(s->conn, now, &why);
        if (e) {
            sock_fail(s, e, why.text[0] ? why.text : err_text(e));
            return;
        }
        sock_flush(s);
    }
    tick_stall(s, now);
    if (s->state != SOCK_OPEN) return;
    if (s->paused && tally_low(s->peer->tally)) {
        s->paused = false;
        (void)uv_read_start((uv_stream_t *)&s->tcp, on_alloc, on_read);
    }
    tick_ping(s, now);
}
