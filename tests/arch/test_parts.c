/* Sets of parts of layers: adding, cutting, asking, sizes, words, and what is refused. */
#include "arch/parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* 1 dense layer, 3 with 8 experts, a prediction layer with experts. */
static struct arch toy(void)
{
    struct arch a = { .family = ARCH_GLM4_MOE,
                      .n_layers = 4,
                      .n_predict = 1,
                      .hidden = 64,
                      .vocab = 320,
                      .n_heads = 8,
                      .n_kv = 4,
                      .head_dim = 16,
                      .inter = 160,
                      .mlp_parts = 4,
                      .n_dense = 1,
                      .n_experts = 8,
                      .top_k = 2,
                      .n_shared = 1,
                      .moe_inter = 32,
                      .n_group = 1,
                      .topk_group = 1,
                      .context = 512,
                      .eps = 1e-5f,
                      .routed_scale = 1,
                      .rope_scale = 1,
                      .exchange = FT_BF16,
                      .kv = FT_F16 };
    for (int r = 0; r < WR_COUNT; r++) a.type[r] = WT_Q80;
    return a;
}

static void sets(void **state)
{
    (void)state;
    struct parts p = { 0 };
    struct why why;
    uint32_t lo, hi;
    char text[PARTS_TEXT];

    parts_span(&p, &lo, &hi);
    assert_int_equal(lo, hi);
    assert_int_equal(parts_parse(&p, 1, 4, SHARD_EXPERT, "0-2,3,6", &why), ERR_OK);
    assert_int_equal(parts_parse(&p, 1, 4, SHARD_HEADS, "0", &why), ERR_OK);
    assert_int_equal(p.n, 3); /* 0-3 is one range */
    parts_text(text, &p);
    assert_string_equal(text, "experts 0-3, expert 6, head group 0 of layers 1-3");
    for (uint32_t l = 0; l < 6; l++)
        for (uint32_t e = 0; e < 8; e++)
            assert_int_equal(parts_have(&p, l, SHARD_EXPERT, e),
                             l >= 1 && l < 4 && (e < 4 || e == 6));
    assert_false(parts_have(&p, 1, SHARD_TRUNK, 0));
    parts_span(&p, &lo, &hi);
    assert_int_equal(lo, 1);
    assert_int_equal(hi, 4);
    assert_int_equal(parts_cut(&p, 2, 3), ERR_OK);
    assert_true(parts_name(&p, 1) && !parts_name(&p, 2) && parts_name(&p, 3));
    assert_int_equal(p.n, 6);
    assert_int_equal(parts_cut(&p, 0, 9), ERR_OK);
    assert_int_equal(p.n, 0);
    parts_text(text, &p);
    assert_string_equal(text, "nothing");
}

/* Random parts: the set has exactly what was added, whatever was merged. */
static void merging(void **state)
{
    (void)state;
    srand(7);
    for (int round = 0; round < 300; round++) {
        bool has[6][3][9] = { 0 };
        struct parts p = { 0 };
        for (int i = 0; i < 12; i++) {
            struct part q = { .lo = (uint16_t)(rand() % 5), .kind = (uint8_t)(rand() % 3) };
            q.hi = (uint16_t)(q.lo + 1 + rand() % (6 - q.lo - 1 + 1));
            if (q.hi > 6) q.hi = 6;
            q.item_lo = (uint16_t)(rand() % 8);
            q.item_hi = (uint16_t)(q.item_lo + 1 + rand() % (9 - q.item_lo - 1 + 1));
            if (q.item_hi > 9) q.item_hi = 9;
            assert_int_equal(parts_add(&p, q), ERR_OK);
            for (uint32_t l = q.lo; l < q.hi; l++)
                for (uint32_t e = q.item_lo; e < q.item_hi; e++) has[l][q.kind][e] = true;
        }
        for (uint32_t l = 0; l < 6; l++)
            for (uint32_t k = 0; k < 3; k++)
                for (uint32_t e = 0; e < 9; e++)
                    assert_int_equal(parts_have(&p, l, (enum shard_kind)k, e), has[l][k][e]);
    }
}

static void full(void **state)
{
    (void)state;
    struct parts p = { 0 }, was;

    for (uint16_t i = 0; i < PARTS_MAX; i++)
        assert_int_equal(parts_add(&p, (struct part){ 0, 9, SHARD_EXPERT, (uint16_t)(2 * i),
                                                      (uint16_t)(2 * i + 1) }),
                         ERR_OK);
    was = p;
    assert_int_equal(parts_add(&p, (struct part){ 0, 9, SHARD_HEADS, 0, 1 }), ERR_FULL);
    assert_int_equal(parts_cut(&p, 4, 5), ERR_FULL);
    assert_true(parts_equal(&p, &was));
}

static void refused(const char *experts, const char *heads, uint32_t lo, uint32_t hi,
                    const char *sentence)
{
    struct arch a = toy();
    struct parts p = { 0 };
    struct why why = { "" };

    if (experts) assert_int_equal(parts_parse(&p, lo, hi, SHARD_EXPERT, experts, &why), ERR_OK);
    if (heads) assert_int_equal(parts_parse(&p, lo, hi, SHARD_HEADS, heads, &why), ERR_OK);
    enum err e = parts_check(&p, &a, &why);
    assert_int_equal(e, sentence ? ERR_RANGE : ERR_OK);
    if (sentence) assert_string_equal(why.text, sentence);
}

static void checked(void **state)
{
    (void)state;
    struct parts p = { 0 };
    struct why why;
    static const char *const bad[] = { "", "x", "1-", "-1", "3-1", "1,", "1 2", "70000", "1-2-3" };

    refused("0-7", "0-3", 0, 5, NULL);
    refused("5-8", NULL, 1, 4, "experts 5-8 of layers 1-3: they are numbered 0-7");
    refused(NULL, "4", 1, 2, "head group 4 of layers 1: they are numbered 0-3");
    refused("0", NULL, 0, 1, "expert 0 of layers 0: those layers have no experts");
    refused("0", NULL, 3, 6, "expert 0 of layers 3-5: the model has layers 0-4");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(parts_parse(&p, 0, 4, SHARD_EXPERT, bad[i], &why), ERR_USAGE);
}

/* All parts of a layer are as large as the layer. */
static void sizes(void **state)
{
    (void)state;
    struct arch a = toy();

    for (uint32_t l = 0; l < 5; l++) {
        struct parts all = { 0 };
        uint64_t sum = 0;
        for (enum shard_kind k = SHARD_TRUNK; k < SHARD_ENDS; k++) {
            uint32_t n = parts_items(&a, l, k);
            uint64_t kind = 0;
            for (uint32_t i = 0; i < n; i++) {
                struct parts one = { 0 };
                struct part q = { (uint16_t)l, (uint16_t)(l + 1), (uint8_t)k, (uint16_t)i,
                                  (uint16_t)(i + 1) };
                assert_int_equal(parts_add(&one, q), ERR_OK);
                assert_int_equal(parts_add(&all, q), ERR_OK);
                kind += parts_bytes(&one, &a, l);
                assert_true(parts_bytes(&one, &a, l) <= parts_item_bytes(&a, l, k));
            }
            assert_int_equal(n == 0, parts_item_bytes(&a, l, k) == 0);
            sum += kind;
        }
        assert_int_equal(sum, arch_bytes(&a, l));
        assert_int_equal(parts_bytes(&all, &a, l), arch_bytes(&a, l));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets),    cmocka_unit_test(merging), cmocka_unit_test(full),
        cmocka_unit_test(checked), cmocka_unit_test(sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
