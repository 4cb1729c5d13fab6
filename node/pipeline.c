#include "node/pipeline.h"

#include "base/log.h"
#include "node/words.h"

#include <assert.h>
#include <stdlib.h>

enum {
    LAYERS_WAIT_MS = 5000, /* for announcements that cover the model */
    OPEN_WAIT_MS = 10000,  /* for every stage to grant its session */
    STEP_WAIT_MS = 180000, /* without any sign of progress while steps are under way */
    TICK_MS = 500,
    TRIES = 2, /* pipelines that are tried before a refusal is final */
    AVOID_MAX = 4,
    FEW_TOKENS = 512, /* not worth sharing */
    STEPS_EXTRA = 2,  /* steps under way beyond one per stage */
    STEPS_RING = 128, /* remembered: more than can be under way */
};
_Static_assert(STEPS_RING >= PLAN_STAGES_MAX + STEPS_EXTRA, "the ring holds every step under way");

enum state { PLANNING, PLANNED, OPENING, OPEN, FAILED, CLOSED };

struct peer_stage {
    bool granted;
    uint32_t steps_done; /* STEP_DONE received */
    struct stage_time time;
};

struct step {
    uint32_t pos;  /* of the first wanted row */
    uint32_t want; /* rows that are to come back; 0 again when they have */
};

/* Freed by the next tick after pipeline_close, so that nobody loses the ground under his feet. */
struct pipeline {
    /* identity */
    struct pipelines *all;
    struct pipeline *next;
    struct pipeline_events on;
    struct pipeline_wish wish;

    /* live state */
    enum state state;
    uint8_t session[SESSION_BYTES]; /* fresh for every try */
    uint32_t rid;
    uint32_t tokens; /* reserved */
    uint32_t tries;
    struct node_id avoid[AVOID_MAX];
    uint32_t n_avoid;
    uint64_t deadline_ms; /* of the state */
    struct plan plan;
    struct peer_stage stage[PLAN_STAGES_MAX];
    uint32_t sent;     /* steps sent to the first stage */
    enum err send_err; /* a step could not be sent; the next tick says so */
    struct step step[STEPS_RING];
};

struct pipelines {
    struct pipelines_config c;
    uv_timer_t *timer;      /* closed by pipelines_close, freed when libuv lets go */
    struct pipeline *first; /* owned */
    uint32_t last_rid;
};

static void sweep(struct pipelines *ps);

/* --- messages out --- */

static void send_close(struct pipeline *p, const struct plan_stage *s)
{
    struct msg m = { .type = MSG_SESS_CLOSE };
    m.u.SESS_CLOSE.session = slice_of(p->session, SESSION_BYTES);
    /* A stage that cannot be told finds out: its connection to us is gone. */
    if (net_send(p->all->c.net, &s->id, &m)) log_debug("a stage could not be told to close");
}

static void close_sessions(struct pipeline *p)
{
    if (p->state != OPENING && p->state != OPEN) return;
    for (uint32_t i = 0; i < p->plan.n; i++) send_close(p, &p->plan.stage[i]);
}

static void end_with(struct pipeline *p, enum wire_error code, const char *text)
{
    close_sessions(p);
    p->state = FAILED;
    p->on.on_fail(p->on.arg, code, text);
}

/* Where the world reaches a node, by its own announcement. */
static struct slice addr_of(struct pipelines *ps, const struct node_id *id)
{
    const struct entry *e = directory_find(peers_directory(ps->c.peers), id);
    if (e && e->body.addrs.n > 0) return e->body.addrs.p[0];
    return (struct slice){ 0 };
}

