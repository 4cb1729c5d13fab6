/* report.h - what a coordinator tells its client about a pipeline, as JSON. */
#ifndef NODE_REPORT_H
#define NODE_REPORT_H

#include "base/json.h"
#include "node/pipeline.h"

/* {"model", "stages": [{"id", "lo", "hi", "layer_us", "hop_us"}], "token_us", "tokens_per_s",
 *  "bottleneck", "left_out"}; layers [lo, hi); bottleneck is an index into stages. */
void report_plan(struct text *out, const char *model, const struct plan *plan);

struct report_times {
    uint32_t n_prompt, n_tokens;
    uint64_t prefill_us;   /* from the question to the first token */
    uint64_t decode_us;    /* from the first token to the last */
    uint64_t pick_us;      /* of which picking tokens, at the coordinator */
    uint64_t predicted_us; /* of prefill_us, when the pipeline was chosen */
};

/* {"tokens_per_s", "predicted_tokens_per_s", "first_token_ms", "predicted_first_token_ms",
 *  "pick_ms", "stages": [{"lo", "hi", "steps", "compute_ms", "wait_ms"}], "heals", "heal_ms",
 * "heal_rows"}; stages in the order of the plan that the answer ended with, whose times begin with
 * it. */
void report_stats(struct text *out, const struct pipeline *p, const struct report_times *t);

#endif
