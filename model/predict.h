/* predict.h - the model's own prediction layer (MTP): from a hidden row and the token after it, the
 * token after that.
 *
 *     x = eh_proj [ norm(embedding of token t+1; enorm) ; norm(g_t; hnorm) ]
 *     h = layer L of x, with K and V of its own
 *     o = norm(h; shared head's norm),   logits = head o        for token t+2
 *
 * g_t is the main model's last row after the final norm.  For one more token o stands for the next
 * g.  What comes out is only ever a guess that the model verifies, so its bits decide nothing, and
 * positions may be left out or begin anywhere: rope looks at distances.
 *
 * Touched by one thread at a time; the K and V are the caller's, kv_open for layers [L, L + 1). */
#ifndef MODEL_PREDICT_H
#define MODEL_PREDICT_H

#include "model/forward.h"
#include "model/sampler.h"

enum { PREDICT_ROWS = 64 }; /* fed in one go */

struct predict;

/*   layer, ends   the prediction layer and the ends, wholly held; borrowed until predict_close
 *   k, w          borrowed likewise */
MUST_CHECK enum err predict_open(struct predict **out, const struct arch *a,
                                 const struct layer *layer, const struct layer *ends,
                                 const struct kernels *k, struct workers *w);
void predict_close(struct predict *p); /* NULL is fine */

/* n (1..PREDICT_ROWS) hidden rows x [n][arch_row_bytes] with the tokens next [n] that followed
 * them, put after what kv holds.  Errors as stage_forward's; kv is then as before. */
MUST_CHECK enum err predict_feed(struct predict *p, struct kv *kv, const void *x,
                                 const int32_t *next, uint32_t n);
/* One more: the guessed token follows what came out last. */
MUST_CHECK enum err predict_again(struct predict *p, struct kv *kv, int32_t token);
/* Logits [vocab] of what came out last; borrowed until the next call.  NULL: they are not finite.
 */
const float *predict_logits(struct predict *p);

#endif
