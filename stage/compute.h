/* compute.h - the worker thread that computes: jobs go in, finished jobs come back as notes.
 *
 *     stage actor ----rows_job---->  queue  ----> one thread + the pool ----note----> who asked
 *     coordinator --next, call---->
 *     both ----------decode------->
 *     member ------share_job------>
 *
 * One thread owns the layers' scratch, the ends and the sampler; it forks into the pool's threads
 * inside a step.  It does no I/O.  Rows of all sessions that are ready go through the layers
 * together; prompts go some layers at a time, so that others' tokens pass in between (turns.h), and
 * coordinators have equal shares of them.  None of this changes a bit of any result.
 *
 * Submitting moves a job's ownership to the thread, its note moves it back.  The queue has the
 * only lock besides the mailboxes'. */
#ifndef STAGE_COMPUTE_H
#define STAGE_COMPUTE_H

#include "model/draft.h"
#include "model/share.h"
#include "model/tally.h"
#include "net/actor.h"

struct compute;

enum job_kind { JOB_ROWS, JOB_NEXT, JOB_CALL, JOB_DECODE_ROWS, JOB_DECODE_NEXT, JOB_SHARE };

struct job {
    struct note note;     /* first; kind and drop are the submitter's */
    struct actor *to;     /* gets the note; the job is dropped when that actor has gone */
    enum job_kind kind;   /* set by compute_submit_... */
    enum err err;         /* result; ERR_CANCELLED: by compute_cancel, or the node is stopping */
    struct nonfinite bad; /* with ERR_NONFINITE */
    uint32_t wait_us, compute_us;
    uint64_t finished_ns; /* on uv_hrtime's clock */
    /* the queue's */
    struct job *next;
    uint64_t submitted_ns;
};

/* Rows through the layers, in place.  A session's jobs are submitted in order of position. */
struct rows_job {
    struct job job;
    uint32_t lo, hi; /* which of the layers; also the kv's */
    struct kv *kv;   /* touched by the thread until the job is back */
    uint32_t pos, n;
    uint8_t *x;        /* [n][arch_row_bytes], any alignment; borrowed until the job is back */
    bool is_token;     /* few rows of a running answer, that somebody waits for; else of a prompt */
    uint8_t rank;      /* of a prompt: a lower one goes first */
    uint64_t who;      /* has his share of prompts (fair.h) */
    uint32_t together; /* jobs of tokens of `who` in one batch, at most (waves.h); 0: any number */
    struct sharer *sharer; /* of its session from first to last; NULL: nobody.  Borrowed */
    /* Where the rows' hashes (proto/chain.h) go as they enter, that of position hash_pos first, a
     * decode_job's all; borrowed likewise.  NULL: nobody wants them. */
    uint8_t *hashes;
    uint32_t hash_pos;
    /* compute's */
    uint32_t done; /* rows already computed */
    bool in_batch, cancelled;
};

/* Drafts that a step went with, what came of them, and those of the next one (draft.h). */
struct drafting {
    struct drafter *drafter; /* touched by the thread until the job is back */
    const int32_t *ids; /* [n_ids] all before the first token to be picked; borrowed likewise */
    uint32_t n_ids;
    const int32_t *eos; /* [n_eos] the last token if picked; borrowed likewise */
    uint32_t n_eos;
    uint32_t limit;           /* tokens at most; at least 1 */
    uint32_t most;            /* drafts of the next step, at most DRAFT_MAX */
    uint32_t n_context;       /* rows before, which nothing is picked from */
    bool is_disturbed;        /* the step took longer than steps do */
    int32_t draft[DRAFT_MAX]; /* of the step; result: of the next one */
    uint32_t n_drafts;
    int32_t token[DRAFT_MAX + 1]; /* result: the drafts that were right, and one more */
    uint32_t n_tokens;
    uint32_t n_guessed, n_right; /* result, also of a decode_job's all steps; 0, 0 before */
};

/* One hidden row to the next token, and that token's embedding row; or, with drafts, the rows of
 * the last token and of each draft to the tokens that are drawn at their places. */
struct next_job {
    struct job job;
    uint8_t *x; /* [arch_row_bytes] hidden row in, embedding of token out; borrowed.  With drafts
                 * [n_context + 1 + n_drafts] in, [1 + n_drafts] out: token's and the next drafts'
                 */
    struct sampling sampling;
    struct tally *tally;       /* touched by the thread until the job is back; NULL: none */
    uint32_t usable;           /* ids at or past it are never picked */
    uint32_t together;         /* jobs in one go, at most; 0: as many as fit */
    uint64_t position;         /* of the (first) token to be picked */
    int32_t token;             /* result: the (last) one */
    struct drafting *drafting; /* NULL: one row, one token */
};

