#include "proto/identity.h"
#include "proto/bech32m.h"

#include <arpa/inet.h>
#include <assert.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

_Static_assert(ID_BYTES == crypto_sign_PUBLICKEYBYTES, "a node id is an Ed25519 public key");
_Static_assert(SIG_BYTES == crypto_sign_BYTES, "a signature is Ed25519's");

static const char NODE_PREFIX[] = "swm", SWARM_PREFIX[] = "swk", LINK_PREFIX[] = "swarm://";
static const char FILE_MAGIC[] = "swarm-id-v1";
enum { MAGIC = sizeof FILE_MAGIC - 1, SEED = 32, FILE_SUM = 8 };
_Static_assert(MAGIC + SEED + FILE_SUM == IDENTITY_FILE_BYTES, "identity.h states the file's size");

enum err proto_init(void)
{
    return sodium_init() < 0 ? ERR_UNSUPPORTED : ERR_OK;
}

bool secret_equal(const void *a, const void *b, size_t n)
{
    return sodium_memcmp(a, b, n) == 0;
}

void random_bytes(void *out, size_t n)
{
    randombytes_buf(out, n);
}

/* --- node ids --- */

bool node_id_equal(const struct node_id *a, const struct node_id *b)
{
    return memcmp(a->b, b->b, ID_BYTES) == 0; /* public, so no constant time */
}

void node_id_text(char out[NODE_ID_TEXT], const struct node_id *id)
{
    bool fits = bech32m_put(out, NODE_ID_TEXT, NODE_PREFIX, slice_of(id->b, ID_BYTES));
    assert(fits);
    (void)fits;
}

void node_id_short(char out[NODE_ID_SHORT], const struct node_id *id)
{
    char text[NODE_ID_TEXT];
    node_id_text(text, id);
    snprintf(out, NODE_ID_SHORT, "%.9s...%s", text, text + NODE_ID_TEXT - 1 - 4);
}

/* A secret in the place of a public id is a mistake worth its own sentence. */
enum err node_id_parse(struct node_id *out, const char *text, struct why *why)
{
    struct why inner;

    if (strncmp(text, "swk1", 4) == 0 || strncmp(text, "SWK1", 4) == 0)
        return fail(why, ERR_MALFORMED,
                    "a swarm key (swk1...) stands where a node id (swm1...) belongs");
    enum err e = bech32m_get(out->b, ID_BYTES, NODE_PREFIX, text, &inner);
    if (e) return fail(why, e, "'%.80s' is no node id: %s", text, inner.text);
    return ERR_OK;
}

/* --- identities --- */

void identity_make(struct identity *me)
{
    uint8_t seed[SEED];
    random_bytes(seed, sizeof seed);
    identity_from_seed(me, seed);
    sodium_memzero(seed, sizeof seed);
}

void identity_from_seed(struct identity *me, const uint8_t seed[32])
{
    crypto_sign_seed_keypair(me->id.b, me->secret, seed);
}

void identity_fini(struct identity *me)
{
    sodium_memzero(me, sizeof *me);
}

/* First bytes of BLAKE2b-256(magic || seed): finds a damaged file before it becomes another id. */
static void file_sum(uint8_t sum[FILE_SUM], const uint8_t file[IDENTITY_FILE_BYTES])
{
    uint8_t hash[32];
    crypto_generichash(hash, sizeof hash, file, MAGIC + SEED, NULL, 0);
    memcpy(sum, hash, FILE_SUM);
    sodium_memzero(hash, sizeof hash);
}

void identity_to_file(const struct identity *me, uint8_t out[IDENTITY_FILE_BYTES])
{
    memcpy(out, FILE_MAGIC, MAGIC);
    memcpy(out + MAGIC, me->secret, SEED); /* libsodium's secret begins with the seed */
    file_sum(out + MAGIC + SEED, out);
}

enum err identity_from_file(struct identity *me, struct slice bytes, struct why *why)
{
    uint8_t sum[FILE_SUM];

    if (bytes.n != IDENTITY_FILE_BYTES)
        return fail(why, ERR_MALFORMED, "not an identity key: %zu bytes instead of %d", bytes.n,
                    IDENTITY_FILE_BYTES);
    if (memcmp(bytes.p, FILE_MAGIC, MAGIC) != 0)
        return fail(why, ERR_MALFORMED, "not an identity key: it does not begin with %s",
                    FILE_MAGIC);
    file_sum(sum, bytes.p);
    if (sodium_memcmp(sum, bytes.p + MAGIC + SEED, FILE_SUM) != 0)
        return fail(why, ERR_AUTH, "the identity key is damaged: its checksum does not fit");
    identity_from_seed(me, bytes.p + MAGIC);
    return ERR_OK;
}

