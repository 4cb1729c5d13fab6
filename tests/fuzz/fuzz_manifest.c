/* Manifests: a body that decodes passes arch_check and is canonical. */
#include "store/manifest.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct manifest m;
    struct why why = { "" };
    uint8_t *again;
    size_t len;

    if (manifest_decode(&m, slice_of(data, n), &why)) {
        if (!why.text[0]) abort();
        return 0;
    }
    if (arch_check(&m.arch, NULL)) abort();
    for (uint32_t l = 0; l < arch_all_layers(&m.arch); l++)
        if (manifest_n_tiles(&m.arch, l) == 0) abort();
    if (manifest_encode(&m, &again, &len)) abort();
    if (len != n || memcmp(again, data, n) != 0) abort();
    free(again);
    return 0;
}
