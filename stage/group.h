/* group.h - the leader of a group: other nodes nearby compute parts of this node's layers.
 *
 *     AWAY --SHARE_OPEN--> OPENING --SHARE_OK--> IN --lost, refused, silent, wrong--> AWAY
 *
 * A member that is IN is asked for pieces of layers (model/share.h).  Who computes which head
 * groups is dealt when members come and go, and fixed for a session when it begins, since its K and
 * V lie there; experts and dense parts are dealt anew for every batch, by how fast everybody was.
 *
 *     compute thread --round--> loop --SHARE_WORK--> member
 *                    <--reply--      <--SHARE_DONE--
 *
 * Every round is replied to, at the latest when its member is lost: a member that says nothing is
 * asked for a sign of life after GROUP_ASK_MS, and lost GROUP_UNANSWERED_MS later.  Experts and
 * dense parts of a lost member are computed by others that hold them.  Sessions whose head groups
 * it had are lost with it; their owner is told and opens them anew. */
#ifndef STAGE_GROUP_H
#define STAGE_GROUP_H

#include "model/share.h"
#include "net/counters.h"
#include "net/net.h"
#include "proto/sharing.h"
#include "weights/weights.h"

enum {
    GROUP_MEMBERS_MAX = 8,
    GROUP_SESSIONS_MAX = 256,
    GROUP_ASK_MS = 1000,
    GROUP_UNANSWERED_MS = 1750,
    GROUP_ROUND_MS = 30000, /* a member that computes longer than this is lost too */
    GROUP_RETRY_MS = 5000,  /* before one that was lost or refused is asked again */
};

struct compute;
struct pace;
struct group;
struct group_session;

struct group_config {
    struct hub *hub;
    struct net *net;               /* borrowed until group_close */
    const struct weights *weights; /* likewise: the layers whose trunk it holds are led */
    struct node_id me;
    struct counters *counters; /* NULL: nobody counts */
    void *arg;
    /* Members came or went: what the group can compute has changed. */
    void (*on_change)(void *arg);
};

MUST_CHECK enum err group_open(struct group **out, const struct group_config *c);
/* The thread that asks, before its first job; borrowed until group_close. */
void group_serve(struct group *g, struct compute *c);
/* Ends the shares; whoever waits for a member on the compute thread fails. */
void group_stop(struct group *g);
/* After compute_close: frees everything. */
void group_close(struct group *g); /* NULL is fine */

/* Who is wanted as a member, and what each holds of our layers. */
struct group_want {
    struct node_id id;
    const struct share *held; /* [hi - lo] of the layers that are led */
    uint32_t layer_us;        /* its speed, as announced; 0: like ours */
    bool no_heads;            /* no new session's go to it; those that there are go on */
};
/* From now on.  Members that are not named any more leave.  own_us: our own layer_us, 0 unknown.
 * ERR_NOMEM. */
MUST_CHECK enum err group_want(struct group *g, const struct group_want *want, uint32_t n,
                               uint32_t own_us);

/* SHARE_OK, SHARE_DONE, SHARE_FAIL; takes m. */
void group_on_mail(struct group *g, struct mail *m);
void group_on_peer(struct group *g, const struct node_id *id, bool up, const char *why);

/* Members that are IN; the i-th of them. */
uint32_t group_n(const struct group *g);
struct node_id group_nth(const struct group *g, uint32_t i);
/* Are there sessions whose head groups this member computes? */
bool group_needs(const struct group *g, const struct node_id *id);
/* Is every part of layer held by us or somebody who is IN?  If not, what is lacking, in words. */
bool group_covers(const struct group *g, uint32_t layer);
void group_lacks(const struct group *g, uint32_t layer, char *out, size_t size);
/* The longest run [*lo, *hi) of layers that are: what may be announced. */
void group_served(const struct group *g, uint32_t *lo, uint32_t *hi);

/* What it brings to share the layers that are led with those who are IN, by prediction
 * (proto/sharing.h) from what they hold and announce, round trips, our own pace, which experts were
 * chosen, and what experts took us and them in answers of late, where there were any.  Well below a
 * millisecond, also where everybody holds something else of each layer.  ERR_NOMEM. */
MUST_CHECK enum err group_weigh(struct group *g, const struct pace *pace, struct sharing *out);
/* The same with those who may be wanted: n <= GROUP_MEMBERS_MAX. */
MUST_CHECK enum err group_weigh_want(struct group *g, const struct group_want *want, uint32_t n,
                                     uint32_t own_us, const struct pace *pace, struct sharing *out);

/* The part of the rows (0 to 1; older ones count less) that chose each expert of a layer: use
 * [n_experts].  Counted while layers are shared; before, all alike. */
void group_use(struct group *g, uint32_t layer, float *use);
struct group_hot {
    uint32_t layer, expert;
    float use;
};
/* The most used ones, the most used first; how many: 0 before anything was counted. */
uint32_t group_hottest(struct group *g, struct group_hot *hot, uint32_t most);

/* --- sessions --- */

/* The head groups [*g_lo, *g_hi) that we compute ourselves in some of layers [lo, hi), for a
 * session that begins now. */
void group_heads(const struct group *g, uint32_t lo, uint32_t hi, uint32_t *g_lo, uint32_t *g_hi);

/* What a session hears: once that it may begin, perhaps within group_session_begin (e is ERR_OK);
 * and once, instead or later, that it cannot go on: code and text as for SESS_FAIL, and then it is
 * to be closed. */
typedef void group_event(void *arg, enum err e, unsigned code, const char *text);

/* Rows of kv in layers [lo, hi) will be shared.  on says nothing before group_session_begin.  NULL:
 * no memory, or GROUP_SESSIONS_MAX. */
struct group_session *group_session_open(struct group *g, const struct kv *kv, uint32_t lo,
                                         uint32_t hi, uint32_t tokens, group_event *on, void *arg);
void group_session_begin(struct group_session *x);
/* No row of it is on the compute thread, or will be. */
void group_session_close(struct group_session *x); /* NULL is fine */
/* For the rows_jobs of the session; NULL: nobody takes part.  Borrowed until group_session_close.
 */
struct sharer *group_session_sharer(const struct group_session *x);

#endif
