/* Configurations in all their spellings; what is missing or strange is refused by name. */
#include "store/hf_config.h"

#include "store/rope.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];

static void put(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (!text) {
        unlink(path);
        return;
    }
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static const char MOE[] =
    "{\"architectures\": [\"Glm4MoeForCausalLM\"], \"model_type\": \"glm4_moe\",\n"
    "\"vocab_size\": 1000, \"hidden_size\": 64, \"intermediate_size\": 96,\n"
    "\"num_hidden_layers\": 5, \"num_attention_heads\": 8, \"num_key_value_heads\": 2,\n"
    "\"head_dim\": 16, \"hidden_act\": \"silu\", \"max_position_embeddings\": 4096,\n"
    "\"rms_norm_eps\": 1e-05, \"rope_theta\": 1000000, \"partial_rotary_factor\": 0.5,\n"
    "\"rope_scaling\": null, \"attention_bias\": true, \"use_qk_norm\": false,\n"
    "\"tie_word_embeddings\": false, \"n_routed_experts\": 8, \"num_experts_per_tok\": 2,\n"
    "\"n_shared_experts\": 1, \"moe_intermediate_size\": 32, \"first_k_dense_replace\": 1,\n"
    "\"n_group\": 1, \"topk_group\": 1, \"norm_topk_prob\": true,\n"
    "\"routed_scaling_factor\": 2.5, \"num_nextn_predict_layers\": 1,\n"
    "\"eos_token_id\": [7, 3, 9], \"pad_token_id\": 3}";

static const char DENSE[] =
    "{\"architectures\": [\"Glm4ForCausalLM\"], \"model_type\": \"glm4\",\n"
    "\"vocab_size\": 1000, \"hidden_size\": 64, \"intermediate_size\": 96,\n"
    "\"num_hidden_layers\": 5, \"num_attention_heads\": 8, \"num_key_value_heads\": 2,\n"
    "\"max_position_embeddings\": 4096, \"rms_norm_eps\": 1.5625e-07, \"eos_token_id\": 3}";

/* base with one piece of text replaced, into config.json. */
static void variant(const char *base, const char *from, const char *to)
{
    const char *at = strstr(base, from);
    char text[8192];

    if (!at) fail_msg("no '%s'", from);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - base), base, to, at + strlen(from));
    put("config.json", text);
}

static struct hf_config read_good(void)
{
    struct hf_config c;
    struct why why = { "" };
    if (hf_config_read(&c, dir, &why)) fail_msg("%s", why.text);
    return c;
}

static void refused(const char *says)
{
    struct hf_config c;
    struct why why = { "" };
    assert_int_not_equal(hf_config_read(&c, dir, &why), ERR_OK);
    if (!strstr(why.text, says)) fail_msg("'%s' does not say '%s'", why.text, says);
}

static void the_numbers_of_a_moe(void **state)
{
    (void)state;
    put("config.json", MOE);
    struct hf_config c = read_good();
    const struct arch *a = &c.arch;

    assert_int_equal(a->family, ARCH_GLM4_MOE);
    assert_int_equal(a->n_layers, 5);
    assert_int_equal(a->hidden, 64);
    assert_int_equal(a->vocab, 1000);
    assert_int_equal(a->n_heads, 8);
    assert_int_equal(a->n_kv, 2);
    assert_int_equal(a->head_dim, 16);
    assert_int_equal(a->inter, 96);
    assert_int_equal(a->n_dense, 1);
    assert_int_equal(a->n_experts, 8);
    assert_int_equal(a->top_k, 2);
    assert_int_equal(a->n_shared, 1);
    assert_int_equal(a->moe_inter, 32);
    assert_int_equal(a->context, 4096);
    assert_true(a->norm_topk && !a->sandwich && !a->rope_interleaved);
    assert_true(a->routed_scale == 2.5f && a->eps == 1e-5f && a->rope_scale == 1);
    assert_int_equal(a->rope_half, 4);
    assert_true(a->rope_freq[0] == 1);
    assert_true(fabs(a->rope_freq[1] - pow(1e6, -0.25)) < 1e-17);
    assert_int_equal(c.attn_bias, SAID_YES);
    assert_int_equal(c.qk_norm, SAID_NO);
    assert_int_equal(c.tied, SAID_NO);
    assert_int_equal(c.predict, SAID_YES);
    assert_int_equal(c.n_eos, 3);
    assert_int_equal(c.eos[0], 3);
    assert_int_equal(c.eos[1], 7);
    assert_int_equal(c.eos[2], 9);
    assert_false(c.sampling.sample);
    assert_true(c.sampling.temperature == 1 && c.sampling.top_p == 1);
}

