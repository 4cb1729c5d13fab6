#include "ask/answer.h"

#include <stdlib.h>

void answer_init(struct answer *a, const struct tokenizer *t, const int32_t *prompt, uint32_t n)
{
    *a = (struct answer){ .tokenizer = t, .is_at_start = true };
    a->think_open = tokenizer_find(t, "<think>");
    a->think_close = tokenizer_find(t, "</think>");
    if (a->think_open < 0 || a->think_close < 0) a->think_open = a->think_close = -1;
    for (uint32_t i = 0; i < n && a->think_open >= 0; i++) {
        if (prompt[i] == a->think_open) a->is_thinking = true;
        if (prompt[i] == a->think_close) a->is_thinking = false;
    }
}

void answer_fini(struct answer *a)
{
    free(a->out.p);
    *a = (struct answer){ 0 };
}

static void say_out(struct answer *a, answer_piece *say, void *arg)
{
    size_t n = 0, skip = 0;
    for (size_t i = 0; i < a->out.n; i++) /* no message carries a NUL */
        if (a->out.p[i]) a->out.p[n++] = a->out.p[i];
    a->out.n = n;
    while (a->is_at_start && skip < a->out.n && a->out.p[skip] == '\n') skip++;
    if (a->out.n > skip) {
        a->is_at_start = false;
        say(arg, slice_of(a->out.p + skip, a->out.n - skip), a->is_thinking);
    }
    a->out.n = 0;
}

void answer_feed(struct answer *a, int32_t id, answer_piece *say, void *arg)
{
    a->n_thinking += a->is_thinking || (id >= 0 && id == a->think_open);
    if (id >= 0 && (id == a->think_open || id == a->think_close)) {
        answer_flush(a, say, arg);
        a->is_thinking = id == a->think_open;
        a->is_at_start = true;
        return;
    }
    utf8_stream_feed(&a->utf8, tokenizer_bytes(a->tokenizer, id, true), &a->out);
    say_out(a, say, arg);
}

void answer_flush(struct answer *a, answer_piece *say, void *arg)
{
    utf8_stream_flush(&a->utf8, &a->out);
    say_out(a, say, arg);
}
