/* liar.h - nodes that break the protocol on purpose.
 *
 * A liar knows every open session.  As an outsider it says of others' sessions what it has no right
 * to say; as a stage it sends on wrong numbers; to all it says old and forged records.  It never
 * changes a row's bytes: that is found by audits, not by the protocol. */
#ifndef SIM_LIAR_H
#define SIM_LIAR_H

#include "tests/sim/node_sim.h"

struct liar {
    unsigned index; /* of the node */
    bool is_insider;
};

/* Choose n liars among nodes from lo on; l and nodes are borrowed until liar_close.  Returns how
 * many there are: none when there are no such nodes. */
unsigned liar_open(struct liar *l, unsigned n, unsigned lo, struct sim_node *nodes,
                   unsigned n_nodes);
void liar_close(void); /* from now on they keep to the protocol */
void liar_restart(struct liar *l, unsigned n, struct sim_node *node);
/* One of them says something. */
void liar_speak(void);

#endif
