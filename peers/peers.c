#include "peers/peers.h"

#include "base/bucket.h"
#include "base/log.h"
#include "proto/hearsay.h"

#include <stdlib.h>
#include <time.h>

enum {
    TICK_MS = 250,
    EXPIRE_MS = 5000,
    ANNOUNCE_MS = 100000,   /* a third of a record's life, +- 20 % so that nodes do not march */
    ANNOUNCE_GAP_MS = 1000, /* changes closer together are announced as one */
    JOIN_MIN_MS = 1000,
    JOIN_MAX_MS = 60000,
    GET_GAP_MS = 5000,     /* everything we know is up to 8 MiB: not more often for one peer */
    SUSPECT_MS = 300000,   /* a node that was lost is not planned with, unless heard of again */
    RETRIES = 3,           /* to reach it meanwhile: perhaps only the line was bad */
    RETRY_MS = 1000,       /* after the loss; then after 4, after 16 times as long */
    SUBSTITUTE_MS = 10000, /* while a join link fails: between tries of other known nodes */
    SUBSTITUTE_SLOW_MS = 60000,
    LINKS_GOOD = 4,
    LINKS_MANY = 16,
    LINKS_MAX = 256, /* as net.c */
};

/* Rates of records: of one node (an honest one changes its mind less often), and of news from one
 * connection (checking a signature takes 86 us). */
#define NODE_BURST 10.0
#define NODE_PER_MS 0.001
#define LINK_BURST 5000.0 /* a whole directory when we connect */
#define LINK_PER_MS 0.05

/* A connected peer. */
struct neighbour {
    struct node_id id;
    bool loopback, lan; /* the connection's address; lan: private or loopback */
    uint64_t got_ms;    /* when it last got everything */
    struct bucket budget;
};

/* What we remember of a node beside its record. */
struct known {
    struct node_id id;
    bool loopback; /* its record came over loopback (or is ours) */
    struct hearsay hearsay;
    struct bucket budget;
    uint64_t lost_ms;  /* when it was found unreachable; 0: it was not */
    uint64_t retry_ms; /* when it is tried again */
    unsigned retries;
};

struct join {
    struct link link;
    struct peers *peers;
    bool dialing;
    unsigned failures;
    uint64_t next_ms;
    struct why said;
};

struct peers {
    struct peers_config cfg;
    struct directory *directory; /* owned */
    bool is_public;              /* of the public swarm */
    uv_timer_t tick;
    struct join *join; /* [cfg.n_join] owned */
    struct neighbour neighbour[LINKS_MAX];
    uint32_t n_neighbours;
    struct known *known; /* [n_known] owned, sorted by id */
    uint32_t n_known, cap_known;
    struct measured measured[DIRECTORY_MAX];
    /* what we announce */
    uint8_t body_bytes[RECORD_BYTES_MAX]; /* owned; body borrows from it */
    size_t body_n;
    struct record_body body;
    bool announces, left;
    uint64_t seq;
    uint64_t announced_ms, announce_due_ms; /* due 0: nothing to announce */
    uint64_t expired_ms, substitute_ms, upkeep_ms;
    /* closing */
    bool closing;
    unsigned pending; /* dials and the timer that still point here */
};

static void changed(struct peers *p)
{
    if (!p->closing) p->cfg.on_change(p->cfg.arg);
}

static uint64_t jitter(uint64_t ms)
{
    uint32_t r;
    random_bytes(&r, sizeof r);
    return ms * (80 + r % 41) / 100;
}

/* --- what is remembered of a node --- */

