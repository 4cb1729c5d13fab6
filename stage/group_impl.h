/* group_impl.h - what the files of the group share; nobody else includes it.
 *
 *     group.c          members, rounds on their way, what is said and heard
 *     group_session.c  sessions, and the members that keep K and V of them
 *     group_deal.c     who computes which head groups
 *     group_cover.c    what all of them together can compute
 *     group_ask.c      the compute thread's side
 *     group_use.c      which experts are chosen
 *     group_weigh.c    what it brings
 *
 * The box is the mailbox of the compute thread: its lock is held for a few instructions.  What a
 * deal says never changes; who uses one holds a count of it. */
#ifndef STAGE_GROUP_IMPL_H
#define STAGE_GROUP_IMPL_H

#include "stage/group.h"

#include "stage/compute.h"
#include "weights/keep.h"

#include <pthread.h>

enum {
    HANDS_MAX = 1 + GROUP_MEMBERS_MAX, /* hand 0 is the leader, hand i member i - 1 */
    GROUP_LIVE_MAX = 4 * HANDS_MAX,    /* rounds of one ask: a member may be asked for another */
};

/* Who computes which head groups, and who holds what, from some moment on. */
struct deal {
    struct sharer sharer; /* of the sessions that began with it */
    struct group *group;
    uint32_t refs; /* atomic */
    bool has_members;
    uint32_t lo, n_layers, n_kv;
    uint32_t gen[HANDS_MAX]; /* of the members that were IN; 0: was not */
    bool takes[HANDS_MAX];   /* new sessions' head groups may go there */
    double speed[HANDS_MAX]; /* announced, of all 1 when unknown */
    struct share *held;      /* [HANDS_MAX][n_layers] owned */
    uint8_t *head;           /* [n_layers][n_kv] owned: the hand; SHARE_NOBODY */
};

/* Pieces that one member is asked for. */
struct round {
    struct note note; /* first: from the thread to the loop */
    struct round *next;
    struct group *group;
    unsigned hand;
    uint32_t gen; /* of the member */
    uint32_t rid;
    struct share_part part; /* owned */
    uint8_t *places;        /* [part.work.n][SHARE_PLACE_BYTES] owned; heads only */
    const uint8_t *who;     /* [n][width] of the ask: the thread's */
    uint8_t *again;         /* that, if it is this round's own */
    unsigned slot;          /* of the thread */
    uint64_t asked_ns;
    /* the reply */
    enum err err;
    struct mail *mail; /* owned; the answer lies in it, or */
    uint8_t *answer;   /* in this: owned */
    size_t size, got;  /* bytes of the answer, and how many have come */
    uint64_t sent_ms, back_ns;
    uint32_t us; /* that the member computed */
};

enum mate_state { MATE_NONE, MATE_AWAY, MATE_OPENING, MATE_IN };

struct mate {
    enum mate_state state;
    struct node_id id;
    struct share *held; /* [n_layers] owned */
    uint32_t layer_us;
    bool no_heads;                /* no new session's head groups go to it */
    uint32_t gen;                 /* grows when it comes IN */
    uint8_t share[SESSION_BYTES]; /* while OPENING or IN */
    uint32_t rid;                 /* of SHARE_OPEN */
    uint64_t retry_ms;
    uint64_t owes_ms; /* since when it owes us something that it was not heard since; 0: nothing */
    uint64_t asked_ms;
    unsigned n_owed; /* answers */
};

struct group_session {
    struct group_session *next;
    struct group *group;
    uint32_t number;
    const struct kv *kv;
    uint32_t lo, hi;
    struct deal *deal;               /* counted */
    uint32_t rid[GROUP_MEMBERS_MAX]; /* of SHARE_OPENs that are not answered; 0: none */
    bool is_doomed;                  /* a member could not be asked */
    bool is_open, is_lost;
    group_event *on;
    void *arg;
};

/* A session as the compute thread sees it. */
struct place {
    const struct kv *kv;
    uint32_t number;
};

