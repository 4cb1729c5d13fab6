#include "node/asks.h"

#include "base/log.h"
#include "node/words.h"

#include <assert.h>
#include <stdlib.h>

/* One request of one client. */
struct asked {
    struct asks *all;
    struct asked *next;
    struct node_id client;
    uint32_t rid;
    struct request *request; /* the coordinator's */
};

struct asks {
    struct asks_config c;
    struct asked *first; /* owned */
};

static void refuse(struct asks *a, const struct node_id *to, uint32_t rid, enum wire_error code,
                   const char *text)
{
    struct msg m = { .type = MSG_ERROR, .rid = rid };
    struct words words;
    m.u.ERROR.code = code;
    m.u.ERROR.text = words_for_wire(&words, text);
    if (net_send(a->c.net, to, &m)) log_debug("an asker has gone before the answer");
}

static void forget(struct asked *q)
{
    struct asked **at = &q->all->first;
    while (*at != q) at = &(*at)->next;
    *at = q->next;
    free(q);
}

/* --- what the coordinator says goes to the client --- */

/* A client that cannot be told any more is dropped by on_peer, or reads too slowly. */
static bool tell(struct asked *q, struct msg *m)
{
    m->rid = q->rid;
    return net_send(q->all->c.net, &q->client, m) == ERR_OK;
}

static void give_up(struct asked *q)
{
    log_info("a client reads too slowly or has gone; its request is dropped");
    struct request *r = q->request;
    forget(q);
    coordinator_drop(r);
}

static void on_plan(void *arg, struct slice json)
{
    struct msg m = { .type = MSG_ASK_PLAN };
    m.u.ASK_PLAN.plan = json;
    if (!tell(arg, &m)) give_up(arg);
}

/* The first part of text that fits one message: whole characters. */
static size_t fitting(struct slice text)
{
    enum { TEXT_MAX = 8 << 10 };
    size_t n = text.n;
    if (n <= TEXT_MAX) return n;
    for (n = TEXT_MAX; (text.p[n] & 0xc0) == 0x80; n--) continue;
    return n;
}

static void on_text(void *arg, uint32_t index, struct slice text, bool is_thinking)
{
    while (text.n > 0) {
        size_t n = fitting(text);
        struct msg m = { .type = MSG_ASK_TEXT };
        m.u.ASK_TEXT.index = index;
        m.u.ASK_TEXT.text = slice_of(text.p, n);
        m.u.ASK_TEXT.thinking = is_thinking;
        if (!tell(arg, &m)) {
            give_up(arg);
            return;
        }
        text = slice_of(text.p + n, text.n - n);
    }
}

static void on_note(void *arg, const char *text)
{
    struct msg m = { .type = MSG_ASK_NOTE };
    struct words words;
    m.u.ASK_NOTE.text = words_for_wire(&words, text);
    if (!tell(arg, &m)) give_up(arg);
}

static void on_done(void *arg, const struct msg_ASK_DONE *done)
{
    struct msg m = { .type = MSG_ASK_DONE };
    m.u.ASK_DONE = *done;
    if (!tell(arg, &m)) log_debug("an asker has gone before the end of the answer");
    forget(arg);
}

static void on_fail(void *arg, enum wire_error code, const char *text)
{
    struct asked *q = arg;
    log_info("a request failed: %s", text);
    refuse(q->all, &q->client, q->rid, code, text);
    forget(q);
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

static uint32_t count(const struct asks *a, const struct node_id *client)
{
    uint32_t n = 0;
    for (const struct asked *q = a->first; q; q = q->next) n += node_id_equal(&q->client, client);
    return n;
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

static void on_ask(struct asks *a, const struct mail *m)
{
    const struct node_id *from = &m->from;
    uint32_t rid = m->m.rid;
    if (!may_ask(a, m)) {
        refuse(a, from, rid, WIRE_NOT_ALLOWED,
               "this node answers only its own machine and those it was told to --allow");
    } else if (!a->c.coordinator) {
        refuse(a, from, rid, WIRE_NOT_ALLOWED, a->c.no_coordinator);
    } else if (rid == 0 || find(a, m)) {
        refuse(a, from, rid, WIRE_BAD_MESSAGE, "ASK needs a request number of its own");
    } else if (count(a, from) >= ASKS_PER_CLIENT) {
        refuse(a, from, rid, WIRE_BUSY, "too many questions of yours are being answered");
    } else {
        struct asked *q = calloc(1, sizeof *q);
        if (!q) {
            refuse(a, from, rid, WIRE_NO_MEMORY, err_text(ERR_NOMEM));
            return;
        }
        *q = (struct asked){ a, a->first, *from, rid, NULL };
        a->first = q;
        struct request_events on = { q, on_plan, on_text, on_note, on_done, on_fail };
        struct why why = { "" };
        enum err e = coordinator_ask(a->c.coordinator, &m->m.u.ASK, &on, &q->request, &why);
        if (!e) return;
        refuse(a, from, rid, code_of(e), why.text);
        forget(q);
    }
}

void asks_on_mail(struct asks *a, struct mail *m)
{
    if (m->m.type == MSG_ASK) on_ask(a, m);
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
        if (node_id_equal(&q->client, id)) give_up(q);
    }
}

enum err asks_open(struct asks **out, const struct asks_config *c)
{
    struct asks *a = calloc(1, sizeof *a);
    if (!a) return ERR_NOMEM;
    a->c = *c;
    *out = a;
    return ERR_OK;
}

void asks_close(struct asks *a)
{
    if (!a) return;
    assert(!a->first);
    free(a);
}
