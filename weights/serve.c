#include "weights/serve.h"

#include "base/log.h"
#include "store/care.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
    TICK_MS = 10,
    JUDGE_MS = 250,        /* how often the rate is measured */
    AHEAD_BYTES = 1 << 20, /* that wait for one peer before its next tile is read */
    QUANTUM = 16 << 10,    /* a record; less is not handed out */
    RATE_FIRST = 1 << 20,  /* of a line that nobody has measured */
    READS_MAX = 2,
    FLOOD = 1024,    /* requests in a row that were one too many: a strike */
    IDLE_MS = 60000, /* an asker that wants nothing is forgotten */
};

#define NO_LIMIT 1e11 /* bytes a second */

/* A request that waits, or that the depot reads. */
struct wanted {
    struct depot_job job; /* first */
    struct wanted *next;
    struct serve *serve;
    struct node_id from;
    uint32_t rid;
    enum msg_type type; /* MSG_TILE_GET or MSG_MANIFEST_GET */
    struct hash hash;
    bool cancelled; /* nobody waits for it any more */
    /* read */
    enum err err;
    uint8_t *bytes; /* owned */
    size_t n;
    uint32_t n_names;
    uint8_t name[NAMES_MAX][ID_BYTES + SIG_BYTES + 64]; /* as on the wire */
    size_t name_n[NAMES_MAX];
};

struct asker {
    struct node_id id;
    struct wanted *first, **last; /* owned */
    unsigned waiting, reading, refused;
    uint64_t seen_ms;
    uint64_t granted; /* bytes of bulk, at the last tick */
};

struct serve {
    struct serve_config c;
    uv_timer_t *timer; /* owned: freed by its close callback */
    struct asker asker[SERVE_ASKERS_MAX];
    unsigned n_askers, turn, reading;
    struct wanted *read_now[READS_MAX]; /* the depot's */
    struct serve_given given;
    bool ticking, closing, paused;
    /* the rate */
    uint64_t tick_ms, judged_ms;
    double tokens;       /* bytes that may go */
    double best;         /* the fastest so far, over JUDGE_MS */
    uint64_t sent_since; /* bytes since judged_ms */
};

/* --- reading, on the depot's thread --- */

static enum err read_tile(struct wanted *w, struct store *s)
{
    struct slice v;
    enum err e = store_tile(s, &w->hash, &v);

    if (e) return e;
    if (v.n == 0 || v.n > TILE_MESSAGE_MAX) return ERR_RANGE;
    w->bytes = malloc(v.n);
    if (!w->bytes) return ERR_NOMEM;
    memcpy(w->bytes, v.p, v.n);
    w->n = v.n;
    struct hash is = hash_of(slice_of(w->bytes, w->n));
    return hash_equal(&is, &w->hash) ? ERR_OK : ERR_MALFORMED;
}

static bool take_name(void *arg, const struct store_name *name)
{
    struct wanted *w = arg;
    size_t n = strlen(name->name);

    if (!hash_equal(&name->id, &w->hash)) return true;
    uint8_t *p = w->name[w->n_names];
    memcpy(p, name->publisher, ID_BYTES);
    memcpy(p + ID_BYTES, name->sig, SIG_BYTES);
    memcpy(p + ID_BYTES + SIG_BYTES, name->name, n);
    w->name_n[w->n_names++] = ID_BYTES + SIG_BYTES + n;
    return w->n_names < NAMES_MAX;
}

static enum err read_manifest(struct wanted *w, struct store *s)
{
    struct slice body;
    struct manifest *m = malloc(sizeof *m);

    if (!m) return ERR_NOMEM;
    enum err e = store_manifest(s, &w->hash, m, &body, NULL);
    free(m);
    if (!e) e = store_each_name(s, take_name, w, NULL);
    if (e) return e;
    w->bytes = malloc(body.n);
    if (!w->bytes) return ERR_NOMEM;
    memcpy(w->bytes, body.p, body.n);
    w->n = body.n;
    return ERR_OK;
}

static void on_read(struct depot_job *j, struct store *s)
{
    struct wanted *w = (struct wanted *)j;
    w->err = w->type == MSG_TILE_GET ? read_tile(w, s) : read_manifest(w, s);
}

/* --- answers --- */

