#include "proto/hold.h"

#include <sodium.h>
#include <stdlib.h>

enum { ITEMS_MAX = LAYER_MAX + 1 }; /* the layers, then the ends */
enum { ORDER_HASH = 1, GAP_HASH, MINUTE_HASH, WINDOW_HASH };

/* What the swarm holds, item by item. */
struct cover {
    uint32_t n_layers;
    uint32_t holders[ITEMS_MAX]; /* now or soon */
    uint32_t here[ITEMS_MAX];    /* now, and they stay */
    uint32_t net[ITEMS_MAX];     /* of the first holder */
    bool spread[ITEMS_MAX];      /* in more than one network */
    uint64_t rate[LAYER_MAX];    /* millionths of a token a second */
};

/* How good a swarm is; the smaller number wins, in this order (rates: the larger). */
struct score {
    uint32_t nobody, without_ends, pieces, alone, pieces_alone, narrow;
    uint64_t slowest;   /* of rate */
    uint32_t n_slowest; /* how many have it: the beginning of the sorted rates */
    uint32_t lo, hi;    /* of the window */
    uint32_t n_rates;
    bool is_sorted;
    uint64_t rate[LAYER_MAX];
};

/* --- hashes --- */

static uint64_t hash_of_id(const struct hold_model *m, const struct node_id *id, uint64_t kind,
                           uint64_t a, uint64_t b)
{
    uint8_t in[ID_BYTES + 3 * sizeof(uint64_t)], out[16];
    uint64_t v = 0;

    memcpy(in, id->b, ID_BYTES);
    for (unsigned i = 0; i < 8; i++) {
        in[ID_BYTES + i] = (uint8_t)(kind >> 8 * i);
        in[ID_BYTES + 8 + i] = (uint8_t)(a >> 8 * i);
        in[ID_BYTES + 16 + i] = (uint8_t)(b >> 8 * i);
    }
    crypto_generichash(out, sizeof out, in, sizeof in, m->id, ID_BYTES);
    for (unsigned i = 0; i < 8; i++) v = v << 8 | out[i];
    return v;
}

/* --- the swarm as it is --- */

static void add_item(struct cover *c, uint32_t item, uint32_t net, bool is_here)
{
    if (c->holders[item]++ == 0)
        c->net[item] = net;
    else if (net != c->net[item] && net && c->net[item])
        c->spread[item] = true;
    c->here[item] += is_here;
}

static void add_window(struct cover *c, const struct hold_window *w, uint64_t rate, uint32_t net,
                       bool is_here)
{
    for (uint32_t l = w->lo; l < w->hi && l < c->n_layers; l++) {
        add_item(c, l, net, is_here);
        c->rate[l] += rate;
    }
    if (w->ends) add_item(c, c->n_layers, net, is_here);
}

/* Millionths of a token a second through `layers` layers. */
static uint64_t rate_of(uint32_t layer_us, uint64_t layers)
{
    uint64_t us = layer_us ? layer_us : HOLD_LAYER_UNKNOWN_US;
    return layers ? UINT64_C(1000000000000) / (us * layers) : 0;
}

static bool is_moving(const struct hold_peer *p)
{
    return p->coming.lo < p->coming.hi || p->coming.ends;
}

static void add_peer(struct cover *c, const struct hold_peer *p)
{
    uint64_t layers = 0;

    if (is_moving(
            p)) { /* it is where it goes to; what it leaves it still serves, but not for long */
        add_window(c, &p->coming, rate_of(p->layer_us, p->coming.hi - p->coming.lo), p->net, false);
        return;
    }
    for (uint32_t i = 0; i < p->n; i++) layers += p->range[i].hi - p->range[i].lo;
    for (uint32_t i = 0; i < p->n; i++)
        add_window(c, &p->range[i], rate_of(p->layer_us, layers), p->net, !p->joining);
}

static void add_me(struct cover *c, const struct hold_self *me, const struct hold_window *w)
{
    add_window(c, w, rate_of(me->layer_us, w->hi - w->lo), me->net, true);
}

static void add_all(struct cover *c, const struct hold_peer *peer, uint32_t n,
                    const struct hold_model *m)
{
    *c = (struct cover){ .n_layers = m->n_layers };
    for (uint32_t i = 0; i < n; i++) add_peer(c, &peer[i]);
}

/* --- how good it is --- */

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Windows of w layers that it takes to close the gaps, runs of layers with at most `most` holders.
 */
