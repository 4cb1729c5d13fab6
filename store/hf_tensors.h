/* hf_tensors.h - which numbers of a Hugging Face checkpoint are which tensor of ours.
 *
 * Our tensors are cut (head groups, dense parts, experts), theirs are whole, and sometimes fused:
 *
 *   mlp.gate_up_proj.weight      [2I, H]       gate rows, then up rows
 *   mlp.experts.gate_up_proj     [E, 2Im, H]   of each expert gate rows, then up rows
 *   mlp.experts.down_proj        [E, H, Im]
 *
 * So one of ours is a region of one of theirs: rows of `cols` adjacent elements, `stride` apart. */
#ifndef STORE_HF_TENSORS_H
#define STORE_HF_TENSORS_H

#include "store/hf_config.h"
#include "store/source.h"

struct region {
    const struct st_tensor *t; /* borrowed from the source */
    uint32_t file;
    uint32_t rows, cols;
    uint64_t first, stride; /* in elements */
};

/* Let the tensors decide what the configuration left open, and refuse what they contradict: fills
 * attn_bias, qk_norm, tied, n_predict of c->arch. */
MUST_CHECK enum err hf_settle(struct hf_config *c, struct source *s, struct why *why);

/* The region of a tensor of layer (or ARCH_ENDS); its source is marked used.  ERR_MALFORMED with
 * why naming the tensor that is missing, or has another shape or type than it should. */
MUST_CHECK enum err hf_region(struct source *s, const struct arch *a, uint32_t layer,
                              const struct tensor_spec *spec, struct region *out, struct why *why);

/* Once all regions are found: refuse a tensor that none of them used and that nothing explains. */
MUST_CHECK enum err hf_check_unused(struct source *s, const struct arch *a, struct why *why);

#endif
