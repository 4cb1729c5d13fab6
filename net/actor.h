/* actor.h - state that one loop touches, and the notes that others post to it.
 *
 * An actor owns its state and a bounded mailbox.  Anyone, on any thread, may post a note; posting
 * moves the note's ownership.  All actors of a process live on one libuv loop; one bell wakes the
 * loop, which empties every mailbox that has mail, in order of arrival.
 * The mailbox holds the only lock of the node besides the job queue of compute.c. */
#ifndef NET_ACTOR_H
#define NET_ACTOR_H

#include "net/bell.h"

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

struct note {
    struct note *next; /* the mailbox's */
    int kind;          /* the receiving actor's enum */
    /* Frees the note; called by its receiver, or by the caller of a post that failed. */
    void (*drop)(struct note *n);
};

struct actor {
    /* set once by actor_init */
    const char *name;
    struct hub *hub;
    void (*on_note)(struct actor *a, struct note *n); /* drops the note or keeps it */
    /* guarded by lock */
    uv_mutex_t lock;
    struct note *first, **last;
    unsigned depth, limit;
    bool closed;
    /* the hub's list of actors with mail; guarded by the hub's lock */
    struct actor *next_ready;
    bool ready;
};

/* The loop that actors live on. */
struct hub {
    uv_loop_t loop;
    struct bell bell;
    /* guarded by lock */
    uv_mutex_t lock;
    struct actor *first_ready, **last_ready;
    bool is_awake; /* the bell has been rung, or mail is being delivered: it will be looked at */
};

MUST_CHECK enum err hub_init(struct hub *h);
void hub_run(struct hub *h);  /* until hub_stop */
void hub_stop(struct hub *h); /* from the loop's thread */
/* After every actor and every thread that posts has ended, and every handle of others is closed or
 * closing: runs their last callbacks and frees the loop.  A handle left open is a bug and aborts.
 */
void hub_fini(struct hub *h);

/* limit: notes that may wait; 0 for 1,024. */
MUST_CHECK enum err actor_init(struct actor *a, struct hub *h, const char *name, unsigned limit,
                               void (*on_note)(struct actor *, struct note *));
/* Drops waiting notes; later posts fail with ERR_CLOSED.  On the loop's thread. */
void actor_fini(struct actor *a);

/* From any thread.  On error (ERR_FULL, ERR_CLOSED) the note is still the caller's. */
MUST_CHECK enum err actor_post(struct actor *a, struct note *n);
/* The same without waking the loop, so that it finds several notes at once: when *asleep is set (it
 * is left alone else), the caller calls hub_wake on it after the last of them. */
MUST_CHECK enum err actor_post_quietly(struct actor *a, struct note *n, struct hub **asleep);
void hub_wake(struct hub *h);

#endif
