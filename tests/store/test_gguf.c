/* A GGUF file holds a store's numbers, each where llama.cpp looks for it.  The reader here, the
 * names and the places are written from the formats' descriptions, not from the writer.  (That
 * llama.cpp then computes the same is tests/llama.py.) */
#include "kernels/kernels.h"
#include "store/file.h"
#include "store/gguf.h"
#include "tests/store/small.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/store/checkpoint.h" /* remove_dir */

static char dir[64], path[80];

/* --- a small reader --- */

struct info {
    char name[65];
    uint32_t n_dims, type;
    uint64_t dim[4], offset, bytes;
    bool used;
};
struct pair {
    char key[65];
    uint32_t type;
    uint64_t number; /* u32 or bool, or the bits of an f32 */
    char text[65];
};
struct file {
    uint8_t *p; /* owned */
    size_t n, at, data;
    struct info t[256];
    struct pair kv[64];
    uint64_t n_t, n_kv;
};

static uint64_t number(struct file *f, unsigned bytes)
{
    uint64_t v = 0;
    assert_true(f->at + bytes <= f->n);
    for (unsigned i = 0; i < bytes; i++) v |= (uint64_t)f->p[f->at++] << (8 * i);
    return v;
}

static void string(struct file *f, char out[65])
{
    uint64_t n = number(f, 8);
    assert_true(n < 65 && f->at + n <= f->n);
    memcpy(out, f->p + f->at, n);
    out[n] = 0;
    f->at += n;
}

static uint64_t bytes_of(const struct info *t)
{
    uint64_t n = 1;
    for (uint32_t i = 0; i < t->n_dims; i++) n *= t->dim[i];
    switch (t->type) {
    case 0: return n * 4;
    case 1:
    case 30: return n * 2;
    case 2: return n / 32 * 18;
    case 8: return n / 32 * 34;
    default: fail_msg("%s has type %u", t->name, t->type); return 0;
    }
}

static void read_pair(struct file *f, struct pair *kv)
{
    string(f, kv->key);
    kv->type = (uint32_t)number(f, 4);
    switch (kv->type) {
    case 4:
    case 6: kv->number = number(f, 4); break;
    case 7: kv->number = number(f, 1); break;
    case 8: string(f, kv->text); break;
    default: fail_msg("%s has type %u", kv->key, kv->type);
    }
}

static void read_info(struct file *f, struct info *t)
{
    string(f, t->name);
    assert_true(strlen(t->name) < 64); /* what ggml takes */
    t->n_dims = (uint32_t)number(f, 4);
    assert_true(t->n_dims >= 1 && t->n_dims <= 4);
    for (uint32_t i = 0; i < t->n_dims; i++) t->dim[i] = number(f, 8);
    t->type = (uint32_t)number(f, 4);
    t->offset = number(f, 8);
    t->bytes = bytes_of(t);
}

/* What ggml checks: each tensor begins where the one before, padded, ends; then the file ends. */
static void read_gguf(struct file *f)
{
    uint64_t at = 0;

    memset(f, 0, sizeof *f);
    assert_int_equal(file_read(path, 1 << 26, &f->p, &f->n, NULL), ERR_OK);
    assert_int_equal(number(f, 4), 0x46554747); /* "GGUF" */
    assert_int_equal(number(f, 4), 3);
    f->n_t = number(f, 8);
    f->n_kv = number(f, 8);
    assert_true(f->n_t <= 256 && f->n_kv <= 64);
    for (uint64_t i = 0; i < f->n_kv; i++) read_pair(f, &f->kv[i]);
    for (uint64_t i = 0; i < f->n_t; i++) read_info(f, &f->t[i]);
    f->data = (f->at + 31) / 32 * 32;
    for (uint64_t i = 0; i < f->n_t; i++) {
        assert_int_equal(f->t[i].offset, at);
        at += (f->t[i].bytes + 31) / 32 * 32;
    }
    assert_int_equal(f->data + at, f->n);
}

static const struct pair *pair_of(struct file *f, const char *key)
{
    const struct pair *found = NULL;
    for (uint64_t i = 0; i < f->n_kv; i++) {
        if (strcmp(f->kv[i].key, key) != 0) continue;
        assert_null(found);
        found = &f->kv[i];
    }
    if (!found) fail_msg("no key %s", key);
    return found;
}

