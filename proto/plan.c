/* The search behind plan.h.
 *
 * Relaxed problem: pass over the layers; for each node keep the cheapest way to have layers
 * [0, l] done with this node computing layer l.  It either computed l - 1 too, or takes over from
 * another.  Since a hop costs half the longer round trip of its ends, and nodes are sorted by round
 * trip, the best predecessor is a minimum over those before (plus our own half) or over those
 * after (plus theirs): two sweeps per layer instead of all pairs.
 *
 * One stage a node: see branch(). */
#include "proto/plan.h"

#include <stdlib.h>

enum {
    MASK_WORDS = LAYER_MAX / 64,
    SUBS_MAX = 1024,
    NOBODY = UINT16_MAX,
    STAGE_BITS = 9, /* a key is cost << 9 | stages: of equal costs, the one with fewer stages */
};
#define NEVER UINT64_MAX

struct candidate {
    const struct entry *e; /* borrowed from the directory */
    uint32_t rank;         /* by id */
    uint32_t rtt_us, layer_us;
    uint64_t held[MASK_WORDS]; /* bit per layer */
};

/* A part of the search: its parent's pipelines, less those that break one more rule. */
enum rule { NO_RULE, ONLY_BELOW, ONLY_ABOVE, MUST_SERVE };
struct sub {
    uint16_t parent;
    enum rule rule; /* node serves only below layer, only above it, or it too */
    uint16_t node, layer;
    uint16_t depth;
    bool done;
    uint64_t key;                     /* of its relaxed best: no pipeline in it is cheaper */
    uint16_t split_node, split_layer; /* the node that came twice, and a layer between */
};

struct search {
    uint32_t n, n_layers;
    struct candidate *c;             /* [n] owned, by round trip, then id */
    uint64_t (*allowed)[MASK_WORDS]; /* [n] owned: held, less the rules */
    uint64_t *key, *next;            /* [n] owned: rows of the relaxed problem */
    uint64_t *after;                 /* [n] owned: cheapest take-over from a node after this one */
    uint16_t *after_node;            /* [n] owned */
    uint16_t *from;                  /* [n_layers][n] owned: who computed the layer before */
    uint16_t path[LAYER_MAX];        /* node of each layer, of the relaxed best */
    uint16_t best[LAYER_MAX];        /* of the best pipeline yet */
    uint64_t best_key;
    struct sub *sub; /* [SUBS_MAX] owned */
    uint32_t n_subs;
};

/* --- costs --- */

static uint32_t half_trip_us(const struct candidate *c)
{
    return c->rtt_us / 2 + PLAN_HOP_US;
}

/* Between the coordinator and c; nothing when c is the coordinator. */
static uint32_t home_us(const struct candidate *c)
{
    return c->rtt_us == 0 ? 0 : half_trip_us(c);
}

static uint32_t hop_us(const struct candidate *a, const struct candidate *b)
{
    return half_trip_us(a->rtt_us > b->rtt_us ? a : b);
}

static uint64_t as_key(uint64_t us)
{
    return us << STAGE_BITS;
}

/* --- candidates --- */

static bool bit(const uint64_t *mask, uint32_t layer)
{
    return mask[layer / 64] >> layer % 64 & 1;
}

static void clear_bits(uint64_t *mask, uint32_t lo, uint32_t hi)
{
    for (uint32_t l = lo; l < hi; l++) mask[l / 64] &= ~((uint64_t)1 << l % 64);
}

static bool holds_some(const struct record_body *b, const uint8_t model[ID_BYTES])
{
    return b->state == RECORD_ACTIVE && b->layers.n > 0 && b->model.n == ID_BYTES &&
           memcmp(b->model.p, model, ID_BYTES) == 0;
}

static bool holds(const struct record_body *b, uint32_t layer)
{
    for (uint32_t i = 0; i + 1 < b->layers.n; i += 2)
        if (layer >= b->layers.p[i] && layer < b->layers.p[i + 1]) return true;
    return false;
}

/* A limit of 0 is one that the record does not tell. */
static bool has_room(const struct record_body *b, uint32_t max_tokens)
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

