#include "stage/member.h"

#include "base/log.h"
#include "model/share.h"
#include "net/words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    NOTE_COMPUTED = 1,
    RANGES = LIST_MAX / 4,   /* of head groups in one session */
    PIECE_BYTES = 512 << 10, /* of an answer in one message */
};

/* A leader and what it has here. */
struct pact {
    struct pact *next;
    uint8_t id[SESSION_BYTES];
    struct node_id leader;
    struct seat *first; /* owned */
    uint32_t n_jobs;    /* on the compute thread */
    bool is_over;       /* freed when the last job is back */
};

/* K and V of head groups in consecutive layers. */
struct hold {
    uint32_t lo, hi, g_lo, g_hi;
    struct kv *kv; /* owned */
};

/* A session of a leader: what of it is kept here. */
struct seat {
    struct seat *next;
    uint32_t number;
    struct hold hold[RANGES];
    uint32_t n;
    uint64_t cost;   /* bytes */
    uint32_t n_jobs; /* on the compute thread */
    bool is_over;    /* in the member's list; freed when the last job is back */
};

struct work_job {
    struct share_job share; /* first */
    struct member *member;
    struct pact *pact;
    struct mail *mail; /* owned: what is to be computed */
    struct row *row;   /* [rows] owned; heads only */
    struct seat **of;  /* [rows] owned: whose session each row is */
    uint8_t *out;      /* owned */
    size_t out_n;
};

struct member {
    struct actor actor; /* first */
    struct member_config c;
    const struct arch *a;
    struct pact *first; /* owned */
    struct seat *over;  /* owned: ended, while jobs of them are under way */
    uint32_t n_shares, n_sessions;
    uint64_t kv_used; /* bytes */
    bool stopping, paused;
};

/* --- answers --- */

static void answer(struct member *s, const struct node_id *to, const struct msg *m)
{
    enum err e = net_send(s->c.net, to, m);
    if (e) log_debug("an answer to a leader was not sent: %s", err_text(e));
}

static void say_fail(struct member *s, const struct node_id *to, struct slice share, uint32_t rid,
                     enum wire_error code, const char *text)
{
    struct msg m = { .type = MSG_SHARE_FAIL, .rid = rid };
    struct words words;
    m.u.SHARE_FAIL.share = share;
    m.u.SHARE_FAIL.code = code;
    m.u.SHARE_FAIL.text = words_for_wire(&words, text);
    answer(s, to, &m);
}

static void say_ok(struct member *s, const struct mail *in)
{
    struct msg m = { .type = MSG_SHARE_OK, .rid = in->m.rid };
    m.u.SHARE_OK.share = in->m.u.SHARE_OPEN.share;
    m.u.SHARE_OK.number = in->m.u.SHARE_OPEN.number;
    answer(s, &in->from, &m);
}

/* --- the end of sessions and shares --- */

static void changed(struct member *s)
{
    if (s->c.on_change) s->c.on_change(s->c.arg);
}

static void free_seat(struct member *s, struct seat *x)
{
    for (uint32_t i = 0; i < x->n; i++) kv_close(x->hold[i].kv);
    s->kv_used -= x->cost;
    s->n_sessions--;
    free(x);
}

static void unlink_seat(struct seat **at, const struct seat *x)
{
    while (*at != x) at = &(*at)->next;
    *at = x->next;
}

static void end_seat(struct member *s, struct pact *p, struct seat *x)
{
    unlink_seat(&p->first, x);
    if (x->n_jobs == 0) {
        free_seat(s, x);
        return;
    }
    x->is_over = true;
    x->next = s->over;
    s->over = x;
}

static void free_pact(struct member *s, struct pact *p)
{
    struct pact **at = &s->first;
    while (*at != p) at = &(*at)->next;
    *at = p->next;
    free(p);
}

static void end_pact(struct member *s, struct pact *p)
{
    char id[NODE_ID_SHORT];
    if (p->is_over) return;
    node_id_short(id, &p->leader);
    log_info("no longer sharing layers of %s", id);
    while (p->first) end_seat(s, p, p->first);
    p->is_over = true;
    s->n_shares--;
    if (p->n_jobs == 0) free_pact(s, p);
    changed(s);
}

