/* lan.h - nodes of one swarm on one network find each other: beacons sent and heard.
 *
 * A beacon (proto/beacon.h) goes out on every network interface, by IPv4 multicast and broadcast
 * and by IPv6 multicast, every LAN_EVERY_MS, at once when the interfaces change, and at once (but
 * not twice a second) when a node is heard for the first time, so that a newcomer hears all.
 * Several nodes of one machine share the port.
 *
 * What is heard is a hint and may be a lie: beacons of other swarms and wrong ones are dropped
 * here, and of the rest each address may cause LAN_BURST calls, then one in LAN_GAP_MS.  At most
 * LAN_HEARD_MAX nodes are remembered. */
#ifndef PEERS_LAN_H
#define PEERS_LAN_H

#include "net/actor.h"
#include "proto/beacon.h"

enum {
    LAN_PORT = 7777, /* UDP */
    LAN_EVERY_MS = 30000,
    LAN_BURST = 16,
    LAN_GAP_MS = 2000,
    LAN_HEARD_MAX = 256,
};
#define LAN_GROUP4 "239.255.83.87"
#define LAN_GROUP6 "ff12::5357:524d"

struct lan_config {
    struct hub *hub;
    struct node_id me;
    const struct swarm_key *swarm; /* read by lan_open */
    uint8_t instance[INSTANCE_BYTES];
    /* The listener that is told of: its port and address as on the wire, zeros for all.  One that
     * listens on IPv4 only is told of over IPv4 only, and the reverse. */
    struct slice listener; /* read by lan_open */
    void *arg;
    /* A node was heard; host is an address, for net_dial.  Also when it has been heard before. */
    void (*on_heard)(void *arg, const struct node_id *id, const char *host, uint16_t port);
};

struct lan;

/* ERR_IO: no socket could be opened; ERR_USAGE: the listener is on loopback. */
MUST_CHECK enum err lan_open(struct lan **out, const struct lan_config *c, struct why *why);
void lan_close(struct lan *l); /* freed when its handles are closed */

/* How many nodes were heard lately: in the last three intervals. */
unsigned lan_heard(const struct lan *l);

/* The networks that this machine's interfaces are in now. */
enum { NETS_MAX = 64 };
struct nets {
    unsigned n;
    struct {
        uint8_t addr[16], mask[16], n; /* n: 4 or 16 bytes */
    } net[NETS_MAX];
};
void nets_find(struct nets *out);                        /* equal ones are equal bytes */
bool nets_have(const struct nets *s, struct slice addr); /* addr as on the wire */

#endif
