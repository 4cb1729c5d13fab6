#include "ask/asks.h"

#include "base/log.h"
#include "net/words.h"
#include "proto/fair.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* One request of one client. */
struct asked {
    struct asks *all;
    struct asked *next;
    struct node_id client;
    uint32_t rid;
    struct request *request; /* the coordinator's */
    uint64_t user;           /* of the client's own, by whom it asks; 0: it did not say */
    struct slice likely;     /* goes with the next text; borrowed until then */
};

struct asks {
    struct asks_config c;
    struct asked *first; /* owned */
    bool is_paused;
};

static void refuse(struct asks *a, const struct node_id *to, uint32_t rid, enum wire_error code,
                   const char *text)
{
    words_refuse(a->c.net, to, rid, code, text);
}

static void forget(struct asked *q)
{
    struct asked **at = &q->all->first;
    while (*at != q) at = &(*at)->next;
    *at = q->next;
    free(q);
}

/* --- what the coordinator says goes to the client --- */

/* Its connection broke; it may come back. */
static void leave(struct asked *q)
{
    struct request *r = q->request;
    forget(q);
    coordinator_detach(r);
}

static bool is_there(const struct asks *a, const struct asked *q)
{
    const struct asked *at = a->first;
    while (at && at != q) at = at->next;
    return at != NULL;
}

/* false: it could not be told, and q is gone; a connection that breaks says so inside the call.
 * One who reads too slowly would miss something and never know. */
static bool tell(struct asked *q, struct msg *m)
{
    struct asks *a = q->all;
    struct node_id client = q->client;
    m->rid = q->rid;
    enum err e = net_send(a->c.net, &client, m);
    if (!is_there(a, q)) return false;
    if (!e) return true;
    if (e != ERR_FULL) {
        leave(q);
        return false;
    }
    log_info("a client reads too slowly; its request is dropped");
    struct request *r = q->request;
    forget(q);
    coordinator_drop(r);
    return false;
}

static void on_plan(void *arg, struct slice json)
{
    struct msg m = { .type = MSG_ASK_PLAN };
    m.u.ASK_PLAN.plan = json;
    (void)tell(arg, &m);
}

/* The first part of text that goes into one message: whole characters, little enough for a line
 * that breaks all the time to get somewhere. */
static size_t fitting(struct slice text)
{
    enum { TEXT_MAX = 1 << 10 };
    size_t n = text.n;
    if (n <= TEXT_MAX) return n;
    for (n = TEXT_MAX; (text.p[n] & 0xc0) == 0x80; n--) continue;
    return n;
}

static void on_likely(void *arg, struct slice likely)
{
    struct asked *q = arg;
    q->likely = likely;
}

static void on_trace(void *arg, struct slice events)
{
    struct msg m = { .type = MSG_ASK_TEXT };
    m.u.ASK_TEXT.trace = events;
    (void)tell(arg, &m);
}

static void on_text(void *arg, uint32_t index, struct slice text, bool is_thinking)
{
    struct asked *q = arg;
    while (text.n > 0) {
        size_t n = fitting(text);
        struct msg m = { .type = MSG_ASK_TEXT };
        m.u.ASK_TEXT.index = index;
        m.u.ASK_TEXT.text = slice_of(text.p, n);
        m.u.ASK_TEXT.thinking = is_thinking;
        m.u.ASK_TEXT.likely = q->likely;
        q->likely.n = 0;
        if (!tell(q, &m)) return;
        text = slice_of(text.p + n, text.n - n);
    }
}

static void on_note(void *arg, const char *text)
{
    struct msg m = { .type = MSG_ASK_NOTE };
    struct words words;
    m.u.ASK_NOTE.text = words_for_wire(&words, text);
    (void)tell(arg, &m);
}

static const char *ordinal(uint32_t n)
{
    static const char *const end[] = { "th", "st", "nd", "rd" };
    return n % 10 < 4 && n / 10 % 10 != 1 ? end[n % 10] : end[0];
}

