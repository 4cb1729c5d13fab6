/* toy.h - small random models in memory, and a second, naive forward pass to compare with. */
#ifndef TESTS_MODEL_TOY_H
#define TESTS_MODEL_TOY_H

#include "model/forward.h"

struct toy {
    struct arch a;
    struct layer *layer; /* [arch_all_layers] owned */
    struct layer ends;   /* owned */
};

/* Random weights for the shape in t->a (which must pass arch_check); aborts on failure. */
void toy_fill(struct toy *t, uint64_t seed);
void toy_free(struct toy *t);

/* Shapes that between them use every branch of the arithmetic; NULL-terminated names. */
enum { TOYS = 6 };
const char *toy_shape(unsigned i, struct arch *a);
/* All weight types of a set to t. */
void toy_types(struct arch *a, enum wtype t);

float toy_random(uint64_t *seed); /* about normal, mean 0, deviation 1 */

/* Hidden states of a whole sequence: x [n][arch_row_bytes] in, out after layers [lo, hi).  Position
 * by position, operation by operation as docs/arithmetic.md has them; no batch, thread or cache. */
void naive_forward(const struct toy *t, const struct kernels *k, uint32_t lo, uint32_t hi,
                   uint32_t n, void *x);
void naive_logits(const struct toy *t, const struct kernels *k, const void *x, float *logits);

#endif
