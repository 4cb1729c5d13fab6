#include "net/net.h"

#include "base/log.h"
#include "net/net_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

uint64_t now_ms(const struct hub *h)
{
    return uv_now(&h->loop);
}

uint64_t unix_now(void)
{
    return (uint64_t)time(NULL);
}

/* --- listening --- */

/* Pending connections of s's address, s included. */
static unsigned pending_of(const struct net *n, const struct sock *s)
{
    unsigned count = 0;
    for (const struct sock *o = n->socks; o; o = o->next)
        if (o->state == SOCK_HANDSHAKE && !o->initiator &&
            guard_same(slice_of(o->addr, o->addr_n), slice_of(s->addr, s->addr_n)))
            count++;
    return count;
}

/* Has it shown nothing?  What it has said may still wait in its socket: many calls are accepted
 * before the first of them is read. */
static bool is_silent(const struct sock *s)
{
    uv_os_fd_t fd;
    uint8_t b;
    return !s->said && (uv_fileno((const uv_handle_t *)&s->tcp, &fd) ||
                        recv(fd, &b, 1, MSG_PEEK | MSG_DONTWAIT) <= 0);
}

/* All places for unproven callers are taken: the address that has most of them gives one up, the
 * oldest that has shown nothing, or else its oldest.  So whoever calls without end, silent or not,
 * locks out himself; and those whom we know by nothing but their silence go first. */
static void evict_pending(struct net *n)
{
    struct sock *worst = NULL;
    unsigned most = 0;
    bool silent = false;

    for (struct sock *o = n->socks; o; o = o->next) { /* the newest first */
        if (o->state != SOCK_HANDSHAKE || o->initiator) continue;
        unsigned count = pending_of(n, o);
        if (count < most) continue;
        bool is_more = count > most, says_nothing = is_silent(o);
        if (!is_more && silent && !says_nothing) continue;
        worst = o;
        most = count;
        silent = says_nothing;
    }
    if (worst) sock_drop(worst, ERR_BUSY, "too many unfinished handshakes");
}

static void on_door(uv_timer_t *timer);

/* The next caller, whom libuv holds; until he is accepted it hands us no other. */
static void let_in(struct net *n)
{
    struct sock *s = sock_new(n, false);
    if (!s) { /* no memory */
        (void)uv_timer_start(&n->door, on_door, 100, 0);
        return;
    }
    if (uv_accept((uv_stream_t *)&n->listener, (uv_stream_t *)&s->tcp)) {
        sock_drop(s, ERR_IO, "accept failed");
        return;
    }
    if (n->n_socks > NET_SOCKS_MAX) {
        sock_drop(s, ERR_FULL, "as many connections as allowed are open");
        return;
    }
    sock_begin(s, NULL);
    if (s->state != SOCK_HANDSHAKE) return;
    if (!guard_allows(&n->guard, slice_of(s->addr, s->addr_n), net_now(n))) {
        n->faults.refused++;
        sock_drop(s, ERR_BUSY, "too many handshakes a second from that address");
    } else if (!s->loopback && pending_of(n, s) > NET_PENDING_ADDR_MAX)
        sock_drop(s, ERR_BUSY, "too many unfinished handshakes from that address");
    else if (n->n_pending > NET_PENDING_MAX)
        evict_pending(n);
}

static void on_door(uv_timer_t *timer)
{
    struct net *n = timer->data;
    if (n->closing) return;
    n->let_in_ms = uv_now(&n->hub->loop);
    n->n_let_in = 1;
    let_in(n);
}

/* libuv hands over callers as long as there are any, in one turn of the loop: in a crowd that is as
 * good as for ever, nobody else would be served, and of those that are dropped meanwhile no handle
 * is freed.  So some at a time. */