static enum err send_open(struct pipeline *p, uint32_t i)
{
    struct pipelines *ps = p->all;
    const struct plan_stage *s = &p->plan.stage[i];
    const struct plan_stage *after = i + 1 < p->plan.n ? s + 1 : NULL;
    struct msg m = { .type = MSG_SESS_OPEN, .rid = p->rid };
    struct msg_SESS_OPEN *o = &m.u.SESS_OPEN;
    o->session = slice_of(p->session, SESSION_BYTES);
    o->model = slice_of(ps->c.model, ID_BYTES);
    o->layer_lo = s->lo;
    o->layer_hi = s->hi;
    o->max_tokens = p->tokens;
    o->prev_id = slice_of(i > 0 ? s[-1].id.b : ps->c.me.b, ID_BYTES);
    if (after) {
        o->next_id = slice_of(after->id.b, ID_BYTES);
        o->next_addr = addr_of(ps, &after->id);
    }
    struct slice addr = addr_of(ps, &s->id);
    if (addr.n) net_hint(ps->c.net, &s->id, addr);
    return net_send(ps->c.net, &s->id, &m);
}

/* --- planning --- */

static enum err plan_for(struct pipelines *ps, const struct pipeline *p, uint32_t tokens,
                         struct plan *out, struct why *why)
{
    return plan_make(out, peers_directory(ps->c.peers), peers_measured(ps->c.peers), ps->c.model,
                     ps->c.n_layers, tokens, p ? p->avoid : NULL, p ? p->n_avoid : 0, why);
}

/* Is it only the length that no plan exists for?  Then say which node grants the least. */
static enum err too_long(struct pipelines *ps, const struct pipeline *p, uint32_t tokens,
                         struct why *why)
{
    struct plan plan;
    const struct directory *d = peers_directory(ps->c.peers);
    if (plan_for(ps, p, 1, &plan, NULL)) return ERR_NOTFOUND;

    uint64_t least = UINT64_MAX;
    const struct plan_stage *at = NULL;
    for (uint32_t i = 0; i < plan.n; i++) {
        const struct entry *e = directory_find(d, &plan.stage[i].id);
        if (!e) continue;
        uint64_t grants = e->body.context < e->body.kv_tokens ? e->body.context : e->body.kv_tokens;
        if (grants < least) {
            least = grants;
            at = &plan.stage[i];
        }
    }
    if (!at || least >= tokens) return ERR_NOTFOUND;
    struct words who;
    words_stage(&who, &at->id, at->lo, at->hi);
    return fail(why, ERR_FULL, "this conversation needs %u positions, %s grants %llu", tokens,
                who.text, (unsigned long long)least);
}

static enum err plan_or_explain(struct pipelines *ps, const struct pipeline *p, uint32_t tokens,
                                struct plan *out, struct why *why)
{
    enum err e = plan_for(ps, p, tokens, out, why);
    if (e == ERR_NOTFOUND && too_long(ps, p, tokens, why) == ERR_FULL) return ERR_FULL;
    return e;
}

/* The largest number of positions in [min, wish] that a plan exists for; there is one for min. */
static uint32_t fit(struct pipeline *p)
{
    struct plan plan;
    uint32_t good = p->wish.min_tokens, bad = p->wish.max_tokens;
    if (!plan_for(p->all, p, bad, &plan, NULL)) return bad;
    while (bad - good > 1) {
        uint32_t middle = good + (bad - good) / 2;
        if (plan_for(p->all, p, middle, &plan, NULL))
            bad = middle;
        else
            good = middle;
    }
    uint32_t beyond = good - p->wish.min_tokens;
    return p->wish.is_modest && beyond > FEW_TOKENS ? p->wish.min_tokens + beyond / 2 : good;
}

static void refused(struct pipeline *p, const struct plan_stage *s, enum wire_error code,
                    const char *text);

static void open_sessions(struct pipeline *p)
{
    struct pipelines *ps = p->all;
    random_bytes(p->session, SESSION_BYTES);
    p->rid = ++ps->last_rid ? ps->last_rid : ++ps->last_rid;
    p->state = OPENING;
    p->deadline_ms = now_ms(ps->c.hub) + OPEN_WAIT_MS;
    for (uint32_t i = 0; i < p->plan.n; i++) p->stage[i] = (struct peer_stage){ 0 };
    for (uint32_t i = 0; i < p->plan.n; i++) {
        enum err e = send_open(p, i);
        if (!e) continue;
        refused(p, &p->plan.stage[i], WIRE_LOST_STAGE,
                e == ERR_NOTFOUND ? "it cannot be reached from here" : err_text(e));
        return;
    }
}

