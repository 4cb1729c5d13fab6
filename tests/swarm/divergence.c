/* divergence - what a rounded model loses: KL(reference || model) over many conversations.
 *
 *   divergence STORE REFERENCE MODEL CONVERSATIONS LIMIT
 *
 * Two models of one store read {"conversations": [[ids], ...]}, each conversation alone.  Prints
 * the mean in nats per position and its standard error; exit status 1 when the mean is over LIMIT.
 * A few positions (a word that could as well have been another) make most of the mean, so a single
 * prompt says little. */
#include "base/json.h"
#include "store/file.h"
#include "tools/eval.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 512 };

struct sums {
    double nats, squares;
    uint32_t n;
};

__attribute__((noreturn)) static void give_up(const char *what)
{
    fprintf(stderr, "divergence: %s\n", what);
    exit(2);
}

static double log_sum_exp(const float *x, uint32_t n)
{
    double max = x[0], sum = 0;

    for (uint32_t i = 1; i < n; i++) max = fmax(max, x[i]);
    for (uint32_t i = 0; i < n; i++) sum += exp(x[i] - max);
    return max + log(sum);
}

static void add_row(struct sums *s, const float *want, const float *got, uint32_t vocab)
{
    double p0 = log_sum_exp(want, vocab), q0 = log_sum_exp(got, vocab), kl = 0;

    for (uint32_t i = 0; i < vocab; i++) kl += exp(want[i] - p0) * ((want[i] - p0) - (got[i] - q0));
    s->nats += kl;
    s->squares += kl * kl;
    s->n++;
}

/* One conversation through both models. */
static void add(struct sums *s, struct eval_model *const m[2], float *const logits[2],
                const struct json *ids)
{
    int32_t id[ROWS];
    uint32_t n = 0;
    struct why why;

    for (const struct json *v = ids->child; v; v = v->next) {
        uint64_t u;
        if (n == ROWS || !json_u64(v, &u) || u >= m[0]->vocab) give_up("unusable ids");
        id[n++] = (int32_t)u;
    }
    for (int i = 0; i < 2; i++) {
        m[i]->restart(m[i]);
        if (m[i]->step(m[i], id, n, logits[i], &why)) give_up(why.text);
    }
    for (uint32_t r = 0; r < n; r++)
        add_row(s, logits[0] + (size_t)r * m[0]->vocab, logits[1] + (size_t)r * m[0]->vocab,
                m[0]->vocab);
}

int main(int argc, char **argv)
{
    struct eval_model *m[2];
    float *logits[2];
    struct json_doc *doc;
    struct sums s = { 0 };
    struct why why;
    uint8_t *text;
    size_t n;

    if (argc != 6) give_up("usage: divergence STORE REFERENCE MODEL CONVERSATIONS LIMIT");
    if (file_read(argv[4], 1 << 24, &text, &n, &why)) give_up("cannot read the conversations");
    if (json_parse(&doc, slice_of(text, n), argv[4], &why)) give_up(why.text);
    free(text);
    for (int i = 0; i < 2; i++) {
        struct eval_options o = { .store = argv[1], .model = argv[2 + i], .rows_max = ROWS };
        if (eval_open_local(&m[i], &o, &why)) give_up(why.text);
        logits[i] = malloc((size_t)ROWS * m[i]->vocab * sizeof **logits);
        if (!logits[i]) give_up("out of memory");
    }
    if (m[0]->vocab != m[1]->vocab) give_up("the models have different vocabularies");
    const struct json *list = json_get(json_root(doc), "conversations");
    for (const struct json *c = list ? list->child : NULL; c; c = c->next) add(&s, m, logits, c);
    if (s.n < 1000) give_up("too few positions");

    double mean = s.nats / s.n, error = sqrt((s.squares / s.n - mean * mean) / s.n);
    printf("%s: KL %.2e +- %.1e nats per position, %u positions\n", argv[3], mean, error, s.n);
    for (int i = 0; i < 2; i++) {
        m[i]->close(m[i]);
        free(logits[i]);
    }
    json_free(doc);
    return mean <= atof(argv[5]) ? 0 : 1;
}