static void is_u32(struct file *f, const char *key, uint32_t want)
{
    const struct pair *kv = pair_of(f, key);
    assert_int_equal(kv->type, 4);
    assert_int_equal(kv->number, want);
}

static void is_f32(struct file *f, const char *key, float want)
{
    const struct pair *kv = pair_of(f, key);
    uint32_t bits;
    memcpy(&bits, &want, 4);
    assert_int_equal(kv->type, 6);
    assert_int_equal(kv->number, bits);
}

static void is_text(struct file *f, const char *key, const char *want)
{
    assert_int_equal(pair_of(f, key)->type, 8);
    assert_string_equal(pair_of(f, key)->text, want);
}

static struct info *info_of(struct file *f, const char *name)
{
    for (uint64_t i = 0; i < f->n_t; i++)
        if (strcmp(f->t[i].name, name) == 0) return &f->t[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static uint16_t half_at(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

/* Value i of a tensor's flat rows. */
static float value(const struct file *f, const struct info *t, uint64_t i)
{
    const uint8_t *p = f->p + f->data + t->offset;
    float x;

    switch (t->type) {
    case 0: memcpy(&x, p + 4 * i, 4); return x;
    case 1: return f32_from_f16(half_at(p + 2 * i));
    case 30: return f32_from_bf16(half_at(p + 2 * i));
    case 2: {
        const uint8_t *b = p + i / 32 * 18;
        unsigned j = i % 32;
        int q = j < 16 ? b[2 + j] & 15 : b[2 + j - 16] >> 4;
        return f32_from_f16(half_at(b)) * (float)(q - 8);
    }
    default: {
        const uint8_t *b = p + i / 32 * 34;
        return f32_from_f16(half_at(b)) * (float)(int8_t)b[2 + i % 32];
    }
    }
}

/* --- where each tensor of ours must be --- */

struct place {
    const char *name; /* of the moe family; the dense one's where it differs */
    const char *dense;
    bool columns; /* items lie side by side */
};

static struct place place_of(enum tensor_role r)
{
    switch (r) {
    case T_ATTN_NORM: return (struct place){ .name = "attn_norm.weight" };
    case T_MLP_NORM:
        return (struct place){ .name = "post_attention_norm.weight", .dense = "ffn_norm.weight" };
    case T_POST_ATTN_NORM: return (struct place){ .dense = "post_attention_norm.weight" };
    case T_POST_MLP_NORM: return (struct place){ .dense = "post_ffw_norm.weight" };
    case T_Q_NORM: return (struct place){ .name = "attn_q_norm.weight" };
    case T_K_NORM: return (struct place){ .name = "attn_k_norm.weight" };
    case T_ROUTER: return (struct place){ .name = "ffn_gate_inp.weight" };
    case T_ROUTER_BIAS: return (struct place){ .name = "exp_probs_b.bias" };
    case T_SHARED_GATE: return (struct place){ .name = "ffn_gate_shexp.weight" };
    case T_SHARED_UP: return (struct place){ .name = "ffn_up_shexp.weight" };
    case T_SHARED_DOWN: return (struct place){ .name = "ffn_down_shexp.weight" };
    case T_EH_PROJ: return (struct place){ .name = "nextn.eh_proj.weight" };
    case T_E_NORM: return (struct place){ .name = "nextn.enorm.weight" };
    case T_H_NORM: return (struct place){ .name = "nextn.hnorm.weight" };
    case T_PREDICT_NORM: return (struct place){ .name = "nextn.shared_head_norm.weight" };
    case T_Q: return (struct place){ .name = "attn_q.weight" };
    case T_K: return (struct place){ .name = "attn_k.weight" };
    case T_V: return (struct place){ .name = "attn_v.weight" };
    case T_O: return (struct place){ .name = "attn_output.weight", .columns = true };
    case T_Q_BIAS: return (struct place){ .name = "attn_q.bias" };
    case T_K_BIAS: return (struct place){ .name = "attn_k.bias" };
    case T_V_BIAS: return (struct place){ .name = "attn_v.bias" };
    case T_EXPERT_GATE: return (struct place){ .name = "ffn_gate_exps.weight" };
    case T_EXPERT_UP: return (struct place){ .name = "ffn_up_exps.weight" };
    case T_EXPERT_DOWN: return (struct place){ .name = "ffn_down_exps.weight" };
    case T_DENSE_GATE: return (struct place){ .name = "ffn_gate.weight", .dense = "ffn_up.weight" };
    case T_DENSE_UP: return (struct place){ .name = "ffn_up.weight" };
    case T_DENSE_DOWN: return (struct place){ .name = "ffn_down.weight", .columns = true };
    case T_EMBED: return (struct place){ .name = "token_embd.weight" };
    case T_FINAL_NORM: return (struct place){ .name = "output_norm.weight" };
    case T_HEAD: return (struct place){ .name = "output.weight" };
    case T_ROLES: break;
    }
    fail_msg("unknown role");
    return (struct place){ 0 };
}

static struct info *find_place(struct file *f, const struct arch *a, uint32_t layer,
                               const struct place *p)
{
    char full[96];
    const char *name = a->family == ARCH_GLM4 && p->dense ? p->dense : p->name;

    if (layer == ARCH_ENDS)
        snprintf(full, sizeof full, "%s", name);
    else
        snprintf(full, sizeof full, "blk.%u.%s", layer, name);
    return info_of(f, full);
}

/* Every value of one of our tensors, against the file's rows or columns that begin at `first`. */
static void check_values(const struct file *f, const struct info *t, const struct tensor *w,
                         bool columns, uint64_t first)
{
    float *row = malloc(w->cols * sizeof *row);
    uint64_t width = columns || t->n_dims > 1 ? t->dim[0] : 1;

    assert_int_equal(t->type, w->type == WT_Q40    ? 2
                              : w->type == WT_Q80  ? 8
                              : w->type == WT_BF16 ? 30
                              : w->type == WT_F16  ? 1
                                                   : 0);
    assert_true(columns || width == w->cols);
    for (uint32_t r = 0; r < w->rows; r++) {
        uint64_t at = columns ? r * width + first : (first + r) * width;
        tensor_row(w, r, row);
        for (uint32_t c = 0; c < w->cols; c++)
            if (value(f, t, at + c) != row[c])
                fail_msg("%s: row %u column %u is %g, not %g", t->name, r, c,
                         (double)value(f, t, at + c), (double)row[c]);
    }
    free(row);
}

static void check_layer(struct file *f, struct store *s, const struct manifest *m, uint32_t layer)
{
    const struct arch *a = &m->arch;
    const uint8_t **tiles = calloc(manifest_n_tiles(a, layer), sizeof *tiles), **tile = tiles;

    assert_int_equal(store_layer_tiles(s, m, layer, NULL, tiles, NULL), ERR_OK);
    for (uint32_t i = 0; i < arch_n_specs(a, layer); i++) {
        struct tensor_spec x = arch_spec(a, layer, i);
        struct place p = place_of(x.role);
        bool fused = a->family == ARCH_GLM4 && x.role == T_DENSE_UP;
        struct info *t = find_place(f, a, layer, &p);
        uint32_t lo = 0, hi = 0;

        if (x.shard == SHARD_DENSE) arch_part(a, x.item, &lo, &hi);
        uint64_t first = x.shard == SHARD_DENSE ? lo + (fused ? a->inter : 0)
                                                : (uint64_t)x.item * (p.columns ? x.cols : x.rows);
        struct tensor w = { x.type, x.rows, x.cols, tiling_of(x.type, x.rows, x.cols), tile };
        check_values(f, t, &w, p.columns, first);
        tile += w.tiling.tiles;
        t->used = true;
    }
    free(tiles);
}

/* --- models --- */

static struct arch moe_arch(void)
{
    struct arch a = small_arch();

    a.qk_norm = true;
    a.routed_scale = 2.5f;
    a.n_group = 2;
    a.type[WR_ATTN] = WT_Q40;
    a.type[WR_SHARED] = WT_F16;
    a.type[WR_EXPERTS] = WT_Q40;
    a.type[WR_EMBED] = WT_F32;
    a.type[WR_HEAD] = WT_BF16;
    return a;
}

static struct arch dense_arch(void)
{
    struct arch a = small_arch();

    a.family = ARCH_GLM4;
    a.n_predict = a.n_experts = a.top_k = a.n_shared = a.moe_inter = 0;
    a.n_dense = a.n_layers;
    a.sandwich = a.rope_interleaved = true;
    a.attn_bias = false;
    a.inter = 160; /* five blocks in three parts, none of them alike; and empty ones */
    a.mlp_parts = 7;
    a.type[WR_DENSE] = WT_Q40;
    return a;
}

static struct store *make_store(const struct arch *a, struct manifest *m)
{
    struct store *s;

    remove_dir(dir);
    assert_int_equal(store_open(&s, dir, STORE_WRITE, NULL), ERR_OK);
    *m = (struct manifest){ .arch = *a, .chat = "none" };
    for (uint32_t l = 0; l < arch_all_layers(a); l++)
        assert_int_equal(put_layer(s, a, l, &m->table[l]), ERR_OK);
    assert_int_equal(put_layer(s, a, ARCH_ENDS, &m->ends), ERR_OK);
    assert_int_equal(store_commit(s, NULL), ERR_OK);
    return s;
}

static const struct gguf_options quiet = { .name = "small:mix" };

static void round_trip(const struct arch *a, struct file *f)
{
    static struct manifest m;
    struct why why = { "" };
    struct store *s = make_store(a, &m);

    assert_int_equal(arch_check(a, &why), ERR_OK);
    if (gguf_write(s, &m, path, &quiet, &why)) fail_msg("%s", why.text);
    read_gguf(f);
    for (uint32_t l = 0; l < arch_all_layers(a); l++) check_layer(f, s, &m, l);
    check_layer(f, s, &m, ARCH_ENDS);
    for (uint64_t i = 0; i < f->n_t; i++)
        if (!f->t[i].used) fail_msg("%s is nothing of ours", f->t[i].name);
    store_close(s);
}

static void test_moe(void **state)
{
    static struct file f;
    struct arch a = moe_arch();
    (void)state;

    round_trip(&a, &f);
    is_text(&f, "general.architecture", "glm4moe");
    is_text(&f, "general.name", "small:mix");
    is_text(&f, "tokenizer.ggml.model", "none");
    is_u32(&f, "general.alignment", 32);
    is_u32(&f, "general.file_type", 2);
    is_u32(&f, "glm4moe.block_count", 4);
    is_u32(&f, "glm4moe.nextn_predict_layers", 1);
    is_u32(&f, "glm4moe.leading_dense_block_count", 1);
    is_u32(&f, "glm4moe.vocab_size", 100);
    is_u32(&f, "glm4moe.context_length", 128);
    is_u32(&f, "glm4moe.embedding_length", 64);
    is_u32(&f, "glm4moe.feed_forward_length", 96);
    is_u32(&f, "glm4moe.attention.head_count", 4);
    is_u32(&f, "glm4moe.attention.head_count_kv", 2);
    is_u32(&f, "glm4moe.attention.key_length", 16);
    is_u32(&f, "glm4moe.rope.dimension_count", 8);
    is_u32(&f, "glm4moe.expert_count", 4);
    is_u32(&f, "glm4moe.expert_used_count", 2);
    is_u32(&f, "glm4moe.expert_shared_count", 1);
    is_u32(&f, "glm4moe.expert_feed_forward_length", 32);
    is_u32(&f, "glm4moe.expert_gating_func", 2);
    is_u32(&f, "glm4moe.expert_group_count", 2);
    is_u32(&f, "glm4moe.expert_group_used_count", 1);
    is_f32(&f, "glm4moe.expert_weights_scale", 2.5f);
    is_f32(&f, "glm4moe.attention.layer_norm_rms_epsilon", 1e-5f);
    is_f32(&f, "glm4moe.rope.freq_base", 16); /* 1, 1/2, 1/4, 1/8 */
    assert_int_equal(pair_of(&f, "glm4moe.expert_weights_norm")->type, 7);
    assert_int_equal(pair_of(&f, "glm4moe.expert_weights_norm")->number, 1);

    struct info *t = info_of(&f, "blk.1.ffn_down_exps.weight"); /* rows of 32, 64 rows, 4 experts */
    assert_int_equal(t->n_dims, 3);
    assert_true(t->dim[0] == 32 && t->dim[1] == 64 && t->dim[2] == 4);
    t = info_of(&f, "blk.0.attn_output.weight");
    assert_true(t->n_dims == 2 && t->dim[0] == 64 && t->dim[1] == 64);
    t = info_of(&f, "blk.0.attn_q.bias");
    assert_true(t->n_dims == 1 && t->dim[0] == 64);
    free(f.p);
}

static void test_dense(void **state)
{
    static struct file f;
    struct arch a = dense_arch();
    (void)state;

    round_trip(&a, &f);
    is_text(&f, "general.architecture", "glm4");
    is_u32(&f, "glm4.block_count", 3);
    is_u32(&f, "glm4.feed_forward_length", 160);
    const struct info *t = info_of(&f, "blk.2.ffn_up.weight"); /* gate rows, then up rows */
    assert_true(t->n_dims == 2 && t->dim[0] == 64 && t->dim[1] == 320);
    free(f.p);
}

static void test_tied(void **state)
{
    static struct file f;
    struct arch a = moe_arch();
    (void)state;

    a.tied = true;
    round_trip(&a, &f);
    for (uint64_t i = 0; i < f.n_t; i++) assert_string_not_equal(f.t[i].name, "output.weight");
    free(f.p);
}

/* --- what cannot be written --- */

static bool any_file(void)
{
    char tmp[128];
    struct stat st;
    snprintf(tmp, sizeof tmp, "%s.tmp-%ld", path, (long)getpid());
    return stat(path, &st) == 0 || stat(tmp, &st) == 0;
}

static void refused(struct arch a, enum err want, const char *words)
{
    static struct manifest m;
    struct why why = { "" };
    struct store *s = make_store(&a, &m);

    unlink(path);
    assert_int_equal(gguf_write(s, &m, path, &quiet, &why), want);
    if (!strstr(why.text, words)) fail_msg("'%s' lacks '%s'", why.text, words);
    assert_false(any_file());
    store_close(s);
}

static void test_refused(void **state)
{
    struct arch a = moe_arch();
    (void)state;

    a.moe_inter = 48; /* fine for us: blocks are padded */
    refused(a, ERR_UNSUPPORTED, "blk.1.ffn_down_exps.weight: rows of 48 q40");
    a = moe_arch();
    a.rope_freq[2] *= 1.00001;
    refused(a, ERR_UNSUPPORTED, "rotary");
    a = moe_arch();
    a.rope_scale = 1.1;
    refused(a, ERR_UNSUPPORTED, "rotation");
    a = moe_arch();
    a.rope_interleaved = true;
    refused(a, ERR_UNSUPPORTED, "llama.cpp has no GLM");
    a = dense_arch();
    a.sandwich = false;
    refused(a, ERR_UNSUPPORTED, "llama.cpp has no GLM");
    a = dense_arch();
    a.qk_norm = true;
    refused(a, ERR_UNSUPPORTED, "no such norms");
}

static void test_missing_layer(void **state)
{
    static struct manifest m;
    struct why why = { "" };
    struct arch a = moe_arch();
    struct store *s = make_store(&a, &m);
    (void)state;

    unlink(path);
    m.table[2].b[0] ^= 1;
    assert_int_equal(gguf_write(s, &m, path, &quiet, &why), ERR_NOTFOUND);
    assert_non_null(strstr(why.text, "layer 2"));
    m.table[2].b[0] ^= 1;
    m.ends.b[0] ^= 1;
    assert_int_equal(gguf_write(s, &m, path, &quiet, &why), ERR_NOTFOUND);
    assert_false(any_file());
    m.ends.b[0] ^= 1;
    assert_int_equal(gguf_write(s, &m, "/nonexistent/x", &quiet, &why), ERR_IO);
    assert_non_null(strstr(why.text, "/nonexistent/x"));
    store_close(s);
}

/* A file that may not grow stands in for a full disk; an earlier file stays as it was. */
static void test_no_room(void **state)
{
    static struct manifest m;
    struct why why = { "" };
    struct arch a = moe_arch();
    struct store *s = make_store(&a, &m);
    struct rlimit old, small;
    uint8_t *p;
    size_t n;
    (void)state;

    put_text("/tmp", path + 5, "earlier");
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 20000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    enum err e = gguf_write(s, &m, path, &quiet, &why);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(e, ERR_IO);
    assert_non_null(strstr(why.text, path));
    assert_int_equal(file_read(path, 100, &p, &n, NULL), ERR_OK);
    assert_string_equal((char *)p, "earlier");
    free(p);
    unlink(path);
    assert_false(any_file());
    store_close(s);
}

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/test_gguf-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof path, "%s.gguf", dir);
    return hash_init();
}

static int teardown(void **state)
{
    (void)state;
    remove_dir(dir);
    unlink(path);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moe),           cmocka_unit_test(test_dense),
        cmocka_unit_test(test_tied),          cmocka_unit_test(test_refused),
        cmocka_unit_test(test_missing_layer), cmocka_unit_test(test_no_room),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
