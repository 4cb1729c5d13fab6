/* The entries that work along a vector (norm, swiglu, sigmoid, add, exchange, narrow, widen) and
 * those of attention: every table against the scalar one bit for bit, the scalar one against plain
 * double arithmetic. */
#include "kernels/kernels.h"
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

static void *bytes(size_t n)
{
    void *p = malloc(n ? n : 1);
    assert_non_null(p);
    return p;
}

static const uint32_t lengths[] = { 1, 2, 7, 15, 16, 17, 31, 32, 33, 48, 63, 64, 100, 1000 };
enum { N_LENGTHS = sizeof lengths / sizeof *lengths };
static const enum ftype ftypes[] = { FT_F32, FT_F16, FT_BF16 };

/* Room for in, second input, two outputs, each n floats, starting one float off alignment. */
struct vectors {
    uint32_t n;
    float *a, *b, *want, *got;
};

static struct vectors vectors_of(uint32_t n, uint64_t *seed, enum kind kind, float large)
{
    struct vectors v = { n, bytes(4 * n), bytes(4 * n), bytes(4 * n), bytes(4 * n) };
    draw_values(v.a, n, seed, kind, large);
    draw_values(v.b, n, seed, ORDINARY, 0);
    return v;
}

static void vectors_fini(struct vectors *v)
{
    free(v->a);
    free(v->b);
    free(v->want);
    free(v->got);
}

/* One of the entries of the shape y = f(a, b). */
enum entry { NORM, SWIGLU, SIGMOID, ADD, ENTRIES };

static void apply(const struct kernels *k, enum entry e, float *y, const float *a, const float *b,
                  uint32_t n)
{
    switch (e) {
    case NORM: k->norm(y, a, b, n, 1e-5f); break;
    case SWIGLU: k->swiglu(y, a, b, n); break;
    case SIGMOID: k->sigmoid(y, a, n); break;
    default: k->add(y, a, b, n); break;
    }
}

static void entries_agree(void **state)
{
    (void)state;
    const struct kernels *k;
    uint64_t seed = 21;
    for (unsigned i = 0; i < N_LENGTHS; i++) {
        for (unsigned kind = 0; kind < KINDS; kind++) {
            struct vectors v = vectors_of(lengths[i], &seed, (enum kind)kind, 1e16f);
            for (unsigned e = 0; e < ENTRIES; e++) {
                apply(scalar(), (enum entry)e, v.want, v.a, v.b, v.n);
                for (uint32_t j = 0; j < v.n; j++) assert_true(isfinite(v.want[j]));
                EACH_VECTOR_TABLE(k)
                {
                    apply(k, (enum entry)e, v.got, v.a, v.b, v.n);
                    assert_memory_equal(v.got, v.want, 4 * v.n);
                    /* in place */
                    memcpy(v.got, v.a, 4 * v.n);
                    apply(k, (enum entry)e, v.got, v.got, v.b, v.n);
                    assert_memory_equal(v.got, v.want, 4 * v.n);
                }
            }
            vectors_fini(&v);
        }
    }
}

/* Weights of a norm lie in a tile, at any address. */
static void norm_takes_unaligned_weights(void **state)
{
    (void)state;
    enum { N = 100 };
    float x[N], w[N], want[N], got[N];
    uint8_t odd[4 * N + 1];
    const struct kernels *k;
    uint64_t seed = 22;
    draw_values(x, N, &seed, ORDINARY, 0);
    draw_values(w, N, &seed, ORDINARY, 0);
    memcpy(odd + 1, w, sizeof w);
    scalar()->norm(want, x, w, N, 1e-6f);
    for (unsigned i = 0; (k = kernels_nth(i)) != NULL; i++) {
        k->norm(got, x, (const float *)(const void *)(odd + 1), N, 1e-6f);
        assert_memory_equal(got, want, sizeof want);
    }
}

static void close_to(float got, double exact, double relative)
{
    double error = fabs((double)got - exact);
    if (error > relative * fabs(exact) + 0x1p-149) fail_msg("%.9g, not %.9g", (double)got, exact);
}

