/* small.h - a model of a few kilobytes with made-up tiles, for tests of the store. */
#ifndef TESTS_STORE_SMALL_H
#define TESTS_STORE_SMALL_H

#include "store/store.h"

#include <stdlib.h>

static inline struct arch small_arch(void)
{
    struct arch a = { .family = ARCH_GLM4_MOE,
                      .n_layers = 3,
                      .n_predict = 1,
                      .hidden = 64,
                      .vocab = 100,
                      .n_heads = 4,
                      .n_kv = 2,
                      .head_dim = 16,
                      .inter = 96,
                      .mlp_parts = 2,
                      .n_dense = 1,
                      .n_experts = 4,
                      .top_k = 2,
                      .n_shared = 1,
                      .moe_inter = 32,
                      .n_group = 1,
                      .topk_group = 1,
                      .context = 128,
                      .attn_bias = true,
                      .norm_topk = true,
                      .eps = 1e-5f,
                      .routed_scale = 1,
                      .rope_half = 4,
                      .rope_freq = { 1, 0.5, 0.25, 0.125 },
                      .rope_scale = 1,
                      .exchange = FT_BF16,
                      .kv = FT_F16 };
    for (int r = 0; r < WR_COUNT; r++) a.type[r] = WT_Q80;
    return a;
}

/* A tile's worth of bytes that depend on seed; finite whatever the type. */
static inline void fill_bytes(uint8_t *p, size_t n, uint32_t seed)
{
    uint32_t x = seed * 2654435761u + 12345;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525 + 1013904223;
        p[i] = (uint8_t)(x >> 26);
    }
}

/* Put every tile of a layer (or ARCH_ENDS) and its table; the table's hash. */
static inline enum err put_layer(struct store *s, const struct arch *a, uint32_t layer,
                                 struct hash *out)
{
    uint32_t n = manifest_n_tiles(a, layer), at = 0;
    struct hash *table = calloc(n, sizeof *table);
    uint8_t *p = malloc(TILE_WIRE_MAX);
    enum err e = table && p ? ERR_OK : ERR_NOMEM;

    for (uint32_t i = 0; i < arch_n_specs(a, layer) && !e; i++) {
        struct tensor_spec spec = arch_spec(a, layer, i);
        struct tiling t = tiling_of(spec.type, spec.rows, spec.cols);
        for (uint32_t k = 0; k < t.tiles && !e; k++) {
            fill_bytes(p, tiling_tile_bytes(&t, k), layer * 1000 + i * 10 + k);
            e = store_put(s, slice_of(p, tiling_tile_bytes(&t, k)), &table[at++], NULL);
        }
    }
    if (!e) e = store_put(s, slice_of(table, (size_t)n * HASH_BYTES), out, NULL);
    free(p);
    free(table);
    return e;
}

/* A manifest whose tables are those of put_layer, with a tokenizer of two pieces. */
static inline enum err put_small(struct store *s, struct manifest *m)
{
    *m = (struct manifest){ .arch = small_arch(),
                            .chat = "glm-4.5",
                            .n_eos = 2,
                            .eos = { 7, 9 },
                            .sampling = { true, 0.6, 0.95, 0.0, 50 } };
    enum err e = ERR_OK;
    uint8_t *tok = malloc(TILE_BYTES + 10);

    if (!tok) return ERR_NOMEM;
    for (uint32_t l = 0; l < arch_all_layers(&m->arch) && !e; l++)
        e = put_layer(s, &m->arch, l, &m->table[l]);
    if (!e) e = put_layer(s, &m->arch, ARCH_ENDS, &m->ends);
    fill_bytes(tok, TILE_BYTES + 10, 5);
    m->tokenizer_bytes = TILE_BYTES + 10;
    m->n_tokenizer = 2;
    if (!e) e = store_put(s, slice_of(tok, TILE_BYTES), &m->tokenizer[0], NULL);
    if (!e) e = store_put(s, slice_of(tok + TILE_BYTES, 10), &m->tokenizer[1], NULL);
    free(tok);
    return e;
}

#endif
