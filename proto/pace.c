#include "proto/pace.h"

enum {
    START_US = 20000,  /* a look, or a round trip where that is longer */
    STEADY_US = 40000, /* likewise */
    LAG_US = 15000,    /* what a step does shows a round trip later: where that is longer, less */
    PATIENCE = 32,     /* looks without a queue: then ever faster */
    LOW_LOOKS = 4,
    LONG_US = 500000,            /* a look in which hardly anything arrives */
    LEAST_BYTES = 8 << 10,       /* of a look, to say how fast bytes arrive: TCP sends gulps, */
    LEAST_BYTES_NEAR = 64 << 10, /* and large ones where the round trip is short */
};
static const double GROWTH = 1.18; /* of a look at the start */
static const double IS_USED = 0.6; /* of the rate, and it may grow */
static const double STEP = 0.15;   /* the most that a look adds, or takes when all is well */

static void begin_look(struct pace *p, const struct pace_sample *s)
{
    p->from_us = s->now_us;
    p->from_acked = s->acked;
    p->low_us = s->rtt_us;
    p->low_flying = s->flying;
    p->was_idle = !s->more;
}

void pace_rest(struct pace *p)
{
    p->from_us = 0;
}

static double over_base(uint32_t rtt_us, uint32_t base_us)
{
    return rtt_us > base_us ? (double)(rtt_us - base_us) : 0;
}

/* Microseconds of queue in this look, by both signs of it. */
static double queue_of(const struct pace *p, const struct pace_sample *s, double got)
{
    double seen = over_base(p->low_us, s->base_us);
    double flying = got > 0 ? p->low_flying / got * 1e6 - s->base_us : 0;
    return seen > flying ? seen : flying;
}

static void start(struct pace *p, double got, double queued)
{
    if (queued >= PACE_TARGET_US / 2)
        p->is_steady = true;
    else if (got > p->rate * IS_USED)
        p->rate *= GROWTH;
}

/* More than there is room for in a look shows a round trip later: so less where that is long; but
 * ever more while no queue comes, for the line may be another one now. */
static double growth(struct pace *p, double off, uint32_t rtt_us)
{
    double step = rtt_us > LAG_US ? STEP * LAG_US / rtt_us : STEP;
    unsigned more = p->clear > PATIENCE ? (p->clear - PATIENCE) / 2 : 0;
    double grown = 1 + step * off * (1 + more);
    return grown < GROWTH ? grown : GROWTH;
}

/* At the lowest rate, and the queue stays: whose is it? */
static void keep_least(struct pace *p, double queued)
{
    double least = p->best / 8 > PACE_MIN ? p->best / 8 : PACE_MIN;
    bool is_low = p->rate <= least;

    if (is_low) p->rate = least;
    p->low = is_low && queued > p->extra_us + PACE_TARGET_US / 2 ? p->low + 1 : 0;
    if (p->low < LOW_LOOKS) return;
    p->extra_us = queued < PACE_JITTER_US ? queued : 0;
    p->low = 0;
    p->clear = 2 * PATIENCE; /* it was not ours: soon back to what the line takes */
}

/* got: bytes a second that arrived; queued: microseconds, the line's own ways included. */
static void judge(struct pace *p, double got, double queued, uint32_t rtt_us)
{
    if (queued < p->extra_us) p->extra_us = queued;
    double off = (PACE_TARGET_US - (queued - p->extra_us)) / PACE_TARGET_US; /* 1: no queue */
    bool is_used = got > p->rate * IS_USED;

    p->best = got > p->best ? got : p->best * 0.999;
    p->clear = off > 0.75 && is_used ? p->clear + 1 : 0;
    if (off > 0.5) /* the line has room; what arrived is what was sent, or less by chance */
        p->rate *= is_used ? growth(p, off, rtt_us) : 1;
    else /* it is busy; what arrived is our part of it */
        p->rate = off < -1 ? got * 0.7 : got * growth(p, off, rtt_us);
    keep_least(p, queued);
}

/* Has this look seen enough? */
static bool is_over(const struct pace *p, const struct pace_sample *s, bool is_full)
{
    uint64_t us = s->now_us - p->from_us, acked = s->acked - p->from_acked;
    uint32_t least_us = p->is_steady ? STEADY_US : START_US;
    bool is_near = s->base_us < PACE_NEAR_US;

    if (least_us < s->rtt_us) least_us = s->rtt_us;
    if (us >= LONG_US) return true;
    if (is_full) return acked >= LEAST_BYTES;
    return us >= least_us && acked >= (is_near ? LEAST_BYTES_NEAR : LEAST_BYTES);
}

double pace_step(struct pace *p, const struct pace_sample *s)
{
    if (p->rate == 0) p->rate = s->base_us < PACE_NEAR_US ? PACE_FIRST_NEAR : PACE_FIRST;
    if (!p->from_us) {
        begin_look(p, s);
        return p->rate;
    }
    if (s->rtt_us < p->low_us) p->low_us = s->rtt_us;
    if (s->flying < p->low_flying) p->low_flying = s->flying;
    p->was_idle |= !s->more;

    uint64_t us = s->now_us - p->from_us, acked = s->acked - p->from_acked;
    double got = us > 0 ? (double)acked * 1e6 / (double)us : 0;
    double now = over_base(s->rtt_us, s->base_us), queue = queue_of(p, s, got);
    bool is_full = !p->is_steady && now > PACE_TARGET_US / 2;
    if (!is_over(p, s, is_full)) return p->rate;
    if (!p->was_idle && !p->is_steady) start(p, got, now);
    if (!p->was_idle && p->is_steady) judge(p, got, is_full ? now : queue, s->rtt_us);
    begin_look(p, s);
    return p->rate;
}
