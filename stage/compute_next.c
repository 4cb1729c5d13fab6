/* compute_next.c - rows become tokens: logits, the draw, guesses of what comes next. */
#include "stage/compute_impl.h"

#include <string.h>

static bool is_one_of(int32_t token, const int32_t *of, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (of[i] == token) return true;
    return false;
}

/* The drafts that are what is drawn at their places, and the token after them. */
static void pick_run(struct compute *c, struct next_job *j, float *logits, uint32_t n_rows)
{
    struct drafting *d = j->drafting;
    for (uint32_t i = 0; i < n_rows; i++, logits += c->c.arch->vocab) {
        int32_t token = (int32_t)tally_pick(j->tally, c->sampler, &j->sampling, logits, j->usable,
                                            j->position + i);
        d->token[d->n_tokens++] = token;
        if (is_one_of(token, d->eos, d->n_eos) || d->n_tokens == d->limit) return;
        if (i == d->n_drafts || token != d->draft[i]) return;
    }
}

/* What is to be computed next: the last token's row and those of its drafts. */
static enum err draft_next(struct compute *c, struct next_job *j)
{
    struct drafting *d = j->drafting;
    int32_t ids[DRAFT_MAX + 1];
    struct draft_step s = { .x = j->x,
                            .n_context = d->n_context,
                            .token = d->token,
                            .n_tokens = d->n_tokens,
                            .n_drafts = d->n_drafts,
                            .most = d->most,
                            .now_us = uv_hrtime() / 1000,
                            .is_disturbed = d->is_disturbed,
                            .is_home = j->job.kind == JOB_DECODE_NEXT,
                            .sampling = &j->sampling,
                            .usable = j->usable };
    d->n_guessed += d->n_drafts;
    d->n_right += d->n_tokens - 1;
    uint32_t left = d->limit - d->n_tokens;
    if (s.most >= left) s.most = left > 0 ? left - 1 : 0;
    enum err e = drafter_read(d->drafter, d->ids, d->n_ids);
    d->n_drafts = e ? 0 : drafter_next(d->drafter, c->predict, c->sampler, &s, d->draft);
    d->n_context = 0;
    d->is_disturbed = false;
    ids[0] = j->token;
    memcpy(ids + 1, d->draft, d->n_drafts * sizeof *ids);
    return ends_embed(c->ends, ids, 1 + d->n_drafts, j->x);
}

enum err compute_next_token(struct compute *c, struct next_job *j, float *logits)
{
    struct drafting *d = j->drafting;
    if (d) {
        d->n_tokens = 0;
        pick_run(c, j, logits, 1 + d->n_drafts);
        j->token = d->token[d->n_tokens - 1];
        return draft_next(c, j);
    }
    j->token =
        (int32_t)tally_pick(j->tally, c->sampler, &j->sampling, logits, j->usable, j->position);
    return ends_embed(c->ends, &j->token, 1, j->x);
}

static bool is_last(const struct decode_job *d)
{
    return is_one_of(d->next.token, d->eos, d->n_eos) || d->n_tokens == d->limit ||
           us_since(d->rows.job.submitted_ns) >= DECODE_US;
}

/* The tokens of a decode_job are picked: back with it, or on to its rows. */
static void decode_on(struct compute *c, struct decode_job *d, enum err e)
{
    struct drafting *g = d->next.drafting;
    uint32_t n = g ? g->n_tokens : 1;
    if (e) d->rows.job.bad = d->next.job.bad;
    if (!e) {
        memcpy(d->token + d->n_tokens, g ? g->token : &d->next.token, n * sizeof *d->token);
        d->n_tokens += n;
        d->rows.pos += n;
        if (d->rows.pos < kv_len(d->rows.kv)) kv_trim(d->rows.kv, d->rows.pos);
    }
    if (e || is_last(d)) {
        job_give_back(&d->rows.job, e);
        return;
    }
    d->rows.n = 1 + next_job_drafts(&d->next);
    d->rows.done = 0;
    pthread_mutex_lock(&c->lock);
    queue_put(&c->rows_q, &d->rows.job);
    pthread_mutex_unlock(&c->lock);
}

/* What a decode_job's next job is to know of it. */
static void prepare_next(struct decode_job *d)
{
    struct drafting *g = d->next.drafting;
    d->next.position = d->rows.pos + 1;
    if (!g) return;
    g->eos = d->eos;
    g->n_eos = d->n_eos;
    g->limit = d->limit - d->n_tokens;
}

static const uint8_t *rows_of(const struct compute *c, const struct next_job *j)
{
    return j->x + (j->drafting ? j->drafting->n_context * c->row_bytes : 0);
}

/* Row by row, as far as it comes: a draft that leads nowhere is not the answer's fault. */
static enum err next_alone(struct compute *c, struct next_job *j)
{
    struct nonfinite bad;
    uint32_t n = 0, n_rows = 1 + next_job_drafts(j);
    enum err e = ERR_OK;
    for (; n < n_rows && !e; n++)
        e = ends_logits(c->ends, rows_of(c, j) + n * c->row_bytes, 1,
                        c->logits + (size_t)n * c->c.arch->vocab, &bad);
    if (e && n == 1) return e;
    if (e && j->drafting) j->drafting->n_drafts = n - 2; /* the rows before the one at fault */
    return compute_next_token(c, j, c->logits);
}

void compute_run_next(struct compute *c, struct queue *jobs)
{
    uint64_t start = uv_hrtime();
    struct nonfinite bad = { 0 };
    struct queue picked;
    uint32_t n = 0;
    for (struct job *j = jobs->first; j; j = j->next) {
        struct next_job *next = (struct next_job *)j;
        uint32_t n_rows = 1 + next_job_drafts(next);
        if (j->kind == JOB_DECODE_NEXT) prepare_next(decode_of_next(j));
        memcpy(c->x + n * c->row_bytes, rows_of(c, next), n_rows * c->row_bytes);
        n += n_rows;
    }
    enum err e = ends_logits(c->ends, c->x, n, c->logits, &bad);

    queue_init(&picked);
    for (uint32_t i = 0; jobs->first;) {
        struct next_job *j = (struct next_job *)queue_unlink(jobs, &jobs->first);
        float *logits = c->logits + (size_t)i * c->c.arch->vocab;
        i += 1 + next_job_drafts(j);
        /* one of them is at fault: find out which */
        enum err of_job = !e ? compute_next_token(c, j, logits) : n > 1 ? next_alone(c, j) : e;
        if (of_job) j->job.bad = (struct nonfinite){ ARCH_ENDS, (uint32_t)j->position - 1 };
        j->job.compute_us += us_since(start);
        j->job.err = of_job;
        queue_put(&picked, &j->job);
    }
    struct hub *asleep = NULL;
    while (picked.first) { /* together, so that their rows stay together */
        struct job *j = queue_unlink(&picked, &picked.first);
        if (j->kind == JOB_DECODE_NEXT)
            decode_on(c, decode_of_next(j), j->err);
        else
            job_give_back_quietly(j, j->err, &asleep);
    }
    if (asleep) hub_wake(asleep);
}