static void entries_are_what_they_say(void **state)
{
    (void)state;
    uint64_t seed = 23;
    struct vectors v = vectors_of(1000, &seed, ORDINARY, 0);
    double squares = 0;
    for (uint32_t i = 0; i < v.n; i++) squares += (double)v.a[i] * (double)v.a[i];
    double r = 1 / sqrt(squares / v.n + 1e-5);

    scalar()->norm(v.want, v.a, v.b, v.n, 1e-5f);
    for (uint32_t i = 0; i < v.n; i++)
        close_to(v.want[i], (double)v.b[i] * ((double)v.a[i] * r), 4e-6);
    for (uint32_t i = 0; i < v.n; i++) v.a[i] *= 20; /* to +-80 */
    scalar()->swiglu(v.want, v.a, v.b, v.n);
    for (uint32_t i = 0; i < v.n; i++) {
        double g = (double)v.a[i];
        close_to(v.want[i], g / (1 + exp(-g)) * (double)v.b[i], 3e-7);
    }
    scalar()->sigmoid(v.want, v.a, v.n);
    for (uint32_t i = 0; i < v.n; i++) close_to(v.want[i], 1 / (1 + exp(-(double)v.a[i])), 3e-7);
    vectors_fini(&v);
}

/* --- exchange, narrow, widen --- */

static void exchange_agrees(void **state)
{
    (void)state;
    const float factors[] = { 1, 0.37f, -3, 0x1p-130f };
    const struct kernels *k;
    uint64_t seed = 24;
    for (unsigned i = 0; i < N_LENGTHS; i++) {
        for (unsigned c = 0; c < KINDS * 4 * 3; c++) {
            enum kind kind = (enum kind)(c % KINDS);
            float s = factors[c / KINDS % 4];
            enum ftype t = ftypes[c / KINDS / 4];
            struct vectors v = vectors_of(lengths[i], &seed, kind, 7e4f);
            bool finite = scalar()->exchange(v.want, v.a, s, v.n, t), all = true;
            for (uint32_t j = 0; j < v.n; j++) all &= isfinite(v.want[j]) != 0;
            assert_int_equal(finite, all);
            EACH_VECTOR_TABLE(k)
            {
                assert_int_equal(k->exchange(v.got, v.a, s, v.n, t), finite);
                assert_memory_equal(v.got, v.want, 4 * v.n);
                memcpy(v.got, v.a, 4 * v.n);
                assert_int_equal(k->exchange(v.got, v.got, s, v.n, t), finite);
                assert_memory_equal(v.got, v.want, 4 * v.n);
            }
            vectors_fini(&v);
        }
    }
}

static void exchange_rounds_as_narrow(void **state)
{
    (void)state;
    enum { N = 50 };
    float x[N], y[N], z[N];
    uint8_t small[4 * N];
    uint64_t seed = 25;
    draw_values(x, N, &seed, WIDE, 0);
    for (unsigned t = 0; t < 3; t++) {
        assert_true(scalar()->exchange(y, x, 1, N, ftypes[t]));
        scalar()->narrow(small, x, N, ftypes[t]);
        scalar()->widen(z, small, N, ftypes[t]);
        assert_memory_equal(y, z, sizeof y);
    }
}

/* One value that is not finite, anywhere, in any type. */
static void exchange_notices(void **state)
{
    (void)state;
    const float bad[] = { NAN, -NAN, INFINITY, -INFINITY, 3.4e38f, 65520 };
    const struct kernels *k;
    for (unsigned i = 0; (k = kernels_nth(i)) != NULL; i++) {
        for (uint32_t n = 1; n <= 40; n++) {
            for (uint32_t at = 0; at < n; at++) {
                for (unsigned b = 0; b < 6; b++) {
                    float x[40] = { 1 }, y[40];
                    x[at] = bad[b];
                    assert_int_equal(k->exchange(y, x, 1, n, FT_F32), b >= 4);
                    assert_int_equal(k->exchange(y, x, 1, n, FT_BF16), b >= 5);
                    assert_false(k->exchange(y, x, 1, n, FT_F16));
                }
            }
        }
    }
}

