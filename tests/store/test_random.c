/* Random models: every tile is what its hash says and finite, no two are alike, the bytes depend on
 * shape, types and seed alone, and what is computed with them stays finite. */
#include "model/forward.h"
#include "stage/pool.h"
#include "store/random.h"
#include "weights/weights.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/store/checkpoint.h"

static const char MOE[] =
    "{\"architectures\": [\"Glm4MoeForCausalLM\"], \"num_hidden_layers\": 30,"
    "\"hidden_size\": 160, \"vocab_size\": 300, \"num_attention_heads\": 4,"
    "\"num_key_value_heads\": 2, \"head_dim\": 32, \"intermediate_size\": 200,"
    "\"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-05, \"attention_bias\": true,"
    "\"tie_word_embeddings\": false, \"n_routed_experts\": 8, \"num_experts_per_tok\": 2,"
    "\"n_shared_experts\": 1, \"moe_intermediate_size\": 72, \"first_k_dense_replace\": 1,"
    "\"routed_scaling_factor\": 1.0, \"norm_topk_prob\": true, \"use_qk_norm\": true,"
    "\"num_nextn_predict_layers\": 1, \"rope_theta\": 1000000, \"eos_token_id\": 1}";
static const char DENSE[] =
    "{\"architectures\": [\"Glm4ForCausalLM\"], \"num_hidden_layers\": 40,"
    "\"hidden_size\": 128, \"vocab_size\": 300, \"num_attention_heads\": 4,"
    "\"num_key_value_heads\": 2, \"head_dim\": 32, \"intermediate_size\": 256,"
    "\"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-05, \"attention_bias\": false,"
    "\"tie_word_embeddings\": true, \"rope_theta\": 10000, \"eos_token_id\": 1}";

struct made {
    char dir[64];
    struct store *store;
    struct hash id;
};

static struct random_options options_of(enum wtype type, uint64_t seed, struct workers *w)
{
    return (struct random_options){ .type = type,
                                    .exchange = FT_BF16,
                                    .kv = FT_F16,
                                    .mlp_parts = 3,
                                    .seed = seed,
                                    .chat = "none",
                                    .workers = w };
}

static struct made make(const char *config, const struct random_options *o)
{
    static int number;
    struct made m;
    struct hf_config cfg;
    struct why why = { "" };
    uint8_t *body = NULL;
    size_t n = 0;

    snprintf(m.dir, sizeof m.dir, "random-%d-%d", (int)getpid(), number++);
    if (hf_config_parse(&cfg, slice_str(config), "config", &why) || random_settle(&cfg, o, &why) ||
        store_open(&m.store, m.dir, STORE_WRITE, &why) ||
        random_model(m.store, &cfg, o, &body, &n, &m.id, &why) ||
        store_put_model(m.store, slice_of(body, n),
                        &(struct store_name){ "m:r", m.id, { 0 }, { 0 } }, &why))
        fail_msg("%s", why.text);
    free(body);
    return m;
}

static void drop(struct made *m)
{
    store_close(m->store);
    remove_dir(m->dir);
}

static int by_bytes(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct hash));
}

/* Every tile of a layer; its hashes are added to all. */
static size_t check_layer(struct store *s, const struct manifest *m, uint32_t layer,
                          struct hash *all)
{
    struct slice table, tile;
    size_t n = 0;

    assert_int_equal(store_tile(s, layer == ARCH_ENDS ? &m->ends : &m->table[layer], &table), 0);
    for (uint32_t i = 0; i < arch_n_specs(&m->arch, layer); i++) {
        struct tensor_spec spec = arch_spec(&m->arch, layer, i);
        struct tiling l = tiling_of(spec.type, spec.rows, spec.cols);
        for (uint32_t t = 0; t < l.tiles; t++, n++) {
            memcpy(&all[n], table.p + n * HASH_BYTES, HASH_BYTES);
            assert_int_equal(store_tile(s, &all[n], &tile), 0);
            assert_int_equal(tile.n, tiling_tile_bytes(&l, t));
            assert_true(tile_finite(spec.type, spec.cols, tile.p, tile.n));
            struct hash h = hash_of(tile);
            assert_memory_equal(&h, &all[n], sizeof h);
        }
    }
    return n;
}

