#include "stage/compute.h"

#include "proto/chain.h"
#include "proto/fair.h"
#include "proto/waves.h"
#include "stage/pieces.h"
#include "stage/pool.h"
#include "stage/turns.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    NEXT_MAX = DRAFT_MAX + 1, /* rows that tokens are picked from in one go */
    MEASURE_US = 200000,      /* for compute_measure */
    MEASURE_ROUNDS = 64,
    MEASURE_LEAST = 3,        /* so that one that waited for the disk does not count */
    MEASURE_ROWS = 64,        /* of a prompt's batch */
    MEASURE_BYTES = 64 << 20, /* layers that are larger are not measured so */
    TURNS_MAX = 8,            /* parts of our layers whose turn is remembered */
    SCRATCH_BYTES = 40 << 20, /* wide models compute fewer rows at once: 256 of GLM-4.5-Air */
};

/* A range of the layers that some pipelines want: all of ours, or a part. */
struct range {
    uint32_t lo, hi;
    uint64_t used; /* number of the batch that used it last; 0: free place */
};

/* Rows that go through layers [lo, hi) together; [at, hi) are still to come. */
struct batch {
    uint8_t *x;       /* [rows_max][row_bytes], owned: the rows, gathered */
    struct row *rows; /* [rows_max], owned */
    struct part {
        struct rows_job *job;
        uint32_t at, n;       /* rows [at, at + n) of the batch */
    } * part;                 /* [rows_max], owned */
    uint32_t n_parts, n_rows; /* 0: there is none */
    uint32_t lo, hi, at;
    struct sharer *sharer;
    uint64_t us; /* computing so far */
};

struct queue {
    struct job *first, **last;
    unsigned n;
};

struct compute {
    /* set once by compute_open */
    struct compute_config c;
    size_t row_bytes;
    struct stage *stage;     /* owned; NULL without layers */
    uint32_t rows_max;       /* rows of a batch, by memory */
    struct ends *ends;       /* owned; NULL without ends */
    struct predict *predict; /* owned; NULL without the prediction layer */
    struct sampler *sampler; /* owned */
    pthread_t thread;
    bool started;

    /* the loop's thread's */
    uv_prepare_t *rest; /* freed when libuv lets go; NULL: there is no loop */
    struct queue fresh; /* jobs of this turn of the loop */

    /* owned, touched by the thread */
    struct batch tokens, prompts; /* tokens pass while a batch of prompts is under way */
    uint8_t *x;                   /* [NEXT_MAX][row_bytes]: rows that become tokens */
    float *logits;                /* [NEXT_MAX][vocab] */
    struct turns turns;
    struct fair_shares shares; /* of prompts, by coordinator */
    struct pieces pieces;      /* for leaders elsewhere */
    struct range range[TURNS_MAX];
    uint64_t n_batches;
    atomic_uint n_shares; /* about share_q.n, to be looked at without the lock */

    /* guarded by lock */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct queue share_q, rows_q, next_q, call_q;
    bool stopping;
};

