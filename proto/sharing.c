#include "proto/sharing.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NOBODY = 0xff, SLACK = 3 };

/* --- dealing --- */

struct deal {
    uint8_t *who;
    uint32_t n;
    const struct sharing_set *const *holds;
    const double *start_us, *item_us;
    unsigned n_hands;
    uint32_t count[SHARING_HANDS_MAX];
};

static bool can(const struct deal *d, unsigned hand, uint32_t item)
{
    return d->holds[hand] && sharing_has(d->holds[hand], item);
}

static double load(const struct deal *d, unsigned hand, uint32_t count)
{
    return count ? d->start_us[hand] + count * d->item_us[hand] : 0;
}

static double longest(const struct deal *d, unsigned *hand)
{
    double most = 0;

    *hand = 0;
    for (unsigned h = 0; h < d->n_hands; h++) {
        double us = load(d, h, d->count[h]);
        if (us > most) most = us, *hand = h;
    }
    return most;
}

/* An item of `from` that `to` holds too; d->n: none. */
static uint32_t movable(const struct deal *d, unsigned from, unsigned to)
{
    uint32_t i = 0;
    while (i < d->n && !(d->who[i] == from && can(d, to, i))) i++;
    return i;
}

/* Take an item off `from`, over others who each take one and give one, to somebody who is done
 * before `limit` even so.  That is an augmenting path: while there is none, no deal is better. */
static bool relieve(struct deal *d, unsigned from, double limit)
{
    unsigned queue[SHARING_HANDS_MAX], by[SHARING_HANDS_MAX], n = 0;
    bool seen[SHARING_HANDS_MAX] = { false };

    queue[n++] = from;
    seen[from] = true;
    for (unsigned at = 0; at < n; at++)
        for (unsigned to = 0; to < d->n_hands; to++) {
            if (seen[to] || movable(d, queue[at], to) == d->n) continue;
            seen[to] = true;
            by[to] = queue[at];
            if (load(d, to, d->count[to] + 1) >= limit) {
                queue[n++] = to;
                continue;
            }
            d->count[to]++;
            /* from the end: each gives before it takes */
            for (unsigned h = to; h != from; h = by[h]) d->who[movable(d, by[h], h)] = (uint8_t)h;
            d->count[from]--;
            return true;
        }
    return false;
}

double sharing_deal(uint8_t *who, uint32_t n, const struct sharing_set *const *holds,
                    const double *start_us, const double *item_us, unsigned n_hands)
{
    struct deal d = { who, n, holds, start_us, item_us, n_hands, { 0 } };
    bool all = true;
    unsigned last;

    for (uint32_t i = 0; i < n; i++) {
        double best = HUGE_VAL;
        who[i] = NOBODY;
        for (unsigned h = 0; h < n_hands; h++) {
            double us = can(&d, h, i) ? load(&d, h, d.count[h] + 1) : HUGE_VAL;
            if (us < best) best = us, who[i] = (uint8_t)h;
        }
        if (who[i] == NOBODY)
            all = false;
        else
            d.count[who[i]]++;
    }
    double us = longest(&d, &last);
    while (all && relieve(&d, last, us)) us = longest(&d, &last);
    return all ? us : HUGE_VAL;
}

/* --- what a token chooses --- */

