#include "node/stage.h"

#include "base/log.h"
#include "node/sent.h"
#include "node/words.h"

#include <stdio.h>
#include <stdlib.h>

enum { NOTE_COMPUTED = 1, NOTE_DECODED };
enum { TICK_MAX_MS = 10000, BROKEN_MS = 60000 /* for a coordinator to adopt a session */ };
/* The next stage got rows and we heard nothing of it: it is asked, and lost when it does not
 * answer. (The coordinator may well hear it, where only the line between the two is cut.) */
enum { WATCH_MS = 250, ASK_MS = 1000, UNANSWERED_MS = 1750 };

struct session {
    /* identity */
    struct session *next;
    struct stage_server *server;
    uint8_t id[SESSION_BYTES];
    uint32_t rid; /* of SESS_OPEN, for the coordinator's answers */
    uint32_t epoch;
    struct node_id coordinator, prev;
    struct node_id following; /* the next stage; the coordinator after the last */
    bool is_last;
    uint32_t lo, hi; /* [lo, hi) of our layers */
    uint64_t cost;   /* bytes of K and V */

    /* live state */
    struct kv *kv;     /* owned; touched by the compute thread while n_jobs > 0 */
    uint32_t tokens;   /* positions granted */
    uint32_t accepted; /* positions given to the compute thread */
    uint32_t n_jobs;   /* on the compute thread */
    struct sent sent;  /* what went on */
    uint32_t held;     /* positions [0, held) are answered from it */
    uint32_t round;    /* grows when the session is adopted; jobs of before send nothing on */
    bool is_broken;    /* its next stage is lost: it computes nothing, and may be adopted */
    bool is_adopted;   /* and not yet granted: jobs of before are still under way */
    uint64_t used_ms;  /* when somebody last wanted something of it */
    uint64_t sent_ms;  /* when rows went to a next stage that was not heard since; 0: none did */
    uint64_t last_ms;  /* when the last ones did */
    uint64_t asked_ms; /* when it was asked for a sign of life; 0: it was not */
    bool is_over;      /* unlinked from the world; freed when the last job is back */
};

/* A chunk of a session on its way through the compute thread, with the message it came in, whose
 * rows are computed in place. */
struct step_job {
    struct rows_job rows; /* first */
    struct session *session;
    uint32_t round;
    struct mail *mail; /* owned */
};

struct stage_server {
    struct actor actor; /* first */
    struct stage_server_config c;
    size_t row_bytes;
    uv_timer_t *timer, *watch;
    struct session *first; /* owned */
    uint32_t n_sessions;   /* not over */
    uint32_t n_jobs;
    uint64_t kv_used; /* bytes */
    size_t sent_used; /* bytes */
    bool stopping, draining;
};

/* --- answers --- */

static void answer(struct stage_server *s, const struct node_id *to, const struct msg *m)
{
    enum err e = net_send(s->c.net, to, m);
    if (e) log_debug("an answer was not sent: %s", err_text(e));
}

static void send_error(struct stage_server *s, const struct mail *m, enum wire_error code,
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
    kv_close(x->kv);
    sent_forget(&x->sent, &s->sent_used);
    free(x);
    s->c.on_change(s->c.arg);
}

static void end_session(struct session *x)
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
    answer(x->server, &x->coordinator, &m);
    log_info("a session ended: %s", text);
}

/* End it and tell the coordinator why. */
static void fail_session(struct session *x, enum wire_error code, const char *text)
{
    say_failed(x, code, text);
    end_session(x);
}

/* It cannot go on as it is, but what it holds is still good. */
static void break_session(struct session *x, enum wire_error code, const char *text)
{
    if (x->is_broken) return;
    say_failed(x, code, text);
    x->is_broken = true;
    x->used_ms = now_ms(x->server->c.hub);
}

static struct session *find(struct stage_server *s, struct slice id)
{
    for (struct session *x = s->first; x; x = x->next)
        if (!x->is_over && memcmp(x->id, id.p, SESSION_BYTES) == 0) return x;
    return NULL;
}

/* --- opening --- */

