#include "proto/fair.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* --- shares --- */

uint64_t fair_who(const uint8_t id[8])
{
    uint64_t who;
    memcpy(&who, id, sizeof who);
    return who;
}

static struct fair_share *find(const struct fair_shares *s, uint64_t who)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (s->share[i].who == who) return (struct fair_share *)(uintptr_t)&s->share[i];
    return NULL;
}

uint64_t fair_clock(const struct fair_shares *s, uint64_t who)
{
    const struct fair_share *share = find(s, who);
    return share && share->clock > s->now ? share->clock : s->now;
}

/* Clocks that are not later than now say nothing. */
static void forget_old(struct fair_shares *s)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n; i++)
        if (s->share[i].clock > s->now) s->share[n++] = s->share[i];
    s->n = n;
}

static struct fair_share *make(struct fair_shares *s, uint64_t who)
{
    if (s->n == FAIR_SHARES) forget_old(s);
    uint32_t at = s->n;
    if (s->n == FAIR_SHARES)
        for (uint32_t i = at = 0; i < s->n; i++)
            if (s->share[i].clock < s->share[at].clock) at = i;
    if (at == s->n) s->n++;
    s->share[at] = (struct fair_share){ who, s->now };
    return &s->share[at];
}

static void set_clock(struct fair_shares *s, uint64_t who, uint64_t clock)
{
    struct fair_share *share = find(s, who);
    if (!share) share = make(s, who);
    share->clock = clock;
}

void fair_serve(struct fair_shares *s, uint64_t who, uint64_t work)
{
    uint64_t start = fair_clock(s, who);
    s->now = start;
    set_clock(s, who, start + work);
}

void fair_correct(struct fair_shares *s, uint64_t who, int64_t work)
{
    uint64_t clock = fair_clock(s, who), back = work < 0 ? (uint64_t)-work : 0;
    if (back > clock - s->now) back = clock - s->now;
    set_clock(s, who, work < 0 ? clock - back : clock + (uint64_t)work);
}

/* --- a queue --- */

static void insert(struct fair_queue *q, struct fair_place *p)
{
    struct fair_place **at = &q->first;
    while (*at && (*at)->order < p->order) at = &(*at)->next;
    p->next = *at;
    *at = p;
    q->n++;
}

void fair_join(struct fair_queue *q, struct fair_place *p, uint64_t now_ms)
{
    assert(q->n < FAIR_PLACES);
    p->since_ms = now_ms;
    p->order = q->joined++;
    p->place = 0;
    insert(q, p);
}

void fair_leave(struct fair_queue *q, struct fair_place *p)
{
    struct fair_place **at = &q->first;
    while (*at != p) at = &(*at)->next;
    *at = p->next;
    q->n--;
}

/* --- users of one who: the same with a clock of their own for `now` --- */

static uint64_t clock_of(const struct fair_shares *s, uint64_t key)
{
    const struct fair_share *share = find(s, key);
    return share ? share->clock : 0;
}

static uint64_t now_key(const struct fair_place *p)
{
    return p->who * UINT64_C(0x9e3779b97f4a7c15) + 1;
}

static uint64_t user_key(const struct fair_place *p)
{
    return now_key(p) ^ (p->user * UINT64_C(0xbf58476d1ce4e5b9) + 2);
}

static uint64_t user_clock(const struct fair_queue *q, const struct fair_place *p)
{
    uint64_t now = clock_of(&q->users, now_key(p)), own = clock_of(&q->users, user_key(p));
    return own > now ? own : now;
}

static void user_serve(struct fair_queue *q, const struct fair_place *p)
{
    uint64_t start = user_clock(q, p);
    set_clock(&q->users, now_key(p), start);
    set_clock(&q->users, user_key(p), start + p->work);
}

static void user_correct(struct fair_queue *q, const struct fair_place *p, int64_t work)
{
    uint64_t clock = user_clock(q, p), now = clock_of(&q->users, now_key(p));
    uint64_t back = work < 0 ? (uint64_t)-work : 0;
    if (back > clock - now) back = clock - now;
    set_clock(&q->users, user_key(p), work < 0 ? clock - back : clock + (uint64_t)work);
}

