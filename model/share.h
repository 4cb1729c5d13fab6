/* share.h - a layer computed by several nodes: the arithmetic of it, without a network.
 *
 * One node leads a layer: it holds the trunk (norms, router, shared expert) and the residual.
 * Others, its members, compute pieces: what one head group, one expert or one dense part adds to a
 * row.  A piece is a vector as wide as the residual, rounded to the exchange type; a row's pieces
 * are added in one order (docs/arithmetic.md), so that it matters to no bit who made which.  At two
 * moments of a layer all that is missing are pieces, and there leader and members meet:
 *
 *     leader                                             member
 *     norm(x), quantized         --- ask, SHARE_HEADS -->  q k v, rope, its K and V, attention, o
 *     its own head groups         <------ pieces ---------
 *     h = x + sum of head groups
 *     norm(h), quantized; router --- ask, SHARE_EXPERTS -->  gate, up, down, times the weights
 *     its own, the shared expert  <------ pieces ---------
 *     x = X(h + sum)                                     (a dense layer: SHARE_DENSE likewise)
 *
 * What is asked travels as the product reads it (int8 and scales, or f32): nothing is rounded on
 * the way.  What comes back are the terms of the sum; or, where pieces of one member come first in
 * a row's sum, that beginning of the sum in f32: the same bits in fewer bytes.
 *
 * Non-finite numbers: a member answers NaN in every piece of such a row, and so the leader finds
 * it, in that layer, as it would have alone.
 *
 * Everything below is touched by one thread at a time. */
#ifndef MODEL_SHARE_H
#define MODEL_SHARE_H

#include "model/forward.h"

/* --- which parts of a layer --- */

struct share_set {
    uint64_t bit[ARCH_EXPERTS_MAX / 64];
};
static inline bool share_has(const struct share_set *s, uint32_t i)
{
    return s->bit[i / 64] >> i % 64 & 1;
}
static inline void share_add(struct share_set *s, uint32_t lo, uint32_t hi)
{
    for (uint32_t i = lo; i < hi; i++) s->bit[i / 64] |= UINT64_C(1) << i % 64;
}

/* What a node holds of a layer.  Dense parts by their numbers in the manifest.  Head groups count
 * only together with the norms of q and k, where a model has them: two short vectors of the trunk
 * that whoever holds head groups holds too. */
struct share {
    bool trunk;
    struct share_set heads, experts, dense; /* experts empty in a dense layer, dense in a MoE one */
};
/* The parts of a layer all of whose tensors are bound. */
void share_of(struct share *out, const struct arch *a, const struct layer *l);
/* Does it hold every part? */
bool share_whole(const struct share *s, const struct arch *a, uint32_t layer);

/* --- the leader's side --- */

/* The numbers are on the wire. */
enum share_kind { SHARE_HEADS = 1, SHARE_EXPERTS = 2, SHARE_DENSE = 3 };

/* The pieces of a batch at one moment of a layer: row i has `width` pieces, column j of row i is
 * piece i * width + j, added in the order of j. */
struct share_ask {
    enum share_kind kind;
    uint32_t layer;
    uint32_t n;               /* rows, 1..BATCH_MAX */
    uint32_t width;           /* head groups, dense parts that are not empty, or top_k */
    const struct row *row;    /* [n] */
    const struct acts *x;     /* [n] what the products read */
    const uint32_t *number;   /* [width] of the head group or dense part; NULL: experts */
    const uint32_t *chosen;   /* experts: [n][width] ascending in each row */
    const float *weight;      /* experts: [n][width] */
    const struct share *held; /* by the leader; heads also: of which its sessions hold K and V */
};

/* Where pieces came from: memory of the sharer, valid until its next ask; any alignment. */
struct share_answer {
    const uint8_t **piece; /* [n][width] in exchange type; NULL: not there */
    const uint8_t **sum;   /* [n] f32, the sum of the row's first lead[i] pieces; NULL: none */
    uint8_t *lead;         /* [n] */
};

/* Whoever brings a leader and its members together.  Called on the thread that computes. */
struct sharer {
    /* Says which pieces are computed elsewhere (away [n][width], all false before; of heads and
     * dense parts whole columns) and sends for them.  What the leader does not hold must be
     * away, else the call ends with ERR_NOTFOUND.  An error ends the call with it. */
    enum err (*ask)(struct sharer *s, const struct share_ask *q, bool *away);
    /* Waits for what was asked, and fills in pieces that were away.  Experts and dense parts that
     * are still missing the leader computes itself, if it holds them, else ERR_NOTFOUND.  An
     * error ends the call with it.  Called once after every good ask unless nothing was away. */
    enum err (*collect)(struct sharer *s, const struct share_ask *q, struct share_answer *to);
};

