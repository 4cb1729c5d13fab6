#include "ask/tracing.h"

static void keep(struct request *r, const struct trace_event *e)
{
    uint8_t bytes[TRACE_BYTES];
    struct trace_event cut = { .kind = TRACE_CUT, .at = e->at };
    if (!r->is_traced || r->n_traced > TRACE_EVENTS_MAX) return;
    if (r->is_away) r->traced.n = 0; /* who is away misses it */
    trace_encode(bytes, r->n_traced++ < TRACE_EVENTS_MAX ? e : &cut);
    text_add(&r->traced, bytes, TRACE_BYTES);
}

static uint64_t since_asked(const struct request *r, uint64_t ns)
{
    return ns > r->asked_ns ? (ns - r->asked_ns) / 1000 : 0;
}

static void on_event(void *arg, struct trace_event *e)
{
    enum { CLOCK_BITS = 50 }; /* 35 years: a stage that says more is not believed */
    struct request *r = arg;
    if (e->clock >> CLOCK_BITS) return;
    e->at = since_asked(r, uv_hrtime());
    keep(r, e);
}

static void ignore(void *arg, struct trace_event *e)
{
    (void)arg, (void)e;
}

tracing_hear *tracing_events(const struct request *r)
{
    return r->is_traced ? on_event : NULL;
}

tracing_hear *tracing_later(const struct request *r)
{
    return r->is_traced ? ignore : NULL;
}

void tracing_plan(struct request *r)
{
    if (!r->is_traced) return;
    const struct plan *plan = pipeline_plan(r->pipeline);
    struct trace_event e = { .kind = TRACE_PLAN,
                             .n = (uint16_t)plan->n,
                             .at = since_asked(r, uv_hrtime()) };
    keep(r, &e);
    for (uint32_t i = 0; i < plan->n; i++) {
        const struct plan_stage *s = &plan->stage[i];
        e = (struct trace_event){ .kind = TRACE_NAME,
                                  .stage = (uint8_t)i,
                                  .n = (uint16_t)s->lo,
                                  .step = s->hi,
                                  .id = s->id };
        keep(r, &e);
    }
}

void tracing_job(struct request *r, enum trace_kind kind, const struct job *j, uint32_t n,
                 uint32_t first)
{
    struct trace_event e = { .kind = (uint8_t)kind,
                             .n = (uint16_t)(n < UINT16_MAX ? n : UINT16_MAX),
                             .step = first,
                             .at = since_asked(r, j->finished_ns),
                             .wait = j->wait_us,
                             .compute = j->compute_us };
    keep(r, &e);
}

void tracing_say(struct request *r, bool all)
{
    struct text *t = &r->traced;
    size_t done = 0;
    if (!r->is_traced || r->is_away || t->failed) return;
    while (!r->is_over && !r->is_away && (t->n - done >= TRACE_BYTES_MAX || (all && t->n > done))) {
        size_t n = t->n - done < TRACE_BYTES_MAX ? t->n - done : TRACE_BYTES_MAX;
        done += n;
        if (r->on.on_trace) r->on.on_trace(r->on.arg, slice_of(t->p + done - n, n));
    }
    if (done > 0) memmove(t->p, t->p + done, t->n - done);
    t->n -= done;
}
