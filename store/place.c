/* Where a tile belongs: the order of a layer's table, walked. */
#include "store/manifest.h"

#include <stdio.h>

uint32_t manifest_n_tiles(const struct arch *a, uint32_t layer)
{
    uint32_t n = 0, n_specs = arch_n_specs(a, layer);

    for (uint32_t i = 0; i < n_specs; i++) {
        struct tensor_spec s = arch_spec(a, layer, i);
        n += tiling_of(s.type, s.rows, s.cols).tiles;
    }
    return n;
}

static void enter_tensor(struct tile_place *p)
{
    p->spec = arch_spec(p->arch, p->layer, p->tensor);
    p->tiling = tiling_of(p->spec.type, p->spec.rows, p->spec.cols);
    p->tile = 0;
}

struct tile_place tile_before_first(const struct arch *a, uint32_t layer)
{
    return (struct tile_place){ .arch = a, .layer = layer, .at = UINT32_MAX };
}

bool tile_next(struct tile_place *p)
{
    if (p->at == UINT32_MAX) {
        p->at = 0;
        enter_tensor(p); /* every layer has a tensor, every tensor a tile */
    } else {
        p->offset += p->bytes;
        p->at++;
        if (++p->tile == p->tiling.tiles) {
            if (++p->tensor == arch_n_specs(p->arch, p->layer)) return false;
            enter_tensor(p);
        }
    }
    p->bytes = tiling_tile_bytes(&p->tiling, p->tile);
    return true;
}

void layer_text(char out[LAYER_TEXT], uint32_t layer)
{
    if (layer == ARCH_ENDS)
        snprintf(out, LAYER_TEXT, "the ends");
    else
        snprintf(out, LAYER_TEXT, "layer %u", layer);
}

void tile_place_text(char out[PLACE_TEXT], const struct tile_place *p)
{
    char layer[LAYER_TEXT], tensor[TENSOR_TEXT];

    layer_text(layer, p->layer);
    tensor_spec_text(tensor, &p->spec);
    snprintf(out, PLACE_TEXT, "%s, %s, tile %u", layer, tensor, p->tile);
}
