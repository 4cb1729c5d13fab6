/* Sessions whose layers are shared: opened with all members that compute head groups of them. */
#include "stage/group_impl.h"

#include <stdlib.h>

enum { RANGES = LIST_MAX / 4 };

/* Once that it may begin, and once that it can not go on. */
static void tell(struct group_session *x, enum err e, unsigned code, const char *text)
{
    if (x->is_lost || (!e && x->is_open)) return;
    x->is_open = !e;
    x->is_lost = e != ERR_OK;
    x->on(x->arg, e, code, text);
}

/* Does hand i compute head groups of layers [lo, hi)? */
static bool has_heads(const struct deal *d, unsigned hand, uint32_t lo, uint32_t hi)
{
    for (uint32_t l = lo; l < hi; l++)
        for (uint32_t g = 0; g < d->n_kv; g++)
            if (deal_head(d, l, g) == hand) return true;
    return false;
}

bool group_needs(const struct group *g, const struct node_id *id)
{
    for (unsigned i = 0; i < GROUP_MEMBERS_MAX; i++) {
        const struct mate *m = &g->mate[i];
        if (m->state != MATE_IN || !node_id_equal(&m->id, id)) continue;
        for (const struct group_session *x = g->first; x; x = x->next)
            if (x->deal->gen[1 + i] == m->gen && has_heads(x->deal, 1 + i, x->lo, x->hi))
                return true;
    }
    return false;
}

/* Sessions are told from the list's start each time: their owner closes them meanwhile. */
void group_lose_sessions(struct group *g, unsigned hand, uint32_t gen, const char *text)
{
    struct group_session *x = g->first;
    while (x) {
        bool is_hit =
            !x->is_lost && x->deal->gen[hand] == gen && has_heads(x->deal, hand, x->lo, x->hi);
        if (is_hit) {
            tell(x, ERR_CLOSED, WIRE_LOST_MEMBER, text);
            x = g->first;
        } else {
            x = x->next;
        }
    }
}

struct group_session *group_session_of(struct group *g, unsigned mate, uint32_t rid)
{
    for (struct group_session *x = g->first; x; x = x->next)
        if (x->rid[mate] == rid) return x;
    return NULL;
}

static void check_open(struct group_session *x)
{
    for (unsigned i = 0; i < GROUP_MEMBERS_MAX; i++)
        if (x->rid[i]) return;
    tell(x, ERR_OK, 0, NULL);
}

void group_session_answered(struct group_session *x, unsigned mate, unsigned code, const char *text)
{
    x->rid[mate] = 0;
    if (code)
        tell(x, ERR_FULL, code, text);
    else
        check_open(x);
}

void group_heads(const struct group *g, uint32_t lo, uint32_t hi, uint32_t *g_lo, uint32_t *g_hi)
{
    const struct deal *d = g->box.now;
    *g_lo = d->n_kv;
    *g_hi = 0;
    for (uint32_t l = lo; l < hi; l++)
        for (uint32_t k = 0; k < d->n_kv; k++) {
            if (deal_head(d, l, k) != 0) continue;
            if (k < *g_lo) *g_lo = k;
            if (k + 1 > *g_hi) *g_hi = k + 1;
        }
    if (*g_lo >= *g_hi) *g_lo = 0, *g_hi = 1; /* of nothing there is no kv */
}

/* The head groups of layer l that hand computes: one range. */
static void range_of(const struct deal *d, unsigned hand, uint32_t l, uint32_t *g_lo,
                     uint32_t *g_hi)
{
    *g_lo = *g_hi = 0;
    for (uint32_t k = 0; k < d->n_kv; k++) {
        if (deal_head(d, l, k) != hand) continue;
        if (*g_hi == 0) *g_lo = k;
        *g_hi = k + 1;
    }
}

/* What hand is to keep K and V for; ERR_FULL: in too many pieces for a message. */
static enum err list_parts(struct uints *out, const struct group_session *x, unsigned hand)
{
    uint32_t *last = NULL;
    out->n = 0;
    for (uint32_t l = x->lo; l < x->hi; l++) {
        uint32_t g_lo, g_hi;
        range_of(x->deal, hand, l, &g_lo, &g_hi);
        if (g_lo == g_hi) continue;
        if (last && last[1] == l && last[2] == g_lo && last[3] == g_hi) {
            last[1] = l + 1;
            continue;
        }
        if (out->n == RANGES * 4) return ERR_FULL;
        last = out->p + out->n;
        last[0] = l, last[1] = l + 1, last[2] = g_lo, last[3] = g_hi;
        out->n += 4;
    }
    return ERR_OK;
}

static enum err open_at(struct group_session *x, unsigned i, uint32_t tokens)
{
    struct group *g = x->group;
    struct uints parts;
    enum err e = list_parts(&parts, x, 1 + i);
    if (e || parts.n == 0) return e;
    uint32_t rid = group_next_rid(g);
    e = group_send_open(g, &g->mate[i], rid, x->number, &parts, tokens);
    if (!e) x->rid[i] = rid;
    return e;
}

/* The thread finds the session by its kv from now on. */
static void put_place(struct group *g, const struct group_session *x)
{
    pthread_mutex_lock(&g->box.lock);
    g->box.place[g->box.n_places++] = (struct place){ x->kv, x->number };
    pthread_mutex_unlock(&g->box.lock);
}

static void remove_place(struct group *g, const struct group_session *x)
{
    struct box *b = &g->box;
    pthread_mutex_lock(&b->lock);
    uint32_t i = 0;
    while (b->place[i].kv != x->kv) i++;
    b->place[i] = b->place[--b->n_places];
    pthread_mutex_unlock(&b->lock);
}

struct group_session *group_session_open(struct group *g, const struct kv *kv, uint32_t lo,
                                         uint32_t hi, uint32_t tokens, group_event *on, void *arg)
{
    struct group_session *x = g->n_sessions < GROUP_SESSIONS_MAX ? calloc(1, sizeof *x) : NULL;
    if (!x) return NULL;
    x->group = g;
    x->kv = kv;
    x->lo = lo;
    x->hi = hi;
    x->on = on;
    x->arg = arg;
    if (++g->number == 0) g->number = 1;
    x->number = g->number;
    x->deal = g->box.now;
    deal_take(x->deal);
    x->next = g->first;
    g->first = x;
    g->n_sessions++;
    put_place(g, x);
    enum err e = ERR_OK;
    for (unsigned i = 0; i < GROUP_MEMBERS_MAX && !e; i++)
        if (x->deal->gen[1 + i]) e = open_at(x, i, tokens);
    x->is_doomed = e != ERR_OK;
    return x;
}

void group_session_begin(struct group_session *x)
{
    if (x->is_doomed)
        tell(x, ERR_CLOSED, WIRE_LOST_MEMBER, "a node that shares layers cannot be reached");
    else
        check_open(x);
}

void group_session_close(struct group_session *x)
{
    if (!x) return;
    struct group *g = x->group;
    for (unsigned i = 0; i < GROUP_MEMBERS_MAX; i++) {
        struct mate *m = &g->mate[i];
        if (m->state == MATE_IN && x->deal->gen[1 + i] == m->gen &&
            has_heads(x->deal, 1 + i, x->lo, x->hi))
            group_send_close(g, m, x->number);
    }
    remove_place(g, x);
    struct group_session **at = &g->first;
    while (*at != x) at = &(*at)->next;
    *at = x->next;
    g->n_sessions--;
    deal_drop(x->deal);
    free(x);
}

struct sharer *group_session_sharer(const struct group_session *x)
{
    return x->deal->has_members ? &x->deal->sharer : NULL;
}
