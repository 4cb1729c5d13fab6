/* The search behind plan.h.
 *
 * Relaxed problem: pass over the layers; for each node keep the cheapest way to have the layers up
 * to l done with this node computing l.  It either computed l - 1 too (a hop of 0 to itself), or
 * takes over from another.  The order of candidates is that of their ids, so of equal ways the one
 * found first is the right one.
 *
 * One stage a node: see branch(). */
#include "proto/plan_impl.h"

#include <string.h>

enum { SUBS_MAX = 1024, NOBODY = UINT16_MAX };

/* A part of the search: its parent's pipelines, less those that break one more rule. */
enum rule { NO_RULE, ONLY_BELOW, ONLY_ABOVE, MUST_SERVE };
struct sub {
    uint16_t parent;
    enum rule rule; /* node serves only below layer, only above it, or it too */
    uint16_t node, layer;
    uint16_t depth;
    bool done;
    double key;                       /* of its relaxed best: no pipeline in it is cheaper */
    uint16_t split_node, split_layer; /* the node that came twice, and a layer between */
};
const size_t plan_subs_bytes = SUBS_MAX * sizeof(struct sub);

/* --- the relaxed problem --- */

/* key[j] = the cheapest take-over by j from the nodes of the layer before, then j's layer. */
static void step(struct search *s, uint32_t layer)
{
    const double *before = s->key + (size_t)(layer - 1) * s->n;
    double *key = s->key + (size_t)layer * s->n;

    for (uint32_t j = 0; j < s->n; j++) key[j] = PLAN_NEVER;
    for (uint32_t i = 0; i < s->n; i++) {
        if (before[i] == PLAN_NEVER) continue;
        const double *hop = s->hop + (size_t)i * s->n;
        double from = before[i];
        for (uint32_t j = 0; j < s->n; j++) {
            double by = from + hop[j];
            key[j] = by < key[j] ? by : key[j];
        }
        s->work += s->n;
    }
    for (uint32_t j = 0; j < s->n; j++)
        key[j] = plan_bit(s->allowed[j], layer) ? key[j] + plan_key(s->c[j].layer_us) : PLAN_NEVER;
}

/* Who computed the layer before, when node computes layer: itself if that is as good. */
static uint16_t came_from(const struct search *s, uint32_t layer, uint16_t node)
{
    const double *before = s->key + (size_t)(layer - 1) * s->n;
    double own = plan_key(s->c[node].layer_us), key = s->key[(size_t)layer * s->n + node];

    if (before[node] + own == key) return node;
    for (uint32_t i = 0; i < s->n; i++)
        if (before[i] + s->hop[(size_t)i * s->n + node] + own == key) return (uint16_t)i;
    return node; /* it cannot be: one of them made the key */
}

double plan_relax(struct search *s)
{
    double best = PLAN_NEVER, *first = s->key + (size_t)s->lo * s->n;
    const double *last = s->key + (size_t)(s->hi - 1) * s->n;
    uint16_t node = NOBODY;

    for (uint32_t j = 0; j < s->n; j++)
        first[j] = plan_bit(s->allowed[j], s->lo) ? s->enter[j] + plan_key(s->c[j].layer_us) + 1
                                                  : PLAN_NEVER;
    for (uint32_t l = s->lo + 1; l < s->hi; l++) step(s, l);
    for (uint32_t j = 0; j < s->n; j++)
        if (last[j] + s->leave[j] < best) best = last[j] + s->leave[j], node = (uint16_t)j;
    if (best == PLAN_NEVER) return best;
    for (uint32_t l = s->hi; l-- > s->lo;) {
        s->path[l] = node;
        if (l > s->lo) node = came_from(s, l, node);
    }
    return best;
}

/* --- one stage a node --- */

static void clear_bits(uint64_t *mask, uint32_t lo, uint32_t hi)
{
    for (uint32_t l = lo; l < hi; l++) mask[l / 64] &= ~((uint64_t)1 << l % 64);
}

/* Held layers, less what the rules from sub up to the root forbid. */
static void apply_rules(struct search *s, const struct sub *sub)
{
    for (uint32_t j = 0; j < s->n; j++)
        if (s->out[j])
            memset(s->allowed[j], 0, sizeof s->allowed[j]);
        else
            memcpy(s->allowed[j], s->c[j].held, sizeof s->allowed[j]);
    for (; sub->rule != NO_RULE; sub = &s->sub[sub->parent]) {
        uint64_t *mine = s->allowed[sub->node];
        if (sub->rule == ONLY_BELOW) clear_bits(mine, sub->layer, s->hi);
        if (sub->rule == ONLY_ABOVE) clear_bits(mine, s->lo, sub->layer + 1u);
        if (sub->rule == MUST_SERVE)
            for (uint32_t j = 0; j < s->n; j++)
                if (j != sub->node) clear_bits(s->allowed[j], sub->layer, sub->layer + 1u);
    }
}

double plan_relax_all(struct search *s)
{
    s->lo = 0;
    s->hi = s->n_layers;
    memset(s->out, 0, s->n * sizeof *s->out);
    apply_rules(s, &(struct sub){ .rule = NO_RULE });
    return plan_relax(s);
}

/* The first node of path that serves twice, and the layer after its first stage. */
static bool find_split(const struct search *s, uint16_t *node, uint16_t *layer)
{
    for (uint32_t l = s->lo + 1; l < s->hi; l++) {
        if (s->path[l] == s->path[l - 1]) continue;
        for (uint32_t k = l + 1; k < s->hi; k++)
            if (s->path[k] == s->path[l - 1]) {
                *node = s->path[l - 1];
                *layer = (uint16_t)l;
                return true;
            }
    }
    return false;
}

static uint32_t count_stages(const struct search *s)
{
    uint32_t n = 1;
    for (uint32_t l = s->lo + 1; l < s->hi; l++) n += s->path[l] != s->path[l - 1];
    return n;
}

/* Solve the relaxed problem of a new sub; keep it if it may hold something better than the best. */
static void add_sub(struct search *s, struct sub sub)
{
    apply_rules(s, &sub);
    sub.key = plan_relax(s);
    if (sub.key >= s->best_key) return;
    if (find_split(s, &sub.split_node, &sub.split_layer)) {
        s->sub[s->n_subs++] = sub;
    } else if (count_stages(s) <= PLAN_STAGES_MAX) {
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
        if (child.rule != MUST_SERVE || plan_bit(s->c[child.node].held, child.layer))
            add_sub(s, child);
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

void plan_find_best(struct search *s, uint32_t lo, uint32_t hi, uint64_t work)
{
    int at;

    s->lo = lo;
    s->hi = hi;
    s->work = 0;
    s->n_subs = 0;
    s->best_key = PLAN_NEVER;
    add_sub(s, (struct sub){ .rule = NO_RULE });
    while (s->work < work && s->n_subs + 3 <= SUBS_MAX &&
           (at = pick(s, s->best_key == PLAN_NEVER && s->work > work / 2)) >= 0)
        branch(s, (uint32_t)at);
}
