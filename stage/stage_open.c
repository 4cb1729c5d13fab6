/* stage_open.c - sessions begin: admitted, granted, or adopted from a pipeline that lost a stage.
 */
#include "stage/stage_impl.h"

#include <stdlib.h>

static uint64_t bytes_per_token(const struct stage_server *s)
{
    return arch_kv_bytes(&s->c.weights->manifest.arch) * (s->hi - s->lo);
}

uint32_t stage_server_sessions(const struct stage_server *s)
{
    return s->n_sessions;
}

void stage_server_prefixes(const struct stage_server *s, struct prefixes_state *out)
{
    prefixes_look(s->prefixes, out);
}

uint64_t stage_server_kv_used(const struct stage_server *s)
{
    return s->kv_used;
}

uint32_t stage_server_free_tokens(const struct stage_server *s)
{
    uint64_t per_token = bytes_per_token(s);
    if (per_token == 0 || s->kv_used >= s->c.kv_bytes) return 0;
    uint64_t n = (s->c.kv_bytes - s->kv_used) / per_token;
    n = n / KV_BLOCK * KV_BLOCK; /* a session holds whole blocks of positions */
    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX / KV_BLOCK * KV_BLOCK;
}

/* May this session be opened?  0, or the code with why in words. */
static unsigned check_open(struct stage_server *s, const struct mail *m, struct why *why)
{
    const struct msg_SESS_OPEN *o = &m->m.u.SESS_OPEN;
    const struct weights *w = s->c.weights;
    char me[NODE_ID_SHORT];
    node_id_short(me, &s->c.me);
    if (s->stopping || s->draining) {
        fail(why, ERR_CLOSED, "it is shutting down");
        return WIRE_SHUTTING_DOWN;
    }
    if (s->paused && !node_id_equal(&m->from, &s->c.me)) {
        fail(why, ERR_CLOSED, "node %s pauses for its owner", me);
        return WIRE_SHUTTING_DOWN;
    }
    if (memcmp(o->model.p, w->name.id.b, ID_BYTES) != 0) {
        fail(why, ERR_NOTFOUND, "node %s holds %s, which is another model", me, w->name.name);
        return WIRE_NO_SUCH_MODEL;
    }
    if (s->lo == s->hi) {
        fail(why, ERR_NOTFOUND, "node %s holds no layers", me);
        return WIRE_NO_SUCH_LAYERS;
    }
    if (o->layer_lo >= o->layer_hi || o->layer_lo < s->lo || o->layer_hi > s->hi) {
        fail(why, ERR_NOTFOUND, "node %s holds layers %u-%u, not all of %u-%u", me, s->lo,
             s->hi - 1, (unsigned)o->layer_lo, (unsigned)o->layer_hi - 1);
        return WIRE_NO_SUCH_LAYERS;
    }
    for (uint32_t l = (uint32_t)o->layer_lo; s->c.group && l < o->layer_hi; l++) {
        if (group_covers(s->c.group, l)) continue;
        char lack[120];
        group_lacks(s->c.group, l, lack, sizeof lack);
        fail(why, ERR_NOTFOUND, "node %s cannot serve: %s", me, lack);
        return WIRE_LOST_MEMBER;
    }
    if (o->max_tokens > s->c.context) {
        fail(why, ERR_FULL, "this conversation needs %u positions, node %s grants %u",
             (unsigned)o->max_tokens, me, s->c.context);
        return WIRE_KV_FULL;
    }
    if (s->n_sessions >= STAGE_SESSIONS_MAX) {
        fail(why, ERR_BUSY, "node %s serves %u sessions already", me, s->n_sessions);
        return WIRE_BUSY;
    }
    return 0;
}

/* Who sends to x, and to whom it sends; m is the opening. */
static void place(struct session *x, const struct mail *m)
{
    const struct msg_SESS_OPEN *o = &m->m.u.SESS_OPEN;
    memcpy(x->id, o->session.p, SESSION_BYTES);
    memcpy(x->prev.b, o->prev_id.p, ID_BYTES);
    x->rid = m->m.rid;
    x->epoch = (uint32_t)o->epoch;
    x->is_traced = o->trace;
    x->coordinator = x->following = m->from;
    x->is_last = o->next_id.n == 0;
    bool is_own = node_id_equal(&m->from, &x->server->c.me);
    x->rank = (uint8_t)(o->priority + (!is_own && !x->server->c.no_own_first));
    if (!x->is_last) memcpy(x->following.b, o->next_id.p, ID_BYTES);
    x->used_ms = now_ms(x->server->c.hub);
}

