/* arch.h - every number that a model's arithmetic needs, and the tensors that it is made of.
 *
 * A leaf that model/ (which computes), store/ (which reads and writes) and stage/ share, so that the
 * list of a layer's tensors exists once.  A model is cut into shards that may lie on different
 * nodes (design: Cuts):
 *
 *   trunk       norms, router, shared expert of a layer; of the prediction layer also eh_proj ...
 *   head group  one KV head with its query heads: rows of q, k, v and columns of o
 *   expert      gate, up, down of one routed expert
 *   dense part  a range of the inner dimension of a dense MLP, whole blocks of 32
 *   ends        embedding, final norm, output head
 *
 * arch_specs lists the tensors of a layer (or of the ends) in one fixed order: the order of the
 * layer's tile table in a store, and of struct layer's array in memory. */
#ifndef ARCH_ARCH_H
#define ARCH_ARCH_H

#include "base/err.h"
#include "kernels/kernels.h"
#include "kernels/tensor.h"

enum {
    ARITH_VERSION = 1,
    ARCH_LAYERS_MAX = 256,
    ARCH_ROPE_MAX = 256,     /* frequencies: rotary dimensions / 2 */
    ARCH_EXPERTS_MAX = 1024,
    ARCH_HEADS_MAX = 1024,
    ARCH_PARTS_MAX = 64,
    ARCH_HIDDEN_MAX = 65536,
    ARCH_VOCAB_MAX = 1 << 20,
    ARCH_CONTEXT_MAX = 1 << 20,
};

/* The numbers are in manifests. */
enum arch_family { ARCH_GLM4 = 1, ARCH_GLM4_MOE = 2 };

/* Which weights share a type.  Norms, router and biases are always f32. */
enum wrole { WR_ATTN, WR_DENSE, WR_SHARED, WR_EXPERTS, WR_EMBED, WR_HEAD, WR_COUNT };
const char *wrole_name(enum wrole r); /* "attn", "dense", "shared", "experts", "embed", "head" */

struct arch {
    enum arch_family family;
    uint32_t n_layers;  /* main layers */
    uint32_t n_predict; /* prediction (MTP) layers that follow them: 0 or 1 */
    uint32_t hidden, vocab;
    uint32_t n_heads, n_kv, head_dim; /* query heads, KV heads; n_heads % n_kv == 0 */
    uint32_t inter;                   /* inner dimension of a dense MLP */
    uint32_t mlp_parts;               /* ranges it is cut into; some may be empty */
    uint32_t n_dense;                 /* leading dense layers; all of them in a dense model */
    uint32_t n_experts, top_k, n_shared, moe_inter; /* 0 in a dense model */
    uint32_t n_group, topk_group;     /* 1, 1: no group routing */
    uint32_t context;                 /* max_position_embeddings */
    bool attn_bias, qk_norm, norm_topk, tied;
    bool sandwich;         /* Glm4: norms on the outputs of attention and MLP too */
    bool rope_interleaved; /* pairs (2i, 2i+1); else halves */
    float eps, routed_scale;
    uint32_t rope_half; /* frequencies; 2 * rope_half <= head_dim */
    double rope_freq[ARCH_ROPE_MAX];
    double rope_scale; /* factor on cos and sin; 1 unless yarn */
    enum wtype type[WR_COUNT];
    enum ftype exchange, kv;
};

/* Refuse numbers that contradict each other or exceed the limits above.  Call after filling one
 * from a file or a peer; everything else here assumes it passed. */
MUST_CHECK enum err arch_check(const struct arch *a, struct why *why);

enum shard_kind { SHARD_TRUNK, SHARD_HEADS, SHARD_EXPERT, SHARD_DENSE, SHARD_ENDS };

