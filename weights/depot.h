/* depot.h - the store of a running node: whatever reads or writes it off the loop, one at a time.
 *
 *     the loop --job--> queue --> a thread of libuv's pool: run(job, store) --> the loop: done(job)
 *
 * A store's handle belongs to one thread at a time, hashing a tile takes a millisecond and a commit
 * many; so all of that happens here, in the order in which it was asked for.  Pointers into the
 * map (weights.h) are used by the compute thread meanwhile: they stay good whatever is written. */
#ifndef WEIGHTS_DEPOT_H
#define WEIGHTS_DEPOT_H

#include "net/actor.h"
#include "store/store.h"

struct depot;

/* Embedded in what the job is about; owned by whoever submits it, lent until done. */
struct depot_job {
    void (*run)(struct depot_job *j, struct store *s); /* on the thread */
    void (*done)(struct depot_job *j);                 /* on the loop */
    bool cancelled;         /* in done: run was not called, the depot has closed */
    struct depot_job *next; /* the depot's */
};

/* The store stays the caller's, who closes it after the loop has ended and uses it meanwhile only
 * while no job is under way. */
MUST_CHECK enum err depot_open(struct depot **out, struct hub *hub, struct store *s);
/* Jobs that wait are cancelled at once, now and later; the one under way ends by itself, and then
 * the depot is freed. */
void depot_close(struct depot *d); /* NULL is fine */

/* Never calls done from inside, unless it is closed. */
void depot_do(struct depot *d, struct depot_job *j);
bool depot_is_idle(const struct depot *d);

#endif
