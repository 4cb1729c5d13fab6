/* The forward pass against logits of the reference implementation (tests/fixtures): the published
 * tensors, cut and packed here in f32, without a store or a converter in between. */
#include "model/forward.h"
#include "store/safetensors.h"
#include "tests/model/group.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* --- a checkpoint's tensors by name --- */

struct checkpoint {
    struct safetensors *file[4];
    int n;
};

static const struct st_tensor *find(const struct checkpoint *c, const char *name)
{
    for (int i = 0; i < c->n; i++) {
        const struct st_tensor *t = safetensors_find(c->file[i], name);
        if (t) return t;
    }
    fail_msg("no tensor %s", name);
    return NULL;
}

static float element(const struct st_tensor *t, size_t i)
{
    uint16_t h;
    float f;

    if (t->dtype == ST_F32) {
        memcpy(&f, t->data.p + 4 * i, 4);
        return f;
    }
    assert_int_equal(t->dtype, ST_BF16);
    memcpy(&h, t->data.p + 2 * i, 2);
    return f32_from_bf16(h);
}

/* Which published tensor a role is (model-facts A.2 to A.5), and where its part begins in it. */
static const struct st_tensor *source(const struct checkpoint *c, const struct arch *a,
                                      uint32_t layer, const struct tensor_spec *s, uint32_t *row,
                                      uint32_t *col)
{
    static const char *const names[T_ROLES] = {
        [T_ATTN_NORM] = "input_layernorm.weight",
        [T_MLP_NORM] = "post_attention_layernorm.weight",
        [T_POST_ATTN_NORM] = "post_self_attn_layernorm.weight",
        [T_POST_MLP_NORM] = "post_mlp_layernorm.weight",
        [T_Q_NORM] = "self_attn.q_norm.weight",
        [T_K_NORM] = "self_attn.k_norm.weight",
        [T_ROUTER] = "mlp.gate.weight",
        [T_ROUTER_BIAS] = "mlp.gate.e_score_correction_bias",
        [T_SHARED_GATE] = "mlp.shared_experts.gate_proj.weight",
        [T_SHARED_UP] = "mlp.shared_experts.up_proj.weight",
        [T_SHARED_DOWN] = "mlp.shared_experts.down_proj.weight",
        [T_Q] = "self_attn.q_proj.weight",
        [T_K] = "self_attn.k_proj.weight",
        [T_V] = "self_attn.v_proj.weight",
        [T_O] = "self_attn.o_proj.weight",
        [T_Q_BIAS] = "self_attn.q_proj.bias",
        [T_K_BIAS] = "self_attn.k_proj.bias",
        [T_V_BIAS] = "self_attn.v_proj.bias",
        [T_EXPERT_GATE] = "mlp.experts.%u.gate_proj.weight",
        [T_EXPERT_UP] = "mlp.experts.%u.up_proj.weight",
        [T_EXPERT_DOWN] = "mlp.experts.%u.down_proj.weight",
        [T_DENSE_GATE] = "mlp.gate_proj.weight",
        [T_DENSE_UP] = "mlp.up_proj.weight",
        [T_DENSE_DOWN] = "mlp.down_proj.weight",
        [T_EMBED] = "model.embed_tokens.weight",
        [T_FINAL_NORM] = "model.norm.weight",
        [T_HEAD] = "lm_head.weight",
    };
    char name[128], last[64];
    uint32_t lo = 0, hi;

    *row = *col = 0;
    if (layer == ARCH_ENDS) return find(c, names[s->role]);
    snprintf(last, sizeof last, "%s", names[s->role]);
    if (s->shard == SHARD_EXPERT) {
        const char *rest = strchr(names[s->role] + 12, '.');
        snprintf(last, sizeof last, "mlp.experts.%u%s", s->item, rest);
    }
    if (s->shard == SHARD_HEADS)
        *(s->role == T_O ? col : row) = s->item * (s->role == T_O ? s->cols : s->rows);
    if (s->shard == SHARD_DENSE) {
        arch_part(a, s->item, &lo, &hi);
        *(s->role == T_DENSE_DOWN ? col : row) = lo;
        if (a->family == ARCH_GLM4 && s->role != T_DENSE_DOWN) {
            snprintf(last, sizeof last, "mlp.gate_up_proj.weight");
            if (s->role == T_DENSE_UP) *row += a->inter;
        }
    }
    snprintf(name, sizeof name, "model.layers.%u.%s", layer, last);
    return find(c, name);
}

