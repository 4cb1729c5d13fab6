/* random.h - reproducible inputs for the kernels' tests: ordinary and nasty, always finite. */
#ifndef TESTS_KERNELS_RANDOM_H
#define TESTS_KERNELS_RANDOM_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* splitmix64 */
static inline uint64_t draw(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static inline double draw_unit(uint64_t *state) /* [-1, 1) */
{
    return (double)(int64_t)draw(state) * 0x1p-63;
}

enum kind {
    ORDINARY,  /* within +-4 */
    ZEROS,     /* mostly +0 and -0 */
    SUBNORMAL, /* below the smallest normal f32, or a little above */
    WIDE,      /* exponents from -60 to +15 */
    EXTREME,   /* up to `large` in magnitude, both signs, and its neighbours */
    KINDS,
};

static inline float draw_value(uint64_t *state, enum kind kind, float large)
{
    double u = draw_unit(state);
    uint64_t z = draw(state);

    switch (kind) {
    case ORDINARY: return (float)(4 * u);
    case ZEROS: return z % 8 ? (z & 8 ? -0.0f : 0.0f) : (float)u;
    case SUBNORMAL: return (float)ldexp(u, -120 - (int)(z % 29));
    case WIDE: return (float)ldexp(u, 15 - (int)(z % 76));
    default: return z % 4 == 0 ? (z & 8 ? large : -large) : (float)(u * (double)large);
    }
}

static inline void draw_values(float *x, size_t n, uint64_t *state, enum kind kind, float large)
{
    for (size_t i = 0; i < n; i++) x[i] = draw_value(state, kind, large);
}

#endif
