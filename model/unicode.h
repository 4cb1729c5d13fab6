/* unicode.h - UTF-8, and sets of code points as the reference tokenizer's regex engine has them.
 *
 * A set is a list of ranges.  It is built by adding, then closed by uset_close, which sorts and
 * joins; the calls marked "closed" want closed sets.  After an allocation failure `failed` stays
 * true and the set means nothing. */
#ifndef MODEL_UNICODE_H
#define MODEL_UNICODE_H

#include "base/slice.h"

enum { UNICODE_MAX = 0x10ffff };

struct urange {
    uint32_t lo, hi; /* both included */
};

struct uset {
    struct urange *r; /* owned */
    uint32_t n, cap;
    bool failed;
};

void uset_fini(struct uset *s);
void uset_add(struct uset *s, uint32_t lo, uint32_t hi);
void uset_add_all(struct uset *s, const struct uset *other);
void uset_close(struct uset *s);
void uset_invert(struct uset *s);                           /* closed, stays closed */
void uset_keep(struct uset *s, const struct uset *other);   /* intersection; both closed */
bool uset_has(const struct uset *s, uint32_t c);            /* closed */
bool uset_same(const struct uset *a, const struct uset *b); /* closed */

/* Add what \p{name} means: a general category by its short or long name, as in L, Lu or Letter; a
 * few scripts (Han, Hiragana, Katakana, Hangul); Alphabetic, White_Space, Any, ASCII.  Case,
 * spaces,
 * '-' and '_' don't count.  False: no such name, nothing added. */
bool unicode_add_property(struct uset *s, struct slice name);
void unicode_add_space(struct uset *s); /* \s: the 25 White_Space code points */
void unicode_add_word(
    struct uset *s); /* \w of Oniguruma: has the six Latin-1 superscripts and fractions */

/* Quick single questions, as Rust's standard library and regex crate answer them. */
bool unicode_is_space(uint32_t c);
bool unicode_is_number(uint32_t c); /* Nd, Nl, No */
bool unicode_is_word(uint32_t c);   /* \w of Rust's regex crate: has the two joiners */

/* Does canonical normalization change it, move it, or compose it with another?  The reference's
 * answer (about Unicode 9), on every system. */
bool unicode_is_normalizing(uint32_t c);

/* The code point at p and its length.  n > 0.  Malformed bytes: U+FFFD and the length of the
 * maximal subpart (Unicode 16, 3.9), as Rust's and Python's lossy decoding; *bad tells. */
uint32_t utf8_get(const uint8_t *p, size_t n, size_t *len, bool *bad);
/* The length of a well-formed character from its first byte. */
static inline size_t utf8_len(uint8_t first)
{
    return first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}
/* c as UTF-8; returns the length, 1 to 4. */
size_t utf8_put(uint32_t c, uint8_t out[4]);
/* Is all of s well-formed? */
bool utf8_valid(struct slice s);

#endif