static struct pact *find(struct member *s, struct slice id)
{
    for (struct pact *p = s->first; p; p = p->next)
        if (!p->is_over && memcmp(p->id, id.p, SESSION_BYTES) == 0) return p;
    return NULL;
}

static struct seat *find_seat(const struct pact *p, uint64_t number)
{
    for (struct seat *x = p->first; x; x = x->next)
        if (x->number == number) return x;
    return NULL;
}

/* --- opening --- */

static enum wire_error check_pact(struct member *s, const struct mail *m, struct why *why)
{
    const struct msg_SHARE_OPEN *o = &m->m.u.SHARE_OPEN;
    const struct weights *w = s->c.weights;
    char me[NODE_ID_SHORT];
    node_id_short(me, &s->c.me);
    if (memcmp(o->model.p, w->name.id.b, ID_BYTES) != 0) {
        fail(why, ERR_NOTFOUND, "node %s holds %s, which is another model", me, w->name.name);
        return WIRE_NO_SUCH_MODEL;
    }
    if (w->all_lo == w->all_hi) {
        fail(why, ERR_NOTFOUND, "node %s holds no layers", me);
        return WIRE_NO_SUCH_LAYERS;
    }
    if (s->n_shares >= MEMBER_SHARES_MAX) {
        fail(why, ERR_BUSY, "node %s shares layers with %u others already", me, s->n_shares);
        return WIRE_BUSY;
    }
    return 0;
}

