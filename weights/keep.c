#include "weights/keep.h"

#include <assert.h>
#include <stdlib.h>

/* How far a step moves a unit's means: by the recorded routing of atlas the best of what was tried
 * (docs/memory.md). */
static const float SLOW = 1.0f / 512, FAST = 1.0f / 20;
static const float EQUAL = 1e-4f; /* worths nearer than this are one */

static const float RIGHT_FIRST = 0.7f; /* until it is known */

enum want { WANT_NOT, WANT_PERHAPS, WANT_SURE, WANTS };

struct unit {
    uint64_t bytes;
    uint64_t used_at; /* needs counted, for the order of equals */
    uint32_t layer;
    float slow, fast;
    enum keep_state state;
    enum want want; /* since keep_need, until keep_done */
    bool used;      /* by the step in progress, for sure */
    bool routed;
    bool guessed; /* it came, or comes, because of a guess */
    uint8_t rank; /* of the guess of this step, KEEP_RANKS: none */
    bool queued[WANTS];
};

/* Each unit stands in a queue at most once; what is no longer wanted is passed over. */
struct queue {
    uint32_t *unit; /* owned; [units_max], a ring */
    uint32_t first, n;
};

struct keep {
    struct unit *unit;  /* owned; [n_units], those of a layer side by side or not */
    uint32_t *of_layer; /* owned; [n_layers + 1], where a layer's units begin in by_layer */
    uint32_t *by_layer; /* owned; [n_units] */
    struct queue queue[WANTS];
    uint32_t n_units, units_max, n_layers;
    uint64_t room, bytes, needs;
    bool sorted;
    struct keep_counts counts;
    float right[KEEP_RANKS]; /* of guesses by rank: the share that came true */
};

enum err keep_open(struct keep **out, uint32_t n_layers, uint32_t units_max, uint64_t room)
{
    *out = NULL;
    if (n_layers > KEEP_UNITS_MAX || units_max > KEEP_UNITS_MAX) return ERR_RANGE;
    struct keep *k = calloc(1, sizeof *k);
    if (!k) return ERR_NOMEM;
    k->n_layers = n_layers;
    k->units_max = units_max;
    k->room = room;
    for (int i = 0; i < KEEP_RANKS; i++) k->right[i] = RIGHT_FIRST;
    k->unit = calloc((size_t)units_max + 1, sizeof *k->unit);
    k->of_layer = calloc((size_t)n_layers + 1, sizeof *k->of_layer);
    k->by_layer = calloc((size_t)units_max + 1, sizeof *k->by_layer);
    bool good = k->unit && k->of_layer && k->by_layer;
    for (int w = WANT_PERHAPS; w < WANTS; w++) {
        k->queue[w].unit = calloc((size_t)units_max + 1, sizeof(uint32_t));
        good = good && k->queue[w].unit;
    }
    if (!good) {
        keep_close(k);
        return ERR_NOMEM;
    }
    *out = k;
    return ERR_OK;
}

void keep_close(struct keep *k)
{
    if (!k) return;
    for (int w = 0; w < WANTS; w++) free(k->queue[w].unit);
    free(k->by_layer);
    free(k->of_layer);
    free(k->unit);
    free(k);
}

uint32_t keep_add(struct keep *k, uint32_t layer, uint64_t bytes, float worth, bool routed)
{
    assert(layer < k->n_layers && k->n_units < k->units_max && !k->sorted);
    k->unit[k->n_units] =
        (struct unit){ .bytes = bytes, .layer = layer, .routed = routed, .rank = KEEP_RANKS };
    keep_set_worth(k, k->n_units, worth);
    k->of_layer[layer + 1]++;
    return k->n_units++;
}

/* by_layer from the counts that keep_add left in of_layer. */
static void sort(struct keep *k)
{
    for (uint32_t l = 0; l < k->n_layers; l++) k->of_layer[l + 1] += k->of_layer[l];
    for (uint32_t u = k->n_units; u-- > 0;) k->by_layer[--k->of_layer[k->unit[u].layer + 1]] = u;
    /* now of_layer[l + 1] is where l begins */
    for (uint32_t l = 0; l < k->n_layers; l++) k->of_layer[l] = k->of_layer[l + 1];
    k->of_layer[k->n_layers] = k->n_units;
    k->sorted = true;
}

/* --- wanting --- */

static void push(struct keep *k, uint32_t unit, enum want w)
{
    struct queue *q = &k->queue[w];

    if (k->unit[unit].queued[w]) return;
    k->unit[unit].queued[w] = true;
    q->unit[(q->first + q->n++) % k->units_max] = unit;
}

static void count(struct keep_counts *c, const struct unit *u)
{
    if (!u->routed || u->want == WANT_SURE) return;
    c->needs++;
    c->hits += u->state == KEEP_IN;
    c->right += u->want == WANT_PERHAPS;
    c->early += u->state == KEEP_IN && u->guessed;
}

bool keep_need(struct keep *k, uint32_t unit)
{
    struct unit *u = &k->unit[unit];

    count(&k->counts, u);
    u->used = true;
    u->used_at = ++k->needs;
    u->want = WANT_SURE;
    if (u->state != KEEP_OUT || u->queued[WANT_SURE]) return false;
    u->guessed = false;
    push(k, unit, WANT_SURE);
    return true;
}

