/* Candidates and costs from announcements, and the plan from what the search found. */
#include "proto/conn.h"
#include "proto/plan_impl.h"

#include <stdlib.h>

/* --- candidates --- */

bool plan_is_holder(const struct plan_query *q, const struct entry *e)
{
    const struct record_body *b = &e->body;
    bool is_own = q->self && b->state == RECORD_DRAINING && node_id_equal(&e->id, q->self);
    return (b->state == RECORD_ACTIVE || is_own) && b->layers.n > 0 && b->model.n == ID_BYTES &&
           memcmp(b->model.p, q->model, ID_BYTES) == 0;
}

static bool holds(const struct record_body *b, uint32_t layer)
{
    for (uint32_t i = 0; i + 1 < b->layers.n; i += 2)
        if (layer >= b->layers.p[i] && layer < b->layers.p[i + 1]) return true;
    return false;
}

/* A limit of 0 is one that the record does not tell. */
bool plan_has_room(const struct record_body *b, uint32_t max_tokens)
{
    return (b->kv_tokens == 0 || b->kv_tokens >= max_tokens) &&
           (b->context == 0 || b->context >= max_tokens);
}

static bool is_among(const struct node_id *id, const struct node_id *ids, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (node_id_equal(id, &ids[i])) return true;
    return false;
}

static uint32_t saturated(uint64_t v)
{
    return v < UINT32_MAX ? (uint32_t)v : UINT32_MAX;
}

/* A prompt's rows: as measured, as claimed, or guessed. */
static void set_rows(struct candidate *c, const struct record_body *b, const struct measured *m,
                     uint64_t layer_us)
{
    c->chunk_us = m->chunk_us;
    c->row_ns = m->row_ns;
    c->rows_known = m->chunk_us || m->row_ns;
    if (c->rows_known) return;
    c->row_ns = saturated(b->prefill ? UINT64_C(1000000000) / b->prefill
                                     : layer_us * 1000 / PLAN_BATCH_GAIN);
}

static struct candidate candidate_of(const struct entry *e, const struct measured *m,
                                     uint32_t n_layers)
{
    struct candidate c = { .b = &e->body, .id = e->id, .is_connected = m->rtt_us != UINT32_MAX };
    uint64_t us = m->layer_us ? m->layer_us : e->body.layer_us;

    if (us == 0) us = PLAN_LAYER_UNKNOWN_US;
    set_rows(&c, &e->body, m, us);
    if (!m->layer_us || !m->with_load) us *= 1 + e->body.sessions;
    c.layer_us = saturated(us);
    c.rtt_us = c.is_connected ? m->rtt_us : PLAN_RTT_UNKNOWN_US;
    for (uint32_t l = 0; l < n_layers; l++)
        if (holds(&e->body, l)) c.held[l / 64] |= (uint64_t)1 << l % 64;
    return c;
}

static int by_id(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    return memcmp(x->id.b, y->id.b, ID_BYTES);
}

/* --- too many --- */

/* What a stage of some layers would cost: the order in which candidates are looked at. */
static int by_promise(const void *a, const void *b)
{
    enum { SOME_LAYERS = 8 };
    const struct candidate *x = a, *y = b;
    uint64_t p = x->rtt_us + (uint64_t)SOME_LAYERS * x->layer_us;
    uint64_t q = y->rtt_us + (uint64_t)SOME_LAYERS * y->layer_us;
    if (p != q) return p < q ? -1 : 1;
    return by_id(a, b);
}

/* Does c hold a layer that fewer than `enough` of those taken hold? */
static bool is_wanted(const struct candidate *c, const uint32_t *held_by, uint32_t n_layers,
                      uint32_t enough)
{
    for (uint32_t l = 0; l < n_layers; l++)
        if (plan_bit(c->held, l) && held_by[l] < enough) return true;
    return false;
}

/* Keep `room` candidates: first one for every layer, then two, then four ... of the best. */
static void prune(struct search *s, uint32_t room)
{
    uint32_t held_by[LAYER_MAX] = { 0 }, n = 0;

    if (s->n <= room) return;
    qsort(s->c, s->n, sizeof *s->c, by_promise);
    for (uint32_t enough = 1; n < room; enough *= 2)
        for (uint32_t i = n; i < s->n && n < room; i++) {
            struct candidate c = s->c[i];
            if (!is_wanted(&c, held_by, s->n_layers, enough)) continue;
            memmove(&s->c[n + 1], &s->c[n], (i - n) * sizeof c); /* the rest keeps its order */
            s->c[n++] = c;
            for (uint32_t l = 0; l < s->n_layers; l++) held_by[l] += plan_bit(c.held, l);
        }
    s->n = n;
}