static enum wire_error open_pact(struct member *s, const struct mail *m, struct why *why)
{
    const struct msg_SHARE_OPEN *o = &m->m.u.SHARE_OPEN;
    char id[NODE_ID_SHORT];
    enum wire_error code = check_pact(s, m, why);
    if (code) return code;
    struct pact *p = calloc(1, sizeof *p);
    if (!p) {
        fail(why, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
        return WIRE_NO_MEMORY;
    }
    memcpy(p->id, o->share.p, SESSION_BYTES);
    p->leader = m->from;
    p->next = s->first;
    s->first = p;
    s->n_shares++;
    node_id_short(id, &p->leader);
    log_info("sharing layers of %s", id);
    return 0;
}

/* The i-th range of head groups that a session wants; false: there is no such range here. */
static bool read_hold(const struct member *s, const struct msg_SHARE_OPEN *o, uint32_t i,
                      struct hold *h)
{
    const uint32_t *p = o->parts.p + 4 * (size_t)i;
    const struct weights *w = s->c.weights;
    *h = (struct hold){ .lo = p[0], .hi = p[1], .g_lo = p[2], .g_hi = p[3] };
    bool is_good = h->lo < h->hi && h->lo >= w->all_lo && h->hi <= w->all_hi && h->g_lo < h->g_hi &&
                   h->g_hi <= s->a->n_kv;
    for (uint32_t l = h->lo; is_good && l < h->hi; l++) {
        struct share held;
        share_of(&held, s->a, &w->all[l - w->all_lo]);
        for (uint32_t g = h->g_lo; g < h->g_hi; g++) is_good &= share_has(&held.heads, g);
    }
    return is_good;
}

static uint64_t kv_room(const struct member *s)
{
    uint64_t used = s->kv_used + (s->c.kv_elsewhere ? s->c.kv_elsewhere(s->c.arg) : 0);
    return used < s->c.kv_bytes ? s->c.kv_bytes - used : 0;
}

static enum wire_error check_seat(struct member *s, const struct pact *p,
                                  const struct msg_SHARE_OPEN *o, struct seat *x, struct why *why)
{
    char me[NODE_ID_SHORT];
    node_id_short(me, &s->c.me);
    if (o->parts.n == 0 || o->parts.n % 4 || o->max_tokens == 0 || find_seat(p, o->number)) {
        fail(why, ERR_MALFORMED, "that is no session to open");
        return WIRE_BAD_MESSAGE;
    }
    if (o->max_tokens > s->c.context || s->n_sessions >= MEMBER_SESSIONS_MAX) {
        fail(why, ERR_FULL, "node %s has no room for a session of %u positions", me,
             (unsigned)o->max_tokens);
        return WIRE_KV_FULL;
    }
    for (x->n = 0; x->n < o->parts.n / 4; x->n++) {
        struct hold *h = &x->hold[x->n];
        if (!read_hold(s, o, x->n, h)) {
            fail(why, ERR_NOTFOUND, "node %s does not hold those head groups", me);
            return WIRE_NO_SUCH_LAYERS;
        }
        x->cost += kv_cost_heads(s->a, h->lo, h->hi, h->g_lo, h->g_hi, (uint32_t)o->max_tokens);
    }
    if (x->cost > kv_room(s)) {
        fail(why, ERR_FULL, "node %s has no memory left for a session of %u positions", me,
             (unsigned)o->max_tokens);
        return WIRE_KV_FULL;
    }
    return 0;
}

static enum err open_holds(struct member *s, struct seat *x, uint32_t tokens)
{
    enum err e = ERR_OK;
    for (uint32_t i = 0; i < x->n && !e; i++) {
        struct hold *h = &x->hold[i];
        e = kv_open_heads(&h->kv, s->a, h->lo, h->hi, h->g_lo, h->g_hi, tokens);
    }
    return e;
}

static enum wire_error open_seat(struct member *s, struct pact *p, const struct msg_SHARE_OPEN *o,
                                 struct why *why)
{
    struct seat *x = calloc(1, sizeof *x);
    enum wire_error code = WIRE_NO_MEMORY;
    if (x) code = check_seat(s, p, o, x, why);
    if (x && !code && open_holds(s, x, (uint32_t)o->max_tokens)) {
        for (uint32_t i = 0; i < x->n; i++) kv_close(x->hold[i].kv);
        code = WIRE_NO_MEMORY;
    }
    if (code == WIRE_NO_MEMORY)
        fail(why, ERR_NOMEM, "no memory for a conversation of %u positions",
             (unsigned)o->max_tokens);
    if (code) {
        free(x);
        return code;
    }
    x->number = (uint32_t)o->number;
    x->next = p->first;
    p->first = x;
    s->kv_used += x->cost;
    s->n_sessions++;
    changed(s);
    return 0;
}

static void on_open(struct member *s, const struct mail *m)
{
    const struct msg_SHARE_OPEN *o = &m->m.u.SHARE_OPEN;
    struct pact *p = find(s, o->share);
    struct why why = { "it is about to leave, or pauses for its owner" };
    enum wire_error code = 0;
    if (p && !node_id_equal(&p->leader, &m->from)) {
        net_strike(s->c.net, &m->from, "a share of others");
        return;
    }
    if (s->stopping || s->paused)
        code = WIRE_SHUTTING_DOWN;
    else if (o->number == 0 && !p)
        code = open_pact(s, m, &why);
    else if (o->number != 0 && p)
        code = open_seat(s, p, o, &why);
    else {
        fail(&why, ERR_NOTFOUND, "that share is %s", p ? "open" : "not open");
        code = WIRE_NO_SUCH_SESSION;
    }
    if (code)
        say_fail(s, &m->from, o->share, m->m.rid, code, why.text);
    else
        say_ok(s, m);
}

static void on_close(struct member *s, const struct mail *m)
{
    const struct msg_SHARE_CLOSE *c = &m->m.u.SHARE_CLOSE;
    struct pact *p = find(s, c->share);
    if (!p || !node_id_equal(&p->leader, &m->from)) return;
    struct seat *x = find_seat(p, c->number);
    if (c->number == 0)
        end_pact(s, p);
    else if (x) {
        end_seat(s, p, x);
        changed(s);
    }
}

/* --- work --- */

static void free_job(struct work_job *j)
{
    if (j->mail) j->mail->note.drop(&j->mail->note);
    free(j->row);
    free(j->of);
    free(j->out);
    free(j);
}

static void drop_job(struct note *n)
{
    free_job((struct work_job *)n);
}

static uint32_t get_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Whose K and V each row has.  ERR_NOTFOUND: a session is not here, which may be no fault of the
 * leader's: it may have been closed by a message that this one passed. */
static enum err find_rows(struct work_job *j, const struct msg_SHARE_WORK *w)
{
    struct seat *x = NULL;
    const struct hold *h = NULL;
    uint32_t n = (uint32_t)w->rows;
    if (w->places.n != n * SHARE_PLACE_BYTES) return ERR_MALFORMED;
    j->row = malloc(n * sizeof *j->row);
    j->of = malloc(n * sizeof(struct seat *));
    if (!j->row || !j->of) return ERR_NOMEM;
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *at = w->places.p + (size_t)i * SHARE_PLACE_BYTES;
        uint32_t number = get_be32(at);
        if (!x || x->number != number) {
            x = find_seat(j->pact, number);
            h = NULL;
            for (uint32_t k = 0; x && k < x->n && !h; k++)
                if (w->layer >= x->hold[k].lo && w->layer < x->hold[k].hi &&
                    w->lo >= x->hold[k].g_lo && w->hi <= x->hold[k].g_hi)
                    h = &x->hold[k];
        }
        if (!h) return ERR_NOTFOUND;
        j->row[i] = (struct row){ h->kv, get_be32(at + 4) };
        j->of[i] = x;
    }
    return ERR_OK;
}