static void on_shared(void *arg, enum err e, unsigned code, const char *text);

static enum err make_session(struct stage_server *s, const struct mail *m, struct why *why)
{
    const struct msg_SESS_OPEN *o = &m->m.u.SESS_OPEN;
    const struct arch *a = &s->c.weights->manifest.arch;
    uint32_t lo = (uint32_t)o->layer_lo, hi = (uint32_t)o->layer_hi;
    uint32_t tokens = (uint32_t)o->max_tokens;
    uint32_t g_lo = 0, g_hi = a->n_kv; /* others that share the layers keep K and V of the rest */
    if (s->c.group) group_heads(s->c.group, lo, hi, &g_lo, &g_hi);
    uint64_t cost = kv_cost_heads(a, lo, hi, g_lo, g_hi, tokens);
    if (s->kv_used + cost > s->c.kv_bytes) {
        char me[NODE_ID_SHORT];
        node_id_short(me, &s->c.me);
        return fail(why, ERR_FULL, "this conversation needs %u positions, node %s has room for %u",
                    tokens, me, stage_server_free_tokens(s));
    }
    struct session *x = calloc(1, sizeof *x);
    enum err e = x ? kv_open_heads(&x->kv, a, lo, hi, g_lo, g_hi, tokens) : ERR_NOMEM;
    if (!e && s->c.group)
        x->shared = group_session_open(s->c.group, x->kv, lo, hi, tokens, on_shared, x);
    if (e || (s->c.group && !x->shared)) {
        if (x) kv_close(x->kv);
        free(x);
        return fail(why, ERR_NOMEM, "no memory for a conversation of %u positions", tokens);
    }
    x->server = s;
    place(x, m);
    x->lo = lo;
    x->hi = hi;
    x->cost = cost;
    x->tokens = tokens;
    x->next = s->first;
    s->first = x;
    s->n_sessions++;
    s->kv_used += cost;
    return ERR_OK;
}

/* The next stage could not be dialled; it may have connected to us meanwhile. */
static void on_dialled(void *arg, const struct node_id *id, enum err e, const char *why)
{
    struct stage_server *s = arg;
    if (e && !net_is_up(s->c.net, id)) stage_server_on_peer(s, id, false, why);
}

/* Connect to the next stage already while the others open their sessions. */
static void reach_next(struct stage_server *s, const struct session *x, struct slice addr)
{
    if (x->is_last || node_id_equal(&x->following, &s->c.me) || net_is_up(s->c.net, &x->following))
        return;
    char host[256], text[80];
    uint16_t port;
    if (!addr.n || !addr_text(text, sizeof text, addr) || hostport_parse(host, &port, text, NULL))
        return; /* it may still dial us; else the first rows find out */
    net_hint(s->c.net, &x->following, addr);
    net_dial(s->c.net, &x->following, host, port, on_dialled, s);
}

static void grant(struct stage_server *s, const struct session *x)
{
    struct msg ok = { .type = MSG_SESS_OK, .rid = x->rid };
    ok.u.SESS_OK.session = slice_of(x->id, SESSION_BYTES);
    ok.u.SESS_OK.epoch = x->epoch;
    ok.u.SESS_OK.held = x->held;
    ok.u.SESS_OK.limit = x->tokens;
    ok.u.SESS_OK.known = x->known;
    stage_answer(s, &x->coordinator, &ok);
    s->c.on_change(s->c.arg);
}

/* No job of x is under way: it goes on from what it holds. */
void stage_finish_adoption(struct stage_server *s, struct session *x)
{
    x->is_adopted = false;
    x->held = x->sent.n < x->firm ? x->sent.n : x->firm; /* drafts may have been wrong */
    x->known = x->held;
    x->has_begun = false;
    x->accepted = x->firm = 0;
    sent_trim(&x->sent, x->held);
    kv_trim(x->kv, x->held);
    grant(s, x);
}

static bool is_shared(const struct session *x)
{
    return x->shared && group_session_sharer(x->shared);
}

/* The session that m is to go on with, of the same coordinator for the same; NULL: there is none,
 * and m is an opening like any other. */
