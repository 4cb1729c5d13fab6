#include "tests/sim/net_impl.h"

#include "base/log.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

struct lines lines;

bool (*net_sim_on_send)(struct net *n, const struct node_id *to, struct msg *m);
void (*net_sim_on_strike)(const struct place *by, const char *what);

uint64_t now_ms(const struct hub *h)
{
    return uv_now(&h->loop);
}

uint64_t unix_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec;
}
/* --- peers --- */

/* Where id is in the table, or would be. */
static struct peer **place_of(const struct net *n, const struct node_id *id)
{
    uint64_t first;
    memcpy(&first, id->b, sizeof first);
    uint32_t size = 2 * n->cap_peers, i = (uint32_t)(first % size);
    while (n->table[i] && !node_id_equal(&n->table[i]->id, id)) i = i + 1 == size ? 0 : i + 1;
    return &n->table[i];
}

struct peer *sim_peer_find(const struct net *n, const struct node_id *id)
{
    return n->cap_peers ? *place_of(n, id) : NULL;
}

static void grow(struct net *n)
{
    n->cap_peers = n->cap_peers ? 2 * n->cap_peers : 16;
    n->peers = realloc(n->peers, n->cap_peers * sizeof *n->peers);
    free(n->table);
    n->table = calloc(2 * n->cap_peers, sizeof *n->table);
    if (!n->peers || !n->table) abort();
    for (uint32_t i = 0; i < n->n_peers; i++) *place_of(n, &n->peers[i]->id) = n->peers[i];
}

struct peer *sim_peer_get(struct net *n, const struct node_id *id)
{
    struct peer *p = sim_peer_find(n, id);
    if (p) return p;
    if (n->n_peers == n->cap_peers) grow(n);
    p = calloc(1, sizeof *p);
    if (!p) abort();
    p->id = *id;
    p->last = &p->first;
    p->rtt_us = p->rtt_last_us = UINT32_MAX;
    n->peers[n->n_peers++] = p;
    *place_of(n, id) = p;
    return p;
}

void line_drop_waiting(struct peer *p)
{
    while (p->first) {
        struct parcel *next = p->first->next;
        free(p->first);
        p->first = next;
    }
    p->last = &p->first;
    p->waiting = 0;
}

bool sim_is_banned(const struct net *n, const struct peer *p)
{
    return now_ms(n->hub) < p->ban_until_ms;
}

/* --- tasks --- */

struct task *line_task_new(struct net *n, void (*run)(struct task *t))
{
    struct task *t = calloc(1, sizeof *t);
    if (!t) abort();
    t->net = n;
    t->run = run;
    t->next = n->tasks;
    n->tasks = t;
    return t;
}

void line_task_free(struct task *t)
{
    struct task **at = &t->net->tasks;
    while (*at != t) at = &(*at)->next;
    *at = t->next;
    world_cancel(t->event);
    free(t);
}

static void on_task(void *arg)
{
    struct task *t = arg;
    t->event = NULL;
    t->run(t);
}

void line_task_at(struct task *t, uint64_t us)
{
    assert(!t->event);
    t->event = world_at(t->net->place, us, on_task, t);
}

/* --- sending --- */

enum err line_send_bytes(struct net *n, struct peer *p, const struct msg *m, const void *bytes,
                         size_t len)
{
    struct end *to = line_other(p->end);
    if (to->queued + len > lines.queue_max) return ERR_FULL;
    if (!to->is_up && !to->is_opening) return ERR_OK; /* it goes where nobody is */
    struct letter *l = line_post(to, LETTER_MAIL, len);
    if (m) line_choose_lanes(l, m);
    memcpy(l->bytes, bytes, len);
    if (n->place->host != to->place->host) {
        lines.count.messages++;
        lines.count.bytes += len;
    }
    line_send_letter(l);
    return ERR_OK;
}

