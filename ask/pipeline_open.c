/* The plan of a pipeline, and its sessions on every stage. */
#include "ask/pipeline_impl.h"

#include "base/log.h"

enum {
    FEW_TOKENS = 512, /* not worth sharing */
    SOME_TOKENS = 32, /* half of a short answer: speeds are predicted for there */
};

/* --- messages out --- */

static void send_close(struct pipeline *p, const struct plan_stage *s)
{
    struct msg m = { .type = MSG_SESS_CLOSE };
    m.u.SESS_CLOSE.session = slice_of(p->session, SESSION_BYTES);
    /* A stage that cannot be told finds out: its connection to us is gone. */
    if (net_send(p->all->c.net, &s->id, &m)) log_debug("a stage could not be told to close");
}

void pipeline_close_sessions(struct pipeline *p)
{
    p->kept = 0;
    if (p->state != OPENING && p->state != OPEN) return;
    for (uint32_t i = 0; i < p->plan.n; i++) send_close(p, &p->plan.stage[i]);
}

/* Where the world reaches a node, by its own announcement. */
static struct slice addr_of(struct pipelines *ps, const struct node_id *id)
{
    const struct entry *e = directory_find(peers_directory(ps->c.peers), id);
    if (e && e->body.addrs.n > 0) return e->body.addrs.p[0];
    return (struct slice){ 0 };
}

static enum err send_open(struct pipeline *p, uint32_t i)
{
    struct pipelines *ps = p->all;
    const struct plan_stage *s = &p->plan.stage[i];
    const struct plan_stage *after = i + 1 < p->plan.n ? s + 1 : NULL;
    struct msg m = { .type = MSG_SESS_OPEN, .rid = p->rid };
    struct msg_SESS_OPEN *o = &m.u.SESS_OPEN;
    o->session = slice_of(p->session, SESSION_BYTES);
    o->model = slice_of(ps->c.model, ID_BYTES);
    o->layer_lo = s->lo;
    o->layer_hi = s->hi;
    o->max_tokens = p->tokens;
    o->prev_id = slice_of(i > 0 ? s[-1].id.b : ps->c.me.b, ID_BYTES);
    o->priority = p->wish.priority;
    if (after) {
        o->next_id = slice_of(after->id.b, ID_BYTES);
        o->next_addr = addr_of(ps, &after->id);
    }
    uint8_t names[PREFIX_ASKS * HASH_WIRE];
    o->keeps = p->on.on_ask_known != NULL;
    o->trace = p->on.on_trace != NULL;
    if (p->kept >> i & 1) {
        o->adopts = slice_of(p->former, SESSION_BYTES);
    } else if (p->on.on_ask_known) {
        uint32_t n = p->on.on_ask_known(p->on.arg, s->lo, names, &p->stage[i].asked);
        o->prefixes = slice_of(names, (size_t)n * HASH_WIRE);
    }
    struct slice addr = addr_of(ps, &s->id);
    if (addr.n) net_hint(ps->c.net, &s->id, addr);
    return net_send(ps->c.net, &s->id, &m);
}

/* --- the plan --- */

/* avoid [AVOID_MAX] is written and borrowed. */
static void make_query(struct plan_query *q, struct pipelines *ps, const struct pipeline *p,
                       uint32_t tokens, struct node_id *avoid)
{
    struct measured *m = peers_measured(ps->c.peers);
    const struct directory *d = peers_directory(ps->c.peers);
    uint32_t middle = p->wish.min_tokens + SOME_TOKENS;
    speeds_tell(ps->speeds, d, m, middle < tokens ? middle : tokens, pipelines_now(ps));
    for (uint32_t i = 0; i < p->n_avoid; i++) avoid[i] = p->avoid[i].id;
    *q = (struct plan_query){ .d = d,
                              .measured = m,
                              .self = &ps->c.me,
                              .n_layers = ps->c.n_layers,
                              .max_tokens = tokens,
                              .avoid = avoid,
                              .n_avoid = p->n_avoid,
                              .row_bytes = (uint32_t)ps->c.row_bytes,
                              .uplink = net_uplink_kbit(ps->c.net),
                              .head_us = speeds_head_us(ps->speeds),
                              .hop_us = speeds_hop_us(ps->speeds),
                              .start_us = speeds_start_us(ps->speeds) };
    memcpy(q->model, ps->c.model, ID_BYTES);
}