/* Plan, and open what was planned.  Missing layers may still be announced until the deadline. */
static void try_plan(struct pipeline *p)
{
    struct why why = { "" };
    enum err e = plan_or_explain(p->all, p, p->wish.min_tokens, &p->plan, &why);
    if (e == ERR_NOTFOUND && now_ms(p->all->c.hub) < p->deadline_ms) return;
    if (e) {
        end_with(p, e == ERR_FULL ? WIRE_KV_FULL : WIRE_NO_PIPELINE, why.text);
        return;
    }
    p->tokens = fit(p);
    if (plan_for(p->all, p, p->tokens, &p->plan, &why)) {
        end_with(p, WIRE_NO_PIPELINE, why.text);
        return;
    }
    p->tries++;
    if (!p->wish.plan_only) {
        open_sessions(p);
        return;
    }
    p->state = PLANNED;
    p->on.on_open(p->on.arg);
}

/* A stage does not take the session: once more without it, or the end. */
static void refused(struct pipeline *p, const struct plan_stage *s, enum wire_error code,
                    const char *text)
{
    struct why said, why;
    struct words who;
    words_stage(&who, &s->id, s->lo, s->hi);
    fail(&said, ERR_DENIED, "%s refused: %s", who.text, text);
    if (p->tries >= TRIES || p->n_avoid == AVOID_MAX) {
        end_with(p, code, said.text);
        return;
    }
    close_sessions(p);
    p->state = PLANNING;
    p->avoid[p->n_avoid++] = s->id;
    if (plan_for(p->all, p, p->wish.min_tokens, &p->plan, &why)) {
        end_with(p, code, said.text); /* nobody else holds these layers: the first reason counts */
        return;
    }
    log_info("%s; trying without it", said.text);
    p->deadline_ms = now_ms(p->all->c.hub);
    try_plan(p);
}

/* --- life --- */

static void on_tick(uv_timer_t *t);

enum err pipelines_open(struct pipelines **out, const struct pipelines_config *c)
{
    struct pipelines *ps = calloc(1, sizeof *ps);
    if (!ps) return ERR_NOMEM;
    ps->c = *c;
    ps->timer = malloc(sizeof *ps->timer);
    if (!ps->timer) {
        free(ps);
        return ERR_NOMEM;
    }
    uv_timer_init(&c->hub->loop, ps->timer);
    ps->timer->data = ps;
    *out = ps;
    return ERR_OK;
}

static void on_timer_closed(uv_handle_t *h)
{
    free(h);
}

void pipelines_close(struct pipelines *ps)
{
    if (!ps) return;
    sweep(ps);
    assert(!ps->first);
    uv_close((uv_handle_t *)ps->timer, on_timer_closed);
    free(ps);
}

/* Look at all of them from the loop, now and then every tick while there are any. */
static void wake(struct pipelines *ps)
{
    uv_timer_start(ps->timer, on_tick, 0, TICK_MS);
}

enum err pipeline_open(struct pipelines *ps, const struct pipeline_wish *wish,
                       const struct pipeline_events *on, struct pipeline **out)
{
    struct pipeline *p = calloc(1, sizeof *p);
    if (!p) return ERR_NOMEM;
    p->all = ps;
    p->on = *on;
    p->wish = *wish;
    if (p->wish.max_tokens < p->wish.min_tokens) p->wish.max_tokens = p->wish.min_tokens;
    p->state = PLANNING;
    p->deadline_ms = now_ms(ps->c.hub) + ps->c.patience_ms;
    p->next = ps->first;
    ps->first = p;
    wake(ps);
    *out = p;
    return ERR_OK;
}