bool keep_guess(struct keep *k, uint32_t unit, uint32_t rank, float bar)
{
    struct unit *u = &k->unit[unit];

    if (u->want != WANT_NOT) return false;
    if (rank >= KEEP_RANKS) rank = KEEP_RANKS - 1;
    u->want = WANT_PERHAPS;
    k->counts.guesses++;
    if (u->state != KEEP_OUT) return false;
    u->rank = (uint8_t)rank; /* what is read often is guessed well, but is IN: it does not count */
    if (k->right[rank] <= bar) return false;
    u->guessed = true;
    push(k, unit, WANT_PERHAPS);
    return true;
}

static void move(float *mean, float rate, bool used)
{
    *mean += rate * ((float)used - *mean);
}

void keep_done(struct keep *k, uint32_t layer)
{
    if (layer >= k->n_layers) return;
    if (!k->sorted) sort(k);
    for (uint32_t i = k->of_layer[layer]; i < k->of_layer[layer + 1]; i++) {
        struct unit *u = &k->unit[k->by_layer[i]];
        move(&u->slow, SLOW, u->used);
        move(&u->fast, FAST, u->used);
        if (u->rank < KEEP_RANKS) move(&k->right[u->rank], SLOW, u->used);
        u->rank = KEEP_RANKS;
        u->used = u->guessed = false;
        u->want = WANT_NOT;
    }
}

/* --- coming and going --- */

static uint32_t begin(struct keep *k, uint32_t unit)
{
    k->unit[unit].state = KEEP_COMING;
    k->bytes += k->unit[unit].bytes;
    return unit;
}

static uint32_t pop(struct keep *k, enum want w)
{
    struct queue *q = &k->queue[w];

    while (q->n > 0) {
        uint32_t unit = q->unit[q->first];
        struct unit *u = &k->unit[unit];
        q->first = (q->first + 1) % k->units_max;
        q->n--;
        u->queued[w] = false;
        if (u->state == KEEP_OUT && u->want == w) return begin(k, unit);
    }
    return KEEP_NONE;
}

uint32_t keep_next(struct keep *k, bool guesses)
{
    uint32_t unit = pop(k, WANT_SURE);
    return unit == KEEP_NONE && guesses ? pop(k, WANT_PERHAPS) : unit;
}

uint32_t keep_fill(struct keep *k)
{
    uint32_t best = KEEP_NONE;

    for (uint32_t i = 0; i < k->n_units; i++)
        if (k->unit[i].state == KEEP_OUT && k->bytes + k->unit[i].bytes <= k->room &&
            (best == KEEP_NONE || keep_worth(k, i) > keep_worth(k, best)))
            best = i;
    return best == KEEP_NONE ? KEEP_NONE : begin(k, best);
}

void keep_came(struct keep *k, uint32_t unit)
{
    assert(k->unit[unit].state == KEEP_COMING);
    k->unit[unit].state = KEEP_IN;
}

void keep_found(struct keep *k, uint32_t unit)
{
    if (k->unit[unit].state == KEEP_OUT) keep_came(k, begin(k, unit));
}

void keep_lost(struct keep *k, uint32_t unit)
{
    if (k->unit[unit].state != KEEP_IN) return;
    k->unit[unit].state = KEEP_OUT;
    k->bytes -= k->unit[unit].bytes;
}

/* Had a better go than b? */
static bool goes_before(const struct keep *k, uint32_t a, uint32_t b)
{
    float wa = keep_worth(k, a), wb = keep_worth(k, b);

    if (wa < wb - EQUAL || wa > wb + EQUAL) return wa < wb;
    return k->unit[a].used_at > k->unit[b].used_at;
}

uint32_t keep_victim(struct keep *k)
{
    uint32_t best = KEEP_NONE;

    if (k->bytes <= k->room) return KEEP_NONE;
    for (uint32_t i = 0; i < k->n_units; i++)
        if (k->unit[i].state == KEEP_IN && k->unit[i].want == WANT_NOT &&
            (best == KEEP_NONE || goes_before(k, i, best)))
            best = i;
    if (best != KEEP_NONE) keep_lost(k, best);
    return best;
}

/* --- looking --- */

float keep_right(const struct keep *k, uint32_t rank)
{
    return k->right[rank < KEEP_RANKS ? rank : KEEP_RANKS - 1];
}

enum keep_state keep_state(const struct keep *k, uint32_t unit)
{
    return k->unit[unit].state;
}

bool keep_is_sure(const struct keep *k, uint32_t unit)
{
    return k->unit[unit].want == WANT_SURE;
}

bool keep_is_wanted(const struct keep *k, uint32_t unit)
{
    const struct unit *u = &k->unit[unit];
    return u->state == KEEP_COMING || (u->state == KEEP_OUT && u->queued[u->want]);
}

float keep_worth(const struct keep *k, uint32_t unit)
{
    return k->unit[unit].slow + k->unit[unit].fast;
}

void keep_set_worth(struct keep *k, uint32_t unit, float worth)
{
    k->unit[unit].slow = k->unit[unit].fast = worth / 2;
}

struct keep_counts keep_counts(const struct keep *k)
{
    return k->counts;
}

uint32_t keep_units(const struct keep *k)
{
    return k->n_units;
}

uint64_t keep_bytes(const struct keep *k)
{
    return k->bytes;
}

uint64_t keep_room(const struct keep *k)
{
    return k->room;
}
