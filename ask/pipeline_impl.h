/* pipeline_impl.h - what the files of one pipeline share: pipeline.c (its life, rows and messages),
 * pipeline_open.c (the plan, the sessions) and heal.c (stages that are lost). */
#ifndef ASK_PIPELINE_IMPL_H
#define ASK_PIPELINE_IMPL_H

#include "ask/hops.h"
#include "ask/pipeline.h"
#include "base/json.h"
#include "net/words.h"
#include "proto/speeds.h"

enum {
    OPEN_WAIT_MS = 10000,  /* for every stage to grant its session */
    STEP_WAIT_MS = 180000, /* without any sign of progress while steps are under way */
    TICK_MS = 250,
    TRIES = 2,        /* pipelines that are tried before a refusal is final */
    TRIES_LOST = 8,   /* the same for a stage that is lost before it answered */
    AVOID_MAX = 16,   /* nodes that one pipeline remembers */
    HEALS_MAX = 64,   /* a pipeline that loses more stages is given up */
    STEPS_RING = 128, /* remembered: more than can be under way */
};
_Static_assert(STEPS_RING >= PLAN_STAGES_MAX + PLAN_STEPS_EXTRA,
               "the ring holds every step under way");

_Static_assert(PLAN_STAGES_MAX <= 64, "a bit for every stage");

enum state { PLANNING, PLANNED, OPENING, OPEN, FAILED, CLOSED };

/* Why a node is not planned with, and until when. */
enum avoid_kind {
    AVOID_REFUSED,   /* it refused or failed: for good */
    AVOID_GONE,      /* the connection is lost: until it is back */
    AVOID_SILENT,    /* no answer to a PING: until something is heard */
    AVOID_UNREACHED, /* the stage before it could not reach it: for a while */
};
struct avoided {
    struct node_id id;
    enum avoid_kind kind;
    uint64_t since_ms;
};

struct peer_stage {
    bool granted;
    uint32_t held;       /* positions that it need not compute again */
    uint32_t asked;      /* it was asked whether it knows so many, */
    uint32_t known;      /* and knows these, or has them from before a loss */
    uint32_t steps_done; /* STEP_DONE received */
    struct stage_time time;
};

struct step {
    uint32_t rows, end; /* positions [end - rows, end) */
    uint32_t pos;       /* of the first wanted row */
    uint32_t want;      /* rows that are to come back; 0 again when they have */
    bool is_alone;      /* nothing else was under way when it was sent */
};

/* A stage is lost; from then on until the new ones hold what the old ones held. */
struct healing {
    bool is_on;
    bool has_said;     /* the owner knows that we wait */
    uint64_t since_ms; /* when the first loss was noticed */
    uint64_t until_ms; /* patience */
    uint32_t lo, hi;   /* layers that were lost */
    struct text who;   /* owned: the nodes that were lost */
    struct why why;    /* the first loss, in a sentence */
    enum wire_error code;
    bool has_step; /* the step that completes the refill has been sent: */
    uint32_t step;
};

/* Freed by the next tick after pipeline_close, so that nobody loses the ground under his feet. */
struct pipeline {
    /* identity */
    struct pipelines *all;
    struct pipeline *next;
    struct pipeline_events on;
    struct pipeline_wish wish;

    /* live state */
    enum state state;
    uint8_t session[SESSION_BYTES]; /* fresh for every try */
    uint8_t former[SESSION_BYTES];  /* while sessions are opened: what kept stages go on with */
    uint64_t kept;                  /* likewise: stage i of the plan has bit i */
    uint32_t rid;
    uint32_t tokens; /* reserved */
    uint32_t tries;
    struct why lost;        /* a stage before it answered; empty: none */
    uint64_t lost_until_ms; /* another, or itself, is waited for */
    struct avoided avoid[AVOID_MAX];
    uint32_t n_avoid;
    uint64_t deadline_ms; /* of the state */
    uint64_t moved_ms;    /* when a stage last said something of this session */
    uint64_t pinged_ms;   /* since when silent stages are asked; 0: they are not */
    struct plan plan;
    struct peer_stage stage[PLAN_STAGES_MAX];
    uint32_t waves;    /* groups in which answers are computed (waves.h) */
    uint64_t token_ms; /* when a token's row was last sent; 0: none was */
    uint32_t sent;     /* steps sent to the first stage */
    uint32_t
        rows_end; /* positions [0, rows_end) have been sent, in this session or an earlier one */
    enum err send_err; /* a step could not be sent; the next tick says so */
    struct step step[STEPS_RING];
    struct hops hops; /* of this session */
    struct healing healing;
    struct heal_count heals;
};

struct pipelines {
    struct pipelines_config c;
    uv_timer_t *timer;      /* closed by pipelines_close, freed when libuv lets go */
    struct pipeline *first; /* owned */
    uint32_t last_rid;
    struct speeds *speeds; /* owned: what was measured of those who computed */
};

/* --- pipeline.c --- */
uint64_t pipelines_now(const struct pipelines *ps);
/* The sessions are closed and the owner hears why. */
void pipeline_end(struct pipeline *p, enum wire_error code, const char *text);

/* --- pipeline_open.c --- */
void pipeline_close_sessions(struct pipeline *p);
/* Put spares in the place of stages that p avoids, and let the others go on with the sessions they
 * have; false: that cannot be, nothing has happened. */
bool pipeline_keep_others(struct pipeline *p);
/* Plan, and open what was planned.  Missing layers may still be announced until the deadline. */
void pipeline_try_plan(struct pipeline *p);
/* Is there a plan for what p needs, without the nodes it avoids? */
MUST_CHECK enum err pipeline_find_plan(struct pipeline *p, struct plan *out, struct why *why);
/* Stage i does not take the session: once more without it, or the end. */
void pipeline_refused(struct pipeline *p, uint32_t i, enum avoid_kind kind, enum wire_error code,
                      const char *text);

/* --- heal.c --- */
void heal_avoid(struct pipeline *p, const struct node_id *id, enum avoid_kind kind);
/* p takes up an answer that another pipeline began. */
void heal_resume(struct pipeline *p);
/* Stage i is one of those to be replaced. */
void heal_miss(struct pipeline *p, uint32_t i, enum avoid_kind kind);
/* Stage i of an open pipeline is lost: replace it, or end with code and text. */
void heal_lost(struct pipeline *p, uint32_t i, enum avoid_kind kind, enum wire_error code,
               const char *text);
/* No plan yet: wait with a word to the owner, or end.  In PLANNING, with healing.is_on. */
void heal_wait(struct pipeline *p, const char *why);
/* A step was sent; a step has passed the last stage. */
void heal_on_sent(struct pipeline *p, uint32_t end);
void heal_on_step(struct pipeline *p);
/* The node is connected again, or something was heard of it. */
void heal_on_back(struct pipeline *p, const struct node_id *id);
/* Look for stages that do not answer. */
void heal_tick(struct pipeline *p, uint64_t now);
void heal_fini(struct pipeline *p);

#endif
