/* trace.h - when what was computed of one request: events on the wire, and as a picture for
 * Chrome's and Perfetto's viewers (docs/tracing.md).
 *
 * The coordinator and the stages note times where something happens; the asker, who wants to know,
 * gets them as events of TRACE_BYTES each and draws them when the answer is whole.  A stage's times
 * are of its own clock: the picture moves them so that nothing arrives before it was sent, halfway
 * between the earliest and the latest that the messages of the whole request allow, which is half
 * of the shortest round trip. */
#ifndef PROTO_TRACE_H
#define PROTO_TRACE_H

#include "base/json.h"
#include "proto/identity.h"
#include "proto/messages.h"

enum {
    TRACE_BYTES = TRACE_EVENT_BYTES,
    TRACE_STAGES_MAX = 64,
    TRACE_EVENTS_MAX = 32768,              /* of one request; what comes after them is not told */
};

enum trace_kind {
    TRACE_PLAN = 1, /* a pipeline of n stages, whose names follow */
    TRACE_NAME,     /* a stage: id, layers [n, step) */
    TRACE_SENT,     /* n rows left the coordinator */
    TRACE_STAGE,    /* a stage says that it has computed them; clock, stay: its own */
    TRACE_ROWS,     /* rows came home */
    TRACE_PROMPT,   /* the prompt was read; n: its tokens */
    TRACE_EMBED,    /* n ids became rows */
    TRACE_PICK,     /* rows became n tokens, the first of them number step */
    TRACE_HOME,     /* the same, layers and all, where no row leaves the coordinator; stay: the
                     * part of head and sampler */
    TRACE_CUT,      /* there were more than TRACE_EVENTS_MAX */
    TRACE_KINDS,
};

/* What is not named for a kind is 0. */
struct trace_event {
    uint8_t kind, stage;
    uint16_t n;
    uint32_t step;  /* of the pipeline */
    uint64_t at;    /* the coordinator's clock, microseconds since the request; where something took
                     * time, its end */
    uint64_t clock; /* the stage's clock when the rows came, microseconds */
    uint32_t wait, compute; /* microseconds: for the processor, and its work */
    uint32_t stay;          /* from when the rows came until they went on */
    struct node_id id;      /* of TRACE_NAME, which has no times */
};

void trace_encode(uint8_t out[TRACE_BYTES], const struct trace_event *e);
/* ERR_MALFORMED: no kind that there is. */
MUST_CHECK enum err trace_decode(struct trace_event *out, const uint8_t p[TRACE_BYTES]);

/* Events [n / TRACE_BYTES] as Chrome's trace JSON; what of them does not fit together is left out.
 * ERR_MALFORMED: they are no events; ERR_NOMEM. */
MUST_CHECK enum err trace_write(struct text *out, struct slice events, const char *program);

#endif