static uint64_t bytes_per_token(const struct stage_server *s)
{
    return arch_kv_bytes(&s->c.weights->manifest.arch) * (s->c.weights->hi - s->c.weights->lo);
}

uint32_t stage_server_sessions(const struct stage_server *s)
{
    return s->n_sessions;
}

uint64_t stage_server_kv_used(const struct stage_server *s)
{
    return s->kv_used;
}

uint32_t stage_server_free_tokens(const struct stage_server *s)
{
    uint64_t per_token = bytes_per_token(s);
    if (per_token == 0 || s->kv_used >= s->c.kv_bytes) return 0;
    uint64_t n = (s->c.kv_bytes - s->kv_used) / per_token;
    n = n / KV_BLOCK * KV_BLOCK; /* a session holds whole blocks of positions */
    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX / KV_BLOCK * KV_BLOCK;
}

/* May this session be opened?  0, or the code with why in words. */
static unsigned check_open(struct stage_server *s, const struct msg_SESS_OPEN *o, struct why *why)
{
    const struct weights *w = s->c.weights;
    char me[NODE_ID_SHORT];
    node_id_short(me, &s->c.me);
    if (s->stopping || s->draining) {
        fail(why, ERR_CLOSED, "it is shutting down");
        return WIRE_SHUTTING_DOWN;
    }
    if (memcmp(o->model.p, w->name.id.b, ID_BYTES) != 0) {
        fail(why, ERR_NOTFOUND, "node %s holds %s, which is another model", me, w->name.name);
        return WIRE_NO_SUCH_MODEL;
    }
    if (w->lo == w->hi) {
        fail(why, ERR_NOTFOUND, "node %s holds no layers", me);
        return WIRE_NO_SUCH_LAYERS;
    }
    if (o->layer_lo >= o->layer_hi || o->layer_lo < w->lo || o->layer_hi > w->hi) {
        fail(why, ERR_NOTFOUND, "node %s holds layers %u-%u, not all of %u-%u", me, w->lo,
             w->hi - 1, (unsigned)o->layer_lo, (unsigned)o->layer_hi - 1);
        return WIRE_NO_SUCH_LAYERS;
    }
    if (o->max_tokens > s->c.context) {
        fail(why, ERR_FULL, "this conversation needs %u positions, node %s grants %u",
             (unsigned)o->max_tokens, me, s->c.context);
        return WIRE_KV_FULL;
    }
    if (s->n_sessions >= STAGE_SESSIONS_MAX) {
        fail(why, ERR_BUSY, "node %s serves %u sessions already", me, s->n_sessions);
        return WIRE_BUSY;
    }
    return 0;
}

/* Who sends to x, and to whom it sends; m is the opening. */
static void place(struct session *x, const struct mail *m)
{
    const struct msg_SESS_OPEN *o = &m->m.u.SESS_OPEN;
    memcpy(x->id, o->session.p, SESSION_BYTES);
    memcpy(x->prev.b, o->prev_id.p, ID_BYTES);
    x->rid = m->m.rid;
    x->epoch = (uint32_t)o->epoch;
    x->coordinator = x->following = m->from;
    x->is_last = o->next_id.n == 0;
    if (!x->is_last) memcpy(x->following.b, o->next_id.p, ID_BYTES);
    x->used_ms = now_ms(x->server->c.hub);
}

static enum err make_session(struct stage_server *s, const struct mail *m, struct why *why)
{
    const struct msg_SESS_OPEN *o = &m->m.u.SESS_OPEN;
    const struct arch *a = &s->c.weights->manifest.arch;
    uint32_t lo = (uint32_t)o->layer_lo, hi = (uint32_t)o->layer_hi;
    uint32_t tokens = (uint32_t)o->max_tokens;
    uint64_t cost = kv_cost(a, lo, hi, tokens);
    if (s->kv_used + cost > s->c.kv_bytes) {
        char me[NODE_ID_SHORT];
        node_id_short(me, &s->c.me);
        return fail(why, ERR_FULL, "this conversation needs %u positions, node %s has room for %u",
                    tokens, me, stage_server_free_tokens(s));
    }
    struct session *x = calloc(1, sizeof *x);
    if (!x || kv_open(&x->kv, a, lo, hi, tokens)) {
        free(x);
        return fail(why, ERR_NOMEM, "no memory for a conversation of %u positions", tokens);
    }
    x->server = s;
    place(x, m);
    x->lo = lo;
    x->hi = hi;
    x->cost = cost;
    x->tokens = tokens;
    x->next = s->first;
    s->first = x;
    s->n_sessions++;
    s->kv_used += cost;
    return ERR_OK;
}

