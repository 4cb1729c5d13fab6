#include "proto/waves.h"
#include "stage/compute_impl.h"
#include "stage/pool.h"

#include <stdlib.h>
#include <string.h>

enum {
    SCRATCH_BYTES = 40 << 20, /* wide models compute fewer rows at once: 256 of GLM-4.5-Air */
};

/* --- giving jobs back, without the lock --- */

void job_give_back_quietly(struct job *j, enum err e, struct hub **asleep)
{
    if (j->kind == JOB_DECODE_NEXT) j = &decode_of_next(j)->rows.job;
    j->finished_ns = uv_hrtime();
    uint32_t all_us = us_since(j->submitted_ns), our_us = j->compute_us;
    if (j->kind == JOB_DECODE_ROWS) our_us += ((struct decode_job *)j)->next.job.compute_us;
    j->err = e;
    j->wait_us = all_us > our_us ? all_us - our_us : 0;
    /* Mailboxes are sized for all the jobs their actor submits, so this fails only when the actor
     * has gone. */
    if (actor_post_quietly(j->to, &j->note, asleep)) j->note.drop(&j->note);
}

void job_give_back(struct job *j, enum err e)
{
    struct hub *asleep = NULL;
    job_give_back_quietly(j, e, &asleep);
    if (asleep) hub_wake(asleep);
}

void jobs_give_back(struct queue *q, enum err e)
{
    while (q->first) job_give_back(queue_unlink(q, &q->first), e);
}

static void begin_job(struct job *j, enum job_kind kind)
{
    j->kind = kind;
    j->err = ERR_OK;
    j->compute_us = j->wait_us = 0;
    j->submitted_ns = uv_hrtime();
}

static void submit(struct compute *c, struct queue *q, struct job *j, enum job_kind kind)
{
    begin_job(j, kind);
    pthread_mutex_lock(&c->lock);
    bool stopping = c->stopping;
    if (!stopping) queue_put(q, j);
    pthread_mutex_unlock(&c->lock);
    pthread_cond_signal(&c->wake); /* without the lock, which the thread wants first */
    if (stopping) job_give_back(j, ERR_CANCELLED);
}

/* The thread sees all fresh jobs at once: those that arrived together are computed together. */
static void bring_fresh(struct compute *c)
{
    if (!c->fresh.first) return;
    pthread_mutex_lock(&c->lock);
    bool stopping = c->stopping;
    while (c->fresh.first && !stopping) {
        struct job *j = queue_unlink(&c->fresh, &c->fresh.first);
        queue_put(j->kind == JOB_NEXT ? &c->next_q : &c->rows_q, j);
    }
    pthread_mutex_unlock(&c->lock);
    pthread_cond_signal(&c->wake);
    jobs_give_back(&c->fresh, ERR_CANCELLED);
}

static void on_rest(uv_prepare_t *p)
{
    bring_fresh(p->data);
}

/* For the thread before the loop sleeps. */
static void submit_fresh(struct compute *c, struct job *j, enum job_kind kind)
{
    begin_job(j, kind);
    queue_put(&c->fresh, j);
    if (!c->rest) bring_fresh(c);
}

void compute_rows(struct compute *c, struct rows_job *j)
{
    j->done = 0;
    j->in_batch = j->cancelled = false;
    submit_fresh(c, &j->job, JOB_ROWS);
}

void compute_next(struct compute *c, struct next_job *j)
{
    submit_fresh(c, &j->job, JOB_NEXT);
}

void compute_call(struct compute *c, struct call_job *j)
{
    submit(c, &c->call_q, &j->job, JOB_CALL);
}

void compute_decode(struct compute *c, struct decode_job *j)
{
    j->n_tokens = 0;
    j->rows.n = 1 + next_job_drafts(&j->next);
    j->rows.done = 0;
    j->rows.in_batch = j->rows.cancelled = false;
    j->rows.is_token = true;
    j->next.x = j->rows.x;
    j->next.job.kind = JOB_DECODE_NEXT;
    j->next.job.compute_us = 0;
    submit_fresh(c, &j->rows.job, JOB_DECODE_ROWS);
}

/* Unlink the jobs of kv that are not in the batch being computed; those get a mark. */
static void take_jobs_of(struct queue *q, const struct kv *kv, struct queue *into)
{
    for (struct job **at = &q->first; *at;) {
        struct rows_job *r = (struct rows_job *)*at;
        if (r->kv == kv) r->cancelled = true;
        if (r->kv == kv && !r->in_batch)
            queue_put(into, queue_unlink(q, at));
        else
            at = &(*at)->next;
    }
}

