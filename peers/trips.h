/* trips.h - the round trips and the uplink that a node announces, so that others know the hops
 * between two nodes.
 *
 * Every TRIPS_TICK_MS the connected nodes of the directory are looked at: those that hold layers,
 * nearest first, at most RTTS_MAX.  The list changes, and on_change is called, when a node comes
 * that was not in it, or a round trip differs by a quarter and a millisecond; one that went stays
 * until something else changes.  So a steady swarm announces nothing new.  The
 * uplink is news when it differs by a quarter. */
#ifndef PEERS_TRIPS_H
#define PEERS_TRIPS_H

#include "net/net.h"
#include "peers/peers.h"

enum { TRIPS_TICK_MS = 1000 };

struct trips {
    struct net *net;
    struct peers *peers;
    struct node_id me;
    uv_timer_t timer;
    bool is_started;
    void *arg;
    void (*on_change)(void *arg);
    uint8_t list[RTTS_MAX * RTT_BYTES]; /* as announced */
    size_t n;                           /* bytes */
    uint32_t uplink;                    /* kbit/s, as announced */
};

/* net and peers are borrowed until trips_stop. */
void trips_start(struct trips *t, struct hub *hub, struct net *net, struct peers *peers,
                 struct node_id me, void (*on_change)(void *arg), void *arg);
void trips_stop(struct trips *t); /* also when it was never started */

/* The record's fields; the list is borrowed until the next tick. */
struct slice trips_list(const struct trips *t);
uint32_t trips_uplink(const struct trips *t);

#endif