static uint32_t known_at(const struct peers *p, const struct node_id *id)
{
    uint32_t lo = 0, hi = p->n_known;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (memcmp(p->known[mid].id.b, id->b, ID_BYTES) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static struct known *known_find(struct peers *p, const struct node_id *id)
{
    uint32_t i = known_at(p, id);
    return i < p->n_known && node_id_equal(&p->known[i].id, id) ? &p->known[i] : NULL;
}

static struct known *known_get(struct peers *p, const struct node_id *id)
{
    struct known *k = known_find(p, id);
    if (k) return k;
    if (p->n_known == p->cap_known) {
        uint32_t cap = p->cap_known ? p->cap_known * 2 : 64;
        struct known *more = realloc(p->known, cap * sizeof *more);
        if (!more) return NULL;
        p->known = more;
        p->cap_known = cap;
    }
    uint32_t at = known_at(p, id);
    memmove(&p->known[at + 1], &p->known[at], (p->n_known - at) * sizeof *p->known);
    p->n_known++;
    p->known[at] = (struct known){ .id = *id, .budget = { NODE_BURST, now_ms(p->cfg.hub) } };
    return &p->known[at];
}

/* Only nodes with a record, or lost a moment ago, are remembered. */
static void known_prune(struct peers *p, uint64_t now)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < p->n_known; i++) {
        const struct known *k = &p->known[i];
        bool lost = k->lost_ms && now - k->lost_ms < SUSPECT_MS;
        if (lost || directory_find(p->directory, &k->id)) p->known[kept++] = *k;
    }
    p->n_known = kept;
}

/* --- sending records --- */

static struct neighbour *neighbour_find(struct peers *p, const struct node_id *id)
{
    for (uint32_t i = 0; i < p->n_neighbours; i++)
        if (node_id_equal(&p->neighbour[i].id, id)) return &p->neighbour[i];
    return NULL;
}

static bool only_loopback(const struct record_body *b)
{
    for (uint32_t i = 0; i < b->addrs.n; i++)
        if (!addr_is_loopback(b->addrs.p[i])) return false;
    return b->addrs.n > 0;
}

/* May we tell others of this node?  In a private swarm the key vouches for all; over loopback it is
 * this machine that speaks. */
static bool may_pass(struct peers *p, const struct node_id *id)
{
    if (!p->is_public || node_id_equal(id, &p->cfg.me->id) || neighbour_find(p, id)) return true;
    const struct known *k = known_find(p, id);
    return k && (k->loopback || hearsay_may_pass(&k->hearsay, now_ms(p->cfg.hub)));
}

/* A node that is reached over loopback only means nothing to other machines; our own record still
 * goes to whoever is connected to us, for the connection is a way to reach us.  A node does hear
 * its own record from others: that is how it learns what it said in an earlier life. */
static bool may_hear(const struct peers *p, const struct neighbour *to, const struct entry *e)
{
    return to->loopback || !only_loopback(&e->body) || node_id_equal(&e->id, &p->cfg.me->id) ||
           node_id_equal(&e->id, &to->id);
}

/* A full queue loses the news for this peer; the next announcement reaches it. */
static void send_records(struct peers *p, const struct neighbour *to, struct msg *m)
{
    if (!m->u.RECORDS.records.n) return;
    enum err e = net_send(p->cfg.net, &to->id, m);
    if (e) log_debug("peers: records not sent: %s", err_text(e));
    m->u.RECORDS.records.n = 0;
}

static void add_record(struct peers *p, const struct neighbour *to, struct msg *m,
                       const struct entry *e)
{
    struct bins *r = &m->u.RECORDS.records;

    if (!may_hear(p, to, e)) return;
    if (!node_id_equal(&e->id, &to->id) && !may_pass(p, &e->id)) return;
    r->p[r->n++] = e->record;
    if (r->n == RECORDS_MAX) send_records(p, to, m);
}

static void send_everything(struct peers *p, const struct neighbour *to, uint32_t rid,
                            struct slice model)
{
    struct msg m = { .type = MSG_RECORDS, .rid = rid };

    for (uint32_t i = 0; i < directory_n(p->directory); i++) {
        const struct entry *e = directory_nth(p->directory, i);
        if (model.n && (model.n != e->body.model.n || memcmp(model.p, e->body.model.p, model.n)))
            continue;
        add_record(p, to, &m, e);
    }
    send_records(p, to, &m);
}

static void send_some(struct peers *p, const struct neighbour *to, const struct node_id *ids,
                      uint32_t n)
{
    struct msg m = { .type = MSG_RECORDS };
    for (uint32_t k = 0; k < n; k++) {
        const struct entry *e = directory_find(p->directory, &ids[k]);
        if (e) add_record(p, to, &m, e);
    }
    send_records(p, to, &m);
}