void line_send_waiting(struct net *n, struct peer *p)
{
    while (p->first && p->end) {
        struct parcel *k = p->first;
        struct msg m;
        if (msg_decode(&m, slice_of(k->bytes, k->n), NULL)) abort();
        if (line_send_bytes(n, p, &m, k->bytes, k->n)) {
            line_close_end(p->end, "no room for what waited", "connection reset", false);
            return;
        }
        p->waiting -= k->n;
        p->first = k->next;
        if (!p->first) p->last = &p->first;
        free(k);
    }
}

static void to_self(struct task *t)
{
    struct net *n = t->net;
    struct mail *m = t->arg;
    line_task_free(t);
    line_trace_mail(n->place, &m->m);
    n->cfg.on_mail(n->cfg.arg, m);
}

static enum err send_to_self(struct net *n, const uint8_t *bytes, size_t len)
{
    struct mail *m = line_mail_new(&n->cfg.me->id, true, bytes, len);
    if (msg_decode(&m->m, slice_of(m->bytes, len), NULL)) abort();
    struct task *t = line_task_new(n, to_self);
    t->arg = m;
    line_task_at(t, world_us());
    return ERR_OK;
}

enum err net_send(struct net *n, const struct node_id *id, const struct msg *m)
{
    if (n->closing) return ERR_CLOSED;
    struct msg lie = *m;
    if (net_sim_on_send && !net_sim_on_send(n, id, &lie)) return ERR_OK;
    size_t bound = msg_bound(&lie), len;
    uint8_t *bytes = malloc(bound);
    if (!bytes) abort();
    enum err e = msg_encode(&lie, bytes, bound, &len);
    if (!e && node_id_equal(id, &n->cfg.me->id)) {
        e = send_to_self(n, bytes, len);
        free(bytes);
        return e;
    }
    struct peer *p = sim_peer_find(n, id);
    if (!e && (!p || sim_is_banned(n, p))) e = ERR_NOTFOUND;
    if (!e && !p->end && !p->dials) e = line_dial_hints(n, p);
    if (!e && p->end && !p->first) {
        e = line_send_bytes(n, p, &lie, bytes, len);
        if (lie.type == MSG_RECORDS || lie.type == MSG_RECORDS_GET) lines.count.control += len;
    } else if (!e && p->waiting + len > lines.queue_max) {
        e = ERR_FULL;
    } else if (!e) {
        struct parcel *k = malloc(sizeof *k + len);
        if (!k) abort();
        memcpy(k->bytes, bytes, len);
        k->n = len;
        k->next = NULL;
        *p->last = k;
        p->last = &k->next;
        p->waiting += len;
    }
    free(bytes);
    return e;
}

void net_sim_garbage(struct net *n, const struct node_id *id)
{
    struct peer *p = sim_peer_find(n, id);
    if (!p || !p->end) return;
    uint8_t junk[64];
    for (size_t i = 0; i < sizeof junk; i++) junk[i] = (uint8_t)draw(FOR_LIES);
    if (draw_is(FOR_LIES, 50)) junk[0] = 0x93, junk[1] = MSG_ACT, junk[2] = 0;
    if (line_send_bytes(n, p, NULL, junk, draw_from(FOR_LIES, 1, sizeof junk))) return;
}

/* --- questions --- */

uint16_t net_port(const struct net *n)
{
    return n->port;
}

bool net_is_up(const struct net *n, const struct node_id *id)
{
    if (node_id_equal(id, &n->cfg.me->id)) return !n->closing;
    const struct peer *p = sim_peer_find(n, id);
    return p && p->end;
}

struct slice net_addr(const struct net *n, const struct node_id *id)
{
    static const uint8_t loopback[ADDR_MIN] = { 127, 0, 0, 1, 1, 1 };
    static uint8_t addr[ADDR_MIN];
    const struct peer *p = sim_peer_find(n, id);
    if (!p || !p->end) return slice_of(NULL, 0);
    const struct end *o = line_other(p->end);
    if (o->place->host == n->place->host) return slice_of(loopback, ADDR_MIN);
    return net_sim_addr(o->place->host, 4000, addr);
}