static void send_answer(struct serve *s, const struct wanted *w, unsigned refusal)
{
    struct slice hash = slice_of(w->hash.b, HASH_BYTES);
    struct slice bytes = refusal ? slice_of(NULL, 0) : slice_of(w->bytes, w->n);
    struct msg m = { .rid = w->rid };

    if (w->type == MSG_TILE_GET) {
        m.type = MSG_TILE;
        m.u.TILE = (struct msg_TILE){ .hash = hash, .data = bytes, .refusal = refusal };
    } else {
        m.type = MSG_MANIFEST;
        m.u.MANIFEST = (struct msg_MANIFEST){ .model = hash, .body = bytes, .refusal = refusal };
        m.u.MANIFEST.names.n = refusal ? 0 : w->n_names;
        for (uint32_t i = 0; i < m.u.MANIFEST.names.n; i++)
            m.u.MANIFEST.names.p[i] = slice_of(w->name[i], w->name_n[i]);
    }
    if (!net_is_up(s->c.net, &w->from)) return;
    if (net_send(s->c.net, &w->from, &m)) {
        log_debug("serve: an answer was not sent");
    } else if (!refusal) {
        s->given.tiles += w->type == MSG_TILE_GET;
        s->given.bytes += w->n;
        counters_add(s->c.counters, COUNT_WEIGHTS_GIVEN, w->n);
    }
}

static void free_wanted(struct wanted *w)
{
    free(w->bytes);
    free(w);
}

/* --- askers --- */

static struct asker *asker_find(struct serve *s, const struct node_id *id)
{
    for (unsigned i = 0; i < s->n_askers; i++)
        if (node_id_equal(&s->asker[i].id, id)) return &s->asker[i];
    return NULL;
}

static void drop_waiting(struct asker *a)
{
    while (a->first) {
        struct wanted *next = a->first->next;
        free_wanted(a->first);
        a->first = next;
    }
    a->last = &a->first;
    a->waiting = 0;
}

static void asker_move(struct asker *to, const struct asker *from)
{
    *to = *from;
    if (!to->first) to->last = &to->first;
}

static void asker_remove(struct serve *s, struct asker *a)
{
    struct asker *end = &s->asker[--s->n_askers];

    drop_waiting(a);
    if (a != end)
        asker_move(a, end);
    else
        *a = (struct asker){ 0 };
}

static struct asker *asker_get(struct serve *s, const struct mail *m)
{
    struct asker *a = asker_find(s, &m->from);

    if (a) return a;
    for (unsigned i = s->n_askers; i-- > 0 && s->n_askers == SERVE_ASKERS_MAX;)
        if (!s->asker[i].first && !s->asker[i].reading) asker_remove(s, &s->asker[i]);
    if (s->n_askers == SERVE_ASKERS_MAX) return NULL;
    a = &s->asker[s->n_askers++];
    *a = (struct asker){ .id = m->from };
    a->last = &a->first;
    net_bulk_limit(s->c.net, &a->id, 0); /* it begins when the bucket says so */
    return a;
}

/* --- the rate --- */

static double rate_now(const struct serve *s)
{
    double limit = s->c.upload ? (double)s->c.upload : NO_LIMIT;
    double all = s->c.upload ? (double)s->c.upload : s->best;
    bool computes = s->c.computes && s->c.computes(s->c.arg);

    return computes ? all / 10 : limit;
}

static void judge(struct serve *s, uint64_t now)
{
    if (now - s->judged_ms < JUDGE_MS) return;
    double sent = (double)s->sent_since * 1000 / (double)(now - s->judged_ms);
    s->judged_ms = now;
    s->sent_since = 0;
    if (sent > s->best) s->best = sent;
}

/* What the peers have not used comes back. */
static void collect(struct serve *s)
{
    for (unsigned i = 0; i < s->n_askers; i++) {
        struct asker *a = &s->asker[i];
        uint64_t left = net_bulk_left(s->c.net, &a->id);
        if (left > a->granted) left = 0; /* a new connection, which has no limit yet */
        s->sent_since += a->granted - left;
        s->tokens += (double)left;
        a->granted = 0;
    }
}

static void grant(struct serve *s, struct asker *a, double bytes)
{
    a->granted = (uint64_t)bytes;
    net_bulk_limit(s->c.net, &a->id, a->granted);
}

