#include "model/tokenizer_pattern.h"

#include "base/json.h"
#include "model/unicode.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    KINDS_MAX = 256,
    SETS_MAX = 256,
    NEST_MAX = 32,
    REPEAT_MAX = 1000,
    ITEMS_MAX = 1 << 16,
    SET_ITEM = 256 /* items below are a byte of PCRE2's syntax, at and above a set's number */
};

struct pattern {
    pcre2_code *code;              /* owned */
    uint8_t kind[UNICODE_MAX + 1]; /* of each code point */
};

/* ---- parsing --------------------------------------------------------------------------- */

struct parser {
    struct slice src;
    size_t at;
    struct why *why;
    uint32_t *item; /* owned */
    uint32_t n_items, cap_items;
    struct uset set[SETS_MAX]; /* owned; all different */
    uint32_t n_sets;
    bool fold; /* inside (?i) */
    enum err e;
};

/* The first error stays; everything after it is a no-op. */
static void refuse(struct parser *p, enum err e, const char *what)
{
    if (p->e) return;
    p->e = fail(p->why, e, "pre-tokenizer pattern \"%.*s\": %s at byte %zu",
                (int)(p->src.n < 200 ? p->src.n : 200), (const char *)p->src.p, what, p->at);
}

static void unsupported(struct parser *p, const char *what)
{
    char text[100];
    snprintf(text, sizeof text, "%s is not supported,", what);
    refuse(p, ERR_UNSUPPORTED, text);
}

static void put(struct parser *p, uint32_t item)
{
    if (p->e) return;
    if (p->n_items == ITEMS_MAX) {
        unsupported(p, "so long a pattern");
        return;
    }
    if (p->n_items == p->cap_items) {
        uint32_t cap = p->cap_items ? 2 * p->cap_items : 256;
        uint32_t *item_new = realloc(p->item, cap * sizeof *item_new);
        if (!item_new) {
            p->e = ERR_NOMEM;
            return;
        }
        p->item = item_new;
        p->cap_items = cap;
    }
    p->item[p->n_items++] = item;
}

static void put_str(struct parser *p, const char *s)
{
    for (; *s; s++) put(p, (uint8_t)*s);
}

/* Takes s, closed. */
static void put_set(struct parser *p, struct uset *s)
{
    uint32_t i = 0;
    if (s->failed) p->e = p->e ? p->e : ERR_NOMEM;
    while (i < p->n_sets && !uset_same(&p->set[i], s)) i++;
    if (p->e || i < p->n_sets) {
        uset_fini(s);
    } else if (i == SETS_MAX) {
        uset_fini(s);
        unsupported(p, "a pattern of so many different characters");
    } else {
        p->set[p->n_sets++] = *s;
    }
    put(p, SET_ITEM + i);
}

static bool more(const struct parser *p)
{
    return !p->e && p->at < p->src.n;
}

/* Does the source go on with s?  If so, step over it. */
static bool accept(struct parser *p, const char *s)
{
    size_t n = strlen(s);
    if (!more(p) || p->src.n - p->at < n || memcmp(p->src.p + p->at, s, n) != 0) return false;
    p->at += n;
    return true;
}

static uint32_t next_char(struct parser *p)
{
    if (!more(p)) {
        refuse(p, ERR_MALFORMED, "the pattern ends too early");
        return 0;
    }
    size_t len;
    bool bad;
    uint32_t c = utf8_get(p->src.p + p->at, p->src.n - p->at, &len, &bad);
    if (bad) refuse(p, ERR_MALFORMED, "invalid UTF-8");
    p->at += len;
    return c;
}