static struct candidate candidate_of(const struct entry *e, const struct measured *m,
                                     uint32_t n_layers)
{
    struct candidate c = { .e = e };
    uint64_t us = m->layer_us ? m->layer_us : e->body.layer_us;

    if (us == 0) us = PLAN_LAYER_UNKNOWN_US;
    us *= 1 + e->body.sessions;
    c.layer_us = us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
    c.rtt_us = m->rtt_us == UINT32_MAX ? PLAN_RTT_UNKNOWN_US : m->rtt_us;
    for (uint32_t l = 0; l < n_layers; l++)
        if (holds(&e->body, l)) c.held[l / 64] |= (uint64_t)1 << l % 64;
    return c;
}

static int by_id(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    return memcmp(x->e->id.b, y->e->id.b, ID_BYTES);
}

static int by_trip(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->rtt_us != y->rtt_us) return x->rtt_us < y->rtt_us ? -1 : 1;
    return x->rank < y->rank ? -1 : 1;
}

static void sort_candidates(struct search *s)
{
    if (s->n == 0) return;
    qsort(s->c, s->n, sizeof *s->c, by_id);
    for (uint32_t i = 0; i < s->n; i++) s->c[i].rank = i;
    qsort(s->c, s->n, sizeof *s->c, by_trip);
}

/* --- the relaxed problem --- */

static bool is_better(const struct search *s, uint64_t key, uint16_t node, uint64_t than,
                      uint16_t than_node)
{
    if (key != than) return key < than;
    return key != NEVER && s->c[node].rank < s->c[than_node].rank;
}

/* For every node, the cheapest take-over from one with a longer round trip. */
static void sweep_back(struct search *s)
{
    uint64_t best = NEVER;
    uint16_t node = NOBODY;

    for (uint32_t j = s->n; j-- > 0;) {
        s->after[j] = best;
        s->after_node[j] = node;
        if (s->key[j] == NEVER) continue;
        uint64_t key = s->key[j] + as_key(half_trip_us(&s->c[j])) + 1;
        if (is_better(s, key, (uint16_t)j, best, node)) best = key, node = (uint16_t)j;
    }
}

/* One layer: key -> next, and who came from whom. */
static void sweep(struct search *s, uint32_t layer)
{
    uint64_t before = NEVER;
    uint16_t before_node = NOBODY;
    uint16_t *from = s->from + (size_t)layer * s->n;

    sweep_back(s);
    for (uint32_t j = 0; j < s->n; j++) {
        if (is_better(s, s->key[j], (uint16_t)j, before, before_node))
            before = s->key[j], before_node = (uint16_t)j;
        s->next[j] = NEVER;
        if (!bit(s->allowed[j], layer)) continue;

        uint64_t key = s->key[j]; /* staying: never worse than a hop to oneself */
        uint16_t node = (uint16_t)j;
        uint64_t hop = before == NEVER ? NEVER : before + as_key(half_trip_us(&s->c[j])) + 1;
        if (hop < key) key = hop, node = before_node;
        if (node == j ? s->after[j] < key : is_better(s, s->after[j], s->after_node[j], key, node))
            key = s->after[j], node = s->after_node[j];
        if (key == NEVER) continue;
        s->next[j] = key + as_key(s->c[j].layer_us);
        from[j] = node;
    }
    uint64_t *row = s->key;
    s->key = s->next;
    s->next = row;
}

/* The cheapest way through the allowed layers, into path; NEVER when there is none. */
static uint64_t relax(struct search *s)
{
    uint64_t best = NEVER;
    uint16_t node = NOBODY;

    for (uint32_t j = 0; j < s->n; j++)
        s->key[j] = !bit(s->allowed[j], 0)
                        ? NEVER
                        : as_key((uint64_t)home_us(&s->c[j]) + s->c[j].layer_us) + 1;
    for (uint32_t l = 1; l < s->n_layers; l++) sweep(s, l);
    for (uint32_t j = 0; j < s->n; j++) {
        uint64_t key = s->key[j] == NEVER ? NEVER : s->key[j] + as_key(home_us(&s->c[j]));
        if (is_better(s, key, (uint16_t)j, best, node)) best = key, node = (uint16_t)j;
    }
    for (uint32_t l = s->n_layers; best != NEVER && l-- > 0;) {
        s->path[l] = node;
        if (l > 0) node = s->from[(size_t)l * s->n + node];
    }
    return best;
}

