/* tracing.h - when what was computed of a request, for the asker who wants to know (proto/trace.h).
 *
 * Events gather in the request and go to him with the text, and at the end.  Every call takes
 * requests that nobody traces, and does nothing. */
#ifndef ASK_TRACING_H
#define ASK_TRACING_H

#include "ask/coordinator_impl.h"

/* For pipeline_events; the argument is the request.  NULL when it is not traced. */
typedef void tracing_hear(void *arg, struct trace_event *e);
tracing_hear *tracing_events(const struct request *r);
/* Of a pipeline that is not the request's yet. */
tracing_hear *tracing_later(const struct request *r);

void tracing_plan(struct request *r); /* it has another pipeline */
/* A job of the coordinator's is back, with n of what it was for, the first of them number first. */
void tracing_job(struct request *r, enum trace_kind kind, const struct job *j, uint32_t n,
                 uint32_t first);
/* Tell him what has gathered; all: even if it is little.  The request may be over then. */
void tracing_say(struct request *r, bool all);

#endif