/* All that wait get the same; where that is less than a record, some of them, by turns. */
static void hand_out(struct serve *s, uint64_t now)
{
    unsigned waiting = 0;

    collect(s);
    for (unsigned i = 0; i < s->n_askers; i++)
        waiting += net_bulk_queued(s->c.net, &s->asker[i].id) > 0;
    double rate = rate_now(s);
    double burst = rate / 20 > 2 * QUANTUM ? rate / 20 : 2 * QUANTUM;
    s->tokens += rate * (double)(now - s->tick_ms) / 1000;
    s->tick_ms = now;
    if (s->tokens > burst) s->tokens = burst;
    for (unsigned k = 0; k < s->n_askers; k++) {
        struct asker *a = &s->asker[(s->turn + k) % s->n_askers];
        double share = 0;
        if (net_bulk_queued(s->c.net, &a->id)) {
            share = s->tokens / waiting--;
            if (share < QUANTUM) share = s->tokens;
            if (share < QUANTUM) share = 0;
        } else if (rate >= NO_LIMIT) {
            share = s->tokens / s->n_askers; /* its next tile need not wait for us */
        }
        s->tokens -= share;
        grant(s, a, share);
    }
}

/* --- the turn of each --- */

static void read_next(struct serve *s);

static void on_read_done(struct depot_job *j)
{
    struct wanted *w = (struct wanted *)j;
    struct serve *s = w->serve;
    struct asker *a;
    char text[HASH_TEXT];

    for (unsigned i = 0; i < READS_MAX; i++)
        if (s->read_now[i] == w) s->read_now[i] = NULL;
    s->reading--;
    if (s->closing) {
        free_wanted(w);
        if (!s->reading) free(s);
        return;
    }
    a = asker_find(s, &w->from);
    if (a && a->reading) a->reading--; /* not of one that has come anew */
    if (w->err == ERR_MALFORMED) {
        hash_text(text, &w->hash);
        log_warn("tile %s is damaged on this disk and not given to others; see swarm-store verify",
                 text);
    }
    if (a && !w->cancelled)
        send_answer(s, w, w->job.cancelled ? REFUSE_BUSY : w->err ? REFUSE_NOT_HERE : 0);
    free_wanted(w);
    read_next(s);
}

static struct wanted *take_first(struct asker *a)
{
    struct wanted *w = a->first;

    a->first = w->next;
    if (!a->first) a->last = &a->first;
    a->waiting--;
    return w;
}

static void start_read(struct serve *s, struct asker *a)
{
    struct wanted *w = take_first(a);
    unsigned i = 0;

    while (s->read_now[i]) i++;
    s->read_now[i] = w;
    a->reading++;
    s->reading++;
    w->job.run = on_read;
    w->job.done = on_read_done;
    depot_do(s->c.depot, &w->job);
}

static void read_next(struct serve *s)
{
    for (unsigned k = 0; k < s->n_askers && s->reading < READS_MAX; k++) {
        struct asker *a = &s->asker[(s->turn + k) % s->n_askers];
        if (!a->first || a->reading || net_bulk_queued(s->c.net, &a->id) > AHEAD_BYTES) continue;
        s->turn = (unsigned)(a - s->asker) + 1;
        start_read(s, a);
    }
}

static void on_tick(uv_timer_t *timer);

static void tick(struct serve *s)
{
    uint64_t now = now_ms(s->c.hub);
    bool busy = s->reading > 0;

    hand_out(s, now);
    judge(s, now);
    read_next(s);
    for (unsigned i = s->n_askers; i-- > 0;) {
        struct asker *a = &s->asker[i];
        bool wants = a->first || a->reading || net_bulk_queued(s->c.net, &a->id);
        if (wants) a->seen_ms = now;
        busy |= wants;
        if (!wants && now - a->seen_ms > IDLE_MS) asker_remove(s, a);
    }
    if (busy) return;
    s->ticking = false;
    uv_timer_stop(s->timer);
}

static void on_tick(uv_timer_t *timer)
{
    tick(timer->data);
}

static void wake(struct serve *s)
{
    if (s->ticking) return;
    s->ticking = true;
    s->tick_ms = s->judged_ms = now_ms(s->c.hub);
    s->sent_since = 0;
    uv_timer_start(s->timer, on_tick, TICK_MS, TICK_MS);
}

/* --- what is asked --- */