/* A neighbour tells of these what was said before what we know: perhaps a node that was started
 * anew, with a clock set back, and that nobody else can tell how far it had counted. */
static void put_right(struct peers *p, const struct node_id *ids, uint32_t n,
                      const struct node_id *who)
{
    const struct neighbour *at = neighbour_find(p, who);
    if (!at) return;
    const struct neighbour to = *at; /* copied: sending may change the list */
    send_some(p, &to, ids, n);
}

/* Pass news on to everyone but the one it came from (NULL: it is ours). */
static void pass_on(struct peers *p, const struct node_id *ids, uint32_t n,
                    const struct node_id *from)
{
    for (uint32_t i = 0; i < p->n_neighbours; i++) {
        const struct neighbour to = p->neighbour[i]; /* copied: sending may change the list */
        if (!from || !node_id_equal(&to.id, from)) send_some(p, &to, ids, n);
    }
}

/* --- our own record --- */

/* seq grows over restarts because it is the time; also when the clock was set back, as long as the
 * process lives or somebody tells us what we said before. */
static uint64_t next_seq(struct peers *p)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    uint64_t us = (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
    p->seq = us > p->seq ? us : p->seq + 1;
    return p->seq;
}

static enum err publish(struct peers *p)
{
    uint8_t record[RECORD_BYTES_MAX];
    uint64_t now = now_ms(p->cfg.hub), unix_s = unix_now();
    struct why why = { "" };
    bool news = false;
    size_t n;

    p->body.id = slice_of(p->cfg.me->id.b, ID_BYTES);
    p->body.seq = next_seq(p);
    p->body.made = unix_s;
    p->body.expires = unix_s + RECORD_TTL_S;
    p->announced_ms = now;
    p->announce_due_ms = p->left ? 0 : now + jitter(ANNOUNCE_MS);

    enum err e = record_make(p->cfg.me, p->cfg.swarm, &p->body, record, sizeof record, &n);
    if (!e) e = directory_offer(p->directory, slice_of(record, n), unix_s, &news, &why);
    if (e) {
        log_warn("peers: our own announcement is refused: %s",
                 why.text[0] ? why.text : err_text(e));
        return e;
    }
    struct known *k = known_get(p, &p->cfg.me->id);
    if (k) k->loopback = true;
    pass_on(p, &p->cfg.me->id, 1, NULL);
    changed(p);
    return ERR_OK;
}

/* What decides whether others plan with us: said at once, where numbers may wait. */
static bool serves_other(const struct record_body *a, const struct record_body *b)
{
    return a->state != b->state || a->ends != b->ends || a->layers.n != b->layers.n ||
           memcmp(a->layers.p, b->layers.p, a->layers.n * sizeof *a->layers.p) != 0;
}

/* A copy of the body lives as its own encoding, whose bytes the slices then borrow. */
enum err peers_announce(struct peers *p, const struct record_body *body)
{
    struct record_body b = *body;
    uint8_t bytes[RECORD_BYTES_MAX];
    size_t n;

    b.version = 2;
    b.id = slice_of(p->cfg.me->id.b, ID_BYTES);
    b.seq = b.made = b.expires = 1;
    enum err e = record_body_encode(&b, bytes, sizeof bytes, &n);
    if (e) return e;
    if (p->left) return ERR_CLOSED;
    if (p->announces && n == p->body_n && memcmp(bytes, p->body_bytes, n) == 0) return ERR_OK;

    bool urgent = !p->announces || serves_other(&b, &p->body);
    memcpy(p->body_bytes, bytes, n);
    p->body_n = n;
    p->announces = true;
    if ((e = record_body_decode(&p->body, slice_of(p->body_bytes, n), NULL))) return e;

    uint64_t now = now_ms(p->cfg.hub);
    if (urgent || !p->announced_ms || now - p->announced_ms >= ANNOUNCE_GAP_MS) return publish(p);
    p->announce_due_ms = p->announced_ms + ANNOUNCE_GAP_MS;
    return ERR_OK;
}