static uint32_t pieces(const struct cover *c, uint32_t most, uint32_t w)
{
    uint32_t run = 0, n = 0;

    for (uint32_t l = 0; l <= c->n_layers && w; l++) {
        if (l < c->n_layers && c->holders[l] <= most) {
            run++;
        } else {
            n += (run + w - 1) / w;
            run = 0;
        }
    }
    return n;
}

static uint64_t slowest(const struct cover *c)
{
    uint64_t least = UINT64_MAX;
    for (uint32_t l = 0; l < c->n_layers; l++)
        if (c->rate[l] < least) least = c->rate[l];
    return least;
}

static void count(struct score *s, const struct cover *c)
{
    for (uint32_t i = 0; i <= c->n_layers; i++) {
        s->nobody += c->holders[i] == 0;
        s->alone += c->holders[i] <= 1;
        s->narrow += !c->spread[i];
    }
}

/* The swarm with me and w in it. */
static void rate_window(struct score *s, const struct cover *without, const struct hold_self *me,
                        const struct hold_window *w, bool likes_ends)
{
    struct cover c = *without;

    memset(s, 0, offsetof(struct score, rate));
    add_me(&c, me, w);
    s->lo = w->lo;
    s->hi = w->hi;
    count(s, &c);
    s->without_ends = likes_ends && !w->ends;
    s->pieces = pieces(&c, 0, w->hi - w->lo);
    s->pieces_alone = pieces(&c, 1, w->hi - w->lo);
    s->n_rates = c.n_layers;
    memcpy(s->rate, c.rate, c.n_layers * sizeof *c.rate);
    s->slowest = slowest(&c);
    for (uint32_t l = 0; l < c.n_layers; l++) s->n_slowest += c.rate[l] == s->slowest;
}

