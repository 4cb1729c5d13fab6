#include "peers/lan.h"

#include "base/bucket.h"
#include "base/log.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    TICK_MS = 250,
    LOOK_MS = 2000, /* between looks at the interfaces */
    ANSWER_GAP_MS = 500,
    AGAIN_MS = 700, /* after a beacon that could not be sent */
    AGAIN_MAX = 10,
    IFACES_MAX = 32,
    SOURCES_MAX = 64,
    HANDLES = 3,
};

/* An address of an interface that beacons go out from. */
struct iface {
    bool v6;
    char name[IF_NAMESIZE];
    struct in_addr addr, broadcast; /* IPv4 */
    unsigned index;                 /* IPv6 */
};

struct source {
    struct bucket budget;
    uint8_t n, addr[16];
};

/* A node that was heard; n is in use while at_ms is recent. */
struct heard {
    struct node_id id;
    uint8_t instance[INSTANCE_BYTES];
    uint64_t at_ms; /* 0: free */
};

struct lan {
    struct lan_config cfg;
    uint8_t listener[ADDR_MAX];
    struct beacon_key key;
    struct beacon mine;
    uint8_t bytes[BEACON_BYTES];
    /* owned */
    uv_udp_t v4, v6;
    uv_timer_t tick;
    bool has_v4, has_v6;
    struct iface iface[IFACES_MAX];
    unsigned n_ifaces;
    struct source source[SOURCES_MAX];
    struct heard heard[LAN_HEARD_MAX];
    uint64_t look_ms, shout_ms, answer_ms; /* when next; answer 0: nobody waits */
    uint64_t answered_ms;
    bool send_failed;
    unsigned failures; /* rounds in a row in which something could not be sent */
    char inbox[BEACON_MAX + 1];
    unsigned closing; /* handles whose close callback is still to come */
};

static uint64_t now_of(const struct lan *l)
{
    return uv_now(&l->cfg.hub->loop);
}

/* --- the interfaces --- */

static bool wants_v4(const struct lan *l)
{
    static const uint8_t any6[16];
    bool dual = l->cfg.listener.n == 18 && memcmp(l->listener, any6, 16) == 0;
    return l->cfg.listener.n == 6 || dual;
}

/* Does a listener on one address sit on this interface's? */
static bool is_ours(const struct lan *l, const uv_interface_address_t *a)
{
    static const uint8_t zero[16];
    size_t n = l->cfg.listener.n - 2;

    if (memcmp(l->listener, zero, n) == 0) return true;
    if (n == 4)
        return a->address.address4.sin_family == AF_INET &&
               memcmp(&a->address.address4.sin_addr, l->listener, 4) == 0;
    return a->address.address6.sin6_family == AF_INET6 &&
           memcmp(&a->address.address6.sin6_addr, l->listener, 16) == 0;
}

static bool has_index(const struct iface *f, unsigned n, unsigned index)
{
    for (unsigned i = 0; i < n; i++)
        if (f[i].v6 && f[i].index == index) return true;
    return false;
}

/* Beacons over IPv6 go to a group of the link, once for an interface however many addresses. */
static unsigned list_ifaces(const struct lan *l, struct iface out[IFACES_MAX])
{
    uv_interface_address_t *list;
    int count;
    unsigned n = 0;

    if (uv_interface_addresses(&list, &count)) return 0;
    for (int i = 0; i < count && n < IFACES_MAX; i++) {
        const uv_interface_address_t *a = &list[i];
        bool v6 = a->address.address4.sin_family == AF_INET6;
        if (a->is_internal || !is_ours(l, a) || (v6 ? !l->has_v6 : !l->has_v4)) continue;
        struct iface f = { .v6 = v6 };
        snprintf(f.name, sizeof f.name, "%s", a->name);
        f.index = v6 ? if_nametoindex(f.name) : 0;
        if (v6 && (!f.index || has_index(out, n, f.index))) continue;
        if (!v6) {
            f.addr = a->address.address4.sin_addr;
            f.broadcast.s_addr = f.addr.s_addr | ~a->netmask.netmask4.sin_addr.s_addr;
        }
        out[n++] = f;
    }
    uv_free_interface_addresses(list, count);
    return n;
}

