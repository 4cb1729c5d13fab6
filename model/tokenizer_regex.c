#include "model/tokenizer_regex.h"

#include <stdio.h>
#include <stdlib.h>

enum { NEST_MAX = 32, REPEAT_MAX = 1000, ITEMS_MAX = 1 << 16 };

void regex_refuse(struct regex *r, enum err e, const char *what)
{
    if (r->e) return;
    r->e = fail(r->why, e, "pre-tokenizer pattern \"%.*s\": %s at byte %zu",
                (int)(r->src.n < 200 ? r->src.n : 200), (const char *)r->src.p, what, r->at);
}

static void unsupported(struct regex *r, const char *what)
{
    char text[100];
    snprintf(text, sizeof text, "%s is not supported,", what);
    regex_refuse(r, ERR_UNSUPPORTED, text);
}

static void put(struct regex *r, uint32_t item)
{
    if (r->e) return;
    if (r->n_items == ITEMS_MAX) {
        unsupported(r, "so long a pattern");
        return;
    }
    if (r->n_items == r->cap_items) {
        uint32_t cap = r->cap_items ? 2 * r->cap_items : 256;
        uint32_t *item_new = realloc(r->item, cap * sizeof *item_new);
        if (!item_new) {
            r->e = ERR_NOMEM;
            return;
        }
        r->item = item_new;
        r->cap_items = cap;
    }
    r->item[r->n_items++] = item;
}

static void put_str(struct regex *r, const char *s)
{
    for (; *s; s++) put(r, (uint8_t)*s);
}

/* Takes s, closed. */
static void put_set(struct regex *r, struct uset *s)
{
    uint32_t i = 0;
    if (s->failed) r->e = r->e ? r->e : ERR_NOMEM;
    while (i < r->n_sets && !uset_same(&r->set[i], s)) i++;
    if (r->e || i < r->n_sets) {
        uset_fini(s);
    } else if (i == REGEX_SETS_MAX) {
        uset_fini(s);
        unsupported(r, "a pattern of so many different characters");
    } else {
        r->set[r->n_sets++] = *s;
    }
    put(r, REGEX_SET + i);
}

static bool more(const struct regex *r)
{
    return !r->e && r->at < r->src.n;
}

/* Does the source go on with s?  If so, step over it. */
static bool accept(struct regex *r, const char *s)
{
    size_t n = strlen(s);
    if (!more(r) || r->src.n - r->at < n || memcmp(r->src.p + r->at, s, n) != 0) return false;
    r->at += n;
    return true;
}

static uint32_t next_char(struct regex *r)
{
    if (!more(r)) {
        regex_refuse(r, ERR_MALFORMED, "the pattern ends too early");
        return 0;
    }
    size_t len;
    bool bad;
    uint32_t c = utf8_get(r->src.p + r->at, r->src.n - r->at, &len, &bad);
    if (bad) regex_refuse(r, ERR_MALFORMED, "invalid UTF-8");
    r->at += len;
    return c;
}

