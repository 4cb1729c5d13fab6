#include "ask/question.h"

#include "home/runtime_dir.h"

#include <stdlib.h>
#include <string.h>

enum {
    RETRY_MS = 300,
    ANSWER_BYTES_MAX = 64 << 20, /* more text than the longest conversation has */
};

struct question {
    struct questions *all;
    struct question *next;
    struct question_events on;
    struct msg_ASK ask;
    uint32_t rid; /* 0: it is not with the coordinator */

    /* coming back to it */
    uint8_t request[REQUEST_BYTES]; /* what the coordinator knows it by */
    size_t n_heard;                 /* bytes of its answer's text */
    bool is_lost;                   /* the connection is, or the coordinator */
    bool is_unknown;                /* it is to be asked anew */
    uint64_t until_ms;              /* it is waited for */
    struct why lost_why;
};

struct questions {
    struct questions_config c;
    struct question *first; /* owned */
    uint32_t last_rid;
    uv_timer_t timer; /* to ask what is new, and what is lost again */
    bool is_closing;
    unsigned pending; /* dials, and the timer, that still point here */
};

static void release(struct questions *qs)
{
    if (--qs->pending == 0) free(qs);
}

static void forget(struct question *q)
{
    struct question **at = &q->all->first;
    while (*at != q) at = &(*at)->next;
    *at = q->next;
    free(q);
}

static void fail_question(struct question *q, unsigned code, const char *text)
{
    struct question_events on = q->on;
    forget(q);
    on.on_fail(on.arg, code, text);
}

static void on_timer(uv_timer_t *t);

/* The coordinator has gone, perhaps for a moment only. */
static void lose(struct question *q, const char *text)
{
    struct questions *qs = q->all;
    struct why why;
    if (q->rid) q->until_ms = now_ms(qs->c.hub) + qs->c.patience_ms;
    q->rid = 0;
    if (qs->c.patience_ms == 0 || q->ask.plan_only) {
        fail_question(q, 0, text);
        return;
    }
    uv_timer_start(&qs->timer, on_timer, RETRY_MS, RETRY_MS);
    if (q->is_lost) return;
    q->is_lost = true;
    fail(&q->lost_why, ERR_CLOSED, "%s", text);
    fail(&why, ERR_CLOSED, "%.300s; waiting for it, at most %u s", text, qs->c.patience_ms / 1000);
    q->on.on_note(q->on.arg, slice_str(why.text));
}

/* Ask, or ask for what is missing.  Each time with another number, so that what was said to the
 * one before is not taken for an answer to this one. */
static void send_question(struct question *q)
{
    struct questions *qs = q->all;
    struct msg m = { .type = MSG_ASK, .rid = ++qs->last_rid };
    if (q->is_lost && !q->is_unknown) {
        m.type = MSG_ASK_RESUME;
        m.u.ASK_RESUME.request = slice_of(q->request, REQUEST_BYTES);
        m.u.ASK_RESUME.heard = q->n_heard;
    } else {
        m.u.ASK = q->ask;
        if (qs->c.patience_ms > 0) m.u.ASK.request = slice_of(q->request, REQUEST_BYTES);
    }
    enum err e = net_send(qs->c.net, &qs->c.link.id, &m);
    if (!e)
        q->rid = m.rid;
    else if (e == ERR_RANGE)
        fail_question(q, WIRE_BAD_REQUEST, "the conversation is too long to send");
    else if (!q->is_lost)
        fail_question(q, 0, err_text(e));
}

/* One that is not with the coordinator; lost ones only when asked for.  NULL: there is none. */
static struct question *find_unsent(const struct questions *qs, bool also_lost)
{
    struct question *q = qs->first;
    while (q && (q->rid || (q->is_lost && !also_lost))) q = q->next;
    return q;
}

/* why, which may begin with where that was. */
static const char *without_address(const char *why, const char *host)
{
    size_t n = strlen(host), at = why[0] == '[';
    const char *rest = strncmp(why + at, host, n) == 0 ? strstr(why + at + n, ": ") : NULL;
    return rest ? rest + 2 : why;
}

