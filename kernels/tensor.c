/* How a weight matrix lies in tiles, and how rows of f32 become groups. */
#include "kernels/tensor.h"
#include "kernels/bits.h"
#include "kernels/kernels.h"

#include <float.h>

enum {
    SCALES_BYTES = GROUP_ROWS * 2,
    Q40_BYTES = SCALES_BYTES + GROUP_ROWS * BLOCK / 2, /* one block of 16 rows */
    Q80_BYTES = SCALES_BYTES + GROUP_ROWS * BLOCK,
};

static const char *const names[WT_COUNT] = {
    [WT_F32] = "f32", [WT_F16] = "f16", [WT_BF16] = "bf16", [WT_Q40] = "q40", [WT_Q80] = "q80",
};

const char *wtype_name(enum wtype t)
{
    return (unsigned)t < WT_COUNT ? names[t] : "unknown";
}

bool wtype_parse(const char *name, enum wtype *out)
{
    for (unsigned t = 0; t < WT_COUNT; t++) {
        if (strcmp(name, names[t]) != 0) continue;
        *out = (enum wtype)t;
        return true;
    }
    return false;
}

static uint32_t blocks_of(uint32_t cols)
{
    return cols / BLOCK + (cols % BLOCK != 0);
}

size_t wtype_group_bytes(enum wtype t, uint32_t cols)
{
    switch (t) {
    case WT_F32: return (size_t)cols * GROUP_ROWS * 4;
    case WT_F16:
    case WT_BF16: return (size_t)cols * GROUP_ROWS * 2;
    case WT_Q40: return (size_t)blocks_of(cols) * Q40_BYTES;
    case WT_Q80: return (size_t)blocks_of(cols) * Q80_BYTES;
    case WT_COUNT: break;
    }
    return 0;
}

struct tiling tiling_of(enum wtype t, uint32_t rows, uint32_t cols)
{
    struct tiling l = { .group_bytes = wtype_group_bytes(t, cols) };
    size_t fit = l.group_bytes ? TILE_BYTES / l.group_bytes : 1;

    l.groups = rows / GROUP_ROWS + (rows % GROUP_ROWS != 0);
    l.groups_per_tile = fit > 0 ? (uint32_t)fit : 1;
    l.tiles = l.groups / l.groups_per_tile + (l.groups % l.groups_per_tile != 0);
    return l;
}

size_t tiling_tile_bytes(const struct tiling *t, uint32_t tile)
{
    uint32_t before = tile * t->groups_per_tile;
    uint32_t left = t->groups - before;
    return (left < t->groups_per_tile ? left : t->groups_per_tile) * t->group_bytes;
}

/* --- is everything finite --- */

static bool f16s_finite(const uint8_t *p, size_t n, uint16_t exponent)
{
    bool finite = true;
    for (size_t i = 0; i < n; i++) finite &= (u16_at(p, i) & exponent) != exponent;
    return finite;
}

static bool f32s_finite(const uint8_t *p, size_t n)
{
    bool finite = true;
    for (size_t i = 0; i < n; i++) finite &= (bits_of_f32(f32_at(p, i)) & F32_INF) != F32_INF;
    return finite;
}

static bool scales_finite(const uint8_t *p, size_t n, size_t block_bytes)
{
    for (size_t at = 0; at < n; at += block_bytes)
        if (!f16s_finite(p + at, GROUP_ROWS, F16_INF)) return false;
    return true;
}

bool tile_finite(enum wtype t, uint32_t cols, const uint8_t *p, size_t n)
{
    size_t group = wtype_group_bytes(t, cols);
    if (group == 0 || n % group != 0) return false;

    switch (t) {
    case WT_F32: return f32s_finite(p, n / 4);
    case WT_F16: return f16s_finite(p, n / 2, F16_INF);
    case WT_BF16: return f16s_finite(p, n / 2, 0x7f80);
    case WT_Q40: return scales_finite(p, n, Q40_BYTES);
    case WT_Q80: return scales_finite(p, n, Q80_BYTES);
    case WT_COUNT: break;
    }
    return false;
}

/* --- packing: up to 16 rows of f32 into one group --- */

/* One row's block as ggml's reference rounds it, before it is spread over the group. */
struct block {
    uint16_t scale;   /* f16 */
    uint8_t q[BLOCK]; /* q40: 0..15; q80: int8 */
};