static void on_place(void *arg, uint32_t place, uint64_t wait_ms)
{
    struct msg m = { .type = MSG_ASK_NOTE };
    char text[80];
    uint64_t s = (wait_ms + 999) / 1000;
    int n = place == 1
                ? snprintf(text, sizeof text, "you are next")
                : snprintf(text, sizeof text, "you are %u%s in the queue", place, ordinal(place));
    if (s > 0) snprintf(text + n, sizeof text - (size_t)n, ", about %llu s", (unsigned long long)s);
    m.u.ASK_NOTE.text = slice_str(text);
    m.u.ASK_NOTE.place = place;
    m.u.ASK_NOTE.wait_ms = wait_ms < WAIT_MS_MAX ? wait_ms : WAIT_MS_MAX;
    (void)tell(arg, &m);
}

static void on_done(void *arg, const struct msg_ASK_DONE *done)
{
    struct asked q = *(struct asked *)arg;
    struct msg m = { .type = MSG_ASK_DONE, .rid = q.rid };
    m.u.ASK_DONE = *done;
    forget(arg);
    if (net_send(q.all->c.net, &q.client, &m))
        log_debug("an asker has gone before the end of the answer");
}

static void on_fail(void *arg, enum wire_error code, const char *text)
{
    struct asked q = *(struct asked *)arg;
    log_info("a request failed: %s", text);
    forget(arg);
    refuse(q.all, &q.client, q.rid, code, text);
}

/* --- what the client says --- */

static bool may_ask(const struct asks *a, const struct mail *m)
{
    if (m->loopback) return true;
    for (uint32_t i = 0; i < a->c.n_allow; i++)
        if (node_id_equal(&a->c.allow[i], &m->from)) return true;
    return false;
}

static struct asked *find(struct asks *a, const struct mail *m)
{
    for (struct asked *q = a->first; q; q = q->next)
        if (q->rid == m->m.rid && node_id_equal(&q->client, &m->from)) return q;
    return NULL;
}

static uint64_t user_of(const struct msg *m)
{
    bool is_said = m->type == MSG_ASK && m->u.ASK.asker.n == ASKER_TAG;
    return is_said ? fair_who(m->u.ASK.asker.p) : 0;
}

/* A program of this machine that asks for users of its own is as many clients. */
static bool has_too_many(const struct asks *a, const struct mail *m)
{
    uint32_t n = 0;
    for (const struct asked *q = a->first; q; q = q->next)
        n += node_id_equal(&q->client, &m->from) && (!m->loopback || q->user == user_of(&m->m));
    return n >= a->c.per_client;
}

static enum wire_error code_of(enum err e)
{
    switch (e) {
    case ERR_BUSY: return WIRE_BUSY;
    case ERR_CLOSED: return WIRE_SHUTTING_DOWN;
    case ERR_NOTFOUND: return WIRE_NO_SUCH_MODEL;
    case ERR_NOMEM: return WIRE_NO_MEMORY;
    default: return WIRE_BAD_REQUEST;
    }
}

static struct asked *make(struct asks *a, const struct mail *m)
{
    struct asked *q = calloc(1, sizeof *q);
    if (!q) {
        refuse(a, &m->from, m->m.rid, WIRE_NO_MEMORY, err_text(ERR_NOMEM));
        return NULL;
    }
    *q = (struct asked){
        .all = a, .next = a->first, .client = m->from, .rid = m->m.rid, .user = user_of(&m->m)
    };
    a->first = q;
    return q;
}

/* Is this one who may, with a number of its own?  Else it has been told. */
static bool check(struct asks *a, const struct mail *m)
{
    const struct node_id *from = &m->from;
    uint32_t rid = m->m.rid;
    if (!may_ask(a, m))
        refuse(a, from, rid, WIRE_NOT_ALLOWED,
               "this node answers only its own machine and those it was told to --allow");
    else if (!a->c.coordinator)
        refuse(a, from, rid, WIRE_NOT_ALLOWED, a->c.no_coordinator);
    else if (a->is_paused && !m->loopback && m->m.type == MSG_ASK)
        refuse(a, from, rid, WIRE_BUSY, "this node pauses for its owner; ask another one");
    else if (rid == 0 || find(a, m))
        refuse(a, from, rid, WIRE_BAD_MESSAGE, "ASK needs a request number of its own");
    else if (has_too_many(a, m))
        refuse(a, from, rid, WIRE_BUSY,
               "too many questions of yours are open; wait until one is answered");
    else
        return true;
    return false;
}

static struct request_events events_to(struct asked *q)
{
    return (struct request_events){ q,       on_plan, on_text,   on_note, on_place,
                                    on_done, on_fail, on_likely, on_trace };
}