/* What is said in between may end questions, so each round looks anew. */
static void on_dialled(void *arg, const struct node_id *id, enum err e, const char *why)
{
    struct questions *qs = arg;
    struct question *q;
    struct why text;
    (void)id;
    fail(&text, e, "%s:%u cannot be asked: %s", qs->c.link.host, qs->c.link.port,
         without_address(why, qs->c.link.host));
    while (!qs->is_closing && !e && net_is_up(qs->c.net, &qs->c.link.id) &&
           (q = find_unsent(qs, true)))
        send_question(q);
    while (!qs->is_closing && e && (q = find_unsent(qs, false))) fail_question(q, 0, text.text);
    release(qs);
}

/* A node of this machine may listen elsewhere now. */
static void look_around(struct questions *qs)
{
    struct local_node node[16];
    unsigned n = 0;
    if (runtime_find(node, 16, &n, NULL)) return;
    for (unsigned i = 0; i < n; i++) {
        if (!node_id_equal(&node[i].link.id, &qs->c.link.id)) continue;
        qs->c.link = node[i].link;
        return;
    }
}

/* One that was waited for long enough; NULL: there is none. */
static struct question *find_late(const struct questions *qs)
{
    struct question *q = qs->first;
    while (q && (!q->is_lost || q->rid || now_ms(qs->c.hub) < q->until_ms)) q = q->next;
    return q;
}

static void on_timer(uv_timer_t *t)
{
    struct questions *qs = t->data;
    struct question *q;
    struct why why;
    while ((q = find_late(qs))) {
        fail(&why, ERR_CLOSED, "%.300s, and it has not come back within %u s", q->lost_why.text,
             qs->c.patience_ms / 1000);
        fail_question(q, 0, why.text);
    }
    if (!find_unsent(qs, true)) {
        uv_timer_stop(t);
        return;
    }
    if (!find_unsent(qs, false)) look_around(qs);
    qs->pending++;
    net_dial(qs->c.net, &qs->c.link.id, qs->c.link.host, qs->c.link.port, on_dialled, qs);
}

enum err question_ask(struct questions *qs, const struct msg_ASK *ask,
                      const struct question_events *on, struct question **out)
{
    struct question *q = calloc(1, sizeof *q);
    if (!q) return ERR_NOMEM;
    q->all = qs;
    q->on = *on;
    q->ask = *ask;
    random_bytes(q->request, REQUEST_BYTES);
    q->next = qs->first;
    qs->first = q;
    *out = q;
    uv_timer_start(&qs->timer, on_timer, 0, RETRY_MS);
    return ERR_OK;
}

static bool send_cancel(const struct question *q)
{
    struct msg m = { .type = MSG_ASK_CANCEL, .rid = q->rid };
    return q->rid && net_send(q->all->c.net, &q->all->c.link.id, &m) == ERR_OK;
}

void question_cancel(struct question *q)
{
    if (!send_cancel(q)) fail_question(q, 0, "cancelled");
}

void question_drop(struct question *q)
{
    (void)send_cancel(q);
    forget(q);
}

/* --- what comes back --- */

static void on_error(struct question *q, const struct msg_ERROR *e)
{
    struct why why;
    fail(&why, ERR_DENIED, "%.*s", (int)e->text.n, (const char *)e->text.p);
    if (e->code == WIRE_SHUTTING_DOWN) {
        lose(q, why.text);
    } else if (e->code == WIRE_NO_SUCH_SESSION && q->is_lost && q->n_heard == 0) {
        q->is_unknown = true; /* it had not got so far */
        send_question(q);
    } else {
        fail_question(q, (unsigned)e->code, why.text);
    }
}

/* So that it need not be kept for us any longer.  false: the line broke under the last word; it is
 * told again when we come back. */
static bool say_heard(const struct question *q)
{
    const struct questions *qs = q->all;
    struct msg m = { .type = MSG_ASK_HEARD };
    if (qs->c.patience_ms == 0 || q->ask.plan_only) return true;
    m.u.ASK_HEARD.request = slice_of(q->request, REQUEST_BYTES);
    return net_send(qs->c.net, &qs->c.link.id, &m) == ERR_OK;
}