/* Q4_0: d = M / -8 with M the first of the largest magnitudes; q = trunc(x * (1/d) + 8.5) up to 15.
 * Two roundings in x * (1/d) + 8.5, and truncation: bit for bit ggml's. */
static enum err round_q40(const float x[BLOCK], struct block *b)
{
    float most = 0, m = 0;
    for (unsigned i = 0; i < BLOCK; i++) {
        float a = f32_of_bits(bits_of_f32(x[i]) & F32_ABS);
        if (!(a <= FLT_MAX)) return ERR_NONFINITE;
        if (a > most) most = a, m = x[i];
    }
    float d = m / -8;
    b->scale = f16_from_f32(d);
    if ((b->scale & F16_ABS) == F16_INF) return ERR_NONFINITE;
    if ((b->scale & F16_ABS) == 0) { /* every value is 0, whatever the nibble: say so */
        memset(b->q, 8, BLOCK);
        return ERR_OK;
    }
    float inverse = 1 / d;
    for (unsigned i = 0; i < BLOCK; i++) {
        int v = (int)(x[i] * inverse + 8.5f);
        b->q[i] = (uint8_t)(v < 15 ? v : 15);
    }
    return ERR_OK;
}

/* Nearest integer, halves away from zero, as C's roundf; |x| < 2^23. */
static int round_half_away(float x)
{
    int whole = (int)x;
    float rest = x - (float)whole; /* exact */
    return whole + (rest >= 0.5f) - (rest <= -0.5f);
}

/* Q8_0: d = max|x| / 127, q = round(x * (1/d)). */
static enum err round_q80(const float x[BLOCK], struct block *b)
{
    float most = 0;
    for (unsigned i = 0; i < BLOCK; i++) {
        float a = f32_of_bits(bits_of_f32(x[i]) & F32_ABS);
        if (!(a <= FLT_MAX)) return ERR_NONFINITE;
        if (a > most) most = a;
    }
    float d = most / 127;
    b->scale = f16_from_f32(d);
    if ((b->scale & F16_ABS) == F16_INF) return ERR_NONFINITE;
    if ((b->scale & F16_ABS) == 0) {
        memset(b->q, 0, BLOCK);
        return ERR_OK;
    }
    float inverse = 1 / d;
    for (unsigned i = 0; i < BLOCK; i++) b->q[i] = (uint8_t)round_half_away(x[i] * inverse);
    return ERR_OK;
}

/* Byte j of quarter g of a row holds input 4g+j low and 16+4g+j high. */
static void spread_q40(const struct block *b, unsigned row, uint8_t *out)
{
    u16_put(out, row, b->scale);
    for (unsigned i = 0; i < BLOCK / 2; i++)
        out[SCALES_BYTES + (i / 4 * GROUP_ROWS + row) * 4 + i % 4] =
            (uint8_t)(b->q[i] | b->q[i + BLOCK / 2] << 4);
}

static void spread_q80(const struct block *b, unsigned row, uint8_t *out)
{
    u16_put(out, row, b->scale);
    for (unsigned i = 0; i < BLOCK; i++)
        out[SCALES_BYTES + (i / 4 * GROUP_ROWS + row) * 4 + i % 4] = b->q[i];
}

static enum err pack_quantized(enum wtype t, const float *rows, size_t stride, uint32_t n_rows,
                               uint32_t cols, uint8_t *out)
{
    size_t bytes = t == WT_Q40 ? Q40_BYTES : Q80_BYTES;

    for (uint32_t c = 0; c < cols; c += BLOCK, out += bytes) {
        uint32_t n = cols - c < BLOCK ? cols - c : BLOCK;
        for (uint32_t r = 0; r < GROUP_ROWS; r++) {
            float x[BLOCK] = { 0 };
            if (r < n_rows) memcpy(x, rows + r * stride + c, n * sizeof *x);

            struct block b;
            enum err e = t == WT_Q40 ? round_q40(x, &b) : round_q80(x, &b);
            if (e) return e;
            if (t == WT_Q40)
                spread_q40(&b, r, out);
            else
                spread_q80(&b, r, out);
        }
    }
    return ERR_OK;
}

