/* The compute thread's side: what is asked of whom, and what comes back. */
#include "stage/group_impl.h"

#include "proto/messages.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum {
    USUAL_US = 500, /* an expert, before one was timed */
    ROW_PART = 16,  /* one more row of an expert costs this part of reading it, about */
    LEARN_PART = 8, /* how much of a new time counts */
    FEW_ROWS = 4,   /* steps of answers, not of prompts */
};

/* How long a hand takes for an expert, and what a round with it costs besides. */
struct pace_of {
    uint32_t gen;
    double expert_us, round_us;
};

struct asking {
    struct deal *now;                   /* counted, while an ask is under way: who is there */
    uint8_t *who;                       /* [BATCH_MAX][width_max] */
    uint32_t *number;                   /* [BATCH_MAX] of the rows' sessions */
    struct round *live[GROUP_LIVE_MAX]; /* asked for, or answered and still read */
    unsigned n_live, n_read;            /* the first n_read of them have been collected */
    bool is_gone[HANDS_MAX];            /* it failed in this call */
    struct pace_of pace[HANDS_MAX];
    struct expert_time time[HANDS_MAX]; /* for the box */
    uint64_t asked_ns;
};

static const struct deal *deal_of(const struct sharer *s)
{
    return (const struct deal *)(const void *)((const char *)s - offsetof(struct deal, sharer));
}

/* --- rounds --- */

void round_free(struct round *r)
{
    share_part_free(&r->part);
    if (r->mail) r->mail->note.drop(&r->mail->note);
    free(r->places);
    free(r->answer);
    free(r->again);
    free(r);
}

static void drop_round(struct note *n)
{
    round_free((struct round *)n);
}

void round_reply(struct group *g, struct round *r, enum err e)
{
    pthread_mutex_lock(&g->box.lock);
    bool is_waited_for = !g->box.is_closed;
    if (is_waited_for) {
        r->err = e;
        r->back_ns = uv_hrtime();
        g->box.is_back[r->slot] = true;
    }
    pthread_mutex_unlock(&g->box.lock);
    if (is_waited_for)
        compute_wake(g->compute);
    else
        round_free(r);
}

struct wanted {
    struct group *g;
    unsigned slot;
};

static bool is_over(void *arg)
{
    struct wanted *w = arg;
    pthread_mutex_lock(&w->g->box.lock);
    bool is = w->g->box.is_back[w->slot] || w->g->box.is_closed;
    pthread_mutex_unlock(&w->g->box.lock);
    return is;
}

/* ERR_CANCELLED: the node ends, and the round is the loop's. */
static enum err wait_for(struct group *g, unsigned slot)
{
    struct wanted w = { g, slot };
    if (!is_over(&w)) compute_wait(g->compute, is_over, &w);
    pthread_mutex_lock(&g->box.lock);
    bool is_back = g->box.is_back[slot];
    pthread_mutex_unlock(&g->box.lock);
    return is_back ? ERR_OK : ERR_CANCELLED;
}

/* Nothing of the call before is read any more. */
static void forget_rounds(struct group *g)
{
    struct asking *k = g->asking;
    for (unsigned i = 0; i < k->n_live; i++)
        if (!wait_for(g, i)) round_free(k->live[i]);
    k->n_live = k->n_read = 0;
    pthread_mutex_lock(&g->box.lock); /* nobody replies to those again */
    memset(g->box.is_back, 0, sizeof g->box.is_back);
    pthread_mutex_unlock(&g->box.lock);
}

static void put_be32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static enum err put_places(struct round *r, const struct share_ask *q, const uint32_t *number)
{
    uint32_t n = r->part.work.n;
    r->places = malloc((size_t)n * SHARE_PLACE_BYTES);
    if (!r->places) return ERR_NOMEM;
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *at = r->places + (size_t)i * SHARE_PLACE_BYTES;
        put_be32(at, number[r->part.at[i]]);
        put_be32(at + 4, q->row[r->part.at[i]].pos);
    }
    return ERR_OK;
}

/* Send for the pieces of who that are hand's; nothing, when there are none.  again: who, if it is
 * not the asking's; it goes with the round, or is freed. */
