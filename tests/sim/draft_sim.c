/* draft_sim.c - model/draft.h in the world of hashes, where nothing can be guessed: this drafter
 * computes the tokens to come, and tells some of them wrong. */
#include "model/draft.h"

#include "tests/sim/draft_sim.h"
#include "tests/sim/model_sim.h"
#include "tests/sim/world.h"

#include <assert.h>
#include <stdlib.h>

enum { DRAFTS = 2001, WRONG = 2002, ONE_WRONG_IN = 4 };

struct drafter {
    struct kv *kv; /* owned: all layers, all rows up to the last token's */
    uint32_t n_layers, n;
    int32_t id[]; /* [context] */
};

enum err drafter_open(struct drafter **out, const struct arch *a, enum draft_mode mode,
                      bool has_predict)
{
    (void)mode, (void)has_predict;
    struct drafter *d = calloc(1, sizeof *d + a->context * sizeof *d->id);
    if (!d || kv_open(&d->kv, a, 0, a->n_layers, a->context)) abort();
    d->n_layers = a->n_layers;
    *out = d;
    return ERR_OK;
}

void drafter_close(struct drafter *d)
{
    if (!d) return;
    kv_close(d->kv);
    free(d);
}

bool drafter_wants_rows(const struct drafter *d)
{
    return d->n % 2 == 0; /* one that it does nothing with */
}

static void add(struct drafter *d, int32_t id)
{
    d->id[d->n++] = id;
}

/* The row of id at position pos, and what it is after the last layer. */
static void compute(struct drafter *d, int32_t id, uint32_t pos, uint8_t x[SIM_ROW_BYTES])
{
    sim_embed(id, x);
    if (sim_layers(d->kv, 0, d->n_layers, pos, 1, x)) abort();
}

/* The next tokens, unless chance says otherwise. */
static uint32_t guess(struct drafter *d, const struct next_job *j, uint32_t most, int32_t *out)
{
    uint8_t x[SIM_ROW_BYTES];
    uint32_t n = (uint32_t)(mix(DRAFTS, d->n) % (most + 1)), known = d->n;
    for (uint32_t pos = kv_len(d->kv); pos < known; pos++) compute(d, d->id[pos], pos, x);
    for (uint32_t i = 0; i < n; i++) {
        int32_t token = sim_pick(x, &j->sampling, known + i);
        uint64_t chance = mix(WRONG, known + i);
        out[i] = chance % ONE_WRONG_IN ? token : (int32_t)(mix(chance, 0) % SIM_VOCAB);
        compute(d, out[i], known + i, x);
    }
    kv_trim(d->kv, known > 0 ? known - 1 : 0);
    return n;
}

void sim_pick_and_draft(struct next_job *j)
{
    struct drafting *g = j->drafting;
    struct drafter *d = g->drafter;
    const uint8_t *x = j->x + g->n_context * SIM_ROW_BYTES;
    while (d->n < g->n_ids) add(d, g->ids[d->n]);
    assert(d->n == j->position);
    g->n_tokens = 0;
    for (uint32_t i = 0;; i++) {
        j->token = sim_pick(x + i * SIM_ROW_BYTES, &j->sampling, j->position + i);
        g->token[g->n_tokens++] = j->token;
        add(d, j->token);
        if (j->token == SIM_EOS || g->n_tokens == g->limit) break;
        if (i == g->n_drafts || j->token != g->draft[i]) break;
    }
    g->n_guessed += g->n_drafts;
    g->n_right += g->n_tokens - 1;
    uint32_t left = g->limit - g->n_tokens, most = left < g->most + 1 ? left : g->most + 1;
    g->n_drafts = most > 1 ? guess(d, j, most - 1, g->draft) : 0;
    g->n_context = 0;
    g->is_disturbed = false;
    sim_embed(j->token, j->x);
    for (uint32_t i = 0; i < g->n_drafts; i++)
        sim_embed(g->draft[i], j->x + (i + 1) * SIM_ROW_BYTES);
}
