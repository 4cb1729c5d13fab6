/* Which tables this machine can run: what the CPU has, and which registers the system saves. */
#include "kernels/kernels.h"
#include "kernels/tables.h"

#include <string.h>

#ifdef __x86_64__
#include <cpuid.h>

/* Bits of CPUID and of XCR0 that a table needs, as Intel's manual numbers them. */
struct cpu {
    unsigned leaf1_c, leaf7_b, leaf7_c, leaf7_1_a;
    unsigned saved; /* XCR0: state that the system keeps across a task switch */
};

enum leaf1_c { FMA = 1 << 12, OSXSAVE = 1 << 27, AVX = 1 << 28, F16C = 1 << 29 };
enum leaf7_b { AVX2 = 1 << 5, AVX512F = 1 << 16, AVX512BW = 1 << 30 };
static const unsigned AVX512VL = 1u << 31; /* of leaf7_b; an enum is an int */
enum leaf7_c { AVX512_VNNI = 1 << 11 };
enum leaf7_1_a { AVX_VNNI = 1 << 4 };
enum saved { YMM_SAVED = 0x06, ZMM_SAVED = 0xe6 };

static unsigned saved_state(void)
{
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static struct cpu this_cpu(void)
{
    struct cpu cpu = { 0 };
    unsigned a, b, c, d;

    if (!__get_cpuid(1, &a, &b, &c, &d)) return cpu;
    cpu.leaf1_c = c;
    if (c & OSXSAVE) cpu.saved = saved_state();
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return cpu;
    cpu.leaf7_b = b;
    cpu.leaf7_c = c;
    if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) cpu.leaf7_1_a = a;
    return cpu;
}

static bool all(unsigned have, unsigned need)
{
    return (have & need) == need;
}

static bool has_avx2(const struct cpu *cpu)
{
    return all(cpu->leaf1_c, FMA | AVX | F16C) && all(cpu->leaf7_b, AVX2) &&
           all(cpu->saved, YMM_SAVED);
}

static bool has_avxvnni(const struct cpu *cpu)
{
    return has_avx2(cpu) && all(cpu->leaf7_1_a, AVX_VNNI);
}

static bool has_vnni256(const struct cpu *cpu)
{
    return has_avx2(cpu) && all(cpu->leaf7_b, (unsigned)AVX512F | AVX512VL) &&
           all(cpu->leaf7_c, AVX512_VNNI) && all(cpu->saved, ZMM_SAVED);
}

static bool has_avx512(const struct cpu *cpu)
{
    return has_vnni256(cpu) && all(cpu->leaf7_b, AVX512BW);
}
#elif defined(__aarch64__)
#include <sys/auxv.h>

/* What Linux says that this CPU can and programs may use. */
struct cpu {
    unsigned long hwcap, hwcap2;
};

static struct cpu this_cpu(void)
{
    return (struct cpu){ getauxval(AT_HWCAP), getauxval(AT_HWCAP2) };
}

static bool has_dot(const struct cpu *cpu)
{
    return cpu->hwcap & HWCAP_ASIMDDP;
}

static bool has_i8mm(const struct cpu *cpu)
{
    return has_dot(cpu) && cpu->hwcap2 & HWCAP2_I8MM;
}
#else
struct cpu {
    int nothing_to_ask;
};

static struct cpu this_cpu(void)
{
    return (struct cpu){ 0 };
}
#endif

static bool always(const struct cpu *cpu)
{
    (void)cpu;
    return true;
}

/* Slowest first. */
static const struct choice {
    const struct kernels *table;
    bool (*runs_on)(const struct cpu *cpu);
    const char *needs;
} choices[] = {
    { &kernels_scalar, always, "nothing" },
#ifdef __x86_64__
    { &kernels_avx2, has_avx2, "AVX2, FMA and F16C" },
    { &kernels_avxvnni, has_avxvnni, "AVX2, FMA, F16C and AVX-VNNI" },
    { &kernels_vnni256, has_vnni256, "AVX2, FMA, F16C and AVX-512 F, VL and VNNI" },
    { &kernels_avx512, has_avx512, "AVX-512 F, BW, VL and VNNI" },
#elif defined(__aarch64__)
    { &kernels_neon, always, "nothing" },
    { &kernels_neondot, has_dot, "dotprod (Armv8.4)" },
    { &kernels_neoni8mm, has_i8mm, "dotprod and i8mm (Armv8.6)" },
#endif
};

enum { N_CHOICES = sizeof choices / sizeof *choices, ASKED = 1 << 30 };

/* Bit c: choices[c] runs here.  Asked once: in a virtual machine CPUID takes 20 us and more.
 * Threads that ask at the same time find the same answer. */
static unsigned usable(void)
{
    static _Atomic unsigned known;
    unsigned bits = known;
    if (bits & ASKED) return bits;

    struct cpu cpu = this_cpu();
    for (unsigned c = 0; c < N_CHOICES; c++)
        if (choices[c].runs_on(&cpu)) bits |= 1u << c;
    known = bits | ASKED;
    return bits;
}

static bool runs_here(unsigned c)
{
    return usable() >> c & 1;
}

const struct kernels *kernels_nth(unsigned i)
{
    for (unsigned c = 0; c < N_CHOICES; c++)
        if (runs_here(c) && i-- == 0) return choices[c].table;
    return NULL;
}

static const struct kernels *best(void)
{
    const struct kernels *k = kernels_nth(0), *next;
    for (unsigned i = 1; (next = kernels_nth(i)) != NULL; i++) k = next;
    return k;
}

const struct kernels *kernels_pick(const char *isa, struct why *why)
{
    if (!isa) return best();

    for (unsigned c = 0; c < N_CHOICES; c++) {
        if (strcmp(isa, choices[c].table->isa) != 0) continue;
        if (runs_here(c)) return choices[c].table;
        fail(why, ERR_UNSUPPORTED, "this CPU cannot run '%s', which needs %s", isa,
             choices[c].needs);
        return NULL;
    }
    fail(why, ERR_UNSUPPORTED,
         "'%s' is no instruction set of this build (scalar; avx2, avxvnni, vnni256 and avx512 on "
         "x86-64; neon, neondot and neoni8mm on aarch64)",
         isa);
    return NULL;
}
