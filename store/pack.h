/* pack.h - one tile out of a region of a source tensor. */
#ifndef STORE_PACK_H
#define STORE_PACK_H

#include "store/hf_tensors.h"

/* Bytes [lo, hi) of a tensor's data. */
struct span_bytes {
    uint64_t lo, hi;
};

size_t region_elem_bytes(const struct region *r);
/* What a tile's rows span in the source, gaps between rows included; what they hold, without. */
struct span_bytes region_span(const struct region *r, const struct tiling *l, uint32_t tile);
uint64_t region_tile_bytes(const struct region *r, const struct tiling *l, uint32_t tile);

#define REGION_TOO_LARGE (UINT64_C(1) << 63)

/* Pack a tile.
 *   rows   scratch [GROUP_ROWS][region's cols]
 *   out    tiling_tile_bytes
 *   bad    with ERR_NONFINITE: the element of the source tensor, flat; with REGION_TOO_LARGE set
 *          when it is finite but what it is rounded to is not */
MUST_CHECK enum err pack_tile(const struct region *r, enum wtype type, const struct tiling *l,
                              uint32_t tile, float *rows, uint8_t *out, uint64_t *bad);

/* "[3, 17]": a flat element by the tensor's dimensions. */
void region_element_text(char out[96], const struct region *r, uint64_t flat);

#endif
