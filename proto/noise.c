#include "proto/noise.h"

#include <assert.h>
#include <sodium.h>
#include <stdlib.h>

_Static_assert(NOISE_KEY == crypto_scalarmult_BYTES, "X25519");
_Static_assert(NOISE_KEY == crypto_aead_chacha20poly1305_ietf_KEYBYTES, "ChaCha20-Poly1305");
_Static_assert(NOISE_TAG == crypto_aead_chacha20poly1305_ietf_ABYTES, "ChaCha20-Poly1305");
_Static_assert(NOISE_HASH == crypto_generichash_BYTES_MAX, "BLAKE2b-512");

/* A handshake pattern (7): which static keys are known beforehand, and the tokens of each message,
 * initiator's first, messages parted by '/'. */
struct noise_pattern {
    const char *name;
    bool knows_i, knows_r; /* pre-messages: "-> s", "<- s" */
    const char *tokens;
};

/* clang-format off */
static const struct noise_pattern patterns[] = {
    /* one-way (7.4) */
    { "N",    0, 1, "e es" },
    { "K",    1, 1, "e es ss" },
    { "X",    0, 1, "e es s ss" },
    /* interactive (7.5) */
    { "NN",   0, 0, "e / e ee" },
    { "NK",   0, 1, "e es / e ee" },
    { "NX",   0, 0, "e / e ee s es" },
    { "XN",   0, 0, "e / e ee / s se" },
    { "XK",   0, 1, "e es / e ee / s se" },
    { "XX",   0, 0, "e / e ee s es / s se" },
    { "KN",   1, 0, "e / e ee se" },
    { "KK",   1, 1, "e es ss / e ee se" },
    { "KX",   1, 0, "e / e ee se s es" },
    { "IN",   0, 0, "e s / e ee se" },
    { "IK",   0, 1, "e es s ss / e ee se" },
    { "IX",   0, 0, "e s / e ee se s es" },
    /* deferred (appendix 18.1) */
    { "NK1",  0, 1, "e / e ee es" },
    { "NX1",  0, 0, "e / e ee s / es" },
    { "X1N",  0, 0, "e / e ee / s / se" },
    { "X1K",  0, 1, "e es / e ee / s / se" },
    { "XK1",  0, 1, "e / e ee es / s se" },
    { "X1K1", 0, 1, "e / e ee es / s / se" },
    { "X1X",  0, 0, "e / e ee s es / s / se" },
    { "XX1",  0, 0, "e / e ee s / es s se" },
    { "X1X1", 0, 0, "e / e ee s / es s / se" },
    { "K1N",  1, 0, "e / e ee / se" },
    { "K1K",  1, 1, "e es / e ee / se" },
    { "KK1",  1, 1, "e / e ee se es" },
    { "K1K1", 1, 1, "e / e ee es / se" },
    { "K1X",  1, 0, "e / e ee s es / se" },
    { "KX1",  1, 0, "e / e ee se s / es" },
    { "K1X1", 1, 0, "e / e ee s / se es" },
    { "I1N",  0, 0, "e s / e ee / se" },
    { "I1K",  0, 1, "e es s / e ee / se" },
    { "IK1",  0, 1, "e s / e ee se es" },
    { "I1K1", 0, 1, "e s / e ee es / se" },
    { "I1X",  0, 0, "e s / e ee s es / se" },
    { "IX1",  0, 0, "e s / e ee se s / es" },
    { "I1X1", 0, 0, "e s / e ee s / se es" },
};
/* clang-format on */

/* --- hash functions (4.3) --- */

static void hash2(uint8_t out[NOISE_HASH], struct slice a, struct slice b)
{
    crypto_generichash_state st;
    crypto_generichash_init(&st, NULL, 0, NOISE_HASH);
    if (a.n) crypto_generichash_update(&st, a.p, a.n);
    if (b.n) crypto_generichash_update(&st, b.p, b.n);
    crypto_generichash_final(&st, out, NOISE_HASH);
    sodium_memzero(&st, sizeof st);
}