static uint8_t peek(const struct regex *r)
{
    return more(r) ? r->src.p[r->at] : 0;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* At least min, at most max hexadecimal digits. */
static uint32_t hex(struct regex *r, unsigned min, unsigned max)
{
    uint32_t v = 0;
    unsigned n = 0;
    for (; n < max && more(r) && hex_digit(peek(r)) >= 0; n++)
        v = v << 4 | (uint32_t)hex_digit(r->src.p[r->at++]);
    if (n < min || v > UNICODE_MAX) regex_refuse(r, ERR_MALFORMED, "bad hexadecimal escape");
    return v;
}

static void property(struct regex *r, struct uset *s, bool negate)
{
    if (!accept(r, "{")) {
        unsupported(r, "\\p without braces");
        return;
    }
    if (accept(r, "^")) negate = !negate;
    size_t from = r->at;
    while (more(r) && peek(r) != '}') r->at++;
    struct slice name = slice_of(r->src.p + from, r->at - from);
    if (!accept(r, "}")) {
        regex_refuse(r, ERR_MALFORMED, "\\p{ without }");
        return;
    }
    if (!unicode_add_property(s, name)) {
        char text[64];
        snprintf(text, sizeof text, "\\p{%.*s}", (int)(name.n < 40 ? name.n : 40),
                 (const char *)name.p);
        unsupported(r, text);
    }
    uset_close(s);
    if (negate) uset_invert(s);
}

/* Oniguruma's \w outside a class also has the six superscripts and fractions of Latin-1. */
static void bare_word(struct uset *s)
{
    unicode_add_word(s);
    uset_add(s, 0xb2, 0xb3);
    uset_add(s, 0xb9, 0xb9);
    uset_add(s, 0xbc, 0xbe);
}

/* An escape that stands for a set, after the backslash: adds it to s. */
static bool set_escape(struct regex *r, struct uset *s, bool in_class)
{
    uint8_t c = peek(r);
    uint8_t lower = c | 32;
    if (!c || !strchr("psdwh", lower)) return false;
    r->at++;
    struct uset one = { 0 };
    switch (lower) {
    case 'p': property(r, &one, c == 'P'); break;
    case 's': unicode_add_space(&one); break;
    case 'd': unicode_add_property(&one, slice_str("Nd")); break;
    case 'w':
        if (in_class)
            unicode_add_word(&one);
        else
            bare_word(&one);
        break;
    case 'h':
        uset_add(&one, '0', '9');
        uset_add(&one, 'A', 'F');
        uset_add(&one, 'a', 'f');
        break;
    }
    uset_close(&one);
    if (c != lower && lower != 'p') uset_invert(&one);
    uset_add_all(s, &one);
    uset_fini(&one);
    return true;
}

/* An escape that stands for one character, after the backslash. */
static uint32_t char_escape(struct regex *r)
{
    uint32_t c = next_char(r);
    switch (c) {
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    case 'f': return '\f';
    case 'v': return '\v';
    case 'a': return '\a';
    case 'e': return 0x1b;
    case 'u': return hex(r, 4, 4);
    case 'x':
        if (accept(r, "{")) {
            c = hex(r, 1, 8);
            if (!accept(r, "}")) regex_refuse(r, ERR_MALFORMED, "\\x{ without }");
            return c;
        }
        c = hex(r, 1, 2);
        if (c > 0x7f) unsupported(r, "\\x with a byte above 7f");
        return c;
    }
    bool word = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
    if (c < 0x80 && word) {
        char text[8];
        snprintf(text, sizeof text, "\\%c", (char)c);
        unsupported(r, text);
    }
    return c;
}

/* Case folding of a closed set, as far as we do it. */
static void fold(struct regex *r, struct uset *s)
{
    if (!r->fold) return;
    if (s->n && s->r[s->n - 1].hi >= 0x80) unsupported(r, "(?i) with characters beyond ASCII");
    uint32_t n = s->n;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t c = s->r[i].lo; c <= s->r[i].hi && c < 0x80; c++) {
            uint32_t lower = c | 32;
            if (lower < 'a' || lower > 'z') continue;
            uset_add(s, c ^ 32, c ^ 32);
            if (lower == 'k') uset_add(s, 0x212a, 0x212a); /* Kelvin */
            if (lower == 's') uset_add(s, 0x17f, 0x17f);   /* long s */
        }
    uset_close(s);
}

static void class(struct regex *r, struct uset *out, unsigned depth);

/* One character or set of a class; true if it was a single character, in *c. */
static bool class_item(struct regex *r, struct uset *s, uint32_t *c, unsigned depth)
{
    if (accept(r, "[:")) {
        unsupported(r, "[: :]");
        return false;
    }
    if (accept(r, "[")) {
        struct uset inner = { 0 };
        class(r, &inner, depth + 1);
        uset_add_all(s, &inner);
        uset_fini(&inner);
        return false;
    }
    if (accept(r, "\\")) {
        if (set_escape(r, s, true)) return false;
        *c = accept(r, "b") ? '\b' : char_escape(r);
        return true;
    }
    *c = next_char(r);
    return true;
}

/* The members up to "]" or "&&". */
static void class_members(struct regex *r, struct uset *s, unsigned depth)
{
    while (more(r) && peek(r) != ']') {
        if (r->src.n - r->at >= 2 && memcmp(r->src.p + r->at, "&&", 2) == 0) break;
        uint32_t lo, hi;
        if (!class_item(r, s, &lo, depth)) continue;
        hi = lo;
        bool range = peek(r) == '-' && r->at + 1 < r->src.n && r->src.p[r->at + 1] != ']';
        if (range) {
            r->at++;
            if (peek(r) == '[' || !class_item(r, s, &hi, depth)) {
                unsupported(r, "a range that ends in a set");
                return;
            }
        }
        if (hi < lo) regex_refuse(r, ERR_MALFORMED, "a range that ends before it begins");
        if (!r->e) uset_add(s, lo, hi);
    }
    uset_close(s);
}

/* A class after its "["; adds what it holds to out, closed. */
static void class(struct regex *r, struct uset *out, unsigned depth)
{
    if (depth > NEST_MAX) {
        unsupported(r, "so deep a class");
        return;
    }
    bool negate = accept(r, "^");
    if (peek(r) == ']') unsupported(r, "a class that begins with ]");
    class_members(r, out, depth);
    while (accept(r, "&&")) {
        struct uset right = { 0 };
        class_members(r, &right, depth);
        uset_keep(out, &right);
        uset_fini(&right);
    }
    if (!accept(r, "]")) regex_refuse(r, ERR_MALFORMED, "a class without ]");
    fold(r, out);
    if (negate) uset_invert(out);
}

