/* A conversion's tiles hold the source's numbers, in the right places; its id depends on source
 * and options alone; what it does not understand it refuses; killed, it is resumed. */
#include "store/convert.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "tests/store/checkpoint.h"

#define FIXTURE(name) TESTS_DIR "/fixtures/" name
#define ATLAS SOURCE_DIR "/models/atlas"

static char src[64], dir[64], dir2[64];

/* --- workers: threads that share a counter --- */

struct crew {
    struct workers w;
    void (*task)(void *arg, uint32_t i);
    void *arg;
    uint32_t n_tasks;
    atomic_uint next;
};

static void *work(void *arg)
{
    struct crew *c = arg;
    for (uint32_t i; (i = atomic_fetch_add(&c->next, 1)) < c->n_tasks;) c->task(c->arg, i);
    return NULL;
}

static void crew_run(struct workers *w, void (*task)(void *arg, uint32_t i), void *arg,
                     uint32_t n_tasks)
{
    struct crew *c = (struct crew *)w;
    pthread_t t[8];

    c->task = task;
    c->arg = arg;
    c->n_tasks = n_tasks;
    atomic_store(&c->next, 0);
    for (unsigned i = 1; i < w->n; i++) assert_int_equal(pthread_create(&t[i], NULL, work, c), 0);
    work(c);
    for (unsigned i = 1; i < w->n; i++) pthread_join(t[i], NULL);
}

static struct workers *crew(unsigned n)
{
    static struct crew c;
    c.w = (struct workers){ n, crew_run };
    return &c.w;
}

/* --- one conversion --- */

static struct convert_options plain(enum wtype type)
{
    return (struct convert_options){ .type = type,
                                     .exchange = FT_BF16,
                                     .kv = FT_F16,
                                     .mlp_parts = 8,
                                     .chat = "none",
                                     .workers = workers_inline() };
}

static enum err convert_in(struct store *s, const char *from, const struct convert_options *o,
                           struct hash *id, struct convert_sizes *sizes, struct why *why)
{
    struct hf_config *cfg = calloc(1, sizeof *cfg);
    struct convert *c = NULL;
    uint8_t *body = NULL;
    size_t n;

    enum err e = hf_config_read(cfg, from, why);
    if (!e) e = convert_open(&c, s, from, cfg, o, why);
    if (!e) e = convert_check_room(c, why);
    if (!e && sizes) *sizes = *convert_sizes(c);
    if (!e) e = convert_run(c, why);
    if (!e) e = convert_finish(c, &body, &n, id, why);
    if (!e) e = store_put_model(s, slice_of(body, n), NULL, why);
    free(body);
    convert_close(c);
    free(cfg);
    return e;
}

static enum err convert_to(const char *to, const char *from, const struct convert_options *o,
                           struct hash *id, struct why *why)
{
    struct store *s;
    enum err e = store_open(&s, to, STORE_WRITE, why);
    if (e) return e;
    e = convert_in(s, from, o, id, NULL, why);
    store_close(s);
    return e;
}

/* The id of a conversion into a fresh store. */
static struct hash id_of(const char *from, const struct convert_options *o)
{
    struct hash id;
    struct why why = { "" };
    remove_dir(dir);
    if (convert_to(dir, from, o, &id, &why)) fail_msg("%s", why.text);
    return id;
}

static void same(const struct hash *a, const struct hash *b)
{
    assert_memory_equal(a->b, b->b, HASH_BYTES);
}

static void differ(const struct hash *a, const struct hash *b)
{
    assert_memory_not_equal(a->b, b->b, HASH_BYTES);
}

static void hex(char out[65], const struct hash *h)
{
    for (int i = 0; i < HASH_BYTES; i++) snprintf(out + 2 * i, 3, "%02x", h->b[i]);
}

/* --- values --- */

static const struct st_tensor *in_layer(struct checkpoint *ck, uint32_t layer, const char *name)
{
    char full[160];
    snprintf(full, sizeof full, "model.layers.%u.%s", layer, name);
    return ck_find(ck, full);
}

static const struct st_tensor *place(uint64_t *at, const struct st_tensor *t, uint64_t i)
{
    *at = i;
    return t;
}

