/* units.h - bound weights as units of a few MB that are read, touched and forgotten whole.
 *
 * A unit is an expert, a head group, a dense part, the rest of a layer, the embedding, or about
 * 8 MB of the output head; its pages are a few long spans of the store's map, since tiles that were
 * written one after the other lie side by side.  Tiles under a page are copies (store/tiles.c) and
 * belong to none.
 *
 * What the kernel is asked for is advice: it may fail, and then a page comes in when it is read. */
#ifndef WEIGHTS_UNITS_H
#define WEIGHTS_UNITS_H

#include "weights/weights.h"

#include <stdatomic.h>

enum { UNIT_NONE = UINT32_MAX };

struct span {
    uint8_t *p; /* whole pages */
    size_t n;
};

struct unit {
    uint32_t layer;  /* index from weights.all_lo; of the ends: the one behind the last */
    uint32_t expert; /* within the layer; UNIT_NONE: no expert */
    bool always; /* every step reads it; false: experts, and an embedding that is looked up in */
    uint32_t first, n; /* of spans */
    uint64_t bytes;
};

struct units {
    const struct weights *w; /* borrowed */
    size_t page;
    struct unit *unit; /* owned; [n] */
    struct span *span; /* owned */
    uint32_t n, n_spans, span_cap;
    struct unit_map { /* owned; [layers + 1]: of the tensors from t on, ascending by t */
        const struct tensor *t;
        uint32_t n, *unit; /* [n]; UNIT_NONE: nothing to read */
    } * map;
    uint32_t n_maps;
    uint64_t bytes;
};

/* w is borrowed until units_close.  ERR_NOMEM, and then units_close is right, too. */
MUST_CHECK enum err units_open(struct units *u, const struct weights *w);
void units_close(struct units *u);

/* The unit of a tensor, or UNIT_NONE; any thread. */
uint32_t units_of(const struct units *u, const struct tensor *t);

/* Is all of a unit in memory? */
bool units_are_there(const struct units *u, uint32_t unit);
/* Begin to read what is missing of a unit, does not wait.  Was anything missing? */
bool units_ask(const struct units *u, uint32_t unit);
/* Bring it into memory and into the process's page table, unless stop is set meanwhile; waits for
 * the disk. */
void units_touch(const struct units *u, uint32_t unit, const atomic_bool *stop);
/* Let go of its memory. */
void units_forget(const struct units *u, uint32_t unit);
/* Is a page in the middle of this tensor in memory?  True where the kernel does not say. */
bool units_holds(const struct units *u, const struct tensor *t);

#endif
