#include "net/net_impl.h"

#include "base/log.h"

#include <assert.h>
#include <stdlib.h>

/* Two nodes that dial each other at once end up with two connections, X and Y, each made by one of
 * them.  Both nodes pick the one whose initiator has the lower id.  A node that has already sent on
 * the other one must not let messages overtake: it sends a fence there (a PING with a stamp of its
 * own), keeps new messages back until the fence is answered, and then goes on with the winner.
 * When both sides' fences have been read and answered nothing can be under way on the loser, and
 * its initiator closes it.  If either connection breaks before that, both are closed and the owner
 * is told: a lost message never goes unnoticed. */

/* --- the table --- */

/* The index of the first peer whose id is not below id. */
static uint32_t lower_bound(const struct net *n, const struct node_id *id)
{
    uint32_t lo = 0, hi = n->n_peers;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (memcmp(n->peers[mid]->id.b, id->b, ID_BYTES) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct peer *peer_find(const struct net *n, const struct node_id *id)
{
    uint32_t i = lower_bound(n, id);
    return i < n->n_peers && node_id_equal(&n->peers[i]->id, id) ? n->peers[i] : NULL;
}

static void drop_waiting(struct peer *p)
{
    while (p->first) {
        struct parcel *next = p->first->next;
        free(p->first);
        p->first = next;
    }
    p->last = &p->first;
    p->waiting = 0;
}

static void peer_free(struct peer *p)
{
    drop_waiting(p);
    tally_release(p->tally);
    free(p);
}

static bool removable(const struct net *n, const struct peer *p)
{
    return !p->use && !p->spare && !p->downs && !p->told_up && !p->dials && !p->first &&
           !peer_banned(n, p);
}

/* Forget the peer that was not heard of for longest.  false: all are in use. */
static bool make_room(struct net *n)
{
    uint32_t oldest = n->n_peers;
    for (uint32_t i = 0; i < n->n_peers; i++) {
        if (!removable(n, n->peers[i])) continue;
        if (oldest == n->n_peers || n->peers[i]->seen_ms < n->peers[oldest]->seen_ms) oldest = i;
    }
    if (oldest == n->n_peers) return false;
    peer_free(n->peers[oldest]);
    n->n_peers--;
    memmove(&n->peers[oldest], &n->peers[oldest + 1], (n->n_peers - oldest) * sizeof *n->peers);
    return true;
}

static bool grow(struct net *n)
{
    if (n->n_peers == NET_PEERS_MAX) return make_room(n);
    if (n->n_peers < n->cap_peers) return true;
    uint32_t cap = n->cap_peers ? n->cap_peers * 2 : 64;
    struct peer **more = realloc(n->peers, cap * sizeof *more);
    if (!more) return false;
    n->peers = more;
    n->cap_peers = cap;
    return true;
}

struct peer *peer_get(struct net *n, const struct node_id *id)
{
    struct peer *p = peer_find(n, id);
    if (p) {
        p->seen_ms = net_now(n);
        return p;
    }
    if (!grow(n)) return NULL;
    p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->tally = tally_new();
    if (!p->tally) {
        free(p);
        return NULL;
    }
    p->id = *id;
    p->last = &p->first;
    p->rtt_us = UINT32_MAX;
    p->seen_ms = net_now(n);

    uint32_t at = lower_bound(n, id);
    memmove(&n->peers[at + 1], &n->peers[at], (n->n_peers - at) * sizeof *n->peers);
    n->peers[at] = p;
    n->n_peers++;
    return p;
}

void peers_free(struct net *n)
{
    for (uint32_t i = 0; i < n->n_peers; i++) peer_free(n->peers[i]);
    free(n->peers);
}

/* --- telling the owner --- */

static void tell_up(struct net *n, struct peer *p)
{
    p->told_up = true;
    if (!n->closing) n->cfg.on_peer(n->cfg.arg, &p->id, true, "");
}

static void tell_down(struct net *n, struct peer *p)
{
    p->told_up = false;
    p->rtt_us = UINT32_MAX;
    p->n_trips = 0;
    if (!n->closing) n->cfg.on_peer(n->cfg.arg, &p->id, false, p->why.text);
}

/* --- messages that wait --- */

/* Send what waited, in order.  Stops when the connection has no room or ends. */
static void send_waiting(struct peer *p)
{
    struct msg m;

    while (p->first && p->use && p->use->state == SOCK_OPEN && !p->held) {
        struct parcel *next = p->first->next;
        enum err e = msg_decode(&m, slice_of(p->first->bytes, p->first->n), NULL);
        if (!e) e = conn_send(p->use->conn, &m);
        if (e) { /* it fitted the same limit while it waited, so this is a lack of memory */
            sock_drop(p->use, e, err_text(e));
            return;
        }
        p->waiting -= p->first->n;
        free(p->first);
        p->first = next;
        if (!next) p->last = &p->first;
    }
    if (p->use) sock_flush(p->use);
}

static enum err wait_in_line(struct peer *p, const struct msg *m)
{
    size_t bound = msg_bound(m), n;
    struct parcel *parcel, *fit;

    if (p->waiting + bound > NET_WAIT_MAX) return ERR_FULL;
    parcel = malloc(sizeof *parcel + bound);
    if (!parcel) return ERR_NOMEM;
    enum err e = msg_encode(m, parcel->bytes, bound, &n);
    if (e) {
        free(parcel);
        return e;
    }
    fit = realloc(parcel, sizeof *parcel + n);
    if (fit) parcel = fit;
    parcel->next = NULL;
    parcel->n = n;
    *p->last = parcel;
    p->last = &parcel->next;
    p->waiting += n;
    return ERR_OK;
}

enum err peer_send(struct net *n, struct peer *p, const struct msg *m)
{
    if (p->use && !p->held && !p->first) return sock_send(p->use, m);
    if (!p->use && !p->dials) {
        enum err e = dial_hints(n, p);
        if (e) return e;
    }
    return wait_in_line(p, m);
}

void peer_give_up(struct net *n, struct peer *p, const char *why)
{
    drop_waiting(p);
    (void)fail(&p->why, ERR_CLOSED, "%s", why);
    tell_down(n, p);
}

/* --- the end of a connection --- */

void peer_detach(struct sock *s)
{
    struct peer *p = s->peer;
    struct sock *other = p->use == s ? p->spare : p->use;

    if (p->spare == s && s->fence_done && s->fence_in) { /* retired: nothing is lost with it */
        p->spare = NULL;
        s->peer = NULL;
        return;
    }
    p->use = p->spare = NULL;
    p->held = false;
    p->downs++;
    p->why = s->why;
    drop_waiting(p);
    if (!other) return;
    other->peer = NULL;
    sock_drop(other, s->end, s->why.text);
}

void peer_closed(struct net *n, struct peer *p)
{
    p->downs--;
    if (p->told_up && !p->use && !p->downs) tell_down(n, p);
}

/* --- two connections --- */

static void send_fence(struct sock *s)
{
    s->fence_out = true;
    sock_ping(s, CONN_FENCE);
}

/* Close the spare when nothing can be under way on it; its other end sees a CLOSE and agrees. */
static void retire(struct peer *p)
{
    struct sock *s = p->spare;
    if (s && s->fence_done && s->fence_in && s->initiator)
        sock_finish(s, ERR_CLOSED, "a second connection is not needed");
}

void peer_fence_answered(struct sock *s)
{
    struct peer *p = s->peer;

    if (!s->fence_out || p->spare != s) return;
    s->fence_done = true;
    p->held = false;
    send_waiting(p);
    retire(p);
}

void peer_fence_read(struct sock *s)
{
    s->fence_in = true;
    if (s->peer->spare == s) retire(s->peer);
}

/* s was made by the peer while ours is open too. */
static void pair_up(struct net *n, struct peer *p, struct sock *s)
{
    bool ours_wins = memcmp(n->cfg.me->id.b, p->id.b, ID_BYTES) < 0;

    p->spare = ours_wins ? s : p->use;
    if (!ours_wins) {
        p->use = s;
        p->held = true; /* until all that was sent on ours has been read */
    }
    s->peer = p;
    n->pairs++;
    send_fence(p->spare);
}

void peer_tick(struct peer *p, uint64_t now)
{
    struct sock *s = p->spare;

    if (!s || s->state != SOCK_OPEN) return;
    uint64_t moved = s->mail_ms > s->born_ms ? s->mail_ms : s->born_ms;
    if (now - moved < NET_RETIRE_MS) return;
    if (!s->fence_done) {
        sock_drop(s, ERR_TIMEOUT, "it does not answer on one of two connections");
        return;
    }
    s->fence_in = true; /* a peer that sends no fence, but nothing else either */
    sock_finish(s, ERR_CLOSED, "a second connection is not needed");
}

/* --- a connection is open --- */

static void sock_is_open(struct sock *s)
{
    if (!s->initiator) s->net->n_pending--;
    s->state = SOCK_OPEN;
    s->mail_ms = net_now(s->net);
}

static void told_dial(struct sock *s, const struct node_id *id)
{
    struct dial *d = s->dial;
    s->dial = NULL;
    if (d) dial_opened(d, id);
}

static void first_connection(struct net *n, struct peer *p, struct sock *s)
{
    if (p->told_up) tell_down(n, p); /* the older one is closing, but not closed yet */
    if (s->state == SOCK_CLOSING || n->closing) return;
    sock_is_open(s);
    s->peer = p;
    p->use = s;
    p->backoff_ms = p->retry_ms = 0;
    send_waiting(p);
    if (s->state == SOCK_OPEN) sock_measure(s);
    tell_up(n, p); /* also when that failed: then down follows, since what waited is lost */
    told_dial(s, &p->id);
}

/* Is s to another run of the program than its peer's connection in use?  Then that one is dead,
 * even if nobody has noticed yet: the machine was switched off, say. */
static bool has_restarted(const struct peer *p, const struct sock *s)
{
    if (!p->use) return false;
    uint64_t before = conn_hello(p->use->conn)->instance, now = conn_hello(s->conn)->instance;
    return before && now && before != now;
}

void peer_opened(struct sock *s)
{
    struct net *n = s->net;
    const struct node_id id = *conn_peer(s->conn);
    struct peer *p;

    if (node_id_equal(&id, &n->cfg.me->id)) {
        sock_drop(s, ERR_USAGE, "that address is this node itself");
        return;
    }
    p = peer_get(n, &id);
    if (!p) {
        sock_drop(s, ERR_NOMEM, err_text(ERR_NOMEM));
        return;
    }
    if (peer_banned(n, p)) {
        sock_drop(s, ERR_DENIED,
                  "that node broke the protocol or sent false bytes, and is banned for now");
        return;
    }
    if (has_restarted(p, s)) sock_drop(p->use, ERR_CLOSED, "it has started anew");
    if (p->use && s->initiator) {
        /* Connected meanwhile.  The peer has not seen the end of this handshake, so for it there
         * never was a second connection. */
        told_dial(s, &id);
        sock_drop(s, ERR_EXISTS, "connected already");
        return;
    }
    if (p->use && (!p->use->initiator || p->spare))
        /* It would not dial us if it still had the connection it made before. */
        sock_drop(p->use, ERR_CLOSED, "it has connected anew");
    if (!p->use) {
        first_connection(n, p, s);
        return;
    }
    sock_is_open(s);
    pair_up(n, p, s);
}

/* --- misbehaviour --- */

bool peer_banned(const struct net *n, const struct peer *p)
{
    return net_now(n) < p->ban_until_ms;
}

void peer_strike(struct net *n, struct peer *p, const char *what)
{
    char name[NODE_ID_SHORT];
    uint64_t now = net_now(n);
    struct why why;

    node_id_short(name, &p->id);
    log_warn("net: %s: %s", name, what);
    n->faults.strikes++;
    memmove(&p->strike_ms[0], &p->strike_ms[1], sizeof p->strike_ms - sizeof p->strike_ms[0]);
    p->strike_ms[NET_STRIKES - 1] = now;
    if (!p->strike_ms[0] || now - p->strike_ms[0] > NET_STRIKES_MS) return;

    memset(p->strike_ms, 0, sizeof p->strike_ms);
    p->ban_until_ms = now + NET_BAN_MS;
    n->faults.bans++;
    (void)fail(&why, ERR_DENIED, "it broke the protocol three times (%s)", what);
    if (p->use) sock_finish(p->use, ERR_DENIED, why.text);
}
