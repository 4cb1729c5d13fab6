#include "net/net_impl.h"

#include "base/log.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

static void attempt(struct dial *d);

static struct dial *dial_new(struct net *n, struct peer *p, net_result *result, void *arg)
{
    struct dial *d = calloc(1, sizeof *d);
    if (!d) return NULL;
    d->net = n;
    d->result = result;
    d->arg = arg;
    d->e = ERR_NOTFOUND;
    (void)fail(&d->why, ERR_NOTFOUND, "no address to dial");
    if (p) {
        d->has_id = true;
        d->id = p->id;
        d->peer = p;
        p->dials++;
    }
    d->next = n->dials;
    if (d->next) d->next->prev = d;
    n->dials = d;
    return d;
}

static void unlink_dial(struct dial *d)
{
    if (d->prev)
        d->prev->next = d->next;
    else
        d->net->dials = d->next;
    if (d->next) d->next->prev = d->prev;
    if (d->peer) d->peer->dials--;
}

/* Every address has failed. */
static void end_badly(struct dial *d)
{
    struct net *n = d->net;
    struct peer *p = d->peer;

    unlink_dial(d);
    if (!d->result) {
        p->backoff_ms = p->backoff_ms ? p->backoff_ms * 2 : NET_BACKOFF_MS;
        if (p->backoff_ms > NET_BACKOFF_MAX_MS) p->backoff_ms = NET_BACKOFF_MAX_MS;
        p->retry_ms = net_now(n) + p->backoff_ms;
    }
    if (p && p->first && !p->use && !p->dials && (!d->result || dial_hints(n, p)))
        peer_give_up(n, p, d->why.text);
    if (d->result) d->result(d->arg, d->has_id ? &d->id : NULL, d->e, d->why.text);
    free(d);
}

void dial_opened(struct dial *d, const struct node_id *id)
{
    unlink_dial(d);
    if (d->result) d->result(d->arg, id, ERR_OK, "");
    free(d);
}

/* The error of the attempt that came furthest is the one worth telling: a wrong key at the right
 * address says more than the refused connection of another. */
static void remember(struct dial *d, enum err e, unsigned depth, const char *why)
{
    if (depth < d->depth) return;
    d->depth = depth;
    d->e = e;
    (void)fail(&d->why, e, "%s", why);
}

void dial_failed(struct dial *d, enum err e, unsigned depth, const char *why)
{
    remember(d, e, depth, why);
    d->sock = NULL;
    d->at++;
    attempt(d);
}

/* --- connecting --- */

static const char *connect_why(int status)
{
    switch (status) {
    case UV_ECONNREFUSED: return "nothing listens there (connection refused)";
    case UV_ENETUNREACH:
    case UV_EHOSTUNREACH: return "there is no route to that address";
    case UV_ETIMEDOUT: return "no answer";
    default: return uv_strerror(status);
    }
}

static void on_connect(uv_connect_t *req, int status)
{
    struct sock *s = req->data;

    if (s->state == SOCK_CLOSING) return;
    if (status)
        sock_drop(s, ERR_IO, connect_why(status));
    else
        sock_begin(s, s->dial && s->dial->has_id ? &s->dial->id : NULL);
}

/* The wire form of the address that is dialled, for the sentence when nobody answers. */
static void note_addr(struct sock *s, const struct sockaddr *sa)
{
    if (sa->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)sa;
        memcpy(s->addr, &in->sin_addr, 4);
        memcpy(s->addr + 4, &in->sin_port, 2);
        s->addr_n = 6;
    } else {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)sa;
        memcpy(s->addr, &in->sin6_addr, 16);
        memcpy(s->addr + 16, &in->sin6_port, 2);
        s->addr_n = 18;
    }
}

/* Try the next address.  Ends d at once only when called from a callback of the loop: net_dial's
 * own failures come from net_tick, so that a caller never hears of them inside its call. */
static void attempt(struct dial *d)
{
    struct net *n = d->net;

    if (d->at >= d->n_addrs) {
        end_badly(d);
        return;
    }
    struct sock *s = n->n_socks < NET_SOCKS_MAX ? sock_new(n, true) : NULL;
    if (!s) {
        remember(d, ERR_FULL, 0, "as many connections as allowed are open");
        d->at = d->n_addrs; /* net_tick ends it */
        return;
    }
    d->sock = s;
    s->dial = d;
    s->connecting.data = s;
    const struct sockaddr *sa = (const struct sockaddr *)&d->addr[d->at];
    note_addr(s, sa);
    int rc = uv_tcp_connect(&s->connecting, &s->tcp, sa, on_connect);
    if (rc) sock_drop(s, ERR_IO, connect_why(rc));
}