static void put_range(struct regex *r, uint32_t lo, uint32_t hi, bool invert)
{
    struct uset s = { 0 };
    uset_add(&s, lo, hi);
    if (invert)
        uset_invert(&s);
    else
        fold(r, &s);
    put_set(r, &s);
}

static void put_word(struct regex *r)
{
    struct uset s = { 0 };
    bare_word(&s);
    uset_close(&s);
    put_set(r, &s);
}

static void newline(struct regex *r)
{
    put_range(r, '\n', '\n', false);
}

/* An escape that stands for a place, after the backslash. */
static bool anchor(struct regex *r)
{
    if (accept(r, "A")) {
        put_str(r, "\\A");
    } else if (accept(r, "z")) {
        put_str(r, "\\z");
    } else if (accept(r, "Z")) {
        put_str(r, "(?:\\z|(?=");
        newline(r);
        put_str(r, "\\z))");
    } else if (peek(r) == 'b' || peek(r) == 'B') {
        bool at_edge = r->src.p[r->at++] == 'b';
        put_str(r, "(?:(?<=");
        put_word(r);
        put_str(r, at_edge ? ")(?!" : ")(?=");
        put_word(r);
        put_str(r, ")|(?<!");
        put_word(r);
        put_str(r, at_edge ? ")(?=" : ")(?!");
        put_word(r);
        put_str(r, "))");
    } else {
        return false;
    }
    return true;
}

static void alternatives(struct regex *r, unsigned depth);

/* (?i), (?i:, (?-i) or (?-i: after the question mark. */
static bool option(struct regex *r, bool first, bool *whole_group)
{
    bool on = accept(r, "i"), off = !on && accept(r, "-i");
    if (!on && !off) return false;
    *whole_group = accept(r, ":");
    if (!*whole_group && !accept(r, ")")) return false;
    /* Ruby and Perl differ on what (?i) does to the alternatives around it. */
    if (!*whole_group && !first) unsupported(r, "(?i) within a group");
    r->fold = on;
    return true;
}

/* A group after its "(".  first: nothing precedes it in its own group. */
static void group(struct regex *r, bool first, unsigned depth)
{
    static const char *const kinds[] = { "?:", "?=", "?!", "?<=", "?<!", "?>" };
    bool fold_outside = r->fold, whole_group = true;
    if (peek(r) != '?') {
        put_str(r, "(?:"); /* nothing asks what a group caught */
    } else {
        size_t i = 0, n = sizeof kinds / sizeof *kinds;
        while (i < n && !accept(r, kinds[i])) i++;
        if (i < n) {
            put_str(r, "(");
            put_str(r, kinds[i]);
        } else {
            r->at++;
            if (!option(r, first, &whole_group)) {
                unsupported(r, "this kind of group");
                return;
            }
            if (!whole_group) return;
            put_str(r, "(?:");
        }
    }
    alternatives(r, depth + 1);
    if (!accept(r, ")")) regex_refuse(r, ERR_MALFORMED, "( without )");
    put_str(r, ")");
    r->fold = fold_outside;
}

/* {n}, {n,}, {,m} or {n,m}, after its "{".  Otherwise it is text, and nothing is read. */
static bool interval(struct regex *r, uint32_t *lo, uint32_t *hi, bool *exact)
{
    size_t at = r->at;
    uint32_t v[2] = { 0, UINT32_MAX };
    bool given[2] = { false, false };
    int side = 0;
    for (; at < r->src.n && r->src.p[at] != '}'; at++) {
        uint8_t c = r->src.p[at];
        if (c == ',' && side == 0) {
            side = 1;
        } else if (c >= '0' && c <= '9') {
            v[side] = (given[side] ? v[side] * 10 : 0) + (c - '0');
            given[side] = true;
            if (v[side] > REPEAT_MAX) unsupported(r, "so large a repeat count");
            if (r->e) return true;
        } else {
            return false;
        }
    }
    if (at == r->src.n || (!given[0] && !given[1])) return false;
    *exact = side == 0;
    *lo = v[0];
    *hi = *exact ? v[0] : v[1];
    if (*lo > *hi) regex_refuse(r, ERR_MALFORMED, "a repeat count whose bounds are swapped");
    r->at = at + 1;
    return true;
}

static void put_interval(struct regex *r, uint32_t lo, uint32_t hi)
{
    char text[32];
    if (hi == UINT32_MAX)
        snprintf(text, sizeof text, "{%u,}", lo);
    else
        snprintf(text, sizeof text, "{%u,%u}", lo, hi);
    put_str(r, text);
}

