#include "arch/arch.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>

/* What a tensor of each role belongs to, and which weights' type it shares; F32 for the small ones
 * (norms, router, biases) that are never rounded. */
enum { F32 = WR_COUNT };

static const struct {
    enum shard_kind shard;
    int type; /* enum wrole or F32 */
    const char *name;
} roles[T_ROLES] = {
    /* clang-format off */
    [T_ATTN_NORM]      = { SHARD_TRUNK,  F32, "attention norm" },
    [T_MLP_NORM]       = { SHARD_TRUNK,  F32, "MLP norm" },
    [T_POST_ATTN_NORM] = { SHARD_TRUNK,  F32, "norm after attention" },
    [T_POST_MLP_NORM]  = { SHARD_TRUNK,  F32, "norm after MLP" },
    [T_Q_NORM]         = { SHARD_TRUNK,  F32, "q norm" },
    [T_K_NORM]         = { SHARD_TRUNK,  F32, "k norm" },
    [T_ROUTER]         = { SHARD_TRUNK,  F32, "router" },
    [T_ROUTER_BIAS]    = { SHARD_TRUNK,  F32, "router bias" },
    [T_SHARED_GATE]    = { SHARD_TRUNK,  WR_SHARED, "gate of the shared expert" },
    [T_SHARED_UP]      = { SHARD_TRUNK,  WR_SHARED, "up of the shared expert" },
    [T_SHARED_DOWN]    = { SHARD_TRUNK,  WR_SHARED, "down of the shared expert" },
    [T_EH_PROJ]        = { SHARD_TRUNK,  WR_ATTN, "eh_proj" },
    [T_E_NORM]         = { SHARD_TRUNK,  F32, "enorm" },
    [T_H_NORM]         = { SHARD_TRUNK,  F32, "hnorm" },
    [T_PREDICT_NORM]   = { SHARD_TRUNK,  F32, "prediction norm" },
    [T_Q]              = { SHARD_HEADS,  WR_ATTN, "q" },
    [T_K]              = { SHARD_HEADS,  WR_ATTN, "k" },
    [T_V]              = { SHARD_HEADS,  WR_ATTN, "v" },
    [T_O]              = { SHARD_HEADS,  WR_ATTN, "o" },
    [T_Q_BIAS]         = { SHARD_HEADS,  F32, "q bias" },
    [T_K_BIAS]         = { SHARD_HEADS,  F32, "k bias" },
    [T_V_BIAS]         = { SHARD_HEADS,  F32, "v bias" },
    [T_EXPERT_GATE]    = { SHARD_EXPERT, WR_EXPERTS, "gate" },
    [T_EXPERT_UP]      = { SHARD_EXPERT, WR_EXPERTS, "up" },
    [T_EXPERT_DOWN]    = { SHARD_EXPERT, WR_EXPERTS, "down" },
    [T_DENSE_GATE]     = { SHARD_DENSE,  WR_DENSE, "gate" },
    [T_DENSE_UP]       = { SHARD_DENSE,  WR_DENSE, "up" },
    [T_DENSE_DOWN]     = { SHARD_DENSE,  WR_DENSE, "down" },
    [T_EMBED]          = { SHARD_ENDS,   WR_EMBED, "embedding" },
    [T_FINAL_NORM]     = { SHARD_ENDS,   F32, "final norm" },
    [T_HEAD]           = { SHARD_ENDS,   WR_HEAD, "output head" },
    /* clang-format on */
};

const char *wrole_name(enum wrole r)
{
    static const char *const names[WR_COUNT] = { "attn",    "dense", "shared",
                                                 "experts", "embed", "head" };
    assert(r < WR_COUNT);
    return names[r];
}

const char *shard_name(enum shard_kind k)
{
    static const char *const names[] = { "trunk", "head group", "expert", "dense part", "ends" };
    assert(k <= SHARD_ENDS);
    return names[k];
}

void tensor_spec_text(char out[TENSOR_TEXT], const struct tensor_spec *s)
{
    bool item = s->shard != SHARD_TRUNK && s->shard != SHARD_ENDS;

    if (item)
        snprintf(out, TENSOR_TEXT, "%s of %s %u", roles[s->role].name, shard_name(s->shard),
                 s->item);
    else
        snprintf(out, TENSOR_TEXT, "%s", roles[s->role].name);
}

