/* speeds.h - what a coordinator measured of the nodes it used, instead of what they claim.
 *
 * Every STEP_DONE tells how long a stage computed and waited.  After SPEEDS_STEPS steps of one row
 * a line through the last some 200 (time over position: attention grows) stands for the node's
 * claim; one through steps of many rows (time over rows) for the speed of prompts.  What head and
 * sampler take, and what a hop costs beside the round trip, are learned the
 * same way, from answers.  Time is an argument; no allocation depends on peers: at most SPEEDS_MAX
 * nodes, the one used longest ago makes room. */
#ifndef PROTO_SPEEDS_H
#define PROTO_SPEEDS_H

#include "proto/plan.h"

enum {
    SPEEDS_MAX = 256,
    SPEEDS_STEPS = 16,           /* before the mean is believed */
    SPEEDS_FRESH_MS = 30000,     /* waiting is believed for so long, and computing for good */
    SPEEDS_HOP_MAX_US = 20000,   /* more is an accident, not the cost of a hop, */
    SPEEDS_START_MAX_US = 50000, /* or of a beginning */
};

struct speeds;
MUST_CHECK enum err speeds_open(struct speeds **out);
void speeds_close(struct speeds *s); /* NULL is fine */

/* Node id computed n_steps steps of `rows` rows each, about position pos, through n_layers layers;
 * the times are of all steps. */
struct speeds_work {
    uint32_t n_layers, n_steps, rows, pos;
    uint64_t compute_us, wait_us;
};
void speeds_step(struct speeds *s, const struct node_id *id, const struct speeds_work *w,
                 uint64_t now_ms);
/* Head, sampler and embedding for one token: as measured at the start, then of answers. */
void speeds_head(struct speeds *s, double us);
/* An answer's tokens took token_us each on average, of which known_us are accounted for; n_hops
 * share the rest. */
void speeds_hops(struct speeds *s, double token_us, double known_us, uint32_t n_hops);

/* An answer to a short question began so much later than a plan without start_us said. */
void speeds_start(struct speeds *s, double us);

/* Fill in what is known: m[i] of directory entry i, for tokens about position pos. */
void speeds_tell(const struct speeds *s, const struct directory *d, struct measured *m,
                 uint32_t pos, uint64_t now_ms);
uint32_t speeds_head_us(const struct speeds *s);
uint32_t speeds_hop_us(const struct speeds *s);
uint32_t speeds_start_us(const struct speeds *s);

#endif
