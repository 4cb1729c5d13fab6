#include "ask/pipeline_impl.h"

#include "ask/map.h"
#include "base/log.h"
#include "proto/waves.h"

#include <assert.h>
#include <stdlib.h>

static void sweep(struct pipelines *ps);

uint64_t pipelines_now(const struct pipelines *ps)
{
    return now_ms(ps->c.hub);
}

void pipeline_end(struct pipeline *p, enum wire_error code, const char *text)
{
    pipeline_close_sessions(p);
    p->state = FAILED;
    p->on.on_fail(p->on.arg, code, text);
}

/* --- life --- */

static void on_tick(uv_timer_t *t);

enum err pipelines_open(struct pipelines **out, const struct pipelines_config *c)
{
    struct pipelines *ps = calloc(1, sizeof *ps);
    if (!ps) return ERR_NOMEM;
    ps->c = *c;
    ps->timer = malloc(sizeof *ps->timer);
    if (!ps->timer || speeds_open(&ps->speeds)) {
        free(ps->timer);
        free(ps);
        return ERR_NOMEM;
    }
    if (c->head_us) speeds_head(ps->speeds, c->head_us);
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
    speeds_close(ps->speeds);
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
    p->deadline_ms = pipelines_now(ps) + ps->c.patience_ms;
    if (wish->resumes) heal_resume(p);
    p->next = ps->first;
    ps->first = p;
    wake(ps);
    *out = p;
    return ERR_OK;
}

void pipeline_close(struct pipeline *p)
{
    if (!p) return;
    pipeline_close_sessions(p);
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
        heal_fini(p);
        free(p);
    }
}

uint32_t pipeline_under_way(const struct pipeline *p)
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
    heal_lost(p, 0, is_slow ? AVOID_REFUSED : AVOID_GONE, is_slow ? WIRE_BUSY : WIRE_LOST_STAGE,
              why.text);
}

/* Nothing moved for too long: name the first stage that owes something. */
static void stalled(struct pipeline *p)
{
    struct why why;
    struct words who;
    uint32_t i = 0;
    if (p->state == OPENING) {
        while (i + 1 < p->plan.n && p->stage[i].granted) i++;
        pipeline_refused(p, i, AVOID_SILENT, WIRE_TIMEOUT, "it did not answer in time");
        return;
    }
    while (i + 1 < p->plan.n && p->stage[i].steps_done == p->sent) i++;
    words_stage(&who, &p->plan.stage[i].id, p->plan.stage[i].lo, p->plan.stage[i].hi);
    fail(&why, ERR_TIMEOUT, "%s has computed nothing for %d s", who.text, STEP_WAIT_MS / 1000);
    heal_lost(p, i, AVOID_REFUSED, WIRE_TIMEOUT, why.text);
}

static void on_tick(uv_timer_t *t)
{
    struct pipelines *ps = t->data;
    uint64_t now = pipelines_now(ps);
    for (struct pipeline *p = ps->first; p; p = p->next) {
        heal_tick(p, now);
        bool is_late = now >= p->deadline_ms;
        if (p->state == PLANNING)
            pipeline_try_plan(p);
        else if (p->state == OPEN && p->send_err)
            not_sent(p);
        else if (is_late && p->state == OPENING)
            stalled(p);
        else if (is_late && p->state == OPEN && pipeline_under_way(p) > 0)
            stalled(p);
    }
    sweep(ps);
    if (!ps->first) uv_timer_stop(ps->timer);
}

static bool has_leaver(const struct pipeline *p)
{
    const struct directory *d = peers_directory(p->all->c.peers);
    for (uint32_t i = 0; i < p->plan.n; i++) {
        const struct node_id *id = &p->plan.stage[i].id;
        const struct entry *e = directory_find(d, id);
        if (e && e->body.state == RECORD_DRAINING && !node_id_equal(id, &p->all->c.me)) return true;
    }
    return false;
}

