/* net_impl.h - what the files of the net actor share; nobody else includes it.
 *
 *     net.c        the actor: opening, closing, the clock's tick, the calls of net.h
 *     net_sock.c   one TCP connection: options, bytes in, bytes out, its end
 *     net_dial.c   names to addresses, addresses to connections, one after the other
 *     net_peer.c   who is reached over which connection; what waits for whom
 *     net_flow.c   how fast bytes leave
 *     net_pace.c   how fast they may
 *     net_guard.c  how often an address may knock
 *
 *     struct sock    CONNECTING -> HANDSHAKE -> OPEN -> FINISHING -> CLOSING (freed by libuv's
 * callback)
 *                         \____________\_________\____________________^
 *
 * A sock is freed only in its close callback, so whatever a callback of the owner does (strike,
 * close, dial), the sock that is being read stays valid until the loop's next turn; after each
 * call out its state is looked at again. */
#ifndef NET_NET_IMPL_H
#define NET_NET_IMPL_H

#include "base/bucket.h"
#include "net/hints.h"
#include "net/net.h"
#include "proto/pace.h"

enum {
    NET_TICK_MS = 250,
    NET_SOCKS_MAX = 256,               /* connections in all, pending ones included */
    NET_PENDING_MAX = 64,              /* accepted, not yet authenticated */
    NET_PENDING_ADDR_MAX = 16,         /* of one address; loopback is exempt */
    NET_ACCEPT_MAX = 16,               /* callers let in in one millisecond */
    NET_PEERS_MAX = 8192,              /* remembered ids: the directory's 4,096 and as many again */
    NET_WAIT_MAX = CONN_QUEUE_MAX / 2, /* bytes that may wait for a connection to one peer */
    NET_READ_BYTES = 256 << 10,
    NET_WRITE_BYTES = 256 << 10, /* handed to libuv at once when the socket is full */
    NET_NOTSENT_BYTES = 64 << 10,
    NET_TOGETHER_BYTES = 256 << 10, /* wait for the end of the loop's turn, more go at once: so
                                     * that 16 rows of 8 KiB stay one batch at the next stage */
    NET_CONNECT_MS = 5000,          /* for one address to answer */
    NET_STALL_MS = 15000, /* a peer that takes no byte and says nothing for so long is closed */
    NET_BUSY_MS = 300000, /* one that takes no byte but talks: it computes what we sent before */
    NET_PING_MS = 5000,
    NET_PING_STRIKES = 3,
    NET_MEASURE_MS = 30000, /* the round trip of a busy connection */
    NET_TRIPS_MAX = 8,      /* round trips that are remembered */
    NET_TRIPS_FIRST = 4,    /* measured one after the other on a new connection */
    NET_FINISH_MS = 900,    /* for a peer to take the last bytes and the CLOSE */
    NET_RETIRE_MS = 10000,  /* a spare connection on which nothing moves is closed */
    NET_BACKOFF_MS = 1000,  /* after a failed dial of hints; doubles */
    NET_BACKOFF_MAX_MS = 60000,
    NET_STRIKES = 3,
    NET_STRIKES_MS = 600000,
    NET_BAN_MS = 600000,
    NET_SELF_MAX = 4096,     /* messages to ourselves that may wait */
    NET_HELD_MAX = 64 << 20, /* bytes of one peer's mails that the receivers still hold */
};

enum sock_state { SOCK_CONNECTING, SOCK_HANDSHAKE, SOCK_OPEN, SOCK_FINISHING, SOCK_CLOSING };

struct dial;
struct peer;

/* How many bytes of mails from one peer have not been dropped yet.  Mails may be dropped by other
 * threads and outlive the net, hence atomic and counted. */
struct tally {
    size_t bytes; /* atomic */
    size_t refs;  /* atomic */
};

