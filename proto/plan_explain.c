#include "proto/plan_explain.h"

#include "proto/plan_impl.h"

#include <stdlib.h>

/* A whole relaxed solution: to[l][j] the cheapest way to have [0, l] done by a pipeline whose node
 * of layer l is j (search.key), and from[l][j] that of what follows, the way home included. */
struct ways {
    const struct search *s;
    double *from; /* [n_layers][n] owned */
};

static const double *to_row(const struct ways *w, uint32_t layer)
{
    return w->s->key + (size_t)layer * w->s->n;
}

static double *from_row(const struct ways *w, uint32_t layer)
{
    return w->from + (size_t)layer * w->s->n;
}

/* Of all who may compute the layer after, the cheapest with everything that follows. */
static double best_after(const struct ways *w, uint32_t layer, const double *hop)
{
    const struct search *s = w->s;
    const double *from = from_row(w, layer + 1);
    double best = PLAN_NEVER;
    for (uint32_t i = 0; i < s->n; i++) {
        if (!plan_bit(s->c[i].held, layer + 1)) continue;
        double by = hop[i] + plan_key(s->c[i].layer_us) + from[i];
        if (by < best) best = by;
    }
    return best;
}

static void fill_from(struct ways *w)
{
    const struct search *s = w->s;
    for (uint32_t l = s->n_layers; l-- > 0;)
        for (uint32_t j = 0; j < s->n; j++)
            from_row(w, l)[j] =
                l + 1 == s->n_layers ? s->leave[j] : best_after(w, l, s->hop + (size_t)j * s->n);
}

/* The cheapest pipeline that uses candidate j. */
static double through(const struct ways *w, uint32_t j)
{
    double best = PLAN_NEVER;
    for (uint32_t l = 0; l < w->s->n_layers; l++) {
        double us = to_row(w, l)[j] + from_row(w, l)[j];
        if (us < best) best = us;
    }
    return best;
}

static uint32_t us_of(double key, uint32_t head_us)
{
    if (key == PLAN_NEVER) return UINT32_MAX;
    uint64_t us = plan_us(key) + head_us;
    return us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
}

/* --- who was left out --- */

static bool is_stage(const struct plan *p, const struct node_id *id)
{
    for (uint32_t i = 0; i < p->n; i++)
        if (node_id_equal(&p->stage[i].id, id)) return true;
    return false;
}

/* The stage that id is a spare of; p->n: of none. */
static uint32_t spare_of(const struct plan *p, const struct node_id *id)
{
    for (uint32_t i = 0; i < p->n; i++)
        for (uint32_t k = 0; k < p->stage[i].n_spares; k++)
            if (node_id_equal(&p->spare[p->stage[i].spare + k].id, id)) return i;
    return p->n;
}

static enum plan_left_why unusable(const struct plan_query *q, uint32_t i)
{
    const struct entry *e = directory_nth(q->d, i);
    const struct record_body *b = &e->body;
    if (q->measured[i].banned) return LEFT_BANNED;
    bool is_model = b->model.n == ID_BYTES && memcmp(b->model.p, q->model, ID_BYTES) == 0;
    if (is_model && b->layers.n == 0 && b->parts.n && b->state == RECORD_ACTIVE) return LEFT_PARTS;
    if (b->layers.n == 0 || !is_model) return LEFT_EMPTY;
    if (b->state == RECORD_JOINING) return LEFT_JOINING;
    if (b->state == RECORD_DRAINING) return LEFT_DRAINING;
    for (uint32_t k = 0; k < q->n_avoid; k++)
        if (node_id_equal(&q->avoid[k], &e->id)) return LEFT_REFUSED;
    if (q->measured[i].lost) return LEFT_LOST;
    return plan_has_room(b, q->max_tokens) ? LEFT_SLOWER : LEFT_NO_ROOM;
}

static struct plan_left left_of(const struct plan_explanation *x, const struct plan_query *q,
                                const struct ways *w, uint32_t i)
{
    struct plan_left l = { .id = directory_nth(q->d, i)->id, .why = unusable(q, i) };
    uint32_t stage = spare_of(&x->plan, &l.id);
    if (l.why != LEFT_SLOWER) return l;
    l.token_us = UINT32_MAX;
    for (uint32_t j = 0; j < w->s->n; j++)
        if (node_id_equal(&w->s->c[j].id, &l.id)) l.token_us = us_of(through(w, j), w->s->head_us);
    if (stage == x->plan.n) return l;
    l.why = LEFT_SPARE;
    l.token_us = x->plan.stage[stage].spare_token_us;
    return l;
}

