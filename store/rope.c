#include "store/rope.h"

/* --- numbers of about 100 bits: the unevaluated sum of two doubles (Dekker 1971) --- */

struct dd {
    double hi, lo;
};

static struct dd quick_sum(double a, double b) /* |a| >= |b| */
{
    double s = a + b;
    return (struct dd){ s, b - (s - a) };
}

static struct dd add(struct dd a, struct dd b)
{
    double s = a.hi + b.hi, t = s - a.hi;
    double rest = (a.hi - (s - t)) + (b.hi - t);
    return quick_sum(s, rest + a.lo + b.lo);
}

static struct dd mul(struct dd a, struct dd b)
{
    double p = a.hi * b.hi;
    double rest = __builtin_fma(a.hi, b.hi, -p);
    return quick_sum(p, rest + (a.hi * b.lo + a.lo * b.hi));
}

static struct dd div_by(struct dd a, double b)
{
    double q = a.hi / b;
    double rest = __builtin_fma(-q, b, a.hi) + a.lo;
    return quick_sum(q, rest / b);
}

/* e^x for |x| < 700: x is divided by 2^SQUARINGS, a Taylor series, and squared as often. */
static struct dd dd_exp(struct dd x)
{
    enum { SQUARINGS = 12, TERMS = 12 };
    struct dd y = { x.hi / (1 << SQUARINGS), x.lo / (1 << SQUARINGS) };
    struct dd sum = { 1, 0 };

    for (int n = TERMS; n >= 1; n--) sum = add((struct dd){ 1, 0 }, div_by(mul(sum, y), n));
    for (int i = 0; i < SQUARINGS; i++) sum = mul(sum, sum);
    return sum;
}

/* Newton on e^y = x: the error of y squares at each step, from below 0.7. */
static struct dd dd_log(double x)
{
    struct dd y = { 0, 0 };

    for (double v = x; v >= 2; v /= 2) y.hi += 0.6931471805599453;
    for (double v = x; v < 0.75; v *= 2) y.hi -= 0.6931471805599453;
    for (int i = 0; i < 8; i++) {
        struct dd e = mul((struct dd){ x, 0 }, dd_exp((struct dd){ -y.hi, -y.lo }));
        y = add(y, add(e, (struct dd){ -1, 0 }));
    }
    return y;
}

double exact_log(double x)
{
    struct dd y = dd_log(x);
    return y.hi + y.lo;
}

double exact_pow(double x, double num, double den)
{
    struct dd y = dd_exp(div_by(mul(dd_log(x), (struct dd){ num, 0 }), den));
    return y.hi + y.lo;
}

/* --- the four kinds --- */

static const double PI = 3.14159265358979323846;

/* Long waves are stretched by factor, short ones kept, and between them blended. */
static double llama3(double f, const struct rope *r)
{
    double wave = 2 * PI / f;

    if (wave < r->original / r->high) return f;
    if (wave > r->original / r->low) return f / r->factor;
    double s = (r->original / wave - r->low) / (r->high - r->low);
    return (1 - s) * f / r->factor + s * f;
}

/* The index whose wave turns n times within the original positions. */
static double yarn_index(double n, const struct rope *r)
{
    return r->dims * exact_log(r->original / (2 * PI * n)) / (2 * exact_log(r->theta));
}

static double yarn(double f, uint32_t i, const struct rope *r)
{
    double low = __builtin_floor(yarn_index(r->beta_fast, r));
    double high = __builtin_ceil(yarn_index(r->beta_slow, r));

    if (low < 0) low = 0;
    if (high > r->dims - 1) high = r->dims - 1;
    if (high == low) high += 0.001; /* as the reference: no division by 0 */
    double g = (i - low) / (high - low);
    g = g < 0 ? 0 : g > 1 ? 1 : g;
    return f / r->factor * g + f * (1 - g);
}

void rope_fill(struct arch *a, const struct rope *r)
{
    a->rope_half = r->dims / 2;
    a->rope_scale = 1;
    if (r->type == ROPE_YARN)
        a->rope_scale = r->attention > 0 ? r->attention : 0.1 * exact_log(r->factor) + 1;
    for (uint32_t i = 0; i < a->rope_half; i++) {
        double f = exact_pow(r->theta, -2.0 * i, r->dims);
        switch (r->type) {
        case ROPE_DEFAULT: break;
        case ROPE_LINEAR: f /= r->factor; break;
        case ROPE_LLAMA3: f = llama3(f, r); break;
        case ROPE_YARN: f = yarn(f, i, r); break;
        }
        a->rope_freq[i] = f;
    }
}
