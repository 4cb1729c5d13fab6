/* status.h - what a node says about itself, its swarm and its work, as JSON (docs/status.md). */
#ifndef NODE_STATUS_H
#define NODE_STATUS_H

#include "base/json.h"
#include "net/counters.h"
#include "node/services.h"
#include "proto/neighbour.h"

enum { STATUS_PEERS_MAX = 96 }; /* listed; of more only the number is said */

struct status_source {
    struct node_id me;
    const char *name;  /* a label, or NULL */
    const char *state; /* "joining", "active", "paused", "draining" */
    const char *pause; /* why it is paused, in a sentence; NULL or empty: it is not */
    const char *link;
    const char *reach; /* where it is reached and whether, in a sentence; NULL: not said */
    enum neighbour_mode mode;
    const char *gateway; /* its gateway's address; NULL: it runs none, empty: it is not up */
    uint64_t started_ms; /* of now_ms */
    const struct hub *hub;
    const struct net *net;
    struct peers *peers;
    const struct services *services; /* NULL or not open: nothing is served yet */
    const struct counters *counters;
    const char *progress; /* what it fetches; empty: nothing */
    const char *note;     /* what is wrong, in a sentence; NULL or empty: nothing */
};

/* At most STATUS_MAX bytes. */
void status_json(struct text *out, const struct status_source *s);

/* How many nodes hold each layer of the model, and its ends; returns how many layers it has.  Only
 * while services are open. */
uint32_t status_holders(const struct status_source *s, uint32_t holders[LAYER_MAX], uint32_t *ends);

#endif
