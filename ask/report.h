/* report.h - what a coordinator tells its client about a pipeline, as JSON. */
#ifndef ASK_REPORT_H
#define ASK_REPORT_H

#include "base/json.h"
#include "ask/pipeline.h"
#include "proto/plan_explain.h"

/* {"model", "stages": [{"id", "lo", "hi", "layer_us", "hop_us", "hop_known", "spares": [{"id",
 * "lo", "hi"}], "spare_token_us"}], "home_us", "head_us", "token_us", "tokens_per_s", "bottleneck",
 * "left_out"}; layers [lo, hi); bottleneck is an index into stages; hop_known: it was measured. */
void report_plan(struct text *out, const char *model, const struct plan *plan);

/* The same and {"first_token": [{"prompt", "ms"}], "left": [{"id", "why", "token_us"}],
 * "left_more", "single": [[lo, hi]], "gap": [[lo, hi]], "more": {"layer_us", "rtt_us", "n_layers",
 * "lo", "hi", "token_us"}}.  why is one of spare, slower, no_room, refused, lost, banned, joining,
 * draining and empty; more.token_us 0: one more PC brings nothing.  Fits an ASK_PLAN: of what is
 * long the end is left away.  row_bytes 0: how fast prompts are is not known, first_token is left
 * away. */
void report_explanation(struct text *out, const char *model, const struct plan_explanation *x,
                        size_t row_bytes);

struct report_times {
    uint32_t n_prompt, n_tokens;
    uint32_t n_known;        /* of the prompt: they were not computed for this answer */
    uint64_t prefill_us;     /* from the question to the first token */
    uint64_t decode_us;      /* from the first token to the last */
    uint64_t pick_us;        /* of which picking tokens, at the coordinator */
    uint64_t predicted_us;   /* of prefill_us, when the pipeline was chosen */
    uint32_t drafted, right; /* tokens that were guessed; those of them that were drawn */
};

/* {"known", "tokens_per_s", "predicted_tokens_per_s", "first_token_ms", "predicted_first_token_ms",
 *  "pick_ms", "stages": [{"lo", "hi", "steps", "compute_ms", "wait_ms", "hop_ms"}], "home_ms",
 *  "heals", "heal_ms", "heal_rows", "drafted", "accepted"}; stages in the order of the plan that the
 * answer ended with, whose times begin with it.  hop_ms is the way to the stage, home_ms that from
 * the last one, for one step (hops.h); each is left away when it was not seen. */
void report_stats(struct text *out, const struct pipeline *p, const struct report_times *t);

#endif
