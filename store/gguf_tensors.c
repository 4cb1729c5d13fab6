/* Which of our tensors make which of theirs. */
#include "store/gguf.h"

#include <stdio.h>
#include <stdlib.h>

/* The name within a block (or of the ends) in each family; NULL: llama.cpp has no such tensor
 * there.  ".weight" follows unless the name says otherwise. */
static const struct {
    const char *glm4, *glm4moe;
    enum gguf_join join;
} NAMES[T_ROLES] = {
    /* clang-format off */
    [T_ATTN_NORM]      = { "attn_norm",           "attn_norm",              GGUF_BELOW },
    [T_MLP_NORM]       = { "ffn_norm",            "post_attention_norm",    GGUF_BELOW },
    [T_POST_ATTN_NORM] = { "post_attention_norm", NULL,                     GGUF_BELOW },
    [T_POST_MLP_NORM]  = { "post_ffw_norm",       NULL,                     GGUF_BELOW },
    [T_Q_NORM]         = { NULL,                  "attn_q_norm",            GGUF_BELOW },
    [T_K_NORM]         = { NULL,                  "attn_k_norm",            GGUF_BELOW },
    [T_ROUTER]         = { NULL,                  "ffn_gate_inp",           GGUF_BELOW },
    [T_ROUTER_BIAS]    = { NULL,                  "exp_probs_b.bias",       GGUF_BELOW },
    [T_SHARED_GATE]    = { NULL,                  "ffn_gate_shexp",         GGUF_BELOW },
    [T_SHARED_UP]      = { NULL,                  "ffn_up_shexp",           GGUF_BELOW },
    [T_SHARED_DOWN]    = { NULL,                  "ffn_down_shexp",         GGUF_BELOW },
    [T_EH_PROJ]        = { NULL,                  "nextn.eh_proj",          GGUF_BELOW },
    [T_E_NORM]         = { NULL,                  "nextn.enorm",            GGUF_BELOW },
    [T_H_NORM]         = { NULL,                  "nextn.hnorm",            GGUF_BELOW },
    [T_PREDICT_NORM]   = { NULL,                  "nextn.shared_head_norm", GGUF_BELOW },
    [T_Q]              = { "attn_q",              "attn_q",                 GGUF_BELOW },
    [T_K]              = { "attn_k",              "attn_k",                 GGUF_BELOW },
    [T_V]              = { "attn_v",              "attn_v",                 GGUF_BELOW },
    [T_O]              = { "attn_output",         "attn_output",            GGUF_BESIDE },
    [T_Q_BIAS]         = { "attn_q.bias",         "attn_q.bias",            GGUF_BELOW },
    [T_K_BIAS]         = { "attn_k.bias",         "attn_k.bias",            GGUF_BELOW },
    [T_V_BIAS]         = { "attn_v.bias",         "attn_v.bias",            GGUF_BELOW },
    [T_EXPERT_GATE]    = { NULL,                  "ffn_gate_exps",          GGUF_BELOW },
    [T_EXPERT_UP]      = { NULL,                  "ffn_up_exps",            GGUF_BELOW },
    [T_EXPERT_DOWN]    = { NULL,                  "ffn_down_exps",          GGUF_BELOW },
    [T_DENSE_GATE]     = { "ffn_up",              "ffn_gate",               GGUF_BELOW },
    [T_DENSE_UP]       = { "",                    "ffn_up",                 GGUF_BELOW },
    [T_DENSE_DOWN]     = { "ffn_down",            "ffn_down",               GGUF_BESIDE },
    [T_EMBED]          = { "token_embd",          "token_embd",             GGUF_BELOW },
    [T_FINAL_NORM]     = { "output_norm",         "output_norm",            GGUF_BELOW },
    [T_HEAD]           = { "output",              "output",                 GGUF_BELOW },
    /* clang-format on */
};

/* "" above: part of the tensor before it; glm4 keeps gate and up in one. */
static bool is_fused(const struct arch *a, enum tensor_role role)
{
    return a->family == ARCH_GLM4 && role == T_DENSE_UP;
}

uint32_t gguf_type(enum wtype t)
{
    static const uint32_t NUMBERS[WT_COUNT] = {
        [WT_F32] = 0, [WT_F16] = 1, [WT_Q40] = 2, [WT_Q80] = 8, [WT_BF16] = 30,
    };
    return NUMBERS[t];
}

uint64_t gguf_row_bytes(enum wtype t, uint64_t n)
{
    switch (t) {
    case WT_F32: return n * 4;
    case WT_F16:
    case WT_BF16: return n * 2;
    case WT_Q40: return n / BLOCK * (2 + BLOCK / 2);
    case WT_Q80: return n / BLOCK * (2 + BLOCK);
    case WT_COUNT: break;
    }
    return 0;
}

uint64_t gguf_bytes(const struct gguf_tensor *t)
{
    uint64_t rows = 1;

    for (uint32_t i = 1; i < t->n_dims; i++) rows *= t->dim[i];
    return rows * gguf_row_bytes(t->type, t->dim[0]);
}

