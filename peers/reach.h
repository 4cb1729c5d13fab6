/* reach.h - where this node is reached, whether that is true, and one sentence about it.
 *
 *     reached.c    its own addresses, or what it is told to advertise
 *     portmap.c    a port of the router
 *     dialback.c   others who try it from outside
 *
 * What it announces follows: a public address that others could not reach is not announced, one
 * that they did reach comes first.  (So a node behind a router that lets nobody in announces only
 * addresses of its own network; it works over the connections that it makes itself.) */
#ifndef PEERS_REACH_H
#define PEERS_REACH_H

#include "net/net.h"
#include "peers/peers.h"
#include "peers/reached.h"

struct reach_config {
    struct hub *hub;
    struct net *net;         /* borrowed until reach_close */
    struct peers *peers;     /* the same */
    struct reached *reached; /* what is announced: rewritten by reach.c */
    bool advertised;         /* a person said where; it is checked, but kept */
    bool portmap;            /* ask the router */
    void *arg;
    void (*on_change)(void *arg); /* reached is another, or the sentence is */
};

struct reach;

MUST_CHECK enum err reach_open(struct reach **out, const struct reach_config *c);
void reach_close(struct reach *r);
void reach_tick(struct reach *r);
void reach_on_mail(struct reach *r, struct mail *m); /* DIALBACK, DIALBACK_DONE; takes m */
void reach_on_peer(struct reach *r, const struct node_id *id, bool up);

/* "reachable at HOST:PORT (mapped by UPnP; ...)", or what is wrong and what to do; also is put into
 * the brackets, or behind a colon where there are none. */
void reach_text(const struct reach *r, char *out, size_t cap, const char *also);

#endif
