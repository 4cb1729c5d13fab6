#include "proto/bech32m.h"

#include <assert.h>
#include <sodium.h>

enum { CHECKSUM = 6 };
static const uint32_t FINAL = 0x2bc830a3; /* BIP-350; bech32 (BIP-173) ends in 1 */
static const char ALPHABET[] = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/* One step of the BCH code over GF(32); BIP-173 "polymod". */
static uint32_t step(uint32_t c, uint8_t v)
{
    static const uint32_t gen[5] = { 0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3 };
    uint32_t top = c >> 25;

    c = ((c & 0x1ffffff) << 5) ^ v;
    for (unsigned i = 0; i < 5; i++)
        if (top >> i & 1) c ^= gen[i];
    return c;
}

static uint32_t prefix_sum(const char *prefix)
{
    uint32_t c = 1;
    for (const char *p = prefix; *p; p++) c = step(c, (uint8_t)*p >> 5);
    c = step(c, 0);
    for (const char *p = prefix; *p; p++) c = step(c, (uint8_t)*p & 31);
    return c;
}

bool bech32m_put(char *out, size_t cap, const char *prefix, struct slice data)
{
    size_t n_prefix = strlen(prefix), n_values = (data.n * 8 + 4) / 5;
    size_t total = n_prefix + 1 + n_values + CHECKSUM;
    uint32_t c = prefix_sum(prefix), bits = 0;
    unsigned n_bits = 0;
    char *o = out + n_prefix;

    if (cap) out[0] = 0;
    if (data.n > BECH32M_TEXT_MAX || total > BECH32M_TEXT_MAX || total >= cap) return false;
    memcpy(out, prefix, n_prefix);
    *o++ = '1';
    for (size_t i = 0, used = 0; i < n_values; i++) {
        if (n_bits < 5) {
            bits = bits << 8 | (used < data.n ? data.p[used] : 0);
            used++;
            n_bits += 8;
        }
        n_bits -= 5;
        uint8_t v = bits >> n_bits & 31;
        c = step(c, v);
        *o++ = ALPHABET[v];
    }
    for (int i = 0; i < CHECKSUM; i++) c = step(c, 0);
    c ^= FINAL;
    for (int i = 0; i < CHECKSUM; i++) *o++ = ALPHABET[c >> (25 - 5 * i) & 31];
    *o = 0;
    sodium_memzero(&bits, sizeof bits);
    return true;
}

static int value_of(char c)
{
    const char *at = c ? strchr(ALPHABET, c) : NULL;
    return at ? (int)(at - ALPHABET) : -1;
}

enum err bech32m_split(char prefix[BECH32M_PREFIX_MAX + 1], uint8_t values[BECH32M_TEXT_MAX],
                       size_t *n_values, const char *text, struct why *why)
{
    size_t n = strnlen(text, BECH32M_TEXT_MAX + 1), sep = 0;
    bool upper = false, lower = false;

    if (n > BECH32M_TEXT_MAX)
        return fail(why, ERR_MALFORMED, "it is longer than %d characters", BECH32M_TEXT_MAX);
    for (size_t i = 0; i < n; i++) {
        if (text[i] < 33 || text[i] > 126)
            return fail(why, ERR_MALFORMED, "character %zu does not belong there", i + 1);
        upper |= text[i] >= 'A' && text[i] <= 'Z';
        lower |= text[i] >= 'a' && text[i] <= 'z';
        if (text[i] == '1') sep = i;
    }
    if (upper && lower) return fail(why, ERR_MALFORMED, "it mixes upper and lower case");
    if (sep == 0 || n - sep - 1 < CHECKSUM)
        return fail(why, ERR_MALFORMED, "it is too short or has no '1' after the prefix");

    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (c >= 'A' && c <= 'Z') c = (char)(c - 'A' + 'a');
        if (i < sep) {
            prefix[i] = c;
        } else if (i > sep) {
            int v = value_of(c);
            if (v < 0)
                return fail(why, ERR_MALFORMED, "character %zu does not belong there", i + 1);
            values[i - sep - 1] = (uint8_t)v;
        }
    }
    prefix[sep] = 0;

    uint32_t c = prefix_sum(prefix);
    for (size_t i = 0; i < n - sep - 1; i++) c = step(c, values[i]);
    if (c != FINAL)
        return fail(why, ERR_AUTH, "its checksum does not fit; a character is mistyped or missing");
    *n_values = n - sep - 1 - CHECKSUM;
    return ERR_OK;
}

/* 5-bit values to n bytes; what is left over must be under 5 bits and zero. */
static bool join(uint8_t *out, size_t n, const uint8_t *values, size_t n_values)
{
    uint32_t bits = 0;
    unsigned n_bits = 0;
    size_t at = 0;

    if (n_values != (n * 8 + 4) / 5) return false;
    for (size_t i = 0; i < n_values; i++) {
        bits = bits << 5 | values[i];
        n_bits += 5;
        if (n_bits < 8) continue;
        n_bits -= 8;
        out[at++] = (uint8_t)(bits >> n_bits);
    }
    assert(at == n && n_bits < 5);
    return (bits & ((1u << n_bits) - 1)) == 0;
}

enum err bech32m_get(uint8_t *out, size_t n, const char *prefix, const char *text, struct why *why)
{
    char got[BECH32M_PREFIX_MAX + 1];
    uint8_t values[BECH32M_TEXT_MAX];
    size_t n_values = 0;

    enum err e = bech32m_split(got, values, &n_values, text, why);
    if (!e && strcmp(got, prefix) != 0)
        e = fail(why, ERR_MALFORMED, "it begins with %s1, not %s1", got, prefix);
    if (!e && !join(out, n, values, n_values))
        e = fail(why, ERR_MALFORMED, "it does not hold %zu bytes", n);
    if (e) sodium_memzero(out, n);
    sodium_memzero(values, sizeof values);
    return e;
}
