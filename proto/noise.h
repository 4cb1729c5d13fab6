/* noise.h - the Noise Protocol Framework (revision 34) for one suite: 25519, ChaChaPoly, BLAKE2b.
 *
 *     noise_init ──▶ noise_write / noise_read, in turn ──▶ noise_done ──▶ noise_split
 *                          any failure: wiped, every later call is ERR_CLOSED
 *
 * Every interactive and one-way pattern of the specification, the deferred ones, and psk modifiers;
 * the swarm uses one (conn.c), the others are here because then every published vector of the suite
 * runs through the code that guards us.
 *
 * Invariants: 1. A nonce is used once with a key.  2. After a failure or noise_split no secret is
 * left in the struct.  3. Nothing is allocated.
 *
 * Source: noiseprotocol.org, rev. 34; section numbers below are its. */
#ifndef PROTO_NOISE_H
#define PROTO_NOISE_H

#include "base/err.h"
#include "base/slice.h"

enum {
    NOISE_KEY = 32,
    NOISE_HASH = 64,
    NOISE_TAG = 16,
    NOISE_MESSAGE_MAX = 65535,
    NOISE_PSKS_MAX = 4,
};

/* A cipher state (5.1). */
struct noise_cipher {
    uint8_t k[NOISE_KEY];
    uint64_t n;
    bool has_key;
};

/* out gets plain.n + NOISE_TAG bytes (plain.n while there is no key); it may be plain itself.
 * ERR_FULL: the nonces of this key are used up. */
MUST_CHECK enum err noise_seal(struct noise_cipher *c, struct slice ad, struct slice plain,
                               uint8_t *out);
/* out gets sealed.n - NOISE_TAG bytes; it may be sealed itself.  ERR_AUTH: forged, damaged, or out
 * of order; the nonce does not move. */
MUST_CHECK enum err noise_unseal(struct noise_cipher *c, struct slice ad, struct slice sealed,
                                 uint8_t *out);
/* Replace the key by a one-way function of itself (4.2, 11.3); the nonce goes on. */
void noise_rekey(struct noise_cipher *c);

struct noise_pattern; /* a row of noise.c's table */

/* A key pair or the other side's half of one. */
struct noise_pair {
    uint8_t secret[NOISE_KEY], public[NOISE_KEY];
    bool known;
};

/* One handshake.  Fields are noise.c's, but for h and rs, which are good to read when done. */
struct noise {
    /* set once by noise_init */
    const struct noise_pattern *pattern;
    bool initiator;
    uint32_t psk_at; /* bit i: the modifier psk<i> is in the name */
    uint8_t psk[NOISE_PSKS_MAX][NOISE_KEY];
    unsigned n_psks;
    void (*random)(void *out, size_t n);

    /* live state (5.2, 5.3) */
    struct noise_cipher cipher;
    uint8_t ck[NOISE_HASH], h[NOISE_HASH];
    struct noise_pair s, e, rs, re; /* of rs and re only the public half */
    unsigned next;                  /* message: even ones are the initiator's */
    unsigned psks_used;
    bool dead;
};

struct noise_setup {
    const char *name; /* as in "Noise_XXpsk0_25519_ChaChaPoly_BLAKE2b" */
    bool initiator;
    struct slice prologue;            /* borrowed for the call */
    const uint8_t *static_secret;     /* [32], copied; NULL: none */
    const uint8_t *remote_static;     /* [32], copied; NULL: learned in the handshake */
    const uint8_t (*psks)[NOISE_KEY]; /* in the order of use, copied */
    unsigned n_psks;
    const uint8_t *ephemeral_secret; /* [32], for test vectors; NULL: from random */
    void (*random)(void *out, size_t n);
};

/* ERR_UNSUPPORTED: another suite or an unknown pattern.  ERR_USAGE: the pattern needs a key that
 * the setup does not give, or another number of psks. */
MUST_CHECK enum err noise_init(struct noise *n, const struct noise_setup *setup);
void noise_fini(struct noise *n); /* wipes everything */

bool noise_done(const struct noise *n);    /* all handshake messages are through */
bool noise_my_turn(const struct noise *n); /* the next one is ours to write */
bool noise_one_way(const struct noise *n); /* N, K, X: only the initiator ever sends */

/* The next handshake message.  *len gets its length.  ERR_FULL: it does not fit cap or 65535 bytes.
 * ERR_AUTH: a key of the other side is of low order. */
MUST_CHECK enum err noise_write(struct noise *n, struct slice payload, uint8_t *out, size_t cap,
                                size_t *len);
/* Take one in.  payload (cap bytes, may not overlap message) gets what it carried.
 * ERR_MALFORMED: too short.  ERR_AUTH: some key, psk or byte is not what the other side used. */
MUST_CHECK enum err noise_read(struct noise *n, struct slice message, uint8_t *payload, size_t cap,
                               size_t *len);

/* The two transport ciphers; wipes all secrets of n, keeps h (the handshake hash, 11.2) and rs. */
void noise_split(struct noise *n, struct noise_cipher *send, struct noise_cipher *receive);

/* HMAC-BLAKE2b-512 with a key of at most 128 bytes; HKDF (4.3): outputs of 64 bytes, each may be
 * NULL from the end. */
void noise_hmac(uint8_t out[NOISE_HASH], struct slice key, struct slice a, struct slice b);
void noise_hkdf(const uint8_t ck[NOISE_HASH], struct slice input, uint8_t out1[NOISE_HASH],
                uint8_t out2[NOISE_HASH], uint8_t out3[NOISE_HASH]);

#endif
