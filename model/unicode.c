#include "model/unicode.h"

#include "model/unicode_table.h"

#include <stdlib.h>

/* ---- sets ------------------------------------------------------------------------------ */

void uset_fini(struct uset *s)
{
    free(s->r);
    *s = (struct uset){ 0 };
}

void uset_add(struct uset *s, uint32_t lo, uint32_t hi)
{
    if (s->failed) return;
    if (s->n && s->r[s->n - 1].lo <= lo && lo <= s->r[s->n - 1].hi + 1) {
        if (hi > s->r[s->n - 1].hi) s->r[s->n - 1].hi = hi;
        return;
    }
    if (s->n == s->cap) {
        uint32_t cap = s->cap ? 2 * s->cap : 16;
        struct urange *r = realloc(s->r, cap * sizeof *r);
        if (!r) {
            s->failed = true;
            return;
        }
        s->r = r;
        s->cap = cap;
    }
    s->r[s->n++] = (struct urange){ lo, hi };
}

static void add_list(struct uset *s, const struct urange *r, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) uset_add(s, r[i].lo, r[i].hi);
}

void uset_add_all(struct uset *s, const struct uset *other)
{
    if (other->failed) s->failed = true;
    add_list(s, other->r, other->n);
}

static int by_lo(const void *a, const void *b)
{
    uint32_t x = ((const struct urange *)a)->lo, y = ((const struct urange *)b)->lo;
    return (x > y) - (x < y);
}

void uset_close(struct uset *s)
{
    if (s->n == 0) return;
    qsort(s->r, s->n, sizeof *s->r, by_lo);
    uint32_t n = 0;
    for (uint32_t i = 1; i < s->n; i++) {
        if (s->r[i].lo > s->r[n].hi + 1)
            s->r[++n] = s->r[i];
        else if (s->r[i].hi > s->r[n].hi)
            s->r[n].hi = s->r[i].hi;
    }
    s->n = n + 1;
}

void uset_invert(struct uset *s)
{
    struct uset out = { .failed = s->failed };
    uint32_t next = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->r[i].lo > next) uset_add(&out, next, s->r[i].lo - 1);
        next = s->r[i].hi + 1;
    }
    if (next <= UNICODE_MAX) uset_add(&out, next, UNICODE_MAX);
    free(s->r);
    *s = out;
}

void uset_keep(struct uset *s, const struct uset *other)
{
    struct uset out = { .failed = s->failed || other->failed };
    for (uint32_t i = 0, j = 0; i < s->n && j < other->n;) {
        struct urange a = s->r[i], b = other->r[j];
        uint32_t lo = a.lo > b.lo ? a.lo : b.lo, hi = a.hi < b.hi ? a.hi : b.hi;
        if (lo <= hi) uset_add(&out, lo, hi);
        if (a.hi < b.hi)
            i++;
        else
            j++;
    }
    free(s->r);
    *s = out;
}

static bool in_list(const struct urange *r, uint32_t n, uint32_t c)
{
    uint32_t lo = 0, hi = n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (c > r[mid].hi)
            lo = mid + 1;
        else if (c < r[mid].lo)
            hi = mid;
        else
            return true;
    }
    return false;
}

bool uset_has(const struct uset *s, uint32_t c)
{
    return in_list(s->r, s->n, c);
}

bool uset_same(const struct uset *a, const struct uset *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->r, b->r, a->n * sizeof *a->r) == 0);
}

/* ---- properties ------------------------------------------------------------------------ */

/* Add the code points whose general category is a bit of mask. */
static void add_categories(struct uset *s, uint32_t mask)
{
    for (uint32_t i = 0; i < unicode_category_n; i++) {
        if (!(mask >> (unicode_category[i] & 31) & 1)) continue;
        uint32_t end = i + 1 < unicode_category_n ? unicode_category[i + 1] >> 5 : UNICODE_MAX + 1;
        uset_add(s, unicode_category[i] >> 5, end - 1);
    }
}

static enum unicode_category category(uint32_t c)
{
    uint32_t lo = 0, hi = unicode_category_n; /* the run at lo begins at or before c */
    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (unicode_category[mid] >> 5 <= c)
            lo = mid;
        else
            hi = mid;
    }
    return (enum unicode_category)(unicode_category[lo] & 31);
}

static const struct {
    char name[3];
    const char *text;
} categories[] = {
#define X(name, text) { #name, text },
    UNICODE_CATEGORIES(X)
#undef X
};
enum { CATEGORIES = sizeof categories / sizeof *categories };

static const struct {
    const char *text;
    char first;
} groups[] = {
    { "letter", 'L' }, { "mark", 'M' },      { "number", 'N' }, { "punctuation", 'P' },
    { "symbol", 'S' }, { "separator", 'Z' }, { "other", 'C' },
};

static uint32_t group_mask(char first)
{
    uint32_t mask = 0;
    for (uint32_t i = 0; i < CATEGORIES; i++)
        if (categories[i].name[0] == first) mask |= 1u << i;
    return mask;
}

