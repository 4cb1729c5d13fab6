/* bench.h - what the subcommands of swarm-bench share: options, clocks, medians, the plain read
 * that bounds everything, and a table of rows that can be printed and compared.
 *
 * A number alone says nothing: machines differ, and one machine differs from minute to minute.  So
 * a measurement is a pair, what is measured and what bounds it, run in turns in the same process
 * by the same threads; the ratio of a row is the median of the rounds' ratios. */
#ifndef TOOLS_BENCH_H
#define TOOLS_BENCH_H

#include "kernels/kernels.h"
#include "kernels/workers.h"
#include "stage/pool.h"
#include "tools/args.h"

#include <stdio.h>

/* Each takes the command line from its own name on, and returns the exit status. */
int bench_make(int argc, char **argv);
int bench_kernels(int argc, char **argv);
int bench_gguf(int argc, char **argv);
int bench_model(int argc, char **argv);
int bench_prefill(int argc, char **argv);
int bench_kv(int argc, char **argv);
int bench_share(int argc, char **argv);
int bench_swarm(int argc, char **argv);
int bench_draft(int argc, char **argv);
int bench_prefix(int argc, char **argv);
int bench_users(int argc, char **argv);
int bench_race(int argc, char **argv);
int bench_memory(int argc, char **argv);
int bench_convert(int argc, char **argv);

/* --- a command's options and rows --- */

struct bench_row {
    char what[80];    /* names the row, also in baselines */
    const char *unit; /* of bound and achieved */
    double bound;     /* 0: none is known */
    double achieved;
    double ratio; /* of achieved to bound where more is better; 0: none */
};

enum { BENCH_ROWS_MAX = 512 };

/* One run of a measuring command.  The first part is set by the command line. */
struct bench {
    const char *isa, *baseline;
    uint32_t threads;
    bool json;

    const char *bound_is, *achieved_is; /* what the columns are called; NULL: those words */

    /* set by bench_open */
    const struct args *args;
    const struct kernels *kernels;
    struct pool *pool; /* owned */
    struct workers *workers;
    double start, busy, ours; /* seconds: clock, processors at work, this process at work */

    struct bench_row row[BENCH_ROWS_MAX];
    unsigned n;
};

/* Rows of a command's option table. */
#define BENCH_OPTIONS(b)                                                                         \
    { "isa", ARG_STR, &(b).isa, "NAME",                                                          \
      "scalar, avx2, avxvnni, avx512 or neon (default: the best)" },                             \
        { "threads", ARG_U32, &(b).threads, "T", "threads that compute (default: every core)" }, \
        { "json", ARG_FLAG, &(b).json, NULL, "print JSON instead of a table" },                  \
    {                                                                                            \
        "baseline", ARG_STR, &(b).baseline, "FILE",                                              \
            "compare with what --json printed earlier: exit status 1 when a ratio fell by more " \
            "than 15 %"                                                                          \
    }

/* Choose kernels and start threads.  args is borrowed until bench_close. */
MUST_CHECK enum err bench_open(struct bench *b, const struct args *args, struct why *why);
/* Print the rows, compare with the baseline, free; the exit status.  e: how the measuring ended;
 * after an error nothing is printed but why. */
int bench_close(struct bench *b, enum err e, const struct why *why);

/* A row; ratio 0 and bound 0 where there is no bound.  what: printf. */
__attribute__((format(printf, 6, 7))) void bench_add(struct bench *b, const char *unit,
                                                     double bound, double achieved, double ratio,
                                                     const char *what, ...);

/* "512,8192" into to [max]; false when it is not 1 to max numbers with commas between. */
bool bench_numbers(const char *text, uint32_t *to, unsigned max, unsigned *n);

/* --- measuring --- */

double bench_seconds(void);
double bench_median(double *v, unsigned n); /* sorts v */

/* A piece of work that is timed. */
struct bench_work {
    void (*run)(void *arg);
    void *arg;
};
struct bench_times {
    double a, b;   /* median seconds */
    double b_to_a; /* median of the rounds' b / a */
};
/* Run a and b in turns, rounds times each after one that is not counted. */
struct bench_times bench_in_turns(struct bench_work a, struct bench_work b, unsigned rounds);

/* Attention of `heads` query heads on each KV head behind 8,192 positions, as a row of b
 * (bench_attention.c). */
MUST_CHECK enum err bench_attention(struct bench *b, uint32_t heads, const struct kernels *k,
                                    struct workers *w);

/* --- the plain read --- */

struct bench_span {
    const uint8_t *p;
    size_t n;
};
/* Read every byte of the spans once, with the widest vectors there are and prefetch, on all
 * threads of w. */
void bench_read(struct workers *w, const struct bench_span *span, uint32_t n);

/* --- the most products (bench_peak.c) --- */

struct bench_peak {
    const char *isa;
    struct workers *workers;
    double flop; /* set by a run: two for a product; 0: nothing is known of this isa */
};
/* Products of bytes on registers, on every thread; arg is a struct bench_peak. */
void bench_peak_run(void *arg);

#endif
