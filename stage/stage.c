#include "stage/stage_impl.h"

#include "base/log.h"
#include "proto/fair.h"

#include <stdio.h>
#include <stdlib.h>

enum { NOTE_COMPUTED = 1, NOTE_DECODED };
enum { FEW_ROWS = 16 /* that are all wanted are those of a running answer */ };
enum { TICK_MAX_MS = 10000, BROKEN_MS = 60000 /* for a coordinator to adopt a session */ };

/* A chunk of a session on its way through the compute thread, with the message it came in, whose
 * rows are computed in place. */
struct step_job {
    struct rows_job rows; /* first */
    struct session *session;
    uint32_t round;
    uint64_t came_ns;  /* when the rows did */
    struct mail *mail; /* owned */
    uint8_t hashes[];  /* [rows][HASH_WIRE] of what came in, where the session has a prefix */
};

/* --- answers --- */

void stage_answer(struct stage_server *s, const struct node_id *to, const struct msg *m)
{
    enum err e = net_send(s->c.net, to, m);
    if (e) log_debug("an answer was not sent: %s", err_text(e));
}

void stage_refuse(struct stage_server *s, const struct mail *m, enum wire_error code,
                  const char *text)
{
    words_refuse(s->c.net, &m->from, m->m.rid, code, text);
}

/* --- the end of a session --- */

static void free_session(struct session *x)
{
    struct stage_server *s = x->server;
    struct session **at = &s->first;
    while (*at != x) at = &(*at)->next;
    *at = x->next;
    s->kv_used -= x->cost;
    group_session_close(x->shared);
    prefix_end(x->prefix, x->kv);
    sent_forget(&x->sent, &s->sent_used);
    free(x);
    stage_tell_room(s);
    s->c.on_change(s->c.arg);
}

void stage_end(struct session *x)
{
    if (x->is_over) return;
    x->is_over = true;
    x->server->n_sessions--;
    if (x->n_jobs > 0)
        compute_cancel(x->server->c.compute, x->kv);
    else
        free_session(x);
}

static void say_failed(struct session *x, enum wire_error code, const char *text)
{
    struct msg m = { .type = MSG_SESS_FAIL, .rid = x->rid };
    m.u.SESS_FAIL.session = slice_of(x->id, SESSION_BYTES);
    m.u.SESS_FAIL.epoch = x->epoch;
    m.u.SESS_FAIL.code = code;
    struct words words;
    m.u.SESS_FAIL.text = words_for_wire(&words, text);
    stage_answer(x->server, &x->coordinator, &m);
    log_info("a session ended: %s", text);
}

/* End it and tell the coordinator why. */
void stage_fail(struct session *x, enum wire_error code, const char *text)
{
    say_failed(x, code, text);
    stage_end(x);
}

/* It cannot go on as it is, but what it holds is still good. */
void stage_break(struct session *x, enum wire_error code, const char *text)
{
    if (x->is_broken) return;
    say_failed(x, code, text);
    x->is_broken = true;
    x->used_ms = now_ms(x->server->c.hub);
}

struct session *stage_find(struct stage_server *s, struct slice id)
{
    for (struct session *x = s->first; x; x = x->next)
        if (!x->is_over && memcmp(x->id, id.p, SESSION_BYTES) == 0) return x;
    return NULL;
}

/* --- rows --- */

static void drop_step(struct note *n)
{
    struct step_job *j = (struct step_job *)n;
    j->mail->note.drop(&j->mail->note);
    free(j);
}

/* Rows that begin at pos may follow what x has: they go on where it ends, or in the place of a
 * draft.  Then nothing of x is under way, for whoever sends them has seen what came of the drafts.
 */
static bool follows(const struct session *x, uint64_t pos)
{
    return pos == x->accepted || (pos >= x->firm && pos < x->accepted && x->n_jobs == 0);
}

