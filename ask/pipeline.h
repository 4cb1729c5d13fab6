/* pipeline.h - the coordinator's side of sessions: one pipeline per request, from plan to close.
 *
 *     PLANNING -> OPENING --every stage granted--> OPEN --rows in, rows out--> (pipeline_close)
 *        ^           |                               |
 *        +--refused, once; that node is avoided      |
 *        +--a stage failed, vanished, fell silent----+--> FAILED: nobody replaced it in time
 *
 * A plan is made over the announcements of the moment; when layers are missing, the pipeline waits
 * a moment for them (a swarm that is just starting).  All stages are asked at once.  Rows go
 * to the first stage; each stage forwards to the next by itself; the last one sends the rows that
 * were wanted back, and every stage says how long it took.
 *
 * Healing.  A stage is lost when its connection is, when it or the stage before says so, or when it
 * leaves a PING unanswered while something is owed.  Then a pipeline is planned anew without it,
 * and the owner sends its rows again (on_again): the same rows, so the same results.  A stage that
 * is only silent is kept as long as nobody could replace it.
 *
 * On the wire the session's random id ties it together; the rid of SESS_OPEN comes back in every
 * answer, also in the ACT that the last stage sends home (an ACT between stages has rid 0), so
 * that a node that is both coordinator and stage can tell them apart. */
#ifndef ASK_PIPELINE_H
#define ASK_PIPELINE_H

#include "base/json.h"
#include "net/net.h"
#include "peers/peers.h"
#include "stage/stage.h"
#include "proto/plan_explain.h"
#include "proto/trace.h"

struct pipelines; /* all of this node's; an actor of the loop */
struct pipeline;  /* one */

struct pipelines_config {
    struct hub *hub;
    struct net *net;            /* borrowed until pipelines_close */
    struct peers *peers;        /* likewise */
    struct stage_server *stage; /* likewise; of this node */
    struct node_id me;
    uint8_t model[ID_BYTES];
    uint32_t n_layers;
    size_t row_bytes;
    uint32_t head_us;          /* for one token here, measured at the start */
    uint32_t patience_ms;      /* for announcements that cover the model */
    struct counters *counters; /* NULL: nobody counts */
    uint32_t heal_ms;          /* for others who hold the layers of a stage that was lost */
};

MUST_CHECK enum err pipelines_open(struct pipelines **out, const struct pipelines_config *c);
/* Every pipeline must have been closed. */
void pipelines_close(struct pipelines *ps); /* NULL is fine */

/* SESS_OK, STEP_DONE, SESS_FAIL, ERROR, and ACT with a rid; takes m. */
void pipelines_on_mail(struct pipelines *ps, struct mail *m);
void pipelines_on_peer(struct pipelines *ps, const struct node_id *id, bool up, const char *why);
/* The directory changed: pipelines that wait for layers try again. */
void pipelines_on_change(struct pipelines *ps);

/* What the owner hears; all on the loop, never from inside pipeline_open or pipeline_send. */
struct pipeline_events {
    void *arg;
    void (*on_open)(void *arg);
    /* A stage was lost and replaced: every row from position 0 (or, as after on_open, from some
     * position up to pipeline_known) is to be sent again, and the rows
     * wanted that have not come are wanted again.  NULL: the loss of a stage is the end. */
    void (*on_again)(void *arg);
    /* What happens to the pipeline, for people.  May be NULL without on_again. */
    void (*on_note)(void *arg, const char *text);
    /* The wanted rows of one step; x is borrowed for the call. */
    void (*on_rows)(void *arg, uint32_t pos, uint32_t n, struct slice x);
    /* A step has passed the last stage: pipeline_has_room is true again. */
    void (*on_room)(void *arg);
    /* What may be known of the rows that are to be sent, at layer lo's input: names (recall.h) for
     * SESS_OPEN, the longest beginning first, at most PREFIX_ASKS; how many.  longest: the
     * positions of the first one.  NULL: nothing is asked for. */
    uint32_t (*on_ask_known)(void *arg, uint32_t lo, uint8_t *names, uint32_t *longest);
    /* A stage names rows that it received at layer lo's input, up to the end of blocks `first` and
     * following: it keeps what it computed of them.  With on_ask_known. */
    void (*on_prefix)(void *arg, uint32_t lo, uint32_t first, struct slice names);
    /* A stage has announced that it leaves; now and again until it does.  May be NULL. */
    void (*on_leaving)(void *arg);
    /* When what was computed; `at` is the owner's to fill in.  NULL: nobody wants to know, and stages
     * are not asked.  pipeline_hear changes who hears of it, not whether. */
    void (*on_trace)(void *arg, struct trace_event *e);
    /* The end: sessions are closed; the owner still calls pipeline_close. */
    void (*on_fail)(void *arg, enum wire_error code, const char *text);
};

