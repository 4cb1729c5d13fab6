#include "model/depth.h"

enum {
    PLAIN_FIRST = 2,  /* trips without drafts before the first with, */
    HOME_FIRST = 16,  /* and where nothing travels: a short answer is over before it pays */
    PLAIN_EVERY = 32, /* then one in so many */
    PLAIN_MEAN = 16,  /* their time is a mean of about so many */
    SEEN_MAX = 48,    /* drafts remembered, of a source and bin */
    DRAFT_MEAN = 8,   /* a draft's time likewise */
    REST_FIRST = 8,   /* choices without a source that did not help; doubled each time */
    REST_MAX = 512,
    TRY_FIRST = 3, /* drafts in the first trip with a source */
};
static const double PRIOR = 2;          /* what was believed before counts as so many drafts */
static const double DRAFT_SHARE = 0.05; /* of a trip, believed of a draft's time, */
static const double HOME_SHARE = 0.6;   /* and where nothing travels */
static const double GAIN_LEAST = 1.02;  /* worth it, */
static const double HOME_LEAST = 1.1;   /* where a trip is so short that its time is uncertain */
static const double SAVED_MAX = 10;     /* trips: what was gained long ago pays for no loss */
static const double HICCUP = 3;         /* times the usual: the machine did something else */

static const double believed[DEPTH_SOURCES] = { 0.35, 0.5, 0.6, 0.75, 0.85, 0.6 };

void depth_init(struct depth *d)
{
    *d = (struct depth){ 0 };
    for (uint32_t s = 0; s < DEPTH_SOURCES; s++) d->source[s].rests = REST_FIRST;
}

uint32_t depth_source_of(uint32_t agree)
{
    return agree <= 2 ? 0 : agree == 3 ? 1 : agree <= 5 ? 2 : agree <= 9 ? 3 : 4;
}

/* --- what was seen --- */

static void see_plain(struct depth *d, double us)
{
    if (d->n_plain >= PLAIN_FIRST && us > HICCUP * d->plain_us) us = HICCUP * d->plain_us;
    if (d->n_plain < PLAIN_MEAN) d->n_plain++;
    d->plain_us += (us - d->plain_us) / d->n_plain;
    d->n_drafted = 0;
}

static void see_drafts(struct depth_source *s, uint32_t n, uint32_t right)
{
    for (uint32_t i = 0; i < n && i <= right; i++) {
        uint32_t bin = i < DEPTH_BINS ? i : DEPTH_BINS - 1;
        if (s->seen[bin] >= SEEN_MAX) {
            s->seen[bin] /= 2;
            s->right[bin] /= 2;
        }
        s->seen[bin]++;
        s->right[bin] += i < right;
    }
}

static void see_time(struct depth *d, struct depth_source *s, uint32_t n, double us)
{
    double most = HICCUP * d->plain_us, each = (us - d->plain_us) / n;
    if (each < 0) each = 0;
    if (each > most) each = most;
    s->n_tried++;
    uint32_t mean = s->n_tried < DRAFT_MEAN ? s->n_tried : DRAFT_MEAN;
    s->draft_us += (each - s->draft_us) / mean;
    if (n > s->most_tried) s->most_tried = n;
}

void depth_trip(struct depth *d, uint32_t source, uint32_t n, uint32_t right, double us)
{
    if (!(us >= 0)) return;
    d->all_us += us;
    if (n == 0) {
        see_plain(d, us);
        return;
    }
    struct depth_source *s = &d->source[source];
    see_drafts(s, n, right);
    d->n_drafted++;
    if (d->n_plain == 0) return;
    see_time(d, s, n, us);
    double saved = (1.0 + right) * d->plain_us - us, max = SAVED_MAX * d->plain_us;
    if (saved < -max) saved = -max;
    d->saved_us = d->saved_us + saved < max ? d->saved_us + saved : max;
}

/* --- what to do --- */

static double share(const struct depth *d, uint32_t source, uint32_t i)
{
    const struct depth_source *s = &d->source[source];
    uint32_t bin = i < DEPTH_BINS ? i : DEPTH_BINS - 1;
    return (s->right[bin] + believed[source] * PRIOR) / (s->seen[bin] + PRIOR);
}

/* Tokens a second with n drafts over those with none. */
static uint32_t best(const struct depth *d, uint32_t source, uint32_t most, double *gain)
{
    const struct depth_source *s = &d->source[source];
    double each = d->is_home ? HOME_SHARE : DRAFT_SHARE, tokens = 1, all = 1;
    uint32_t n = 0;
    if (s->n_tried) each = s->draft_us / d->plain_us;
    *gain = 1;
    for (uint32_t k = 1; k <= most; k++) {
        all *= share(d, source, k - 1);
        tokens += all;
        double g = tokens / (1 + k * each);
        if (g <= *gain) continue;
        *gain = g;
        n = k;
    }
    return *gain >= (d->is_home ? HOME_LEAST : GAIN_LEAST) ? n : 0;
}

uint32_t depth_choose(struct depth *d, uint32_t source, uint32_t most, double *gain)
{
    struct depth_source *s = &d->source[source];
    *gain = 1;
    uint32_t first = d->is_home ? HOME_FIRST : PLAIN_FIRST;
    if (most == 0 || d->n_plain < first || d->n_drafted >= PLAIN_EVERY) return 0;
    if (d->saved_us < -DEPTH_LOSS * d->all_us) return 0;
    uint32_t bold = s->n_tried ? 2 * s->most_tried : TRY_FIRST;
    uint32_t n = best(d, source, most < bold ? most : bold, gain);
    if (n > 0) {
        s->rest = 0;
        s->rests = REST_FIRST;
        return n;
    }
    if (s->rest == 0) {
        s->rest = s->rests;
        s->rests = s->rests < REST_MAX ? 2 * s->rests : REST_MAX;
    }
    return --s->rest == 0 ? 1 : 0;
}
