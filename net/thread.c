#include "net/thread.h"

#include <sched.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel's struct sched_attr, its first version; C libraries begin to have it only now. */
struct attr {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
};

/* Of idle threads and of those with a fixed priority `runtime` says something else, or nothing. */
void thread_short_slices(void)
{
#if defined(SYS_sched_getattr) && defined(SYS_sched_setattr)
    struct attr a = { .size = sizeof a };
    if (syscall(SYS_sched_getattr, 0, &a, (unsigned)sizeof a, 0) != 0) return;
    if (a.policy != SCHED_OTHER && a.policy != SCHED_BATCH) return;
    a.size = sizeof a;
    a.flags &= 1; /* SCHED_FLAG_RESET_ON_FORK stays as it is */
    a.runtime_ns = THREAD_SLICE_US * UINT64_C(1000);
    (void)syscall(SYS_sched_setattr, 0, &a, 0);
#endif
}