static uint64_t rank_of(const struct fair_place *p, uint64_t now_ms)
{
    uint64_t better = (now_ms - p->since_ms) / FAIR_RANK_MS;
    return p->rank > better ? p->rank - better : 0;
}

struct fair_place *fair_next(const struct fair_queue *q, uint64_t now_ms)
{
    struct fair_place *best = NULL;
    uint64_t best_rank = 0, best_clock = 0, best_user = 0;
    for (struct fair_place *p = q->first; p; p = p->next) {
        uint64_t rank = rank_of(p, now_ms), clock = fair_clock(&q->shares, p->who);
        uint64_t user = user_clock(q, p);
        bool is_better = !best || rank < best_rank || (rank == best_rank && clock < best_clock);
        if (best && rank == best_rank && p->who == best->who) is_better = user < best_user;
        if (!is_better) continue;
        best = p;
        best_rank = rank;
        best_clock = clock;
        best_user = user;
    }
    return best;
}

void fair_take(struct fair_queue *q, struct fair_place *p)
{
    fair_leave(q, p);
    fair_serve(&q->shares, p->who, p->work);
    user_serve(q, p);
}

void fair_return(struct fair_queue *q, struct fair_place *p)
{
    fair_settle(q, p, -(int64_t)p->work);
    insert(q, p);
}

void fair_settle(struct fair_queue *q, const struct fair_place *p, int64_t work)
{
    fair_correct(&q->shares, p->who, work);
    user_correct(q, p, work);
}

static int compare(const void *a, const void *b)
{
    const struct fair_place *x = *(struct fair_place *const *)a;
    const struct fair_place *y = *(struct fair_place *const *)b;
    if (x->tag != y->tag) return x->tag < y->tag ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

/* Of the same who and rank, does o go before p? */
static bool is_before(const struct fair_place *o, const struct fair_place *p)
{
    return o->user_tag != p->user_tag ? o->user_tag < p->user_tag : o->order < p->order;
}

/* A user's clock when the place's turn comes, after what of his was there before. */
static uint64_t user_tag_of(const struct fair_queue *q, const struct fair_place *p)
{
    uint64_t clock = user_clock(q, p);
    for (const struct fair_place *o = q->first; o != p; o = o->next)
        if (o->who == p->who && o->user == p->user) clock += o->work;
    return clock;
}

/* His clock when p's turn comes, after what of his goes before; nobody's is earlier than now then.
 */
static uint64_t tag_of(const struct fair_queue *q, const struct fair_place *p, uint64_t rank,
                       uint64_t now, uint64_t now_ms)
{
    uint64_t clock = fair_clock(&q->shares, p->who), same = 0;
    for (const struct fair_place *o = q->first; o; o = o->next) {
        if (o->who != p->who) continue;
        uint64_t other = rank_of(o, now_ms);
        if (other < rank && o->tag + o->work > clock) clock = o->tag + o->work;
        if (other == rank && o != p && is_before(o, p)) same += o->work;
    }
    return (clock > now ? clock : now) + same;
}

/* The lowest rank from `least` on that somebody has; UINT64_MAX: nobody. */
static uint64_t next_rank(const struct fair_queue *q, uint64_t least, uint64_t now_ms)
{
    uint64_t best = UINT64_MAX;
    for (const struct fair_place *p = q->first; p; p = p->next) {
        uint64_t rank = rank_of(p, now_ms);
        if (rank >= least && rank < best) best = rank;
    }
    return best;
}

void fair_order(struct fair_queue *q, uint64_t now_ms)
{
    struct fair_place *seat[FAIR_PLACES];
    uint32_t place = 0;
    uint64_t now = q->shares.now, rank = 0;
    for (struct fair_place *p = q->first; p; p = p->next) p->user_tag = user_tag_of(q, p);
    while ((rank = next_rank(q, rank, now_ms)) != UINT64_MAX) {
        uint32_t n = 0;
        for (struct fair_place *p = q->first; p; p = p->next) {
            if (rank_of(p, now_ms) != rank) continue;
            p->tag = tag_of(q, p, rank, now, now_ms);
            seat[n++] = p;
        }
        qsort(seat, n, sizeof(struct fair_place *), compare);
        for (uint32_t i = 0; i < n; i++) seat[i]->place = ++place;
        now = seat[n - 1]->tag;
        rank++;
    }
}