/* --- costs --- */

/* One row through an uplink of so many kbit/s (0: no time). */
static uint32_t row_ns(const struct search *s, uint32_t kbit)
{
    return kbit ? saturated((uint64_t)s->row_bytes * 8000000 / kbit) : 0;
}

static uint32_t uplink_of(const struct candidate *c)
{
    return c->b ? (uint32_t)c->b->uplink : 0;
}

uint32_t plan_home_us(const struct search *s, const struct candidate *c)
{
    if (c->rtt_us == 0) return 0;
    return saturated((uint64_t)c->rtt_us / 2 + s->hop_us + row_ns(s, uplink_of(c)) / 1000);
}

uint32_t plan_out_us(const struct search *s, const struct candidate *c)
{
    if (c->rtt_us == 0) return 0;
    return saturated((uint64_t)c->rtt_us / 2 + s->hop_us + row_ns(s, s->uplink) / 1000);
}

uint32_t plan_hop_us(const struct search *s, uint32_t i, uint32_t j)
{
    return saturated(plan_us(s->hop[(size_t)i * s->n + j]));
}

/* The candidate whose id begins so, or n. */
static uint32_t by_prefix(const struct search *s, const uint8_t *prefix)
{
    uint32_t lo = 0, hi = s->n;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (memcmp(s->c[mid].id.b, prefix, RTT_BYTES - 4) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < s->n && memcmp(s->c[lo].id.b, prefix, RTT_BYTES - 4) == 0 ? lo : s->n;
}

/* Where both ends announce one the longer counts, so that nobody shortens a way alone. */
static void note_trip(struct search *s, uint32_t i, uint32_t j, double us)
{
    size_t ij = (size_t)i * s->n + j, ji = (size_t)j * s->n + i;
    s->known[ij] = s->known[ji] = 1;
    if (us > s->hop[ij]) s->hop[ij] = s->hop[ji] = us;
}

/* The round trips that i announces, into hop. */
static void note_trips(struct search *s, uint32_t i)
{
    struct slice r = s->c[i].b ? s->c[i].b->rtts : slice_of(NULL, 0);
    for (size_t at = 0; at + RTT_BYTES <= r.n; at += RTT_BYTES) {
        const uint8_t *us = r.p + at + RTT_BYTES - 4;
        uint32_t j = by_prefix(s, r.p + at);
        if (j < s->n && j != i)
            note_trip(s, i, j,
                      (double)((uint32_t)us[0] << 24 | (uint32_t)us[1] << 16 |
                               (uint32_t)us[2] << 8 | us[3]));
    }
}

/* From i to j, whose hop is still the announced round trip: the key. */
static void connect(struct search *s, uint32_t i, uint32_t j)
{
    const struct candidate *a = &s->c[i], *b = &s->c[j];
    size_t at = (size_t)i * s->n + j;
    uint32_t us = a->rtt_us > b->rtt_us ? a->rtt_us : b->rtt_us;
    if (a->rtt_us == 0 || b->rtt_us == 0) /* the coordinator itself: its own measurement */
        s->known[at] = a->is_connected && b->is_connected;
    else if (s->known[at])
        us = (uint32_t)s->hop[at];
    s->hop[at] = plan_key((uint64_t)us / 2 + s->hop_us + row_ns(s, uplink_of(a)) / 1000) + 1;
}

static void connect_all(struct search *s)
{
    for (uint32_t i = 0; i < s->n; i++) note_trips(s, i);
    for (uint32_t i = 0; i < s->n; i++)
        for (uint32_t j = 0; j < s->n; j++)
            if (i != j) connect(s, i, j);
}

void plan_enter_home(struct search *s)
{
    for (uint32_t j = 0; j < s->n; j++) {
        s->enter[j] = plan_key(plan_out_us(s, &s->c[j]));
        s->leave[j] = plan_key(plan_home_us(s, &s->c[j]));
    }
}

/* --- opening --- */

static bool allocate(struct search *s)
{
    size_t n = s->n ? s->n : 1;

    s->hop = calloc(n * n, sizeof *s->hop);
    s->known = calloc(n * n, sizeof *s->known);
    s->allowed = calloc(n, sizeof *s->allowed);
    s->out = calloc(n, sizeof *s->out);
    s->enter = calloc(n, sizeof *s->enter);
    s->leave = calloc(n, sizeof *s->leave);
    s->key = calloc(n * s->n_layers, sizeof *s->key);
    s->sub = malloc(plan_subs_bytes);
    return s->hop && s->known && s->allowed && s->out && s->enter && s->leave && s->key && s->sub;
}

void plan_close(struct search *s)
{
    free(s->c);
    free(s->hop);
    free(s->known);
    free(s->allowed);
    free(s->out);
    free(s->enter);
    free(s->leave);
    free(s->key);
    free(s->sub);
}

static void gather(struct search *s, const struct plan_query *q)
{
    for (uint32_t i = 0; i < directory_n(q->d); i++) {
        const struct entry *entry = directory_nth(q->d, i);
        const struct measured *m = &q->measured[i];
        if (!plan_is_holder(q, entry)) continue;
        s->holders++;
        if (m->banned || m->lost || !plan_has_room(&entry->body, q->max_tokens)) continue;
        if (is_among(&entry->id, q->avoid, q->n_avoid)) continue;
        s->c[s->n++] = candidate_of(entry, m, q->n_layers);
    }
}

enum err plan_open(struct search *s, const struct plan_query *q, const struct candidate *more,
                   struct why *why)
{
    *s = (struct search){ .n_layers = q->n_layers,
                          .hop_us = q->hop_us ? q->hop_us : PLAN_HOP_US,
                          .head_us = q->head_us,
                          .start_us = q->start_us,
                          .row_bytes = q->row_bytes,
                          .uplink = q->uplink };
    if (q->n_layers == 0 || q->n_layers > LAYER_MAX)
        return fail(why, ERR_RANGE, "a model of %u layers cannot be planned", q->n_layers);
    s->c = calloc(directory_n(q->d) + 1, sizeof *s->c);
    if (!s->c) return fail(why, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    gather(s, q);
    prune(s, PLAN_NODES_MAX - (more != NULL));
    if (more) s->c[s->n++] = *more;
    if (s->n > 0) qsort(s->c, s->n, sizeof *s->c, by_id);
    if (!allocate(s)) {
        plan_close(s);
        return fail(why, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    }
    connect_all(s);
    plan_enter_home(s);
    return ERR_OK;
}

/* --- the plan --- */

static void write_stage(struct plan *out, const struct search *s, uint32_t node, uint32_t last,
                        uint32_t lo, uint32_t hi)
{
    const struct candidate *c = &s->c[node];
    bool is_first = out->n == 0;
    out->stage[out->n++] = (struct plan_stage){
        .id = c->id,
        .lo = lo,
        .hi = hi,
        .layer_us = c->layer_us,
        .chunk_us = c->chunk_us,
        .row_ns = c->row_ns,
        .hop_us = is_first ? plan_out_us(s, c) : plan_hop_us(s, last, node),
        .way_ns =
            is_first ? (c->rtt_us ? row_ns(s, s->uplink) : 0) : row_ns(s, uplink_of(&s->c[last])),
        .rtt_us = c->rtt_us,
        .hop_known = is_first ? c->is_connected : s->known[(size_t)last * s->n + node],
        .is_connected = c->is_connected,
        .rows_known = c->rows_known,
        .together = c->b ? (uint32_t)c->b->together : 0,
    };
}

void plan_write(struct plan *out, const struct search *s)
{
    uint64_t total = s->head_us, slowest = 0;
    uint32_t last = 0;

    memset(out, 0, sizeof *out);
    for (uint32_t lo = 0, hi; lo < s->n_layers; lo = hi) {
        uint32_t node = s->best[lo];
        for (hi = lo; hi < s->n_layers && s->best[hi] == s->best[lo];) hi++;
        write_stage(out, s, node, last, lo, hi);
        uint64_t compute = (uint64_t)(hi - lo) * s->c[node].layer_us;
        if (compute > slowest) {
            slowest = compute;
            out->bottleneck = out->n - 1;
        }
        total += out->stage[out->n - 1].hop_us + compute;
        last = node;
    }
    out->head_us = s->head_us;
    out->start_us = s->start_us;
    out->overhead_us = s->hop_us;
    out->home_us = plan_home_us(s, &s->c[last]);
    out->token_us = saturated(total + out->home_us);
    out->left_out = s->holders - out->n;
}

static enum err explain_gap(const struct search *s, const struct plan_query *q, struct why *why)
{
    for (uint32_t l = 0; l < s->n_layers; l++) {
        bool usable = false, held = false;
        for (uint32_t j = 0; j < s->n; j++) usable |= plan_bit(s->c[j].held, l);
        if (usable) continue;
        for (uint32_t i = 0; i < directory_n(q->d); i++) {
            const struct entry *e = directory_nth(q->d, i);
            held |= plan_is_holder(q, e) && holds(&e->body, l);
        }
        if (held)
            return fail(why, ERR_NOTFOUND,
                        "layer %u is held only by nodes that have no room or failed lately", l);
        return fail(why, ERR_NOTFOUND, "no node of the swarm holds layer %u of the model", l);
    }
    return fail(why, ERR_NOTFOUND,
                "every layer is held, but no pipeline was found that uses each node once");
}

enum err plan_make(struct plan *out, const struct plan_query *q, struct why *why)
{
    struct search s;
    memset(out, 0, sizeof *out);
    enum err e = plan_open(&s, q, NULL, why);
    if (e) return e;
    plan_find_best(&s, 0, s.n_layers, PLAN_WORK);
    if (s.best_key == PLAN_NEVER)
        e = explain_gap(&s, q, why);
    else
        plan_write(out, &s);
    plan_close(&s);
    return e;
}

/* --- spares --- */

static uint32_t find_candidate(const struct search *s, const struct node_id *id)
{
    uint32_t i = 0;
    while (i < s->n && !node_id_equal(&s->c[i].id, id)) i++;
    return i;
}

/* Hops into and out of stage i of p. */
static void enter_stage(struct search *s, const struct plan *p, uint32_t i)
{
    uint32_t before = i > 0 ? find_candidate(s, &p->stage[i - 1].id) : s->n;
    uint32_t after = i + 1 < p->n ? find_candidate(s, &p->stage[i + 1].id) : s->n;
    for (uint32_t j = 0; j < s->n; j++) {
        double out = plan_key(plan_out_us(s, &s->c[j])), home = plan_key(plan_home_us(s, &s->c[j]));
        s->enter[j] = before < s->n ? s->hop[(size_t)before * s->n + j] - 1 : out;
        s->leave[j] = after < s->n ? s->hop[(size_t)j * s->n + after] : home;
    }
}

/* What stage i costs now, with the hops at its ends. */
static uint64_t stage_us(const struct plan *p, uint32_t i)
{
    const struct plan_stage *st = &p->stage[i];
    return (uint64_t)(st->hi - st->lo) * st->layer_us + st->hop_us +
           (i + 1 < p->n ? p->stage[i + 1].hop_us : p->home_us);
}

static void write_spares(struct plan *p, const struct search *s, uint32_t i)
{
    struct plan_stage *st = &p->stage[i];
    uint64_t others = p->token_us - stage_us(p, i);
    uint32_t n = 0;
    for (uint32_t l = st->lo; l < st->hi; l++) n += l == st->lo || s->best[l] != s->best[l - 1];
    if (p->n_spares + n > PLAN_SPARES_MAX) return;
    st->spare = p->n_spares;
    st->n_spares = n;
    st->spare_token_us = saturated(others + plan_us(s->best_key));
    for (uint32_t lo = st->lo, hi; lo < st->hi; lo = hi) {
        for (hi = lo; hi < st->hi && s->best[hi] == s->best[lo];) hi++;
        p->spare[p->n_spares++] = (struct plan_spare){ s->c[s->best[lo]].id, lo, hi };
    }
}

/* Those of the pipeline, and of the spares chosen so far, are not to be used. */
static void mark_out(struct search *s, const struct plan *p, bool spares_too)
{
    memset(s->out, 0, s->n * sizeof *s->out);
    for (uint32_t i = 0; i < p->n; i++) {
        uint32_t j = find_candidate(s, &p->stage[i].id);
        if (j < s->n) s->out[j] = true;
    }
    for (uint32_t i = 0; spares_too && i < p->n_spares; i++) {
        uint32_t j = find_candidate(s, &p->spare[i].id);
        if (j < s->n) s->out[j] = true;
    }
}

static void find_spare(struct search *s, struct plan *p, uint32_t i)
{
    struct plan_stage *st = &p->stage[i];
    enter_stage(s, p, i);
    for (int share = 0; share < 2; share++) {
        mark_out(s, p, share == 0);
        plan_find_best(s, st->lo, st->hi, PLAN_WORK / 16);
        if (s->best_key == PLAN_NEVER) continue;
        write_spares(p, s, i);
        return;
    }
}

enum err plan_add_spares(struct plan *p, const struct plan_query *q)
{
    struct search s;
    enum err e = plan_open(&s, q, NULL, NULL);
    if (e) return e;
    p->n_spares = 0;
    for (uint32_t i = 0; i < p->n; i++) p->stage[i].n_spares = 0;
    for (uint32_t i = 0; i < p->n; i++) find_spare(&s, p, i);
    plan_close(&s);
    return ERR_OK;
}

enum err plan_price(struct plan *p, const struct plan_query *q)
{
    struct search s;
    enum err e = plan_open(&s, q, NULL, NULL);
    if (e) return e;
    for (uint32_t i = 0; i < p->n && !e; i++) {
        uint32_t node = find_candidate(&s, &p->stage[i].id);
        if (node == s.n) e = ERR_NOTFOUND;
        for (uint32_t l = p->stage[i].lo; l < p->stage[i].hi; l++) s.best[l] = (uint16_t)node;
    }
    if (!e) plan_write(p, &s);
    plan_close(&s);
    return e;
}

/* --- the first token --- */

uint32_t plan_chunk(uint32_t n_stages, uint32_t n_prompt, size_t row_bytes)
{
    uint32_t n = n_prompt / (2 * n_stages);
    size_t bytes = CONN_QUEUE_MAX / 2 / (n_stages + PLAN_STEPS_EXTRA);
    size_t fits = (bytes < ACT_BYTES_MAX ? bytes : ACT_BYTES_MAX) / row_bytes;
    if (fits == 0) fits = 1;
    if (n < PLAN_CHUNK_MIN) n = PLAN_CHUNK_MIN;
    if (n > PLAN_CHUNK_MAX) n = PLAN_CHUNK_MAX;
    return n < fits ? n : (uint32_t)fits;
}

static uint64_t chunk_us(const struct plan_stage *s, uint32_t rows)
{
    uint64_t us = s->chunk_us + (uint64_t)s->row_ns * rows / 1000;
    return (s->hi - s->lo) * (rows > 1 && us > s->layer_us ? us : s->layer_us);
}

/* Connecting takes a round trip for TCP and one and a half for the handshake; SESS_OPEN and its
 * answer one more.  Stages connect to the next one meanwhile. */
static uint64_t open_us(const struct plan *p)
{
    uint64_t longest = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        const struct plan_stage *s = &p->stage[i];
        uint64_t us = s->rtt_us;
        if (!s->is_connected) us += s->rtt_us * UINT64_C(5) / 2;
        if (i + 1 < p->n && !s[1].hop_known) us += s[1].hop_us * UINT64_C(5);
        if (us > longest) longest = us;
    }
    return longest;
}

uint64_t plan_first_us(const struct plan *p, uint32_t n_prompt, uint32_t chunk, uint32_t steps)
{
    uint32_t first = n_prompt < chunk ? n_prompt : chunk, rest = n_prompt - first;
    uint64_t through = p->home_us, slowest = 0;

    for (uint32_t i = 0; i < p->n; i++) {
        const struct plan_stage *s = &p->stage[i];
        uint64_t more = rest / chunk * chunk_us(s, chunk), way = (uint64_t)rest * s->way_ns / 1000;
        if (rest % chunk) more += chunk_us(s, rest % chunk);
        if (more > slowest) slowest = more;
        if (way > slowest) slowest = way;
        through += chunk_us(s, first) + s->hop_us + (uint64_t)(first - 1) * s->way_ns / 1000;
    }
    /* Chunks follow at the pace of the slowest stage or line; or, if few may be under way, in
     * groups of as many. */
    uint64_t by_way = (rest + chunk - 1) / chunk / (steps ? steps : 1) * through;
    return p->start_us + open_us(p) + through + (slowest > by_way ? slowest : by_way) + p->head_us;
}
