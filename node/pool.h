/* pool.h - the threads of kernels/workers.h.
 *
 * Fork and join for the small steps of a token: helpers spin briefly between steps of one call and
 * sleep when idle, so a step does not wait for the scheduler and an idle node burns no core. */
#ifndef NODE_POOL_H
#define NODE_POOL_H

#include "base/err.h"
#include "kernels/workers.h"

struct pool;

/* Cores that this process may use (sched_getaffinity), at least 1. */
unsigned pool_cores(void);

/* n threads that take part in a run, the caller included; 0: one per available core.
 * Only one thread at a time may call run. */
MUST_CHECK enum err pool_open(struct pool **out, unsigned n);
void pool_close(struct pool *p);
struct workers *pool_workers(struct pool *p);

#endif