static uint32_t us_since(uint64_t start_ns)
{
    uint64_t us = (uv_hrtime() - start_ns) / 1000;
    return us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

/* --- the queue; callers hold the lock --- */

static void queue_init(struct queue *q)
{
    *q = (struct queue){ .last = &q->first };
}

static void queue_put(struct queue *q, struct job *j)
{
    j->next = NULL;
    *q->last = j;
    q->last = &j->next;
    q->n++;
}

/* Unlink the job that *at points to. */
static struct job *queue_unlink(struct queue *q, struct job **at)
{
    struct job *j = *at;
    *at = j->next;
    if (q->last == &j->next) q->last = at;
    j->next = NULL;
    q->n--;
    return j;
}

/* --- giving jobs back, without the lock --- */

static struct decode_job *decode_of_next(struct job *j)
{
    return (struct decode_job *)(void *)((char *)j - offsetof(struct decode_job, next));
}

/* asleep: as actor_post_quietly. */
static void give_back_quietly(struct job *j, enum err e, struct hub **asleep)
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

static void give_back(struct job *j, enum err e)
{
    struct hub *asleep = NULL;
    give_back_quietly(j, e, &asleep);
    if (asleep) hub_wake(asleep);
}

static void give_all_back(struct queue *q, enum err e)
{
    while (q->first) give_back(queue_unlink(q, &q->first), e);
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
    if (stopping) give_back(j, ERR_CANCELLED);
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
    give_all_back(&c->fresh, ERR_CANCELLED);
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
    give_all_back(&gone, ERR_CANCELLED);
}

unsigned compute_depth(struct compute *c)
{
    pthread_mutex_lock(&c->lock);
    unsigned n = c->share_q.n + c->rows_q.n + c->next_q.n + c->call_q.n;
    pthread_mutex_unlock(&c->lock);
    return n + c->fresh.n;
}

/* --- ranges of layers --- */

static struct range *range_find(struct compute *c, uint32_t lo, uint32_t hi)
{
    for (unsigned i = 0; i < TURNS_MAX; i++)
        if (c->range[i].used && c->range[i].lo == lo && c->range[i].hi == hi) return &c->range[i];
    return NULL;
}

/* A batch of [lo, hi) begins.  Of more ranges than there are places the one used least recently is
 * forgotten. */
static void range_use(struct compute *c, uint32_t lo, uint32_t hi)
{
    struct range *r = range_find(c, lo, hi);
    if (!r) {
        r = &c->range[0];
        for (unsigned i = 1; i < TURNS_MAX; i++)
            if (c->range[i].used < r->used) r = &c->range[i];
    }
    *r = (struct range){ lo, hi, ++c->n_batches };
}

/* Is there such a job? */
static bool has_rows(const struct compute *c, bool is_token)
{
    const struct job *j = c->rows_q.first;
    while (j && ((const struct rows_job *)j)->is_token != is_token) j = j->next;
    return j != NULL;
}

/* The range whose turn it is: of all that wait for such rows, the one served longest ago. */
static const struct rows_job *choose_range(struct compute *c, bool is_token)
{
    const struct rows_job *best = NULL;
    uint64_t best_used = UINT64_MAX;
    for (const struct job *j = c->rows_q.first; j; j = j->next) {
        const struct rows_job *r = (const struct rows_job *)j;
        const struct range *range = range_find(c, r->lo, r->hi);
        uint64_t used = range ? range->used : 0;
        if (r->is_token == is_token && used < best_used) {
            best = r;
            best_used = used;
        }
    }
    return best;
}

/* --- rows: gather, compute, scatter --- */

/* The position that kv's next row must have, after the parts of b. */
static uint32_t next_pos(const struct batch *b, const struct kv *kv)
{
    uint32_t pos = kv_len(kv);
    for (uint32_t i = 0; i < b->n_parts; i++)
        if (b->part[i].job->kv == kv) pos += b->part[i].n;
    return pos;
}

static bool fits(const struct batch *b, const struct rows_job *j)
{
    return !j->in_batch && j->lo == b->lo && j->hi == b->hi && j->sharer == b->sharer &&
           next_pos(b, j->kv) == j->pos + j->done;
}

/* Put as much of j into the batch as the limit allows. */
static void add_part(struct compute *c, struct batch *b, struct rows_job *j, uint32_t limit)
{
    uint32_t left = j->n - j->done, room = limit - b->n_rows, n = left < room ? left : room;
    for (uint32_t i = 0; i < n; i++)
        b->rows[b->n_rows + i] = (struct row){ j->kv, j->pos + j->done + i };
    memcpy(b->x + b->n_rows * c->row_bytes, j->x + j->done * c->row_bytes, n * c->row_bytes);
    b->part[b->n_parts++] = (struct part){ j, b->n_rows, n };
    b->n_rows += n;
    j->in_batch = true;
}

static void begin_batch(struct batch *b, const struct rows_job *turn)
{
    b->n_parts = b->n_rows = 0;
    b->us = 0;
    b->lo = b->at = turn ? turn->lo : 0;
    b->hi = turn ? turn->hi : 0;
    b->sharer = turn ? turn->sharer : NULL;
}

/* How many of j's coordinator go together now: of many that are ready equal parts, so that nobody
 * is left over who would then go alone. */
static uint32_t whole(const struct compute *c, const struct batch *b, const struct rows_job *j)
{
    uint32_t n = 0;
    for (const struct job *k = c->rows_q.first; k; k = k->next) {
        const struct rows_job *r = (const struct rows_job *)k;
        n += r->is_token && r->who == j->who && r->lo == b->lo && r->hi == b->hi;
    }
    return waves_part(n, j->together);
}

/* Does the batch hold as many of his? */
static bool is_whole(const struct compute *c, const struct batch *b, const struct rows_job *j)
{
    uint32_t n = 0;
    if (j->together == 0) return false;
    for (uint32_t i = 0; i < b->n_parts; i++) n += b->part[i].job->who == j->who;
    return n > 0 && n >= whole(c, b, j);
}

/* All tokens that are ready.  Jobs stay queued until their last row is done. */
static void gather_tokens(struct compute *c)
{
    struct batch *b = &c->tokens;
    begin_batch(b, choose_range(c, true));
    for (struct job *j = c->rows_q.first; j && b->n_rows < c->rows_max; j = j->next) {
        struct rows_job *r = (struct rows_job *)j;
        if (r->is_token && fits(b, r) && !is_whole(c, b, r)) add_part(c, b, r, c->rows_max);
    }
}

/* The prompt that is next by rank and by what its coordinator has had; NULL: none fits. */
static struct rows_job *next_prompt(const struct compute *c, const struct batch *b)
{
    struct rows_job *best = NULL;
    uint64_t best_rank = 0, best_clock = 0, now = uv_hrtime();
    for (struct job *j = c->rows_q.first; j; j = j->next) {
        struct rows_job *r = (struct rows_job *)j;
        uint64_t better = (now - j->submitted_ns) / 1000000 / FAIR_RANK_MS;
        uint64_t rank = r->rank > better ? r->rank - better : 0;
        uint64_t clock = fair_clock(&c->shares, r->who);
        if (best && (rank > best_rank || (rank == best_rank && clock >= best_clock))) continue;
        if (r->is_token || !fits(b, r)) continue;
        best = r;
        best_rank = rank;
        best_clock = clock;
    }
    return best;
}

static void gather_prompts(struct compute *c)
{
    struct batch *b = &c->prompts;
    struct rows_job *j;
    uint32_t limit = turns_rows(&c->turns, uv_hrtime());
    begin_batch(b, choose_range(c, false));
    while (b->n_rows < limit && (j = next_prompt(c, b))) {
        uint32_t before = b->n_rows;
        add_part(c, b, j, limit);
        fair_serve(&c->shares, j->who, b->n_rows - before);
    }
}

/* Unlink the jobs that can never run because the rows before them failed: the first of their kv
 * in the queue, and not at its next position. */
static void take_unfit(struct compute *c, struct queue *into)
{
    for (struct job **at = &c->rows_q.first; *at;) {
        struct rows_job *r = (struct rows_job *)*at;
        bool is_first = true;
        for (struct job *k = c->rows_q.first; k != *at; k = k->next)
            is_first &= ((struct rows_job *)k)->kv != r->kv;
        if (is_first && r->pos + r->done != kv_len(r->kv))
            queue_put(into, queue_unlink(&c->rows_q, at));
        else
            at = &(*at)->next;
    }
}

/* Compute rows of one part alone, to find out which session of a batch was at fault. */
static enum err compute_alone(struct compute *c, struct batch *b, const struct part *p,
                              struct nonfinite *bad)
{
    uint8_t *x = b->x + p->at * c->row_bytes;
    memcpy(x, p->job->x + p->job->done * c->row_bytes, p->n * c->row_bytes);
    return stage_forward_shared(c->stage, b->lo, b->hi, b->rows + p->at, p->n, x, b->sharer, bad);
}

/* A row that is not finite may be a draft's, which is not the answer's fault: without the drafts
 * that were not computed yet; false: there are none. */
static bool drop_drafts(struct rows_job *j)
{
    struct drafting *g =
        j->job.kind == JOB_DECODE_ROWS ? ((struct decode_job *)j)->next.drafting : NULL;
    if (!g || g->n_drafts == 0 || j->done == j->n) return false;
    j->n = j->done > 0 ? j->done : 1;
    g->n_drafts = j->n - 1;
    return true;
}

/* After the step: a job that is complete, failed or cancelled leaves the queue; a decode_job's row
 * becomes a token next. */
static void scatter(struct compute *c, const struct batch *b, const struct part *p, enum err e,
                    const struct nonfinite *bad, uint32_t us, struct queue *finished)
{
    struct rows_job *j = p->job;
    j->job.compute_us += us;
    if (!e) {
        memcpy(j->x + j->done * c->row_bytes, b->x + p->at * c->row_bytes, p->n * c->row_bytes);
        j->done += p->n;
    }

    pthread_mutex_lock(&c->lock);
    j->in_batch = false;
    if (e == ERR_NONFINITE && drop_drafts(j)) e = ERR_OK;
    if (!e && j->done < j->n && j->cancelled) e = ERR_CANCELLED;
    j->job.err = e;
    if (e) j->job.bad = *bad;
    if (e || j->done == j->n) {
        struct job **at = &c->rows_q.first;
        while (*at != &j->job) at = &(*at)->next;
        struct job *done = queue_unlink(&c->rows_q, at);
        if (!e && done->kind == JOB_DECODE_ROWS)
            queue_put(&c->next_q, &((struct decode_job *)done)->next.job);
        else
            queue_put(finished, done);
    }
    pthread_mutex_unlock(&c->lock);
}

/* A token takes as long as the batch it is in; of a prompt's rows each has its share, and the rest
 * was waiting for others. */
static uint32_t part_us(uint64_t us, uint32_t n, uint32_t n_rows)
{
    return n == 1 ? (uint32_t)us : (uint32_t)(us * n / n_rows);
}

/* The batch is through its layers, or failed: its jobs have what they get. */
static void end_batch(struct compute *c, struct batch *b, enum err e, struct nonfinite bad)
{
    struct queue finished;
    queue_init(&finished);
    bool alone = e && e != ERR_CANCELLED && b->n_parts > 1;
    for (uint32_t i = 0; i < b->n_parts; i++) {
        enum err of_part = e;
        uint64_t start = uv_hrtime();
        if (alone) of_part = compute_alone(c, b, &b->part[i], &bad);
        uint32_t took = alone ? us_since(start) : part_us(b->us, b->part[i].n, b->n_rows);
        scatter(c, b, &b->part[i], of_part, &bad, took, &finished);
    }
    b->n_parts = b->n_rows = 0;
    struct hub *asleep = NULL; /* until it finds them all */
    while (finished.first) {
        struct job *j = queue_unlink(&finished, &finished.first);
        give_back_quietly(j, j->err, &asleep);
    }
    if (asleep) hub_wake(asleep);
}

/* Rows as they enter; computing overwrites them. */
static void hash_rows(const struct compute *c, const struct batch *b)
{
    for (const struct part *p = b->part; p < b->part + b->n_parts; p++) {
        const struct rows_job *j = p->job;
        if (!j->hashes) continue;
        uint8_t *to = j->hashes + (size_t)(j->pos + j->done - j->hash_pos) * HASH_WIRE;
        for (uint32_t i = 0; i < p->n; i++)
            chain_row(to + (size_t)i * HASH_WIRE, b->x + (p->at + i) * c->row_bytes, c->row_bytes);
    }
}

/* Some more of its layers. */
static enum err forward(struct compute *c, struct batch *b, uint32_t n_layers,
                        struct nonfinite *bad)
{
    uint32_t hi = n_layers < b->hi - b->at ? b->at + n_layers : b->hi;
    if (b->at == b->lo) hash_rows(c, b);
    enum err e =
        stage_forward_shared(c->stage, b->at, hi, b->rows, b->n_rows, b->x, b->sharer, bad);
    b->at = hi;
    return e;
}

/* Without what was done for others in between. */
static uint32_t own_us(const struct compute *c, uint64_t start_ns)
{
    uint64_t us = us_since(start_ns);
    return us > c->pieces.us ? (uint32_t)(us - c->pieces.us) : 0;
}

static void run_tokens(struct compute *c)
{
    struct batch *b = &c->tokens;
    struct nonfinite bad = { 0 };
    uint64_t start = uv_hrtime();
    c->pieces.us = 0;
    range_use(c, b->lo, b->hi);
    enum err e = forward(c, b, b->hi - b->lo, &bad);
    b->us = own_us(c, start);
    turns_did_tokens(&c->turns, (uint32_t)b->us, uv_hrtime());
    end_batch(c, b, e, bad);
}

/* Its positions are held only when they are through all layers. */
static void not_yet_held(const struct batch *b)
{
    for (uint32_t i = b->n_parts; i-- > 0;) kv_trim(b->part[i].job->kv, b->rows[b->part[i].at].pos);
}

/* The next layers of the prompts under way, or of others. */
static void run_prompts(struct compute *c, bool is_wanted)
{
    struct batch *b = &c->prompts;
    struct nonfinite bad = { 0 };
    uint64_t start = uv_hrtime();
    uint32_t from = b->at, n = turns_layers(&c->turns, b->n_rows, start);
    if (!is_wanted) {
        end_batch(c, b, ERR_CANCELLED, bad);
        return;
    }
    if (from == b->lo) range_use(c, b->lo, b->hi);
    c->pieces.us = 0;
    enum err e = forward(c, b, n, &bad);
    uint32_t us = own_us(c, start);
    b->us += us;
    turns_did_layers(&c->turns, b->n_rows, b->at - from, us);
    (void)sched_yield(); /* to the loop: it may have rows of a running answer by now */
    if (!e && b->at < b->hi) {
        not_yet_held(b);
        return;
    }
    turns_did_prompts(&c->turns, b->n_rows, b->hi - b->lo, b->us, uv_hrtime());
    end_batch(c, b, e, bad);
}

/* --- tokens --- */

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

static enum err next_token(struct compute *c, struct next_job *j, float *logits)
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
        give_back(&d->rows.job, e);
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
    return next_token(c, j, c->logits);
}