/* Where row r of one of our tensors begins, straight from the checkpoint's definition. */
static const struct st_tensor *row_of(struct checkpoint *ck, const struct arch *a, uint32_t layer,
                                      const struct tensor_spec *s, uint32_t r, uint64_t *at)
{
    uint32_t group = a->n_heads / a->n_kv * a->head_dim, lo = 0, hi = 0;
    uint64_t H = a->hidden, i = s->item;
    const struct st_tensor *t;
    char name[96];

    if (s->shard == SHARD_DENSE) arch_part(a, s->item, &lo, &hi);
#define L(n) in_layer(ck, layer, n)
    switch (s->role) {
    case T_ATTN_NORM: return place(at, L("input_layernorm.weight"), r);
    case T_MLP_NORM: return place(at, L("post_attention_layernorm.weight"), r);
    case T_POST_ATTN_NORM: return place(at, L("post_self_attn_layernorm.weight"), r);
    case T_POST_MLP_NORM: return place(at, L("post_mlp_layernorm.weight"), r);
    case T_Q_NORM: return place(at, L("self_attn.q_norm.weight"), r);
    case T_K_NORM: return place(at, L("self_attn.k_norm.weight"), r);
    case T_ROUTER: return place(at, L("mlp.gate.weight"), r * H);
    case T_ROUTER_BIAS: return place(at, L("mlp.gate.e_score_correction_bias"), r);
    case T_SHARED_GATE: return place(at, L("mlp.shared_experts.gate_proj.weight"), r * H);
    case T_SHARED_UP: return place(at, L("mlp.shared_experts.up_proj.weight"), r * H);
    case T_SHARED_DOWN:
        return place(at, L("mlp.shared_experts.down_proj.weight"),
                     (uint64_t)r * a->moe_inter * a->n_shared);
    case T_EH_PROJ: return place(at, L("eh_proj.weight"), r * 2 * H);
    case T_E_NORM: return place(at, L("enorm.weight"), r);
    case T_H_NORM: return place(at, L("hnorm.weight"), r);
    case T_PREDICT_NORM: return place(at, L("shared_head.norm.weight"), r);
    case T_Q: return place(at, L("self_attn.q_proj.weight"), (i * group + r) * H);
    case T_K: return place(at, L("self_attn.k_proj.weight"), (i * a->head_dim + r) * H);
    case T_V: return place(at, L("self_attn.v_proj.weight"), (i * a->head_dim + r) * H);
    case T_O:
        return place(at, L("self_attn.o_proj.weight"),
                     (uint64_t)r * a->n_heads * a->head_dim + i * group);
    case T_Q_BIAS: return place(at, L("self_attn.q_proj.bias"), i * group + r);
    case T_K_BIAS: return place(at, L("self_attn.k_proj.bias"), i * a->head_dim + r);
    case T_V_BIAS: return place(at, L("self_attn.v_proj.bias"), i * a->head_dim + r);
    case T_EXPERT_GATE:
    case T_EXPERT_UP:
    case T_EXPERT_DOWN:
        snprintf(name, sizeof name, "mlp.experts.%u.%s_proj.weight", s->item,
                 s->role == T_EXPERT_GATE ? "gate"
                 : s->role == T_EXPERT_UP ? "up"
                                          : "down");
        t = L(name);
        return place(at, t, r * t->dim[1]);
    case T_DENSE_GATE:
    case T_DENSE_UP:
        if (a->family == ARCH_GLM4)
            return place(at, L("mlp.gate_up_proj.weight"),
                         ((s->role == T_DENSE_UP ? a->inter : 0) + (uint64_t)lo + r) * H);
        return place(at, L(s->role == T_DENSE_GATE ? "mlp.gate_proj.weight" : "mlp.up_proj.weight"),
                     ((uint64_t)lo + r) * H);
    case T_DENSE_DOWN: return place(at, L("mlp.down_proj.weight"), (uint64_t)r * a->inter + lo);
    case T_EMBED: return place(at, ck_find(ck, "model.embed_tokens.weight"), r * H);
    case T_FINAL_NORM: return place(at, ck_find(ck, "model.norm.weight"), r);
    case T_HEAD: return place(at, ck_find(ck, "lm_head.weight"), r * H);
    case T_ROLES: break;
    }
#undef L
    fail_msg("role %d", s->role);
    return NULL;
}

/* Row by row: equal for floats, within half a step for quantized types. */
static void check_row(const float *got, const float *want, const struct tensor_spec *s)
{
    for (uint32_t c0 = 0; c0 < s->cols; c0 += BLOCK) {
        uint32_t c1 = c0 + BLOCK < s->cols ? c0 + BLOCK : s->cols;
        float most = 0;
        for (uint32_t c = c0; c < c1; c++) most = fmaxf(most, fabsf(want[c]));
        for (uint32_t c = c0; c < c1; c++) {
            if (s->type == WT_Q80) /* a step is most / 127, kept in f16 */
                assert_true(fabsf(got[c] - want[c]) <= most / 127 * 0.57f);
            else if (s->type == WT_Q40)
                assert_true(fabsf(got[c] - want[c]) <= most / 8 * 1.01f);
            else
                assert_true(got[c] == want[c]);
        }
    }
}

static void check_layer(struct store *st, struct checkpoint *ck, const struct manifest *m,
                        uint32_t layer)
{
    const struct arch *a = &m->arch;
    const uint8_t **p = calloc(manifest_n_tiles(a, layer), sizeof *p), **at = p;
    struct why why = { "" };

    if (store_layer_tiles(st, m, layer, NULL, p, &why)) fail_msg("%s", why.text);
    for (uint32_t i = 0; i < arch_n_specs(a, layer); i++) {
        struct tensor_spec s = arch_spec(a, layer, i);
        struct tensor t = { s.type, s.rows, s.cols, tiling_of(s.type, s.rows, s.cols), at };
        float *got = malloc(s.cols * sizeof *got), *want = malloc(s.cols * sizeof *want);
        for (uint32_t r = 0; r < s.rows; r++) {
            uint64_t first = 0; /* (gcc for aarch64 does not see that row_of sets it) */
            const struct st_tensor *from = row_of(ck, a, layer, &s, r, &first);
            for (uint32_t c = 0; c < s.cols; c++) want[c] = ck_value(from, first + c);
            tensor_row(&t, r, got);
            check_row(got, want, &s);
        }
        at += t.tiling.tiles;
        free(got);
        free(want);
    }
    free(p);
}

static void check_values(const char *from, const struct convert_options *o)
{
    struct checkpoint *ck = malloc(sizeof *ck);
    struct manifest *m = calloc(1, sizeof *m);
    struct store_name entry;
    struct store *s;
    struct why why = { "" };
    struct hash id = id_of(from, o);
    char name[65];

    ck_load(ck, from);
    hex(name, &id);
    if (store_open(&s, dir, STORE_READ, &why)) fail_msg("%s", why.text);
    if (store_find_model(s, name, &entry, m, &why)) fail_msg("%s", why.text);
    for (uint32_t l = 0; l < arch_all_layers(&m->arch); l++) {
        assert_true(store_holds_layer(s, m, l));
        check_layer(s, ck, m, l);
    }
    check_layer(s, ck, m, ARCH_ENDS);
    store_close(s);
    ck_free(ck);
    free(ck);
    free(m);
}

static void float_tiles_hold_the_source(void **state)
{
    (void)state;
    struct convert_options o = plain(WT_F32);
    check_values(FIXTURE("glm4-dense"), &o);
    check_values(FIXTURE("glm4-moe-air"), &o);
    check_values(FIXTURE("glm4-moe-qknorm"), &o);
    o.mlp_parts = 3;
    check_values(FIXTURE("glm4-dense"), &o);
    check_values(FIXTURE("glm4-moe-air"), &o);
    check_values(ATLAS, &o); /* with the prediction layer */
    o.type = WT_BF16;        /* as the source */
    check_values(FIXTURE("glm4-moe-air"), &o);
}

