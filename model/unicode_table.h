/* unicode_table.h - the tables behind unicode.h, made by tools/unicode_table.py. */
#ifndef MODEL_UNICODE_TABLE_H
#define MODEL_UNICODE_TABLE_H

#include "model/unicode.h"

/* clang-format off */
#define UNICODE_CATEGORIES(X)                                                    \
    X(Lu, "uppercaseletter") X(Ll, "lowercaseletter") X(Lt, "titlecaseletter")   \
    X(Lm, "modifierletter") X(Lo, "otherletter")                                 \
    X(Mn, "nonspacingmark") X(Mc, "spacingmark") X(Me, "enclosingmark")          \
    X(Nd, "decimalnumber") X(Nl, "letternumber") X(No, "othernumber")            \
    X(Pc, "connectorpunctuation") X(Pd, "dashpunctuation")                       \
    X(Ps, "openpunctuation") X(Pe, "closepunctuation")                           \
    X(Pi, "initialpunctuation") X(Pf, "finalpunctuation")                        \
    X(Po, "otherpunctuation")                                                    \
    X(Sm, "mathsymbol") X(Sc, "currencysymbol") X(Sk, "modifiersymbol")          \
    X(So, "othersymbol")                                                         \
    X(Zs, "spaceseparator") X(Zl, "lineseparator") X(Zp, "paragraphseparator")   \
    X(Cc, "control") X(Cf, "format") X(Cs, "surrogate") X(Co, "privateuse")      \
    X(Cn, "unassigned")

enum unicode_category {
#define X(name, text) UNICODE_##name,
    UNICODE_CATEGORIES(X)
#undef X
};

/* Where each run of one general category begins: code point << 5 | category, ascending from 0. */
extern const uint32_t unicode_category[];
extern const uint32_t unicode_category_n;

#define UNICODE_LISTS(X)                                                         \
    X(alphabetic) /* Other_Alphabetic: neither a letter nor a letter number */    \
    X(space)      /* White_Space */                                              \
    X(normalizing) /* what normalization changes, moves or composes */           \
    X(han) X(hiragana) X(katakana) X(hangul)
#define X(name)                           \
    extern const struct urange unicode_##name[]; \
    extern const uint32_t unicode_##name##_n;
UNICODE_LISTS(X)
#undef X
/* clang-format on */

#endif