void peers_leave(struct peers *p)
{
    if (!p->announces || p->left) return;
    p->left = true;
    p->body.state = RECORD_GONE;
    if (publish(p)) log_debug("peers: left without a word");
}

/* --- records of others --- */

static bool believable(struct slice addr, const struct neighbour *from)
{
    if (addr_is_loopback(addr)) return from->loopback;
    if (addr_is_private(addr)) return from->lan;
    return true;
}

static void hint_all(struct peers *p, const struct entry *e, const struct neighbour *from)
{
    for (uint32_t i = e->body.addrs.n; i-- > 0;) /* the last hint is tried first */
        if (believable(e->body.addrs.p[i], from)) net_hint(p->cfg.net, &e->id, e->body.addrs.p[i]);
}

/* Somebody tells us what we said ourselves, in an earlier life with a faster clock: from now on we
 * count from there.  Believed only if we really signed it; a directory of its own checks that,
 * since in ours the record would stand for what we hold now. */
static void heard_of_ourselves(struct peers *p, const struct record_body *b, struct slice record)
{
    struct directory *scratch;
    bool ours = false;

    if (b->seq <= p->seq || directory_open(&scratch, p->cfg.swarm)) return;
    if (directory_offer(scratch, record, unix_now(), &ours, NULL))
        log_debug("peers: a false record in our name");
    directory_close(scratch);
    if (!ours) return;
    uint32_t step; /* random: that life may have counted on, and nobody has told us yet */
    random_bytes(&step, sizeof step);
    p->seq = b->seq + step;
    if (p->announces && !p->left) p->announce_due_ms = now_ms(p->cfg.hub);
}

/* A record that we have came from somebody else, too.  true: from now on it may be passed on. */
static bool told_again(struct peers *p, const struct neighbour *from, struct known *k,
                       struct slice record)
{
    const struct entry *e = directory_find(p->directory, &k->id);

    if (!e || e->record.n != record.n || memcmp(e->record.p, record.p, record.n) != 0) return false;
    bool before = may_pass(p, &k->id);
    hearsay_tell(&k->hearsay, net_addr(p->cfg.net, &from->id), now_ms(p->cfg.hub));
    return !before && may_pass(p, &k->id);
}

/* What becomes of a record from a neighbour. */
enum taken { TAKEN_NOT, TAKEN_NEWS /* to be passed on */, TAKEN_OLD /* we know a newer one */ };

static enum taken take_record(struct peers *p, const struct neighbour *from, struct slice record,
                              struct node_id *id)
{
    uint64_t now = now_ms(p->cfg.hub);
    struct record_body b;
    struct why why = { "" };
    bool news = false;

    if (record.n <= SIG_BYTES ||
        record_body_decode(&b, slice_of(record.p + SIG_BYTES, record.n - SIG_BYTES), &why)) {
        net_strike(p->cfg.net, &from->id, "a record that does not parse");
        return TAKEN_NOT;
    }
    memcpy(id->b, b.id.p, ID_BYTES);
    if (node_id_equal(id, &p->cfg.me->id)) {
        heard_of_ourselves(p, &b, record);
        return TAKEN_NOT;
    }
    const struct entry *old = directory_find(p->directory, id);
    struct known *k = known_get(p, id);
    if (!k) return TAKEN_NOT;
    if ((!old || b.seq > old->body.seq) && !bucket_take(&k->budget, now, NODE_PER_MS, NODE_BURST)) {
        log_debug("peers: a node announces itself too often");
        return TAKEN_NOT;
    }
    bool is_older = old && b.seq < old->body.seq;
    enum err e = directory_offer(p->directory, record, unix_now(), &news, &why);
    if (e == ERR_AUTH || e == ERR_MALFORMED) net_strike(p->cfg.net, &from->id, why.text);
    if (e && e != ERR_EXISTS) log_debug("peers: %s", why.text[0] ? why.text : err_text(e));
    if (e == ERR_EXISTS && is_older) return TAKEN_OLD;
    if (!news) return told_again(p, from, k, record) ? TAKEN_NEWS : TAKEN_NOT;

