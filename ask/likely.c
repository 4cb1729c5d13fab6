#include "ask/likely.h"

#include <stdlib.h>

_Static_assert((int)DECODE_MAX <= (int)TALLY_FRESH_MAX, "tokens of one job");
_Static_assert((int)DRAFT_MAX < (int)TALLY_FRESH_MAX, "tokens of one job");

enum err likely_read(struct sampling *s, const struct msg_ASK *q, struct why *why)
{
    enum { OFF = 3 }; /* on the wire a penalty is above 0 */
    if (q->frequency > 0) s->frequency = q->frequency - OFF;
    if (q->presence > 0) s->presence = q->presence - OFF;
    s->likely = (uint32_t)q->likely;
    if (q->likely > 0 && q->max_tokens > LIKELY_TOKENS_MAX)
        return fail(why, ERR_RANGE, "log probabilities are told of at most %d tokens an answer",
                    LIKELY_TOKENS_MAX);
    return ERR_OK;
}

enum err likely_open(struct request *r)
{
    if (r->tally || !tally_is_wanted(&r->sampling)) return ERR_OK;
    return tally_open(&r->tally, &r->sampling, r->c->c.weights->manifest.arch.vocab, r->n_prompt,
                      r->prompt.ids.p + r->n_prompt, r->n_tokens, r->limit);
}

void likely_lend(struct request *r, struct next_job *j)
{
    j->tally = r->tally;
    if (r->tally) tally_begin(r->tally);
}

enum err likely_take(struct request *r, uint32_t n)
{
    uint32_t width = r->sampling.likely;
    struct request_likely *l = &r->likely;
    if (width == 0 || !r->tally) return ERR_OK;
    if (l->cap < l->n + n) {
        uint32_t cap = 2 * l->cap + TALLY_FRESH_MAX;
        struct likely *p = realloc(l->p, (size_t)cap * width * sizeof *p);
        if (!p) return ERR_NOMEM;
        l->p = p;
        l->cap = cap;
    }
    for (uint32_t i = 0; i < n; i++, l->n++)
        memcpy(l->p + (size_t)l->n * width, tally_fresh(r->tally, i), width * sizeof *l->p);
    return ERR_OK;
}

const struct likely *likely_of(const struct request *r, uint32_t i)
{
    return i < r->likely.n ? r->likely.p + (size_t)i * r->sampling.likely : NULL;
}

void likely_restore(struct request *r, struct likely *all, uint32_t n)
{
    r->likely.p = all;
    r->likely.n = r->likely.cap = all ? n : 0;
}

void likely_fini(struct request *r)
{
    tally_close(r->tally);
    free(r->likely.p);
    free(r->likely.said.p);
}

/* --- beside the text --- */

/* Nothing of it is in the text that people see: marks, and newlines at the start of a part. */
static bool is_shown(const struct request *r, struct slice bytes)
{
    const struct answer *a = &r->answer;
    bool is_newline = true;
    for (size_t i = 0; i < bytes.n; i++) is_newline &= bytes.p[i] == '\n';
    bool is_said = !a->is_thinking || r->prompt.is_plain; /* whose reasoning is text as any */
    return is_said && bytes.n > 0 && !(a->is_at_start && is_newline);
}

static void write_one(struct text *out, const struct tokenizer *t, const struct likely *l)
{
    struct slice bytes = tokenizer_bytes(t, l->id, false);
    uint8_t n = bytes.n < UINT8_MAX ? (uint8_t)bytes.n : UINT8_MAX, le[4];
    uint32_t u;
    memcpy(&u, &l->logprob, sizeof u);
    for (unsigned i = 0; i < sizeof le; i++) le[i] = (uint8_t)(u >> 8 * i);
    text_add(out, le, sizeof le);
    text_add(out, &n, 1);
    text_add(out, bytes.p, n);
}

/* Where no room is for the alternatives the token goes alone. */
static void write_token(struct request *r, const struct likely *l)
{
    struct text *out = &r->likely.said, one = { 0 };
    const struct tokenizer *t = r->c->c.tokenizer;
    uint8_t n = 0;
    while (n < r->sampling.likely && (n == 0 || l[n].id >= 0)) write_one(&one, t, &l[n++]);
    if (out->n + 1 + one.n > LIKELY_BYTES_MAX) {
        one.n = 0;
        write_one(&one, t, &l[0]);
        n = 1;
    }
    if (!one.failed && out->n + 1 + one.n <= LIKELY_BYTES_MAX) {
        text_add(out, &n, 1);
        text_add(out, one.p, one.n);
    }
    free(one.p);
}

void likely_feed(struct request *r, uint32_t i)
{
    struct answer *a = &r->answer;
    int32_t id = r->prompt.ids.p[r->n_prompt + i];
    const struct likely *l = likely_of(r, i);
    if (l) request_say(r); /* a text and what is said of it go together */
    if (l && id != a->think_open && id != a->think_close &&
        is_shown(r, tokenizer_bytes(a->tokenizer, id, true)))
        write_token(r, l);
    answer_feed(a, id, request_gather, r);
    if (l) request_say(r);
}

void likely_say(struct request *r, bool is_heard)
{
    struct text *said = &r->likely.said;
    if (said->n == 0) return;
    if (!is_heard && !said->failed && r->on.on_likely)
        r->on.on_likely(r->on.arg, slice_of(said->p, said->n));
    said->n = 0;
}
