/* workers.h - how arithmetic asks for help: a fork and join that someone else provides.
 *
 * kernels/ and model/ start no thread.  stage/pool.c supplies a real pool; workers_inline runs the
 * tasks one after the other.  Results never depend on the number of threads or the order. */
#ifndef KERNELS_WORKERS_H
#define KERNELS_WORKERS_H

#include <stdint.h>

struct workers {
    unsigned n; /* threads that take part, the caller included; >= 1 */
    /* Call task(arg, i) for every i in [0, n_tasks), each exactly once, on any thread; return when
     * all are done.  Not reentrant: a task must not call run. */
    void (*run)(struct workers *w, void (*task)(void *arg, uint32_t i), void *arg,
                uint32_t n_tasks);
};

/* The caller alone.  Static, stateless. */
struct workers *workers_inline(void);

#endif
