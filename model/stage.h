/* stage.h - inside of model/: the scratch of a stage and the steps of a layer.
 *
 * A layer for n rows is a handful of passes.  A pass is one fork and join over units that do not
 * depend on each other (row groups of a product, rows, heads); between two passes everything of the
 * first is visible.  What must follow in order (a chain of sums) lies inside one unit, so threads
 * and chunk sizes change no bit:
 *
 *   attention.c   norm x | q k v | norm, rope, store | attend | o, residual -> h
 *   attend.c      scores, softmax, weigh: one pass, or three
 *   mlp.c         norm h | router, choose | gate up silu | down, sums, residual -> x
 *   shared.c      both, where other nodes compute some of the terms of those sums
 *
 * Non-finite numbers: every product's input and output is looked at; a row with one is marked in
 * `bad`, its arithmetic goes on with whatever is there, and the call ends after that layer. */
#ifndef MODEL_STAGE_H
#define MODEL_STAGE_H

#include "base/arena.h"
#include "model/share.h"

#include <stdatomic.h>

/* --- passes --- */

/* Do the units [lo, hi); lane < workers.n tells which scratch is this call's alone. */
typedef void pass_work(void *arg, unsigned lane, uint32_t lo, uint32_t hi);

/* Run work over units [0, n), at most cap at a time (what scratch allows).
 * macs: about how many multiplications that is, to see whether a fork pays. */
void pass_run(struct workers *w, pass_work *work, void *arg, uint32_t n, uint32_t cap,
              uint64_t macs);
extern uint64_t pass_fork_macs; /* the least that forks; tests set it to 0 before they begin */

/* --- vectors that go into products --- */

/* Rows of one width, as f32, or quantized, or both; what is not wanted is NULL. */
struct vecs {
    uint32_t cols, blocks;
    float *f;     /* [rows][cols] */
    int8_t *q;    /* [rows][blocks * 32] */
    float *d;     /* [rows][blocks] */
    int32_t *sum; /* [rows][blocks] */
};
void vecs_take(struct vecs *v, struct arena *a, size_t rows, uint32_t cols, bool f, bool q);
struct acts vecs_acts(const struct vecs *v, size_t first, uint32_t n);
/* Put elements [c0, c0 + n) of a row; c0 a multiple of 32; x may lie in v->f already.  False when
 * one is not finite. */
bool vecs_put(struct vecs *v, const struct kernels *k, size_t row, uint32_t c0, const float *x,
              uint32_t n);
void vecs_copy(struct vecs *to, size_t row, const struct vecs *from, size_t from_row);

bool all_finite(const float *x, size_t n);

/* --- a layer's tensors by meaning --- */

struct head_group {
    const struct tensor *q, *k, *v, *o;
    const float *q_bias, *k_bias, *v_bias; /* NULL without */
};
struct mlp {
    const struct tensor *gate, *up, *down;
};
struct bound {
    bool moe;
    const float *attn_norm, *mlp_norm;
    const float *post_attn_norm, *post_mlp_norm; /* NULL without */
    const float *q_norm, *k_norm;                /* NULL without */
    const struct tensor *router;
    const float *router_bias;
    struct head_group *heads; /* [n_kv] */
    struct mlp *items;        /* [n_items] experts, or the dense parts that are not empty */
    struct mlp shared;        /* gate NULL without */
    struct share held;
    bool whole; /* every part is held */
};

/* --- K and V of a session (kv.c) --- */

struct kv {
    uint32_t lo, hi, cap, len;
    uint32_t fresh;      /* rows of the batch being checked */
    uint32_t g_lo, n_kv; /* head groups [g_lo, g_lo + n_kv) */
    uint32_t head_dim;
    enum ftype type;
    uint8_t *base; /* owned: mapped */
    size_t bytes;
    uint32_t filled[]; /* [hi - lo] a member's positions in each layer (share.h) */
};
/* As struct heads of kernels.h has them: keys in blocks of KV_BLOCK positions, [head_dim][KV_BLOCK]
 * each; values [position][head_dim]. */
void *kv_k(const struct kv *kv, uint32_t layer, uint32_t group);
void *kv_v(const struct kv *kv, uint32_t layer, uint32_t group);
/* Round a key and a value [head_dim] to the kv type and keep them. */
void kv_put(const struct kv *kv, const struct kernels *k, uint32_t layer, uint32_t group,
            uint32_t pos, const float *key, const float *value);

