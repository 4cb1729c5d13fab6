/* hops.h - how long the ways between the stages of one pipeline take, seen from its coordinator.
 *
 * Point 0 is where rows set out, points 1 .. n are the stages, point n + 1 is the coordinator's
 * door. A stage says when it is done (STEP_DONE), and half a round trip later that is heard here;
 * so
 *
 *     way to point k = (done k - half a round trip to k) - its work - (done k-1 - half a round
 * trip)
 *
 * No clocks are compared.  Only steps of few rows that had the pipeline to themselves are looked
 * at: others wait for each other.  Pure; times are microseconds of one clock of the caller's. */
#ifndef ASK_HOPS_H
#define ASK_HOPS_H

#include "proto/plan.h"

enum { HOPS_POINTS = PLAN_STAGES_MAX + 2, HOPS_ROWS_MAX = 8 };

struct hops {
    struct {
        uint64_t left_us; /* rows of `step` had left the point */
        uint64_t work_us; /* waiting and computing there */
        uint32_t step;
        bool is_known;  /* left_us and work_us are */
        uint32_t n;     /* ways to this point that were seen, */
        double mean_us; /* and how long the last ones took */
    } at[HOPS_POINTS];
};

/* Rows of `step` have left `point`, after work_us there.  Points may be heard of in any order. */
void hops_left(struct hops *h, uint32_t point, uint32_t step, uint64_t left_us, uint64_t work_us);

/* The mean way to `point`, 1 .. n + 1, of the last ones; UINT32_MAX: none was seen. */
uint32_t hops_way_us(const struct hops *h, uint32_t point);

#endif
