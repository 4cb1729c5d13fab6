#include "store/random.h"

#include "store/finish.h"

#include <math.h>
#include <stdlib.h>

enum { BATCH_TILES = 32 }; /* made at once, while as many are written */

/* --- random numbers --- */

/* SplitMix64's output function: it makes a counter random, so any place of a stream can be had
 * without those before it. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static const uint64_t STEP = UINT64_C(0x9e3779b97f4a7c15);

static uint64_t key_of(uint64_t key, uint64_t more)
{
    return mix((key ^ more) + STEP);
}

/* From -1 to 1, evenly. */
static float even(uint64_t bits)
{
    return (float)(int32_t)(bits >> 40) / (float)(1 << 23) - 1;
}

static void put_le64(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++) p[i] = (uint8_t)(v >> 8 * i);
}

/* --- values --- */

/* Inputs of the whole product that a tensor is a part of. */
static uint32_t inputs_of(const struct arch *a, const struct tensor_spec *s)
{
    switch (s->role) {
    case T_O: return a->n_heads * a->head_dim;
    case T_DENSE_DOWN: return a->inter;
    case T_EMBED: return 1; /* looked up, not multiplied: a residual of size 1 */
    default: return s->cols;
    }
}

static bool is_bias(enum tensor_role r)
{
    return r == T_ROUTER_BIAS || r == T_Q_BIAS || r == T_K_BIAS || r == T_V_BIAS;
}

/* Rows of any type, through f32: slow, and right for whatever has padding. */
static enum err fill_slowly(const struct tensor_spec *s, uint32_t n_rows, uint64_t key,
                            float middle, float reach, float *rows, uint8_t *out)
{
    for (size_t i = 0; i < (size_t)n_rows * s->cols; i++)
        rows[i] = middle + reach * even(mix(key += STEP));
    return group_pack(s->type, rows, s->cols, n_rows, s->cols, out);
}

/* 256 scales around d, of both signs: with one sign the nibbles' mean of -1/2 would add up. */
static void fill_scales(uint8_t scale[256][2], float d)
{
    for (int i = 0; i < 256; i++) {
        float f = d * (0.75f + (float)(i / 2) / 256);
        uint16_t h = f16_from_f32(i % 2 ? f : -f);
        scale[i][0] = (uint8_t)h;
        scale[i][1] = (uint8_t)(h >> 8);
    }
}

/* A whole group of q40 or q80 without padding: blocks of 16 scales, then random bytes. */
static void fill_fast(enum wtype type, uint32_t cols, uint64_t key, uint8_t scale[256][2],
                      uint8_t *out)
{
    size_t n = type == WT_Q40 ? GROUP_ROWS * BLOCK / 2 : GROUP_ROWS * BLOCK;

    for (uint32_t b = 0; b < cols / BLOCK; b++) {
        for (int half = 0; half < 2; half++) {
            uint64_t bits = mix(key += STEP);
            for (int i = 0; i < 8; i++, out += 2) memcpy(out, scale[bits >> 8 * i & 0xff], 2);
        }
        for (size_t i = 0; i < n; i += 8) put_le64(out + i, mix(key += STEP));
        /* -128 does not come out of a quantizer */
        for (size_t i = 0; type == WT_Q80 && i < n; i++) out[i] |= out[i] == 0x80;
        out += n;
    }
}

enum err random_tile(const struct tensor_spec *s, uint32_t tile, uint64_t key, uint32_t inputs,
                     float *rows, uint8_t *out)
{
    struct tiling l = tiling_of(s->type, s->rows, s->cols);
    uint32_t groups = (uint32_t)(tiling_tile_bytes(&l, tile) / l.group_bytes);
    float deviation = 1 / sqrtf((float)inputs);
    float middle = s->cols > 1 || is_bias(s->role) ? 0 : 1; /* a vector that is no bias: a norm */
    float reach = s->cols > 1 ? deviation * sqrtf(3) : 0.05f;
    uint8_t scale[256][2];
    /* deviations of the integers: even over -8..7, over -127..127 */
    fill_scales(scale, deviation / (s->type == WT_Q40 ? 4.61f : 73.6f));

    for (uint32_t g = 0; g < groups; g++, out += l.group_bytes) {
        uint32_t first = (tile * l.groups_per_tile + g) * GROUP_ROWS, n = s->rows - first;
        uint64_t k = key_of(key, (uint64_t)first << 1 | 1);
        if (wtype_quantized(s->type) && s->cols % BLOCK == 0 && n >= GROUP_ROWS) {
            fill_fast(s->type, s->cols, k, scale, out);
            continue;
        }
        enum err e = fill_slowly(s, n < GROUP_ROWS ? n : GROUP_ROWS, k, middle, reach, rows, out);
        if (e) return e;
    }
    return ERR_OK;
}

