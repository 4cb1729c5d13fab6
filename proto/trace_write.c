/* trace_write.c - events of a request as Chrome's trace JSON: who did what when, a row for each who
 * and what, and more rows where two things happen at once. */
#include "proto/trace.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { LANES = 8, PLANS_MAX = 64, SPANS_EACH = 4 };

/* Rows of the coordinator, and of a stage. */
enum track { ANSWER, HEAD, HEAD_WAIT, WAY_HOME, COMPUTE, QUEUE, WAY_HERE };
static const char *const track_name[] = { "answer",    "head, sampler", "waiting", "way home",
                                          "computing", "queue",         "way here" };

struct span {
    uint32_t who; /* 0: the coordinator; else stage who - 1 of all plans */
    enum track track;
    int64_t start, end; /* microseconds of the coordinator's clock */
    const char *name;
    uint32_t step, n; /* number and how many, for the viewer */
};

/* A stage of one plan. */
struct stage {
    uint32_t plan, place, lo, hi;
    struct node_id id;
    int64_t least, most; /* its clock is ahead of the coordinator's by between these; */
    int64_t ahead;       /* by this, it is taken */
};

struct picture {
    const struct trace_event *event;
    uint32_t n_events;
    struct stage *stage; /* [n_stages] */
    uint32_t n_stages;
    uint32_t first[PLANS_MAX], count[PLANS_MAX]; /* of stage, by plan */
    uint32_t n_plans;
    uint32_t *plan_of; /* [n_events] 1 + plan; 0: before the first */
    struct span *span;
    uint32_t n_spans, left_out;
};

/* --- who there is --- */

static void find_stages(struct picture *p)
{
    for (uint32_t i = 0; i < p->n_events; i++) {
        const struct trace_event *e = &p->event[i];
        if (e->kind == TRACE_PLAN && p->n_plans < PLANS_MAX) {
            p->first[p->n_plans] = p->n_stages;
            p->count[p->n_plans++] = 0;
        }
        p->plan_of[i] = p->n_plans;
        if (e->kind != TRACE_NAME || p->n_plans == 0) continue;
        uint32_t plan = p->n_plans - 1;
        if (e->stage != p->count[plan]) continue;
        p->stage[p->n_stages++] = (struct stage){ .plan = plan,
                                                  .place = p->count[plan]++,
                                                  .lo = e->n,
                                                  .hi = e->step,
                                                  .id = e->id,
                                                  .least = INT64_MIN,
                                                  .most = INT64_MAX };
    }
}

static struct stage *stage_of(struct picture *p, uint32_t i, uint32_t place)
{
    uint32_t plan = p->plan_of[i];
    return plan > 0 && place < p->count[plan - 1] ? &p->stage[p->first[plan - 1] + place] : NULL;
}

/* --- clocks --- */

static bool is_of(const struct picture *p, uint32_t k, uint32_t i, unsigned kind, unsigned stage)
{
    const struct trace_event *e = &p->event[k];
    return e->kind == kind && e->stage == stage && e->step == p->event[i].step &&
           p->plan_of[k] == p->plan_of[i];
}

/* The event of this kind and stage of the step that event i belongs to; NULL.  Stages are not heard
 * in the order in which they computed. */
static const struct trace_event *near(const struct picture *p, uint32_t i, unsigned kind,
                                      unsigned stage)
{
    enum { FAR = 512 }; /* so much happens at most while a step is under way */
    for (uint32_t n = 1; n < FAR; n++) {
        if (n <= i && is_of(p, i - n, i, kind, stage)) return &p->event[i - n];
        if (i + n < p->n_events && is_of(p, i + n, i, kind, stage)) return &p->event[i + n];
    }
    return NULL;
}

/* When the rows left the stage, by its clock. */
static int64_t left_at(const struct trace_event *e)
{
    uint64_t worked = (uint64_t)e->wait + e->compute;
    return (int64_t)(e->clock + (e->stay > worked ? e->stay : worked));
}

/* A message of the stage's was heard later than it was sent, so its clock is ahead by at least...
 */
static void bound_below(struct picture *p)
{
    for (uint32_t i = 0; i < p->n_events; i++) {
        const struct trace_event *e = &p->event[i];
        struct stage *s = e->kind == TRACE_STAGE ? stage_of(p, i, e->stage) : NULL;
        if (s && left_at(e) - (int64_t)e->at > s->least) s->least = left_at(e) - (int64_t)e->at;
    }
}

/* When the rows of event i, a stage's, were sent to it, by the coordinator's clock; the clock of
 * the stage before is known.  false: not told. */
