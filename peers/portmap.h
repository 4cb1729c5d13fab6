/* portmap.h - asks the router to let others in: NAT-PMP, then UPnP, on a thread of its own.
 *
 *     the loop  --retry, stop-->  thread: map, sleep half a lease, map again ...
 *               <----state-----           at the end: remove the mapping
 *
 * The libraries (libnatpmp, libminiupnpc) block for seconds and believe what the router says; here
 * only one port number, one address and a few words leave the thread, through a socket pair.  A
 * lease is PORTMAP_LEASE_S; a router that grants none but eternal ones gets an eternal one, which
 * is removed at the end like the others. */
#ifndef PEERS_PORTMAP_H
#define PEERS_PORTMAP_H

#include "net/actor.h"
#include "proto/messages.h"

enum { PORTMAP_LEASE_S = 3600, PORTMAP_RETRY_S = 900, PORTMAP_END_MS = 2000 };

enum portmap_how { PORTMAP_SEARCHING, PORTMAP_NONE, PORTMAP_NATPMP, PORTMAP_UPNP };

struct portmap_state {
    enum portmap_how how;
    uint8_t
        addr[ADDR_MIN]; /* outside, as on the wire; with NATPMP and UPNP; the IP may be 0.0.0.0 */
    char why[160];      /* of NONE, in words */
};

struct portmap;

/* Map TCP port to this machine.  on_change is called when the state differs. */
MUST_CHECK enum err portmap_open(struct portmap **out, struct hub *hub, uint16_t port,
                                 void (*on_change)(void *arg), void *arg);
/* on_change is not called any more.  The mapping is removed meanwhile; hub_fini waits for it, at
 * most PORTMAP_END_MS for each answer of the router. */
void portmap_close(struct portmap *p);
void portmap_retry(struct portmap *p); /* the network has changed */
const struct portmap_state *portmap_state(const struct portmap *p);

/* "UPnP", "NAT-PMP". */
const char *portmap_name(enum portmap_how how);

#endif
