/* tokenizer_regex.h - reads a regular expression in Oniguruma's Ruby syntax.
 *
 * The result is the same expression in PCRE2's syntax, with a numbered set of code points in place
 * of each character and class (what is supported: tokenizer_pattern.h). */
#ifndef MODEL_TOKENIZER_REGEX_H
#define MODEL_TOKENIZER_REGEX_H

#include "base/err.h"
#include "model/unicode.h"

enum {
    REGEX_SETS_MAX = 256,
    REGEX_SET = 256 /* items below are a byte of PCRE2's syntax, at and above a set's number */
};

struct regex {
    struct slice src; /* borrowed */
    size_t at;        /* where the reader is */
    struct why *why;  /* borrowed; the first error goes there */
    enum err e;       /* the first error stays; everything after it is a no-op */
    bool fold;        /* inside (?i) */
    uint32_t *item;   /* owned */
    uint32_t n_items, cap_items;
    struct uset set[REGEX_SETS_MAX]; /* owned; closed, all different */
    uint32_t n_sets;
};

/* Read r->src, of a zero-initialized r with src and why; r->e tells. */
void regex_read(struct regex *r);
void regex_read_literal(struct regex *r); /* src is the very text to match */
/* Set r->e, and why to a sentence that names the pattern and the place. */
void regex_refuse(struct regex *r, enum err e, const char *what);
void regex_fini(struct regex *r);

#endif