static void narrow_and_widen_agree(void **state)
{
    (void)state;
    const struct kernels *k;
    uint64_t seed = 26;
    for (unsigned i = 0; i < N_LENGTHS; i++) {
        for (unsigned c = 0; c < KINDS * 3; c++) {
            enum ftype t = ftypes[c / KINDS];
            struct vectors v = vectors_of(lengths[i], &seed, (enum kind)(c % KINDS), 7e4f);
            size_t n = v.n * ftype_bytes(t);
            uint8_t *want = bytes(n + 1), *got = bytes(n + 1); /* from odd addresses */
            scalar()->narrow(want + 1, v.a, v.n, t);
            scalar()->widen(v.want, want + 1, v.n, t);
            EACH_VECTOR_TABLE(k)
            {
                k->narrow(got + 1, v.a, v.n, t);
                assert_memory_equal(got + 1, want + 1, n);
                k->widen(v.got, got + 1, v.n, t);
                assert_memory_equal(v.got, v.want, 4 * v.n);
            }
            free(want);
            free(got);
            vectors_fini(&v);
        }
    }
}

/* --- attention --- */

enum { POSITIONS = 70, ROOM = 80, STRIDE = 83, HEADS = 27 };
static const uint32_t head_dims[] = { 1, 8, 16, 24, 33, 40, 64, 80, 128 };

/* Queries, and stored keys and values of a KV head; sizes for HEADS query heads. */
struct group {
    uint32_t hd;
    enum ftype kv;
    float *q, *kf, *vf; /* kf, vf: [position][hd], the stored ones, widened */
    uint8_t *k, *v;     /* as struct heads says */
    float *want, *got;  /* scores, or sums [heads][hd] */
    size_t bytes;       /* of each of those */
};

static float *stored_values(uint8_t *to, size_t n, enum ftype kv, enum kind kind, uint64_t *seed)
{
    float *f = bytes(4 * n);
    draw_values(f, n, seed, kind, 65504);
    scalar()->narrow(to, f, (uint32_t)n, kv);
    scalar()->widen(f, to, (uint32_t)n, kv);
    return f;
}

static struct group group_of(uint32_t hd, enum ftype kv, enum kind kind, uint64_t *seed)
{
    size_t n = (size_t)hd * ROOM, size = ftype_bytes(kv);
    struct group g = { .hd = hd,
                       .kv = kv,
                       .bytes = 4 * HEADS * (size_t)(hd > STRIDE ? hd : STRIDE) };
    g.q = bytes(4 * (size_t)HEADS * hd);
    g.k = bytes(size * n);
    g.v = bytes(size * n);
    g.want = bytes(g.bytes);
    g.got = bytes(g.bytes);
    draw_values(g.q, (size_t)HEADS * hd, seed, kind, 1e15f);
    g.kf = stored_values(g.v, n, kv, kind, seed); /* v: for the time being */
    for (uint32_t t = 0; t < ROOM; t++)
        for (uint32_t i = 0; i < hd; i++)
            memcpy(g.k + ((t / 16 * hd + i) * 16 + t % 16) * size, g.v + (t * hd + i) * size, size);
    g.vf = stored_values(g.v, n, kv, kind, seed);
    return g;
}

static void group_fini(struct group *g)
{
    free(g->q);
    free(g->k);
    free(g->v);
    free(g->kf);
    free(g->vf);
    free(g->want);
    free(g->got);
}

static void check_scores(struct group *g, uint32_t heads, uint32_t n)
{
    const struct heads h = { heads, g->hd, g->kv, STRIDE };
    const struct kernels *k;
    scalar()->scores(g->want, g->q, g->k, &h, n, 0.088388346f);
    EACH_VECTOR_TABLE(k)
    {
        memset(g->got, 0x55, g->bytes);
        k->scores(g->got, g->q, g->k, &h, n, 0.088388346f);
        for (uint32_t j = 0; j < heads; j++) {
            size_t at = (size_t)j * STRIDE, end = at + (n + 15) / 16 * 16;
            assert_memory_equal(g->got + at, g->want + at, 4 * n);
            for (; end < at + STRIDE; end++) /* nothing written past the block */
                assert_memory_equal(g->got + end, "\x55\x55\x55\x55", 4);
        }
    }
}

