/* coordinator_impl.h - what the files of one request share: coordinator.c (its life), handover.c
 * (stages that leave), known.c (rows that stages know already) and asker.c (askers who come back,
 * restarts). */
#ifndef ASK_COORDINATOR_IMPL_H
#define ASK_COORDINATOR_IMPL_H

#include "ask/admit.h"
#include "ask/answer.h"
#include "ask/coordinator.h"
#include "ask/journal.h"
#include "ask/muster.h"
#include "proto/recall.h"

enum { ALL_MAX = 2 * REQUESTS_MAX, JOBS_EACH = 4 }; /* their jobs fit into the mailbox */
enum { DONE_STOPPED, DONE_LENGTH, DONE_CANCELLED };

/* One request.  Its four jobs are part of it: at most one of each is under way. */
struct request {
    /* identity */
    struct coordinator *c;
    struct request *next;
    struct request_events on;
    struct node_id client;
    uint8_t key[REQUEST_BYTES]; /* by which the client finds it again */
    bool has_key;               /* else it goes with its client */
    uint8_t rank;               /* 0 goes first */
    uint64_t user;              /* of the client's own; 0: it named none */
    size_t text_bytes;          /* of its conversation, as counted by the coordinator */

    /* its turn: admit.c's */
    struct fair_place place;
    bool is_waiting, is_admitted, is_opening;
    uint64_t admitted_ms, told_ms, told_tick;
    uint32_t told_place;

    /* what is asked */
    char *conversation; /* owned JSON; freed when read */
    size_t conversation_n;
    enum think think;
    struct sampling sampling;
    uint32_t max_new;           /* 0: as many as fit */
    enum draft_mode draft_mode; /* DRAFT_AUTO: as the node does */
    bool plan_only;
    uint32_t watch_ms; /* its asker wants to know so often how long things take; 0: not at all */
    uint64_t watched_ms;

    /* jobs on the compute thread, which touches what they point to */
    struct prompt_job {
        struct call_job call;
        struct request *r;
        struct ids ids; /* result; then the answer's follow */
        struct why why; /* with an error */
        bool is_plain;  /* no conversation: the answer's white space is its own */
    } prompt;
    struct embed_job {
        struct call_job call;
        struct request *r;
        uint32_t lo, n; /* ids [lo, lo + n) of the request */
        uint32_t round;
        bool for_heir;
        int32_t ids[PLAN_CHUNK_MAX]; /* a copy: the list grows meanwhile */
        uint8_t *x;                  /* [cap][row_bytes] owned; freed when all rows are sent */
        uint32_t cap;
    } embed;
    struct pick_job {
        struct next_job next;
        struct request *r;
        uint8_t *x; /* [DRAFT_KEPT + DRAFT_MAX + 1][row_bytes] owned */
    } pick;
    struct decoding {
        struct home_job home;
        struct request *r;
        uint32_t round;
    } decoding;
    struct drafting drafts; /* of the step under way; the picking job's while that is */
    struct drafter
        *drafter;       /* owned, touched by the compute thread while r is picking; NULL: none */
    bool has_no_drafts; /* and is to stay without */
    bool had_drafts;    /* the step being picked from, or it took longer than steps do */
    unsigned n_holds;   /* jobs under way, and calls of ours that still need the request */

