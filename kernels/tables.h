/* tables.h - the tables of this build, for pick.c and for those who fill them. */
#ifndef KERNELS_TABLES_H
#define KERNELS_TABLES_H

#include "kernels/kernels.h"

extern const struct kernels kernels_scalar; /* ref.c */
#ifdef __x86_64__
extern const struct kernels kernels_avx2;
extern const struct kernels kernels_avxvnni;
extern const struct kernels kernels_vnni256;
extern const struct kernels kernels_avx512;
#elif defined(__aarch64__)
extern const struct kernels kernels_neon;
extern const struct kernels kernels_neondot;
extern const struct kernels kernels_neoni8mm;
#endif

/* One line of the self-test: an operation over fixed inputs, and the hash that every table's output
 * has.  selftest_nth gives NULL past the end. */
struct probe {
    const char *what;
    uint64_t golden;
    uint64_t (*run)(const struct kernels *k);
};
const struct probe *selftest_nth(unsigned i);

#endif
