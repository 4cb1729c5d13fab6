/* prefix.h - what a stage keeps of sessions for those to come: K and V of their first rows.
 *
 *     rows enter --hashes--> chain --a block is whole--> copied on the compute thread --> kept
 *                                                                     PREFIX to the coordinator
 *     SESS_OPEN with names --> kept? --> copied into the new session's K and V --> SESS_OK
 *
 * A session that begins with the same rows goes on where they end: their K and V are a function of
 * the rows alone, so nobody can tell but by the clock.  Names are of rows that came in here, and
 * are looked up among those of the same coordinator only.  Memory is what sessions leave of their
 * budget, within a limit; sessions that need it get it at once.
 *
 * With a shelf they are kept on disk too, and brought from there.
 *
 * An actor: copying is done by the compute thread, a few milliseconds at a time. */
#ifndef STAGE_PREFIX_H
#define STAGE_PREFIX_H

#include "net/net.h"
#include "stage/compute.h"
#include "stage/shelf.h"
#include "weights/weights.h"

struct prefixes; /* of a stage server */
struct prefix;   /* one session's */

struct prefixes_config {
    struct hub *hub;
    struct net *net;         /* borrowed until prefixes_close */
    struct compute *compute; /* likewise */
    const struct weights *weights;
    uint64_t max_bytes;  /* of memory */
    struct shelf *shelf; /* likewise; NULL: none */
};
MUST_CHECK enum err prefixes_open(struct prefixes **out, const struct prefixes_config *c);
/* After compute_close, and after prefix_end of every session. */
void prefixes_close(struct prefixes *ps); /* NULL is fine */

/* So much is left by sessions from now on: what is kept shrinks to it at once. */
void prefixes_room(struct prefixes *ps, uint64_t bytes);

struct prefixes_state {
    uint64_t bytes, max_bytes; /* kept, and the most there may be */
    uint64_t positions;        /* kept, of all coordinators */
    uint64_t disk_bytes;       /* of what is kept on disk */
    uint64_t hits, saved;      /* sessions that began with known rows since the start, and rows
                                * that were not computed for it, times layers */
};
void prefixes_look(const struct prefixes *ps, struct prefixes_state *out);

/* --- one session --- */

struct prefix_session {
    const uint8_t *id; /* [SESSION_BYTES] */
    uint32_t epoch;
    struct node_id coordinator;
    uint32_t lo, hi;
    struct kv *kv; /* of these layers, empty */
    void *arg;
    void (*on_known)(void *arg, uint32_t positions); /* the end of prefix_fetch */
};
/* NULL: there is no memory to remember it by; every call below takes that. */
struct prefix *prefix_begin(struct prefixes *ps, const struct prefix_session *s);
/* Look for the names [n][HASH_WIRE], best first, and copy what the first that is known stands for
 * into the session's K and V; on_known follows, after which kv_len is its positions.  false:
 * nothing is known, and no on_known comes.  Until on_known nobody else touches the kv. */
bool prefix_fetch(struct prefix *p, struct slice names);
/* The session goes on under another id. */
void prefix_rename(struct prefix *p, const uint8_t id[SESSION_BYTES], uint32_t epoch);
/* Rows with these hashes [n][HASH_WIRE] are computed, from position pos on.  The first `sure`
 * positions stay what they are; the others may be computed again with other rows. */
void prefix_feed(struct prefix *p, uint32_t pos, const uint8_t *hashes, uint32_t n, uint32_t sure);
/* The session is over, and kv (also p's, or p is NULL) is closed when the thread has done with it;
 * no on_known any more. */
void prefix_end(struct prefix *p, struct kv *kv);

#endif