static void load_tensor(struct tensor *t, const struct checkpoint *c, const struct arch *a,
                        uint32_t layer, const struct tensor_spec *s)
{
    struct tiling tiling = tiling_of(s->type, s->rows, s->cols);
    uint8_t *data = calloc(1, (size_t)tiling.groups * tiling.group_bytes + 64);
    uint8_t **tile = calloc(tiling.tiles, sizeof *tile);
    float *rows = calloc((size_t)16 * s->cols, sizeof *rows);
    uint32_t r0, c0;
    const struct st_tensor *from = source(c, a, layer, s, &r0, &c0);
    size_t width = from->n_dims > 1 ? from->dim[1] : 1, at = 0;

    for (uint32_t g = 0; g < tiling.groups; g++) {
        uint32_t n = s->rows - g * 16 < 16 ? s->rows - g * 16 : 16;
        for (uint32_t i = 0; i < n * s->cols; i++)
            rows[i] = element(from, (r0 + g * 16 + i / s->cols) * width + c0 + i % s->cols);
        assert_int_equal(
            group_pack(s->type, rows, s->cols, n, s->cols, data + g * tiling.group_bytes), ERR_OK);
    }
    for (uint32_t i = 0; i < tiling.tiles; i++) {
        tile[i] = data + at;
        at += tiling_tile_bytes(&tiling, i);
    }
    free(rows);
    *t = (struct tensor){ s->type, s->rows, s->cols, tiling, (const uint8_t *const *)tile };
}

static struct layer load_layer(const struct checkpoint *c, const struct arch *a, uint32_t index)
{
    uint32_t n = arch_n_specs(a, index);
    struct layer l = { index, calloc(n, sizeof *l.t) };

    for (uint32_t i = 0; i < n; i++) {
        struct tensor_spec s = arch_spec(a, index, i);
        load_tensor(&l.t[i], c, a, index, &s);
    }
    return l;
}

static void free_layer(const struct arch *a, struct layer *l)
{
    for (uint32_t i = 0, n = arch_n_specs(a, l->index); i < n; i++) {
        free((void *)(uintptr_t)l->t[i].tile[0]);
        free((void *)(uintptr_t)l->t[i].tile);
    }
    free(l->t);
}

/* --- the fixtures --- */

static struct arch tiny_moe(void)
{
    struct arch a = { .family = ARCH_GLM4_MOE,
                      .n_layers = 4,
                      .hidden = 128,
                      .vocab = 512,
                      .n_heads = 8,
                      .n_kv = 2,
                      .head_dim = 32,
                      .inter = 256,
                      .mlp_parts = 8,
                      .n_dense = 1,
                      .n_experts = 8,
                      .top_k = 2,
                      .n_shared = 1,
                      .moe_inter = 64,
                      .n_group = 1,
                      .topk_group = 1,
                      .context = 512,
                      .attn_bias = true,
                      .norm_topk = true,
                      .eps = 1e-5f,
                      .routed_scale = 1,
                      .rope_half = 8,
                      .rope_scale = 1,
                      .exchange = FT_F32,
                      .kv = FT_F32 };

    for (uint32_t i = 0; i < 8; i++) a.rope_freq[i] = pow(1e6, -(double)i / 8);
    return a;
}

static struct arch tiny_qknorm(void)
{
    struct arch a = tiny_moe();

    a.n_layers = 5, a.n_dense = 2, a.n_experts = 16, a.top_k = 4, a.n_group = 4, a.topk_group = 2;
    a.routed_scale = 2.5f, a.qk_norm = true;
    return a;
}

static struct arch tiny_dense(void)
{
    struct arch a = tiny_moe();

    a.family = ARCH_GLM4, a.n_dense = 4, a.n_heads = 4, a.sandwich = a.rope_interleaved = true;
    a.n_experts = a.top_k = a.n_shared = a.moe_inter = 0, a.attn_bias = a.norm_topk = false;
    for (uint32_t i = 0; i < 8; i++) a.rope_freq[i] = pow(1e4, -(double)i / 8);
    return a;
}

static struct arch atlas(void)
{
    struct arch a = tiny_moe();

    a.n_layers = 8, a.hidden = 192, a.vocab = 2048, a.n_heads = 6, a.inter = 512;
    a.n_experts = 16, a.top_k = 4, a.moe_inter = 96, a.context = 2048;
    return a;
}

/* --- comparing --- */

static double deviation(const float *x, size_t n)
{
    double sum = 0, squares = 0;

    for (size_t i = 0; i < n; i++) sum += x[i], squares += (double)x[i] * x[i];
    return sqrt(squares / (double)n - sum / (double)n * (sum / (double)n));
}

/* The same rows through the layers of several nodes that share them, in chunks: bit for bit. */
static void share(const struct arch *a, const struct layer *layers, uint32_t n, const uint8_t *in,
                  const uint8_t *out)
{
    const struct kernels *k = kernels_pick(NULL, NULL);
    size_t row = arch_row_bytes(a);
    uint8_t *x = malloc(n * row);
    struct row rows[64];
    struct nonfinite bad;

    for (unsigned hands = 2; hands <= 5; hands++)
        for (enum group_way way = 0; way < GROUP_WAYS; way++) {
            struct group g;
            group_open(&g, a, layers, 0, a->n_layers, hands, way, n, k, workers_inline(), hands);
            struct kv *kv = group_session(&g, 0, n);
            memcpy(x, in, n * row);
            for (uint32_t at = 0, some; at < n; at += some) {
                some = at == 0 ? n / 2 : at + 3 < n ? 3 : 1;
                for (uint32_t i = 0; i < some; i++) rows[i] = (struct row){ kv, at + i };
                assert_int_equal(stage_forward_shared(g.leader, 0, a->n_layers, rows, some,
                                                      x + at * row, &g.sharer, &bad),
                                 ERR_OK);
            }
            assert_memory_equal(x, out, n * row);
            group_close(&g);
        }
    free(x);
}