static enum err plan_for(struct pipelines *ps, const struct pipeline *p, uint32_t tokens,
                         struct plan *out, struct why *why)
{
    struct plan_query q;
    struct node_id avoid[AVOID_MAX];
    make_query(&q, ps, p, tokens, avoid);
    return plan_make(out, &q, why);
}

/* What p needs: while it heals, the positions that it had. */
static uint32_t needed(const struct pipeline *p)
{
    return p->healing.is_on ? p->tokens : p->wish.min_tokens;
}

enum err pipeline_explain(struct pipeline *p, struct plan_explanation *out, struct why *why)
{
    struct plan_query q;
    struct node_id avoid[AVOID_MAX];
    make_query(&q, p->all, p, needed(p), avoid);
    return plan_explain(out, &q, why);
}

/* A plan without spares is still a plan. */
static void add_spares(struct pipeline *p)
{
    struct plan_query q;
    struct node_id avoid[AVOID_MAX];
    make_query(&q, p->all, p, p->tokens, avoid);
    if (plan_add_spares(&p->plan, &q)) log_debug("no memory for spares");
}

/* Is it only the length that no plan exists for?  Then say which node grants the least. */
static enum err too_long(struct pipelines *ps, const struct pipeline *p, uint32_t tokens,
                         struct why *why)
{
    struct plan plan;
    const struct directory *d = peers_directory(ps->c.peers);
    if (plan_for(ps, p, 1, &plan, NULL)) return ERR_NOTFOUND;

    uint64_t least = UINT64_MAX;
    const struct plan_stage *at = NULL;
    for (uint32_t i = 0; i < plan.n; i++) {
        const struct entry *e = directory_find(d, &plan.stage[i].id);
        if (!e) continue;
        uint64_t grants = e->body.context < e->body.kv_tokens ? e->body.context : e->body.kv_tokens;
        if (grants < least) {
            least = grants;
            at = &plan.stage[i];
        }
    }
    if (!at || least >= tokens) return ERR_NOTFOUND;
    struct words who;
    words_stage(&who, &at->id, at->lo, at->hi);
    return fail(why, ERR_FULL, "this conversation needs %u positions, %s grants %llu", tokens,
                who.text, (unsigned long long)least);
}

static enum err plan_or_explain(struct pipelines *ps, const struct pipeline *p, uint32_t tokens,
                                struct plan *out, struct why *why)
{
    enum err e = plan_for(ps, p, tokens, out, why);
    if (e == ERR_NOTFOUND && too_long(ps, p, tokens, why) == ERR_FULL) return ERR_FULL;
    return e;
}

/* The largest number of positions in [min, wish] that a plan exists for; there is one for min. */
static uint32_t fit(struct pipeline *p)
{
    struct plan plan;
    uint32_t good = p->wish.min_tokens, bad = p->wish.max_tokens;
    if (!plan_for(p->all, p, bad, &plan, NULL)) return bad;
    while (bad - good > 1) {
        uint32_t middle = good + (bad - good) / 2;
        if (plan_for(p->all, p, middle, &plan, NULL))
            bad = middle;
        else
            good = middle;
    }
    if (!p->wish.is_modest || good - p->wish.min_tokens <= FEW_TOKENS) return good;
    uint32_t half = p->wish.min_tokens + (good - p->wish.min_tokens) / 2;
    if (half >= p->wish.enough) return half;
    return p->wish.enough < good ? p->wish.enough : good;
}

/* Is there a plan for so many positions as soon as those that others use are free? */
static bool fits_later(struct pipeline *p, uint32_t tokens)
{
    struct plan plan;
    bool is_used = false;
    const struct directory *d = peers_directory(p->all->c.peers);
    if (p->healing.is_on || plan_for(p->all, p, 0, &plan, NULL)) return false;
    for (uint32_t i = 0; i < plan.n; i++) {
        const struct entry *e = directory_find(d, &plan.stage[i].id);
        if (!e || e->body.context < tokens) return false;
        is_used = is_used || (e->body.kv_tokens < tokens && e->body.sessions > 0);
    }
    return is_used;
}

