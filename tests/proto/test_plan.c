/* The planner against trying everything, and its rules one by one. */
#include "proto/plan_explain.h"
#include "tests/proto/oracle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

enum { NOW = 1700000000, NODES_MAX = 600, TRIPS = 8 };
static const uint8_t model[ID_BYTES] = { 7 }, other_model[ID_BYTES] = { 8 };

/* One node as the tests write it; offered to the directory as a signed record. */
struct node {
    uint64_t held; /* bit per layer, below 64 */
    uint32_t layer_us, rtt_us, measured_us, sessions, kv, context, state;
    uint32_t trip_us[TRIPS]; /* it announces to the nodes of these numbers; 0: nothing */
    uint32_t prefill, own_chunk_us, own_row_ns, uplink;
    bool banned, lost, with_load, other_model;
};

static struct node_id id_of(uint32_t number)
{
    uint8_t seed[32] = { 2 };
    struct identity me;
    memcpy(seed + 1, &number, sizeof number);
    identity_from_seed(&me, seed);
    return me.id;
}

static void ranges_of(uint64_t held, struct uints *l)
{
    for (uint32_t i = 0; i < 64; i++) {
        if (!(held >> i & 1)) continue;
        if (l->n > 0 && l->p[l->n - 1] == i)
            l->p[l->n - 1] = i + 1;
        else if (l->n < RANGES_MAX)
            l->p[l->n] = i, l->p[l->n + 1] = i + 1, l->n += 2;
    }
}

/* As many as are known, by id. */
static struct slice trips_of(uint8_t out[TRIPS * RTT_BYTES], const struct node *n)
{
    size_t len = 0;
    for (uint32_t i = 0; i < TRIPS; i++) {
        struct node_id id = id_of(i);
        uint8_t *at = out + len;
        if (!n->trip_us[i]) continue;
        while (at > out && memcmp(at - RTT_BYTES, id.b, RTT_BYTES - 4) > 0) {
            memcpy(at, at - RTT_BYTES, RTT_BYTES);
            at -= RTT_BYTES;
        }
        memcpy(at, id.b, RTT_BYTES - 4);
        for (int k = 0; k < 4; k++)
            at[RTT_BYTES - 4 + k] = (uint8_t)(n->trip_us[i] >> (24 - 8 * k));
        len += RTT_BYTES;
    }
    return slice_of(out, len);
}

static void announce(struct directory *d, uint32_t number, const struct node *n)
{
    uint8_t trips[TRIPS * RTT_BYTES];
    struct record_body b = { .version = 2,
                             .seq = 1,
                             .made = NOW,
                             .expires = NOW + RECORD_TTL_S,
                             .state = n->state,
                             .model = slice_of(n->other_model ? other_model : model, ID_BYTES),
                             .layer_us = n->layer_us,
                             .sessions = n->sessions,
                             .prefill = n->prefill,
                             .uplink = n->uplink,
                             .rtts = trips_of(trips, n),
                             .kv_tokens = n->kv,
                             .context = n->context };
    uint8_t seed[32] = { 2 }, record[RECORD_BYTES_MAX];
    struct identity me;
    bool news;
    size_t len;

    memcpy(seed + 1, &number, sizeof number);
    identity_from_seed(&me, seed);
    ranges_of(n->held, &b.layers);
    assert_int_equal(record_make(&me, swarm_key_public(), &b, record, sizeof record, &len), ERR_OK);
    assert_int_equal(directory_offer(d, slice_of(record, len), NOW, &news, NULL), ERR_OK);
}

static struct plan_query query_of(const struct directory *d, const struct measured *measured,
                                  uint32_t n_layers, uint32_t max_tokens)
{
    struct plan_query q = { .d = d,
                            .measured = measured,
                            .n_layers = n_layers,
                            .max_tokens = max_tokens,
                            .row_bytes = 1000 };
    memcpy(q.model, model, ID_BYTES);
    return q;
}

/* What is to be planned, and what with: close_world when done. */
struct world {
    struct directory *d;
    struct measured measured[NODES_MAX];
    struct plan_query q;
};

