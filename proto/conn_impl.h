/* conn_impl.h - what the files of a connection share; nobody else includes it.
 *
 *     conn.c            the calls of conn.h, the clock, the end
 *     conn_handshake.c  preamble, Noise, hello and certificate
 *     conn_record.c     sealed records: fragments in, fragments out, in turn by stream */
#ifndef PROTO_CONN_IMPL_H
#define PROTO_CONN_IMPL_H

#include "proto/conn.h"
#include "proto/noise.h"

enum {
    WIRE_MAJOR = 1,
    WIRE_SUITE = 1,
    PREAMBLE = 8,
    HELLO_MAX = 1024,
    FRAME_MAX = 2 + 32 + 48 + HELLO_MAX + NOISE_TAG, /* handshake message 2 with its length */

    HEADER = 12,                      /* of a record's plaintext */
    SEALED = 2 + NOISE_TAG,           /* what a record has around its plaintext */
    PLAIN_FAST = HEADER + (16 << 10), /* 26 ms at 5 Mbit/s: nothing waits longer for its turn */
    PLAIN_BULK = NOISE_MESSAGE_MAX - NOISE_TAG,
    PAD_TO = 64, /* sizes of short messages tell no more than this */
    CLOSE_BYTES = SEALED + PAD_TO,

    STREAMS = CONN_HALVES_MAX, /* that we send on */
    STREAM_BULK = STREAMS - 1, /* tiles: only when nothing else waits */
    OUT_RECORDS = 4, /* sealed ahead of the socket; what is sealed can no longer be passed */
};

enum stage { WAIT_PREAMBLE, WAIT_MSG1, WAIT_MSG2, WAIT_MSG3, READY, ENDED };

/* A received message. */
struct letter {
    struct letter *next;
    uint32_t n;
    uint8_t bytes[];
};
/* One of which fragments are missing. */
struct half {
    struct letter *m; /* owned; NULL: the slot is free */
    uint32_t n, cap;  /* the whole, and how much m has room for; m->n have come */
    uint16_t stream;
};

/* A message that waits to be sent, perhaps in part. */
struct outgoing {
    struct outgoing *next;
    uint64_t order; /* counts the messages of this connection */
    uint32_t n, sent;
    bool fence; /* not before all of lower order */
    bool plain; /* not padded: its size says nothing */
    uint8_t bytes[];
};
struct queue {
    struct outgoing *first, *last; /* owned */
};

struct conn {
    /* set once */
    const struct identity *me;     /* borrowed */
    const struct swarm_key *swarm; /* borrowed */
    struct node_id expect;
    bool expects, initiator;
    enum conn_class class_;
    char agent[33];
    uint8_t role;
    uint64_t instance;
    uint8_t observed[ADDR_MAX];
    size_t observed_n;
    void (*random)(void *out, size_t n);
    uint64_t born_ms, unix_s;
    uint32_t rekey_records;

    /* live state */
    enum stage stage;
    bool opened;   /* was READY once: peer and hello are good */
    bool shutting; /* CLOSE follows what is queued */
    enum err end;  /* of ENDED */
    struct why why;
    uint64_t now_ms;

    /* the handshake; after it only hello is of use */
    struct noise noise;
    uint8_t preamble[PREAMBLE];
    uint8_t in[FRAME_MAX];
    size_t in_n;
    struct node_id peer;
    uint8_t hello_bytes[HELLO_MAX];
    struct msg hello; /* borrows from hello_bytes */

    /* records in */
    struct noise_cipher receive;
    uint8_t
        *rx; /* owned [2 + plain_max + tag]: a record that is not complete, then its plaintext */
    size_t rx_n;
    struct half half[CONN_HALVES_MAX];
    struct letter *inbox, **inbox_last; /* owned: complete messages in order */
    struct letter *handed;              /* owned: what conn_next gave out */

    /* records out */
    struct noise_cipher send;
    struct queue queue[STREAMS];
    unsigned turn;     /* the stream that is next to send a record */
    unsigned n_queued; /* messages */
    size_t queued;     /* their bytes */
    size_t bulk_queued; /* of those, on STREAM_BULK and not sealed */
    uint64_t bulk_left; /* bytes that may be sealed of them; UINT64_MAX: no limit */
    uint64_t order;
    uint64_t sealed;      /* records under send, for invariant 3 */
    uint32_t since_rekey; /* records */
    uint64_t rekeyed_ms;

    /* bytes for the socket, in this order */
    uint8_t hs_out[PREAMBLE + 2 * FRAME_MAX];
    size_t hs_at, hs_n;
    uint8_t *out; /* owned [OUT_RECORDS records] */
    size_t out_at, out_n;
    uint8_t last[CLOSE_BYTES];
    size_t last_at, last_n;
};

static inline size_t plain_max(const struct conn *c)
{
    return c->class_ == CONN_BULK ? PLAIN_BULK : PLAIN_FAST;
}

static inline uint16_t get_be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static inline void put_be16(uint8_t *p, size_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

/* Cut up to n bytes off the front of s. */
static inline struct slice slice_take(struct slice *s, size_t n)
{
    struct slice front = slice_of(s->p, n < s->n ? n : s->n);
    s->p += front.n;
    s->n -= front.n;
    return front;
}

/* conn.c: the end of c, with the sentence for people.  code (enum wire_error, or 0) is told to the
 * peer when there are keys for it; wire_silent: it is told nothing.  Returns e. */
enum { WIRE_SILENT = -1 };
__attribute__((format(printf, 4, 5))) enum err conn_die(struct conn *c, enum err e, int code,
                                                        const char *fmt, ...);

/* conn_handshake.c */
MUST_CHECK enum err handshake_begin(struct conn *c);
MUST_CHECK enum err handshake_feed(struct conn *c, struct slice *bytes);

/* conn_record.c */
MUST_CHECK enum err records_open(struct conn *c); /* buffers; ERR_NOMEM */
MUST_CHECK enum err records_feed(struct conn *c, struct slice *bytes);
MUST_CHECK enum err records_queue(struct conn *c, const struct msg *m);
void records_pump(struct conn *c); /* seal what has room, in turn */
bool records_rekey_due(const struct conn *c);
void records_say_close(struct conn *c, int code);
void records_drop_bulk(struct conn *c);
void records_drop(struct conn *c); /* queue and half-received messages */

#endif