static int by_telling(const void *a, const void *b)
{
    const struct plan_left *x = a, *y = b;
    if (x->why != y->why) return x->why < y->why ? -1 : 1;
    if (x->token_us != y->token_us) return x->token_us < y->token_us ? -1 : 1;
    return memcmp(x->id.b, y->id.b, ID_BYTES);
}

static enum err list_left(struct plan_explanation *x, const struct plan_query *q,
                          const struct ways *w)
{
    uint32_t n = 0, all = directory_n(q->d);
    struct plan_left *left = calloc(all ? all : 1, sizeof *left);
    if (!left) return ERR_NOMEM;
    for (uint32_t i = 0; i < all; i++) {
        const struct entry *e = directory_nth(q->d, i);
        if (e->body.state == RECORD_GONE || is_stage(&x->plan, &e->id)) continue;
        left[n++] = left_of(x, q, w, i);
    }
    qsort(left, n, sizeof *left, by_telling);
    x->n_left = n < PLAN_LEFT_MAX ? n : PLAN_LEFT_MAX;
    x->n_left_more = n - x->n_left;
    memcpy(x->left, left, x->n_left * sizeof *left);
    free(left);
    return ERR_OK;
}

/* --- layers that few hold --- */

static uint32_t count_holders(const struct search *s, uint32_t layer)
{
    uint32_t n = 0;
    for (uint32_t j = 0; j < s->n; j++) n += plan_bit(s->c[j].held, layer);
    return n;
}

static uint32_t list_layers(const struct search *s, uint32_t held_by,
                            struct plan_range out[PLAN_SINGLES_MAX])
{
    uint32_t n = 0;
    for (uint32_t lo = 0, hi; lo < s->n_layers; lo = hi) {
        uint32_t held = count_holders(s, lo);
        for (hi = lo + 1; hi < s->n_layers && count_holders(s, hi) == held;) hi++;
        if (held == held_by && n < PLAN_SINGLES_MAX) out[n++] = (struct plan_range){ lo, hi };
    }
    return n;
}

/* --- one more PC --- */

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint32_t median(uint32_t *v, uint32_t n)
{
    qsort(v, n, sizeof *v, by_value);
    return v[(n - 1) / 2];
}

static bool find_median(struct plan_explanation *x, const struct search *s)
{
    uint32_t us[PLAN_NODES_MAX], rtt[PLAN_NODES_MAX], layers[PLAN_NODES_MAX], far = 0;
    if (s->n == 0) return false;
    for (uint32_t j = 0; j < s->n; j++) {
        us[j] = s->c[j].layer_us;
        layers[j] = 0;
        for (uint32_t l = 0; l < s->n_layers; l++) layers[j] += plan_bit(s->c[j].held, l);
        if (s->c[j].rtt_us > 0) rtt[far++] = s->c[j].rtt_us;
    }
    x->more.layer_us = median(us, s->n);
    x->more.n_layers = median(layers, s->n);
    x->more.rtt_us = far > 0 ? median(rtt, far) : PLAN_RTT_UNKNOWN_US;
    return true;
}

/* Its hops with all others. */
static void hops_of(const struct search *s, const struct candidate *c, double *hop)
{
    for (uint32_t j = 0; j < s->n; j++) {
        uint32_t us = c->rtt_us > s->c[j].rtt_us ? c->rtt_us : s->c[j].rtt_us;
        hop[j] = plan_key((uint64_t)us / 2 + s->hop_us) + 1;
    }
}

