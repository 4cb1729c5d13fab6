/* Does this machine compute what every other one does?
 *
 * Each operation runs over fixed inputs (ordinary values, zeros, subnormals, lengths that fill no
 * vector) and its output bits are hashed.  The golden values are those of the scalar table; they
 * change only with the arithmetic version.  A CPU with a flaw, a compiler that fuses a*b+c, a
 * thread that flushes subnormals to zero: all show here, before they show in someone's answer. */
#include "kernels/bits.h"
#include "kernels/kernels.h"
#include "kernels/tables.h"

#include <inttypes.h>

enum {
    ROWS = 41, /* three groups, the last not full */
    GROUPS = 3,
    COLS = 173, /* neither whole vectors nor whole blocks */
    BLOCKS = 6,
    TOKENS = 11,
    HEAD = 40,
    KEYS = 21,
    KEYS_ROOM = 32, /* whole blocks of positions */
    HEADS_ALIKE = 23,
};

/* --- inputs and hash --- */

/* splitmix64 (S. Vigna): a counter, well mixed. */
static uint64_t next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* Mostly within +-16; one in eight has any exponent up to 1, so zero and subnormals occur. */
static float value(uint64_t *state)
{
    uint64_t z = next(state);
    uint32_t low = (uint32_t)z;
    if ((z >> 32) % 32 == 0) return f32_of_bits(low & 0x807fffff);
    if ((z >> 32) % 8 == 0) return f32_of_bits(low & 0xbfffffff);
    float unit = (float)(int32_t)low * 0x1p-31f;
    return unit * (float)(1 << (z >> 40) % 5);
}

static void fill(float *x, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) x[i] = value(&seed);
}

/* FNV-1a. */
static uint64_t hash(uint64_t h, const void *p, size_t n)
{
    const uint8_t *b = p;
    for (size_t i = 0; i < n; i++) h = (h ^ b[i]) * 0x100000001b3;
    return h;
}

static uint64_t hash_of(const void *p, size_t n)
{
    return hash(0xcbf29ce484222325, p, n);
}

/* --- products --- */

/* Any bytes, but scales and values below 2 in magnitude: the top bit of each exponent cleared. */
static void fill_group(enum wtype t, uint8_t *p, size_t n, uint64_t seed)
{
    size_t unit = t == WT_Q40 ? 288 : t == WT_Q80 ? 544 : t == WT_F32 ? 4 : 2;

    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)next(&seed);
    for (size_t at = 0; at < n; at += unit) {
        if (!wtype_quantized(t)) p[at + unit - 1] &= 0xbf;
        for (size_t row = 0; wtype_quantized(t) && row < 16; row++) p[at + 2 * row + 1] &= 0xbf;
    }
}

static uint64_t run_product(const struct kernels *k, enum wtype type)
{
    uint8_t group[GROUPS * COLS * 64];
    float x[TOKENS * COLS], bias[GROUPS * 16], y[TOKENS * ROWS] = { 0 };
    int8_t q[TOKENS * BLOCKS * BLOCK];
    float d[TOKENS * BLOCKS];
    int32_t sum[TOKENS * BLOCKS];

    struct tensor w = { type, ROWS, COLS, tiling_of(type, ROWS, COLS), NULL };
    const uint8_t *tile = group;
    w.tile = &tile;
    fill_group(type, group, GROUPS * w.tiling.group_bytes, 1 + (uint64_t)type);
    fill(x, TOKENS * COLS, 2);
    fill(bias, GROUPS * 16, 3);
    for (unsigned t = 0; t < TOKENS; t++)
        k->quantize(x + t * COLS, COLS, q + t * BLOCKS * BLOCK, d + t * BLOCKS, sum + t * BLOCKS);

    struct acts in = { TOKENS, COLS, x, COLS, q, d, sum, BLOCKS };
    k->product(y, ROWS, &w, NULL, &in, 0, 1);
    k->product(y, ROWS, &w, bias, &in, 1, GROUPS);
    return hash_of(y, sizeof y);
}

static uint64_t product_f32(const struct kernels *k)
{
    return run_product(k, WT_F32);
}
static uint64_t product_f16(const struct kernels *k)
{
    return run_product(k, WT_F16);
}
static uint64_t product_bf16(const struct kernels *k)
{
    return run_product(k, WT_BF16);
}
static uint64_t product_q40(const struct kernels *k)
{
    return run_product(k, WT_Q40);
}
static uint64_t product_q80(const struct kernels *k)
{
    return run_product(k, WT_Q80);
}