static void compare(const struct arch *a, const char *dir, const char *expected, double limit)
{
    struct checkpoint c = { { 0 }, 0 };
    struct safetensors *want;
    struct layer layers[8], ends;
    struct stage *s;
    struct ends *e;
    struct kv *kv;
    struct nonfinite bad;
    struct row rows[64];
    const struct kernels *k = kernels_pick(NULL, NULL);
    char path[512];
    struct why why;

    assert_int_equal(arch_check(a, &why), ERR_OK);
    for (int shards = 1; shards <= 3 && c.n == 0; shards += 2)
        for (int i = 1; i <= shards; i++) {
            if (shards == 1)
                snprintf(path, sizeof path, "%s/%s/model.safetensors", SOURCE_DIR, dir);
            else
                snprintf(path, sizeof path, "%s/%s/model-%05d-of-%05d.safetensors", SOURCE_DIR, dir,
                         i, shards);
            if (safetensors_open(&c.file[c.n], path, &why) == ERR_OK) c.n++;
        }
    snprintf(path, sizeof path, "%s/tests/fixtures/%s", SOURCE_DIR, expected);
    assert_int_equal(safetensors_open(&want, path, &why), ERR_OK);

    const struct st_tensor *ids = safetensors_find(want, "input_ids");
    const struct st_tensor *logits = safetensors_find(want, "logits");
    uint32_t n = (uint32_t)ids->dim[0];
    size_t total = (size_t)n * a->vocab;
    float *ref = malloc(total * sizeof *ref), *got = malloc(total * sizeof *got);
    int32_t *id = malloc(n * sizeof *id);
    uint8_t *x = malloc(n * arch_row_bytes(a)), *in = malloc(n * arch_row_bytes(a));
    assert_int_equal(logits->dim[0], n);
    assert_int_equal(logits->dim[1], a->vocab);
    memcpy(ref, logits->data.p, total * sizeof *ref);
    memcpy(id, ids->data.p, n * sizeof *id);

    for (uint32_t l = 0; l < a->n_layers; l++) layers[l] = load_layer(&c, a, l);
    ends = load_layer(&c, a, ARCH_ENDS);
    assert_int_equal(stage_open(&s, a, layers, 0, a->n_layers, n, k, workers_inline()), ERR_OK);
    assert_int_equal(ends_open(&e, a, &ends, n, k, workers_inline()), ERR_OK);
    assert_int_equal(kv_open(&kv, a, 0, a->n_layers, n), ERR_OK);
    for (uint32_t i = 0; i < n; i++) rows[i] = (struct row){ kv, i };
    assert_int_equal(ends_embed(e, id, n, x), ERR_OK);
    memcpy(in, x, n * arch_row_bytes(a));
    assert_int_equal(stage_forward(s, rows, n, x, &bad), ERR_OK);
    assert_int_equal(ends_logits(e, x, n, got, &bad), ERR_OK);

    share(a, layers, n, in, x);

    double most = 0, std = deviation(ref, total);
    for (size_t i = 0; i < total; i++) most = fmax(most, fabs((double)got[i] - (double)ref[i]));
    print_message("%s: max |delta| = %.2e std\n", dir, most / std);
    assert_true(std > 0.1 && most <= limit * std);

    kv_close(kv);
    ends_close(e);
    stage_close(s);
    for (uint32_t l = 0; l < a->n_layers; l++) free_layer(a, &layers[l]);
    free_layer(a, &ends);
    free(ref);
    free(got);
    free(id);
    free(in);
    free(x);
    safetensors_close(want);
    while (c.n > 0) safetensors_close(c.file[--c.n]);
}

static void both(struct arch a, const char *dir, const char *expected)
{
    compare(&a, dir, expected, 5e-4);
    a.kv = FT_F16;
    compare(&a, dir, expected, 5e-3);
}

static void dense_like_the_reference(void **state)
{
    (void)state;
    both(tiny_dense(), "tests/fixtures/glm4-dense", "glm4-dense/expected.safetensors");
}

static void moe_like_the_reference(void **state)
{
    (void)state;
    both(tiny_moe(), "tests/fixtures/glm4-moe-air", "glm4-moe-air/expected.safetensors");
}

static void groups_and_norms_like_the_reference(void **state)
{
    (void)state;
    both(tiny_qknorm(), "tests/fixtures/glm4-moe-qknorm", "glm4-moe-qknorm/expected.safetensors");
}

static void atlas_like_the_reference(void **state)
{
    (void)state;
    both(atlas(), "models/atlas", "atlas-expected.safetensors");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dense_like_the_reference),
        cmocka_unit_test(moe_like_the_reference),
        cmocka_unit_test(groups_and_norms_like_the_reference),
        cmocka_unit_test(atlas_like_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