static void quantized_tiles_are_near_the_source(void **state)
{
    (void)state;
    struct convert_options o = plain(WT_Q80);
    o.workers = crew(2);
    check_values(FIXTURE("glm4-dense"), &o);
    check_values(ATLAS, &o);
    o.has_type[WR_EXPERTS] = true;
    o.type_of[WR_EXPERTS] = WT_Q40;
    o.has_type[WR_HEAD] = true;
    o.type_of[WR_HEAD] = WT_F32;
    check_values(FIXTURE("glm4-moe-qknorm"), &o);
}

/* --- ids --- */

static void id_is_of_source_and_options_alone(void **state)
{
    (void)state;
    struct checkpoint *ck = malloc(sizeof *ck);
    struct convert_options o = plain(WT_Q80);
    struct hash id = id_of(FIXTURE("glm4-moe-qknorm"), &o), other;

    o.workers = crew(3);
    other = id_of(FIXTURE("glm4-moe-qknorm"), &o);
    same(&id, &other);
    o.workers = crew(7);
    other = id_of(FIXTURE("glm4-moe-qknorm"), &o);
    same(&id, &other);

    /* three shards there, one file here */
    ck_load(ck, FIXTURE("glm4-moe-qknorm"));
    ck_write(ck, src);
    other = id_of(src, &o);
    same(&id, &other);

    /* the same numbers as f32 */
    for (uint32_t i = 0; i < ck->n; i++) {
        struct st_tensor *t = &ck->t[i];
        if (t->dtype == ST_F32 || strstr(t->name, "experts")) continue;
        size_t n = t->data.n / 2;
        if (ck->n_owned == CK_OWNED) break;
        float *f = ck_keep(ck, malloc(n * 4));
        for (size_t k = 0; k < n; k++) f[k] = ck_value(t, k);
        t->data = slice_of(f, n * 4);
        t->dtype = ST_F32;
    }
    ck_write(ck, src);
    other = id_of(src, &o);
    same(&id, &other);

    /* every option that changes the model changes the id */
    o.mlp_parts = 4;
    other = id_of(src, &o);
    differ(&id, &other);
    o = plain(WT_Q80);
    o.exchange = FT_F32;
    other = id_of(src, &o);
    differ(&id, &other);
    o = plain(WT_Q80);
    o.kv = FT_F32;
    other = id_of(src, &o);
    differ(&id, &other);
    o = plain(WT_Q40);
    other = id_of(src, &o);
    differ(&id, &other);
    o = plain(WT_Q80);
    o.chat = "glm-4.5";
    other = id_of(src, &o);
    differ(&id, &other);
    o = plain(WT_Q80);
    o.tokenizer = slice_str("{}");
    other = id_of(src, &o);
    differ(&id, &other);
    ck_free(ck);
    free(ck);
}

static void a_role_that_is_not_there(void **state)
{
    (void)state;
    struct convert_options o = plain(WT_Q80);
    struct hash id;
    struct why why = { "" };

    o.has_type[WR_EXPERTS] = true;
    o.type_of[WR_EXPERTS] = WT_Q40;
    remove_dir(dir);
    assert_int_equal(convert_to(dir, FIXTURE("glm4-dense"), &o, &id, &why), ERR_USAGE);
    assert_non_null(strstr(why.text, "no experts weights"));

    /* spelling all roles out is the same model */
    struct hash whole;
    o = plain(WT_Q80);
    whole = id_of(FIXTURE("glm4-dense"), &o);
    o = plain(WT_F32);
    for (int r = 0; r < WR_COUNT; r++) {
        o.has_type[r] = r != WR_SHARED && r != WR_EXPERTS;
        o.type_of[r] = WT_Q80;
    }
    id = id_of(FIXTURE("glm4-dense"), &o);
    same(&whole, &id);
}

static void some_layers_are_kept(void **state)
{
    (void)state;
    static uint8_t tok[TILE_BYTES + 7];
    struct convert_options o = plain(WT_Q80);
    struct manifest *m = calloc(1, sizeof *m);
    struct store_name entry;
    struct store *s;
    struct hash whole, id;
    struct why why = { "" };
    char name[65];
    uint8_t *p;
    size_t n;

    memset(tok, 7, sizeof tok);
    o.tokenizer = slice_of(tok, sizeof tok);
    whole = id_of(ATLAS, &o);
    o.lo = 3;
    o.hi = 6;
    id = id_of(ATLAS, &o);
    same(&whole, &id);
    hex(name, &id);
    assert_int_equal(store_open(&s, dir, STORE_READ, &why), ERR_OK);
    assert_int_equal(store_find_model(s, name, &entry, m, &why), ERR_OK);
    for (uint32_t l = 0; l < 9; l++) assert_int_equal(store_holds_layer(s, m, l), l >= 3 && l < 6);
    assert_true(store_holds_layer(s, m, ARCH_ENDS));
    assert_int_equal(store_tokenizer(s, m, &p, &n, &why), ERR_OK);
    assert_int_equal(n, sizeof tok);
    assert_memory_equal(p, tok, n);
    free(p);
    store_close(s);

    /* more of it into the same store, then all */
    o.no_ends = true;
    o.lo = 8;
    o.hi = 9;
    if (convert_to(dir, ATLAS, &o, &id, &why)) fail_msg("%s", why.text);
    same(&whole, &id);
    assert_int_equal(store_open(&s, dir, STORE_READ, &why), ERR_OK);
    for (uint32_t l = 0; l < 9; l++)
        assert_int_equal(store_holds_layer(s, m, l), (l >= 3 && l < 6) || l == 8);
    store_close(s);
    o.lo = o.hi = 0;
    if (convert_to(dir, ATLAS, &o, &id, &why)) fail_msg("%s", why.text);
    same(&whole, &id);
    assert_int_equal(store_open(&s, dir, STORE_READ, &why), ERR_OK);
    for (uint32_t l = 0; l < 9; l++) assert_true(store_holds_layer(s, m, l));
    store_close(s);

    remove_dir(dir);
    o.lo = 0;
    o.hi = 1;
    if (convert_to(dir, ATLAS, &o, &id, &why)) fail_msg("%s", why.text);
    same(&whole, &id);
    assert_int_equal(store_open(&s, dir, STORE_READ, &why), ERR_OK);
    assert_false(store_holds_layer(s, m, ARCH_ENDS));
    assert_int_equal(store_tokenizer(s, m, &p, &n, &why), ERR_NOTFOUND);
    store_close(s);

    o.hi = 10;
    assert_int_equal(convert_to(dir, ATLAS, &o, &id, &why), ERR_USAGE);
    assert_non_null(strstr(why.text, "the model has layers 0-8"));
    free(m);
}

