/* The batched, threaded forward pass against the naive one, bit for bit. */
#include "model/stage.h"
#include "stage/pool.h"
#include "tests/model/toy.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Runs tasks backwards and pretends to be four threads: orders that a pool may never show. */
static void run_backwards(struct workers *w, void (*task)(void *, uint32_t), void *arg, uint32_t n)
{
    (void)w;
    while (n-- > 0) task(arg, n);
}
static struct workers backwards = { 4, run_backwards };

/* --- helpers --- */

struct seq {
    uint32_t n;
    uint8_t *in, *want; /* [n][arch_row_bytes] */
};

static struct seq make_seq(const struct toy *t, const struct kernels *k, uint32_t n, uint64_t seed)
{
    size_t row = arch_row_bytes(&t->a);
    struct seq s = { n, malloc(n * row), malloc(n * row) };
    float *f = malloc(t->a.hidden * sizeof *f);

    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t c = 0; c < t->a.hidden; c++) f[c] = toy_random(&seed);
        k->narrow(s.in + i * row, f, t->a.hidden, t->a.exchange);
    }
    memcpy(s.want, s.in, n * row);
    naive_forward(t, k, 0, t->a.n_layers, n, s.want);
    free(f);
    return s;
}

static void free_seq(struct seq *s)
{
    free(s->in);
    free(s->want);
}

/* The sequence through layers [lo, hi) in chunks of the given sizes (the last one repeats). */
static void forward(const struct toy *t, const struct kernels *k, struct workers *w, uint32_t lo,
                    uint32_t hi, uint32_t n, void *x, const uint32_t *chunk, uint32_t rows_max)
{
    size_t row = arch_row_bytes(&t->a);
    struct stage *s;
    struct kv *kv;
    struct row rows[BATCH_MAX];
    struct nonfinite bad;

    assert_int_equal(stage_open(&s, &t->a, t->layer + lo, lo, hi, rows_max, k, w), ERR_OK);
    assert_int_equal(kv_open(&kv, &t->a, lo, hi, n), ERR_OK);
    for (uint32_t at = 0, some; at < n; at += some) {
        some = *chunk < n - at ? *chunk : n - at;
        if (chunk[1]) chunk++;
        for (uint32_t i = 0; i < some; i++) rows[i] = (struct row){ kv, at + i };
        assert_int_equal(stage_forward(s, rows, some, (uint8_t *)x + at * row, &bad), ERR_OK);
        assert_int_equal(kv_len(kv), at + some);
    }
    kv_close(kv);
    stage_close(s);
}

static void same(const struct toy *t, const struct kernels *k, struct workers *w,
                 const struct seq *q, const uint32_t *chunk, uint32_t rows_max)
{
    size_t bytes = q->n * arch_row_bytes(&t->a);
    uint8_t *x = malloc(bytes);

    memcpy(x, q->in, bytes);
    forward(t, k, w, 0, t->a.n_layers, q->n, x, chunk, rows_max);
    assert_memory_equal(x, q->want, bytes);
    free(x);
}

static const uint32_t whole[] = { BATCH_MAX, 0 }, single[] = { 1, 0 }, odd[] = { 3, 1, 7, 2, 0 };

/* --- tests --- */

/* Every shape, weight type and instruction set: the naive pass of the scalar table is right. */
static void all_shapes(void **state)
{
    (void)state;
    for (unsigned i = 0; i < TOYS; i++)
        for (int type = 0; type < WT_COUNT; type++) {
            struct toy t = { 0 };
            const char *name = toy_shape(i, &t.a);
            toy_types(&t.a, (enum wtype)type);
            toy_fill(&t, 17 + i);
            struct seq q = make_seq(&t, kernels_nth(0), 9, 5 + i);
            for (unsigned n = 0; kernels_nth(n); n++) {
                const struct kernels *k = kernels_nth(n);
                print_message("%s, %s, %s\n", name, wtype_name(t.a.type[0]), k->isa);
                same(&t, k, workers_inline(), &q, whole, BATCH_MAX);
                same(&t, k, &backwards, &q, odd, 16);
            }
            free_seq(&q);
            toy_free(&t);
        }
}

