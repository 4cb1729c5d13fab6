/* weights.h - a model of a store, bound as the structs that model/ computes with. */
#ifndef NODE_WEIGHTS_H
#define NODE_WEIGHTS_H

#include "arch/arch.h"
#include "store/store.h"

/* A model opened for computing.  The store must stay open as long. */
struct weights {
    struct store *store;      /* borrowed */
    struct store_name name;
    struct manifest manifest; /* manifest.arch is what everything borrows */
    uint32_t lo, hi;          /* bound layers [lo, hi) */
    struct layer *layer;      /* [hi - lo] owned */
    struct layer ends;        /* .t NULL when not bound */
};

/* Find the model (NULL: the only one) and bind layers [lo, hi); lo == hi binds none; hi may be
 * UINT32_MAX for "to the last main layer"; with_ends binds embedding and head too.
 * ERR_NOTFOUND with why naming the layer that is not (wholly) in the store. */
MUST_CHECK enum err weights_open(struct weights *w, struct store *s, const char *model,
                                 uint32_t lo, uint32_t hi, bool with_ends, struct why *why);
void weights_close(struct weights *w);

#endif
