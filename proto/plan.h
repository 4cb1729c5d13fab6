/* plan.h - announcements and measurements in, the fastest pipeline out; a pure function.
 *
 * A pipeline is stages in layer order that cover [0, n_layers); a node may serve part of what it
 * holds, and only one stage.  The cost of one token is the sum of each stage's layers times its
 * time per layer times its load, plus the hops (round trip / 2 each, and back).  Shortest path
 * over (node, layer boundary); see protocol-notes 7.6. */
#ifndef PROTO_PLAN_H
#define PROTO_PLAN_H

#include "proto/directory.h"

enum { PLAN_STAGES_MAX = 64 };

/* What the planner knows of a candidate beyond its record. */
struct measured {
    uint32_t rtt_us;   /* from the coordinator; UINT32_MAX unknown */
    uint32_t layer_us; /* own measurement; 0: believe the record */
    bool banned;
};

struct plan_stage {
    struct node_id id;
    uint32_t lo, hi;   /* [lo, hi) */
    uint32_t layer_us; /* used in the prediction */
    uint32_t hop_us;   /* to reach this stage */
};
struct plan {
    uint32_t n;
    struct plan_stage stage[PLAN_STAGES_MAX];
    uint32_t token_us;    /* predicted time of one token, hops included */
    uint32_t bottleneck;  /* index of the slowest stage */
    uint32_t left_out;    /* candidates of the model that were not used */
};

/* Plan for model over all active records of d that grant max_tokens positions.
 *   measured   [directory_n], same order as directory_nth
 *   avoid      ids never to use, may be NULL
 * ERR_NOTFOUND with why naming the first layer that nobody (usable) holds. */
MUST_CHECK enum err plan_make(struct plan *out, const struct directory *d,
                              const struct measured *measured, const uint8_t model[ID_BYTES],
                              uint32_t n_layers, uint32_t max_tokens, const struct node_id *avoid,
                              uint32_t n_avoid, struct why *why);

#endif
