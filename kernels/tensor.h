/* tensor.h - a weight matrix as it lies in a store: tiles of groups of 16 rows.
 *
 *   tensor [rows][cols]        y = W x
 *     |- tile 0                as many groups as fit in TILE_BYTES (at least one)
 *     |   |- group 0           16 rows, one SIMD lane per row; padding rows are zero
 *     |   |- group 1
 *     ...
 *
 * One group of 16 rows, `cols` inputs (q40, q80: cols padded with zeros to whole blocks of 32):
 *
 *   q40   per block of 32 inputs, 288 bytes: f16 scale[16]; then for g in 0..3, for row in 0..15,
 *         4 bytes j in 0..3: low nibble = input 4g+j, high nibble = input 16+4g+j (value n - 8)
 *   q80   per block, 544 bytes: f16 scale[16]; then for g in 0..7, for row in 0..15,
 *         4 int8: inputs 4g .. 4g+3
 *   f16, bf16, f32   per input: 16 values, one per row
 *
 * So a vector of n floats (a norm, a bias) is an f32 tensor of n rows and one column: a flat array
 * padded to 16.  Everything is little endian.  Groups start at any address: loads are unaligned. */
#ifndef KERNELS_TENSOR_H
#define KERNELS_TENSOR_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The numbers are in manifests: never change one. */
enum wtype { WT_F32 = 0, WT_F16 = 1, WT_BF16 = 2, WT_Q40 = 3, WT_Q80 = 4, WT_COUNT };

enum {
    GROUP_ROWS = 16,
    BLOCK = 32,              /* inputs that share a scale */
    TILE_BYTES = 1048560,    /* fills 256 pages of LMDB exactly, see store/ */
    TILE_WIRE_MAX = 4 << 20, /* a single group may be wider than TILE_BYTES, never than this */
};

const char *wtype_name(enum wtype t); /* "q40", ...; static */
bool wtype_parse(const char *name, enum wtype *out);
static inline bool wtype_quantized(enum wtype t)
{
    return t == WT_Q40 || t == WT_Q80;
}

/* Bytes of one group of 16 rows with cols inputs. */
size_t wtype_group_bytes(enum wtype t, uint32_t cols);

/* Where the groups of a tensor lie.  Derived from type, rows and cols alone. */
struct tiling {
    size_t group_bytes;
    uint32_t groups;          /* ceil(rows / 16) */
    uint32_t groups_per_tile; /* the last tile may hold fewer */
    uint32_t tiles;
};
struct tiling tiling_of(enum wtype t, uint32_t rows, uint32_t cols);
size_t tiling_tile_bytes(const struct tiling *t, uint32_t tile);

struct tensor {
    enum wtype type;
    uint32_t rows, cols;
    struct tiling tiling;
    const uint8_t *const
        *tile; /* [tiling.tiles] borrowed from the store's read transaction; NULL: not held */
};

static inline const uint8_t *tensor_group(const struct tensor *w, uint32_t g)
{
    return w->tile[g / w->tiling.groups_per_tile] +
           (size_t)(g % w->tiling.groups_per_tile) * w->tiling.group_bytes;
}

/* An f32 tensor of one column as its flat array, readable to a multiple of 16.
 * Only for tensors of one tile (vectors up to 262,128 floats).  May be unaligned to 64 bytes. */
static inline const float *tensor_vector(const struct tensor *w)
{
    return (const float *)(const void *)w->tile[0];
}

/* Are all scales and values of these bytes finite?  n must be the size of a tile of this tensor.
 * A tile from a peer or a file is refused when not. */
bool tile_finite(enum wtype t, uint32_t cols, const uint8_t *p, size_t n);

/* Pack up to 16 rows of f32 into one group.
 *
 *   rows      [n_rows][stride], n_rows in 1..16, cols used of each; missing rows become zero rows
 *   out       wtype_group_bytes(t, cols) bytes
 *   returns   ERR_NONFINITE when a value or a scale is not finite (an f16 that overflows too)
 *   source    rounding: ggml's reference Q4_0 and Q8_0, see model-facts D.6 and docs/arithmetic.md
 */
MUST_CHECK enum err group_pack(enum wtype t, const float *rows, size_t stride, uint32_t n_rows,
                               uint32_t cols, uint8_t *out);

/* The first n_rows rows of a group as ggml lays them out, stride bytes apart: values in order; q40
 * and q80 in blocks of 32 (cols a multiple of it), each its f16 scale, then 16 bytes with inputs j
 * low and 16+j high, or 32 int8.  No number changes. */
void group_rows(enum wtype t, const uint8_t *group, uint32_t cols, uint32_t n_rows, uint8_t *out,
                size_t stride);

/* One row of a tensor as f32 (the embedding lookup, tests).  out [cols]. */
void tensor_row(const struct tensor *w, uint32_t row, float *out);

#endif