static enum err pack_floats(enum wtype t, const float *rows, size_t stride, uint32_t n_rows,
                            uint32_t cols, uint8_t *out)
{
    for (uint32_t r = 0; r < GROUP_ROWS; r++) {
        for (uint32_t c = 0; c < cols; c++) {
            float x = r < n_rows ? rows[r * stride + c] : 0;
            size_t at = (size_t)c * GROUP_ROWS + r;
            if (t == WT_F32)
                f32_put(out, at, x);
            else
                u16_put(out, at, t == WT_F16 ? f16_from_f32(x) : bf16_from_f32(x));
        }
    }
    return tile_finite(t, cols, out, wtype_group_bytes(t, cols)) ? ERR_OK : ERR_NONFINITE;
}

enum err group_pack(enum wtype t, const float *rows, size_t stride, uint32_t n_rows, uint32_t cols,
                    uint8_t *out)
{
    if (n_rows == 0 || n_rows > GROUP_ROWS || cols == 0) return ERR_RANGE;
    if (wtype_quantized(t)) return pack_quantized(t, rows, stride, n_rows, cols, out);
    return pack_floats(t, rows, stride, n_rows, cols, out);
}

/* --- a group back as rows --- */

/* A row's bytes lie in quarters (q40) or eighths (q80) of 4, already in ggml's order. */
static void gather_blocks(const uint8_t *group, uint32_t blocks, size_t block_bytes, unsigned row,
                          uint8_t *out)
{
    size_t quads = (block_bytes - SCALES_BYTES) / GROUP_ROWS / 4;

    for (uint32_t b = 0; b < blocks; b++, group += block_bytes) {
        u16_put(out, 0, u16_at(group, row));
        out += 2;
        for (size_t g = 0; g < quads; g++, out += 4)
            memcpy(out, group + SCALES_BYTES + (g * GROUP_ROWS + row) * 4, 4);
    }
}

static void gather_values(const uint8_t *group, uint32_t cols, size_t bytes, unsigned row,
                          uint8_t *out)
{
    for (uint32_t c = 0; c < cols; c++)
        memcpy(out + c * bytes, group + ((size_t)c * GROUP_ROWS + row) * bytes, bytes);
}

void group_rows(enum wtype t, const uint8_t *group, uint32_t cols, uint32_t n_rows, uint8_t *out,
                size_t stride)
{
    for (uint32_t r = 0; r < n_rows; r++, out += stride) {
        if (wtype_quantized(t))
            gather_blocks(group, blocks_of(cols), t == WT_Q40 ? Q40_BYTES : Q80_BYTES, r, out);
        else
            gather_values(group, cols, t == WT_F32 ? 4 : 2, r, out);
    }
}

/* --- one row back as f32 --- */

static float q40_value(const uint8_t *block, unsigned row, unsigned i)
{
    uint8_t pair = block[SCALES_BYTES + (i % 16 / 4 * GROUP_ROWS + row) * 4 + i % 4];
    int n = i < BLOCK / 2 ? pair & 15 : pair >> 4;
    return (float)(n - 8) * f32_from_f16(u16_at(block, row));
}

static float q80_value(const uint8_t *block, unsigned row, unsigned i)
{
    int8_t n = (int8_t)block[SCALES_BYTES + (i / 4 * GROUP_ROWS + row) * 4 + i % 4];
    return (float)n * f32_from_f16(u16_at(block, row));
}

void tensor_row(const struct tensor *w, uint32_t row, float *out)
{
    const uint8_t *p = tensor_group(w, row / GROUP_ROWS);
    unsigned r = row % GROUP_ROWS;

    for (uint32_t c = 0; c < w->cols; c++) {
        size_t at = (size_t)c * GROUP_ROWS + r;
        switch (w->type) {
        case WT_F32: out[c] = f32_at(p, at); break;
        case WT_F16: out[c] = f32_from_f16(u16_at(p, at)); break;
        case WT_BF16: out[c] = f32_from_bf16(u16_at(p, at)); break;
        case WT_Q40: out[c] = q40_value(p + (size_t)(c / BLOCK) * Q40_BYTES, r, c % BLOCK); break;
        case WT_Q80: out[c] = q80_value(p + (size_t)(c / BLOCK) * Q80_BYTES, r, c % BLOCK); break;
        case WT_COUNT: break;
        }
    }
}
