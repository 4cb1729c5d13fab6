/* plan_impl.h - what plan.c, plan_search.c and plan_explain.c share: candidates, costs, the search.
 */
#ifndef PROTO_PLAN_IMPL_H
#define PROTO_PLAN_IMPL_H

#include "proto/plan.h"

#include <math.h>

enum { PLAN_MASK_WORDS = LAYER_MAX / 64 };

/* Keys are (microseconds << 9) + stages, so that of equal times the one with fewer stages is less;
 * in doubles, which hold such integers exactly and compare four at a time. */
enum { PLAN_KEY_UNIT = 512 };
#define PLAN_NEVER HUGE_VAL

struct candidate {
    const struct record_body *b; /* borrowed from the directory; NULL: made up */
    struct node_id id;
    uint32_t rtt_us, layer_us;
    uint32_t chunk_us, row_ns; /* as in plan_stage */
    bool is_connected;
    bool rows_known;                /* chunk_us and row_ns were measured */
    uint64_t held[PLAN_MASK_WORDS]; /* bit per layer */
};

struct sub;

/* The candidates, and a search over layers [lo, hi) among them. */
struct search {
    uint32_t n, n_layers;
    uint32_t holders; /* active nodes that hold layers of the model, usable or not */
    uint32_t hop_us, head_us, start_us, row_bytes, uplink;
    struct candidate *c;                  /* [n] owned, by id */
    double *hop;                          /* [n][n] owned: keys; 0 to itself */
    uint8_t *known;                       /* [n][n] owned: the round trip was announced */
    uint64_t (*allowed)[PLAN_MASK_WORDS]; /* [n] owned: held, less rules and exclusions */
    bool *out;                            /* [n] owned: not to be used */
    double *enter, *leave;                /* [n] owned: keys of the hops at both ends */
    double *key;                          /* [n_layers][n] owned: cheapest way to have [lo, l] */
    /* the search */
    uint32_t lo, hi;
    uint16_t path[LAYER_MAX]; /* node of each layer, of the relaxed best */
    uint16_t best[LAYER_MAX]; /* of the best pipeline yet */
    double best_key;
    uint64_t work;
    struct sub *sub; /* [plan_subs_bytes] owned */
    uint32_t n_subs;
};

/* --- plan_search.c --- */
extern const size_t plan_subs_bytes; /* of sub */
static inline bool plan_bit(const uint64_t *mask, uint32_t layer)
{
    return mask[layer / 64] >> layer % 64 & 1;
}
static inline double plan_key(uint64_t us)
{
    return (double)us * PLAN_KEY_UNIT;
}
static inline uint64_t plan_us(double key)
{
    return (uint64_t)(key / PLAN_KEY_UNIT);
}

/* From c to the coordinator, and from there to c; nothing when c is the coordinator. */
uint32_t plan_home_us(const struct search *s, const struct candidate *c);
uint32_t plan_out_us(const struct search *s, const struct candidate *c);
/* From candidate i to j. */
uint32_t plan_hop_us(const struct search *s, uint32_t i, uint32_t j);

/* Fills key for layers [s->lo, s->hi) among the allowed, and path; the best key, or PLAN_NEVER. */
double plan_relax(struct search *s);
/* The same over all layers by all candidates, without a rule. */
double plan_relax_all(struct search *s);
/* The cheapest pipeline over [lo, hi) among candidates that are not out, from enter to leave, with
 * one stage a node, into best and best_key (PLAN_NEVER: none found). */
void plan_find_best(struct search *s, uint32_t lo, uint32_t hi, uint64_t work);

/* --- plan.c --- */
/* Is the node active with layers of the model? */
bool plan_is_holder(const struct plan_query *q, const struct entry *e);
bool plan_has_room(const struct record_body *b, uint32_t max_tokens);
/* Candidates of q and one more (or NULL), their hops, the coordinator at both ends. */
MUST_CHECK enum err plan_open(struct search *s, const struct plan_query *q,
                              const struct candidate *more, struct why *why);
void plan_close(struct search *s);
/* The coordinator before the first layer and after the last one. */
void plan_enter_home(struct search *s);
void plan_write(struct plan *out, const struct search *s);

#endif