static void the_numbers_of_a_dense_model(void **state)
{
    (void)state;
    put("config.json", DENSE);
    struct hf_config c = read_good();
    const struct arch *a = &c.arch;

    assert_int_equal(a->family, ARCH_GLM4);
    assert_int_equal(a->head_dim, 128); /* the class's, seen again in q_proj's shape */
    assert_true(a->sandwich && a->rope_interleaved);
    assert_int_equal(a->n_dense, 5);
    assert_int_equal(a->n_experts, 0);
    assert_int_equal(a->n_group, 1);
    assert_true(a->eps == 1.5625e-07f);
    assert_int_equal(a->rope_half, 32);
    assert_true(fabs(a->rope_freq[16] - 0.01) < 1e-17); /* theta 10000 */
    assert_int_equal(c.attn_bias, SAID_NOTHING);
    assert_int_equal(c.tied, SAID_NOTHING);
    assert_int_equal(c.n_eos, 1);
}

static void published_folders_are_read(void **state)
{
    (void)state;
    static const char *const DIRS[] = {
        SOURCE_DIR "/models/atlas",
        TESTS_DIR "/fixtures/glm4-dense",
        TESTS_DIR "/fixtures/glm4-moe-air",
        TESTS_DIR "/fixtures/glm4-moe-qknorm",
    };
    for (size_t i = 0; i < sizeof DIRS / sizeof DIRS[0]; i++) {
        struct hf_config c;
        struct why why = { "" };
        if (hf_config_read(&c, DIRS[i], &why)) fail_msg("%s", why.text);
        c.arch.mlp_parts = 8;
        c.arch.exchange = FT_BF16;
        c.arch.kv = FT_F16;
        if (arch_check(&c.arch, &why)) fail_msg("%s: %s", DIRS[i], why.text);
        assert_true(c.n_eos > 0);
        assert_int_equal(c.sampling.sample, i == 0);
        if (i == 0) {
            assert_true(c.sampling.temperature == 0.6 && c.sampling.top_p == 0.95);
            assert_string_equal(c.eos_name, "<|endoftext|>");
        }
        if (i == 3) {
            assert_int_equal(c.arch.n_group, 4);
            assert_int_equal(c.arch.topk_group, 2);
            assert_true(c.arch.routed_scale == 2.5f);
        }
    }
}

static void new_spellings(void **state)
{
    (void)state;
    variant(MOE, "\"rope_theta\": 1000000, \"partial_rotary_factor\": 0.5",
            "\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 10000.0, "
            "\"partial_rotary_factor\": 1.0}");
    assert_int_equal(read_good().arch.rope_half, 8);
    /* what is inside wins */
    variant(MOE, "\"rope_scaling\": null",
            "\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 10000.0}");
    struct hf_config c = read_good();
    assert_true(fabs(c.arch.rope_freq[2] - 0.01) < 1e-17);
    assert_int_equal(c.arch.rope_half, 4);
    variant(MOE, "n_routed_experts", "num_local_experts");
    assert_int_equal(read_good().arch.n_experts, 8);
    variant(MOE, "num_nextn_predict_layers\": 1", "num_mtp_layers\": 0");
    assert_int_equal(read_good().predict, SAID_NO);
    variant(MOE, ", \"num_nextn_predict_layers\": 1", "");
    assert_int_equal(read_good().predict, SAID_NOTHING);
    variant(MOE, "[7, 3, 9]", "7");
    assert_int_equal(read_good().n_eos, 1);
    variant(MOE, "[7, 3, 9]", "null");
    assert_int_equal(read_good().n_eos, 0);
    variant(MOE, "\"n_group\": 1, \"topk_group\": 1, ", "");
    assert_int_equal(read_good().arch.n_group, 1);
    variant(MOE, "\"architectures\": [\"Glm4MoeForCausalLM\"], ", "");
    assert_int_equal(read_good().arch.family, ARCH_GLM4_MOE);
    variant(MOE, "\"model_type\": \"glm4_moe\",", "");
    assert_int_equal(read_good().arch.family, ARCH_GLM4_MOE);
    variant(MOE, "\"attention_bias\": true, \"use_qk_norm\": false,", "");
    assert_int_equal(read_good().attn_bias, SAID_NOTHING);
    assert_int_equal(read_good().qk_norm, SAID_NOTHING);
}

