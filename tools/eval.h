/* eval.h - the subcommands of swarm-eval, and where their logits come from. */
#ifndef TOOLS_EVAL_H
#define TOOLS_EVAL_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

/* Each takes the command line from its own name on, and returns the exit status. */
int eval_logits(int argc, char **argv);
int eval_perplexity(int argc, char **argv);
int eval_tokenize(int argc, char **argv);
int eval_chat(int argc, char **argv);

/* One session with a model: token ids in, logits out.  Wherever the layers are computed, the
 * logits are the same bytes. */
struct eval_model {
    uint32_t vocab, context;
    uint32_t rows_max; /* ids in one step */
    /* Logits of the session's next n positions, [n][vocab].  ERR_RANGE with why when an id or the
     * session's length is out of range. */
    enum err (*step)(struct eval_model *m, const int32_t *ids, uint32_t n, float *logits,
                     struct why *why);
    void (*restart)(struct eval_model *m); /* forget the session */
    void (*close)(struct eval_model *m);   /* frees m */
};

/* What a model is opened with. */
struct eval_options {
    const char *store, *model, *isa; /* model, isa: NULL for the only one, the best one */
    uint32_t threads;                /* 0: every core */
    uint32_t rows_max;               /* 1..BATCH_MAX */
};

/* All layers in this process (eval_model.c). */
MUST_CHECK enum err eval_open_local(struct eval_model **out, const struct eval_options *o,
                                    struct why *why);

/* All layers in a live swarm, the ends in this process (eval_swarm.c). */
struct eval_swarm_options {
    struct eval_options local;
    const char *link;
    const char *swarm_key, *identity; /* NULL: the public swarm, a fresh identity */
    uint32_t positions;               /* of the session */
};
MUST_CHECK enum err eval_open_swarm(struct eval_model **out, const struct eval_swarm_options *o,
                                    struct why *why);

double eval_seconds(void); /* a clock for rates */

#endif
