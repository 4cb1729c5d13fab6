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

enum { POSITIONS = 37 };
static const uint32_t head_dims[] = { 1, 8, 16, 24, 33, 64, 80, 128 };

/* A head's query, its stored keys (or values) and scores. */
struct head {
    uint32_t hd;
    enum ftype kv;
    float *q, *kf; /* kf: the stored ones, widened */
    uint8_t *k;
    float want[POSITIONS], got[POSITIONS];
};

static struct head head_of(uint32_t hd, enum ftype kv, enum kind kind, uint64_t *seed)
{
    size_t n = (size_t)hd * POSITIONS;
    struct head h = { .hd = hd, .kv = kv };
    h.q = bytes(4 * hd);
    h.kf = bytes(4 * n);
    h.k = bytes(ftype_bytes(kv) * n);
    draw_values(h.q, hd, seed, kind, 1e15f);
    draw_values(h.kf, n, seed, kind, 65504);
    scalar()->narrow(h.k, h.kf, (uint32_t)n, kv);
    scalar()->widen(h.kf, h.k, (uint32_t)n, kv);
    return h;
}

static void head_fini(struct head *h)
{
    free(h->q);
    free(h->kf);
    free(h->k);
}

static void check_scores(struct head *h, uint32_t t0, uint32_t t1)
{
    const struct kernels *k;
    memset(h->want, 0x55, sizeof h->want);
    scalar()->scores(h->want, h->q, h->k, h->kv, h->hd, t0, t1, 0.088388346f);
    EACH_VECTOR_TABLE(k)
    {
        memset(h->got, 0x55, sizeof h->got);
        k->scores(h->got, h->q, h->k, h->kv, h->hd, t0, t1, 0.088388346f);
        assert_memory_equal(h->got, h->want, sizeof h->want);
    }
}

static void check_weigh(struct head *h, const float *e, uint32_t c0, uint32_t c1, uint32_t n)
{
    const struct kernels *k;
    float *want = bytes(4 * h->hd), *got = bytes(4 * h->hd);
    memcpy(want, h->q, 4 * h->hd);
    scalar()->weigh(want, e, h->k, h->kv, h->hd, c0, c1, n);
    EACH_VECTOR_TABLE(k)
    {
        memcpy(got, h->q, 4 * h->hd);
        k->weigh(got, e, h->k, h->kv, h->hd, c0, c1, n);
        assert_memory_equal(got, want, 4 * h->hd);
    }
    free(want);
    free(got);
}

static void attention_agrees(void **state)
{
    (void)state;
    uint64_t seed = 27;
    for (unsigned i = 0; i < sizeof head_dims / 4; i++) {
        for (unsigned c = 0; c < 3 * KINDS; c++) {
            struct head h = head_of(head_dims[i], ftypes[c % 3], (enum kind)(c / 3), &seed);
            for (uint32_t t0 = 0; t0 < POSITIONS; t0 += 5)
                for (uint32_t t1 = t0; t1 <= POSITIONS; t1 += 3) check_scores(&h, t0, t1);
            float e[POSITIONS];
            draw_values(e, POSITIONS, &seed, (enum kind)(c / 3), 1);
            for (uint32_t n = 0; n <= POSITIONS; n += 7) {
                uint32_t c0 = (uint32_t)(draw(&seed) % h.hd);
                uint32_t c1 = c0 + (uint32_t)(draw(&seed) % (h.hd - c0 + 1));
                check_weigh(&h, e, c0, c1, n);
                check_weigh(&h, e, 0, h.hd, n);
            }
            head_fini(&h);
        }
    }
}

static void attention_is_what_it_says(void **state)
{
    (void)state;
    uint64_t seed = 28;
    struct head h = head_of(80, FT_F16, ORDINARY, &seed);
    scalar()->scores(h.want, h.q, h.k, h.kv, 80, 0, POSITIONS, 0.1f);
    for (uint32_t t = 0; t < POSITIONS; t++) {
        double exact = 0, size = 0;
        for (uint32_t i = 0; i < 80; i++) {
            double product = (double)h.q[i] * (double)h.kf[t * 80 + i];
            exact += product;
            size += fabs(product);
        }
        assert_true(fabs((double)h.want[t] - exact * (double)0.1f) <= 12 * 0x1p-24 * size * 0.1);
    }
    float most = scalar()->max(h.want, POSITIONS), o[80] = { 0 };
    memcpy(h.got, h.want, sizeof h.want);
    float sum = scalar()->exp_sum(h.got, POSITIONS, most);
    double exact_sum = 0;
    for (uint32_t t = 0; t < POSITIONS; t++) {
        assert_true(h.want[t] <= most);
        double e = exp((double)(h.want[t] - most));
        close_to(h.got[t], e, 2e-7);
        exact_sum += e;
    }
    close_to(sum, exact_sum, 1e-6);
    scalar()->weigh(o, h.got, h.k, h.kv, 80, 0, 80, POSITIONS);
    for (uint32_t c = 0; c < 80; c++) {
        double exact = 0, size = 0;
        for (uint32_t t = 0; t < POSITIONS; t++) {
            exact += (double)h.got[t] * (double)h.kf[t * 80 + c];
            size += fabs((double)h.got[t] * (double)h.kf[t * 80 + c]);
        }
        assert_true(fabs((double)o[c] - exact) <= POSITIONS * 0x1p-24 * size);
    }
    head_fini(&h);
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
        cmocka_unit_test(exp_sums_agree),
        cmocka_unit_test(max_orders_all_floats),
        cmocka_unit_test(exp_sum_keeps_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
