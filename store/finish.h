/* finish.h - the last step of everything that makes a model: tables, tokenizer, manifest, id. */
#ifndef STORE_FINISH_H
#define STORE_FINISH_H

#include "store/hf_config.h"
#include "store/store.h"

/* A model whose tiles are made.  Everything is borrowed. */
struct made_model {
    const struct hf_config *cfg; /* its architecture complete and checked */
    const char *chat;            /* chat form's name */
    struct slice tokenizer;      /* tokenizer.json; empty: a model without */
    const struct hash *hash;     /* every tile, layer after layer, the ends last */
    /* Are the tables (for ARCH_ENDS the tokenizer too) of this layer stored?  NULL: all are. */
    bool (*keeps)(const void *arg, uint32_t layer);
    const void *arg;
};

/* Store tables and tokenizer and commit; the manifest's body (owned by the caller: free) and its
 * id.  ERR_RANGE, ERR_USAGE with why when the tokenizer or the form's name is too long. */
MUST_CHECK enum err finish_model(struct store *s, const struct made_model *m, uint8_t **body,
                                 size_t *n, struct hash *id, struct why *why);

/* The same refusals before any work is done. */
MUST_CHECK enum err finish_check(const char *chat, struct slice tokenizer, struct why *why);

#endif
