#include "proto/gather.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { FORGIVEN_MAX = 4 * GATHER_WINDOW, PAUSE_MAX_MS = 600000, NO_PEER = 0xff };
enum { WANTED, ASKED, IN_HAND, DONE };

struct piece {
    uint16_t group;
    uint8_t state;
    uint8_t by[2];     /* who was asked, NO_PEER: nobody; of ASKED and IN_HAND */
    uint32_t at;       /* WANTED: where in its group's list */
    uint64_t asked_ms; /* the first question */
};

struct list {
    uint32_t *piece; /* [n] owned */
    uint32_t n;
};

struct peer {
    bool here, near;
    bool has[GATHER_GROUPS];
    uint8_t *lacks; /* owned; a bit for every piece; NULL: none */
    uint32_t owes[GATHER_WINDOW];
    unsigned n, window;
    uint32_t forgiven[FORGIVEN_MAX]; /* a ring of what it was relieved of */
    unsigned n_forgiven, next_forgiven;
    uint64_t pause_until_ms, pause_ms, brought_ms; /* brought_ms: or was first asked */
};

struct gather {
    struct piece *piece; /* [n] owned */
    uint32_t n, left, n_wanted;
    struct list wanted[GATHER_GROUPS];
    struct peer peer[GATHER_PEERS];
    uint32_t *pool; /* owned; the lists lie in it */
};

/* --- lists of wanted pieces --- */

static void want(struct gather *g, uint32_t i)
{
    struct piece *p = &g->piece[i];
    struct list *l = &g->wanted[p->group];

    p->state = WANTED;
    p->by[0] = p->by[1] = NO_PEER;
    p->at = l->n;
    l->piece[l->n++] = i;
    g->n_wanted++;
}

static void unwant(struct gather *g, uint32_t i)
{
    struct list *l = &g->wanted[g->piece[i].group];
    uint32_t last = l->piece[--l->n], at = g->piece[i].at;

    l->piece[at] = last;
    g->piece[last].at = at;
    g->n_wanted--;
}

enum err gather_open(struct gather **out, const uint16_t *group, uint32_t n)
{
    struct gather *g = calloc(1, sizeof *g);
    uint32_t count[GATHER_GROUPS] = { 0 }, at = 0;

    if (!g) return ERR_NOMEM;
    g->piece = calloc(n + 1, sizeof *g->piece);
    g->pool = calloc(n + 1, sizeof *g->pool);
    if (!g->piece || !g->pool) {
        gather_close(g);
        return ERR_NOMEM;
    }
    g->n = g->left = n;
    for (uint32_t i = 0; i < n; i++) {
        assert(group[i] < GATHER_GROUPS);
        count[group[i]]++;
    }
    for (uint32_t k = 0; k < GATHER_GROUPS; k++) {
        g->wanted[k].piece = g->pool + at;
        at += count[k];
    }
    for (uint32_t i = 0; i < n; i++) {
        g->piece[i].group = group[i];
        want(g, i);
    }
    *out = g;
    return ERR_OK;
}

void gather_close(struct gather *g)
{
    if (!g) return;
    for (unsigned k = 0; k < GATHER_PEERS; k++) free(g->peer[k].lacks);
    free(g->piece);
    free(g->pool);
    free(g);
}

uint32_t gather_left(const struct gather *g)
{
    return g->left;
}

bool gather_is_done(const struct gather *g, uint32_t piece)
{
    return g->piece[piece].state == DONE;
}

/* --- what a peer owes --- */

static bool lacks(const struct peer *p, uint32_t i)
{
    return p->lacks && (p->lacks[i / 8] >> (i % 8) & 1);
}

static void set_lacks(struct gather *g, struct peer *p, uint32_t i)
{
    if (!p->lacks) p->lacks = calloc(g->n / 8 + 1, 1);
    if (p->lacks) p->lacks[i / 8] |= (uint8_t)(1 << (i % 8));
}

/* Take i off peer's account.  false: it was not there. */
static bool settle(struct gather *g, unsigned peer, uint32_t i)
{
    struct peer *p = &g->peer[peer];

    for (unsigned k = 0; k < p->n; k++) {
        if (p->owes[k] != i) continue;
        p->owes[k] = p->owes[--p->n];
        struct piece *x = &g->piece[i];
        if (x->by[0] == peer) {
            x->by[0] = x->by[1];
            x->by[1] = NO_PEER;
        } else if (x->by[1] == peer) {
            x->by[1] = NO_PEER;
        }
        return true;
    }
    return false;
}

