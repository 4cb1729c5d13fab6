/* member.h - the actor that computes parts of other nodes' layers: a member of their groups.
 *
 *     SHARE_OPEN, number 0 -> a share: this leader may send work        -> SHARE_OK
 *     SHARE_OPEN, number k -> K and V of a session in our head groups   -> SHARE_OK
 *     SHARE_WORK           -> compute -> SHARE_DONE, one or several; or SHARE_FAIL
 *     SHARE_CLOSE          -> the session's K and V are freed, or all of the share
 *
 * A share belongs to the node that opened it and ends with its connection.  Work for head groups
 * names a session and a position for every row: it must be at or before the end of what that layer
 * holds of the session, and what lay there and after is forgotten.  So a leader whose step failed,
 * or that goes back, simply sends again from where it is, and nothing has to be said of it.
 *
 * Whoever sends work without a share, or work that does not fit its own words, gets a strike. */
#ifndef STAGE_MEMBER_H
#define STAGE_MEMBER_H

#include "net/counters.h"
#include "net/net.h"
#include "stage/compute.h"
#include "weights/weights.h"

enum {
    MEMBER_SHARES_MAX = 16, /* leaders at a time */
    MEMBER_SESSIONS_MAX = 256,
    MEMBER_JOBS_MAX = 64, /* works that wait or are computed, of one share */
};

struct member;

struct member_config {
    struct hub *hub;
    struct net *net;               /* borrowed until member_close */
    struct compute *compute;       /* likewise */
    const struct weights *weights; /* likewise; what of its layers is bound may be asked for */
    struct node_id me;
    uint32_t context;          /* largest session granted */
    uint64_t kv_bytes;         /* memory for K and V, of the stage's sessions and these */
    struct counters *counters; /* NULL: nobody counts */
    void *arg;
    uint64_t (*kv_elsewhere)(void *arg); /* how much of it others use; NULL: nothing */
    void (*on_change)(void *arg);        /* memory was taken or freed: announce it; or NULL */
};

MUST_CHECK enum err member_open(struct member **out, const struct member_config *c);
/* Takes no new share and session until it is over. */
void member_pause(struct member *m, bool is_paused);
/* Ends all shares; leaders compute its parts themselves, or ask others. */
void member_send_away(struct member *m, const char *text);
/* Refuses everything from now on, and tells the leaders. */
void member_stop(struct member *m);
/* After compute_close: frees everything. */
void member_close(struct member *m); /* NULL is fine */

void member_on_mail(struct member *s, struct mail *m); /* takes mail */
void member_on_peer(struct member *m, const struct node_id *id, bool up);

/* Leaders and sessions that there are, and bytes of K and V. */
uint32_t member_shares(const struct member *m);
uint32_t member_sessions(const struct member *m);
uint64_t member_kv_used(const struct member *m);

#endif
