/* openai.h - requests and answers in the form that OpenAI's clients speak; a pure part of the
 * gateway: bytes in, structs and bytes out.
 *
 * Every parameter that is taken is honoured; every other one is refused by its name, for a client
 * that asks for something has to know that it does not get it.  A parameter at the value that
 * means "nothing special" (null, n 1, logit_bias {}) is as good as absent. */
#ifndef GATEWAY_OPENAI_H
#define GATEWAY_OPENAI_H

#include "base/json.h"
#include "gateway/stops.h"
#include "proto/messages.h"

enum { CHOICES_MAX = 8, OPENAI_USER_MAX = 256 };

enum endpoint { ENDPOINT_CHAT, ENDPOINT_COMPLETIONS, ENDPOINT_RESPONSES };

/* A refusal in OpenAI's shape. */
struct openai_error {
    unsigned status;  /* of HTTP */
    const char *type; /* "invalid_request_error", "rate_limit_error", ... */
    const char *code; /* NULL: none */
    char param[64];   /* empty: none */
    struct why why;   /* for people */
    unsigned retry_s; /* Retry-After; 0: none */
};
/* {"error": {"message", "type", "param", "code"}} */
void openai_write_error(struct text *out, const struct openai_error *e);

/* One request, read and checked. */
struct openai_ask {
    enum endpoint endpoint;
    struct json_doc *doc;     /* owned: what the slices and json below borrow from */
    struct text conversation; /* owned: as ASK wants it */
    char model[65];           /* empty: whichever */
    const struct json *tools; /* NULL: none, or none to be called */
    bool stream, with_usage;  /* stream_options.include_usage */
    uint32_t n;               /* choices, 1 .. CHOICES_MAX */
    struct stops stops;       /* none found yet: a start for every choice */
    struct msg_ASK ask;       /* sampling, think, max_tokens; conversation and model are set */
    bool with_logprobs;
    bool with_swarm;            /* events of what happens to the pipeline */
    char user[OPENAI_USER_MAX]; /* who of the client's users asks; empty: not said */
};

/* Read a body; *out is good until openai_ask_fini, also after an error.  ERR_MALFORMED (400),
 * ERR_UNSUPPORTED (400, param names it), ERR_NOMEM, with e filled in. */
MUST_CHECK enum err openai_read(struct openai_ask *out, enum endpoint endpoint, struct slice body,
                                struct openai_error *e);
void openai_ask_fini(struct openai_ask *a);

/* --- answers --- */

struct usage {
    uint32_t n_prompt, n_tokens, n_reasoning, n_cached;
};

/* What all pieces of one answer have in common; borrowed. */
struct reply_head {
    enum endpoint endpoint;
    char id[40]; /* "chatcmpl-..." */
    uint64_t created;
    const char *model;
};

/* The ways of an answer to end; NULL while it goes on. */
const char *finish_reason(unsigned done_reason, bool has_calls);

/* A piece of a streamed answer, as one event of text/event-stream ("data: {...}\n\n"). */
enum delta_kind { DELTA_ROLE, DELTA_TEXT, DELTA_REASONING, DELTA_CALL, DELTA_ARGS, DELTA_END };
struct delta {
    enum delta_kind kind;
    uint32_t choice;
    struct slice text;     /* TEXT, REASONING, ARGS; CALL: the function's name */
    uint32_t call;         /* CALL, ARGS: which of the choice's calls */
    const char *call_id;   /* CALL */
    const char *finish;    /* END */
    struct slice logprobs; /* TEXT: JSON; empty: null */
};
void openai_write_delta(struct text *out, const struct reply_head *h, const struct delta *d);
/* The last event but "[DONE]", where the client wants it. */
void openai_write_usage(struct text *out, const struct reply_head *h, const struct usage *u);
void openai_write_done(struct text *out);

/* A whole answer. */
struct whole_call {
    char id[40];
    struct text name, args;
};
struct whole_choice {
    struct text content, reasoning;
    struct text logprobs;    /* JSON; empty: null */
    struct whole_call *call; /* [n_calls] */
    uint32_t n_calls;
    const char *finish;
};
void openai_write_whole(struct text *out, const struct reply_head *h,
                        const struct whole_choice *choice, uint32_t n, const struct usage *u);

/* {"object": "list", "data": [{"id", ...}]} */
void openai_write_models(struct text *out, const char *const *name, uint32_t n, uint64_t created);

#endif