    k->loopback = from->loopback;
    k->lost_ms = 0;
    hearsay_tell(&k->hearsay, net_addr(p->cfg.net, &from->id), now);
    hint_all(p, directory_find(p->directory, id), from);
    return TAKEN_NEWS;
}

static void take_records(struct peers *p, const struct mail *m)
{
    const struct bins *r = &m->m.u.RECORDS.records;
    struct node_id news[RECORDS_MAX], newer[RECORDS_MAX], id;
    uint32_t n = 0, n_newer = 0, before = directory_n(p->directory);

    for (uint32_t i = 0; i < r->n && i < RECORDS_MAX; i++) {
        struct neighbour *from = neighbour_find(p, &m->from); /* looked up: a strike may end it */
        if (!from) break;
        if (!bucket_take(&from->budget, now_ms(p->cfg.hub), LINK_PER_MS, LINK_BURST)) break;
        enum taken t = take_record(p, from, r->p[i], &id);
        if (t == TAKEN_NEWS) news[n++] = id;
        if (t == TAKEN_OLD) newer[n_newer++] = id;
    }
    if (n) pass_on(p, news, n, &m->from);
    if (n_newer) put_right(p, newer, n_newer, &m->from);
    /* without news a node may still have gone: one that contradicted itself */
    if (n || directory_n(p->directory) != before) changed(p);
}

static void give_records(struct peers *p, const struct mail *m)
{
    struct neighbour *to = neighbour_find(p, &m->from);
    uint64_t now = now_ms(p->cfg.hub);

    if (!to) return;
    if (to->got_ms && now - to->got_ms < GET_GAP_MS) {
        struct msg no = { .type = MSG_ERROR, .rid = m->m.rid };
        no.u.ERROR.code = WIRE_RATE_LIMITED;
        no.u.ERROR.text = slice_str(wire_error_text(WIRE_RATE_LIMITED));
        no.u.ERROR.retry_ms = GET_GAP_MS;
        if (net_send(p->cfg.net, &m->from, &no)) log_debug("peers: no room for an ERROR");
        return;
    }
    to->got_ms = now;
    const struct neighbour copy = *to;
    send_everything(p, &copy, m->m.rid, m->m.u.RECORDS_GET.model);
}

void peers_on_mail(struct peers *p, struct mail *m)
{
    if (!p->closing && m->m.type == MSG_RECORDS) take_records(p, m);
    if (!p->closing && m->m.type == MSG_RECORDS_GET) give_records(p, m);
    m->note.drop(&m->note);
}

/* --- neighbours come and go --- */

static void ask_records(struct peers *p, const struct node_id *id)
{
    struct msg get = { .type = MSG_RECORDS_GET };
    if (net_send(p->cfg.net, id, &get)) log_debug("peers: records not asked for");
}

static void neighbour_up(struct peers *p, const struct node_id *id)
{
    struct slice addr = net_addr(p->cfg.net, id);
    struct neighbour *n = neighbour_find(p, id);
    uint64_t now = now_ms(p->cfg.hub);

    if (!n && p->n_neighbours == LINKS_MAX) return;
    if (!n) n = &p->neighbour[p->n_neighbours++];
    *n = (struct neighbour){ .id = *id, .budget = { LINK_BURST, now_ms(p->cfg.hub) } };
    n->loopback = addr_is_loopback(addr);
    n->lan = n->loopback || addr_is_private(addr);
    struct known *k = known_get(p, id);
    bool before = k && p->is_public && (k->loopback || hearsay_may_pass(&k->hearsay, now));
    if (k) {
        k->lost_ms = 0;
        hearsay_prove(&k->hearsay, now);
    }
    ask_records(p, id);
    if (!before && p->is_public) pass_on(p, id, 1, id); /* what was heard of it is proven now */
}

void peers_suspect(struct peers *p, const struct node_id *id)
{
    struct known *k = known_get(p, id);
    uint64_t now = now_ms(p->cfg.hub);
    if (!k) return;
    if (!k->lost_ms || now - k->lost_ms >= SUSPECT_MS) {
        k->retries = 0;
        k->retry_ms = now + RETRY_MS;
    }
    k->lost_ms = now;
}