/* nodes[n], told in the order that `seed` gives. */
static struct world *open_world(const struct node *nodes, uint32_t n, uint32_t n_layers,
                                uint32_t max_tokens, uint64_t seed)
{
    static struct world w;
    uint32_t order[NODES_MAX];

    assert_int_equal(directory_open(&w.d, swarm_key_public()), ERR_OK);
    for (uint32_t i = 0; i < n; i++) order[i] = i;
    for (uint32_t i = n; seed && i-- > 1;) {
        uint32_t k = (uint32_t)(test_random(&seed) % (i + 1)), t = order[i];
        order[i] = order[k];
        order[k] = t;
    }
    for (uint32_t i = 0; i < n; i++) announce(w.d, order[i], &nodes[order[i]]);
    for (uint32_t i = 0; i < n; i++) {
        const struct node *x = &nodes[order[i]];
        struct node_id id = id_of(order[i]);
        assert_true(node_id_equal(&directory_nth(w.d, i)->id, &id));
        w.measured[i] = (struct measured){ .rtt_us = x->rtt_us,
                                           .layer_us = x->measured_us,
                                           .chunk_us = x->own_chunk_us,
                                           .row_ns = x->own_row_ns,
                                           .with_load = x->with_load,
                                           .banned = x->banned,
                                           .lost = x->lost };
    }
    w.q = query_of(w.d, w.measured, n_layers, max_tokens);
    return &w;
}

/* nodes[n] planned, with spares. */
static enum err plan_nodes(struct plan *out, const struct node *nodes, uint32_t n,
                           uint32_t n_layers, uint32_t max_tokens, uint64_t seed,
                           const struct node_id *avoid, struct why *why)
{
    struct world *w = open_world(nodes, n, n_layers, max_tokens, seed);
    w->q.avoid = avoid;
    w->q.n_avoid = avoid ? 1 : 0;
    enum err e = plan_make(out, &w->q, why);
    if (!e) { /* what it costs is what it is priced at */
        struct plan again = *out;
        again.token_us = again.home_us = again.stage[0].hop_us = again.stage[0].layer_us = 7;
        assert_int_equal(plan_price(&again, &w->q), ERR_OK);
        assert_memory_equal(&again, out, sizeof again);
        again.stage[0].id.b[5] ^= 1; /* nobody */
        assert_int_equal(plan_price(&again, &w->q), ERR_NOTFOUND);
    }
    if (!e) e = plan_add_spares(out, &w->q);
    directory_close(w->d);
    return e;
}

/* --- trying everything --- */

/* a and b point into the same array. */
static uint64_t hop_between(const struct node *nodes, const struct node *a, const struct node *b)
{
    uint32_t longer = a->rtt_us > b->rtt_us ? a->rtt_us : b->rtt_us, known = 0;
    if (a->rtt_us && b->rtt_us) {
        if (b - nodes < TRIPS) known = a->trip_us[b - nodes];
        if (a - nodes < TRIPS && b->trip_us[a - nodes] > known) known = b->trip_us[a - nodes];
    }
    return (known ? known : longer) / 2 + PLAN_HOP_US;
}

static uint64_t hop_home(const struct node *a)
{
    return a && a->rtt_us ? a->rtt_us / 2 + PLAN_HOP_US : 0;
}

/* A way to be found: layers [.., end) and then on to `next` (NULL: the coordinator). */
struct way {
    const struct node *nodes, *next;
    uint32_t n, end;
    bool once; /* nodes that have had their stage may not come again; false: the relaxed problem */
};

/* Cheapest way to do layers [layer, end) after node `last`; used: bits of nodes that may not serve.
 */
static uint64_t try_all(const struct way *w, uint32_t layer, const struct node *last, unsigned used)
{
    uint64_t best = UINT64_MAX;

    if (layer == w->end) return w->next ? hop_between(w->nodes, last, w->next) : hop_home(last);
    for (uint32_t i = 0; i < w->n; i++) {
        const struct node *x = &w->nodes[i];
        if (used >> i & 1 || x == last) continue;
        uint64_t cost = last ? hop_between(w->nodes, last, x) : hop_home(x);
        for (uint32_t hi = layer; hi < w->end && x->held >> hi & 1;) {
            hi++;
            cost += (uint64_t)x->layer_us * (1 + x->sessions);
            uint64_t rest = try_all(w, hi, x, w->once ? used | 1u << i : used);
            if (rest != UINT64_MAX && cost + rest < best) best = cost + rest;
        }
    }
    return best;
}

static const struct node *node_of(const struct node *nodes, uint32_t n, const struct node_id *id)
{
    for (uint32_t k = 0; k < n; k++) {
        struct node_id of = id_of(k);
        if (node_id_equal(&of, id)) return &nodes[k];
    }
    return NULL;
}

/* Each stage has a spare whenever nodes outside the pipeline can take its layers; it costs what is
 * said; where no other stage has taken a node, it is the best there is. */