static void run_next(struct compute *c, struct queue *jobs)
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
        enum err of_job = !e ? next_token(c, j, logits) : n > 1 ? next_alone(c, j) : e;
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
            give_back_quietly(j, j->err, &asleep);
    }
    if (asleep) hub_wake(asleep);
}

static void run_call(struct compute *c, struct call_job *j)
{
    uint64_t start = uv_hrtime();
    enum err e = j->run(j, c->ends);
    j->job.compute_us = us_since(start);
    give_back(&j->job, e);
}

/* --- for leaders elsewhere --- */

/* Called with the lock; returns with it. */
static void run_share(struct compute *c)
{
    struct share_job *j = (struct share_job *)queue_unlink(&c->share_q, &c->share_q.first);
    atomic_store_explicit(&c->n_shares, c->share_q.n, memory_order_relaxed);
    pthread_mutex_unlock(&c->lock);
    give_back(&j->job, pieces_do(&c->pieces, j));
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

/* Does anybody still want the prompts under way? */
static bool is_wanted(const struct batch *b)
{
    for (uint32_t i = 0; i < b->n_parts; i++)
        if (!b->part[i].job->cancelled) return true;
    return false;
}

/* Called with the lock; returns without. */
static void run_rows(struct compute *c)
{
    struct queue unfit;
    queue_init(&unfit);
    take_unfit(c, &unfit);
    bool is_under_way = c->prompts.n_parts > 0;
    bool has_prompts = is_under_way || has_rows(c, false);
    c->tokens.n_parts = 0;
    if (!has_prompts || turns_is_token(&c->turns)) gather_tokens(c);
    if (c->tokens.n_parts == 0 && !is_under_way) gather_prompts(c);
    if (c->tokens.n_parts == 0 && c->prompts.n_parts == 0) gather_tokens(c);
    bool wanted = is_wanted(&c->prompts);
    pthread_mutex_unlock(&c->lock);
    give_all_back(&unfit, ERR_RANGE);
    if (c->tokens.n_parts > 0)
        run_tokens(c);
    else if (c->prompts.n_parts > 0)
        run_prompts(c, wanted);
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
        run_next(c, &jobs);
    } else if (c->call_q.first) {
        struct call_job *j = (struct call_job *)queue_unlink(&c->call_q, &c->call_q.first);
        pthread_mutex_unlock(&c->lock);
        run_call(c, j);
    } else {
        run_rows(c);
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
    give_all_back(&c->fresh, ERR_CANCELLED);
    give_all_back(&c->share_q, ERR_CANCELLED);
    give_all_back(&c->rows_q, ERR_CANCELLED);
    give_all_back(&c->next_q, ERR_CANCELLED);
    give_all_back(&c->call_q, ERR_CANCELLED);
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

/* --- how fast is this machine --- */

/* What one token reads in our layers on average, over what it reads in the last of them. */
static double average_layer(const struct compute_config *k)
{
    double all = 0, last = (double)arch_token_bytes(k->arch, k->hi - 1);
    for (uint32_t i = k->lo; i < k->hi; i++) all += (double)arch_token_bytes(k->arch, i);
    return last > 0 ? all / last / (k->hi - k->lo) : 1;
}

/* Rows as layers see them: numbers of magnitude 0.5 to 1 in the exchange type, so that experts are
 * chosen as various as in real prompts. */
static void fill_rows(const struct compute *c, uint8_t *x, uint32_t n)
{
    size_t width = ftype_bytes(c->c.arch->exchange);
    uint32_t r = 1;
    for (size_t i = 0; i < n * c->row_bytes; i += width) {
        r = r * 1664525 + 1013904223;
        uint16_t half = (uint16_t)(0x3f00 | (r >> 16 & 0x80ff));
        memset(x + i, 0, width);
        memcpy(x + i + width - 2, &half, 2);
    }
}

/* The middle one of the times of some rounds of n rows through layers [lo, hi): the first ones
 * bring the weights into memory.  0: it failed. */
static uint32_t time_rows(struct compute *c, uint32_t lo, uint32_t hi, uint32_t n,
                          uint32_t limit_us)
{
    struct batch *b = &c->prompts;
    uint32_t us[MEASURE_ROUNDS], rounds = 0;
    struct kv *kv;
    if (kv_open(&kv, c->c.arch, lo, hi, n * MEASURE_ROUNDS)) return 0;

    uint64_t start = uv_hrtime();
    while (rounds < MEASURE_ROUNDS && (rounds < MEASURE_LEAST || us_since(start) < limit_us)) {
        struct nonfinite bad;
        for (uint32_t i = 0; i < n; i++) b->rows[i] = (struct row){ kv, rounds * n + i };
        fill_rows(c, b->x, n);
        uint64_t round = uv_hrtime();
        if (stage_forward_part(c->stage, lo, hi, b->rows, n, b->x, &bad)) break;
        uint32_t took = us_since(round), at = rounds++;
        for (; at > 0 && us[at - 1] > took; at--) us[at] = us[at - 1];
        us[at] = took;
    }
    kv_close(kv);
    return rounds ? us[(rounds - 1) / 2] : 0;
}

/* All layers where they are small (one of them alone would stay in the cache); where they are large
 * the last one stands for all, so that a node of many large layers starts as fast as any. */
static void measure_layers(struct compute *c, struct pace *p)
{
    const struct compute_config *k = &c->c;
    uint32_t n = k->hi - k->lo;
    double us = time_rows(c, k->hi - 1, k->hi, 1, MEASURE_US) * average_layer(k);
    if (us * n < MEASURE_US / 8) us = (double)time_rows(c, k->lo, k->hi, 1, MEASURE_US / 2) / n;
    p->layer_us = us < 1 ? 1 : (uint32_t)(us + 0.5);

    /* Many rows touch all experts: on a cold disk that would take long. */
    bool is_small = arch_bytes(k->arch, k->hi - 1) <= MEASURE_BYTES;
    if (!is_small || us * MEASURE_ROWS > MEASURE_US || c->rows_max < MEASURE_ROWS) return;
    double batch = time_rows(c, k->hi - 1, k->hi, MEASURE_ROWS, MEASURE_US / 2) * average_layer(k);
    if (batch > 0) p->prefill = (uint32_t)(MEASURE_ROWS * 1e6 / batch);
}

static uint32_t measure_head(struct compute *c)
{
    uint32_t best_us = UINT32_MAX;
    uint64_t start = uv_hrtime();
    const struct sampling usual = { .temperature = 1, .top_p = 1 };
    fill_rows(c, c->x, 1);
    for (uint32_t i = 0; i < MEASURE_ROUNDS && us_since(start) < MEASURE_US; i++) {
        struct next_job j = {
            .x = c->x, .sampling = usual, .usable = c->c.arch->vocab, .position = i
        };
        struct nonfinite bad;
        uint64_t round = uv_hrtime();
        if (ends_logits(c->ends, c->x, 1, c->logits, &bad) || next_token(c, &j, c->logits)) break;
        uint32_t us = us_since(round);
        if (us < best_us) best_us = us;
    }
    return best_us == UINT32_MAX ? 0 : best_us ? best_us : 1;
}

struct pace compute_measure(struct compute *c)
{
    struct pace p = { 0 };
    if (c->c.lo < c->c.hi) measure_layers(c, &p);
    pieces_measure(&c->pieces, &p);
    if (c->ends) p.head_us = measure_head(c);
    return p;
}
