/* line_sim.c - simulated connections: what is on its way, what holds it back, how they end. */
#include "tests/sim/net_impl.h"

#include "base/log.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* --- paths --- */

static bool is_clogged(const struct place *from, const struct place *to)
{
    for (unsigned i = 0; i < lines.n_clogs; i++)
        if (lines.clog[i].from == from && lines.clog[i].to == to)
            return lines.clog[i].until_us > world_us();
    return false;
}

bool line_path_open(const struct place *from, const struct place *to)
{
    if (from->host == to->host) return true;
    return from->group == to->group && !from->off && !to->off && !is_clogged(from, to);
}

uint64_t line_distance_us(const struct place *a, const struct place *b)
{
    if (a->host == b->host) return LOOPBACK_US;
    uint32_t dx = a->x > b->x ? a->x - b->x : b->x - a->x;
    uint32_t dy = a->y > b->y ? a->y - b->y : b->y - a->y;
    return 100 + dx + dy;
}

uint64_t line_jitter_us(uint64_t us)
{
    return draw_below(FOR_NET, us * lines.jitter / 100 + 20);
}

/* --- letters --- */

static bool comes_through(const struct end *to)
{
    return !to->cable->has_hole && line_path_open(line_other(to)->place, to->place);
}

static void on_letter(void *arg);

/* Put a letter on the line, after all that it may not pass. */
static void dispatch(struct letter *l, uint64_t extra_us)
{
    struct end *to = &l->cable->end[l->to];
    const struct place *from = line_other(to)->place;
    uint64_t far = line_distance_us(from, to->place);
    uint64_t start = world_us() + extra_us > to->free_us ? world_us() + extra_us : to->free_us;
    start += l->n * 1000 / from->up_kb_s;
    to->free_us = start;
    uint64_t at = start + far + line_jitter_us(far);
    bool is_fence = l->kind == LETTER_UP || l->kind == LETTER_CUT;
    for (unsigned i = 0; i < LANES; i++)
        if ((is_fence || i == l->lane || i == l->rid_lane) && to->lane_us[i] > at)
            at = to->lane_us[i];
    for (unsigned i = 0; i < LANES; i++)
        if (is_fence || i == l->lane || i == l->rid_lane) to->lane_us[i] = at;
    l->at_us = at;
    l->event = world_at(to->place, at, on_letter, l);
}

struct letter *line_post(struct end *to, enum letter_kind kind, size_t n)
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

void line_send_letter(struct letter *l)
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

void line_drop_letters(struct end *to)
{
    while (to->first) {
        struct letter *l = to->first;
        unlink_letter(to, l);
        world_cancel(l->event);
        free(l);
    }
}