/* --- which tensors a layer has --- */

static bool is_predict(const struct arch *a, uint32_t layer)
{
    return layer != ARCH_ENDS && layer >= a->n_layers;
}

static bool has_role(const struct arch *a, uint32_t layer, enum tensor_role role)
{
    bool moe = arch_is_moe(a, layer);

    switch (role) {
    case T_POST_ATTN_NORM:
    case T_POST_MLP_NORM: return a->sandwich;
    case T_Q_NORM:
    case T_K_NORM: return a->qk_norm;
    case T_Q_BIAS:
    case T_K_BIAS:
    case T_V_BIAS: return a->attn_bias;
    case T_ROUTER:
    case T_ROUTER_BIAS:
    case T_EXPERT_GATE:
    case T_EXPERT_UP:
    case T_EXPERT_DOWN: return moe;
    case T_SHARED_GATE:
    case T_SHARED_UP:
    case T_SHARED_DOWN: return moe && a->n_shared > 0;
    case T_DENSE_GATE:
    case T_DENSE_UP:
    case T_DENSE_DOWN: return !moe;
    case T_EH_PROJ:
    case T_E_NORM:
    case T_H_NORM:
    case T_PREDICT_NORM: return is_predict(a, layer);
    case T_HEAD: return !a->tied;
    default: return true;
    }
}

void arch_part(const struct arch *a, uint32_t part, uint32_t *lo, uint32_t *hi)
{
    uint64_t blocks = ((uint64_t)a->inter + BLOCK - 1) / BLOCK;
    uint64_t l = blocks * part / a->mlp_parts * BLOCK;
    uint64_t h = blocks * (part + 1) / a->mlp_parts * BLOCK;

    *lo = l < a->inter ? (uint32_t)l : a->inter;
    *hi = h < a->inter ? (uint32_t)h : a->inter;
}

static bool part_empty(const struct arch *a, uint32_t part)
{
    uint32_t lo, hi;
    arch_part(a, part, &lo, &hi);
    return lo == hi;
}

/* The items (head groups; experts or dense parts) of a layer come one after the other, each with
 * the same roles: this many in the first kind of item, in the second, and in the trunk or ends. */
struct count {
    uint32_t fixed, heads, items;
};

static uint32_t count_roles(const struct arch *a, uint32_t layer, enum tensor_role lo,
                            enum tensor_role hi)
{
    uint32_t n = 0;
    for (enum tensor_role r = lo; r < hi; r++) n += has_role(a, layer, r);
    return n;
}

static uint32_t n_items(const struct arch *a, uint32_t layer)
{
    uint32_t n = 0;

    if (arch_is_moe(a, layer)) return a->n_experts;
    for (uint32_t p = 0; p < a->mlp_parts; p++) n += !part_empty(a, p);
    return n;
}

static struct count count_of(const struct arch *a, uint32_t layer)
{
    if (layer == ARCH_ENDS) return (struct count){ count_roles(a, layer, T_EMBED, T_ROLES), 0, 0 };
    return (struct count){ count_roles(a, layer, 0, T_Q), count_roles(a, layer, T_Q, T_EXPERT_GATE),
                           3 };
}

uint32_t arch_n_specs(const struct arch *a, uint32_t layer)
{
    struct count c = count_of(a, layer);

    if (layer == ARCH_ENDS) return c.fixed;
    return c.fixed + a->n_kv * c.heads + n_items(a, layer) * c.items;
}

/* The nth role of [lo, ..) that the layer has. */
static enum tensor_role nth_role(const struct arch *a, uint32_t layer, enum tensor_role lo,
                                 uint32_t n)
{
    for (enum tensor_role r = lo; r < T_ROLES; r++)
        if (has_role(a, layer, r) && n-- == 0) return r;
    assert(0 && "the layer has no such tensor");
    return T_ROLES;
}

/* The part that is the nth one that is not empty. */
static uint32_t nth_part(const struct arch *a, uint32_t n)
{
    for (uint32_t p = 0; p < a->mlp_parts; p++)
        if (!part_empty(a, p) && n-- == 0) return p;
    assert(0 && "the layer has no such part");
    return 0;
}