static void every_needed_key_is_named(void **state)
{
    (void)state;
    static const char *const KEYS[] = {
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "max_position_embeddings",
        "rms_norm_eps",
        "rope_theta",
        "n_routed_experts",
        "num_experts_per_tok",
        "n_shared_experts",
        "moe_intermediate_size",
        "first_k_dense_replace",
        "norm_topk_prob",
        "routed_scaling_factor",
    };
    char other[64];

    for (size_t i = 0; i < sizeof KEYS / sizeof KEYS[0]; i++) {
        snprintf(other, sizeof other, "_%s", KEYS[i]);
        variant(MOE, KEYS[i], other);
        refused(KEYS[i]);
        refused("is missing");
    }
    variant(DENSE, "\"rms_norm_eps\": 1.5625e-07", "\"rms_norm_eps\": null");
    refused("key rms_norm_eps is missing");
    variant(DENSE, "\"architectures\": [\"Glm4ForCausalLM\"], \"model_type\": \"glm4\",", "");
    refused("key architectures is missing");
}

static const struct {
    const char *from, *to, *says;
} BAD[] = {
    { "Glm4MoeForCausalLM", "LlamaForCausalLM", "architectures LlamaForCausalLM is not supported" },
    { "Glm4MoeForCausalLM", "Glm4ForCausalLM", "contradict each other" },
    { "\"glm4_moe\"", "\"llama\"", "model_type llama is not supported" },
    { "\"glm4_moe\"", "3", "model_type ? is not supported" },
    { "[\"Glm4MoeForCausalLM\"]", "[]", "architectures names none" },
    { "[\"Glm4MoeForCausalLM\"]", "[1]", "architectures ? is not supported" },
    { "\"silu\"", "\"gelu\"", "hidden_act is set to something that is not supported" },
    { "\"pad_token_id\": 3", "\"quantization_config\": {\"quant_method\": \"fp8\"}",
      "quantization_config" },
    { "\"pad_token_id\": 3", "\"use_sliding_window\": true", "use_sliding_window" },
    { "\"pad_token_id\": 3", "\"scoring_func\": \"softmax\"", "scoring_func" },
    { "\"vocab_size\": 1000", "\"vocab_size\": -1", "vocab_size is not a whole number" },
    { "\"vocab_size\": 1000", "\"vocab_size\": 1000.5", "vocab_size is not a whole number" },
    { "\"vocab_size\": 1000", "\"vocab_size\": \"1000\"", "vocab_size is not a whole number" },
    { "\"vocab_size\": 1000", "\"vocab_size\": 99999999999", "vocab_size is not a whole number" },
    { "\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": 0", "rms_norm_eps is not a number from" },
    { "\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": 1e999", "rms_norm_eps" },
    { "\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": \"x\"", "rms_norm_eps" },
    { "\"rope_theta\": 1000000", "\"rope_theta\": -5", "rope_theta is not a number" },
    { "\"rope_theta\": 1000000", "\"rope_theta\": 1", "rope_theta is not a number" },
    { "factor\": 0.5", "factor\": 0", "partial_rotary_factor is not a number" },
    { "factor\": 0.5", "factor\": 1.5", "partial_rotary_factor is not a number" },
    { "factor\": 0.5", "factor\": 0.2", "gives 3 rotary dimensions" },
    { "\"head_dim\": 16", "\"head_dim\": 0", "gives 0 rotary dimensions" },
    { "\"head_dim\": 16", "\"head_dim\": 16777216", "rotary dimensions" },
    { "factor\": 0.5", "factor\": null", "partial_rotary_factor is null" },
    { "\"rope_scaling\": null",
      "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}, \"rope_parameters\": {}",
      "rope_parameters and rope_scaling are both set" },
    { "\"rope_scaling\": null", "\"rope_parameters\": {\"full_attention\": {}}",
      "rope_parameters with an object full_attention in it is not supported" },
    { "\"rope_scaling\": null", "\"rope_scaling\": 3", "rope_scaling is not an object" },
    { "\"rope_scaling\": null", "\"rope_parameters\": []", "rope_parameters is not an object" },
    { "\"rope_scaling\": null", "\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2}",
      "rope_type dynamic is not supported" },
    { "\"rope_scaling\": null", "\"rope_scaling\": {\"type\": 7}", "rope_type ? is not supported" },
    { "\"rope_scaling\": null", "\"rope_scaling\": {\"type\": \"linear\"}",
      "key factor is missing" },
    { "\"rope_scaling\": null", "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 0.5}",
      "factor is not a number from 1" },
    { "\"rope_scaling\": null", "\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4}",
      "original_max_position_embeddings is missing" },
    { "\"rope_scaling\": null",
      "\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, "
      "\"original_max_position_embeddings\": 512, \"mscale\": 1}",
      "mscale" },
    { "\"rope_scaling\": null",
      "\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, "
      "\"original_max_position_embeddings\": 512, \"truncate\": false}",
      "truncate" },
    { "\"rope_scaling\": null",
      "\"rope_scaling\": {\"type\": \"llama3\", \"factor\": 4, "
      "\"original_max_position_embeddings\": 512}",
      "low_freq_factor is missing" },
    { "\"rope_scaling\": null",
      "\"rope_scaling\": {\"type\": \"llama3\", \"factor\": 4, \"low_freq_factor\": 4, "
      "\"high_freq_factor\": 4, \"original_max_position_embeddings\": 512}",
      "low_freq_factor is not below" },
    { "\"attention_bias\": true", "\"attention_bias\": 1", "attention_bias is neither true" },
    { "\"use_qk_norm\": false", "\"use_qk_norm\": \"no\"", "use_qk_norm is neither true" },
    { "\"norm_topk_prob\": true", "\"norm_topk_prob\": {}", "norm_topk_prob is neither true" },
    { "\"num_nextn_predict_layers\": 1", "\"num_nextn_predict_layers\": 2", "at most 1" },
    { "[7, 3, 9]", "[7, 1000]", "end token 1000 is not in the vocabulary" },
    { "[7, 3, 9]", "[7, -1]", "eos_token_id is not an id" },
    { "[7, 3, 9]", "\"</s>\"", "eos_token_id is not an id" },
    { "[7, 3, 9]", "[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]", "more than 16 end tokens" },
    { "\"pad_token_id\": 3}", "\"pad_token_id\": 3", "" },
    { "\"pad_token_id\": 3}", "\"vocab_size\": 3}", "" },
};

static void bad_configurations(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        variant(MOE, BAD[i].from, BAD[i].to);
        refused(BAD[i].says);
        refused("config.json");
    }
    put("config.json", "[]");
    refused("is not an object");
    put("config.json", "");
    refused("config.json");
    put("config.json", NULL);
    refused("No such file");
}

static void generation_and_tokenizer(void **state)
{
    (void)state;
    put("config.json", MOE);
    put("generation_config.json",
        "{\"do_sample\": true, \"temperature\": 0.7, \"top_p\": 0.9, \"top_k\": 20, "
        "\"min_p\": 0.05, \"eos_token_id\": [3, 11]}");
    put("tokenizer_config.json", "{\"eos_token\": {\"content\": \"<|im_end|>\"}}");
    struct hf_config c = read_good();
    assert_int_equal(c.n_eos, 4); /* the union */
    assert_int_equal(c.eos[3], 11);
    assert_true(c.sampling.sample && c.sampling.temperature == 0.7 && c.sampling.top_p == 0.9);
    assert_int_equal(c.sampling.top_k, 20);
    assert_true(c.sampling.min_p == 0.05);
    assert_string_equal(c.eos_name, "<|im_end|>");
    assert_int_equal(hf_config_add_eos(&c, 5, "x", NULL), ERR_OK);
    assert_int_equal(hf_config_add_eos(&c, 5, "x", NULL), ERR_OK);
    assert_int_equal(c.n_eos, 5);
    assert_int_equal(c.eos[1], 5);
    assert_int_equal(hf_config_add_eos(&c, 1000, "x", NULL), ERR_RANGE);

    put("generation_config.json", "{\"do_sample\": true, \"temperature\": 0}");
    assert_false(read_good().sampling.sample);
    put("generation_config.json", "{\"temperature\": -1}");
    refused("generation_config.json: temperature is not a number");
    put("generation_config.json", "{\"top_p\": 1.1}");
    refused("top_p is not a number");
    put("generation_config.json", "{\"do_sample\": \"yes\"}");
    refused("do_sample is neither");
    put("generation_config.json", "{\"eos_token_id\": 5000}");
    refused("generation_config.json: end token 5000");
    put("generation_config.json", NULL);
    put("tokenizer_config.json", "{\"eos_token\": 5}");
    refused("tokenizer_config.json: eos_token is not the text");
    put("tokenizer_config.json", "{\"eos_token\": null}");
    assert_string_equal(read_good().eos_name, "");
    put("tokenizer_config.json", "{");
    refused("tokenizer_config.json");
    put("tokenizer_config.json", NULL);
}

static void expect_template(enum err expected, const char *text)
{
    uint8_t *p;
    size_t n;
    struct why why = { "" };
    enum err e = hf_chat_template(dir, &p, &n, &why);

    assert_int_equal(e, expected);
    if (e) {
        assert_true(why.text[0]);
        return;
    }
    assert_int_equal(n, strlen(text));
    assert_memory_equal(p, text, n);
    free(p);
}

static void chat_templates(void **state)
{
    (void)state;
    expect_template(ERR_NOTFOUND, NULL);
    put("tokenizer_config.json", "{\"eos_token\": \"x\"}");
    expect_template(ERR_NOTFOUND, NULL);
    put("tokenizer_config.json", "{\"chat_template\": \"{{ a }}\\n\"}");
    expect_template(ERR_OK, "{{ a }}\n");
    put("tokenizer_config.json",
        "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"t\"}, "
        "{\"name\": \"default\", \"template\": \"d\"}]}");
    expect_template(ERR_OK, "d");
    put("tokenizer_config.json", "{\"chat_template\": [{\"name\": \"tool_use\"}]}");
    expect_template(ERR_MALFORMED, NULL);
    put("tokenizer_config.json", "{\"chat_template\": 5}");
    expect_template(ERR_MALFORMED, NULL);
    put("chat_template.jinja", "{# file #}");
    expect_template(ERR_OK, "{# file #}");
    put("chat_template.jinja", NULL);
    put("tokenizer_config.json", NULL);
}

/* --- rope --- */

static void logarithm_and_power(void **state)
{
    (void)state;
    /* from 60-digit arithmetic, rounded once */
    assert_true(exact_log(2) == 0x1.62e42fefa39efp-1);
    assert_true(exact_log(10) == 0x1.26bb1bbb55516p+1);
    assert_true(exact_log(1) == 0);
    assert_true(exact_log(1e6) == 0x1.ba18a998fffap+3);
    assert_true(exact_log(0.5) == -0x1.62e42fefa39efp-1);
    assert_true(exact_pow(10000, -2, 4) == 0.01);
    assert_true(exact_pow(1e6, -2, 6) == 0.01);
    assert_true(exact_pow(2, 10, 1) == 1024);
    assert_true(exact_pow(7, 0, 64) == 1);
    for (double x = 1e-6; x < 1e9; x *= 3.7) {
        assert_true(fabs(exact_log(x) - log(x)) <= 4e-16 * fabs(log(x)) + 1e-300);
        double p = pow(x, -0.375);
        assert_true(fabs(exact_pow(x, -3, 8) - p) <= 4e-16 * p);
    }
}

static void scaled_frequencies(void **state)
{
    (void)state;
    struct arch a = { 0 };

    rope_fill(&a, &(struct rope){ .type = ROPE_LINEAR, .theta = 10000, .dims = 8, .factor = 4 });
    assert_true(a.rope_freq[0] == 0.25 && a.rope_scale == 1);

    /* reference values: transformers 5.23, _compute_llama3_parameters and _compute_yarn_parameters
     * (float32), for head_dim 64 */
    static const double LLAMA3[32] = { 1,
                                       0.663601279,
                                       0.440366626,
                                       0.292227834,
                                       0.193922758,
                                       0.128687382,
                                       0.0853971019,
                                       0.0566696189,
                                       0.0376060307,
                                       0.0249554086,
                                       0.0165604409,
                                       0.0109895291,
                                       0.00729266508,
                                       0.00483942125,
                                       0.00321144611,
                                       0.00137189368,
                                       0.000524846022,
                                       0.000178507791,
                                       7.78465546e-05,
                                       5.16590699e-05,
                                       3.42810235e-05,
                                       2.2748929e-05,
                                       1.50962178e-05,
                                       1.00178686e-05,
                                       6.64786967e-06,
                                       4.41153452e-06,
                                       2.92749974e-06,
                                       1.94269251e-06,
                                       1.28917316e-06,
                                       8.55496921e-07,
                                       5.6770881e-07,
                                       3.7673226e-07 };
    static const double YARN[32] = { 1,
                                     0.749894202,
                                     0.562341332,
                                     0.421696514,
                                     0.316227764,
                                     0.237137362,
                                     0.177827939,
                                     0.133352146,
                                     0.100000001,
                                     0.0749894157,
                                     0.0562341288,
                                     0.0421696492,
                                     0.0316227786,
                                     0.0237137359,
                                     0.0177827943,
                                     0.0133352149,
                                     0.00999999978,
                                     0.00749894232,
                                     0.00529898563,
                                     0.00373039208,
                                     0.00261496054,
                                     0.0018241338,
                                     0.00126531417,
                                     0.000871917931,
                                     0.000596153899,
                                     0.000403789163,
                                     0.000270356366,
                                     0.000178410046,
                                     0.000115544768,
                                     7.29653475e-05,
                                     4.44569851e-05,
                                     3.33380376e-05 };
    rope_fill(&a, &(struct rope){ .type = ROPE_LLAMA3,
                                  .theta = 500000,
                                  .dims = 64,
                                  .factor = 8,
                                  .original = 8192,
                                  .low = 1,
                                  .high = 4 });
    assert_int_equal(a.rope_half, 32);
    for (int i = 0; i < 32; i++) assert_true(fabs(a.rope_freq[i] / LLAMA3[i] - 1) < 1e-6);
    rope_fill(&a, &(struct rope){ .type = ROPE_YARN,
                                  .theta = 10000,
                                  .dims = 64,
                                  .factor = 4,
                                  .original = 32768,
                                  .beta_fast = 32,
                                  .beta_slow = 1 });
    for (int i = 0; i < 32; i++) assert_true(fabs(a.rope_freq[i] / YARN[i] - 1) < 1e-6);
    assert_true(fabs(a.rope_scale - 1.1386294361119891) < 1e-15);

    variant(MOE, "\"rope_scaling\": null",
            "\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, \"attention_factor\": 1.25, "
            "\"original_max_position_embeddings\": 512}");
    assert_true(read_good().arch.rope_scale == 1.25);
    variant(MOE, "\"rope_scaling\": null",
            "\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1, "
            "\"high_freq_factor\": 4, \"original_max_position_embeddings\": 8192}");
    assert_true(read_good().arch.rope_freq[0] == 1);
}

static int setup(void **state)
{
    (void)state;
    return mkdir(dir, 0700);
}

static int teardown(void **state)
{
    (void)state;
    put("config.json", NULL);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_numbers_of_a_moe),
        cmocka_unit_test(the_numbers_of_a_dense_model),
        cmocka_unit_test(published_folders_are_read),
        cmocka_unit_test(new_spellings),
        cmocka_unit_test(every_needed_key_is_named),
        cmocka_unit_test(bad_configurations),
        cmocka_unit_test(generation_and_tokenizer),
        cmocka_unit_test(chat_templates),
        cmocka_unit_test(logarithm_and_power),
        cmocka_unit_test(scaled_frequencies),
    };
    snprintf(dir, sizeof dir, "/tmp/test_hf_config-%ld", (long)getpid());
    return cmocka_run_group_tests(tests, setup, teardown);
}
