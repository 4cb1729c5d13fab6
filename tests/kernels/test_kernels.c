/* Every table against the scalar one, bit for bit, over ordinary and nasty finite inputs; and the
 * scalar one against plain double arithmetic. */
#include "kernels/kernels.h"
#include "kernels/workers.h"
#include "tests/kernels/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define EACH_VECTOR_TABLE(k) for (unsigned k##_ = 1; ((k) = kernels_nth(k##_)) != NULL; k##_++)

static const struct kernels *scalar(void)
{
    return kernels_nth(0);
}

/* Exactly n bytes, so that the sanitizer sees every step beyond them. */
static void *bytes(size_t n)
{
    void *p = malloc(n ? n : 1);
    assert_non_null(p);
    return p;
}

static void fill_garbage(void *p, size_t n)
{
    memset(p, 0xa5, n); /* -2.9e-16 as floats: nothing any test computes */
}

/* --- products --- */

struct problem {
    enum wtype type;
    uint32_t rows, cols, n;
    uint32_t g0, g1;
    bool bias;
    unsigned offset; /* of the tiles' addresses from alignment */
    enum kind wkind, xkind;
};

struct data {
    struct tensor w;
    uint8_t *memory;
    const uint8_t **tile;
    float *x, *bias, *d;
    int8_t *q;
    int32_t *sum;
    struct acts acts;
    size_t x_stride, y_stride, y_bytes;
};

static size_t blocks_of(uint32_t cols)
{
    return (cols + 31) / 32;
}

static void make_weights(struct data *p, const struct problem *c, uint64_t *seed)
{
    struct tensor *w = &p->w;
    *w = (struct tensor){ c->type, c->rows, c->cols, tiling_of(c->type, c->rows, c->cols), NULL };
    w->tiling.groups_per_tile = 2; /* several tiles, also when small */
    w->tiling.tiles = (w->tiling.groups + 1) / 2;

    size_t group = w->tiling.group_bytes, apart = 2 * group + 13;
    p->memory = bytes(w->tiling.tiles * apart + c->offset);
    p->tile = bytes(w->tiling.tiles * sizeof *p->tile);
    w->tile = p->tile;
    for (uint32_t t = 0; t < w->tiling.tiles; t++) p->tile[t] = p->memory + c->offset + t * apart;

    float *rows = bytes((size_t)16 * c->cols * sizeof *rows);
    for (uint32_t g = 0; g < w->tiling.groups; g++) {
        uint32_t left = c->rows - 16 * g;
        draw_values(rows, (size_t)16 * c->cols, seed, c->wkind, 4e4f);
        enum err e = group_pack(c->type, rows, c->cols, left < 16 ? left : 16, c->cols,
                                (uint8_t *)(uintptr_t)tensor_group(w, g));
        assert_int_equal(e, ERR_OK);
    }
    free(rows);
}

static void make_inputs(struct data *p, const struct problem *c, uint64_t *seed)
{
    size_t blocks = blocks_of(c->cols), padded_rows = (c->rows + 15) / 16 * 16;

    p->x_stride = c->cols + 3;
    p->y_stride = c->rows + 5;
    p->y_bytes = p->y_stride * c->n * sizeof(float);
    p->x = bytes(p->x_stride * c->n * sizeof *p->x);
    draw_values(p->x, p->x_stride * c->n, seed, c->xkind, 1e15f);
    p->bias = bytes(padded_rows * sizeof *p->bias);
    draw_values(p->bias, padded_rows, seed, ORDINARY, 0);
    p->q = bytes(blocks * 32 * c->n);
    p->d = bytes(blocks * c->n * sizeof *p->d);
    p->sum = bytes(blocks * c->n * sizeof *p->sum);
    for (uint32_t t = 0; t < c->n; t++)
        scalar()->quantize(p->x + t * p->x_stride, c->cols, p->q + t * blocks * 32,
                           p->d + t * blocks, p->sum + t * blocks);
    p->acts =
        (struct acts){ c->n, c->cols, p->x, p->x_stride, p->q, p->d, p->sum, (uint32_t)blocks };
}