/* Forget what is at pos and past it. */
static void rewind_to(struct session *x, uint32_t pos)
{
    if (pos < kv_len(x->kv)) kv_trim(x->kv, pos);
    sent_trim(&x->sent, pos);
    if (x->held > pos) x->held = pos;
    if (x->firm > pos) x->firm = pos;
    x->accepted = pos;
}

/* May these rows enter?  false: the sender or the session has been told. */
static bool check_act(struct stage_server *s, struct session *x, const struct mail *m)
{
    const struct msg_ACT *a = &m->m.u.ACT;
    if (!node_id_equal(&m->from, &x->prev)) {
        stage_refuse(s, m, WIRE_NOT_ALLOWED, "another node is this session's previous stage");
        net_strike(s->c.net, &m->from, "rows for a session of others");
        return false;
    }
    char text[160], me[NODE_ID_SHORT];
    node_id_short(me, &s->c.me);
    if (x->has_begun ? !follows(x, a->pos) : a->pos != x->accepted && a->pos > x->known) {
        snprintf(text, sizeof text, "rows came out of order: position %u where %u is next",
                 (unsigned)a->pos, x->accepted);
        stage_fail(x, WIRE_OUT_OF_ORDER, text);
    } else if (a->x.n != a->rows * s->row_bytes || a->want > a->rows || a->drafts > a->rows) {
        snprintf(text, sizeof text, "%u rows in %zu bytes, a row has %zu", (unsigned)a->rows,
                 a->x.n, s->row_bytes);
        stage_fail(x, WIRE_BAD_MESSAGE, text);
    } else if (a->pos + a->rows > x->tokens) {
        snprintf(text, sizeof text, "position %u is past the %u that this session was granted",
                 (unsigned)(a->pos + a->rows - 1), x->tokens);
        stage_fail(x, WIRE_KV_FULL, text);
    } else if (s->n_jobs >= STAGE_JOBS_MAX) {
        stage_fail(x, WIRE_BUSY, "too many steps wait here");
    } else {
        return true;
    }
    return false;
}

/* When rows were here. */
struct stay {
    uint64_t came_ns, left_ns;
};

/* The result goes on: all rows to the next stage, or those wanted to the coordinator. */
static enum err send_on(struct stage_server *s, struct session *x, const struct mail *in)
{
    struct msg m = { .type = MSG_ACT };
    struct msg_ACT *a = &m.u.ACT;
    *a = in->m.u.ACT;
    if (x->is_last) {
        if (a->want == 0) return ERR_OK;
        m.rid = x->rid;
        size_t skipped = (size_t)(a->rows - a->want);
        a->pos += skipped;
        a->rows = a->want;
        a->drafts = 0;
        a->x = slice_of(a->x.p + skipped * s->row_bytes, a->want * s->row_bytes);
    }
    enum err e = net_send(s->c.net, &x->following, &m);
    if (!e && !x->is_last) stage_watch_next(s, x);
    return e;
}

static void send_step_done(struct stage_server *s, const struct session *x, const struct mail *in,
                           const struct job *j, const struct stay *stay)
{
    struct msg m = { .type = MSG_STEP_DONE };
    m.u.STEP_DONE.session = slice_of(x->id, SESSION_BYTES);
    m.u.STEP_DONE.epoch = x->epoch;
    m.u.STEP_DONE.step = in->m.u.ACT.step;
    m.u.STEP_DONE.compute_us = j ? j->compute_us : 0;
    m.u.STEP_DONE.wait_us = j ? j->wait_us : 0;
    if (x->is_traced) {
        m.u.STEP_DONE.came = stay->came_ns / 1000;
        m.u.STEP_DONE.stay_us = (stay->left_ns - stay->came_ns) / 1000;
    }
    stage_answer(s, &x->coordinator, &m);
}

