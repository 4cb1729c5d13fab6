/* admit.h - who is answered now, and who waits for his turn.
 *
 *     asked -> [waiting --his turn--> admitted] -> over, or at rest while the asker is away
 *                 ^                      |
 *                 +--the stages are full-+
 *
 * At most `answers` requests have a pipeline at once; the others wait in a fair queue (fair.h): by
 * rank, then by what their askers have had.  When the stages have no room for K and V, though they
 * will have when others are answered, the request waits again, where it was, and is tried when one
 * of ours is over or after a moment; those behind it wait too, so that small ones do not keep a
 * large one off.  Who waits is told his place, and about how long, whenever it changes.
 *
 * Part of the coordinator (coordinator_impl.h), on the loop. */
#ifndef ASK_ADMIT_H
#define ASK_ADMIT_H

#include "net/actor.h"
#include "proto/fair.h"

enum {
    ADMIT_ANSWERS_MAX = 64, /* at once */
    ADMIT_QUEUE_MAX = 256,  /* waiting */
};

struct admit;
struct coordinator;
struct request;

/* answers: 1 .. ADMIT_ANSWERS_MAX.  ERR_NOMEM. */
MUST_CHECK enum err admit_open(struct admit **out, struct coordinator *c, uint32_t answers);
/* Nobody is admitted any more; what waits is its owner's to end. */
void admit_stop(struct admit *a);
void admit_close(struct admit *a);

/* r's prompt is read: request_plan is called now, or when its turn comes. */
void admit_join(struct admit *a, struct request *r);
/* r needs no turn, or no pipeline, any more.  Nothing happens when it had none. */
void admit_leave(struct admit *a, struct request *r);
/* The stages that r was planned on are full for the moment; its pipeline is closed. */
void admit_again(struct admit *a, struct request *r);
/* r has its pipeline. */
void admit_opened(struct admit *a, struct request *r);

uint32_t admit_waiting(const struct admit *a);
/* About how long the one at this place (1 is next) waits; 0: not known. */
uint64_t admit_wait_ms(const struct admit *a, uint32_t place);

#endif