/* Make the items from start on one group. */
static void wrap(struct regex *r, uint32_t start)
{
    put_str(r, "(?:)");
    if (r->e) return;
    uint32_t n = r->n_items - 4 - start;
    memmove(r->item + start + 3, r->item + start, n * sizeof *r->item);
    for (uint32_t i = 0; i < 3; i++) r->item[start + i] = (uint8_t) "(?:"[i];
    r->item[r->n_items - 1] = ')';
}

/* The source goes on with a repeat count. */
static bool at_quantifier(struct regex *r)
{
    uint32_t lo, hi;
    bool exact;
    uint8_t c = peek(r);
    if (c == '*' || c == '+' || c == '?') return true;
    if (c != '{') return false;
    size_t at = r->at++;
    bool is = interval(r, &lo, &hi, &exact);
    r->at = at;
    return is;
}

/* The repeat count after an atom whose items begin at start. */
static void quantifier(struct regex *r, uint32_t start)
{
    uint32_t lo, hi;
    bool exact = false;
    uint8_t c = peek(r);
    if (c == '*' || c == '+' || c == '?') {
        r->at++;
        put(r, c);
        if (accept(r, "+"))
            put_str(r, "+"); /* possessive */
        else if (accept(r, "?"))
            put_str(r, "?"); /* lazy */
    } else if (accept(r, "{")) {
        if (!interval(r, &lo, &hi, &exact)) {
            r->at--; /* a brace of the text: the next atom */
            return;
        }
        put_interval(r, lo, hi);
        if (peek(r) == '?') {
            if (exact) unsupported(r, "{n}?"); /* Ruby reads it as (?:{n})? */
            r->at++;
            put_str(r, "?");
        } else if (accept(r, "+")) { /* not possessive in Ruby: repeats of repeats */
            wrap(r, start);
            put_str(r, "+");
        }
    } else {
        return;
    }
    if (at_quantifier(r)) unsupported(r, "a repeat of a repeat");
}

/* A backslash and what follows. */
static void escape(struct regex *r)
{
    struct uset s = { 0 };
    if (anchor(r)) return;
    if (set_escape(r, &s, false)) {
        uset_close(&s);
        fold(r, &s);
        put_set(r, &s);
    } else {
        uint32_t c = char_escape(r);
        put_range(r, c, c, false);
    }
}

static void atom(struct regex *r, bool first, unsigned depth)
{
    if (at_quantifier(r)) {
        regex_refuse(r, ERR_MALFORMED, "a repeat of nothing");
    } else if (accept(r, "(")) {
        group(r, first, depth);
    } else if (accept(r, "[")) {
        struct uset s = { 0 };
        class(r, &s, 0);
        put_set(r, &s);
    } else if (accept(r, ".")) {
        put_range(r, '\n', '\n', true);
    } else if (accept(r, "^")) { /* at the start, and after a newline that does not end the text */
        put_str(r, "(?:\\A|(?<=");
        newline(r);
        put_str(r, ")(?!\\z))");
    } else if (accept(r, "$")) {
        put_str(r, "(?:\\z|(?=");
        newline(r);
        put_str(r, "))");
    } else if (accept(r, "\\")) {
        escape(r);
    } else {
        uint32_t c = next_char(r);
        put_range(r, c, c, false);
    }
}

/* Under (?i) Oniguruma also equates these pairs with one character, as in U+00DF for ss. */
static void check_ligature(struct regex *r, size_t from)
{
    static const char *const pairs[] = { "ss", "ff", "fi", "fl", "st" };
    if (!r->fold || r->at - from != 1 || from == 0) return;
    char two[3] = { (char)(r->src.p[from - 1] | 32), (char)(r->src.p[from] | 32), 0 };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (strcmp(two, pairs[i]) == 0) unsupported(r, "(?i) with ss, ff, fi, fl or st");
}

static void alternatives(struct regex *r, unsigned depth)
{
    if (depth > NEST_MAX) {
        unsupported(r, "so deep a pattern");
        return;
    }
    uint32_t begin = r->n_items;
    while (more(r) && peek(r) != ')') {
        if (accept(r, "|")) {
            put_str(r, "|");
            continue;
        }
        uint32_t start = r->n_items;
        size_t from = r->at;
        atom(r, start == begin, depth);
        check_ligature(r, from);
        if (r->n_items > start) quantifier(r, start);
    }
}

void regex_read(struct regex *r)
{
    alternatives(r, 0);
    if (more(r)) regex_refuse(r, ERR_MALFORMED, ") without (");
}

void regex_read_literal(struct regex *r)
{
    if (r->src.n == 0) regex_refuse(r, ERR_UNSUPPORTED, "an empty pattern is not supported,");
    while (more(r)) {
        uint32_t c = next_char(r);
        put_range(r, c, c, false);
    }
}

void regex_fini(struct regex *r)
{
    for (uint32_t i = 0; i < r->n_sets; i++) uset_fini(&r->set[i]);
    free(r->item);
}
