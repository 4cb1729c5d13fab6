/* plan_explain.h - a plan in terms of what could be otherwise: who was left out and what he would
 * cost, where one node's end is the end, and what one more PC would bring.
 *
 * Costs of ways not taken are those of the relaxed problem (plan.h): a node may be passed twice
 * there, so the true cost can be higher, never lower.  What one more PC brings is then looked for
 * again exactly. */
#ifndef PROTO_PLAN_EXPLAIN_H
#define PROTO_PLAN_EXPLAIN_H

#include "proto/plan.h"

enum { PLAN_LEFT_MAX = 24, PLAN_SINGLES_MAX = 16 };

enum plan_left_why {
    LEFT_SPARE,    /* it would take over for a stage */
    LEFT_SLOWER,   /* usable: the best way through it takes token_us */
    LEFT_NO_ROOM,  /* too little room for K and V, or for so long a conversation */
    LEFT_REFUSED,  /* it refused, or failed this request */
    LEFT_LOST,     /* it did not answer lately */
    LEFT_BANNED,   /* it broke the protocol */
    LEFT_JOINING,  /* not ready yet */
    LEFT_DRAINING, /* about to leave */
    LEFT_PARTS,    /* it holds parts of layers, for who leads them */
    LEFT_EMPTY,    /* it holds no layer of the model */
};
struct plan_left {
    struct node_id id;
    enum plan_left_why why;
    uint32_t token_us; /* LEFT_SLOWER and LEFT_SPARE: of the best pipeline with it; else 0 */
};

struct plan_range {
    uint32_t lo, hi;
};

struct plan_explanation {
    struct plan plan; /* with spares; n 0: there is none, and `gap` says which layers are missing */
    struct plan_left left[PLAN_LEFT_MAX]; /* the most telling first: usable, by cost; then others */
    uint32_t n_left, n_left_more;         /* listed; not listed */
    struct plan_range single[PLAN_SINGLES_MAX]; /* layers that only one usable node holds */
    uint32_t n_single;
    struct plan_range gap[PLAN_SINGLES_MAX]; /* layers that no usable node holds */
    uint32_t n_gap;
    /* One more PC like the median: so fast, so far away, with room for so many layers. */
    struct {
        uint32_t layer_us, rtt_us, n_layers;
        uint32_t lo, hi;   /* what it should hold */
        uint32_t token_us; /* then; no less than plan.token_us: it would be a spare; 0: no use */
    } more;
};

/* ERR_NOTFOUND with why, like plan_make, when there is no plan; all but plan is filled in then too.
 */
MUST_CHECK enum err plan_explain(struct plan_explanation *out, const struct plan_query *q,
                                 struct why *why);

#endif
