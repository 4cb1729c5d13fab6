#include "stage/group_impl.h"

#include "base/log.h"
#include "net/words.h"
#include "proto/identity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TICK_MS = 250 };

uint32_t group_next_rid(struct group *g)
{
    if (++g->rid == 0) g->rid = 1;
    return g->rid;
}

static uint64_t now(const struct group *g)
{
    return now_ms(g->c.hub);
}

/* --- deals --- */

/* Somebody came or went. */
static void deal(struct group *g)
{
    struct deal *d;
    if (deal_make(&d, g)) {
        log_warn("no memory to deal the layers anew");
        return;
    }
    pthread_mutex_lock(&g->box.lock);
    struct deal *old = g->box.now;
    g->box.now = d;
    pthread_mutex_unlock(&g->box.lock);
    deal_drop(old);
}

uint32_t group_n(const struct group *g)
{
    uint32_t n = 0;
    for (unsigned i = 0; i < GROUP_MEMBERS_MAX; i++) n += g->mate[i].state == MATE_IN;
    return n;
}

struct node_id group_nth(const struct group *g, uint32_t n)
{
    unsigned i = 0;
    while (g->mate[i].state != MATE_IN || n-- > 0) i++;
    return g->mate[i].id;
}

/* --- messages out --- */

void group_send_close(struct group *g, const struct mate *m, uint32_t number)
{
    struct msg c = { .type = MSG_SHARE_CLOSE };
    c.u.SHARE_CLOSE.share = slice_of(m->share, SESSION_BYTES);
    c.u.SHARE_CLOSE.number = number;
    /* A member that cannot be told finds out: its connection to us is gone. */
    if (net_send(g->c.net, &m->id, &c)) log_debug("a member could not be told to close");
}

static void on_tick(uv_timer_t *t);

/* m owes us one more answer. */
static void owe(struct group *g, struct mate *m)
{
    if (m->n_owed++ == 0) {
        m->owes_ms = now(g);
        m->asked_ms = 0;
    }
    if (!uv_is_active((uv_handle_t *)g->timer)) uv_timer_start(g->timer, on_tick, TICK_MS, TICK_MS);
}

/* It has answered. */
static void paid(struct group *g, struct mate *m)
{
    if (m->n_owed > 0) m->n_owed--;
    m->owes_ms = now(g);
    m->asked_ms = 0;
}

enum err group_send_open(struct group *g, struct mate *m, uint32_t rid, uint32_t number,
                         const struct uints *parts, uint32_t tokens)
{
    struct msg o = { .type = MSG_SHARE_OPEN, .rid = rid };
    o.u.SHARE_OPEN.share = slice_of(m->share, SESSION_BYTES);
    o.u.SHARE_OPEN.number = number;
    o.u.SHARE_OPEN.model = slice_of(g->c.weights->name.id.b, ID_BYTES);
    if (parts) o.u.SHARE_OPEN.parts = *parts;
    o.u.SHARE_OPEN.max_tokens = tokens;
    enum err e = net_send(g->c.net, &m->id, &o);
    if (!e) owe(g, m);
    return e;
}

/* --- a member that is lost --- */

static void fail_rounds(struct group *g, unsigned hand, enum err e)
{
    for (struct round **at = &g->rounds; *at;) {
        struct round *r = *at;
        if (r->hand != hand) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        if (!r->next) g->last_round = at;
        round_reply(g, r, e);
    }
}

/* m is a member no more; it may be asked again after a while. */
static void lose(struct group *g, struct mate *m, const char *what)
{
    unsigned hand = 1 + (unsigned)(m - g->mate);
    bool was_in = m->state == MATE_IN;
    char id[NODE_ID_SHORT], text[300];
    if (m->state != MATE_IN && m->state != MATE_OPENING) return;
    node_id_short(id, &m->id);
    snprintf(text, sizeof text, "node %s, which shares layers with this one, %.200s", id, what);
    log_info("%s", text);
    group_send_close(g, m, 0);
    m->state = MATE_AWAY;
    m->retry_ms = now(g) + GROUP_RETRY_MS;
    m->n_owed = 0;
    m->owes_ms = m->asked_ms = 0;
    if (!was_in) return;
    deal(g); /* the thread must not find it there once its rounds have failed */
    fail_rounds(g, hand, ERR_CLOSED);
    group_lose_sessions(g, hand, m->gen, text);
    g->c.on_change(g->c.arg);
}

/* --- members come --- */