/* --- where to --- */

static void add_addr(struct dial *d, const struct sockaddr *sa)
{
    size_t n = sa->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    if (sa->sa_family != AF_INET && sa->sa_family != AF_INET6) return;
    if (d->n_addrs == DIAL_ADDRS_MAX) return;
    memcpy(&d->addr[d->n_addrs++], sa, n);
}

static void on_lookup(uv_getaddrinfo_t *req, int status, struct addrinfo *found)
{
    struct dial *d = req->data;
    struct why why;

    if (!d->net) { /* given up meanwhile */
        uv_freeaddrinfo(found);
        free(d);
        return;
    }
    /* IPv4 first: where IPv6 is half set up, a name's IPv6 address costs 5 s of silence. */
    for (struct addrinfo *a = found; !status && a; a = a->ai_next)
        if (a->ai_family == AF_INET) add_addr(d, a->ai_addr);
    for (struct addrinfo *a = found; !status && a; a = a->ai_next)
        if (a->ai_family != AF_INET) add_addr(d, a->ai_addr);
    uv_freeaddrinfo(found);
    req->data = NULL;
    if (!d->n_addrs) {
        (void)fail(&why, ERR_NOTFOUND, "%s: the name cannot be resolved (%s)", d->host,
                   status ? uv_strerror(status) : "no address");
        remember(d, ERR_NOTFOUND, 0, why.text);
    }
    attempt(d);
}

static void find_addrs(struct dial *d)
{
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct addrinfo want = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV };
    char port[8];

    if (uv_ip4_addr(d->host, d->port, &in) == 0) {
        add_addr(d, (const struct sockaddr *)&in);
        attempt(d);
        return;
    }
    if (uv_ip6_addr(d->host, d->port, &in6) == 0) {
        add_addr(d, (const struct sockaddr *)&in6);
        attempt(d);
        return;
    }
    snprintf(port, sizeof port, "%u", d->port);
    d->lookup.data = d;
    int rc = uv_getaddrinfo(&d->net->hub->loop, &d->lookup, on_lookup, d->host, port, &want);
    if (!rc) return;
    d->lookup.data = NULL;
    remember(d, ERR_NOTFOUND, 0, "the name cannot be resolved"); /* net_tick ends it */
}

void dial_start(struct net *n, const struct node_id *id, const char *host, uint16_t port,
                net_result *result, void *arg)
{
    struct peer *p = id ? peer_get(n, id) : NULL;
    struct dial *d = id && !p ? NULL : dial_new(n, p, result, arg);

    if (!d) {
        result(arg, id, ERR_NOMEM, err_text(ERR_NOMEM));
        return;
    }
    snprintf(d->host, sizeof d->host, "%s", host);
    d->port = port;
    find_addrs(d);
}

static void add_hint(struct dial *d, const uint8_t *hint, size_t n)
{
    struct sockaddr_in in = { .sin_family = AF_INET };
    struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };

    if (n == 6) {
        memcpy(&in.sin_addr, hint, 4);
        memcpy(&in.sin_port, hint + 4, 2);
        add_addr(d, (const struct sockaddr *)&in);
    } else {
        memcpy(&in6.sin6_addr, hint, 16);
        memcpy(&in6.sin6_port, hint + 16, 2);
        add_addr(d, (const struct sockaddr *)&in6);
    }
}

enum err dial_hints(struct net *n, struct peer *p)
{
    if (!p->hints.n || net_now(n) < p->retry_ms) return ERR_NOTFOUND;

    struct dial *d = dial_new(n, p, NULL, NULL);
    if (!d) return ERR_NOMEM;
    for (unsigned i = 0; i < p->hints.n; i++) add_hint(d, p->hints.addr[i], p->hints.len[i]);
    attempt(d);
    return ERR_OK;
}

void dial_tick(struct net *n)
{
    /* At most as many as there may be connections: a callback can dial again, and fail again. */
    for (unsigned ended = 0; ended < NET_SOCKS_MAX; ended++) {
        struct dial *d = n->dials;
        while (d && (d->sock || d->lookup.data)) d = d->next;
        if (!d) return;
        end_badly(d);
    }
}

void dial_cancel_all(struct net *n)
{
    while (n->dials) {
        struct dial *d = n->dials;
        unlink_dial(d);
        if (d->sock) d->sock->dial = NULL;
        if (d->result)
            d->result(d->arg, d->has_id ? &d->id : NULL, ERR_CANCELLED, "this node is closing");
        if (!d->lookup.data) {
            free(d);
            continue;
        }
        d->net = NULL; /* on_lookup frees it */
        (void)uv_cancel((uv_req_t *)&d->lookup);
    }
}