/* The next stage could not be dialled; it may have connected to us meanwhile. */
static void on_dialled(void *arg, const struct node_id *id, enum err e, const char *why)
{
    struct stage_server *s = arg;
    if (e && !net_is_up(s->c.net, id)) stage_server_on_peer(s, id, false, why);
}

/* Connect to the next stage already while the others open their sessions. */
static void reach_next(struct stage_server *s, const struct session *x, struct slice addr)
{
    if (x->is_last || node_id_equal(&x->following, &s->c.me) || net_is_up(s->c.net, &x->following))
        return;
    char host[256], text[80];
    uint16_t port;
    if (!addr.n || !addr_text(text, sizeof text, addr) || hostport_parse(host, &port, text, NULL))
        return; /* it may still dial us; else the first rows find out */
    net_hint(s->c.net, &x->following, addr);
    net_dial(s->c.net, &x->following, host, port, on_dialled, s);
}

static void grant(struct stage_server *s, const struct session *x)
{
    struct msg ok = { .type = MSG_SESS_OK, .rid = x->rid };
    ok.u.SESS_OK.session = slice_of(x->id, SESSION_BYTES);
    ok.u.SESS_OK.epoch = x->epoch;
    ok.u.SESS_OK.held = x->held;
    ok.u.SESS_OK.limit = x->tokens;
    answer(s, &x->coordinator, &ok);
    s->c.on_change(s->c.arg);
}

/* No job of x is under way: it goes on from what it holds. */
static void finish_adoption(struct stage_server *s, struct session *x)
{
    x->is_adopted = false;
    x->held = x->sent.n;
    x->accepted = 0;
    kv_trim(x->kv, x->held);
    grant(s, x);
}

/* The session that m is to go on with, of the same coordinator for the same; NULL: there is none,
 * and m is an opening like any other. */
static struct session *to_adopt(struct stage_server *s, const struct mail *m)
{
    const struct msg_SESS_OPEN *o = &m->m.u.SESS_OPEN;
    struct session *x = o->adopts.n == SESSION_BYTES ? find(s, o->adopts) : NULL;
    bool is_same = x && node_id_equal(&x->coordinator, &m->from) && x->lo == o->layer_lo &&
                   x->hi == o->layer_hi && x->tokens == o->max_tokens &&
                   memcmp(o->model.p, s->c.weights->name.id.b, ID_BYTES) == 0;
    return is_same ? x : NULL;
}

static void adopt(struct stage_server *s, struct session *x, const struct mail *m)
{
    place(x, m);
    x->round++;
    x->is_broken = false;
    x->is_adopted = true;
    reach_next(s, x, m->m.u.SESS_OPEN.next_addr);
    if (x->n_jobs == 0) finish_adoption(s, x);
}

static void on_open(struct stage_server *s, const struct mail *m)
{
    const struct msg_SESS_OPEN *o = &m->m.u.SESS_OPEN;
    struct why why;
    if (m->m.rid == 0 || (o->next_id.n != 0 && o->next_id.n != ID_BYTES)) {
        send_error(s, m, WIRE_BAD_MESSAGE, "SESS_OPEN needs a request number and a whole next id");
        return;
    }
    struct session *old = find(s, o->session);
    if (old) {
        send_error(s, m, WIRE_NOT_ALLOWED, "a session of that id is open");
        return;
    }
    struct session *heritage = to_adopt(s, m);
    if (heritage && !s->stopping) {
        adopt(s, heritage, m);
        return;
    }
    unsigned code = check_open(s, o, &why);
    if (!code) {
        enum err e = make_session(s, m, &why);
        if (e) code = e == ERR_FULL ? WIRE_KV_FULL : WIRE_NO_MEMORY;
    }
    if (code) {
        send_error(s, m, (enum wire_error)code, why.text);
        return;
    }
    reach_next(s, s->first, o->next_addr);
    grant(s, s->first);
}

