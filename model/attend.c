/* attend.c - softmax(q k^T / sqrt(head_dim)) v, causal, over head groups.
 *
 * Source: Vaswani 2017 eq. 1 with grouped queries (Ainslie 2023); order of sums:
 * docs/arithmetic.md.
 *
 * A job is a head group and a few neighbouring rows of one session: all their query heads pass over
 * the keys and the values together, so each is read from memory once a job.  Softmax needs no
 * second pass over V: the scores are kept, so the largest is known before the first exp, and each
 * chunk of 512 positions is a sum of its own.  So a job has three steps, the first two apart for
 * each chunk:
 *
 *     scores of a chunk, its largest | exp, weighing with a chunk's V | sums of chunks in order
 *
 * Usually a lane does whole jobs.  When fewer jobs are left than lanes (one row of a model with few
 * KV heads), the lanes share the chunks of those that are left, in three passes. */
#include "model/stage.h"

#include <math.h>
#include <string.h>

/* Query heads that pass over keys and values together, if rows suffice: enough that loading and
 * widening a key costs little beside its products, few enough that the scores of a job on a long
 * context stay in a cache. */
enum { HEADS_TOGETHER = 48 };

uint32_t attend_heads(const struct stage *s)
{
    uint32_t rows = HEADS_TOGETHER / s->per_group;

    if (rows > s->rows_max) rows = s->rows_max;
    return s->per_group * (rows ? rows : 1);
}

/* --- what a job is --- */

/* Rows [i, i + rows) of the batch, one after the other in one session. */
struct job {
    struct stage *s;
    const struct scratch *t;
    const uint8_t *k, *v; /* the head group's */
    const float *q;       /* [rows][per_group][hd] */
    uint32_t g, i, rows;
    uint32_t len; /* positions that the last row sees */
    uint32_t chunks;
    struct heads heads;
};

static uint32_t block_rows(const struct stage *s, uint32_t block)
{
    uint32_t end = block + 1 < s->n_blocks ? s->block[block + 1] : s->n;
    return end - s->block[block];
}

/* Neighbouring rows of a session in blocks. */
void attend_plan(struct stage *s)
{
    uint32_t most = attend_heads(s) / s->per_group;

    s->n_blocks = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        bool is_next = i > 0 && s->row[i].kv == s->row[i - 1].kv;
        if (!is_next || i - s->block[s->n_blocks - 1] >= most) s->block[s->n_blocks++] = i;
    }
}

/* Job u: blocks of rows of head group g_lo, then the next, ..., so that neighbours in time read the
 * same keys and values. */
static struct job job_of(struct stage *s, uint32_t layer, uint32_t u, const struct scratch *t)
{
    const struct arch *a = s->a;
    uint32_t g = s->g_lo + u / s->n_blocks, block = u % s->n_blocks, i = s->block[block];
    struct job j = { .s = s, .t = t, .g = g, .i = i, .rows = block_rows(s, block) };

    j.k = kv_k(s->row[i].kv, layer, g);
    j.v = kv_v(s->row[i].kv, layer, g);
    j.q = s->q + ((size_t)i * a->n_heads + (size_t)g * s->per_group) * a->head_dim;
    j.len = s->row[i].pos + j.rows;
    j.chunks = (j.len + KV_CHUNK - 1) / KV_CHUNK;
    j.heads =
        (struct heads){ j.rows * s->per_group, a->head_dim, a->kv, KV_CHUNK + SCORES_PADDING };
    return j;
}

/* The scores of a chunk: [heads][stride]. */
static float *chunk_scores(const struct job *j, uint32_t c)
{
    return j->t->score + (size_t)c * j->heads.n * j->heads.stride;
}

static float *chunk_sums(const struct job *j, uint32_t c)
{
    return j->t->o + (size_t)c * j->heads.n * j->heads.hd;
}

/* How many positions of chunk c row r of the job sees. */
static uint32_t seen(const struct job *j, uint32_t r, uint32_t c)
{
    uint32_t len = j->len - (j->rows - 1 - r), from = c * KV_CHUNK;

    if (len <= from) return 0;
    return len - from < KV_CHUNK ? len - from : KV_CHUNK;
}