/* --- one stage a node --- */

/* Held layers, less what the rules from sub up to the root forbid. */
static void apply_rules(struct search *s, const struct sub *sub)
{
    for (uint32_t j = 0; j < s->n; j++) memcpy(s->allowed[j], s->c[j].held, sizeof s->c[j].held);
    for (; sub->rule != NO_RULE; sub = &s->sub[sub->parent]) {
        uint64_t *mine = s->allowed[sub->node];
        if (sub->rule == ONLY_BELOW) clear_bits(mine, sub->layer, s->n_layers);
        if (sub->rule == ONLY_ABOVE) clear_bits(mine, 0, sub->layer + 1);
        if (sub->rule == MUST_SERVE)
            for (uint32_t j = 0; j < s->n; j++)
                if (j != sub->node) clear_bits(s->allowed[j], sub->layer, sub->layer + 1);
    }
}

/* The first node of path that serves twice, and the layer after its first stage. */
static bool find_split(const struct search *s, uint16_t *node, uint16_t *layer)
{
    for (uint32_t l = 1; l < s->n_layers; l++) {
        if (s->path[l] == s->path[l - 1]) continue;
        for (uint32_t k = l + 1; k < s->n_layers; k++)
            if (s->path[k] == s->path[l - 1]) {
                *node = s->path[l - 1];
                *layer = (uint16_t)l;
                return true;
            }
    }
    return false;
}

/* Solve the relaxed problem of a new sub; keep it if it may hold something better than the best. */
static void add_sub(struct search *s, struct sub sub)
{
    apply_rules(s, &sub);
    sub.key = relax(s);
    if (sub.key >= s->best_key) return;
    if (find_split(s, &sub.split_node, &sub.split_layer)) {
        s->sub[s->n_subs++] = sub;
    } else if ((sub.key & ((1 << STAGE_BITS) - 1)) <= PLAN_STAGES_MAX) {
        s->best_key = sub.key;
        memcpy(s->best, s->path, sizeof s->best);
    }
}

/* A node serves both before and after layer g, and another serves g.  In a pipeline the node's one
 * stage lies below g, or above it, or contains it: three parts that leave nothing out. */
static void branch(struct search *s, uint32_t at)
{
    struct sub *parent = &s->sub[at];
    struct sub child = { .parent = (uint16_t)at,
                         .node = parent->split_node,
                         .layer = parent->split_layer,
                         .depth = (uint16_t)(parent->depth + 1) };

    parent->done = true;
    for (child.rule = ONLY_BELOW; child.rule <= MUST_SERVE; child.rule++)
        if (child.rule != MUST_SERVE || bit(s->c[child.node].held, child.layer)) add_sub(s, child);
}

/* The part to look into: the one with the best bound, or, once half of the work is done without
 * any pipeline found, the deepest. */
static int pick(const struct search *s, bool deepest)
{
    int best = -1;

    for (uint32_t i = 0; i < s->n_subs; i++) {
        const struct sub *a = &s->sub[i];
        if (a->done || a->key >= s->best_key) continue;
        const struct sub *b = best < 0 ? NULL : &s->sub[best];
        if (!b || (deepest && a->depth != b->depth ? a->depth > b->depth : a->key < b->key))
            best = (int)i;
    }
    return best;
}

static void find_best(struct search *s)
{
    uint64_t cells = (uint64_t)s->n * s->n_layers, work = cells;
    int at;

    s->best_key = NEVER;
    add_sub(s, (struct sub){ .rule = NO_RULE });
    while (work < PLAN_WORK && s->n_subs + 3 <= SUBS_MAX &&
           (at = pick(s, s->best_key == NEVER && work > PLAN_WORK / 2)) >= 0) {
        branch(s, (uint32_t)at);
        work += 3 * cells;
    }
}

/* --- the plan --- */

static uint32_t saturated(uint64_t v)
{
    return v < UINT32_MAX ? (uint32_t)v : UINT32_MAX;
}

