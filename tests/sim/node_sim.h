/* node_sim.h - one node of the simulated swarm: net, peers and services as node/node.c has them,
 * over simulated libuv, network and compute. */
#ifndef SIM_NODE_SIM_H
#define SIM_NODE_SIM_H

#include "node/services.h"
#include "node/trips.h"
#include "tests/sim/model_sim.h"
#include "tests/sim/net_sim.h"

enum { SIM_NODES_MAX = 1024, SIM_PORT = 4000 };

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
    unsigned patience_s;
    struct link join[4];
    unsigned n_join;
    char journal_dir[24];
    const struct node_id *allow; /* [n_allow] borrowed */
    unsigned n_allow;
    void *arg;
    void (*on_up)(void *arg, struct sim_node *n); /* it runs again */

    /* while it runs */
    bool runs;
    struct hub hub;
    struct net *net;
    struct peers *peers;
    struct services services;
    struct trips trips;
    bool is_stopping;
};

void sim_node_start(struct sim_node *n);
/* As kill -9 (silent: as pulling the plug), and as SIGTERM. */
void sim_node_kill(struct sim_node *n, bool is_silent);
void sim_node_stop(struct sim_node *n);

#endif
