/* tally.h - what an answer's own tokens do to the next one, and how likely the model held each.
 *
 * Penalties: the logit of a token that the answer holds c times so far becomes
 *     (float)((double)logit - (c * frequency + presence))
 * before anything else; tokens of the prompt do not count.  The tally is of the tokens before a
 * position, whoever drew them in which order: a replayed or guessed position gives the same token.
 *
 * Log probabilities are of the model's own distribution, before penalties, temperature and filters:
 *     logit - largest - log(sum over ids of exp(logit - largest))
 * in double with our exp and log, sums by ascending id: the same bits everywhere.
 *
 * Owned by one request and touched by whichever thread picks for it, one at a time. */
#ifndef MODEL_TALLY_H
#define MODEL_TALLY_H

#include "model/sampler.h"

enum { TALLY_FRESH_MAX = 64 }; /* tokens picked before tally_begin is called again */

/* One id and the natural logarithm of its probability. */
struct likely {
    int32_t id;
    float logprob;
};

struct tally;

/* Does a request with p need one? */
bool tally_is_wanted(const struct sampling *p);
/* ids [n]: the answer's tokens so far; first: position of its first one; most: tokens it may have,
 * at least n.  ERR_NOMEM. */
MUST_CHECK enum err tally_open(struct tally **out, const struct sampling *p, uint32_t vocab,
                               uint64_t first, const int32_t *ids, uint32_t n, uint32_t most);
void tally_close(struct tally *t); /* NULL is fine */

/* From now on fresh tokens are counted from 0. */
void tally_begin(struct tally *t);
/* sampler_pick, with t (NULL: without).  Tokens at or past position are forgotten, those before it
 * are there.  logits are as before afterwards. */
uint32_t tally_pick(struct tally *t, struct sampler *s, const struct sampling *p, float *logits,
                    uint32_t usable, uint64_t position);
/* Of the i-th token picked since tally_begin: [p->likely], first itself, then the most likely ones,
 * ties to the lower id. */
const struct likely *tally_fresh(const struct tally *t, uint32_t i);

#endif
