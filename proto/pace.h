/* pace.h - how fast to send over a line whose queue belongs to somebody else.
 *
 *     START  a little faster after each look, until the round trip grows
 *     STEADY as fast as bytes arrived, a little more while the round trip is short, less while it
 *            is long: so that about PACE_TARGET_US of ours wait in a modem, not more
 *
 * A round trip over the shortest one that was ever measured is time in queues, ours or others';
 * when others fill the line we become slow (the idea of LEDBAT, RFC 6817).  Of a look the shortest
 * round trip counts: a queue that stands shows in each of them, a busy moment of the peer in some
 * (the idea of CoDel, RFC 8289).  Only looks in which there was always more to send say anything.
 *
 * A round trip that stays long when we hardly send is not our doing: up to PACE_JITTER_US of that
 * are taken as the line's way.  Beyond, somebody fills it, and we keep to an eighth of what we had.
 *
 * The socket keeps to the rate (SO_MAX_PACING_RATE); time and what was measured are arguments. */
#ifndef PROTO_PACE_H
#define PROTO_PACE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    PACE_TARGET_US = 8000,
    PACE_MIN = 128 << 10,       /* bytes a second, whatever the queue says */
    PACE_FIRST = 256 << 10,     /* of a line that nobody has measured */
    PACE_FIRST_NEAR = 12500000, /* the same where the round trip is below PACE_NEAR_US */
    PACE_NEAR_US = 2000,
    PACE_JITTER_US = 30000,
};

struct pace_sample {
    uint64_t now_us;  /* monotonic */
    uint32_t rtt_us;  /* smoothed, as TCP has it */
    uint32_t base_us; /* the shortest so far */
    uint64_t acked;   /* bytes that arrived, ever */
    uint32_t flying;  /* bytes that were sent and have not arrived yet */
    bool more;        /* bytes wait for this socket */
};

/* All zeros is a good beginning. */
struct pace {
    double rate; /* bytes a second; 0: not begun */
    bool is_steady;
    unsigned clear; /* looks in a row without a queue */
    unsigned low;   /* looks in a row at the lowest rate, and the round trip long all the same */
    double best;    /* bytes a second that arrived in a look, of late */
    double
        extra_us; /* by which the round trip is longer for no fault of ours: a line that jitters */
    /* of this look */
    uint64_t from_us, from_acked;
    uint32_t low_us, low_flying;
    bool was_idle;
};

/* Call it every ten milliseconds while something is sent; returns the rate. */
double pace_step(struct pace *p, const struct pace_sample *s);
/* Nothing was sent for a while: the look that was begun says nothing. */
void pace_rest(struct pace *p);

#endif
