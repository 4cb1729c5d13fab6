/* nearby.h - who is asked to share this node's layers: connected nodes of the same model that are
 * near enough and hold some of what it leads.
 *
 * Looked at every second.  A round trip above NEARBY_RTT_US is too far: a layer costs up to two.
 * Who shares already may be NEARBY_SLACK times as far before it is let go. */
#ifndef NODE_NEARBY_H
#define NODE_NEARBY_H

#include "node/group.h"
#include "node/peers.h"

enum { NEARBY_TICK_MS = 1000, NEARBY_RTT_US = 2000, NEARBY_SLACK = 3 };

struct nearby;

struct nearby_config {
    struct hub *hub;
    struct net *net; /* all borrowed until nearby_close */
    struct peers *peers;
    struct group *group;
    const struct weights *weights;
    struct node_id me;
    uint32_t own_us; /* our layer_us */
};

MUST_CHECK enum err nearby_open(struct nearby **out, const struct nearby_config *c);
void nearby_close(struct nearby *s); /* NULL is fine */

#endif