/* The rows of in are what they are to be; j: of their computing, NULL: there was none. */
static void pass_on(struct stage_server *s, struct session *x, const struct mail *in,
                    const struct job *j, uint64_t came_ns)
{
    char id[NODE_ID_SHORT], text[160];
    struct stay stay = { came_ns, uv_hrtime() };
    enum err e = send_on(s, x, in);
    if (!e) {
        send_step_done(s, x, in, j, &stay);
        return;
    }
    node_id_short(id, &x->following);
    snprintf(text, sizeof text, "the next stage %s %s", id,
             e == ERR_FULL ? "reads too slowly" : "cannot be reached");
    stage_break(x, e == ERR_FULL ? WIRE_BUSY : WIRE_LOST_STAGE, text);
}

/* The first rows are those of position pos: what is behind it is forgotten, unless they are rows
 * that were sent on before. */
static void begin_at(struct session *x, uint32_t pos)
{
    if (x->has_begun) return;
    x->has_begun = true;
    x->accepted = pos;
    if (x->held > 0 && pos >= x->sent.from) return;
    x->held = 0;
    kv_trim(x->kv, pos);
    sent_begin(&x->sent, pos);
}

/* Takes m when it returns true. */
static bool on_act(struct stage_server *s, struct mail *m)
{
    const struct msg_ACT *a = &m->m.u.ACT;
    struct session *x = stage_find(s, a->session);
    if (!x || x->is_broken || x->is_adopted || x->is_fetching)
        return false; /* it was closed on the way */
    if (!check_act(s, x, m)) return false;
    uint64_t came_ns = uv_hrtime();
    begin_at(x, (uint32_t)a->pos);
    uint32_t pos = (uint32_t)a->pos, n = (uint32_t)a->rows;
    if (pos < x->accepted) rewind_to(x, pos);
    uint32_t known = x->held > pos ? x->held - pos : 0;
    uint8_t *rows = m->bytes + (a->x.p - m->bytes);
    if (known > n) known = n;
    if (known > 0) memcpy(rows, sent_row(&x->sent, pos, s->row_bytes), known * s->row_bytes);
    x->accepted += n;
    x->firm = x->accepted - (uint32_t)a->drafts;
    x->used_ms = now_ms(s->c.hub);
    if (known == n) {
        pass_on(s, x, m, NULL, came_ns);
        return false;
    }

    struct step_job *j = calloc(1, sizeof *j + (x->prefix ? (n - known) * (size_t)HASH_WIRE : 0));
    if (!j) {
        stage_fail(x, WIRE_NO_MEMORY, err_text(ERR_NOMEM));
        return false;
    }
    j->rows.job.note = (struct note){ .kind = NOTE_COMPUTED, .drop = drop_step };
    j->rows.job.to = &s->actor;
    j->rows.lo = x->lo;
    j->rows.hi = x->hi;
    j->rows.kv = x->kv;
    j->rows.sharer = x->shared ? group_session_sharer(x->shared) : NULL;
    j->rows.pos = pos + known;
    j->rows.n = n - known;
    j->rows.x = rows + known * s->row_bytes;
    j->rows.is_token = a->want == a->rows && n <= FEW_ROWS;
    j->rows.rank = x->rank;
    j->rows.who = fair_who(x->coordinator.b);
    j->rows.together = (uint32_t)a->together;
    j->rows.hashes = x->prefix ? j->hashes : NULL;
    j->rows.hash_pos = j->rows.pos;
    j->session = x;
    j->round = x->round;
    j->came_ns = came_ns;
    j->mail = m;
    x->n_jobs++;
    s->n_jobs++;
    compute_rows(s->c.compute, &j->rows);
    return true;
}

static void on_failed_step(struct session *x, const struct job *j)
{
    char text[160];
    switch (j->err) {
    case ERR_NONFINITE:
        snprintf(text, sizeof text, "a number is not finite in layer %u at position %u",
                 j->bad.layer, j->bad.pos);
        stage_fail(x, WIRE_NONFINITE, text);
        break;
    case ERR_NOMEM: stage_fail(x, WIRE_NO_MEMORY, err_text(ERR_NOMEM)); break;
    case ERR_CANCELLED: stage_fail(x, WIRE_SHUTTING_DOWN, "it is shutting down"); break;
    case ERR_CLOSED: /* a member of the group, and K and V with it */
    case ERR_NOTFOUND:
        snprintf(text, sizeof text, "a node that shares layer %u is lost", j->bad.layer);
        stage_fail(x, WIRE_LOST_MEMBER, text);
        break;
    default: stage_fail(x, WIRE_INTERNAL, err_text(j->err)); break;
    }
}

