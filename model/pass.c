/* pass.c - forks over units, and vectors on their way into products. */
#include "model/stage.h"

#include <string.h>

/* Below this a fork costs more than it saves: at 30 to 100 integer multiplications a nanosecond
 * this many take 10 to 30 us, a fork 1 to 2 us while the helpers still spin, but 50 us when they
 * have gone to sleep because forks are rare.  Decoding atlas never forks (10,000 tokens/s on one
 * thread, 6,000 on two when it did); every product of a model of a billion parameters is larger. */
uint64_t pass_fork_macs = 1000000;

struct pass {
    pass_work *work;
    void *arg;
    uint32_t n, step;
    atomic_uint next;
};

static void pass_lane(void *arg, uint32_t lane)
{
    struct pass *p = arg;
    uint32_t lo;

    /* units are taken as lanes get to them: cores differ in speed */
    while ((lo = atomic_fetch_add_explicit(&p->next, p->step, memory_order_relaxed)) < p->n)
        p->work(p->arg, lane, lo, p->n - lo < p->step ? p->n : lo + p->step);
}

void pass_run(struct workers *w, pass_work *work, void *arg, uint32_t n, uint32_t cap,
              uint64_t macs)
{
    struct pass p = { .work = work, .arg = arg, .n = n, .step = cap };

    if (w->n == 1 || n < 2 || macs < pass_fork_macs) {
        pass_lane(&p, 0);
        return;
    }
    uint32_t share = n / (w->n * 4); /* about four helpings a worker */
    if (share < cap) p.step = share ? share : 1;
    w->run(w, pass_lane, &p, w->n);
}

void vecs_take(struct vecs *v, struct arena *a, size_t rows, uint32_t cols, bool f, bool q)
{
    *v = (struct vecs){ .cols = cols, .blocks = (cols + BLOCK - 1) / BLOCK };
    if (f) v->f = arena_take(a, rows * cols, sizeof *v->f);
    if (!q) return;
    v->q = arena_take(a, rows * v->blocks, BLOCK);
    v->d = arena_take(a, rows * v->blocks, sizeof *v->d);
    v->sum = arena_take(a, rows * v->blocks, sizeof *v->sum);
}

struct acts vecs_acts(const struct vecs *v, size_t first, uint32_t n)
{
    struct acts x = { .n = n, .cols = v->cols, .f_stride = v->cols, .blocks = v->blocks };

    if (v->f) x.f = v->f + first * v->cols;
    if (v->q) {
        x.q = v->q + first * v->blocks * BLOCK;
        x.d = v->d + first * v->blocks;
        x.sum = v->sum + first * v->blocks;
    }
    return x;
}

bool vecs_put(struct vecs *v, const struct kernels *k, size_t row, uint32_t c0, const float *x,
              uint32_t n)
{
    bool finite = all_finite(x, n);

    if (v->f && x != v->f + row * v->cols + c0) memcpy(v->f + row * v->cols + c0, x, n * sizeof *x);
    if (v->q) {
        size_t b = row * v->blocks + c0 / BLOCK;
        k->quantize(x, n, v->q + b * BLOCK, v->d + b, v->sum + b); /* d = NaN where not finite */
    }
    return finite;
}

void vecs_copy(struct vecs *to, size_t row, const struct vecs *from, size_t from_row)
{
    size_t b = to->blocks;

    if (to->f)
        memcpy(to->f + row * to->cols, from->f + from_row * to->cols, to->cols * sizeof *to->f);
    if (!to->q) return;
    memcpy(to->q + row * b * BLOCK, from->q + from_row * b * BLOCK, b * BLOCK);
    memcpy(to->d + row * b, from->d + from_row * b, b * sizeof *to->d);
    memcpy(to->sum + row * b, from->sum + from_row * b, b * sizeof *to->sum);
}

bool all_finite(const float *x, size_t n)
{
    uint32_t bad = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, x + i, sizeof u);
        bad |= (u & 0x7f800000u) == 0x7f800000u;
    }
    return !bad;
}
