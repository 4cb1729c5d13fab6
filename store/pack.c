#include "store/pack.h"

#include <math.h>
#include <stdio.h>

size_t region_elem_bytes(const struct region *r)
{
    return r->t->dtype == ST_F32 ? 4 : 2;
}

/* Rows [lo, hi) of the region that a tile holds. */
static void tile_rows(const struct region *r, const struct tiling *l, uint32_t tile, uint32_t *lo,
                      uint32_t *hi)
{
    uint64_t rows = (uint64_t)l->groups_per_tile * GROUP_ROWS;
    uint64_t end = (tile + UINT64_C(1)) * rows;

    *lo = (uint32_t)(tile * rows);
    *hi = end < r->rows ? (uint32_t)end : r->rows;
}

struct span_bytes region_span(const struct region *r, const struct tiling *l, uint32_t tile)
{
    uint32_t lo, hi;
    size_t elem = region_elem_bytes(r);

    tile_rows(r, l, tile, &lo, &hi);
    return (struct span_bytes){ (r->first + lo * r->stride) * elem,
                                (r->first + (hi - UINT64_C(1)) * r->stride + r->cols) * elem };
}

uint64_t region_tile_bytes(const struct region *r, const struct tiling *l, uint32_t tile)
{
    uint32_t lo, hi;

    tile_rows(r, l, tile, &lo, &hi);
    return (uint64_t)(hi - lo) * r->cols * region_elem_bytes(r);
}

/* One row as f32; the source may lie at any address. */
static void load_row(const struct region *r, uint32_t row, float *out)
{
    const uint8_t *p = r->t->data.p + (r->first + row * r->stride) * region_elem_bytes(r);

    if (r->t->dtype == ST_F32) {
        memcpy(out, p, (size_t)r->cols * sizeof *out);
        return;
    }
    for (uint32_t c = 0; c < r->cols; c++) {
        uint16_t h;
        memcpy(&h, p + 2 * (size_t)c, sizeof h);
        if (r->t->dtype == ST_F16) {
            out[c] = f32_from_f16(h);
        } else {
            uint32_t bits = (uint32_t)h << 16;
            memcpy(&out[c], &bits, sizeof bits);
        }
    }
}

/* Which of these rows' elements cannot be packed: the first that is not finite, else the largest
 * of a group that its type cannot hold. */
static uint64_t find_bad(const struct region *r, uint32_t row, uint32_t n, const float *rows)
{
    float most = -1;
    uint64_t at = 0;

    for (uint32_t k = 0; k < n; k++) {
        for (uint32_t c = 0; c < r->cols; c++) {
            float x = fabsf(rows[(size_t)k * r->cols + c]);
            uint64_t flat = r->first + (row + k) * r->stride + c;
            if (!isfinite(x)) return flat;
            if (x <= most) continue;
            most = x;
            at = flat;
        }
    }
    return at | REGION_TOO_LARGE;
}

enum err pack_tile(const struct region *r, enum wtype type, const struct tiling *l, uint32_t tile,
                   float *rows, uint8_t *out, uint64_t *bad)
{
    uint32_t lo, hi;

    tile_rows(r, l, tile, &lo, &hi);
    for (uint32_t row = lo; row < hi; row += GROUP_ROWS) {
        uint32_t n = hi - row < GROUP_ROWS ? hi - row : GROUP_ROWS;
        for (uint32_t k = 0; k < n; k++) load_row(r, row + k, rows + (size_t)k * r->cols);
        enum err e = group_pack(type, rows, r->cols, n, r->cols, out);
        if (e) {
            *bad = find_bad(r, row, n, rows);
            return e;
        }
        out += l->group_bytes;
    }
    return ERR_OK;
}

void region_element_text(char out[96], const struct region *r, uint64_t flat)
{
    uint64_t index[ST_DIMS_MAX] = { 0 };
    size_t at = (size_t)snprintf(out, 96, "[");

    for (uint32_t d = r->t->n_dims; d-- > 0;) {
        index[d] = flat % r->t->dim[d];
        flat /= r->t->dim[d];
    }
    for (uint32_t d = 0; d < r->t->n_dims && at < 80; d++)
        at += (size_t)snprintf(out + at, 96 - at, "%s%llu", d ? ", " : "",
                               (unsigned long long)index[d]);
    snprintf(out + at, 96 - at, "]");
}
