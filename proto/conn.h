/* conn.h - one encrypted connection to one peer, as a machine without a socket.
 *
 *     PREAMBLE/HANDSHAKE --keys agreed, hello verified--> OPEN
 *         |                                                 |
 *         +-------- any error, or nothing heard in time ----+--> DEAD
 *
 * Noise_XXpsk0_25519_ChaChaPoly_BLAKE2b, frames and records as protocol-notes 1.3 has them byte by
 * byte.  Bytes come in, bytes go out, time and randomness are arguments: node/net.c supplies the
 * real world, a test or the simulator another.
 *
 * Invariants, asserted by conn_check in debug builds:
 *   1. No message reaches the caller before OPEN.
 *   2. Nothing is written after DEAD, except the CLOSE record already queued.
 *   3. A nonce is used once.
 *   4. The read buffer never exceeds the largest record, a half-received message its type's limit;
 *      memory grows as bytes arrive, never by what a length field claims. */
#ifndef PROTO_CONN_H
#define PROTO_CONN_H

#include "proto/codec.h"
#include "proto/identity.h"

enum conn_class { CONN_FAST = 0, CONN_BULK = 1 };
enum conn_state { CONN_HANDSHAKE, CONN_OPEN, CONN_DEAD };

struct conn;

struct conn_config {
    const struct identity *me;      /* borrowed until conn_close */
    const struct swarm_key *swarm;  /* borrowed until conn_close */
    const struct node_id *expect;   /* initiator: whom we dial; copied; NULL: anyone */
    bool initiator;
    enum conn_class class_;
    const char *agent;              /* copied */
    uint8_t role;
    struct slice observed;          /* the peer's address, told to it; copied */
    void (*random)(void *out, size_t n); /* random_bytes, or a test's */
    uint64_t now_ms;                /* monotonic */
    uint64_t unix_s;                /* for certificates */
};

MUST_CHECK enum err conn_open(struct conn **out, const struct conn_config *config);
void conn_close(struct conn *c); /* frees; wipes keys */

enum conn_state conn_state(const struct conn *c);
/* Valid when OPEN. */
const struct node_id *conn_peer(const struct conn *c);
const struct msg_HELLO *conn_hello(const struct conn *c); /* its slices live as long as c */

/* Feed received bytes, cut anywhere.  ERR_AUTH, ERR_MALFORMED, ERR_RANGE, ERR_TIMEOUT, ERR_CLOSED
 * (the peer said CLOSE): the conn is DEAD, why says the reason, the caller closes the socket after
 * sending what is pending. */
MUST_CHECK enum err conn_feed(struct conn *c, struct slice bytes, uint64_t now_ms,
                              struct why *why);

/* The next received message as validated bytes for msg_decode; false: none.  Valid until the next
 * conn_feed or conn_next. */
bool conn_next(struct conn *c, struct slice *message);

/* Queue a message.  ERR_FULL when more than CONN_QUEUE_MAX bytes wait (the peer reads too slowly);
 * ERR_CLOSED when not OPEN. */
enum { CONN_QUEUE_MAX = 64 << 20 };
MUST_CHECK enum err conn_send(struct conn *c, const struct msg *m);

/* Ask for an orderly end: queues a CLOSE record; the conn is DEAD for sending. */
void conn_shutdown(struct conn *c);

/* Bytes that wait for the socket; the caller takes n of them. */
struct slice conn_pending(const struct conn *c);
void conn_sent(struct conn *c, size_t n);

/* The latest time at which conn_tick wants to be called (handshake time-out, rekey). */
uint64_t conn_deadline_ms(const struct conn *c);
MUST_CHECK enum err conn_tick(struct conn *c, uint64_t now_ms, struct why *why);

#endif