/* A job of x is back; is x still of use? */
bool stage_is_back(struct session *x)
{
    struct stage_server *s = x->server;
    x->n_jobs--;
    s->n_jobs--;
    if (x->is_over && x->n_jobs == 0) {
        free_session(x);
        return false;
    }
    x->used_ms = now_ms(s->c.hub);
    return !x->is_over;
}

/* n rows through x's layers are done. */
static void count_rows(struct stage_server *s, const struct session *x, uint32_t n)
{
    bool is_own = node_id_equal(&x->coordinator, &s->c.me);
    counters_add(s->c.counters, is_own ? COUNT_ROWS_OWN : COUNT_ROWS_GIVEN,
                 (uint64_t)n * (x->hi - x->lo));
}

/* As many steps of one job. */
static void count_time(struct stage_server *s, const struct job *j, bool is_token, uint32_t steps)
{
    if (steps == 0) return;
    counters_time(s->c.counters, is_token ? TIME_DECODE : TIME_PREFILL,
                  (double)j->compute_us / steps, steps);
    counters_time(s->c.counters, is_token ? TIME_DECODE_WAIT : TIME_PREFILL_WAIT, j->wait_us, 1);
}

static void on_computed(struct stage_server *s, const struct step_job *j)
{
    const struct msg_ACT *a = &j->mail->m.u.ACT;
    struct session *x = j->session;
    if (!stage_is_back(x)) return;
    bool is_old = j->round != x->round; /* what fails then fails again, when it is sent again */
    if (j->rows.job.err && !is_old) {
        on_failed_step(x, &j->rows.job);
        return;
    }
    if (j->rows.job.err) {
        if (x->is_adopted && x->n_jobs == 0) stage_finish_adoption(s, x);
        return;
    }
    count_rows(s, x, j->rows.n);
    count_time(s, &j->rows.job, a->want > 0 && a->rows == 1 + a->drafts, 1);
    sent_add(&x->sent, &s->sent_used, j->rows.pos, j->rows.n, j->rows.x, s->row_bytes);
    prefix_feed(x->prefix, j->rows.pos, j->hashes, j->rows.n,
                (uint32_t)(a->pos + a->rows - a->drafts));
    if (!is_old && !x->is_broken) pass_on(s, x, j->mail, &j->rows.job, j->came_ns);
    if (x->is_adopted && x->n_jobs == 0) stage_finish_adoption(s, x);
}

/* --- steps at home --- */

static void drop_home(struct note *n)
{
    (void)n; /* the job is the coordinator's */
}

enum err stage_server_decode(struct stage_server *s, const uint8_t id[SESSION_BYTES],
                             struct home_job *h)
{
    struct session *x = stage_find(s, slice_of(id, SESSION_BYTES));
    struct rows_job *j = &h->decode.rows;
    bool is_home = x && node_id_equal(&x->coordinator, &s->c.me) &&
                   node_id_equal(&x->prev, &s->c.me) && x->is_last;
    if (!is_home) return ERR_NOTFOUND;
    if (x->n_jobs > 0 || !follows(x, j->pos) || h->decode.limit == 0 ||
        h->decode.limit > DECODE_MAX || h->decode.limit > x->tokens - j->pos)
        return ERR_RANGE;
    rewind_to(x, j->pos);
    j->job.note = (struct note){ .kind = NOTE_DECODED, .drop = drop_home };
    j->job.to = &s->actor;
    j->lo = x->lo;
    j->hi = x->hi;
    j->kv = x->kv;
    j->hashes = x->prefix ? h->hashes : NULL;
    j->hash_pos = j->pos;
    j->sharer = x->shared ? group_session_sharer(x->shared) : NULL;
    h->session = x;
    x->used_ms = now_ms(s->c.hub);
    x->n_jobs++;
    s->n_jobs++;
    compute_decode(s->c.compute, &h->decode);
    return ERR_OK;
}

