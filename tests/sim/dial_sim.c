/* dial_sim.c - how simulated nodes reach each other, as net/net_dial.c. */
#include "tests/sim/net_impl.h"

#include <stdio.h>
#include <stdlib.h>

/* --- dialling --- */

struct slice net_sim_addr(unsigned host, uint16_t port, uint8_t out[ADDR_MIN])
{
    out[0] = 10;
    out[1] = 7;
    out[2] = (uint8_t)(host >> 8);
    out[3] = (uint8_t)host;
    out[4] = (uint8_t)(port >> 8);
    out[5] = (uint8_t)port;
    return slice_of(out, ADDR_MIN);
}

static struct net *net_at(const uint8_t *addr, size_t n)
{
    for (struct net *k = lines.nets; k; k = k->next)
        if (n == ADDR_MIN && k->port && !k->is_killed && !k->closing &&
            memcmp(k->addr, addr, n) == 0)
            return k;
    return NULL;
}

/* As end_badly and dial_opened of net_dial.c. */
static void dial_end(struct task *t, enum err e, const char *why)
{
    struct net *n = t->net;
    struct peer *p = t->peer;
    net_result *result = t->result;
    void *arg = t->arg;
    struct node_id id = t->id;
    bool has_id = t->has_id;
    if (p) p->dials--;
    line_task_free(t);
    if (e && !result) {
        p->backoff_ms = p->backoff_ms ? p->backoff_ms * 2 : BACKOFF_MIN_MS;
        if (p->backoff_ms > BACKOFF_MAX_MS) p->backoff_ms = BACKOFF_MAX_MS;
        p->retry_ms = now_ms(n->hub) + p->backoff_ms;
    }
    if (e && p && p->first && !p->end && !p->dials && (!result || line_dial_hints(n, p))) {
        line_drop_waiting(p);
        line_tell_peer(n, &id, false, why);
    }
    if (result) result(arg, has_id ? &id : NULL, e, why);
}

static void on_syn(struct task *t);

static void next_addr(struct task *t, enum err e, const char *why)
{
    if (++t->at < t->n_addrs) {
        t->began_us = world_us();
        t->run = on_syn;
        line_task_at(t, world_us());
    } else {
        dial_end(t, e, why);
    }
}

static void on_no_answer(struct task *t)
{
    next_addr(t, ERR_TIMEOUT, "no answer within 5 s");
}

void line_dials_met(struct net *n, const struct node_id *id)
{
    for (struct task *t = n->tasks, *next; t; t = next) {
        next = t->next;
        if (!t->is_dial || !t->waits_up || !node_id_equal(&t->id, id)) continue;
        t->waits_up = false;
        world_cancel(t->event);
        t->event = NULL;
        dial_end(t, ERR_OK, "");
        next = n->tasks; /* the result may have begun another */
    }
}

static void connect_to(struct task *t, struct net *target)
{
    struct net *n = t->net;
    struct cable *c = calloc(1, sizeof *c);
    if (!c) abort();
    for (unsigned i = 0; i < 2; i++) {
        struct net *k = i ? target : n;
        c->end[i] = (struct end){
            .cable = c, .net = k, .place = k->place, .id = k->cfg.me->id, .rx_us = world_us()
        };
        c->end[i].last = &c->end[i].first;
    }
    c->next = lines.cables;
    if (c->next) c->next->prev = c;
    lines.cables = c;
    c->end[0].is_up = true;
    c->end[1].is_opening = true;
    line_send_letter(line_post(&c->end[1], LETTER_UP, 100));

    struct peer *p = sim_peer_get(n, &target->cfg.me->id);
    struct node_id id = p->id;
    line_tell_old_news(n, &id);
    p->end = &c->end[0];
    p->backoff_ms = p->retry_ms = 0;
    line_refresh_cable(c);
    line_send_waiting(n, p);
    line_ping(&c->end[0]);
    t->id = id;
    t->has_id = true;
    struct task *up = t;
    net_result *result = t->result;
    void *arg = t->arg;
    if (t->peer) t->peer->dials--;
    line_task_free(up);
    line_tell_peer(n, &id, true, "");
    if (result) result(arg, &id, ERR_OK, "");
}

/* A connection that the target has made to us, which is not here yet. */
static bool is_coming(const struct net *n, const struct net *target)
{
    for (const struct cable *c = lines.cables; c; c = c->next)
        if (c->end[0].net == target && c->end[1].net == n && c->end[0].is_up &&
            c->end[1].is_opening)
            return true;
    return false;
}