/* --- rows --- */

static void drop_step(struct note *n)
{
    struct step_job *j = (struct step_job *)n;
    j->mail->note.drop(&j->mail->note);
    free(j);
}

/* May these rows enter?  false: the sender or the session has been told. */
static bool check_act(struct stage_server *s, struct session *x, const struct mail *m)
{
    const struct msg_ACT *a = &m->m.u.ACT;
    if (!node_id_equal(&m->from, &x->prev)) {
        send_error(s, m, WIRE_NOT_ALLOWED, "another node is this session's previous stage");
        net_strike(s->c.net, &m->from, "rows for a session of others");
        return false;
    }
    char text[160], me[NODE_ID_SHORT];
    node_id_short(me, &s->c.me);
    if (a->pos != x->accepted) {
        snprintf(text, sizeof text, "rows came out of order: position %u where %u is next",
                 (unsigned)a->pos, x->accepted);
        fail_session(x, WIRE_OUT_OF_ORDER, text);
    } else if (a->x.n != a->rows * s->row_bytes || a->want > a->rows) {
        snprintf(text, sizeof text, "%u rows in %zu bytes, a row has %zu", (unsigned)a->rows,
                 a->x.n, s->row_bytes);
        fail_session(x, WIRE_BAD_MESSAGE, text);
    } else if (a->pos + a->rows > x->tokens) {
        snprintf(text, sizeof text, "position %u is past the %u that this session was granted",
                 (unsigned)(a->pos + a->rows - 1), x->tokens);
        fail_session(x, WIRE_KV_FULL, text);
    } else if (s->n_jobs >= STAGE_JOBS_MAX) {
        fail_session(x, WIRE_BUSY, "too many steps wait here");
    } else {
        return true;
    }
    return false;
}

static void on_watch(uv_timer_t *t);

static void watch_next(struct stage_server *s, struct session *x)
{
    x->last_ms = now_ms(s->c.hub);
    if (!x->sent_ms) x->sent_ms = x->last_ms;
    if (!uv_is_active((uv_handle_t *)s->watch))
        uv_timer_start(s->watch, on_watch, WATCH_MS, WATCH_MS);
}

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
        a->x = slice_of(a->x.p + skipped * s->row_bytes, a->want * s->row_bytes);
    }
    enum err e = net_send(s->c.net, &x->following, &m);
    if (!e && !x->is_last) watch_next(s, x);
    return e;
}

static void send_step_done(struct stage_server *s, const struct session *x, const struct mail *in,
                           const struct job *j)
{
    struct msg m = { .type = MSG_STEP_DONE };
    m.u.STEP_DONE.session = slice_of(x->id, SESSION_BYTES);
    m.u.STEP_DONE.epoch = x->epoch;
    m.u.STEP_DONE.step = in->m.u.ACT.step;
    m.u.STEP_DONE.compute_us = j ? j->compute_us : 0;
    m.u.STEP_DONE.wait_us = j ? j->wait_us : 0;
    answer(s, &x->coordinator, &m);
}

/* The rows of in are what they are to be; j: of their computing, NULL: there was none. */
static void pass_on(struct stage_server *s, struct session *x, const struct mail *in,
                    const struct job *j)
{
    char id[NODE_ID_SHORT], text[160];
    enum err e = send_on(s, x, in);
    if (!e) {
        send_step_done(s, x, in, j);
        return;
    }
    node_id_short(id, &x->following);
    snprintf(text, sizeof text, "the next stage %s %s", id,
             e == ERR_FULL ? "reads too slowly" : "cannot be reached");
    break_session(x, e == ERR_FULL ? WIRE_BUSY : WIRE_LOST_STAGE, text);
}