static const struct {
    const char *name;
    const struct urange *r;
    const uint32_t *n;
} lists[] = {
#define X(name) { #name, unicode_##name, &unicode_##name##_n },
    UNICODE_LISTS(X)
#undef X
};

static bool same_name(const char *name, const char *text)
{
    for (; *name && *text; name++, text++)
        if (*name != (*text | 32)) return false;
    return !*name && !*text;
}

static uint32_t category_mask(const char *name)
{
    for (uint32_t i = 0; i < CATEGORIES; i++)
        if (same_name(name, categories[i].name) || same_name(name, categories[i].text))
            return 1u << i;
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        if (same_name(name, groups[i].text) || (name[0] == (groups[i].first | 32) && !name[1]))
            return group_mask(groups[i].first);
    return 0;
}

static void add_alphabetic(struct uset *s)
{
    add_categories(s, group_mask('L') | 1u << UNICODE_Nl);
    add_list(s, unicode_alphabetic, unicode_alphabetic_n);
}

bool unicode_add_property(struct uset *s, struct slice name)
{
    char plain[32];
    size_t n = 0;
    for (size_t i = 0; i < name.n; i++) {
        uint8_t c = name.p[i];
        if (c == ' ' || c == '-' || c == '_') continue;
        if (n == sizeof plain - 1 || c >= 0x80) return false;
        plain[n++] = (char)(c >= 'A' && c <= 'Z' ? c | 32 : c);
    }
    plain[n] = 0;

    uint32_t mask = category_mask(plain);
    if (mask) {
        add_categories(s, mask);
        return true;
    }
    if (strcmp(plain, "any") == 0) {
        uset_add(s, 0, UNICODE_MAX);
        return true;
    }
    if (strcmp(plain, "ascii") == 0) {
        uset_add(s, 0, 0x7f);
        return true;
    }
    if (strcmp(plain, "whitespace") == 0) {
        unicode_add_space(s);
        return true;
    }
    if (strcmp(plain, "alphabetic") == 0) { /* its list holds only what the categories don't */
        add_alphabetic(s);
        return true;
    }
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        if (strcmp(plain, lists[i].name) == 0) {
            add_list(s, lists[i].r, *lists[i].n);
            return true;
        }
    return false;
}

void unicode_add_space(struct uset *s)
{
    add_list(s, unicode_space, unicode_space_n);
}

void unicode_add_word(struct uset *s)
{
    add_alphabetic(s);
    add_categories(s, group_mask('M') | 1u << UNICODE_Nd | 1u << UNICODE_Pc);
}

bool unicode_is_space(uint32_t c)
{
    return in_list(unicode_space, unicode_space_n, c);
}

bool unicode_is_normalizing(uint32_t c)
{
    return in_list(unicode_normalizing, unicode_normalizing_n, c);
}

bool unicode_is_number(uint32_t c)
{
    enum unicode_category k = category(c);
    return k == UNICODE_Nd || k == UNICODE_Nl || k == UNICODE_No;
}

bool unicode_is_word(uint32_t c)
{
    uint32_t mask =
        group_mask('L') | group_mask('M') | 1u << UNICODE_Nl | 1u << UNICODE_Nd | 1u << UNICODE_Pc;
    return (mask >> category(c) & 1) || in_list(unicode_alphabetic, unicode_alphabetic_n, c) ||
           c == 0x200c || c == 0x200d;
}

/* ---- UTF-8 ----------------------------------------------------------------------------- */

uint32_t utf8_get(const uint8_t *p, size_t n, size_t *len, bool *bad)
{
    uint8_t a = p[0];
    *bad = false;
    *len = 1;
    if (a < 0x80) return a;
    *bad = true;
    if (a < 0xc2 || a > 0xf4) return 0xfffd;

    size_t want = utf8_len(a);
    uint8_t lo = a == 0xe0 ? 0xa0 : a == 0xf0 ? 0x90 : 0x80; /* bounds of the second byte */
    uint8_t hi = a == 0xed ? 0x9f : a == 0xf4 ? 0x8f : 0xbf;
    uint32_t c = a & (0x7fu >> want);
    for (size_t i = 1; i < want; i++) {
        *len = i;
        if (i == n || p[i] < lo || p[i] > hi) return 0xfffd;
        c = c << 6 | (p[i] & 0x3f);
        lo = 0x80;
        hi = 0xbf;
    }
    *len = want;
    *bad = false;
    return c;
}

size_t utf8_put(uint32_t c, uint8_t out[4])
{
    if (c < 0x80) {
        out[0] = (uint8_t)c;
        return 1;
    }
    size_t len = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = len - 1; i > 0; i--, c >>= 6) out[i] = (uint8_t)(0x80 | (c & 0x3f));
    out[0] = (uint8_t)(c | (0xf00u >> len));
    return len;
}

bool utf8_valid(struct slice s)
{
    for (size_t i = 0; i < s.n;) {
        size_t len;
        bool bad;
        if (s.p[i] < 0x80) {
            i++;
            continue;
        }
        utf8_get(s.p + i, s.n - i, &len, &bad);
        if (bad) return false;
        i += len;
    }
    return true;
}
