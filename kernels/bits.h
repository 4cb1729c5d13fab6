/* bits.h - the bits of a float, and loads from addresses of any alignment. */
#ifndef KERNELS_BITS_H
#define KERNELS_BITS_H

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "tiles are little endian and are read in place: a big-endian CPU cannot run these kernels"
#endif

#include <float.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if FLT_EVAL_METHOD != 0
#error "this compiler keeps more than f32 between operations (i386 without SSE), so it rounds twice"
#endif

enum { F32_INF = 0x7f800000, F32_ABS = 0x7fffffff, F16_INF = 0x7c00, F16_ABS = 0x7fff };

static inline uint32_t bits_of_f32(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float f32_of_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* Element i of an array of f32, f16 or bf16 that starts at any address. */
static inline float f32_at(const void *p, size_t i)
{
    float x;
    memcpy(&x, (const uint8_t *)p + i * sizeof x, sizeof x);
    return x;
}

static inline uint16_t u16_at(const void *p, size_t i)
{
    uint16_t h;
    memcpy(&h, (const uint8_t *)p + i * sizeof h, sizeof h);
    return h;
}

static inline void u16_put(void *p, size_t i, uint16_t h)
{
    memcpy((uint8_t *)p + i * sizeof h, &h, sizeof h);
}

static inline void f32_put(void *p, size_t i, float x)
{
    memcpy((uint8_t *)p + i * sizeof x, &x, sizeof x);
}

#endif