static unsigned check_spares(const struct plan *p, const struct node *nodes, uint32_t n)
{
    unsigned pipeline = 0, taken = 0, found = 0;
    for (uint32_t i = 0; i < p->n; i++)
        pipeline |= 1u << (node_of(nodes, n, &p->stage[i].id) - nodes);
    for (uint32_t i = 0; i < p->n; i++) {
        const struct plan_stage *st = &p->stage[i];
        const struct node *before = i > 0 ? node_of(nodes, n, &st[-1].id) : NULL, *last = before;
        const struct node *next = i + 1 < p->n ? node_of(nodes, n, &st[1].id) : NULL;
        struct way w = { nodes, next, n, st->hi, true };
        uint64_t best = try_all(&w, st->lo, before, pipeline | taken);
        if (best == UINT64_MAX) best = try_all(&w, st->lo, before, pipeline);
        assert_int_equal(st->n_spares > 0, best != UINT64_MAX);
        if (!st->n_spares) continue;
        uint64_t cost = 0, old = st->hop_us + (uint64_t)(st->hi - st->lo) * st->layer_us;
        uint32_t at = st->lo;
        old += next ? st[1].hop_us : p->home_us;
        for (uint32_t k = 0; k < st->n_spares; k++) {
            const struct plan_spare *sp = &p->spare[st->spare + k];
            const struct node *x = node_of(nodes, n, &sp->id);
            assert_false(pipeline >> (x - nodes) & 1);
            assert_int_equal(sp->lo, at);
            for (; at < sp->hi; at++) assert_true(x->held >> at & 1);
            cost += last ? hop_between(nodes, last, x) : hop_home(x);
            cost += (uint64_t)(sp->hi - sp->lo) * x->layer_us * (1 + x->sessions);
            taken |= 1u << (x - nodes);
            last = x;
        }
        cost += next ? hop_between(nodes, last, next) : hop_home(last);
        assert_int_equal(at, st->hi);
        assert_int_equal(cost, best);
        assert_int_equal(st->spare_token_us, p->token_us - old + cost);
        found++;
    }
    return found;
}

static void check_plan(const struct plan *p, const struct node *nodes, uint32_t n,
                       uint32_t n_layers)
{
    uint64_t total = 0, slowest = 0;
    uint32_t at = 0;
    const struct node *last = NULL;

    for (uint32_t i = 0; i < p->n; i++) {
        const struct plan_stage *st = &p->stage[i];
        const struct node *x = node_of(nodes, n, &st->id);
        for (uint32_t k = 0; k < i; k++) assert_false(node_id_equal(&st->id, &p->stage[k].id));
        assert_non_null(x);
        assert_int_equal(st->lo, at);
        assert_true(st->hi > st->lo);
        for (; at < st->hi; at++) assert_true(x->held >> at & 1);
        assert_int_equal(st->hop_us, last ? hop_between(nodes, last, x) : hop_home(x));
        uint64_t compute = (uint64_t)(st->hi - st->lo) * st->layer_us;
        if (compute > slowest) slowest = compute;
        total += st->hop_us + compute;
        last = x;
    }
    assert_int_equal(at, n_layers);
    assert_int_equal(p->token_us, total + hop_home(last));
    const struct plan_stage *b = &p->stage[p->bottleneck];
    assert_int_equal((uint64_t)(b->hi - b->lo) * b->layer_us, slowest);
}

static struct node random_node(uint64_t *seed, uint32_t n_layers)
{
    uint64_t x = test_random(seed), y = test_random(seed);
    struct node n = { .state = RECORD_ACTIVE,
                      .layer_us = 1 + (uint32_t)(x % 1000),
                      .sessions = x >> 20 & 3 ? 0 : 2,
                      .rtt_us = (uint32_t)((x >> 32) % (x >> 24 & 1 ? 200 : 20000)) };
    if (x >> 22 & 1) /* ranges with gaps, which make nodes come twice */
        n.held = y & (((uint64_t)1 << n_layers) - 1);
    else
        for (uint64_t l = y % n_layers; l < n_layers && l <= y % n_layers + (y >> 32) % n_layers;
             l++)
            n.held |= (uint64_t)1 << l;
    n.held |= (uint64_t)1 << (x >> 48) % n_layers;
    return n;
}

