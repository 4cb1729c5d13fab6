/* The table "neoni8mm": as neondot, and several tokens by SMMLA, which multiplies the bytes of two
 * rows by those of two tokens: 32 products an instruction, twice SDOT's (Armv8.6: Graviton 3, Apple
 * M2). */
#define NEON_DOT
#define NEON_I8MM
#define TABLE kernels_neoni8mm
#define ISA "neoni8mm"
#include "kernels/neon.c"