/* --- skewed routing --- */

/* Bias of the expert in place r of the layer's ranking: choosing adds it to the score, whose
 * deviation is about 0.2, and this many of those a factor e of use. */
static const float SKEW_BIAS = 0.12f;

/* A router's bias whose experts are ranked by their random keys. */
static enum err fill_ranked(const struct tensor_spec *s, uint64_t key, float skew, float *rows,
                            uint8_t *out)
{
    for (uint32_t i = 0; i < s->rows; i++) {
        uint32_t rank = 1;
        for (uint32_t k = 0; k < s->rows; k++) rank += mix(key + k * STEP) < mix(key + i * STEP);
        rows[i % GROUP_ROWS] = -skew * SKEW_BIAS * logf((float)rank);
        if (i % GROUP_ROWS != GROUP_ROWS - 1 && i + 1 != s->rows) continue;
        uint32_t n = i % GROUP_ROWS + 1;
        enum err e = group_pack(s->type, rows, 1, n, 1, out);
        if (e) return e;
        out += tiling_of(s->type, s->rows, 1).group_bytes;
    }
    return ERR_OK;
}

/* --- all tiles --- */

/* A tile being made. */
struct job {
    struct tensor_spec spec;
    uint64_t key;
    uint32_t tile;
    uint8_t *out; /* [slot] */
    size_t n;
    struct hash *hash;
    enum err err;
};

struct maker {
    struct store *store;     /* borrowed */
    const struct arch *arch; /* borrowed */
    const struct random_options *o;
    struct hash *hash; /* owned; all tiles' */
    uint8_t *buffer;   /* owned; [2][BATCH_TILES][slot] */
    float *rows;       /* owned; [BATCH_TILES][GROUP_ROWS][cols_max] */
    size_t slot, rows_stride;
    struct job job[2][BATCH_TILES];
    uint32_t n[2];
    int making; /* the other is written */
    /* the next tile */
    uint32_t table, tensor, tile;
    struct hash *next_hash;
    uint64_t done, total;
    enum err write_err;
    struct why write_why;
};

static uint32_t layer_of(const struct maker *m, uint32_t table)
{
    return table == arch_all_layers(m->arch) ? ARCH_ENDS : table;
}

static void fill_batch(struct maker *m)
{
    uint32_t all = arch_all_layers(m->arch), n = 0;

    while (n < BATCH_TILES && m->table <= all) {
        uint32_t layer = layer_of(m, m->table);
        struct tensor_spec s = arch_spec(m->arch, layer, m->tensor);
        struct tiling l = tiling_of(s.type, s.rows, s.cols);
        struct job *j = &m->job[m->making][n];
        *j = (struct job){ .spec = s,
                           .key = key_of(key_of(key_of(m->o->seed, layer), m->tensor), m->tile),
                           .tile = m->tile,
                           .out = m->buffer + ((size_t)m->making * BATCH_TILES + n) * m->slot,
                           .n = tiling_tile_bytes(&l, m->tile),
                           .hash = m->next_hash++ };
        n++;
        if (++m->tile < l.tiles) continue;
        m->tile = 0;
        if (++m->tensor < arch_n_specs(m->arch, layer)) continue;
        m->tensor = 0;
        m->table++;
    }
    m->n[m->making] = n;
}

static void write_batch(struct maker *m)
{
    struct job *j = m->job[!m->making];

    for (uint32_t i = 0; i < m->n[!m->making] && !m->write_err; i++)
        m->write_err =
            store_put_hashed(m->store, slice_of(j[i].out, j[i].n), j[i].hash, &m->write_why);
}