/* One TCP connection. */
struct sock {
    /* set once */
    struct net *net;
    bool initiator, loopback;
    uint8_t addr[ADDR_MAX]; /* the peer's, as on the wire */
    size_t addr_n;
    uint64_t born_ms;
    /* owned */
    uv_tcp_t tcp;
    uv_connect_t connecting;
    uv_write_t write;
    uv_shutdown_t shutdown;
    struct conn *conn;
    uint8_t *out; /* [NET_WRITE_BYTES] what libuv is writing; NULL until needed */
    size_t write_n;
    struct sock *prev, *next;
    /* borrowed */
    struct dial *dial; /* that waits for this connection; NULL for accepted ones and once told */
    struct peer *peer; /* from OPEN until dropped */
    /* live state */
    enum sock_state state;
    bool writing, heard, said, paused, sent_fin;
    bool has_unsent;                      /* of this turn of the loop */
    bool fence_out, fence_done, fence_in; /* sent, answered; the peer's was read */
    uint64_t progress_ms;                 /* when the peer last took bytes that had to wait */
    size_t queue;                         /* bytes in libuv's queue at the last tick */
    uint64_t rx_ms, mail_ms;              /* last bytes; last message other than PING and PONG */
    uint64_t ping_stamp, ping_ns, ping_ms;
    unsigned ping_strikes;
    uint64_t finish_ms;
    uint64_t flow_ns, flow_bytes; /* of a busy time; 0: it is none */
    bool flow_is_first;
    struct pace pace;
    bool paced;         /* it has much to send, or had a moment ago */
    uint32_t pace_rate; /* that its socket keeps to; 0: none was told to it */
    enum err end;
    struct why why;
};

/* A message that waits until its peer can be written to. */
struct parcel {
    struct parcel *next;
    size_t n;
    uint8_t bytes[];
};

/* Someone who was, is or may be connected.  Never freed while use, spare, dials or down is set. */
struct peer {
    struct node_id id;
    /* borrowed: sockets of the net's list */
    struct sock *use;   /* the one written to */
    struct sock *spare; /* the other one, while two nodes that dialled each other agree */
    bool held;          /* the fence on the spare is not answered: messages wait */
    unsigned downs;     /* its sockets that are closing */
    bool told_up;       /* the owner believes it is up */
    struct why why;     /* why its last connection ended */
    /* owned */
    struct parcel *first, **last;
    size_t waiting;
    struct tally *tally;
    /* live state */
    unsigned dials; /* in progress that may reach this peer */
    struct hints hints;
    uint64_t retry_ms, backoff_ms;
    uint64_t strike_ms[NET_STRIKES];
    uint64_t ban_until_ms;
    uint32_t rtt_us;                 /* the middle one of the last: */
    uint32_t trip_us[NET_TRIPS_MAX]; /* a ring */
    uint32_t uplink_kbit;            /* bytes to it that had to wait left so fast; 0: unknown */
    uint64_t flow_bytes, flow_ns;    /* of that */
    unsigned n_trips;                /* ever, on this connection */
    uint64_t seen_ms;
    struct traffic traffic;
};

enum { DIAL_ADDRS_MAX = 16 };

/* An attempt to reach somebody, over one address after the other. */
struct dial {
    struct net *net; /* NULL: given up, only the resolver's answer is awaited */
    struct dial *prev, *next;
    bool has_id;
    struct node_id id;
    struct peer *peer; /* with has_id */
    char host[256];
    uint16_t port;
    net_result *result; /* NULL: a dial for waiting messages */
    void *arg;
    uv_getaddrinfo_t lookup;
    struct sockaddr_storage addr[DIAL_ADDRS_MAX];
    unsigned n_addrs, at;
    struct sock *sock; /* the attempt in progress */
    enum err e;        /* of the attempt that came furthest */
    unsigned depth;
    struct why why;
};

enum { GUARD_ROWS = 512 };

struct knocker {
    uint8_t key[8]; /* IPv4 address, or the first half of an IPv6 one */
    uint8_t key_n;
    struct bucket tokens;
};

struct guard {
    struct knocker all;
    struct knocker row[GUARD_ROWS];
};

struct net {
    struct net_config cfg;
    struct hub *hub;
    char agent[33];
    uint64_t instance;
    /* owned */
    uv_tcp_t listener;
    uint8_t listen_addr[ADDR_MAX]; /* as on the wire, with listen_addr_n */
    size_t listen_addr_n;
    uv_timer_t tick, pace, door;
    uint64_t let_in_ms; /* n_let_in callers were let in then */
    unsigned n_let_in;
    uv_prepare_t rest; /* when a turn of the loop is over: what was sent in it leaves together */
    bool has_unsent;
    struct actor self; /* messages to ourselves */
    struct sock *socks;
    unsigned n_socks, n_pending;
    unsigned pairs; /* how often two nodes had dialled each other at once; tests look at it */
    struct dial *dials;
    struct peer **peers; /* [n_peers] sorted by id, so that no one can choose ids that collide */
    uint32_t n_peers, cap_peers;
    struct guard guard;
    struct traffic traffic;
    struct faults faults;
    uint8_t *inbox; /* [NET_READ_BYTES] shared: libuv fills it and calls us at once */
    /* closing */
    bool closing;
    unsigned handles; /* open or closing: listener, timers, rest, socks */
    void (*done)(void *arg);
    void *done_arg;
};