/* --- its steps; `own` is the calling lane's scratch, j->t the job's --- */

/* The queries of several rows side by side. */
static const float *gather(const struct job *j, float *q)
{
    const struct stage *s = j->s;
    size_t group = (size_t)s->per_group * s->a->head_dim;

    if (j->rows == 1) return j->q;
    for (uint32_t r = 0; r < j->rows; r++)
        memcpy(q + r * group, j->q + (size_t)r * s->a->n_heads * s->a->head_dim, group * sizeof *q);
    return q;
}

/* Scores and their largest, for chunks [c0, c1).  Rows that do not see the last positions get
 * scores for them too, which nobody reads. */
static void score_chunks(const struct job *j, const struct scratch *own, uint32_t c0, uint32_t c1)
{
    const struct stage *s = j->s;
    size_t chunk = (size_t)KV_CHUNK * j->heads.hd * ftype_bytes(j->heads.kv);
    float scale = (float)(1.0 / sqrt((double)j->heads.hd));
    const float *q = gather(j, own->q);

    for (uint32_t c = c0; c < c1; c++) {
        float *score = chunk_scores(j, c);
        s->k->scores(score, q, j->k + c * chunk, &j->heads, seen(j, j->rows - 1, c), scale);
        for (uint32_t h = 0; h < j->heads.n; h++) {
            uint32_t n = seen(j, h / s->per_group, c);
            if (n > 0) j->t->max[h * s->chunks + c] = s->k->max(score + h * j->heads.stride, n);
        }
    }
}

/* o_C of every head.  All rows see some positions, and the later rows a few more. */
static void weigh_chunk(const struct job *j, uint32_t c)
{
    const struct kernels *k = j->s->k;
    uint32_t per = j->s->per_group, hd = j->heads.hd, common = seen(j, 0, c);
    size_t row = hd * ftype_bytes(j->heads.kv);
    const uint8_t *v = j->v + (size_t)c * KV_CHUNK * row;
    float *o = chunk_sums(j, c);
    const float *e = chunk_scores(j, c);

    memset(o, 0, (size_t)j->heads.n * hd * sizeof *o);
    k->weigh(o, e, v, &j->heads, common);
    for (uint32_t r = 1; r < j->rows; r++) {
        struct heads one = j->heads;
        size_t h = (size_t)r * per;
        one.n = per;
        k->weigh(o + h * hd, e + h * one.stride + common, v + common * row, &one,
                 seen(j, r, c) - common);
    }
}

/* Z_C and o_C for chunks [c0, c1). */
static void weigh_chunks(const struct job *j, const struct scratch *own, uint32_t c0, uint32_t c1)
{
    const struct stage *s = j->s;

    for (uint32_t h = 0; h < j->heads.n; h++) {
        uint32_t len = j->len - (j->rows - 1 - h / s->per_group);
        own->top[h] = s->k->max(j->t->max + h * s->chunks, (len + KV_CHUNK - 1) / KV_CHUNK);
    }
    for (uint32_t c = c0; c < c1; c++) {
        for (uint32_t h = 0; h < j->heads.n; h++) {
            float *score = chunk_scores(j, c) + h * j->heads.stride;
            uint32_t n = seen(j, h / s->per_group, c);
            if (n > 0) j->t->z[h * s->chunks + c] = s->k->exp_sum(score, n, own->top[h]);
        }
        weigh_chunk(j, c);
    }
}

/* a = o / Z of every row, into the vectors that go into o's product. */
static void finish(const struct job *j, const struct scratch *own)
{
    struct stage *s = j->s;
    uint32_t hd = j->heads.hd, per = s->per_group;
    size_t group = (size_t)per * hd;

    for (uint32_t r = 0; r < j->rows; r++) {
        float *a = own->a;
        memset(a, 0, group * sizeof *a);
        for (uint32_t c = 0; seen(j, r, c) > 0; c++)
            s->k->add(a, a, chunk_sums(j, c) + r * group, (uint32_t)group);
        for (uint32_t h = 0; h < per; h++) {
            float z = 0;
            for (uint32_t c = 0; seen(j, r, c) > 0; c++)
                z += j->t->z[(r * per + h) * s->chunks + c];
            for (uint32_t i = 0; i < hd; i++) a[h * hd + i] /= z;
        }
        if (!vecs_put(&s->attn[j->g], s->k, j->i + r, 0, a, (uint32_t)group)) mark_bad(s, j->i + r);
    }
}

