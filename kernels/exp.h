/* exp.h - the constants of exp, said once for the scalar code and the vector code.
 *
 * exp(x): clamp x to +-88; n = the integer nearest to x / ln 2; r = x - n ln 2 in two steps;
 * e^r = 1 + (r + r^2 p(r)) with p of degree 5; times 2^n in two factors, so that a subnormal
 * result is rounded once.  Every step is one fma, multiplication or addition: docs/arithmetic.md.
 */
#ifndef KERNELS_EXP_H
#define KERNELS_EXP_H

#define EXP_LIMIT 88.0f
#define EXP_LOG2E 0x1.715476p+0f /* 1 / ln 2 */
#define EXP_MAGIC 0x1.8p+23f     /* adding it rounds to an integer, kept in the low bits */
#define EXP_MINUS_LN2_HI (-0x1.62e430p-1f) /* minus ln 2 rounded to f32 ... */
#define EXP_MINUS_LN2_LO 0x1.05c610p-29f   /* ... and minus what that rounding left */

/* p(r) ~ (e^r - 1 - r) / r^2 on |r| <= ln 2 / 2 (the coefficients of Cephes expf, S. Moshier). */
#define EXP_P5 0x1.a0d2cep-13f
#define EXP_P4 0x1.6e879cp-10f
#define EXP_P3 0x1.111210p-7f
#define EXP_P2 0x1.555382p-5f
#define EXP_P1 0x1.555554p-3f
#define EXP_P0 0.5f

#endif