/* --- net.c --- */
void net_handle_closed(struct net *n); /* frees n when it is closing and this was the last */

static inline uint64_t net_now(const struct net *n)
{
    return now_ms(n->hub);
}

/* --- net_sock.c --- */
/* A new connection in CONNECTING; NULL: no memory, or too many connections. */
struct sock *sock_new(struct net *n, bool initiator);
/* Connected: set options, start the handshake.  expect may be NULL. */
void sock_begin(struct sock *s, const struct node_id *expect);
/* Send m: at once if the socket takes it; but rows when the loop's turn is over, so that those of
 * several sessions for one peer leave in one call and arrive in one, and are computed together.
 * All else would share a record with what comes after it, and is lost with it when a line breaks.
 */
MUST_CHECK enum err sock_send(struct sock *s, const struct msg *m);
/* What waits, as far as the socket takes it. */
void sock_flush(struct sock *s);
void sock_flush_all(struct net *n); /* what was sent in this turn */
/* Say CLOSE, let the peer read all, then close. */
void sock_finish(struct sock *s, enum err e, const char *why);
/* Close now; whoever waits for s is told from libuv's close callback. */
void sock_drop(struct sock *s, enum err e, const char *why);
void sock_tick(struct sock *s, uint64_t now);
void sock_ping(struct sock *s, uint64_t stamp);
void sock_measure(struct sock *s); /* a PING whose answer gives the round trip */

/* --- net_dial.c --- */
void dial_start(struct net *n, const struct node_id *id, const char *host, uint16_t port,
                net_result *result, void *arg);
/* Dial p's hints for the messages that wait. */
MUST_CHECK enum err dial_hints(struct net *n, struct peer *p);
void dial_opened(struct dial *d, const struct node_id *id);                    /* ends d well */
void dial_failed(struct dial *d, enum err e, unsigned depth, const char *why); /* next address */
void dial_tick(struct net *n); /* ends those that could not even start */
void dial_cancel_all(struct net *n);

/* --- net_peer.c --- */
struct peer *peer_find(const struct net *n, const struct node_id *id);
struct peer *peer_get(struct net *n, const struct node_id *id); /* made if new; NULL: no memory */
void peers_free(struct net *n);
bool peer_banned(const struct net *n, const struct peer *p);
/* s is OPEN.  May drop it. */
void peer_opened(struct sock *s);
/* s will be closed: p stops using it.  Then, when it is closed, the owner is told. */
void peer_detach(struct sock *s);
void peer_closed(struct net *n, struct peer *p);
void peer_fence_answered(struct sock *s);
void peer_fence_read(struct sock *s);
void peer_tick(struct peer *p, uint64_t now); /* of a peer with a spare connection */
MUST_CHECK enum err peer_send(struct net *n, struct peer *p, const struct msg *m);
void peer_give_up(struct net *n, struct peer *p, const char *why); /* the last dial failed */
void peer_strike(struct net *n, struct peer *p, const char *what);

/* --- net_mail.c --- */
/* A received message: answered here (PING, PONG, nonsense) or handed to the owner. */
void mail_arrived(struct sock *s, struct slice bytes);
MUST_CHECK enum err mail_to_self(struct net *n, const struct msg *m);
bool tally_full(const struct tally *t);
bool tally_low(const struct tally *t);
struct tally *tally_new(void);
void tally_release(struct tally *t);

/* --- net_flow.c --- */
void flow_full(struct sock *s);           /* the socket takes no more */
void flow_took(struct sock *s, size_t n); /* it took n bytes */
void flow_empty(struct sock *s);          /* nothing waits */

/* --- net_pace.c --- */
void pace_open(struct net *n);
/* Before s writes: does it need a rate now? */
void pace_flush(struct sock *s);

/* --- net_guard.c --- */
/* May this address start another handshake now? */
bool guard_allows(struct guard *g, struct slice addr, uint64_t now);
/* What counts as one address: all of IPv4, the /64 of IPv6. */
bool guard_same(struct slice a, struct slice b);

#endif
