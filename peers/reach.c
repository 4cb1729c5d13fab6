#include "peers/reach.h"

#include "base/log.h"
#include "peers/dialback.h"
#include "peers/lan.h"
#include "peers/portmap.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    LOOK_MS = 2000,         /* between looks at the interfaces */
    ASK_FIRST_MS = 2000,    /* after a peer has connected, and its record has come */
    ASK_AGAIN_MS = 1800000, /* when it was answered */
    ASK_RETRY_MS = 20000,   /* when there was nobody, or no answer */
};

struct reach {
    struct reach_config cfg;
    struct reached own; /* as told, or this machine's own */
    struct portmap *portmap;
    struct dialback *dialback;
    uint64_t ask_ms, look_ms; /* when next */
    struct nets nets;         /* that this machine was in at the last look */
};

static uint64_t now_of(const struct reach *r)
{
    return now_ms(r->cfg.hub);
}

/* --- addresses --- */

static struct slice nth(const struct reached *a, uint32_t i)
{
    return slice_of(a->addr[i].b, a->addr[i].n);
}

static bool is_public(struct slice a)
{
    return !addr_is_loopback(a) && !addr_is_private(a);
}

static bool is_local(const struct reach *r)
{
    for (uint32_t i = 0; i < r->own.n; i++)
        if (!addr_is_loopback(nth(&r->own, i))) return false;
    return true;
}

static void add(struct reached *to, struct slice a)
{
    for (uint32_t i = 0; i < to->n; i++)
        if (to->addr[i].n == a.n && memcmp(to->addr[i].b, a.p, a.n) == 0) return;
    if (to->n == ADDRS_MAX || (a.n != ADDR_MIN && a.n != ADDR_MAX)) return;
    memcpy(to->addr[to->n].b, a.p, a.n);
    to->addr[to->n++].n = (uint8_t)a.n;
}

static const struct portmap_state *mapping(const struct reach *r)
{
    const struct portmap_state *s = r->portmap ? portmap_state(r->portmap) : NULL;
    return s && s->how >= PORTMAP_NATPMP ? s : NULL;
}

/* The router's address is one that the world cannot dial: the provider has a router of its own. */
static bool is_behind_provider(const struct portmap_state *s)
{
    static const uint8_t zero[4];
    return memcmp(s->addr, zero, 4) != 0 && !is_public(slice_of(s->addr, ADDR_MIN));
}

/* The address that the mapping gives; empty: none that is of use. */
static struct slice mapped_addr(const struct reach *r)
{
    static const uint8_t zero[4];
    const struct portmap_state *s = mapping(r);
    bool good = s && memcmp(s->addr, zero, 4) != 0 && !is_behind_provider(s);
    return good ? slice_of(s->addr, ADDR_MIN) : slice_of(NULL, 0);
}

/* The port that others are asked to try. */
static uint16_t outside_port(const struct reach *r)
{
    const struct portmap_state *s = mapping(r);
    if (r->cfg.advertised || !s) return r->own.port;
    return (uint16_t)(s->addr[4] << 8 | s->addr[5]);
}

/* The link names the address that others have proven. */
static void link_to_first(struct reached *a)
{
    char text[64];
    if (addr_text(text, sizeof text, nth(a, 0)) && hostport_parse(a->host, &a->port, text, NULL))
        log_debug("reach: %s is no host and port", text);
}

static void rewrite(struct reach *r)
{
    struct reached now = r->own;
    enum verdict verdict = dialback_reach(r->dialback);

    if (!r->cfg.advertised) {
        now.n = 0;
        if (verdict == REACH_YES) {
            add(&now, dialback_addr(r->dialback));
            link_to_first(&now);
        }
        if (verdict != REACH_NO && mapped_addr(r).n) add(&now, mapped_addr(r));
        for (uint32_t i = 0; i < r->own.n; i++)
            if (verdict != REACH_NO || !is_public(nth(&r->own, i))) add(&now, nth(&r->own, i));
    }
    *r->cfg.reached = now;
    r->cfg.on_change(r->cfg.arg);
}

/* --- the sentence --- */

static void place(char *out, size_t cap, struct slice a)
{
    if (!addr_text(out, cap, a)) snprintf(out, cap, "an unknown address");
}

/* By what others come in: in words for the brackets. */
static const char *way(const struct reach *r)
{
    const struct portmap_state *s = mapping(r);

    if (r->cfg.advertised) return "as told by --advertise";
    if (!s) return "directly";
    return s->how == PORTMAP_UPNP ? "mapped by UPnP" : "mapped by NAT-PMP";
}

static void text_closed(const struct reach *r, char *out, size_t cap, const char *also)
{
    const struct portmap_state *s = mapping(r);

    if (s && is_behind_provider(s)) {
        char at[64];
        place(at, sizeof at, slice_of(s->addr, ADDR_MIN));
        snprintf(out, cap,
                 "not reachable from the internet: the provider shares one address among "
                 "customers (the router's own is %s); this node works over connections that it "
                 "makes itself (%s)",
                 at, also);
        return;
    }
    snprintf(out, cap,
             "not reachable from the internet: %s; let TCP port %u through to this PC in the "
             "router, or switch on UPnP there; until then this node works over connections that "
             "it makes itself (%s)",
             dialback_why(r->dialback), outside_port(r), also);
}

