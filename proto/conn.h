/* conn.h - one encrypted connection to one peer, as a machine without a socket.
 *
 *     PREAMBLE/HANDSHAKE --keys agreed, hello verified--> OPEN
 *         |                                                 |
 *         +-------- any error, or nothing heard in time ----+--> DEAD
 *
 * Noise_XXpsk0_25519_ChaChaPoly_BLAKE2b; docs/protocol.md has the frames and records.  Bytes
 * come in, bytes go out, time and randomness are arguments: net/net.c supplies the real world, a
 * test or the simulator another.
 *
 * Order: messages that name the same session arrive in the order sent, so do those with the same
 * rid, and so do those with neither; otherwise a short message may pass a long one, whose fragments
 * let it through.  A PING stamped CONN_FENCE passes nothing: who reads it has read all that was
 * sent before.
 *
 * Bulk: tiles and manifests (MANIFEST, TILE) go only when no other message waits, a record at a
 * time, and no faster than conn_bulk_limit says: what computes an answer passes them all but for
 * two records.  Among themselves they arrive in the order sent.  conn_shutdown drops them.
 *
 * Invariants, asserted by conn_check after every call:
 *   1. No message reaches the caller before OPEN.
 *   2. Nothing is written after DEAD, except what was already sealed or, by conn_shutdown, queued;
 *      a CLOSE record is the last.
 *   3. A nonce is used once.
 *   4. The read buffer never exceeds the largest record, a half-received message its type's limit;
 *      memory grows as bytes arrive, never by what a length field claims.  Before the peer is
 *      authenticated nothing is allocated but the struct itself. */
#ifndef PROTO_CONN_H
#define PROTO_CONN_H

#include "proto/codec.h"
#include "proto/identity.h"

enum conn_class { CONN_FAST = 0, CONN_BULK = 1 };
enum conn_state { CONN_HANDSHAKE, CONN_OPEN, CONN_DEAD };

enum {
    CONN_QUEUE_MAX = 64 << 20,      /* bytes that may wait in conn_send */
    CONN_HALVES_MAX = 8,            /* half-received messages */
    CONN_FIRST_MS = 2000,           /* for the first handshake message to arrive */
    CONN_HANDSHAKE_MS = 5000,       /* for all of it */
    CONN_REKEY_RECORDS = 1 << 16,   /* a sending key's life */
    CONN_REKEY_MS = 15 * 60 * 1000, /* the same, in time */
    CONN_CERT_S = 7 * 24 * 3600,    /* a certificate may be valid for so long */
};
#define CONN_FENCE UINT64_MAX /* the stamp of a PING that passes nothing */

struct conn;

struct conn_config {
    const struct identity *me;     /* borrowed until conn_close */
    const struct swarm_key *swarm; /* borrowed until conn_close */
    const struct node_id *expect;  /* initiator: whom we dial; copied; NULL: anyone */
    bool initiator;
    enum conn_class class_; /* initiator: what we ask for; a responder takes the peer's */
    const char *agent;      /* copied, at most 32 bytes */
    uint8_t role;
    uint64_t instance; /* random, of this run of the program; 0: not told */
    struct slice observed;               /* the peer's address, told to it; copied; may be empty */
    void (*random)(void *out, size_t n); /* random_bytes, or a test's */
    uint64_t now_ms;                     /* monotonic */
    uint64_t unix_s;                     /* for certificates */
    uint32_t rekey_records;              /* 0: CONN_REKEY_RECORDS; smaller in tests */
};

MUST_CHECK enum err conn_open(struct conn **out, const struct conn_config *config);
void conn_close(struct conn *c); /* frees; wipes keys; NULL is fine */

enum conn_state conn_state(const struct conn *c);
enum conn_class conn_class(const struct conn *c);
/* Valid from OPEN on. */
const struct node_id *conn_peer(const struct conn *c);
const struct msg_HELLO *conn_hello(const struct conn *c); /* its slices live as long as c */

/* Feed received bytes, cut anywhere.  On an error the conn is DEAD, why says the reason, and the
 * caller closes the socket after sending what is pending; messages that were complete before it are
 * still there for conn_next.
 *   ERR_AUTH         another swarm key, another identity than dialled, a certificate or record that
 *                    does not verify
 *   ERR_UNSUPPORTED  another version of the protocol
 *   ERR_MALFORMED, ERR_RANGE   the peer broke the protocol
 *   ERR_CLOSED       the peer said CLOSE, or conn_shutdown was called */
MUST_CHECK enum err conn_feed(struct conn *c, struct slice bytes, uint64_t now_ms, struct why *why);

/* The next received message, for msg_decode; false: none.  Its size is within its type's limit,
 * nothing else about it is checked.  Valid until the next conn_feed or conn_next. */
bool conn_next(struct conn *c, struct slice *message);

/* Queue a message.  ERR_FULL when more than CONN_QUEUE_MAX bytes would wait (the peer reads too
 * slowly); ERR_CLOSED when not OPEN; ERR_RANGE when m breaks its own bounds. */
MUST_CHECK enum err conn_send(struct conn *c, const struct msg *m);
/* Bytes that wait in the queue, not counting what is sealed and pending. */
size_t conn_queued(const struct conn *c);

/* Bulk: bytes of it that wait; how many of them may go from now on (UINT64_MAX, as at first: no
 * limit), and what is left of that. */
size_t conn_bulk_queued(const struct conn *c);
void conn_bulk_limit(struct conn *c, uint64_t bytes);
uint64_t conn_bulk_left(const struct conn *c);

/* An orderly end: what is queued is still sent, then a CLOSE record; for all else c is DEAD. */
void conn_shutdown(struct conn *c);

/* Bytes that wait for the socket, valid until the next call that takes a non-const c; conn_sent
 * says that the socket took the first n of them. */
struct slice conn_pending(const struct conn *c);
void conn_sent(struct conn *c, size_t n);

/* The latest time at which conn_tick wants to be called (handshake time-out, rekey). */
uint64_t conn_deadline_ms(const struct conn *c);
/* ERR_TIMEOUT: the handshake took too long; the conn is DEAD. */
MUST_CHECK enum err conn_tick(struct conn *c, uint64_t now_ms, struct why *why);

#endif
