/* eval_perplexity.c - how surprised a model is by a text. */
#include "model/forward.h"
#include "model/tokenizer.h"
#include "store/file.h"
#include "store/store.h"
#include "tools/args.h"
#include "tools/eval.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const char *store, *model, *text_path, *isa;
static uint32_t ctx, threads;

static const struct arg options[] = {
    { "store", ARG_STR, &store, "DIR", "where the model is (made by swarm-convert)" },
    { "model", ARG_STR, &model, "NAME", "which model, if the store has several" },
    { "text", ARG_STR, &text_path, "FILE", "the text, UTF-8" },
    { "ctx", ARG_U32, &ctx, "N", "tokens in a window (default: the model's context)" },
    { "threads", ARG_U32, &threads, "T", "threads that compute (default: every core)" },
    { "isa", ARG_STR, &isa, "NAME", "scalar, avx2, avx512, neon, ... (default: the best)" },
    { 0 },
};

static const struct args args = {
    .program = "swarm-eval perplexity",
    .usage = "--store DIR --model NAME --text FILE [options]",
    .about = "Prints how well a model predicts a text: the tokens that were predicted, nats per "
             "token, perplexity, and the speed.",
    .options = options,
    .more = "The text is read in windows of N tokens; a window begins with the last token of the\n"
            "one before, so every token but the first is predicted once. Special tokens in the\n"
            "text are recognised.",
};

enum { TEXT_MAX = 1 << 30, LOGITS_MAX = 16 << 20 /* numbers at a time */ };

/* -ln softmax(logits)[id]; libm is fine: nothing here reaches a token. */
static double surprise(const float *logits, uint32_t vocab, int32_t id)
{
    double max = logits[0], sum = 0;

    for (uint32_t i = 1; i < vocab; i++)
        if (logits[i] > max) max = logits[i];
    for (uint32_t i = 0; i < vocab; i++) sum += exp(logits[i] - max);
    return log(sum) + max - logits[id];
}

/* One window: the sum over its predicted tokens. */
static enum err window(struct eval_model *m, const int32_t *ids, uint32_t n, float *logits,
                       double *nats, struct why *why)
{
    m->restart(m);
    for (uint32_t i = 0; i + 1 < n;) {
        uint32_t some = n - 1 - i < m->rows_max ? n - 1 - i : m->rows_max;
        enum err e = m->step(m, ids + i, some, logits, why);
        if (e) return e;
        for (uint32_t j = 0; j < some; j++)
            *nats += surprise(logits + (size_t)j * m->vocab, m->vocab, ids[i + j + 1]);
        i += some;
    }
    return ERR_OK;
}

static enum err encode(struct ids *ids, struct store *s, const struct manifest *man,
                       struct why *why)
{
    struct tokenizer *t;
    uint8_t *json, *text;
    size_t n;

    enum err e = store_tokenizer(s, man, &json, &n, why);
    if (e == ERR_NOTFOUND) return fail(why, e, "the model has no tokenizer");
    if (e) return e;
    e = tokenizer_open(&t, slice_of(json, n), why);
    free(json);
    if (e) return e;
    e = file_read(text_path, TEXT_MAX, &text, &n, why);
    if (e == ERR_NOTFOUND) e = fail(why, e, "there is no file %s", text_path);
    if (!e) {
        e = tokenizer_encode(t, slice_of(text, n), true, ids);
        if (e) fail(why, e, "%s: %s", text_path, err_text(e));
        free(text);
    }
    tokenizer_close(t);
    return e;
}

static enum err read_text(struct ids *ids, uint32_t *vocab, struct why *why)
{
    struct store *s;
    struct store_name name;
    static struct manifest man;

    enum err e = store_open(&s, store, STORE_READ, why);
    if (e) return e;
    e = store_find_model(s, model, &name, &man, why);
    if (!e) e = encode(ids, s, &man, why);
    if (!e && ids->n < 2) e = fail(why, ERR_RANGE, "%s has no token to predict", text_path);
    *vocab = man.arch.vocab;
    store_close(s);
    return e;
}

static enum err run(struct ids *ids, struct why *why)
{
    struct eval_model *m = NULL;
    uint32_t vocab;
    double nats = 0, start;

    enum err e = read_text(ids, &vocab, why);
    if (e) return e;
    uint32_t rows = LOGITS_MAX / vocab < 16 ? 16 : LOGITS_MAX / vocab;
    struct eval_options o = { store, model, isa, threads, rows < BATCH_MAX ? rows : BATCH_MAX };
    if ((e = eval_open_local(&m, &o, why))) return e;

    uint32_t size = ctx && ctx < m->context ? ctx : m->context;
    float *logits = malloc((size_t)m->rows_max * vocab * sizeof *logits);
    if (!logits) e = fail(why, ERR_NOMEM, "out of memory for the logits");
    start = eval_seconds();
    for (uint32_t i = 0; i + 1 < ids->n && !e; i += size - 1)
        e = window(m, ids->p + i, ids->n - i < size ? ids->n - i : size, logits, &nats, why);
    if (!e) {
        uint32_t n = ids->n - 1;
        printf("tokens %u\nnats per token %.6f\nperplexity %.4f\ntokens/s %.1f\n", n, nats / n,
               exp(nats / n), n / (eval_seconds() - start));
    }
    free(logits);
    m->close(m);
    return e;
}

int eval_perplexity(int argc, char **argv)
{
    struct ids ids = { 0 };
    struct why why;

    args_parse(&args, argc, argv, NULL, 0);
    if (!store || !text_path) return die(&args, 2, "--store and --text are needed");
    if (ctx == 1) return die(&args, 2, "--ctx 1: a window needs two tokens");
    enum err e = run(&ids, &why);
    free(ids.p);
    return e ? die(&args, 1, "%s", why.text) : 0;
}
