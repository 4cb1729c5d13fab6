/* nearby.h - who is asked to share this node's layers: connected nodes of the same model that are
 * near enough and hold some of what it leads.
 *
 * Those of this network that are not connected are dialled, a few at a time.  Looked at every
 * second.  A round trip above NEARBY_RTT_US is usually too far: a layer costs up to two. Who shares
 * already may be NEARBY_SLACK times as far before it is let go. */
#ifndef NODE_NEARBY_H
#define NODE_NEARBY_H

#include "node/compute.h"
#include "node/group.h"
#include "node/peers.h"

enum {
    NEARBY_TICK_MS = 1000,
    NEARBY_RTT_US = 2000,
    NEARBY_SLACK = 3,
    NEARBY_DIALS = 8,
    NEARBY_DIAL_MS = 10000
};

struct nearby;

struct nearby_config {
    struct hub *hub;
    struct net *net; /* all borrowed until nearby_close */
    struct peers *peers;
    struct group *group;
    const struct weights *weights;
    struct node_id me;
    const struct pace *pace; /* ours */
    uint32_t rtt_us;         /* who is farther away is not asked; 0: NEARBY_RTT_US */
};

MUST_CHECK enum err nearby_open(struct nearby **out, const struct nearby_config *c);
void nearby_close(struct nearby *s); /* NULL is fine */

#endif