static enum err ask_hand(struct group *g, const struct share_ask *q, const uint8_t *who,
                         unsigned hand, uint8_t *again)
{
    struct asking *k = g->asking;
    struct round *r = k->n_live < GROUP_LIVE_MAX ? calloc(1, sizeof *r) : NULL;
    if (!r) {
        free(again);
        return ERR_NOMEM;
    }
    r->again = again;
    enum err e = share_part_make(&r->part, g->a, q, who, (uint8_t)hand);
    if (!e && q->kind == SHARE_HEADS && r->part.work.n > 0) e = put_places(r, q, k->number);
    if (e || r->part.work.n == 0) {
        round_free(r);
        return e;
    }
    r->note.drop = drop_round;
    r->group = g;
    r->hand = hand;
    r->slot = k->n_live;
    r->gen = k->now->gen[hand];
    r->who = who;
    r->size = share_answer_bytes(g->a, &r->part.work);
    r->asked_ns = uv_hrtime();
    if (actor_post(&g->actor, &r->note)) {
        round_free(r);
        return ERR_CANCELLED;
    }
    k->live[k->n_live++] = r;
    return ERR_OK;
}

/* --- whom to ask --- */

/* The rows' sessions. */
static bool find_places(struct group *g, const struct share_ask *q)
{
    struct asking *k = g->asking;
    struct box *b = &g->box;
    const struct kv *kv = NULL;
    uint32_t number = 0;
    for (uint32_t i = 0; i < q->n; i++) {
        if (q->row[i].kv != kv) {
            uint32_t at = 0;
            kv = q->row[i].kv;
            while (at < b->n_places && b->place[at].kv != kv) at++;
            if (at == b->n_places) return false;
            number = b->place[at].number;
        }
        k->number[i] = number;
    }
    return true;
}

static const struct share_set nothing;

static const struct share_set *set_of(const struct asking *k, const struct share_ask *q,
                                      unsigned hand)
{
    if (k->is_gone[hand] || (hand > 0 && !k->now->gen[hand])) return &nothing;
    const struct share *s = deal_held(k->now, hand, q->layer);
    return q->kind == SHARE_EXPERTS ? &s->experts : &s->dense;
}

/* What a hand costs; one that has come anew is taken to be as fast as it announces. */
static const struct pace_of *pace_of(struct asking *k, unsigned hand)
{
    struct pace_of *p = &k->pace[hand];
    if (p->expert_us == 0 || p->gen != k->now->gen[hand]) {
        double own_us = hand > 0 && k->pace[0].expert_us > 0 ? k->pace[0].expert_us : USUAL_US;
        *p =
            (struct pace_of){ .gen = k->now->gen[hand], .expert_us = own_us / k->now->speed[hand] };
    }
    return p;
}

static void deal_experts(struct group *g, const struct share_ask *q)
{
    struct asking *k = g->asking;
    struct share_hand hand[HANDS_MAX];
    for (unsigned h = 0; h < HANDS_MAX; h++) {
        const struct pace_of *p = pace_of(k, h);
        hand[h] = (struct share_hand){ .experts = set_of(k, q, h),
                                       .start_us = p->round_us,
                                       .expert_us = p->expert_us,
                                       .row_us = p->expert_us / ROW_PART };
    }
    hand[0].start_us =
        g->a->n_shared * (hand[0].expert_us + (q->n - 1) * hand[0].expert_us / ROW_PART);
    share_deal(q, hand, HANDS_MAX, k->who);
}

static void deal_dense(struct group *g, const struct share_ask *q)
{
    struct asking *k = g->asking;
    const struct share_set *set[HANDS_MAX];
    double speed[HANDS_MAX];
    uint8_t of[ARCH_PARTS_MAX];
    for (unsigned h = 0; h < HANDS_MAX; h++) {
        set[h] = set_of(k, q, h);
        speed[h] = 1 / pace_of(k, h)->expert_us;
    }
    deal_columns(of, q->width, q->number, set, speed, HANDS_MAX);
    for (uint32_t i = 0; i < q->n; i++) memcpy(k->who + (size_t)i * q->width, of, q->width);
}

