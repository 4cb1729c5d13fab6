#include "peers/dialback.h"

#include "base/log.h"
#include "net/words.h"

#include <stdlib.h>

enum { ROWS = 64 };

/* A node that we asked. */
struct asked {
    struct node_id id;
    uint32_t rid;
    bool answered, good;
    uint8_t addr[ADDR_MAX];
    size_t addr_n;
};

/* When a node was dialled for. */
struct served {
    struct node_id id;
    uint64_t at_ms; /* 0: free */
};

struct dialback {
    struct dialback_config cfg;
    /* asking */
    struct asked asked[DIALBACK_PEERS];
    unsigned n_asked;
    uint64_t deadline_ms; /* 0: no round */
    enum verdict reach;
    uint8_t addr[ADDR_MAX];
    size_t addr_n;
    struct why why, heard; /* of the last result; of this round */
    /* serving */
    struct served served[ROWS];
    unsigned dialing;
    bool closing;
    unsigned pending; /* dials, and ourselves until dialback_close */
};

static uint64_t now_of(const struct dialback *d)
{
    return now_ms(d->cfg.hub);
}

static void release(struct dialback *d)
{
    if (!--d->pending) free(d);
}

/* --- asking --- */

static bool is_outside(struct slice addr)
{
    return addr.n && !addr_is_loopback(addr) && !addr_is_private(addr);
}

/* The same /16, or /32 of IPv6: one person may have all of it. */
static bool same_net(struct slice a, struct slice b)
{
    return a.n == b.n && memcmp(a.p, b.p, a.n == ADDR_MIN ? 2 : 4) == 0;
}

static bool may_ask(const struct dialback *d, const struct node_id *id, bool other_nets)
{
    struct slice addr = net_addr(d->cfg.net, id);

    if (!is_outside(addr)) return false;
    for (unsigned i = 0; i < d->n_asked; i++) {
        if (node_id_equal(&d->asked[i].id, id)) return false;
        if (other_nets && same_net(addr, net_addr(d->cfg.net, &d->asked[i].id))) return false;
    }
    return true;
}

static void ask_one(struct dialback *d, const struct node_id *id, uint16_t port)
{
    struct asked *a = &d->asked[d->n_asked];
    struct msg m = { .type = MSG_DIALBACK, .u.DIALBACK.port = port };

    *a = (struct asked){ .id = *id };
    while (!a->rid) random_bytes(&a->rid, sizeof a->rid);
    m.rid = a->rid;
    if (!net_send(d->cfg.net, id, &m)) d->n_asked++;
}

bool dialback_ask(struct dialback *d, uint16_t port)
{
    const struct directory *dir = peers_directory(d->cfg.peers);
    uint32_t n = directory_n(dir), start;

    if (d->deadline_ms || d->closing || !port) return d->deadline_ms != 0;
    random_bytes(&start, sizeof start);
    d->n_asked = 0;
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t i = 0; i < n && d->n_asked < DIALBACK_PEERS; i++) {
            const struct node_id id = directory_nth(dir, (start % n + i) % n)->id;
            if (may_ask(d, &id, pass == 0)) ask_one(d, &id, port);
        }
    if (!d->n_asked) return false;
    d->heard.text[0] = 0;
    d->deadline_ms = now_of(d) + DIALBACK_WAIT_MS;
    return true;
}

bool dialback_is_asking(const struct dialback *d)
{
    return d->deadline_ms != 0;
}

/* The address that most of those name who reached us. */
static const struct asked *most_named(const struct dialback *d)
{
    const struct asked *best = NULL;
    unsigned most = 0;

    for (unsigned i = 0; i < d->n_asked; i++) {
        unsigned votes = 0;
        const struct asked *a = &d->asked[i];
        for (unsigned k = 0; k < d->n_asked && a->good; k++) {
            const struct asked *b = &d->asked[k];
            votes += b->good && b->addr_n == a->addr_n && !memcmp(a->addr, b->addr, a->addr_n);
        }
        if (votes > most) best = a;
        if (votes > most) most = votes;
    }
    return best;
}

static void end_round(struct dialback *d)
{
    unsigned answered = 0;
    const struct asked *best = most_named(d);

    for (unsigned i = 0; i < d->n_asked; i++) answered += d->asked[i].answered;
    d->deadline_ms = 0;
    if (!answered) return; /* nobody took the trouble: what we knew still holds */
    d->reach = best ? REACH_YES : REACH_NO;
    d->addr_n = best ? best->addr_n : 0;
    if (best) memcpy(d->addr, best->addr, best->addr_n);
    d->why = d->heard;
    d->cfg.on_result(d->cfg.arg);
}