static void join_group(struct lan *l, const struct iface *f)
{
    char at[INET_ADDRSTRLEN + IF_NAMESIZE + 4];
    int rc;

    if (f->v6) {
        snprintf(at, sizeof at, "::%%%s", f->name);
        rc = uv_udp_set_membership(&l->v6, LAN_GROUP6, at, UV_JOIN_GROUP);
    } else {
        inet_ntop(AF_INET, &f->addr, at, sizeof at);
        rc = uv_udp_set_membership(&l->v4, LAN_GROUP4, at, UV_JOIN_GROUP);
    }
    if (rc && rc != UV_EADDRINUSE) /* in use: joined already */
        log_debug("lan: %s: the group cannot be joined (%s)", f->name, uv_strerror(rc));
}

/* true: they are others than before, and joined. */
static bool look_at_ifaces(struct lan *l)
{
    struct iface now[IFACES_MAX];
    memset(now, 0, sizeof now);
    unsigned n = list_ifaces(l, now);

    if (n == l->n_ifaces && memcmp(now, l->iface, n * sizeof *now) == 0) return false;
    memcpy(l->iface, now, sizeof now);
    l->n_ifaces = n;
    for (unsigned i = 0; i < n; i++) join_group(l, &now[i]);
    return n > 0;
}

/* --- sending --- */

/* What the socket does not take is tried again soon: an address that is new to its interface
 * cannot be sent from in its first second or two. */
static void send_to(struct lan *l, uv_udp_t *socket, const struct sockaddr *to, const char *where)
{
    uv_buf_t b = uv_buf_init((char *)l->bytes, sizeof l->bytes);
    int rc = uv_udp_try_send(socket, &b, 1, to);
    if (rc >= 0) return;
    log_debug("lan: %s: no beacon sent (%s)", where, uv_strerror(rc));
    l->send_failed = true;
}

static void shout_v4(struct lan *l, const struct iface *f)
{
    struct sockaddr_in to;
    char at[INET_ADDRSTRLEN];

    inet_ntop(AF_INET, &f->addr, at, sizeof at);
    (void)uv_ip4_addr(LAN_GROUP4, LAN_PORT, &to);
    if (uv_udp_set_multicast_interface(&l->v4, at) == 0)
        send_to(l, &l->v4, (const struct sockaddr *)&to, f->name);
    if (f->broadcast.s_addr == f->addr.s_addr) return; /* a network of one */
    to.sin_addr = f->broadcast;
    send_to(l, &l->v4, (const struct sockaddr *)&to, f->name);
}

static void shout(struct lan *l)
{
    struct sockaddr_in6 to6;

    l->send_failed = false;
    for (unsigned i = 0; i < l->n_ifaces; i++) {
        const struct iface *f = &l->iface[i];
        if (!f->v6) {
            shout_v4(l, f);
            continue;
        }
        (void)uv_ip6_addr(LAN_GROUP6, LAN_PORT, &to6);
        to6.sin6_scope_id = f->index;
        send_to(l, &l->v6, (const struct sockaddr *)&to6, f->name);
    }
    l->failures = l->send_failed ? l->failures + 1 : 0;
    bool again = l->failures > 0 && l->failures <= AGAIN_MAX;
    l->shout_ms = now_of(l) + (again ? AGAIN_MS : LAN_EVERY_MS);
    l->answer_ms = 0;
    l->answered_ms = now_of(l);
}

/* --- hearing --- */

static bool source_allows(struct lan *l, const struct sockaddr *from)
{
    uint8_t addr[16] = { 0 };
    bool v6 = from->sa_family == AF_INET6;
    uint8_t n = v6 ? 16 : 4;
    struct source *row = &l->source[0];

    if (v6)
        memcpy(addr, &((const struct sockaddr_in6 *)(const void *)from)->sin6_addr, n);
    else
        memcpy(addr, &((const struct sockaddr_in *)(const void *)from)->sin_addr, n);
    for (unsigned i = 0; i < SOURCES_MAX; i++) {
        struct source *s = &l->source[i];
        if (s->n == n && memcmp(s->addr, addr, n) == 0) {
            row = s;
            break;
        }
        if (s->budget.at_ms < row->budget.at_ms) row = s;
    }
    if (row->n != n || memcmp(row->addr, addr, n) != 0) {
        *row = (struct source){ .n = n, .budget = { LAN_BURST, now_of(l) } };
        memcpy(row->addr, addr, n);
    }
    return bucket_take(&row->budget, now_of(l), 1.0 / LAN_GAP_MS, LAN_BURST);
}

static bool is_recent(const struct heard *h, uint64_t now)
{
    return h->at_ms && now - h->at_ms < 3 * LAN_EVERY_MS + LAN_EVERY_MS / 2;
}

