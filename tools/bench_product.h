/* bench_product.h - one product on all threads, as work that can be timed. */
#ifndef TOOLS_BENCH_PRODUCT_H
#define TOOLS_BENCH_PRODUCT_H

#include "model/stage.h"

/* Inputs of products: n quantized vectors of random numbers. */
struct bench_inputs {
    struct vecs v;
    struct arena arena; /* owned */
};
MUST_CHECK enum err bench_inputs_open(struct bench_inputs *in, const struct kernels *k, uint32_t n,
                                      uint32_t cols);
void bench_inputs_close(struct bench_inputs *in);

struct bench_product {
    const struct kernels *k;
    struct workers *w;
    const struct tensor *t;
    struct acts x;
    float *y; /* [x.n][rows] */
};
/* Compute it, divided among the threads as a layer's products are. */
void bench_product_run(const struct bench_product *p);
double bench_product_flop(const struct bench_product *p);

#endif
