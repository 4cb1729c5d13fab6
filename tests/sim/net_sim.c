#include "tests/sim/net_sim.h"

#include "base/log.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    LANES = 16, /* sessions and rids share them: some order more than is promised */
    HINTS_MAX = 8,
    CONNECT_US = 5 * SECOND,
    SILENT_MIN_US = 15 * SECOND, /* as net_sock.c: three PINGs unanswered */
    SILENT_MAX_US = 20 * SECOND,
    PING_US = 5 * SECOND,
    BACKOFF_MIN_MS = 1000,
    BACKOFF_MAX_MS = 60000,
    STRIKES = 3,
    STRIKES_MS = 600000,
    BAN_MS = 600000,
    CLOGS_MAX = 64,
    LOOPBACK_US = 30,
};

struct cable;
struct peer;

enum letter_kind { LETTER_UP, LETTER_MAIL, LETTER_PING, LETTER_PONG, LETTER_CUT };

/* Something on its way to one end. */
struct letter {
    struct letter *next;
    struct cable *cable;
    unsigned to;
    enum letter_kind kind;
    unsigned lane, rid_lane; /* equal when it names only one of session and rid, or neither */
    uint64_t sent_us;        /* of a PING, for its PONG */
    uint64_t at_us;          /* when it arrives */
    struct event *event;     /* NULL: held back */
    size_t n;
    uint8_t bytes[];
};

struct end {
    struct cable *cable;
    struct net *net;                /* NULL: that node has gone */
    struct place *place;            /* outlives the net */
    struct node_id id;              /* of that node */
    bool is_up, is_opening, is_cut; /* cut: a CUT is on its way here */
    uint64_t rx_us, bad_us;         /* bad: since when nothing can be heard; 0: it can */
    struct event *watch;
    /* towards this end: */
    struct letter *first, **last;
    size_t queued;
    uint64_t free_us, lane_us[LANES];
    char why[160];
};

/* One connection; end 0 made it. */
struct cable {
    struct cable *prev, *next;
    unsigned busy; /* calls that still need it */
    struct end end[2];
    bool has_hole; /* nothing comes through any more, and nobody says so */
};

struct parcel {
    struct parcel *next;
    size_t n;
    uint8_t bytes[];
};

struct peer {
    struct node_id id;
    struct end *end; /* ours, of the connection that is up */
    uint8_t hint[HINTS_MAX][ADDR_MAX];
    uint8_t hint_n[HINTS_MAX];
    unsigned n_hints;
    unsigned dials;
    struct parcel *first, **last; /* owned: wait for a connection */
    size_t waiting;
    uint64_t retry_ms, backoff_ms, ban_until_ms;
    uint64_t strike_ms[STRIKES];
    uint32_t rtt_us, rtt_last_us;
};

/* Something that happens later to a net, or not when it has gone by then. */
struct task {
    struct task *next;
    struct net *net;
    struct event *event;
    void (*run)(struct task *t);
    /* of a dial */
    bool is_dial, has_id, waits_up;
    struct node_id id;
    struct peer *peer;
    uint8_t addr[HINTS_MAX][ADDR_MAX];
    size_t addr_n[HINTS_MAX];
    unsigned n_addrs, at;
    uint64_t began_us;
    net_result *result;
    void *arg;
    /* of others */
    char why[160];
};

struct net {
    struct net *next; /* of all */
    struct net_config cfg;
    struct hub *hub;
    struct place *place;
    uint8_t addr[ADDR_MIN];
    uint16_t port;
    bool is_killed, closing;
    uint64_t instance;
    struct peer **peers; /* [n_peers] sorted by id, owned */
    uint32_t n_peers, cap_peers;
    struct task *tasks; /* owned */
    uv_timer_t tick;    /* holds the loop, as the real one's sockets do */
    void (*done)(void *arg);
    void *done_arg;
};

static struct sim {
    struct net *nets;
    struct cable *cables;
    size_t queue_max;
    unsigned jitter;
    struct clog {
        const struct place *from, *to;
        uint64_t until_us;
    } clog[CLOGS_MAX];
    unsigned n_clogs;
    struct net_sim_count count;
} sim;

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

/* --- paths --- */

static bool is_clogged(const struct place *from, const struct place *to)
{
    for (unsigned i = 0; i < sim.n_clogs; i++)
        if (sim.clog[i].from == from && sim.clog[i].to == to)
            return sim.clog[i].until_us > world_us();
    return false;
}

static bool path_open(const struct place *from, const struct place *to)
{
    if (from->host == to->host) return true;
    return from->group == to->group && !from->off && !to->off && !is_clogged(from, to);
}

static uint64_t distance_us(const struct place *a, const struct place *b)
{
    if (a->host == b->host) return LOOPBACK_US;
    uint32_t dx = a->x > b->x ? a->x - b->x : b->x - a->x;
    uint32_t dy = a->y > b->y ? a->y - b->y : b->y - a->y;
    return 100 + dx + dy;
}

