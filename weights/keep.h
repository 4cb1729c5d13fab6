/* keep.h - which weights stay in memory when not all of them fit: those that are used most.
 *
 * Weights are cut into units of a few MB that are read and forgotten whole: an expert, a head
 * group, a dense part, the rest of a layer, some tiles of the output head.
 *
 *     OUT --need--> wanted --keep_next--> COMING --keep_came--> IN --keep_victim--> OUT
 *
 * Use is counted as a share of steps: after each step of its layer a unit's two means move towards
 * 1 if the step read it and towards 0 if not, one by a 500th, for what is used in general, one by a
 * 20th, for what this conversation is about.  Their sum is the unit's worth.  What every step
 * reads is worth 2, an expert that one token of ten chooses about 0.2.  When something comes and
 * there is no room, the unit of the least worth that the step in progress does not need goes, of
 * equal ones the one used last: it is the last that a cycle through the layers comes back to, and
 * the kernel's own rule (forget what was used longest ago) would forget everything before it is
 * used again.
 *
 * No clock, thread or memory map in here: warm.c has those, and calls under its lock. */
#ifndef WEIGHTS_KEEP_H
#define WEIGHTS_KEEP_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KEEP_NONE = UINT32_MAX, KEEP_UNITS_MAX = 1 << 20 };

enum keep_state { KEEP_OUT, KEEP_COMING, KEEP_IN };

struct keep;

enum { KEEP_RANKS = 16 };

/* Of routed units, since the start. */
struct keep_counts {
    uint64_t needs, hits;    /* read by a step; and IN when the step said so */
    uint64_t guesses, right; /* perhaps read; and then read */
    uint64_t early;          /* of the hits: came because they were guessed */
};

/* For n_layers layers and at most units_max units, of which about room bytes are to be in memory.
 * ERR_RANGE, ERR_NOMEM. */
MUST_CHECK enum err keep_open(struct keep **out, uint32_t n_layers, uint32_t units_max,
                              uint64_t room);
void keep_close(struct keep *k); /* NULL is fine */

/* The next unit, of layer < n_layers; its number.  worth: at first, 0 to 2.  routed: not every step
 * reads it, so it is counted.  Before anything else is called. */
uint32_t keep_add(struct keep *k, uint32_t layer, uint64_t bytes, float worth, bool routed);

/* A step will read it.  It does not go before keep_done; when it is OUT, it is queued for
 * keep_next.  True: queued by this call. */
bool keep_need(struct keep *k, uint32_t unit);
/* A step may read it, by a guess of this rank (0 the best; the last one counts for all behind it).
 * It does not go before keep_done, either; when it is OUT and guesses of this rank of what was OUT have
 * come true more often than bar (0 to 1), it is queued behind what is sure. */
bool keep_guess(struct keep *k, uint32_t unit, uint32_t rank, float bar);
/* A step has been through this layer. */
void keep_done(struct keep *k, uint32_t layer);

/* The next unit to read, COMING from now on, or KEEP_NONE; guesses: also what is not sure.  Before
 * it is read, keep_victim is to be called until it has none. */
uint32_t keep_next(struct keep *k, bool guesses);
/* What is worth most of what is OUT and fits without anything going; KEEP_NONE.  COMING then. */
uint32_t keep_fill(struct keep *k);
void keep_came(struct keep *k, uint32_t unit);
/* A unit that has to go so that all that is COMING or IN keeps within the room; it is OUT now.
 * KEEP_NONE: nothing has to, or nothing can. */
uint32_t keep_victim(struct keep *k);
/* A unit that was OUT is found to be IN; nothing goes for it. */
void keep_found(struct keep *k, uint32_t unit);
/* A unit that was thought IN is not: somebody else has made room. */
void keep_lost(struct keep *k, uint32_t unit);

float keep_right(const struct keep *k, uint32_t rank); /* guesses of what was OUT that came true */
enum keep_state keep_state(const struct keep *k, uint32_t unit);
bool keep_is_sure(const struct keep *k, uint32_t unit);   /* needed, and not perhaps */
bool keep_is_wanted(const struct keep *k, uint32_t unit); /* queued, or COMING */
float keep_worth(const struct keep *k, uint32_t unit);
void keep_set_worth(struct keep *k, uint32_t unit, float worth); /* as learnt in an earlier life */
struct keep_counts keep_counts(const struct keep *k);
uint32_t keep_units(const struct keep *k);
uint64_t keep_bytes(const struct keep *k); /* COMING or IN */
uint64_t keep_room(const struct keep *k);

#endif
