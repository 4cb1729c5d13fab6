/* One model as one file: header, metadata, tensor infos, padding, then every tensor's rows. */
#include "store/file.h"
#include "store/gguf.h"
#include "store/rope.h"

#include "base/json.h" /* a growing text */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* --- header --- */

enum value_type { GV_U32 = 4, GV_F32 = 6, GV_BOOL = 7, GV_STRING = 8 };

struct header {
    struct text bytes, meta; /* meta: the pairs, counted */
    uint64_t n_meta;
    const char *arch; /* "glm4moe" */
};

static void add_u32(struct text *t, uint32_t v)
{
    uint8_t b[4];
    for (int i = 0; i < 4; i++) b[i] = (uint8_t)(v >> (8 * i));
    text_add(t, b, sizeof b);
}

static void add_u64(struct text *t, uint64_t v)
{
    add_u32(t, (uint32_t)v);
    add_u32(t, (uint32_t)(v >> 32));
}

static void add_string(struct text *t, const char *s)
{
    add_u64(t, strlen(s));
    text_str(t, s);
}

/* A key: "general.name", or, without a dot before it, one of the architecture. */
static void add_key(struct header *h, const char *key, enum value_type type)
{
    char full[128];

    if (strncmp(key, "general.", 8) == 0 || strncmp(key, "tokenizer.", 10) == 0)
        snprintf(full, sizeof full, "%s", key);
    else
        snprintf(full, sizeof full, "%s.%s", h->arch, key);
    add_string(&h->meta, full);
    add_u32(&h->meta, type);
    h->n_meta++;
}

static void meta_u32(struct header *h, const char *key, uint32_t v)
{
    add_key(h, key, GV_U32);
    add_u32(&h->meta, v);
}

static void meta_f32(struct header *h, const char *key, float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    add_key(h, key, GV_F32);
    add_u32(&h->meta, u);
}

static void meta_bool(struct header *h, const char *key, bool v)
{
    add_key(h, key, GV_BOOL);
    text_add(&h->meta, v ? "\1" : "\0", 1);
}

static void meta_string(struct header *h, const char *key, const char *v)
{
    add_key(h, key, GV_STRING);
    add_string(&h->meta, v);
}

/* The base whose powers the frequencies are: f_i = base ^ (-i / half).  A file can say no other
 * frequencies; 1e-9 is far below what llama.cpp's own powers in f32 lose. */
static enum err rope_base(const struct arch *a, double *base, struct why *why)
{
    double half = a->rope_half;

    *base = 10000;
    if (a->rope_half > 1) *base = exact_pow(1 / a->rope_freq[1], half, 1);
    for (uint32_t i = 0; i < a->rope_half; i++) {
        double f = exact_pow(*base, -(double)i, half);
        if (!(fabs(a->rope_freq[i] - f) <= 1e-9 * f))
            return fail(why, ERR_UNSUPPORTED,
                        "scaled rotary frequencies (yarn and the like) are not written to GGUF");
    }
    if (a->rope_half == 0 || a->rope_scale != 1)
        return fail(why, ERR_UNSUPPORTED, "llama.cpp has no GLM with this rotation");
    return ERR_OK;
}

static void meta_experts(struct header *h, const struct arch *a)
{
    enum { SIGMOID = 2 };

    meta_u32(h, "expert_count", a->n_experts);
    meta_u32(h, "expert_used_count", a->top_k);
    meta_u32(h, "expert_shared_count", a->n_shared);
    meta_u32(h, "expert_feed_forward_length", a->moe_inter);
    meta_u32(h, "expert_gating_func", SIGMOID);
    meta_f32(h, "expert_weights_scale", a->routed_scale);
    meta_bool(h, "expert_weights_norm", a->norm_topk);
    meta_u32(h, "expert_group_count", a->n_group);
    meta_u32(h, "expert_group_used_count", a->topk_group);
    meta_u32(h, "leading_dense_block_count", a->n_dense);
    meta_u32(h, "nextn_predict_layers", a->n_predict);
}

/* What most of the weights are; for people, nothing depends on it. */
static uint32_t file_type(const struct arch *a)
{
    enum wtype t = a->type[a->n_experts ? WR_EXPERTS : WR_DENSE];
    return t == WT_Q80 ? 7 : t == WT_BF16 ? 32 : gguf_type(t);
}

