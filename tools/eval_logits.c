/* eval_logits.c - logits of given tokens, and what greedy choice makes of them. */
#include "model/forward.h"
#include "store/safetensors.h"
#include "tools/args.h"
#include "tools/eval.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *store, *model, *ids_path, *out_path, *isa, *connect_to, *swarm_key, *identity;
static uint32_t greedy, threads;
static bool stats;

static const struct arg options[] = {
    { "store", ARG_STR, &store, "DIR", "where the model is (made by swarm-convert)" },
    { "model", ARG_STR, &model, "NAME", "which model, if the store has several" },
    { "ids", ARG_STR, &ids_path, "IN.safetensors", "int32 input_ids [T]" },
    { "out", ARG_STR, &out_path, "OUT.safetensors",
      "gets f32 logits [T, vocab], and with --greedy int32 greedy_ids [T + N]" },
    { "greedy", ARG_U32, &greedy, "N", "go on for N tokens, the most likely one each time" },
    { "threads", ARG_U32, &threads, "T", "threads that compute (default: every core)" },
    { "isa", ARG_STR, &isa, "NAME", "scalar, avx2, avx512, neon, ... (default: the best)" },
    { "connect", ARG_STR, &connect_to, "LINK", "let a live swarm compute the layers" },
    { "swarm-key", ARG_STR, &swarm_key, "FILE|swk1...", "which swarm (default: the public one)" },
    { "identity", ARG_STR, &identity, "FILE", "connect as this node (default: a fresh identity)" },
    { "stats", ARG_FLAG, &stats, NULL, "print tokens per second on stderr" },
    { 0 },
};

static const struct args args = {
    .program = "swarm-eval logits",
    .usage = "--store DIR --model NAME --ids IN.safetensors --out OUT.safetensors [options]",
    .about = "Writes the logits of a sequence of token ids. The bytes are the same for every "
             "instruction set, number of threads, and placement of layers.",
    .options = options,
};

/* What is read, computed and written. */
struct work {
    uint32_t t;    /* given ids */
    uint32_t n;    /* given and generated */
    int32_t *ids;  /* [n] owned */
    float *logits; /* [t][vocab] owned */
    float *last;   /* [vocab] owned: of the last position while generating */
    double prompt_s, decode_s;
};

static enum err read_ids(struct work *w, struct why *why)
{
    struct safetensors *f;
    enum err e = safetensors_open(&f, ids_path, why);
    if (e) return e;

    const struct st_tensor *t = safetensors_find(f, "input_ids");
    if (!t)
        e = fail(why, ERR_NOTFOUND, "%s has no tensor input_ids", ids_path);
    else if (t->dtype != ST_I32 || t->n_dims != 1)
        e = fail(why, ERR_UNSUPPORTED, "%s: input_ids must be int32 with one dimension", ids_path);
    else if (t->dim[0] == 0)
        e = fail(why, ERR_RANGE, "%s: input_ids is empty", ids_path);
    else if (t->dim[0] > ARCH_CONTEXT_MAX || greedy > ARCH_CONTEXT_MAX)
        e = fail(why, ERR_RANGE, "%llu ids and %u more are too many for any model",
                 (unsigned long long)t->dim[0], greedy);
    if (!e) {
        w->t = (uint32_t)t->dim[0];
        w->n = w->t + greedy;
        w->ids = calloc(w->n, sizeof *w->ids);
        if (w->ids)
            memcpy(w->ids, t->data.p, w->t * sizeof *w->ids);
        else
            e = fail(why, ERR_NOMEM, "out of memory");
    }
    safetensors_close(f);
    return e;
}

