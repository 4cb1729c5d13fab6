/* compute_sim.c - stage/compute.h over the world's clock: jobs take the time that the place's speed
 * says, one after the other, tokens first, then calls, then rows.  Nothing here is a thread; a job
 * is computed when its time is over, and its note posted as the real thread would. */
#include "stage/compute.h"

#include "proto/chain.h"
#include "tests/sim/draft_sim.h"
#include "tests/sim/model_sim.h"
#include "tests/sim/world.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { LAYER_US = 400, HEAD_US = 150, CALL_MIN_US = 40, CALL_MAX_US = 1200, ROWS_A_PASS = 16 };

struct queue {
    struct job *first, **last;
    unsigned n;
};

struct compute {
    struct compute_config c;
    struct place *place;
    struct queue next_q, call_q, rows_q;
    struct job *now; /* under way */
    struct event *event;
};

static void queue_init(struct queue *q)
{
    *q = (struct queue){ 0 };
    q->last = &q->first;
}

static void queue_put(struct queue *q, struct job *j)
{
    j->next = NULL;
    *q->last = j;
    q->last = &j->next;
    q->n++;
}

static struct job *queue_take(struct queue *q, struct job **at)
{
    struct job *j = *at;
    *at = j->next;
    if (!j->next) q->last = at;
    q->n--;
    return j;
}

static void give_back(struct job *j, enum err e)
{
    j->err = e;
    j->finished_ns = uv_hrtime();
    if (actor_post(j->to, &j->note)) j->note.drop(&j->note);
}

/* --- one job --- */

static uint64_t layers_us(const struct compute *c, uint32_t lo, uint32_t hi, uint32_t n)
{
    uint64_t passes = (n + ROWS_A_PASS - 1) / ROWS_A_PASS;
    return (uint64_t)((double)(passes * (hi - lo) * LAYER_US) * c->place->slow);
}

static uint64_t head_us(const struct compute *c)
{
    return (uint64_t)(HEAD_US * c->place->slow);
}

static enum err run_rows(struct rows_job *j)
{
    if (!sim_rows_are_real(j->x, j->n)) {
        j->job.bad = (struct nonfinite){ j->lo, j->pos };
        return ERR_NONFINITE;
    }
    for (uint32_t i = 0; i < j->n && j->hashes; i++)
        chain_row(j->hashes + (size_t)(j->pos + i - j->hash_pos) * HASH_WIRE,
                  j->x + i * SIM_ROW_BYTES, SIM_ROW_BYTES);
    return sim_layers(j->kv, j->lo, j->hi, j->pos, j->n, j->x);
}

static enum err run_next(struct next_job *j)
{
    uint32_t n_context = j->drafting ? j->drafting->n_context : 0;
    if (!sim_rows_are_real(j->x + n_context * SIM_ROW_BYTES, 1 + next_job_drafts(j))) {
        j->job.bad = (struct nonfinite){ ARCH_ENDS, (uint32_t)j->position - 1 };
        return ERR_NONFINITE;
    }
    if (j->drafting) {
        sim_pick_and_draft(j);
        return ERR_OK;
    }
    j->token = sim_pick(j->x, &j->sampling, j->position);
    sim_embed(j->token, j->x);
    return ERR_OK;
}

static bool decode_is_over(const struct decode_job *d)
{
    for (uint32_t i = 0; i < d->n_eos; i++)
        if (d->eos[i] == d->next.token) return true;
    return d->n_tokens == d->limit;
}

static enum err run_decode(struct decode_job *d)
{
    struct drafting *g = d->next.drafting;
    enum err e = ERR_OK;
    while (!e) {
        d->rows.n = 1 + next_job_drafts(&d->next);
        e = run_rows(&d->rows);
        d->next.x = d->rows.x;
        d->next.position = d->rows.pos + 1;
        if (g) g->limit = d->limit - d->n_tokens;
        if (!e) e = run_next(&d->next);
        if (e) d->rows.job.bad = d->next.job.bad;
        if (e) break;
        uint32_t n = g ? g->n_tokens : 1;
        memcpy(d->token + d->n_tokens, g ? g->token : &d->next.token, n * sizeof *d->token);
        d->n_tokens += n;
        d->rows.pos += n;
        kv_trim(d->rows.kv, d->rows.pos);
        uint64_t us = (uint64_t)(d->n_tokens + 1) * (d->rows.hi - d->rows.lo) * LAYER_US;
        if (decode_is_over(d) || us > DECODE_US) break;
    }
    return e;
}

