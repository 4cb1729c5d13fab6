/* The table "avxvnni": as avx2, with 256-bit dot products of bytes (AVX-VNNI: Intel since Alder
 * Lake, AMD since Zen 5). */
#define TABLE kernels_avxvnni
#define ISA "avxvnni"
#define DOT_FOUR _mm256_dpbusd_avx_epi32
#include "kernels/vnni256.inc"