static void try_open(struct group *g, struct mate *m)
{
    if (g->stopping || m->state != MATE_AWAY || now(g) < m->retry_ms ||
        !net_is_up(g->c.net, &m->id))
        return;
    random_bytes(m->share, SESSION_BYTES);
    m->rid = group_next_rid(g);
    m->n_owed = 0;
    if (group_send_open(g, m, m->rid, 0, NULL, 0)) return;
    m->state = MATE_OPENING;
}

static struct mate *find_mate(struct group *g, const struct node_id *id)
{
    for (unsigned i = 0; i < GROUP_MEMBERS_MAX; i++)
        if (g->mate[i].state != MATE_NONE && node_id_equal(&g->mate[i].id, id)) return &g->mate[i];
    return NULL;
}

static enum err take_in(struct group *g, const struct group_want *want)
{
    struct mate *m = g->mate;
    while (m < g->mate + GROUP_MEMBERS_MAX && m->state != MATE_NONE) m++;
    if (m == g->mate + GROUP_MEMBERS_MAX) return ERR_OK; /* enough of them */
    uint32_t gen = m->gen;
    *m = (struct mate){ .state = MATE_AWAY, .id = want->id, .gen = gen };
    m->held = malloc((g->n_layers + 1) * sizeof *m->held);
    if (!m->held) {
        m->state = MATE_NONE;
        return ERR_NOMEM;
    }
    memcpy(m->held, want->held, g->n_layers * sizeof *m->held);
    m->layer_us = want->layer_us;
    m->no_heads = want->no_heads;
    return ERR_OK;
}

static bool is_wanted(const struct mate *m, const struct group_want *want, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (node_id_equal(&m->id, &want[i].id)) return true;
    return false;
}

enum err group_want(struct group *g, const struct group_want *want, uint32_t n, uint32_t own_us)
{
    enum err e = ERR_OK;
    bool is_new = false;
    g->own_us = own_us;
    for (unsigned i = 0; i < GROUP_MEMBERS_MAX; i++) {
        struct mate *m = &g->mate[i];
        if (m->state == MATE_NONE || is_wanted(m, want, n)) continue;
        lose(g, m, "is not needed any more");
        free(m->held);
        m->held = NULL;
        m->state = MATE_NONE;
    }
    for (uint32_t i = 0; i < n && !e; i++) {
        struct mate *m = find_mate(g, &want[i].id);
        if (!m) {
            e = take_in(g, &want[i]);
            continue;
        }
        size_t bytes = g->n_layers * sizeof *m->held;
        bool is_same = memcmp(m->held, want[i].held, bytes) == 0;
        is_same &= m->no_heads == want[i].no_heads;
        m->layer_us = want[i].layer_us;
        m->no_heads = want[i].no_heads;
        if (is_same) continue;
        memcpy(m->held, want[i].held, bytes);
        is_new |= m->state == MATE_IN;
    }
    if (is_new) deal(g);
    if (is_new) g->c.on_change(g->c.arg);
    for (unsigned i = 0; i < GROUP_MEMBERS_MAX; i++) try_open(g, &g->mate[i]);
    if (n > 0 && !uv_is_active((uv_handle_t *)g->timer))
        uv_timer_start(g->timer, on_tick, TICK_MS, TICK_MS);
    return e;
}

static void come_in(struct group *g, struct mate *m)
{
    char id[NODE_ID_SHORT];
    node_id_short(id, &m->id);
    log_info("sharing layers with %s", id);
    m->state = MATE_IN;
    if (++m->gen == 0) m->gen = 1;
    m->rid = 0;
    deal(g);
    g->c.on_change(g->c.arg);
}

/* --- rounds --- */

static void on_note(struct actor *a, struct note *n)
{
    struct group *g = (struct group *)a;
    struct round *r = (struct round *)n;
    struct mate *m = &g->mate[r->hand - 1];
    if (g->stopping || m->state != MATE_IN || m->gen != r->gen) {
        round_reply(g, r, ERR_CLOSED);
        return;
    }
    const struct share_work *w = &r->part.work;
    struct msg q = { .type = MSG_SHARE_WORK, .rid = r->rid = group_next_rid(g) };
    struct msg_SHARE_WORK *k = &q.u.SHARE_WORK;
    k->share = slice_of(m->share, SESSION_BYTES);
    k->layer = w->layer;
    k->kind = w->kind;
    k->lo = w->lo;
    k->hi = w->hi;
    k->lead = w->lead;
    k->rows = w->n;
    if (r->places) k->places = slice_of(r->places, (size_t)w->n * SHARE_PLACE_BYTES);
    k->picks = slice_of(w->picks, w->picks_len);
    k->x = slice_of(w->x, w->n * share_x_bytes(g->a, w->kind));
    r->sent_ms = now(g);
    r->next = NULL;
    *g->last_round = r;
    g->last_round = &r->next;
    owe(g, m);
    enum err e = net_send(g->c.net, &m->id, &q);
    if (e) lose(g, m, e == ERR_FULL ? "reads too slowly" : "cannot be reached");
}

