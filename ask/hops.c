#include "ask/hops.h"

enum { KEPT = 16 }; /* ways that the mean is about */

/* Both ends of the way to `point` may be known by now. */
static void look(struct hops *h, uint32_t point, uint32_t step)
{
    if (point == 0 || point >= HOPS_POINTS) return;
    const uint64_t from = h->at[point - 1].left_us;
    if (!h->at[point].is_known || !h->at[point - 1].is_known || h->at[point].step != step ||
        h->at[point - 1].step != step)
        return;
    /* a round trip is itself a measurement: what comes out below nothing is nothing */
    uint64_t after = from + h->at[point].work_us, left = h->at[point].left_us;
    double way = left > after ? (double)(left - after) : 0;
    uint32_t n = ++h->at[point].n;
    h->at[point].mean_us += (way - h->at[point].mean_us) / (n < KEPT ? n : KEPT);
}

void hops_left(struct hops *h, uint32_t point, uint32_t step, uint64_t left_us, uint64_t work_us)
{
    if (point >= HOPS_POINTS) return;
    h->at[point].left_us = left_us;
    h->at[point].work_us = work_us;
    h->at[point].step = step;
    h->at[point].is_known = true;
    look(h, point, step);
    look(h, point + 1, step);
}

uint32_t hops_way_us(const struct hops *h, uint32_t point)
{
    if (point == 0 || point >= HOPS_POINTS || h->at[point].n == 0) return UINT32_MAX;
    return (uint32_t)h->at[point].mean_us;
}
