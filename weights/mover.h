/* mover.h - decides what this node holds, when its user does not: at first, and later.
 *
 *     mover_choose     the manifest is known: the best window (proto/hold.h) of what fits
 *     JOINING          announced, and fetched; after a random moment chosen again, until it stays
 *                      the same: only then it is served
 *     SERVING          every ten seconds: does moving pay?  then move() - which fetches beside
 *                      what is served (node_rehold)
 *
 * What others hold comes from the directory; how fast this node is, from a look at its memory
 * before it has weights, later from its own measurement. */
#ifndef WEIGHTS_MOVER_H
#define WEIGHTS_MOVER_H

#include "peers/peers.h"
#include "proto/hold.h"
#include "weights/fetch_store.h"

struct mover;

/* What the node does now. */
struct mover_state {
    struct holding have;
    const struct manifest *manifest; /* borrowed for the call */
    const uint8_t *model;            /* its id */
    uint32_t layer_us, sessions;
};

struct mover_config {
    struct hub *hub;
    struct peers *peers; /* borrowed until mover_close */
    struct node_id me;
    uint64_t room; /* bytes of memory for weights */
    uint64_t disk; /* bytes for the store; 0: what the disk has */
    bool no_ends;
    bool may_move; /* else it only chooses at first */
    void *arg;
    /* false: it does not serve, or is on its way to something else. */
    bool (*state)(void *arg, struct mover_state *out);
    /* Fetch this instead of what mover_choose said; nothing is served yet. */
    enum err (*rechoose)(void *arg, const struct holding *to, struct why *why);
    /* The choice is final. */
    void (*on_settled)(void *arg);
    enum err (*move)(void *arg, const struct holding *to, struct why *why);
};

/* Takes some ten milliseconds: it measures how fast memory is read. */
MUST_CHECK enum err mover_open(struct mover **out, const struct mover_config *c);
void mover_close(struct mover *m); /* NULL is fine */

/* What to hold of a model; room: bytes that the disk has for it.  As holder_config's choose. */
MUST_CHECK enum err mover_choose(struct mover *m, const uint8_t model[ID_BYTES],
                                 const struct manifest *manifest, uint64_t room,
                                 struct holding *out, struct why *why);

/* May what mover_choose said still change?  NULL: no. */
bool mover_is_choosing(const struct mover *m);

#endif