static void check_weigh(struct group *g, const float *e, uint32_t heads, uint32_t n)
{
    const struct heads h = { heads, g->hd, g->kv, STRIDE };
    const struct kernels *k;
    size_t all = 4 * (size_t)HEADS * g->hd;
    memcpy(g->want, g->q, all);
    scalar()->weigh(g->want, e, g->v, &h, n);
    assert_memory_equal(g->want + heads * g->hd, g->q + heads * g->hd, all - 4 * heads * g->hd);
    EACH_VECTOR_TABLE(k)
    {
        memcpy(g->got, g->q, all);
        k->weigh(g->got, e, g->v, &h, n);
        assert_memory_equal(g->got, g->want, all);
    }
}

static void attention_agrees(void **state)
{
    (void)state;
    uint64_t seed = 27;
    float e[HEADS * STRIDE];
    for (unsigned i = 0; i < sizeof head_dims / 4; i++) {
        for (unsigned c = 0; c < 3 * KINDS; c++) {
            struct group g = group_of(head_dims[i], ftypes[c % 3], (enum kind)(c / 3), &seed);
            draw_values(e, HEADS * STRIDE, &seed, (enum kind)(c / 3), 1);
            for (uint32_t heads = 1; heads <= HEADS; heads += heads < 17 ? 1 : 5) {
                uint32_t n = 1 + (uint32_t)(draw(&seed) % POSITIONS);
                check_scores(&g, heads, n);
                check_weigh(&g, e, heads, n);
            }
            for (uint32_t n = 0; n <= POSITIONS; n += n < 34 ? 1 : 9) {
                check_scores(&g, 5, n);
                check_weigh(&g, e, 5, n);
            }
            group_fini(&g);
        }
    }
}

static void attention_is_what_it_says(void **state)
{
    (void)state;
    uint64_t seed = 28;
    struct group g = group_of(80, FT_F16, ORDINARY, &seed);
    const struct heads h = { 2, 80, FT_F16, STRIDE };
    const float *q = g.q + 80;
    float *s = g.want + STRIDE, o[160] = { 0 }; /* the second head */
    scalar()->scores(g.want, g.q, g.k, &h, POSITIONS, 0.1f);
    for (uint32_t t = 0; t < POSITIONS; t++) {
        double exact = 0, size = 0;
        for (uint32_t i = 0; i < 80; i++) {
            double product = (double)q[i] * (double)g.kf[t * 80 + i];
            exact += product;
            size += fabs(product);
        }
        assert_true(fabs((double)s[t] - exact * (double)0.1f) <= 12 * 0x1p-24 * size * 0.1);
    }
    float most = scalar()->max(s, POSITIONS), *e = g.got + STRIDE;
    memcpy(g.got, g.want, g.bytes);
    float sum = scalar()->exp_sum(e, POSITIONS, most);
    double exact_sum = 0;
    for (uint32_t t = 0; t < POSITIONS; t++) {
        assert_true(s[t] <= most);
        double x = exp((double)(s[t] - most));
        close_to(e[t], x, 2e-7);
        exact_sum += x;
    }
    close_to(sum, exact_sum, 1e-6);
    scalar()->weigh(o, g.got, g.v, &h, POSITIONS);
    for (uint32_t c = 0; c < 80; c++) {
        double exact = 0, size = 0;
        for (uint32_t t = 0; t < POSITIONS; t++) {
            exact += (double)e[t] * (double)g.vf[t * 80 + c];
            size += fabs((double)e[t] * (double)g.vf[t * 80 + c]);
        }
        assert_true(fabs((double)o[80 + c] - exact) <= POSITIONS * 0x1p-24 * size);
    }
    group_fini(&g);
}