static void data_fini(struct data *p)
{
    free(p->memory);
    free(p->tile);
    free(p->x);
    free(p->bias);
    free(p->q);
    free(p->d);
    free(p->sum);
}

static float *product_of(const struct kernels *k, const struct data *p, const struct problem *c)
{
    float *y = bytes(p->y_bytes);
    fill_garbage(y, p->y_bytes);
    k->product(y, p->y_stride, &p->w, c->bias ? p->bias : NULL, &p->acts, c->g0, c->g1);
    return y;
}

/* Written where it should be, finite, and nowhere else. */
static void check_extent(const float *y, const struct data *p, const struct problem *c)
{
    uint8_t garbage[4];
    fill_garbage(garbage, 4);
    for (uint32_t t = 0; t < c->n; t++) {
        for (uint32_t r = 0; r < p->y_stride; r++) {
            const float *at = &y[t * p->y_stride + r];
            bool inside = r >= c->g0 * 16 && r < c->g1 * 16 && r < c->rows;
            assert_int_equal(memcmp(at, garbage, 4) != 0, inside);
            if (inside) assert_true(isfinite(*at));
        }
    }
}

static void check_product(const struct problem *c, uint64_t seed)
{
    struct data p;
    const struct kernels *k;
    make_weights(&p, c, &seed);
    make_inputs(&p, c, &seed);

    float *want = product_of(scalar(), &p, c);
    check_extent(want, &p, c);
    EACH_VECTOR_TABLE(k)
    {
        float *got = product_of(k, &p, c);
        if (memcmp(got, want, p.y_bytes) != 0)
            fail_msg("%s: %s product of %u x %u, %u tokens, groups %u-%u, kinds %d %d differs",
                     k->isa, wtype_name(c->type), c->rows, c->cols, c->n, c->g0, c->g1, c->wkind,
                     c->xkind);
        free(got);
    }
    free(want);
    data_fini(&p);
}

/* All shapes around the widths of vectors, blocks and groups, each with one drawn rest. */
static void products_of_all_shapes(void **state)
{
    (void)state;
    const uint32_t all_rows[] = { 1, 15, 16, 17, 64, 70, 97 };
    const uint32_t all_cols[] = { 1, 2, 15, 16, 17, 31, 32, 33, 64, 95, 100, 173, 288 };
    uint64_t seed = 11;

    for (unsigned r = 0; r < sizeof all_rows / 4; r++) {
        for (unsigned i = 0; i < sizeof all_cols / 4; i++) {
            for (unsigned t = 0; t < WT_COUNT; t++) {
                uint32_t groups = (all_rows[r] + 15) / 16;
                uint32_t g0 = (uint32_t)(draw(&seed) % groups);
                uint32_t g1 = g0 + 1 + (uint32_t)(draw(&seed) % (groups - g0));
                struct problem c = { (enum wtype)t,
                                     all_rows[r],
                                     all_cols[i],
                                     1 + (uint32_t)(draw(&seed) % 19),
                                     g0,
                                     g1,
                                     draw(&seed) % 2,
                                     (unsigned)(draw(&seed) % 64),
                                     ORDINARY,
                                     ORDINARY };
                check_product(&c, draw(&seed));
            }
        }
    }
}

static void products_of_all_batches(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= 70; n++) {
        for (unsigned t = 0; t < WT_COUNT; t++) {
            struct problem c = { (enum wtype)t, 90, 70, n, 0, 6, n % 2, 2, ORDINARY, ORDINARY };
            check_product(&c, n);
            if (!wtype_quantized(c.type)) continue;
            /* more blocks than a product asks memory for ahead, an odd number of groups, and rows
             * that end inside of one */
            struct problem wide = { c.type,    75,    641,   n,        n % 3,
                                    5 - n % 2, n % 2, n % 5, ORDINARY, ORDINARY };
            check_product(&wide, n);
        }
    }
}