static void neighbour_down(struct peers *p, const struct node_id *id)
{
    struct neighbour *n = neighbour_find(p, id);
    if (n) *n = p->neighbour[--p->n_neighbours];
    peers_suspect(p, id);
    for (uint32_t i = 0; i < p->cfg.n_join; i++)
        if (node_id_equal(&p->join[i].link.id, id)) p->join[i].next_ms = 0;
}

void peers_on_peer(struct peers *p, const struct node_id *id, bool up)
{
    if (p->closing) return;
    if (up)
        neighbour_up(p, id);
    else
        neighbour_down(p, id);
    changed(p);
}

/* --- joining --- */

static void release(struct peers *p)
{
    if (--p->pending || !p->closing) return;
    directory_close(p->directory);
    free(p->join);
    free(p->known);
    free(p);
}

static void join_result(void *arg, const struct node_id *id, enum err e, const char *why)
{
    struct join *j = arg;
    struct peers *p = j->peers;
    (void)id;

    j->dialing = false;
    if (p->closing) {
        release(p);
        return;
    }
    p->pending--;
    if (!e) {
        j->failures = 0;
        j->said.text[0] = 0;
        return;
    }
    unsigned doublings = j->failures < 6 ? j->failures : 6;
    uint64_t wait = (uint64_t)JOIN_MIN_MS << doublings;
    j->failures++;
    j->next_ms = now_ms(p->cfg.hub) + jitter(wait < JOIN_MAX_MS ? wait : JOIN_MAX_MS);
    if (strcmp(j->said.text, why) == 0) return;
    (void)fail(&j->said, e, "%s", why);
    p->cfg.on_join_failed(p->cfg.arg, &j->link, j->said.text);
}

static void join_all(struct peers *p, uint64_t now)
{
    for (uint32_t i = 0; i < p->cfg.n_join && !p->closing; i++) {
        struct join *j = &p->join[i];
        if (j->dialing || now < j->next_ms || net_is_up(p->cfg.net, &j->link.id)) continue;
        j->dialing = true;
        p->pending++;
        net_dial(p->cfg.net, &j->link.id, j->link.host, j->link.port, join_result, j);
    }
}

static bool some_join_fails(const struct peers *p)
{
    for (uint32_t i = 0; i < p->cfg.n_join; i++)
        if (p->join[i].failures && !net_is_up(p->cfg.net, &p->join[i].link.id)) return true;
    return false;
}

/* Lost, and silent since. */
static bool suspect(const struct peers *p, const struct known *k, uint64_t now)
{
    if (!k || !k->lost_ms || now - k->lost_ms >= SUSPECT_MS) return false;
    return net_silent_ms(p->cfg.net, &k->id) >= now - k->lost_ms;
}

/* Those that were lost and did not say that they leave: nobody plans with them, so nobody else
 * would find out that they are well. */
static void retry_suspects(struct peers *p, uint64_t now)
{
    for (uint32_t i = 0; i < p->n_known; i++) {
        struct known *k = &p->known[i];
        if (!k->lost_ms || k->retries == RETRIES || now < k->retry_ms) continue;
        k->retry_ms = now + RETRY_MS;
        if (!suspect(p, k, now)) continue;
        const struct entry *e = directory_find(p->directory, &k->id);
        struct msg get = { .type = MSG_RECORDS_GET };
        if (!e || e->body.state == RECORD_GONE) continue;
        if (net_send(p->cfg.net, &k->id, &get)) continue; /* dialled a moment ago, or no address */
        k->retry_ms = now + ((uint64_t)RETRY_MS << (2 * ++k->retries));
    }
}

/* Is a link to this node worth having?  While a node that we joined by is away, a swarm can fall
 * into parts that do not know of each other's news: anyone helps.  In the public swarm a few links
 * are kept in any case, and made to those of whom we cannot tell others yet. */
