/* arena.h - one block of memory, handed out front to back and freed as one.
 *
 * Buffers are laid out by one function that runs twice: over an empty arena to
 * add up, over memory to carve; so each size is written once. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

enum { ARENA_ALIGN = 64 }; /* one cache line, one AVX-512 register */

struct arena {
    void *block;   /* owned: what calloc gave */
    uint8_t *base; /* its first aligned byte; NULL while measuring */
    size_t cap;    /* bytes at base */
    size_t used;   /* bytes handed out, padding included */
};

/* Get cap zeroed bytes; of a large block only what is touched takes memory.  Undo with
 * arena_fini. */
MUST_CHECK enum err arena_init(struct arena *a, size_t cap);
void arena_fini(struct arena *a);

/* The next count * size bytes, aligned to ARENA_ALIGN; NULL while measuring.
 * Asking for more than was measured, or a product that overflows, is a bug and aborts. */
void *arena_take(struct arena *a, size_t count, size_t size);

#endif
