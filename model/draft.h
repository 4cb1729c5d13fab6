/* draft.h - guesses of the tokens to come, of one answer.
 *
 * A trip through the pipeline costs almost the same for one row as for a few.  So the row of the
 * last token goes out with those of some guesses, and each guess that is the token drawn at its
 * place saves a trip.  What is drawn depends on the row and the position only: the answer is the
 * same, byte for byte, whatever is guessed.
 *
 *     rows come back -> picked and compared -> drafter_next -> the last token's row, drafts' rows
 *
 * Two sources: what followed these tokens before (ngram.h), and the model's prediction layer
 * (predict.h), which throws the same dice as the sampler will: at a temperature it is right more
 * often than its most probable token would be.  depth.h says how many of which.
 *
 * The prediction layer sees rows only when it is asked for drafts; until then the last DRAFT_KEPT
 * are kept.  Its K and V begin anew after DRAFT_CONTEXT positions, so a drafter's memory is
 * bounded. */
#ifndef MODEL_DRAFT_H
#define MODEL_DRAFT_H

#include "model/depth.h"
#include "model/predict.h"

enum draft_mode { DRAFT_AUTO, DRAFT_OFF, DRAFT_NGRAM, DRAFT_MTP };

enum {
    DRAFT_KEPT = 16, /* hidden rows kept for the prediction layer: of atlas's drafts with one row
                        of the prompt 93.7 % were right, with 4, 16 or 64 rows 95.1 % */
    DRAFT_CONTEXT = 1024, /* positions it looks back */
};

/* "auto", "off", "ngram", "mtp"; false: none of them. */
bool draft_mode_parse(enum draft_mode *out, const char *text);

struct drafter;

/* a: borrowed until drafter_close.  has_predict: drafter_next will be given a prediction layer.
 * ERR_NOMEM. */
MUST_CHECK enum err drafter_open(struct drafter **out, const struct arch *a, enum draft_mode mode,
                                 bool has_predict);
void drafter_close(struct drafter *d); /* NULL is fine */
/* May drafts of the prediction layer come, so that it is good to have the rows of the prompt's end?
 */
bool drafter_wants_rows(const struct drafter *d);

/* The tokens before those of the first step: [n]; those it knows already are not looked at. */
MUST_CHECK enum err drafter_read(struct drafter *d, const int32_t *ids, uint32_t n);

/* What a step gave. */
struct draft_step {
    const uint8_t *x;   /* [n_context + n_tokens][arch_row_bytes]: rows of consecutive positions */
    uint32_t n_context; /* rows before that of the last token known before the step */
    const int32_t *token; /* [n_tokens] picked from the rows after those */
    uint32_t n_tokens;
    uint32_t n_drafts; /* it went with so many, as drafter_next said */
    uint32_t most;     /* drafts wanted now, at most DRAFT_MAX */
    uint64_t now_us;   /* on a clock of the caller's */
    bool is_disturbed; /* something else took time since the step before: nothing is concluded */
    const struct sampling *sampling;
    uint32_t usable; /* as sampler_pick's */
    bool is_home;    /* no line is between two steps: rows cost most of what a step costs */
};
/* Take it in, and guess what follows its last token: out [DRAFT_MAX]; how many.  p: NULL without a
 * prediction layer; sampler: with p. */
uint32_t drafter_next(struct drafter *d, struct predict *p, struct sampler *sampler,
                      const struct draft_step *s, int32_t *out);

#endif