static void products_of_nasty_values(void **state)
{
    (void)state;
    uint64_t seed = 12;
    for (unsigned t = 0; t < WT_COUNT; t++) {
        for (unsigned wk = 0; wk < KINDS; wk++) {
            for (unsigned xk = 0; xk < KINDS; xk++) {
                struct problem c = { (enum wtype)t, 33,           75, 11, 0, 3, false, 1,
                                     (enum kind)wk, (enum kind)xk };
                check_product(&c, draw(&seed));
                c.bias = true;
                check_product(&c, draw(&seed));
            }
        }
    }
}

/* Bytes that group_pack never writes but a peer may: int8 of -128, any nibble under any scale,
 * negative and subnormal scales, weights in the padding. */
static void products_of_any_bytes(void **state)
{
    (void)state;
    const enum wtype types[] = { WT_Q40, WT_Q80 };
    const struct kernels *k;
    uint64_t seed = 13;

    for (unsigned round = 0; round < 60; round++) {
        struct problem c = { types[round % 2], 30,      70, 1 + round % 12, 0, 2, false, 3,
                             ORDINARY,         ORDINARY };
        struct data p;
        make_weights(&p, &c, &seed);
        make_inputs(&p, &c, &seed);
        size_t block = c.type == WT_Q40 ? 288 : 544, n = 2 * p.w.tiling.group_bytes;
        uint8_t *w = (uint8_t *)(uintptr_t)p.tile[0];
        for (size_t i = 0; i < n; i++) {
            if (i % block >= 32)
                w[i] = round % 3 == 0 ? 0x80 : round % 3 == 1 ? 0xff : (uint8_t)draw(&seed);
            else /* any f16 but infinity and NaN: the lowest exponent bit cleared */
                w[i] = i % 2 ? (uint8_t)(draw(&seed) & 0xfb) : (uint8_t)draw(&seed);
        }
        assert_true(tile_finite(c.type, c.cols, w, n));
        for (size_t i = 0; round % 4 < 2 && i < 3 * 32 * c.n; i++)
            p.q[i] = i % 96 < 70 ? (round % 4 ? 127 : -127) : 0;
        for (size_t b = 0; b < 3 * c.n; b++) {
            p.sum[b] = 0;
            for (unsigned i = 0; i < 32; i++) p.sum[b] += p.q[b * 32 + i];
        }
        float *want = product_of(scalar(), &p, &c);
        EACH_VECTOR_TABLE(k)
        {
            float *got = product_of(k, &p, &c);
            assert_memory_equal(got, want, p.y_bytes);
            free(got);
        }
        free(want);
        data_fini(&p);
    }
}

/* |y - exact| <= (steps + 2) 2^-24 sum |w x|, exact in double over the stored weights and inputs.
 */
static void product_is_the_product(void **state)
{
    (void)state;
    uint64_t seed = 14;
    for (unsigned t = 0; t < WT_COUNT; t++) {
        struct problem c = { (enum wtype)t, 40, 300, 5, 0, 3, true, 0, ORDINARY, ORDINARY };
        struct data p;
        make_weights(&p, &c, &seed);
        make_inputs(&p, &c, &seed);
        float *y = product_of(scalar(), &p, &c), row[300];
        size_t blocks = blocks_of(c.cols), steps = wtype_quantized(c.type) ? 2 * blocks : c.cols;
        for (uint32_t r = 0; r < c.rows; r++) {
            tensor_row(&p.w, r, row);
            for (uint32_t i = 0; i < c.n; i++) {
                double exact = (double)p.bias[r], size = fabs(exact);
                for (uint32_t col = 0; col < c.cols; col++) {
                    double x = (double)p.x[i * p.x_stride + col];
                    if (wtype_quantized(c.type))
                        x = (double)p.d[i * blocks + col / 32] * p.q[i * blocks * 32 + col];
                    exact += (double)row[col] * x;
                    size += fabs((double)row[col] * x);
                }
                double error = fabs((double)y[i * p.y_stride + r] - exact);
                assert_true(error <= (double)(steps + 2) * 0x1p-24 * size);
            }
        }
        free(y);
        data_fini(&p);
    }
}

