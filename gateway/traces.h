/* traces.h - when what was computed of a gateway's answers (docs/tracing.md), as files for its own
 * user: a folder of his, trace-00.json to trace-99.json, the oldest overwritten.  Written off the
 * loop, readable by him alone. */
#ifndef GATEWAY_TRACES_H
#define GATEWAY_TRACES_H

#include "net/actor.h"
#include "proto/trace.h"

enum { TRACES_KEPT = 100, TRACES_EVENTS_MAX = 8192 /* of an answer; then it is cut */ };

struct traces {
    const char *dir; /* NULL: none are kept */
    unsigned n;      /* written so far */
    unsigned busy;   /* being written */
};

/* There is such a folder, and its name is not too long.  ERR_IO, ERR_RANGE with why. */
MUST_CHECK enum err traces_check(const char *dir, struct why *why);
/* Events of an answer: *all grows, within bounds. */
void traces_add(struct text *all, struct slice events);
/* The answer is over; what is in all goes to a file.  The loop runs until it is written. */
void traces_keep(struct traces *t, struct hub *hub, struct text *all);

#endif