/* --- other spellings of the same tensors --- */

/* Per-expert tensors of a layer into the two fused ones. */
static void fuse_experts(struct checkpoint *ck, uint32_t layer, uint32_t n_experts)
{
    char name[96];
    const struct st_tensor *g = in_layer(ck, layer, "mlp.experts.0.gate_proj.weight");
    uint64_t im = g->dim[0], h = g->dim[1];
    size_t each = g->data.n;
    uint8_t *both = ck_keep(ck, malloc(each * 2 * n_experts));
    uint8_t *down = ck_keep(ck, malloc(each * n_experts));

    for (uint32_t e = 0; e < n_experts; e++) {
        snprintf(name, sizeof name, "mlp.experts.%u.gate_proj.weight", e);
        memcpy(both + each * 2 * e, in_layer(ck, layer, name)->data.p, each);
        snprintf(name, sizeof name, "mlp.experts.%u.up_proj.weight", e);
        memcpy(both + each * (2 * e + 1), in_layer(ck, layer, name)->data.p, each);
        snprintf(name, sizeof name, "mlp.experts.%u.down_proj.weight", e);
        memcpy(down + each * e, in_layer(ck, layer, name)->data.p, each);
    }
    snprintf(name, sizeof name, "model.layers.%u.mlp.experts.", layer);
    ck_remove_all(ck, name);
    struct st_tensor *t = &ck->t[ck->n++];
    snprintf(name, sizeof name, "model.layers.%u.mlp.experts.gate_up_proj", layer);
    *t = (struct st_tensor){ .name = ck_keep(ck, strdup(name)),
                             .dtype = ST_BF16,
                             .n_dims = 3,
                             .dim = { n_experts, 2 * im, h },
                             .data = slice_of(both, each * 2 * n_experts) };
    t = &ck->t[ck->n++];
    snprintf(name, sizeof name, "model.layers.%u.mlp.experts.down_proj", layer);
    *t = (struct st_tensor){ .name = ck_keep(ck, strdup(name)),
                             .dtype = ST_BF16,
                             .n_dims = 3,
                             .dim = { n_experts, h, im },
                             .data = slice_of(down, each * n_experts) };
}

static void fused_tensors_are_the_same_model(void **state)
{
    (void)state;
    struct checkpoint *ck = malloc(sizeof *ck);
    struct convert_options o = plain(WT_Q40);
    struct hash id = id_of(FIXTURE("glm4-moe-air"), &o), other;

    ck_load(ck, FIXTURE("glm4-moe-air"));
    fuse_experts(ck, 1, 8);
    fuse_experts(ck, 3, 8);
    ck_write(ck, src);
    other = id_of(src, &o);
    same(&id, &other);
    ck_free(ck);

    /* gate and up of a Glm4 apart */
    id = id_of(FIXTURE("glm4-dense"), &o);
    ck_load(ck, FIXTURE("glm4-dense"));
    for (uint32_t l = 0; l < 4; l++) {
        char gate[96], up[96];
        struct st_tensor t = *in_layer(ck, l, "mlp.gate_up_proj.weight");
        snprintf(gate, sizeof gate, "model.layers.%u.mlp.gate_proj.weight", l);
        snprintf(up, sizeof up, "model.layers.%u.mlp.up_proj.weight", l);
        ck_remove(ck, t.name);
        t.dim[0] /= 2;
        t.data.n /= 2;
        t.name = ck_keep(ck, strdup(gate));
        ck->t[ck->n++] = t;
        t.data.p += t.data.n;
        t.name = ck_keep(ck, strdup(up));
        ck->t[ck->n++] = t;
    }
    ck_write(ck, src);
    other = id_of(src, &o);
    same(&id, &other);
    ck_free(ck);
    free(ck);
}

static void what_may_be_left_out_or_dropped(void **state)
{
    (void)state;
    struct checkpoint *ck = malloc(sizeof *ck);
    struct convert_options o = plain(WT_Q80);
    struct manifest *m = calloc(1, sizeof *m);
    struct hash id = id_of(FIXTURE("glm4-moe-air"), &o), other;

    /* flags that the tensors show; rotary tables of old files */
    ck_load(ck, FIXTURE("glm4-moe-air"));
    ck_config(ck, "\"attention_bias\": true,", "");
    ck_config(ck, "\"use_qk_norm\": false,", "");
    ck_config(ck, "\"tie_word_embeddings\": false,", "");
    ck_config(ck, "\"num_nextn_predict_layers\": 0,", "");
    ck_add(ck, "model.layers.0.self_attn.rotary_emb.inv_freq", ST_F32, 8, 0);
    ck_add(ck, "model.rotary_emb.inv_freq", ST_F32, 8, 0);
    ck_write(ck, src);
    other = id_of(src, &o);
    same(&id, &other);
    /* a prediction layer that the files lack */
    ck_config(ck, "\"output_attentions\": false", "\"num_nextn_predict_layers\": 1");
    ck_write(ck, src);
    other = id_of(src, &o);
    same(&id, &other);
    ck_free(ck);

    /* the prediction layer's copies */
    ck_load(ck, ATLAS);
    ck_write(ck, src);
    id = id_of(src, &o);
    bool had = false;
    for (uint32_t i = 0; i < ck->n; i++) had |= !!strstr(ck->t[i].name, "layers.8.embed_tokens");
    if (had) {
        ck_remove(ck, "model.layers.8.embed_tokens.weight");
        ck_remove(ck, "model.layers.8.shared_head.head.weight");
    } else {
        ck_add(ck, "model.layers.8.embed_tokens.weight", ST_BF16, 4, 4);
        ck_add(ck, "model.layers.8.shared_head.head.weight", ST_BF16, 4, 4);
    }
    ck_write(ck, src);
    other = id_of(src, &o);
    same(&id, &other);
    /* without the layer it is another model, and a good one */
    ck_remove_all(ck, "model.layers.8.");
    ck_write(ck, src);
    other = id_of(src, &o);
    differ(&id, &other);
    ck_free(ck);
    free(ck);
    free(m);
}