void pipelines_on_change(struct pipelines *ps)
{
    for (struct pipeline *p = ps->first; p; p = p->next) {
        if (p->state == PLANNING)
            pipeline_try_plan(p);
        else if (p->state == OPEN && p->on.on_leaving && has_leaver(p))
            p->on.on_leaving(p->on.arg);
    }
}

void pipeline_hear(struct pipeline *p, const struct pipeline_events *on)
{
    p->on = *on;
}

/* --- rows out --- */

/* There is progress, or nothing was expected until now. */
static void moved(struct pipeline *p)
{
    p->moved_ms = pipelines_now(p->all);
    p->deadline_ms = p->moved_ms + STEP_WAIT_MS;
    p->pinged_ms = 0;
}

/* Work that others do for us. */
static void count_taken(const struct pipeline *p, uint32_t rows)
{
    uint64_t layers = 0;
    for (uint32_t i = 0; i < p->plan.n; i++)
        if (!node_id_equal(&p->plan.stage[i].id, &p->all->c.me))
            layers += p->plan.stage[i].hi - p->plan.stage[i].lo;
    counters_add(p->all->c.counters, COUNT_ROWS_TAKEN, layers * rows);
}

/* The way of a step, where it tells something (hops.h); the coordinator is at its both ends. */
static void left_point(struct pipeline *p, uint32_t point, uint32_t step, uint32_t rtt_us,
                       uint64_t work_us)
{
    const struct step *s = &p->step[step % STEPS_RING];
    if (!s->is_alone || s->rows > HOPS_ROWS_MAX || rtt_us == UINT32_MAX) return;
    hops_left(&p->hops, point, step, uv_hrtime() / 1000 - rtt_us / 2, work_us);
}

static void trace(const struct pipeline *p, struct trace_event e)
{
    if (p->on.on_trace) p->on.on_trace(p->on.arg, &e);
}

/* Answers that run. */
static uint32_t running(const struct pipelines *ps)
{
    enum { RUNS_MS = 2000 }; /* since its last token */
    uint64_t now = pipelines_now(ps);
    uint32_t n = 0;
    for (const struct pipeline *p = ps->first; p; p = p->next)
        n += p->state == OPEN && p->token_ms && now - p->token_ms < RUNS_MS;
    return n;
}

uint32_t pipeline_together(const struct pipeline *p)
{
    return waves_size(p->waves, running(p->all));
}

static void send_rows(struct pipeline *p, uint32_t pos, uint32_t n, const void *x, uint32_t want,
                      uint32_t drafts)
{
    if (p->state != OPEN) return; /* on_fail has been said, or is not far */
    struct msg m = { .type = MSG_ACT };
    struct msg_ACT *a = &m.u.ACT;
    a->session = slice_of(p->session, SESSION_BYTES);
    a->pos = pos;
    a->rows = n;
    a->step = p->sent;
    a->want = want;
    a->drafts = drafts;
    if (want == n) p->token_ms = pipelines_now(p->all);
    a->together = want == n ? pipeline_together(p) : 0;
    a->x = slice_of(x, n * p->all->c.row_bytes);

    if (pipeline_under_way(p) == 0) moved(p);
    p->step[p->sent % STEPS_RING] =
        (struct step){ n, pos + n, pos + n - want, want, pipeline_under_way(p) == 0 };
    heal_on_sent(p, pos + n - drafts);
    left_point(p, 0, p->sent, 0, 0);
    count_taken(p, n);
    p->sent++;
    trace(p, (struct trace_event){ .kind = TRACE_SENT, .n = (uint16_t)n, .step = p->sent - 1 });
    enum err e = net_send(p->all->c.net, &p->plan.stage[0].id, &m);
    if (!e || p->send_err) return;
    p->send_err = e;
    wake(p->all);
}

void pipeline_send(struct pipeline *p, uint32_t pos, uint32_t n, const void *x, uint32_t want)
{
    send_rows(p, pos, n, x, want, 0);
}

