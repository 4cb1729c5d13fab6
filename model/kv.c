#include "model/share.h"
#include "model/stage.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Keys come in whole blocks of positions, and values are as many. */
static uint64_t positions_held(uint32_t cap)
{
    return ((uint64_t)cap + KV_BLOCK - 1) / KV_BLOCK * KV_BLOCK;
}

uint64_t kv_cost_heads(const struct arch *a, uint32_t lo, uint32_t hi, uint32_t g_lo, uint32_t g_hi,
                       uint32_t cap)
{
    return (hi - lo) * positions_held(cap) * (arch_kv_bytes(a) / a->n_kv * (g_hi - g_lo));
}

uint64_t kv_cost(const struct arch *a, uint32_t lo, uint32_t hi, uint32_t cap)
{
    return kv_cost_heads(a, lo, hi, 0, a->n_kv, cap);
}

enum err kv_open(struct kv **out, const struct arch *a, uint32_t lo, uint32_t hi, uint32_t cap)
{
    return kv_open_heads(out, a, lo, hi, 0, a->n_kv, cap);
}

enum err kv_open_heads(struct kv **out, const struct arch *a, uint32_t lo, uint32_t hi,
                       uint32_t g_lo, uint32_t g_hi, uint32_t cap)
{
    *out = NULL;
    if (lo > hi || hi > arch_all_layers(a) || cap < 1 || cap > a->context || g_lo > g_hi ||
        g_hi > a->n_kv)
        return ERR_RANGE;

    uint64_t bytes = kv_cost_heads(a, lo, hi, g_lo, g_hi, cap);
    if (bytes > SIZE_MAX / 2) return ERR_NOMEM;
    struct kv *kv = calloc(1, sizeof *kv + (hi - lo) * sizeof *kv->filled);
    if (!kv) return ERR_NOMEM;
    *kv = (struct kv){ .lo = lo,
                       .hi = hi,
                       .cap = cap,
                       .g_lo = g_lo,
                       .n_kv = g_hi - g_lo,
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

/* Bytes of the keys, or the values, of a KV head. */
static size_t one_head(const struct kv *kv)
{
    return (size_t)positions_held(kv->cap) * kv->head_dim * ftype_bytes(kv->type);
}

void *kv_k(const struct kv *kv, uint32_t layer, uint32_t group)
{
    assert(layer >= kv->lo && layer < kv->hi && group >= kv->g_lo && group - kv->g_lo < kv->n_kv);
    return kv->base + ((size_t)(layer - kv->lo) * kv->n_kv + (group - kv->g_lo)) * 2 * one_head(kv);
}

void *kv_v(const struct kv *kv, uint32_t layer, uint32_t group)
{
    return (uint8_t *)kv_k(kv, layer, group) + one_head(kv);
}

/* Elements of `size` bytes, from side by side to KV_BLOCK apart. */
static void spread(uint8_t *to, const uint8_t *from, uint32_t n, const size_t size)
{
    for (uint32_t i = 0; i < n; i++) memcpy(to + i * KV_BLOCK * size, from + i * size, size);
}

void kv_put(const struct kv *kv, const struct kernels *k, uint32_t layer, uint32_t group,
            uint32_t pos, const float *key, const float *value)
{
    uint32_t hd = kv->head_dim;
    size_t size = ftype_bytes(kv->type);
    uint8_t *to = (uint8_t *)kv_k(kv, layer, group) +
                  ((size_t)(pos / KV_BLOCK) * hd * KV_BLOCK + pos % KV_BLOCK) * size;
    uint8_t *v = (uint8_t *)kv_v(kv, layer, group) + (size_t)pos * hd * size;
    uint8_t some[64 * sizeof(float)];

    for (uint32_t i = 0; i < hd; i += 64, to += 64 * KV_BLOCK * size) {
        uint32_t n = hd - i < 64 ? hd - i : 64;
        k->narrow(some, key + i, n, kv->type);
        if (size == 2)
            spread(to, some, n, 2);
        else
            spread(to, some, n, 4);
    }
    k->narrow(v, value, hd, kv->type);
}

/* --- blocks of positions in and out --- */

/* A block of keys is as large as its values, and both begin at the same distance. */
void kv_save(const struct kv *kv, uint32_t pos, uint32_t n, void *out)
{
    size_t one = kv->head_dim * ftype_bytes(kv->type);
    uint8_t *to = out;

    assert(pos % KV_BLOCK == 0 && n % KV_BLOCK == 0 && pos + n <= positions_held(kv->cap));
    for (uint32_t l = kv->lo; l < kv->hi; l++)
        for (uint32_t g = 0; g < kv->n_kv; g++, to += 2 * n * one) {
            memcpy(to, (const uint8_t *)kv_k(kv, l, kv->g_lo + g) + pos * one, n * one);
            memcpy(to + n * one, (const uint8_t *)kv_v(kv, l, kv->g_lo + g) + pos * one, n * one);
        }
}

void kv_load(struct kv *kv, uint32_t pos, uint32_t n, const void *in)
{
    size_t one = kv->head_dim * ftype_bytes(kv->type);
    const uint8_t *from = in;

    assert(pos == kv->len && pos % KV_BLOCK == 0 && n % KV_BLOCK == 0 && n <= kv->cap - pos);
    for (uint32_t l = kv->lo; l < kv->hi; l++)
        for (uint32_t g = 0; g < kv->n_kv; g++, from += 2 * n * one) {
            memcpy((uint8_t *)kv_k(kv, l, kv->g_lo + g) + pos * one, from, n * one);
            memcpy((uint8_t *)kv_v(kv, l, kv->g_lo + g) + pos * one, from + n * one, n * one);
        }
    kv->len = pos + n;
}

/* --- measuring --- */

void kv_each(const struct kv *kv, void (*f)(void *arg, const void *p, size_t n), void *arg)
{
    size_t one = kv->head_dim * ftype_bytes(kv->type);

    for (uint32_t l = kv->lo; l < kv->hi; l++)
        for (uint32_t g = 0; g < kv->n_kv; g++) {
            f(arg, kv_k(kv, l, kv->g_lo + g), (size_t)positions_held(kv->len) * one);
            f(arg, kv_v(kv, l, kv->g_lo + g), kv->len * one);
        }
}

struct filling {
    uint64_t state;
    enum ftype type;
};

/* Numbers from 1 to 2 and their negatives: random fractions under one exponent. */
static void fill(void *arg, const void *p, size_t n)
{
    struct filling *r = arg;
    uint8_t *to = (uint8_t *)(uintptr_t)p;

    for (size_t i = 0, each = ftype_bytes(r->type); i < n; i += each) {
        r->state = r->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        uint32_t bits = (uint32_t)(r->state >> 32);
        if (each == 2)
            memcpy(to + i, &(uint16_t){ (uint16_t)((bits & 0x83ff) | 0x3c00) }, 2);
        else
            memcpy(to + i, &(uint32_t){ (bits & 0x807fffff) | 0x3f800000 }, 4);
    }
}

void kv_fill(struct kv *kv, uint32_t len, uint64_t seed)
{
    struct filling random = { seed, kv->type };

    assert(len <= kv->cap);
    kv->len = len;
    for (uint32_t l = kv->lo; l < kv->hi; l++) kv->filled[l - kv->lo] = len;
    kv_each(kv, fill, &random);
}
