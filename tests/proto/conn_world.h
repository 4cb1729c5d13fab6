/* conn_world.h - what the tests and fuzz targets of connections share: seeded randomness, two
 * identities, and a peer made by hand from noise.h, which can say what a conn never would. */
#ifndef TESTS_PROTO_CONN_WORLD_H
#define TESTS_PROTO_CONN_WORLD_H

#include "proto/conn.h"
#include "proto/noise.h"

#include <assert.h>
#include <stdlib.h>

/* SplitMix64, Steele and others 2014; one state for each side so that either can be replayed. */
static uint64_t world_seed[3];

static inline uint64_t world_next(unsigned who)
{
    uint64_t z = world_seed[who] += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline void world_fill(unsigned who, void *out, size_t n)
{
    for (size_t i = 0; i < n; i++) ((uint8_t *)out)[i] = (uint8_t)(world_next(who) >> 32);
}

static inline void random_a(void *out, size_t n)
{
    world_fill(0, out, n);
}

static inline void random_b(void *out, size_t n)
{
    world_fill(1, out, n);
}

/* A number below n from the test's own stream. */
static inline size_t pick(size_t n)
{
    return (size_t)(world_next(2) % n);
}

enum { NOW_S = 1700000000, SEED_A = 11, SEED_B = 22 };
static struct identity alice, bob;

static inline void world_init(void)
{
    static const uint8_t a[32] = { 'a' }, b[32] = { 'b' };
    identity_from_seed(&alice, a);
    identity_from_seed(&bob, b);
    world_seed[0] = SEED_A;
    world_seed[1] = SEED_B;
    world_seed[2] = 33;
}

/* Alice dials Bob. */
static inline struct conn_config config_a(void)
{
    return (struct conn_config){ .me = &alice,
                                 .swarm = swarm_key_public(),
                                 .expect = &bob.id,
                                 .initiator = true,
                                 .agent = "a/1",
                                 .role = 2,
                                 .observed = slice_of("\x7f\x00\x00\x01\x1b\x58", 6),
                                 .random = random_a,
                                 .unix_s = NOW_S };
}

static inline struct conn_config config_b(void)
{
    return (struct conn_config){ .me = &bob,
                                 .swarm = swarm_key_public(),
                                 .agent = "b/1",
                                 .role = 1,
                                 .random = random_b,
                                 .unix_s = NOW_S };
}

/* --- a peer by hand: always the initiator --- */

struct raw {
    struct noise noise;
    struct noise_cipher send, receive;
    uint8_t in[1 << 17]; /* what the conn has sent and we have not read */
    size_t n;
};

struct raw_setup {
    const struct identity *me; /* signs the certificate */
    const struct node_id *id;  /* in the hello; NULL: me's */
    enum conn_class class_;
    uint64_t until;     /* of the certificate; 0: tomorrow */
    bool other_key;     /* certify another X25519 key than the one used */
    struct slice hello; /* instead of a hello; empty: a good one */
};

static inline void raw_collect(struct raw *r, struct conn *c)
{
    struct slice p;
    while ((p = conn_pending(c)).n) {
        if (p.n > sizeof r->in - r->n) abort();
        memcpy(r->in + r->n, p.p, p.n);
        r->n += p.n;
        conn_sent(c, p.n);
    }
}

static inline size_t raw_hello(const struct raw *r, const struct raw_setup *s, uint8_t out[1024])
{
    uint8_t text[40], cert[SIG_BYTES];
    uint64_t until = s->until ? s->until : NOW_S + 86400;
    size_t n = 0;

    memcpy(text, r->noise.s.public, 32);
    text[0] ^= s->other_key;
    for (int i = 0; i < 8; i++) text[32 + i] = (uint8_t)(until >> (56 - 8 * i));
    identity_sign(s->me, "swarm-noise-static-v1", slice_of(text, sizeof text), cert);
    struct msg m = { .type = MSG_HELLO };
    m.u.HELLO.id = slice_of(s->id ? s->id->b : s->me->id.b, ID_BYTES);
    m.u.HELLO.cert = slice_of(cert, sizeof cert);
    m.u.HELLO.not_after = until;
    m.u.HELLO.agent = slice_str("raw/1");
    if (msg_encode(&m, out, 1024, &n)) abort();
    return n;
}

/* Shake hands with the responder c.  Returns what c said to the last message. */
static inline enum err raw_open(struct raw *r, const struct raw_setup *s, struct conn *c,
                                struct why *why)
{
    static const uint8_t secret[32] = { 's' }, ephemeral[32] = { 'e' };
    uint8_t prologue[23] = "swarm-noise-v1", psk[1][32], wire[1200], hello[1024];
    const uint8_t preamble[8] = { 'S', 'W', 'R', 'M', 1, 1, (uint8_t)s->class_, 0 };
    /* python3: libsodium's crypto_kdf is BLAKE2b-256 keyed, salt = id LE64, person = "swrmnois" */
    static const uint8_t public_psk[32] = {
        0x91, 0x39, 0x7c, 0xfc, 0x0f, 0x27, 0xab, 0x0a, 0xba, 0x4a, 0x47,
        0xd6, 0x33, 0xe2, 0xcd, 0x6b, 0x05, 0xf6, 0x23, 0xb8, 0xb7, 0x8e,
        0xd6, 0x5e, 0xd3, 0x05, 0xf5, 0x2c, 0x95, 0x6b, 0x91, 0xd9,
    };
    size_t n, got;

    *r = (struct raw){ 0 };
    memcpy(prologue + 15, preamble, 8);
    memcpy(psk[0], public_psk, 32);
    enum err e = noise_init(&r->noise, &(struct noise_setup){
                                           .name = "Noise_XXpsk0_25519_ChaChaPoly_BLAKE2b",
                                           .initiator = true,
                                           .prologue = slice_of(prologue, sizeof prologue),
                                           .static_secret = secret,
                                           .ephemeral_secret = ephemeral,
                                           .psks = (const uint8_t(*)[32])psk,
                                           .n_psks = 1,
                                       });
    if (e || noise_write(&r->noise, slice_of(NULL, 0), wire + 2, sizeof wire - 2, &n)) abort();
    wire[0] = 0;
    wire[1] = (uint8_t)n;
    if ((e = conn_feed(c, slice_of(preamble, 8), 0, why))) return e;
    if ((e = conn_feed(c, slice_of(wire, 2 + n), 0, why))) return e;

    raw_collect(r, c);
    size_t len = (size_t)r->in[0] << 8 | r->in[1];
    if (r->n != 2 + len || noise_read(&r->noise, slice_of(r->in + 2, len), hello, 1024, &got))
        return ERR_AUTH;
    r->n = 0;
    struct slice mine = s->hello;
    if (!mine.n) mine = slice_of(hello, raw_hello(r, s, hello));
    if (noise_write(&r->noise, mine, wire + 2, sizeof wire - 2, &n)) abort();
    wire[0] = (uint8_t)(n >> 8);
    wire[1] = (uint8_t)n;
    noise_split(&r->noise, &r->send, &r->receive);
    return conn_feed(c, slice_of(wire, 2 + n), 0, why);
}

struct raw_record {
    uint8_t kind, flags, reserved;
    uint16_t stream;
    uint32_t dlen, mlen;
    struct slice data; /* follows the header */
    size_t zeros;      /* and then these */
    const char *tail;  /* and this text */
};

/* Seal any plaintext, good or bad; returns the record's size in out. */
static inline size_t raw_seal(struct raw *r, const struct raw_record *d, uint8_t *out)
{
    uint8_t *p = out + 2;
    size_t n = 12, tail = d->tail ? strlen(d->tail) : 0;
    const uint8_t head[12] = { d->kind,
                               d->flags,
                               (uint8_t)(d->stream >> 8),
                               (uint8_t)d->stream,
                               (uint8_t)(d->dlen >> 8),
                               (uint8_t)d->dlen,
                               d->reserved,
                               0,
                               (uint8_t)(d->mlen >> 24),
                               (uint8_t)(d->mlen >> 16),
                               (uint8_t)(d->mlen >> 8),
                               (uint8_t)d->mlen };
    memcpy(p, head, sizeof head);
    if (d->data.n) memcpy(p + n, d->data.p, d->data.n);
    n += d->data.n;
    memset(p + n, 0, d->zeros);
    n += d->zeros;
    if (tail) memcpy(p + n, d->tail, tail);
    n += tail;
    if (noise_seal(&r->send, slice_of(NULL, 0), slice_of(p, n), p)) abort();
    n += NOISE_TAG;
    out[0] = (uint8_t)(n >> 8);
    out[1] = (uint8_t)n;
    return 2 + n;
}

/* The next record that the conn sent, opened into plain; 0: there is none. */
static inline size_t raw_unseal(struct raw *r, uint8_t *plain)
{
    if (r->n < 2) return 0;
    size_t len = (size_t)r->in[0] << 8 | r->in[1];
    if (r->n < 2 + len) return 0;
    if (noise_unseal(&r->receive, slice_of(NULL, 0), slice_of(r->in + 2, len), plain)) abort();
    memmove(r->in, r->in + 2 + len, r->n - 2 - len);
    r->n -= 2 + len;
    return len - NOISE_TAG;
}

#endif