/* Without shared experts the reference writes tensors without rows, or without columns. */
static void empty_tensors_are_passed_over(void **state)
{
    (void)state;
    struct checkpoint *ck = malloc(sizeof *ck);
    struct convert_options o = plain(WT_Q80);

    ck_load(ck, FIXTURE("glm4-moe-air"));
    ck_config(ck, "\"n_shared_experts\": 1", "\"n_shared_experts\": 0");
    ck_remove_all(ck, "mlp.shared_experts");
    ck_write(ck, src);
    struct hash id = id_of(src, &o), other;
    ck_add(ck, "model.layers.1.mlp.shared_experts.gate_proj.weight", ST_BF16, 0, 128);
    ck_add(ck, "model.layers.1.mlp.shared_experts.down_proj.weight", ST_BF16, 0, 128)->dim[0] = 128;
    ck->t[ck->n - 1].dim[1] = 0;
    ck_write(ck, src);
    other = id_of(src, &o);
    same(&id, &other);
    ck_free(ck);
    free(ck);
}

static void tied_embeddings(void **state)
{
    (void)state;
    struct checkpoint *ck = malloc(sizeof *ck);
    struct convert_options o = plain(WT_Q80);
    struct hash id, other, not_tied = id_of(FIXTURE("glm4-moe-air"), &o);
    struct why why = { "" };

    ck_load(ck, FIXTURE("glm4-moe-air"));
    struct st_tensor head = *ck_find(ck, "lm_head.weight");
    ck_remove(ck, "lm_head.weight");
    ck_config(ck, "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true");
    ck_write(ck, src);
    id = id_of(src, &o);
    differ(&id, &not_tied);
    ck_config(ck, "\"tie_word_embeddings\": true,", "");
    ck_write(ck, src);
    other = id_of(src, &o);
    same(&id, &other);

    ck_config(ck, "\"use_cache\"", "\"tie_word_embeddings\": true, \"use_cache\"");
    struct st_tensor *t = &ck->t[ck->n++];
    *t = *ck_find(ck, "model.embed_tokens.weight"); /* stored twice */
    t->name = "lm_head.weight";
    ck_write(ck, src);
    other = id_of(src, &o);
    same(&id, &other);
    *t = head;
    ck_write(ck, src);
    assert_int_equal(convert_to(dir, src, &o, &other, &why), ERR_MALFORMED);
    assert_non_null(strstr(why.text, "tie_word_embeddings"));

    o.has_type[WR_HEAD] = true;
    o.type_of[WR_HEAD] = WT_F32;
    ck_remove(ck, "lm_head.weight");
    ck_write(ck, src);
    assert_int_equal(convert_to(dir, src, &o, &other, &why), ERR_USAGE);
    assert_non_null(strstr(why.text, "no head weights"));
    ck_free(ck);
    free(ck);
}

/* --- refusals --- */

/* What src is now is refused with these words; an earlier model in the store is untouched. */
static void refused(const struct checkpoint *ck, const struct convert_options *o, const char *says)
{
    struct hash id;
    struct why why = { "" };

    ck_write(ck, src);
    enum err e = convert_to(dir2, src, o, &id, &why);
    assert_int_not_equal(e, ERR_OK);
    if (!strstr(why.text, says)) fail_msg("'%s' does not say '%s'", why.text, says);
    assert_null(strchr(why.text, '\n'));
}

#define Q0 "model.layers.0.self_attn.q_proj"

static void reload(struct checkpoint *ck, const char *from)
{
    ck_free(ck);
    ck_load(ck, from);
}

