/* tokenizer_pattern.h - a pre-tokenizer's regular expression, with our own Unicode tables.
 *
 * The reference matches with Oniguruma (Ruby syntax, Unicode 16).  PCRE2's tables are another
 * version and its \s differs, so it never sees a character:
 *
 *     pattern --parse--> PCRE2 syntax with sets of code points in place of characters and classes
 *     sets    --refine-> at most 256 kinds of code points that no set tells apart
 *     text    --map----> one byte a character, its kind;  PCRE2 matches these bytes, with its JIT
 *
 * So every class is a bitmap, Chinese is as fast as ASCII, and a character is one byte.  Supported:
 * alternatives, groups, (?:) (?>) (?i:) (?=) (?!) (?<=) (?<!), quantifiers (lazy and possessive),
 * classes (nested, &&, negated), . ^ $ \A \z \Z \b \B \s \d \w \h \p{}, escapes.  (?i:) folds
 * ASCII letters (with U+017F and U+212A).  Anything else is refused by name. */
#ifndef MODEL_TOKENIZER_PATTERN_H
#define MODEL_TOKENIZER_PATTERN_H

#include "base/err.h"
#include "base/slice.h"

struct pattern;

/* regex is UTF-8, borrowed for the call.  ERR_UNSUPPORTED, ERR_MALFORMED with why. */
MUST_CHECK enum err pattern_open(struct pattern **out, struct slice regex, struct why *why);
/* A pattern that matches exactly this text (not empty). */
MUST_CHECK enum err pattern_open_literal(struct pattern **out, struct slice text, struct why *why);
void pattern_close(struct pattern *p); /* NULL is fine */

/* Cuts one text at the begin and end of each match.  Zero-initialize; reusable for text after text
 * (of any pattern); pattern_cutter_fini at the end. */
struct pattern_cutter {
    uint8_t *kind; /* owned: [n] */
    size_t cap, n;
    void *match, *context, *stack; /* owned: PCRE2's */
    const struct pattern *p;       /* borrowed until the last cut */
    const uint8_t *text;           /* borrowed until the last cut */
    size_t at, byte;               /* characters and bytes already cut off */
    size_t lo, hi;                 /* the match that waits, in characters */
    size_t search, last_end;       /* where to look on; the end of the last match */
    bool waiting, done;
};
/* text is well-formed UTF-8. */
MUST_CHECK enum err pattern_cut_start(struct pattern_cutter *c, const struct pattern *p,
                                      struct slice text);
/* The next piece (never empty), or n == 0 at the end. */
MUST_CHECK enum err pattern_cut(struct pattern_cutter *c, struct slice *piece);
void pattern_cutter_fini(struct pattern_cutter *c);

#endif