/* What an expert took a hand of late, in steps of few rows; 0: not known. */
struct expert_time {
    uint32_t gen; /* of the member */
    double us;
};

struct box {
    pthread_mutex_t lock;
    bool is_closed;               /* what is not back is the loop's, and stays away */
    bool is_back[GROUP_LIVE_MAX]; /* the thread's rounds */
    struct deal *now;             /* counted */
    struct place place[GROUP_SESSIONS_MAX];
    uint32_t n_places;
    float *use;         /* [n_layers][n_experts] owned; NULL: there are none */
    uint64_t n_counted; /* rows of layers */
    struct expert_time time[HANDS_MAX];
};

struct group {
    struct actor actor; /* first */
    struct group_config c;
    const struct arch *a;
    uint32_t lo, n_layers;
    struct share *own; /* [n_layers] owned */
    uint32_t own_us;
    uv_timer_t *timer;
    struct mate mate[GROUP_MEMBERS_MAX];
    struct round *rounds, **last_round; /* owned: on their way */
    struct group_session *first;        /* owned by whoever opened them */
    uint32_t n_sessions;
    uint32_t rid, number; /* last ones given */
    bool stopping;
    struct compute *compute; /* borrowed */
    struct box box;
    struct asking *asking; /* owned: the thread's own state */
    struct keep *use;      /* owned, likewise; NULL: the model has no experts */
};

/* --- group.c --- */
uint32_t group_next_rid(struct group *g);
MUST_CHECK enum err group_send_open(struct group *g, struct mate *m, uint32_t rid, uint32_t number,
                                    const struct uints *parts, uint32_t tokens);
void group_send_close(struct group *g, const struct mate *m, uint32_t number);

/* --- group_session.c --- */
/* The session whose SHARE_OPEN to this member had that number; NULL: none. */
struct group_session *group_session_of(struct group *g, unsigned mate, uint32_t rid);
/* The member has answered it; code 0: well. */
void group_session_answered(struct group_session *x, unsigned mate, unsigned code,
                            const char *text);
/* Those whose head groups the hand computes. */
void group_lose_sessions(struct group *g, unsigned hand, uint32_t gen, const char *text);

/* --- group_deal.c --- */
/* ERR_NOMEM. */
MUST_CHECK enum err deal_make(struct deal **out, struct group *g);
void deal_take(struct deal *d);
void deal_drop(struct deal *d); /* NULL is fine */
/* who [width]: the hand that computes each column, columns of one side by side, by speed; hand 0
 * last where it can be.  set [n_hands]: what each holds, NULL: it takes no part; number [width] of
 * the columns, NULL: 0, 1 ...  SHARE_NOBODY where nobody can. */
void deal_columns(uint8_t *who, uint32_t width, const uint32_t *number,
                  const struct share_set *const *set, const double *speed, unsigned n_hands);
/* Of a node whose layer takes us while ours takes own_us; 0: not known. */
double deal_speed(uint32_t us, uint32_t own_us);
static inline const struct share *deal_held(const struct deal *d, unsigned hand, uint32_t layer)
{
    return &d->held[(size_t)hand * d->n_layers + (layer - d->lo)];
}
static inline uint8_t deal_head(const struct deal *d, uint32_t layer, uint32_t group)
{
    return d->head[(size_t)(layer - d->lo) * d->n_kv + group];
}

/* --- group_use.c --- */
MUST_CHECK enum err use_open(struct group *g); /* ERR_NOMEM */
void use_close(struct group *g);
/* On the thread: rows of a layer with experts. */
void use_count(struct group *g, const struct share_ask *q);

/* --- group_ask.c --- */
extern const struct sharer group_sharer;
MUST_CHECK enum err asking_open(struct group *g);
void asking_close(struct group *g);
void round_free(struct round *r);
/* On the loop: r is back, the thread may read it. */
void round_reply(struct group *g, struct round *r, enum err e);

#endif
