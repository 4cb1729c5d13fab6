/* reached.h - where a node is reached: the host of its link and the addresses it announces. */
#ifndef PEERS_REACHED_H
#define PEERS_REACHED_H

#include "net/actor.h"
#include "proto/identity.h"

struct reached {
    char host[256]; /* for the link */
    uint16_t port;
    uint32_t n; /* addresses as on the wire, best first */
    struct {
        uint8_t b[ADDR_MAX];
        uint8_t n;
    } addr[ADDRS_MAX];
};

/* By what it is told to advertise (NULL: nothing), else by what it listens on; 0.0.0.0 and [::]
 * mean every interface of this machine.  Resolving may block: the node is starting. */
MUST_CHECK enum err reached_find(struct reached *out, struct hub *hub, const char *advertise_host,
                                 uint16_t advertise_port, const char *listen_host,
                                 uint16_t listen_port, struct why *why);

/* Every interface's addresses as they are now, and the host that goes with them. */
MUST_CHECK enum err reached_interfaces(struct reached *out, uint16_t port, bool also_v6,
                                       struct why *why);

#endif