void noise_hmac(uint8_t out[NOISE_HASH], struct slice key, struct slice a, struct slice b)
{
    enum { BLOCK = 128 }; /* BLAKE2b's */
    uint8_t pad[BLOCK] = { 0 }, inner[NOISE_HASH];
    crypto_generichash_state st;

    assert(key.n <= BLOCK);
    memcpy(pad, key.p, key.n);
    for (int i = 0; i < BLOCK; i++) pad[i] ^= 0x36;
    crypto_generichash_init(&st, NULL, 0, NOISE_HASH);
    crypto_generichash_update(&st, pad, BLOCK);
    if (a.n) crypto_generichash_update(&st, a.p, a.n);
    if (b.n) crypto_generichash_update(&st, b.p, b.n);
    crypto_generichash_final(&st, inner, NOISE_HASH);

    for (int i = 0; i < BLOCK; i++) pad[i] ^= 0x36 ^ 0x5c;
    hash2(out, slice_of(pad, BLOCK), slice_of(inner, NOISE_HASH));
    sodium_memzero(pad, sizeof pad);
    sodium_memzero(inner, sizeof inner);
    sodium_memzero(&st, sizeof st);
}

void noise_hkdf(const uint8_t ck[NOISE_HASH], struct slice input, uint8_t out1[NOISE_HASH],
                uint8_t out2[NOISE_HASH], uint8_t out3[NOISE_HASH])
{
    static const uint8_t one = 1, two = 2, three = 3;
    uint8_t temp[NOISE_HASH];

    noise_hmac(temp, slice_of(ck, NOISE_HASH), input, slice_of(NULL, 0));
    struct slice key = slice_of(temp, NOISE_HASH);
    noise_hmac(out1, key, slice_of(&one, 1), slice_of(NULL, 0));
    if (out2) noise_hmac(out2, key, slice_of(out1, NOISE_HASH), slice_of(&two, 1));
    if (out3) noise_hmac(out3, key, slice_of(out2, NOISE_HASH), slice_of(&three, 1));
    sodium_memzero(temp, sizeof temp);
}

/* --- cipher states (5.1) --- */

/* 4 zero bytes, then n little endian (12.3). */
static void nonce_of(uint8_t nonce[12], uint64_t n)
{
    memset(nonce, 0, 4);
    for (int i = 0; i < 8; i++) nonce[4 + i] = (uint8_t)(n >> 8 * i);
}

enum err noise_seal(struct noise_cipher *c, struct slice ad, struct slice plain, uint8_t *out)
{
    uint8_t nonce[12];

    if (!c->has_key) {
        if (plain.n) memmove(out, plain.p, plain.n);
        return ERR_OK;
    }
    if (c->n == UINT64_MAX) return ERR_FULL; /* reserved for rekeying */
    nonce_of(nonce, c->n++);
    crypto_aead_chacha20poly1305_ietf_encrypt(out, NULL, plain.p, plain.n, ad.p, ad.n, NULL, nonce,
                                              c->k);
    return ERR_OK;
}

enum err noise_unseal(struct noise_cipher *c, struct slice ad, struct slice sealed, uint8_t *out)
{
    uint8_t nonce[12];

    if (!c->has_key) {
        if (sealed.n) memmove(out, sealed.p, sealed.n);
        return ERR_OK;
    }
    if (c->n == UINT64_MAX) return ERR_FULL;
    if (sealed.n < NOISE_TAG) return ERR_MALFORMED;
    nonce_of(nonce, c->n);
    if (crypto_aead_chacha20poly1305_ietf_decrypt(out, NULL, NULL, sealed.p, sealed.n, ad.p, ad.n,
                                                  nonce, c->k) != 0)
        return ERR_AUTH;
    c->n++;
    return ERR_OK;
}

void noise_rekey(struct noise_cipher *c)
{
    static const uint8_t zeros[NOISE_KEY];
    uint8_t out[NOISE_KEY + NOISE_TAG], nonce[12];

    nonce_of(nonce, UINT64_MAX);
    crypto_aead_chacha20poly1305_ietf_encrypt(out, NULL, zeros, sizeof zeros, NULL, 0, NULL, nonce,
                                              c->k);
    memcpy(c->k, out, NOISE_KEY);
    sodium_memzero(out, sizeof out);
}

static void cipher_init(struct noise_cipher *c, const uint8_t k[NOISE_KEY])
{
    memcpy(c->k, k, NOISE_KEY);
    c->n = 0;
    c->has_key = true;
}

/* --- symmetric state (5.2) --- */

static void mix_hash(struct noise *n, struct slice data)
{
    hash2(n->h, slice_of(n->h, NOISE_HASH), data);
}

static void mix_key(struct noise *n, struct slice input)
{
    uint8_t ck[NOISE_HASH], k[NOISE_HASH];

    noise_hkdf(n->ck, input, ck, k, NULL);
    memcpy(n->ck, ck, NOISE_HASH);
    cipher_init(&n->cipher, k); /* 64 bytes cut to 32 */
    sodium_memzero(ck, sizeof ck);
    sodium_memzero(k, sizeof k);
}

