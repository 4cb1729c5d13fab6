/* world.h - time, events, chance and the trace of a simulated swarm.
 *
 * One thread, one clock, one queue of events.  An event belongs to a place (a process on a PC) or
 * to the world.  A place that is frozen (as by SIGSTOP) gets its events when it runs again, in the
 * order in which they were due.  Everything that happens follows from the seed: chance has a stream
 * of its own for each use, so that one more draw here does not change what happens there, and two
 * runs of one seed have the same hash of their traces. */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SECOND = 1000000, MS = 1000 }; /* in the unit of the world's clock: microseconds */
#define FOREVER UINT64_MAX

/* A process.  Several on one host reach each other over loopback. */
struct place {
    char name[16];
    unsigned host;
    unsigned group;   /* hosts of different groups do not reach each other */
    int64_t skew_s;   /* of its wall clock */
    uint64_t thaw_us; /* it does not run before */
    bool off;         /* the PC is switched off: its packets are not even refused */
    double slow;      /* factor on its computing */
    uint32_t x, y;    /* where it is: the distance of two is their delay, in microseconds */
    uint32_t up_kb_s; /* what its line sends */
};

struct event;

void world_begin(uint64_t seed, bool is_verbose);
void world_end(void);
uint64_t world_us(void);    /* since the world began, which is at 1,000 s */
uint64_t world_hash(void);  /* of all that happened so far */
uint64_t world_steps(void); /* events so far */

/* Run at us (or now, when that is past).  Returns until it runs: then the pointer is dead. */
struct event *world_at(struct place *p, uint64_t us, void (*run)(void *arg), void *arg);
void world_cancel(struct event *e); /* before it runs; NULL is fine */
/* Run all that is due until then. */
void world_run(uint64_t until_us);
/* Nothing is left to do before then? */
bool world_is_idle(uint64_t until_us);

/* The place whose event runs; NULL: the world's. */
struct place *world_here(void);
struct place *world_enter(struct place *p); /* returns the one before, for the way back */
bool place_is_frozen(const struct place *p);

/* --- chance --- */

enum chance { FOR_WORLD, FOR_NET, FOR_NODES, FOR_LIES, FOR_FAULTS, CHANCES };
uint64_t draw(enum chance c);
uint64_t draw_below(enum chance c, uint64_t n);              /* [0, n); 0 when n is 0 */
uint64_t draw_from(enum chance c, uint64_t lo, uint64_t hi); /* [lo, hi] */
bool draw_is(enum chance c, unsigned percent);
uint64_t mix(uint64_t a, uint64_t b); /* a good hash of both */

/* --- the trace --- */

/* A line of the trace; it is hashed and, with -v, printed. */
__attribute__((format(printf, 1, 2))) void trace(const char *fmt, ...);
void trace_bytes(const void *p, size_t n); /* hashed only */
bool trace_is_on(void);

/* What must hold does not: the seed has failed.  Says so with the time; world_failed from then. */
__attribute__((format(printf, 1, 2))) void broken(const char *fmt, ...);
bool world_failed(void);

#endif
