/* The first three messages: who speaks, on which version, in which swarm.
 *
 *     preamble  i -> r   "SWRM" major suite class 0, in clear, bound by the prologue
 *     msg1      i -> r   psk, e
 *     msg2      r -> i   e, ee, s, es + hello
 *     msg3      i -> r   s, se        + hello
 *
 * Each in a frame: length (u16 big endian), then the Noise message.  The psk comes first, so a
 * stranger's msg1 fails its tag before any Diffie-Hellman, and is answered with silence. */
#include "proto/conn_impl.h"

#include <inttypes.h>
#include <sodium.h>

static const char NOISE_NAME[] = "Noise_XXpsk0_25519_ChaChaPoly_BLAKE2b";
static const char PROLOGUE[] = "swarm-noise-v1"; /* its NUL is part of it */
static const char CERT_DOMAIN[] = "swarm-noise-static-v1";
static const uint8_t MAGIC[4] = { 'S', 'W', 'R', 'M' };
enum { HINT = 0xff, CERT_TEXT = NOISE_KEY + 8 };

/* Lengths that a handshake message may have; msg1 may carry 64 bytes that we ignore. */
static const struct {
    uint16_t min, max;
} sizes[] = {
    [WAIT_MSG1] = { 48, 112 },
    [WAIT_MSG2] = { 96, 96 + HELLO_MAX },
    [WAIT_MSG3] = { 64, 64 + HELLO_MAX },
};
_Static_assert(2 + 96 + HELLO_MAX == FRAME_MAX, "msg2 is the longest");

static enum err start_noise(struct conn *c)
{
    uint8_t prologue[sizeof PROLOGUE + PREAMBLE], psk[1][NOISE_KEY], secret[NOISE_KEY];

    memcpy(prologue, PROLOGUE, sizeof PROLOGUE);
    memcpy(prologue + sizeof PROLOGUE, c->preamble, PREAMBLE);
    /* A Noise psk is used for nothing else, so it is the swarm key's subkey 1. */
    crypto_kdf_derive_from_key(psk[0], NOISE_KEY, 1, "swrmnois", c->swarm->b);
    c->random(secret, sizeof secret);
    enum err e = noise_init(&c->noise, &(struct noise_setup){
                                           .name = NOISE_NAME,
                                           .initiator = c->initiator,
                                           .prologue = slice_of(prologue, sizeof prologue),
                                           .static_secret = secret,
                                           .psks = (const uint8_t(*)[NOISE_KEY])psk,
                                           .n_psks = 1,
                                           .random = c->random,
                                       });
    sodium_memzero(psk, sizeof psk);
    sodium_memzero(secret, sizeof secret);
    return e;
}

static enum err send_frame(struct conn *c, struct slice payload)
{
    uint8_t *frame = c->hs_out + c->hs_n;
    size_t n;

    enum err e = noise_write(&c->noise, payload, frame + 2, FRAME_MAX - 2, &n);
    if (e) return conn_die(c, e, WIRE_SILENT, "the handshake cannot go on: %s", err_text(e));
    put_be16(frame, n);
    c->hs_n += 2 + n;
    return ERR_OK;
}

/* --- hello and certificate --- */

static void cert_text(uint8_t out[CERT_TEXT], const uint8_t noise_key[NOISE_KEY], uint64_t until)
{
    memcpy(out, noise_key, NOISE_KEY);
    for (int i = 0; i < 8; i++) out[NOISE_KEY + i] = (uint8_t)(until >> (56 - 8 * i));
}

/* Our hello.  Its certificate holds for half of what a peer accepts, so that clocks may differ by
 * three days either way. */
static enum err send_hello(struct conn *c)
{
    uint8_t text[CERT_TEXT], cert[SIG_BYTES], bytes[HELLO_MAX];
    uint64_t until = c->unix_s + CONN_CERT_S / 2;
    size_t n;

    cert_text(text, c->noise.s.public, until);
    identity_sign(c->me, CERT_DOMAIN, slice_of(text, sizeof text), cert);
    struct msg m = { .type = MSG_HELLO };
    m.u.HELLO = (struct msg_HELLO){
        .id = slice_of(c->me->id.b, ID_BYTES),
        .cert = slice_of(cert, sizeof cert),
        .not_after = until,
        .agent = slice_str(c->agent),
        .role = c->role,
        .observed = slice_of(c->observed, c->observed_n),
        .instance = c->instance,
    };
    enum err e = msg_encode(&m, bytes, sizeof bytes, &n);
    if (e) return conn_die(c, e, WIRE_SILENT, "our own hello is unusable: %s", err_text(e));
    return send_frame(c, slice_of(bytes, n));
}