enum tensor_role {
    /* trunk */
    T_ATTN_NORM, T_MLP_NORM, T_POST_ATTN_NORM, T_POST_MLP_NORM, T_Q_NORM, T_K_NORM,
    T_ROUTER, T_ROUTER_BIAS, T_SHARED_GATE, T_SHARED_UP, T_SHARED_DOWN,
    T_EH_PROJ, T_E_NORM, T_H_NORM, T_PREDICT_NORM,
    /* head group */
    T_Q, T_K, T_V, T_O, T_Q_BIAS, T_K_BIAS, T_V_BIAS,
    /* expert; dense part */
    T_EXPERT_GATE, T_EXPERT_UP, T_EXPERT_DOWN, T_DENSE_GATE, T_DENSE_UP, T_DENSE_DOWN,
    /* ends */
    T_EMBED, T_FINAL_NORM, T_HEAD,
    T_ROLES,
};

/* One tensor as a store holds it: already cut.  E.g. T_Q of head group g has
 * (n_heads / n_kv) * head_dim rows and `hidden` columns; T_O of g has `hidden` rows and
 * (n_heads / n_kv) * head_dim columns; T_DENSE_DOWN of part i has `hidden` rows and the part's
 * width as columns. */
struct tensor_spec {
    enum tensor_role role;
    enum shard_kind shard;
    uint32_t item; /* head group, expert or dense part; else 0 */
    uint32_t rows, cols;
    enum wtype type;
};

const char *shard_name(enum shard_kind k); /* "trunk", "head group", "expert", ... */

/* "q of head group 3", "router": for sentences. */
enum { TENSOR_TEXT = 48 };
void tensor_spec_text(char out[TENSOR_TEXT], const struct tensor_spec *s);

enum { ARCH_ENDS = 0xffffffff }; /* as a layer number: the ends */

/* Layers including the prediction layers. */
static inline uint32_t arch_all_layers(const struct arch *a)
{
    return a->n_layers + a->n_predict;
}
static inline bool arch_is_moe(const struct arch *a, uint32_t layer)
{
    return layer >= a->n_dense && a->n_experts > 0;
}

/* How many tensors layer (or ARCH_ENDS) has, and the i-th, in the fixed order:
 *   trunk roles in enum order (those present), head groups 0.. (Q K V O, biases), experts 0..
 *   or dense parts 0.. (gate, up, down; empty parts are left out).
 * The ends: embedding, final norm, head (absent when tied: the embedding is the head). */
uint32_t arch_n_specs(const struct arch *a, uint32_t layer);
struct tensor_spec arch_spec(const struct arch *a, uint32_t layer, uint32_t i);

/* Index of a tensor in that order, or -1 when this layer has none. */
int32_t arch_find(const struct arch *a, uint32_t layer, enum tensor_role role, uint32_t item);

/* Range [lo, hi) of the inner dimension that dense part i covers; whole blocks of 32 (the last may
 * be cut short by inter); lo == hi when the part is empty. */
void arch_part(const struct arch *a, uint32_t part, uint32_t *lo, uint32_t *hi);

/* Bytes of a tensor's tiles. */
uint64_t arch_spec_bytes(const struct tensor_spec *s);

/* Bytes of all tiles of a layer (or ARCH_ENDS); bytes of weights that one token reads there
 * (top_k experts; the ends: the head only). */
uint64_t arch_bytes(const struct arch *a, uint32_t layer);
uint64_t arch_token_bytes(const struct arch *a, uint32_t layer);

/* Bytes of one hidden vector on the wire, and of one token's K and V in one layer. */
static inline size_t arch_row_bytes(const struct arch *a)
{
    return (size_t)a->hidden * ftype_bytes(a->exchange);
}
static inline size_t arch_kv_bytes(const struct arch *a)
{
    return (size_t)2 * a->n_kv * a->head_dim * ftype_bytes(a->kv);
}

/* A layer's weights in memory: tensors in arch_spec order; a tensor whose tile pointer is NULL is
 * not held here. */
struct layer {
    uint32_t index;   /* or ARCH_ENDS */
    struct tensor *t; /* [arch_n_specs] owned by whoever bound it (weights/weights.c) */
};

#endif
