#include "base/arena.h"

#include <stdlib.h>

enum err arena_init(struct arena *a, size_t cap)
{
    size_t size = cap + ARENA_ALIGN;

    *a = (struct arena){ 0 };
    if (size < cap) return ERR_NOMEM;
    a->block = calloc(1, size);
    if (!a->block) return ERR_NOMEM;
    a->base = (uint8_t *)a->block + (ARENA_ALIGN - (uintptr_t)a->block % ARENA_ALIGN) % ARENA_ALIGN;
    a->cap = cap;
    return ERR_OK;
}

void arena_fini(struct arena *a)
{
    free(a->block);
    *a = (struct arena){ 0 };
}

void *arena_take(struct arena *a, size_t count, size_t size)
{
    size_t n;

    if (__builtin_mul_overflow(count, size, &n) || n > SIZE_MAX - ARENA_ALIGN) abort();
    n = (n + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    if (n > SIZE_MAX - a->used) abort();

    size_t at = a->used;
    a->used += n;
    if (!a->base) return NULL;
    if (a->used > a->cap) abort();
    return a->base + at;
}