static enum err check_times(struct conn *c, const char *who, uint64_t until)
{
    uint64_t now = c->unix_s;

    if (until < now)
        return conn_die(c, ERR_AUTH, WIRE_EXPIRED,
                        "the certificate of %s expired %" PRIu64
                        " hours ago; is the clock of one of the two machines wrong?",
                        who, (now - until) / 3600);
    if (until - now > CONN_CERT_S)
        return conn_die(
            c, ERR_AUTH, WIRE_EXPIRED,
            "the certificate of %s lies more than %d days ahead; is the clock of one of "
            "the two machines wrong?",
            who, CONN_CERT_S / 86400);
    return ERR_OK;
}

/* hello_bytes hold what the peer says of itself, over a channel whose static key is noise.rs: is it
 * whom we dialled, and does it hold that identity's key? */
static enum err check_hello(struct conn *c, size_t n)
{
    uint8_t text[CERT_TEXT];
    char who[NODE_ID_SHORT], dialled[NODE_ID_SHORT];
    const struct msg_HELLO *h = &c->hello.u.HELLO;
    struct why why = { "it is no hello" };

    enum err e = msg_decode(&c->hello, slice_of(c->hello_bytes, n), &why);
    if (e || c->hello.type != MSG_HELLO)
        return conn_die(c, ERR_MALFORMED, WIRE_BAD_MESSAGE,
                        "the other side's hello is unusable: %s", why.text);
    memcpy(c->peer.b, h->id.p, ID_BYTES);
    node_id_short(who, &c->peer);
    if (c->expects && !node_id_equal(&c->peer, &c->expect)) {
        node_id_short(dialled, &c->expect);
        return conn_die(c, ERR_AUTH, WIRE_NOT_ALLOWED,
                        "%s was dialled but %s answered: that address is now another node's",
                        dialled, who);
    }
    cert_text(text, c->noise.rs.public, h->not_after);
    if (!identity_verify(&c->peer, CERT_DOMAIN, slice_of(text, sizeof text), h->cert.p))
        return conn_die(c, ERR_AUTH, WIRE_BAD_SIGNATURE,
                        "the certificate of %s does not verify: the other side does not hold that "
                        "identity's key",
                        who);
    return check_times(c, who, h->not_after);
}

/* --- the steps --- */

enum err handshake_begin(struct conn *c)
{
    if (!c->initiator) {
        c->stage = WAIT_PREAMBLE;
        return ERR_OK;
    }
    memcpy(c->preamble, MAGIC, sizeof MAGIC);
    c->preamble[4] = WIRE_MAJOR;
    c->preamble[5] = WIRE_SUITE;
    c->preamble[6] = (uint8_t)c->class_;
    memcpy(c->hs_out, c->preamble, PREAMBLE);
    c->hs_n = PREAMBLE;
    c->stage = WAIT_MSG2;
    enum err e = start_noise(c);
    return e ? e : send_frame(c, slice_of(NULL, 0));
}

static enum err open_now(struct conn *c)
{
    noise_split(&c->noise, &c->send, &c->receive);
    c->rekeyed_ms = c->now_ms;
    return ERR_OK;
}

static enum err ready(struct conn *c)
{
    enum err e = records_open(c);
    if (e) return conn_die(c, e, WIRE_NO_MEMORY, "out of memory");
    c->stage = READY;
    c->opened = true;
    return ERR_OK;
}

static enum err on_preamble(struct conn *c)
{
    const uint8_t *p = c->in;

    if (p[4] != WIRE_MAJOR || p[5] != WIRE_SUITE) {
        const uint8_t hint[PREAMBLE] = { 'S', 'W', 'R', 'M', HINT, WIRE_MAJOR, WIRE_MAJOR, 0 };
        memcpy(c->hs_out, hint, sizeof hint);
        c->hs_n = sizeof hint;
        return conn_die(
            c, ERR_UNSUPPORTED, WIRE_SILENT,
            "the other side speaks protocol version %u (suite %u), this program version "
            "%d; the older one needs an update",
            p[4], p[5], WIRE_MAJOR);
    }
    if (p[6] > CONN_BULK || p[7] != 0)
        return conn_die(c, ERR_MALFORMED, WIRE_SILENT,
                        "the other side's first bytes are not those of a swarm node");
    c->class_ = (enum conn_class)p[6];
    memcpy(c->preamble, p, PREAMBLE);
    c->stage = WAIT_MSG1;
    enum err e = start_noise(c);
    return e ? conn_die(c, e, WIRE_SILENT, "the handshake cannot start: %s", err_text(e)) : ERR_OK;
}