static void test_against_trying_everything(void **state)
{
    uint64_t seed = 21;
    unsigned found = 0, harder = 0, none = 0, spared = 0;

    (void)state;
    for (unsigned round = 0; round < 1500; round++) {
        uint32_t n = 1 + (uint32_t)(test_random(&seed) % 6);
        uint32_t n_layers = 1 + (uint32_t)(test_random(&seed) % 7);
        struct node nodes[6];
        struct plan p;
        struct way once = { nodes, NULL, n, n_layers, true };
        struct way relaxed_way = { nodes, NULL, n, n_layers, false };
        for (uint32_t i = 0; i < n; i++) {
            nodes[i] = random_node(&seed, n_layers);
            if (round % 3) { /* cheap hops: coming back to a fast node pays */
                nodes[i].rtt_us %= 50;
                nodes[i].layer_us *= 20;
            }
            for (uint32_t k = 0; round % 2 && k < n; k++) /* what either announces, or nobody */
                if (k != i && test_random(&seed) % 3 == 0)
                    nodes[i].trip_us[k] = 1 + (uint32_t)(test_random(&seed) % 3000);
        }
        uint64_t best = try_all(&once, 0, NULL, 0), relaxed = try_all(&relaxed_way, 0, NULL, 0);
        enum err e = plan_nodes(&p, nodes, n, n_layers, 100, round, NULL, NULL);
        assert_int_equal(e, best == UINT64_MAX ? ERR_NOTFOUND : ERR_OK);
        found += !e;
        harder += !e && relaxed < best;
        none += e && relaxed != UINT64_MAX;
        if (e) continue;
        check_plan(&p, nodes, n, n_layers);
        assert_int_equal(p.token_us, best);
        spared += check_spares(&p, nodes, n);
    }
    /* The search, not only the shortest path, was put to the test. */
    assert_true(found > 300 && harder > 30 && none > 3 && spared > 300);
}

/* The order in which records came decides nothing, also where costs are equal. */
static void test_ties(void **state)
{
    uint64_t seed = 5;

    (void)state;
    for (unsigned round = 0; round < 40; round++) {
        struct node nodes[8];
        struct plan a, b;
        memset(&a, 0, sizeof a);
        memset(&b, 0, sizeof b);
        for (uint32_t i = 0; i < 8; i++) {
            nodes[i] = random_node(&seed, 6);
            nodes[i].layer_us = 100;
            nodes[i].rtt_us = 1000;
            nodes[i].sessions = 0;
        }
        enum err x = plan_nodes(&a, nodes, 8, 6, 1, 0, NULL, NULL);
        for (unsigned order = 1; order < 6; order++) {
            assert_int_equal(plan_nodes(&b, nodes, 8, 6, 1, order, NULL, NULL), x);
            assert_memory_equal(&a, &b, sizeof a);
        }
    }

    /* Equal in all but their ids: one stage, by the lower id. */
    struct node same[3];
    struct plan p;
    for (uint32_t i = 0; i < 3; i++)
        same[i] =
            (struct node){ .held = 15, .layer_us = 10, .rtt_us = 500, .state = RECORD_ACTIVE };
    assert_int_equal(plan_nodes(&p, same, 3, 4, 1, 3, NULL, NULL), ERR_OK);
    assert_int_equal(p.n, 1);
    for (uint32_t i = 0; i < 3; i++) {
        struct node_id id = id_of(i);
        assert_true(memcmp(p.stage[0].id.b, id.b, ID_BYTES) <= 0);
    }
    assert_int_equal(p.left_out, 2);
}

