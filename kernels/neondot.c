/* The table "neondot": neon.c with SDOT. */
#define NEON_DOT
#define TABLE kernels_neondot
#define ISA "neondot"
#include "kernels/neon.c"