static uint64_t jitter_us(uint64_t us)
{
    return draw_below(FOR_NET, us * sim.jitter / 100 + 20);
}

/* --- peers --- */

static uint32_t lower_bound(const struct net *n, const struct node_id *id)
{
    uint32_t lo = 0, hi = n->n_peers;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (memcmp(n->peers[mid]->id.b, id->b, ID_BYTES) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static struct peer *peer_find(const struct net *n, const struct node_id *id)
{
    uint32_t i = lower_bound(n, id);
    return i < n->n_peers && node_id_equal(&n->peers[i]->id, id) ? n->peers[i] : NULL;
}

static struct peer *peer_get(struct net *n, const struct node_id *id)
{
    struct peer *p = peer_find(n, id);
    if (p) return p;
    if (n->n_peers == n->cap_peers) {
        n->cap_peers = n->cap_peers ? 2 * n->cap_peers : 16;
        n->peers = realloc(n->peers, n->cap_peers * sizeof *n->peers);
        if (!n->peers) abort();
    }
    p = calloc(1, sizeof *p);
    if (!p) abort();
    p->id = *id;
    p->last = &p->first;
    p->rtt_us = p->rtt_last_us = UINT32_MAX;
    uint32_t at = lower_bound(n, id);
    memmove(&n->peers[at + 1], &n->peers[at], (n->n_peers - at) * sizeof *n->peers);
    n->peers[at] = p;
    n->n_peers++;
    return p;
}

static void drop_waiting(struct peer *p)
{
    while (p->first) {
        struct parcel *next = p->first->next;
        free(p->first);
        p->first = next;
    }
    p->last = &p->first;
    p->waiting = 0;
}

static bool is_banned(const struct net *n, const struct peer *p)
{
    return now_ms(n->hub) < p->ban_until_ms;
}

/* --- tasks --- */

static struct task *task_new(struct net *n, void (*run)(struct task *t))
{
    struct task *t = calloc(1, sizeof *t);
    if (!t) abort();
    t->net = n;
    t->run = run;
    t->next = n->tasks;
    n->tasks = t;
    return t;
}

static void task_free(struct task *t)
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

static void task_at(struct task *t, uint64_t us)
{
    assert(!t->event);
    t->event = world_at(t->net->place, us, on_task, t);
}

/* --- letters --- */

static struct end *other(const struct end *e)
{
    return &e->cable->end[e == &e->cable->end[0]];
}

static bool comes_through(const struct end *to)
{
    return !to->cable->has_hole && path_open(other(to)->place, to->place);
}

static void on_letter(void *arg);

/* Put a letter on the line, after all that it may not pass. */
static void dispatch(struct letter *l, uint64_t extra_us)
{
    struct end *to = &l->cable->end[l->to];
    const struct place *from = other(to)->place;
    uint64_t far = distance_us(from, to->place);
    uint64_t start = world_us() + extra_us > to->free_us ? world_us() + extra_us : to->free_us;
    start += l->n * 1000 / from->up_kb_s;
    to->free_us = start;
    uint64_t at = start + far + jitter_us(far);
    bool is_fence = l->kind == LETTER_UP || l->kind == LETTER_CUT;
    for (unsigned i = 0; i < LANES; i++)
        if ((is_fence || i == l->lane || i == l->rid_lane) && to->lane_us[i] > at)
            at = to->lane_us[i];
    for (unsigned i = 0; i < LANES; i++)
        if (is_fence || i == l->lane || i == l->rid_lane) to->lane_us[i] = at;
    l->at_us = at;
    l->event = world_at(to->place, at, on_letter, l);
}

static struct letter *post(struct end *to, enum letter_kind kind, size_t n)
{
    struct letter *l = calloc(1, sizeof *l + n);
    if (!l) abort();
    l->cable = to->cable;
    l->to = (unsigned)(to - to->cable->end);
    l->kind = kind;
    l->n = n;
    *to->last = l;
    to->last = &l->next;
    to->queued += n;
    return l;
}

static void send_letter(struct letter *l)
{
    if (comes_through(&l->cable->end[l->to])) dispatch(l, 0);
}

static void unlink_letter(struct end *to, struct letter *l)
{
    struct letter **at = &to->first;
    while (*at != l) at = &(*at)->next;
    *at = l->next;
    if (!*at) to->last = at;
    to->queued -= l->n;
}

static void drop_letters(struct end *to)
{
    while (to->first) {
        struct letter *l = to->first;
        unlink_letter(to, l);
        world_cancel(l->event);
        free(l);
    }
}

/* Which letters may not pass each other. */
static void choose_lanes(struct letter *l, const struct msg *m)
{
    struct slice s = { 0 };
    switch (m->type) {
    case MSG_SESS_OPEN: s = m->u.SESS_OPEN.session; break;
    case MSG_SESS_OK: s = m->u.SESS_OK.session; break;
    case MSG_ACT: s = m->u.ACT.session; break;
    case MSG_STEP_DONE: s = m->u.STEP_DONE.session; break;
    case MSG_KV_TRIM: s = m->u.KV_TRIM.session; break;
    case MSG_SESS_CLOSE: s = m->u.SESS_CLOSE.session; break;
    case MSG_SESS_FAIL: s = m->u.SESS_FAIL.session; break;
    default: break;
    }
    l->rid_lane = m->rid % LANES;
    l->lane = s.n == SESSION_BYTES ? s.p[0] % LANES : l->rid_lane;
    if (s.n == SESSION_BYTES && m->rid == 0) l->rid_lane = l->lane;
}

/* --- the end of connections --- */

static void cable_free_if_done(struct cable *c)
{
    if (c->busy) return;
    for (unsigned i = 0; i < 2; i++)
        if (c->end[i].is_up || c->end[i].is_opening || c->end[i].first) return;
    for (unsigned i = 0; i < 2; i++) world_cancel(c->end[i].watch);
    if (c->prev)
        c->prev->next = c->next;
    else
        sim.cables = c->next;
    if (c->next) c->next->prev = c->prev;
    free(c);
}

static void trace_peer(const struct node_id *id, bool up, const char *why)
{
    char name[NODE_ID_SHORT];
    if (!trace_is_on()) return;
    node_id_short(name, id);
    for (const struct net *n = sim.nets; n; n = n->next)
        if (node_id_equal(&n->cfg.me->id, id)) snprintf(name, sizeof name, "%s", n->place->name);
    trace("%s is %s%s", name, up ? "connected" : "gone: ", why);
}

static void tell_peer(struct net *n, const struct node_id *id, bool up, const char *why)
{
    if (n->closing || n->is_killed) return;
    trace_peer(id, up, why);
    n->cfg.on_peer(n->cfg.arg, id, up, why);
}

static void on_told_down(struct task *t)
{
    struct net *n = t->net;
    struct node_id id = t->id;
    char why[sizeof t->why];
    snprintf(why, sizeof why, "%s", t->why);
    task_free(t);
    tell_peer(n, &id, false, why);
}

/* The end is no longer up; the net knows, its owner is told by the caller. */
static void detach(struct end *e)
{
    e->is_up = false;
    world_cancel(e->watch);
    e->watch = NULL;
    drop_letters(e);
    struct peer *p = e->net ? peer_find(e->net, &other(e)->id) : NULL;
    if (!p || p->end != e) return;
    p->end = NULL;
    p->rtt_us = p->rtt_last_us = UINT32_MAX;
    drop_waiting(p);
}

/* A reset loses what is under way, from some moment on. */
static void lose_some(struct end *to)
{
    uint64_t from_us =
        world_us() + draw_below(FOR_NET, 2 * distance_us(other(to)->place, to->place));
    for (struct letter *l = to->first, *next; l; l = next) {
        next = l->next;
        bool is_late = !l->event || l->at_us >= from_us;
        if (!is_late) continue;
        unlink_letter(to, l);
        world_cancel(l->event);
        free(l);
    }
}

static void send_cut(struct end *to, const char *why, bool is_orderly)
{
    if (to->is_opening && to->first && to->first->kind == LETTER_UP) {
        to->is_opening = false; /* it never hears of this connection */
        drop_letters(to);
        return;
    }
    if (!to->is_up || to->is_cut) return;
    if (!is_orderly) lose_some(to);
    to->is_cut = true;
    snprintf(to->why, sizeof to->why, "%s", why);
    send_letter(post(to, LETTER_CUT, 0));
}

/* This end gives the connection up; its owner is told in a moment. */
static void close_end(struct end *e, const char *why, const char *said, bool is_orderly)
{
    if (!e->is_up) return;
    struct net *n = e->net;
    detach(e);
    if (n && !n->closing && !n->is_killed) {
        struct task *t = task_new(n, on_told_down);
        t->id = other(e)->id;
        snprintf(t->why, sizeof t->why, "%s", why);
        task_at(t, world_us());
    }
    send_cut(other(e), said, is_orderly);
    cable_free_if_done(e->cable);
}

/* --- silence --- */

static bool is_bad(const struct end *e)
{
    const struct end *o = other(e);
    return !comes_through(e) || !comes_through(o) || place_is_frozen(o->place) ||
           (!o->is_up && !o->is_opening);
}

static void on_watch(void *arg)
{
    struct end *e = arg;
    e->watch = NULL;
    if (!is_bad(e)) {
        e->bad_us = 0;
        return;
    }
    close_end(e, "it has not answered for 15 s", "it has not answered for 15 s", false);
}

static void refresh_end(struct end *e)
{
    if (!e->is_up) return;
    if (!is_bad(e)) {
        world_cancel(e->watch);
        e->watch = NULL;
        e->bad_us = 0;
    } else if (!e->bad_us) {
        e->bad_us = world_us();
        e->watch = world_at(e->place, world_us() + draw_from(FOR_NET, SILENT_MIN_US, SILENT_MAX_US),
                            on_watch, e);
    }
}

/* Letters that were held back go on, as when TCP tries again, and after them those that were sent
 * later. */
static void release_held(struct end *to)
{
    if (!comes_through(to)) return;
    uint64_t extra = 0;
    for (struct letter *l = to->first; l; l = l->next) {
        if (l->event && !extra) continue;
        if (!extra) extra = draw_from(FOR_NET, 1, 1500 * MS);
        world_cancel(l->event);
        dispatch(l, extra);
    }
}

static void refresh_cable(struct cable *c)
{
    for (unsigned i = 0; i < 2; i++) refresh_end(&c->end[i]);
    for (unsigned i = 0; i < 2; i++) release_held(&c->end[i]);
}

void net_sim_refresh(void)
{
    for (struct cable *c = sim.cables, *next; c; c = next) {
        next = c->next;
        refresh_cable(c);
    }
}

static void on_unclogged(void *arg)
{
    (void)arg;
    net_sim_refresh();
}

void net_sim_clog(const struct place *from, const struct place *to, uint64_t until_us)
{
    unsigned i = 0;
    while (i < sim.n_clogs && sim.clog[i].until_us > world_us()) i++;
    if (i == CLOGS_MAX) return;
    if (i == sim.n_clogs) sim.n_clogs++;
    sim.clog[i] = (struct clog){ from, to, until_us };
    net_sim_refresh();
    (void)world_at(NULL, until_us, on_unclogged, NULL);
}

void net_sim_unclog_all(void)
{
    sim.n_clogs = 0;
    net_sim_refresh();
}

bool net_sim_mishap(enum mishap m)
{
    unsigned n = 0;
    for (struct cable *c = sim.cables; c; c = c->next) n += c->end[0].is_up && c->end[1].is_up;
    if (n == 0) return false;
    uint64_t at = draw_below(FOR_FAULTS, n);
    struct cable *c = sim.cables;
    for (;; c = c->next)
        if (c->end[0].is_up && c->end[1].is_up && at-- == 0) break;
    trace("%s of the connection of %s and %s", m == MISHAP_RESET ? "reset" : "silent loss",
          c->end[0].place->name, c->end[1].place->name);
    if (m == MISHAP_RESET) {
        close_end(&c->end[draw_below(FOR_FAULTS, 2)], "connection reset", "connection reset",
                  false);
    } else {
        c->has_hole = true;
        refresh_cable(c);
    }
    return true;
}

/* --- arrivals --- */

static void mail_drop(struct note *n)
{
    free(n);
}

static struct mail *mail_new(const struct node_id *from, bool loopback, const void *p, size_t n)
{
    struct mail *m = calloc(1, sizeof *m + n);
    if (!m) abort();
    m->note = (struct note){ .drop = mail_drop };
    m->from = *from;
    m->loopback = loopback;
    m->n = n;
    memcpy(m->bytes, p, n);
    return m;
}

static void strike(struct net *n, struct peer *p, const char *what)
{
    uint64_t now = now_ms(n->hub);
    char name[NODE_ID_SHORT];
    node_id_short(name, &p->id);
    log_warn("net: %s: %s", name, what);
    if (net_sim_on_strike) net_sim_on_strike(n->place, what);
    memmove(&p->strike_ms[0], &p->strike_ms[1], sizeof p->strike_ms - sizeof p->strike_ms[0]);
    p->strike_ms[STRIKES - 1] = now;
    if (!p->strike_ms[0] || now - p->strike_ms[0] > STRIKES_MS) return;
    memset(p->strike_ms, 0, sizeof p->strike_ms);
    p->ban_until_ms = now + BAN_MS;
    if (p->end) close_end(p->end, "it broke the protocol three times", "banned by the peer", true);
}

/* A message in a few words, for the trace. */
static void trace_mail(const struct place *from, const struct msg *m)
{
    char text[120] = "";
    struct slice s = { 0 };
    if (!trace_is_on()) return;
    switch (m->type) {
    case MSG_SESS_OPEN: {
        const struct msg_SESS_OPEN *o = &m->u.SESS_OPEN;
        s = o->session;
        snprintf(text, sizeof text, "layers %u-%u, %u positions%s", (unsigned)o->layer_lo,
                 (unsigned)o->layer_hi - 1, (unsigned)o->max_tokens, o->next_id.n ? "" : ", last");
        break;
    }
    case MSG_ACT:
        s = m->u.ACT.session;
        snprintf(text, sizeof text, "rows %u + %u, step %u, wants %u", (unsigned)m->u.ACT.pos,
                 (unsigned)m->u.ACT.rows, (unsigned)m->u.ACT.step, (unsigned)m->u.ACT.want);
        break;
    case MSG_STEP_DONE:
        s = m->u.STEP_DONE.session;
        snprintf(text, sizeof text, "step %u", (unsigned)m->u.STEP_DONE.step);
        break;
    case MSG_SESS_OK: s = m->u.SESS_OK.session; break;
    case MSG_SESS_CLOSE: s = m->u.SESS_CLOSE.session; break;
    case MSG_SESS_FAIL:
        s = m->u.SESS_FAIL.session;
        snprintf(text, sizeof text, "%.*s", (int)m->u.SESS_FAIL.text.n,
                 (const char *)m->u.SESS_FAIL.text.p);
        break;
    case MSG_ERROR:
        snprintf(text, sizeof text, "%.*s", (int)m->u.ERROR.text.n,
                 (const char *)m->u.ERROR.text.p);
        break;
    case MSG_RECORDS: snprintf(text, sizeof text, "%u", m->u.RECORDS.records.n); break;
    default: break;
    }
    char session[8] = "";
    if (s.n == SESSION_BYTES)
        snprintf(session, sizeof session, " %02x%02x%02x", s.p[0], s.p[1], s.p[2]);
    trace("from %s: %s%s %s", from->name, message_find(m->type)->name, session, text);
}

static void take_mail(struct end *e, const struct letter *l)
{
    struct net *n = e->net;
    struct mail *m =
        mail_new(&other(e)->id, e->place->host == other(e)->place->host, l->bytes, l->n);
    struct why why;
    trace_bytes(l->bytes, l->n);
    enum err err = msg_decode(&m->m, slice_of(m->bytes, m->n), &why);
    if (!err) {
        trace_mail(other(e)->place, &m->m);
        n->cfg.on_mail(n->cfg.arg, m);
        return;
    }
    strike(n, peer_get(n, &m->from), why.text);
    mail_drop(&m->note);
}

static void send_waiting(struct net *n, struct peer *p);

static void ping(struct end *e)
{
    struct letter *l = post(other(e), LETTER_PING, 40);
    l->sent_us = world_us();
    send_letter(l);
}

/* What is to be told of an older connection comes before news of the next. */
static void tell_old_news(struct net *n, const struct node_id *id)
{
    for (struct task *t = n->tasks; t; t = t->next)
        if (t->run == on_told_down && node_id_equal(&t->id, id)) {
            on_told_down(t);
            return;
        }
}

static void come_up(struct end *e)
{
    struct net *n = e->net;
    struct peer *p = peer_get(n, &other(e)->id);
    struct node_id id = p->id;
    tell_old_news(n, &id);
    if (p->end) { /* it would not dial us if it still had that one */
        struct end *old = p->end;
        detach(old);
        cable_free_if_done(old->cable);
        tell_peer(n, &id, false, "it has connected anew");
        p = peer_get(n, &id);
    }
    e->is_opening = false;
    e->is_up = true;
    e->rx_us = world_us();
    p->end = e;
    p->backoff_ms = p->retry_ms = 0;
    refresh_cable(e->cable);
    send_waiting(n, p);
    ping(e);
    tell_peer(n, &id, true, "");
}

static void dials_met(struct net *n, const struct node_id *id);

static void take_letter(struct end *e, const struct letter *l)
{
    struct net *n = e->net;
    e->rx_us = world_us();
    switch (l->kind) {
    case LETTER_UP:
        come_up(e);
        if (e->net) dials_met(n, &other(e)->id);
        break;
    case LETTER_MAIL: take_mail(e, l); break;
    case LETTER_PING: {
        if (!other(e)->is_up) break;
        struct letter *pong = post(other(e), LETTER_PONG, 40);
        pong->sent_us = l->sent_us;
        send_letter(pong);
        break;
    }
    case LETTER_PONG: {
        struct peer *p = peer_get(n, &other(e)->id);
        uint32_t us = (uint32_t)(world_us() - l->sent_us);
        p->rtt_last_us = us;
        p->rtt_us = p->rtt_us == UINT32_MAX ? us : (uint32_t)(((uint64_t)p->rtt_us * 7 + us) / 8);
        break;
    }
    case LETTER_CUT: {
        struct node_id id = other(e)->id;
        char why[sizeof e->why];
        snprintf(why, sizeof why, "%s", e->why);
        detach(e);
        tell_peer(n, &id, false, why);
        break;
    }
    }
}

/* Is one held back that was sent before? */
static bool is_behind(const struct end *e, const struct letter *l)
{
    const struct letter *k = e->first;
    while (k != l && k->event) k = k->next;
    return k != l;
}

static void on_letter(void *arg)
{
    struct letter *l = arg;
    struct cable *c = l->cable;
    struct end *e = &c->end[l->to];
    l->event = NULL;
    if (!comes_through(e) || is_behind(e, l)) return; /* held back from now on */
    unlink_letter(e, l);
    c->busy++;
    if (e->net && !e->net->closing && (e->is_up || l->kind == LETTER_UP)) take_letter(e, l);
    free(l);
    c->busy--;
    cable_free_if_done(c);
}

/* --- sending --- */

static enum err send_bytes(struct net *n, struct peer *p, const struct msg *m, const void *bytes,
                           size_t len)
{
    struct end *to = other(p->end);
    if (to->queued + len > sim.queue_max) return ERR_FULL;
    if (!to->is_up && !to->is_opening) return ERR_OK; /* it goes where nobody is */
    struct letter *l = post(to, LETTER_MAIL, len);
    if (m) choose_lanes(l, m);
    memcpy(l->bytes, bytes, len);
    if (n->place->host != to->place->host) {
        sim.count.messages++;
        sim.count.bytes += len;
    }
    send_letter(l);
    return ERR_OK;
}

static void send_waiting(struct net *n, struct peer *p)
{
    while (p->first && p->end) {
        struct parcel *k = p->first;
        struct msg m;
        if (msg_decode(&m, slice_of(k->bytes, k->n), NULL)) abort();
        if (send_bytes(n, p, &m, k->bytes, k->n)) {
            close_end(p->end, "no room for what waited", "connection reset", false);
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
    task_free(t);
    trace_mail(n->place, &m->m);
    n->cfg.on_mail(n->cfg.arg, m);
}

static enum err send_to_self(struct net *n, const uint8_t *bytes, size_t len)
{
    struct mail *m = mail_new(&n->cfg.me->id, true, bytes, len);
    if (msg_decode(&m->m, slice_of(m->bytes, len), NULL)) abort();
    struct task *t = task_new(n, to_self);
    t->arg = m;
    task_at(t, world_us());
    return ERR_OK;
}

static enum err dial_hints(struct net *n, struct peer *p);

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
    struct peer *p = peer_find(n, id);
    if (!e && (!p || is_banned(n, p))) e = ERR_NOTFOUND;
    if (!e && !p->end && !p->dials) e = dial_hints(n, p);
    if (!e && p->end && !p->first) {
        e = send_bytes(n, p, &lie, bytes, len);
        if (lie.type == MSG_RECORDS || lie.type == MSG_RECORDS_GET) sim.count.control += len;
    } else if (!e && p->waiting + len > sim.queue_max) {
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
    struct peer *p = peer_find(n, id);
    if (!p || !p->end) return;
    uint8_t junk[64];
    for (size_t i = 0; i < sizeof junk; i++) junk[i] = (uint8_t)draw(FOR_LIES);
    if (draw_is(FOR_LIES, 50)) junk[0] = 0x93, junk[1] = MSG_ACT, junk[2] = 0;
    if (send_bytes(n, p, NULL, junk, draw_from(FOR_LIES, 1, sizeof junk))) return;
}

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
    for (struct net *k = sim.nets; k; k = k->next)
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
    task_free(t);
    if (e && !result) {
        p->backoff_ms = p->backoff_ms ? p->backoff_ms * 2 : BACKOFF_MIN_MS;
        if (p->backoff_ms > BACKOFF_MAX_MS) p->backoff_ms = BACKOFF_MAX_MS;
        p->retry_ms = now_ms(n->hub) + p->backoff_ms;
    }
    if (e && p && p->first && !p->end && !p->dials && (!result || dial_hints(n, p))) {
        drop_waiting(p);
        tell_peer(n, &id, false, why);
    }
    if (result) result(arg, has_id ? &id : NULL, e, why);
}

static void on_syn(struct task *t);

static void next_addr(struct task *t, enum err e, const char *why)
{
    if (++t->at < t->n_addrs) {
        t->began_us = world_us();
        t->run = on_syn;
        task_at(t, world_us());
    } else {
        dial_end(t, e, why);
    }
}

static void on_no_answer(struct task *t)
{
    next_addr(t, ERR_TIMEOUT, "no answer within 5 s");
}

static void dials_met(struct net *n, const struct node_id *id)
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
    c->next = sim.cables;
    if (c->next) c->next->prev = c;
    sim.cables = c;
    c->end[0].is_up = true;
    c->end[1].is_opening = true;
    send_letter(post(&c->end[1], LETTER_UP, 100));

    struct peer *p = peer_get(n, &target->cfg.me->id);
    struct node_id id = p->id;
    tell_old_news(n, &id);
    p->end = &c->end[0];
    p->backoff_ms = p->retry_ms = 0;
    refresh_cable(c);
    send_waiting(n, p);
    ping(&c->end[0]);
    t->id = id;
    t->has_id = true;
    struct task *up = t;
    net_result *result = t->result;
    void *arg = t->arg;
    if (t->peer) t->peer->dials--;
    task_free(up);
    tell_peer(n, &id, true, "");
    if (result) result(arg, &id, ERR_OK, "");
}

/* A connection that the target has made to us, which is not here yet. */
static bool is_coming(const struct net *n, const struct net *target)
{
    for (const struct cable *c = sim.cables; c; c = c->next)
        if (c->end[0].net == target && c->end[1].net == n && c->end[0].is_up &&
            c->end[1].is_opening)
            return true;
    return false;
}

static void on_handshake(struct task *t)
{
    struct net *n = t->net, *target = net_at(t->addr[t->at], t->addr_n[t->at]);
    struct peer *p;
    if (!target || !path_open(n->place, target->place) || place_is_frozen(target->place)) {
        t->run = on_no_answer;
        task_at(t, t->began_us + CONNECT_US);
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
    p = peer_find(target, &n->cfg.me->id);
    bool is_refused = p && is_banned(target, p);
    p = peer_get(n, &target->cfg.me->id);
    if (is_refused || is_banned(n, p)) {
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
        task_at(t, t->began_us + CONNECT_US);
        return;
    }
    connect_to(t, target);
}

static void on_syn(struct task *t)
{
    const struct place *there = NULL;
    for (const struct net *k = sim.nets; k && !there; k = k->next)
        if (memcmp(k->addr, t->addr[t->at], ADDR_MIN) == 0) there = k->place;
    struct net *target = net_at(t->addr[t->at], t->addr_n[t->at]);
    uint64_t far = there ? distance_us(t->net->place, there) : 20 * MS;
    if (!there || there->off || !path_open(t->net->place, there)) {
        t->run = on_no_answer;
        task_at(t, t->began_us + CONNECT_US);
    } else if (!target) {
        next_addr(t, ERR_CLOSED, "connection refused");
    } else {
        t->run = on_handshake;
        task_at(t, world_us() + 2 * far);
    }
}

/* A failure is said from the loop, never from inside the call. */
static void begin_dial(struct task *t)
{
    t->is_dial = true;
    t->began_us = world_us();
    const struct place *there = NULL;
    for (const struct net *k = sim.nets; k && !there; k = k->next)
        if (memcmp(k->addr, t->addr[0], ADDR_MIN) == 0) there = k->place;
    uint64_t far = there ? distance_us(t->net->place, there) : 20 * MS;
    task_at(t, world_us() + 2 * far + jitter_us(far));
}

static enum err dial_hints(struct net *n, struct peer *p)
{
    if (!p->n_hints || now_ms(n->hub) < p->retry_ms) return ERR_NOTFOUND;
    struct task *t = task_new(n, on_syn);
    t->has_id = true;
    t->id = p->id;
    t->peer = p;
    t->n_addrs = p->n_hints;
    for (unsigned i = 0; i < p->n_hints; i++) {
        memcpy(t->addr[i], p->hint[i], p->hint_n[i]);
        t->addr_n[i] = p->hint_n[i];
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
        struct task *t = task_new(n, on_syn);
        t->has_id = id != NULL;
        if (id) t->id = *id;
        t->peer = id ? peer_get(n, id) : NULL;
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
    if ((addr.n != ADDR_MIN && addr.n != ADDR_MAX) || n->closing) return;
    if (node_id_equal(id, &n->cfg.me->id)) return;
    struct peer *p = peer_get(n, id);
    p->retry_ms = p->backoff_ms = 0;
    unsigned at = 0;
    while (at < p->n_hints && (p->hint_n[at] != addr.n || memcmp(p->hint[at], addr.p, addr.n) != 0))
        at++;
    if (at == p->n_hints) {
        if (p->n_hints < HINTS_MAX) p->n_hints++;
        at = p->n_hints - 1;
    }
    memmove(&p->hint[1], &p->hint[0], at * sizeof p->hint[0]);
    memmove(&p->hint_n[1], &p->hint_n[0], at);
    memcpy(p->hint[0], addr.p, addr.n);
    p->hint_n[0] = (uint8_t)addr.n;
}

/* --- questions --- */

uint16_t net_port(const struct net *n)
{
    return n->port;
}

bool net_is_up(const struct net *n, const struct node_id *id)
{
    if (node_id_equal(id, &n->cfg.me->id)) return !n->closing;
    const struct peer *p = peer_find(n, id);
    return p && p->end;
}

struct slice net_addr(const struct net *n, const struct node_id *id)
{
    static const uint8_t loopback[ADDR_MIN] = { 127, 0, 0, 1, 1, 1 };
    static uint8_t addr[ADDR_MIN];
    const struct peer *p = peer_find(n, id);
    if (!p || !p->end) return slice_of(NULL, 0);
    const struct end *o = other(p->end);
    if (o->place->host == n->place->host) return slice_of(loopback, ADDR_MIN);
    return net_sim_addr(o->place->host, 4000, addr);
}

/* Nothing ever waits long enough here to tell. */
uint32_t net_uplink_kbit(const struct net *n)
{
    (void)n;
    return 0;
}

uint32_t net_rtt_us(const struct net *n, const struct node_id *id)
{
    if (node_id_equal(id, &n->cfg.me->id)) return 0;
    const struct peer *p = peer_find(n, id);
    return p && p->end ? p->rtt_us : UINT32_MAX;
}

/* PINGs of an idle connection are not simulated one by one: where it is well, something has been
 * heard in the last 5 s. */
uint64_t net_silent_ms(const struct net *n, const struct node_id *id)
{
    if (node_id_equal(id, &n->cfg.me->id)) return 0;
    const struct peer *p = peer_find(n, id);
    if (!p || !p->end) return UINT64_MAX;
    uint64_t heard = p->end->rx_us, well = p->end->bad_us ? p->end->bad_us : world_us();
    if (well - heard > PING_US && well > heard) heard = well - (well - heard) % PING_US;
    return (world_us() - heard) / MS;
}

void net_ping(struct net *n, const struct node_id *id)
{
    const struct peer *p = peer_find(n, id);
    if (!p || !p->end) return;
    struct end *to = other(p->end);
    if (!to->is_up && !to->is_opening) return;
    for (const struct letter *l = to->first; l; l = l->next)
        if (l->kind == LETTER_PING) return; /* one is on its way */
    ping(p->end);
}

void net_strike(struct net *n, const struct node_id *id, const char *what)
{
    struct peer *p = peer_find(n, id);
    if (p && !n->closing) strike(n, p, what);
}

bool net_is_banned(const struct net *n, const struct node_id *id)
{
    const struct peer *p = peer_find(n, id);
    return p && is_banned(n, p);
}

void net_ban(struct net *n, const struct node_id *id, uint64_t ms, const char *why)
{
    struct peer *p = peer_get(n, id);
    p->ban_until_ms = now_ms(n->hub) + ms;
    if (p->end) close_end(p->end, why, "banned by the peer", true);
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
    const struct peer *p = peer_find(n, id);
    return p && p->end && p->end == &p->end->cable->end[0];
}

/* Not counted by peer: nobody here asks. */
struct traffic net_traffic(const struct net *n, const struct node_id *id)
{
    (void)n, (void)id;
    return (struct traffic){ sim.count.bytes, sim.count.bytes };
}

uint32_t net_probe_us(struct net *n, const struct node_id *id)
{
    const struct peer *p = peer_find(n, id);
    if (!p || !p->end) return UINT32_MAX;
    net_ping(n, id);
    return p->rtt_last_us;
}

/* Tiles are not simulated: nothing waits, and what may go is as much as wants to. */
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
    return sim.count;
}

const struct identity *net_sim_identity(const struct net *n)
{
    return n->cfg.me;
}

/* --- life --- */

/* Who was connected to the process that was here before is told by the first packet he sends. */
static void reset_old_ones(const struct net *n)
{
    for (struct cable *c = sim.cables; c; c = c->next)
        for (unsigned i = 0; i < 2; i++) {
            const struct end *here = &c->end[i];
            if (here->net || here->place != n->place) continue;
            send_cut(&c->end[!i], "connection reset", false);
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
    n->next = sim.nets;
    sim.nets = n;
    reset_old_ones(n);
    *out = n;
    return ERR_OK;
}

static void on_tick_closed(uv_handle_t *h)
{
    struct net *n = h->data;
    void (*done)(void *) = n->done;
    void *arg = n->done_arg;
    struct net **at = &sim.nets;
    while (*at != n) at = &(*at)->next;
    *at = n->next;
    for (uint32_t i = 0; i < n->n_peers; i++) {
        drop_waiting(n->peers[i]);
        free(n->peers[i]);
    }
    free(n->peers);
    free(n);
    if (done) done(arg);
}

/* Its ends close; what it said before still arrives, unless that is a reset's. */
static void leave_all(struct net *n, const char *said, bool is_orderly, bool is_silent)
{
    for (struct cable *c = sim.cables, *next; c; c = next) {
        next = c->next;
        for (unsigned i = 0; i < 2; i++) {
            struct end *e = &c->end[i];
            if (e->net != n) continue;
            bool was_up = e->is_up;
            detach(e);
            e->is_opening = false;
            drop_letters(e);
            e->net = NULL;
            if (was_up && !is_silent) send_cut(other(e), said, is_orderly);
            if (!is_silent) continue;
            other(e)->is_opening = false;
            drop_letters(other(e)); /* nobody sends them again */
        }
        for (unsigned i = 0; i < 2; i++) refresh_end(&c->end[i]);
        cable_free_if_done(c);
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
        task_free(t);
        if (is_self) mail_drop(&((struct mail *)result_arg)->note);
        if (result) result(result_arg, has_id ? &id : NULL, ERR_CANCELLED, "this node is closing");
    }
    uv_close((uv_handle_t *)&n->tick, on_tick_closed);
}

void net_sim_begin(size_t queue_max, unsigned jitter_percent)
{
    memset(&sim, 0, sizeof sim);
    sim.queue_max = queue_max;
    sim.jitter = jitter_percent;
    net_sim_on_send = NULL;
    net_sim_on_strike = NULL;
}

void net_sim_end(void)
{
    while (sim.cables) {
        struct cable *c = sim.cables;
        for (unsigned i = 0; i < 2; i++) {
            c->end[i].is_up = c->end[i].is_opening = false;
            drop_letters(&c->end[i]);
        }
        cable_free_if_done(c);
    }
}
