/* node_pause.c - the node pauses for the owner of the PC, and comes back.
 *
 *     a reason to pause -> announced as draining: coordinators hand their sessions over to others,
 *                          nothing new is taken on, no tile is given or fetched
 *     after drain_limit -> sessions that nobody could take over are ended with a sentence
 *     all is well       -> announced as active
 *
 * What the user of this machine asks himself goes on meanwhile: the pause is from others' work. */
#include "node/node_impl.h"

#include "base/log.h"

bool node_is_paused(const struct node *n)
{
    return n->pause && pause_mode(n->pause) == NEIGHBOUR_PAUSE;
}

/* The limit is over. */
static void on_away_timer(uv_timer_t *t)
{
    struct node *n = t->data;
    if (n->is_stopping || !node_is_paused(n) || !services_are_open(&n->services)) return;
    uint32_t left = stage_server_guests(n->services.stage);
    if (n->services.member) member_send_away(n->services.member, "it pauses for its owner");
    if (!left) return;
    log_info("%u answers that nobody took over end here", left);
    stage_server_send_away(n->services.stage, "the node pauses for its owner");
}

static void set_threads(struct node *n)
{
    unsigned all = pool_workers(n->pool)->n;
    pool_limit(n->pool, pause_mode(n->pause) == NEIGHBOUR_RUN ? all : (all + 1) / 2);
}

static void begin(struct node *n)
{
    char text[PAUSE_TEXT];
    pause_describe(n->pause, text);
    log_info("%s; what is under way is handed over, at most %u s", text, n->c->drain_limit);
    uv_timer_start(&n->away_timer, on_away_timer, n->c->drain_limit * UINT64_C(1000), 0);
}

static void on_change(void *arg)
{
    struct node *n = arg;
    bool is_paused = node_is_paused(n);
    if (n->is_stopping) return;
    set_threads(n);
    if (is_paused == n->was_paused) return; /* for another reason, or only easier */
    n->was_paused = is_paused;
    holder_pause(n->holder, is_paused);
    services_pause(&n->services, is_paused);
    if (is_paused) {
        begin(n);
    } else {
        uv_timer_stop(&n->away_timer);
        log_info("working for others again");
    }
    node_announce(n);
}

void node_pause(void *arg, bool stay)
{
    struct node *n = arg;
    if (n->pause) pause_by_hand(n->pause, stay);
}

enum err node_open_pause(struct node *n, struct why *why)
{
    struct pause_config c = { .hub = &n->hub,
                              .rules = &n->c->neighbour,
                              .sensors = n->c->sensors,
                              .arg = n,
                              .on_change = on_change };
    enum err e = pause_open(&n->pause, &c, why);
    if (!e) on_change(n);
    return e;
}
