/* parts.h - parts of layers: what a node holds that does not hold the layers whole.
 *
 * A part is a range of items of one kind in a range of layers: "experts 0-63 of layers 5-9".  The
 * kinds are the shards of arch.h: trunk (one item, number 0), head groups, experts, dense parts.  A
 * layer that has no items of a kind (experts, in a dense layer) is not touched by parts of it. */
#ifndef ARCH_PARTS_H
#define ARCH_PARTS_H

#include "arch/arch.h"

enum { PARTS_MAX = 48, PARTS_TEXT = 400 };

struct part {
    uint16_t lo, hi;           /* layers [lo, hi) */
    uint8_t kind;              /* enum shard_kind, not SHARD_ENDS */
    uint16_t item_lo, item_hi; /* items [item_lo, item_hi) */
};
/* A set of parts: their union. */
struct parts {
    uint32_t n;
    struct part p[PARTS_MAX];
};

/* Every range is not empty and lies in the model (prediction layers too), and each touches some
 * layer.  ERR_RANGE with why: "experts 64-200 of layers 3-9: they have experts 0-127". */
MUST_CHECK enum err parts_check(const struct parts *p, const struct arch *a, struct why *why);

/* Add a part; one that continues or repeats another is merged with it.  ERR_FULL. */
MUST_CHECK enum err parts_add(struct parts *p, struct part one);

/* Take layers [lo, hi) out. ERR_FULL: that would need more ranges than
 * there can be; p is as it was. */
MUST_CHECK enum err parts_cut(struct parts *p, uint32_t lo, uint32_t hi);

/* Add the items of a text like "0-63,70,80-81" (both ends included) of layers [lo, hi).  ERR_USAGE
 * with why; ERR_FULL. */
MUST_CHECK enum err parts_parse(struct parts *p, uint32_t lo, uint32_t hi, enum shard_kind kind,
                                const char *text, struct why *why);

bool parts_equal(const struct parts *a, const struct parts *b);
bool parts_have(const struct parts *p, uint32_t layer, enum shard_kind kind, uint32_t item);
/* Does any range name this layer? */
bool parts_name(const struct parts *p, uint32_t layer);
/* The layers from the first to the last that is named, [lo, hi); lo == hi: none. */
void parts_span(const struct parts *p, uint32_t *lo, uint32_t *hi);

/* Items of a kind that the layer has: 1 trunk, n_kv head groups, experts, dense parts. */
uint32_t parts_items(const struct arch *a, uint32_t layer, enum shard_kind kind);

/* Bytes of the tiles of a layer's parts; of one item of a kind (of the largest, where they differ).
 */
uint64_t parts_bytes(const struct parts *p, const struct arch *a, uint32_t layer);
uint64_t parts_item_bytes(const struct arch *a, uint32_t layer, enum shard_kind kind);

/* "trunk, head groups 0-3 and experts 0-63 of layers 5-9"; what does not fit ends with "...". */
void parts_text(char out[PARTS_TEXT], const struct parts *p);

#endif