static bool sent_at(struct picture *p, uint32_t i, int64_t *out)
{
    uint32_t place = p->event[i].stage;
    const struct trace_event *from =
        place == 0 ? near(p, i, TRACE_SENT, 0) : near(p, i, TRACE_STAGE, place - 1);
    if (!from) return false;
    *out = place == 0 ? (int64_t)from->at : left_at(from) - stage_of(p, i, place - 1)->ahead;
    return true;
}

/* ... and its rows came later than they were sent to it, by the coordinator or the stage before. */
static void settle(struct picture *p, uint32_t place)
{
    int64_t sent;
    for (uint32_t i = 0; i < p->n_events; i++) {
        const struct trace_event *e = &p->event[i];
        if (e->kind != TRACE_STAGE || e->stage != place) continue;
        struct stage *s = stage_of(p, i, place);
        if (s && sent_at(p, i, &sent) && (int64_t)e->clock - sent < s->most)
            s->most = (int64_t)e->clock - sent;
    }
    for (uint32_t i = 0; i < p->n_stages; i++) {
        struct stage *s = &p->stage[i];
        if (s->place != place || s->least == INT64_MIN) continue;
        s->ahead = s->most == INT64_MAX ? s->least : s->least + (s->most - s->least) / 2;
    }
}

/* --- what happened --- */

static void add(struct picture *p, uint32_t who, enum track track, int64_t start, int64_t end,
                const char *name, const struct trace_event *e)
{
    if (end <= start) return;
    p->span[p->n_spans++] = (struct span){ who, track, start, end, name, e->step, e->n };
}

static void add_stage(struct picture *p, uint32_t i)
{
    const struct trace_event *e = &p->event[i], *sent = near(p, i, TRACE_SENT, 0);
    const struct stage *s = stage_of(p, i, e->stage);
    if (!s) return;
    uint32_t who = 1 + (uint32_t)(s - p->stage);
    int64_t came = (int64_t)e->clock - s->ahead, begun = came + e->wait, left;
    if (sent_at(p, i, &left)) add(p, who, WAY_HERE, left, came, "sent", e);
    add(p, who, QUEUE, came, begun, "waiting", e);
    add(p, who, COMPUTE, begun, begun + e->compute, sent && sent->n > 1 ? "rows" : "token",
        sent ? sent : e);
}

static void add_way_home(struct picture *p, uint32_t i)
{
    const struct trace_event *e = &p->event[i], *from;
    uint32_t plan = p->plan_of[i];
    const struct stage *s = plan > 0 ? stage_of(p, i, p->count[plan - 1] - 1) : NULL;
    if (s && (from = near(p, i, TRACE_STAGE, s->place)))
        add(p, 0, WAY_HOME, left_at(from) - s->ahead, (int64_t)e->at, "rows come home", e);
}

static void add_head(struct picture *p, const struct trace_event *e, const char *name)
{
    int64_t end = (int64_t)e->at, start = end - e->compute;
    add(p, 0, HEAD, start, end, name, e);
    add(p, 0, HEAD_WAIT, start - e->wait, start, name, e);
}

static void add_spans(struct picture *p)
{
    int64_t told = 0; /* when the last token was there */
    for (uint32_t i = 0; i < p->n_events; i++) {
        const struct trace_event *e = &p->event[i];
        switch (e->kind) {
        case TRACE_STAGE: add_stage(p, i); break;
        case TRACE_ROWS: add_way_home(p, i); break;
        case TRACE_PROMPT: add_head(p, e, "tokenizing"); break;
        case TRACE_EMBED: add_head(p, e, "embedding"); break;
        case TRACE_PICK:
        case TRACE_HOME:
            if (e->kind == TRACE_PICK)
                add_head(p, e, "picking");
            else
                add_head(p, e, "layers and picking");
            add(p, 0, ANSWER, told, (int64_t)e->at, told ? "token" : "first token", e);
            told = (int64_t)e->at;
            break;
        default: break;
        }
    }
}

/* --- as JSON --- */

