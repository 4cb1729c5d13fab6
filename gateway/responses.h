/* responses.h - OpenAI's newer form, /v1/responses: a request becomes one of chat, whose answer is
 * written as items (reasoning, a message, calls of functions), streamed as named events.
 *
 * Nothing is stored: what refers to something that was (previous_response_id, conversation) is
 * refused by its name. */
#ifndef GATEWAY_RESPONSES_H
#define GATEWAY_RESPONSES_H

#include "gateway/openai.h"

/* --- responses_read.c --- */

/* As openai_read, of a body of this form. */
MUST_CHECK enum err responses_read(struct openai_ask *out, struct slice body,
                                   struct openai_error *e);

/* --- responses.c --- */

enum { ITEMS_MAX = 256 }; /* of one answer; what comes after them is left out */

/* An answer as it comes.  Zero-initialize; responses_fini at the end. */
struct responses {
    struct response_item {
        enum delta_kind kind; /* TEXT, REASONING, CALL */
        uint32_t call;        /* of CALL */
        char id[40], call_id[40];
        struct text name, text; /* owned */
        bool is_done;
    } * item; /* owned: [n] */
    uint32_t n, cap;
    uint32_t sequence; /* of events */
};

/* Events are appended to out; NULL: it is no stream. */
void responses_begin(struct responses *s, const struct reply_head *h, struct text *out);
void responses_delta(struct responses *s, const struct delta *d, struct text *out);
void responses_end(struct responses *s, const struct reply_head *h, const char *finish,
                   const struct usage *u, struct text *out);
void responses_error(struct responses *s, const struct openai_error *e, struct text *out);
/* The whole, after responses_end. */
void responses_write(const struct responses *s, const struct reply_head *h, const char *finish,
                     const struct usage *u, struct text *out);
void responses_fini(struct responses *s);

#endif