/* Experts and groups that score the same: the lower index wins. */
static void ties(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct toy t = { 0 };
        toy_shape(i, &t.a);
        toy_fill(&t, 5);
        for (uint32_t l = 1; l < 3; l++) {
            struct tensor *bias = &t.layer[l].t[arch_find(&t.a, l, T_ROUTER_BIAS, 0)];
            struct tensor *router = &t.layer[l].t[arch_find(&t.a, l, T_ROUTER, 0)];
            memset((void *)(uintptr_t)bias->tile[0], 0, bias->tiling.group_bytes);
            memset((void *)(uintptr_t)router->tile[0], 0, router->tiling.group_bytes);
            if (l == 2) ((float *)(uintptr_t)bias->tile[0])[5] = 0.25f;
        }
        struct seq q = make_seq(&t, kernels_nth(0), 5, 1);
        same(&t, kernels_pick(NULL, NULL), workers_inline(), &q, whole, 8);
        free_seq(&q);
        toy_free(&t);
    }
}

/* Types may differ by role. */
static void mixed_types(void **state)
{
    struct toy t = { 0 };
    (void)state;

    toy_shape(0, &t.a);
    t.a.type[WR_EXPERTS] = WT_Q40;
    t.a.type[WR_SHARED] = WT_BF16;
    t.a.type[WR_ATTN] = WT_F16;
    t.a.type[WR_DENSE] = WT_F32;
    toy_fill(&t, 3);
    struct seq q = make_seq(&t, kernels_nth(0), 20, 1);
    same(&t, kernels_pick(NULL, NULL), workers_inline(), &q, single, 1);
    same(&t, kernels_pick(NULL, NULL), &backwards, &q, whole, BATCH_MAX);
    free_seq(&q);
    toy_free(&t);
}

/* Three chunks of attention, on real threads, whatever the pieces of the prompt. */
static void long_context(void **state)
{
    const struct kernels *k = kernels_pick(NULL, NULL);
    struct toy t = { 0 };
    (void)state;

    toy_shape(1, &t.a);
    toy_fill(&t, 99);
    struct seq q = make_seq(&t, k, 1100, 7);
    for (unsigned threads = 1; threads <= 4; threads++) {
        static const uint32_t pieces[] = { 500, 11, 1, 1, 512, 5, 1, 64, 0 };
        struct pool *p;
        assert_int_equal(pool_open(&p, threads), ERR_OK);
        same(&t, k, pool_workers(p), &q, threads % 2 ? whole : pieces, BATCH_MAX);
        pool_close(p);
    }
    same(&t, k, workers_inline(), &q, single, 1);
    free_seq(&q);
    toy_free(&t);
}

