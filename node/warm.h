/* warm.h - weights on their way from the disk into memory.
 *
 * Tiles are read in place from the store's map.  One that is not in memory comes in by page faults,
 * a few KiB at a time, while every thread of a step waits: 80 to 350 MB/s from a disk that gives
 * 1,200 when it is asked for whole tiles.  Two things help:
 *
 *   fits    a thread that runs only when no other wants the core touches every tile once, in the
 *           order of the layers.  Afterwards nothing faults: even from a warm page cache first
 *           touches cost 50 to 80 ms a GB, twice what reading costs.
 *   always  before a step begins, the kernel is asked for its tiles that are not in memory: those
 *           of the experts as soon as the router has chosen, those of the next layer meanwhile.
 *           When everything fits this stops with the thread, so it costs nothing later.
 *
 * What is not needed for long is forgotten by the kernel, as for any file. */
#ifndef NODE_WARM_H
#define NODE_WARM_H

#include "model/forward.h"
#include "node/weights.h"

struct warm;

/* Weights of at most fits_bytes are touched by a thread.  w is borrowed until warm_close.
 * ERR_NOMEM. */
MUST_CHECK enum err warm_open(struct warm **out, const struct weights *w, uint64_t fits_bytes);
void warm_close(struct warm *m); /* stops the thread; NULL is fine */

/* To be told of the next steps (model/forward.h); any thread, one at a time. */
struct pager *warm_pager(struct warm *m);

/* Has the thread touched everything?  Never when it does not fit. */
bool warm_is_done(const struct warm *m);

/* What weights may take of this machine's memory: three quarters of what it, or the container
 * around us, has. */
uint64_t warm_room(void);

#endif
