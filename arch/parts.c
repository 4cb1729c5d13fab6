#include "arch/parts.h"

#include <stdio.h>
#include <string.h>

uint32_t parts_items(const struct arch *a, uint32_t layer, enum shard_kind kind)
{
    switch (kind) {
    case SHARD_TRUNK: return 1;
    case SHARD_HEADS: return a->n_kv;
    case SHARD_EXPERT: return arch_is_moe(a, layer) ? a->n_experts : 0;
    case SHARD_DENSE: return arch_is_moe(a, layer) ? 0 : a->mlp_parts;
    case SHARD_ENDS: break;
    }
    return 0;
}

/* "3" or "3-9" of [lo, hi). */
static void range_text(char out[24], uint32_t lo, uint32_t hi)
{
    if (lo + 1 == hi)
        snprintf(out, 24, "%u", lo);
    else
        snprintf(out, 24, "%u-%u", lo, hi - 1);
}

/* "experts 0-63", "trunk" */
static void items_text(char out[64], const struct part *p)
{
    char range[24];

    range_text(range, p->item_lo, p->item_hi);
    if (p->kind == SHARD_TRUNK)
        snprintf(out, 64, "trunk");
    else
        snprintf(out, 64, "%s%s %s", shard_name((enum shard_kind)p->kind),
                 p->item_lo + 1 == p->item_hi ? "" : "s", range);
}

static enum err check_one(const struct part *p, const struct arch *a, struct why *why)
{
    uint32_t items = 0;
    char what[64], layers[24];

    if (p->kind >= SHARD_ENDS) return fail(why, ERR_RANGE, "parts of an unknown kind");
    if (p->lo >= p->hi || p->item_lo >= p->item_hi)
        return fail(why, ERR_RANGE, "an empty range of parts");
    items_text(what, p);
    range_text(layers, p->lo, p->hi);
    if (p->hi > arch_all_layers(a))
        return fail(why, ERR_RANGE, "%s of layers %s: the model has layers 0-%u", what, layers,
                    arch_all_layers(a) - 1);
    for (uint32_t l = p->lo; l < p->hi; l++) {
        uint32_t n = parts_items(a, l, (enum shard_kind)p->kind);
        if (n > items) items = n;
    }
    if (items == 0)
        return fail(why, ERR_RANGE, "%s of layers %s: those layers have no %ss", what, layers,
                    shard_name((enum shard_kind)p->kind));
    if (p->item_hi > items)
        return fail(why, ERR_RANGE, "%s of layers %s: they are numbered 0-%u", what, layers,
                    items - 1);
    return ERR_OK;
}

enum err parts_check(const struct parts *p, const struct arch *a, struct why *why)
{
    enum err e = p->n <= PARTS_MAX ? ERR_OK : fail(why, ERR_RANGE, "too many ranges of parts");

    for (uint32_t i = 0; i < p->n && !e; i++) e = check_one(&p->p[i], a, why);
    return e;
}

static bool merge(struct part *p, const struct part *q)
{
    if (p->kind != q->kind) return false;
    if (p->lo == q->lo && p->hi == q->hi && q->item_lo <= p->item_hi && p->item_lo <= q->item_hi) {
        if (q->item_lo < p->item_lo) p->item_lo = q->item_lo;
        if (q->item_hi > p->item_hi) p->item_hi = q->item_hi;
        return true;
    }
    if (p->item_lo == q->item_lo && p->item_hi == q->item_hi && q->lo <= p->hi && p->lo <= q->hi) {
        if (q->lo < p->lo) p->lo = q->lo;
        if (q->hi > p->hi) p->hi = q->hi;
        return true;
    }
    return false;
}

enum err parts_add(struct parts *p, struct part one)
{
    for (uint32_t i = 0; i < p->n; i++)
        if (merge(&p->p[i], &one)) return ERR_OK;
    if (p->n == PARTS_MAX) return ERR_FULL;
    p->p[p->n++] = one;
    return ERR_OK;
}

enum err parts_cut(struct parts *p, uint32_t lo, uint32_t hi)
{
    struct parts was = *p;
    enum err e = ERR_OK;

    p->n = 0;
    for (uint32_t i = 0; i < was.n && !e; i++) {
        struct part below = was.p[i], above = was.p[i];
        if (below.hi > lo) below.hi = (uint16_t)lo;
        if (above.lo < hi) above.lo = (uint16_t)hi;
        if (below.lo < below.hi) e = parts_add(p, below);
        if (!e && above.lo < above.hi) e = parts_add(p, above);
    }
    if (e) *p = was;
    return e;
}