/* Two nodes for a model of 8 layers: a fast one and a slow one that both hold it all. */
static void test_who_is_usable(void **state)
{
    struct node fast = { .held = 255, .layer_us = 100, .rtt_us = 2000, .state = RECORD_ACTIVE };
    struct node slow = { .held = 255, .layer_us = 300, .rtt_us = 2000, .state = RECORD_ACTIVE };
    struct node_id fast_id = id_of(0), slow_id = id_of(1);
    struct plan p;
#define CHOSEN(change, whom, left)                                             \
    do {                                                                       \
        struct node n[2] = { fast, slow };                                     \
        change;                                                                \
        assert_int_equal(plan_nodes(&p, n, 2, 8, 100, 0, NULL, NULL), ERR_OK); \
        assert_true(p.n == 1 && node_id_equal(&p.stage[0].id, &(whom)));       \
        assert_int_equal(p.left_out, left);                                    \
    } while (0)

    (void)state;
    CHOSEN((void)0, fast_id, 1);
    assert_int_equal(p.token_us, 8 * 100 + 2 * (1000 + PLAN_HOP_US));
    CHOSEN(n[0].state = RECORD_JOINING, slow_id, 0);
    CHOSEN(n[0].state = RECORD_DRAINING, slow_id, 0);
    CHOSEN(n[0].state = RECORD_GONE, slow_id, 0);
    CHOSEN(n[0].other_model = true, slow_id, 0);
    CHOSEN(n[0].banned = true, slow_id, 1);
    CHOSEN(n[0].lost = true, slow_id, 1);
    CHOSEN(n[0].kv = 99, slow_id, 1);
    CHOSEN(n[0].kv = 100, fast_id, 1);
    CHOSEN(n[0].context = 99, slow_id, 1);
    CHOSEN(n[0].context = 100, fast_id, 1);
    CHOSEN(n[0].sessions = 1, fast_id, 1);
    CHOSEN(n[0].sessions = 3, slow_id, 1);
    CHOSEN(n[0].measured_us = 301, slow_id, 1); /* its own claim does not count any more */
    CHOSEN(n[1].measured_us = 99, slow_id, 1);
    CHOSEN((n[0].measured_us = 100, n[0].sessions = 3), slow_id, 1);
    CHOSEN((n[0].measured_us = 100, n[0].sessions = 3, n[0].with_load = true), fast_id, 1);
    CHOSEN(n[0].layer_us = 0, slow_id, 1); /* not said: taken as slow, not as free */
    CHOSEN(n[0].rtt_us = UINT32_MAX, slow_id, 1);
    CHOSEN(n[1].rtt_us = 0, slow_id, 1); /* the coordinator itself */
    assert_int_equal(p.token_us, 8 * 300);
    CHOSEN(n[0].rtt_us = 5200, slow_id, 1);

    struct node n[2] = { fast, slow };
    assert_int_equal(plan_nodes(&p, n, 2, 8, 100, 0, &fast_id, NULL), ERR_OK);
    assert_true(node_id_equal(&p.stage[0].id, &slow_id));
    assert_int_equal(p.left_out, 1);
}

static void test_prediction(void **state)
{
    struct node n[3] = {
        { .held = 0x00f, .layer_us = 100, .rtt_us = 1000, .state = RECORD_ACTIVE },
        { .held = 0x0ff, .layer_us = 100, .rtt_us = 5000, .state = RECORD_ACTIVE, .sessions = 1 },
        { .held = 0xf00, .layer_us = 300, .rtt_us = 3000, .state = RECORD_ACTIVE },
    };
    struct plan p;

    (void)state;
    assert_int_equal(plan_nodes(&p, n, 3, 12, 1, 0, NULL, NULL), ERR_OK);
    /* 0..3 by the first or all of 0..7 by the second: 4 * 200 saved by not hopping is less. */
    assert_int_equal(p.n, 2);
    assert_true(p.stage[0].lo == 0 && p.stage[0].hi == 8 && p.stage[0].layer_us == 200);
    assert_int_equal(p.stage[0].hop_us, 2500 + PLAN_HOP_US);
    assert_int_equal(p.stage[1].hop_us, 2500 + PLAN_HOP_US);
    assert_int_equal(p.token_us, 1600 + 1200 + 2500 + 2500 + 1500 + 3 * PLAN_HOP_US);
    assert_int_equal(p.bottleneck, 0);
    assert_int_equal(p.left_out, 1);
}

static void expect_refusal(const struct node *n, uint32_t count, uint32_t n_layers,
                           const char *sentence)
{
    struct plan p;
    struct why why = { "" };

    assert_int_equal(plan_nodes(&p, n, count, n_layers, 100, 0, NULL, &why), ERR_NOTFOUND);
    assert_string_equal(why.text, sentence);
    assert_int_equal(p.n, 0);
}

static void test_refusals(void **state)
{
    struct node n[3] = {
        { .held = 0x07, .layer_us = 100, .rtt_us = 1000, .state = RECORD_ACTIVE },
        { .held = 0x30, .layer_us = 100, .rtt_us = 1000, .state = RECORD_ACTIVE },
        { .held = 0x08, .layer_us = 100, .rtt_us = 1000, .state = RECORD_ACTIVE, .kv = 9 },
    };
    struct node twice[2] = {
        { .held = 0x5, .layer_us = 100, .rtt_us = 1000, .state = RECORD_ACTIVE },
        { .held = 0x2, .layer_us = 100, .rtt_us = 1000, .state = RECORD_ACTIVE },
    };
    struct plan p;

    (void)state;
    expect_refusal(n, 0, 6, "no node of the swarm holds layer 0 of the model");
    expect_refusal(n, 2, 6, "no node of the swarm holds layer 3 of the model");
    expect_refusal(n, 3, 6, "layer 3 is held only by nodes that have no room or failed lately");
    expect_refusal(n, 2, 64, "no node of the swarm holds layer 3 of the model");
    expect_refusal(twice, 2, 3,
                   "every layer is held, but no pipeline was found that uses each node once");
    assert_int_equal(plan_nodes(&p, n, 3, 0, 1, 0, NULL, NULL), ERR_RANGE);
    assert_int_equal(plan_nodes(&p, n, 3, LAYER_MAX + 1, 1, 0, NULL, NULL), ERR_RANGE);
    assert_int_equal(plan_nodes(&p, n, 1, 3, 1, 0, NULL, NULL), ERR_OK);
}