/* ERR_MALFORMED, ERR_RANGE: it does not fit its own words; ERR_NOTFOUND, ERR_NOMEM. */
static enum err read_work(struct member *s, struct work_job *j, const struct msg_SHARE_WORK *w)
{
    struct share_work *k = &j->share.work;
    enum share_kind kind = (enum share_kind)w->kind;
    *k = (struct share_work){ .kind = kind,
                              .layer = (uint32_t)w->layer,
                              .n = (uint32_t)w->rows,
                              .x = w->x.p,
                              .lo = (uint32_t)w->lo,
                              .hi = (uint32_t)w->hi,
                              .lead = (uint32_t)w->lead,
                              .picks = w->picks.p,
                              .picks_len = w->picks.n };
    enum err e = share_check(s->a, k);
    if (!e && w->x.n != w->rows * share_x_bytes(s->a, kind)) e = ERR_MALFORMED;
    if (!e && w->layer >= LAYER_MAX) e = ERR_RANGE;
    if (e) return e;
    if (w->layer < s->c.weights->all_lo || w->layer >= s->c.weights->all_hi) return ERR_NOTFOUND;
    if (kind == SHARE_HEADS) e = find_rows(j, w);
    k->row = j->row;
    if (e) return e;
    j->out_n = share_answer_bytes(s->a, k);
    if (j->out_n > SHARE_ANSWER_MAX) return ERR_FULL;
    j->out = malloc(j->out_n);
    return j->out ? ERR_OK : ERR_NOMEM;
}

static void fail_work(struct member *s, const struct pact *p, uint32_t rid, enum err e)
{
    char me[NODE_ID_SHORT], text[160];
    enum wire_error code = WIRE_INTERNAL;
    if (e == ERR_NOTFOUND || e == ERR_RANGE) code = WIRE_NO_SUCH_SESSION;
    if (e == ERR_NOMEM) code = WIRE_NO_MEMORY;
    if (e == ERR_CANCELLED) code = WIRE_SHUTTING_DOWN;
    node_id_short(me, &s->c.me);
    snprintf(text, sizeof text, "node %s cannot compute its part: %s", me, err_text(e));
    say_fail(s, &p->leader, slice_of(p->id, SESSION_BYTES), rid, code, text);
}

/* Takes m when it returns true. */
static bool on_work(struct member *s, struct mail *m)
{
    const struct msg_SHARE_WORK *w = &m->m.u.SHARE_WORK;
    struct pact *p = find(s, w->share);
    if (!p) { /* it has ended here, and the leader will hear of it */
        say_fail(s, &m->from, w->share, m->m.rid, WIRE_NO_SUCH_SESSION, "no such share here");
        return false;
    }
    if (!node_id_equal(&p->leader, &m->from)) {
        net_strike(s->c.net, &m->from, "work for a share of others");
        return false;
    }
    struct work_job *j = p->n_jobs < MEMBER_JOBS_MAX ? calloc(1, sizeof *j) : NULL;
    if (!j) {
        fail_work(s, p, m->m.rid, ERR_NOMEM);
        return false;
    }
    j->member = s;
    j->pact = p;
    enum err e = read_work(s, j, w);
    if (e) {
        free_job(j);
        if (e == ERR_MALFORMED || e == ERR_RANGE) net_strike(s->c.net, &m->from, "garbled work");
        fail_work(s, p, m->m.rid, e);
        return false;
    }
    j->mail = m;
    j->share.job.note = (struct note){ .kind = NOTE_COMPUTED, .drop = drop_job };
    j->share.job.to = &s->actor;
    j->share.out = j->out;
    p->n_jobs++;
    for (uint32_t i = 0; j->of && i < j->share.work.n; i++) j->of[i]->n_jobs++;
    compute_share(s->c.compute, &j->share);
    return true;
}

