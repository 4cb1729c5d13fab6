/* stage.h - the actor that serves sessions of this node's layers.
 *
 *     SESS_OPEN -> admit: model, layers, length, memory -> SESS_OK
 *     ACT       -> from the previous stage only, at the next position only -> compute ->
 *                  ACT to the next stage, or the wanted rows back to the coordinator;
 *                  STEP_DONE to the coordinator
 *     the end   -> SESS_CLOSE; the coordinator's connection is gone; idle for too long; or
 * SESS_FAIL, which names the reason in one sentence
 *
 * A session may begin with K and V of an earlier one's first rows (prefix.h): its own rows then
 * begin behind them.
 *
 * When its next stage is lost, a session says SESS_FAIL and waits a minute for its coordinator to
 * adopt it: SESS_OPEN with another id for the same layers goes on with its K and V.  Rows that come
 * a second time are not computed then, but answered with those that were sent on before (sent.h).
 *
 * A session belongs to the id that opened it.  Its K and V live until the last job of it is back
 * from the compute thread.  model/forward.h calls the layers' scratch `struct stage`; here is the
 * server around it. */
#ifndef STAGE_STAGE_H
#define STAGE_STAGE_H

#include "net/counters.h"
#include "stage/compute.h"
#include "stage/group.h"
#include "stage/prefix.h"

enum {
    STAGE_SESSIONS_MAX = 256,
    STAGE_JOBS_MAX = 4096,          /* chunks and tokens that may wait, of all sessions */
    STAGE_IDLE_MS = 10 * 60 * 1000, /* the usual idle_ms */
};

struct stage_server;

struct stage_server_config {
    struct hub *hub;
    struct net *net;               /* borrowed until stage_server_close */
    struct compute *compute;       /* likewise */
    const struct weights *weights; /* likewise; its whole layers, or with a group those it leads */
    struct group *group;           /* who shares them; NULL: nobody */
    struct node_id me;
    uint32_t context;      /* largest session granted */
    uint64_t kv_bytes;     /* memory for K and V of all sessions */
    uint64_t prefix_bytes; /* of it, at most so much for what sessions leave (prefix.h); 0: none */
    struct shelf *shelf;   /* borrowed: what they leave is kept there too; NULL: nowhere */
    bool no_own_first;     /* prompts of this node's own requests wait like others */
    uint64_t idle_ms;      /* a session that nobody used for so long is freed */
    struct counters *counters; /* NULL: nobody counts */
    void *arg;
    void (*on_change)(void *arg); /* sessions came or went: announce it */
};

MUST_CHECK enum err stage_server_open(struct stage_server **out,
                                      const struct stage_server_config *c);
/* Ends every session with SESS_FAIL and refuses new ones from now on. */
void stage_server_stop(struct stage_server *s);
/* Refuses new sessions; those that there are go on. */
void stage_server_drain(struct stage_server *s);
/* The same for sessions of other coordinators, until it is over. */
void stage_server_pause(struct stage_server *s, bool is_paused);
/* Ends the sessions of other coordinators with SESS_FAIL. */
void stage_server_send_away(struct stage_server *s, const char *text);
uint32_t stage_server_guests(const struct stage_server *s); /* how many there are */
/* After compute_close: frees everything. */
void stage_server_close(struct stage_server *s); /* NULL is fine */

/* SESS_OPEN, ACT, KV_TRIM, SESS_CLOSE; takes m. */
void stage_server_on_mail(struct stage_server *s, struct mail *m);
void stage_server_on_peer(struct stage_server *s, const struct node_id *id, bool up,
                          const char *why);

/* Steps of a session whose coordinator is this node too, and that has no other stage: rows do not
 * leave the compute thread between them (compute.h).  The job is lent until its note has been
 * posted to `to`, with the kind given; rows.kv, lo and hi are set here, and rows.job.note and to.
 */
struct home_job {
    struct decode_job decode; /* first */
    struct actor *to;
    int kind;
    /* the server's */
    struct session *session;
    uint8_t hashes[(DECODE_MAX + DRAFT_MAX) * HASH_WIRE];
};
/* ERR_NOTFOUND: no such session, or it is not of that kind; ERR_RANGE: the position is not its
 * next, steps are under way, or more tokens than granted are asked for. */
MUST_CHECK enum err stage_server_decode(struct stage_server *s, const uint8_t id[SESSION_BYTES],
                                        struct home_job *j);

/* For announcements. */
uint32_t stage_server_sessions(const struct stage_server *s);
uint32_t stage_server_free_tokens(const struct stage_server *s);
uint64_t stage_server_kv_used(const struct stage_server *s); /* bytes */
void stage_server_prefixes(const struct stage_server *s, struct prefixes_state *out);

#endif