static void on_connection(uv_stream_t *listener, int status)
{
    struct net *n = listener->data;
    uint64_t now = uv_now(&n->hub->loop);

    if (status || n->closing) return;
    if (n->let_in_ms != now) n->n_let_in = 0;
    n->let_in_ms = now;
    if (n->n_let_in++ < NET_ACCEPT_MAX)
        let_in(n);
    else
        (void)uv_timer_start(&n->door, on_door, 1, 0);
}

static void find_listen_addr(struct net *n)
{
    struct sockaddr_storage ss;
    int len = sizeof ss;

    if (uv_tcp_getsockname(&n->listener, (struct sockaddr *)&ss, &len)) return;
    const struct sockaddr_in *in = (const struct sockaddr_in *)&ss;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&ss;
    bool v6 = ss.ss_family == AF_INET6;
    size_t k = v6 ? 16 : 4;
    memcpy(n->listen_addr, v6 ? (const void *)&in6->sin6_addr : (const void *)&in->sin_addr, k);
    memcpy(n->listen_addr + k, v6 ? &in6->sin6_port : &in->sin_port, 2);
    n->listen_addr_n = k + 2;
}

/* Bind and listen on the first address of host; resolving may block: the node is starting. */
static enum err listen_on(struct net *n, const char *host, uint16_t port, struct why *why)
{
    struct addrinfo want = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | AI_PASSIVE };
    uv_getaddrinfo_t lookup;
    char service[8];

    snprintf(service, sizeof service, "%u", port);
    int rc = uv_getaddrinfo(&n->hub->loop, &lookup, NULL, host, service, &want);
    if (rc)
        return fail(why, ERR_NOTFOUND, "%s: the name cannot be resolved (%s)", host,
                    uv_strerror(rc));
    rc = uv_tcp_bind(&n->listener, lookup.addrinfo->ai_addr, 0);
    uv_freeaddrinfo(lookup.addrinfo);
    if (!rc) rc = uv_listen((uv_stream_t *)&n->listener, 128, on_connection);
    if (rc == UV_EADDRINUSE)
        return fail(why, ERR_EXISTS, "%s:%u: another program listens there already", host, port);
    if (rc) return fail(why, ERR_IO, "%s:%u: cannot listen (%s)", host, port, uv_strerror(rc));
    find_listen_addr(n);
    return ERR_OK;
}

/* --- the clock --- */

static void on_tick(uv_timer_t *timer)
{
    struct net *n = timer->data;
    uint64_t now = net_now(n);

    for (struct sock *s = n->socks; s; s = s->next) sock_tick(s, now); /* frees none at once */
    for (struct sock *s = n->socks; s; s = s->next)
        if (s->peer && s->peer->spare == s) peer_tick(s->peer, now);
    dial_tick(n);
}

static void on_rest(uv_prepare_t *rest)
{
    sock_flush_all(rest->data);
}

/* --- messages to ourselves --- */

static void on_self(struct actor *a, struct note *note)
{
    struct net *n = (struct net *)(void *)((char *)a - offsetof(struct net, self));
    n->cfg.on_mail(n->cfg.arg, (struct mail *)note);
}

/* --- opening and closing --- */

static void on_handle_closed(uv_handle_t *handle)
{
    net_handle_closed(handle->data);
}

enum err net_open(struct net **out, struct hub *hub, const struct net_config *c, struct why *why)
{
    struct net *n = calloc(1, sizeof *n);
    enum err e = ERR_NOMEM;