/* Sessions in one batch, each at its own position, get what they get alone. */
static void shared_batch(void **state)
{
    enum { SESSIONS = 3 };
    const struct kernels *k = kernels_pick(NULL, NULL);
    struct toy t = { 0 };
    struct seq q[SESSIONS];
    struct kv *kv[SESSIONS];
    struct stage *s;
    struct nonfinite bad;
    (void)state;

    toy_shape(0, &t.a);
    toy_fill(&t, 42);
    size_t row = arch_row_bytes(&t.a);
    uint8_t *x = malloc(BATCH_MAX * row);
    assert_int_equal(stage_open(&s, &t.a, t.layer, 0, 3, 64, k, &backwards), ERR_OK);
    for (uint32_t i = 0; i < SESSIONS; i++) {
        q[i] = make_seq(&t, k, 30 + 7 * i, 50 + i);
        assert_int_equal(kv_open(&kv[i], &t.a, 0, 3, 100), ERR_OK);
    }
    for (uint32_t step = 1, left = 3; left > 0; step++) {
        struct row rows[64];
        uint32_t n = 0, from[64];
        left = 0;
        for (uint32_t i = 0; i < SESSIONS; i++) { /* interleaved, several rows of each */
            uint32_t want = (step * (i + 2)) % 5, len = kv_len(kv[i]);
            for (uint32_t j = 0; j < want && len + j < q[i].n; j++) {
                memcpy(x + n * row, q[i].in + (len + j) * row, row);
                rows[n] = (struct row){ kv[i], len + j };
                from[n++] = i;
            }
            left += len < q[i].n;
        }
        if (n == 0) continue;
        assert_int_equal(stage_forward(s, rows, n, x, &bad), ERR_OK);
        for (uint32_t j = 0; j < n; j++)
            assert_memory_equal(x + j * row, q[from[j]].want + rows[j].pos * row, row);
    }
    for (uint32_t i = 0; i < SESSIONS; i++) {
        assert_int_equal(kv_len(kv[i]), q[i].n);
        kv_close(kv[i]);
        free_seq(&q[i]);
    }
    stage_close(s);
    free(x);
    toy_free(&t);
}

/* A model cut into stages at any layer. */
static void cut_into_stages(void **state)
{
    const struct kernels *k = kernels_pick(NULL, NULL);
    struct toy t = { 0 };
    (void)state;

    toy_shape(0, &t.a);
    toy_fill(&t, 8);
    struct seq q = make_seq(&t, k, 25, 4);
    size_t bytes = q.n * arch_row_bytes(&t.a);
    uint8_t *x = malloc(bytes);
    for (uint32_t cut = 0; cut <= 3; cut++) {
        memcpy(x, q.in, bytes);
        forward(&t, k, workers_inline(), 0, cut, q.n, x, whole, 30);
        forward(&t, k, workers_inline(), cut, 3, q.n, x, odd, 30);
        assert_memory_equal(x, q.want, bytes);
    }
    free(x);
    free_seq(&q);
    toy_free(&t);
}

/* One stage's scratch for any part of its layers, pieces of the parts in turns; and no others. */
static void parts_of_a_stage(void **state)
{
    const struct kernels *k = kernels_pick(NULL, NULL);
    struct toy t = { 0 };
    struct stage *s;
    struct nonfinite bad;
    (void)state;

    toy_shape(1, &t.a);
    toy_fill(&t, 8);
    struct seq q = make_seq(&t, k, 24, 4);
    size_t row = arch_row_bytes(&t.a), bytes = q.n * row;
    uint8_t *x = malloc(bytes);
    struct kv *kv[2];
    assert_int_equal(stage_open(&s, &t.a, t.layer, 0, 3, 8, k, &backwards), ERR_OK);
    for (uint32_t cut = 0; cut <= 3; cut++) {
        memcpy(x, q.in, bytes);
        for (uint32_t p = 0; p < 2; p++)
            assert_int_equal(kv_open(&kv[p], &t.a, p ? cut : 0, p ? 3 : cut, q.n), ERR_OK);
        for (uint32_t at = 0; at < q.n; at += 8) {
            struct row rows[8];
            for (uint32_t p = 0; p < 2; p++) {
                for (uint32_t i = 0; i < 8; i++) rows[i] = (struct row){ kv[p], at + i };
                assert_int_equal(
                    stage_forward_part(s, p ? cut : 0, p ? 3 : cut, rows, 8, x + at * row, &bad),
                    ERR_OK);
            }
        }
        assert_memory_equal(x, q.want, bytes);
        for (uint32_t p = 0; p < 2; p++) kv_close(kv[p]);
    }
    stage_close(s);
    assert_int_equal(stage_open(&s, &t.a, t.layer + 1, 1, 3, 8, k, &backwards), ERR_OK);
    assert_int_equal(kv_open(&kv[0], &t.a, 0, 3, q.n), ERR_OK);
    struct row first = { kv[0], 0 };
    assert_int_equal(stage_forward_part(s, 0, 2, &first, 1, x, &bad), ERR_RANGE);
    assert_int_equal(stage_forward_part(s, 2, 4, &first, 1, x, &bad), ERR_RANGE);
    assert_int_equal(stage_forward_part(s, 3, 2, &first, 1, x, &bad), ERR_RANGE);
    kv_close(kv[0]);
    stage_close(s);
    free(x);
    free_seq(&q);
    toy_free(&t);
}