    /* progress */
    struct pipeline *pipeline; /* owned */
    uint32_t n_prompt;         /* ids of the prompt */
    uint32_t chunk;            /* rows of a prefill step */
    uint64_t planned_ns;       /* when the pipeline was asked for */
    uint64_t predicted_us;     /* until the first token */
    uint32_t n_sent;           /* rows given to the pipeline, or being embedded */
    uint32_t n_known;          /* rows of the prompt that the stages had from earlier requests */
    struct request_names {
        uint8_t *p; /* owned: [n][HASH_WIRE] */
        uint32_t n, cap;
    } names;        /* of whole blocks of its ids: known.c */
    uint32_t round; /* grows when all rows are to be sent again */
    bool is_embedding;
    struct pipeline *heir; /* owned; NULL: none.  See handover.c */
    uint32_t heir_sent;    /* rows given to it, or being embedded */
    uint32_t heir_chunk;   /* rows of a step; 0: it is not open yet */
    uint32_t heir_round;   /* grows when those that are being embedded are not for it any more */
    bool is_picking;       /* or decoding at home: the next id is being made */
    uint32_t n_tokens;     /* generated */
    uint32_t limit;        /* tokens that may be generated */
    struct answer answer;  /* the text */
    struct text said;      /* owned: what was not told yet, all of one kind */
    bool said_thinking;
    struct tally *tally; /* owned, touched by the compute thread while r is picking; NULL: none */
    struct request_likely {
        struct likely *p; /* owned: [n][sampling.likely], of the answer's tokens */
        uint32_t n, cap;
        struct text said; /* owned: of the text that is told next */
    } likely;             /* likely.c's */
    uint32_t said_tokens;    /* tokens up to the last of it, */
    uint32_t fed_tokens;     /* and up to the one whose text comes now */
    bool has_answer;
    size_t n_told;           /* bytes of text up to here, told or known */
    size_t n_heard;          /* the asker has so many: they are not told again */
    bool is_traced;          /* the asker wants to know when what was computed */
    struct text traced;      /* owned: events that he was not told yet */
    uint32_t n_traced;       /* events so far */
    struct text stats;       /* owned: of the end */
    unsigned reason;         /* likewise */
    struct journal *journal; /* owned; NULL: none */
    uint32_t n_before;       /* tokens that came from the journal */
    bool is_held;            /* nothing is told before the journal's head is durable */
    bool is_away;            /* nobody hears */
    bool is_disturbed;       /* so its times are not those of an undisturbed answer */
    uint64_t away_ms;        /* since when */
    bool is_ended;           /* the answer is whole, and waits to be told */
    bool has_plan;           /* the pipeline has one */
    uint64_t asked_ns, first_ns, last_ns, pick_us;
    uint32_t n_guessed, n_right;      /* tokens guessed, those of them that were drawn */
    uint64_t plain_us, plain_pick_us; /* of tokens that came one at a time, */
    uint32_t n_plain;                 /* so many */
    bool is_over; /* the last event has been said; freed when nothing holds it */
};

struct coordinator {
    struct actor actor; /* first */
    struct coordinator_config c;
    size_t row_bytes;
    struct request *first;  /* owned */
    uint32_t n_requests;    /* not over */
    uint32_t n_all;         /* with those whose jobs are not back yet */
    size_t text_bytes;      /* of their conversations */
    struct admit *admit;    /* owned */
    struct muster *muster;  /* owned */
    uv_timer_t *away_timer; /* looks after requests whose asker is away; freed when libuv lets go */
    struct recall *recall;  /* owned: what stages said of the rows of ids */
    bool stopping, draining;
};

/* --- coordinator.c --- */
void request_hold(struct request *r);
void request_release(struct request *r); /* frees it when it is over and nobody holds it */
/* Close the pipeline; the caller, who holds r, says the last event. */
void request_end(struct request *r);
void request_fail(struct request *r, enum wire_error code, const char *text);
/* No pipeline for a while; and one again, through which everything is sent. */
void request_rest(struct request *r);
void request_plan(struct request *r);
void request_say_plan(struct request *r);
void request_say_json(struct request *r, struct text *json); /* in an ASK_PLAN; frees its text */
/* A request without a question; NULL: no memory. */
struct request *request_make(struct coordinator *c);
uint32_t request_rows(const struct request *r); /* ids so far */
uint32_t request_chunk_rows(const struct request *r, const struct pipeline *p);
void request_feed(void *arg); /* the request: give the pipelines what they lack */
/* p's events are the request's from now on. */
void request_hear(struct request *r, struct pipeline *p);
bool request_is_end(const struct request *r, int32_t token);

/* --- handover.c --- */
void handover_begin(void *arg); /* the request: a stage of its pipeline leaves */
void handover_drop(struct request *r);
uint32_t handover_rows(const struct request *r);
/* Between two tokens: may the heir take over? */
bool handover_is_due(const struct request *r);
void handover_switch(struct request *r);

/* --- known.c --- */
/* pipeline_events of the request, and of its heir. */
uint32_t known_ask(void *arg, uint32_t lo, uint8_t *names, uint32_t *longest);
void known_learn(void *arg, uint32_t lo, uint32_t first, struct slice names);
/* Where its rows may begin: p is open, and the last one is wanted. */
uint32_t known_rows(const struct request *r, const struct pipeline *p);
void known_fini(struct request *r);

/* --- asker.c --- */
/* A piece of the answer is known; tell what has gathered. */
void request_gather(void *arg, struct slice text, bool is_thinking);
void request_say(struct request *r);
/* r's text from its first token on; the prompt is known. */
void request_begin_text(struct request *r);
/* Say how long things have taken so far, if somebody watches and it is time to. */
void request_say_times(struct request *r);
/* The answer is whole, or cut off. */
void request_finish(struct request *r, unsigned reason);
/* The length is known: make the request durable before anything is told. */
void request_write_down(struct request *r);
enum err asker_open(struct coordinator *c);
void asker_close(struct coordinator *c);
/* Room for a new request, if need be instead of the one that nobody asked after for longest. */
void asker_make_room(struct coordinator *c);

#endif