static int compare(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static void sort_rates(struct score *s)
{
    if (!s->is_sorted) qsort(s->rate, s->n_rates, sizeof *s->rate, ascending);
    s->is_sorted = true;
}

/* Is a better than b?  Rates are sorted only when everything before them is equal. */
static bool is_better(const struct hold_model *m, const struct node_id *me, struct score *a,
                      struct score *b)
{
    int order = compare(a->nobody, b->nobody);
    if (!order) order = compare(a->without_ends, b->without_ends);
    if (!order) order = compare(a->pieces, b->pieces);
    if (!order) order = compare(a->alone, b->alone);
    if (!order) order = compare(a->pieces_alone, b->pieces_alone);
    if (!order) order = compare(a->narrow, b->narrow);
    if (!order) order = compare(b->slowest, a->slowest);
    if (!order) order = compare(a->n_slowest, b->n_slowest);
    if (order) return order < 0;
    sort_rates(a);
    sort_rates(b);
    for (uint32_t i = 0; i < a->n_rates; i++)
        if (a->rate[i] != b->rate[i]) return a->rate[i] > b->rate[i];
    return hash_of_id(m, me, WINDOW_HASH, a->lo, a->hi) <
           hash_of_id(m, me, WINDOW_HASH, b->lo, b->hi);
}

struct hold_state hold_state(const struct hold_peer *peer, uint32_t n, const struct hold_model *m)
{
    struct hold_state s = { .slowest = UINT64_MAX };
    struct cover c;

    add_all(&c, peer, n, m);
    for (uint32_t i = 0; i <= c.n_layers; i++) {
        s.nobody += c.holders[i] == 0;
        s.alone += c.holders[i] == 1;
        if (i < c.n_layers && c.rate[i] < s.slowest) s.slowest = c.rate[i];
    }
    return s;
}

/* --- choosing --- */

/* The end of the longest window from lo that fits room. */
static uint32_t fit(const struct hold_model *m, uint32_t lo, uint64_t room)
{
    uint32_t hi = lo;
    while (hi < m->n_layers && m->layer_bytes[hi] <= room) room -= m->layer_bytes[hi++];
    return hi;
}

/* Try every window that cannot be made longer; *found says whether there is one. */
static void try_windows(struct hold_window *best, struct score *best_score, bool *found,
                        const struct cover *c, const struct hold_model *m,
                        const struct hold_self *me, bool with_ends)
{
    struct score s;
    bool likes_ends = !me->no_ends && m->ends_bytes <= me->room / 4;
    uint64_t room = me->room - (with_ends ? m->ends_bytes : 0);

    for (uint32_t lo = 0, last = 0; lo < m->n_layers; lo++) {
        struct hold_window w = { lo, fit(m, lo, room), with_ends };
        if (w.lo == w.hi || w.hi == last) continue; /* part of the one before */
        last = w.hi;
        rate_window(&s, c, me, &w, likes_ends);
        if (*found && !is_better(m, &me->id, &s, best_score)) continue;
        *found = true;
        *best = w;
        *best_score = s;
    }
}

static enum err choose(struct hold_window *out, const struct cover *c, const struct hold_model *m,
                       const struct hold_self *me, struct why *why)
{
    struct score best;
    bool found = false;

    try_windows(out, &best, &found, c, m, me, false);
    if (!me->no_ends && m->ends_bytes <= me->room) try_windows(out, &best, &found, c, m, me, true);
    if (found) return ERR_OK;
    uint64_t least = UINT64_MAX;
    for (uint32_t l = 0; l < m->n_layers; l++)
        if (m->layer_bytes[l] < least) least = m->layer_bytes[l];
    return fail(why, ERR_FULL, "%.1f GiB hold no layer of the model: the smallest has %.1f GiB",
                (double)me->room / (1 << 30), (double)least / (1 << 30));
}

enum err hold_choose(struct hold_window *out, const struct hold_peer *peer, uint32_t n,
                     const struct hold_model *m, const struct hold_self *me, bool again,
                     struct why *why)
{
    struct cover c = { .n_layers = m->n_layers };
    uint64_t mine = hash_of_id(m, &me->id, ORDER_HASH, 0, 0);

    for (uint32_t i = 0; i < n; i++) {
        bool is_after =
            again && peer[i].joining && hash_of_id(m, &peer[i].id, ORDER_HASH, 0, 0) > mine;
        if (!is_after) add_peer(&c, &peer[i]);
    }
    return choose(out, &c, m, me, why);
}

/* --- moving --- */

/* Has every item of it `keep` other holders, here and staying?  c counts the holder itself. */
static bool is_replaceable(const struct cover *c, const struct hold_window *w, uint32_t keep)
{
    for (uint32_t l = w->lo; l < w->hi && l < c->n_layers; l++)
        if (c->here[l] < keep + 1) return false;
    return !w->ends || c->here[c->n_layers] >= keep + 1;
}

static bool is_volunteer(const struct cover *c, const struct hold_peer *p)
{
    if (p->joining || is_moving(p)) return false;
    for (uint32_t i = 0; i < p->n; i++)
        if (!is_replaceable(c, &p->range[i], 1)) return false;
    return true;
}

/* How many go before me to close the gap at layer `gap`? */
static uint32_t my_rank(const struct cover *c, const struct hold_peer *peer, uint32_t n,
                        const struct hold_model *m, const struct hold_self *me,
                        const struct hold_window *have, uint32_t gap)
{
    uint64_t mine = hash_of_id(m, &me->id, GAP_HASH, gap, 0);
    bool i_am = is_replaceable(c, have, 1);
    uint32_t before = 0, volunteers = 0;

    for (uint32_t i = 0; i < n; i++) {
        bool is = is_volunteer(c, &peer[i]);
        volunteers += is;
        if (is == i_am && !peer[i].joining && !is_moving(&peer[i]))
            before += hash_of_id(m, &peer[i].id, GAP_HASH, gap, 0) < mine;
    }
    if (i_am) return before;
    return before + (volunteers < HOLD_RANKS ? volunteers : HOLD_RANKS);
}

static uint32_t first_gap(const struct cover *c)
{
    uint32_t i = 0;
    while (i <= c->n_layers && c->holders[i]) i++;
    return i; /* n_layers + 1: none */
}

static uint32_t count_nobody(const struct cover *c)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i <= c->n_layers; i++) n += c->holders[i] == 0;
    return n;
}

/* The swarm without me, and with me at the best window for it. */
static bool best_move(struct hold_window *to, struct cover *after, const struct hold_peer *peer,
                      uint32_t n, const struct hold_model *m, const struct hold_self *me)
{
    add_all(after, peer, n, m);
    if (choose(to, after, m, me, NULL)) return false;
    add_me(after, me, to);
    return true;
}

static bool same(const struct hold_window *a, const struct hold_window *b)
{
    return a->lo == b->lo && a->hi == b->hi && a->ends == b->ends;
}

static bool gap_needs_me(struct hold_window *to, struct hold_now *now, const struct cover *c,
                         const struct hold_peer *peer, uint32_t n, const struct hold_model *m,
                         const struct hold_self *me)
{
    uint32_t gap = first_gap(c);
    struct cover after;

    if (gap > c->n_layers) {
        now->gap_since_s = 0;
        return false;
    }
    if (!now->gap_since_s || now->gap_since_s > now->unix_s) now->gap_since_s = now->unix_s;
    uint64_t age = now->unix_s - now->gap_since_s;
    if (age < HOLD_GAP_S) return false;
    if (my_rank(c, peer, n, m, me, &now->have, gap) > (age - HOLD_GAP_S) / HOLD_STEP_S)
        return false;
    return best_move(to, &after, peer, n, m, me) && count_nobody(&after) < count_nobody(c);
}