static void wrong_tensors_are_refused(void **state)
{
    (void)state;
    struct checkpoint *ck = malloc(sizeof *ck);
    struct convert_options o = plain(WT_Q80);
    struct st_tensor *t;
    const char *AIR = FIXTURE("glm4-moe-air");

    remove_dir(dir2);
    ck_load(ck, AIR);
    ck_remove(ck, "model.norm.weight");
    refused(ck, &o, "tensor model.norm.weight is missing");
    reload(ck, AIR);
    ck_remove(ck, "model.layers.2.mlp.experts.5.up_proj.weight");
    refused(ck, &o, "tensor model.layers.2.mlp.experts.5.up_proj.weight is missing");
    reload(ck, AIR);
    ck_remove(ck, "model.layers.2.mlp.gate.e_score_correction_bias");
    refused(ck, &o, "tensor model.layers.2.mlp.gate.e_score_correction_bias is missing");
    reload(ck, AIR);
    ck_remove(ck, "model.layers.3.self_attn.k_proj.bias");
    refused(ck, &o, "tensor model.layers.3.self_attn.k_proj.bias is missing");
    reload(ck, AIR);
    ck_remove(ck, "lm_head.weight");
    refused(ck, &o, "tie_word_embeddings false, but tensor lm_head.weight is missing");

    reload(ck, AIR);
    ck_add(ck, "model.layers.1.mlp.experts.8.up_proj.weight", ST_BF16, 64, 128);
    refused(ck, &o,
            "unknown tensor model.layers.1.mlp.experts.8.up_proj.weight in "
            "model.safetensors");
    reload(ck, AIR);
    ck_add(ck, "model.layers.1.self_attn.o_proj.bias", ST_BF16, 128, 0);
    refused(ck, &o, "unknown tensor model.layers.1.self_attn.o_proj.bias");
    reload(ck, AIR);
    ck_add(ck, "model.layers.3.self_attn.q_norm.weight", ST_BF16, 32, 0);
    refused(ck, &o, "unknown tensor model.layers.3.self_attn.q_norm.weight");
    reload(ck, AIR);
    ck_add(ck, "model.layers.4.enorm.weight", ST_BF16, 128, 0);
    refused(ck, &o,
            "num_nextn_predict_layers 0 and num_hidden_layers 4, but tensor "
            "model.layers.4.enorm.weight is there");
    reload(ck, AIR);
    ck_add(ck, Q0 ".weight_scale_inv", ST_F32, 1, 0);
    refused(ck, &o, "quantized already");
    reload(ck, AIR);
    ck_add(ck, "model.visual.patch_embed.weight", ST_BF16, 4, 4);
    refused(ck, &o, "unknown tensor model.visual.patch_embed.weight");
    reload(ck, AIR);
    t = ck_find(ck, Q0 ".weight");
    t->dtype = ST_U8;
    t->dim[1] *= 2;
    refused(ck, &o, "tensor " Q0 ".weight has type U8, which is not supported");

    reload(ck, AIR);
    t = ck_find(ck, Q0 ".weight");
    t->dim[0] /= 2;
    t->dim[1] *= 2;
    refused(ck, &o, "tensor " Q0 ".weight has shape [128, 256], expected [256, 128]");
    reload(ck, AIR);
    t = ck_find(ck, Q0 ".bias");
    t->dim[1] = 1;
    t->n_dims = 2;
    refused(ck, &o, "tensor " Q0 ".bias has shape [256, 1], expected [256]");
    reload(ck, AIR);
    ck_config(ck, "\"vocab_size\": 512", "\"vocab_size\": 513");
    refused(ck, &o, "tensor model.embed_tokens.weight has shape [512, 128], expected [513, 128]");
    reload(ck, AIR);
    fuse_experts(ck, 2, 8);
    t = ck_find(ck, "model.layers.2.mlp.experts.gate_up_proj");
    t->dim[0] = 4;
    t->dim[1] *= 2;
    refused(ck, &o,
            "tensor model.layers.2.mlp.experts.gate_up_proj has shape [4, 256, 128], "
            "expected [8, 128, 128]");

    reload(ck, AIR);
    ck_config(ck, "\"attention_bias\": true", "\"attention_bias\": false");
    refused(ck, &o, "attention_bias false, but tensor " Q0 ".bias is there");
    reload(ck, AIR);
    ck_remove_all(ck, "_proj.bias");
    refused(ck, &o, "attention_bias true, but tensor " Q0 ".bias is missing");
    reload(ck, AIR);
    ck_config(ck, "\"use_qk_norm\": false", "\"use_qk_norm\": true");
    refused(ck, &o,
            "use_qk_norm true, but tensor model.layers.0.self_attn.q_norm.weight is "
            "missing");
    reload(ck, AIR);
    ck_config(ck, "\"num_attention_heads\": 8", "\"num_attention_heads\": 7");
    refused(ck, &o, "7 query heads");
    reload(ck, FIXTURE("glm4-dense"));
    ck_remove(ck, "model.layers.1.mlp.gate_up_proj.weight");
    refused(ck, &o, "tensor model.layers.1.mlp.gate_up_proj.weight is missing");
    ck_free(ck);
    free(ck);
}

static void put_u16(uint8_t *p, size_t i, uint16_t v)
{
    memcpy(p + 2 * i, &v, 2);
}

static void values_that_cannot_be_kept(void **state)
{
    (void)state;
    struct checkpoint *ck = malloc(sizeof *ck);
    struct convert_options o = plain(WT_Q80);
    const char *AIR = FIXTURE("glm4-moe-air");
    enum { NAN_BF16 = 0x7fc0, INF_BF16 = 0xff80, HUGE_BF16 = 0x7f00 };

    remove_dir(dir2);
    ck_load(ck, AIR);
    put_u16(ck_own_data(ck, Q0 ".weight"), 37 * 128 + 5, NAN_BF16);
    refused(ck, &o, "tensor " Q0 ".weight: element [37, 5] is infinite or not a number");
    o.workers = crew(4);
    refused(ck, &o, "tensor " Q0 ".weight: element [37, 5] is infinite or not a number");
    reload(ck, AIR);
    put_u16(ck_own_data(ck, "model.layers.0.self_attn.o_proj.weight"), 3 * 256 + 200, INF_BF16);
    refused(ck, &o, "o_proj.weight: element [3, 200] is infinite");
    reload(ck, AIR);
    put_u16(ck_own_data(ck, "model.norm.weight"), 100, NAN_BF16);
    refused(ck, &o, "tensor model.norm.weight: element [100] is infinite or not a number");
    reload(ck, AIR);
    fuse_experts(ck, 2, 8);
    put_u16(ck_own_data(ck, "model.layers.2.mlp.experts.gate_up_proj"), (5 * 128 + 100) * 128 + 7,
            NAN_BF16);
    refused(ck, &o, "gate_up_proj: element [5, 100, 7] is infinite or not a number");
    reload(ck, AIR);
    put_u16(ck_own_data(ck, "lm_head.weight"), 511 * 128 + 127, HUGE_BF16);
    refused(ck, &o, "tensor lm_head.weight: element [511, 127] is too large for q80");
    o.type = WT_F16;
    refused(ck, &o, "tensor lm_head.weight: element [511, 127] is too large for f16");
    o.type = WT_BF16;
    ck_write(ck, src);
    id_of(src, &o); /* finite, so bf16 and f32 keep it */
    ck_free(ck);
    free(ck);
}

/* --- folders --- */

static void folder_refused(const char *says)
{
    struct source *s;
    struct why why = { "" };
    enum err e = source_open(&s, src, &why);
    if (!e) source_close(s);
    assert_int_not_equal(e, ERR_OK);
    if (!strstr(why.text, says)) fail_msg("'%s' does not say '%s'", why.text, says);
}