/* Head groups are where the sessions' K and V are. */
static enum err deal_heads(const struct deal *d, const struct share_ask *q)
{
    struct asking *k = d->group->asking;
    for (uint32_t j = 0; j < q->width; j++) {
        uint8_t hand = deal_head(d, q->layer, q->number[j]);
        if (hand != SHARE_NOBODY && hand > 0 && d->gen[hand] != k->now->gen[hand])
            return ERR_CLOSED;
        for (uint32_t i = 0; i < q->n; i++) k->who[(size_t)i * q->width + j] = hand;
    }
    return ERR_OK;
}

static enum err begin(struct group *g, const struct share_ask *q)
{
    struct asking *k = g->asking;
    forget_rounds(g);
    deal_drop(k->now);
    k->now = NULL;
    memset(k->is_gone, 0, sizeof k->is_gone);
    pthread_mutex_lock(&g->box.lock);
    enum err e = g->box.is_closed ? ERR_CANCELLED : find_places(g, q) ? ERR_OK : ERR_NOTFOUND;
    if (!e) {
        k->now = g->box.now;
        deal_take(k->now);
    }
    pthread_mutex_unlock(&g->box.lock);
    return e;
}

static enum err on_ask(struct sharer *s, const struct share_ask *q, bool *away)
{
    const struct deal *d = deal_of(s);
    struct group *g = d->group;
    struct asking *k = g->asking;
    enum err e = begin(g, q);
    if (e) return e;
    if (q->kind == SHARE_HEADS)
        e = deal_heads(d, q);
    else if (q->kind == SHARE_EXPERTS)
        deal_experts(g, q);
    else
        deal_dense(g, q);
    for (unsigned h = 1; h < HANDS_MAX && !e; h++)
        if (k->now->gen[h]) e = ask_hand(g, q, k->who, h, NULL);
    if (q->kind == SHARE_EXPERTS) use_count(g, q); /* while they compute */
    for (size_t i = 0; i < (size_t)q->n * q->width; i++)
        away[i] = k->who[i] != 0 && k->who[i] != SHARE_NOBODY;
    /* Where the loop has no processor of its own it would send only when we wait for the answer. */
    if (k->n_live > 0) (void)sched_yield();
    k->asked_ns = uv_hrtime();
    return e;
}

/* --- what comes back --- */

static void learn(double *value, double sample)
{
    *value = *value == 0 ? sample : *value + (sample - *value) / LEARN_PART;
}

/* The experts and rows of a hand in who, as so many experts. */
static double experts_of(const struct share_ask *q, const uint8_t *who, unsigned hand)
{
    bool seen[ARCH_EXPERTS_MAX] = { 0 };
    double n = 0;
    for (size_t i = 0; i < (size_t)q->n * q->width; i++) {
        if (who[i] != hand) continue;
        n += seen[q->chosen[i]] ? 1.0 / ROW_PART : 1;
        seen[q->chosen[i]] = true;
    }
    return n;
}

static void learn_own(struct group *g, const struct share_ask *q)
{
    struct asking *k = g->asking;
    if (q->kind != SHARE_EXPERTS) return;
    double n = experts_of(q, k->who, 0) + g->a->n_shared * (1 + (q->n - 1.0) / ROW_PART);
    if (n == 0) return;
    double us = (double)(uv_hrtime() - k->asked_ns) / 1e3 / n + 0.01;
    learn(&k->pace[0].expert_us, us);
    if (q->n <= FEW_ROWS) learn(&k->time[0].us, us);
}

static void learn_round(struct asking *k, const struct share_ask *q, const struct round *r)
{
    struct pace_of *p = &k->pace[r->hand];
    if (q->kind != SHARE_EXPERTS) return;
    double n = experts_of(q, r->who, r->hand), all_us = (double)(r->back_ns - r->asked_ns) / 1e3;
    learn(&p->expert_us, r->us / n + 0.01);
    if (all_us > r->us) learn(&p->round_us, all_us - r->us);
    struct expert_time *t = &k->time[r->hand];
    if (t->gen != r->gen) *t = (struct expert_time){ .gen = r->gen };
    if (q->n <= FEW_ROWS) learn(&t->us, r->us / n + 0.01);
}