static void mix_key_and_hash(struct noise *n, struct slice input)
{
    uint8_t ck[NOISE_HASH], h[NOISE_HASH], k[NOISE_HASH];

    noise_hkdf(n->ck, input, ck, h, k);
    memcpy(n->ck, ck, NOISE_HASH);
    mix_hash(n, slice_of(h, NOISE_HASH));
    cipher_init(&n->cipher, k);
    sodium_memzero(ck, sizeof ck);
    sodium_memzero(h, sizeof h);
    sodium_memzero(k, sizeof k);
}

static size_t tag_now(const struct noise *n)
{
    return n->cipher.has_key ? NOISE_TAG : 0;
}

static enum err encrypt_and_hash(struct noise *n, struct slice plain, uint8_t *out)
{
    size_t len = plain.n + tag_now(n);

    enum err e = noise_seal(&n->cipher, slice_of(n->h, NOISE_HASH), plain, out);
    if (!e) mix_hash(n, slice_of(out, len));
    return e;
}

static enum err decrypt_and_hash(struct noise *n, struct slice sealed, uint8_t *out)
{
    enum err e = noise_unseal(&n->cipher, slice_of(n->h, NOISE_HASH), sealed, out);
    if (!e) mix_hash(n, sealed);
    return e;
}

static enum err mix_dh(struct noise *n, const struct noise_pair *mine, const struct noise_pair *his)
{
    uint8_t shared[NOISE_KEY];
    enum err e = ERR_USAGE;

    if (!mine->known || !his->known) goto out;
    e = ERR_AUTH;
    if (crypto_scalarmult(shared, mine->secret, his->public) != 0) goto out; /* low order */
    mix_key(n, slice_of(shared, NOISE_KEY));
    e = ERR_OK;
out:
    sodium_memzero(shared, sizeof shared);
    return e;
}

static enum err mix_psk(struct noise *n)
{
    if (n->psks_used >= n->n_psks) return ERR_USAGE;
    mix_key_and_hash(n, slice_of(n->psk[n->psks_used], NOISE_KEY));
    sodium_memzero(n->psk[n->psks_used++], NOISE_KEY);
    return ERR_OK;
}

/* --- handshake state (5.3) --- */

static bool pair_from_secret(struct noise_pair *p, const uint8_t secret[NOISE_KEY])
{
    memcpy(p->secret, secret, NOISE_KEY);
    p->known = crypto_scalarmult_base(p->public, p->secret) == 0;
    return p->known;
}

static void pair_from_public(struct noise_pair *p, const uint8_t public[NOISE_KEY])
{
    memcpy(p->public, public, NOISE_KEY);
    p->known = true;
}

/* Split the name into a row of the table and the positions of its psks. */
static enum err parse_name(struct noise *n, const char *name)
{
    static const char head[] = "Noise_", suite[] = "_25519_ChaChaPoly_BLAKE2b";

    if (strncmp(name, head, sizeof head - 1) != 0) return ERR_UNSUPPORTED;
    const char *at = name + sizeof head - 1;
    size_t len = strspn(at, "NKXI1");
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns && !n->pattern; i++)
        if (slice_is(slice_of(at, len), patterns[i].name)) n->pattern = &patterns[i];
    if (!n->pattern) return ERR_UNSUPPORTED;
    at += len;

    while (strncmp(at, "psk", 3) == 0 && at[3] >= '0' && at[3] <= '4') {
        uint32_t bit = 1u << (at[3] - '0');
        if (n->psk_at & bit) return ERR_UNSUPPORTED;
        n->psk_at |= bit;
        at += 4;
        if (strncmp(at, "+psk", 4) == 0) at++;
    }
    return strcmp(at, suite) == 0 ? ERR_OK : ERR_UNSUPPORTED;
}

static unsigned messages_of(const struct noise_pattern *p)
{
    unsigned count = 1;
    for (const char *t = p->tokens; *t; t++) count += *t == '/';
    return count;
}

/* Is token one of the pattern's, in a message of this side? */
static bool writes_token(const struct noise_pattern *p, const char *token, bool initiator)
{
    bool from_initiator = true;
    size_t len = strlen(token);

    for (const char *t = p->tokens; *t; t += strcspn(t, " "), t += strspn(t, " ")) {
        if (*t == '/') from_initiator = !from_initiator;
        if (strcspn(t, " ") == len && memcmp(t, token, len) == 0 && from_initiator == initiator)
            return true;
    }
    return false;
}