/* --- quantize --- */

static void check_quantize(const float *x, uint32_t cols)
{
    const struct kernels *k;
    size_t blocks = blocks_of(cols);
    int8_t *q = bytes(blocks * 32), *q2 = bytes(blocks * 32);
    float *d = bytes(blocks * 4), *d2 = bytes(blocks * 4);
    int32_t *sum = bytes(blocks * 4), *sum2 = bytes(blocks * 4);

    scalar()->quantize(x, cols, q, d, sum);
    for (size_t b = 0; b < blocks; b++) {
        uint32_t n = cols - 32 * b < 32 ? (uint32_t)(cols - 32 * b) : 32;
        float a = 0;
        int32_t s = 0;
        for (uint32_t i = 0; i < n; i++) a = fmaxf(a, fabsf(x[32 * b + i]));
        for (uint32_t i = 0; i < 32; i++) {
            float want = i < n && a >= 0x1p-100f ? rintf(x[32 * b + i] * (127 / a)) : 0;
            assert_int_equal(q[32 * b + i], (int)want);
            s += q[32 * b + i];
        }
        assert_true(d[b] == (a < 0x1p-100f ? 0 : a / 127));
        assert_int_equal(sum[b], s);
    }
    EACH_VECTOR_TABLE(k)
    {
        k->quantize(x, cols, q2, d2, sum2);
        assert_memory_equal(q2, q, blocks * 32);
        assert_memory_equal(d2, d, blocks * 4);
        assert_memory_equal(sum2, sum, blocks * 4);
    }
    free(q);
    free(q2);
    free(d);
    free(d2);
    free(sum);
    free(sum2);
}

static void quantizes(void **state)
{
    (void)state;
    uint64_t seed = 15;
    for (uint32_t cols = 1; cols <= 200; cols++) {
        float *x = bytes(cols * sizeof *x);
        for (unsigned kind = 0; kind < KINDS; kind++) {
            draw_values(x, cols, &seed, (enum kind)kind, 3.4e38f);
            check_quantize(x, cols);
        }
        free(x);
    }
}

static void quantizes_ties_to_even(void **state)
{
    (void)state;
    float x[32];
    int8_t q[32];
    float d;
    int32_t sum;
    for (int i = 0; i < 32; i++) x[i] = (float)(i - 16) + 0.5f;
    x[31] = 127;
    check_quantize(x, 32);
    scalar()->quantize(x, 32, q, &d, &sum);
    assert_int_equal(q[16], 0);  /*  0.5 */
    assert_int_equal(q[17], 2);  /*  1.5 */
    assert_int_equal(q[18], 2);  /*  2.5 */
    assert_int_equal(q[15], 0);  /* -0.5 */
    assert_int_equal(q[14], -2); /* -1.5 */
    assert_int_equal(q[31], 127);

    const float edge[] = { 0x1p-100f, 0x1.fffffep-101f, 0x1p-149f, -0x1p-100f };
    for (unsigned i = 0; i < 4; i++) {
        float one[32] = { 0 };
        one[7] = edge[i];
        check_quantize(one, 32);
        scalar()->quantize(one, 32, q, &d, &sum);
        assert_int_equal(q[7], i == 0 ? 127 : i == 3 ? -127 : 0);
    }
}

/* What is not finite must come out of the product not finite, wherever it was. */
static void quantize_keeps_what_is_not_finite(void **state)
{
    (void)state;
    const float bad[] = { NAN, -NAN, INFINITY, -INFINITY };
    float w[70];
    uint8_t group[3 * 288];
    const uint8_t *tile = group;
    struct tensor t = { WT_Q40, 1, 70, tiling_of(WT_Q40, 1, 70), &tile };
    const struct kernels *k;
    for (unsigned i = 0; i < 70; i++) w[i] = (float)i;
    assert_int_equal(group_pack(WT_Q40, w, 70, 1, 70, group), ERR_OK);

    for (unsigned n = 0; (k = kernels_nth(n)) != NULL; n++) {
        for (unsigned b = 0; b < 4; b++) {
            for (unsigned at = 0; at < 70; at++) {
                float x[70] = { 1, 2, 3 }, d[3], y;
                int8_t q[96];
                int32_t sum[3];
                x[at] = bad[b];
                k->quantize(x, 70, q, d, sum);
                struct acts a = { 1, 70, x, 70, q, d, sum, 3 };
                k->product(&y, 1, &t, NULL, &a, 0, 1);
                assert_true(!isfinite(y));
            }
        }
    }
}