    if (!n) return fail(why, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    n->cfg = *c;
    n->hub = hub;
    while (!n->instance) random_bytes(&n->instance, sizeof n->instance);
    snprintf(n->agent, sizeof n->agent, "%s", c->agent ? c->agent : "");
    n->cfg.agent = n->agent;
    n->inbox = malloc(NET_READ_BYTES);
    if (!n->inbox || actor_init(&n->self, hub, "net", NET_SELF_MAX, on_self)) goto no_memory;
    if (uv_timer_init(&hub->loop, &n->tick) || uv_timer_init(&hub->loop, &n->door) ||
        uv_tcp_init(&hub->loop, &n->listener))
        abort();
    n->tick.data = n->door.data = n->listener.data = n;
    n->handles = 5;
    pace_open(n);
    uv_prepare_init(&hub->loop, &n->rest);
    n->rest.data = n;
    uv_prepare_start(&n->rest, on_rest);
    uv_update_time(&hub->loop);
    (void)uv_timer_start(&n->tick, on_tick, NET_TICK_MS, NET_TICK_MS);
    if (c->listen_host && (e = listen_on(n, c->listen_host, c->listen_port, why))) {
        /* Nothing has begun, so nothing has to end first. */
        n->closing = true;
        actor_fini(&n->self);
        uv_close((uv_handle_t *)&n->listener, on_handle_closed);
        uv_close((uv_handle_t *)&n->pace, on_handle_closed);
        uv_close((uv_handle_t *)&n->door, on_handle_closed);
        uv_close((uv_handle_t *)&n->rest, on_handle_closed);
        uv_close((uv_handle_t *)&n->tick, on_handle_closed);
        return e;
    }
    *out = n;
    return ERR_OK;

no_memory:
    free(n->inbox);
    free(n);
    return fail(why, e, "%s", err_text(e));
}

void net_handle_closed(struct net *n)
{
    if (--n->handles || !n->closing) return;

    void (*done)(void *) = n->done;
    void *arg = n->done_arg;
    peers_free(n);
    free(n->inbox);
    free(n);
    if (done) done(arg);
}

/* The timer goes last: it ends what does not end by itself. */
static void close_tick_when_alone(uv_timer_t *timer)
{
    struct net *n = timer->data;

    for (struct sock *s = n->socks; s; s = s->next) sock_tick(s, net_now(n));
    if (n->handles > 1) return;
    uv_close((uv_handle_t *)timer, on_handle_closed);
}

void net_close(struct net *n, void (*done)(void *arg), void *arg)
{
    n->closing = true;
    n->done = done;
    n->done_arg = arg;
    uv_close((uv_handle_t *)&n->listener, on_handle_closed);
    uv_close((uv_handle_t *)&n->pace, on_handle_closed);
    uv_close((uv_handle_t *)&n->door, on_handle_closed);
    uv_close((uv_handle_t *)&n->rest, on_handle_closed);
    actor_fini(&n->self);
    dial_cancel_all(n);
    for (struct sock *s = n->socks; s; s = s->next)
        if (s->state != SOCK_FINISHING) sock_finish(s, ERR_CLOSED, "this node is closing");
    (void)uv_timer_start(&n->tick, close_tick_when_alone, 0, 5);
}

/* --- the calls --- */

uint16_t net_port(const struct net *n)
{
    struct slice a = net_listen_addr(n);
    return a.n ? (uint16_t)((unsigned)a.p[a.n - 2] << 8 | a.p[a.n - 1]) : (uint16_t)0;
}

uint64_t net_instance(const struct net *n)
{
    return n->instance;
}

struct slice net_listen_addr(const struct net *n)
{
    return slice_of(n->listen_addr, n->listen_addr_n);
}

void net_dial(struct net *n, const struct node_id *id, const char *host, uint16_t port,
              net_result *result, void *arg)
{
    if (n->closing) {
        result(arg, id, ERR_CANCELLED, "this node is closing");
    } else if (id && node_id_equal(id, &n->cfg.me->id)) {
        result(arg, id, ERR_USAGE, "that is this node itself");
    } else if (id && net_is_up(n, id)) {
        result(arg, id, ERR_OK, "");
    } else {
        dial_start(n, id, host, port, result, arg);
    }
}

void net_probe(struct net *n, const struct node_id *id, const char *host, uint16_t port,
               net_result *result, void *arg)
{
    if (n->closing)
        result(arg, id, ERR_CANCELLED, "this node is closing");
    else
        dial_start(n, id, host, port, result, arg);
}

/* The newest address first; the one heard longest ago makes room. */
void net_hint(struct net *n, const struct node_id *id, struct slice addr)
{
    if (!hint_is_address(addr) || n->closing) return;
    if (node_id_equal(id, &n->cfg.me->id)) return;

    struct peer *p = peer_get(n, id);
    if (!p) return;
    p->retry_ms = p->backoff_ms = 0; /* it is heard of again */
    hints_add(&p->hints, addr);
}

enum err net_send(struct net *n, const struct node_id *id, const struct msg *m)
{
    if (n->closing) return ERR_CLOSED;
    if (node_id_equal(id, &n->cfg.me->id)) return mail_to_self(n, m);
    struct peer *p = peer_find(n, id);
    if (!p || peer_banned(n, p)) return ERR_NOTFOUND;
    return peer_send(n, p, m);
}

bool net_is_up(const struct net *n, const struct node_id *id)
{
    if (node_id_equal(id, &n->cfg.me->id)) return !n->closing;
    const struct peer *p = peer_find(n, id);
    return p && p->use;
}

struct slice net_addr(const struct net *n, const struct node_id *id)
{
    const struct peer *p = peer_find(n, id);
    return p && p->use ? slice_of(p->use->addr, p->use->addr_n) : slice_of(NULL, 0);
}

bool net_dialled(const struct net *n, const struct node_id *id)
{
    const struct peer *p = peer_find(n, id);
    return p && p->use && p->use->initiator;
}

uint32_t net_rtt_us(const struct net *n, const struct node_id *id)
{
    if (node_id_equal(id, &n->cfg.me->id)) return 0;
    const struct peer *p = peer_find(n, id);
    return p && p->use ? p->rtt_us : UINT32_MAX;
}

struct traffic net_traffic(const struct net *n, const struct node_id *id)
{
    const struct peer *p = id ? peer_find(n, id) : NULL;
    return !id ? n->traffic : p ? p->traffic : (struct traffic){ 0 };
}

uint64_t net_silent_ms(const struct net *n, const struct node_id *id)
{
    if (node_id_equal(id, &n->cfg.me->id)) return 0;
    const struct peer *p = peer_find(n, id);
    return p && p->use ? net_now(n) - p->use->rx_ms : UINT64_MAX;
}

void net_ping(struct net *n, const struct node_id *id)
{
    const struct peer *p = peer_find(n, id);
    if (p && p->use) sock_ping(p->use, 0);
}

size_t net_bulk_queued(const struct net *n, const struct node_id *id)
{
    const struct peer *p = peer_find(n, id);
    return p && p->use ? conn_bulk_queued(p->use->conn) : 0;
}

void net_bulk_limit(struct net *n, const struct node_id *id, uint64_t bytes)
{
    const struct peer *p = peer_find(n, id);
    if (!p || !p->use || p->use->state != SOCK_OPEN) return;
    conn_bulk_limit(p->use->conn, bytes);
    sock_flush(p->use);
}

uint64_t net_bulk_left(const struct net *n, const struct node_id *id)
{
    const struct peer *p = peer_find(n, id);
    return p && p->use ? conn_bulk_left(p->use->conn) : 0;
}

void net_ban(struct net *n, const struct node_id *id, uint64_t ms, const char *why)
{
    struct peer *p = n->closing ? NULL : peer_get(n, id);
    if (!p) return;
    p->ban_until_ms = net_now(n) + ms;
    n->faults.bans++;
    if (p->use) sock_finish(p->use, ERR_DENIED, why);
}

bool net_is_banned(const struct net *n, const struct node_id *id)
{
    const struct peer *p = peer_find(n, id);
    return p && peer_banned(n, p);
}

struct faults net_faults(const struct net *n)
{
    return n->faults;
}

void net_strike(struct net *n, const struct node_id *id, const char *what)
{
    struct peer *p = peer_find(n, id);
    if (p && !n->closing) peer_strike(n, p, what);
}
