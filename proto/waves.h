/* waves.h - how many groups of answers are under way at once.
 *
 * All answers of a coordinator in one batch read the weights least often, but then one machine
 * computes and the others wait for it.  One by one they keep everybody busy and read the weights
 * each time.  Between these: as many groups as keep the slowest machine at work, which is what a
 * token needs of all, hops included, over what it needs of that one.
 *
 *     stages a 5 ms, b 5 ms, c 10 ms, hops 10 ms: 30 / 10 = 3 groups
 *
 * Stages on one machine count as one: they share its cores.  Pure. */
#ifndef PROTO_WAVES_H
#define PROTO_WAVES_H

#include "proto/plan.h"

/* Groups for this plan, at least 1.  is_here [p->n]: stage i is on the coordinator's machine. */
uint32_t waves_count(const struct plan *p, const bool *is_here);

/* How many answers a group has, when so many run: those of one batch of one coordinator, at most.
 * 0: any number. */
uint32_t waves_size(uint32_t n_waves, uint32_t n_answers);

/* Of n that are ready, when `together` make a group: as many equal parts as there are groups in
 * them, so that a straggler joins one and none goes alone.  All of them where together is 0. */
uint32_t waves_part(uint32_t n, uint32_t together);

#endif
