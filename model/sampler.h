/* sampler.h - from logits to one token, reproducibly.
 *
 * temperature <= 0: greedy, ties to the lower id.  Else candidates are ordered by logit, then lower
 * id; top_k (0 = all), then softmax of logits/T and cumulative sums in double with our exp, top_p
 * (smallest set with cumulative probability >= p, at least one), min_p (relative to the largest);
 * u = (first 8 bytes, little endian, of BLAKE2b(key = seed, position)) >> 11 times 2^-53 picks:
 * a replayed position draws the same token.  Order of filters as transformers' generate. */
#ifndef MODEL_SAMPLER_H
#define MODEL_SAMPLER_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum { LIKELY_MAX = 20 }; /* alternatives told of a token */

struct sampling {
    double temperature; /* 0 = greedy */
    double top_p;       /* (0, 1]; 1 = off */
    double min_p;       /* [0, 1); 0 = off */
    uint32_t top_k;     /* 0 = off */
    uint64_t seed;
    double frequency, presence; /* [-2, 2]; 0 = off: penalties, see tally.h */
    uint32_t likely; /* 0 = off; else log probabilities are told of so many ids a token, its own
                      * first: 1 .. 1 + LIKELY_MAX */
};

/* ERR_RANGE with why when a parameter is out of its range or not a number. */
MUST_CHECK enum err sampling_check(const struct sampling *s, struct why *why);

/* The uniform number of [0, 1) for a position.  hash64 is BLAKE2b-256(key = 8 seed bytes LE,
 * message = 8 position bytes LE), first 8 bytes, given by the caller (libsodium lives in proto/). */
typedef uint64_t sampler_hash(uint64_t seed, uint64_t position);

/* Scratch for a vocabulary; owned by the caller. */
struct sampler;
MUST_CHECK enum err sampler_open(struct sampler **out, uint32_t vocab, sampler_hash *hash);
void sampler_close(struct sampler *s);

/* Pick a token.  logits [vocab]; usable: ids at or past it are never picked (rows of the padded
 * vocabulary without a string); vocab for no mask. */
uint32_t sampler_pick(struct sampler *s, const struct sampling *p, const float *logits,
                      uint32_t usable, uint64_t position);

#endif