/* --- the stage --- */

/* One MLP over some of the rows: a dense part, an expert, or the shared expert. */
struct piece {
    const struct mlp *w;
    struct acts x;  /* inputs of its rows */
    struct vecs *f; /* inner activations: rows [first, first + x.n) */
    size_t first;
    const uint32_t *row;  /* [x.n] rows of the batch; NULL: all, in order */
    const float *weight;  /* [x.n] routing weights; NULL: none */
    const uint32_t *pick; /* [x.n] which of the pieces asked for; only in a layer that is shared */
    uint32_t unit;        /* its first unit in the pass */
};

/* Attention of one job (attend.c), chunks of KV_CHUNK positions of the model's whole context. */
struct scratch {
    float *score;   /* mapped: [chunks][heads][KV_CHUNK + SCORES_PADDING] */
    float *o;       /* mapped: [chunks][heads][head_dim], sums of each chunk */
    float *max, *z; /* [heads][chunks] */
    float *q;       /* [heads][head_dim] */
    float *top;     /* [heads]: the largest score */
    float *a;       /* [width of a head group] */
};
enum { SCORES_PADDING = 16 }; /* so that the scores of several heads are not a power of 2 apart */

struct lane {
    float *t0, *t1; /* [lane_floats] */
    struct scratch attend;
};

struct stage {
    /* borrowed until stage_close */
    const struct arch *a;
    const struct kernels *k;
    struct workers *w;
    struct pager *pager; /* NULL: nobody */
    struct pager *told;  /* the same during a call that it wants to hear of, else NULL */

    /* set by stage_open */
    uint32_t lo, hi, rows_max;
    uint32_t per_group; /* query heads of a head group */
    uint32_t n_parts;   /* dense parts that are not empty */
    bool quant_attn, quant_dense, quant_shared, quant_experts;
    size_t lane_floats;
    uint32_t heads_together, chunks; /* of a job of attention, at most */

    /* owned */
    struct arena arena; /* everything below */
    float *scores;      /* mapped: what the lanes keep per position, touched as contexts grow */
    size_t scores_bytes;
    struct bound *bound;      /* [hi - lo] */
    struct lane *lane;        /* [w->n] */
    float *x, *h;             /* [rows][hidden]: the residual, and after attention */
    float *m;                 /* [rows][hidden], only with norms after: an MLP or o sum */
    struct vecs norm;         /* [rows][hidden]: what attention or MLP reads */
    float *q, *kq, *vq;       /* [rows][heads * head_dim], [rows][n_kv * head_dim] twice */
    float *cos, *sin;         /* [rows][rope_half] */
    struct vecs *attn;        /* [n_kv] of [rows][group width] */
    struct vecs *part;        /* [n_parts] of [rows][part width] */
    struct vecs inner;        /* [rows * top_k][moe_inter] */
    struct vecs inner_shared; /* [rows][moe_inter * n_shared] */
    struct vecs gathered;     /* [rows * top_k][hidden]: inputs of experts with several rows */
    float *z, *c;             /* [rows][n_experts]: router scores; with bias */
    uint32_t *chosen;         /* [rows][top_k] experts, ascending */
    float *weight;            /* [rows][top_k] */
    uint32_t *by_row;         /* [rows * top_k] rows, grouped by expert ascending */
    float *by_weight;         /* [rows * top_k] */
    uint32_t *count;          /* [n_experts + 1] */
    struct piece *piece;      /* [max(n_parts, n_experts + 1)] */
    uint32_t *turn;           /* likewise: in which order they are begun */
    _Atomic(uint8_t) *bad;    /* [rows] */
    uint32_t *block;          /* [rows]: first rows of blocks that attend together */

    struct sharing *sharing; /* owned; NULL until a layer is shared */

    stage_lap *lap; /* NULL: nobody measures */
    void *lap_arg;

    /* the call in progress; borrowed from it */
    const struct row *row;
    uint32_t n;
    uint32_t n_blocks;
    uint32_t g_lo, g_hi; /* head groups that attention is about */
    atomic_bool any_bad;
};

/* Note that a number of row i is not finite. */
void mark_bad(struct stage *s, uint32_t i);

/* foresee.c: tell the pager, if it listens, that these weights are read soon; that they are read
 * now, on any thread; which experts of a layer the rows in h, as the layer before will change them,
 * probably choose; that a layer is done.  Ask it whether reading would not have to wait. */