static void test_tiles(void **state)
{
    static struct manifest m;
    static struct hash all[1 << 16];

    (void)state;
    for (enum wtype type = 0; type < WT_COUNT; type++) {
        struct random_options o = options_of(type, 7, workers_inline());
        struct made made = make(MOE, &o);
        struct store_name name;
        size_t n = 0;
        assert_int_equal(store_find_model(made.store, NULL, &name, &m, NULL), 0);
        assert_int_equal(arch_all_layers(&m.arch), 31); /* the prediction layer too */
        for (uint32_t l = 0; l <= 31; l++)
            n += check_layer(made.store, &m, l == 31 ? ARCH_ENDS : l, all + n);
        qsort(all, n, sizeof *all, by_bytes);
        for (size_t i = 1; i < n; i++) assert_memory_not_equal(&all[i - 1], &all[i], sizeof *all);
        drop(&made);
    }
}

static void test_id(void **state)
{
    struct pool *pool;

    (void)state;
    assert_int_equal(pool_open(&pool, 3), 0);
    struct random_options o = options_of(WT_Q40, 7, workers_inline());
    struct random_options threads = options_of(WT_Q40, 7, pool_workers(pool));
    struct random_options seed = options_of(WT_Q40, 8, workers_inline());
    struct random_options fewer = o;
    fewer.layers = 2;
    struct made a = make(MOE, &o), b = make(MOE, &threads), c = make(MOE, &seed),
                d = make(MOE, &fewer);
    assert_memory_equal(&a.id, &b.id, sizeof a.id);
    assert_memory_not_equal(&a.id, &c.id, sizeof a.id);
    assert_memory_not_equal(&a.id, &d.id, sizeof a.id);
    drop(&a), drop(&b), drop(&c), drop(&d);
    pool_close(pool);
}

/* Logits of a few tokens: finite, neither dead nor huge, and not the same for every token. */
static void compute(const char *config, enum wtype type)
{
    enum { TOKENS = 12, VOCAB = 300 };
    static float logits[TOKENS][VOCAB];
    struct random_options o = options_of(type, 3, workers_inline());
    struct made made = make(config, &o);
    struct weights w;
    struct stage *stage;
    struct ends *ends;
    struct kv *kv;
    struct row row[TOKENS];
    int32_t ids[TOKENS];
    uint8_t x[TOKENS * 4 * 160];
    struct nonfinite bad;
    double sum = 0;

    assert_int_equal(weights_open(&w, made.store, NULL, 0, UINT32_MAX, true, NULL), 0);
    const struct arch *a = &w.manifest.arch;
    const struct kernels *k = kernels_pick(NULL, NULL);
    assert_int_equal(stage_open(&stage, a, w.layer, 0, a->n_layers, TOKENS, k, o.workers), 0);
    assert_int_equal(ends_open(&ends, a, &w.ends, TOKENS, k, o.workers), 0);
    assert_int_equal(kv_open(&kv, a, 0, a->n_layers, a->context), 0);
    for (int i = 0; i < TOKENS; i++) {
        ids[i] = i * 17 % VOCAB;
        row[i] = (struct row){ kv, (uint32_t)i };
    }
    assert_int_equal(ends_embed(ends, ids, TOKENS, x), 0);
    assert_int_equal(stage_forward(stage, row, TOKENS, x, &bad), 0);
    assert_int_equal(ends_logits(ends, x, TOKENS, logits[0], &bad), 0);
    for (int i = 0; i < TOKENS; i++)
        for (int v = 0; v < VOCAB; v++) sum += logits[i][v] * logits[i][v];
    double size = sqrt(sum / (TOKENS * VOCAB));
    assert_true(size > 0.1 && size < 100);
    assert_memory_not_equal(logits[3], logits[4], sizeof logits[3]);
    kv_close(kv);
    ends_close(ends);
    stage_close(stage);
    weights_close(&w);
    drop(&made);
}

static void test_compute(void **state)
{
    (void)state;
    for (enum wtype type = 0; type < WT_COUNT; type++) {
        compute(MOE, type);
        compute(DENSE, type);
    }
}

static void test_refuse(void **state)
{
    struct hf_config cfg;
    struct why why = { "" };
    struct random_options o = options_of(WT_Q40, 1, workers_inline());

    (void)state;
    o.layers = 31;
    assert_int_equal(hf_config_parse(&cfg, slice_str(MOE), "config", &why), 0);
    assert_int_equal(random_settle(&cfg, &o, &why), ERR_RANGE);
    assert_string_equal(why.text, "the model has 30 layers, 31 are asked for");
    assert_int_equal(hf_config_parse(&cfg, slice_str("[1]"), "config", &why), ERR_MALFORMED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiles),
        cmocka_unit_test(test_id),
        cmocka_unit_test(test_compute),
        cmocka_unit_test(test_refuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