static struct session *to_adopt(struct stage_server *s, const struct mail *m)
{
    const struct msg_SESS_OPEN *o = &m->m.u.SESS_OPEN;
    struct session *x = o->adopts.n == SESSION_BYTES ? stage_find(s, o->adopts) : NULL;
    bool is_same = x && !x->is_fetching && (!is_shared(x) || x->is_granted) &&
                   node_id_equal(&x->coordinator, &m->from) && x->lo == o->layer_lo &&
                   x->hi == o->layer_hi && x->tokens == o->max_tokens &&
                   memcmp(o->model.p, s->c.weights->name.id.b, ID_BYTES) == 0;
    return is_same ? x : NULL;
}

static void adopt(struct stage_server *s, struct session *x, const struct mail *m)
{
    place(x, m);
    prefix_rename(x->prefix, x->id, x->epoch);
    x->round++;
    x->is_broken = false;
    x->is_adopted = true;
    reach_next(s, x, m->m.u.SESS_OPEN.next_addr);
    if (x->n_jobs == 0) stage_finish_adoption(s, x);
}

/* --- what earlier sessions left --- */

void stage_tell_room(struct stage_server *s)
{
    prefixes_room(s->prefixes, s->c.kv_bytes > s->kv_used ? s->c.kv_bytes - s->kv_used : 0);
}

static void on_known(void *arg, uint32_t positions)
{
    struct session *x = arg;
    if (!stage_is_back(x)) return;
    x->is_fetching = false;
    x->known = positions;
    grant(x->server, x);
}

/* false: nothing is known, or nothing is kept. */
static bool fetch_prefix(struct session *x, struct slice names)
{
    struct stage_server *s = x->server;
    if (!s->prefixes) return false;
    struct prefix_session ps = { .id = x->id,
                                 .epoch = x->epoch,
                                 .coordinator = x->coordinator,
                                 .lo = x->lo,
                                 .hi = x->hi,
                                 .kv = x->kv,
                                 .arg = x,
                                 .on_known = on_known };
    x->prefix = prefix_begin(s->prefixes, &ps);
    x->is_fetching = prefix_fetch(x->prefix, names);
    if (x->is_fetching) {
        x->n_jobs++;
        s->n_jobs++;
    }
    return x->is_fetching;
}

/* Those who share its layers have room for it too; or one of them has not, or is lost. */
static void on_shared(void *arg, enum err e, unsigned code, const char *text)
{
    struct session *x = arg;
    if (x->is_over) return;
    if (!e) {
        x->is_granted = true;
        grant(x->server, x);
    } else if (x->is_granted) {
        stage_fail(x, (enum wire_error)code, text);
    } else {
        words_refuse(x->server->c.net, &x->coordinator, x->rid, (enum wire_error)code, text);
        stage_end(x);
    }
}

void stage_on_open(struct stage_server *s, const struct mail *m)
{
    const struct msg_SESS_OPEN *o = &m->m.u.SESS_OPEN;
    struct why why;
    if (m->m.rid == 0 || (o->next_id.n != 0 && o->next_id.n != ID_BYTES) ||
        o->prefixes.n % HASH_WIRE != 0) {
        stage_refuse(s, m, WIRE_BAD_MESSAGE,
                     "SESS_OPEN needs a request number, a whole next id and whole names");
        return;
    }
    struct session *old = stage_find(s, o->session);
    if (old) {
        stage_refuse(s, m, WIRE_NOT_ALLOWED, "a session of that id is open");
        return;
    }
    struct session *heritage = to_adopt(s, m);
    if (heritage && !s->stopping) {
        adopt(s, heritage, m);
        return;
    }
    unsigned code = check_open(s, m, &why);
    if (!code) {
        enum err e = make_session(s, m, &why);
        unsigned full =
            s->kv_used > 0 ? WIRE_BUSY : WIRE_KV_FULL; /* there will be room, or never */
        if (e) code = e == ERR_FULL ? full : WIRE_NO_MEMORY;
    }
    if (code) {
        stage_refuse(s, m, (enum wire_error)code, why.text);
        return;
    }
    struct session *x = s->first;
    reach_next(s, x, o->next_addr);
    if (is_shared(x)) /* K and V that others hold are not kept */
        group_session_begin(x->shared);
    else if (!o->keeps || !fetch_prefix(x, o->prefixes))
        grant(s, x);
    stage_tell_room(s); /* after the search: what is found stays until it is copied */
}
