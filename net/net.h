/* net.h - the actor that owns every socket: listens, dials, encrypts, and hands messages on.
 *
 * What leaves this machine leaves at a pace that keeps queues on the way short (net_pace.c), so that
 * the PC's owner does not notice it on his line, and below net_config's upload in all.
 *
 * Peers are named by id.  At most one connection to a peer is used for sending; when two nodes dial
 * each other at once both agree on the one whose initiator has the lower id and close the other
 * once idle.  Sending to one's own id is delivered like any other message, without a socket.
 * Messages of one session, of one rid, or of neither, arrive in the order sent (conn.h); a message
 * is lost only together with the connection, and then on_peer says down.
 * Callbacks run on the hub's loop; none runs after net_close, but for the results of dials, which
 * net_close itself ends with ERR_CANCELLED. */
#ifndef NET_NET_H
#define NET_NET_H

#include "net/actor.h"
#include "proto/conn.h"

struct net;

/* A message that arrived, with its bytes: slices of m borrow from it.  Owned by the receiver. */
struct mail {
    struct note note; /* first: a mail can be posted to an actor as it is */
    struct node_id from;
    bool loopback; /* it came over 127.0.0.0/8 or ::1, or from this process */
    struct msg m;
    size_t n;
    uint8_t bytes[];
};

struct net_config {
    const struct identity *me;     /* borrowed until net_close */
    const struct swarm_key *swarm; /* borrowed until net_close */
    const char *listen_host;       /* NULL: do not listen */
    uint16_t listen_port;          /* 0: any free port */
    const char *agent;
    uint8_t role;
    uint64_t upload; /* bytes a second that may leave this machine, in all; 0: no limit */
    void *arg;
    /* A message.  m is the receiver's: post it to an actor or drop it. */
    void (*on_mail)(void *arg, struct mail *m);
    /* A peer has become reachable, or its last connection has gone (why: in words). */
    void (*on_peer)(void *arg, const struct node_id *id, bool up, const char *why);
};

MUST_CHECK enum err net_open(struct net **out, struct hub *hub, const struct net_config *c,
                             struct why *why);
/* Says CLOSE to every peer and closes all sockets; done(arg) when the last is closed, within a
 * second, and n is freed.  Mails may outlive it.  done may be NULL. */
void net_close(struct net *n, void (*done)(void *arg), void *arg);

uint16_t net_port(const struct net *n); /* the port listened on; 0 when none */
/* The address listened on, as on the wire, zeros for every one; empty when none. */
struct slice net_listen_addr(const struct net *n);
/* Random, of this net; a node that has restarted is known by it. */
uint64_t net_instance(const struct net *n);

/* Connect to id (NULL: whoever answers) at host:port; result(arg, id, e, why) is called once, also
 * at once when already connected.  host may be a name; it is resolved off the loop. */
typedef void net_result(void *arg, const struct node_id *id, enum err e, const char *why);
void net_dial(struct net *n, const struct node_id *id, const char *host, uint16_t port,
              net_result *result, void *arg);

/* Is id at host:port?  A handshake is made and dropped, also when it is connected (and only then:
 * else this is net_dial, and the connection stays). */
void net_probe(struct net *n, const struct node_id *id, const char *host, uint16_t port,
               net_result *result, void *arg);

/* Remember where id is reached, so that net_send may dial it.  addr as on the wire (messages.h). */
void net_hint(struct net *n, const struct node_id *id, struct slice addr);

/* Send m to id: over the open connection, else dials a hinted address and sends when it is open
 * (a failure then comes as on_peer down).  ERR_NOTFOUND: not connected and no hint; ERR_FULL: too
 * much waits for that peer. */
MUST_CHECK enum err net_send(struct net *n, const struct node_id *id, const struct msg *m);

bool net_is_up(const struct net *n, const struct node_id *id);
/* The peer's address on its current connection, as on the wire; empty when not connected. */
struct slice net_addr(const struct net *n, const struct node_id *id);
/* Did we dial it?  Then net_addr is where it listens. */
bool net_dialled(const struct net *n, const struct node_id *id);
/* Round trip in microseconds, the middle of the last ones from PING/PONG; UINT32_MAX unknown. */
uint32_t net_rtt_us(const struct net *n, const struct node_id *id);
/* Bytes that came and went since the start, of one peer or (NULL) of all; what does not leave this
 * process is not counted. */
struct traffic {
    uint64_t in, out;
};
struct traffic net_traffic(const struct net *n, const struct node_id *id);
/* The line to one: kbit/s at which bytes for it left that had to wait; 0: not known. */
uint32_t net_line_kbit(const struct net *n, const struct node_id *id);
/* Since the start. */
struct faults {
    uint64_t strikes, bans;
    uint64_t refused; /* knocks that were one too many (net_guard.c) */
};
struct faults net_faults(const struct net *n);
/* The slowest line to a connected peer on which bytes had to wait, kbit/s; 0: not known, or so fast
 * that it does not matter (1 Gbit/s). */
uint32_t net_uplink_kbit(const struct net *n);
/* Milliseconds since bytes of it arrived; 0 for ourselves, UINT64_MAX when not connected. */
uint64_t net_silent_ms(const struct net *n, const struct node_id *id);
/* Ask it for a sign of life now; it shows in net_silent_ms. */
void net_ping(struct net *n, const struct node_id *id);
/* Bulk (conn.h) that waits for id, and how much of it may go from now on; 0 and nothing when it is
 * not connected.  A limit ends with its connection. */
size_t net_bulk_queued(const struct net *n, const struct node_id *id);
void net_bulk_limit(struct net *n, const struct node_id *id, uint64_t bytes);
uint64_t net_bulk_left(const struct net *n, const struct node_id *id);
/* This peer broke the protocol in what it said: a strike; three in ten minutes close and ban it. */
void net_strike(struct net *n, const struct node_id *id, const char *what);
/* Close and ban it for so long; why goes to the owner with its end. */
void net_ban(struct net *n, const struct node_id *id, uint64_t ms, const char *why);
bool net_is_banned(const struct net *n, const struct node_id *id);

/* Monotonic milliseconds and unix seconds, for all who need the time. */
uint64_t now_ms(const struct hub *h);
uint64_t unix_now(void);

#endif