/* In pieces, so that the leader has the first while the last is sealed. */
static void send_answer(struct member *s, const struct work_job *j)
{
    for (size_t at = 0; at < j->out_n; at += PIECE_BYTES) {
        size_t n = j->out_n - at < PIECE_BYTES ? j->out_n - at : PIECE_BYTES;
        struct msg m = { .type = MSG_SHARE_DONE, .rid = j->mail->m.rid };
        m.u.SHARE_DONE.share = slice_of(j->pact->id, SESSION_BYTES);
        m.u.SHARE_DONE.at = at;
        m.u.SHARE_DONE.us = at + n == j->out_n ? j->share.job.compute_us : 0;
        m.u.SHARE_DONE.x = slice_of(j->out + at, n);
        answer(s, &j->pact->leader, &m);
    }
}

static void on_note(struct actor *a, struct note *n)
{
    struct member *s = (struct member *)a;
    struct work_job *j = (struct work_job *)n;
    struct pact *p = j->pact;
    if (!p->is_over && j->share.job.err)
        fail_work(s, p, j->mail->m.rid, j->share.job.err);
    else if (!p->is_over) {
        send_answer(s, j);
        counters_add(s->c.counters, COUNT_PIECES_GIVEN, j->share.work.n);
    }
    for (uint32_t i = 0; j->of && i < j->share.work.n; i++) {
        struct seat *x = j->of[i];
        if (--x->n_jobs > 0 || !x->is_over) continue;
        unlink_seat(&s->over, x);
        free_seat(s, x);
    }
    if (--p->n_jobs == 0 && p->is_over) free_pact(s, p);
    free_job(j);
}

/* --- life --- */

void member_on_mail(struct member *s, struct mail *m)
{
    bool is_taken = false;
    switch (m->m.type) {
    case MSG_SHARE_OPEN: on_open(s, m); break;
    case MSG_SHARE_WORK: is_taken = on_work(s, m); break;
    case MSG_SHARE_CLOSE: on_close(s, m); break;
    default: break;
    }
    if (!is_taken) m->note.drop(&m->note);
}

void member_on_peer(struct member *s, const struct node_id *id, bool up)
{
    if (up) return;
    for (struct pact *p = s->first, *next; p; p = next) {
        next = p->next;
        if (node_id_equal(&p->leader, id)) end_pact(s, p);
    }
}

enum err member_open(struct member **out, const struct member_config *c)
{
    struct member *s = calloc(1, sizeof *s);
    if (!s) return ERR_NOMEM;
    s->c = *c;
    s->a = &c->weights->manifest.arch;
    enum err e =
        actor_init(&s->actor, c->hub, "member", MEMBER_SHARES_MAX * MEMBER_JOBS_MAX, on_note);
    if (e)
        free(s);
    else
        *out = s;
    return e;
}

void member_send_away(struct member *s, const char *text)
{
    for (struct pact *p = s->first, *next; p; p = next) {
        next = p->next;
        if (p->is_over) continue;
        say_fail(s, &p->leader, slice_of(p->id, SESSION_BYTES), 0, WIRE_SHUTTING_DOWN, text);
        end_pact(s, p);
    }
}

void member_pause(struct member *s, bool is_paused)
{
    s->paused = is_paused;
}

void member_stop(struct member *s)
{
    s->stopping = true;
    member_send_away(s, "it is shutting down");
}

static void free_seats(struct member *s, struct seat **at)
{
    while (*at) {
        struct seat *x = *at;
        *at = x->next;
        free_seat(s, x);
    }
}

/* Jobs that came back unread are dropped with the mailbox: what they counted is of no use now. */
void member_close(struct member *s)
{
    if (!s) return;
    actor_fini(&s->actor);
    while (s->first) {
        struct pact *p = s->first;
        free_seats(s, &p->first);
        s->first = p->next;
        free(p);
    }
    free_seats(s, &s->over);
    free(s);
}

uint32_t member_shares(const struct member *s)
{
    return s->n_shares;
}

uint32_t member_sessions(const struct member *s)
{
    return s->n_sessions;
}

uint64_t member_kv_used(const struct member *s)
{
    return s->kv_used;
}