/* The stage [lo, hi) that it would best serve, hi - lo <= n_layers; false: no pipeline has it. */
static bool best_stage(const struct ways *w, const struct candidate *c, uint32_t n_layers,
                       uint32_t *lo, uint32_t *hi)
{
    const struct search *s = w->s;
    double hop[PLAN_NODES_MAX], before[LAYER_MAX], after[LAYER_MAX], best = PLAN_NEVER;
    double out = plan_key(plan_out_us(s, c)), home = plan_key(plan_home_us(s, c)),
           own = plan_key(c->layer_us);
    hops_of(s, c, hop);
    for (uint32_t l = 0; l < s->n_layers; l++) {
        before[l] = l == 0 ? out : PLAN_NEVER;
        for (uint32_t i = 0; l > 0 && i < s->n; i++)
            if (to_row(w, l - 1)[i] + hop[i] < before[l]) before[l] = to_row(w, l - 1)[i] + hop[i];
        after[l] = l + 1 == s->n_layers ? home : best_after(w, l, hop);
    }
    for (uint32_t x = 0; x < s->n_layers; x++)
        for (uint32_t y = x; y < s->n_layers && y < x + n_layers; y++) {
            double us = before[x] + (y - x + 1) * own + after[y];
            if (us >= best) continue;
            best = us;
            *lo = x;
            *hi = y + 1;
        }
    return best < PLAN_NEVER;
}

/* The first stage without a spare, as far as the PC's memory goes: where it would be one. */
static bool lonely_stage(const struct plan *p, uint32_t n_layers, uint32_t *lo, uint32_t *hi)
{
    for (uint32_t i = 0; i < p->n; i++) {
        if (p->stage[i].n_spares > 0) continue;
        *lo = p->stage[i].lo;
        *hi = p->stage[i].hi - *lo < n_layers ? p->stage[i].hi : *lo + n_layers;
        return true;
    }
    return false;
}

/* All the layers that its memory takes, around [lo, hi). */
static void widen(uint32_t all, uint32_t n_layers, uint32_t *lo, uint32_t *hi)
{
    while (*hi - *lo < n_layers && *hi - *lo < all) {
        if (*hi < all) ++*hi;
        if (*hi - *lo<n_layers && * lo> 0) --*lo;
    }
}

static enum err one_more(struct plan_explanation *x, const struct plan_query *q,
                         const struct ways *w)
{
    struct search with;
    struct candidate c = { .is_connected = true };
    if (!find_median(x, w->s)) return ERR_OK;
    memset(c.id.b, 0xff, ID_BYTES);
    c.rtt_us = x->more.rtt_us;
    c.layer_us = x->more.layer_us;

    uint32_t lo = 0, hi = 0;
    if (best_stage(w, &c, x->more.n_layers, &lo, &hi)) {
        widen(w->s->n_layers, x->more.n_layers, &lo, &hi);
        for (uint32_t l = lo; l < hi; l++) c.held[l / 64] |= (uint64_t)1 << l % 64;
        enum err e = plan_open(&with, q, &c, NULL);
        if (e) return e;
        plan_find_best(&with, 0, with.n_layers, PLAN_WORK);
        if (with.best_key < PLAN_NEVER) x->more.token_us = us_of(with.best_key, with.head_us);
        plan_close(&with);
    }
    /* A hundredth is nothing that anybody would buy a PC for. */
    bool is_faster =
        x->more.token_us && (x->plan.n == 0 || x->more.token_us < x->plan.token_us / 100 * 99);
    if (!is_faster && lonely_stage(&x->plan, x->more.n_layers, &lo, &hi))
        x->more.token_us = x->plan.token_us;
    else if (!is_faster)
        x->more.token_us = 0;
    x->more.lo = lo;
    x->more.hi = hi;
    return ERR_OK;
}

/* --- all together --- */

static enum err explain(struct plan_explanation *x, const struct plan_query *q, struct search *s)
{
    struct ways w = { .s = s };
    size_t cells = (size_t)s->n_layers * (s->n ? s->n : 1);
    w.from = malloc(cells * sizeof *w.from);
    if (!w.from) return ERR_NOMEM;

    plan_relax_all(s);
    fill_from(&w);
    x->n_single = list_layers(s, 1, x->single);
    x->n_gap = list_layers(s, 0, x->gap);
    enum err e = list_left(x, q, &w);
    if (!e) e = one_more(x, q, &w);
    free(w.from);
    return e;
}

enum err plan_explain(struct plan_explanation *x, const struct plan_query *q, struct why *why)
{
    struct search s;
    memset(x, 0, sizeof *x);
    enum err planned = plan_make(&x->plan, q, why);
    if (planned && planned != ERR_NOTFOUND) return planned;
    enum err e = planned ? ERR_OK : plan_add_spares(&x->plan, q);
    if (!e) e = plan_open(&s, q, NULL, why);
    if (e) return e;
    e = explain(x, q, &s);
    plan_close(&s);
    if (e) return fail(why, e, "%s", err_text(e));
    return planned;
}