static void shape_of(const struct arch *a, struct tensor_spec *s)
{
    uint32_t group = a->n_heads / a->n_kv * a->head_dim; /* query width of a head group */
    uint32_t lo = 0, hi = 0;

    if (s->shard == SHARD_DENSE) arch_part(a, s->item, &lo, &hi);
    s->cols = 1;
    switch (s->role) {
    case T_Q_NORM:
    case T_K_NORM: s->rows = a->head_dim; break;
    case T_ROUTER: s->rows = a->n_experts, s->cols = a->hidden; break;
    case T_ROUTER_BIAS: s->rows = a->n_experts; break;
    case T_SHARED_GATE:
    case T_SHARED_UP: s->rows = a->moe_inter * a->n_shared, s->cols = a->hidden; break;
    case T_SHARED_DOWN: s->rows = a->hidden, s->cols = a->moe_inter * a->n_shared; break;
    case T_EH_PROJ: s->rows = a->hidden, s->cols = 2 * a->hidden; break;
    case T_Q: s->rows = group, s->cols = a->hidden; break;
    case T_K:
    case T_V: s->rows = a->head_dim, s->cols = a->hidden; break;
    case T_O: s->rows = a->hidden, s->cols = group; break;
    case T_Q_BIAS: s->rows = group; break;
    case T_K_BIAS:
    case T_V_BIAS: s->rows = a->head_dim; break;
    case T_EXPERT_GATE:
    case T_EXPERT_UP: s->rows = a->moe_inter, s->cols = a->hidden; break;
    case T_EXPERT_DOWN: s->rows = a->hidden, s->cols = a->moe_inter; break;
    case T_DENSE_GATE:
    case T_DENSE_UP: s->rows = hi - lo, s->cols = a->hidden; break;
    case T_DENSE_DOWN: s->rows = a->hidden, s->cols = hi - lo; break;
    case T_EMBED:
    case T_HEAD: s->rows = a->vocab, s->cols = a->hidden; break;
    default: s->rows = a->hidden; break; /* the norms */
    }
}

static struct tensor_spec spec_of(const struct arch *a, enum tensor_role role, uint32_t item)
{
    struct tensor_spec s = { .role = role, .shard = roles[role].shard, .item = item };

    s.type = roles[role].type == F32 ? WT_F32 : a->type[roles[role].type];
    shape_of(a, &s);
    return s;
}

struct tensor_spec arch_spec(const struct arch *a, uint32_t layer, uint32_t i)
{
    struct count c = count_of(a, layer);

    if (layer == ARCH_ENDS) return spec_of(a, nth_role(a, layer, T_EMBED, i), 0);
    if (i < c.fixed) return spec_of(a, nth_role(a, layer, 0, i), 0);
    i -= c.fixed;
    if (i < a->n_kv * c.heads) return spec_of(a, nth_role(a, layer, T_Q, i % c.heads), i / c.heads);
    i -= a->n_kv * c.heads;
    if (arch_is_moe(a, layer)) return spec_of(a, T_EXPERT_GATE + i % c.items, i / c.items);
    return spec_of(a, T_DENSE_GATE + i % c.items, nth_part(a, i / c.items));
}

int32_t arch_find(const struct arch *a, uint32_t layer, enum tensor_role role, uint32_t item)
{
    struct count c = count_of(a, layer);
    enum shard_kind shard = roles[role].shard;

    if ((layer == ARCH_ENDS) != (shard == SHARD_ENDS) || !has_role(a, layer, role)) return -1;
    switch (shard) {
    case SHARD_ENDS: return item ? -1 : (int32_t)count_roles(a, layer, T_EMBED, role);
    case SHARD_TRUNK: return item ? -1 : (int32_t)count_roles(a, layer, 0, role);
    case SHARD_HEADS:
        if (item >= a->n_kv) return -1;
        return (int32_t)(c.fixed + item * c.heads + count_roles(a, layer, T_Q, role));
    case SHARD_EXPERT:
        if (item >= a->n_experts) return -1;
        return (int32_t)(c.fixed + a->n_kv * c.heads + item * c.items + (role - T_EXPERT_GATE));
    case SHARD_DENSE: break;
    }
    if (item >= a->mlp_parts || part_empty(a, item)) return -1;
    uint32_t before = 0;
    for (uint32_t p = 0; p < item; p++) before += !part_empty(a, p);
    return (int32_t)(c.fixed + a->n_kv * c.heads + before * c.items + (role - T_DENSE_GATE));
}