void pipeline_send_drafts(struct pipeline *p, uint32_t pos, uint32_t n_drafts, const void *x)
{
    send_rows(p, pos, 1 + n_drafts, x, 1 + n_drafts, n_drafts);
}

/* UINT32_MAX: not known. */
static uint32_t round_trip_us(const struct pipeline *p, uint32_t i)
{
    const struct node_id *id = &p->plan.stage[i].id;
    return node_id_equal(id, &p->all->c.me) ? 0 : net_rtt_us(p->all->c.net, id);
}

/* Stage i has computed. */
static void note_time(struct pipeline *p, uint32_t i, bool is_alone, struct speeds_work w)
{
    const struct plan_stage *s = &p->plan.stage[i];
    struct stage_time *t = &p->stage[i].time;
    t->steps += w.n_steps;
    t->compute_us += w.compute_us;
    t->wait_us += w.wait_us;
    if (w.rows == 1 && is_alone) t->singles += w.n_steps;
    if (w.rows == 1 && is_alone) t->single_us += w.compute_us + w.wait_us;
    if (w.rows == 1 && !is_alone) return; /* the end of a prompt, computed with what came before */
    w.n_layers = s->hi - s->lo;
    speeds_step(p->all->speeds, &s->id, &w, pipelines_now(p->all));
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
    const struct job *job = &j->decode.rows.job;
    note_time(p, 0, true,
              (struct speeds_work){ .n_steps = j->decode.n_tokens,
                                    .rows = 1,
                                    .pos = j->decode.rows.pos,
                                    .compute_us = job->compute_us,
                                    .wait_us = job->wait_us });
}

uint32_t pipeline_steps_max(const struct pipeline *p)
{
    return p->plan.n + PLAN_STEPS_EXTRA;
}

bool pipeline_has_room(const struct pipeline *p)
{
    return p->state == OPEN && pipeline_under_way(p) < pipeline_steps_max(p);
}

void pipeline_learn_start(struct pipeline *p, int64_t late_us)
{
    const struct plan *plan = &p->plan;
    if (p->heals.n > 0) return;
    for (uint32_t i = 0; i < plan->n; i++)
        if (!plan->stage[i].is_connected || !plan->stage[i].hop_known || !plan->stage[i].rows_known)
            return;
    speeds_start(p->all->speeds, (double)late_us + plan->start_us);
}