void pipeline_close(struct pipeline *p)
{
    if (!p) return;
    close_sessions(p);
    p->state = CLOSED;
    wake(p->all);
}

static void sweep(struct pipelines *ps)
{
    for (struct pipeline **at = &ps->first; *at;) {
        struct pipeline *p = *at;
        if (p->state != CLOSED) {
            at = &p->next;
            continue;
        }
        *at = p->next;
        free(p);
    }
}

/* Steps that have not passed the last stage. */
static uint32_t under_way(const struct pipeline *p)
{
    return p->sent - p->stage[p->plan.n - 1].steps_done;
}

/* The first stage's connection takes no more, or is gone. */
static void not_sent(struct pipeline *p)
{
    struct why why;
    struct words who;
    bool is_slow = p->send_err == ERR_FULL;
    words_stage(&who, &p->plan.stage[0].id, p->plan.stage[0].lo, p->plan.stage[0].hi);
    fail(&why, p->send_err, "%s %s", who.text, is_slow ? "reads too slowly" : "cannot be reached");
    end_with(p, is_slow ? WIRE_BUSY : WIRE_LOST_STAGE, why.text);
}

/* Nothing moved for too long: name the first stage that owes something. */
static void stalled(struct pipeline *p)
{
    struct why why;
    struct words who;
    uint32_t i = 0;
    if (p->state == OPENING) {
        while (i + 1 < p->plan.n && p->stage[i].granted) i++;
        refused(p, &p->plan.stage[i], WIRE_TIMEOUT, "it did not answer in time");
        return;
    }
    while (i + 1 < p->plan.n && p->stage[i].steps_done == p->sent) i++;
    words_stage(&who, &p->plan.stage[i].id, p->plan.stage[i].lo, p->plan.stage[i].hi);
    fail(&why, ERR_TIMEOUT, "%s has computed nothing for %d s", who.text, STEP_WAIT_MS / 1000);
    end_with(p, WIRE_TIMEOUT, why.text);
}

static void on_tick(uv_timer_t *t)
{
    struct pipelines *ps = t->data;
    uint64_t now = now_ms(ps->c.hub);
    for (struct pipeline *p = ps->first; p; p = p->next) {
        bool is_late = now >= p->deadline_ms;
        if (p->state == PLANNING)
            try_plan(p);
        else if (p->state == OPEN && p->send_err)
            not_sent(p);
        else if (is_late && p->state == OPENING)
            stalled(p);
        else if (is_late && p->state == OPEN && under_way(p) > 0)
            stalled(p);
    }
    sweep(ps);
    if (!ps->first) uv_timer_stop(ps->timer);
}

void pipelines_on_change(struct pipelines *ps)
{
    for (struct pipeline *p = ps->first; p; p = p->next)
        if (p->state == PLANNING) try_plan(p);
}

/* --- rows out --- */

void pipeline_send(struct pipeline *p, uint32_t pos, uint32_t n, const void *x, uint32_t want)
{
    if (p->state != OPEN) return; /* on_fail has been said, or is not far */
    struct msg m = { .type = MSG_ACT };
    struct msg_ACT *a = &m.u.ACT;
    a->session = slice_of(p->session, SESSION_BYTES);
    a->pos = pos;
    a->rows = n;
    a->step = p->sent;
    a->want = want;
    a->x = slice_of(x, n * p->all->c.row_bytes);

    if (under_way(p) == 0) p->deadline_ms = now_ms(p->all->c.hub) + STEP_WAIT_MS;
    p->step[p->sent % STEPS_RING] = (struct step){ pos + n - want, want };
    p->sent++;
    enum err e = net_send(p->all->c.net, &p->plan.stage[0].id, &m);
    if (!e || p->send_err) return;
    p->send_err = e;
    wake(p->all);
}

/* --- steps at home --- */

bool pipeline_is_home(const struct pipeline *p)
{
    return p->state == OPEN && p->plan.n == 1 && node_id_equal(&p->plan.stage[0].id, &p->all->c.me);
}

