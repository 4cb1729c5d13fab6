/* pass.c - forks over units, and vectors on their way into products. */
#include "model/stage.h"

#include <string.h>

/* Below this a fork costs more than it saves: at 30 to 100 integer multiplications a nanosecond
 * this many take 10 to 30 us, a fork 1 to 2 us while the helpers still spin, but 50 us when they
 * have gone to sleep because forks are rare.  Decoding atlas never forks (10,000 tokens/s on one
 * thread, 6,000 on two when it did); every product of a model of a billion parameters is larger. */
uint64_t pass_fork_macs = 1000000;

enum { RANGES_MAX = 64, HELPINGS = 4 };

/* Units [lo, hi) that are left of a range, in one word: lo << 32 | hi. */
typedef _Atomic(uint64_t) range;

/* Every lane has a range of its own, so that what it reads is one stretch of memory: a start in the
 * middle of nowhere costs a microsecond.  It takes helpings from the front; since cores differ in
 * speed, one that is done takes half of what others have left, from the back. */
struct pass {
    pass_work *work;
    void *arg;
    uint32_t step, cap; /* units of an own helping; of any, at most */
    uint32_t n_ranges;
    range left[RANGES_MAX];
};

/* Do one helping of range r; false when nothing is left of it. */
static bool help(struct pass *p, uint32_t lane, range *r, bool own)
{
    uint64_t old = atomic_load_explicit(r, memory_order_relaxed), new;
    uint32_t lo, hi, n;

    do {
        lo = (uint32_t)(old >> 32), hi = (uint32_t)old;
        if (lo >= hi) return false;
        n = own ? p->step : (hi - lo + 1) / 2;
        if (n > p->cap) n = p->cap;
        if (n > hi - lo) n = hi - lo;
        new = own ? (uint64_t)(lo + n) << 32 | hi : (uint64_t)lo << 32 | (hi - n);
    } while (!atomic_compare_exchange_weak_explicit(r, &old, new, memory_order_relaxed,
                                                    memory_order_relaxed));
    if (own)
        p->work(p->arg, lane, lo, lo + n);
    else
        p->work(p->arg, lane, hi - n, hi);
    return true;
}

static void pass_lane(void *arg, uint32_t lane)
{
    struct pass *p = arg;

    for (uint32_t i = 0; i < p->n_ranges; i++)
        while (help(p, lane, &p->left[(lane + i) % p->n_ranges], i == 0)) continue;
}

void pass_run(struct workers *w, pass_work *work, void *arg, uint32_t n, uint32_t cap,
              uint64_t macs)
{
    bool fork = w->n > 1 && n > 1 && macs >= pass_fork_macs;
    uint32_t lanes = fork ? w->n : 1;
    struct pass p;

    p.work = work, p.arg = arg, p.cap = cap;
    p.n_ranges = lanes < RANGES_MAX ? lanes : RANGES_MAX;
    p.step = fork ? n / (lanes * HELPINGS) : n;
    if (p.step == 0) p.step = 1;
    for (uint32_t i = 0; i < p.n_ranges; i++) {
        uint64_t lo = (uint64_t)n * i / p.n_ranges, hi = (uint64_t)n * (i + 1) / p.n_ranges;
        atomic_init(&p.left[i], lo << 32 | hi);
    }
    if (fork)
        w->run(w, pass_lane, &p, w->n);
    else
        pass_lane(&p, 0);
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
