/* A stage says that it is about to leave: its layers go to others before it does.
 *
 * The heir, a second pipeline without it, is opened and filled with the rows of all ids while the
 * old one goes on.  When the heir has them all, the next row goes to it and not to the old one,
 * which is closed: between two tokens, and nobody waits.  When there is no heir in time, the loss
 * of the stage is healed as any other. */
#include "ask/coordinator_impl.h"

#include "ask/tracing.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

enum { NEARLY_ROWS = 8 }; /* may still be under way in the heir when it takes over */

static void on_heir_open(void *arg)
{
    struct request *r = arg;
    r->heir_round++;
    r->heir_sent = known_rows(r, r->heir);
    r->heir_chunk = request_chunk_rows(r, r->heir);
    request_feed(r);
}

static void on_heir_note(void *arg, const char *text)
{
    (void)arg;
    log_debug("the pipeline to come: %s", text);
}

static void on_heir_rows(void *arg, uint32_t pos, uint32_t n, struct slice x)
{
    (void)arg, (void)pos, (void)n, (void)x; /* none are wanted of it */
}

static void on_heir_fail(void *arg, enum wire_error code, const char *text)
{
    (void)code;
    log_info("no handing over: %s", text);
    handover_drop(arg);
}

void handover_begin(void *arg)
{
    struct request *r = arg;
    if (r->heir || r->is_over || r->is_ended || r->limit == 0) return;
    struct pipeline_wish wish = { .min_tokens = r->n_prompt + r->limit,
                                  .max_tokens = r->n_prompt + r->limit,
                                  .resumes = request_rows(r) };
    struct pipeline_events on = { .arg = r,
                                  .on_again = on_heir_open,
                                  .on_note = on_heir_note,
                                  .on_rows = on_heir_rows,
                                  .on_room = request_feed,
                                  .on_ask_known = known_ask,
                                  .on_prefix = known_learn,
                                  .on_trace = tracing_later(r),
                                  .on_fail = on_heir_fail };
    r->heir_chunk = 0; /* not open */
    if (pipeline_open(r->c->c.pipelines, &wish, &on, &r->heir)) r->heir = NULL;
}

void handover_drop(struct request *r)
{
    pipeline_close(r->heir);
    r->heir = NULL;
    r->heir_round++;
}

/* The next rows that the heir lacks; 0: none, or it cannot take them now. */
uint32_t handover_rows(const struct request *r)
{
    uint32_t left = request_rows(r) - r->heir_sent;
    if (!r->heir || r->heir_chunk == 0 || !pipeline_has_room(r->heir)) return 0;
    return left < r->heir_chunk ? left : r->heir_chunk;
}

bool handover_is_due(const struct request *r)
{
    if (!r->heir || r->heir_chunk == 0 || r->is_embedding) return false;
    if (!pipeline_has_room(r->heir)) return false; /* it may have lost a stage itself */
    uint32_t n = pipeline_under_way(r->heir);
    if (r->heir_sent != request_rows(r)) return false;
    if (pipeline_is_home(r->heir)) return n == 0; /* tokens made at home wait for no step */
    return n == 0 || (n == 1 && r->embed.n <= NEARLY_ROWS);
}

static bool is_stage(const struct plan *plan, const struct node_id *id)
{
    for (uint32_t i = 0; i < plan->n; i++)
        if (node_id_equal(&plan->stage[i].id, id)) return true;
    return false;
}

/* Who left, and who computes the layers now. */
static void say_so(struct request *r, const struct plan *old, const struct plan *new)
{
    char name[NODE_ID_SHORT], text[200] = "";
    for (uint32_t i = 0; i < old->n; i++) {
        const struct plan_stage *s = &old->stage[i];
        if (is_stage(new, &s->id)) continue;
        uint32_t k = 0;
        while (k + 1 < new->n &&new->stage[k].hi <= s->lo) k++;
        size_t n = strlen(text);
        node_id_short(name, &s->id);
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%s hands layers %u-%u over",
                              n ? "; " : "node ", name, s->lo, s->hi - 1);
        if (n >= sizeof text) return;
        node_id_short(name, &new->stage[k].id);
        n += (size_t)snprintf(text + n, sizeof text - n, " to %s", name);
        if (n >= sizeof text) return;
    }
    if (!text[0]) return;
    log_info("%s", text);
    r->on.on_note(r->on.arg, text);
}

void handover_switch(struct request *r)
{
    struct pipeline *old = r->pipeline;
    struct plan was = *pipeline_plan(old);
    r->pipeline = r->heir;
    r->heir = NULL;
    r->heir_round++;
    r->chunk = r->heir_chunk;
    r->is_disturbed = true;
    request_hear(r, r->pipeline);
    pipeline_close(old);
    say_so(r, &was, pipeline_plan(r->pipeline));
    if (!r->is_over) request_say_plan(r);
}
