/* whatif.h - a plan for PCs that are only described.
 *
 *     16G,40GB/s,20ms x4        four PCs of 16 GiB that read their memory at 40 GB/s, 20 ms away
 *     32G,60GB/s,20ms,10Mbit    one that sends at most 10 Mbit/s
 *     16G,40GB/s,20ms x?        as many as it takes to hold the model
 *
 * The first PC is the one that asks: it holds the ends too, and its distance is 0; the distance of
 * every other is the round trip to it, and of two others the longer one.  Who holds what: the PCs
 * that are near and fast first, each as many consecutive layers as its memory takes, round and
 * round until every PC is full: what comes after the last layer are spares.
 *
 * A layer takes the bytes that a token reads there over the memory's speed (what swarm-bench model
 * measures comes to 0.9 of it and more); the head the same.  K and V have room for `positions`
 * positions, and WHATIF_SYSTEM bytes are the operating system's. */
#ifndef TOOLS_WHATIF_H
#define TOOLS_WHATIF_H

#include "arch/arch.h"
#include "proto/plan_explain.h"

enum { WHATIF_PCS_MAX = 200 };
#define WHATIF_SYSTEM (UINT64_C(2) << 30)

struct whatif_pc {
    struct node_id id;
    uint64_t ram;    /* bytes */
    double gbs;      /* GB/s */
    double rtt_ms;   /* to the first PC */
    double mbit;     /* uplink; 0: does not matter */
    uint32_t fits;   /* layers that its memory takes */
    uint32_t lo, hi; /* held; past the last layer it goes on with the first */
};

struct whatif {
    struct arch arch;
    uint32_t positions;
    struct whatif_pc pc[WHATIF_PCS_MAX]; /* [n] in the order described */
    uint32_t n;
    bool as_many_as_needed; /* the last description ends in x? */
    /* of plan_explain, which finds no plan where the PCs do not hold the model */
    struct plan_explanation plan;
};

/* Add the PCs of one description; or of a file with one a line, where # begins a comment.
 * ERR_USAGE with why. */
MUST_CHECK enum err whatif_add(struct whatif *w, const char *spec, struct why *why);
MUST_CHECK enum err whatif_add_file(struct whatif *w, const char *path, struct why *why);

/* Place the layers and plan.  ERR_NOTFOUND: they cannot hold the model; the rest is there. */
MUST_CHECK enum err whatif_plan(struct whatif *w, struct why *why);

#endif
