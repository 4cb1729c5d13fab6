/* How fast a socket may send, so that no queue stands on the way (pace.h), and all of them together
 * stay below what the owner of the PC allows.
 *
 * A few rows of an answer are no reason to ask: only a socket that has PACE_SMALL bytes to send is
 * given a rate, and looked at every PACE_TICK_MS until it has sent them.  With a limit on all that
 * leaves, every socket has one.  What leaves by loopback leaves nothing. */
#include "net/net_impl.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>

enum {
    PACE_TICK_MS = 10,
    PACE_SMALL = 32 << 10,
    AHEAD_MS = 10, /* bytes that wait in the kernel, which nothing can pass */
    AHEAD_MIN = 16 << 10,
    WEIGHT_ROWS = 8, /* of a socket with rows or words to send, against one with tiles only */
};
#define NO_RATE UINT32_MAX

/* The C library knows the beginning of what Linux (4.6 and later) tells: include/uapi/linux/tcp.h.
 */
struct line_info {
    struct tcp_info t;
    uint64_t pacing_rate, max_pacing_rate, bytes_acked, bytes_received;
    uint32_t segs_out, segs_in, notsent_bytes, min_rtt;
};
_Static_assert(offsetof(struct line_info, pacing_rate) == 104, "as Linux lays it out");

static size_t waiting(const struct sock *s)
{
    size_t n = conn_queued(s->conn) + conn_pending(s->conn).n;
    return n + (s->writing ? uv_stream_get_write_queue_size((const uv_stream_t *)&s->tcp) : 0);
}

static uint32_t weight_of(const struct sock *s)
{
    size_t bulk = conn_bulk_queued(s->conn);
    return bulk > 0 && conn_queued(s->conn) - bulk < PACE_SMALL ? 1 : WEIGHT_ROWS;
}

static void tell_socket(struct sock *s, uint32_t rate)
{
    uv_os_fd_t fd;
    uint32_t was = s->pace_rate;
    if (was == rate || (rate != NO_RATE && was > rate - rate / 64 && was < rate + rate / 64))
        return;
    if (uv_fileno((uv_handle_t *)&s->tcp, &fd)) return;
    uint64_t ahead = (uint64_t)rate * AHEAD_MS / 1000;
    int notsent = ahead < AHEAD_MIN           ? AHEAD_MIN
                  : ahead < NET_NOTSENT_BYTES ? (int)ahead
                                              : NET_NOTSENT_BYTES;
    (void)setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &rate, sizeof rate);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &notsent, sizeof notsent);
    s->pace_rate = rate;
}

/* What TCP knows of the line; false: this kernel does not say. */
static bool measure(const struct sock *s, struct pace_sample *out, bool *in_flight)
{
    uv_os_fd_t fd;
    struct line_info l;
    socklen_t n = sizeof l;
    if (uv_fileno((const uv_handle_t *)&s->tcp, &fd) ||
        getsockopt(fd, IPPROTO_TCP, TCP_INFO, &l, &n) || n < sizeof l || l.t.tcpi_rtt == 0)
        return false;
    *in_flight = l.t.tcpi_unacked > 0 || l.notsent_bytes > 0;
    *out = (struct pace_sample){ .now_us = uv_hrtime() / 1000,
                                 .rtt_us = l.t.tcpi_rtt,
                                 .base_us = l.min_rtt,
                                 .acked = l.bytes_acked,
                                 .flying = l.t.tcpi_unacked * l.t.tcpi_snd_mss,
                                 .more = l.notsent_bytes > 0 || s->writing };
    return true;
}

/* Its part of what may leave this machine. */
static double share_of(const struct sock *s)
{
    const struct net *n = s->net;
    uint64_t all = 0;
    if (!n->cfg.upload) return NO_RATE;
    for (const struct sock *o = n->socks; o; o = o->next)
        if (o->paced) all += weight_of(o);
    if (!s->paced) all += weight_of(s);
    return (double)n->cfg.upload * weight_of(s) / (double)all;
}

/* false: it has nothing more to send. */
static bool step(struct sock *s)
{
    struct pace_sample m;
    bool in_flight = false;
    double rate = NO_RATE, share = share_of(s);
    if (measure(s, &m, &in_flight)) {
        if (!m.more && s->pace.rate > 0) pace_rest(&s->pace);
        rate = m.more || s->pace.rate == 0 ? pace_step(&s->pace, &m) : s->pace.rate;
    }
    if (rate > share) rate = share;
    tell_socket(s, rate < NO_RATE ? (uint32_t)rate : NO_RATE);
    return in_flight || waiting(s) > 0;
}

static void let_go(struct sock *s)
{
    const struct net *n = s->net;
    s->paced = false;
    pace_rest(&s->pace);
    tell_socket(s, n->cfg.upload && n->cfg.upload < NO_RATE ? (uint32_t)n->cfg.upload : NO_RATE);
}

static void on_pace(uv_timer_t *timer)
{
    struct net *n = timer->data;
    bool any = false;
    for (struct sock *s = n->socks; s; s = s->next) {
        if (!s->paced) continue;
        bool is_open = s->state == SOCK_OPEN || s->state == SOCK_FINISHING;
        if (is_open && step(s))
            any = true;
        else if (is_open)
            let_go(s);
        else
            s->paced = false;
    }
    if (!any) uv_timer_stop(timer);
}

void pace_flush(struct sock *s)
{
    struct net *n = s->net;
    if (s->paced || s->loopback || s->state != SOCK_OPEN || n->closing) return;
    if (waiting(s) < PACE_SMALL && !(n->cfg.upload && waiting(s) > 0)) return;
    s->paced = true;
    (void)step(s);
    if (!uv_is_active((uv_handle_t *)&n->pace))
        (void)uv_timer_start(&n->pace, on_pace, PACE_TICK_MS, PACE_TICK_MS);
}

void pace_open(struct net *n)
{
    if (uv_timer_init(&n->hub->loop, &n->pace)) abort(); /* it cannot fail */
    n->pace.data = n;
}
