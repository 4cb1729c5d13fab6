/* forward.h - some consecutive layers of a model, computed for a batch of rows.
 *
 * A row is one position of one session; a batch may mix sessions and positions (rows of one session
 * in ascending order, without gaps).  A batch, a chunk of prefill, a thread count or a split
 * changes no bit: docs/arithmetic.md.
 *
 *     embed -> [rows in exchange type] -> stage_forward ... -> [rows] -> head -> logits
 *
 * Nothing here does I/O or starts a thread; workers come from outside. */
#ifndef MODEL_FORWARD_H
#define MODEL_FORWARD_H

#include "arch/arch.h"
#include "kernels/kernels.h"
#include "kernels/workers.h"

enum { BATCH_MAX = 512 }; /* rows in one call; also rows in one message */

/* K and V of one session on one stage, layers [lo, hi): [layer][kv head][K|V] in the manifest's kv
 * type, laid out for attention (stage.h), so in whole blocks of KV_BLOCK positions.  Memory is
 * reserved at once and touched as it fills. ERR_RANGE: cap is 0 or more than the model's context;
 * ERR_NOMEM. */
struct kv;
MUST_CHECK enum err kv_open(struct kv **out, const struct arch *a, uint32_t lo, uint32_t hi,
                            uint32_t cap);
void kv_close(struct kv *kv);         /* NULL is fine */
uint32_t kv_len(const struct kv *kv); /* positions held */
uint32_t kv_cap(const struct kv *kv);
/* Forget positions at and past len (len <= kv_len). */
void kv_trim(struct kv *kv, uint32_t len);
/* What a session of cap positions reserves, for admission. */
uint64_t kv_cost(const struct arch *a, uint32_t lo, uint32_t hi, uint32_t cap);

/* Whole blocks of positions as bytes, [layer][kv head][K, then V]: kv_cost(a, lo, hi, n) of them.
 * kv_save writes positions [pos, pos + n) of all its layers, held or just trimmed away; kv_load puts
 * them at the end, pos == kv_len; what follows in `in` is of further layers, and left alone.  pos
 * and n are multiples of KV_BLOCK. */
void kv_save(const struct kv *kv, uint32_t pos, uint32_t n, void *out);
void kv_load(struct kv *kv, uint32_t pos, uint32_t n, const void *in);

/* For measuring: len positions of random numbers of about size 1 (len <= kv_cap), as if so many had
 * been computed; and every byte that attention over the positions held reads, run by run. */
void kv_fill(struct kv *kv, uint32_t len, uint64_t seed);
void kv_each(const struct kv *kv, void (*f)(void *arg, const void *p, size_t n), void *arg);

/* One row of a batch. */
struct row {
    struct kv *kv;
    uint32_t pos; /* must be kv_len + (number of earlier rows of this kv in the batch) */
};

/* Where a number stopped being finite: the first such layer, and in it the first such row of the
 * batch. */
struct nonfinite {
    uint32_t layer; /* or ARCH_ENDS for the logits */
    uint32_t pos;
};

/* Someone who brings weights into memory before they are read, for example from a disk.  But for
 * wait, everything is called on the thread that calls stage_forward, in the order of the layers:
 *
 *     soon(trunk l) | wait, attention l | soon(trunk l + 1) maybe(experts l + 1)
 *                   | soon(experts l) wait, MLP l | done(l) | ...  */
struct pager {
    /* Asked before each call: false, and nothing is told during it. */
    bool (*wants)(struct pager *p);
    /* Will be read, some milliseconds from now where possible. */
    void (*soon)(struct pager *p, const struct tensor *w);
    /* An expert that may be chosen (foresee.c), a row's rank-th likeliest.  NULL: no guesses. */
    void (*maybe)(struct pager *p, const struct tensor *w, uint32_t rank);
    /* Is it there, as far as is known? */
    bool (*here)(struct pager *p, const struct tensor *w);
    /* Is read now: return when it is there.  Any thread, also several. */
    void (*wait)(struct pager *p, const struct tensor *w);
    /* What was announced of this layer will not be read again. */
    void (*done)(struct pager *p, uint32_t layer);
};

/* Layers [lo, hi) with their scratch.  Touched by one thread at a time. */
struct stage;

/*   layers    [hi - lo], borrowed until stage_close.  A layer of which tensors are not held can be
 *             computed together with others only (share.h)
 *   k, w      borrowed until stage_close
 *   rows_max  1..BATCH_MAX */
MUST_CHECK enum err stage_open(struct stage **out, const struct arch *a, const struct layer *layers,
                               uint32_t lo, uint32_t hi, uint32_t rows_max, const struct kernels *k,
                               struct workers *w);
void stage_close(struct stage *s);
/* p is told from now on; borrowed until stage_close.  NULL: nobody. */
void stage_tell(struct stage *s, struct pager *p);

/* Compute the stage's layers for n rows, in place.
 *
 *   x   [n][arch_row_bytes]: inputs in exchange type; outputs of the last layer on return
 *
 * ERR_RANGE: a position is not the next one of its kv, or past its capacity; nothing changed.
 * ERR_NOTFOUND: part of layer bad->layer is not held; nothing changed.
 * ERR_NONFINITE: bad names the place; the kv of every row is left at its length before the call. */
MUST_CHECK enum err stage_forward(struct stage *s, const struct row *rows, uint32_t n, void *x,
                                  struct nonfinite *bad);

/* The same for layers [lo, hi) within the stage's: several pipelines may want different parts of
 * what a node holds, and scratch is the same for all. */
MUST_CHECK enum err stage_forward_part(struct stage *s, uint32_t lo, uint32_t hi,
                                       const struct row *rows, uint32_t n, void *x,
                                       struct nonfinite *bad);

/* For measuring, or to do something in between: lap is called on the caller's thread whenever a part of a layer is done, from the
 * next stage_forward on; NULL: no more. */
enum stage_part { STAGE_ENTER, STAGE_ATTENTION, STAGE_MLP };
typedef void stage_lap(void *arg, uint32_t layer, enum stage_part done);
void stage_laps(struct stage *s, stage_lap *lap, void *arg);

/* The coordinator's part: embedding in, logits out. */
struct ends;
MUST_CHECK enum err ends_open(struct ends **out, const struct arch *a, const struct layer *weights,
                              uint32_t rows_max, const struct kernels *k, struct workers *w);
void ends_close(struct ends *e);
/* x [n][arch_row_bytes] = X(embedding rows), any n.  ERR_RANGE: an id is not below the vocabulary;
 * ERR_NONFINITE: a row is too large for the exchange type. */
MUST_CHECK enum err ends_embed(struct ends *e, const int32_t *ids, uint32_t n, void *x);
/* logits [n][vocab] of rows x [n][arch_row_bytes], n in 1..rows_max.  ERR_NONFINITE with bad->pos =
 * row index. */
MUST_CHECK enum err ends_logits(struct ends *e, const void *x, uint32_t n, float *logits,
                                struct nonfinite *bad);

/* Memory that a stage of n_layers takes at most: scratch for rows_max rows and, touched only as
 * contexts grow, scores for the model's whole context and each thread. */
uint64_t stage_cost(const struct arch *a, uint32_t n_layers, uint32_t rows_max, unsigned threads);
/* The most rows, a power of two up to BATCH_MAX, whose scratch fits in so many bytes; at least 1.
 */
uint32_t stage_rows_within(const struct arch *a, uint32_t n_layers, unsigned threads,
                           uint64_t bytes);

#endif