uint32_t net_rtt_us(const struct net *n, const struct node_id *id)
{
    if (node_id_equal(id, &n->cfg.me->id)) return 0;
    const struct peer *p = sim_peer_find(n, id);
    return p && p->end ? p->rtt_us : UINT32_MAX;
}

/* PINGs of an idle connection are not simulated one by one: where it is well, something has been
 * heard in the last 5 s. */
uint64_t net_silent_ms(const struct net *n, const struct node_id *id)
{
    if (node_id_equal(id, &n->cfg.me->id)) return 0;
    const struct peer *p = sim_peer_find(n, id);
    if (!p || !p->end) return UINT64_MAX;
    uint64_t heard = p->end->rx_us, well = p->end->bad_us ? p->end->bad_us : world_us();
    if (well - heard > PING_US && well > heard) heard = well - (well - heard) % PING_US;
    return (world_us() - heard) / MS;
}

void net_ping(struct net *n, const struct node_id *id)
{
    const struct peer *p = sim_peer_find(n, id);
    if (!p || !p->end) return;
    struct end *to = line_other(p->end);
    if (!to->is_up && !to->is_opening) return;
    for (const struct letter *l = to->first; l; l = l->next)
        if (l->kind == LETTER_PING) return; /* one is on its way */
    line_ping(p->end);
}

void net_strike(struct net *n, const struct node_id *id, const char *what)
{
    struct peer *p = sim_peer_find(n, id);
    if (p && !n->closing) line_strike(n, p, what);
}

bool net_is_banned(const struct net *n, const struct node_id *id)
{
    const struct peer *p = sim_peer_find(n, id);
    return p && sim_is_banned(n, p);
}

void net_ban(struct net *n, const struct node_id *id, uint64_t ms, const char *why)
{
    struct peer *p = sim_peer_get(n, id);
    p->ban_until_ms = now_ms(n->hub) + ms;
    if (p->end) line_close_end(p->end, why, "banned by the peer", true);
}

struct slice net_listen_addr(const struct net *n)
{
    return n->port ? slice_of(n->addr, sizeof n->addr) : slice_of(NULL, 0);
}

uint64_t net_instance(const struct net *n)
{
    return n->instance;
}

bool net_dialled(const struct net *n, const struct node_id *id)
{
    const struct peer *p = sim_peer_find(n, id);
    return p && p->end && p->end == &p->end->cable->end[0];
}

/* Not counted by peer: nobody here asks. */
struct traffic net_traffic(const struct net *n, const struct node_id *id)
{
    (void)n, (void)id;
    return (struct traffic){ lines.count.bytes, lines.count.bytes };
}

/* Nobody shares layers here. */
uint32_t net_line_kbit(const struct net *n, const struct node_id *id)
{
    (void)n, (void)id;
    return 0;
}

/* The lines here do not break the protocol. */
struct faults net_faults(const struct net *n)
{
    (void)n;
    return (struct faults){ 0 };
}

/* Known from the start here. */
uint32_t net_uplink_kbit(const struct net *n)
{
    return n->place->up_kb_s >= 125000 ? 0 : n->place->up_kb_s * 8;
}

size_t net_bulk_queued(const struct net *n, const struct node_id *id)
{
    (void)n, (void)id;
    return 0;
}

void net_bulk_limit(struct net *n, const struct node_id *id, uint64_t bytes)
{
    (void)n, (void)id, (void)bytes;
}

uint64_t net_bulk_left(const struct net *n, const struct node_id *id)
{
    (void)n, (void)id;
    return UINT64_MAX;
}

struct net_sim_count net_sim_counts(void)
{
    return lines.count;
}

const struct identity *net_sim_identity(const struct net *n)
{
    return n->cfg.me;
}

/* --- life --- */

