#include "model/stage.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>

uint64_t kv_cost(const struct arch *a, uint32_t lo, uint32_t hi, uint32_t cap)
{
    return (uint64_t)(hi - lo) * cap * arch_kv_bytes(a);
}

enum err kv_open(struct kv **out, const struct arch *a, uint32_t lo, uint32_t hi, uint32_t cap)
{
    *out = NULL;
    if (lo > hi || hi > arch_all_layers(a) || cap < 1 || cap > a->context) return ERR_RANGE;

    uint64_t bytes = kv_cost(a, lo, hi, cap);
    if (bytes > SIZE_MAX / 2) return ERR_NOMEM;
    struct kv *kv = calloc(1, sizeof *kv);
    if (!kv) return ERR_NOMEM;
    *kv = (struct kv){ .lo = lo,
                       .hi = hi,
                       .cap = cap,
                       .n_kv = a->n_kv,
                       .head_dim = a->head_dim,
                       .type = a->kv,
                       .bytes = (size_t)bytes };
    if (bytes > 0) {
        /* reserved, not committed: pages come as positions fill */
        void *p = mmap(NULL, kv->bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) {
            free(kv);
            return ERR_NOMEM;
        }
        kv->base = p;
    }
    *out = kv;
    return ERR_OK;
}

void kv_close(struct kv *kv)
{
    if (!kv) return;
    if (kv->base) munmap(kv->base, kv->bytes);
    free(kv);
}

uint32_t kv_len(const struct kv *kv)
{
    return kv->len;
}

uint32_t kv_cap(const struct kv *kv)
{
    return kv->cap;
}

void kv_trim(struct kv *kv, uint32_t len)
{
    assert(len <= kv->len);
    if (len < kv->len) kv->len = len;
}

void *kv_k(const struct kv *kv, uint32_t layer, uint32_t group)
{
    size_t one = (size_t)kv->cap * kv->head_dim * ftype_bytes(kv->type);

    assert(layer >= kv->lo && layer < kv->hi && group < kv->n_kv);
    return kv->base + ((size_t)(layer - kv->lo) * kv->n_kv + group) * 2 * one;
}

void *kv_v(const struct kv *kv, uint32_t layer, uint32_t group)
{
    size_t one = (size_t)kv->cap * kv->head_dim * ftype_bytes(kv->type);

    return (uint8_t *)kv_k(kv, layer, group) + one;
}