/* domain || 0 || bytes in one piece, as Ed25519 reads its message twice.  NULL: out of memory. */
static uint8_t *signed_text(const char *domain, struct slice bytes, uint8_t *small, size_t cap,
                            size_t *n)
{
    size_t n_domain = strlen(domain) + 1;
    uint8_t *p = small;

    if (bytes.n > SIZE_MAX - n_domain) return NULL;
    *n = n_domain + bytes.n;
    if (*n > cap) p = malloc(*n);
    if (!p) return NULL;
    memcpy(p, domain, n_domain);
    if (bytes.n) memcpy(p + n_domain, bytes.p, bytes.n);
    return p;
}

void identity_sign(const struct identity *me, const char *domain, struct slice bytes,
                   uint8_t sig[SIG_BYTES])
{
    uint8_t small[4096];
    size_t n;
    uint8_t *p = signed_text(domain, bytes, small, sizeof small, &n);

    if (!p) abort(); /* only for our own texts, whose size we chose */
    crypto_sign_detached(sig, NULL, p, n, me->secret);
    if (p != small) free(p);
}

bool identity_verify(const struct node_id *id, const char *domain, struct slice bytes,
                     const uint8_t sig[SIG_BYTES])
{
    uint8_t small[4096];
    size_t n;
    uint8_t *p = signed_text(domain, bytes, small, sizeof small, &n);

    if (!p) return false;
    bool good = crypto_sign_verify_detached(sig, p, n, id->b) == 0;
    if (p != small) free(p);
    return good;
}

/* --- swarm keys --- */

const struct swarm_key *swarm_key_public(void)
{
    /* BLAKE2b-256("swarm public key v1"): known to all, so it keeps nobody out. */
    static const struct swarm_key key = { {
        0x21, 0x29, 0x12, 0x99, 0x33, 0xc3, 0xa3, 0x20, 0x3d, 0xd3, 0x70,
        0x31, 0x29, 0x7f, 0xb8, 0x5a, 0xb6, 0xbd, 0x59, 0xf8, 0x69, 0x24,
        0x46, 0x75, 0xb0, 0xea, 0x4f, 0x16, 0x32, 0x63, 0x88, 0xfe,
    } };
    return &key;
}

void swarm_key_make(struct swarm_key *k)
{
    random_bytes(k->b, sizeof k->b);
}

void swarm_key_text(char out[SWARM_KEY_TEXT], const struct swarm_key *k)
{
    bool fits = bech32m_put(out, SWARM_KEY_TEXT, SWARM_PREFIX, slice_of(k->b, sizeof k->b));
    assert(fits);
    (void)fits;
}

enum err swarm_key_parse(struct swarm_key *k, const char *text, struct why *why)
{
    struct why inner;

    if (strncmp(text, "swm1", 4) == 0 || strncmp(text, "SWM1", 4) == 0)
        return fail(why, ERR_MALFORMED,
                    "a node id (swm1...) stands where a swarm key (swk1...) belongs");
    enum err e = bech32m_get(k->b, sizeof k->b, SWARM_PREFIX, text, &inner);
    if (e) return fail(why, e, "unusable swarm key: %s", inner.text); /* never repeat a secret */
    return ERR_OK;
}

/* Subkey 3 of the swarm key; 1 is Noise's psk, 2 is kept for LAN beacons. */
void swarm_key_tag(uint8_t out[8], const struct swarm_key *k)
{
    uint8_t sub[crypto_kdf_BYTES_MIN];
    crypto_kdf_derive_from_key(sub, sizeof sub, 3, "swrm-tag", k->b);
    memcpy(out, sub, 8);
    sodium_memzero(sub, sizeof sub);
}

/* --- links and addresses --- */

static bool is_host_char(char c, bool v6)
{
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return true;
    return c == '.' || c == '-' || c == '_' || (v6 && (c == ':' || c == '%'));
}

static bool parse_port(uint16_t *port, const char *text)
{
    uint32_t v = 0;
    size_t n = strlen(text);

    if (n == 0 || n > 5) return false;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        v = v * 10 + (uint32_t)(text[i] - '0');
    }
    if (v > UINT16_MAX) return false;
    *port = (uint16_t)v;
    return true;
}

enum err hostport_parse(char host[256], uint16_t *port, const char *text, struct why *why)
{
    bool v6 = text[0] == '[';
    const char *begin = text + v6;
    const char *end = v6 ? strchr(text, ']') : strrchr(text, ':');
    const char *colon = v6 && end ? end + 1 : end;

    if (!end || *colon != ':')
        return fail(why, ERR_MALFORMED, "'%.120s' is not HOST:PORT or [IPv6]:PORT", text);
    size_t n = (size_t)(end - begin);
    if (n == 0 || n > 255)
        return fail(why, ERR_MALFORMED, "'%.120s' has no host, or one longer than 255 characters",
                    text);
    for (size_t i = 0; i < n; i++) {
        if (!v6 && begin[i] == ':')
            return fail(why, ERR_MALFORMED,
                        "'%.120s': an IPv6 address needs brackets, as in "
                        "[::1]:7000",
                        text);
        if (!is_host_char(begin[i], v6))
            return fail(why, ERR_MALFORMED, "'%.120s' has a character that no host name has", text);
    }
    if (!parse_port(port, colon + 1))
        return fail(why, ERR_RANGE, "'%.120s': the port must be a number from 0 to 65535", text);
    memcpy(host, begin, n);
    host[n] = 0;
    return ERR_OK;
}

