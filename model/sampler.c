#include "model/sampler.h"

#include "kernels/kernels.h"

#include <stdlib.h>
#include <string.h>

struct candidate {
    uint32_t key; /* the logit's bits, so mapped that a larger logit has a smaller key */
    uint32_t id;
};

struct sampler {
    uint32_t vocab;
    sampler_hash *hash;
    struct candidate *now, *next; /* owned: [vocab] each */
    double *p;                    /* owned: [vocab] exp((logit - largest) / T) */
};

enum err sampling_check(const struct sampling *s, struct why *why)
{
    if (!(s->temperature >= 0 && s->temperature <= 1000))
        return fail(why, ERR_RANGE, "the temperature must be a number from 0 to 1000");
    if (!(s->top_p > 0 && s->top_p <= 1))
        return fail(why, ERR_RANGE, "top-p must be above 0 and at most 1");
    if (!(s->min_p >= 0 && s->min_p < 1))
        return fail(why, ERR_RANGE, "min-p must be at least 0 and below 1");
    if (!(s->frequency >= -2 && s->frequency <= 2) || !(s->presence >= -2 && s->presence <= 2))
        return fail(why, ERR_RANGE, "a penalty must be a number from -2 to 2");
    if (s->likely > 1 + LIKELY_MAX)
        return fail(why, ERR_RANGE, "log probabilities of at most %d tokens are told", LIKELY_MAX);
    return ERR_OK;
}

enum err sampler_open(struct sampler **out, uint32_t vocab, sampler_hash *hash)
{
    *out = NULL;
    if (vocab < 1) return ERR_RANGE;
    struct sampler *s = calloc(1, sizeof *s);
    if (!s) return ERR_NOMEM;
    s->vocab = vocab, s->hash = hash;
    s->now = malloc(vocab * sizeof *s->now);
    s->next = malloc(vocab * sizeof *s->next);
    s->p = malloc(vocab * sizeof *s->p);
    if (!s->now || !s->next || !s->p) {
        sampler_close(s);
        return ERR_NOMEM;
    }
    *out = s;
    return ERR_OK;
}

void sampler_close(struct sampler *s)
{
    if (!s) return;
    free(s->now);
    free(s->next);
    free(s->p);
    free(s);
}

static uint32_t greedy(const float *logits, uint32_t n)
{
    uint32_t at = 0;

    for (uint32_t i = 1; i < n; i++)
        if (logits[i] > logits[at]) at = i;
    return at;
}

/* IEEE numbers sort as integers once the negative ones are turned over; -0 counts as +0. */
static uint32_t key_of(float logit)
{
    uint32_t u;

    logit += 0.0f;
    memcpy(&u, &logit, sizeof u);
    return u >> 31 ? u : ~u & 0x7fffffffu;
}

/* Order the candidates by logit, then lower id: a stable radix sort, because a comparing sort of a
 * vocabulary of 151,552 takes ten times as long as the rest of the sampler. */
static void sort(struct sampler *s, uint32_t n)
{
    enum { BITS = 11, BUCKETS = 1 << BITS };

    for (unsigned shift = 0; shift < 32; shift += BITS) {
        uint32_t at[BUCKETS] = { 0 }, sum = 0;
        for (uint32_t i = 0; i < n; i++) at[s->now[i].key >> shift & (BUCKETS - 1)]++;
        for (uint32_t b = 0; b < BUCKETS; b++) {
            uint32_t count = at[b];
            at[b] = sum;
            sum += count;
        }
        for (uint32_t i = 0; i < n; i++)
            s->next[at[s->now[i].key >> shift & (BUCKETS - 1)]++] = s->now[i];
        struct candidate *swap = s->now;
        s->now = s->next;
        s->next = swap;
    }
}

/* How many of the n sorted candidates top-p and min-p leave. */
static uint32_t filter(const struct sampling *p, const double *e, uint32_t n)
{
    double total = 0, sum = 0;

    for (uint32_t i = 0; i < n; i++) total += e[i];
    if (p->top_p < 1) {
        uint32_t kept = 0;
        while (kept < n && (kept == 0 || sum < p->top_p * total)) sum += e[kept++];
        n = kept;
    }
    while (n > 1 && e[n - 1] < p->min_p * e[0]) n--;
    return n;
}

uint32_t sampler_pick(struct sampler *s, const struct sampling *p, const float *logits,
                      uint32_t usable, uint64_t position)
{
    uint32_t n = usable < 1 ? 1 : usable < s->vocab ? usable : s->vocab;

    if (!(p->temperature > 0)) return greedy(logits, n);
    for (uint32_t i = 0; i < n; i++) s->now[i] = (struct candidate){ key_of(logits[i]), i };
    sort(s, n);
    if (p->top_k > 0 && p->top_k < n) n = p->top_k;

    double largest = logits[s->now[0].id], total = 0, sum = 0;
    for (uint32_t i = 0; i < n; i++)
        s->p[i] =
            (double)exp_f32((float)(((double)logits[s->now[i].id] - largest) / p->temperature));
    n = filter(p, s->p, n);
    for (uint32_t i = 0; i < n; i++) total += s->p[i];

    double target = (double)(s->hash(p->seed, position) >> 11) * 0x1p-53 * total;
    for (uint32_t i = 0; i + 1 < n; i++) {
        sum += s->p[i];
        if (target < sum) return s->now[i].id;
    }
    return s->now[n - 1].id;
}
