/* hf_config.h - what a Hugging Face folder's small files say about a model.
 *
 *   config.json             the architecture's numbers, in every spelling that is around
 *   generation_config.json  end tokens, sampling                        (may be missing)
 *   tokenizer_config.json   the name of the end token, a chat template  (may be missing)
 *   chat_template.jinja     the chat template, before the one above     (may be missing)
 *
 * A key without a safe default that is missing is refused by name; so is every setting that would
 * change the arithmetic in a way that we do not do.  Where a flag can be seen from the tensors it
 * may be left out, and the tensors decide. */
#ifndef STORE_HF_CONFIG_H
#define STORE_HF_CONFIG_H

#include "arch/arch.h"
#include "store/manifest.h"

enum said { SAID_NO, SAID_YES, SAID_NOTHING };

struct hf_config {
    struct arch arch; /* all but type, exchange, kv, mlp_parts, and the flags below */
    enum said attn_bias, qk_norm, tied, predict;
    uint32_t n_eos;
    int32_t eos[MANIFEST_EOS_MAX]; /* ascending */
    struct sampling_defaults sampling;
    char eos_name[64]; /* of the tokenizer's end token; "" when not said */
};

/* ERR_NOTFOUND: no config.json; ERR_MALFORMED, ERR_UNSUPPORTED, ERR_RANGE with why naming file
 * and key. */
MUST_CHECK enum err hf_config_read(struct hf_config *out, const char *dir, struct why *why);

/* The same from a config.json alone: a file; a text (path names it in errors). */
MUST_CHECK enum err hf_config_read_file(struct hf_config *out, const char *path, struct why *why);
MUST_CHECK enum err hf_config_parse(struct hf_config *out, struct slice text, const char *path,
                                    struct why *why);

/* One more end token (kept ascending, each once).  what names it in errors. */
MUST_CHECK enum err hf_config_add_eos(struct hf_config *c, uint64_t id, const char *what,
                                      struct why *why);

/* The chat template's text, owned by the caller (free); ERR_NOTFOUND: there is none. */
MUST_CHECK enum err hf_chat_template(const char *dir, uint8_t **out, size_t *n, struct why *why);

#endif
