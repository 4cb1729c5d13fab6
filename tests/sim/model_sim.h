/* model_sim.h - a model whose layers are hashes: any row that is lost, doubled, reordered or
 * computed over another history shows in the tokens.
 *
 *     row      8 bytes v, then a hash of v: a row that is not one of ours is noticed
 *     layer l  history[l][pos] = mix(history[l][pos - 1], v, l);  v = mix(v, history[l][pos])
 *     token    mix(v, seed, position) below the vocabulary
 *
 * model_sim.c stands in for model/ and store/ (tokenizer, chat form, ends, K and V) and for
 * weights/weights.c and warm.c, compute_sim.c for stage/compute.c.  A conversation is the text "N
 * SEED": a prompt of N ids.  The text of a token is its number and a space. */
#ifndef SIM_MODEL_SIM_H
#define SIM_MODEL_SIM_H

#include "model/forward.h"
#include "model/sampler.h"
#include "weights/weights.h"

enum { SIM_VOCAB = 256, SIM_EOS = 3, SIM_ROW_BYTES = 16, SIM_KV_BYTES = 32, SIM_MODEL_BYTE = 0x5a };

/* What services.c opens in the place of a store. */
struct store {
    uint32_t n_layers; /* of the model */
};

/* What the product takes of it for choosing; static. */
const struct manifest *sim_manifest(uint32_t n_layers);

/* Rows [n] in place; the kv's length grows.  ERR_RANGE as stage_forward. */
MUST_CHECK enum err sim_layers(struct kv *kv, uint32_t lo, uint32_t hi, uint32_t pos, uint32_t n,
                               uint8_t *x);
/* Are these rows that this model made? */
bool sim_rows_are_real(const uint8_t *x, uint32_t n);
void sim_embed(int32_t id, uint8_t *x);
int32_t sim_pick(const uint8_t *x, const struct sampling *s, uint64_t position);

/* The oracle: one process, one token after the other.  ids [cap] holds n_prompt ids and gets the
 * answer's; returns how many there are then: up to max_new, or an end token is the last. */
uint32_t sim_oracle(int32_t *ids, uint32_t n_prompt, uint32_t max_new, uint32_t n_layers,
                    const struct sampling *s);
/* The ids of a prompt. */
void sim_prompt(int32_t *ids, uint32_t n, uint64_t seed);

#endif