/* Nobody has tried yet, or there is nobody. */
static void text_unknown(const struct reach *r, char *out, size_t cap, const char *also)
{
    char at[64] = "";
    struct slice mapped = mapped_addr(r);
    const struct portmap_state *s = mapping(r);

    if (s && is_behind_provider(s)) {
        text_closed(r, out, cap, also);
        return;
    }
    bool outside = mapped.n || is_public(nth(&r->own, 0)) || r->cfg.advertised;
    place(at, sizeof at, mapped.n ? mapped : nth(&r->own, 0));
    if (outside)
        snprintf(out, cap, "probably reachable at %s (%s, nobody outside has tried yet; %s)", at,
                 way(r), also);
    else
        snprintf(out, cap, "reachable on this network at %s (%s)", at, also);
}

void reach_text(const struct reach *r, char *out, size_t cap, const char *also)
{
    char at[64];

    if (is_local(r)) {
        place(at, sizeof at, nth(&r->own, 0));
        snprintf(out, cap, "reachable from this machine alone, at %s (%s)", at, also);
    } else if (dialback_reach(r->dialback) == REACH_YES) {
        place(at, sizeof at, dialback_addr(r->dialback));
        snprintf(out, cap, "reachable at %s (%s; %s)", at, way(r), also);
    } else if (dialback_reach(r->dialback) == REACH_NO) {
        text_closed(r, out, cap, also);
    } else {
        text_unknown(r, out, cap, also);
    }
}

/* --- events --- */

static void on_mapping(void *arg)
{
    struct reach *r = arg;
    const struct portmap_state *s = portmap_state(r->portmap);
    char at[64];

    if (s->how == PORTMAP_NONE) {
        log_info("no port of the router is open for this node: %s", s->why);
    } else if (s->how != PORTMAP_SEARCHING) {
        place(at, sizeof at, slice_of(s->addr, ADDR_MIN));
        log_info("the router lets others in at %s (%s)", at, portmap_name(s->how));
    }
    if (r->ask_ms > now_of(r) + ASK_FIRST_MS) r->ask_ms = now_of(r) + ASK_FIRST_MS;
    rewrite(r);
}

static void on_result(void *arg)
{
    struct reach *r = arg;
    r->ask_ms = now_of(r) + ASK_AGAIN_MS;
    rewrite(r);
}

void reach_on_peer(struct reach *r, const struct node_id *id, bool up)
{
    struct slice addr = net_addr(r->cfg.net, id);
    uint64_t soon = now_of(r) + ASK_FIRST_MS;

    if (up && addr.n && is_public(addr) && dialback_reach(r->dialback) == REACH_UNKNOWN &&
        r->ask_ms > soon)
        r->ask_ms = soon;
}

void reach_on_mail(struct reach *r, struct mail *m)
{
    dialback_on_mail(r->dialback, m);
}

/* --- the network changes: a cable, another Wi-Fi --- */

static bool listens_everywhere(const struct reach *r)
{
    static const uint8_t zero[16];
    struct slice a = net_listen_addr(r->cfg.net);
    return a.n > 2 && memcmp(a.p, zero, a.n - 2) == 0;
}

/* A router gives ports of its one IPv4 address to machines that have none of their own. */
static void open_portmap(struct reach *r)
{
    bool private_v4 = false;

    for (uint32_t i = 0; i < r->own.n; i++)
        private_v4 |= r->own.addr[i].n == ADDR_MIN && addr_is_private(nth(&r->own, i));
    if (r->portmap || !r->cfg.portmap || r->cfg.advertised || !private_v4) return;
    if (portmap_open(&r->portmap, r->cfg.hub, net_port(r->cfg.net), on_mapping, r))
        log_warn("the router is not asked to let others in: there is no memory for it");
}

static void look_at_network(struct reach *r)
{
    struct nets now = { .n = 0 };
    struct reached own;

    r->look_ms = now_of(r) + LOOK_MS;
    nets_find(&now);
    if (memcmp(&now, &r->nets, sizeof now) == 0) return;
    r->nets = now;
    if (!listens_everywhere(r) || r->cfg.advertised) return;
    if (reached_interfaces(&own, r->own.port, net_listen_addr(r->cfg.net).n == ADDR_MAX, NULL))
        return;
    if (own.n == r->own.n && memcmp(own.addr, r->own.addr, sizeof own.addr) == 0) return;
    r->own = own;
    dialback_forget(r->dialback);
    if (r->ask_ms > now_of(r) + ASK_FIRST_MS) r->ask_ms = now_of(r) + ASK_FIRST_MS;
    if (r->portmap) portmap_retry(r->portmap);
    open_portmap(r);
    rewrite(r);
}

void reach_tick(struct reach *r)
{
    if (now_of(r) >= r->look_ms) look_at_network(r);
    dialback_tick(r->dialback);
    if (now_of(r) < r->ask_ms || dialback_is_asking(r->dialback)) return;
    r->ask_ms = now_of(r) + ASK_RETRY_MS;
    if (!is_local(r)) (void)dialback_ask(r->dialback, outside_port(r));
}

/* --- opening and closing --- */

enum err reach_open(struct reach **out, const struct reach_config *c)
{
    struct reach *r = calloc(1, sizeof *r);

    if (!r) return ERR_NOMEM;
    r->cfg = *c;
    r->own = *c->reached;
    r->ask_ms = now_of(r) + ASK_RETRY_MS;
    struct dialback_config dc = {
        .hub = c->hub, .net = c->net, .peers = c->peers, .arg = r, .on_result = on_result
    };
    enum err e = dialback_open(&r->dialback, &dc);
    if (e) {
        free(r);
        return e;
    }
    nets_find(&r->nets);
    open_portmap(r);
    *out = r;
    return ERR_OK;
}

void reach_close(struct reach *r)
{
    if (!r) return;
    dialback_close(r->dialback);
    portmap_close(r->portmap);
    free(r);
}
