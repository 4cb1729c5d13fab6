/* warm.h - weights on their way from the disk into memory, and which of them stay there.
 *
 * Tiles are read in place from the store's map.  One that is not in memory comes in by page faults,
 * a few KiB at a time, while every thread of a step waits: 80 to 350 MB/s from a disk that gives
 * 1,200 when it is asked for whole experts.  So:
 *
 *   start   a thread that runs only when no other wants the core reads what is worth most first,
 *           until everything is in memory or the room is full.  Afterwards nothing faults: even
 * from a warm page cache first touches cost 50 to 80 ms a GB, twice what reading costs. steps   a
 * stage says what it reads next (model/forward.h).  What is missing is read by threads of their
 * own, whole units (units.h) with deep queues, the chosen experts before those that are only
 * guessed; the step's threads wait for a unit rather than fault. room    when not everything fits,
 * what is used least is let go before anything else comes (keep.h), so that the kernel never has to
 * choose: it forgets what was used longest ago, and that is what a cycle through the layers needs
 * next.
 *
 * When everything is in memory all of this has ended, and costs nothing.  Nothing here changes what
 * is computed. */
#ifndef WEIGHTS_WARM_H
#define WEIGHTS_WARM_H

#include "model/forward.h"
#include "weights/keep.h"
#include "weights/weights.h"

struct warm;

/* About fits_bytes of the weights are to be in memory, at most.  w is borrowed until warm_close.
 *   learnt   file in which the experts' use outlives the node, NULL: none; borrowed until then
 * ERR_NOMEM. */
MUST_CHECK enum err warm_open(struct warm **out, const struct weights *w, uint64_t fits_bytes,
                              const char *learnt);
void warm_close(struct warm *m); /* stops the threads; NULL is fine */

/* To be told of the next steps (model/forward.h). */
struct pager *warm_pager(struct warm *m);

/* Is everything in memory that will come without being asked for? */
bool warm_is_done(const struct warm *m);

struct warm_counts {
    uint64_t bytes;           /* weights, all */
    uint64_t room, held;      /* that may be, and are, in memory */
    uint64_t read, forgotten; /* since the start */
    uint64_t waited_ns;       /* steps for weights; several threads' times are added */
    struct keep_counts routed;
};
void warm_counts(struct warm *m, struct warm_counts *out);

/* What weights may take of this machine's memory: three quarters of what it, or the container
 * around us, has. */
uint64_t warm_room(void);

#endif