static void refuse_busy(struct serve *s, struct wanted *w, struct asker *a)
{
    send_answer(s, w, REFUSE_BUSY);
    free_wanted(w);
    if (!a || ++a->refused < FLOOD) return;
    a->refused = 0;
    net_strike(s->c.net, &a->id, "it asks for far more tiles than may wait");
}

static void on_get(struct serve *s, const struct mail *m, struct slice hash)
{
    struct asker *a = asker_get(s, m);
    struct wanted *w = calloc(1, sizeof *w);

    if (!w) return;
    *w = (struct wanted){ .serve = s, .from = m->from, .rid = m->m.rid, .type = m->m.type };
    memcpy(w->hash.b, hash.p, HASH_BYTES);
    if (s->paused) {
        send_answer(s, w, REFUSE_BUSY);
        free_wanted(w);
        return;
    }
    if (!a || a->waiting >= SERVE_WAITING) {
        refuse_busy(s, w, a);
        return;
    }
    a->refused = 0;
    a->waiting++;
    a->seen_ms = now_ms(s->c.hub);
    *a->last = w;
    a->last = &w->next;
    wake(s);
    read_next(s);
}

static void on_cancel(struct serve *s, const struct mail *m)
{
    struct asker *a = asker_find(s, &m->from);
    struct slice hash = m->m.u.TILE_CANCEL.hash;

    for (unsigned i = 0; i < READS_MAX; i++) {
        struct wanted *w = s->read_now[i];
        if (w && node_id_equal(&w->from, &m->from) && memcmp(w->hash.b, hash.p, HASH_BYTES) == 0)
            w->cancelled = true;
    }
    if (!a) return;
    for (struct wanted **at = &a->first; *at;) {
        struct wanted *w = *at;
        if (memcmp(w->hash.b, hash.p, HASH_BYTES) != 0) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        a->waiting--;
        free_wanted(w);
    }
    a->last = &a->first;
    while (*a->last) a->last = &(*a->last)->next;
}

void serve_on_mail(struct serve *s, struct mail *m)
{
    switch (m->m.type) {
    case MSG_TILE_GET: on_get(s, m, m->m.u.TILE_GET.hash); break;
    case MSG_MANIFEST_GET: on_get(s, m, m->m.u.MANIFEST_GET.model); break;
    case MSG_TILE_CANCEL: on_cancel(s, m); break;
    default: break;
    }
    m->note.drop(&m->note);
}

void serve_on_peer(struct serve *s, const struct node_id *id, bool up)
{
    struct asker *a = asker_find(s, id);

    if (!a || up) return;
    for (unsigned i = 0; i < READS_MAX; i++)
        if (s->read_now[i] && node_id_equal(&s->read_now[i]->from, id))
            s->read_now[i]->cancelled = true;
    asker_remove(s, a);
}

void serve_pause(struct serve *s, bool is_paused)
{
    s->paused = is_paused;
    for (unsigned i = 0; is_paused && i < s->n_askers; i++)
        while (s->asker[i].first) {
            struct wanted *w = take_first(&s->asker[i]);
            send_answer(s, w, REFUSE_BUSY);
            free_wanted(w);
        }
}

struct serve_given serve_given(const struct serve *s)
{
    return s->given;
}

/* --- opening and closing --- */

enum err serve_open(struct serve **out, const struct serve_config *c)
{
    struct serve *s = calloc(1, sizeof *s);

    if (!s) return ERR_NOMEM;
    s->timer = malloc(sizeof *s->timer);
    if (!s->timer) {
        free(s);
        return ERR_NOMEM;
    }
    s->c = *c;
    s->best = RATE_FIRST;
    if (uv_timer_init(&c->hub->loop, s->timer)) abort(); /* it cannot fail */
    s->timer->data = s;
    *out = s;
    return ERR_OK;
}

static void on_timer_closed(uv_handle_t *h)
{
    free(h);
}

void serve_close(struct serve *s)
{
    if (!s) return;
    s->closing = true;
    if (s->given.tiles)
        log_info("gave %" PRIu64 " tiles (%" PRIu64 " KiB) to others", s->given.tiles,
                 s->given.bytes >> 10);
    while (s->n_askers) asker_remove(s, &s->asker[0]);
    uv_close((uv_handle_t *)s->timer, on_timer_closed);
    if (!s->reading) free(s);
}