static struct round **find_round(struct group *g, unsigned hand, uint32_t rid)
{
    for (struct round **at = &g->rounds; *at; at = &(*at)->next)
        if ((*at)->hand == hand && (*at)->rid == rid) return at;
    return NULL;
}

static void liar(struct group *g, struct mate *m, const char *what)
{
    net_strike(g->c.net, &m->id, what);
    lose(g, m, "broke the protocol");
}

/* The answer to a round, or some of it.  Takes in when it returns true. */
static bool on_done(struct group *g, struct mate *m, struct mail *in)
{
    const struct msg_SHARE_DONE *d = &in->m.u.SHARE_DONE;
    struct round **at = find_round(g, 1 + (unsigned)(m - g->mate), in->m.rid);
    struct round *r = at ? *at : NULL;
    if (!r || d->at != r->got || d->x.n > r->size - r->got) {
        liar(g, m, "an answer to what it was not asked");
        return false;
    }
    bool is_whole = d->x.n == r->size;
    if (!is_whole && !r->answer && !(r->answer = malloc(r->size))) {
        lose(g, m, "sent more than there is memory for");
        return false;
    }
    if (!is_whole) memcpy(r->answer + r->got, d->x.p, d->x.n);
    r->got += d->x.n;
    m->owes_ms = now(g);
    if (r->got < r->size) return false;
    counters_add(g->c.counters, COUNT_PIECES_TAKEN, r->part.work.n);
    counters_add(g->c.counters, COUNT_ROUNDS, 1);
    r->us = (uint32_t)d->us;
    if (is_whole) r->mail = in;
    *at = r->next;
    if (!r->next) g->last_round = at;
    paid(g, m);
    round_reply(g, r, ERR_OK);
    return is_whole;
}

/* --- answers to openings --- */

static void on_ok(struct group *g, struct mate *m, const struct mail *in)
{
    unsigned i = (unsigned)(m - g->mate);
    struct group_session *x = group_session_of(g, i, in->m.rid);
    paid(g, m);
    if (m->state == MATE_OPENING && in->m.rid == m->rid) {
        come_in(g, m);
    } else if (x) {
        group_session_answered(x, i, 0, NULL);
    } /* else: of a session that has been closed meanwhile */
}

static void on_fail(struct group *g, struct mate *m, const struct mail *in)
{
    const struct msg_SHARE_FAIL *f = &in->m.u.SHARE_FAIL;
    unsigned i = (unsigned)(m - g->mate);
    struct group_session *x = in->m.rid ? group_session_of(g, i, in->m.rid) : NULL;
    struct why why;
    if (!x) {
        fail(&why, ERR_CLOSED, "says: %.*s", (int)f->text.n, (const char *)f->text.p);
        lose(g, m, why.text);
        return;
    }
    fail(&why, ERR_CLOSED, "%.*s", (int)f->text.n, (const char *)f->text.p);
    paid(g, m);
    group_session_answered(x, i, (unsigned)f->code, why.text);
}

void group_on_mail(struct group *g, struct mail *in)
{
    struct mate *m = find_mate(g, &in->from);
    /* The three begin alike: with the share. */
    struct slice share = in->m.u.SHARE_OK.share;
    bool is_ours = m && (m->state == MATE_IN || m->state == MATE_OPENING) &&
                   memcmp(share.p, m->share, SESSION_BYTES) == 0;
    bool is_taken = false;
    if (is_ours && !g->stopping) { /* else: of a share that has ended */
        switch (in->m.type) {
        case MSG_SHARE_OK: on_ok(g, m, in); break;
        case MSG_SHARE_DONE: is_taken = on_done(g, m, in); break;
        case MSG_SHARE_FAIL: on_fail(g, m, in); break;
        default: break;
        }
    }
    if (!is_taken) in->note.drop(&in->note);
}

void group_on_peer(struct group *g, const struct node_id *id, bool up, const char *why)
{
    struct mate *m = find_mate(g, id);
    if (!m || g->stopping) return;
    char text[200];
    snprintf(text, sizeof text, "has gone%s%.150s", why && *why ? ": " : "", why ? why : "");
    if (up) m->retry_ms = 0;
    if (up)
        try_open(g, m);
    else
        lose(g, m, text);
}

