/* holding.h - what a node holds: whole layers, the ends, parts of layers (arch/parts.h). */
#ifndef WEIGHTS_HOLDING_H
#define WEIGHTS_HOLDING_H

#include "proto/directory.h"
#include "store/care.h"

enum { HOLDING_TEXT = PARTS_TEXT + 64 };

struct holding {
    uint32_t lo, hi;    /* whole layers [lo, hi); lo == hi: none */
    bool ends;          /* with the tokenizer */
    struct parts parts; /* of other layers */
};
static inline bool holding_is_empty(const struct holding *h)
{
    return h->lo == h->hi && !h->ends && h->parts.n == 0;
}
static inline bool holding_is_whole(const struct holding *h, uint32_t layer)
{
    return layer >= h->lo && layer < h->hi;
}
/* Is anything of the layer held? */
bool holding_names(const struct holding *h, uint32_t layer);
bool holding_has(const struct holding *h, uint32_t layer, enum shard_kind kind, uint32_t item);

/* Layers [*lo, *hi) whose trunk is held, with the rest or not: those that the node can lead.  The
 * whole layers, and what of the parts continues them; without whole layers the first run. */
void holding_led(const struct holding *h, uint32_t *lo, uint32_t *hi);
/* From the first to the last layer of which anything is held. */
void holding_span(const struct holding *h, uint32_t *lo, uint32_t *hi);

/* The parts as a record announces them, the first PARTS_WIRE_MAX ranges; out [PARTS_WIRE_MAX *
 * PART_BYTES], borrowed by what is returned. */
struct slice holding_wire(const struct holding *h, uint8_t *out);

/* Bytes that all of it takes in a store. */
uint64_t holding_bytes(const struct manifest *m, const struct holding *h);
/* Add to a pin what is held. */
void holding_pin(struct store_pin *pin, const struct holding *h);
/* ERR_RANGE with why, in the words of the command line: the model has no such layers or parts. */
MUST_CHECK enum err holding_check(const struct holding *h, const struct manifest *m,
                                  const char *name, struct why *why);
/* "layers 0-22 and the ends", "experts 0-63 of layers 23-45", "no layers". */
void holding_text(char out[HOLDING_TEXT], const struct holding *h);

#endif
