/* net_sim.h - what the world does to the network of net/net.h, simulated in net_sim.c.
 *
 * A connection is two ends and the letters between them.  Messages pass the codec; a letter takes
 * the distance of the places, what the line sends in a second, and jitter, but passes no letter of
 * the same session, rid or neither (conn.h).  A path that is blocked (a partition, a clog, a
 * frozen peer) holds letters back as TCP would; an end that hears nothing for 15 to 20 s gives the
 * connection up.  Dials, hints, strikes, bans and full queues are as in net/net.c; two nodes that
 * dial each other at once agree on one connection.  Not simulated: the handshake's contents, names,
 * and a second connection of one pair. */
#ifndef SIM_NET_SIM_H
#define SIM_NET_SIM_H

#include "net/net.h"
#include "tests/sim/world.h"

/* For the world's begin and end. */
void net_sim_begin(size_t queue_max, unsigned jitter_percent);
void net_sim_end(void);

/* Where a net that is opened next in this place listens: 10.HOST/256.HOST%256.PLACE. */
struct slice net_sim_addr(unsigned host, uint16_t port, uint8_t out[ADDR_MIN]);

/* How a process goes: its connections are reset, or (the PC is off) just end. */
void net_sim_kill(struct net *n, bool is_silent);
/* Places have been frozen, thawed, grouped, switched on or off. */
void net_sim_refresh(void);
/* Messages from one place to another wait until us. */
void net_sim_clog(const struct place *from, const struct place *to, uint64_t until_us);
void net_sim_unclog_all(void);

/* Something happens to a connection that is open, any one: false when there is none. */
enum mishap { MISHAP_RESET, MISHAP_HALF_OPEN };
bool net_sim_mishap(enum mishap m);

/* Bytes that are no message of ours, from n to id. */
void net_sim_garbage(struct net *n, const struct node_id *id);

/* Called with what a net is about to send; true: it is sent as it is by then, else not at all. */
extern bool (*net_sim_on_send)(struct net *n, const struct node_id *to, struct msg *m);
/* Called when a node strikes another. */
extern void (*net_sim_on_strike)(const struct place *by, const char *what);

struct net_sim_count {
    uint64_t messages, bytes; /* sent by nodes to others */
    uint64_t control;         /* bytes of those that are RECORDS or RECORDS_GET */
};
struct net_sim_count net_sim_counts(void);
const struct identity *net_sim_identity(const struct net *n);

#endif
