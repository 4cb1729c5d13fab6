/* local.h - a whole model in one process: all its layers and its ends, and one session. */
#ifndef TOOLS_LOCAL_H
#define TOOLS_LOCAL_H

#include "model/forward.h"
#include "weights/weights.h"

struct local {
    /* set before local_open, for measuring: 0: as the model says */
    uint32_t layers; /* only the first so many */
    uint32_t top_k;  /* experts a token */

    struct store *store;
    struct weights weights; /* its manifest.arch is the model's */
    struct stage *stage;
    struct ends *ends;
    struct kv *kv; /* room for the model's whole context */
};

/* Open a model (NULL: the only one) of the store in directory dir; k and w are borrowed until
 * local_close.  l is zero but for its first part, and is to be closed whatever comes back. */
MUST_CHECK enum err local_open(struct local *l, const char *dir, const char *model,
                               uint32_t rows_max, const struct kernels *k, struct workers *w,
                               struct why *why);
void local_close(struct local *l);

#endif