/* Who was connected to the process that was here before is told by the first packet he sends. */
static void reset_old_ones(const struct net *n)
{
    for (struct cable *c = lines.cables; c; c = c->next)
        for (unsigned i = 0; i < 2; i++) {
            const struct end *here = &c->end[i];
            if (here->net || here->place != n->place) continue;
            line_send_cut(&c->end[!i], "connection reset", false);
        }
}

enum err net_open(struct net **out, struct hub *hub, const struct net_config *c, struct why *why)
{
    (void)why;
    struct net *n = calloc(1, sizeof *n);
    if (!n) abort();
    n->cfg = *c;
    n->hub = hub;
    n->place = world_here();
    n->instance = draw(FOR_NET) | 1;
    n->port = c->listen_host ? c->listen_port : 0;
    (void)net_sim_addr(n->place->host, c->listen_port, n->addr);
    uv_timer_init(&hub->loop, &n->tick);
    n->tick.data = n;
    n->next = lines.nets;
    lines.nets = n;
    reset_old_ones(n);
    *out = n;
    return ERR_OK;
}

static void on_tick_closed(uv_handle_t *h)
{
    struct net *n = h->data;
    void (*done)(void *) = n->done;
    void *arg = n->done_arg;
    struct net **at = &lines.nets;
    while (*at != n) at = &(*at)->next;
    *at = n->next;
    for (uint32_t i = 0; i < n->n_peers; i++) {
        line_drop_waiting(n->peers[i]);
        free(n->peers[i]);
    }
    free(n->peers);
    free(n->table);
    free(n);
    if (done) done(arg);
}

/* Its ends close; what it said before still arrives, unless that is a reset's. */
static void leave_all(struct net *n, const char *said, bool is_orderly, bool is_silent)
{
    for (struct cable *c = lines.cables, *next; c; c = next) {
        next = c->next;
        for (unsigned i = 0; i < 2; i++) {
            struct end *e = &c->end[i];
            if (e->net != n) continue;
            bool was_up = e->is_up;
            line_detach(e);
            e->is_opening = false;
            line_drop_letters(e);
            e->net = NULL;
            if (was_up && !is_silent) line_send_cut(line_other(e), said, is_orderly);
            if (!is_silent) continue;
            line_other(e)->is_opening = false;
            line_drop_letters(line_other(e)); /* nobody sends them again */
        }
        for (unsigned i = 0; i < 2; i++) line_refresh_end(&c->end[i]);
        line_cable_free_if_done(c);
    }
}

void net_sim_kill(struct net *n, bool is_silent)
{
    n->is_killed = true;
    leave_all(n, "connection reset", false, is_silent);
}

void net_close(struct net *n, void (*done)(void *arg), void *arg)
{
    n->closing = true;
    n->done = done;
    n->done_arg = arg;
    leave_all(n, "the peer has closed", true, false);
    while (n->tasks) {
        struct task *t = n->tasks;
        bool is_self = t->run == to_self;
        net_result *result = t->is_dial ? t->result : NULL;
        void *result_arg = t->arg;
        struct node_id id = t->id;
        bool has_id = t->has_id;
        line_task_free(t);
        if (is_self) line_mail_drop(&((struct mail *)result_arg)->note);
        if (result) result(result_arg, has_id ? &id : NULL, ERR_CANCELLED, "this node is closing");
    }
    uv_close((uv_handle_t *)&n->tick, on_tick_closed);
}

void net_sim_begin(size_t queue_max, unsigned jitter_percent)
{
    memset(&lines, 0, sizeof lines);
    lines.queue_max = queue_max;
    lines.jitter = jitter_percent;
    net_sim_on_send = NULL;
    net_sim_on_strike = NULL;
}

void net_sim_end(void)
{
    while (lines.cables) {
        struct cable *c = lines.cables;
        for (unsigned i = 0; i < 2; i++) {
            c->end[i].is_up = c->end[i].is_opening = false;
            line_drop_letters(&c->end[i]);
        }
        line_cable_free_if_done(c);
    }
}