enum { DECODE_MAX = 64, DECODE_US = 2000 };

/* Tokens of one session one after the other, for a node that holds every layer and the ends: a row
 * becomes a token, the token the next row, without a turn of the loop in between.  It is back after
 * DECODE_US or the token under way then, so whoever reads along notices nothing.  Between two steps
 * other jobs have their turn as ever, and the steps of several sessions are computed together. */
struct decode_job {
    struct rows_job
        rows; /* first; x, pos: the row to begin with; x then: that of the last token; with drafts
               * x has room for [1 + DRAFT_MAX], holds those of the first ones, and of the next */
    struct next_job next; /* sampling, usable, drafting as there; the rest is compute's */
    const int32_t *eos;   /* [n_eos] the last token if picked; borrowed until the job is back */
    uint32_t n_eos;
    uint32_t limit; /* tokens, 1 .. DECODE_MAX */
    int32_t token[DECODE_MAX];
    uint32_t n_tokens; /* result, also beside an error: token[n_tokens] */
};

static inline uint32_t next_job_drafts(const struct next_job *j)
{
    return j->drafting ? j->drafting->n_drafts : 0;
}

/* Anything else that needs the ends or takes longer than the loop may wait. */
struct call_job {
    struct job job;
    /* On the compute thread; e is NULL when the node holds no ends.  Returns job.err. */
    enum err (*run)(struct call_job *j, struct ends *e);
};

/* Work for a leader elsewhere (pieces.h). */
struct share_job {
    struct job job;
    struct share_work work; /* passed share_check; borrowed, and kvs touched, until it is back */
    uint8_t *out;           /* [share_answer_bytes] borrowed until it is back */
};

struct compute_config {
    const struct arch *arch;    /* all borrowed until compute_close */
    const struct layer *layers; /* [hi - lo] held wholly; may be NULL when lo == hi */
    uint32_t lo, hi;
    const struct layer *all; /* [all_hi - all_lo] held wholly or in parts; NULL: layers, lo, hi */
    uint32_t all_lo, all_hi;
    const struct layer *ends;    /* NULL: none */
    const struct layer *predict; /* the prediction layer; NULL: none */
    struct pager *pager;         /* NULL: none */
    const struct kernels *kernels;
    struct workers *workers;
    int nice; /* of the thread, as pool_nice */
    /* Whose thread submits rows and tokens: they begin when a turn of its loop is over, so that
     * those that arrive together are computed together.  NULL: nobody's, they begin at once. */
    struct hub *hub;
};

/* Starts the thread.  ERR_NOMEM. */
MUST_CHECK enum err compute_open(struct compute **out, const struct compute_config *c,
                                 struct why *why);
/* Cancels what waits, finishes the step being computed, joins the thread. */
void compute_close(struct compute *c); /* NULL is fine */

/* Rows and tokens: with a hub, on its thread only. */
void compute_rows(struct compute *c, struct rows_job *j);
void compute_next(struct compute *c, struct next_job *j);
void compute_call(struct compute *c, struct call_job *j);
/* rows.job comes back, with the layers' time; next.job.compute_us is the picking's. */
void compute_decode(struct compute *c, struct decode_job *j);

/* Before everything else, see pieces.h. */
void compute_share(struct compute *c, struct share_job *j);

/* Inside sharer.ask and collect, on the compute thread: return when ready(arg) says so (it is
 * called with the queue's lock held), or when the node is stopping.  Meanwhile others' share_jobs
 * are done.  compute_wake, from any thread: ready may have changed. */
void compute_wait(struct compute *c, bool (*ready)(void *arg), void *arg);
void compute_wake(struct compute *c);

/* Send back, cancelled, every waiting job of this kv; the one being computed comes back by itself.
 */
void compute_cancel(struct compute *c, const struct kv *kv);

/* Jobs that wait, for announcements and PONGs. */
unsigned compute_depth(struct compute *c);

/* How fast this machine is, from short runs on the calling thread; only before the first job. */
struct pace {
    uint32_t layer_us; /* one row through one of the layers; 0 without layers */
    uint32_t prefill;  /* rows a second through one layer, of a prompt; 0 unknown: no layers, or
                          layers so large that finding out takes long */
    uint32_t head_us;  /* a hidden row to the next token's embedding; 0 without ends */
    uint32_t heads_us, expert_us, dense_us; /* one row through one head group, ...; 0 without */
};
struct pace compute_measure(struct compute *c);

#endif