void soon_layer(struct stage *s, const struct bound *b, bool shared);
void soon_mlp(struct stage *s, const struct mlp *m);
void soon_heads(struct stage *s, const struct head_group *h);
void wait_heads(const struct stage *s, const struct bound *b); /* those of this call */
void wait_weights(const struct stage *s, const struct tensor *w);
bool is_here(const struct stage *s, const struct tensor *w);
void foresee(struct stage *s, const struct bound *b);
void layer_done(const struct stage *s, uint32_t layer);

/* These rows are what follows is about; none of them is bad yet (forward.c). */
void stage_begin(struct stage *s, const struct row *rows, uint32_t n);

/* norm = norm(x or h) of all rows, quantized too when asked (attention.c). */
void norm_rows(struct stage *s, const float *from, const float *weight, bool quantized);

/* attend.c: most query heads of a job; blocks of the call's rows; attn = attention(q) by the keys
 * and values of layer l. */
uint32_t attend_heads(const struct stage *s);
void attend_plan(struct stage *s);
void attend(struct stage *s, uint32_t l);

/* h = x + attention(x), layer index l within the model. */
void attention(struct stage *s, const struct bound *b, uint32_t l);
/* x = X(h + mlp(h)). */
void feed_forward(struct stage *s, const struct bound *b);

/* Their parts, for layers that are shared.  attn of head groups [g_lo, g_hi), from norm; h = x +
 * norm(m) where there is that norm. */
void attention_heads(struct stage *s, const struct bound *b, uint32_t l);
void attention_after(struct stage *s, const struct bound *b);
/* chosen and weight of all rows, from norm. */
void mlp_route(struct stage *s, const struct bound *b);
/* List what is to do as pieces, returning how many: picks [n][top_k] (todo NULL: all of them);
 * dense parts that are not empty; the shared expert, after n pieces. */
uint32_t mlp_experts(struct stage *s, const struct bound *b, const bool *todo);
uint32_t mlp_parts(struct stage *s, const struct bound *b, const bool *todo);
uint32_t mlp_shared(struct stage *s, const struct bound *b, uint32_t n);
/* Multiplications of their gates; then gate, up and silu of the n pieces listed. */
uint64_t mlp_macs(const struct stage *s, uint32_t n);
void mlp_inner(struct stage *s, const struct bound *b, uint32_t n);
/* x = X(h + m) for elements [at, at + n) of row i;  x = X(h + norm(m)) where there is that norm. */
void mlp_leave(struct stage *s, uint32_t i, uint32_t at, const float *m, uint32_t n);
void mlp_after(struct stage *s, const struct bound *b);

/* --- sharing (shared.c) --- */

/* Pieces of this batch: where each goes, and where it is found. */
struct sharing {
    struct arena arena; /* owned; everything below */
    uint32_t width;     /* pieces of a row, in the step in progress */
    bool *away, *todo;  /* [rows][width] computed elsewhere; to be computed here and now */
    uint8_t **to;       /* [rows][width] where a piece computed here goes; NULL: into the sum */
    uint8_t **sum_to;   /* [rows] where the sum of a row's first lead_to pieces goes */
    uint8_t *lead_to;   /* [rows] */
    uint32_t *pick;     /* [rows * top_k] */
    struct share_answer got;
    uint32_t *number; /* [n_parts] the dense part that each column is, then [n_kv] head groups */
    uint8_t *own;     /* [rows][width][arch_row_bytes] */
    uint8_t *shared;  /* [rows][arch_row_bytes]: the shared expert's */
    uint32_t *angle;  /* [rows] positions whose angles are in cos and sin, of a member */
};
MUST_CHECK enum err sharing_open(struct stage *s); /* good when it is open already */
void sharing_close(struct stage *s);
/* Compute pieces into sharing.to and sum_to: of head groups [g_lo, g_hi), from attn; of the n
 * pieces of an MLP that are listed.  Column 0 is head group, or bound.items' dense part, `first`.
 */
void shared_heads(struct stage *s, const struct bound *b, uint32_t first);
void shared_mlp(struct stage *s, const struct bound *b, uint32_t first, uint32_t n);
/* A layer with a sharer; errors as stage_forward_shared. */
MUST_CHECK enum err shared_attention(struct stage *s, const struct bound *b, uint32_t l,
                                     struct sharer *by);
MUST_CHECK enum err shared_feed_forward(struct stage *s, const struct bound *b, uint32_t l,
                                        struct sharer *by);

#endif