bool pipeline_decode(struct pipeline *p, struct home_job *j)
{
    if (p->state != OPEN) return false;
    enum err e = stage_server_decode(p->all->c.stage, p->session, j);
    if (e == ERR_NOTFOUND) log_debug("a session has failed meanwhile; its SESS_FAIL is on the way");
    assert(e != ERR_RANGE);
    return !e;
}

void pipeline_decoded(struct pipeline *p, const struct home_job *j)
{
    struct stage_time *t = &p->stage[0].time;
    t->steps += j->decode.n_tokens;
    t->compute_us += j->decode.rows.job.compute_us;
    t->wait_us += j->decode.rows.job.wait_us;
}

bool pipeline_has_room(const struct pipeline *p)
{
    return p->state == OPEN && under_way(p) < p->plan.n + STEPS_EXTRA;
}

const struct plan *pipeline_plan(const struct pipeline *p)
{
    return &p->plan;
}

uint32_t pipeline_tokens(const struct pipeline *p)
{
    return p->tokens;
}

struct stage_time pipeline_time(const struct pipeline *p, uint32_t stage)
{
    return p->stage[stage].time;
}

/* --- messages in --- */

static struct pipeline *find(struct pipelines *ps, struct slice session)
{
    for (struct pipeline *p = ps->first; p; p = p->next)
        if ((p->state == OPENING || p->state == OPEN) &&
            memcmp(p->session, session.p, SESSION_BYTES) == 0)
            return p;
    return NULL;
}

/* Index of the stage that id serves, or -1. */
static int stage_index(const struct pipeline *p, const struct node_id *id)
{
    for (uint32_t i = 0; i < p->plan.n; i++)
        if (node_id_equal(&p->plan.stage[i].id, id)) return (int)i;
    return -1;
}

static void on_granted(struct pipeline *p, uint32_t i, const struct msg_SESS_OK *ok)
{
    if (p->state != OPENING) return;
    if (ok->limit < p->tokens) {
        refused(p, &p->plan.stage[i], WIRE_KV_FULL, "it grants fewer positions than it announced");
        return;
    }
    p->stage[i].granted = true;
    for (uint32_t k = 0; k < p->plan.n; k++)
        if (!p->stage[k].granted) return;
    p->state = OPEN;
    p->deadline_ms = now_ms(p->all->c.hub) + STEP_WAIT_MS;
    p->on.on_open(p->on.arg);
}

static void on_step_done(struct pipeline *p, uint32_t i, const struct msg_STEP_DONE *d)
{
    struct peer_stage *s = &p->stage[i];
    if (p->state != OPEN || d->step != s->steps_done || s->steps_done >= p->sent) {
        net_strike(p->all->c.net, &p->plan.stage[i].id, "STEP_DONE of a step it was not given");
        return;
    }
    s->steps_done++;
    s->time.steps++;
    s->time.compute_us += d->compute_us;
    s->time.wait_us += d->wait_us;
    p->deadline_ms = now_ms(p->all->c.hub) + STEP_WAIT_MS;
    if (i + 1 == p->plan.n && p->on.on_room) p->on.on_room(p->on.arg);
}

static void on_rows(struct pipeline *p, uint32_t i, const struct msg_ACT *a)
{
    uint32_t last_done = p->stage[p->plan.n - 1].steps_done;
    struct step *s = &p->step[a->step % STEPS_RING];
    bool is_ours = p->state == OPEN && i + 1 == p->plan.n && a->step >= last_done &&
                   a->step < p->sent && a->rows == s->want && a->pos == s->pos &&
                   a->x.n == a->rows * p->all->c.row_bytes;
    if (!is_ours) {
        struct words who;
        struct why why;
        words_stage(&who, &p->plan.stage[i].id, p->plan.stage[i].lo, p->plan.stage[i].hi);
        fail(&why, ERR_RANGE, "%s sent rows that were not asked for", who.text);
        net_strike(p->all->c.net, &p->plan.stage[i].id, "rows that were not asked for");
        end_with(p, WIRE_BAD_MESSAGE, why.text);
        return;
    }
    s->want = 0;
    p->on.on_rows(p->on.arg, (uint32_t)a->pos, (uint32_t)a->rows, a->x);
}

