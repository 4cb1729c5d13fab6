/* stage_watch.c - is the next stage still there?
 *
 * It got rows and we heard nothing of it: it is asked, and lost when it does not answer.  (The
 * coordinator may well hear it, where only the line between the two is cut.) */
#include "stage/stage_impl.h"

#include <stdio.h>

enum { WATCH_MS = 250, ASK_MS = 1000, UNANSWERED_MS = 1750 };

/* Has the next stage been heard since rows went to it?  It answers a PING at once, whatever it
 * computes. */
static void check_next(struct stage_server *s, struct session *x, uint64_t now)
{
    uint64_t silent = net_silent_ms(s->c.net, &x->following);
    if (silent < now - x->sent_ms) { /* heard since; since the last ones too? */
        x->sent_ms = silent < now - x->last_ms ? 0 : x->last_ms;
        x->asked_ms = 0;
    } else if (!x->asked_ms) {
        if (now - x->sent_ms < ASK_MS) return;
        x->asked_ms = now;
        net_ping(s->c.net, &x->following);
    } else if (now - x->asked_ms >= UNANSWERED_MS) {
        char id[NODE_ID_SHORT], text[160];
        node_id_short(id, &x->following);
        snprintf(text, sizeof text, "the next stage %s does not answer", id);
        x->sent_ms = x->asked_ms = 0;
        stage_break(x, WIRE_LOST_STAGE, text);
    }
}

static void on_watch(uv_timer_t *t)
{
    struct stage_server *s = t->data;
    uint64_t now = now_ms(s->c.hub);
    bool is_needed = false;
    for (struct session *x = s->first; x; x = x->next) {
        if (x->sent_ms && (x->is_over || x->is_broken)) x->sent_ms = x->asked_ms = 0;
        if (x->sent_ms) check_next(s, x, now);
        is_needed = is_needed || x->sent_ms;
    }
    if (!is_needed) uv_timer_stop(t);
}

void stage_watch_next(struct stage_server *s, struct session *x)
{
    x->last_ms = now_ms(s->c.hub);
    if (!x->sent_ms) x->sent_ms = x->last_ms;
    if (!uv_is_active((uv_handle_t *)s->watch))
        uv_timer_start(s->watch, on_watch, WATCH_MS, WATCH_MS);
}