static enum err add_meta(struct header *h, const struct arch *a, const char *name, struct why *why)
{
    double base;
    enum err e = rope_base(a, &base, why);
    if (e) return e;

    h->arch = a->family == ARCH_GLM4 ? "glm4" : "glm4moe";
    meta_string(h, "general.architecture", h->arch);
    meta_string(h, "general.name", name);
    meta_u32(h, "general.file_type", file_type(a));
    meta_u32(h, "general.quantization_version", 2);
    meta_u32(h, "general.alignment", GGUF_ALIGNMENT);
    meta_u32(h, "block_count", arch_all_layers(a));
    meta_u32(h, "context_length", a->context);
    meta_u32(h, "embedding_length", a->hidden);
    meta_u32(h, "feed_forward_length", a->inter);
    meta_u32(h, "attention.head_count", a->n_heads);
    meta_u32(h, "attention.head_count_kv", a->n_kv);
    meta_u32(h, "attention.key_length", a->head_dim);
    meta_u32(h, "attention.value_length", a->head_dim);
    meta_f32(h, "attention.layer_norm_rms_epsilon", a->eps);
    meta_f32(h, "rope.freq_base", (float)base);
    meta_u32(h, "rope.dimension_count", 2 * a->rope_half);
    if (a->n_experts) meta_experts(h, a);
    meta_u32(h, "vocab_size", a->vocab);
    meta_string(h, "tokenizer.ggml.model", "none");
    return ERR_OK;
}

static uint64_t padded(uint64_t n)
{
    return (n + GGUF_ALIGNMENT - 1) / GGUF_ALIGNMENT * GGUF_ALIGNMENT;
}

/* Everything before the data, padding included; *total gets the data's bytes. */
static enum err make_header(struct header *h, const struct arch *a, const char *name,
                            const struct gguf_tensor *t, uint32_t n, uint64_t *total,
                            struct why *why)
{
    enum err e = add_meta(h, a, name, why);
    if (e) return e;

    text_add(&h->bytes, "GGUF", 4);
    add_u32(&h->bytes, GGUF_VERSION);
    add_u64(&h->bytes, n);
    add_u64(&h->bytes, h->n_meta);
    text_add(&h->bytes, h->meta.p, h->meta.n);
    *total = 0;
    for (uint32_t i = 0; i < n; i++) {
        add_string(&h->bytes, t[i].name);
        add_u32(&h->bytes, t[i].n_dims);
        for (uint32_t d = 0; d < t[i].n_dims; d++) add_u64(&h->bytes, t[i].dim[d]);
        add_u32(&h->bytes, gguf_type(t[i].type));
        add_u64(&h->bytes, *total);
        *total += padded(gguf_bytes(&t[i]));
    }
    while (!h->bytes.failed && h->bytes.n % GGUF_ALIGNMENT) text_add(&h->bytes, "", 1);
    return h->bytes.failed || h->meta.failed ? fail(why, ERR_NOMEM, "out of memory") : ERR_OK;
}

/* --- data --- */

struct writer {
    /* borrowed */
    struct store *store;
    const struct manifest *m;
    const struct gguf_options *o;

    struct file_out file;
    uint64_t done, total;

    /* owned: the layer that is bound, the parts of a tensor, 16 of its rows */
    uint32_t layer;
    bool bound;
    const uint8_t **tile;
    struct tensor *part;
    uint32_t n_parts;
    uint8_t *strip;
};

static enum err bind_layer(struct writer *w, uint32_t layer, struct why *why)
{
    const struct arch *a = &w->m->arch;

    if (w->bound && w->layer == layer) return ERR_OK;
    free(w->tile);
    free(w->part);
    w->bound = false;
    w->tile = calloc(manifest_n_tiles(a, layer), sizeof *w->tile);
    w->part = calloc(arch_n_specs(a, layer), sizeof *w->part);
    if (!w->tile || !w->part) return fail(why, ERR_NOMEM, "out of memory for tile pointers");
    enum err e = store_layer_tiles(w->store, w->m, layer, NULL, w->tile, why);
    w->bound = !e;
    w->layer = layer;
    return e;
}

