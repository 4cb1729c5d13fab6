/* bech32m.h - bytes as text that a person can read out and mistype safely (BIP-350).
 *
 *     swm1 qqq...qqq cccccc        prefix, '1', 5 bits a character, 30-bit checksum
 *
 * Any four wrong characters, wherever they are, are noticed.  All lower or all upper case. */
#ifndef PROTO_BECH32M_H
#define PROTO_BECH32M_H

#include "base/err.h"
#include "base/slice.h"

enum {
    BECH32M_TEXT_MAX = 90,   /* characters, by the standard */
    BECH32M_PREFIX_MAX = 83, /* characters before the separator */
};

/* Write prefix and data, NUL-terminated, into out (cap bytes).
 *   prefix    lower case, 1..83 characters
 *   returns   false when the text would exceed cap or BECH32M_TEXT_MAX; out is then empty */
bool bech32m_put(char *out, size_t cap, const char *prefix, struct slice data);

/* Read text that must have this prefix and hold exactly n bytes.  The sentence in why never repeats
 * the text, which may be a secret.  ERR_MALFORMED, ERR_AUTH (the checksum shows a typing error). */
MUST_CHECK enum err bech32m_get(uint8_t *out, size_t n, const char *prefix, const char *text,
                                struct why *why);

/* The lower half: prefix (lower case) and 5-bit values, checksum verified and dropped. */
MUST_CHECK enum err bech32m_split(char prefix[BECH32M_PREFIX_MAX + 1],
                                  uint8_t values[BECH32M_TEXT_MAX], size_t *n_values,
                                  const char *text, struct why *why);

#endif