static void take_done(struct dialback *d, const struct mail *m)
{
    const struct msg_DIALBACK_DONE *done = &m->m.u.DIALBACK_DONE;
    bool all = true;

    for (unsigned i = 0; i < d->n_asked && d->deadline_ms; i++) {
        struct asked *a = &d->asked[i];
        if (a->rid == m->m.rid && node_id_equal(&a->id, &m->from) && !a->answered) {
            a->answered = done->result != 2;
            a->good = done->result == 1 && is_outside(done->addr);
            a->addr_n = done->addr.n;
            if (done->addr.n) memcpy(a->addr, done->addr.p, done->addr.n);
            if (done->result == 0 && done->text.n)
                (void)fail(&d->heard, ERR_IO, "%.*s", (int)done->text.n,
                           (const char *)done->text.p);
            if (done->result == 2) a->rid = 0; /* it has answered, but says nothing */
        }
        all &= a->answered || !a->rid;
    }
    if (d->deadline_ms && all) end_round(d);
}

void dialback_forget(struct dialback *d)
{
    d->reach = REACH_UNKNOWN;
    d->addr_n = 0;
    d->deadline_ms = 0;
}

enum verdict dialback_reach(const struct dialback *d)
{
    return d->reach;
}

struct slice dialback_addr(const struct dialback *d)
{
    return slice_of(d->addr, d->addr_n);
}

const char *dialback_why(const struct dialback *d)
{
    return d->why.text[0] ? d->why.text : "nobody could connect to it from outside";
}

/* --- serving --- */

struct request {
    struct dialback *dialback;
    struct node_id from;
    uint32_t rid;
    uint8_t addr[ADDR_MAX];
    size_t addr_n;
};

static void answer(struct dialback *d, const struct request *r, unsigned result, const char *why)
{
    struct words words;
    struct msg m = { .type = MSG_DIALBACK_DONE, .rid = r->rid };

    m.u.DIALBACK_DONE.result = result;
    m.u.DIALBACK_DONE.addr = slice_of(r->addr, r->addr_n);
    m.u.DIALBACK_DONE.text = words_for_wire(&words, why);
    if (net_send(d->cfg.net, &r->from, &m)) log_debug("dial-back: no room for an answer");
}

static void on_probed(void *arg, const struct node_id *id, enum err e, const char *why)
{
    struct request *r = arg;
    struct dialback *d = r->dialback;
    (void)id;

    d->dialing--;
    if (!d->closing) answer(d, r, e == ERR_OK, e ? why : "");
    free(r);
    release(d);
}

/* May this node be dialled for now?  Then the time is noted. */
static bool may_serve(struct dialback *d, const struct node_id *id)
{
    uint64_t now = now_of(d);
    struct served *row = &d->served[0];

    if (d->dialing >= DIALBACK_AT_ONCE) return false;
    for (unsigned i = 0; i < ROWS; i++) {
        struct served *s = &d->served[i];
        if (s->at_ms && node_id_equal(&s->id, id)) {
            row = s;
            break;
        }
        if (s->at_ms < row->at_ms) row = s;
    }
    if (row->at_ms && now - row->at_ms < DIALBACK_GAP_MS) return false;
    *row = (struct served){ *id, now ? now : 1 };
    return true;
}

static void serve(struct dialback *d, const struct mail *m)
{
    struct slice seen = net_addr(d->cfg.net, &m->from);
    struct request *r = calloc(1, sizeof *r);
    char text[64], host[256];
    uint16_t port = (uint16_t)m->m.u.DIALBACK.port, unused;

    if (!r) return;
    *r = (struct request){ .dialback = d, .from = m->from, .rid = m->m.rid, .addr_n = seen.n };
    if (seen.n) {
        memcpy(r->addr, seen.p, seen.n);
        r->addr[seen.n - 2] = (uint8_t)(port >> 8);
        r->addr[seen.n - 1] = (uint8_t)port;
    }
    if (!addr_text(text, sizeof text, slice_of(r->addr, r->addr_n)) ||
        hostport_parse(host, &unused, text, NULL) || !may_serve(d, &m->from)) {
        answer(d, r, 2, "not now");
        free(r);
        return;
    }
    d->dialing++;
    d->pending++;
    net_probe(d->cfg.net, &r->from, host, port, on_probed, r);
}

void dialback_on_mail(struct dialback *d, struct mail *m)
{
    if (m->m.type == MSG_DIALBACK && m->m.rid && !d->closing) serve(d, m);
    if (m->m.type == MSG_DIALBACK_DONE && !d->closing) take_done(d, m);
    m->note.drop(&m->note);
}

/* --- the clock, opening and closing --- */

void dialback_tick(struct dialback *d)
{
    if (d->deadline_ms && now_of(d) >= d->deadline_ms) end_round(d);
}

enum err dialback_open(struct dialback **out, const struct dialback_config *c)
{
    struct dialback *d = calloc(1, sizeof *d);

    if (!d) return ERR_NOMEM;
    d->cfg = *c;
    d->pending = 1;
    *out = d;
    return ERR_OK;
}

void dialback_close(struct dialback *d)
{
    if (!d) return;
    d->closing = true;
    release(d);
}
