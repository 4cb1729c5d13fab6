/* The table "vnni256": the same source as avxvnni, in the encoding of AVX-512 VL and VNNI.  So a
 * machine with AVX-512 VNNI alone tests and times what home CPUs run; its own choice is avx512. */
#define TABLE kernels_vnni256
#define ISA "vnni256"
#define DOT_FOUR _mm256_dpbusd_epi32
#include "kernels/vnni256.inc"
