/* The list of tensors: its order, its inverse, its cuts, its sizes, and what is refused. */
#include "arch/arch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct arch air(void)
{
    struct arch a = { .family = ARCH_GLM4_MOE,
                      .n_layers = 46,
                      .n_predict = 1,
                      .hidden = 4096,
                      .vocab = 151552,
                      .n_heads = 96,
                      .n_kv = 8,
                      .head_dim = 128,
                      .inter = 10944,
                      .mlp_parts = 8,
                      .n_dense = 1,
                      .n_experts = 128,
                      .top_k = 8,
                      .n_shared = 1,
                      .moe_inter = 1408,
                      .n_group = 1,
                      .topk_group = 1,
                      .context = 131072,
                      .attn_bias = true,
                      .norm_topk = true,
                      .eps = 1e-5f,
                      .routed_scale = 1,
                      .rope_half = 32,
                      .rope_scale = 1,
                      .exchange = FT_BF16,
                      .kv = FT_F16 };
    for (int r = 0; r < WR_COUNT; r++) a.type[r] = WT_Q40;
    for (uint32_t i = 0; i < 32; i++) a.rope_freq[i] = pow(1e6, -(double)i / 32);
    return a;
}

static struct arch dense(void)
{
    struct arch a = air();

    a.family = ARCH_GLM4, a.sandwich = a.rope_interleaved = true, a.attn_bias = false;
    a.n_layers = a.n_dense = 61, a.n_predict = 0, a.hidden = 6144, a.n_heads = 48, a.n_kv = 2;
    a.inter = 23040, a.context = 32768;
    a.n_experts = a.top_k = a.n_shared = a.moe_inter = 0;
    return a;
}

/* arch_find is arch_spec backwards, for every tensor; nothing else is found. */
static void inverse_of(const struct arch *a)
{
    uint32_t layers[] = { 0, 1, a->n_layers - 1, arch_all_layers(a) - 1, ARCH_ENDS };

    for (unsigned i = 0; i < 5; i++) {
        uint32_t l = layers[i], n = arch_n_specs(a, l), found = 0;
        int last = -1;
        for (uint32_t t = 0; t < n; t++) {
            struct tensor_spec s = arch_spec(a, l, t);
            assert_int_equal(arch_find(a, l, s.role, s.item), t);
            assert_true(s.rows > 0 && s.cols > 0);
            assert_true((int)s.shard >= last); /* trunk, head groups, experts or parts */
            last = (int)s.shard;
        }
        for (int r = 0; r < T_ROLES; r++)
            for (uint32_t item = 0; item < 200; item++)
                found += arch_find(a, l, (enum tensor_role)r, item) >= 0;
        assert_int_equal(found, n);
    }
}

static void inverse(void **state)
{
    struct arch a = air(), d = dense();
    (void)state;

    inverse_of(&a);
    inverse_of(&d);
    a.qk_norm = a.tied = true, a.n_shared = 0, a.attn_bias = false;
    inverse_of(&a);
    a.inter = 90, a.mlp_parts = 8; /* three blocks in eight parts */
    inverse_of(&a);
}

/* The number of tensors that model-facts counts, and the order that stored tables rely on. */
static void counts(void **state)
{
    struct arch a = air();
    (void)state;

    assert_int_equal(arch_n_specs(&a, 0), 2 + 8 * 7 + 8 * 3);
    assert_int_equal(arch_n_specs(&a, 1), 2 + 2 + 3 + 8 * 7 + 128 * 3);
    assert_int_equal(arch_n_specs(&a, 46), 2 + 2 + 3 + 4 + 8 * 7 + 128 * 3);
    assert_int_equal(arch_n_specs(&a, ARCH_ENDS), 3);

    const enum tensor_role start[] = { T_ATTN_NORM,   T_MLP_NORM,    T_ROUTER,
                                       T_ROUTER_BIAS, T_SHARED_GATE, T_SHARED_UP,
                                       T_SHARED_DOWN, T_Q,           T_K,
                                       T_V,           T_O,           T_Q_BIAS,
                                       T_K_BIAS,      T_V_BIAS,      T_Q };
    for (uint32_t i = 0; i < sizeof start / sizeof *start; i++)
        assert_int_equal(arch_spec(&a, 5, i).role, start[i]);
    assert_int_equal(arch_spec(&a, 5, 14).item, 1);
    struct tensor_spec last = arch_spec(&a, 5, arch_n_specs(&a, 5) - 1);
    assert_int_equal(last.role, T_EXPERT_DOWN);
    assert_int_equal(last.item, 127);
    assert_int_equal(last.rows, 4096);
    assert_int_equal(last.cols, 1408);
    struct tensor_spec o = arch_spec(&a, 5, 10);
    assert_int_equal(o.rows, 4096);
    assert_int_equal(o.cols, 1536);
    assert_int_equal(o.type, WT_Q40);
    assert_int_equal(arch_spec(&a, 5, 2).type, WT_F32);
}

/* Parts adjoin, are whole blocks, and cover the inner dimension; their specs have their widths. */
static void parts(void **state)
{
    struct arch a = air();
    (void)state;

    for (uint32_t inter = 1; inter < 2000; inter += 7)
        for (a.mlp_parts = 1; a.mlp_parts <= 9; a.mlp_parts++) {
            uint32_t at = 0, width = 0;
            a.inter = inter;
            for (uint32_t p = 0, lo, hi; p < a.mlp_parts; p++) {
                arch_part(&a, p, &lo, &hi);
                assert_int_equal(lo, at);
                assert_true(hi == inter || hi % BLOCK == 0);
                assert_int_equal(arch_find(&a, 0, T_DENSE_UP, p) >= 0, lo < hi);
                at = hi;
            }
            assert_int_equal(at, inter);
            for (uint32_t i = 0, n = arch_n_specs(&a, 0); i < n; i++) {
                struct tensor_spec s = arch_spec(&a, 0, i);
                if (s.role == T_DENSE_GATE) width += s.rows;
            }
            assert_int_equal(width, inter);
        }
}