enum err pipeline_find_plan(struct pipeline *p, struct plan *out, struct why *why)
{
    return plan_or_explain(p->all, p, needed(p), out, why);
}

/* --- the sessions --- */

static void open_sessions(struct pipeline *p)
{
    struct pipelines *ps = p->all;
    random_bytes(p->session, SESSION_BYTES);
    p->rid = ++ps->last_rid ? ps->last_rid : ++ps->last_rid;
    p->state = OPENING;
    p->sent = 0;
    p->send_err = ERR_OK;
    p->moved_ms = pipelines_now(ps);
    p->pinged_ms = 0;
    p->deadline_ms = p->moved_ms + OPEN_WAIT_MS;
    for (uint32_t i = 0; i < p->plan.n; i++) p->stage[i] = (struct peer_stage){ 0 };
    p->hops = (struct hops){ 0 };
    for (uint32_t i = 0; i < p->plan.n; i++) {
        enum err e = send_open(p, i);
        if (!e) continue;
        pipeline_refused(p, i, AVOID_GONE, WIRE_LOST_STAGE,
                         e == ERR_NOTFOUND ? "it cannot be reached from here" : err_text(e));
        return;
    }
}

/* --- stages that are kept --- */

static bool is_avoided(const struct pipeline *p, const struct node_id *id)
{
    for (uint32_t i = 0; i < p->n_avoid; i++)
        if (node_id_equal(&p->avoid[i].id, id)) return true;
    return false;
}

static bool is_in(const struct plan *plan, const struct node_id *id)
{
    for (uint32_t i = 0; i < plan->n; i++)
        if (node_id_equal(&plan->stage[i].id, id)) return true;
    return false;
}

/* out: the stages of p's plan, with spares where it avoids the node; kept: which of out's are p's.
 */
static bool replace(const struct pipeline *p, const struct plan *with, struct plan *out,
                    uint64_t *kept)
{
    *out = *with;
    out->n = 0;
    *kept = 0;
    for (uint32_t i = 0; i < with->n; i++) {
        const struct plan_stage *s = &with->stage[i];
        bool is_kept = !is_avoided(p, &s->id);
        uint32_t n = is_kept ? 1 : s->n_spares;
        if (n == 0 || out->n + n > PLAN_STAGES_MAX) return false;
        if (!is_kept) out->token_us = s->spare_token_us;
        if (is_kept) *kept |= UINT64_C(1) << out->n;
        for (uint32_t k = 0; k < n; k++) {
            struct plan_stage *to = &out->stage[out->n];
            const struct plan_spare *spare = is_kept ? NULL : &with->spare[s->spare + k];
            if (spare && (is_in(out, &spare->id) || is_in(with, &spare->id))) return false;
            *to = *s;
            if (spare) to->id = spare->id, to->lo = spare->lo, to->hi = spare->hi;
            out->n++;
        }
    }
    return true;
}

bool pipeline_keep_others(struct pipeline *p)
{
    struct plan_query q;
    struct node_id avoid[AVOID_MAX];
    struct plan with = p->plan, plan;
    uint64_t kept;
    make_query(&q, p->all, p, p->tokens, avoid);
    if (plan_add_spares(&with, &q) || !replace(p, &with, &plan, &kept) || kept == 0) return false;
    for (uint32_t i = 0; i < p->plan.n; i++)
        if (is_avoided(p, &p->plan.stage[i].id)) send_close(p, &p->plan.stage[i]);
    p->plan = plan;
    p->tries++;
    q.max_tokens = 1; /* those that are kept have the room */
    if (plan_price(&p->plan, &q)) log_debug("what a stage costs is no longer known");
    add_spares(p);
    memcpy(p->former, p->session, SESSION_BYTES);
    p->kept = kept;
    open_sessions(p);
    p->kept = 0;
    return true;
}