/* The largest costs that records can claim do not wrap round. */
static void test_absurd_claims(void **state)
{
    struct node n[2] = {
        { .held = 1,
          .layer_us = UINT32_MAX,
          .rtt_us = UINT32_MAX - 1,
          .sessions = 65535,
          .state = RECORD_ACTIVE },
        { .held = 3, .layer_us = UINT32_MAX - 2, .rtt_us = UINT32_MAX - 2, .state = RECORD_ACTIVE },
    };
    struct plan p;
    struct node_id second = id_of(1);

    (void)state;
    assert_int_equal(plan_nodes(&p, n, 2, 2, 1, 0, NULL, NULL), ERR_OK);
    assert_true(p.n == 1 && node_id_equal(&p.stage[0].id, &second));
    assert_int_equal(p.token_us, UINT32_MAX);
}

/* --- explanations --- */

/* The relaxed cost of node path[l] for every layer; UINT64_MAX: one does not hold its layer. */
static uint64_t path_cost(const struct node *nodes, const uint32_t *path, uint32_t n_layers)
{
    uint64_t cost = hop_home(&nodes[path[0]]) + hop_home(&nodes[path[n_layers - 1]]);
    for (uint32_t l = 0; l < n_layers; l++) {
        const struct node *x = &nodes[path[l]];
        if (!(x->held >> l & 1)) return UINT64_MAX;
        cost += (uint64_t)x->layer_us * (1 + x->sessions);
        if (l > 0 && path[l] != path[l - 1]) cost += hop_between(nodes, &nodes[path[l - 1]], x);
    }
    return cost;
}

/* The cheapest relaxed way that passes node k, by trying all. */
static uint64_t cheapest_through(const struct node *nodes, uint32_t n, uint32_t n_layers,
                                 uint32_t k)
{
    uint64_t best = UINT64_MAX, ways = 1;
    for (uint32_t l = 0; l < n_layers; l++) ways *= n;
    for (uint64_t w = 0; w < ways; w++) {
        uint32_t path[8];
        bool passes = false;
        uint64_t rest = w;
        for (uint32_t l = 0; l < n_layers; l++, rest /= n) {
            path[l] = (uint32_t)(rest % n);
            passes |= path[l] == k;
        }
        uint64_t cost = passes ? path_cost(nodes, path, n_layers) : UINT64_MAX;
        if (cost < best) best = cost;
    }
    return best;
}

/* One more node as the explanation describes it: what it says it brings, it brings. */
static void check_more(const struct plan_explanation *x, const struct node *nodes, uint32_t n,
                       uint32_t n_layers)
{
    struct node with[8];
    struct way once = { with, NULL, n + 1, n_layers, true };
    memcpy(with, nodes, n * sizeof *nodes);
    with[n] =
        (struct node){ .layer_us = x->more.layer_us,
                       .rtt_us = x->more.rtt_us,
                       .held = (((uint64_t)1 << x->more.hi) - 1) >> x->more.lo << x->more.lo };
    assert_true(x->more.lo < x->more.hi && x->more.hi - x->more.lo <= x->more.n_layers);
    assert_int_equal(try_all(&once, 0, NULL, 0), x->more.token_us);
}