static void tell_times(struct group *g)
{
    pthread_mutex_lock(&g->box.lock);
    memcpy(g->box.time, g->asking->time, sizeof g->box.time);
    pthread_mutex_unlock(&g->box.lock);
}

/* Who of those that are left makes the pieces of a round that failed, where the leader cannot. */
static void deal_again(struct group *g, const struct share_ask *q, const struct round *failed,
                       uint8_t *who)
{
    struct asking *k = g->asking;
    const struct share_set *set[HANDS_MAX];
    double speed[HANDS_MAX];
    uint8_t column[ARCH_PARTS_MAX];
    for (unsigned h = 0; h < HANDS_MAX; h++) {
        set[h] = set_of(k, q, h);
        speed[h] = 1;
    }
    if (q->kind == SHARE_DENSE) deal_columns(column, q->width, q->number, set, speed, HANDS_MAX);
    for (size_t i = 0; i < (size_t)q->n * q->width; i++) {
        who[i] = SHARE_NOBODY;
        if (failed->who[i] != failed->hand) continue;
        if (q->kind == SHARE_DENSE) {
            who[i] = column[i % q->width];
            continue;
        }
        if (share_has(set[0], q->chosen[i])) continue;
        for (unsigned h = 1; h < HANDS_MAX && who[i] == SHARE_NOBODY; h++)
            if (share_has(set[h], q->chosen[i])) who[i] = (uint8_t)h;
    }
}

static enum err ask_others(struct group *g, const struct share_ask *q, const struct round *failed)
{
    size_t n = (size_t)q->n * q->width;
    enum err e = ERR_OK;
    for (unsigned h = 1; h < HANDS_MAX && !e; h++) {
        uint8_t *who = malloc(n);
        if (!who) return ERR_NOMEM;
        deal_again(g, q, failed, who);
        e = ask_hand(g, q, who, h, who);
    }
    return e;
}

static enum err take(struct group *g, const struct share_ask *q, unsigned slot,
                     struct share_answer *to)
{
    struct asking *k = g->asking;
    enum err e = wait_for(g, slot);
    if (e) return e;
    const struct round *r = k->live[slot];
    if (!r->err) {
        learn_round(k, q, r);
        share_part_place(&r->part, g->a, q, r->who, (uint8_t)r->hand,
                         r->mail ? r->mail->m.u.SHARE_DONE.x.p : r->answer, to);
        return ERR_OK;
    }
    if (q->kind == SHARE_HEADS) return ERR_CLOSED;
    k->is_gone[r->hand] = true;
    return ask_others(g, q, r);
}

static enum err on_collect(struct sharer *s, const struct share_ask *q, struct share_answer *to)
{
    struct group *g = deal_of(s)->group;
    struct asking *k = g->asking;
    enum err e = ERR_OK;
    learn_own(g, q);
    for (; k->n_read < k->n_live && !e; k->n_read++) e = take(g, q, k->n_read, to);
    if (q->kind == SHARE_EXPERTS) tell_times(g);
    return e;
}

const struct sharer group_sharer = { .ask = on_ask, .collect = on_collect };

/* --- life --- */

enum err asking_open(struct group *g)
{
    const struct arch *a = g->a;
    size_t width = a->n_kv > a->top_k ? a->n_kv : a->top_k;
    if (a->mlp_parts > width) width = a->mlp_parts;
    struct asking *k = g->asking = calloc(1, sizeof *k);
    if (!k) return ERR_NOMEM;
    k->who = malloc(BATCH_MAX * width);
    k->number = malloc(BATCH_MAX * sizeof *k->number);
    return k->who && k->number ? ERR_OK : ERR_NOMEM;
}

void asking_close(struct group *g)
{
    struct asking *k = g->asking;
    if (!k) return;
    forget_rounds(g);
    deal_drop(k->now);
    free(k->who);
    free(k->number);
    free(k);
}
