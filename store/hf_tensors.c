#include "store/hf_tensors.h"

#include <stdio.h>

enum { NAME_MAX_ = 160 };

/* How the whole tensor relates to one of its cuts. */
enum cut {
    WHOLE,
    HEAD_ROWS, /* n_kv cuts, one after the other by rows */
    HEAD_COLS, /* n_kv cuts, side by side */
    PART_ROWS, /* cut into dense parts by rows */
    PART_COLS,
};

static const struct {
    const char *name; /* of a layer: after "model.layers.N."; %u is the expert */
    enum cut cut;
} SOURCES[T_ROLES] = {
    /* clang-format off */
    [T_ATTN_NORM]      = { "input_layernorm.weight", WHOLE },
    [T_MLP_NORM]       = { "post_attention_layernorm.weight", WHOLE },
    [T_POST_ATTN_NORM] = { "post_self_attn_layernorm.weight", WHOLE },
    [T_POST_MLP_NORM]  = { "post_mlp_layernorm.weight", WHOLE },
    [T_Q_NORM]         = { "self_attn.q_norm.weight", WHOLE },
    [T_K_NORM]         = { "self_attn.k_norm.weight", WHOLE },
    [T_ROUTER]         = { "mlp.gate.weight", WHOLE },
    [T_ROUTER_BIAS]    = { "mlp.gate.e_score_correction_bias", WHOLE },
    [T_SHARED_GATE]    = { "mlp.shared_experts.gate_proj.weight", WHOLE },
    [T_SHARED_UP]      = { "mlp.shared_experts.up_proj.weight", WHOLE },
    [T_SHARED_DOWN]    = { "mlp.shared_experts.down_proj.weight", WHOLE },
    [T_EH_PROJ]        = { "eh_proj.weight", WHOLE },
    [T_E_NORM]         = { "enorm.weight", WHOLE },
    [T_H_NORM]         = { "hnorm.weight", WHOLE },
    [T_PREDICT_NORM]   = { "shared_head.norm.weight", WHOLE },
    [T_Q]              = { "self_attn.q_proj.weight", HEAD_ROWS },
    [T_K]              = { "self_attn.k_proj.weight", HEAD_ROWS },
    [T_V]              = { "self_attn.v_proj.weight", HEAD_ROWS },
    [T_O]              = { "self_attn.o_proj.weight", HEAD_COLS },
    [T_Q_BIAS]         = { "self_attn.q_proj.bias", HEAD_ROWS },
    [T_K_BIAS]         = { "self_attn.k_proj.bias", HEAD_ROWS },
    [T_V_BIAS]         = { "self_attn.v_proj.bias", HEAD_ROWS },
    [T_EXPERT_GATE]    = { "mlp.experts.%u.gate_proj.weight", WHOLE },
    [T_EXPERT_UP]      = { "mlp.experts.%u.up_proj.weight", WHOLE },
    [T_EXPERT_DOWN]    = { "mlp.experts.%u.down_proj.weight", WHOLE },
    [T_DENSE_GATE]     = { "mlp.gate_proj.weight", PART_ROWS },
    [T_DENSE_UP]       = { "mlp.up_proj.weight", PART_ROWS },
    [T_DENSE_DOWN]     = { "mlp.down_proj.weight", PART_COLS },
    [T_EMBED]          = { "model.embed_tokens.weight", WHOLE },
    [T_FINAL_NORM]     = { "model.norm.weight", WHOLE },
    [T_HEAD]           = { "lm_head.weight", WHOLE },
    /* clang-format on */
};

/* Each name is a literal of the table above, with at most the one %u. */
static void source_name(char out[NAME_MAX_], uint32_t layer, enum tensor_role role, uint32_t item)
{
    const char *name = SOURCES[role].name, *expert = strstr(name, "%u");
    int n = 0;

    if (layer != ARCH_ENDS) n = snprintf(out, NAME_MAX_, "model.layers.%u.", layer);
    if (expert)
        snprintf(out + n, NAME_MAX_ - (size_t)n, "%.*s%u%s", (int)(expert - name), name, item,
                 expert + 2);
    else
        snprintf(out + n, NAME_MAX_ - (size_t)n, "%s", name);
}

