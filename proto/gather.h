/* gather.h - which tile is asked of whom: the plan of a download from many peers, as a machine
 * without a socket, a clock or a store.
 *
 *     piece   wanted --asked--> asked of one (or, at the end, two) --arrived--> in hand
 *                ^                  |                                   |
 *                +---refused, gone, late---+------------------bad-------+--stored--> done
 *
 * A piece belongs to a group (a layer), and a peer has groups, not pieces: a peer that refuses a
 * piece is not asked for it again.
 *
 *   1. At most GATHER_WINDOW pieces are asked of one peer; it begins with GATHER_BEGIN and earns
 *      one more with each that it brings.
 *   2. Near peers (this LAN) first: another is asked only for groups that no near one can give now.
 *   3. Of what a peer can give, the group that the fewest others have comes first; ties are drawn,
 *      and so is the piece, so that several who fetch bring different ones into the world.
 *   4. A peer that can give nothing that is still wanted is asked for what others have owed for
 *      GATHER_OWED_MS, longest first: each piece of two at most.  So no slow or silent peer holds
 *      up the end.
 *   5. Who owes and brings nothing for GATHER_LATE_MS is relieved of all, and left alone for a
 *      while that doubles.  What it brings later is welcome, and no lie. */
#ifndef PROTO_GATHER_H
#define PROTO_GATHER_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    GATHER_GROUPS = 258, /* layers, ends, and one to spare */
    GATHER_PEERS = 32,
    GATHER_WINDOW = 16,
    GATHER_BEGIN = 4,
    GATHER_OWED_MS = 1000,
    GATHER_LATE_MS = 30000,
    GATHER_PAUSE_MS = 1000, /* after "busy" */
};

struct gather;

/* n pieces of these groups ([n], each < GATHER_GROUPS; copied), all wanted.  ERR_NOMEM. */
MUST_CHECK enum err gather_open(struct gather **out, const uint16_t *group, uint32_t n);
void gather_close(struct gather *g); /* NULL is fine */

uint32_t gather_left(const struct gather *g); /* pieces that are not done */
bool gather_is_done(const struct gather *g, uint32_t piece);

/* Peers, known by a number of the caller's, below GATHER_PEERS.  Set again: groups and nearness are
 * replaced, what it owes stays. */
void gather_peer(struct gather *g, unsigned peer, bool near, const bool has[GATHER_GROUPS]);
void gather_peer_gone(struct gather *g, unsigned peer); /* what it owes is wanted again */
unsigned gather_owes(const struct gather *g, unsigned peer);

/* The next question to ask, until there is none now.  random: 32 fresh random bits. */
struct gather_ask {
    unsigned peer;
    uint32_t piece;
};
bool gather_next(struct gather *g, uint64_t now_ms, uint32_t random, struct gather_ask *out);

/* peer sent piece.  false: it was not asked for it (a lie, or a peer that has been forgotten).
 * *wanted: it is not in hand yet: check it, then say stored or bad. */
bool gather_arrived(struct gather *g, unsigned peer, uint32_t piece, uint64_t now_ms, bool *wanted);
void gather_stored(struct gather *g, uint32_t piece);
void gather_bad(struct gather *g, uint32_t piece); /* or lost on the way to the disk */
/* peer refused: it does not have it (never again), or is busy (later).  false: not asked. */
bool gather_refused(struct gather *g, unsigned peer, uint32_t piece, bool busy, uint64_t now_ms);

/* After gather_arrived: another peer that still owes the same piece is relieved of it, and may be
 * told not to send it; false: none. */
bool gather_cancel(struct gather *g, uint32_t piece, unsigned *peer);

/* Relieve those who are late. */
void gather_tick(struct gather *g, uint64_t now_ms);

#endif
