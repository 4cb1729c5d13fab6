/* plan.h - announcements and measurements in, the fastest pipeline out; a pure function.
 *
 * A pipeline is stages in layer order that cover [0, n_layers); a node may serve part of what it
 * holds, and only one stage.  The cost of one token:
 *
 *     sum of each stage's layers * its time per layer * its load (1 + open sessions)
 *   + hops: coordinator to first stage, stage to stage, last stage to coordinator
 *
 * We know round trips from the coordinator only, so a hop between two nodes is taken as half the
 * longer of their round trips, plus PLAN_HOP_US; to and from the coordinator itself (whose own
 * round trip is 0) that is half the other's.  A hop from the coordinator to itself costs nothing.
 *
 * What is guaranteed.  Without the rule "only one stage" this is a shortest path over (node, layer)
 * and solved exactly.  If that path serves a node twice, a branch-and-bound search splits at a
 * layer between the two (the node serves only below it, only above it, or it too) until the best
 * bound is a pipeline: still exact.  The search is bounded (PLAN_WORK); past that the best pipeline
 * seen is taken, and if none was seen, none is found.  Ties go to fewer stages, then lower ids; the
 * order of the directory changes nothing. */
#ifndef PROTO_PLAN_H
#define PROTO_PLAN_H

#include "proto/directory.h"

enum {
    PLAN_STAGES_MAX = 64,
    PLAN_HOP_US = 300,           /* sealing, framing and waking at both ends */
    PLAN_RTT_UNKNOWN_US = 80000, /* until measured: a home line far away */
    PLAN_LAYER_UNKNOWN_US = 10000,
    PLAN_WORK = 4 << 20, /* steps of the search: some 5 ms */
};

/* What the planner knows of a candidate beyond its record. */
struct measured {
    uint32_t rtt_us;   /* from the coordinator, 0 for itself; UINT32_MAX unknown */
    uint32_t layer_us; /* own measurement; 0: believe the record */
    bool banned;
};

struct plan_stage {
    struct node_id id;
    uint32_t lo, hi;   /* [lo, hi) */
    uint32_t layer_us; /* used in the prediction, load included */
    uint32_t hop_us;   /* to reach this stage */
};
struct plan {
    uint32_t n;
    struct plan_stage stage[PLAN_STAGES_MAX];
    uint32_t token_us;   /* predicted time of one token, hops included */
    uint32_t bottleneck; /* index of the slowest stage */
    uint32_t left_out;   /* active nodes that hold layers of the model and were not used */
};

/* Plan for model over all active records of d that grant max_tokens positions.
 *   measured   [directory_n], same order as directory_nth
 *   avoid      ids never to use, may be NULL
 * ERR_RANGE: n_layers is 0 or over LAYER_MAX.  ERR_NOTFOUND with why naming the first layer that
 * nobody (usable) holds, or saying that no pipeline gives each node one stage. */
MUST_CHECK enum err plan_make(struct plan *out, const struct directory *d,
                              const struct measured *measured, const uint8_t model[ID_BYTES],
                              uint32_t n_layers, uint32_t max_tokens, const struct node_id *avoid,
                              uint32_t n_avoid, struct why *why);

#endif