/* --- the self-test and the choice of a table --- */

static void selftest_passes(void **state)
{
    (void)state;
    const struct kernels *k;
    struct why why;
    for (unsigned i = 0; (k = kernels_nth(i)) != NULL; i++)
        if (kernels_selftest(k, &why)) fail_msg("%s", why.text);
}

/* Wrong versions of each entry: the right result with one bit turned, where there is a result. */
static void turn(void *p)
{
    *(uint8_t *)p ^= 1;
}
static void bad_product(float *y, size_t y_stride, const struct tensor *w, const float *bias,
                        const struct acts *x, uint32_t g0, uint32_t g1)
{
    scalar()->product(y, y_stride, w, bias, x, g0, g1);
    if (g0) turn(y + g0 * 16 + 3);
}
static void bad_quantize(const float *x, uint32_t cols, int8_t *q, float *d, int32_t *sum)
{
    scalar()->quantize(x, cols, q, d, sum);
    turn(&sum[cols / 32]);
}
static void bad_norm(float *y, const float *x, const float *w, uint32_t n, float eps)
{
    scalar()->norm(y, x, w, n, eps);
    turn(&y[n - 1]);
}
static void bad_swiglu(float *f, const float *g, const float *u, uint32_t n)
{
    scalar()->swiglu(f, g, u, n);
    turn(&f[n - 1]);
}
static void bad_sigmoid(float *s, const float *z, uint32_t n)
{
    scalar()->sigmoid(s, z, n);
    turn(&s[0]);
}
static void bad_add(float *y, const float *a, const float *b, uint32_t n)
{
    scalar()->add(y, a, b, n);
    turn(&y[n / 2]);
}
static bool bad_exchange(float *y, const float *x, float s, uint32_t n, enum ftype t)
{
    return scalar()->exchange(y, x, s, n, t) && t != FT_BF16;
}
static void bad_narrow(void *y, const float *x, uint32_t n, enum ftype t)
{
    scalar()->narrow(y, x, n, t);
    if (t == FT_F16) turn(y);
}
static void bad_widen(float *y, const void *x, uint32_t n, enum ftype t)
{
    scalar()->widen(y, x, n, t);
    if (t == FT_BF16) turn(y);
}
static void bad_scores(float *s, const float *q, const void *k, const struct heads *h, uint32_t n,
                       float scale)
{
    scalar()->scores(s, q, k, h, n, scale);
    turn(&s[(h->n - 1) * h->stride + n - 1]); /* of the last head */
}
static float bad_max(const float *s, uint32_t n)
{
    return scalar()->max(s, n) + 1;
}
static float bad_exp_sum(float *s, uint32_t n, float max)
{
    return scalar()->exp_sum(s, n, max) * 2;
}
static void bad_rotate(float *head, const float *c, const float *s, uint32_t half, bool interleaved)
{
    scalar()->rotate(head, c, s, half, !interleaved);
}
static void bad_weigh(float *o, const float *e, const void *v, const struct heads *h, uint32_t n)
{
    scalar()->weigh(o, e, v, h, n);
    turn(&o[(h->n - 1) * h->hd]);
}

