/* compare_logits - is what swarm-eval wrote what the reference computed?
 *
 *   compare_logits EXPECTED OUT [--max X] [--kl X] [--greedy]
 *
 * EXPECTED and OUT are safetensors with f32 logits [T, vocab]; int32 greedy_ids in both with
 * --greedy.
 *   --max X    max |delta| of logits is at most X standard deviations of the expected ones
 *   --kl X     KL(expected || out) is at most X nats, in the mean over positions
 *   --greedy   greedy_ids are equal
 * Prints what it measured; exit status 1 when a bound is broken, 2 when there is nothing to
 * compare. */
#include "store/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Files stay open until the end: their tensors are borrowed. */
static struct safetensors *files[8];
static unsigned n_files;

static void close_files(void)
{
    while (n_files) safetensors_close(files[--n_files]);
}

static const struct st_tensor *find(const char *path, const char *name, enum st_dtype type,
                                    unsigned n_dims)
{
    struct safetensors *f;
    struct why why;
    const struct st_tensor *t;

    if (safetensors_open(&f, path, &why)) {
        fprintf(stderr, "compare_logits: %s\n", why.text);
        exit(2);
    }
    files[n_files++] = f;
    t = safetensors_find(f, name);
    if (!t || t->dtype != type || t->n_dims != n_dims) {
        fprintf(stderr, "compare_logits: %s: no %s of that type and shape\n", path, name);
        exit(2);
    }
    return t;
}

static float number(const struct st_tensor *t, size_t i)
{
    float f;
    memcpy(&f, t->data.p + i * sizeof f, sizeof f);
    return f;
}

/* max |out - expected| in standard deviations of the expected numbers. */
static double max_delta(const struct st_tensor *want, const struct st_tensor *got, size_t n)
{
    double sum = 0, squares = 0, most = 0;

    for (size_t i = 0; i < n; i++) {
        double w = number(want, i), d = fabs(w - (double)number(got, i));
        sum += w, squares += w * w;
        if (!(d <= most)) most = d; /* a NaN counts */
    }
    double mean = sum / (double)n;
    return most / sqrt(squares / (double)n - mean * mean);
}

static double log_sum_exp(const struct st_tensor *t, size_t at, size_t n)
{
    double max = -INFINITY, sum = 0;

    for (size_t i = 0; i < n; i++) max = fmax(max, number(t, at + i));
    for (size_t i = 0; i < n; i++) sum += exp(number(t, at + i) - max);
    return max + log(sum);
}

/* KL(expected || out) in nats, the mean over positions. */
static double divergence(const struct st_tensor *want, const struct st_tensor *got)
{
    size_t rows = want->dim[0], vocab = want->dim[1];
    double total = 0;

    for (size_t r = 0; r < rows; r++) {
        size_t at = r * vocab;
        double p0 = log_sum_exp(want, at, vocab), q0 = log_sum_exp(got, at, vocab);
        for (size_t i = 0; i < vocab; i++) {
            double p = number(want, at + i) - p0, q = number(got, at + i) - q0;
            total += exp(p) * (p - q);
        }
    }
    return total / (double)rows;
}

static int same_ids(const char *expected, const char *out)
{
    const struct st_tensor *a = find(expected, "greedy_ids", ST_I32, 1);
    const struct st_tensor *b = find(out, "greedy_ids", ST_I32, 1);

    if (a->dim[0] == b->dim[0] && memcmp(a->data.p, b->data.p, a->data.n) == 0) return 1;
    for (size_t i = 0; i < a->dim[0] && i < b->dim[0]; i++)
        if (memcmp(a->data.p + 4 * i, b->data.p + 4 * i, 4) != 0) {
            printf("greedy_ids differ from position %zu\n", i);
            return 0;
        }
    printf("greedy_ids: %llu expected, %llu found\n", (unsigned long long)a->dim[0],
           (unsigned long long)b->dim[0]);
    return 0;
}

int main(int argc, char **argv)
{
    double max = INFINITY, kl = INFINITY;
    int greedy = 0;

    atexit(close_files);
    if (argc < 3) {
        fprintf(stderr, "usage: compare_logits EXPECTED OUT [--max X] [--kl X] [--greedy]\n");
        return 2;
    }
    for (int i = 3; i < argc; i++) {
        if (strcmp(argv[i], "--greedy") == 0) greedy = 1;
        if (strcmp(argv[i], "--max") == 0 && i + 1 < argc) max = atof(argv[++i]);
        if (strcmp(argv[i], "--kl") == 0 && i + 1 < argc) kl = atof(argv[++i]);
    }
    const struct st_tensor *want = find(argv[1], "logits", ST_F32, 2);
    const struct st_tensor *got = find(argv[2], "logits", ST_F32, 2);
    if (want->dim[0] != got->dim[0] || want->dim[1] != got->dim[1]) {
        fprintf(stderr, "compare_logits: the shapes differ\n");
        return 2;
    }
    double delta = max_delta(want, got, (size_t)(want->dim[0] * want->dim[1]));
    double nats = divergence(want, got);
    printf("max |delta| %.2e std, KL %.2e nats per position\n", delta, nats);
    if (greedy && !same_ids(argv[1], argv[2])) return 1;
    return delta <= max && nats <= kl ? 0 : 1;
}