static enum err check_ids(const struct work *w, const struct eval_model *m, struct why *why)
{
    if (w->n > m->context)
        return fail(why, ERR_RANGE, "%u ids and %u more exceed the model's context of %u", w->t,
                    greedy, m->context);
    for (uint32_t i = 0; i < w->t; i++)
        if (w->ids[i] < 0 || (uint32_t)w->ids[i] >= m->vocab)
            return fail(why, ERR_RANGE, "%s: input_ids[%u] is %d, not below the vocabulary of %u",
                        ids_path, i, w->ids[i], m->vocab);
    return ERR_OK;
}

static int32_t most_likely(const float *logits, uint32_t vocab)
{
    uint32_t at = 0;

    for (uint32_t i = 1; i < vocab; i++)
        if (logits[i] > logits[at]) at = i; /* ties to the lower id */
    return (int32_t)at;
}

static enum err compute(struct work *w, struct eval_model *m, struct why *why)
{
    enum err e = ERR_OK;
    double start = eval_seconds();

    w->logits = malloc((size_t)w->t * m->vocab * sizeof *w->logits);
    w->last = malloc(m->vocab * sizeof *w->last);
    if (!w->logits || !w->last) return fail(why, ERR_NOMEM, "out of memory for the logits");
    for (uint32_t i = 0; i < w->t && !e;) {
        uint32_t some = w->t - i < m->rows_max ? w->t - i : m->rows_max;
        e = m->step(m, w->ids + i, some, w->logits + (size_t)i * m->vocab, why);
        i += some;
    }
    if (e) return e;
    w->prompt_s = eval_seconds() - start;

    const float *from = w->logits + (size_t)(w->t - 1) * m->vocab;
    for (uint32_t i = w->t; i < w->n && !e; i++) {
        w->ids[i] = most_likely(from, m->vocab);
        from = w->last;
        if (i + 1 < w->n) e = m->step(m, w->ids + i, 1, w->last, why);
    }
    w->decode_s = eval_seconds() - start - w->prompt_s;
    return e;
}

static enum err write_out(const struct work *w, uint32_t vocab, struct why *why)
{
    struct st_tensor t[] = {
        { .name = "logits",
          .dtype = ST_F32,
          .n_dims = 2,
          .dim = { w->t, vocab },
          .data = slice_of(w->logits, (size_t)w->t * vocab * sizeof *w->logits) },
        { .name = "greedy_ids",
          .dtype = ST_I32,
          .n_dims = 1,
          .dim = { w->n },
          .data = slice_of(w->ids, w->n * sizeof *w->ids) },
    };

    return safetensors_write(out_path, t, greedy ? 2 : 1, why);
}

static enum err run(struct work *w, struct eval_model **m, struct why *why)
{
    struct eval_options o = { store, model, isa, threads, BATCH_MAX };
    enum err e = read_ids(w, why);

    if (!e && connect_to) {
        struct eval_swarm_options s = { o, connect_to, swarm_key, identity, w->n };
        e = eval_open_swarm(m, &s, why);
    } else if (!e) {
        e = eval_open_local(m, &o, why);
    }
    if (!e) e = check_ids(w, *m, why);
    if (!e) e = compute(w, *m, why);
    if (!e) e = write_out(w, (*m)->vocab, why);
    return e;
}

int eval_logits(int argc, char **argv)
{
    struct work w = { 0 };
    struct eval_model *m = NULL;
    struct why why;

    args_parse(&args, argc, argv, NULL, 0);
    if (!store || !ids_path || !out_path)
        return die(&args, 2, "--store, --ids and --out are needed; --help explains them");
    enum err e = run(&w, &m, &why);
    if (!e && stats) {
        fprintf(stderr, "prompt: %u tokens, %.1f tokens/s\n", w.t, w.t / w.prompt_s);
        if (greedy > 1)
            fprintf(stderr, "answer: %u tokens, %.1f tokens/s\n", greedy - 1,
                    (greedy - 1) / w.decode_s);
    }
    if (m) m->close(m);
    free(w.ids);
    free(w.logits);
    free(w.last);
    return e ? die(&args, 1, "%s", why.text) : 0;
}