/* Weights that are hidden until the stage says that it reads them soon. */
struct curtain {
    struct pager pager; /* first */
    struct toy *t;
    const uint8_t *const *kept[3][64];
    unsigned opened, guessed, done;
    bool listens;
};

/* Layer and index of a tensor. */
static uint32_t find_tensor(const struct curtain *c, const struct tensor *w, uint32_t *i)
{
    for (uint32_t l = 0; l < 3; l++) {
        const struct tensor *t = c->t->layer[l].t;
        *i = (uint32_t)(w - t);
        if (w >= t && w < t + arch_n_specs(&c->t->a, l)) return l;
    }
    fail_msg("a tensor of no layer");
    return 0;
}

static void open_curtain(struct pager *p, const struct tensor *w)
{
    struct curtain *c = (struct curtain *)p;
    uint32_t i, l = find_tensor(c, w, &i);
    struct tensor *t = &c->t->layer[l].t[i];

    c->opened += !t->tile;
    t->tile = c->kept[l][i];
}

static bool listens(struct pager *p)
{
    return ((struct curtain *)p)->listens;
}

/* A guess is an expert of a later layer, and opens nothing. */
static void guess(struct pager *p, const struct tensor *w, uint32_t rank)
{
    struct curtain *c = (struct curtain *)p;
    uint32_t i, l = find_tensor(c, w, &i);

    assert_int_equal(arch_spec(&c->t->a, l, i).shard, SHARD_EXPERT);
    assert_true(rank < c->t->a.top_k);
    assert_true(l > c->done % c->t->a.n_layers);
    c->guessed++;
}

/* Some are there and some are not, so that pieces are begun in any order. */
static bool is_there(struct pager *p, const struct tensor *w)
{
    (void)p;
    return (uintptr_t)w / sizeof *w % 3 == 0;
}

static void is_read(struct pager *p, const struct tensor *w)
{
    (void)p;
    assert_non_null(w->tile);
}

static void layer_is_done(struct pager *p, uint32_t layer)
{
    struct curtain *c = (struct curtain *)p;
    assert_int_equal(layer, c->done % c->t->a.n_layers);
    c->done++;
}