/* Our tensors that make t, in order. */
static void find_parts(struct writer *w, const struct gguf_tensor *t)
{
    const struct arch *a = &w->m->arch;

    w->n_parts = 0;
    for (uint32_t r = 0; r < t->n_roles; r++) {
        const uint8_t **tile = w->tile;
        for (uint32_t i = 0, n = arch_n_specs(a, t->layer); i < n; i++) {
            struct tensor_spec s = arch_spec(a, t->layer, i);
            struct tiling tiling = tiling_of(s.type, s.rows, s.cols);
            if (s.role == t->role[r])
                w->part[w->n_parts++] = (struct tensor){ s.type, s.rows, s.cols, tiling, tile };
            tile += tiling.tiles;
        }
    }
}

static uint32_t rows_of_group(const struct tensor *p, uint32_t g)
{
    uint32_t left = p->rows - g * GROUP_ROWS;
    return left < GROUP_ROWS ? left : GROUP_ROWS;
}

static void put_strip(struct writer *w, size_t n)
{
    file_put(&w->file, w->strip, n);
    w->done += n;
    if (w->o->progress) w->o->progress(w->o->arg, w->done, w->total);
}

static void put_below(struct writer *w)
{
    for (uint32_t i = 0; i < w->n_parts; i++) {
        const struct tensor *p = &w->part[i];
        size_t row = gguf_row_bytes(p->type, p->cols);
        for (uint32_t g = 0; g < p->tiling.groups && !w->file.failed; g++) {
            uint32_t rows = rows_of_group(p, g);
            group_rows(p->type, tensor_group(p, g), p->cols, rows, w->strip, row);
            put_strip(w, rows * row);
        }
    }
}

static void put_beside(struct writer *w, size_t row)
{
    for (uint32_t g = 0; g < w->part[0].tiling.groups && !w->file.failed; g++) {
        uint32_t rows = rows_of_group(&w->part[0], g);
        uint8_t *at = w->strip;
        for (uint32_t i = 0; i < w->n_parts; i++) {
            const struct tensor *p = &w->part[i];
            group_rows(p->type, tensor_group(p, g), p->cols, rows, at, row);
            at += gguf_row_bytes(p->type, p->cols);
        }
        put_strip(w, rows * row);
    }
}

static enum err put_tensor(struct writer *w, const struct gguf_tensor *t, struct why *why)
{
    static const uint8_t ZEROS[GGUF_ALIGNMENT] = { 0 };
    size_t row = gguf_row_bytes(t->type, t->dim[0]);
    uint64_t bytes = gguf_bytes(t);
    enum err e = bind_layer(w, t->layer, why);
    if (e) return e;

    find_parts(w, t);
    if (!(w->strip = malloc(GROUP_ROWS * row))) return fail(why, ERR_NOMEM, "out of memory");
    if (t->join == GGUF_BESIDE)
        put_beside(w, row);
    else
        put_below(w);
    free(w->strip);
    file_put(&w->file, ZEROS, padded(bytes) - bytes);
    w->done += padded(bytes) - bytes;
    return ERR_OK;
}

static enum err put_all(struct writer *w, const struct gguf_tensor *t, uint32_t n,
                        const struct header *h, const char *path, struct why *why)
{
    enum err e = file_create(&w->file, path, why);
    if (e) return e;
    file_put(&w->file, h->bytes.p, h->bytes.n);
    for (uint32_t i = 0; i < n && !e && !w->file.failed; i++) e = put_tensor(w, &t[i], why);
    return file_finish(&w->file, e, why);
}

/* A missing layer is found before anything is written. */
static enum err check_held(struct store *s, const struct manifest *m, struct why *why)
{
    if (!store_holds_layer(s, m, ARCH_ENDS))
        return fail(why, ERR_NOTFOUND, "the store does not hold the model's ends");
    for (uint32_t l = 0; l < arch_all_layers(&m->arch); l++)
        if (!store_holds_layer(s, m, l))
            return fail(why, ERR_NOTFOUND, "the store does not hold layer %u", l);
    return ERR_OK;
}

enum err gguf_write(struct store *s, const struct manifest *m, const char *path,
                    const struct gguf_options *o, struct why *why)
{
    struct writer w = { .store = s, .m = m, .o = o };
    struct header h = { 0 };
    struct gguf_tensor *t = NULL;
    uint32_t n = 0;

    enum err e = gguf_tensors(&m->arch, &t, &n, why);
    if (!e) e = make_header(&h, &m->arch, o->name, t, n, &w.total, why);
    if (!e) e = check_held(s, m, why);
    if (!e) e = put_all(&w, t, n, &h, path, why);
    free(w.tile);
    free(w.part);
    free(h.bytes.p);
    free(h.meta.p);
    free(t);
    return e;
}
