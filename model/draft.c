#include "model/draft.h"

#include "model/ngram.h"

#include <stdlib.h>
#include <string.h>

enum { KEPT_ROOM = 4 * DRAFT_KEPT }; /* so that rows are seldom moved */

struct drafter {
    const struct arch *a;
    enum draft_mode mode;
    struct ngram ngram;
    struct depth depth;

    /* the step under way */
    uint32_t source, n;
    uint64_t began_us; /* its drafting; 0: nobody knows */

    /* the prediction layer's; NULL without */
    struct kv *kv;  /* owned */
    uint8_t *kept;  /* owned: [KEPT_ROOM][arch_row_bytes], the oldest at first_kept */
    int32_t *after; /* owned: [KEPT_ROOM] the tokens that followed */
    uint32_t first_kept, n_kept;
};

bool draft_mode_parse(enum draft_mode *out, const char *text)
{
    static const char *const names[] = { "auto", "off", "ngram", "mtp" };
    for (unsigned i = 0; i < 4; i++)
        if (strcmp(text, names[i]) == 0) {
            *out = (enum draft_mode)i;
            return true;
        }
    return false;
}

enum err drafter_open(struct drafter **out, const struct arch *a, enum draft_mode mode,
                      bool has_predict)
{
    *out = NULL;
    struct drafter *d = calloc(1, sizeof *d);
    if (!d) return ERR_NOMEM;
    d->a = a;
    d->mode = mode;
    depth_init(&d->depth);
    if (has_predict && mode != DRAFT_NGRAM) {
        uint32_t cap = a->context < DRAFT_CONTEXT ? a->context : DRAFT_CONTEXT;
        d->kept = malloc(KEPT_ROOM * arch_row_bytes(a));
        d->after = malloc(KEPT_ROOM * sizeof *d->after);
        enum err e =
            d->kept && d->after ? kv_open(&d->kv, a, a->n_layers, a->n_layers + 1, cap) : ERR_NOMEM;
        if (e) {
            drafter_close(d);
            return e;
        }
    }
    *out = d;
    return ERR_OK;
}

void drafter_close(struct drafter *d)
{
    if (!d) return;
    ngram_fini(&d->ngram);
    kv_close(d->kv);
    free(d->kept);
    free(d->after);
    free(d);
}

bool drafter_wants_rows(const struct drafter *d)
{
    return d->kv != NULL;
}

enum err drafter_read(struct drafter *d, const int32_t *ids, uint32_t n)
{
    enum err e = ERR_OK;
    for (uint32_t i = d->ngram.n; i < n && !e; i++) e = ngram_add(&d->ngram, ids[i]);
    return e;
}

/* --- a step is over --- */

/* Rows for the prediction layer, and what followed them; of more than DRAFT_KEPT the oldest go. */
static void keep(struct drafter *d, const uint8_t *x, const int32_t *next, uint32_t n)
{
    size_t row = arch_row_bytes(d->a);
    uint32_t skip = n > DRAFT_KEPT ? n - DRAFT_KEPT : 0, end = d->first_kept + d->n_kept;
    n -= skip;
    if (end + n > KEPT_ROOM) {
        memmove(d->kept, d->kept + d->first_kept * row, d->n_kept * row);
        memmove(d->after, d->after + d->first_kept, d->n_kept * sizeof *d->after);
        d->first_kept = 0;
        end = d->n_kept;
    }
    memcpy(d->kept + end * row, x + skip * row, n * row);
    memcpy(d->after + end, next + skip, n * sizeof *next);
    d->n_kept += n;
    if (d->n_kept > DRAFT_KEPT) {
        d->first_kept += d->n_kept - DRAFT_KEPT;
        d->n_kept = DRAFT_KEPT;
    }
}

static void count_step(struct drafter *d, const struct draft_step *s)
{
    uint32_t right = s->n_tokens - 1;
    if (d->began_us && s->n_drafts == d->n && !s->is_disturbed)
        depth_trip(&d->depth, d->source, d->n, right, (double)(s->now_us - d->began_us));
    d->began_us = s->now_us;
    d->n = 0;
}

/* false: no memory, and no more drafts. */
static bool take(struct drafter *d, const struct draft_step *s)
{
    uint32_t before = d->ngram.n; /* tokens known before this step */
    for (uint32_t i = 0; i < s->n_tokens; i++)
        if (ngram_add(&d->ngram, s->token[i])) return false;
    if (d->kv && s->n_context < before) /* the row of ids[i] goes with ids[i + 1] */
        keep(d, s->x, d->ngram.ids + before - s->n_context, s->n_context + s->n_tokens);
    return true;
}

/* --- what comes next --- */

static int32_t draw(struct predict *p, struct sampler *sampler, const struct draft_step *s,
                    uint64_t position)
{
    const float *logits = predict_logits(p);
    return logits ? (int32_t)sampler_pick(sampler, s->sampling, logits, s->usable, position) : -1;
}

/* Up to n guesses of the prediction layer. */
static uint32_t predict_some(struct drafter *d, struct predict *p, struct sampler *sampler,
                             const struct draft_step *s, uint32_t n, int32_t *out)
{
    if (d->n_kept == 0) return 0; /* it is asked only when rows have come */
    if (kv_len(d->kv) + d->n_kept + n > kv_cap(d->kv)) kv_trim(d->kv, 0);
    enum err e = predict_feed(p, d->kv, d->kept + d->first_kept * arch_row_bytes(d->a),
                              d->after + d->first_kept, d->n_kept);
    uint32_t known = kv_len(d->kv), made = 0;
    d->first_kept = d->n_kept = 0;
    while (!e && made < n) {
        int32_t token = draw(p, sampler, s, d->ngram.n + made);
        if (token < 0) break;
        out[made++] = token;
        if (made < n) e = predict_again(p, d->kv, token);
    }
    kv_trim(d->kv, known);
    return made;
}

uint32_t drafter_next(struct drafter *d, struct predict *p, struct sampler *sampler,
                      const struct draft_step *s, int32_t *out)
{
    uint32_t agree = 0, n = 0, n_predict = 0, most = s->most < DRAFT_MAX ? s->most : DRAFT_MAX;
    double gain = 1, gain_predict = 1;

    count_step(d, s);
    d->depth.is_home = s->is_home;
    if (!take(d, s) || d->mode == DRAFT_OFF) return 0;
    if (d->mode != DRAFT_MTP) ngram_find(&d->ngram, out, most, &agree);
    d->source = depth_source_of(agree);
    if (agree > 0) n = depth_choose(&d->depth, d->source, most, &gain);
    if (d->kv && p) n_predict = depth_choose(&d->depth, DEPTH_PREDICT, most, &gain_predict);
    if (n_predict > 0 && (n == 0 || gain_predict > gain)) {
        d->source = DEPTH_PREDICT;
        n = predict_some(d, p, sampler, s, n_predict, out);
    }
    for (uint32_t i = 0; i < n; i++)
        if (out[i] < 0 || (uint32_t)out[i] >= d->a->vocab) n = i;
    d->n = n;
    return n;
}