/* --- jobs over lanes --- */

struct attend_pass {
    struct stage *s;
    uint32_t layer;
    uint32_t first;  /* the first job that lanes share */
    uint32_t chunks; /* of each of those, at most */
};

/* Units: jobs. */
static void whole_range(void *arg, unsigned lane, uint32_t lo, uint32_t hi)
{
    struct attend_pass *p = arg;
    const struct scratch *own = &p->s->lane[lane].attend;

    for (uint32_t u = lo; u < hi; u++) {
        struct job j = job_of(p->s, p->layer, u, own);
        score_chunks(&j, own, 0, j.chunks);
        weigh_chunks(&j, own, 0, j.chunks);
        finish(&j, own);
    }
}

/* Shared job n, in the scratch of lane n. */
static struct job shared_job(const struct attend_pass *p, uint32_t n)
{
    return job_of(p->s, p->layer, p->first + n, &p->s->lane[n].attend);
}

/* Units: chunks of the shared jobs. */
static void score_range(void *arg, unsigned lane, uint32_t lo, uint32_t hi)
{
    struct attend_pass *p = arg;

    for (uint32_t u = lo; u < hi; u++) {
        struct job j = shared_job(p, u / p->chunks);
        uint32_t c = u % p->chunks;
        if (c < j.chunks) score_chunks(&j, &p->s->lane[lane].attend, c, c + 1);
    }
}

static void weigh_range(void *arg, unsigned lane, uint32_t lo, uint32_t hi)
{
    struct attend_pass *p = arg;

    for (uint32_t u = lo; u < hi; u++) {
        struct job j = shared_job(p, u / p->chunks);
        uint32_t c = u % p->chunks;
        if (c < j.chunks) weigh_chunks(&j, &p->s->lane[lane].attend, c, c + 1);
    }
}

/* Units: the shared jobs. */
static void finish_range(void *arg, unsigned lane, uint32_t lo, uint32_t hi)
{
    struct attend_pass *p = arg;

    for (uint32_t u = lo; u < hi; u++) {
        struct job j = shared_job(p, u);
        finish(&j, &p->s->lane[lane].attend);
    }
}

static uint64_t macs_of(const struct stage *s)
{
    enum { ROW = 48 }; /* a row's own sums, divisions and quantizing take as long as 48 positions */
    uint64_t positions = 0;

    for (uint32_t i = 0; i < s->n; i++) positions += s->row[i].pos + ROW;
    return positions * 2 * (s->g_hi - s->g_lo) * s->per_group * s->a->head_dim;
}

/* What the lanes cannot share evenly as whole jobs.  (Many jobs even out by themselves.) */
static uint32_t jobs_left(const struct stage *s, uint32_t jobs)
{
    return jobs < 4 * s->w->n ? jobs % s->w->n : 0;
}

void attend(struct stage *s, uint32_t layer)
{
    struct attend_pass p = { .s = s, .layer = layer };
    uint32_t jobs = (s->g_hi - s->g_lo) * s->n_blocks, left = jobs_left(s, jobs), last = 0;
    uint64_t macs = macs_of(s);

    for (uint32_t i = 0; i < s->n; i++) last = last < s->row[i].pos ? s->row[i].pos : last;
    p.chunks = last / KV_CHUNK + 1;
    if (p.chunks == 1 || macs < pass_fork_macs) left = 0;
    p.first = jobs - left;
    pass_run(s->w, whole_range, &p, p.first, 1, macs / jobs * p.first);
    if (left == 0) return;

    macs = macs / jobs * left;
    pass_run(s->w, score_range, &p, left * p.chunks, 1, macs / 2);
    pass_run(s->w, weigh_range, &p, left * p.chunks, 1, macs / 2);
    pass_run(s->w, finish_range, &p, left, 1, 0);
}
