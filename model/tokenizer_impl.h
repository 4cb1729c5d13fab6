/* tokenizer_impl.h - the parts of a tokenizer, in the order in which a text meets them.
 *
 *     text --added.raw--> gaps --nfc--> --added.normalized--> gaps --steps--> pieces --bpe--> ids
 *
 * tokenizer_load.c builds it, tokenizer.c walks it. */
#ifndef MODEL_TOKENIZER_IMPL_H
#define MODEL_TOKENIZER_IMPL_H

#include "model/tokenizer.h"
#include "model/tokenizer_added.h"
#include "model/tokenizer_bpe.h"
#include "model/tokenizer_pattern.h"

enum { STEPS_MAX = 16, TEMPLATE_MAX = 64 };

/* One pre-tokenizer: cuts each piece that the step before hands it. */
struct step {
    enum { STEP_PATTERN, STEP_DIGITS, STEP_PREFIX_SPACE } kind;
    struct pattern *pattern; /* owned; STEP_PATTERN */
    bool alone;              /* STEP_DIGITS: each digit is a piece */
};

struct tokenizer {
    struct bpe bpe;
    struct added added;
    bool nfc;
    struct step step[STEPS_MAX];
    uint32_t n_steps;
    int32_t before[TEMPLATE_MAX], after[TEMPLATE_MAX]; /* the post-processor's ids around a text */
    uint32_t n_before, n_after;
};

/* Pre-tokenizers and post-processor of the file into t. */
MUST_CHECK enum err steps_load(struct tokenizer *t, const struct json *pre, struct why *why);
MUST_CHECK enum err template_load(struct tokenizer *t, const struct json *post, struct why *why);

#endif
