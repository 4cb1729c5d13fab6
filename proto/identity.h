/* identity.h - who is who: Ed25519 identities, swarm keys, links, and their spellings.
 *
 *   node id     Ed25519 public key, bech32m "swm1..." (62 characters)
 *   swarm key   32 secret bytes that separate networks, bech32m "swk1..."
 *   link        swarm://ID@host:port (IPv6 hosts in brackets)
 *
 * The key file is "swarm-id-v1" || seed(32) || first 8 bytes of BLAKE2b-256 of both (51 bytes). */
#ifndef PROTO_IDENTITY_H
#define PROTO_IDENTITY_H

#include "base/err.h"
#include "base/slice.h"
#include "proto/messages.h"

#include <stdbool.h>

/* Call once before anything else in proto/.  ERR_UNSUPPORTED: libsodium does not start. */
MUST_CHECK enum err proto_init(void);

struct node_id {
    uint8_t b[ID_BYTES];
};
enum { NODE_ID_TEXT = 63, SWARM_KEY_TEXT = 63, NODE_ID_SHORT = 20 };
bool node_id_equal(const struct node_id *a, const struct node_id *b);
void node_id_text(char out[NODE_ID_TEXT], const struct node_id *id);
void node_id_short(char out[NODE_ID_SHORT], const struct node_id *id); /* swm16adfs...tg2v, ASCII */
MUST_CHECK enum err node_id_parse(struct node_id *out, const char *text, struct why *why);

/* A secret identity.  Wiped by identity_fini. */
struct identity {
    struct node_id id;
    uint8_t secret[64]; /* libsodium's form: seed || public key */
};
void identity_make(struct identity *me); /* fresh */
void identity_from_seed(struct identity *me, const uint8_t seed[32]);
void identity_fini(struct identity *me);
enum { IDENTITY_FILE_BYTES = 51 };
void identity_to_file(const struct identity *me, uint8_t out[IDENTITY_FILE_BYTES]);
MUST_CHECK enum err identity_from_file(struct identity *me, struct slice bytes, struct why *why);

/* Signature over domain || 0x00 || bytes.  domain is text such as "swarm-record-v1". */
void identity_sign(const struct identity *me, const char *domain, struct slice bytes,
                   uint8_t sig[SIG_BYTES]);
bool identity_verify(const struct node_id *id, const char *domain, struct slice bytes,
                     const uint8_t sig[SIG_BYTES]);

struct swarm_key {
    uint8_t b[32];
};
const struct swarm_key *swarm_key_public(void); /* the built-in one: only separates networks */
void swarm_key_make(struct swarm_key *k);
void swarm_key_text(char out[SWARM_KEY_TEXT], const struct swarm_key *k);
MUST_CHECK enum err swarm_key_parse(struct swarm_key *k, const char *text, struct why *why);
/* 8 bytes that name a swarm without betraying its key. */
void swarm_key_tag(uint8_t out[8], const struct swarm_key *k);

struct link {
    struct node_id id;
    char host[256]; /* name or address, no brackets */
    uint16_t port;
};
MUST_CHECK enum err link_parse(struct link *out, const char *text, struct why *why);
void link_text(char *out, size_t cap, const struct link *l);
/* "HOST:PORT" or "[V6]:PORT" alone; port 0 passes (listen: any free port), in a link it does not.
 */
MUST_CHECK enum err hostport_parse(char host[256], uint16_t *port, const char *text,
                                   struct why *why);

/* Wire addresses: 4 or 16 bytes then port BE <-> "1.2.3.4:5" / "[::1]:5". */
bool addr_text(char *out, size_t cap, struct slice addr);
/* The wire form of such a text: its length, or 0 when it is none or has port 0. */
size_t addr_parse(uint8_t out[ADDR_MAX], const char *text);
bool addr_is_loopback(struct slice addr);
bool addr_is_private(struct slice addr); /* RFC 1918, 100.64/10, fc00::/7, link-local */

/* The sampler's draw: first 8 bytes LE of BLAKE2b-256(key = seed LE64, position LE64). */
uint64_t draw_hash(uint64_t seed, uint64_t position);

/* Are these n bytes equal?  Takes the same time whether they are or not. */
bool secret_equal(const void *a, const void *b, size_t n);

/* Random bytes (libsodium). */
void random_bytes(void *out, size_t n);

#endif