/* Which letters may not pass each other. */
void line_choose_lanes(struct letter *l, const struct msg *m)
{
    struct slice s = { 0 };
    switch (m->type) {
    case MSG_SESS_OPEN: s = m->u.SESS_OPEN.session; break;
    case MSG_SESS_OK: s = m->u.SESS_OK.session; break;
    case MSG_ACT: s = m->u.ACT.session; break;
    case MSG_STEP_DONE: s = m->u.STEP_DONE.session; break;
    case MSG_PREFIX: s = m->u.PREFIX.session; break;
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

void line_cable_free_if_done(struct cable *c)
{
    if (c->busy) return;
    for (unsigned i = 0; i < 2; i++)
        if (c->end[i].is_up || c->end[i].is_opening || c->end[i].first) return;
    for (unsigned i = 0; i < 2; i++) world_cancel(c->end[i].watch);
    if (c->prev)
        c->prev->next = c->next;
    else
        lines.cables = c->next;
    if (c->next) c->next->prev = c->prev;
    free(c);
}

static void trace_peer(const struct node_id *id, bool up, const char *why)
{
    char name[NODE_ID_SHORT];
    if (!trace_is_on()) return;
    node_id_short(name, id);
    for (const struct net *n = lines.nets; n; n = n->next)
        if (node_id_equal(&n->cfg.me->id, id)) snprintf(name, sizeof name, "%s", n->place->name);
    trace("%s is %s%s", name, up ? "connected" : "gone: ", why);
}

void line_tell_peer(struct net *n, const struct node_id *id, bool up, const char *why)
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
    line_task_free(t);
    line_tell_peer(n, &id, false, why);
}

/* The end is no longer up; the net knows, its owner is told by the caller. */
void line_detach(struct end *e)
{
    e->is_up = false;
    world_cancel(e->watch);
    e->watch = NULL;
    line_drop_letters(e);
    struct peer *p = e->net ? sim_peer_find(e->net, &line_other(e)->id) : NULL;
    if (!p || p->end != e) return;
    p->end = NULL;
    p->rtt_us = p->rtt_last_us = UINT32_MAX;
    line_drop_waiting(p);
}

/* A reset loses what is under way, from some moment on. */
static void lose_some(struct end *to)
{
    uint64_t from_us =
        world_us() + draw_below(FOR_NET, 2 * line_distance_us(line_other(to)->place, to->place));
    for (struct letter *l = to->first, *next; l; l = next) {
        next = l->next;
        bool is_late = !l->event || l->at_us >= from_us;
        if (!is_late) continue;
        unlink_letter(to, l);
        world_cancel(l->event);
        free(l);
    }
}

void line_send_cut(struct end *to, const char *why, bool is_orderly)
{
    if (to->is_opening && to->first && to->first->kind == LETTER_UP) {
        to->is_opening = false; /* it never hears of this connection */
        line_drop_letters(to);
        return;
    }
    if (!to->is_up || to->is_cut) return;
    if (!is_orderly) lose_some(to);
    to->is_cut = true;
    snprintf(to->why, sizeof to->why, "%s", why);
    line_send_letter(line_post(to, LETTER_CUT, 0));
}

/* This end gives the connection up; its owner is told in a moment. */
void line_close_end(struct end *e, const char *why, const char *said, bool is_orderly)
{
    if (!e->is_up) return;
    struct net *n = e->net;
    line_detach(e);
    if (n && !n->closing && !n->is_killed) {
        struct task *t = line_task_new(n, on_told_down);
        t->id = line_other(e)->id;
        snprintf(t->why, sizeof t->why, "%s", why);
        line_task_at(t, world_us());
    }
    line_send_cut(line_other(e), said, is_orderly);
    line_cable_free_if_done(e->cable);
}

/* --- silence --- */

static bool is_bad(const struct end *e)
{
    const struct end *o = line_other(e);
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
    line_close_end(e, "it has not answered for 15 s", "it has not answered for 15 s", false);
}

void line_refresh_end(struct end *e)
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

void line_refresh_cable(struct cable *c)
{
    for (unsigned i = 0; i < 2; i++) line_refresh_end(&c->end[i]);
    for (unsigned i = 0; i < 2; i++) release_held(&c->end[i]);
}

void net_sim_refresh(void)
{
    for (struct cable *c = lines.cables, *next; c; c = next) {
        next = c->next;
        line_refresh_cable(c);
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
    while (i < lines.n_clogs && lines.clog[i].until_us > world_us()) i++;
    if (i == CLOGS_MAX) return;
    if (i == lines.n_clogs) lines.n_clogs++;
    lines.clog[i] = (struct clog){ from, to, until_us };
    net_sim_refresh();
    (void)world_at(NULL, until_us, on_unclogged, NULL);
}

void net_sim_unclog_all(void)
{
    lines.n_clogs = 0;
    net_sim_refresh();
}

bool net_sim_mishap(enum mishap m)
{
    unsigned n = 0;
    for (struct cable *c = lines.cables; c; c = c->next) n += c->end[0].is_up && c->end[1].is_up;
    if (n == 0) return false;
    uint64_t at = draw_below(FOR_FAULTS, n);
    struct cable *c = lines.cables;
    for (;; c = c->next)
        if (c->end[0].is_up && c->end[1].is_up && at-- == 0) break;
    trace("%s of the connection of %s and %s", m == MISHAP_RESET ? "reset" : "silent loss",
          c->end[0].place->name, c->end[1].place->name);
    if (m == MISHAP_RESET) {
        line_close_end(&c->end[draw_below(FOR_FAULTS, 2)], "connection reset", "connection reset",
                       false);
    } else {
        c->has_hole = true;
        line_refresh_cable(c);
    }
    return true;
}

/* --- arrivals --- */

void line_mail_drop(struct note *n)
{
    free(n);
}

struct mail *line_mail_new(const struct node_id *from, bool loopback, const void *p, size_t n)
{
    struct mail *m = calloc(1, sizeof *m + n);
    if (!m) abort();
    m->note = (struct note){ .drop = line_mail_drop };
    m->from = *from;
    m->loopback = loopback;
    m->n = n;
    memcpy(m->bytes, p, n);
    return m;
}

void line_strike(struct net *n, struct peer *p, const char *what)
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
    if (p->end)
        line_close_end(p->end, "it broke the protocol three times", "banned by the peer", true);
}

/* A message in a few words, for the trace. */
void line_trace_mail(const struct place *from, const struct msg *m)
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
    case MSG_SESS_OK:
        s = m->u.SESS_OK.session;
        snprintf(text, sizeof text, "knows %u", (unsigned)m->u.SESS_OK.known);
        break;
    case MSG_PREFIX: s = m->u.PREFIX.session; break;
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
    struct mail *m = line_mail_new(&line_other(e)->id, e->place->host == line_other(e)->place->host,
                                   l->bytes, l->n);
    struct why why;
    trace_bytes(l->bytes, l->n);
    enum err err = msg_decode(&m->m, slice_of(m->bytes, m->n), &why);
    if (!err) {
        line_trace_mail(line_other(e)->place, &m->m);
        n->cfg.on_mail(n->cfg.arg, m);
        return;
    }
    line_strike(n, sim_peer_get(n, &m->from), why.text);
    line_mail_drop(&m->note);
}

