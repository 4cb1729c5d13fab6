/* plan.h - announcements and measurements in, the fastest pipeline out; a pure function.
 *
 * A pipeline is stages in layer order that cover [0, n_layers); a node may serve part of what it
 * holds, and only one stage.  The predicted time of one token:
 *
 *     sum of each stage's layers * its time per layer, load included
 *   + hops: coordinator to first stage, stage to stage, last stage to coordinator
 *   + the head and the sampler at the coordinator
 *
 * A hop is half a round trip, plus what sealing, waking and copying cost (hop_us), plus the time a
 * row's bytes take through the sender's uplink where that is known.  Between two nodes the round
 * trip is the one that either of them announces; where neither does (they are not connected yet) it
 * is taken as the longer of their round trips from the coordinator.  A hop from the coordinator to
 * itself costs nothing.
 *
 * The time of a layer is what the coordinator measured itself (waiting included, when it is fresh);
 * else the node's claim times 1 + its open sessions.
 *
 * What is guaranteed.  Without the rule "only one stage" this is a shortest path over (node, layer)
 * and solved exactly.  If that path serves a node twice, a branch-and-bound search splits at a
 * layer between the two (the node serves only below it, only above it, or it too) until the best
 * bound is a pipeline: still exact.  The search is bounded (PLAN_WORK); past that the best pipeline
 * seen is taken, and if none was seen, none is found.  Of more than PLAN_NODES_MAX nodes that can
 * serve, those that are near and fast are looked at, for every layer some.  Ties go to fewer
 * stages, then lower ids; the order of the directory changes nothing. */
#ifndef PROTO_PLAN_H
#define PROTO_PLAN_H

#include "proto/directory.h"

enum {
    PLAN_STAGES_MAX = 64,
    PLAN_NODES_MAX = 256,
    PLAN_SPARES_MAX = 128,
    PLAN_HOP_US = 300,           /* until measured: sealing, framing and waking at both ends */
    PLAN_RTT_UNKNOWN_US = 80000, /* until measured: a home line far away */
    PLAN_LAYER_UNKNOWN_US = 10000,
    PLAN_BATCH_GAIN = 3,  /* until measured: a prompt's row costs a token's time over this */
    PLAN_WORK = 16 << 20, /* steps of the search: some 5 ms */
};

/* A measured time or rate as announcements hold it: whole, and at least 1, for 0 is "unknown". */
static inline uint32_t plan_number(double v)
{
    return v < 1 ? 1 : v < UINT32_MAX ? (uint32_t)(v + 0.5) : UINT32_MAX;
}

/* What the planner knows of a candidate beyond its record. */
struct measured {
    uint32_t rtt_us;   /* from the coordinator, 0 for itself; UINT32_MAX unknown */
    uint32_t layer_us; /* own measurement of one row through one layer; 0: believe the record */
    uint32_t chunk_us; /* own, of a prompt's rows through one layer: for any number of them, */
    uint32_t row_ns;   /* and for each; both 0: believe the record */
    bool with_load;    /* layer_us is fresh and tells what sessions of others cost */
    bool banned;       /* it broke the protocol */
    bool lost;         /* it did not answer lately */
};

/* What is to be planned. */
struct plan_query {
    const struct directory *d;       /* all active records that grant max_tokens positions */
    const struct measured *measured; /* [directory_n], same order as directory_nth */
    uint8_t model[ID_BYTES];
    uint32_t n_layers, max_tokens;
    const struct node_id *self;  /* is used also while it drains: a pause is from others' work */
    const struct node_id *avoid; /* [n_avoid] never to be used */
    uint32_t n_avoid;
    uint32_t row_bytes; /* of a hidden row; for uplinks */
    uint32_t uplink;    /* of the coordinator, kbit/s; 0: unknown or fast */
    uint32_t head_us;   /* head and sampler at the coordinator, for one token */
    uint32_t hop_us;    /* measured cost of a hop beside the round trip; 0: PLAN_HOP_US */
    uint32_t start_us;  /* measured cost of a beginning beside the round trip */
};

struct plan_stage {
    struct node_id id;
    uint32_t lo, hi;   /* [lo, hi) */
    uint32_t layer_us; /* used in the prediction, load included */
    uint32_t chunk_us; /* rows of a prompt through one layer: chunk_us + row_ns for each, */
    uint32_t row_ns;   /* but never less than layer_us */
    uint32_t hop_us;   /* to reach this stage, with one row */
    uint32_t way_ns;   /* each further row needs so much longer */
    uint32_t rtt_us;   /* from the coordinator */
    bool hop_known;    /* measured, and not taken from the coordinator's round trips */
    bool is_connected; /* to the coordinator */
    bool rows_known;   /* chunk_us and row_ns are the coordinator's own measurement */
    uint32_t together; /* nodes of one home that compute it together; 0: one alone */
    /* Who takes over when it is lost: spares [spare, spare + n_spares) of the plan, in order. */
    uint32_t spare, n_spares;
    uint32_t spare_token_us; /* time of a token then */
};
/* A node that would serve [lo, hi). */
struct plan_spare {
    struct node_id id;
    uint32_t lo, hi;
};
struct plan {
    uint32_t n;
    struct plan_stage stage[PLAN_STAGES_MAX];
    uint32_t home_us; /* hop from the last stage back to the coordinator */
    uint32_t head_us;
    uint32_t
        overhead_us;     /* part of every hop_us and home_us that is not 0: beside the round trip */
    uint32_t start_us;   /* of the query */
    uint32_t token_us;   /* predicted time of one token, all of the above included */
    uint32_t bottleneck; /* index of the slowest stage */
    uint32_t left_out;   /* active nodes that hold layers of the model and were not used */
    uint32_t n_spares;
    struct plan_spare spare[PLAN_SPARES_MAX];
};

/* The fastest pipeline, without spares yet.
 * ERR_RANGE: n_layers is 0 or over LAYER_MAX.  ERR_NOTFOUND with why naming the first layer that
 * nobody (usable) holds, or saying that no pipeline gives each node one stage. */
MUST_CHECK enum err plan_make(struct plan *out, const struct plan_query *q, struct why *why);

/* For each stage of p the fastest replacement for exactly its layers, by nodes that are not in the
 * pipeline: one, or several in a row.  Spares of different stages are different nodes where that is
 * possible; a stage that nobody can replace has n_spares 0. */
MUST_CHECK enum err plan_add_spares(struct plan *p, const struct plan_query *q);

/* What is predicted of these stages by what is known now; p has no spares then.  ERR_NOTFOUND: one
 * of them is unknown, avoided or without room for q->max_tokens; p is as it was. */
MUST_CHECK enum err plan_price(struct plan *p, const struct plan_query *q);

/* Rows of one step of a prompt: few enough that every stage has work at the same time, many enough
 * to be efficient; those under way fit into a connection's queue, whichever stage is the slow one.
 */
enum { PLAN_CHUNK_MIN = 32, PLAN_CHUNK_MAX = 256, PLAN_STEPS_EXTRA = 2 /* beyond one a stage */ };
uint32_t plan_chunk(uint32_t n_stages, uint32_t n_prompt, size_t row_bytes);

/* Predicted time until the first token of an answer: sessions are opened (and connections made
 * first, where there are none), the prompt goes through in chunks that follow each other, the head.
 *   n_prompt  rows, > 0
 *   chunk     rows of one step, > 0
 *   steps     that may be under way at once */
uint64_t plan_first_us(const struct plan *p, uint32_t n_prompt, uint32_t chunk, uint32_t steps);

#endif
