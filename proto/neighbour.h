/* neighbour.h - when a node works for others: what its owner allows, against what the PC does.
 *
 *     RUN    all threads
 *     EASE   half of them: the owner is at the PC, or it is getting warm
 *     PAUSE  nothing for others, for the first reason of enum pause_reason that holds
 *
 *     RUN <--> EASE --a reason for its seconds--> PAUSE
 *        ^                                          | all well for rules.resume_s, or outside of
 *        +------------------------------------------+ its hours and nothing else was wrong
 *
 * Time and what the sensors saw are arguments, so a test may live through a week in a moment. */
#ifndef PROTO_NEIGHBOUR_H
#define PROTO_NEIGHBOUR_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Minutes of a local day, [from, to); to < from: over midnight; to == from: all day. */
struct hours {
    uint16_t from, to;
};
enum { HOURS_MAX = 16, DAY_MINUTES = 24 * 60 };

/* "22:00-07:00"; 24:00 is the end of a day.  ERR_USAGE. */
MUST_CHECK enum err hours_parse(struct hours *out, const char *text, struct why *why);

enum pause_reason {
    PAUSE_NONE,
    PAUSE_BY_HAND,
    PAUSE_HOURS,
    PAUSE_BATTERY, /* no mains, and rules.battery_percent or less is left */
    PAUSE_HOT,     /* rules.hot_c or more */
    PAUSE_MEMORY,  /* less than rules.memory_bytes available, or programs wait for memory */
    PAUSE_BUSY,    /* somebody is at the PC, and other programs compute more than busy_percent */
    PAUSE_PRESENT, /* somebody is at the PC */
    PAUSE_LOAD,    /* other programs compute more than busy_percent, whoever started them */
    PAUSE_REASONS,
};

/* The words of --pause-on: battery, hot, memory, busy, present, load.  0: none of them. */
enum pause_reason pause_reason_of(const char *word);
/* "on battery", for a sentence that begins with "paused". */
const char *pause_text(enum pause_reason r);

struct neighbour_rules {
    struct hours hours[HOURS_MAX]; /* works then; n_hours 0: always */
    unsigned n_hours;
    bool on[PAUSE_REASONS];   /* from PAUSE_BATTERY on: does it pause then? */
    uint32_t battery_percent; /* a battery that has more is no reason */
    uint32_t busy_percent;    /* of all processors */
    uint32_t hot_c;
    uint64_t memory_bytes; /* 0: a twentieth of all */
    uint32_t resume_s;     /* all must be well for so long */
};

enum { SENSED_UNKNOWN = -1000 };

/* What the sensors saw; numbers may be SENSED_UNKNOWN, which is never a reason. */
struct sensed {
    bool on_battery;         /* there is one, and it is what the PC runs on */
    int battery_percent;     /* of all batteries the emptiest */
    int celsius;             /* of the hottest processor sensor */
    bool is_throttled;       /* the processor slowed itself down for heat since the last look */
    uint64_t available, all; /* bytes of memory; all 0: unknown */
    int memory_wait_percent; /* of the last 10 s in which some program waited for memory */
    int others_percent;      /* of all processors, taken by others' programs that are not nice */
    bool is_present;         /* somebody is at the PC */
    unsigned minute;         /* of the local day */
};

enum neighbour_mode { NEIGHBOUR_RUN, NEIGHBOUR_EASE, NEIGHBOUR_PAUSE };

/* All zeros is a good beginning. */
struct neighbour {
    enum neighbour_mode mode;
    enum pause_reason reason;       /* with NEIGHBOUR_PAUSE */
    uint64_t since_ms;              /* when the reason came */
    bool by_hand;                   /* set by its owner: stays until he takes it back */
    uint64_t bad_ms[PAUSE_REASONS]; /* since when, plus one; 0: it is not */
    uint64_t well_ms;               /* nothing has been wrong since then */
    uint64_t eased_ms;              /* a reason to ease was last seen then */
    bool was_felt;                  /* something besides hours and his hand was wrong */
};

/* Look at what is; returns whether mode or reason has changed. */
bool neighbour_step(struct neighbour *n, const struct neighbour_rules *r, const struct sensed *s,
                    uint64_t now_ms);

#endif