/* Task 0 writes the batch before; the others make a tile each. */
static void task(void *arg, uint32_t i)
{
    struct maker *m = arg;

    if (i == 0) {
        write_batch(m);
        return;
    }
    struct job *j = &m->job[m->making][i - 1];
    float *rows = m->rows + (i - 1) * m->rows_stride;
    if (j->spec.role == T_ROUTER_BIAS && m->o->skew > 0)
        j->err = fill_ranked(&j->spec, j->key, m->o->skew, rows, j->out);
    else
        j->err = random_tile(&j->spec, j->tile, j->key, inputs_of(m->arch, &j->spec), rows, j->out);
    if (!j->err) *j->hash = hash_of(slice_of(j->out, j->n));
}

static enum err make_batches(struct maker *m, struct why *why)
{
    do {
        fill_batch(m);
        m->o->workers->run(m->o->workers, task, m, m->n[m->making] + 1);
        if (m->write_err) {
            if (why) *why = m->write_why;
            return m->write_err;
        }
        for (uint32_t i = 0; i < m->n[m->making]; i++) {
            const struct job *j = &m->job[m->making][i];
            if (j->err) return fail(why, j->err, "a random tile: %s", err_text(j->err));
            m->done += j->n;
        }
        if (m->o->progress) m->o->progress(m->o->arg, m->done, m->total);
        m->making = !m->making;
    } while (m->n[!m->making] > 0);
    return ERR_OK;
}

static enum err maker_init(struct maker *m, struct why *why)
{
    uint64_t tiles = 0;
    size_t cols = 1;

    for (uint32_t t = 0; t <= arch_all_layers(m->arch); t++) {
        uint32_t layer = layer_of(m, t);
        tiles += manifest_n_tiles(m->arch, layer);
        m->total += arch_bytes(m->arch, layer);
        for (uint32_t i = 0, n = arch_n_specs(m->arch, layer); i < n; i++) {
            struct tensor_spec s = arch_spec(m->arch, layer, i);
            struct tiling l = tiling_of(s.type, s.rows, s.cols);
            if (tiling_tile_bytes(&l, 0) > m->slot) m->slot = tiling_tile_bytes(&l, 0);
            if (s.cols > cols) cols = s.cols;
        }
    }
    m->rows_stride = cols * GROUP_ROWS;
    m->hash = calloc((size_t)tiles, sizeof *m->hash);
    m->buffer = malloc(2 * BATCH_TILES * m->slot);
    m->rows = malloc(BATCH_TILES * m->rows_stride * sizeof *m->rows);
    m->next_hash = m->hash;
    if (m->hash && m->buffer && m->rows) return ERR_OK;
    return fail(why, ERR_NOMEM, "no memory for %llu tiles", (unsigned long long)tiles);
}

/* --- the model --- */

enum err random_settle(struct hf_config *cfg, const struct random_options *o, struct why *why)
{
    struct arch *a = &cfg->arch;

    a->attn_bias = cfg->attn_bias == SAID_YES;
    a->qk_norm = cfg->qk_norm == SAID_YES;
    a->tied = cfg->tied == SAID_YES;
    a->n_predict = cfg->predict == SAID_YES;
    if (o->layers > a->n_layers)
        return fail(why, ERR_RANGE, "the model has %u layers, %u are asked for", a->n_layers,
                    o->layers);
    if (o->layers) {
        a->n_layers = o->layers;
        a->n_predict = 0;
        if (a->n_dense > a->n_layers) a->n_dense = a->n_layers;
    }
    for (int r = 0; r < WR_COUNT; r++) a->type[r] = o->type;
    a->exchange = o->exchange;
    a->kv = o->kv;
    a->mlp_parts = o->mlp_parts;
    enum err e = arch_check(a, why);
    return e ? e : finish_check(o->chat, o->tokenizer, why);
}

enum err random_model(struct store *s, const struct hf_config *cfg, const struct random_options *o,
                      uint8_t **body, size_t *n, struct hash *id, struct why *why)
{
    struct maker *m = calloc(1, sizeof *m);
    if (!m) return fail(why, ERR_NOMEM, "out of memory");

    m->store = s;
    m->arch = &cfg->arch;
    m->o = o;
    enum err e = maker_init(m, why);
    if (!e) e = make_batches(m, why);
    if (!e) {
        struct made_model made = {
            .cfg = cfg, .chat = o->chat, .tokenizer = o->tokenizer, .hash = m->hash
        };
        e = finish_model(s, &made, body, n, id, why);
    }
    free(m->hash);
    free(m->buffer);
    free(m->rows);
    free(m);
    return e;
}