static void on_stage_fail(struct pipeline *p, uint32_t i, enum wire_error code, struct slice text)
{
    struct why why;
    if (p->state == OPENING) {
        fail(&why, ERR_DENIED, "%.*s", (int)text.n, (const char *)text.p);
        refused(p, &p->plan.stage[i], code, why.text);
        return;
    }
    struct words who;
    words_stage(&who, &p->plan.stage[i].id, p->plan.stage[i].lo, p->plan.stage[i].hi);
    fail(&why, ERR_CLOSED, "%s: %.*s", who.text, (int)text.n, (const char *)text.p);
    end_with(p, code, why.text);
}

static void on_error(struct pipelines *ps, const struct mail *m)
{
    const struct msg_ERROR *e = &m->m.u.ERROR;
    for (struct pipeline *p = ps->first; p; p = p->next) {
        int i = p->state == OPENING && p->rid == m->m.rid ? stage_index(p, &m->from) : -1;
        if (i < 0) continue;
        on_stage_fail(p, (uint32_t)i, (enum wire_error)e->code, e->text);
        return;
    }
}

/* The session of an answer from a stage. */
static struct slice session_of(const struct msg *m)
{
    switch (m->type) {
    case MSG_SESS_OK: return m->u.SESS_OK.session;
    case MSG_STEP_DONE: return m->u.STEP_DONE.session;
    case MSG_ACT: return m->u.ACT.session;
    case MSG_SESS_FAIL: return m->u.SESS_FAIL.session;
    default: return (struct slice){ 0 };
    }
}

void pipelines_on_mail(struct pipelines *ps, struct mail *m)
{
    struct slice session = session_of(&m->m);
    struct pipeline *p = session.n == SESSION_BYTES ? find(ps, session) : NULL;
    int i = p ? stage_index(p, &m->from) : -1;
    if (m->m.type == MSG_ERROR) {
        on_error(ps, m);
    } else if (i >= 0) { /* else: of a pipeline that has been closed meanwhile */
        switch (m->m.type) {
        case MSG_SESS_OK: on_granted(p, (uint32_t)i, &m->m.u.SESS_OK); break;
        case MSG_STEP_DONE: on_step_done(p, (uint32_t)i, &m->m.u.STEP_DONE); break;
        case MSG_ACT: on_rows(p, (uint32_t)i, &m->m.u.ACT); break;
        case MSG_SESS_FAIL:
            on_stage_fail(p, (uint32_t)i, (enum wire_error)m->m.u.SESS_FAIL.code,
                          m->m.u.SESS_FAIL.text);
            break;
        default: break;
        }
    }
    m->note.drop(&m->note);
}

void pipelines_on_peer(struct pipelines *ps, const struct node_id *id, bool up, const char *reason)
{
    if (up) return;
    for (struct pipeline *p = ps->first; p; p = p->next) {
        int i = p->state == OPENING || p->state == OPEN ? stage_index(p, id) : -1;
        if (i < 0) continue;
        struct why why;
        fail(&why, ERR_CLOSED, "%s", reason && *reason ? reason : "the connection is lost");
        if (p->state == OPENING) {
            refused(p, &p->plan.stage[i], WIRE_LOST_STAGE, why.text);
            continue;
        }
        struct words who;
        struct why gone;
        words_stage(&who, &p->plan.stage[i].id, p->plan.stage[i].lo, p->plan.stage[i].hi);
        fail(&gone, ERR_CLOSED, "%s has gone: %.200s", who.text, why.text);
        end_with(p, WIRE_LOST_STAGE, gone.text);
    }
}