static void test_explanations(void **state)
{
    uint64_t seed = 77;
    unsigned slower = 0, spares = 0, more = 0, completed = 0;

    (void)state;
    for (unsigned round = 0; round < 400; round++) {
        uint32_t n = 1 + (uint32_t)(test_random(&seed) % 5);
        uint32_t n_layers = 1 + (uint32_t)(test_random(&seed) % 5);
        struct node nodes[5];
        struct plan p;
        static struct plan_explanation x;
        for (uint32_t i = 0; i < n; i++) nodes[i] = random_node(&seed, n_layers);
        enum err e = plan_nodes(&p, nodes, n, n_layers, 1, 0, NULL, NULL);
        struct world *w = open_world(nodes, n, n_layers, 1, 0);
        assert_int_equal(plan_explain(&x, &w->q, NULL), e);
        directory_close(w->d);
        assert_int_equal(x.plan.n + x.n_left, n);
        if (!e) assert_memory_equal(&x.plan, &p, sizeof p);
        for (uint32_t i = 0; i < x.n_left; i++) {
            const struct plan_left *l = &x.left[i];
            uint64_t cost =
                cheapest_through(nodes, n, n_layers, (uint32_t)(node_of(nodes, n, &l->id) - nodes));
            spares += l->why == LEFT_SPARE;
            if (l->why == LEFT_SPARE) continue;
            assert_int_equal(l->why, LEFT_SLOWER);
            assert_int_equal(l->token_us, cost < UINT32_MAX ? cost : UINT32_MAX);
            slower += cost < UINT32_MAX;
        }
        for (uint32_t l = 0; l < n_layers; l++) {
            uint32_t held = 0, single = 0, gap = 0;
            for (uint32_t i = 0; i < n; i++) held += (uint32_t)(nodes[i].held >> l & 1);
            for (uint32_t i = 0; i < x.n_single; i++)
                single += l >= x.single[i].lo && l < x.single[i].hi;
            for (uint32_t i = 0; i < x.n_gap; i++) gap += l >= x.gap[i].lo && l < x.gap[i].hi;
            assert_true(single == (held == 1) && gap == (held == 0));
        }
        if (!x.more.token_us || (!e && x.more.token_us == p.token_us)) continue;
        assert_true(e || x.more.token_us < p.token_us);
        check_more(&x, nodes, n, n_layers);
        more++;
        completed += e != ERR_OK;
    }
    assert_true(slower > 30 && spares > 30 && more > 30 && completed > 10);
}