/* Nothing is read that was not announced, and of the experts only what is used is announced. */
static void announced(void **state)
{
    const struct kernels *k = kernels_pick(NULL, NULL);
    (void)state;

    for (unsigned shape = 0; shape < TOYS; shape++) {
        struct toy t = { 0 };
        struct curtain c = { { listens, open_curtain, guess, is_there, is_read, layer_is_done },
                             &t,
                             { { NULL } },
                             0,
                             0,
                             0,
                             true };
        struct nonfinite bad;
        struct stage *s;
        struct kv *kv;
        unsigned hidden = 0;

        if (!toy_shape(shape, &t.a)) continue;
        toy_fill(&t, 5);
        struct seq q = make_seq(&t, k, 2, 4);
        uint32_t hi = t.a.n_layers;
        assert_int_equal(stage_open(&s, &t.a, t.layer, 0, hi, 2, k, &backwards), ERR_OK);
        assert_int_equal(kv_open(&kv, &t.a, 0, hi, 2), ERR_OK);
        stage_tell(s, &c.pager);
        for (uint32_t l = 0; l < hi; l++)
            for (uint32_t i = 0; i < arch_n_specs(&t.a, l); i++) {
                struct tensor *w = &t.layer[l].t[i];
                assert_true(i < 64);
                c.kept[l][i] = w->tile;
                if (w->cols == 1) continue; /* norms and biases are small, and bound as pointers */
                w->tile = NULL;
                hidden++;
            }
        for (uint32_t i = 0; i < 2; i++)
            assert_int_equal(
                stage_forward(s, &(struct row){ kv, i }, 1, q.in + i * arch_row_bytes(&t.a), &bad),
                ERR_OK);
        assert_memory_equal(q.in, q.want, 2 * arch_row_bytes(&t.a));
        assert_int_equal(c.done, 2 * hi);
        /* three tensors of top_k experts for each token and each layer that has one before it */
        uint32_t later = hi > 1 && t.a.n_experts ? hi - (t.a.n_dense > 1 ? t.a.n_dense : 1) : 0;
        assert_int_equal(c.guessed, 2 * later * t.a.top_k * 3);
        if (t.a.n_experts > 2 * t.a.top_k) assert_true(c.opened < hidden);
        if (t.a.n_experts == 0) assert_int_equal(c.opened, hidden);
        for (uint32_t l = 0; l < hi; l++)
            for (uint32_t i = 0; i < arch_n_specs(&t.a, l); i++)
                t.layer[l].t[i].tile = c.kept[l][i];
        c.listens = false;
        kv_trim(kv, 1);
        assert_int_equal(stage_forward(s, &(struct row){ kv, 1 }, 1, q.in, &bad), ERR_OK);
        assert_int_equal(c.done, 2 * hi);
        kv_close(kv);
        stage_close(s);
        free_seq(&q);
        toy_free(&t);
    }
}

/* What was forgotten may be computed again, also differently. */
static void trimmed(void **state)
{
    const struct kernels *k = kernels_pick(NULL, NULL);
    struct toy t = { 0 };
    struct stage *s;
    struct kv *kv;
    struct row rows[32];
    struct nonfinite bad;
    (void)state;

    toy_shape(2, &t.a);
    toy_fill(&t, 8);
    struct seq q = make_seq(&t, k, 20, 4);
    size_t row = arch_row_bytes(&t.a);
    uint8_t *x = malloc(20 * row), *other = malloc(20 * row);
    assert_int_equal(stage_open(&s, &t.a, t.layer, 0, 3, 32, k, workers_inline()), ERR_OK);
    assert_int_equal(kv_open(&kv, &t.a, 0, 3, 20), ERR_OK);
    for (uint32_t i = 0; i < 20; i++) rows[i] = (struct row){ kv, i };

    memcpy(x, q.in, 20 * row);
    memset(other, 0x11, 20 * row);
    memcpy(other, q.in, 8 * row);
    assert_int_equal(stage_forward(s, rows, 20, other, &bad), ERR_OK);
    kv_trim(kv, 8);
    assert_int_equal(kv_len(kv), 8);
    assert_int_equal(stage_forward(s, rows + 8, 12, x + 8 * row, &bad), ERR_OK);
    assert_memory_equal(x + 8 * row, q.want + 8 * row, 12 * row);
    kv_trim(kv, 0);
    assert_int_equal(kv_len(kv), 0);
    kv_close(kv);
    stage_close(s);
    free(x);
    free(other);
    free_seq(&q);
    toy_free(&t);
}

