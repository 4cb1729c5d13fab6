/* compute_impl.h - what the files of the compute thread share: compute.c (its queues and its life),
 * compute_rows.c (rows through layers), compute_next.c (rows to tokens) and compute_pace.c (how
 * fast it is); nobody else includes it. */
#ifndef STAGE_COMPUTE_IMPL_H
#define STAGE_COMPUTE_IMPL_H

#include "proto/fair.h"
#include "stage/compute.h"
#include "stage/pieces.h"
#include "stage/turns.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    NEXT_MAX = DRAFT_MAX + 1, /* rows that tokens are picked from in one go */
    TURNS_MAX = 8,            /* parts of our layers whose turn is remembered */
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

static inline uint32_t us_since(uint64_t start_ns)
{
    uint64_t us = (uv_hrtime() - start_ns) / 1000;
    return us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

/* --- queues; callers hold the lock --- */

static inline void queue_init(struct queue *q)
{
    *q = (struct queue){ .last = &q->first };
}

static inline void queue_put(struct queue *q, struct job *j)
{
    j->next = NULL;
    *q->last = j;
    q->last = &j->next;
    q->n++;
}

/* Unlink the job that *at points to. */
static inline struct job *queue_unlink(struct queue *q, struct job **at)
{
    struct job *j = *at;
    *at = j->next;
    if (q->last == &j->next) q->last = at;
    j->next = NULL;
    q->n--;
    return j;
}

/* The job of which j is the second half. */
static inline struct decode_job *decode_of_next(struct job *j)
{
    return (struct decode_job *)(void *)((char *)j - offsetof(struct decode_job, next));
}

/* --- giving jobs back, without the lock --- */

/* asleep: as actor_post_quietly. */
void job_give_back_quietly(struct job *j, enum err e, struct hub **asleep);
void job_give_back(struct job *j, enum err e);
void jobs_give_back(struct queue *q, enum err e);

/* --- what the thread does --- */

/* The rows whose turn it is.  Called with the lock; returns without. */
void compute_run_rows(struct compute *c);
/* Tokens of these jobs.  Without the lock. */
void compute_run_next(struct compute *c, struct queue *jobs);
/* By the logits [1 + drafts][vocab] of j's rows, which are overwritten: its token or tokens, and the
 * rows that are computed next. */
enum err compute_next_token(struct compute *c, struct next_job *j, float *logits);

#endif