enum err link_parse(struct link *out, const char *text, struct why *why)
{
    size_t n_prefix = sizeof LINK_PREFIX - 1;
    char id[NODE_ID_TEXT + 32];

    if (strncmp(text, LINK_PREFIX, n_prefix) != 0)
        return fail(why, ERR_MALFORMED, "'%.120s' is no link: it does not begin with swarm://",
                    text);
    const char *at = strchr(text + n_prefix, '@');
    if (!at)
        return fail(why, ERR_MALFORMED, "'%.120s' is no link: it needs swarm://ID@host:port", text);
    size_t n = (size_t)(at - text) - n_prefix;
    if (n >= sizeof id)
        return fail(why, ERR_MALFORMED, "'%.120s' is no link: its node id is too long", text);
    memcpy(id, text + n_prefix, n);
    id[n] = 0;

    enum err e = node_id_parse(&out->id, id, why);
    if (!e) e = hostport_parse(out->host, &out->port, at + 1, why);
    if (!e && out->port == 0) e = fail(why, ERR_RANGE, "'%.120s': a link cannot have port 0", text);
    return e;
}

void link_text(char *out, size_t cap, const struct link *l)
{
    char id[NODE_ID_TEXT];
    bool v6 = strchr(l->host, ':') != NULL;

    node_id_text(id, &l->id);
    snprintf(out, cap, "%s%s@%s%s%s:%u", LINK_PREFIX, id, v6 ? "[" : "", l->host, v6 ? "]" : "",
             l->port);
}

bool addr_text(char *out, size_t cap, struct slice addr)
{
    char host[INET6_ADDRSTRLEN];
    bool v6 = addr.n == 18;

    if (cap) out[0] = 0;
    if (addr.n != 6 && !v6) return false;
    if (!inet_ntop(v6 ? AF_INET6 : AF_INET, addr.p, host, sizeof host)) return false;
    unsigned port = (unsigned)addr.p[addr.n - 2] << 8 | addr.p[addr.n - 1];
    int n = snprintf(out, cap, v6 ? "[%s]:%u" : "%s:%u", host, port);
    return n > 0 && (size_t)n < cap;
}

size_t addr_parse(uint8_t out[ADDR_MAX], const char *text)
{
    char host[256];
    uint16_t port;

    if (hostport_parse(host, &port, text, NULL) || port == 0) return 0;
    size_t n = inet_pton(AF_INET, host, out) == 1    ? 4
               : inet_pton(AF_INET6, host, out) == 1 ? 16
                                                     : 0;
    if (!n) return 0;
    out[n] = (uint8_t)(port >> 8);
    out[n + 1] = (uint8_t)port;
    return n + 2;
}

static const uint8_t MAPPED[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

/* The four bytes of an IPv4 address, also of one inside IPv6 (::ffff:a.b.c.d); NULL: real IPv6
 * or no address. */
static const uint8_t *v4_of(struct slice addr)
{
    if (addr.n == 6) return addr.p;
    if (addr.n == 18 && memcmp(addr.p, MAPPED, sizeof MAPPED) == 0) return addr.p + 12;
    return NULL;
}

bool addr_is_loopback(struct slice addr)
{
    static const uint8_t one[16] = { [15] = 1 };
    const uint8_t *v4 = v4_of(addr);

    if (v4) return v4[0] == 127;
    return addr.n == 18 && memcmp(addr.p, one, sizeof one) == 0;
}

bool addr_is_private(struct slice addr)
{
    const uint8_t *a = v4_of(addr);

    if (a)
        return a[0] == 10 || (a[0] == 172 && (a[1] & 0xf0) == 16) || (a[0] == 192 && a[1] == 168) ||
               (a[0] == 100 && (a[1] & 0xc0) == 64) || (a[0] == 169 && a[1] == 254);
    if (addr.n != 18) return false;
    return (addr.p[0] & 0xfe) == 0xfc || (addr.p[0] == 0xfe && (addr.p[1] & 0xc0) == 0x80);
}

/* --- the sampler's draw --- */

static void put_le64(uint8_t out[8], uint64_t v)
{
    for (int i = 0; i < 8; i++) out[i] = (uint8_t)(v >> 8 * i);
}

uint64_t draw_hash(uint64_t seed, uint64_t position)
{
    uint8_t key[8], in[8], hash[32];
    uint64_t v = 0;

    put_le64(key, seed);
    put_le64(in, position);
    /* crypto_generichash wants keys of 16 bytes and more; the function below it does not */
    int rc = crypto_generichash_blake2b(hash, sizeof hash, in, sizeof in, key, sizeof key);
    if (rc != 0) abort();
    for (int i = 7; i >= 0; i--) v = v << 8 | hash[i];
    return v;
}
