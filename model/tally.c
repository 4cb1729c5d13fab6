#include "model/tally.h"

#include "kernels/kernels.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* One token of the answer. */
struct counted {
    int32_t id;
    bool is_first; /* none before it is the same */
    float logit;   /* of is_first, while a token is picked: without penalty */
};

struct tally {
    uint32_t vocab, likely; /* likely: as sampling's */
    uint64_t first;
    struct counted *token; /* owned: [most], of them n */
    uint32_t n, most;
    uint32_t *count; /* owned: [vocab] times in token; NULL: there are no penalties */
    uint32_t n_fresh;
    struct likely *fresh; /* owned: [TALLY_FRESH_MAX][likely]; NULL: nobody asks */
};

bool tally_is_wanted(const struct sampling *p)
{
    return p->likely > 0 || p->frequency != 0 || p->presence != 0;
}

/* What is past the most is past the answer's end, and nothing is picked after it. */
static void add(struct tally *t, int32_t id)
{
    if (t->n == t->most) return;
    struct counted *k = &t->token[t->n++];
    *k = (struct counted){ .id = id };
    if (t->count) k->is_first = t->count[id]++ == 0;
}

enum err tally_open(struct tally **out, const struct sampling *p, uint32_t vocab, uint64_t first,
                    const int32_t *ids, uint32_t n, uint32_t most)
{
    bool has_penalty = p->frequency != 0 || p->presence != 0;
    assert(n <= most);
    *out = NULL;
    struct tally *t = calloc(1, sizeof *t);
    if (!t) return ERR_NOMEM;
    t->vocab = vocab;
    t->likely = p->likely;
    t->first = first;
    t->most = most;
    t->token = malloc((most + 1) * sizeof *t->token);
    if (has_penalty) t->count = calloc(vocab, sizeof *t->count);
    if (t->likely) t->fresh = calloc((size_t)TALLY_FRESH_MAX * t->likely, sizeof *t->fresh);
    if (!t->token || (has_penalty && !t->count) || (t->likely && !t->fresh)) {
        tally_close(t);
        return ERR_NOMEM;
    }
    for (uint32_t i = 0; i < n; i++) add(t, ids[i]);
    *out = t;
    return ERR_OK;
}

void tally_close(struct tally *t)
{
    if (!t) return;
    free(t->token);
    free(t->count);
    free(t->fresh);
    free(t);
}

void tally_begin(struct tally *t)
{
    t->n_fresh = 0;
}

const struct likely *tally_fresh(const struct tally *t, uint32_t i)
{
    assert(i < t->n_fresh);
    return t->fresh + (size_t)i * t->likely;
}

/* --- log probabilities --- */

/* x > 0, normal.  x = m * 2^k with m about 1; log m = 2 atanh((m - 1) / (m + 1)), whose series of
 * odd powers of at most 0.172 ends below double's precision after the 21st. */
static double log_f64(double x)
{
    static const double ln2 = 0.693147180559945309417;
    uint64_t u;
    double m;

    memcpy(&u, &x, sizeof u);
    int k = (int)(u >> 52) - 1023;
    u = (u & 0xfffffffffffff) | UINT64_C(1023) << 52;
    memcpy(&m, &u, sizeof m);
    if (m > 1.41421356237309504880) {
        m = m / 2;
        k++;
    }
    double s = (m - 1) / (m + 1), s2 = s * s, sum = 0;
    for (int i = 21; i >= 1; i -= 2) sum = sum * s2 + 1.0 / i;
    return k * ln2 + 2 * s * sum;
}

/* best [n] is in order; id comes in where it belongs. */
static void rank(struct likely *best, uint32_t *n, uint32_t most, int32_t id, float logit)
{
    uint32_t at = *n;
    if (at == most && !(logit > best[at - 1].logprob)) return;
    if (at < most)
        (*n)++;
    else
        at--;
    for (; at > 0 && logit > best[at - 1].logprob; at--) best[at] = best[at - 1];
    best[at] = (struct likely){ id, logit };
}

/* out [1 + most]: the token's place stays free. */
static double rank_all(struct likely *out, uint32_t most, const float *logits, uint32_t n)
{
    double sum = 0;
    uint32_t n_best = 0;
    float largest = logits[0];

    for (uint32_t i = 1; i < n; i++)
        if (logits[i] > largest) largest = logits[i];
    for (uint32_t i = 0; i < n; i++) {
        sum += (double)exp_f32(logits[i] - largest);
        if (most) rank(out + 1, &n_best, most, (int32_t)i, logits[i]);
    }
    double zero = (double)largest + log_f64(sum);
    for (uint32_t i = 1; i <= n_best; i++) out[i].logprob = (float)((double)out[i].logprob - zero);
    for (uint32_t i = 1 + n_best; i <= most; i++) out[i] = (struct likely){ -1, 0 };
    return zero;
}

/* --- picking --- */

static void punish(struct tally *t, const struct sampling *p, float *logits)
{
    for (uint32_t i = 0; i < t->n; i++) {
        struct counted *k = &t->token[i];
        if (!k->is_first) continue;
        k->logit = logits[k->id];
        logits[k->id] = (float)((double)k->logit - (t->count[k->id] * p->frequency + p->presence));
    }
}

static void pardon(const struct tally *t, float *logits)
{
    for (uint32_t i = 0; i < t->n; i++)
        if (t->token[i].is_first) logits[t->token[i].id] = t->token[i].logit;
}

static void cut(struct tally *t, uint64_t n)
{
    assert(n <= t->n);
    while (t->n > n) {
        t->n--;
        if (t->count) t->count[t->token[t->n].id]--;
    }
}

uint32_t tally_pick(struct tally *t, struct sampler *s, const struct sampling *p, float *logits,
                    uint32_t usable, uint64_t position)
{
    if (!t) return sampler_pick(s, p, logits, usable, position);
    uint32_t n = usable < 1 ? 1 : usable < t->vocab ? usable : t->vocab;
    cut(t, position - t->first);
    if (t->count) punish(t, p, logits);
    uint32_t id = sampler_pick(s, p, logits, usable, position);
    if (t->count) pardon(t, logits);
    if (t->fresh && t->n_fresh < TALLY_FRESH_MAX) {
        struct likely *out = t->fresh + (size_t)t->n_fresh++ * t->likely;
        double zero = rank_all(out, t->likely - 1, logits, n);
        out[0] = (struct likely){ (int32_t)id, (float)((double)logits[id] - zero) };
    }
    add(t, (int32_t)id);
    return id;
}