static void index_files(void **state)
{
    (void)state;
    static const char INDEX[] = "model.safetensors.index.json";
    const float x[2] = { 1, 2 };
    struct st_tensor t[2] = {
        { .name = "a", .dtype = ST_F32, .n_dims = 1, .dim = { 1 }, .data = slice_of(x, 4) },
        { .name = "b", .dtype = ST_F32, .n_dims = 1, .dim = { 1 }, .data = slice_of(x + 1, 4) },
    };
    char one[96], two[96], single[96];
    struct source *s;

    remove_dir(src);
    assert_int_equal(mkdir(src, 0700), 0);
    folder_refused("holds neither model.safetensors nor");
    snprintf(one, sizeof one, "%s/x-1.safetensors", src);
    snprintf(two, sizeof two, "%s/x-2.safetensors", src);
    snprintf(single, sizeof single, "%s/model.safetensors", src);
    assert_int_equal(safetensors_write(one, t, 1, NULL), ERR_OK);
    assert_int_equal(safetensors_write(two, t + 1, 1, NULL), ERR_OK);

    put_text(src, INDEX,
             "{\"weight_map\": {\"a\": \"x-1.safetensors\", "
             "\"b\": \"x-2.safetensors\"}, \"metadata\": {\"total_size\": 1e99}}");
    assert_int_equal(source_open(&s, src, NULL), ERR_OK);
    assert_int_equal(source_n(s), 2);
    assert_int_equal(source_bytes(s), 8);
    assert_string_equal(source_file(s, source_find(s, "b")->file), "x-2.safetensors");
    assert_null(source_find(s, "c"));
    assert_null(source_find_prefix(s, "c"));
    assert_ptr_equal(source_find_prefix(s, ""), source_nth(s, 0));
    source_close(s);

#define MAP(a, b) "{\"weight_map\": {\"a\": " a ", \"b\": " b "}}"
    static const struct {
        const char *index, *says;
    } CASES[] = {
        { "", "" },
        { "[]", "weight_map is missing" },
        { "{\"weight_map\": []}", "weight_map is missing or no object" },
        { "{\"weight_map\": {}}", "weight_map is empty" },
        { MAP("\"x-1.safetensors\"", "\"x-1.safetensors\""), "tensor b is not in x-1" },
        { MAP("\"x-1.safetensors\"", "\"x-3.safetensors\""), "No such file" },
        { MAP("\"x-1.safetensors\"", "\"../x.safetensors\""), "tensor b lies in a file with no" },
        { MAP("\"x-1.safetensors\"", "\"/etc/x.safetensors\""), "no plain name" },
        { MAP("\"x-1.safetensors\"", "\"d\\\\x.safetensors\""), "no plain name" },
        { MAP("\"x-1.safetensors\"", "\"x\\u0000.safetensors\""), "no plain name" },
        { MAP("\"x-1.safetensors\"", "\".safetensors\""), "no plain name" },
        { MAP("\"x-1.safetensors\"", "\"..safetensors\""), "no plain name" },
        { MAP("\"x-1.safetensors\"", "\"config.json\""), "no plain name" },
        { MAP("\"x-1.safetensors\"", "7"), "no plain name" },
        { "{\"weight_map\": {\"a\": \"x-1.safetensors\", \"a\": \"x-1.safetensors\"}}", "" },
        { "{\"weight_map\": {\"a\\u0000\": \"x-1.safetensors\"}}", "name is unusable" },
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        put_text(src, INDEX, CASES[i].index);
        folder_refused(CASES[i].says);
    }
    /* a tensor in a shard that is not mapped; a tensor in two shards */
    assert_int_equal(safetensors_write(two, t, 2, NULL), ERR_OK);
    put_text(src, INDEX, "{\"weight_map\": {\"b\": \"x-2.safetensors\"}}");
    folder_refused("its files hold 2 tensors, 1 are mapped");
    put_text(src, INDEX, MAP("\"x-1.safetensors\"", "\"x-2.safetensors\""));
    folder_refused("its files hold 3 tensors, 2 are mapped");
    assert_int_equal(safetensors_write(single, t, 2, NULL), ERR_OK);
    folder_refused("one of them is stale");
    remove_dir(src);
}

/* --- again, and after a kill --- */

static void a_second_run_repeats_nothing(void **state)
{
    (void)state;
    struct checkpoint *ck = malloc(sizeof *ck);
    struct convert_options o = plain(WT_Q80);
    struct convert_sizes first, again;
    struct hash id, other;
    struct store *s;
    struct why why = { "" };

    ck_load(ck, FIXTURE("glm4-moe-air"));
    ck_write(ck, src);
    remove_dir(dir);
    assert_int_equal(store_open(&s, dir, STORE_WRITE, &why), ERR_OK);
    assert_int_equal(convert_in(s, src, &o, &id, &first, &why), ERR_OK);
    assert_int_equal(convert_in(s, src, &o, &other, &again, &why), ERR_OK);
    same(&id, &other);
    assert_int_equal(first.bytes_read, first.bytes_source);
    assert_int_equal(again.bytes_read, 0);
    assert_true(again.bytes_kept == first.bytes_kept && again.bytes_kept > 0);

    /* other options use what is the same: norms, router, biases */
    struct convert_options q40 = plain(WT_Q40);
    assert_int_equal(convert_in(s, src, &q40, &other, &again, &why), ERR_OK);
    assert_true(again.bytes_read > 0 && again.bytes_read < first.bytes_read);
    differ(&id, &other);

    /* one changed number in a file of the same length: nothing old is believed */
    uint8_t *p = ck_own_data(ck, Q0 ".weight");
    p[0] ^= 0x40;
    ck_write(ck, src);
    assert_int_equal(convert_in(s, src, &o, &other, &again, &why), ERR_OK);
    assert_int_equal(again.bytes_read, again.bytes_source);
    store_close(s);
    struct hash fresh = id_of(src, &o);
    same(&fresh, &other);
    differ(&id, &other);
    ck_free(ck);
    free(ck);
}

static uint64_t kill_at;
static void die_there(void *arg, uint64_t done, uint64_t total)
{
    (void)arg;
    (void)total;
    if (done >= kill_at) kill(getpid(), SIGKILL);
}

