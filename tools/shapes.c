#include "tools/shapes.h"

#include <string.h>

#define AIR                                                                                   \
    "{\"architectures\": [\"Glm4MoeForCausalLM\"], \"num_hidden_layers\": 46,"                \
    "\"hidden_size\": 4096, \"vocab_size\": 151552, \"num_attention_heads\": 96,"             \
    "\"num_key_value_heads\": 8, \"head_dim\": 128, \"intermediate_size\": 10944,"            \
    "\"max_position_embeddings\": 131072, \"rms_norm_eps\": 1e-05, \"attention_bias\": true," \
    "\"tie_word_embeddings\": false, \"n_routed_experts\": 128, \"num_experts_per_tok\": 8,"  \
    "\"n_shared_experts\": 1, \"moe_intermediate_size\": 1408, \"first_k_dense_replace\": 1," \
    "\"n_group\": 1, \"topk_group\": 1, \"routed_scaling_factor\": 1.0,"                      \
    "\"norm_topk_prob\": true, \"use_qk_norm\": false, \"num_nextn_predict_layers\": 0,"      \
    "\"rope_theta\": 1000000, \"partial_rotary_factor\": 0.5,"                                \
    "\"eos_token_id\": [151329, 151336, 151338]}"

static const struct {
    const char *name, *config;
} shapes[] = {
    { "glm-4.5-air", AIR },
    { "intellect-3", AIR },
    { "glm-4-9b",
      "{\"architectures\": [\"Glm4ForCausalLM\"], \"num_hidden_layers\": 40,"
      "\"hidden_size\": 4096, \"vocab_size\": 151552, \"num_attention_heads\": 32,"
      "\"num_key_value_heads\": 2, \"head_dim\": 128, \"intermediate_size\": 13696,"
      "\"max_position_embeddings\": 32768, \"rms_norm_eps\": 1e-05, \"attention_bias\": true,"
      "\"tie_word_embeddings\": false, \"rope_theta\": 10000, \"partial_rotary_factor\": 0.5,"
      "\"eos_token_id\": [151329, 151336, 151338]}" },
};

enum err shape_read(struct hf_config *cfg, const char *shape, struct why *why)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (strcmp(shape, shapes[i].name) == 0)
            return hf_config_parse(cfg, slice_str(shapes[i].config), shape, why);
    enum err e = hf_config_read_file(cfg, shape, why);
    if (e != ERR_NOTFOUND) return e;
    return fail(why, ERR_USAGE,
                "%s is neither glm-4.5-air, intellect-3 or glm-4-9b nor the path of a config.json",
                shape);
}
