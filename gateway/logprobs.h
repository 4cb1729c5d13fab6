/* logprobs.h - log probabilities of an answer's tokens, on their way from the swarm to the client.
 *
 * They come beside the texts that they belong to (ASK_TEXT's likely) and wait here until that text
 * is said: a stop may hold it back, or cut it off. */
#ifndef GATEWAY_LOGPROBS_H
#define GATEWAY_LOGPROBS_H

#include "gateway/openai.h"

/* Zero-initialize; logprobs_fini at the end. */
struct logprobs {
    struct text wire; /* tokens that wait, each as ASK_TEXT has it */
    struct logprobs_at {
        size_t from; /* where in the answer's text it begins */
        size_t n;    /* bytes of it in wire */
    } * waiting;     /* owned: [n_waiting] */
    uint32_t n_waiting, cap;
    size_t fed, said;    /* bytes of text: come so far, and settled */
    size_t offset;       /* code points of tokens told: completions' text_offset */
    struct text list[4]; /* owned: what is told next, see logprobs_take */
};

/* The tokens of the text that comes next; bytes that are not well formed end them. */
void logprobs_feed(struct logprobs *l, struct slice wire);
/* So much text has come with it. */
void logprobs_text(struct logprobs *l, size_t n);
/* The next n bytes of the text are settled: they are said. */
void logprobs_settle(struct logprobs *l, size_t n);
/* ... or are not: forget their tokens. */
void logprobs_drop(struct logprobs *l);

/* What is settled goes to the lists that logprobs_write puts out: {"content": [...]} of a chat's
 * choice, {"tokens": [...], ...} of a completion's. */
void logprobs_take(struct logprobs *l, enum endpoint endpoint);
/* Appends to out, and begins anew; false: nothing is there, and nothing was written. */
bool logprobs_write(struct logprobs *l, enum endpoint endpoint, struct text *out);

void logprobs_fini(struct logprobs *l);

#endif