/* Unauthenticated: anyone on the way can write it, so it is shown and nothing more. */
static enum err on_hint(struct conn *c)
{
    const uint8_t *p = c->in;

    if (memcmp(p, MAGIC, sizeof MAGIC) != 0 || p[4] != HINT || p[7] != 0)
        return conn_die(c, ERR_MALFORMED, WIRE_SILENT, "the other side is not a swarm node");
    return conn_die(
        c, ERR_UNSUPPORTED, WIRE_SILENT,
        "the other side speaks protocol versions %u to %u, this program version %d; the "
        "older one needs an update",
        p[5], p[6], WIRE_MAJOR);
}

static enum err on_msg1(struct conn *c, struct slice message)
{
    uint8_t ignored[64];
    size_t n;

    if (noise_read(&c->noise, message, ignored, sizeof ignored, &n))
        return conn_die(c, ERR_AUTH, WIRE_SILENT,
                        "the other side uses another swarm key, or is no swarm node");
    c->stage = WAIT_MSG3;
    return send_hello(c);
}

static enum err on_msg2(struct conn *c, struct slice message)
{
    size_t n;

    if (noise_read(&c->noise, message, c->hello_bytes, HELLO_MAX, &n))
        return conn_die(
            c, ERR_AUTH, WIRE_SILENT,
            "the answer to our handshake does not verify: it was changed on the way, or "
            "comes from another swarm");
    enum err e = check_hello(c, n);
    if (!e) e = send_hello(c);
    if (!e) e = open_now(c);
    return e ? e : ready(c);
}

static enum err on_msg3(struct conn *c, struct slice message)
{
    size_t n;

    if (noise_read(&c->noise, message, c->hello_bytes, HELLO_MAX, &n))
        return conn_die(c, ERR_AUTH, WIRE_SILENT,
                        "the end of the handshake does not verify: it was changed on the way");
    enum err e = open_now(c); /* first, so that a refusal can be told */
    if (!e) e = check_hello(c, n);
    return e ? e : ready(c);
}

/* --- bytes to frames --- */

/* Add to in until it holds want bytes; false: more must arrive. */
static bool gather(struct conn *c, struct slice *bytes, size_t want)
{
    struct slice s = slice_take(bytes, want - c->in_n);
    if (s.n) memcpy(c->in + c->in_n, s.p, s.n);
    c->in_n += s.n;
    return c->in_n == want;
}

/* A scanner's or a browser's first byte is enough to hang up. */
static enum err feed_preamble(struct conn *c, struct slice *bytes)
{
    bool whole = gather(c, bytes, PREAMBLE);
    size_t n = c->in_n < sizeof MAGIC ? c->in_n : sizeof MAGIC;

    if (memcmp(c->in, MAGIC, n) != 0)
        return conn_die(c, ERR_MALFORMED, WIRE_SILENT,
                        "the other side's first bytes are not those of a swarm node");
    if (!whole) return ERR_OK;
    c->in_n = 0;
    return on_preamble(c);
}

static enum err feed_frame(struct conn *c, struct slice *bytes)
{
    if (c->in_n < 2 && !gather(c, bytes, 2)) return ERR_OK;
    size_t n = get_be16(c->in);

    if (c->stage == WAIT_MSG2 && memcmp(c->in, MAGIC, 2) == 0)
        return gather(c, bytes, PREAMBLE) ? on_hint(c) : ERR_OK;
    if (n < sizes[c->stage].min || n > sizes[c->stage].max)
        return conn_die(c, ERR_MALFORMED, WIRE_SILENT,
                        "a handshake message of %zu bytes, between %u and %u expected: the other "
                        "side is no swarm node",
                        n, sizes[c->stage].min, sizes[c->stage].max);
    if (!gather(c, bytes, 2 + n)) return ERR_OK;
    c->in_n = 0;
    struct slice message = slice_of(c->in + 2, n);
    if (c->stage == WAIT_MSG1) return on_msg1(c, message);
    return c->stage == WAIT_MSG2 ? on_msg2(c, message) : on_msg3(c, message);
}

enum err handshake_feed(struct conn *c, struct slice *bytes)
{
    return c->stage == WAIT_PREAMBLE ? feed_preamble(c, bytes) : feed_frame(c, bytes);
}