/* The session goes on where the tokens end, and the coordinator hears of them.  Logits are his:
 * that they are not finite is no fault of the session. */
static void on_decoded(struct stage_server *s, struct home_job *h)
{
    const struct job *j = &h->decode.rows.job;
    struct session *x = h->session;
    if (stage_is_back(x)) {
        x->accepted += h->decode.n_tokens;
        x->firm = x->accepted;
        prefix_feed(x->prefix, h->decode.rows.hash_pos, h->hashes, h->decode.n_tokens, x->accepted);
        count_rows(s, x, h->decode.n_tokens);
        count_time(s, j, true, h->decode.n_tokens);
        if (j->err && !(j->err == ERR_NONFINITE && j->bad.layer == ARCH_ENDS)) on_failed_step(x, j);
    }
    h->decode.rows.job.note.kind = h->kind;
    /* Fails when the coordinator has gone, and its requests with it. */
    if (actor_post(h->to, &h->decode.rows.job.note)) log_debug("tokens came too late");
}

static void on_note(struct actor *a, struct note *n)
{
    struct stage_server *s = (struct stage_server *)a;
    if (n->kind == NOTE_DECODED) {
        on_decoded(s, (struct home_job *)n);
        return;
    }
    on_computed(s, (struct step_job *)n);
    n->drop(n);
}

/* --- other messages --- */

static void on_trim(struct stage_server *s, const struct mail *m)
{
    const struct msg_KV_TRIM *t = &m->m.u.KV_TRIM;
    struct session *x = stage_find(s, t->session);
    if (!x || !node_id_equal(&m->from, &x->coordinator)) {
        stage_refuse(s, m, WIRE_NO_SUCH_SESSION, "no such session here");
    } else if (x->n_jobs > 0 || t->len > x->accepted) {
        stage_refuse(s, m, WIRE_OUT_OF_ORDER, "steps of the session are under way");
    } else {
        rewind_to(x, (uint32_t)t->len);
    }
}

static void on_close(struct stage_server *s, const struct mail *m)
{
    struct session *x = stage_find(s, m->m.u.SESS_CLOSE.session);
    if (x && node_id_equal(&m->from, &x->coordinator)) stage_end(x);
}

void stage_server_on_mail(struct stage_server *s, struct mail *m)
{
    bool is_taken = false;
    switch (m->m.type) {
    case MSG_SESS_OPEN: stage_on_open(s, m); break;
    case MSG_ACT: is_taken = on_act(s, m); break;
    case MSG_KV_TRIM: on_trim(s, m); break;
    case MSG_SESS_CLOSE: on_close(s, m); break;
    default: break;
    }
    if (!is_taken) m->note.drop(&m->note);
}

/* Someone has gone: sessions that he coordinated end at once, sessions that would send to him
 * fail.  A previous stage that vanishes is the coordinator's to notice. */
void stage_server_on_peer(struct stage_server *s, const struct node_id *id, bool up,
                          const char *why)
{
    if (up) return;
    char short_id[NODE_ID_SHORT], text[300];
    node_id_short(short_id, id);
    snprintf(text, sizeof text, "the next stage %s cannot be reached: %.200s", short_id,
             why && *why ? why : "the connection is lost");
    for (struct session *x = s->first, *next; x; x = next) {
        next = x->next;
        if (x->is_over) continue;
        if (node_id_equal(&x->coordinator, id))
            stage_end(x);
        else if (node_id_equal(&x->following, id))
            stage_break(x, WIRE_LOST_STAGE, text);
    }
}

static void on_tick(uv_timer_t *t)
{
    struct stage_server *s = t->data;
    uint64_t now = now_ms(s->c.hub);
    for (struct session *x = s->first, *next; x; x = next) {
        next = x->next;
        if (x->is_over || x->n_jobs > 0) continue;
        if (x->is_broken && now - x->used_ms > BROKEN_MS)
            stage_end(x);
        else if (now - x->used_ms > s->c.idle_ms)
            stage_fail(x, WIRE_TIMEOUT, "nobody used the session for too long");
    }
}

