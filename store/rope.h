/* rope.h - the rotary frequencies that a configuration describes.
 *
 * A manifest holds them as doubles, so they are part of a model's id and must come out the same on
 * every machine: logarithm and power are computed here, from + - * / and fma in pairs of doubles
 * (about 100 bits), not by the C library, whose last bit differs between systems.
 *
 * Source: transformers, modeling_rope_utils.py; model by model the formulas are those of Su et al.
 * 2021 (plain), Llama 3.1 (llama3), Peng et al. 2023 (yarn). */
#ifndef STORE_ROPE_H
#define STORE_ROPE_H

#include "arch/arch.h"

enum rope_type { ROPE_DEFAULT, ROPE_LINEAR, ROPE_LLAMA3, ROPE_YARN };

struct rope {
    enum rope_type type;
    double theta;                /* > 1 */
    uint32_t dims;               /* rotary dimensions; even */
    double factor;               /* all but default: >= 1 */
    double original;             /* llama3, yarn: positions it was trained with */
    double low, high;            /* llama3: low_freq_factor < high_freq_factor */
    double beta_fast, beta_slow; /* yarn */
    double attention;            /* yarn: attention_factor; 0: 0.1 ln(factor) + 1 */
};

/* Fill rope_half, rope_freq and rope_scale.  dims / 2 <= ARCH_ROPE_MAX. */
void rope_fill(struct arch *a, const struct rope *r);

/* Natural logarithm and power for x > 0, correct to the last bit but for one in 2^40 or so. */
double exact_log(double x);
double exact_pow(double x, double num, double den); /* x ^ (num / den) */

#endif