/* --- sizes --- */

uint64_t arch_spec_bytes(const struct tensor_spec *s)
{
    struct tiling t = tiling_of(s->type, s->rows, s->cols);
    return (uint64_t)t.groups * t.group_bytes;
}

uint64_t arch_bytes(const struct arch *a, uint32_t layer)
{
    uint64_t sum = 0;

    for (uint32_t i = 0, n = arch_n_specs(a, layer); i < n; i++) {
        struct tensor_spec s = arch_spec(a, layer, i);
        sum += arch_spec_bytes(&s);
    }
    return sum;
}

uint64_t arch_token_bytes(const struct arch *a, uint32_t layer)
{
    uint64_t sum = 0;

    if (layer == ARCH_ENDS) {
        struct tensor_spec s = spec_of(a, a->tied ? T_EMBED : T_HEAD, 0);
        return arch_spec_bytes(&s);
    }
    for (uint32_t i = 0, n = arch_n_specs(a, layer); i < n; i++) {
        struct tensor_spec s = arch_spec(a, layer, i);
        if (s.shard != SHARD_EXPERT || s.item < a->top_k) sum += arch_spec_bytes(&s);
    }
    return sum;
}

/* --- checking --- */

static enum err check_sizes(const struct arch *a, struct why *why)
{
    if (a->family != ARCH_GLM4 && a->family != ARCH_GLM4_MOE)
        return fail(why, ERR_UNSUPPORTED, "unknown model family %d", (int)a->family);
    if (a->n_layers < 1 || a->n_layers > ARCH_LAYERS_MAX || a->n_predict > 1 ||
        a->n_layers + a->n_predict > ARCH_LAYERS_MAX)
        return fail(why, ERR_RANGE, "%u layers and %u prediction layers: at most %d and 1",
                    a->n_layers, a->n_predict, ARCH_LAYERS_MAX - 1);
    if (a->hidden < 1 || a->hidden > ARCH_HIDDEN_MAX)
        return fail(why, ERR_RANGE, "hidden size %u is not in 1..%d", a->hidden, ARCH_HIDDEN_MAX);
    if (a->vocab < 1 || a->vocab > ARCH_VOCAB_MAX)
        return fail(why, ERR_RANGE, "vocabulary %u is not in 1..%d", a->vocab, ARCH_VOCAB_MAX);
    if (a->context < 1 || a->context > ARCH_CONTEXT_MAX)
        return fail(why, ERR_RANGE, "context %u is not in 1..%d", a->context, ARCH_CONTEXT_MAX);
    if (a->n_kv < 1 || a->n_heads < 1 || a->n_heads > ARCH_HEADS_MAX || a->n_heads % a->n_kv != 0)
        return fail(why, ERR_RANGE,
                    "%u query heads do not share %u KV heads evenly, or are over %d", a->n_heads,
                    a->n_kv, ARCH_HEADS_MAX);
    if (a->head_dim < 2 || (uint64_t)a->n_heads / a->n_kv * a->head_dim > ARCH_HIDDEN_MAX)
        return fail(why, ERR_RANGE, "head size %u is out of range", a->head_dim);
    if (a->inter > ARCH_CONTEXT_MAX || a->moe_inter > ARCH_HIDDEN_MAX)
        return fail(why, ERR_RANGE, "MLP width %u or expert width %u is too large", a->inter,
                    a->moe_inter);
    if (a->mlp_parts < 1 || a->mlp_parts > ARCH_PARTS_MAX)
        return fail(why, ERR_RANGE, "%u dense parts: not in 1..%d", a->mlp_parts, ARCH_PARTS_MAX);
    return ERR_OK;
}

static enum err check_experts(const struct arch *a, struct why *why)
{
    if (a->n_dense > a->n_layers)
        return fail(why, ERR_RANGE, "%u of %u layers are dense", a->n_dense, a->n_layers);
    if (a->n_experts == 0) {
        if (a->n_dense != a->n_layers)
            return fail(why, ERR_RANGE, "layers after the %u dense ones need experts", a->n_dense);
        if (a->top_k || a->n_shared || a->moe_inter)
            return fail(why, ERR_RANGE, "a model without experts names their sizes");
    }
    if ((a->n_dense > 0 || a->n_experts == 0) && a->inter == 0)
        return fail(why, ERR_RANGE, "dense layers need an MLP width");
    if (a->n_experts == 0) return ERR_OK;