static void on_done(struct question *q, const struct msg_ASK_DONE *done)
{
    struct question_events on = q->on;
    if (!say_heard(q)) {
        lose(q, "the connection broke at the end of the answer");
        return;
    }
    forget(q);
    on.on_done(on.arg, done);
}

static struct question *find(const struct questions *qs, uint32_t rid)
{
    struct question *q = qs->first;
    while (q && q->rid != rid) q = q->next;
    return q;
}

static void on_note(struct question *q, const struct msg_ASK_NOTE *n)
{
    if (n->place > 0 && q->on.on_place)
        q->on.on_place(q->on.arg, (uint32_t)n->place, n->text);
    else
        q->on.on_note(q->on.arg, n->text);
}

static void on_answer(struct question *q, const struct msg *a)
{
    const struct question_events *on = &q->on;
    switch (a->type) {
    case MSG_ASK_PLAN: on->on_plan(on->arg, a->u.ASK_PLAN.plan); break;
    case MSG_ASK_TEXT:
        if (a->u.ASK_TEXT.trace.n > 0 && on->on_trace) on->on_trace(on->arg, a->u.ASK_TEXT.trace);
        if (a->u.ASK_TEXT.text.n == 0) break;
        q->n_heard += a->u.ASK_TEXT.text.n;
        if (a->u.ASK_TEXT.likely.n > 0 && on->on_likely)
            on->on_likely(on->arg, a->u.ASK_TEXT.likely);
        on->on_text(on->arg, (uint32_t)a->u.ASK_TEXT.index, a->u.ASK_TEXT.text,
                    a->u.ASK_TEXT.thinking);
        break;
    case MSG_ASK_NOTE: on_note(q, &a->u.ASK_NOTE); break;
    case MSG_ASK_DONE: on_done(q, &a->u.ASK_DONE); break;
    case MSG_ERROR: on_error(q, &a->u.ERROR); break;
    default: break;
    }
}

/* An answer that grows for ever fills the memory of who keeps it. */
static bool is_endless(const struct question *q, const struct msg *a)
{
    return a->type == MSG_ASK_TEXT && q->n_heard + a->u.ASK_TEXT.text.n > ANSWER_BYTES_MAX;
}

void questions_on_mail(struct questions *qs, struct mail *m)
{
    bool is_ours = !qs->is_closing && m->m.rid && node_id_equal(&m->from, &qs->c.link.id);
    struct question *q = is_ours ? find(qs, m->m.rid) : NULL;
    if (q && q->is_lost && m->m.type != MSG_ERROR) {
        q->is_lost = q->is_unknown = false;
        q->on.on_note(q->on.arg, slice_str("it is back, and the answer goes on"));
        q = find(qs, m->m.rid); /* unless that ended it */
    }
    if (q && is_endless(q, &m->m)) {
        (void)send_cancel(q);
        fail_question(q, WIRE_INTERNAL, "the coordinator says more than an answer can hold");
    } else if (q) {
        on_answer(q, &m->m);
    }
    m->note.drop(&m->note);
}

void questions_on_peer(struct questions *qs, const struct node_id *id, bool up, const char *why)
{
    struct why text;
    if (up || qs->is_closing || !node_id_equal(id, &qs->c.link.id)) return;
    fail(&text, ERR_CLOSED, "the connection to %s:%u is lost%s%s", qs->c.link.host, qs->c.link.port,
         *why ? ": " : "", why);
    for (;;) { /* what is said may end others */
        struct question *q = qs->first;
        while (q && !q->rid) q = q->next;
        if (!q) break;
        lose(q, text.text);
    }
}

/* --- life --- */

enum err questions_open(struct questions **out, const struct questions_config *c)
{
    struct questions *qs = calloc(1, sizeof *qs);
    if (!qs) return ERR_NOMEM;
    qs->c = *c;
    uv_timer_init(&c->hub->loop, &qs->timer);
    qs->timer.data = qs;
    qs->pending = 1;
    *out = qs;
    return ERR_OK;
}

static void on_timer_closed(uv_handle_t *h)
{
    release(h->data);
}

void questions_close(struct questions *qs)
{
    if (!qs) return;
    qs->is_closing = true;
    while (qs->first) forget(qs->first);
    uv_close((uv_handle_t *)&qs->timer, on_timer_closed);
}