/* Have we the keys that the pattern lets us need? */
static enum err check_keys(const struct noise *n)
{
    const struct noise_pattern *p = n->pattern;
    bool know_me = n->initiator ? p->knows_i : p->knows_r;
    bool know_him = n->initiator ? p->knows_r : p->knows_i;
    unsigned n_psks = (unsigned)__builtin_popcount(n->psk_at);

    if (n->psk_at >> (messages_of(p) + 1)) return ERR_UNSUPPORTED;
    if (n->n_psks != n_psks) return ERR_USAGE;
    if ((know_me || writes_token(p, "s", n->initiator)) && !n->s.known) return ERR_USAGE;
    return know_him && !n->rs.known ? ERR_USAGE : ERR_OK;
}

static void hash_name(struct noise *n, const char *name)
{
    size_t len = strlen(name);

    if (len <= NOISE_HASH)
        memcpy(n->h, name, len); /* zero-padded */
    else
        hash2(n->h, slice_of(name, len), slice_of(NULL, 0));
    memcpy(n->ck, n->h, NOISE_HASH);
}

enum err noise_init(struct noise *n, const struct noise_setup *setup)
{
    *n = (struct noise){ .initiator = setup->initiator, .random = setup->random };
    enum err e = ERR_USAGE;

    if (setup->n_psks > NOISE_PSKS_MAX) goto bad;
    n->n_psks = setup->n_psks;
    for (unsigned i = 0; i < n->n_psks; i++) memcpy(n->psk[i], setup->psks[i], NOISE_KEY);
    if (setup->static_secret && !pair_from_secret(&n->s, setup->static_secret)) goto bad;
    if (setup->ephemeral_secret && !pair_from_secret(&n->e, setup->ephemeral_secret)) goto bad;
    if ((e = parse_name(n, setup->name))) goto bad;

    /* A static key that the pattern transmits is believed only when it arrives. */
    bool know_him = n->initiator ? n->pattern->knows_r : n->pattern->knows_i;
    if (know_him && setup->remote_static) pair_from_public(&n->rs, setup->remote_static);
    if ((e = check_keys(n))) goto bad;

    hash_name(n, setup->name);
    mix_hash(n, setup->prologue);
    const struct noise_pair *i = n->initiator ? &n->s : &n->rs, *r = n->initiator ? &n->rs : &n->s;
    if (n->pattern->knows_i) mix_hash(n, slice_of(i->public, NOISE_KEY));
    if (n->pattern->knows_r) mix_hash(n, slice_of(r->public, NOISE_KEY));
    return ERR_OK;
bad:
    noise_fini(n);
    return e;
}

void noise_fini(struct noise *n)
{
    sodium_memzero(n, sizeof *n);
    n->dead = true;
}

bool noise_done(const struct noise *n)
{
    return !n->dead && n->next == messages_of(n->pattern);
}

bool noise_my_turn(const struct noise *n)
{
    return !n->dead && !noise_done(n) && (n->next % 2 == 0) == n->initiator;
}

bool noise_one_way(const struct noise *n)
{
    return !n->dead && messages_of(n->pattern) == 1;
}

/* The tokens of the message that is next. */
static const char *tokens_next(const struct noise *n)
{
    const char *t = n->pattern->tokens;
    for (unsigned i = 0; i < n->next; i++) t = strchr(t, '/') + 1;
    return t + strspn(t, " ");
}

/* A message that is being written or read, with how far we are. */
struct pen {
    uint8_t *out;
    const uint8_t *in;
    size_t at, cap;
};

static bool has_room(const struct pen *p, size_t want)
{
    return p->cap - p->at >= want;
}

static enum err write_e(struct noise *n, struct pen *p)
{
    if (!has_room(p, NOISE_KEY)) return ERR_FULL;
    if (!n->e.known) { /* else a test vector gave it */
        uint8_t secret[NOISE_KEY];
        n->random(secret, sizeof secret);
        bool good = pair_from_secret(&n->e, secret);
        sodium_memzero(secret, sizeof secret);
        if (!good) return ERR_AUTH;
    }
    memcpy(p->out + p->at, n->e.public, NOISE_KEY);
    p->at += NOISE_KEY;
    mix_hash(n, slice_of(n->e.public, NOISE_KEY));
    if (n->psk_at) mix_key(n, slice_of(n->e.public, NOISE_KEY)); /* 9.2 */
    return ERR_OK;
}

static enum err read_e(struct noise *n, struct pen *p)
{
    if (!has_room(p, NOISE_KEY)) return ERR_MALFORMED;
    pair_from_public(&n->re, p->in + p->at);
    p->at += NOISE_KEY;
    mix_hash(n, slice_of(n->re.public, NOISE_KEY));
    if (n->psk_at) mix_key(n, slice_of(n->re.public, NOISE_KEY));
    return ERR_OK;
}

