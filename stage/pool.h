/* pool.h - the threads of kernels/workers.h.
 *
 * Fork and join for the small steps of a token: helpers spin briefly between steps of one call and
 * sleep when idle, so a step does not wait for the scheduler and an idle node burns no core. */
#ifndef STAGE_POOL_H
#define STAGE_POOL_H

#include "base/err.h"
#include "kernels/workers.h"

struct pool;

/* Cores that this process may use (sched_getaffinity), at least 1.  A container's share of them is
 * sensors.h's to know. */
unsigned pool_cores(void);

/* n threads that take part in a run, the caller included; 0: one per available core.
 * Only one thread at a time may call run. */
MUST_CHECK enum err pool_open(struct pool **out, unsigned n);
void pool_close(struct pool *p);
struct workers *pool_workers(struct pool *p);

/* From any thread: only so many of its threads (1 .. all; the caller of run is one) take part from
 * now on; the others sleep.  No result changes. */
void pool_limit(struct pool *p, unsigned n);
/* From any thread: the helpers' nice value, 0 .. 19, or POOL_IDLE: they compute when nobody else
 * wants to.  It can be raised, not lowered.  pool_be_nice: the same for the calling thread. */
enum { POOL_IDLE = 20 };
void pool_nice(struct pool *p, int nice);
void pool_be_nice(int nice);

#endif