/* Takes m when it returns true. */
static bool on_act(struct stage_server *s, struct mail *m)
{
    const struct msg_ACT *a = &m->m.u.ACT;
    struct session *x = find(s, a->session);
    if (!x || x->is_broken || x->is_adopted) return false; /* it was closed on the way */
    if (!check_act(s, x, m)) return false;
    uint32_t pos = (uint32_t)a->pos, n = (uint32_t)a->rows;
    uint32_t known = x->held > pos ? x->held - pos : 0;
    uint8_t *rows = m->bytes + (a->x.p - m->bytes);
    if (known > n) known = n;
    if (known > 0) memcpy(rows, x->sent.p + pos * s->row_bytes, known * s->row_bytes);
    x->accepted += n;
    x->used_ms = now_ms(s->c.hub);
    if (known == n) {
        pass_on(s, x, m, NULL);
        return false;
    }

    struct step_job *j = calloc(1, sizeof *j);
    if (!j) {
        fail_session(x, WIRE_NO_MEMORY, err_text(ERR_NOMEM));
        return false;
    }
    j->rows.job.note = (struct note){ .kind = NOTE_COMPUTED, .drop = drop_step };
    j->rows.job.to = &s->actor;
    j->rows.lo = x->lo;
    j->rows.hi = x->hi;
    j->rows.kv = x->kv;
    j->rows.pos = pos + known;
    j->rows.n = n - known;
    j->rows.x = rows + known * s->row_bytes;
    j->session = x;
    j->round = x->round;
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
        fail_session(x, WIRE_NONFINITE, text);
        break;
    case ERR_NOMEM: fail_session(x, WIRE_NO_MEMORY, err_text(ERR_NOMEM)); break;
    case ERR_CANCELLED: fail_session(x, WIRE_SHUTTING_DOWN, "it is shutting down"); break;
    default: fail_session(x, WIRE_INTERNAL, err_text(j->err)); break;
    }
}

