#include "tools/bench.h"

#include "base/json.h"
#include "store/file.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
    BASELINE_MAX = 4 << 20,
    FELL_PERCENT = 15,   /* a ratio that falls by more fails a comparison */
    OTHERS_PERCENT = 10, /* of one processor */
};

/* --- is anybody else at work? --- */

/* Seconds that all processors of this machine have been at work (Linux); 0: not known. */
static double busy_seconds(void)
{
    unsigned long long user, nice, sys, idle, wait, irq, soft, steal;
    FILE *f = fopen("/proc/stat", "re");

    if (!f) return 0;
    int got = fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &sys, &idle,
                     &wait, &irq, &soft, &steal);
    fclose(f);
    return got < 8
               ? 0
               : (double)(user + nice + sys + irq + soft + steal) / (double)sysconf(_SC_CLK_TCK);
}

static double spent_by(int who)
{
    struct rusage u;
    if (getrusage(who, &u)) return 0;
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

/* With the programs that we started and that have ended. */
static double our_seconds(void)
{
    return spent_by(RUSAGE_SELF) + spent_by(RUSAGE_CHILDREN);
}

/* Say so when other programs took a share of the processors that can be seen in the numbers. */
static void warn_of_others(const struct bench *b)
{
    double wall = bench_seconds() - b->start;
    double others = busy_seconds() - b->busy - (our_seconds() - b->ours);

    if (b->busy > 0 && wall > 1 && others > wall * OTHERS_PERCENT / 100)
        fprintf(stderr,
                "%s: other programs kept %.1f processors busy meanwhile: the numbers are too low\n",
                b->args->program, others / wall);
}

/* --- rows --- */

enum err bench_open(struct bench *b, const struct args *args, struct why *why)
{
    b->args = args;
    if (b->threads > 1024) return fail(why, ERR_USAGE, "--threads: at most 1024");
    b->kernels = kernels_pick(b->isa, why);
    if (!b->kernels) return ERR_USAGE;
    enum err e = pool_open(&b->pool, b->threads);
    if (e) return fail(why, e, "%u threads cannot be started", b->threads);
    b->workers = pool_workers(b->pool);
    b->start = bench_seconds();
    b->busy = busy_seconds();
    b->ours = our_seconds();
    return ERR_OK;
}

void bench_add(struct bench *b, const char *unit, double bound, double achieved, double ratio,
               const char *what, ...)
{
    struct bench_row *r = &b->row[b->n];
    va_list ap;

    if (b->n == BENCH_ROWS_MAX) return;
    b->n++;
    *r = (struct bench_row){ .unit = unit, .bound = bound, .achieved = achieved, .ratio = ratio };
    va_start(ap, what);
    vsnprintf(r->what, sizeof r->what, what, ap);
    va_end(ap);
}

static void print_number(double v, int width)
{
    if (v == 0)
        printf("%*s", width, "");
    else
        printf("%*.*f", width, v < 10 ? 3 : v < 100 ? 2 : 1, v);
}

static const char *bound_is(const struct bench *b)
{
    return b->bound_is ? b->bound_is : "bound";
}

static const char *achieved_is(const struct bench *b)
{
    return b->achieved_is ? b->achieved_is : "achieved";
}

static void print_table(const struct bench *b)
{
    int wide = 4;

    for (unsigned i = 0; i < b->n; i++)
        if ((int)strlen(b->row[i].what) > wide) wide = (int)strlen(b->row[i].what);
    printf("%s, %u thread%s\n%-*s %10s %10s %-10s %6s\n", b->kernels->isa, b->workers->n,
           b->workers->n == 1 ? "" : "s", wide, "", bound_is(b), achieved_is(b), "", "ratio");
    for (unsigned i = 0; i < b->n; i++) {
        const struct bench_row *r = &b->row[i];
        printf("%-*s ", wide, r->what);
        print_number(r->bound, 10);
        putchar(' ');
        print_number(r->achieved, 10);
        printf(" %-10s", r->unit);
        if (r->ratio > 0) printf(" %6.2f", r->ratio);
        putchar('\n');
    }
}

/* The names are ours: no character needs an escape. */
static void print_json(const struct bench *b)
{
    printf("{\"command\": \"%s\", \"isa\": \"%s\", \"threads\": %u, \"rows\": [", b->args->program,
           b->kernels->isa, b->workers->n);
    for (unsigned i = 0; i < b->n; i++) {
        const struct bench_row *r = &b->row[i];
        printf("%s\n  {\"what\": \"%s\", \"unit\": \"%s\", \"%s\": %.6g, \"%s\": %.6g, "
               "\"ratio\": %.4f}",
               i ? "," : "", r->what, r->unit, bound_is(b), r->bound, achieved_is(b), r->achieved,
               r->ratio);
    }
    printf("\n]}\n");
}

/* --- comparing with earlier --- */

static const struct bench_row *find_row(const struct bench *b, const struct json *what)
{
    for (unsigned i = 0; i < b->n; i++)
        if (json_is_str(what, b->row[i].what)) return &b->row[i];
    return NULL;
}

/* Rows of the baseline that were not measured are another machine's instruction sets: but some must
 * have been. */
static enum err compare_rows(const struct bench *b, const struct json *rows, struct why *why)
{
    unsigned compared = 0, fell = 0;

    for (const struct json *j = rows ? rows->child : NULL; j; j = j->next) {
        const struct bench_row *r = find_row(b, json_get(j, "what"));
        double before;
        if (!r || !json_double(json_get(j, "ratio"), &before) || before <= 0) continue;
        compared++;
        if (r->ratio >= before * (100 - FELL_PERCENT) / 100) continue;
        fell++;
        fprintf(stderr, "%s: %s: the ratio fell from %.2f to %.2f\n", b->args->program, r->what,
                before, r->ratio);
    }
    if (!compared) return fail(why, ERR_MALFORMED, "%s has no row of this run", b->baseline);
    if (fell)
        return fail(why, ERR_RANGE, "%u of %u ratios fell by more than %d %%", fell, compared,
                    FELL_PERCENT);
    return ERR_OK;
}

static enum err compare(const struct bench *b, struct why *why)
{
    struct json_doc *doc;
    uint8_t *p;
    size_t n;

    enum err e = file_read(b->baseline, BASELINE_MAX, &p, &n, why);
    if (e == ERR_NOTFOUND) return fail(why, e, "%s: no such file", b->baseline);
    if (e) return e;
    e = json_parse(&doc, slice_of(p, n), b->baseline, why);
    free(p);
    if (e) return e;
    e = compare_rows(b, json_get(json_root(doc), "rows"), why);
    json_free(doc);
    return e;
}

int bench_close(struct bench *b, enum err e, const struct why *why)
{
    struct why fresh = { "" };

    if (!e) {
        warn_of_others(b);
        (b->json ? print_json : print_table)(b);
        if (b->baseline) e = compare(b, &fresh);
        if (!e && fflush(stdout) != 0)
            e = fail(&fresh, ERR_IO, "standard output cannot be written");
        why = &fresh;
    }
    if (b->pool) pool_close(b->pool);
    b->pool = NULL;
    if (!e) return 0;
    return die(b->args, e == ERR_USAGE ? 2 : 1, "%s", why->text[0] ? why->text : err_text(e));
}

bool bench_numbers(const char *text, uint32_t *to, unsigned max, unsigned *n)
{
    for (*n = 0; *n < max; text++) {
        char *end;
        unsigned long v = strtoul(text, &end, 10);
        if (*text < '0' || *text > '9' || v > UINT32_MAX || (*end && *end != ',')) break;
        to[(*n)++] = (uint32_t)v;
        if (!*end) return true;
        text = end;
    }
    return false;
}

/* --- measuring --- */

double bench_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *v, unsigned n)
{
    qsort(v, n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static double seconds_of(struct bench_work w)
{
    double start = bench_seconds();
    w.run(w.arg);
    return bench_seconds() - start;
}

struct bench_times bench_in_turns(struct bench_work a, struct bench_work b, unsigned rounds)
{
    enum { ROUNDS_MAX = 1024 };
    double ta[ROUNDS_MAX], tb[ROUNDS_MAX], ratio[ROUNDS_MAX];

    if (rounds > ROUNDS_MAX) rounds = ROUNDS_MAX;
    a.run(a.arg);
    b.run(b.arg);
    for (unsigned i = 0; i < rounds; i++) {
        ta[i] = seconds_of(a);
        tb[i] = seconds_of(b);
        ratio[i] = tb[i] / ta[i];
    }
    return (struct bench_times){ bench_median(ta, rounds), bench_median(tb, rounds),
                                 bench_median(ratio, rounds) };
}

/* --- the plain read --- */

enum {
    AHEAD = 4096,    /* bytes: prefetched before they are read */
    STEP = 256,      /* bytes read at once */
    READ_TASKS = 32, /* for a thread: what one is late, others take */
};

/* Vectors of 64 bytes: one register where there are such, else two or four. */
typedef uint64_t wide __attribute__((vector_size(64), aligned(1)));

/* The same loop three times, compiled for what the machine has. */
#define READ_LOOP(name, target)                                                       \
    target static uint64_t name(const uint8_t *p, size_t n)                           \
    {                                                                                 \
        wide a = { 0 }, b = a, c = a, d = a;                                          \
        size_t i = 0;                                                                 \
        for (; i + STEP <= n; i += STEP) {                                            \
            for (int k = 0; k < STEP; k += 64) __builtin_prefetch(p + i + AHEAD + k); \
            a ^= *(const wide *)(const void *)(p + i);                                \
            b ^= *(const wide *)(const void *)(p + i + 64);                           \
            c ^= *(const wide *)(const void *)(p + i + 128);                          \
            d ^= *(const wide *)(const void *)(p + i + 192);                          \
        }                                                                             \
        a ^= b ^ c ^ d;                                                               \
        uint64_t sum = 0;                                                             \
        for (int k = 0; k < 8; k++) sum ^= a[k];                                      \
        for (; i < n; i++) sum ^= p[i];                                               \
        return sum;                                                                   \
    }
READ_LOOP(read_plain, )
#ifdef __x86_64__
READ_LOOP(read_avx2, __attribute__((target("avx2"))))
READ_LOOP(read_avx512, __attribute__((target("avx512f"))))
#endif

static uint64_t (*read_loop(void))(const uint8_t *p, size_t n)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f")) return read_avx512;
    if (__builtin_cpu_supports("avx2")) return read_avx2;
#endif
    return read_plain;
}

struct reading {
    const struct bench_span *span;
    uint32_t n, tasks;
    uint64_t (*loop)(const uint8_t *p, size_t n);
};

static void read_some(void *arg, uint32_t i)
{
    const struct reading *r = arg;
    uint32_t lo = (uint32_t)((uint64_t)r->n * i / r->tasks);
    uint32_t hi = (uint32_t)((uint64_t)r->n * (i + 1) / r->tasks);
    volatile uint64_t seen = 0; /* keeps the reads */

    for (uint32_t s = lo; s < hi; s++) seen = seen ^ r->loop(r->span[s].p, r->span[s].n);
}

void bench_read(struct workers *w, const struct bench_span *span, uint32_t n)
{
    uint32_t tasks = w->n * READ_TASKS;
    struct reading r = { span, n, tasks < n ? tasks : n, read_loop() };

    w->run(w, read_some, &r, r.tasks);
}
