/* compute_rows.c - rows go through layers together: gathered from the sessions whose turn it is,
 * computed, given back. */
#include "proto/chain.h"
#include "proto/waves.h"
#include "stage/compute_impl.h"

#include <sched.h>
#include <string.h>

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

/* --- gather, compute, scatter --- */

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
        job_give_back_quietly(j, j->err, &asleep);
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

/* Does anybody still want the prompts under way? */
static bool is_wanted(const struct batch *b)
{
    for (uint32_t i = 0; i < b->n_parts; i++)
        if (!b->part[i].job->cancelled) return true;
    return false;
}

void compute_run_rows(struct compute *c)
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
    jobs_give_back(&unfit, ERR_RANGE);
    if (c->tokens.n_parts > 0)
        run_tokens(c);
    else if (c->prompts.n_parts > 0)
        run_prompts(c, wanted);
}
