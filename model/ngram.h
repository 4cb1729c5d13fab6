/* ngram.h - what followed the last time: the tokens after an earlier place that ends as the text
 * does now.
 *
 *     ... the capital of Japan is Tokyo ... the capital of Ja|  ->  pan is Tokyo
 *
 * Every pair of tokens is in a hash index, the latest place first; of at most NGRAM_LOOKS places
 * the one whose tokens agree furthest back is copied from.  Time per token is bounded, and memory
 * is some 16 bytes a token. */
#ifndef MODEL_NGRAM_H
#define MODEL_NGRAM_H

#include "base/err.h"

#include <stdint.h>

enum {
    NGRAM_LEAST = 2,  /* tokens that must agree */
    NGRAM_LOOKS = 16, /* places looked at */
    NGRAM_LONG = 32,  /* agreement is not measured further */
};

struct ngram {
    int32_t *ids; /* owned: [n] of all tokens so far */
    uint32_t n, cap;
    uint32_t *before; /* owned: [cap]: the place before this one in its chain, + 1; 0: none */
    uint32_t *last;   /* owned: [cap]: by hash, the latest place, + 1 */
};

/* {0} is an empty one. */
void ngram_fini(struct ngram *g);
/* ERR_NOMEM: it is as before. */
MUST_CHECK enum err ngram_add(struct ngram *g, int32_t id);
/* What may follow: out [most]; *agree: how many tokens of the end the place has in common, 0: there
 * is none, nothing is written. */
void ngram_find(const struct ngram *g, int32_t *out, uint32_t most, uint32_t *agree);

#endif
