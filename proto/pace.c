#include "proto/pace.h"

enum {
    START_US = 20000,  /* a look, or a round trip where that is longer */
    STEADY_US = 40000, /* likewise */
    LAG_US = 15000,    /* what a step does shows a round trip later: where that is longer, less */
    LONG_US = 500000,  /* a look in which hardly anything arrives */
    LEAST_BYTES = 8 << 10,       /* of a look, to say how fast bytes arrive: TCP sends gulps, */
    LEAST_BYTES_NEAR = 64 << 10, /* and large ones where the round trip is short */
};
static const double GROWTH = 1.25; /* of a look at the start */
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

/* got: bytes a second that arrived; queued: microseconds. */
static void judge(struct pace *p, double got, double queued, uint32_t rtt_us)
{
    double off = (PACE_TARGET_US - queued) / PACE_TARGET_US; /* 1: no queue */
    bool is_used = got > p->rate * IS_USED;

    if (!p->is_steady && off > 0) {
        if (is_used) p->rate *= GROWTH;
        return;
    }
    p->is_steady = true;
    double step = rtt_us > LAG_US ? STEP * LAG_US / rtt_us : STEP;
    if (off > 0.5) /* the line has room; what arrived is what was sent, or less by chance */
        p->rate *= is_used ? 1 + step * off : 1;
    else /* it is busy; what arrived is our part of it */
        p->rate = off < -1 ? got * 0.7 : got * (1 + step * off);
    if (p->rate < PACE_MIN) p->rate = PACE_MIN;
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
    bool is_full = !p->is_steady && now > PACE_TARGET_US;
    if (!is_over(p, s, is_full)) return p->rate;
    if (!p->was_idle) judge(p, got, p->is_steady ? queue : now, s->rtt_us);
    begin_look(p, s);
    return p->rate;
}
