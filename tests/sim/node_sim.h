/* node_sim.h - one node of the simulated swarm: net, peers and services as node/node.c has them,
 * over simulated libuv, network and compute. */
#ifndef SIM_NODE_SIM_H
#define SIM_NODE_SIM_H

#include "node/services.h"
#include "peers/trips.h"
#include "tests/sim/model_sim.h"
#include "tests/sim/net_sim.h"
#include "weights/mover.h"

enum { SIM_NODES_MAX = 1024, SIM_PORT = 4000 };

/* A node that chooses what it holds: the product's weights/mover.c; fetching is only time. */
struct sim_holding {
    bool is_own_choice; /* else lo and hi are as they were set */
    uint64_t room;      /* bytes for weights */
    uint32_t layer_ms;  /* to fetch one */
    /* what lives on its disk while it is off */
    bool on_disk[LAYER_MAX];
    bool is_settled; /* on_disk is what it serves */
    /* while it runs */
    struct mover *mover;
    struct holding want;
    struct event *fetch;
    bool is_held, is_moving;
    unsigned n_moves; /* in all its lives */
};

struct sim_node {
    /* set once */
    struct place place;
    unsigned index;
    struct identity me;
    struct store store;
    uint32_t lo, hi;
    bool has_ends;
    uint32_t context;
    uint64_t kv_bytes;
    unsigned patience_s, answers;
    struct link join[4];
    unsigned n_join;
    char journal_dir[24];
    const struct node_id *allow; /* [n_allow] borrowed */
    unsigned n_allow;
    struct sim_holding hold;
    void *arg;
    void (*on_up)(void *arg, struct sim_node *n); /* it runs again */

    /* while it runs */
    bool runs;
    struct hub hub;
    struct net *net;
    struct peers *peers;
    struct services services;
    struct trips trips;
    bool is_stopping, is_leaving;
    uint64_t leave_until_us;
    uv_timer_t timer;
};

void sim_node_start(struct sim_node *n);
/* As kill -9 (silent: as pulling the plug); as SIGTERM, with what it does handed over within ten
 * seconds; and as SIGTERM twice. */
void sim_node_kill(struct sim_node *n, bool is_silent);
void sim_node_leave(struct sim_node *n);
void sim_node_stop(struct sim_node *n);
static inline bool sim_node_serves(const struct sim_node *n)
{
    return n->runs && services_are_open(&n->services);
}

/* --- hold_sim.c --- */
void sim_hold_start(struct sim_node *n);
void sim_hold_end(struct sim_node *n);
/* --- node_sim.c, for hold_sim.c --- */
void sim_node_serve(struct sim_node *n, const struct holding *h);
void sim_node_unserve(struct sim_node *n);
void sim_node_announce(void *n);

#endif