void pipeline_try_plan(struct pipeline *p)
{
    struct why why = { "" };
    enum err e = pipeline_find_plan(p, &p->plan, &why);
    if (!e && !p->healing.is_on) {
        p->tokens = fit(p);
        e = plan_for(p->all, p, p->tokens, &p->plan, &why);
    }
    if (!p->wish.plan_only && (e || p->tokens < p->wish.enough) &&
        fits_later(p, e ? p->wish.min_tokens : p->wish.enough)) {
        pipeline_end(p, WIRE_BUSY, "the stages have no room at the moment");
        return;
    }
    if (e == ERR_NOTFOUND && !p->healing.is_on && pipelines_now(p->all) < p->deadline_ms) return;
    if (e && p->healing.is_on) {
        heal_wait(p, why.text);
        return;
    }
    if (e) {
        struct why all;
        fail(&all, e, "%.250s%s%.200s", p->lost.text, p->lost.text[0] ? "; now " : "", why.text);
        pipeline_end(p, e == ERR_FULL ? WIRE_KV_FULL : WIRE_NO_PIPELINE, all.text);
        return;
    }
    p->tries++;
    if (!p->wish.plan_only) {
        add_spares(p);
        open_sessions(p);
        return;
    }
    p->state = PLANNED;
    p->on.on_open(p->on.arg);
}

/* While it heals, a refusal is one more stage that is lost; room may be free again in a moment. */
static void refused_healing(struct pipeline *p, uint32_t i, enum avoid_kind kind,
                            enum wire_error code, const char *text)
{
    bool may_change = code == WIRE_KV_FULL || code == WIRE_BUSY;
    log_info("%s", text);
    pipeline_close_sessions(p);
    if (!may_change) heal_miss(p, i, kind);
    p->state = PLANNING;
    if (may_change)
        heal_wait(p, text); /* the next tick tries again */
    else
        pipeline_try_plan(p);
}

/* Nobody else holds the layers of a stage that was lost before the answer began.  Often it is back
 * in a moment: the tick plans again. */
static void wait_for_lost(struct pipeline *p, const struct why *said)
{
    struct why text;
    log_info("%s; waiting", said->text);
    if (!p->lost_until_ms) {
        p->lost_until_ms = pipelines_now(p->all) + p->all->c.heal_ms;
        fail(&text, ERR_CLOSED, "waiting; %s", said->text);
        p->on.on_note(p->on.arg, text.text);
    }
    p->lost = *said;
    p->deadline_ms = p->lost_until_ms;
}

void pipeline_refused(struct pipeline *p, uint32_t i, enum avoid_kind kind, enum wire_error code,
                      const char *text)
{
    const struct plan_stage s = p->plan.stage[i]; /* the plan is made anew */
    struct why said, why;
    struct words who;
    words_stage(&who, &s.id, s.lo, s.hi);
    bool is_lost = kind != AVOID_REFUSED && p->on.on_again;
    fail(&said, ERR_DENIED, "%s %s: %s", who.text, is_lost ? "is lost" : "refused", text);
    if (p->healing.is_on) {
        refused_healing(p, i, kind, code, said.text);
        return;
    }
    if (p->tries >= (is_lost ? TRIES_LOST : TRIES)) {
        pipeline_end(p, code, said.text);
        return;
    }
    pipeline_close_sessions(p);
    p->state = PLANNING;
    heal_avoid(p, &s.id, kind);
    bool is_alone = plan_for(p->all, p, p->wish.min_tokens, &p->plan, &why) != ERR_OK;
    if (is_alone && !is_lost) {
        pipeline_end(p, code,
                     said.text); /* nobody else holds these layers: the first reason counts */
        return;
    }
    if (is_alone) {
        if (kind == AVOID_GONE) heal_avoid(p, &s.id, AVOID_UNREACHED);
        wait_for_lost(p, &said);
        return;
    }
    p->deadline_ms = pipelines_now(p->all);
    log_info("%s; trying without it", said.text);
    pipeline_try_plan(p);
}
