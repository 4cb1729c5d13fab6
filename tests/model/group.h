/* group.h - a leader and its members in one process, with a random split: the sharer of tests. */
#ifndef TESTS_MODEL_GROUP_H
#define TESTS_MODEL_GROUP_H

#include "model/share.h"

enum { GROUP_MAX = 6, GROUP_SESSIONS = 4 };

struct group {
    struct sharer sharer; /* first */
    /* what goes wrong */
    unsigned lose_every; /* every so manieth answer of experts or dense parts never comes */
    unsigned fail_at;    /* that collect fails, counting from 1 */
    unsigned n_asked;    /* parts that members were given */
    unsigned n_lost, n_collects;
    uint64_t bytes; /* of answers */

    struct stage *leader;
    const struct arch *a;
    uint32_t lo, hi;
    unsigned n;                     /* hands, the leader being hand 0 */
    struct layer *layer[GROUP_MAX]; /* [hi - lo] each: what the hand holds */
    struct share *held[GROUP_MAX];  /* [hi - lo] */
    struct stage *stage[GROUP_MAX]; /* of members */
    uint8_t *heads, *dense;         /* [hi - lo][n_kv or mlp_parts]: whose */
    struct session {
        struct kv *kv[GROUP_MAX];
    } session[GROUP_SESSIONS];
    /* an ask under way */
    uint8_t *who;
    struct share_part part[GROUP_MAX];
    uint8_t *answer[GROUP_MAX];
};

/* How parts are dealt: to all hands at random, none to the leader but trunks, all held by all, only
 * head groups away, only experts and dense parts away; in every way some layers are the leader's
 * alone. */
enum group_way { ALL_OVER, LEADER_HAS_NOTHING, ALL_HOLD_ALL, HEADS_ONLY, MLP_ONLY, GROUP_WAYS };

/* Layers [lo, hi) of `whole` among n hands; rows_max as stage_open. */
void group_open(struct group *g, const struct arch *a, const struct layer *whole, uint32_t lo,
                uint32_t hi, unsigned n, enum group_way way, uint32_t rows_max,
                const struct kernels *k, struct workers *w, uint64_t seed);
void group_close(struct group *g);
/* The leader's kv of a new session; members have theirs. */
struct kv *group_session(struct group *g, unsigned i, uint32_t cap);

#endif
