/* bucket.h - a token bucket: how often something may happen. */
#ifndef BASE_BUCKET_H
#define BASE_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

struct bucket {
    double tokens; /* start with the burst */
    uint64_t at_ms;
};

/* Take one token; false: there is none.  per_ms come back every millisecond, up to burst. */
static inline bool bucket_take(struct bucket *b, uint64_t now_ms, double per_ms, double burst)
{
    double more = (double)(now_ms - b->at_ms) * per_ms;
    b->tokens = b->tokens + more > burst ? burst : b->tokens + more;
    b->at_ms = now_ms;
    if (b->tokens < 1) return false;
    b->tokens -= 1;
    return true;
}

/* What was taken was larger than one by `more`: it is a debt if it has to be. */
static inline void bucket_owe(struct bucket *b, double more)
{
    b->tokens -= more;
}

#endif
