/* answer.h - generated ids as what a person reads: whole characters, reasoning apart.
 *
 * <think> and </think> switch between reasoning and answer and are not shown; newlines at the start
 * of either part belong to the form and are dropped; special tokens are dropped. */
#ifndef ASK_ANSWER_H
#define ASK_ANSWER_H

#include "base/json.h"
#include "model/tokenizer.h"

struct answer {
    const struct tokenizer *tokenizer; /* borrowed */
    int32_t think_open, think_close;   /* ids, -1 when the model has none */
    bool is_thinking;
    uint32_t n_thinking; /* ids of reasoning so far, its marks included */
    bool is_at_start;    /* of a part: nothing but newlines yet */
    struct utf8_stream utf8;
    struct text out; /* owned: the piece that answer_take hands out */
};

/* prompt [n]: whether generation begins inside the reasoning is its last marker's matter. */
void answer_init(struct answer *a, const struct tokenizer *t, const int32_t *prompt, uint32_t n);
void answer_fini(struct answer *a);

/* A piece of text became complete; text is borrowed for the call. */
typedef void answer_piece(void *arg, struct slice text, bool is_thinking);

/* Feed one generated id; say is called at most once. */
void answer_feed(struct answer *a, int32_t id, answer_piece *say, void *arg);
/* The end: says what an incomplete character left behind. */
void answer_flush(struct answer *a, answer_piece *say, void *arg);

#endif