/* Of all that may move in this minute, am I the one? */
static bool is_my_minute(const struct hold_now *now, const struct hold_peer *peer, uint32_t n,
                         const struct hold_model *m, const struct hold_self *me)
{
    uint64_t minute = now->unix_s / 60, mine = hash_of_id(m, &me->id, MINUTE_HASH, minute, 0);

    for (uint32_t i = 0; i < n; i++)
        if (!peer[i].joining && hash_of_id(m, &peer[i].id, MINUTE_HASH, minute, 0) < mine)
            return false;
    return true;
}

/* The cheap questions first: nearly every call ends at one. */
static bool pays(struct hold_window *to, const struct hold_now *now, const struct cover *c,
                 const struct hold_peer *peer, uint32_t n, const struct hold_model *m,
                 const struct hold_self *me)
{
    struct cover after;

    if (now->resident_s < HOLD_RESIDENT_S || now->sessions) return false;
    if (!is_replaceable(c, &now->have, HOLD_KEEP) || !is_my_minute(now, peer, n, m, me))
        return false;
    if (!best_move(to, &after, peer, n, m, me) || same(to, &now->have)) return false;
    return count_nobody(&after) <= count_nobody(c) &&
           slowest(&after) * 100 >= slowest(c) * (100 + HOLD_GAIN_PERCENT) && slowest(&after) > 0;
}

enum hold_reason hold_move(struct hold_window *to, struct hold_now *now,
                           const struct hold_peer *peer, uint32_t n, const struct hold_model *m,
                           const struct hold_self *me)
{
    struct cover c;

    add_all(&c, peer, n, m);
    add_me(&c, me, &now->have);
    if (gap_needs_me(to, now, &c, peer, n, m, me)) return HOLD_GAP;
    if (!now->gap_since_s && pays(to, now, &c, peer, n, m, me)) return HOLD_FASTER;
    return HOLD_STAY;
}

/* --- from the directory --- */

uint32_t hold_network(const struct record_body *b)
{
    if (b->addrs.n == 0) return 0;
    struct slice a = b->addrs.p[0];
    if (addr_is_loopback(a) || addr_is_private(a)) return 1;
    uint32_t v = (uint32_t)a.p[0] << 8 | a.p[1];
    return a.n == ADDR_MIN ? v : v << 16 | (uint32_t)a.p[2] << 8 | a.p[3];
}

static void read_ranges(struct hold_peer *p, const struct uints *l, uint32_t n_layers)
{
    for (uint32_t i = 0; i + 1 < l->n && p->n < HOLD_PEER_RANGES; i += 2) {
        uint32_t hi = l->p[i + 1] < n_layers ? l->p[i + 1] : n_layers;
        if (l->p[i] < hi) p->range[p->n++] = (struct hold_window){ l->p[i], hi, false };
    }
}

uint32_t hold_peers(struct hold_peer *out, const struct directory *d, const struct hold_model *m,
                    const struct node_id *me)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < directory_n(d) && n < DIRECTORY_MAX; i++) {
        const struct entry *e = directory_nth(d, i);
        const struct record_body *b = &e->body;
        bool is_there = b->state == RECORD_ACTIVE || b->state == RECORD_JOINING ||
                        (b->state == RECORD_DRAINING && b->coming.n > 0); /* it will be there */
        if (!is_there || node_id_equal(&e->id, me) || b->model.n != ID_BYTES ||
            memcmp(b->model.p, m->id, ID_BYTES) != 0)
            continue;
        struct hold_peer p = { .id = e->id,
                               .joining = b->state == RECORD_JOINING,
                               .layer_us = (uint32_t)b->layer_us,
                               .net = hold_network(b),
                               .sessions = (uint32_t)b->sessions };
        read_ranges(&p, &b->layers, m->n_layers);
        if (b->ends && p.n == 0) p.range[p.n++] = (struct hold_window){ 0, 0, false };
        p.range[0].ends = b->ends != 0;
        if (b->coming.n >= 2 && b->coming.p[1] <= m->n_layers)
            p.coming = (struct hold_window){ b->coming.p[0], b->coming.p[1], b->ends != 0 };
        out[n++] = p;
    }
    return n;
}