/* Those of this machine, then its guests; who is in no hurry comes after both. */
static uint8_t rank_of(const struct asks *a, const struct mail *m)
{
    bool is_guest = !m->loopback && !a->c.no_own_first;
    return (uint8_t)(is_guest + 2 * (m->m.u.ASK.later != 0));
}

/* There is nothing to wait for: the answer is whole at once. */
static void say_map(struct asks *a, const struct node_id *to, uint32_t rid)
{
    struct msg plan = { .type = MSG_ASK_PLAN, .rid = rid };
    struct msg done = { .type = MSG_ASK_DONE, .rid = rid };
    struct text json = { 0 };
    coordinator_map(a->c.coordinator, &json);
    plan.u.ASK_PLAN.plan = slice_of(json.p, json.n);
    if (json.failed)
        refuse(a, to, rid, WIRE_NO_MEMORY, err_text(ERR_NOMEM));
    else if (net_send(a->c.net, to, &plan) || net_send(a->c.net, to, &done))
        log_debug("who asked for the nodes has gone, or reads too slowly");
    free(json.p);
}

static void on_ask(struct asks *a, const struct mail *m)
{
    const struct msg_ASK *ask = &m->m.u.ASK;
    struct why why = { "" };
    if (!check(a, m)) return;
    if (coordinator_find(a->c.coordinator, &m->from, ask->request)) {
        refuse(a, &m->from, m->m.rid, WIRE_BAD_MESSAGE, "this has been asked already");
        return;
    }
    if (ask->plan_only == PLAN_ONLY_MAP) {
        say_map(a, &m->from, m->m.rid);
        return;
    }
    struct asked *q = make(a, m);
    if (!q) return;
    struct request_events on = events_to(q);
    enum err e =
        coordinator_ask(a->c.coordinator, &m->from, rank_of(a, m), ask, &on, &q->request, &why);
    if (!e) return;
    forget(q);
    refuse(a, &m->from, m->m.rid, code_of(e), why.text);
}

/* The client is back, perhaps before its old connection was known to be broken. */
static void on_resume(struct asks *a, const struct mail *m)
{
    const struct msg_ASK_RESUME *w = &m->m.u.ASK_RESUME;
    if (!check(a, m)) return;
    struct request *r = coordinator_find(a->c.coordinator, &m->from, w->request);
    if (!r) {
        refuse(a, &m->from, m->m.rid, WIRE_NO_SUCH_SESSION,
               "this node does not know the request any more; ask again");
        return;
    }
    struct asked *old = a->first;
    while (old && old->request != r) old = old->next;
    struct asked *q = make(a, m);
    if (!q) return;
    if (old) forget(old);
    q->request = r;
    struct request_events on = events_to(q);
    coordinator_attach(r, w->heard, &on);
}

static void on_heard(struct asks *a, const struct mail *m)
{
    struct request *r = NULL;
    if (a->c.coordinator)
        r = coordinator_find(a->c.coordinator, &m->from, m->m.u.ASK_HEARD.request);
    if (r) coordinator_heard(r);
}

void asks_on_mail(struct asks *a, struct mail *m)
{
    if (m->m.type == MSG_ASK) on_ask(a, m);
    if (m->m.type == MSG_ASK_RESUME) on_resume(a, m);
    if (m->m.type == MSG_ASK_HEARD) on_heard(a, m);
    if (m->m.type == MSG_ASK_CANCEL) {
        struct asked *q = find(a, m);
        if (q) coordinator_cancel(q->request);
    }
    m->note.drop(&m->note);
}

void asks_on_peer(struct asks *a, const struct node_id *id, bool up)
{
    if (up) return;
    for (struct asked *q = a->first, *next; q; q = next) {
        next = q->next;
        if (node_id_equal(&q->client, id)) leave(q);
    }
}

enum err asks_open(struct asks **out, const struct asks_config *c)
{
    struct asks *a = calloc(1, sizeof *a);
    if (!a) return ERR_NOMEM;
    a->c = *c;
    if (a->c.per_client == 0) a->c.per_client = 32;
    *out = a;
    return ERR_OK;
}

void asks_pause(struct asks *a, bool is_paused)
{
    a->is_paused = is_paused;
}

void asks_close(struct asks *a)
{
    if (!a) return;
    assert(!a->first);
    free(a);
}