/* The byte counts that model-facts B.3 derives from the published shapes. */
static void sizes(void **state)
{
    struct arch a = air();
    uint64_t all = 0, token = 0;
    (void)state;

    assert_int_equal(arch_bytes(&a, 0), 137076736);
    assert_int_equal(arch_bytes(&a, 1), 1318969856);
    assert_int_equal(arch_token_bytes(&a, 1), 151118336);
    assert_int_equal(arch_token_bytes(&a, ARCH_ENDS), 349175808);
    for (uint32_t l = 0; l < 46; l++) all += arch_bytes(&a, l), token += arch_token_bytes(&a, l);
    all += arch_bytes(&a, ARCH_ENDS), token += arch_token_bytes(&a, ARCH_ENDS);
    assert_int_equal(all, 60189088256);
    assert_int_equal(token + 4096 * 4, 7286594048); /* theirs counts the final norm too */
    assert_int_equal(arch_row_bytes(&a), 8192);
    assert_int_equal(arch_kv_bytes(&a), 4096);
}

/* --- refusals --- */

#define REFUSED(code, words, ...)                               \
    do {                                                        \
        struct arch a = air();                                  \
        struct why why = { "" };                                \
        __VA_ARGS__;                                            \
        assert_int_equal(arch_check(&a, &why), code);           \
        if (!strstr(why.text, words)) fail_msg("%s", why.text); \
    } while (0)

static void refusals(void **state)
{
    struct arch good = air(), d = dense();
    (void)state;

    assert_int_equal(arch_check(&good, NULL), ERR_OK);
    assert_int_equal(arch_check(&d, NULL), ERR_OK);
    REFUSED(ERR_UNSUPPORTED, "family", a.family = 9);
    REFUSED(ERR_RANGE, "layers", a.n_layers = 0);
    REFUSED(ERR_RANGE, "layers", a.n_layers = 256);
    REFUSED(ERR_RANGE, "layers", a.n_predict = 2);
    REFUSED(ERR_RANGE, "hidden", a.hidden = 0);
    REFUSED(ERR_RANGE, "hidden", a.hidden = 65537);
    REFUSED(ERR_RANGE, "vocabulary", a.vocab = 0);
    REFUSED(ERR_RANGE, "context", a.context = 0);
    REFUSED(ERR_RANGE, "heads", a.n_kv = 0);
    REFUSED(ERR_RANGE, "heads", a.n_kv = 7);
    REFUSED(ERR_RANGE, "head size", a.head_dim = 0);
    REFUSED(ERR_RANGE, "head size", a.head_dim = 0x10000000);
    REFUSED(ERR_RANGE, "parts", a.mlp_parts = 0);
    REFUSED(ERR_RANGE, "parts", a.mlp_parts = 65);
    REFUSED(ERR_RANGE, "width", a.inter = 0xffffffff);
    REFUSED(ERR_RANGE, "width", a.inter = 0);
    REFUSED(ERR_RANGE, "dense", a.n_dense = 47);
    REFUSED(ERR_RANGE, "experts", a.n_experts = 0);
    REFUSED(ERR_RANGE, "experts", a.n_experts = 1025);
    REFUSED(ERR_RANGE, "experts", a.moe_inter = 0);
    REFUSED(ERR_RANGE, "shared", a.n_shared = 1024);
    REFUSED(ERR_RANGE, "groups", a.n_group = 0);
    REFUSED(ERR_RANGE, "groups", a.n_group = 3);
    REFUSED(ERR_RANGE, "groups", a.topk_group = 2);
    REFUSED(ERR_RANGE, "two experts", a.n_group = 128);
    REFUSED(ERR_RANGE, "chosen", a.top_k = 0);
    REFUSED(ERR_RANGE, "chosen", a.n_group = 32, a.topk_group = 1);
    REFUSED(ERR_RANGE, "epsilon", a.eps = 0);
    REFUSED(ERR_RANGE, "epsilon", a.eps = (float)NAN);
    REFUSED(ERR_RANGE, "scale", a.routed_scale = (float)INFINITY);
    REFUSED(ERR_RANGE, "rotary", a.rope_half = 65);
    REFUSED(ERR_RANGE, "rotary", a.rope_freq[3] = (double)NAN);
    REFUSED(ERR_RANGE, "rotary", a.rope_scale = (double)INFINITY);
    REFUSED(ERR_UNSUPPORTED, "type", a.type[WR_EMBED] = 77);
    REFUSED(ERR_UNSUPPORTED, "exchange", a.exchange = FT_F16);
    REFUSED(ERR_UNSUPPORTED, "kv", a.kv = FT_BF16);
    REFUSED(ERR_RANGE, "tiles", a.hidden = 65536, a.moe_inter = 65536, a.type[WR_EXPERTS] = WT_F32);
    REFUSED(ERR_RANGE, "16 rows", a.hidden = 65536, a.type[WR_ATTN] = WT_F32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inverse), cmocka_unit_test(counts),   cmocka_unit_test(parts),
        cmocka_unit_test(sizes),   cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
