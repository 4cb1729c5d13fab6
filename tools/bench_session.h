/* bench_session.h - a whole model in this process whose steps are timed by part. */
#ifndef TOOLS_BENCH_SESSION_H
#define TOOLS_BENCH_SESSION_H

#include "tools/bench.h"
#include "tools/local.h"

struct sharer;

/* What a step spends its time on. */
enum bench_part {
    SPENT_ATTENTION, /* norm to residual, all layers */
    SPENT_DENSE,     /* MLPs of dense layers */
    SPENT_MOE,       /* router, experts and shared expert */
    SPENT_HEAD,      /* output head */
    SPENT_REST,      /* embedding, conversions */
    PARTS,
};
const char *bench_part_name(enum bench_part p);

/* The rows of a step are `batch` sessions of one position each, or one session of several. */
struct bench_session {
    struct bench *b;
    struct local local;
    const struct arch *arch;
    uint32_t batch;
    struct kv **kv;        /* [batch]; the first is the local's, the others are owned */
    uint8_t *x;            /* owned; [rows][arch_row_bytes] */
    float *logits;         /* owned; [batch][vocab] */
    struct row *rows;      /* owned; [rows] */
    int32_t *ids;          /* owned; [rows] */
    struct sharer *sharer; /* of the layers; NULL: nobody */
    uint64_t random;       /* of ids and of experts that are read */
    enum err err;          /* of a step */
    struct why why;

    double part[PARTS]; /* seconds of the steps since they were set to 0 */
    double last;        /* when the part before ended */
};

/* Open the model with the options of b; s is zero but for the first part of s->local, and is to be
 * closed whatever comes back.
 * rows: of a step, at least batch. */
MUST_CHECK enum err bench_session_open(struct bench_session *s, struct bench *b, const char *dir,
                                       const char *model, uint32_t batch, uint32_t rows,
                                       struct why *why);
void bench_session_close(struct bench_session *s);

/* Let every session hold len positions of random K and V. */
void bench_session_fill(struct bench_session *s, uint32_t len);

/* One more position of every session, logits included; then the sessions are as before. */
void bench_session_decode(struct bench_session *s);
/* n positions of the first session from its start in chunks of rows, logits of the last. */
void bench_session_prefill(struct bench_session *s, uint32_t n, uint32_t rows);

/* Different experts that a layer computes for so many rows, when every row chooses at random. */
uint32_t bench_experts(const struct arch *a, uint32_t rows);
/* Bytes that a step reads, by part; K and V included. */
void bench_session_bytes(const struct bench_session *s, double bytes[PARTS]);
/* Multiplications and additions of the weights and of attention for n positions from the start. */
double bench_session_flop(const struct bench_session *s, uint32_t n);

/* Read all that a decode step reads, other experts each time. */
void bench_session_read(struct bench_session *s);
/* Touch all tiles once, so that none is read from the disk later. */
void bench_session_warm(struct bench_session *s);

#endif