static struct source_tensor *find_in_layer(struct source *s, uint32_t layer, const char *name)
{
    char full[NAME_MAX_];
    snprintf(full, sizeof full, "model.layers.%u.%s", layer, name);
    return source_find(s, full);
}

/* --- shapes --- */

static void shape_text(char out[96], uint32_t n, const uint64_t *dim)
{
    size_t at = (size_t)snprintf(out, 96, "[");

    for (uint32_t i = 0; i < n && at < 70; i++)
        at += (size_t)snprintf(out + at, 96 - at, "%s%llu", i ? ", " : "",
                               (unsigned long long)dim[i]);
    snprintf(out + at, 96 - at, "]");
}

/* Type and shape as they must be; then the tensor counts as used. */
static enum err check_source(struct source_tensor *st, uint32_t n, const uint64_t *dim,
                             struct why *why)
{
    const struct st_tensor *t = st->t;
    char is[96], want[96];

    if (t->dtype != ST_F32 && t->dtype != ST_F16 && t->dtype != ST_BF16)
        return fail(why, ERR_UNSUPPORTED,
                    "tensor %s has type %s, which is not supported (BF16, F16 and F32 are)",
                    t->name, t->dtype_name);
    bool same = t->n_dims == n;
    for (uint32_t i = 0; i < n && same; i++) same = t->dim[i] == dim[i];
    if (!same) {
        shape_text(is, t->n_dims, t->dim);
        shape_text(want, n, dim);
        return fail(why, ERR_MALFORMED, "tensor %s has shape %s, expected %s", t->name, is, want);
    }
    st->used = true;
    return ERR_OK;
}

/* --- fused spellings --- */

static bool is_gate_or_up(enum tensor_role r)
{
    return r == T_EXPERT_GATE || r == T_EXPERT_UP || r == T_DENSE_GATE || r == T_DENSE_UP;
}

static enum err fused_experts(struct source_tensor *st, const struct arch *a,
                              const struct tensor_spec *spec, struct region *out, struct why *why)
{
    bool both = is_gate_or_up(spec->role);
    uint64_t rows = both ? (uint64_t)2 * a->moe_inter : a->hidden;
    uint64_t cols = both ? a->hidden : a->moe_inter;
    uint64_t dim[3] = { a->n_experts, rows, cols };
    enum err e = check_source(st, 3, dim, why);

    if (e) return e;
    uint64_t row = spec->item * rows + (spec->role == T_EXPERT_UP ? a->moe_inter : 0);
    *out = (struct region){ st->t, st->file, spec->rows, spec->cols, row * cols, cols };
    return ERR_OK;
}

static enum err fused_dense(struct source_tensor *st, const struct arch *a,
                            const struct tensor_spec *spec, struct region *out, struct why *why)
{
    uint64_t dim[2] = { (uint64_t)2 * a->inter, a->hidden };
    uint32_t lo, hi;
    enum err e = check_source(st, 2, dim, why);

    if (e) return e;
    arch_part(a, spec->item, &lo, &hi);
    uint64_t row = (spec->role == T_DENSE_UP ? a->inter : 0) + (uint64_t)lo;
    *out = (struct region){ st->t, st->file, spec->rows, spec->cols, row * a->hidden, a->hidden };
    return ERR_OK;
}

/* The fused tensor that holds this one, or NULL. */
static struct source_tensor *find_fused(struct source *s, uint32_t layer,
                                        const struct tensor_spec *spec)
{
    if (spec->shard == SHARD_EXPERT)
        return find_in_layer(s, layer,
                             is_gate_or_up(spec->role) ? "mlp.experts.gate_up_proj"
                                                       : "mlp.experts.down_proj");
    if (is_gate_or_up(spec->role)) return find_in_layer(s, layer, "mlp.gate_up_proj.weight");
    return NULL;
}