/* Hops cost what is left of a token's time when all else is accounted for. */
void pipeline_learn(struct pipeline *p, uint32_t n, uint64_t decode_us, uint64_t pick_us)
{
    enum { FEW = 8 }; /* tokens tell little */
    const struct plan *plan = &p->plan;
    double known = n ? (double)pick_us / n : 0;
    uint32_t hops = plan->home_us > 0;
    if (n < FEW || p->heals.n > 0 || p->state != OPEN) return;
    speeds_head(p->all->speeds, known);
    known += plan->home_us > 0 ? plan->home_us - plan->overhead_us : 0;
    for (uint32_t i = 0; i < plan->n; i++) {
        const struct stage_time *t = &p->stage[i].time;
        if (t->singles < FEW) return;
        known += (double)t->single_us / t->singles;
        if (plan->stage[i].hop_us == 0) continue;
        known += plan->stage[i].hop_us - plan->overhead_us;
        hops++;
    }
    speeds_hops(p->all->speeds, (double)decode_us / n, known, hops);
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

uint32_t pipeline_way_us(const struct pipeline *p, uint32_t stage)
{
    return hops_way_us(&p->hops, stage + 1);
}

void pipelines_map(const struct pipelines *ps, const char *model_name, struct text *out)
{
    struct map_source s = { .directory = peers_directory(ps->c.peers),
                            .measured = peers_measured(ps->c.peers),
                            .net = ps->c.net,
                            .me = ps->c.me,
                            .model = ps->c.model,
                            .name = model_name,
                            .n_layers = ps->c.n_layers };
    map_json(out, &s, PLAN_JSON_MAX);
}

struct heal_count pipeline_heals(const struct pipeline *p)
{
    return p->heals;
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

uint32_t pipeline_known(const struct pipeline *p)
{
    uint32_t known = UINT32_MAX;
    for (uint32_t i = 0; i < p->plan.n; i++)
        if (p->stage[i].known < known) known = p->stage[i].known;
    return known == UINT32_MAX ? 0 : known;
}

/* Names of rows that we sent are believed: whoever lies about them has other K and V than he is
 * asked for, as if he computed them wrongly. */
static void on_prefix(struct pipeline *p, uint32_t i, const struct msg_PREFIX *x)
{
    uint32_t n = (uint32_t)(x->hashes.n / HASH_WIRE);
    bool is_ours = x->hashes.n % HASH_WIRE == 0 && (x->first + n) * PREFIX_BLOCK <= p->tokens;
    if (!is_ours)
        net_strike(p->all->c.net, &p->plan.stage[i].id, "names for rows that it was not given");
    else if (p->on.on_prefix)
        p->on.on_prefix(p->on.arg, p->plan.stage[i].lo, (uint32_t)x->first, x->hashes);
}

static uint32_t count_waves(const struct pipeline *p)
{
    bool is_here[PLAN_STAGES_MAX];
    for (uint32_t i = 0; i < p->plan.n; i++) {
        const struct node_id *id = &p->plan.stage[i].id;
        is_here[i] =
            node_id_equal(id, &p->all->c.me) || addr_is_loopback(net_addr(p->all->c.net, id));
    }
    return waves_count(&p->plan, is_here);
}

static void on_granted(struct pipeline *p, uint32_t i, const struct msg_SESS_OK *ok)
{
    if (p->state != OPENING) return;
    if (ok->limit < p->tokens) {
        pipeline_refused(p, i, AVOID_REFUSED, WIRE_KV_FULL,
                         "it grants fewer positions than it announced");
        return;
    }
    p->stage[i].granted = true;
    p->stage[i].held = (uint32_t)ok->held;
    p->stage[i].known = (uint32_t)ok->known;
    if (ok->known > p->stage[i].asked && ok->known > ok->held) {
        net_strike(p->all->c.net, &p->plan.stage[i].id, "it knows what it was not asked for");
        p->stage[i].known = 0;
    }
    for (uint32_t k = 0; k < p->plan.n; k++)
        if (!p->stage[k].granted) return;
    p->state = OPEN;
    p->waves = count_waves(p);
    moved(p);
    if (p->healing.is_on)
        p->on.on_again(p->on.arg);
    else
        p->on.on_open(p->on.arg);
}

/* The last stage is done with a step whose rows have not come, and will not come after: somebody
 * swallowed them, or did not say that they are wanted. */
static void rows_missing(struct pipeline *p)
{
    const struct plan_stage *s = &p->plan.stage[p->plan.n - 1];
    struct words who;
    struct why why;
    words_stage(&who, &s->id, s->lo, s->hi);
    fail(&why, ERR_RANGE, "%s sent no rows back though they were wanted", who.text);
    heal_lost(p, p->plan.n - 1, AVOID_REFUSED, WIRE_BAD_MESSAGE, why.text);
}

static void on_step_done(struct pipeline *p, uint32_t i, const struct msg_STEP_DONE *d)
{
    struct peer_stage *s = &p->stage[i];
    if (p->state != OPEN || d->step != s->steps_done || s->steps_done >= p->sent) {
        net_strike(p->all->c.net, &p->plan.stage[i].id, "STEP_DONE of a step it was not given");
        return;
    }
    const struct step *step = &p->step[s->steps_done++ % STEPS_RING];
    note_time(p, i, step->is_alone,
              (struct speeds_work){ .n_steps = 1,
                                    .rows = step->rows,
                                    .pos = step->end,
                                    .compute_us = d->compute_us,
                                    .wait_us = d->wait_us });
    left_point(p, i + 1, (uint32_t)d->step, round_trip_us(p, i), d->compute_us + d->wait_us);
    if (d->came)
        trace(p, (struct trace_event){ .kind = TRACE_STAGE,
                                       .stage = (uint8_t)i,
                                       .n = (uint16_t)step->rows,
                                       .step = (uint32_t)d->step,
                                       .clock = d->came,
                                       .wait = (uint32_t)d->wait_us,
                                       .compute = (uint32_t)d->compute_us,
                                       .stay = (uint32_t)d->stay_us });
    moved(p);
    if (i + 1 < p->plan.n) return;
    if (p->step[d->step % STEPS_RING].want > 0) {
        rows_missing(p);
        return;
    }
    heal_on_step(p);
    if (p->state == OPEN && p->on.on_room) p->on.on_room(p->on.arg); /* a note may be the last */
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
        pipeline_end(p, WIRE_BAD_MESSAGE, why.text);
        return;
    }
    s->want = 0;
    left_point(p, p->plan.n + 1, (uint32_t)a->step, 0, 0);
    trace(p, (struct trace_event){
                 .kind = TRACE_ROWS, .n = (uint16_t)a->rows, .step = (uint32_t)a->step });
    p->on.on_rows(p->on.arg, (uint32_t)a->pos, (uint32_t)a->rows, a->x);
}

/* A stage that cannot reach the next one is well itself, and one that lost a member of its group
 * soon is; at a number that is not finite every node would fail. */
static void on_stage_fail(struct pipeline *p, uint32_t i, enum wire_error code, struct slice text)
{
    struct why why;
    bool is_next = code == WIRE_LOST_STAGE && i + 1 < p->plan.n;
    uint32_t lost = is_next ? i + 1 : i;
    bool is_well = is_next || code == WIRE_LOST_MEMBER;
    enum avoid_kind kind = is_well ? AVOID_UNREACHED : AVOID_REFUSED;
    if (p->state == OPENING) {
        fail(&why, ERR_DENIED, "%.*s", (int)text.n, (const char *)text.p);
        pipeline_refused(p, lost, kind, code, why.text);
        return;
    }
    const struct plan_stage *s = &p->plan.stage[lost];
    struct words who;
    words_stage(&who, &s->id, s->lo, s->hi);
    fail(&why, ERR_CLOSED, "%s%s: %.*s", who.text, is_next ? " has gone, says the one before" : "",
         (int)text.n, (const char *)text.p);
    if (code == WIRE_NONFINITE)
        pipeline_end(p, code, why.text);
    else
        heal_lost(p, lost, kind, code, why.text);
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
    case MSG_PREFIX: return m->u.PREFIX.session;
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
        case MSG_PREFIX: on_prefix(p, (uint32_t)i, &m->m.u.PREFIX); break;
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

static void on_down(struct pipeline *p, const struct node_id *id, const char *reason)
{
    int i = p->state == OPENING || p->state == OPEN ? stage_index(p, id) : -1;
    if (i < 0) return;
    struct why why;
    fail(&why, ERR_CLOSED, "%s", reason && *reason ? reason : "the connection is lost");
    if (p->state == OPENING) {
        pipeline_refused(p, (uint32_t)i, AVOID_GONE, WIRE_LOST_STAGE, why.text);
        return;
    }
    struct words who;
    struct why gone;
    words_stage(&who, &p->plan.stage[i].id, p->plan.stage[i].lo, p->plan.stage[i].hi);
    fail(&gone, ERR_CLOSED, "%s has gone: %.200s", who.text, why.text);
    heal_lost(p, (uint32_t)i, AVOID_GONE, WIRE_LOST_STAGE, gone.text);
}

void pipelines_on_peer(struct pipelines *ps, const struct node_id *id, bool up, const char *reason)
{
    for (struct pipeline *p = ps->first; p; p = p->next) {
        if (up)
            heal_on_back(p, id);
        else
            on_down(p, id, reason);
    }
}