static void take_shares_of(struct queue *q, const struct kv *kv, struct queue *into)
{
    for (struct job **at = &q->first; *at;) {
        const struct share_work *w = &((struct share_job *)*at)->work;
        bool is_of = false;
        for (uint32_t i = 0; w->row && i < w->n; i++) is_of |= w->row[i].kv == kv;
        if (is_of)
            queue_put(into, queue_unlink(q, at));
        else
            at = &(*at)->next;
    }
}

void compute_cancel(struct compute *c, const struct kv *kv)
{
    struct queue gone;
    queue_init(&gone);
    bring_fresh(c);
    pthread_mutex_lock(&c->lock);
    take_jobs_of(&c->rows_q, kv, &gone);
    take_shares_of(&c->share_q, kv, &gone);
    pthread_mutex_unlock(&c->lock);
    jobs_give_back(&gone, ERR_CANCELLED);
}

unsigned compute_depth(struct compute *c)
{
    pthread_mutex_lock(&c->lock);
    unsigned n = c->share_q.n + c->rows_q.n + c->next_q.n + c->call_q.n;
    pthread_mutex_unlock(&c->lock);
    return n + c->fresh.n;
}

/* --- for leaders elsewhere --- */

/* Called with the lock; returns with it. */
static void run_share(struct compute *c)
{
    struct share_job *j = (struct share_job *)queue_unlink(&c->share_q, &c->share_q.first);
    atomic_store_explicit(&c->n_shares, c->share_q.n, memory_order_relaxed);
    pthread_mutex_unlock(&c->lock);
    job_give_back(&j->job, pieces_do(&c->pieces, j));
    pthread_mutex_lock(&c->lock);
}

/* Between the steps of our own layers. */
static void between_steps(void *arg, uint32_t layer, enum stage_part done)
{
    struct compute *c = arg;
    (void)layer, (void)done;
    if (atomic_load_explicit(&c->n_shares, memory_order_relaxed) == 0) return;
    pthread_mutex_lock(&c->lock);
    while (c->share_q.first) run_share(c);
    pthread_mutex_unlock(&c->lock);
}

void compute_share(struct compute *c, struct share_job *j)
{
    atomic_fetch_add_explicit(&c->n_shares, 1, memory_order_relaxed);
    submit(c, &c->share_q, &j->job, JOB_SHARE);
}

void compute_wait(struct compute *c, bool (*ready)(void *arg), void *arg)
{
    pthread_mutex_lock(&c->lock);
    while (!ready(arg) && !c->stopping) {
        if (c->share_q.first)
            run_share(c);
        else
            pthread_cond_wait(&c->wake, &c->lock);
    }
    pthread_mutex_unlock(&c->lock);
}

void compute_wake(struct compute *c)
{
    pthread_mutex_lock(&c->lock);
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
}

/* --- the thread --- */

static void run_call(struct compute *c, struct call_job *j)
{
    uint64_t start = uv_hrtime();
    enum err e = j->run(j, c->ends);
    j->job.compute_us = us_since(start);
    job_give_back(&j->job, e);
}

/* Called with the lock; returns with it.  What others wait for first, then tokens (they are short
 * and start the next step), then calls, then layers. */
static void run_some(struct compute *c)
{
    if (c->share_q.first) {
        run_share(c);
        return;
    }
    if (c->next_q.first) {
        struct queue jobs;
        queue_init(&jobs);
        uint32_t part = waves_part(c->next_q.n, ((struct next_job *)c->next_q.first)->together);
        for (uint32_t n = 0; c->next_q.first && jobs.n < part;) {
            n += 1 + next_job_drafts((struct next_job *)c->next_q.first);
            if (n > NEXT_MAX) break;
            queue_put(&jobs, queue_unlink(&c->next_q, &c->next_q.first));
        }
        pthread_mutex_unlock(&c->lock);
        compute_run_next(c, &jobs);
    } else if (c->call_q.first) {
        struct call_job *j = (struct call_job *)queue_unlink(&c->call_q, &c->call_q.first);
        pthread_mutex_unlock(&c->lock);
        run_call(c, j);
    } else {
        compute_run_rows(c);
    }
    pthread_mutex_lock(&c->lock);
}

