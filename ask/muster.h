/* muster.h - rows of running answers wait for each other, so that they go through the stages in
 * groups (proto/waves.h).
 *
 * Each stage computes what is ready.  Without this, answers that fell apart once stay apart as long
 * as nobody is kept waiting, and every stage reads its weights for each of them.  A row waits until
 * its group is whole, but no longer than it is told, so one whose companions are late or lost goes
 * alone.  Only who waits for whom is decided here: no result changes. */
#ifndef ASK_MUSTER_H
#define ASK_MUSTER_H

#include "stage/compute.h"

struct muster;

/* ERR_NOMEM.  hub and compute are borrowed until muster_close. */
MUST_CHECK enum err muster_open(struct muster **out, struct hub *hub, struct compute *compute);
/* Those that wait are forgotten: they are their owners'. */
void muster_close(struct muster *m); /* NULL is fine */

/* j->together of them make a group (0: nobody is waited for).  Submits j now, or later with the
 * others, after most_us at most. */
void muster_next(struct muster *m, struct next_job *j, uint64_t most_us);

#endif