/* It need not bring i any more, and may. */
static void relieve(struct gather *g, unsigned peer, uint32_t i)
{
    struct peer *p = &g->peer[peer];

    p->forgiven[p->next_forgiven] = i;
    p->next_forgiven = (p->next_forgiven + 1) % FORGIVEN_MAX;
    if (p->n_forgiven < FORGIVEN_MAX) p->n_forgiven++;
    if (settle(g, peer, i) && g->piece[i].state == ASKED && g->piece[i].by[0] == NO_PEER)
        want(g, i);
}

static void relieve_all(struct gather *g, unsigned peer)
{
    while (g->peer[peer].n) relieve(g, peer, g->peer[peer].owes[0]);
}

/* Once for each: what comes twice was not asked for. */
static bool was_forgiven(struct peer *p, uint32_t i)
{
    for (unsigned k = 0; k < p->n_forgiven; k++) {
        if (p->forgiven[k] != i) continue;
        p->forgiven[k] = UINT32_MAX;
        return true;
    }
    return false;
}

/* --- peers --- */

void gather_peer(struct gather *g, unsigned peer, bool near, const bool has[GATHER_GROUPS])
{
    struct peer *p = &g->peer[peer];

    if (!p->here) *p = (struct peer){ .here = true, .window = GATHER_BEGIN };
    p->near = near;
    memcpy(p->has, has, sizeof p->has);
}

void gather_peer_gone(struct gather *g, unsigned peer)
{
    struct peer *p = &g->peer[peer];

    relieve_all(g, peer);
    free(p->lacks);
    *p = (struct peer){ 0 };
}

unsigned gather_owes(const struct gather *g, unsigned peer)
{
    return g->peer[peer].n;
}

/* --- the next question --- */

static bool can_take(const struct peer *p, uint64_t now_ms)
{
    return p->here && p->n < p->window && now_ms >= p->pause_until_ms;
}

static unsigned holders(const struct gather *g, uint32_t group, bool near_only, uint64_t now_ms)
{
    unsigned n = 0;
    for (unsigned k = 0; k < GATHER_PEERS; k++) {
        const struct peer *p = &g->peer[k];
        if (!p->here || !p->has[group] || (near_only && !p->near)) continue;
        n += !near_only || now_ms >= p->pause_until_ms;
    }
    return n;
}

/* A piece of the group that p may be asked for: from a random place on, the first few. */
static bool pick_piece(const struct gather *g, const struct peer *p, uint32_t group,
                       uint32_t random, uint32_t *out)
{
    const struct list *l = &g->wanted[group];

    for (uint32_t k = 0; k < l->n; k++) {
        *out = l->piece[(random % l->n + k) % l->n];
        if (!lacks(p, *out)) return true;
    }
    return false;
}

static bool pick_wanted(const struct gather *g, unsigned peer, uint64_t now_ms, uint32_t random,
                        uint32_t *out)
{
    const struct peer *p = &g->peer[peer];
    unsigned fewest = GATHER_PEERS + 1, ties = 0;

    for (uint32_t group = 0; group < GATHER_GROUPS; group++) {
        uint32_t piece;
        if (!g->wanted[group].n || !p->has[group]) continue;
        if (!p->near && holders(g, group, true, now_ms)) continue;
        unsigned n = holders(g, group, false, now_ms);
        if (n > fewest || !pick_piece(g, p, group, random, &piece)) continue;
        ties = n < fewest ? 1 : ties + 1;
        fewest = n;
        if (random / 7 % ties == 0) *out = piece; /* each of the ties with equal chance */
    }
    return fewest <= GATHER_PEERS;
}

static bool has_wanted(const struct gather *g, const struct peer *p)
{
    for (uint32_t group = 0; group < GATHER_GROUPS; group++)
        if (g->wanted[group].n && p->has[group]) return true;
    return false;
}

