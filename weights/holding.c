#include "weights/holding.h"

#include <stdio.h>

bool holding_names(const struct holding *h, uint32_t layer)
{
    return holding_is_whole(h, layer) || parts_name(&h->parts, layer);
}

bool holding_has(const struct holding *h, uint32_t layer, enum shard_kind kind, uint32_t item)
{
    return holding_is_whole(h, layer) || parts_have(&h->parts, layer, kind, item);
}

void holding_led(const struct holding *h, uint32_t *lo, uint32_t *hi)
{
    uint32_t first, end;

    holding_span(h, &first, &end);
    *lo = *hi = h->lo;
    if (h->lo == h->hi)
        for (*lo = first; *lo < end && !holding_has(h, *lo, SHARD_TRUNK, 0);) ++*lo;
    if (h->lo < h->hi)
        *hi = h->hi;
    else
        *hi = *lo;
    while (*hi < end && holding_has(h, *hi, SHARD_TRUNK, 0)) ++*hi;
    while (*lo > first && holding_has(h, *lo - 1, SHARD_TRUNK, 0)) --*lo;
}

void holding_span(const struct holding *h, uint32_t *lo, uint32_t *hi)
{
    parts_span(&h->parts, lo, hi);
    if (h->lo == h->hi) return;
    bool none = *lo == *hi;
    if (none || h->lo < *lo) *lo = h->lo;
    if (none || h->hi > *hi) *hi = h->hi;
}

_Static_assert((int)PART_TRUNK == SHARD_TRUNK && (int)PART_HEADS == SHARD_HEADS &&
                   (int)PART_EXPERTS == SHARD_EXPERT && (int)PART_DENSE == SHARD_DENSE,
               "on the wire they are the shards");

struct slice holding_wire(const struct holding *h, uint8_t *out)
{
    uint32_t n = h->parts.n < PARTS_WIRE_MAX ? h->parts.n : PARTS_WIRE_MAX;

    for (uint32_t i = 0; i < n; i++) {
        const struct part *p = &h->parts.p[i];
        struct record_part one = { p->lo, p->hi, (enum record_part_kind)p->kind, p->item_lo,
                                   p->item_hi };
        record_part_put(out + (size_t)i * PART_BYTES, &one);
    }
    return slice_of(out, (size_t)n * PART_BYTES);
}

void holding_pin(struct store_pin *pin, const struct holding *h)
{
    for (uint32_t l = h->lo; l < h->hi; l++) pin->layer[l] = true;
    pin->ends |= h->ends;
    for (uint32_t i = 0; i < h->parts.n; i++) {
        const struct part *p = &h->parts.p[i];
        bool full = parts_add(&pin->parts, *p) != ERR_OK;
        for (uint32_t l = p->lo; l < p->hi && full; l++) pin->layer[l] = true;
    }
}

enum err holding_check(const struct holding *h, const struct manifest *m, const char *name,
                       struct why *why)
{
    const char *model = name[0] ? name : "the model";
    uint32_t n = m->arch.n_layers, lo, hi;
    struct why inner;

    if (h->hi > n)
        return fail(why, ERR_RANGE, "--layers %u-%u: %s has layers 0-%u", h->lo, h->hi - 1, model,
                    n - 1);
    parts_span(&h->parts, &lo, &hi);
    if (hi > n)
        return fail(why, ERR_RANGE, "--layers %u-%u: %s has layers 0-%u", lo, hi - 1, model, n - 1);
    if (parts_check(&h->parts, &m->arch, &inner) == ERR_OK) return ERR_OK;
    return fail(why, ERR_RANGE, "%s: %s", model, inner.text);
}

void holding_text(char out[HOLDING_TEXT], const struct holding *h)
{
    char parts[PARTS_TEXT], layers[32] = "";
    const char *ends = "";

    parts_text(parts, &h->parts);
    if (h->lo + 1 == h->hi) snprintf(layers, sizeof layers, "layer %u", h->lo);
    if (h->lo + 1 < h->hi) snprintf(layers, sizeof layers, "layers %u-%u", h->lo, h->hi - 1);
    if (h->ends) ends = layers[0] ? " and the ends" : "the ends";
    bool both = h->parts.n && (layers[0] || h->ends);
    snprintf(out, HOLDING_TEXT, "%s%s%s%s", layers, ends, both ? ", " : "",
             h->parts.n            ? parts
             : holding_is_empty(h) ? "no layers"
                                   : "");
}

uint64_t holding_bytes(const struct manifest *m, const struct holding *h)
{
    uint64_t bytes = h->ends ? arch_bytes(&m->arch, ARCH_ENDS) + m->tokenizer_bytes : 0;

    for (uint32_t l = 0; l < arch_all_layers(&m->arch); l++)
        bytes +=
            holding_is_whole(h, l) ? arch_bytes(&m->arch, l) : parts_bytes(&h->parts, &m->arch, l);
    return bytes;
}