/* --- one tensor --- */

static enum err name_tensor(const struct arch *a, struct gguf_tensor *t, struct why *why)
{
    const char *name = a->family == ARCH_GLM4 ? NAMES[t->role[0]].glm4 : NAMES[t->role[0]].glm4moe;
    size_t n = name ? strlen(name) : 0;

    if (!name)
        return fail(why, ERR_UNSUPPORTED,
                    "llama.cpp's GLM of this family has no tensor like number %d of ours",
                    (int)t->role[0]);
    const char *end = n > 5 && strcmp(name + n - 5, ".bias") == 0 ? "" : ".weight";
    if (t->layer == ARCH_ENDS)
        snprintf(t->name, sizeof t->name, "%s%s", name, end);
    else
        snprintf(t->name, sizeof t->name, "blk.%u.%s%s", t->layer, name, end);
    return ERR_OK;
}

/* The shape of all items together: first is that of one, many counts the experts. */
static void join_shape(struct gguf_tensor *t, const struct tensor_spec *first, uint64_t rows,
                       uint64_t cols, uint32_t many)
{
    if (first->shard == SHARD_EXPERT) {
        t->n_dims = 3;
        t->dim[0] = first->cols, t->dim[1] = first->rows, t->dim[2] = many;
    } else if (first->cols == 1 && first->role != T_ROUTER) {
        t->n_dims = 1;
        t->dim[0] = rows;
    } else {
        t->n_dims = 2;
        t->dim[0] = t->join == GGUF_BESIDE ? cols : first->cols;
        t->dim[1] = t->join == GGUF_BESIDE ? first->rows : rows;
    }
}

/* The tensor that begins with spec i of a layer. */
static enum err make_tensor(const struct arch *a, uint32_t layer, const struct tensor_spec *first,
                            struct gguf_tensor *t, struct why *why)
{
    uint64_t rows = 0, cols = 0;
    uint32_t many = 0;

    *t = (struct gguf_tensor){ .type = first->type, .layer = layer, .n_roles = 1 };
    t->role[0] = first->role;
    t->join = NAMES[first->role].join;
    if (is_fused(a, T_DENSE_UP) && first->role == T_DENSE_GATE) t->role[t->n_roles++] = T_DENSE_UP;
    enum err e = name_tensor(a, t, why);
    if (e) return e;

    for (uint32_t i = 0, n = arch_n_specs(a, layer); i < n; i++) {
        struct tensor_spec s = arch_spec(a, layer, i);
        if (s.role != t->role[0] && (t->n_roles < 2 || s.role != t->role[1])) continue;
        if (wtype_quantized(s.type) && s.cols % BLOCK != 0)
            return fail(why, ERR_UNSUPPORTED,
                        "%s: rows of %u %s values are not whole blocks of %d, which GGUF needs",
                        t->name, s.cols, wtype_name(s.type), BLOCK);
        rows += s.rows, cols += s.cols, many++;
    }
    join_shape(t, first, rows, cols, many);
    return ERR_OK;
}

/* --- the list --- */

/* llama.cpp fixes by family what an arch may say freely. */
static enum err check_family(const struct arch *a, struct why *why)
{
    bool moe = a->family == ARCH_GLM4_MOE;

    if (a->rope_interleaved == moe || a->sandwich == moe || (a->n_experts > 0) != moe)
        return fail(why, ERR_UNSUPPORTED,
                    "llama.cpp has no GLM with this rotation, these norms or these experts");
    if (!moe && (a->qk_norm || a->n_predict))
        return fail(why, ERR_UNSUPPORTED, "llama.cpp's glm4 has no such norms or layers");
    return ERR_OK;
}

static enum err add_layer(const struct arch *a, uint32_t layer, struct gguf_tensor *out,
                          uint32_t *n, struct why *why)
{
    bool seen[T_ROLES] = { false };
    enum err e = ERR_OK;

    for (uint32_t i = 0, specs = arch_n_specs(a, layer); i < specs && !e; i++) {
        struct tensor_spec s = arch_spec(a, layer, i);
        if (seen[s.role] || is_fused(a, s.role)) continue;
        seen[s.role] = true;
        e = make_tensor(a, layer, &s, &out[*n], why);
        *n += !e;
    }
    return e;
}

enum err gguf_tensors(const struct arch *a, struct gguf_tensor **out, uint32_t *n, struct why *why)
{
    uint32_t layers = arch_all_layers(a);
    enum err e = check_family(a, why);
    if (e) return e;

    *n = 0;
    *out = calloc((size_t)(layers + 1) * T_ROLES, sizeof **out);
    if (!*out) return fail(why, ERR_NOMEM, "out of memory for the list of tensors");
    e = add_layer(a, ARCH_ENDS, *out, n, why);
    for (uint32_t l = 0; l < layers && !e; l++) e = add_layer(a, l, *out, n, why);
    if (e) {
        free(*out);
        *out = NULL;
    }
    return e;
}