static void *thread_main(void *arg)
{
    struct compute *c = arg;
    pool_be_nice(c->c.nice);
    pthread_mutex_lock(&c->lock);
    while (!c->stopping) {
        if (c->share_q.first || c->rows_q.first || c->next_q.first || c->call_q.first)
            run_some(c);
        else
            pthread_cond_wait(&c->wake, &c->lock);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* --- opening and closing --- */

static enum err open_batch(const struct compute *c, struct batch *b)
{
    b->x = malloc(c->rows_max * c->row_bytes);
    b->rows = calloc(c->rows_max, sizeof *b->rows);
    b->part = calloc(c->rows_max, sizeof *b->part);
    return b->x && b->rows && b->part ? ERR_OK : ERR_NOMEM;
}

static void close_batch(struct batch *b)
{
    free(b->part);
    free(b->rows);
    free(b->x);
}

static enum err open_rest(struct compute *c)
{
    if (!c->c.hub) return ERR_OK;
    c->rest = malloc(sizeof *c->rest);
    if (!c->rest) return ERR_NOMEM;
    uv_prepare_init(&c->c.hub->loop, c->rest);
    c->rest->data = c;
    uv_prepare_start(c->rest, on_rest);
    uv_unref((uv_handle_t *)c->rest);
    return ERR_OK;
}

static void on_rest_closed(uv_handle_t *h)
{
    free(h);
}

static enum err open_parts(struct compute *c, struct why *why)
{
    const struct compute_config *k = &c->c;
    enum err e = ERR_OK;
    c->rows_max = stage_rows_within(k->arch, k->all_hi - k->all_lo, k->workers->n, SCRATCH_BYTES);
    turns_init(&c->turns, c->rows_max);
    c->x = malloc(NEXT_MAX * c->row_bytes);
    e = c->x ? open_rest(c) : ERR_NOMEM;
    if (!e) e = open_batch(c, &c->tokens);
    if (!e) e = open_batch(c, &c->prompts);
    c->pieces = (struct pieces){ .c = k, .rows_max = c->rows_max };
    if (!e && k->all_lo < k->all_hi)
        e = stage_open(&c->stage, k->arch, k->all, k->all_lo, k->all_hi, c->rows_max, k->kernels,
                       k->workers);
    if (c->stage) stage_tell(c->stage, k->pager);
    if (c->stage) stage_laps(c->stage, between_steps, c);
    if (!e && k->ends) {
        c->logits = malloc(sizeof(float) * NEXT_MAX * k->arch->vocab);
        e = c->logits ? ends_open(&c->ends, k->arch, k->ends, NEXT_MAX, k->kernels, k->workers)
                      : ERR_NOMEM;
        if (!e) e = sampler_open(&c->sampler, k->arch->vocab, draw_hash);
        if (!e && k->predict)
            e = predict_open(&c->predict, k->arch, k->predict, k->ends, k->kernels, k->workers);
    }
    if (!e && pthread_create(&c->thread, NULL, thread_main, c)) e = ERR_NOMEM;
    if (e) return fail(why, e, "the compute thread cannot start: %s", err_text(e));
    c->started = true;
    return ERR_OK;
}

enum err compute_open(struct compute **out, const struct compute_config *config, struct why *why)
{
    struct compute *c = calloc(1, sizeof *c);
    if (!c) return fail(why, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    c->c = *config;
    c->row_bytes = arch_row_bytes(config->arch);
    if (!c->c.all) c->c.all = config->layers, c->c.all_lo = config->lo, c->c.all_hi = config->hi;
    queue_init(&c->fresh);
    queue_init(&c->share_q);
    queue_init(&c->rows_q);
    queue_init(&c->next_q);
    queue_init(&c->call_q);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->wake, NULL);

    enum err e = open_parts(c, why);
    if (e) {
        compute_close(c);
        return e;
    }
    *out = c;
    return ERR_OK;
}

void compute_close(struct compute *c)
{
    if (!c) return;
    pthread_mutex_lock(&c->lock);
    c->stopping = true;
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
    if (c->started) pthread_join(c->thread, NULL);

    if (c->rest) uv_close((uv_handle_t *)c->rest, on_rest_closed);
    jobs_give_back(&c->fresh, ERR_CANCELLED);
    jobs_give_back(&c->share_q, ERR_CANCELLED);
    jobs_give_back(&c->rows_q, ERR_CANCELLED);
    jobs_give_back(&c->next_q, ERR_CANCELLED);
    jobs_give_back(&c->call_q, ERR_CANCELLED);
    if (c->sampler) sampler_close(c->sampler);
    predict_close(c->predict);
    if (c->ends) ends_close(c->ends);
    stage_close(c->stage);
    pieces_close(&c->pieces);
    free(c->logits);
    close_batch(&c->tokens);
    close_batch(&c->prompts);
    free(c->x);
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->lock);
    free(c);
}