static enum err write_s(struct noise *n, struct pen *p)
{
    size_t len = NOISE_KEY + tag_now(n);

    if (!has_room(p, len)) return ERR_FULL;
    enum err e = encrypt_and_hash(n, slice_of(n->s.public, NOISE_KEY), p->out + p->at);
    p->at += len;
    return e;
}

static enum err read_s(struct noise *n, struct pen *p)
{
    size_t len = NOISE_KEY + tag_now(n);

    if (!has_room(p, len)) return ERR_MALFORMED;
    enum err e = decrypt_and_hash(n, slice_of(p->in + p->at, len), n->rs.public);
    n->rs.known = !e;
    p->at += len;
    return e;
}

/* "es": initiator's ephemeral, responder's static; so a letter means ours or theirs by our role. */
static enum err mix_token_dh(struct noise *n, const char *token)
{
    char mine = n->initiator ? token[0] : token[1], his = n->initiator ? token[1] : token[0];
    return mix_dh(n, mine == 'e' ? &n->e : &n->s, his == 'e' ? &n->re : &n->rs);
}

/* Every token of the next message, in order, written or read. */
static enum err walk_tokens(struct noise *n, struct pen *p, bool writing)
{
    enum err e = ERR_OK;

    if (n->next == 0 && n->psk_at & 1) e = mix_psk(n);
    for (const char *t = tokens_next(n); !e && *t && *t != '/';) {
        size_t len = strcspn(t, " ");
        if (len == 2)
            e = mix_token_dh(n, t);
        else if (*t == 'e')
            e = writing ? write_e(n, p) : read_e(n, p);
        else
            e = writing ? write_s(n, p) : read_s(n, p);
        t += len;
        t += strspn(t, " ");
    }
    if (!e && n->psk_at >> (n->next + 1) & 1) e = mix_psk(n);
    return e;
}

enum err noise_write(struct noise *n, struct slice payload, uint8_t *out, size_t cap, size_t *len)
{
    struct pen p = { .out = out, .cap = cap < NOISE_MESSAGE_MAX ? cap : NOISE_MESSAGE_MAX };

    if (n->dead) return ERR_CLOSED;
    if (!noise_my_turn(n)) return ERR_USAGE;
    enum err e = walk_tokens(n, &p, true);
    if (!e && (!has_room(&p, tag_now(n)) || p.cap - p.at - tag_now(n) < payload.n)) e = ERR_FULL;
    size_t sealed = payload.n + tag_now(n);
    if (!e) e = encrypt_and_hash(n, payload, out + p.at);
    if (e) {
        noise_fini(n);
        return e;
    }
    n->next++;
    *len = p.at + sealed;
    return ERR_OK;
}

enum err noise_read(struct noise *n, struct slice message, uint8_t *payload, size_t cap,
                    size_t *len)
{
    struct pen p = { .in = message.p, .cap = message.n };
    enum err e = ERR_MALFORMED;

    if (n->dead) return ERR_CLOSED;
    if (noise_done(n) || noise_my_turn(n)) return ERR_USAGE;
    if (message.n > NOISE_MESSAGE_MAX) goto bad;
    if ((e = walk_tokens(n, &p, false))) goto bad;

    size_t left = p.cap - p.at;
    e = ERR_MALFORMED;
    if (left < tag_now(n)) goto bad;
    *len = left - tag_now(n);
    e = ERR_FULL;
    if (*len > cap) goto bad;
    if ((e = decrypt_and_hash(n, slice_of(p.in + p.at, left), payload))) goto bad;
    n->next++;
    return ERR_OK;
bad:
    *len = 0;
    noise_fini(n);
    return e;
}

void noise_split(struct noise *n, struct noise_cipher *send, struct noise_cipher *receive)
{
    uint8_t k1[NOISE_HASH], k2[NOISE_HASH];

    assert(noise_done(n));
    noise_hkdf(n->ck, slice_of(NULL, 0), k1, k2, NULL);
    cipher_init(n->initiator ? send : receive, k1);
    cipher_init(n->initiator ? receive : send, k2);
    sodium_memzero(k1, sizeof k1);
    sodium_memzero(k2, sizeof k2);
    sodium_memzero(n->ck, sizeof n->ck);
    sodium_memzero(&n->cipher, sizeof n->cipher);
    sodium_memzero(n->psk, sizeof n->psk);
    sodium_memzero(n->s.secret, NOISE_KEY);
    sodium_memzero(&n->e, sizeof n->e);
}