static void selftest_sees_every_entry(void **state)
{
    (void)state;
    const struct kernels good = *scalar();
    struct kernels k[14];
    for (unsigned i = 0; i < 14; i++) k[i] = good;
    k[0].product = bad_product;
    k[1].quantize = bad_quantize;
    k[2].norm = bad_norm;
    k[3].swiglu = bad_swiglu;
    k[4].sigmoid = bad_sigmoid;
    k[5].add = bad_add;
    k[6].exchange = bad_exchange;
    k[7].narrow = bad_narrow;
    k[8].widen = bad_widen;
    k[9].scores = bad_scores;
    k[10].max = bad_max;
    k[11].exp_sum = bad_exp_sum;
    k[12].weigh = bad_weigh;
    k[13].rotate = bad_rotate;
    for (unsigned i = 0; i < 14; i++) {
        struct why why = { "" };
        assert_int_equal(kernels_selftest(&k[i], &why), ERR_UNSUPPORTED);
        assert_non_null(strstr(why.text, "scalar"));
    }
    assert_int_equal(kernels_selftest(&good, NULL), ERR_OK);
}

#ifdef __x86_64__
#include <xmmintrin.h>

static const unsigned flushes[] = { 0x0040, 0x8000 }; /* of inputs (DAZ), of results (FTZ) */
static unsigned float_control(void)
{
    return _mm_getcsr();
}
static void set_float_control(unsigned bits)
{
    _mm_setcsr(bits);
}
#elif defined(__aarch64__)
static const unsigned flushes[] = { 1 << 24 }; /* FPCR.FZ: of both */
static unsigned float_control(void)
{
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    return (unsigned)fpcr;
}
static void set_float_control(unsigned bits)
{
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)bits) : "memory");
}
#endif

#if defined(__x86_64__) || defined(__aarch64__)
/* A thread that flushes subnormals to zero computes something else: the self-test must say so. */
static void selftest_sees_flush_to_zero(void **state)
{
    (void)state;
    const struct kernels *k;
    unsigned normal = float_control();
    for (unsigned i = 0; (k = kernels_nth(i)) != NULL; i++) {
        for (unsigned f = 0; f < sizeof flushes / sizeof *flushes; f++) {
            set_float_control(normal | flushes[f]);
            enum err e = kernels_selftest(k, NULL);
            set_float_control(normal);
            assert_int_equal(e, ERR_UNSUPPORTED);
        }
    }
}
#endif

static void picks_by_name(void **state)
{
    (void)state;
    const struct kernels *k, *last = NULL;
    struct why why = { "" };
    assert_string_equal(kernels_nth(0)->isa, "scalar");
    for (unsigned i = 0; (k = kernels_nth(i)) != NULL; i++) {
        assert_ptr_equal(kernels_pick(k->isa, &why), k);
        last = k;
    }
    assert_ptr_equal(kernels_pick(NULL, &why), last);
    assert_null(kernels_nth(1000));
    assert_null(kernels_pick("mmx", &why));
    assert_non_null(strstr(why.text, "mmx"));
    assert_null(kernels_pick("", NULL));
}

static void count(void *arg, uint32_t i)
{
    ((unsigned *)arg)[i]++;
}

static void inline_workers_do_each_task_once(void **state)
{
    (void)state;
    unsigned done[9] = { 0 };
    struct workers *w = workers_inline();
    assert_int_equal(w->n, 1);
    w->run(w, count, done, 8);
    w->run(w, count, done, 0);
    for (unsigned i = 0; i < 9; i++) assert_int_equal(done[i], i < 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_of_all_shapes),
        cmocka_unit_test(products_of_all_batches),
        cmocka_unit_test(products_of_nasty_values),
        cmocka_unit_test(products_of_any_bytes),
        cmocka_unit_test(product_is_the_product),
        cmocka_unit_test(quantizes),
        cmocka_unit_test(quantizes_ties_to_even),
        cmocka_unit_test(quantize_keeps_what_is_not_finite),
        cmocka_unit_test(selftest_passes),
        cmocka_unit_test(selftest_sees_every_entry),
#if defined(__x86_64__) || defined(__aarch64__)
        cmocka_unit_test(selftest_sees_flush_to_zero),
#endif
        cmocka_unit_test(picks_by_name),
        cmocka_unit_test(inline_workers_do_each_task_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