/* A job of x is back; is x still of use? */
static bool is_back(struct stage_server *s, struct session *x)
{
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

static void on_computed(struct stage_server *s, const struct step_job *j)
{
    struct session *x = j->session;
    if (!is_back(s, x)) return;
    bool is_old = j->round != x->round; /* what fails then fails again, when it is sent again */
    if (j->rows.job.err && !is_old) {
        on_failed_step(x, &j->rows.job);
        return;
    }
    if (j->rows.job.err) {
        if (x->is_adopted && x->n_jobs == 0) finish_adoption(s, x);
        return;
    }
    count_rows(s, x, j->rows.n);
    sent_add(&x->sent, &s->sent_used, j->rows.pos, j->rows.n, j->rows.x, s->row_bytes);
    if (!is_old && !x->is_broken) pass_on(s, x, j->mail, &j->rows.job);
    if (x->is_adopted && x->n_jobs == 0) finish_adoption(s, x);
}

/* --- steps at home --- */

static void drop_home(struct note *n)
{
    (void)n; /* the job is the coordinator's */
}

enum err stage_server_decode(struct stage_server *s, const uint8_t id[SESSION_BYTES],
                             struct home_job *h)
{
    struct session *x = find(s, slice_of(id, SESSION_BYTES));
    struct rows_job *j = &h->decode.rows;
    bool is_home = x && node_id_equal(&x->coordinator, &s->c.me) &&
                   node_id_equal(&x->prev, &s->c.me) && x->is_last;
    if (!is_home) return ERR_NOTFOUND;
    if (x->n_jobs > 0 || j->pos != x->accepted || h->decode.limit == 0 ||
        h->decode.limit > DECODE_MAX || h->decode.limit > x->tokens - x->accepted)
        return ERR_RANGE;
    j->job.note = (struct note){ .kind = NOTE_DECODED, .drop = drop_home };
    j->job.to = &s->actor;
    j->lo = x->lo;
    j->hi = x->hi;
    j->kv = x->kv;
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
    if (is_back(s, x)) {
        x->accepted += h->decode.n_tokens;
        count_rows(s, x, h->decode.n_tokens);
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
    struct session *x = find(s, t->session);
    if (!x || !node_id_equal(&m->from, &x->coordinator)) {
        send_error(s, m, WIRE_NO_SUCH_SESSION, "no such session here");
    } else if (x->n_jobs > 0 || t->len > x->accepted) {
        send_error(s, m, WIRE_OUT_OF_ORDER, "steps of the session are under way");
    } else {
        kv_trim(x->kv, (uint32_t)t->len);
        sent_trim(&x->sent, (uint32_t)t->len);
        if (x->held > t->len) x->held = (uint32_t)t->len;
        x->accepted = (uint32_t)t->len;
    }
}

static void on_close(struct stage_server *s, const struct mail *m)
{
    struct session *x = find(s, m->m.u.SESS_CLOSE.session);
    if (x && node_id_equal(&m->from, &x->coordinator)) end_session(x);
}

void stage_server_on_mail(struct stage_server *s, struct mail *m)
{
    bool is_taken = false;
    switch (m->m.type) {
    case MSG_SESS_OPEN: on_open(s, m); break;
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
            end_session(x);
        else if (node_id_equal(&x->following, id))
            break_session(x, WIRE_LOST_STAGE, text);
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
            end_session(x);
        else if (now - x->used_ms > s->c.idle_ms)
            fail_session(x, WIRE_TIMEOUT, "nobody used the session for too long");
    }
}

/* Has the next stage been heard since rows went to it?  It answers a PING at once, whatever it
 * computes. */
static void check_next(struct stage_server *s, struct session *x, uint64_t now)
{
    uint64_t silent = net_silent_ms(s->c.net, &x->following);
    if (silent < now - x->sent_ms) { /* heard since; since the last ones too? */
        x->sent_ms = silent < now - x->last_ms ? 0 : x->last_ms;
        x->asked_ms = 0;
    } else if (!x->asked_ms) {
        if (now - x->sent_ms < ASK_MS) return;
        x->asked_ms = now;
        net_ping(s->c.net, &x->following);
    } else if (now - x->asked_ms >= UNANSWERED_MS) {
        char id[NODE_ID_SHORT], text[160];
        node_id_short(id, &x->following);
        snprintf(text, sizeof text, "the next stage %s does not answer", id);
        x->sent_ms = x->asked_ms = 0;
        break_session(x, WIRE_LOST_STAGE, text);
    }
}

static void on_watch(uv_timer_t *t)
{
    struct stage_server *s = t->data;
    uint64_t now = now_ms(s->c.hub);
    bool is_needed = false;
    for (struct session *x = s->first; x; x = x->next) {
        if (x->sent_ms && (x->is_over || x->is_broken)) x->sent_ms = x->asked_ms = 0;
        if (x->sent_ms) check_next(s, x, now);
        is_needed = is_needed || x->sent_ms;
    }
    if (!is_needed) uv_timer_stop(t);
}

/* --- life --- */

enum err stage_server_open(struct stage_server **out, const struct stage_server_config *c)
{
    struct stage_server *s = calloc(1, sizeof *s);
    if (!s) return ERR_NOMEM;
    s->c = *c;
    s->row_bytes = arch_row_bytes(&c->weights->manifest.arch);
    s->timer = malloc(sizeof *s->timer);
    s->watch = malloc(sizeof *s->watch);
    enum err e = s->timer && s->watch ? actor_init(&s->actor, c->hub, "stage",
                                                   STAGE_JOBS_MAX + STAGE_SESSIONS_MAX, on_note)
                                      : ERR_NOMEM;
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

void stage_server_stop(struct stage_server *s)
{
    s->stopping = true;
    for (struct session *x = s->first, *next; x; x = next) {
        next = x->next;
        if (!x->is_over) fail_session(x, WIRE_SHUTTING_DOWN, "it is shutting down");
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
        kv_close(x->kv);
        sent_forget(&x->sent, &s->sent_used);
        free(x);
    }
    uv_close((uv_handle_t *)s->timer, on_timer_closed);
    uv_close((uv_handle_t *)s->watch, on_timer_closed);
    free(s);
}
