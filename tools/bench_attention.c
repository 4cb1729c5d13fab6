/* bench_attention.c - scores, softmax and weighted sums over long contexts, against the plain read
 * of their keys and values. */
#include "model/stage.h"
#include "tools/bench.h"

#include <stdlib.h>

enum {
    HEAD_DIM = 128,
    KV_HEADS = 8,
    LAYERS = 10,
    POSITIONS = 8192, /* with the above 335 MB: more than any last cache of a home PC */
    CHUNKS = POSITIONS / KV_CHUNK,
    ROUNDS = 7,
};

/* What a thread writes. */
struct lane_room {
    float *s; /* [heads][KV_CHUNK] */
    float *o; /* [heads][HEAD_DIM] */
};

struct attend {
    const struct kernels *k;
    struct workers *w;
    struct kv *kv;
    struct heads h;
    float *q;    /* [heads][HEAD_DIM] */
    float *room; /* of all lanes */
    struct bench_span *span;
    uint32_t n_spans;
    double bytes;
};

static struct lane_room room_of(const struct attend *a, unsigned lane)
{
    float *p = a->room + (size_t)lane * a->h.n * (KV_CHUNK + HEAD_DIM);
    return (struct lane_room){ p, p + (size_t)a->h.n * KV_CHUNK };
}

/* Units: chunks of a KV head of a layer. */
static void attend_range(void *arg, unsigned lane, uint32_t lo, uint32_t hi)
{
    const struct attend *a = arg;
    struct lane_room r = room_of(a, lane);

    for (uint32_t i = lo; i < hi; i++) {
        uint32_t l = i / CHUNKS / KV_HEADS, g = i / CHUNKS % KV_HEADS;
        size_t at = (size_t)(i % CHUNKS) * KV_CHUNK * HEAD_DIM * sizeof(uint16_t);
        const uint8_t *keys = kv_k(a->kv, l, g), *values = kv_v(a->kv, l, g);
        a->k->scores(r.s, a->q, keys + at, &a->h, KV_CHUNK, 0.0884f);
        for (uint32_t j = 0; j < a->h.n; j++) {
            float *s = r.s + (size_t)j * KV_CHUNK;
            (void)a->k->exp_sum(s, KV_CHUNK, a->k->max(s, KV_CHUNK));
        }
        a->k->weigh(r.o, r.s, values + at, &a->h, KV_CHUNK);
    }
}

static void attend_all(void *arg)
{
    struct attend *a = arg;
    uint32_t units = LAYERS * KV_HEADS * CHUNKS;

    pass_run(a->w, attend_range, a, units, 4, (uint64_t)POSITIONS * LAYERS * KV_HEADS * HEAD_DIM);
}

static void read_all(void *arg)
{
    const struct attend *a = arg;
    bench_read(a->w, a->span, a->n_spans);
}

static void add_span(void *arg, const void *p, size_t n)
{
    struct attend *a = arg;

    a->span[a->n_spans++] = (struct bench_span){ p, n };
    a->bytes += (double)n;
}

/* A model of keys and values alone. */
static struct arch arch_of(uint32_t heads)
{
    return (struct arch){ .n_layers = LAYERS,
                          .n_heads = heads * KV_HEADS,
                          .n_kv = KV_HEADS,
                          .head_dim = HEAD_DIM,
                          .context = POSITIONS,
                          .kv = FT_F16 };
}

enum err bench_attention(struct bench *b, uint32_t heads, const struct kernels *k,
                         struct workers *w)
{
    struct arch arch = arch_of(heads);
    struct attend a = { .k = k,
                        .w = w,
                        .h = { .n = heads, .hd = HEAD_DIM, .kv = FT_F16, .stride = KV_CHUNK } };
    enum err e = kv_open(&a.kv, &arch, 0, LAYERS, POSITIONS);

    a.q = malloc((size_t)heads * HEAD_DIM * sizeof *a.q);
    a.room = calloc((size_t)w->n * heads * (KV_CHUNK + HEAD_DIM), sizeof *a.room);
    a.span = malloc((size_t)2 * LAYERS * KV_HEADS * sizeof *a.span);
    if (!a.q || !a.room || !a.span) e = ERR_NOMEM;
    if (!e) {
        for (uint32_t i = 0; i < heads * HEAD_DIM; i++) a.q[i] = (float)(i * 7 % 13) / 6 - 1;
        kv_fill(a.kv, POSITIONS, 1);
        kv_each(a.kv, add_span, &a);
        struct bench_times t = bench_in_turns((struct bench_work){ attend_all, &a },
                                              (struct bench_work){ read_all, &a }, ROUNDS);
        bench_add(b, "GB/s", a.bytes / t.b / 1e9, a.bytes / t.a / 1e9, t.b_to_a,
                  "attention %u heads of a group, %s, %uT", heads, k->isa, w->n);
    }
    kv_close(a.kv);
    free(a.q);
    free(a.room);
    free(a.span);
    return e;
}