static uint64_t quantize(const struct kernels *k)
{
    float x[COLS], d[BLOCKS];
    int8_t q[BLOCKS * BLOCK];
    int32_t sum[BLOCKS];

    fill(x, COLS, 4);
    for (unsigned i = 0; i < BLOCK; i++) x[i] = (float)((int)i - 16) * 0.5f; /* ties */
    x[0] = 127;
    k->quantize(x, COLS, q, d, sum);
    return hash(hash(hash_of(q, sizeof q), d, sizeof d), sum, sizeof sum);
}

/* --- along a vector --- */

static uint64_t norm(const struct kernels *k)
{
    float x[COLS], w[COLS], y[COLS];
    fill(x, COLS, 5);
    fill(w, COLS, 6);
    k->norm(y, x, w, COLS, 1e-5f);
    return hash_of(y, sizeof y);
}

static uint64_t swiglu(const struct kernels *k)
{
    float g[COLS], u[COLS], f[COLS];
    fill(g, COLS, 7);
    fill(u, COLS, 8);
    for (unsigned i = 0; i < COLS; i += 3) g[i] *= 16; /* beyond the clamp of exp too */
    k->swiglu(f, g, u, COLS);
    return hash_of(f, sizeof f);
}

static uint64_t sigmoid(const struct kernels *k)
{
    float z[COLS], s[COLS];
    fill(z, COLS, 9);
    k->sigmoid(s, z, COLS);
    return hash_of(s, sizeof s);
}

static uint64_t add(const struct kernels *k)
{
    float a[COLS], b[COLS], y[COLS];
    fill(a, COLS, 10);
    fill(b, COLS, 11);
    k->add(y, a, b, COLS);
    return hash_of(y, sizeof y);
}

static const enum ftype stored[] = { FT_F32, FT_F16, FT_BF16 };

static uint64_t exchange(const struct kernels *k)
{
    float x[COLS], y[COLS];
    uint64_t h = 0;
    fill(x, COLS, 12);
    for (unsigned i = 0; i < 3; i++) {
        bool finite = k->exchange(y, x, 0.3f, COLS, stored[i]);
        h = hash(hash(h, y, sizeof y), &finite, 1);
    }
    return h;
}

static uint64_t narrow_widen(const struct kernels *k)
{
    float x[COLS], y[COLS];
    uint64_t h = 0;
    fill(x, COLS, 13);
    for (unsigned i = 0; i < 3; i++) {
        uint8_t small[COLS * 4];
        k->narrow(small, x, COLS, stored[i]);
        k->widen(y, small, COLS, stored[i]);
        h = hash(hash(h, small, COLS * ftype_bytes(stored[i])), y, sizeof y);
    }
    return h;
}

/* --- attention --- */

/* Stored keys [KEYS][HEAD] in blocks of positions. */
static void interleave(float *blocks, const float *keys)
{
    memset(blocks, 0, KEYS_ROOM * HEAD * sizeof *blocks);
    for (uint32_t t = 0; t < KEYS; t++)
        for (uint32_t i = 0; i < HEAD; i++)
            blocks[(t / KV_BLOCK * HEAD + i) * KV_BLOCK + t % KV_BLOCK] = keys[t * HEAD + i];
}

/* HEADS_ALIKE heads (tiles of several sizes) with the same inputs, of which one is hashed: the
 * bits of the others are compared with it. */
static bool alike(const float *x, size_t n, size_t stride)
{
    for (unsigned j = 1; j < HEADS_ALIKE; j++)
        if (memcmp(x, x + j * stride, n * sizeof *x) != 0) return false;
    return true;
}

static uint64_t attention(const struct kernels *k)
{
    float q[HEADS_ALIKE * HEAD], o[HEADS_ALIKE * HEAD], s[HEADS_ALIKE * KEYS_ROOM];
    float kv[KEYS * HEAD], blocks[KEYS_ROOM * HEAD];
    uint64_t h = 0;
    for (unsigned j = 0; j < HEADS_ALIKE; j++) fill(q + j * HEAD, HEAD, 14);
    for (unsigned i = 0; i < 2; i++) {
        struct heads heads = { HEADS_ALIKE, HEAD, stored[i], KEYS_ROOM };
        uint8_t keys[KEYS_ROOM * HEAD * 4], values[KEYS * HEAD * 4];
        fill(kv, KEYS * HEAD, 15);
        interleave(blocks, kv);
        k->narrow(keys, blocks, KEYS_ROOM * HEAD, stored[i]);
        k->narrow(values, kv, KEYS * HEAD, stored[i]);
        k->scores(s, q, keys, &heads, KEYS, 0.125f);
        h = hash(h, s, KEYS * sizeof *s);
        if (!alike(s, KEYS, KEYS_ROOM)) return 0;

        float most = k->max(s, KEYS), sum = 0;
        for (unsigned j = 0; j < HEADS_ALIKE; j++) {
            sum = k->exp_sum(s + j * KEYS_ROOM, KEYS, most);
            fill(o + j * HEAD, HEAD, 16);
        }
        h = hash(hash(hash(h, &most, 4), &sum, 4), s, KEYS * sizeof *s);

        k->weigh(o, s, values, &heads, KEYS);
        h = hash(h, o, HEAD * sizeof *o);
        if (!alike(o, HEAD, HEAD)) return 0;
    }
    return h;
}