/* Kill at a moment, or at a place, of the conversion; then go on and finish. */
static bool kill_and_resume(const struct convert_options *o, const struct hash *whole,
                            useconds_t after, uint64_t at)
{
    struct convert_options child = *o;
    struct convert_sizes sizes = { 0 };
    struct store *s;
    struct hash id;
    struct why why = { "" };
    int status;

    remove_dir(dir);
    child.progress = die_there;
    kill_at = at;
    pid_t pid = fork();
    if (pid == 0) _exit(convert_to(dir, ATLAS, &child, &id, &why) ? 1 : 0);
    usleep(after);
    if (after) kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    assert_true(!WIFEXITED(status) || WEXITSTATUS(status) == 0);

    if (store_open(&s, dir, STORE_WRITE, &why)) fail_msg("%s", why.text);
    if (convert_in(s, ATLAS, o, &id, &sizes, &why)) fail_msg("%s", why.text);
    same(whole, &id);
    store_close(s);
    return sizes.bytes_read < sizes.bytes_source;
}

static void killed_conversions_are_resumed(void **state)
{
    (void)state;
    struct convert_options o = plain(WT_F32); /* 38 MB, so that it commits more than once */
    uint32_t middle = 0;

    o.workers = crew(2);
    struct hash whole = id_of(ATLAS, &o);
    srand(2);
    for (int k = 0; k < 20; k++)
        (void)kill_and_resume(&o, &whole, (useconds_t)(1 + rand() % 120000), UINT64_MAX);
    for (uint32_t k = 1; k <= 10; k++) /* the last ones after the first commit of 16 MiB */
        middle += kill_and_resume(&o, &whole, 0, k * UINT64_C(1900000));
    assert_in_range(middle, 3, 9);
}

static void a_source_that_changes_meanwhile(void **state)
{
    (void)state;
    struct checkpoint *ck = malloc(sizeof *ck);
    struct source *s;
    struct why why = { "" };
    char path[96];

    ck_load(ck, FIXTURE("glm4-dense"));
    ck_write(ck, src);
    assert_int_equal(source_open(&s, src, &why), ERR_OK);
    assert_int_equal(source_check_unchanged(s, &why), ERR_OK);
    snprintf(path, sizeof path, "%s/model.safetensors", src);
    FILE *f = fopen(path, "r+");
    fseek(f, -1, SEEK_END);
    fputc(0, f);
    fclose(f);
    assert_int_equal(source_check_unchanged(s, &why), ERR_IO);
    assert_non_null(strstr(why.text, "changed while"));
    source_close(s);
    ck_free(ck);
    free(ck);
}

static uint64_t last_done, n_calls;
static void on_progress(void *arg, uint64_t done, uint64_t total)
{
    assert_ptr_equal(arg, &n_calls);
    assert_true(done >= last_done && done <= total);
    last_done = done;
    n_calls++;
}

static void progress_reaches_the_end(void **state)
{
    (void)state;
    struct convert_options o = plain(WT_Q80);
    struct convert_sizes sizes;
    struct hash id;
    struct store *s;
    struct why why = { "" };

    o.progress = on_progress;
    o.arg = &n_calls;
    remove_dir(dir);
    assert_int_equal(store_open(&s, dir, STORE_WRITE, &why), ERR_OK);
    assert_int_equal(convert_in(s, ATLAS, &o, &id, &sizes, &why), ERR_OK);
    assert_int_equal(last_done, sizes.bytes_read);
    assert_true(n_calls > 3);
    store_close(s);
}

/* In a namespace of its own: a tmpfs of 8 MiB. */
static int convert_on_small_disk(void)
{
    struct convert_options o = plain(WT_F32);
    struct hash id;
    struct why why = { "" };

    if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return 77;
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) return 77;
    if (mkdir(dir2, 0700) != 0) return 1;
    if (mount("tmpfs", dir2, "tmpfs", 0, "size=8m") != 0) return 77;
    if (convert_to(dir2, ATLAS, &o, &id, &why) != ERR_DISKFULL) return 2;
    if (!strstr(why.text, "MiB more, the disk has 7 MiB free")) return 3;
    if (mount("tmpfs", dir2, "tmpfs", MS_REMOUNT, "size=80m") != 0) return 4;
    return convert_to(dir2, ATLAS, &o, &id, &why) ? 5 : 0;
}

static void no_room_is_said_before(void **state)
{
    (void)state;
    int status;
    remove_dir(dir2);
    pid_t pid = fork();
    if (pid == 0) _exit(convert_on_small_disk());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        print_message("skipped: mounting a small tmpfs is not allowed here\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

static int cleanup(void **state)
{
    (void)state;
    remove_dir(src);
    remove_dir(dir);
    remove_dir(dir2);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(float_tiles_hold_the_source),
        cmocka_unit_test(quantized_tiles_are_near_the_source),
        cmocka_unit_test(id_is_of_source_and_options_alone),
        cmocka_unit_test(a_role_that_is_not_there),
        cmocka_unit_test(some_layers_are_kept),
        cmocka_unit_test(fused_tensors_are_the_same_model),
        cmocka_unit_test(what_may_be_left_out_or_dropped),
        cmocka_unit_test(empty_tensors_are_passed_over),
        cmocka_unit_test(tied_embeddings),
        cmocka_unit_test(wrong_tensors_are_refused),
        cmocka_unit_test(values_that_cannot_be_kept),
        cmocka_unit_test(index_files),
        cmocka_unit_test(a_second_run_repeats_nothing),
        cmocka_unit_test(killed_conversions_are_resumed),
        cmocka_unit_test(a_source_that_changes_meanwhile),
        cmocka_unit_test(progress_reaches_the_end),
        cmocka_unit_test(no_room_is_said_before),
    };
    snprintf(src, sizeof src, "/tmp/test_convert-%ld.src", (long)getpid());
    snprintf(dir, sizeof dir, "/tmp/test_convert-%ld.store", (long)getpid());
    snprintf(dir2, sizeof dir2, "/tmp/test_convert-%ld.store2", (long)getpid());
    return cmocka_run_group_tests(tests, NULL, cleanup);
}