/* Note the node; true: it (or this run of it) was not heard before. */
static bool note_heard(struct lan *l, const struct beacon *b)
{
    uint64_t now = now_of(l);
    struct heard *row = &l->heard[0];

    for (unsigned i = 0; i < LAN_HEARD_MAX; i++) {
        struct heard *h = &l->heard[i];
        if (h->at_ms && node_id_equal(&h->id, &b->id)) {
            row = h;
            break;
        }
        if (h->at_ms < row->at_ms) row = h;
    }
    bool old = is_recent(row, now) && node_id_equal(&row->id, &b->id) &&
               memcmp(row->instance, b->instance, INSTANCE_BYTES) == 0;
    row->id = b->id;
    memcpy(row->instance, b->instance, INSTANCE_BYTES);
    row->at_ms = now ? now : 1;
    return !old;
}

static bool host_of(char *out, size_t cap, const struct sockaddr *from)
{
    char addr[INET6_ADDRSTRLEN], name[IF_NAMESIZE];
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)from;

    if (from->sa_family == AF_INET)
        return uv_ip4_name((const struct sockaddr_in *)(const void *)from, out, cap) == 0;
    if (from->sa_family != AF_INET6 || uv_ip6_name(in6, addr, sizeof addr)) return false;
    bool scoped =
        IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr) && if_indextoname(in6->sin6_scope_id, name);
    int n = snprintf(out, cap, "%s%s%s", addr, scoped ? "%" : "", scoped ? name : "");
    return n > 0 && (size_t)n < cap;
}

static void on_datagram(uv_udp_t *socket, ssize_t got, const uv_buf_t *buf,
                        const struct sockaddr *from, unsigned flags)
{
    struct lan *l = socket->data;
    struct beacon b;
    char host[INET6_ADDRSTRLEN + IF_NAMESIZE + 1];

    if (got <= 0 || !from || (flags & UV_UDP_PARTIAL) || l->closing) return;
    if (beacon_read(&b, slice_of(buf->base, (size_t)got), &l->key)) return;
    if (node_id_equal(&b.id, &l->cfg.me)) return; /* our own, or somebody repeats it */
    if (!source_allows(l, from) || !host_of(host, sizeof host, from)) return;
    if (note_heard(l, &b) && !l->answer_ms) {
        uint64_t soonest = l->answered_ms + ANSWER_GAP_MS;
        l->answer_ms = soonest > now_of(l) ? soonest : now_of(l);
        if (l->answer_ms == now_of(l)) shout(l);
    }
    l->cfg.on_heard(l->cfg.arg, &b.id, host, b.port);
}

static void on_alloc(uv_handle_t *handle, size_t want, uv_buf_t *buf)
{
    struct lan *l = handle->data;
    (void)want;
    *buf = uv_buf_init(l->inbox, sizeof l->inbox);
}

unsigned lan_heard(const struct lan *l)
{
    unsigned n = 0;
    for (unsigned i = 0; i < LAN_HEARD_MAX; i++) n += is_recent(&l->heard[i], now_of(l));
    return n;
}

/* --- the clock --- */

static void on_tick(uv_timer_t *timer)
{
    struct lan *l = timer->data;
    uint64_t now = now_of(l);
    bool due = now >= l->shout_ms || (l->answer_ms && now >= l->answer_ms);

    if (now >= l->look_ms) {
        l->look_ms = now + LOOK_MS;
        due |= look_at_ifaces(l);
    }
    if (due) shout(l);
}

/* --- opening and closing --- */

static int open_v4(struct lan *l)
{
    struct sockaddr_in any;
    (void)uv_ip4_addr("0.0.0.0", LAN_PORT, &any);
    int rc = uv_udp_bind(&l->v4, (const struct sockaddr *)&any, UV_UDP_REUSEADDR);
    if (!rc) rc = uv_udp_set_broadcast(&l->v4, 1);
    if (!rc) rc = uv_udp_set_multicast_ttl(&l->v4, 1);
    return rc ? rc : uv_udp_recv_start(&l->v4, on_alloc, on_datagram);
}

static int open_v6(struct lan *l)
{
    struct sockaddr_in6 any;
    (void)uv_ip6_addr("::", LAN_PORT, &any);
    int rc = uv_udp_bind(&l->v6, (const struct sockaddr *)&any, UV_UDP_REUSEADDR | UV_UDP_IPV6ONLY);
    if (!rc) rc = uv_udp_set_multicast_ttl(&l->v6, 1);
    return rc ? rc : uv_udp_recv_start(&l->v6, on_alloc, on_datagram);
}