static uint8_t peek(const struct parser *p)
{
    return more(p) ? p->src.p[p->at] : 0;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* At least min, at most max hexadecimal digits. */
static uint32_t hex(struct parser *p, unsigned min, unsigned max)
{
    uint32_t v = 0;
    unsigned n = 0;
    for (; n < max && more(p) && hex_digit(peek(p)) >= 0; n++)
        v = v << 4 | (uint32_t)hex_digit(p->src.p[p->at++]);
    if (n < min || v > UNICODE_MAX) refuse(p, ERR_MALFORMED, "bad hexadecimal escape");
    return v;
}

static void property(struct parser *p, struct uset *s, bool negate)
{
    if (!accept(p, "{")) {
        unsupported(p, "\\p without braces");
        return;
    }
    if (accept(p, "^")) negate = !negate;
    size_t from = p->at;
    while (more(p) && peek(p) != '}') p->at++;
    struct slice name = slice_of(p->src.p + from, p->at - from);
    if (!accept(p, "}")) {
        refuse(p, ERR_MALFORMED, "\\p{ without }");
        return;
    }
    if (!unicode_add_property(s, name)) {
        char text[64];
        snprintf(text, sizeof text, "\\p{%.*s}", (int)(name.n < 40 ? name.n : 40),
                 (const char *)name.p);
        unsupported(p, text);
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
static bool set_escape(struct parser *p, struct uset *s, bool in_class)
{
    uint8_t c = peek(p);
    uint8_t lower = c | 32;
    if (!c || !strchr("psdwh", lower)) return false;
    p->at++;
    struct uset one = { 0 };
    switch (lower) {
    case 'p': property(p, &one, c == 'P'); break;
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
static uint32_t char_escape(struct parser *p)
{
    uint32_t c = next_char(p);
    switch (c) {
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    case 'f': return '\f';
    case 'v': return '\v';
    case 'a': return '\a';
    case 'e': return 0x1b;
    case 'u': return hex(p, 4, 4);
    case 'x':
        if (accept(p, "{")) {
            c = hex(p, 1, 8);
            if (!accept(p, "}")) refuse(p, ERR_MALFORMED, "\\x{ without }");
            return c;
        }
        c = hex(p, 1, 2);
        if (c > 0x7f) unsupported(p, "\\x with a byte above 7f");
        return c;
    }
    bool word = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
    if (c < 0x80 && word) {
        char text[8];
        snprintf(text, sizeof text, "\\%c", (char)c);
        unsupported(p, text);
    }
    return c;
}

/* Case folding of a closed set, as far as we do it. */
static void fold(struct parser *p, struct uset *s)
{
    if (!p->fold) return;
    if (s->n && s->r[s->n - 1].hi >= 0x80) unsupported(p, "(?i) with characters beyond ASCII");
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

static void class(struct parser *p, struct uset *out, unsigned depth);

/* One character or set of a class; true if it was a single character, in *c. */
static bool class_item(struct parser *p, struct uset *s, uint32_t *c, unsigned depth)
{
    if (accept(p, "[:")) {
        unsupported(p, "[: :]");
        return false;
    }
    if (accept(p, "[")) {
        struct uset inner = { 0 };
        class(p, &inner, depth + 1);
        uset_add_all(s, &inner);
        uset_fini(&inner);
        return false;
    }
    if (accept(p, "\\")) {
        if (set_escape(p, s, true)) return false;
        *c = accept(p, "b") ? '\b' : char_escape(p);
        return true;
    }
    *c = next_char(p);
    return true;
}

/* The members up to "]" or "&&". */
static void class_members(struct parser *p, struct uset *s, unsigned depth)
{
    while (more(p) && peek(p) != ']') {
        if (p->src.n - p->at >= 2 && memcmp(p->src.p + p->at, "&&", 2) == 0) break;
        uint32_t lo, hi;
        if (!class_item(p, s, &lo, depth)) continue;
        hi = lo;
        bool range = peek(p) == '-' && p->at + 1 < p->src.n && p->src.p[p->at + 1] != ']';
        if (range) {
            p->at++;
            if (peek(p) == '[' || !class_item(p, s, &hi, depth)) {
                unsupported(p, "a range that ends in a set");
                return;
            }
        }
        if (hi < lo) refuse(p, ERR_MALFORMED, "a range that ends before it begins");
        if (!p->e) uset_add(s, lo, hi);
    }
    uset_close(s);
}

/* A class after its "["; adds what it holds to out, closed. */
static void class(struct parser *p, struct uset *out, unsigned depth)
{
    if (depth > NEST_MAX) {
        unsupported(p, "so deep a class");
        return;
    }
    bool negate = accept(p, "^");
    if (peek(p) == ']') unsupported(p, "a class that begins with ]");
    class_members(p, out, depth);
    while (accept(p, "&&")) {
        struct uset right = { 0 };
        class_members(p, &right, depth);
        uset_keep(out, &right);
        uset_fini(&right);
    }
    if (!accept(p, "]")) refuse(p, ERR_MALFORMED, "a class without ]");
    fold(p, out);
    if (negate) uset_invert(out);
}

static void put_range(struct parser *p, uint32_t lo, uint32_t hi, bool invert)
{
    struct uset s = { 0 };
    uset_add(&s, lo, hi);
    if (invert)
        uset_invert(&s);
    else
        fold(p, &s);
    put_set(p, &s);
}

static void put_word(struct parser *p)
{
    struct uset s = { 0 };
    bare_word(&s);
    uset_close(&s);
    put_set(p, &s);
}

static void newline(struct parser *p)
{
    put_range(p, '\n', '\n', false);
}

/* An escape that stands for a place, after the backslash. */
static bool anchor(struct parser *p)
{
    if (accept(p, "A")) {
        put_str(p, "\\A");
    } else if (accept(p, "z")) {
        put_str(p, "\\z");
    } else if (accept(p, "Z")) {
        put_str(p, "(?:\\z|(?=");
        newline(p);
        put_str(p, "\\z))");
    } else if (peek(p) == 'b' || peek(p) == 'B') {
        bool at_edge = p->src.p[p->at++] == 'b';
        put_str(p, "(?:(?<=");
        put_word(p);
        put_str(p, at_edge ? ")(?!" : ")(?=");
        put_word(p);
        put_str(p, ")|(?<!");
        put_word(p);
        put_str(p, at_edge ? ")(?=" : ")(?!");
        put_word(p);
        put_str(p, "))");
    } else {
        return false;
    }
    return true;
}

static void alternatives(struct parser *p, unsigned depth);

/* (?i), (?i:, (?-i) or (?-i: after the question mark. */
static bool option(struct parser *p, bool first, bool *whole_group)
{
    bool on = accept(p, "i"), off = !on && accept(p, "-i");
    if (!on && !off) return false;
    *whole_group = accept(p, ":");
    if (!*whole_group && !accept(p, ")")) return false;
    /* Ruby and Perl differ on what (?i) does to the alternatives around it. */
    if (!*whole_group && !first) unsupported(p, "(?i) within a group");
    p->fold = on;
    return true;
}

/* A group after its "(".  first: nothing precedes it in its own group. */
static void group(struct parser *p, bool first, unsigned depth)
{
    static const char *const kinds[] = { "?:", "?=", "?!", "?<=", "?<!", "?>" };
    bool fold_outside = p->fold, whole_group = true;
    if (peek(p) != '?') {
        put_str(p, "(?:"); /* nothing asks what a group caught */
    } else {
        size_t i = 0, n = sizeof kinds / sizeof *kinds;
        while (i < n && !accept(p, kinds[i])) i++;
        if (i < n) {
            put_str(p, "(");
            put_str(p, kinds[i]);
        } else {
            p->at++;
            if (!option(p, first, &whole_group)) {
                unsupported(p, "this kind of group");
                return;
            }
            if (!whole_group) return;
            put_str(p, "(?:");
        }
    }
    alternatives(p, depth + 1);
    if (!accept(p, ")")) refuse(p, ERR_MALFORMED, "( without )");
    put_str(p, ")");
    p->fold = fold_outside;
}

/* {n}, {n,}, {,m} or {n,m}, after its "{".  Otherwise it is text, and nothing is read. */
static bool interval(struct parser *p, uint32_t *lo, uint32_t *hi, bool *exact)
{
    size_t at = p->at;
    uint32_t v[2] = { 0, UINT32_MAX };
    bool given[2] = { false, false };
    int side = 0;
    for (; at < p->src.n && p->src.p[at] != '}'; at++) {
        uint8_t c = p->src.p[at];
        if (c == ',' && side == 0) {
            side = 1;
        } else if (c >= '0' && c <= '9') {
            v[side] = (given[side] ? v[side] * 10 : 0) + (c - '0');
            given[side] = true;
            if (v[side] > REPEAT_MAX) unsupported(p, "so large a repeat count");
            if (p->e) return true;
        } else {
            return false;
        }
    }
    if (at == p->src.n || (!given[0] && !given[1])) return false;
    *exact = side == 0;
    *lo = v[0];
    *hi = *exact ? v[0] : v[1];
    if (*lo > *hi) refuse(p, ERR_MALFORMED, "a repeat count whose bounds are swapped");
    p->at = at + 1;
    return true;
}

static void put_interval(struct parser *p, uint32_t lo, uint32_t hi)
{
    char text[32];
    if (hi == UINT32_MAX)
        snprintf(text, sizeof text, "{%u,}", lo);
    else
        snprintf(text, sizeof text, "{%u,%u}", lo, hi);
    put_str(p, text);
}

/* Make the items from start on one group. */
static void wrap(struct parser *p, uint32_t start)
{
    put_str(p, "(?:)");
    if (p->e) return;
    uint32_t n = p->n_items - 4 - start;
    memmove(p->item + start + 3, p->item + start, n * sizeof *p->item);
    for (uint32_t i = 0; i < 3; i++) p->item[start + i] = (uint8_t) "(?:"[i];
    p->item[p->n_items - 1] = ')';
}

/* The source goes on with a repeat count. */
static bool at_quantifier(struct parser *p)
{
    uint32_t lo, hi;
    bool exact;
    uint8_t c = peek(p);
    if (c == '*' || c == '+' || c == '?') return true;
    if (c != '{') return false;
    size_t at = p->at++;
    bool is = interval(p, &lo, &hi, &exact);
    p->at = at;
    return is;
}

/* The repeat count after an atom whose items begin at start. */
static void quantifier(struct parser *p, uint32_t start)
{
    uint32_t lo, hi;
    bool exact = false;
    uint8_t c = peek(p);
    if (c == '*' || c == '+' || c == '?') {
        p->at++;
        put(p, c);
        if (accept(p, "+"))
            put_str(p, "+"); /* possessive */
        else if (accept(p, "?"))
            put_str(p, "?"); /* lazy */
    } else if (accept(p, "{")) {
        if (!interval(p, &lo, &hi, &exact)) {
            p->at--; /* a brace of the text: the next atom */
            return;
        }
        put_interval(p, lo, hi);
        if (peek(p) == '?') {
            if (exact) unsupported(p, "{n}?"); /* Ruby reads it as (?:{n})? */
            p->at++;
            put_str(p, "?");
        } else if (accept(p, "+")) { /* not possessive in Ruby: repeats of repeats */
            wrap(p, start);
            put_str(p, "+");
        }
    } else {
        return;
    }
    if (at_quantifier(p)) unsupported(p, "a repeat of a repeat");
}

/* A backslash and what follows. */
static void escape(struct parser *p)
{
    struct uset s = { 0 };
    if (anchor(p)) return;
    if (set_escape(p, &s, false)) {
        uset_close(&s);
        fold(p, &s);
        put_set(p, &s);
    } else {
        uint32_t c = char_escape(p);
        put_range(p, c, c, false);
    }
}

static void atom(struct parser *p, bool first, unsigned depth)
{
    if (at_quantifier(p)) {
        refuse(p, ERR_MALFORMED, "a repeat of nothing");
    } else if (accept(p, "(")) {
        group(p, first, depth);
    } else if (accept(p, "[")) {
        struct uset s = { 0 };
        class(p, &s, 0);
        put_set(p, &s);
    } else if (accept(p, ".")) {
        put_range(p, '\n', '\n', true);
    } else if (accept(p, "^")) { /* at the start, and after a newline that does not end the text */
        put_str(p, "(?:\\A|(?<=");
        newline(p);
        put_str(p, ")(?!\\z))");
    } else if (accept(p, "$")) {
        put_str(p, "(?:\\z|(?=");
        newline(p);
        put_str(p, "))");
    } else if (accept(p, "\\")) {
        escape(p);
    } else {
        uint32_t c = next_char(p);
        put_range(p, c, c, false);
    }
}

/* Under (?i) Oniguruma also equates these pairs with one character, as in U+00DF for ss. */
static void check_ligature(struct parser *p, size_t from)
{
    static const char *const pairs[] = { "ss", "ff", "fi", "fl", "st" };
    if (!p->fold || p->at - from != 1 || from == 0) return;
    char two[3] = { (char)(p->src.p[from - 1] | 32), (char)(p->src.p[from] | 32), 0 };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (strcmp(two, pairs[i]) == 0) unsupported(p, "(?i) with ss, ff, fi, fl or st");
}

static void alternatives(struct parser *p, unsigned depth)
{
    if (depth > NEST_MAX) {
        unsupported(p, "so deep a pattern");
        return;
    }
    uint32_t begin = p->n_items;
    while (more(p) && peek(p) != ')') {
        if (accept(p, "|")) {
            put_str(p, "|");
            continue;
        }
        uint32_t start = p->n_items;
        size_t from = p->at;
        atom(p, start == begin, depth);
        check_ligature(p, from);
        if (p->n_items > start) quantifier(p, start);
    }
}

/* ---- kinds ----------------------------------------------------------------------------- */

struct signature {
    uint64_t in[SETS_MAX / 64]; /* bit i: in set i */
};

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Where membership of any set may change; owned by the caller; NULL when out of memory. */
static uint32_t *edges(const struct parser *p, size_t *n)
{
    size_t cap = 1;
    for (uint32_t i = 0; i < p->n_sets; i++) cap += 2 * (size_t)p->set[i].n;
    uint32_t *e = malloc(cap * sizeof *e);
    if (!e) return NULL;
    size_t k = 0;
    e[k++] = 0;
    for (uint32_t i = 0; i < p->n_sets; i++)
        for (uint32_t j = 0; j < p->set[i].n; j++) {
            e[k++] = p->set[i].r[j].lo;
            e[k++] = p->set[i].r[j].hi + 1;
        }
    qsort(e, k, sizeof *e, by_value);
    *n = k;
    return e;
}

static void sign(const struct parser *p, uint32_t *next, uint32_t c, struct signature *s)
{
    *s = (struct signature){ 0 };
    for (uint32_t i = 0; i < p->n_sets; i++) {
        const struct uset *set = &p->set[i];
        while (next[i] < set->n && set->r[next[i]].hi < c) next[i]++;
        if (next[i] < set->n && set->r[next[i]].lo <= c) s->in[i / 64] |= 1ull << (i % 64);
    }
}

/* Give every code point its kind; kinds[k] says which sets hold kind k. */
static enum err find_kinds(struct parser *p, struct pattern *out, struct signature *kinds,
                           uint32_t *n_kinds)
{
    uint32_t next[SETS_MAX] = { 0 };
    size_t n;
    uint32_t *edge = edges(p, &n);
    if (!edge) return ERR_NOMEM;
    *n_kinds = 0;
    for (size_t i = 0; i < n && !p->e; i++) {
        uint32_t lo = edge[i], hi = i + 1 < n ? edge[i + 1] : UNICODE_MAX + 1;
        if (lo == hi || lo > UNICODE_MAX) continue;
        struct signature s;
        sign(p, next, lo, &s);
        uint32_t k = 0;
        while (k < *n_kinds && memcmp(&kinds[k], &s, sizeof s) != 0) k++;
        if (k == KINDS_MAX)
            unsupported(p, "a pattern of so many different characters");
        else if (k == *n_kinds)
            kinds[(*n_kinds)++] = s;
        memset(out->kind + lo, (int)k, hi - lo);
    }
    free(edge);
    return p->e;
}

/* A set as a class of kinds. */
static void write_set(struct text *t, const struct signature *kinds, uint32_t n_kinds, uint32_t set)
{
    bool any = false;
    text_str(t, "[");
    for (uint32_t lo = 0; lo < n_kinds; lo++) {
        if (!(kinds[lo].in[set / 64] >> (set % 64) & 1)) continue;
        uint32_t hi = lo;
        while (hi + 1 < n_kinds && kinds[hi + 1].in[set / 64] >> (set % 64) & 1) hi++;
        text_printf(t, "\\x%02x-\\x%02x", lo, hi);
        lo = hi;
        any = true;
    }
    text_str(t, any ? "]" : "^\\x00-\\xff]");
}

static enum err compile(struct parser *p, struct pattern *out)
{
    struct signature kinds[KINDS_MAX];
    uint32_t n_kinds;
    enum err e = find_kinds(p, out, kinds, &n_kinds);
    if (e) return e;

    struct text t = { 0 };
    text_str(&t, "");
    for (uint32_t i = 0; i < p->n_items; i++) {
        char c = (char)p->item[i];
        if (p->item[i] < SET_ITEM)
            text_add(&t, &c, 1);
        else
            write_set(&t, kinds, n_kinds, p->item[i] - SET_ITEM);
    }
    int code = 0;
    size_t at = 0;
    if (!t.failed)
        out->code = pcre2_compile((PCRE2_SPTR)t.p, t.n, PCRE2_NO_AUTO_CAPTURE, &code, &at, NULL);
    bool failed = t.failed;
    free(t.p);
    if (failed) return ERR_NOMEM;
    if (!out->code) {
        char text[128];
        if (pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text) < 0) text[0] = 0;
        p->at = p->src.n;
        refuse(p, ERR_UNSUPPORTED, text);
        return p->e;
    }
    /* Without JIT (another CPU, or a system that forbids it) PCRE2 interprets: slower, same cuts.
     */
    pcre2_jit_compile(out->code, PCRE2_JIT_COMPLETE);
    return ERR_OK;
}

static enum err finish(struct pattern **out, struct parser *p)
{
    struct pattern *made = NULL;
    if (!p->e) {
        made = calloc(1, sizeof *made);
        p->e = made ? compile(p, made) : ERR_NOMEM;
    }
    for (uint32_t i = 0; i < p->n_sets; i++) uset_fini(&p->set[i]);
    free(p->item);
    enum err e = p->e;
    if (e == ERR_NOMEM) fail(p->why, e, "out of memory");
    free(p);
    if (e)
        pattern_close(made);
    else
        *out = made;
    return e;
}

static struct parser *start(struct pattern **out, struct slice src, struct why *why)
{
    *out = NULL;
    struct parser *p = calloc(1, sizeof *p);
    if (!p) {
        fail(why, ERR_NOMEM, "out of memory");
        return NULL;
    }
    p->src = src;
    p->why = why;
    return p;
}

enum err pattern_open(struct pattern **out, struct slice regex, struct why *why)
{
    struct parser *p = start(out, regex, why);
    if (!p) return ERR_NOMEM;
    alternatives(p, 0);
    if (more(p)) refuse(p, ERR_MALFORMED, ") without (");
    return finish(out, p);
}

enum err pattern_open_literal(struct pattern **out, struct slice text, struct why *why)
{
    struct parser *p = start(out, text, why);
    if (!p) return ERR_NOMEM;
    if (text.n == 0) refuse(p, ERR_UNSUPPORTED, "an empty pattern is not supported,");
    while (more(p)) {
        uint32_t c = next_char(p);
        put_range(p, c, c, false);
    }
    return finish(out, p);
}

void pattern_close(struct pattern *p)
{
    if (!p) return;
    pcre2_code_free(p->code);
    free(p);
}

/* ---- cutting --------------------------------------------------------------------------- */

enum {
    JIT_STACK_MAX = 1 << 20, /* only patterns that backtrack through groups need more */
    HEAP_LIMIT_KB = 1 << 20,
    MATCH_LIMIT = INT32_MAX /* a run of a megabyte is one match */
};

static enum err cutter_init(struct pattern_cutter *c)
{
    if (!c->match) c->match = pcre2_match_data_create(1, NULL);
    if (!c->context) c->context = pcre2_match_context_create(NULL);
    if (!c->stack) c->stack = pcre2_jit_stack_create(32 << 10, JIT_STACK_MAX, NULL);
    if (!c->match || !c->context) return ERR_NOMEM; /* no stack: there is no JIT */
    if (c->stack) pcre2_jit_stack_assign(c->context, NULL, c->stack);
    pcre2_set_match_limit(c->context, MATCH_LIMIT);
    pcre2_set_heap_limit(c->context, HEAP_LIMIT_KB);
    return ERR_OK;
}

enum err pattern_cut_start(struct pattern_cutter *c, const struct pattern *p, struct slice text)
{
    enum err e = c->context ? ERR_OK : cutter_init(c);
    if (e) return e;
    if (text.n > c->cap) {
        size_t cap = text.n + text.n / 2 + 64;
        uint8_t *kind = malloc(cap);
        if (!kind) return ERR_NOMEM;
        free(c->kind);
        c->kind = kind;
        c->cap = cap;
    }
    size_t n = 0;
    for (size_t i = 0; i < text.n;) {
        size_t len = 1;
        uint32_t ch = text.p[i];
        bool bad;
        if (ch >= 0x80) ch = utf8_get(text.p + i, text.n - i, &len, &bad);
        c->kind[n++] = p->kind[ch];
        i += len;
    }
    c->p = p;
    c->text = text.p;
    c->n = n;
    c->at = c->byte = c->search = 0;
    c->last_end = SIZE_MAX;
    c->waiting = c->done = false;
    return ERR_OK;
}

/* The next match, as Oniguruma's Rust binding walks through them: an empty one right where the
 * last one ended is passed over, and the search goes on a character later. */
static enum err find(struct pattern_cutter *c)
{
    while (c->search <= c->n) {
        int rc = pcre2_match(c->p->code, c->kind, c->n, c->search, 0, c->match, c->context);
        if (rc == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter keeps its stack on the heap */
            rc = pcre2_match(c->p->code, c->kind, c->n, c->search, PCRE2_NO_JIT, c->match,
                             c->context);
        if (rc == PCRE2_ERROR_NOMATCH) break;
        if (rc == PCRE2_ERROR_NOMEMORY) return ERR_NOMEM;
        if (rc < 0) return ERR_RANGE;
        const size_t *v = pcre2_get_ovector_pointer(c->match);
        if (v[0] == v[1] && v[1] == c->last_end) {
            c->search++;
            continue;
        }
        c->lo = v[0];
        c->hi = v[1];
        c->search = c->last_end = v[1];
        c->waiting = true;
        return ERR_OK;
    }
    c->done = true;
    return ERR_OK;
}

/* Cut off the characters before end. */
static struct slice cut_to(struct pattern_cutter *c, size_t end)
{
    size_t byte = c->byte;
    for (; c->at < end; c->at++) byte += utf8_len(c->text[byte]);
    struct slice piece = slice_of(c->text + c->byte, byte - c->byte);
    c->byte = byte;
    return piece;
}

enum err pattern_cut(struct pattern_cutter *c, struct slice *piece)
{
    *piece = slice_of(NULL, 0);
    while (c->at < c->n) {
        if (!c->waiting && !c->done) {
            enum err e = find(c);
            if (e) return e;
        }
        size_t end = c->n;
        if (c->waiting) end = c->lo > c->at ? c->lo : c->hi;
        if (c->waiting && end == c->hi) c->waiting = false;
        if (end == c->at) continue;
        *piece = cut_to(c, end);
        return ERR_OK;
    }
    return ERR_OK;
}

void pattern_cutter_fini(struct pattern_cutter *c)
{
    free(c->kind);
    pcre2_match_data_free(c->match);
    pcre2_match_context_free(c->context);
    pcre2_jit_stack_free(c->stack);
    *c = (struct pattern_cutter){ 0 };
}
