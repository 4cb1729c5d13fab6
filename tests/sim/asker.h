/* asker.h - a client of the simulated swarm: asks, and holds every answer against the oracle. */
#ifndef SIM_ASKER_H
#define SIM_ASKER_H

#include "tests/sim/node_sim.h"

enum asker_state { ASKER_IDLE, ASKER_DIALLING, ASKER_WAITS };
/* How a question ended. */
enum asked_end { ASKED_DONE, ASKED_REFUSED, ASKED_LOST, ASKED_ENDS };

struct asker {
    struct place place;
    struct identity me;
    struct hub hub;
    struct net *net;
    struct sim_node *at; /* borrowed: whom it asks */
    uint32_t n_layers;

    enum asker_state state;
    uint32_t rid;
    uint32_t n_prompt, max_new, n_ids, n_oracle;
    uint64_t seed;
    bool is_random;
    int32_t ids[2048], oracle[2048];
    bool is_cancelled;
    uint64_t asked_us, sign_us; /* when it asked; when it last heard of its question */
    unsigned n_ends[ASKED_ENDS];
    enum asked_end last_end;
    uint32_t last_code; /* of a refusal */
    char last_text[304];
};

void sim_asker_open(struct asker *a, unsigned index, unsigned host, const struct identity *me);
void sim_asker_close(struct asker *a);
/* In IDLE. */
void sim_asker_ask(struct asker *a, struct sim_node *at, uint32_t n_prompt, uint32_t max_new);
void sim_asker_cancel(struct asker *a);

#endif