/* --- who says nothing --- */

/* Has m been heard since it owes us something?  It answers a PING at once, whatever it computes. */
static void check_silence(struct group *g, struct mate *m)
{
    uint64_t t = now(g), silent = net_silent_ms(g->c.net, &m->id);
    if (m->n_owed == 0) return;
    if (silent < t - m->owes_ms) {
        m->owes_ms = t - silent;
        m->asked_ms = 0;
    } else if (!m->asked_ms) {
        if (t - m->owes_ms < GROUP_ASK_MS) return;
        m->asked_ms = t;
        net_ping(g->c.net, &m->id);
    } else if (t - m->asked_ms >= GROUP_UNANSWERED_MS) {
        lose(g, m, "does not answer");
    }
}

static void on_tick(uv_timer_t *t)
{
    struct group *g = t->data;
    bool is_needed = false;
    for (unsigned i = 0; i < GROUP_MEMBERS_MAX; i++) {
        struct mate *m = &g->mate[i];
        if (m->state == MATE_IN || m->state == MATE_OPENING) check_silence(g, m);
        if (m->state == MATE_AWAY) try_open(g, m);
        is_needed |= m->n_owed > 0 || m->state == MATE_AWAY;
    }
    if (g->rounds && now(g) - g->rounds->sent_ms > GROUP_ROUND_MS)
        lose(g, &g->mate[g->rounds->hand - 1], "computes nothing");
    if (!is_needed) uv_timer_stop(t);
}

/* --- life --- */

static enum err open_parts(struct group *g)
{
    const struct weights *w = g->c.weights;
    g->own = calloc(g->n_layers + 1, sizeof *g->own);
    g->timer = malloc(sizeof *g->timer);
    if (!g->own || !g->timer) return ERR_NOMEM;
    for (uint32_t l = 0; l < g->n_layers; l++)
        share_of(&g->own[l], g->a, &w->all[g->lo + l - w->all_lo]);
    enum err e = asking_open(g);
    if (!e) e = use_open(g);
    if (!e) e = deal_make(&g->box.now, g);
    return e ? e : actor_init(&g->actor, g->c.hub, "group", GROUP_LIVE_MAX * 4, on_note);
}

static void free_all(struct group *g)
{
    asking_close(g);
    use_close(g);
    deal_drop(g->box.now);
    pthread_mutex_destroy(&g->box.lock);
    for (unsigned i = 0; i < GROUP_MEMBERS_MAX; i++) free(g->mate[i].held);
    free(g->own);
    free(g);
}

enum err group_open(struct group **out, const struct group_config *c)
{
    struct group *g = calloc(1, sizeof *g);
    if (!g) return ERR_NOMEM;
    g->c = *c;
    g->a = &c->weights->manifest.arch;
    uint32_t hi;
    holding_led(&c->weights->held, &g->lo, &hi);
    g->n_layers = hi - g->lo;
    g->last_round = &g->rounds;
    pthread_mutex_init(&g->box.lock, NULL);
    enum err e = open_parts(g);
    if (e) {
        free(g->timer);
        free_all(g);
        return e;
    }
    uv_timer_init(&c->hub->loop, g->timer);
    g->timer->data = g;
    *out = g;
    return ERR_OK;
}

void group_serve(struct group *g, struct compute *c)
{
    g->compute = c;
}

void group_stop(struct group *g)
{
    g->stopping = true;
    for (unsigned i = 0; i < GROUP_MEMBERS_MAX; i++)
        if (g->mate[i].state == MATE_IN || g->mate[i].state == MATE_OPENING)
            group_send_close(g, &g->mate[i], 0);
    pthread_mutex_lock(&g->box.lock);
    g->box.is_closed = true;
    pthread_mutex_unlock(&g->box.lock);
    while (g->rounds) {
        struct round *r = g->rounds;
        g->rounds = r->next;
        round_free(r);
    }
    g->last_round = &g->rounds;
    uv_timer_stop(g->timer);
    if (g->compute) compute_wake(g->compute);
}

static void on_timer_closed(uv_handle_t *h)
{
    free(h);
}

void group_close(struct group *g)
{
    if (!g) return;
    actor_fini(&g->actor); /* drops rounds that nobody waits for any more */
    while (g->first) group_session_close(g->first);
    uv_close((uv_handle_t *)g->timer, on_timer_closed);
    free_all(g);
}