/* Rows that do not continue their session change nothing. */
static void refused(void **state)
{
    const struct kernels *k = kernels_pick(NULL, NULL);
    struct toy t = { 0 };
    struct stage *s;
    struct kv *kv;
    struct nonfinite bad;
    uint8_t x[4 * 96 * 2] = { 0 }, before[sizeof x];
    (void)state;

    toy_shape(0, &t.a);
    toy_fill(&t, 8);
    assert_int_equal(stage_open(&s, &t.a, t.layer, 0, 3, 4, k, workers_inline()), ERR_OK);
    assert_int_equal(kv_open(&kv, &t.a, 0, 3, 3), ERR_OK);
    memset(x, 0x3c, sizeof x);
    memcpy(before, x, sizeof x);

    assert_int_equal(stage_forward(s, (struct row[]){ { kv, 1 } }, 1, x, &bad), ERR_RANGE);
    assert_int_equal(stage_forward(s, (struct row[]){ { kv, 0 }, { kv, 2 } }, 2, x, &bad),
                     ERR_RANGE);
    assert_int_equal(stage_forward(s, (struct row[]){ { kv, 0 }, { kv, 0 } }, 2, x, &bad),
                     ERR_RANGE);
    assert_int_equal(
        stage_forward(s, (struct row[]){ { kv, 0 }, { kv, 1 }, { kv, 2 }, { kv, 3 } }, 4, x, &bad),
        ERR_RANGE);
    assert_int_equal(stage_forward(s, NULL, 0, x, &bad), ERR_RANGE);
    assert_memory_equal(x, before, sizeof x);
    assert_int_equal(kv_len(kv), 0);
    assert_int_equal(stage_forward(s, (struct row[]){ { kv, 0 } }, 1, x, &bad), ERR_OK);

    kv_close(kv);
    assert_int_equal(kv_open(&kv, &t.a, 0, 3, t.a.context + 1), ERR_RANGE);
    assert_int_equal(kv_open(&kv, &t.a, 0, 3, 0), ERR_RANGE);
    stage_close(s);
    assert_int_equal(stage_open(&s, &t.a, t.layer, 0, 3, 0, k, workers_inline()), ERR_RANGE);
    assert_int_equal(stage_open(&s, &t.a, t.layer, 0, 3, BATCH_MAX + 1, k, workers_inline()),
                     ERR_RANGE);
    toy_free(&t);
}

/* A number that is not finite is found, named, and leaves the session as it was. */
static void not_finite(void **state)
{
    struct toy t = { 0 };
    struct stage *s;
    struct kv *kv[2];
    struct nonfinite bad = { 0 };
    (void)state;

    toy_shape(0, &t.a);
    t.a.exchange = FT_F32;
    toy_types(&t.a, WT_Q40);
    toy_fill(&t, 8);
    for (unsigned n = 0; kernels_nth(n); n++) {
        const struct kernels *k = kernels_nth(n);
        struct seq q = make_seq(&t, k, 6, 4);
        size_t row = arch_row_bytes(&t.a);
        float x[3 * 96];
        assert_int_equal(stage_open(&s, &t.a, t.layer, 0, 3, 4, k, &backwards), ERR_OK);
        for (int i = 0; i < 2; i++) assert_int_equal(kv_open(&kv[i], &t.a, 0, 3, 6), ERR_OK);
        struct row rows[] = { { kv[0], 0 }, { kv[1], 0 }, { kv[1], 1 } };

        for (int b = 0; b < 3; b++) { /* in the input */
            memcpy(x, q.in, 3 * row);
            x[2 * 96 + 5] = b == 0 ? NAN : b == 1 ? INFINITY : -INFINITY;
            assert_int_equal(stage_forward(s, rows, 3, x, &bad), ERR_NONFINITE);
            assert_int_equal(bad.layer, 0);
            assert_int_equal(bad.pos, 1);
        }
        for (int where = 0; where < 2; where++) { /* on the way: a norm that is much too large */
            struct tensor *norm =
                &t.layer[1].t[arch_find(&t.a, 1, where ? T_MLP_NORM : T_ATTN_NORM, 0)];
            float *w = (float *)(uintptr_t)norm->tile[0], kept = w[7];
            w[7] = 3e38f;
            memcpy(x, q.in, 3 * row);
            x[7] = 90, x[96 + 7] = 80; /* of rows 0 and 1 */
            assert_int_equal(stage_forward(s, rows, 3, x, &bad), ERR_NONFINITE);
            assert_int_equal(bad.layer, 1);
            assert_int_equal(bad.pos, 0);
            w[7] = kept;
        }
        assert_int_equal(kv_len(kv[0]), 0);
        assert_int_equal(kv_len(kv[1]), 0);
        memcpy(x, q.in, row);
        memcpy(x + 96, q.in, 2 * row);
        assert_int_equal(stage_forward(s, rows, 3, x, &bad), ERR_OK);
        assert_memory_equal(x + 96, q.want, 2 * row);
        for (int i = 0; i < 2; i++) kv_close(kv[i]);
        stage_close(s);
        free_seq(&q);
    }
    toy_free(&t);
}