/* What somebody else owes longest, and only one. */
static bool pick_owed(const struct gather *g, unsigned peer, uint64_t now_ms, uint32_t *out)
{
    const struct peer *p = &g->peer[peer];
    uint64_t oldest = now_ms < GATHER_OWED_MS ? 0 : now_ms - GATHER_OWED_MS + 1;
    bool found = false;

    if (has_wanted(g, p)) return false;

    for (unsigned k = 0; k < GATHER_PEERS; k++) {
        for (unsigned i = 0; k != peer && i < g->peer[k].n; i++) {
            uint32_t at = g->peer[k].owes[i];
            const struct piece *x = &g->piece[at];
            if (x->state != ASKED || x->by[1] != NO_PEER || x->asked_ms >= oldest) continue;
            if (!p->has[x->group] || lacks(p, at)) continue;
            oldest = x->asked_ms;
            *out = at;
            found = true;
        }
    }
    return found;
}

static void ask(struct gather *g, unsigned peer, uint32_t i, uint64_t now_ms)
{
    struct peer *p = &g->peer[peer];
    struct piece *x = &g->piece[i];

    if (x->state == WANTED) {
        unwant(g, i);
        x->state = ASKED;
        x->by[0] = (uint8_t)peer;
        x->asked_ms = now_ms;
    } else {
        x->by[1] = (uint8_t)peer;
    }
    if (p->n == 0) p->brought_ms = now_ms;
    p->owes[p->n++] = i;
}

bool gather_next(struct gather *g, uint64_t now_ms, uint32_t random, struct gather_ask *out)
{
    for (int round = 0; round < 3; round++) { /* near, others, what is owed already */
        for (unsigned k = 0; k < GATHER_PEERS; k++) {
            unsigned peer = (random + k) % GATHER_PEERS;
            const struct peer *p = &g->peer[peer];
            if (!can_take(p, now_ms) || (round < 2 && p->near != (round == 0))) continue;
            bool found = round < 2 ? pick_wanted(g, peer, now_ms, random, &out->piece)
                                   : pick_owed(g, peer, now_ms, &out->piece);
            if (!found) continue;
            out->peer = peer;
            ask(g, peer, out->piece, now_ms);
            return true;
        }
    }
    return false;
}

/* --- answers --- */

bool gather_arrived(struct gather *g, unsigned peer, uint32_t piece, uint64_t now_ms, bool *wanted)
{
    struct peer *p = &g->peer[peer];
    struct piece *x = &g->piece[piece];
    bool asked = settle(g, peer, piece);

    *wanted = false;
    if (!asked && !was_forgiven(p, piece)) return false;
    p->brought_ms = now_ms;
    p->pause_ms = 0;
    if (p->window < GATHER_WINDOW) p->window++;
    *wanted = x->state == WANTED || x->state == ASKED;
    if (x->state == WANTED) unwant(g, piece);
    if (*wanted) x->state = IN_HAND;
    return true;
}

void gather_stored(struct gather *g, uint32_t piece)
{
    if (g->piece[piece].state != IN_HAND) return;
    g->piece[piece].state = DONE;
    g->left--;
}

void gather_bad(struct gather *g, uint32_t piece)
{
    struct piece *x = &g->piece[piece];

    if (x->state != IN_HAND) return;
    if (x->by[0] == NO_PEER)
        want(g, piece);
    else
        x->state = ASKED; /* another still owes it */
}

bool gather_refused(struct gather *g, unsigned peer, uint32_t piece, bool busy, uint64_t now_ms)
{
    struct peer *p = &g->peer[peer];

    if (!settle(g, peer, piece)) return was_forgiven(p, piece);
    if (g->piece[piece].state == ASKED && g->piece[piece].by[0] == NO_PEER) want(g, piece);
    if (!busy) {
        set_lacks(g, p, piece);
        return true;
    }
    p->pause_until_ms = now_ms + GATHER_PAUSE_MS;
    if (p->window > 1) p->window--;
    return true;
}

bool gather_cancel(struct gather *g, uint32_t piece, unsigned *peer)
{
    *peer = g->piece[piece].by[0];
    if (*peer == NO_PEER) return false;
    relieve(g, *peer, piece);
    return true;
}

void gather_tick(struct gather *g, uint64_t now_ms)
{
    for (unsigned k = 0; k < GATHER_PEERS; k++) {
        struct peer *p = &g->peer[k];
        if (!p->n || now_ms - p->brought_ms < GATHER_LATE_MS) continue;
        relieve_all(g, k);
        p->window = 1;
        p->pause_ms = p->pause_ms ? 2 * p->pause_ms : GATHER_LATE_MS;
        if (p->pause_ms > PAUSE_MAX_MS) p->pause_ms = PAUSE_MAX_MS;
        p->pause_until_ms = now_ms + p->pause_ms;
    }
}