/* stage_forward_part with a group's help.  The stage may hold any parts of [lo, hi), with every
 * trunk.
 *
 *   by    NULL: nobody; then every part must be held
 *
 * K and V of head groups that are away are not in the rows' kv; so a session stays with the
 * sharer that it began with, which sends the same head groups away every time.
 * Besides stage_forward's errors, ERR_NOTFOUND: a part is neither held nor away; those of the
 * sharer; ERR_NOMEM.  bad->layer is then the layer; the kv of every row is left at its length, and
 * the same positions may be computed again, by members too. */
MUST_CHECK enum err stage_forward_shared(struct stage *s, uint32_t lo, uint32_t hi,
                                         const struct row *rows, uint32_t n, void *x,
                                         struct sharer *by, struct nonfinite *bad);

/* Memory that a stage takes in addition when it shares, at most. */
uint64_t share_cost(const struct arch *a, uint32_t rows_max);

/* --- who computes which experts --- */

/* One that can: hand 0 is the leader. */
struct share_hand {
    const struct share_set *experts; /* that it holds */
    double start_us;                 /* what it does besides: the shared expert, the link */
    double expert_us, row_us;        /* to read an expert; for each of its rows in addition */
};
enum { SHARE_HANDS_MAX = 16, SHARE_NOBODY = 0xff };

/* who [n][width]: the hand that computes each piece, so that all are done at about the same time,
 * every expert by one of them, and members have the beginnings of sums where it makes no
 * difference.  SHARE_NOBODY where nobody holds it. */
void share_deal(const struct share_ask *q, const struct share_hand *hands, unsigned n_hands,
                uint8_t *who);

/* --- what travels --- */

/* Bytes of one row of what the products of that kind read: int8 [blocks * 32], f32 scale
 * [blocks]; or f32 [hidden].  Little endian. */
size_t share_x_bytes(const struct arch *a, enum share_kind k);

/* What one member is asked: rows of one layer.  Bytes may come from a peer. */
struct share_work {
    enum share_kind kind;
    uint32_t layer;
    uint32_t n;            /* rows, 1..BATCH_MAX */
    const struct row *row; /* heads: [n], with the member's kv; else not read */
    const uint8_t *x;      /* [n][share_x_bytes] */
    uint32_t lo, hi;       /* heads, dense: numbers of the parts */
    uint32_t lead;         /* heads, dense: that many of them (not empty ones) as their sum */
    const uint8_t *picks;  /* experts: see share_pick_bytes */
    size_t picks_len;
};

/* The picks of a row: u8 count 1..top_k, u8 lead 0..count, then count times u16 expert (ascending),
 * f32 weight. */
enum { SHARE_PICK_BYTES = 6, SHARE_PICKS_HEAD = 2 };

/* Is it a work that a member can do as far as bytes tell?  Everything of struct share_work but row
 * and x, which must be as long as n says.  ERR_MALFORMED, ERR_RANGE. */
MUST_CHECK enum err share_check(const struct arch *a, const struct share_work *w);

/* Bytes of the answer to a checked work.  Per row: f32 [hidden] if lead > 0, then the other pieces
 * in exchange type. */
size_t share_answer_bytes(const struct arch *a, const struct share_work *w);

/* The part of an ask that one hand computes. */
struct share_part {
    struct share_work work; /* x and picks lie in block; row is NULL, row[i] of the ask is at[i] */
    uint32_t *at;           /* [work.n] rows of the ask, ascending */
    void *block;            /* owned; all of the above */
};
/* Pieces where who [n][width] is hand (in columns, for heads and dense: side by side).  work.n is 0
 * when there are none.  ERR_NOMEM. */
MUST_CHECK enum err share_part_make(struct share_part *p, const struct arch *a,
                                    const struct share_ask *q, const uint8_t *who, uint8_t hand);
void share_part_free(struct share_part *p);
/* Put the answer to that part, share_answer_bytes long, where it belongs; borrowed by `to`. */
void share_part_place(const struct share_part *p, const struct arch *a, const struct share_ask *q,
                      const uint8_t *who, uint8_t hand, const uint8_t *answer,
                      struct share_answer *to);

/* --- the member's side --- */

/* The K and V of head groups [g_lo, g_hi) only; else as kv_open.  A member's kv knows itself how
 * far it is filled in each layer: positions may be computed again, but not skipped. */
MUST_CHECK enum err kv_open_heads(struct kv **out, const struct arch *a, uint32_t lo, uint32_t hi,
                                  uint32_t g_lo, uint32_t g_hi, uint32_t cap);
uint64_t kv_cost_heads(const struct arch *a, uint32_t lo, uint32_t hi, uint32_t g_lo, uint32_t g_hi,
                       uint32_t cap);

/* Do a work that passed share_check: its answer to out [share_answer_bytes].  The stage is opened
 * over the member's layers for nothing else while a leader waits in a call of another stage.
 * More rows than the stage's are done in turns.
 *   ERR_RANGE     the layer is not the stage's, a position is past the kv's capacity or would leave
 *                 a gap, a kv lacks the layer or a head group
 *   ERR_NOTFOUND  a part is not held */
MUST_CHECK enum err stage_share_work(struct stage *s, const struct share_work *w, uint8_t *out);

#endif