struct pipeline_wish {
    uint32_t min_tokens, max_tokens; /* as many positions of this range as a plan exists for */
    bool is_modest;   /* when max_tokens do not fit: leave half of what does to others */
    bool plan_only;   /* on_open when there is a plan; no session is opened */
    uint32_t enough;  /* positions: when fewer are free now, but more when others are answered, it
                       * fails with BUSY; 0: any are */
    uint8_t priority; /* of SESS_OPEN */
    uint32_t resumes; /* rows of an answer that has begun, 0: none has; then the swarm is waited for
                       * as for a lost stage, and on_again comes first */
};
MUST_CHECK enum err pipeline_open(struct pipelines *ps, const struct pipeline_wish *wish,
                                  const struct pipeline_events *on, struct pipeline **out);

/* Another owner, or another mind of the same. */
void pipeline_hear(struct pipeline *p, const struct pipeline_events *on);
/* Close the session on every stage and free p.  Allowed inside its events. */
void pipeline_close(struct pipeline *p); /* NULL is fine */

/* Positions [0, n) that every stage knows from earlier sessions, or from before a loss; the rows to
 * send after on_open and on_again may begin there. */
uint32_t pipeline_known(const struct pipeline *p);

/* Send rows x [n][row_bytes] for positions pos .. pos + n - 1, the last `want` of which come back.
 * A failure comes as on_fail. */
void pipeline_send(struct pipeline *p, uint32_t pos, uint32_t n, const void *x, uint32_t want);
/* The row of a token and those of drafts that may follow it; all come back.  The rows sent next
 * begin after the last draft that was right, which takes the place of those that were not. */
void pipeline_send_drafts(struct pipeline *p, uint32_t pos, uint32_t n_drafts, const void *x);

/* How many answers go through the stages together, at most (waves.h); 0: any number. */
uint32_t pipeline_together(const struct pipeline *p);

/* Is this node the only stage?  Then tokens may be made at home, after a step's rows have come back
 * and while no step is under way: j->decode.rows.pos and x, limit, next.sampling and usable, eos;
 * j->to and kind say who gets its note (stage.h).  false: no, on_fail has been said or is not far.
 */
bool pipeline_is_home(const struct pipeline *p);
bool pipeline_decode(struct pipeline *p, struct home_job *j);
/* The job is back: its times are counted as the stage's. */
void pipeline_decoded(struct pipeline *p, const struct home_job *j);

/* May another step be sent before those under way have come through?  Enough steps for every stage
 * to have one, and no more. */
bool pipeline_has_room(const struct pipeline *p);

/* Steps that have not passed the last stage. */
uint32_t pipeline_under_way(const struct pipeline *p);

/* The answer is made: n tokens of it took decode_us, of which head and sampler pick_us; what it
 * tells about speeds is remembered for plans to come.  So is how much later (us) than planned the
 * first token came, of a prompt of one chunk. */
void pipeline_learn(struct pipeline *p, uint32_t n, uint64_t decode_us, uint64_t pick_us);
void pipeline_learn_start(struct pipeline *p, int64_t late_us);

/* The plan; good from on_open on. */
const struct plan *pipeline_plan(const struct pipeline *p);
/* The plan once more, with what could be otherwise. */
MUST_CHECK enum err pipeline_explain(struct pipeline *p, struct plan_explanation *out,
                                     struct why *why);
uint32_t pipeline_tokens(const struct pipeline *p); /* positions reserved */

/* Steps that may be under way at once. */
uint32_t pipeline_steps_max(const struct pipeline *p);

/* What the stages said about their work. */
struct stage_time {
    uint64_t compute_us, wait_us;
    uint32_t steps;
    uint64_t single_us; /* computing and waiting in steps of one row */
    uint32_t singles;   /* such steps */
};
struct stage_time pipeline_time(const struct pipeline *p, uint32_t stage);
/* How long the way to `stage` took lately, after the last one the way home; UINT32_MAX: not seen. */
uint32_t pipeline_way_us(const struct pipeline *p, uint32_t stage);

/* The nodes of the model (map.h), in at most PLAN_JSON_MAX bytes. */
void pipelines_map(const struct pipelines *ps, const char *model_name, struct text *out);

/* Losses that were healed, and how long the owner waited for that. */
struct heal_count {
    uint32_t n, rows;    /* rows that were sent again, */
    uint64_t layer_rows; /* and computed again, times the layers that did */
    uint64_t ms;
};
struct heal_count pipeline_heals(const struct pipeline *p);

#endif
