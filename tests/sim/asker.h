/* asker.h - somebody who asks the simulated swarm, through the product's ask/client.c, and holds
 * every answer against the oracle. */
#ifndef SIM_ASKER_H
#define SIM_ASKER_H

#include "ask/client.h"
#include "tests/sim/node_sim.h"

/* How a question ended. */
enum asked_end { ASKED_DONE, ASKED_FAILED, ASKED_ENDS };

struct asker {
    struct place place;
    struct identity me;
    struct client *client;
    struct sim_node *at; /* borrowed: whom it asks */
    uint32_t n_layers, patience_ms;

    bool is_asking, is_cancelled;
    char question[200];
    uint32_t n_prompt, max_new, n_ids, n_oracle;
    uint64_t seed; /* of the dice */
    uint64_t text; /* of the prompt: a few are asked again and again, in various lengths */
    bool is_random;
    int32_t oracle[2048];
    int32_t digits;             /* of a token whose text has not come whole */
    uint64_t asked_us, sign_us; /* when it asked; when it last heard of its question */
    void (*on_stats)(void *arg, struct slice json); /* of an answer; NULL is fine */
    void *stats_arg;
    unsigned n_ends[ASKED_ENDS];
    enum asked_end last_end;
    char last_text[304]; /* why it failed */
};

/* at: whom it asks; its host decides whether over loopback. */
void sim_asker_open(struct asker *a, const char *name, unsigned host, const struct identity *me,
                    struct sim_node *at, uint32_t patience_ms);
void sim_asker_close(struct asker *a); /* as a user who closes the window */
/* While it is not asking. */
void sim_asker_ask(struct asker *a, uint32_t n_prompt, uint32_t max_new);
void sim_asker_cancel(struct asker *a);

#endif
