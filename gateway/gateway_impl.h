/* gateway_impl.h - what gateway.c (life, routes), reply.c (one answer) and metrics.c share. */
#ifndef GATEWAY_GATEWAY_IMPL_H
#define GATEWAY_GATEWAY_IMPL_H

#include "ask/question.h"
#include "base/prom.h"
#include "gateway/gateway.h"
#include "gateway/limits.h"
#include "gateway/openai.h"
#include "gateway/traces.h"
#include "gateway/usage.h"

enum { STATUS_KINDS = 12, PULSE_MS = 5000 };

/* What is counted since the start; no text, no address. */
struct gateway_counts {
    uint64_t requests, streams, refused_key, refused_limit, gone;
    uint64_t by_status[6]; /* [1] 1xx .. [5] 5xx */
    uint64_t prompt_tokens, cached_tokens, tokens, reasoning_tokens;
    uint64_t notes; /* said about pipelines: healing, waiting */
    struct histogram first_token;
};

struct gateway {
    const struct gateway_config *c;
    struct hub hub;
    struct net *net;
    struct questions *questions;
    struct http *http;
    struct limits *minute, *hour, *tokens;
    struct reply *first; /* under way */
    uint32_t n_replies;
    struct gateway_counts counts;
    struct traces traces;
    struct usage_book *usage; /* NULL: none is kept */
    uint8_t salt[32];         /* of askers' names, random */
    uint64_t started_s;
    /* what the coordinator said last */
    struct question *pulse; /* NULL: none is under way */
    char model[65];         /* empty: not known yet */
    bool is_up;
    struct why down_why;
    struct {
        struct question *question;    /* NULL: none is under way */
        struct text nodes, plan;      /* owned: as shown.h lets them be shown */
        uint64_t heard_ms, looked_ms; /* 0: never */
    } map;
    uv_timer_t tick;
    uv_signal_t signal[2];
    bool is_stopping;
};

/* Who asks: a key's name, or an address (asker.h). */
struct asker {
    char name[ASKER_BYTES];
};

/* --- gateway.c --- */

/* What a sentence of the swarm may say to who asks: in public no address. */
void gateway_say(const struct gateway *g, struct text *out, const char *sentence);

/* --- reply.c --- */

/* A question that may be asked; x is answered, now or later. */
void reply_begin(struct gateway *g, struct exchange *x, enum endpoint endpoint,
                 const struct asker *who);
/* Its client has gone: the swarm stops working on it. */
void reply_drop(struct exchange *x);
/* Says to those who wait that the line is still there. */
void replies_keep_alive(struct gateway *g);
void reply_error(struct gateway *g, struct exchange *x, const struct openai_error *e);
void reply_json(struct gateway *g, struct exchange *x, unsigned status, const struct text *json);

/* --- map.c --- */

void map_tick(struct gateway *g, bool is_pulse);
void map_on_plan(struct gateway *g, struct slice json); /* what the pulse was told */
void map_get(struct gateway *g, struct exchange *x);
void map_fini(struct gateway *g);
/* Events of a stream that asked for them ("swarm": true): {"plan"}: the plan, or the times so far;
 * {"note", "place"}; {"done", "prompt_tokens", "tokens", "reasoning_tokens"}. */
void map_event_plan(struct text *out, struct slice json);
void map_event_note(struct text *out, uint32_t place, struct slice sentence);
void map_event_done(struct text *out, const struct msg_ASK_DONE *done);

/* --- metrics.c --- */

void metrics_write(struct text *out, const struct gateway *g);

#endif