static void rotations_agree(void **state)
{
    (void)state;
    const struct kernels *k;
    uint64_t seed = 31;
    for (uint32_t half = 1; half <= 70; half++)
        for (unsigned kind = 0; kind < 2 * KINDS; kind++) {
            uint32_t n = 2 * half + 3; /* the last elements do not turn */
            struct vectors v = vectors_of(n, &seed, (enum kind)(kind / 2), 3);
            float *c = v.b, *s = v.b + half;
            memcpy(v.want, v.a, 4 * n);
            scalar()->rotate(v.want, c, s, half, kind % 2);
            assert_memory_equal(v.want + 2 * half, v.a + 2 * half, 12);
            EACH_VECTOR_TABLE(k)
            {
                memcpy(v.got, v.a, 4 * n);
                k->rotate(v.got, c, s, half, kind % 2);
                assert_memory_equal(v.got, v.want, 4 * n);
            }
            vectors_fini(&v);
        }
}

static void exp_sums_agree(void **state)
{
    (void)state;
    const struct kernels *k;
    uint64_t seed = 29;
    for (uint32_t n = 1; n <= KV_CHUNK; n += n < 70 ? 1 : 17) {
        for (unsigned kind = 0; kind < KINDS; kind++) {
            struct vectors v = vectors_of(n, &seed, (enum kind)kind, 200);
            float most = scalar()->max(v.a, n);
            memcpy(v.want, v.a, 4 * n);
            float sum = scalar()->exp_sum(v.want, n, most);
            EACH_VECTOR_TABLE(k)
            {
                float most2 = k->max(v.a, n);
                assert_memory_equal(&most2, &most, 4);
                memcpy(v.got, v.a, 4 * n);
                float sum2 = k->exp_sum(v.got, n, most);
                assert_memory_equal(&sum2, &sum, 4);
                assert_memory_equal(v.got, v.want, 4 * n);
            }
            vectors_fini(&v);
        }
    }
}

/* -0 is below +0, infinities count, the largest may be anywhere. */
static void max_orders_all_floats(void **state)
{
    (void)state;
    const float rising[] = { -INFINITY, -3.4e38f,  -1, -0x1p-149f, -0.0f,
                             0,         0x1p-149f, 1,  3.4e38f,    INFINITY };
    const struct kernels *k;
    for (unsigned i = 0; (k = kernels_nth(i)) != NULL; i++) {
        for (uint32_t n = 1; n <= 40; n++) {
            for (uint32_t at = 0; at < n; at++) {
                for (unsigned r = 1; r < 10; r++) {
                    float s[40];
                    for (uint32_t j = 0; j < n; j++) s[j] = rising[j % r];
                    s[at] = rising[r];
                    float m = k->max(s, n);
                    assert_memory_equal(&m, &rising[r], 4);
                }
            }
        }
    }
}

/* A score that is not a number reaches the sum, so that the session ends with an error. */
static void exp_sum_keeps_nan(void **state)
{
    (void)state;
    const struct kernels *k;
    for (unsigned i = 0; (k = kernels_nth(i)) != NULL; i++) {
        for (uint32_t at = 0; at < 20; at++) {
            for (int sign = 0; sign < 2; sign++) {
                float s[20] = { 1, 2, 3 };
                s[at] = sign ? -NAN : NAN;
                float most = k->max(s, 20);
                assert_true(isnan(k->exp_sum(s, 20, most)));
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_agree),
        cmocka_unit_test(norm_takes_unaligned_weights),
        cmocka_unit_test(entries_are_what_they_say),
        cmocka_unit_test(exchange_agrees),
        cmocka_unit_test(exchange_rounds_as_narrow),
        cmocka_unit_test(exchange_notices),
        cmocka_unit_test(narrow_and_widen_agree),
        cmocka_unit_test(attention_agrees),
        cmocka_unit_test(attention_is_what_it_says),
        cmocka_unit_test(rotations_agree),
        cmocka_unit_test(exp_sums_agree),
        cmocka_unit_test(max_orders_all_floats),
        cmocka_unit_test(exp_sum_keeps_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