/* Why each is left out. */
static void test_left_out(void **state)
{
    struct node good = { .held = 255, .layer_us = 100, .rtt_us = 2000, .state = RECORD_ACTIVE };
    struct node n[9];
    static const enum plan_left_why why[9] = { LEFT_SPARE,   LEFT_SPARE,    LEFT_NO_ROOM,
                                               LEFT_REFUSED, LEFT_LOST,     LEFT_BANNED,
                                               LEFT_JOINING, LEFT_DRAINING, LEFT_EMPTY };
    struct node_id refused = id_of(3);
    static struct plan_explanation x;

    (void)state;
    for (uint32_t i = 0; i < 9; i++) n[i] = good;
    n[1].layer_us = 200;
    n[2].kv = 99;
    n[4].lost = true;
    n[5].banned = true;
    n[6].state = RECORD_JOINING;
    n[7].state = RECORD_DRAINING;
    n[8].other_model = true;
    struct world *w = open_world(n, 9, 8, 100, 0);
    w->q.avoid = &refused;
    w->q.n_avoid = 1;
    assert_int_equal(plan_explain(&x, &w->q, NULL), ERR_OK);
    directory_close(w->d);
    assert_int_equal(x.n_left, 8);
    for (uint32_t i = 0; i < x.n_left; i++)
        assert_int_equal(x.left[i].why, why[node_of(n, 9, &x.left[i].id) - n]);
    assert_int_equal(x.left[0].token_us, 8 * 200 + 2 * (1000 + PLAN_HOP_US));
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* 200 nodes, 46 layers, as a swarm would hold them and as mad as records can be; then all of a
 * large model everywhere, and more nodes than are looked at. */
static void test_a_large_swarm(void **state)
{
    static struct node nodes[NODES_MAX];
    static struct measured measured[NODES_MAX];
    static const struct {
        const char *what;
        uint32_t n;
        double goal_ms;
    } kind[] = { { "ranges", 200, 5 },
                 { "all layers", 200, 0 },
                 { "ranges", NODES_MAX, 0 },
                 { "scattered layers", 200, 0 } };
    struct directory *d;

    (void)state;
    for (unsigned k = 0; k < 4; k++) {
        uint64_t seed = 31;
        double best = 1e9, worst = 0, spares = 0;
        unsigned found = 0;
        for (unsigned round = 0; round < 8; round++) {
            assert_int_equal(directory_open(&d, swarm_key_public()), ERR_OK);
            for (uint32_t i = 0; i < kind[k].n; i++) {
                uint64_t x = test_random(&seed), lo = x % 46, n = 2 + (x >> 8) % 9;
                nodes[i] = random_node(&seed, 46);
                if (k != 3)
                    nodes[i].held = ((((uint64_t)1 << n) - 1) << lo) & (((uint64_t)1 << 46) - 1);
                if (k == 1) nodes[i].held = ((uint64_t)1 << 46) - 1;
                if (k == 3) nodes[i].held &= test_random(&seed), nodes[i].rtt_us = 1;
                nodes[i].held |= (uint64_t)1 << lo;
                for (uint32_t t = 0; t < TRIPS; t++)
                    nodes[i].trip_us[t] = 1 + (uint32_t)(x >> 40) % 9999;
                announce(d, i, &nodes[i]);
                measured[i] = (struct measured){ .rtt_us = nodes[i].rtt_us };
            }
            struct plan_query q = query_of(d, measured, 46, 100);
            struct plan p;
            double start = now_ms();
            enum err e = plan_make(&p, &q, NULL);
            double took = now_ms() - start;
            if (took > worst) worst = took;
            if (took < best) best = took;
            if (!e) found++;
            start = now_ms();
            if (!e) assert_int_equal(plan_add_spares(&p, &q), ERR_OK);
            if (now_ms() - start > spares) spares = now_ms() - start;
            directory_close(d);
        }
        print_message("%u nodes, 46 layers, %s: %.2f to %.2f ms, spares at most %.2f ms, %u of 8 "
                      "planned\n",
                      kind[k].n, kind[k].what, best, worst, spares, found);
        assert_true(worst < 2000); /* that it ends */
        if (kind[k].goal_ms > 0) assert_true(best < 5 * kind[k].goal_ms);
        if (k != 3) assert_int_equal(found, 8);
    }
}

/* Opening, then chunks through the stages: by hand. */
static void test_first_token(void **state)
{
    struct node n[2] = {
        { .held = 0x0f, .layer_us = 100, .rtt_us = 4000, .prefill = 64000, .state = RECORD_ACTIVE },
        { .held = 0xf0,
          .layer_us = 200,
          .rtt_us = 8000,
          .own_chunk_us = 400,
          .own_row_ns = 25000,
          .state = RECORD_ACTIVE },
    };
    struct plan p;

    (void)state;
    n[0].trip_us[1] = 6000;
    assert_int_equal(plan_nodes(&p, n, 2, 8, 1, 0, NULL, NULL), ERR_OK);
    assert_true(p.n == 2 && p.stage[0].hop_known && p.stage[1].hop_known);
    assert_int_equal(p.stage[0].row_ns, 15625);
    uint64_t hops = 2000 + 3000 + 4000 + 3 * PLAN_HOP_US, opened = 8000;
    assert_int_equal(p.token_us, 400 + 800 + hops);
    assert_int_equal(plan_first_us(&p, 1, 64, 4), opened + 400 + 800 + hops);
    assert_int_equal(plan_first_us(&p, 64, 64, 4), opened + 4000 + 8000 + hops);
    /* Three more chunks, paced by the slower stage; or by the way there and back. */
    assert_int_equal(plan_first_us(&p, 256, 64, 4), opened + 12000 + hops + 3 * UINT64_C(8000));
    assert_int_equal(plan_first_us(&p, 256, 64, 1), opened + 4 * (12000 + hops));

    /* The first node sends a row in 1 ms; more rows than one delay each chunk, and pace it. */
    n[0].uplink = 8000;
    assert_int_equal(plan_nodes(&p, n, 2, 8, 1, 0, NULL, NULL), ERR_OK);
    assert_int_equal(p.token_us, 400 + 800 + hops + 1000);
    assert_int_equal(plan_first_us(&p, 64, 64, 4), opened + 12000 + hops + 64000);
    assert_int_equal(plan_first_us(&p, 256, 64, 4), opened + 12000 + hops + 256000);
    n[0].uplink = 0;

    /* Not connected: three and a half round trips more, of what is taken for one. */
    n[1].rtt_us = UINT32_MAX;
    n[0].trip_us[1] = 0;
    assert_int_equal(plan_nodes(&p, n, 2, 8, 1, 0, NULL, NULL), ERR_OK);
    assert_false(p.stage[1].hop_known || p.stage[1].is_connected);
    assert_int_equal(plan_first_us(&p, 1, 64, 4), p.token_us + PLAN_RTT_UNKNOWN_US / 2 * 7);
}

static int start(void **state)
{
    (void)state;
    return proto_init();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_trying_everything),
        cmocka_unit_test(test_ties),
        cmocka_unit_test(test_who_is_usable),
        cmocka_unit_test(test_prediction),
        cmocka_unit_test(test_first_token),
        cmocka_unit_test(test_explanations),
        cmocka_unit_test(test_left_out),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_absurd_claims),
        cmocka_unit_test(test_a_large_swarm),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