/* --- plain ones --- */

static bool is_vector(enum tensor_role r)
{
    switch (r) {
    case T_ATTN_NORM:
    case T_MLP_NORM:
    case T_POST_ATTN_NORM:
    case T_POST_MLP_NORM:
    case T_Q_NORM:
    case T_K_NORM:
    case T_ROUTER_BIAS:
    case T_E_NORM:
    case T_H_NORM:
    case T_PREDICT_NORM:
    case T_Q_BIAS:
    case T_K_BIAS:
    case T_V_BIAS:
    case T_FINAL_NORM: return true;
    default: return false;
    }
}

static enum err plain(struct source_tensor *st, const struct arch *a,
                      const struct tensor_spec *spec, struct region *out, struct why *why)
{
    uint64_t rows = spec->rows, cols = spec->cols, row = 0, col = 0;
    uint32_t lo = 0, hi = 0;

    if (spec->shard == SHARD_DENSE) arch_part(a, spec->item, &lo, &hi);
    switch (SOURCES[spec->role].cut) {
    case WHOLE: break;
    case HEAD_ROWS: row = spec->item * rows, rows *= a->n_kv; break;
    case HEAD_COLS: col = spec->item * cols, cols *= a->n_kv; break;
    case PART_ROWS: row = lo, rows = a->inter; break;
    case PART_COLS: col = lo, cols = a->inter; break;
    }
    /* A vector is a column here, a list there. */
    enum err e = check_source(st, is_vector(spec->role) ? 1 : 2, (uint64_t[]){ rows, cols }, why);
    if (e) return e;
    *out = (struct region){ st->t, st->file, spec->rows, spec->cols, row * cols + col, cols };
    return ERR_OK;
}

enum err hf_region(struct source *s, const struct arch *a, uint32_t layer,
                   const struct tensor_spec *spec, struct region *out, struct why *why)
{
    char name[NAME_MAX_];
    source_name(name, layer, spec->role, spec->item);

    struct source_tensor *st = source_find(s, name);
    struct source_tensor *fused = st ? NULL : find_fused(s, layer, spec);
    if (st) return plain(st, a, spec, out, why);
    if (fused && spec->shard == SHARD_EXPERT) return fused_experts(fused, a, spec, out, why);
    if (fused) return fused_dense(fused, a, spec, out, why);
    if (is_gate_or_up(spec->role) && a->family == ARCH_GLM4)
        snprintf(name, sizeof name, "model.layers.%u.mlp.gate_up_proj.weight", layer);
    return fail(why, ERR_MALFORMED, "tensor %s is missing", name);
}

/* --- what only the tensors say --- */

/* said and there must agree; said nothing: there it is. */
static enum err settle(enum said said, const struct source_tensor *there, const char *key,
                       const char *name, bool *out, struct why *why)
{
    *out = there != NULL;
    if (said == SAID_NOTHING || (said == SAID_YES) == *out) return ERR_OK;
    return fail(why, ERR_MALFORMED, "config.json says %s %s, but tensor %s is %s", key,
                said == SAID_YES ? "true" : "false", there ? there->t->name : name,
                there ? "there" : "missing");
}

/* A head of its own in a model that says it has none is a copy of the embedding, or a mistake. */
static enum err settle_tied(struct hf_config *c, struct source *s, struct why *why)
{
    struct source_tensor *head = source_find(s, "lm_head.weight");
    const struct source_tensor *embed = source_find(s, "model.embed_tokens.weight");

