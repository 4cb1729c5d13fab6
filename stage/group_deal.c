/* Who computes which head groups: decided when members come and go. */
#include "stage/group_impl.h"

#include <stdlib.h>
#include <string.h>

/* --- columns side by side --- */

struct split {
    uint8_t *who;
    uint32_t width;
    const uint32_t *number;
    const struct share_set *const *set;
    double quota[HANDS_MAX]; /* columns that are its share */
    unsigned n_hands;
};

static bool can(const struct split *s, unsigned hand, uint32_t column)
{
    return s->set[hand] && share_has(s->set[hand], s->number ? s->number[column] : column);
}

/* How many columns from here on it can take one after the other. */
static uint32_t run_of(const struct split *s, unsigned hand, uint32_t column)
{
    uint32_t n = 0;
    while (column + n < s->width && can(s, hand, column + n)) n++;
    return n;
}

/* The hand that goes on at this column: of those that have not been used the one whose run ends
 * first, so that whoever can also do later columns is left for them; the leader after the others.
 * By quota, those whose share is less than half a column take none. */
static uint8_t choose(const struct split *s, const bool *is_used, uint32_t column, bool by_quota)
{
    uint8_t best = SHARE_NOBODY;
    uint32_t best_run = UINT32_MAX;
    for (unsigned i = 1; i <= s->n_hands; i++) {
        unsigned hand = i % s->n_hands;
        bool may = !is_used[hand] && (!by_quota || s->quota[hand] >= 0.5);
        uint32_t run = may ? run_of(s, hand, column) : 0;
        if (run > 0 && run < best_run) {
            best = (uint8_t)hand;
            best_run = run;
        }
    }
    return best;
}

/* Returns how many columns nobody takes. */
static uint32_t walk(const struct split *s, bool by_quota)
{
    bool is_used[HANDS_MAX] = { 0 };
    uint8_t now = SHARE_NOBODY;
    double taken = 0; /* by all so far, and what they were to take */
    double due = 0;
    uint32_t n_nobody = 0;
    for (uint32_t c = 0; c < s->width; c++) {
        bool goes_on = now != SHARE_NOBODY && can(s, now, c);
        uint8_t next =
            goes_on && !(by_quota && taken + 0.5 > due) ? now : choose(s, is_used, c, by_quota);
        if (next == SHARE_NOBODY && goes_on) next = now;
        if (next != now && next != SHARE_NOBODY) {
            is_used[next] = true;
            due += s->quota[next];
        }
        now = next;
        s->who[c] = now;
        taken++;
        n_nobody += now == SHARE_NOBODY;
    }
    return n_nobody;
}

void deal_columns(uint8_t *who, uint32_t width, const uint32_t *number,
                  const struct share_set *const *set, const double *speed, unsigned n_hands)
{
    struct split s = { who, width, number, set, { 0 }, n_hands };
    double sum = 0;
    bool has_any[HANDS_MAX] = { 0 };
    for (unsigned h = 0; h < n_hands; h++) {
        for (uint32_t c = 0; c < width && !has_any[h]; c++) has_any[h] = can(&s, h, c);
        if (has_any[h]) sum += speed[h];
    }
    for (unsigned h = 0; h < n_hands; h++) s.quota[h] = has_any[h] ? width * speed[h] / sum : 0;
    if (walk(&s, true) > 0) (void)walk(&s, false);
}

/* --- a deal --- */

double deal_speed(uint32_t us, uint32_t own_us)
{
    return us && own_us ? (double)own_us / us : 1;
}

static void deal_heads(struct deal *d)
{
    for (uint32_t l = d->lo; l < d->lo + d->n_layers; l++) {
        const struct share_set *set[HANDS_MAX];
        for (unsigned h = 0; h < HANDS_MAX; h++)
            set[h] = h == 0 || d->takes[h] ? &deal_held(d, h, l)->heads : NULL;
        deal_columns(d->head + (size_t)(l - d->lo) * d->n_kv, d->n_kv, NULL, set, d->speed,
                     HANDS_MAX);
    }
}

enum err deal_make(struct deal **out, struct group *g)
{
    size_t n = g->n_layers;
    struct deal *d = calloc(1, sizeof *d);
    if (d) d->held = calloc(HANDS_MAX * n + 1, sizeof *d->held);
    if (d) d->head = calloc(n + 1, g->a->n_kv);
    if (!d || !d->held || !d->head) {
        if (d) free(d->held);
        free(d);
        return ERR_NOMEM;
    }
    d->refs = 1;
    d->sharer = group_sharer;
    d->group = g;
    d->lo = g->lo;
    d->n_layers = g->n_layers;
    d->n_kv = g->a->n_kv;
    d->speed[0] = 1;
    memcpy(d->held, g->own, n * sizeof *d->held);
    for (unsigned i = 0; i < GROUP_MEMBERS_MAX; i++) {
        const struct mate *m = &g->mate[i];
        if (m->state != MATE_IN) continue;
        d->gen[1 + i] = m->gen;
        d->has_members = true;
        d->takes[1 + i] = !m->no_heads;
        d->speed[1 + i] = deal_speed(m->layer_us, g->own_us);
        memcpy(d->held + (1 + i) * n, m->held, n * sizeof *d->held);
    }
    deal_heads(d);
    *out = d;
    return ERR_OK;
}

void deal_take(struct deal *d)
{
    __atomic_add_fetch(&d->refs, 1, __ATOMIC_RELAXED);
}

void deal_drop(struct deal *d)
{
    if (!d || __atomic_sub_fetch(&d->refs, 1, __ATOMIC_ACQ_REL) > 0) return;
    free(d->held);
    free(d->head);
    free(d);
}