/* --- life --- */

static enum err open_prefixes(struct stage_server *s)
{
    const struct stage_server_config *c = &s->c;
    struct prefixes_config pc = { .hub = c->hub,
                                  .net = c->net,
                                  .compute = c->compute,
                                  .weights = c->weights,
                                  .max_bytes = c->prefix_bytes,
                                  .shelf = c->shelf };
    if (c->prefix_bytes == 0 || c->weights->lo == c->weights->hi) return ERR_OK;
    enum err e = prefixes_open(&s->prefixes, &pc);
    if (!e) stage_tell_room(s);
    return e;
}

enum err stage_server_open(struct stage_server **out, const struct stage_server_config *c)
{
    struct stage_server *s = calloc(1, sizeof *s);
    if (!s) return ERR_NOMEM;
    s->c = *c;
    s->row_bytes = arch_row_bytes(&c->weights->manifest.arch);
    s->lo = c->weights->lo;
    s->hi = c->weights->hi;
    if (c->group) holding_led(&c->weights->held, &s->lo, &s->hi);
    s->timer = malloc(sizeof *s->timer);
    s->watch = malloc(sizeof *s->watch);
    enum err e = s->timer && s->watch ? actor_init(&s->actor, c->hub, "stage",
                                                   STAGE_JOBS_MAX + STAGE_SESSIONS_MAX, on_note)
                                      : ERR_NOMEM;
    if (!e && (e = open_prefixes(s))) actor_fini(&s->actor);
    if (e) {
        free(s->timer);
        free(s->watch);
        free(s);
        return e;
    }
    uv_timer_init(&c->hub->loop, s->timer);
    uv_timer_init(&c->hub->loop, s->watch);
    s->timer->data = s->watch->data = s;
    uint64_t tick_ms = c->idle_ms / 4 < TICK_MAX_MS ? c->idle_ms / 4 + 1 : TICK_MAX_MS;
    uv_timer_start(s->timer, on_tick, tick_ms, tick_ms);
    *out = s;
    return ERR_OK;
}

void stage_server_drain(struct stage_server *s)
{
    s->draining = true;
}

void stage_server_pause(struct stage_server *s, bool is_paused)
{
    s->paused = is_paused;
}

static bool is_guest(const struct session *x)
{
    return !x->is_over && !node_id_equal(&x->coordinator, &x->server->c.me);
}

uint32_t stage_server_guests(const struct stage_server *s)
{
    uint32_t n = 0;
    for (const struct session *x = s->first; x; x = x->next) n += is_guest(x);
    return n;
}

void stage_server_send_away(struct stage_server *s, const char *text)
{
    for (struct session *x = s->first, *next; x; x = next) {
        next = x->next;
        if (is_guest(x)) stage_fail(x, WIRE_SHUTTING_DOWN, text);
    }
}

void stage_server_stop(struct stage_server *s)
{
    s->stopping = true;
    for (struct session *x = s->first, *next; x; x = next) {
        next = x->next;
        if (!x->is_over) stage_fail(x, WIRE_SHUTTING_DOWN, "it is shutting down");
    }
}

static void on_timer_closed(uv_handle_t *h)
{
    free(h);
}

void stage_server_close(struct stage_server *s)
{
    if (!s) return;
    actor_fini(&s->actor); /* drops finished steps that nobody waits for any more */
    while (s->first) {
        struct session *x = s->first;
        s->first = x->next;
        group_session_close(x->shared);
        prefix_end(x->prefix, x->kv);
        sent_forget(&x->sent, &s->sent_used);
        free(x);
    }
    prefixes_close(s->prefixes);
    uv_close((uv_handle_t *)s->timer, on_timer_closed);
    uv_close((uv_handle_t *)s->watch, on_timer_closed);
    free(s);
}