static void on_closed(uv_handle_t *handle)
{
    struct lan *l = handle->data;
    if (--l->closing) return;
    explicit_bzero(&l->key, sizeof l->key);
    free(l);
}

void lan_close(struct lan *l)
{
    if (!l) return;
    l->closing = HANDLES;
    uv_close((uv_handle_t *)&l->v4, on_closed);
    uv_close((uv_handle_t *)&l->v6, on_closed);
    uv_close((uv_handle_t *)&l->tick, on_closed);
}

static struct lan *lan_new(const struct lan_config *c)
{
    struct lan *l = calloc(1, sizeof *l);
    if (!l) return NULL;
    l->cfg = *c;
    memcpy(l->listener, c->listener.p, c->listener.n);
    l->cfg.listener.p = l->listener;
    l->cfg.swarm = NULL;
    beacon_key_of(&l->key, c->swarm);
    l->mine.id = c->me;
    l->mine.port = (uint16_t)(l->listener[c->listener.n - 2] << 8 | l->listener[c->listener.n - 1]);
    memcpy(l->mine.instance, c->instance, INSTANCE_BYTES);
    beacon_write(l->bytes, &l->mine, &l->key);
    uv_loop_t *loop = &c->hub->loop;
    if (uv_udp_init(loop, &l->v4) || uv_udp_init(loop, &l->v6) || uv_timer_init(loop, &l->tick))
        abort(); /* without an address family these cannot fail */
    l->v4.data = l->v6.data = l->tick.data = l;
    return l;
}

enum err lan_open(struct lan **out, const struct lan_config *c, struct why *why)
{
    *out = NULL;
    if ((c->listener.n != ADDR_MIN && c->listener.n != ADDR_MAX) || addr_is_loopback(c->listener))
        return fail(why, ERR_USAGE, "nobody on this network could connect to this node");

    struct lan *l = lan_new(c);
    if (!l) return fail(why, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    int rc4 = wants_v4(l) ? open_v4(l) : UV_EAFNOSUPPORT;
    int rc6 = c->listener.n == ADDR_MAX ? open_v6(l) : UV_EAFNOSUPPORT;
    l->has_v4 = rc4 == 0;
    l->has_v6 = rc6 == 0;
    if (rc4 && rc6) {
        int rc = wants_v4(l) ? rc4 : rc6;
        lan_close(l);
        return fail(why, ERR_IO, "UDP port %d cannot be used (%s)", LAN_PORT, uv_strerror(rc));
    }
    (void)uv_timer_start(&l->tick, on_tick, 0, TICK_MS);
    *out = l;
    return ERR_OK;
}

/* --- which addresses are near --- */

/* Overlay networks give a machine one address alone, though others share its prefix: those of
 * 100.64/10 (Tailscale's, for one) and unique local IPv6 ones count as one network. */
static void widen(uint8_t *mask, const uint8_t *addr, size_t n)
{
    if (n == 4 && addr[0] == 100 && (addr[1] & 0xc0) == 64) memcpy(mask, "\xff\xc0\0\0", 4);
    if (n == 16 && (addr[0] & 0xfe) == 0xfc) memset(mask + 6, 0, 10);
}

void nets_find(struct nets *out)
{
    uv_interface_address_t *list;
    int count;

    memset(out, 0, sizeof *out);
    if (uv_interface_addresses(&list, &count)) return;
    for (int i = 0; i < count && out->n < NETS_MAX; i++) {
        const uv_interface_address_t *a = &list[i];
        bool v6 = a->address.address4.sin_family == AF_INET6;
        size_t n = v6 ? 16 : 4;
        out->net[out->n].n = (uint8_t)n;
        memcpy(out->net[out->n].addr,
               v6 ? (const void *)&a->address.address6.sin6_addr
                  : (const void *)&a->address.address4.sin_addr,
               n);
        memcpy(out->net[out->n].mask,
               v6 ? (const void *)&a->netmask.netmask6.sin6_addr
                  : (const void *)&a->netmask.netmask4.sin_addr,
               n);
        widen(out->net[out->n].mask, out->net[out->n].addr, n);
        out->n++;
    }
    uv_free_interface_addresses(list, count);
}

bool nets_have(const struct nets *s, struct slice addr)
{
    for (unsigned i = 0; i < s->n; i++) {
        size_t n = s->net[i].n, k = 0;
        if (addr.n != n + 2) continue;
        while (k < n && !((s->net[i].addr[k] ^ addr.p[k]) & s->net[i].mask[k])) k++;
        if (k == n) return true;
    }
    return false;
}