/* --- the same code for every table, but perhaps not the same compiler --- */

static uint64_t exponential(const struct kernels *k)
{
    (void)k;
    uint64_t h = 0;
    for (int i = -900; i <= 900; i++) {
        float e = exp_f32((float)i * 0.1f);
        h = hash(h, &e, sizeof e);
    }
    return h;
}

static uint64_t rope(const struct kernels *k)
{
    double freq[8] = { 1, 0.5, 0.1, 0.03, 0.01, 0.001, 1e-4, 3e-6 };
    float c[8], s[8], head[16];
    uint64_t h = 0;
    for (uint32_t position = 0; position < 1u << 20; position = position * 3 + 1) {
        rope_angles(c, s, freq, 8, position, position % 2 ? 1 : 1.25);
        fill(head, 16, position);
        k->rotate(head, c, s, 8, position % 2);
        h = hash(hash(hash(h, c, sizeof c), s, sizeof s), head, sizeof head);
    }
    return h;
}

static uint64_t pack(const struct kernels *k)
{
    (void)k;
    float rows[5 * COLS];
    uint8_t out[COLS * 64];
    uint64_t h = 0;
    fill(rows, 5 * COLS, 17);
    for (unsigned t = 0; t < WT_COUNT; t++) {
        if (group_pack((enum wtype)t, rows, COLS, 5, COLS, out)) return 0;
        h = hash(h, out, wtype_group_bytes((enum wtype)t, COLS));
    }
    return h;
}

/* red16 in its order: of numbers of one size, so that another order rounds otherwise. */
static uint64_t sums(const struct kernels *k)
{
    float x[64];
    uint64_t seed = 18, h = 0;
    for (uint32_t n = 1; n <= 64; n++) {
        for (uint32_t i = 0; i < n; i++) x[i] = (float)(next(&seed) >> 40) * 0x1p-24f;
        float sum = k->exp_sum(x, n, 1);
        h = hash(h, &sum, sizeof sum);
    }
    return h;
}

static const struct probe probes[] = {
    { "product with f32 weights", 0xc0d24d223a2f6906, product_f32 },
    { "product with f16 weights", 0x276734d6a25162b1, product_f16 },
    { "product with bf16 weights", 0x17273f0a8a19a0d6, product_bf16 },
    { "product with q40 weights", 0xea1c15b7992240d3, product_q40 },
    { "product with q80 weights", 0xf10b68cdddbb26ae, product_q80 },
    { "quantize", 0x6f8d1c11f4228086, quantize },
    { "norm", 0x308530c940a36a2d, norm },
    { "swiglu", 0xae46cd50657dc5a0, swiglu },
    { "sigmoid", 0x5ce29d253c727c40, sigmoid },
    { "add", 0x2c92893834b92d13, add },
    { "exchange", 0xf5dd6f0ddf95ed57, exchange },
    { "narrow and widen", 0x5ab116865f8c3a75, narrow_widen },
    { "attention", 0x8ef4873a54d038da, attention },
    { "sums of sixteen lanes", 0x1a00a5e2ee691bca, sums },
    { "exp", 0x811aefd25bec70a7, exponential },
    { "rope", 0x0326a4cc7e04854c, rope },
    { "packing of weights", 0x89d070955b72c448, pack },
};

const struct probe *selftest_nth(unsigned i)
{
    return i < sizeof probes / sizeof *probes ? &probes[i] : NULL;
}

enum err kernels_selftest(const struct kernels *k, struct why *why)
{
    const struct probe *p;
    for (unsigned i = 0; (p = selftest_nth(i)) != NULL; i++) {
        uint64_t got = p->run(k);
        if (got != p->golden)
            return fail(why, ERR_UNSUPPORTED,
                        "this machine's arithmetic differs from the swarm's: %s (%s) gives "
                        "%016" PRIx64 ", not %016" PRIx64,
                        p->what, k->isa, got, p->golden);
    }
    return ERR_OK;
}
