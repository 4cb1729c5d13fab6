/* hold_sim.c - a simulated node that chooses what it holds, as node/node.c does with weights/mover.c
 * and weights/holder.c: chosen, announced as joining, fetched, chosen again, served; later moved, make
 * before break. */
#include "tests/sim/node_sim.h"

#include <stdlib.h>

enum { MEET_MS = 3000, LOOK_MS = 250, MOVE_MAX_MS = 60000 };

static const struct manifest *manifest_of(const struct sim_node *n)
{
    return sim_manifest(n->store.n_layers);
}

/* --- fetching --- */

static void keep_only(struct sim_node *n, const struct holding *h)
{
    for (uint32_t l = 0; l < LAYER_MAX; l++) n->hold.on_disk[l] = l >= h->lo && l < h->hi;
}

static void serve_what_came(struct sim_node *n)
{
    keep_only(n, &n->hold.want);
    n->hold.is_settled = true;
    n->hold.is_moving = false;
    sim_node_serve(n, &n->hold.want);
}

static bool is_busy(const struct sim_node *n)
{
    return stage_server_sessions(n->services.stage) > 0 ||
           (n->services.coordinator && coordinator_requests(n->services.coordinator) > 0);
}

/* The old services go when nobody needs them any more. */
static void on_move_timer(uv_timer_t *t)
{
    struct sim_node *n = t->data;
    if (is_busy(n) && world_us() < n->leave_until_us) return;
    uv_timer_stop(t);
    sim_node_unserve(n);
    serve_what_came(n);
}

static void on_fetched(void *arg)
{
    struct sim_node *n = arg;
    struct sim_holding *h = &n->hold;
    h->fetch = NULL;
    h->is_held = true;
    for (uint32_t l = h->want.lo; l < h->want.hi; l++) h->on_disk[l] = true;
    if (n->is_leaving) return;
    if (!services_are_open(&n->services)) {
        if (!mover_is_choosing(h->mover)) serve_what_came(n);
        return;
    }
    h->is_moving = true;
    n->leave_until_us = world_us() + (uint64_t)MOVE_MAX_MS * MS;
    sim_node_announce(n);
    uv_timer_start(&n->timer, on_move_timer, LOOK_MS, LOOK_MS);
}

static void fetch(struct sim_node *n, const struct holding *want)
{
    struct sim_holding *h = &n->hold;
    uint64_t missing = want->ends;
    for (uint32_t l = want->lo; l < want->hi; l++) missing += !h->on_disk[l];
    world_cancel(h->fetch);
    h->want = *want;
    h->is_held = false;
    h->fetch = world_at(&n->place, world_us() + missing * h->layer_ms * MS + MS, on_fetched, n);
    sim_node_announce(n);
}

/* --- as node.c's --- */

static bool state_for_mover(void *arg, struct mover_state *out)
{
    struct sim_node *n = arg;
    if (!services_are_open(&n->services) || n->hold.is_moving || n->hold.fetch || n->is_leaving)
        return false;
    *out = (struct mover_state){ .have = { .lo = n->lo, .hi = n->hi, .ends = n->has_ends },
                                 .manifest = manifest_of(n),
                                 .model = n->services.weights.name.id.b,
                                 .layer_us = n->services.pace.layer_us,
                                 .sessions = stage_server_sessions(n->services.stage) };
    return true;
}

static enum err rechoose(void *arg, const struct holding *to, struct why *why)
{
    (void)why;
    fetch(arg, to);
    return ERR_OK;
}

static void on_settled(void *arg)
{
    struct sim_node *n = arg;
    if (n->hold.is_held && !services_are_open(&n->services)) serve_what_came(n);
}

static enum err move(void *arg, const struct holding *to, struct why *why)
{
    struct sim_node *n = arg;
    (void)why;
    n->hold.n_moves++;
    fetch(n, to);
    return ERR_OK;
}

/* It has met others by now. */
static void on_met(void *arg)
{
    struct sim_node *n = arg;
    struct holding want;
    uint8_t model[ID_BYTES];
    memset(model, SIM_MODEL_BYTE, sizeof model);
    n->hold.fetch = NULL;
    if (mover_choose(n->hold.mover, model, manifest_of(n), UINT64_MAX, &want, NULL)) abort();
    fetch(n, &want);
}

void sim_hold_start(struct sim_node *n)
{
    struct sim_holding *h = &n->hold;
    struct mover_config mc = { .hub = &n->hub,
                               .peers = n->peers,
                               .me = n->me.id,
                               .room = h->room,
                               .may_move = true,
                               .arg = n,
                               .state = state_for_mover,
                               .rechoose = rechoose,
                               .on_settled = on_settled,
                               .move = move };
    if (mover_open(&h->mover, &mc)) abort();
    h->is_moving = false;
    if (h->is_settled) {
        h->want = (struct holding){ .lo = n->lo, .hi = n->hi, .ends = n->has_ends };
        sim_node_serve(n, &h->want);
    } else {
        h->want = (struct holding){ 0 };
        h->fetch = world_at(&n->place, world_us() + (uint64_t)MEET_MS * MS, on_met, n);
    }
}

void sim_hold_end(struct sim_node *n)
{
    world_cancel(n->hold.fetch);
    n->hold.fetch = NULL;
    mover_close(n->hold.mover);
    n->hold.mover = NULL;
}