/* Embedding rows rounded, logits by the naive product, in any batch. */
static void the_ends(void **state)
{
    (void)state;
    for (unsigned i = 0; i < TOYS; i++)
        for (unsigned n = 0; kernels_nth(n); n++) {
            const struct kernels *k = kernels_nth(n);
            struct toy t = { 0 };
            struct ends *e;
            struct nonfinite bad;
            int32_t ids[] = { 0, 7, 99, 7, 31, 64, 1, 2, 3 };
            toy_shape(i, &t.a);
            toy_types(&t.a, i % 2 ? WT_Q40 : WT_F16);
            toy_fill(&t, 70 + i);
            size_t row = arch_row_bytes(&t.a), v = t.a.vocab;
            uint8_t *x = malloc(9 * row);
            float *got = malloc(9 * v * sizeof *got), *want = malloc(v * sizeof *want);
            float *f = malloc(t.a.hidden * sizeof *f), *f2 = malloc(t.a.hidden * sizeof *f);

            assert_int_equal(ends_open(&e, &t.a, &t.ends, 9, k, &backwards), ERR_OK);
            assert_int_equal(ends_embed(e, ids, 9, x), ERR_OK);
            assert_int_equal(ends_logits(e, x, 9, got, &bad), ERR_OK);
            for (int r = 0; r < 9; r++) {
                tensor_row(&t.ends.t[0], (uint32_t)ids[r], f);
                assert_true(kernels_nth(0)->exchange(f, f, 1, t.a.hidden, t.a.exchange));
                k->widen(f2, x + (size_t)r * row, t.a.hidden, t.a.exchange);
                assert_memory_equal(f, f2, t.a.hidden * sizeof *f);
                naive_logits(&t, kernels_nth(0), x + (size_t)r * row, want);
                assert_memory_equal(got + (size_t)r * v, want, v * sizeof *want);
            }
            ends_close(e);
            assert_int_equal(ends_open(&e, &t.a, &t.ends, 5, k, &backwards), ERR_OK);
            uint8_t *again = malloc(9 * row);
            assert_int_equal(ends_embed(e, ids, 9, again), ERR_OK); /* any number */
            assert_memory_equal(again, x, 9 * row);
            free(again);
            assert_int_equal(ends_logits(e, x, 6, got, &bad), ERR_RANGE);
            ids[3] = (int32_t)t.a.vocab;
            assert_int_equal(ends_embed(e, ids, 9, x), ERR_RANGE);
            ids[3] = -1;
            assert_int_equal(ends_embed(e, ids, 9, x), ERR_RANGE);
            memset(x + 4 * row, 0xff, row); /* NaN in every type */
            assert_int_equal(ends_logits(e, x, 5, got, &bad), ERR_NONFINITE);
            assert_int_equal(bad.layer, ARCH_ENDS);
            assert_int_equal(bad.pos, 4);
            ends_close(e);
            free(x);
            free(got);
            free(want);
            free(f);
            free(f2);
            toy_free(&t);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_shapes),
        cmocka_unit_test(mixed_types),
        cmocka_unit_test(ties),
        cmocka_unit_test(long_context),
        cmocka_unit_test(shared_batch),
        cmocka_unit_test(cut_into_stages),
        cmocka_unit_test(parts_of_a_stage),
        cmocka_unit_test(announced),
        cmocka_unit_test(trimmed),
        cmocka_unit_test(refused),
        cmocka_unit_test(not_finite),
        cmocka_unit_test(the_ends),
    };
    pass_fork_macs = 0; /* these models are too small for forks to pay */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
