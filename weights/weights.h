/* weights.h - a model of a store, bound as the structs that model/ computes with. */
#ifndef WEIGHTS_WEIGHTS_H
#define WEIGHTS_WEIGHTS_H

#include "weights/holding.h"

/* A model opened for computing.  The store must stay open as long. */
struct weights {
    struct store *store; /* borrowed */
    struct store_name name;
    struct manifest manifest; /* manifest.arch is what everything borrows */
    struct holding held;      /* what is bound */
    uint32_t lo, hi;          /* whole layers [lo, hi) */
    struct layer *layer;      /* [hi - lo] of `all` */
    /* Layers [all_lo, all_hi) of which something is bound, whole ones too: tensors that are not
     * held have no tiles (NULL); .t is NULL where nothing of a layer is. */
    uint32_t all_lo, all_hi;
    struct layer *all;    /* [all_hi - all_lo] owned */
    struct layer ends;    /* .t NULL when not bound */
    struct layer predict; /* the prediction layer; .t NULL when not bound */
};

/* Find the model (NULL: the only one) and bind layers [lo, hi); lo == hi binds none; hi may be
 * UINT32_MAX for "to the last main layer"; with_ends binds embedding and head too.
 * ERR_NOTFOUND with why naming the layer that is not (wholly) in the store. */
MUST_CHECK enum err weights_open(struct weights *w, struct store *s, const char *model, uint32_t lo,
                                 uint32_t hi, bool with_ends, struct why *why);
/* The same of all that h says, parts of layers too. */
MUST_CHECK enum err weights_open_held(struct weights *w, struct store *s, const char *model,
                                      const struct holding *h, struct why *why);
/* Bind the prediction layer too, if the model has one and the store holds it; else .predict.t stays
 * NULL. */
MUST_CHECK enum err weights_open_predict(struct weights *w, struct why *why);
void weights_close(struct weights *w);

/* What is bound of a layer (ARCH_ENDS: the ends) in bytes of tiles. */
uint64_t weights_bytes(const struct weights *w, uint32_t layer);

#endif