/* A number below 65535 at *s; moves it on. */
static bool number(const char **s, uint16_t *out)
{
    uint32_t v = 0;
    const char *p = *s;

    while (*p >= '0' && *p <= '9' && v < UINT16_MAX) v = v * 10 + (uint32_t)(*p++ - '0');
    if (p == *s || v >= UINT16_MAX) return false;
    *s = p;
    *out = (uint16_t)v;
    return true;
}

enum err parts_parse(struct parts *p, uint32_t lo, uint32_t hi, enum shard_kind kind,
                     const char *text, struct why *why)
{
    const char *s = text;

    for (;;) {
        struct part one = { .lo = (uint16_t)lo, .hi = (uint16_t)hi, .kind = (uint8_t)kind };
        uint16_t last;
        bool ok = number(&s, &one.item_lo);
        last = one.item_lo;
        if (ok && *s == '-') s++, ok = number(&s, &last) && last >= one.item_lo;
        if (!ok || (*s && *s != ','))
            return fail(why, ERR_USAGE, "'%.60s' is no list of numbers and ranges, as in 0-63,70",
                        text);
        one.item_hi = (uint16_t)(last + 1);
        if (parts_add(p, one)) return fail(why, ERR_FULL, "at most %d ranges of parts", PARTS_MAX);
        if (!*s++) return ERR_OK;
    }
}

static bool part_equal(const struct part *a, const struct part *b)
{
    return a->lo == b->lo && a->hi == b->hi && a->kind == b->kind && a->item_lo == b->item_lo &&
           a->item_hi == b->item_hi;
}

bool parts_equal(const struct parts *a, const struct parts *b)
{
    if (a->n != b->n) return false;
    for (uint32_t i = 0; i < a->n; i++)
        if (!part_equal(&a->p[i], &b->p[i])) return false;
    return true;
}

bool parts_have(const struct parts *p, uint32_t layer, enum shard_kind kind, uint32_t item)
{
    for (uint32_t i = 0; i < p->n; i++) {
        const struct part *q = &p->p[i];
        if (q->kind == kind && layer >= q->lo && layer < q->hi && item >= q->item_lo &&
            item < q->item_hi)
            return true;
    }
    return false;
}

bool parts_name(const struct parts *p, uint32_t layer)
{
    for (uint32_t i = 0; i < p->n; i++)
        if (layer >= p->p[i].lo && layer < p->p[i].hi) return true;
    return false;
}

void parts_span(const struct parts *p, uint32_t *lo, uint32_t *hi)
{
    *lo = *hi = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        if (*lo == *hi) *lo = p->p[i].lo, *hi = p->p[i].hi;
        if (p->p[i].lo < *lo) *lo = p->p[i].lo;
        if (p->p[i].hi > *hi) *hi = p->p[i].hi;
    }
}

/* --- bytes --- */

uint64_t parts_bytes(const struct parts *p, const struct arch *a, uint32_t layer)
{
    uint64_t sum = 0;

    for (uint32_t i = 0, n = arch_n_specs(a, layer); i < n; i++) {
        struct tensor_spec s = arch_spec(a, layer, i);
        if (parts_have(p, layer, s.shard, s.item)) sum += arch_spec_bytes(&s);
    }
    return sum;
}

uint64_t parts_item_bytes(const struct arch *a, uint32_t layer, enum shard_kind kind)
{
    uint64_t most = 0, sum = 0;
    uint32_t item = UINT32_MAX;

    for (uint32_t i = 0, n = arch_n_specs(a, layer); i < n; i++) {
        struct tensor_spec s = arch_spec(a, layer, i);
        if (s.shard != kind) continue;
        if (s.item != item) sum = 0, item = s.item;
        sum += arch_spec_bytes(&s);
        if (sum > most) most = sum;
    }
    return most;
}

/* --- text --- */

void parts_text(char out[PARTS_TEXT], const struct parts *p)
{
    bool told[PARTS_MAX] = { false };
    size_t n = 0;

    snprintf(out, PARTS_TEXT, "%s", p->n ? "" : "nothing");
    for (uint32_t i = 0; i < p->n && n < PARTS_TEXT; i++) {
        const struct part *q = &p->p[i];
        char what[64], layers[24];
        if (told[i]) continue;
        for (uint32_t k = i; k < p->n && n < PARTS_TEXT; k++) {
            if (p->p[k].lo != q->lo || p->p[k].hi != q->hi) continue;
            told[k] = true;
            items_text(what, &p->p[k]);
            n += (size_t)snprintf(out + n, PARTS_TEXT - n, "%s%s", n ? ", " : "", what);
        }
        range_text(layers, q->lo, q->hi);
        if (n < PARTS_TEXT)
            n += (size_t)snprintf(out + n, PARTS_TEXT - n, " of layer%s %s",
                                  q->lo + 1 == q->hi ? "" : "s", layers);
    }
    if (n >= PARTS_TEXT) strcpy(out + PARTS_TEXT - 4, "...");
}