static bool is_wanted(struct peers *p, const struct entry *e, bool join_fails, uint64_t now)
{
    const struct known *k = known_find(p, &e->id);

    if (e->body.state == RECORD_GONE || net_is_up(p->cfg.net, &e->id) || suspect(p, k, now))
        return false;
    if (join_fails) return true;
    if (!p->is_public || !k || k->loopback) return false;
    return p->n_neighbours < LINKS_GOOD || !may_pass(p, &e->id);
}

/* Nodes are tried one at a time and at random. */
static void substitute(struct peers *p, uint64_t now)
{
    uint32_t n = directory_n(p->directory), start;

    bool join_fails = some_join_fails(p);
    uint64_t *due = join_fails ? &p->substitute_ms : &p->upkeep_ms;

    if (now < *due || p->n_neighbours >= LINKS_MANY || !n) return;
    *due = now + jitter(p->n_neighbours < LINKS_GOOD ? SUBSTITUTE_MS : SUBSTITUTE_SLOW_MS);
    random_bytes(&start, sizeof start);
    for (uint32_t i = 0; i < n; i++) {
        const struct entry *e = directory_nth(p->directory, (start % n + i) % n);
        if (!is_wanted(p, e, join_fails, now)) continue;
        struct msg get = { .type = MSG_RECORDS_GET };
        if (!net_send(p->cfg.net, &e->id, &get)) return; /* dials it by its hints */
    }
}

/* --- the clock --- */

static void expire(struct peers *p, uint64_t now)
{
    uint32_t before = directory_n(p->directory);

    if (now - p->expired_ms < EXPIRE_MS) return;
    p->expired_ms = now;
    directory_expire(p->directory, unix_now());
    known_prune(p, now);
    if (directory_n(p->directory) != before) changed(p);
}

static void on_tick(uv_timer_t *timer)
{
    struct peers *p = timer->data;
    uint64_t now = now_ms(p->cfg.hub);

    join_all(p, now);
    if (p->announce_due_ms && now >= p->announce_due_ms) (void)publish(p);
    if (!p->closing) expire(p, now);
    if (!p->closing) retry_suspects(p, now);
    if (!p->closing) substitute(p, now);
}

/* --- for planning --- */

const struct directory *peers_directory(const struct peers *p)
{
    return p->directory;
}

struct measured *peers_measured(struct peers *p)
{
    uint64_t now = now_ms(p->cfg.hub);

    for (uint32_t i = 0; i < directory_n(p->directory); i++) {
        const struct node_id *id = &directory_nth(p->directory, i)->id;
        p->measured[i] = (struct measured){
            .rtt_us = net_rtt_us(p->cfg.net, id),
            .banned = net_is_banned(p->cfg.net, id),
            .lost = suspect(p, known_find(p, id), now),
        };
    }
    return p->measured;
}

/* --- opening and closing --- */

enum err peers_open(struct peers **out, const struct peers_config *c)
{
    struct peers *p = calloc(1, sizeof *p);

    if (!p) return ERR_NOMEM;
    p->cfg = *c;
    p->join = calloc(c->n_join ? c->n_join : 1, sizeof *p->join);
    enum err e = p->join ? directory_open(&p->directory, c->swarm) : ERR_NOMEM;
    if (e) {
        free(p->join);
        free(p);
        return e;
    }
    for (uint32_t i = 0; i < c->n_join; i++)
        p->join[i] = (struct join){ .link = c->join[i], .peers = p };
    p->cfg.join = NULL;
    p->is_public = memcmp(c->swarm->b, swarm_key_public()->b, sizeof c->swarm->b) == 0;
    if (uv_timer_init(&c->hub->loop, &p->tick)) abort(); /* it cannot fail */
    p->tick.data = p;
    p->pending = 1;
    p->expired_ms = now_ms(c->hub);
    (void)uv_timer_start(&p->tick, on_tick, 0, TICK_MS);
    *out = p;
    return ERR_OK;
}

static void on_tick_closed(uv_handle_t *handle)
{
    release(handle->data);
}

void peers_close(struct peers *p)
{
    p->closing = true;
    uv_close((uv_handle_t *)&p->tick, on_tick_closed);
}
