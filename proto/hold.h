/* hold.h - what a node should hold: the swarm's announcements and its own size in, a window of
 * layers out; pure functions.
 *
 * A node holds consecutive layers [lo, hi), as many as fit its memory and disk by the model's real
 * sizes, and perhaps the ends.  Which: those that make the swarm best when it has joined, compared
 * in this order:
 *
 *   1  fewest layers that nobody holds (the ends count as one)
 *   2  the ends, if they take at most a quarter of the room: then its user can ask it
 *   3  fewest windows of this size that the rest of the gaps takes: few large ones, whole multiples
 *   4  fewest layers that one node alone holds, then as in 3, then fewest that are only in one
 *      network (the same /16)
 *   5  the highest rate of the slowest layer, then of the second slowest ...
 *   6  a hash of node and window, so that two who choose at once choose differently
 *
 * The rate of a layer is the sum over its holders of 1 / (time per layer * layers held): tokens a
 * second, if all that the node does is serve all of its layers.
 *
 * What a joining node announces counts as held: it is on the way.  Two that join at once each see
 * the other only later; so a joiner chooses, announces, waits a moment and chooses again, this time
 * counting of those who are still joining only the ones before it in a fixed order (by hash): the
 * first of them stays, the others make room.
 *
 * Later a node moves only when that pays (hold_move).  It serves what it has until it has what it
 * will serve (make before break), and announces meanwhile what is coming.
 *
 *   GAP     Nobody holds some layer, or it is not on the way.  After HOLD_GAP_S (a restart is no
 *           gap) one volunteer goes: nodes that others can replace come first, in the order of a
 *           hash, then nodes whose own layers would be missing but fewer; each HOLD_STEP_S the
 * next, for the one before may not be able to.  Going must make the gap smaller. FASTER  The
 * slowest layer's rate would rise by HOLD_GAIN_PERCENT, the node has been where it is for
 * HOLD_RESIDENT_S, serves no session, its layers keep HOLD_KEEP holders without it, and the minute
 * is its own: of the nodes of the model one may move in each, the one with the lowest hash of it.
 *
 * FASTER raises the slowest rate each time, so without joins and leaves it comes to an end. */
#ifndef PROTO_HOLD_H
#define PROTO_HOLD_H

#include "proto/directory.h"

enum {
    HOLD_GAP_S = 120,
    HOLD_STEP_S = 60,
    HOLD_RANKS = 8, /* replaceable volunteers that are waited for before others go */
    HOLD_GAIN_PERCENT = 30,
    HOLD_RESIDENT_S = 30 * 60,
    HOLD_KEEP = 2,
    HOLD_WAIT_MIN_MS = 1500, /* between announcing and choosing again: what others announced must */
    HOLD_WAIT_MAX_MS = 4000, /* have come; a random time, so that not all choose at once */
    HOLD_LAYER_UNKNOWN_US = 10000,
    HOLD_PEER_RANGES = 4,
};

struct hold_window {
    uint32_t lo, hi; /* [lo, hi); lo == hi: no layers */
    bool ends;
};

/* Another node of the same model. */
struct hold_peer {
    struct node_id id;
    uint32_t n;                                 /* ranges */
    struct hold_window range[HOLD_PEER_RANGES]; /* ends: in the first */
    bool joining;                               /* range is on the way, not there */
    struct hold_window coming; /* what an active node will serve instead; empty: nothing */
    uint32_t layer_us;         /* 0: unknown */
    uint32_t net;              /* its network: equal numbers, equal networks; 0: unknown */
    uint32_t sessions;
};

/* The model, in bytes of this machine. */
struct hold_model {
    uint8_t id[ID_BYTES];
    uint32_t n_layers;
    uint64_t layer_bytes[LAYER_MAX]; /* [n_layers] */
    uint64_t ends_bytes;
};

/* The node that decides. */
struct hold_self {
    struct node_id id;
    uint64_t room;     /* bytes for weights, of memory and disk the smaller */
    uint32_t layer_us; /* 0: not measured yet */
    uint32_t net;
    bool no_ends; /* its user does not want them */
};

/* The network of a node: the /16 of its IPv4 address, the /32 of an IPv6 one; all private addresses
 * are one; 0: it announces none. */
uint32_t hold_network(const struct record_body *b);

/* What the directory says of the model, without me, drained and gone nodes.  out [DIRECTORY_MAX];
 * returns how many. */
uint32_t hold_peers(struct hold_peer *out, const struct directory *d, const struct hold_model *m,
                    const struct node_id *me);

/* The best window.  again: choose again, after having announced joining (see above).
 * ERR_FULL with why: not one layer fits. */
MUST_CHECK enum err hold_choose(struct hold_window *out, const struct hold_peer *peer, uint32_t n,
                                const struct hold_model *m, const struct hold_self *me, bool again,
                                struct why *why);

/* What a serving node knows of itself and has seen so far. */
struct hold_now {
    struct hold_window have;
    uint64_t resident_s; /* since it serves that */
    uint32_t sessions;   /* that it serves now */
    uint64_t unix_s;
    uint64_t gap_since_s; /* hold_move's: when a gap was first seen; 0, as at first: none is */
};
enum hold_reason { HOLD_STAY, HOLD_GAP, HOLD_FASTER };

/* Shall I move, and where to?  Called every few seconds, at least once a minute. */
enum hold_reason hold_move(struct hold_window *to, struct hold_now *now,
                           const struct hold_peer *peer, uint32_t n, const struct hold_model *m,
                           const struct hold_self *me);

/* How good the swarm is: for tests, and for telling people. */
struct hold_state {
    uint32_t nobody, alone; /* items (layers, and the ends) with no holder; with one */
    uint64_t slowest;       /* rate of the slowest layer, in millionths of a token a second */
};
struct hold_state hold_state(const struct hold_peer *peer, uint32_t n, const struct hold_model *m);

#endif