    if (a->n_experts > ARCH_EXPERTS_MAX || a->moe_inter < 1 || a->n_shared > ARCH_EXPERTS_MAX ||
        (uint64_t)a->moe_inter * a->n_shared > ARCH_CONTEXT_MAX)
        return fail(why, ERR_RANGE, "%u experts of width %u, %u shared: out of range", a->n_experts,
                    a->moe_inter, a->n_shared);
    if (a->n_group < 1 || a->n_experts % a->n_group != 0 || a->topk_group < 1 ||
        a->topk_group > a->n_group)
        return fail(why, ERR_RANGE, "%u experts do not form %u groups of which %u are kept",
                    a->n_experts, a->n_group, a->topk_group);
    if (a->n_group > 1 && a->n_experts / a->n_group < 2)
        return fail(why, ERR_RANGE, "expert groups need two experts each");
    if (a->top_k < 1 || a->top_k > a->n_experts / a->n_group * a->topk_group)
        return fail(why, ERR_RANGE, "%u experts a token cannot be chosen from %u of %u groups",
                    a->top_k, a->topk_group, a->n_group);
    return ERR_OK;
}

static enum err check_numbers(const struct arch *a, struct why *why)
{
    if (!isfinite(a->eps) || a->eps <= 0)
        return fail(why, ERR_RANGE, "the norm's epsilon is not a positive number");
    if (!isfinite(a->routed_scale)) return fail(why, ERR_RANGE, "the expert scale is not finite");
    if (a->rope_half > ARCH_ROPE_MAX || 2 * a->rope_half > a->head_dim)
        return fail(why, ERR_RANGE, "%u rotary pairs do not fit a head of %u", a->rope_half,
                    a->head_dim);
    for (uint32_t i = 0; i < a->rope_half; i++)
        if (!isfinite(a->rope_freq[i]) || fabs(a->rope_freq[i]) > 1e3)
            return fail(why, ERR_RANGE, "rotary frequency %u is out of range", i);
    if (!isfinite(a->rope_scale) || fabs(a->rope_scale) > 1e6)
        return fail(why, ERR_RANGE, "the rotary scale is out of range");
    for (int r = 0; r < WR_COUNT; r++)
        if ((unsigned)a->type[r] >= WT_COUNT)
            return fail(why, ERR_UNSUPPORTED, "unknown weight type %d of %s weights",
                        (int)a->type[r], wrole_name((enum wrole)r));
    if (a->exchange != FT_F32 && a->exchange != FT_BF16)
        return fail(why, ERR_UNSUPPORTED, "the exchange type must be bf16 or f32");
    if (a->kv != FT_F32 && a->kv != FT_F16)
        return fail(why, ERR_UNSUPPORTED, "the kv type must be f16 or f32");
    return ERR_OK;
}

/* Every group must fit a message, every layer's table of hashes a tile on the wire. */
static enum err check_tiles(const struct arch *a, uint32_t layer, struct why *why)
{
    uint64_t tiles = 0;

    for (uint32_t i = 0, n = arch_n_specs(a, layer); i < n; i++) {
        struct tensor_spec s = arch_spec(a, layer, i);
        if (wtype_group_bytes(s.type, s.cols) > TILE_WIRE_MAX)
            return fail(why, ERR_RANGE, "16 rows of %u %s inputs exceed %d bytes", s.cols,
                        wtype_name(s.type), TILE_WIRE_MAX);
        tiles += tiling_of(s.type, s.rows, s.cols).tiles;
    }
    if (tiles * 32 > TILE_WIRE_MAX)
        return fail(why, ERR_RANGE, "a layer of %llu tiles is too large",
                    (unsigned long long)tiles);
    return ERR_OK;
}

enum err arch_check(const struct arch *a, struct why *why)
{
    /* one layer of each kind, and the ends */
    uint32_t kinds[4] = { 0, a->n_layers - 1, a->n_layers + a->n_predict - 1, ARCH_ENDS };
    enum err e = check_sizes(a, why);

    if (!e) e = check_experts(a, why);
    if (!e) e = check_numbers(a, why);
    for (int i = 0; i < 4 && !e; i++) e = check_tiles(a, kinds[i], why);
    return e;
}
