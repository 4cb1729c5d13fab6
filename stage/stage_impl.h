/* stage_impl.h - what the files of the stage server share: stage.c (rows of a session, and its
 * end), stage_open.c (how it begins) and stage_watch.c (is its next stage still there). */
#ifndef STAGE_STAGE_IMPL_H
#define STAGE_STAGE_IMPL_H

#include "net/words.h"
#include "stage/prefix.h"
#include "stage/sent.h"
#include "stage/stage.h"

struct session {
    /* identity */
    struct session *next;
    struct stage_server *server;
    uint8_t id[SESSION_BYTES];
    uint32_t rid; /* of SESS_OPEN, for the coordinator's answers */
    uint32_t epoch;
    struct node_id coordinator, prev;
    struct node_id following; /* the next stage; the coordinator after the last */
    bool is_last;
    uint8_t rank;                 /* of its prompts: a lower one goes first */
    uint32_t lo, hi;              /* [lo, hi) of our layers */
    uint64_t cost;                /* bytes of K and V */
    struct group_session *shared; /* owned; NULL: there is no group */

    /* live state */
    struct kv *kv;         /* owned; touched by the compute thread while n_jobs > 0 */
    uint32_t tokens;       /* positions granted */
    uint32_t accepted;     /* positions given to the compute thread */
    uint32_t firm;         /* of which [0, firm) stay; those after are drafts */
    uint32_t n_jobs;       /* on the compute thread */
    struct sent sent;      /* what went on */
    uint32_t held;         /* positions [sent.from, held) are answered from it */
    uint32_t known;        /* the first rows may begin at any position up to this */
    bool has_begun;        /* they have come */
    bool is_fetching;      /* K and V of earlier sessions are copied; not yet granted */
    struct prefix *prefix; /* what it leaves for others; NULL: nothing */
    uint32_t round;        /* grows when the session is adopted; jobs of before send nothing on */
    bool is_traced;        /* its coordinator wants to know when what was computed */
    bool is_broken;        /* its next stage is lost: it computes nothing, and may be adopted */
    bool is_adopted;       /* and not yet granted: jobs of before are still under way */
    uint64_t used_ms;      /* when somebody last wanted something of it */
    uint64_t sent_ms;  /* when rows went to a next stage that was not heard since; 0: none did */
    uint64_t last_ms;  /* when the last ones did */
    uint64_t asked_ms; /* when it was asked for a sign of life; 0: it was not */
    bool is_granted;   /* with `shared`: all who share it have room */
    bool is_over;      /* unlinked from the world; freed when the last job is back */
};

struct stage_server {
    struct actor actor; /* first */
    struct stage_server_config c;
    size_t row_bytes;
    uint32_t lo, hi; /* [lo, hi): the layers served */
    uv_timer_t *timer, *watch;
    struct prefixes *prefixes; /* owned; NULL: nothing is kept */
    struct session *first;     /* owned */
    uint32_t n_sessions;       /* not over */
    uint32_t n_jobs;
    uint64_t kv_used; /* bytes */
    size_t sent_used; /* bytes */
    bool stopping, draining, paused;
};

/* --- stage.c --- */

void stage_answer(struct stage_server *s, const struct node_id *to, const struct msg *m);
void stage_refuse(struct stage_server *s, const struct mail *m, enum wire_error code,
                  const char *text);
struct session *stage_find(struct stage_server *s, struct slice id); /* NULL: there is none */
/* A job of x on another thread is back; false: x was over, and is freed when it was the last. */
bool stage_is_back(struct session *x);
void stage_end(struct session *x);
/* End it and tell the coordinator why. */
void stage_fail(struct session *x, enum wire_error code, const char *text);
/* It cannot go on as it is, but what it holds is still good. */
void stage_break(struct session *x, enum wire_error code, const char *text);

/* --- stage_open.c --- */

void stage_on_open(struct stage_server *s, const struct mail *m); /* SESS_OPEN */
/* What sessions leave of the memory may be used for what they left behind. */
void stage_tell_room(struct stage_server *s);
/* No job of x is under way: it goes on from what it holds. */
void stage_finish_adoption(struct stage_server *s, struct session *x);

/* --- stage_watch.c --- */

/* Rows have gone to x's next stage: it is to be heard from. */
void stage_watch_next(struct stage_server *s, struct session *x);

#endif