static enum err run_job(struct compute *c, struct job *j)
{
    switch (j->kind) {
    case JOB_ROWS: return run_rows((struct rows_job *)j);
    case JOB_NEXT: return run_next((struct next_job *)j);
    case JOB_CALL:
        return ((struct call_job *)j)->run((struct call_job *)j, (struct ends *)(void *)c);
    default: return run_decode((struct decode_job *)j);
    }
}

static uint64_t job_us(const struct compute *c, const struct job *j)
{
    const struct rows_job *r = (const struct rows_job *)j;
    switch (j->kind) {
    case JOB_ROWS: return layers_us(c, r->lo, r->hi, r->n);
    case JOB_NEXT: return head_us(c);
    case JOB_CALL: return draw_from(FOR_WORLD, CALL_MIN_US, CALL_MAX_US);
    default: return layers_us(c, r->lo, r->hi, 1) + head_us(c);
    }
}

/* --- the queue --- */

static void start_next(struct compute *c);

static void on_done(void *arg)
{
    struct compute *c = arg;
    struct job *j = c->now;
    c->event = NULL;
    c->now = NULL;
    enum err e = run_job(c, j);
    j->compute_us = (uint32_t)((uv_hrtime() - j->submitted_ns) / 1000) - j->wait_us;
    give_back(j, e);
    start_next(c);
}

static void start_next(struct compute *c)
{
    struct queue *q = c->next_q.first ? &c->next_q : c->call_q.first ? &c->call_q : &c->rows_q;
    if (c->now || !q->first) return;
    c->now = queue_take(q, &q->first);
    c->now->wait_us = (uint32_t)((uv_hrtime() - c->now->submitted_ns) / 1000);
    c->event = world_at(c->place, world_us() + job_us(c, c->now), on_done, c);
}

static void submit(struct compute *c, struct queue *q, struct job *j, enum job_kind kind)
{
    j->kind = kind;
    j->err = ERR_OK;
    j->wait_us = j->compute_us = 0;
    j->submitted_ns = uv_hrtime();
    queue_put(q, j);
    start_next(c);
}

void compute_rows(struct compute *c, struct rows_job *j)
{
    assert(j->n > 0 && j->lo >= c->c.lo && j->hi <= c->c.hi);
    submit(c, &c->rows_q, &j->job, JOB_ROWS);
}

void compute_next(struct compute *c, struct next_job *j)
{
    submit(c, &c->next_q, &j->job, JOB_NEXT);
}

void compute_call(struct compute *c, struct call_job *j)
{
    submit(c, &c->call_q, &j->job, JOB_CALL);
}

void compute_decode(struct compute *c, struct decode_job *j)
{
    j->n_tokens = 0;
    submit(c, &c->rows_q, &j->rows.job, JOB_DECODE_ROWS);
}

/* No place of the world shares layers. */
void compute_share(struct compute *c, struct share_job *j)
{
    (void)c;
    give_back(&j->job, ERR_UNSUPPORTED);
}

void compute_wait(struct compute *c, bool (*ready)(void *arg), void *arg)
{
    (void)c, (void)ready, (void)arg;
    abort();
}

void compute_wake(struct compute *c)
{
    (void)c;
}

void compute_cancel(struct compute *c, const struct kv *kv)
{
    for (struct job **at = &c->rows_q.first; *at;) {
        if (((struct rows_job *)*at)->kv != kv) {
            at = &(*at)->next;
            continue;
        }
        give_back(queue_take(&c->rows_q, at), ERR_CANCELLED);
    }
}

unsigned compute_depth(struct compute *c)
{
    return c->rows_q.n + c->next_q.n + c->call_q.n;
}

struct pace compute_measure(struct compute *c)
{
    struct pace p = { .head_us = c->c.ends ? (uint32_t)head_us(c) : 0 };
    if (c->c.lo == c->c.hi) return p;
    p.layer_us = (uint32_t)(LAYER_US * c->place->slow);
    p.prefill = ROWS_A_PASS * 1000000 / p.layer_us;
    return p;
}

enum err compute_open(struct compute **out, const struct compute_config *config, struct why *why)
{
    (void)why;
    struct compute *c = calloc(1, sizeof *c);
    if (!c) abort();
    c->c = *config;
    c->place = world_here();
    queue_init(&c->next_q);
    queue_init(&c->call_q);
    queue_init(&c->rows_q);
    *out = c;
    return ERR_OK;
}

void compute_close(struct compute *c)
{
    if (!c) return;
    world_cancel(c->event);
    if (c->now) give_back(c->now, ERR_CANCELLED);
    struct queue *all[] = { &c->next_q, &c->call_q, &c->rows_q };
    for (int i = 0; i < 3; i++)
        while (all[i]->first) give_back(queue_take(all[i], &all[i]->first), ERR_CANCELLED);
    free(c);
}