void line_ping(struct end *e)
{
    struct letter *l = line_post(line_other(e), LETTER_PING, 40);
    l->sent_us = world_us();
    line_send_letter(l);
}

/* What is to be told of an older connection comes before news of the next. */
void line_tell_old_news(struct net *n, const struct node_id *id)
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
    struct peer *p = sim_peer_get(n, &line_other(e)->id);
    struct node_id id = p->id;
    line_tell_old_news(n, &id);
    if (p->end) { /* it would not dial us if it still had that one */
        struct end *old = p->end;
        line_detach(old);
        line_cable_free_if_done(old->cable);
        line_tell_peer(n, &id, false, "it has connected anew");
        p = sim_peer_get(n, &id);
    }
    e->is_opening = false;
    e->is_up = true;
    e->rx_us = world_us();
    p->end = e;
    p->backoff_ms = p->retry_ms = 0;
    line_refresh_cable(e->cable);
    line_send_waiting(n, p);
    line_ping(e);
    line_tell_peer(n, &id, true, "");
}

static void take_letter(struct end *e, const struct letter *l)
{
    struct net *n = e->net;
    e->rx_us = world_us();
    switch (l->kind) {
    case LETTER_UP:
        come_up(e);
        if (e->net) line_dials_met(n, &line_other(e)->id);
        break;
    case LETTER_MAIL: take_mail(e, l); break;
    case LETTER_PING: {
        if (!line_other(e)->is_up) break;
        struct letter *pong = line_post(line_other(e), LETTER_PONG, 40);
        pong->sent_us = l->sent_us;
        line_send_letter(pong);
        break;
    }
    case LETTER_PONG: {
        struct peer *p = sim_peer_get(n, &line_other(e)->id);
        uint32_t us = (uint32_t)(world_us() - l->sent_us);
        p->rtt_last_us = us;
        p->rtt_us = p->rtt_us == UINT32_MAX ? us : (uint32_t)(((uint64_t)p->rtt_us * 7 + us) / 8);
        break;
    }
    case LETTER_CUT: {
        struct node_id id = line_other(e)->id;
        char why[sizeof e->why];
        snprintf(why, sizeof why, "%s", e->why);
        line_detach(e);
        line_tell_peer(n, &id, false, why);
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
    line_cable_free_if_done(c);
}