static void write_plan(struct plan *out, const struct search *s)
{
    const struct candidate *last = NULL;
    uint64_t total = 0, slowest = 0;

    for (uint32_t lo = 0, hi; lo < s->n_layers; lo = hi) {
        const struct candidate *c = &s->c[s->best[lo]];
        for (hi = lo; hi < s->n_layers && s->best[hi] == s->best[lo];) hi++;
        uint32_t hop = last ? hop_us(last, c) : home_us(c);
        uint64_t compute = (uint64_t)(hi - lo) * c->layer_us;
        if (compute > slowest) {
            slowest = compute;
            out->bottleneck = out->n;
        }
        out->stage[out->n++] = (struct plan_stage){ c->e->id, lo, hi, c->layer_us, hop };
        total += hop + compute;
        last = c;
    }
    out->token_us = saturated(total + home_us(last));
}

static enum err explain_gap(const struct search *s, const struct directory *d,
                            const uint8_t model[ID_BYTES], struct why *why)
{
    for (uint32_t l = 0; l < s->n_layers; l++) {
        bool usable = false, held = false;
        for (uint32_t j = 0; j < s->n; j++) usable |= bit(s->c[j].held, l);
        if (usable) continue;
        for (uint32_t i = 0; i < directory_n(d); i++) {
            const struct record_body *b = &directory_nth(d, i)->body;
            held |= holds_some(b, model) && holds(b, l);
        }
        if (held)
            return fail(why, ERR_NOTFOUND,
                        "layer %u is held only by nodes that have no room or failed lately", l);
        return fail(why, ERR_NOTFOUND, "no node of the swarm holds layer %u of the model", l);
    }
    return fail(why, ERR_NOTFOUND,
                "every layer is held, but no pipeline was found that uses each node once");
}

static bool allocate(struct search *s, uint32_t n)
{
    size_t some = n ? n : 1;

    s->c = calloc(some, sizeof *s->c);
    s->allowed = calloc(some, sizeof *s->allowed);
    s->key = calloc(some, sizeof *s->key);
    s->next = calloc(some, sizeof *s->next);
    s->after = calloc(some, sizeof *s->after);
    s->after_node = calloc(some, sizeof *s->after_node);
    s->from = calloc(some * s->n_layers, sizeof *s->from);
    s->sub = calloc(SUBS_MAX, sizeof *s->sub);
    return s->c && s->allowed && s->key && s->next && s->after && s->after_node && s->from &&
           s->sub;
}

static void release(struct search *s)
{
    free(s->c);
    free(s->allowed);
    free(s->key);
    free(s->next);
    free(s->after);
    free(s->after_node);
    free(s->from);
    free(s->sub);
}

enum err plan_make(struct plan *out, const struct directory *d, const struct measured *measured,
                   const uint8_t model[ID_BYTES], uint32_t n_layers, uint32_t max_tokens,
                   const struct node_id *avoid, uint32_t n_avoid, struct why *why)
{
    struct search s = { .n_layers = n_layers };
    uint32_t holders = 0;
    enum err e = ERR_OK;

    memset(out, 0, sizeof *out);
    if (n_layers == 0 || n_layers > LAYER_MAX)
        return fail(why, ERR_RANGE, "a model of %u layers cannot be planned", n_layers);
    if (!allocate(&s, directory_n(d))) {
        e = ERR_NOMEM;
        goto out;
    }
    for (uint32_t i = 0; i < directory_n(d); i++) {
        const struct entry *entry = directory_nth(d, i);
        if (!holds_some(&entry->body, model)) continue;
        holders++;
        if (measured[i].banned || !has_room(&entry->body, max_tokens)) continue;
        if (is_among(&entry->id, avoid, n_avoid)) continue;
        s.c[s.n++] = candidate_of(entry, &measured[i], n_layers);
    }
    sort_candidates(&s);
    find_best(&s);
    if (s.best_key == NEVER) {
        e = explain_gap(&s, d, model, why);
        goto out;
    }
    write_plan(out, &s);
    out->left_out = holders - out->n;
out:
    release(&s);
    return e;
}