static void on_handshake(struct task *t)
{
    struct net *n = t->net, *target = net_at(t->addr[t->at], t->addr_n[t->at]);
    struct peer *p;
    if (!target || !line_path_open(n->place, target->place) || place_is_frozen(target->place)) {
        t->run = on_no_answer;
        line_task_at(t, t->began_us + CONNECT_US);
        return;
    }
    if (target == n) {
        next_addr(t, ERR_USAGE, "that address is this node itself");
        return;
    }
    if (t->has_id && !node_id_equal(&t->id, &target->cfg.me->id)) {
        next_addr(t, ERR_AUTH, "another node answers there");
        return;
    }
    p = sim_peer_find(target, &n->cfg.me->id);
    bool is_refused = p && sim_is_banned(target, p);
    p = sim_peer_get(n, &target->cfg.me->id);
    if (is_refused || sim_is_banned(n, p)) {
        next_addr(t, ERR_DENIED, "it has been banned, or has banned us");
        return;
    }
    if (p->end) {
        dial_end(t, ERR_OK, "");
        return;
    }
    if (is_coming(n, target)) {
        t->has_id = true;
        t->id = p->id;
        t->waits_up = true;
        t->run = on_no_answer;
        line_task_at(t, t->began_us + CONNECT_US);
        return;
    }
    connect_to(t, target);
}

static void on_syn(struct task *t)
{
    const struct place *there = NULL;
    for (const struct net *k = lines.nets; k && !there; k = k->next)
        if (memcmp(k->addr, t->addr[t->at], ADDR_MIN) == 0) there = k->place;
    struct net *target = net_at(t->addr[t->at], t->addr_n[t->at]);
    uint64_t far = there ? line_distance_us(t->net->place, there) : 20 * MS;
    if (!there || there->off || !line_path_open(t->net->place, there)) {
        t->run = on_no_answer;
        line_task_at(t, t->began_us + CONNECT_US);
    } else if (!target) {
        next_addr(t, ERR_CLOSED, "connection refused");
    } else {
        t->run = on_handshake;
        line_task_at(t, world_us() + 2 * far);
    }
}

/* A failure is said from the loop, never from inside the call. */
static void begin_dial(struct task *t)
{
    t->is_dial = true;
    t->began_us = world_us();
    const struct place *there = NULL;
    for (const struct net *k = lines.nets; k && !there; k = k->next)
        if (memcmp(k->addr, t->addr[0], ADDR_MIN) == 0) there = k->place;
    uint64_t far = there ? line_distance_us(t->net->place, there) : 20 * MS;
    line_task_at(t, world_us() + 2 * far + line_jitter_us(far));
}

enum err line_dial_hints(struct net *n, struct peer *p)
{
    if (!p->hints.n || now_ms(n->hub) < p->retry_ms) return ERR_NOTFOUND;
    struct task *t = line_task_new(n, on_syn);
    t->has_id = true;
    t->id = p->id;
    t->peer = p;
    t->n_addrs = p->hints.n;
    for (unsigned i = 0; i < p->hints.n; i++) {
        memcpy(t->addr[i], p->hints.addr[i], p->hints.len[i]);
        t->addr_n[i] = p->hints.len[i];
    }
    p->dials++;
    begin_dial(t);
    return ERR_OK;
}

void net_dial(struct net *n, const struct node_id *id, const char *host, uint16_t port,
              net_result *result, void *arg)
{
    unsigned a, b, c, d;
    if (n->closing) {
        result(arg, id, ERR_CANCELLED, "this node is closing");
    } else if (id && node_id_equal(id, &n->cfg.me->id)) {
        result(arg, id, ERR_USAGE, "that is this node itself");
    } else if (id && net_is_up(n, id)) {
        result(arg, id, ERR_OK, "");
    } else if (sscanf(host, "%u.%u.%u.%u", &a, &b, &c, &d) != 4) {
        result(arg, id, ERR_NOTFOUND, "the name cannot be resolved");
    } else {
        struct task *t = line_task_new(n, on_syn);
        t->has_id = id != NULL;
        if (id) t->id = *id;
        t->peer = id ? sim_peer_get(n, id) : NULL;
        if (t->peer) t->peer->dials++;
        t->result = result;
        t->arg = arg;
        const uint8_t addr[ADDR_MIN] = { (uint8_t)a, (uint8_t)b,           (uint8_t)c,
                                         (uint8_t)d, (uint8_t)(port >> 8), (uint8_t)port };
        memcpy(t->addr[0], addr, ADDR_MIN);
        t->addr_n[0] = ADDR_MIN;
        t->n_addrs = 1;
        begin_dial(t);
    }
}

void net_hint(struct net *n, const struct node_id *id, struct slice addr)
{
    if (!hint_is_address(addr) || n->closing) return;
    if (node_id_equal(id, &n->cfg.me->id)) return;
    struct peer *p = sim_peer_get(n, id);
    p->retry_ms = p->backoff_ms = 0;
    hints_add(&p->hints, addr);
}