static uint64_t next(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* top_k different items, ascending, by their use. */
static void draw(const struct sharing_layer *l, const float *use, uint64_t *state, uint32_t *item)
{
    struct sharing_set chosen = { { 0 } };
    uint32_t n = 0;

    for (uint32_t k = 0; k < l->top_k; k++) {
        double sum = 0, at;
        uint32_t last = 0;
        for (uint32_t i = 0; i < l->items; i++)
            if (!sharing_has(&chosen, i)) sum += use ? use[i] + 1e-6 : 1;
        at = (double)(next(state) >> 11) * 0x1p-53 * sum;
        for (uint32_t i = 0; i < l->items && at >= 0; i++) {
            if (sharing_has(&chosen, i)) continue;
            at -= use ? use[i] + 1e-6 : 1;
            last = i;
        }
        sharing_add(&chosen, last, last + 1);
    }
    for (uint32_t i = 0; i < l->items; i++)
        if (sharing_has(&chosen, i)) item[n++] = i;
}

/* --- a layer --- */

struct round {
    double start_us[SHARING_HANDS_MAX], item_us[SHARING_HANDS_MAX];
};

static void price(struct round *r, const struct sharing_layer *l, const struct sharing_hand *hand,
                  unsigned n, bool of_heads)
{
    for (unsigned h = 0; h < n; h++) {
        double kbit = hand[h].kbit > 0 ? hand[h].kbit : SHARING_KBIT_USUAL;
        double byte_us = h ? 8000 / kbit : 0;
        r->start_us[h] = h ? hand[h].rtt_us + l->round_us + l->ask_bytes * byte_us : 0;
        r->item_us[h] = (of_heads ? hand[h].head_us : hand[h].item_us) + l->piece_bytes * byte_us;
    }
    if (!of_heads) r->start_us[0] = l->shared_us;
}

/* The time of the last of n items that are dealt already. */
static double dealt_us(const uint8_t *who, uint32_t n, const struct round *r, unsigned n_hands)
{
    double us[SHARING_HANDS_MAX] = { 0 }, most = 0;

    for (uint32_t i = 0; i < n; i++) {
        if (who[i] >= n_hands) return HUGE_VAL;
        us[who[i]] += r->item_us[who[i]] + (us[who[i]] == 0 ? r->start_us[who[i]] : 0);
    }
    for (unsigned h = 0; h < n_hands; h++)
        if (us[h] > most) most = us[h];
    return most;
}

static double fixed_us(const uint8_t *who, uint32_t n, const struct round *r, unsigned n_hands,
                       double *of)
{
    for (uint32_t i = 0; of && i < n; i++)
        if (who[i] < n_hands) of[who[i]]++;
    return dealt_us(who, n, r, n_hands);
}

static double heads_us(const struct sharing_layer *l, const struct sharing_hand *hand, unsigned n,
                       double *of)
{
    const struct sharing_set *holds[SHARING_HANDS_MAX];
    uint8_t who[PART_ITEMS_MAX];
    struct round r;

    for (unsigned h = 0; h < n; h++) holds[h] = hand[h].heads;
    price(&r, l, hand, n, true);
    if (l->head_of && n > 1) return fixed_us(l->head_of, l->heads, &r, n, of);
    double us = sharing_deal(who, l->heads, holds, r.start_us, r.item_us, n);
    for (uint32_t i = 0; of && i < l->heads; i++)
        if (who[i] != NOBODY) of[who[i]]++;
    return us;
}

/* One draw: the chosen items, renumbered. */
static double chosen_us(const struct sharing_layer *l, const struct sharing_hand *hand, unsigned n,
                        const struct round *r, const float *use, uint64_t *state, double *of)
{
    struct sharing_set mine[SHARING_HANDS_MAX] = { { { 0 } } };
    const struct sharing_set *holds[SHARING_HANDS_MAX];
    uint32_t item[PART_ITEMS_MAX];
    uint8_t who[PART_ITEMS_MAX];

    draw(l, use, state, item);
    for (unsigned h = 0; h < n; h++) {
        holds[h] = &mine[h];
        for (uint32_t i = 0; i < l->top_k; i++)
            if (hand[h].items && sharing_has(hand[h].items, item[i]))
                sharing_add(&mine[h], i, i + 1);
    }
    double us = sharing_deal(who, l->top_k, holds, r->start_us, r->item_us, n);
    for (uint32_t i = 0; i < l->top_k; i++)
        if (who[i] != NOBODY) of[who[i]]++;
    return us > l->shared_us ? us : l->shared_us;
}

static double items_us(const struct sharing_layer *l, const struct sharing_hand *hand, unsigned n,
                       double *of)
{
    uint32_t draws = l->draws ? l->draws : SHARING_DRAWS;
    double sum = 0, of_all[SHARING_HANDS_MAX] = { 0 };
    uint64_t state = 1;
    struct round r;

    price(&r, l, hand, n, false);
    if (l->item_of && n > 1) return fixed_us(l->item_of, l->items, &r, n, of);
    for (unsigned i = 0; i < draws; i++) {
        const float *use = l->use ? l->use + (size_t)(i % l->n_use) * l->items : NULL;
        sum += chosen_us(l, hand, n, &r, use, &state, of_all);
    }
    for (unsigned h = 0; h < n; h++) of[h] += of_all[h] / draws;
    return sum / draws;
}

/* By the leader alone: whatever a token chooses takes it as long. */
static double items_alone_us(const struct sharing_layer *l, const struct sharing_hand *leader)
{
    for (uint32_t i = 0; i < l->items; i++)
        if (!leader->items || !sharing_has(leader->items, i)) return HUGE_VAL;
    return l->shared_us + l->top_k * leader->item_us;
}

void sharing_add_layer(struct sharing *s, const struct sharing_layer *l,
                       const struct sharing_hand *hands, unsigned n)
{
    double heads = heads_us(l, hands, 1, NULL), items = items_us(l, hands, n, s->of);

    s->n_layers++;
    s->us[SHARING_ALONE] += l->trunk_us + heads + items_alone_us(l, hands);
    s->us[SHARING_EXPERTS] += l->trunk_us + heads + items;
    s->us[SHARING_ALL] += l->trunk_us + heads_us(l, hands, n, s->of) + items;
}

enum sharing_way sharing_choose(const struct sharing *s, enum sharing_way now)
{
    enum sharing_way best = SHARING_ALONE;

    for (enum sharing_way w = SHARING_EXPERTS; w < SHARING_WAYS; w++)
        if (s->us[w] < s->us[best] * (100 - SHARING_GAIN_PERCENT) / 100) best = w;
    bool goes_on = best == SHARING_ALONE && s->us[now] < s->us[SHARING_ALONE];
    return goes_on ? now : best;
}

/* --- words --- */

static const char *const how_words[] = { "off", "auto", "on" };

bool sharing_how_parse(enum sharing_how *out, const char *text)
{
    for (unsigned i = 0; i < sizeof how_words / sizeof *how_words; i++)
        if (strcmp(text, how_words[i]) == 0) {
            *out = (enum sharing_how)i;
            return true;
        }
    return false;
}

const char *sharing_how_text(enum sharing_how how)
{
    return how_words[how];
}

bool sharing_is_near(uint32_t rtt_us, uint32_t limit_us, uint32_t kbit, bool is_in,
                     char why[SHARING_TEXT])
{
    uint32_t slack = is_in ? SLACK : 1;

    if (!limit_us) limit_us = SHARING_RTT_US;
    why[0] = 0;
    if (rtt_us > (uint64_t)slack * limit_us)
        snprintf(why, SHARING_TEXT,
                 "is %.1f ms away, and over %u ms each layer waits longer than sharing saves",
                 rtt_us / 1e3, limit_us / 1000);
    else if (kbit && kbit < SHARING_KBIT_MIN / slack)
        snprintf(why, SHARING_TEXT, "has a line of %u Mbit/s, and layers need %d to be shared",
                 kbit / 1000, SHARING_KBIT_MIN / 1000);
    return !why[0];
}

void sharing_text(char out[SHARING_TEXT], const struct sharing *s)
{
    static const char *const how[SHARING_WAYS] = { "alone", "with experts shared",
                                                   "with all shared" };
    uint32_t n = s->n_layers ? s->n_layers : 1;
    size_t at = (size_t)snprintf(out, SHARING_TEXT, "a layer takes");
    bool any = false;

    for (enum sharing_way w = SHARING_ALONE; w < SHARING_WAYS && at < SHARING_TEXT; w++) {
        if (s->us[w] == HUGE_VAL) continue;
        at += (size_t)snprintf(out + at, SHARING_TEXT - at, "%s %.2f ms %s", any ? "," : "",
                               s->us[w] / n / 1e3, how[w]);
        any = true;
    }
    if (!any) snprintf(out, SHARING_TEXT, "some parts of its layers are held by nobody");
}