    if (c->tied == SAID_YES && head && embed) {
        if (head->t->data.n != embed->t->data.n ||
            memcmp(head->t->data.p, embed->t->data.p, embed->t->data.n) != 0)
            return fail(why, ERR_MALFORMED,
                        "config.json says tie_word_embeddings true, but lm_head.weight is not "
                        "model.embed_tokens.weight");
        head->used = true;
        c->arch.tied = true;
        return ERR_OK;
    }
    if (c->tied == SAID_NO && !head)
        return fail(why, ERR_MALFORMED,
                    "config.json says tie_word_embeddings false, but tensor lm_head.weight is "
                    "missing");
    c->arch.tied = head == NULL;
    return ERR_OK;
}

/* The prediction layer is layer n_layers; a configuration may promise it and the files lack it. */
static enum err settle_predict(struct hf_config *c, struct source *s, struct why *why)
{
    char prefix[40];
    snprintf(prefix, sizeof prefix, "model.layers.%u.", c->arch.n_layers);
    const struct source_tensor *t = source_find_prefix(s, prefix);

    c->arch.n_predict = t != NULL;
    if (t && c->predict == SAID_NO)
        return fail(why, ERR_MALFORMED,
                    "config.json says num_nextn_predict_layers 0 and num_hidden_layers %u, but "
                    "tensor %s is there",
                    c->arch.n_layers, t->t->name);
    return ERR_OK;
}

enum err hf_settle(struct hf_config *c, struct source *s, struct why *why)
{
    static const char BIAS[] = "self_attn.q_proj.bias", NORM[] = "self_attn.q_norm.weight";

    enum err e = settle(c->attn_bias, find_in_layer(s, 0, BIAS), "attention_bias",
                        "model.layers.0.self_attn.q_proj.bias", &c->arch.attn_bias, why);
    if (!e)
        e = settle(c->qk_norm, find_in_layer(s, 0, NORM), "use_qk_norm",
                   "model.layers.0.self_attn.q_norm.weight", &c->arch.qk_norm, why);
    if (!e) e = settle_tied(c, s, why);
    if (!e) e = settle_predict(c, s, why);
    return e;
}

/* --- left over --- */

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* Computed, or a copy of what we have: rotary tables of old files; the prediction layer's own
 * embedding and head, which every implementation takes from the main model. */
static bool explained(const struct arch *a, const char *name)
{
    char prefix[40];

    if (ends_with(name, "rotary_emb.inv_freq")) return true;
    int n = snprintf(prefix, sizeof prefix, "model.layers.%u.", a->n_layers);
    if (!a->n_predict || strncmp(name, prefix, (size_t)n) != 0) return false;
    return strcmp(name + n, "embed_tokens.weight") == 0 ||
           strcmp(name + n, "shared_head.head.weight") == 0;
}

static bool looks_quantized(const struct st_tensor *t)
{
    static const char *const WORDS[] = { "scale", "qweight",    "qzeros", "packed",
                                         "g_idx", "zero_point", "absmax" };
    for (size_t i = 0; i < sizeof WORDS / sizeof WORDS[0]; i++)
        if (strstr(t->name, WORDS[i])) return true;
    return t->dtype == ST_OTHER || t->dtype == ST_U8;
}

enum err hf_check_unused(struct source *s, const struct arch *a, struct why *why)
{
    for (uint32_t i = 0; i < source_n(s); i++) {
        const struct source_tensor *t = source_nth(s, i);
        /* Without shared experts the reference writes theirs with no rows: nothing is lost. */
        if (t->used || t->t->data.n == 0 || explained(a, t->t->name)) continue;
        if (looks_quantized(t->t))
            return fail(why, ERR_UNSUPPORTED,
                        "tensor %s of %s belongs to a checkpoint that is quantized already; "
                        "convert from one in BF16, F16 or F32",
                        t->t->name, source_file(s, t->file));
        return fail(why, ERR_UNSUPPORTED, "unknown tensor %s in %s", t->t->name,
                    source_file(s, t->file));
    }
    return ERR_OK;
}