static int by_row(const void *a, const void *b)
{
    const struct span *x = a, *y = b;
    if (x->who != y->who) return x->who < y->who ? -1 : 1;
    if (x->track != y->track) return x->track < y->track ? -1 : 1;
    if (x->start != y->start) return x->start < y->start ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

static void write_name(struct text *out, const char *what, uint32_t pid, uint32_t tid,
                       const char *name)
{
    text_printf(out,
                ",\n{\"ph\":\"M\",\"name\":\"%s\",\"pid\":%u,\"tid\":%u,\"args\":{\"name\":", what,
                pid, tid);
    json_write_str(out, slice_str(name));
    text_str(out, "}}");
}

static void name_who(struct text *out, const struct picture *p, uint32_t who)
{
    char name[120] = "coordinator", id[NODE_ID_SHORT];
    if (who > 0) {
        const struct stage *s = &p->stage[who - 1];
        node_id_short(id, &s->id);
        int n = snprintf(name, sizeof name, "stage %u of %u: %s, layers %u-%u", s->place + 1,
                         p->count[s->plan], id, s->lo, s->hi ? s->hi - 1 : 0);
        if (s->plan > 0) snprintf(name + n, sizeof name - (size_t)n, " (pipeline %u)", s->plan + 1);
    }
    write_name(out, "process_name", who + 1, 0, name);
    text_printf(out,
                ",\n{\"ph\":\"M\",\"name\":\"process_sort_index\",\"pid\":%u,\"tid\":0,"
                "\"args\":{\"sort_index\":%u}}",
                who + 1, who);
}

/* One row of the picture has one thing at a time. */
static void write_spans(struct text *out, struct picture *p)
{
    int64_t end[LANES] = { 0 };
    bool is_named[LANES] = { false };
    for (uint32_t i = 0; i < p->n_spans; i++) {
        const struct span *s = &p->span[i], *last = i ? s - 1 : NULL;
        bool is_new = !last || last->who != s->who;
        if (is_new) name_who(out, p, s->who);
        if (is_new || last->track != s->track)
            for (int k = 0; k < LANES; k++) end[k] = INT64_MIN, is_named[k] = false;
        uint32_t lane = 0;
        while (lane < LANES && end[lane] > s->start) lane++;
        if (lane == LANES) {
            p->left_out++;
            continue;
        }
        uint32_t tid = (uint32_t)s->track * LANES + lane + 1;
        if (!is_named[lane]) write_name(out, "thread_name", s->who + 1, tid, track_name[s->track]);
        is_named[lane] = true;
        end[lane] = s->end;
        text_printf(out,
                    ",\n{\"ph\":\"X\",\"name\":\"%s\",\"pid\":%u,\"tid\":%u,\"ts\":%" PRId64
                    ",\"dur\":%" PRId64 ",\"args\":{\"step\":%u,\"n\":%u}}",
                    s->name, s->who + 1, tid, s->start, s->end - s->start, s->step, s->n);
    }
}

static enum err draw(struct text *out, struct picture *p, const char *program)
{
    bool is_cut = false;
    find_stages(p);
    bound_below(p);
    uint32_t places = 0;
    for (uint32_t i = 0; i < p->n_plans; i++)
        if (p->count[i] > places) places = p->count[i];
    for (uint32_t i = 0; i < places; i++) settle(p, i);
    add_spans(p);
    qsort(p->span, p->n_spans, sizeof *p->span, by_row);
    for (uint32_t i = 0; i < p->n_events; i++) is_cut |= p->event[i].kind == TRACE_CUT;
    text_str(out, "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n"
                  "{\"ph\":\"M\",\"name\":\"trace\",\"pid\":1,\"tid\":0,\"args\":{}}");
    write_spans(out, p);
    text_printf(out, "\n],\"otherData\":{\"program\":\"%s\",\"cut\":%s,\"left_out\":%u}}\n",
                program, is_cut ? "true" : "false", p->left_out);
    return out->failed ? ERR_NOMEM : ERR_OK;
}

enum err trace_write(struct text *out, struct slice bytes, const char *program)
{
    uint32_t n = (uint32_t)(bytes.n / TRACE_BYTES);
    if (bytes.n % TRACE_BYTES || n > TRACE_EVENTS_MAX + 1) return ERR_MALFORMED;
    struct trace_event *event = calloc(n + 1, sizeof *event);
    struct picture p = { .event = event,
                         .n_events = n,
                         .stage = calloc(n + 1, sizeof *p.stage),
                         .plan_of = calloc(n + 1, sizeof *p.plan_of),
                         .span = calloc((size_t)SPANS_EACH * n + 1, sizeof *p.span) };
    enum err e = event && p.stage && p.plan_of && p.span ? ERR_OK : ERR_NOMEM;
    for (uint32_t i = 0; i < n && !e; i++) e = trace_decode(&event[i], bytes.p + i * TRACE_BYTES);
    if (!e) e = draw(out, &p, program);
    free(event);
    free(p.stage);
    free(p.plan_of);
    free(p.span);
    return e;
}
