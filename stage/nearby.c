#include "stage/nearby.h"

#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct nearby {
    struct nearby_config c;
    const struct arch *a;
    uint32_t lo, hi;    /* [lo, hi): the layers that are led */
    struct share *held; /* [GROUP_MEMBERS_MAX][hi - lo] owned */
    uv_timer_t *timer;
    struct nearby_state state;
    struct node_id weighed[GROUP_MEMBERS_MAX]; /* who there was when it was weighed last */
    uint32_t n_weighed;
    uint64_t weighed_ms, again_ms; /* the last and, after it did not pay, the next time */
    uint32_t dials;                /* that may be made now: one more every second */
    uint32_t turn;                 /* who is dialled first */
};

static bool is_member(const struct nearby *s, const struct node_id *id)
{
    for (uint32_t i = 0; i < group_n(s->c.group); i++) {
        struct node_id member = group_nth(s->c.group, i);
        if (node_id_equal(&member, id)) return true;
    }
    return false;
}

static bool was_refused(const struct nearby_state *was, const struct node_id *id)
{
    for (uint32_t i = 0; i < was->n_refused; i++)
        if (node_id_equal(&was->refused[i].id, id)) return true;
    return false;
}

/* Remember why not, and say it once. */
static void refuse(struct nearby_state *now, const struct nearby_state *was,
                   const struct node_id *id, const char *why)
{
    char text[NODE_ID_SHORT];
    if (now->n_refused == GROUP_MEMBERS_MAX) return;
    now->refused[now->n_refused].id = *id;
    memcpy(now->refused[now->n_refused++].why, why, SHARING_TEXT);
    node_id_short(text, id);
    if (!was_refused(was, id)) log_info("layers are not shared with %s: it %s", text, why);
}

static bool is_near(struct nearby *s, const struct nearby_state *was, const struct node_id *id)
{
    char why[SHARING_TEXT];
    uint32_t rtt_us = net_rtt_us(s->c.net, id);
    if (!net_is_up(s->c.net, id) || rtt_us == UINT32_MAX) return false;
    if (sharing_is_near(rtt_us, s->c.rtt_us, net_line_kbit(s->c.net, id), is_member(s, id), why))
        return true;
    refuse(&s->state, was, id, why);
    return false;
}

/* Every part of a layer. */
static void hold_all(struct share *h, const struct arch *a, uint32_t layer)
{
    h->trunk = true;
    share_add(&h->heads, 0, a->n_kv);
    if (arch_is_moe(a, layer)) share_add(&h->experts, 0, a->n_experts);
    for (uint32_t p = 0, lo, hi; p < a->mlp_parts && !arch_is_moe(a, layer); p++) {
        arch_part(a, p, &lo, &hi);
        if (lo < hi) share_add(&h->dense, p, p + 1);
    }
}

/* The items of a range that a layer has. */
static void hold_items(struct share *h, const struct arch *a, uint32_t layer,
                       const struct record_part *p)
{
    bool is_moe = arch_is_moe(a, layer);
    uint32_t lo, hi;
    for (uint32_t i = p->item_lo; i < p->item_hi; i++) {
        if (p->kind == PART_HEADS && i < a->n_kv) share_add(&h->heads, i, i + 1);
        if (p->kind == PART_EXPERTS && is_moe && i < a->n_experts) share_add(&h->experts, i, i + 1);
        if (p->kind != PART_DENSE || is_moe || i >= a->mlp_parts) continue;
        arch_part(a, i, &lo, &hi);
        if (lo < hi) share_add(&h->dense, i, i + 1);
    }
}

/* Does it hold the layer in parts?  Then it announces it because others hold the rest. */
static bool names(const struct record_body *b, uint32_t layer)
{
    for (uint32_t i = 0; i < record_n_parts(b); i++) {
        struct record_part p = record_part_nth(b, i);
        if (layer >= p.lo && layer < p.hi) return true;
    }
    return false;
}

static bool read_parts(const struct nearby *s, const struct record_body *b, struct share *held)
{
    bool has_any = false;
    for (uint32_t i = 0; i < record_n_parts(b); i++) {
        struct record_part p = record_part_nth(b, i);
        for (uint32_t k = s->lo; k < s->hi; k++) {
            if (k < p.lo || k >= p.hi || p.kind == PART_TRUNK) continue;
            hold_items(&held[k - s->lo], s->a, k, &p);
            has_any = true;
        }
    }
    return has_any;
}

/* What e holds of our layers; false: nothing. */
static bool read_held(const struct nearby *s, const struct entry *e, struct share *held)
{
    const struct uints *l = &e->body.layers;
    memset(held, 0, (s->hi - s->lo) * sizeof *held);
    bool has_any = read_parts(s, &e->body, held);
    for (uint32_t i = 0; i + 1 < l->n; i += 2)
        for (uint32_t k = s->lo; k < s->hi; k++) {
            if (k < l->p[i] || k >= l->p[i + 1] || names(&e->body, k)) continue;
            hold_all(&held[k - s->lo], s->a, k);
            has_any = true;
        }
    return has_any;
}

static void on_dialled(void *arg, const struct node_id *id, enum err e, const char *why)
{
    (void)arg, (void)id;
    if (e) log_debug("a node that could share layers is not reached: %s", why);
}

/* How far away a node is shows when it is connected: one on this network is dialled. */
static void reach(struct nearby *s, const struct entry *e)
{
    char host[256], text[80];
    uint16_t port;
    if (s->dials == 0 || net_is_up(s->c.net, &e->id)) return;
    for (uint32_t i = 0; i < e->body.addrs.n; i++) {
        struct slice a = e->body.addrs.p[i];
        bool is_here = addr_is_private(a) || addr_is_loopback(a);
        if (!is_here || !addr_text(text, sizeof text, a) || hostport_parse(host, &port, text, NULL))
            continue;
        s->dials--;
        net_dial(s->c.net, &e->id, host, port, on_dialled, NULL);
        return;
    }
}

/* Of our model, and there to stay; a member that leaves may finish what it has begun. */
static bool is_fit(const struct nearby *s, const struct entry *e)
{
    const struct record_body *b = &e->body;
    bool is_there =
        b->state == RECORD_ACTIVE ||
        (b->state == RECORD_DRAINING && is_member(s, &e->id) && group_needs(s->c.group, &e->id));
    return is_there && !node_id_equal(&e->id, &s->c.me) && b->model.n == ID_BYTES &&
           memcmp(b->model.p, s->c.weights->name.id.b, ID_BYTES) == 0;
}

/* A whole layer, as the sum of its parts. */
static uint32_t sum_us(const struct arch *a, uint32_t heads_us, uint32_t expert_us,
                       uint32_t dense_us)
{
    uint32_t mlp_us = a->n_experts ? (a->top_k + a->n_shared) * expert_us : a->mlp_parts * dense_us;
    return a->n_kv * heads_us + mlp_us;
}

static uint32_t layer_us(const struct nearby *s, const struct record_body *b)
{
    const struct uints *p = &b->piece_us;
    return p->n == 3 ? sum_us(s->a, p->p[0], p->p[1], p->p[2]) : (uint32_t)b->layer_us;
}

static uint32_t own_us(const struct nearby *s)
{
    const struct pace *p = s->c.pace;
    uint32_t us = sum_us(s->a, p->heads_us, p->expert_us, p->dense_us);
    return us ? us : p->layer_us;
}

static void reach_some(struct nearby *s, const struct directory *d)
{
    uint32_t all = directory_n(d);
    if (s->dials < NEARBY_DIALS) s->dials++;
    for (uint32_t i = 0; i < all && s->dials > 0; i++) {
        const struct entry *e = directory_nth(d, s->turn++ % all);
        if (is_fit(s, e) && read_held(s, e, s->held)) reach(s, e);
    }
}

/* --- whether --- */

static bool is_as_weighed(const struct nearby *s, const struct group_want *want, uint32_t n)
{
    bool is_same = n == s->n_weighed;
    for (uint32_t i = 0; i < n && is_same; i++)
        is_same = node_id_equal(&want[i].id, &s->weighed[i]);
    return is_same;
}

/* Nobody is asked: why, and in the log when it is news. */
static void say_alone(struct nearby *s, const struct sharing *w, uint32_t n)
{
    struct nearby_state *now = &s->state;
    char text[SHARING_TEXT];
    bool is_news = !now->why[0];
    sharing_text(text, w);
    snprintf(now->why, sizeof now->why,
             "layers are not shared: with %u other%s %s by prediction, and at least %d %% must be "
             "gained",
             n, n > 1 ? "s" : "", text, SHARING_GAIN_PERCENT);
    if (is_news) log_info("%s", now->why);
}

/* Which way is best with those who could be had; then state.way and state.why say so. */
static void choose_way(struct nearby *s, const struct group_want *want, uint32_t n)
{
    struct nearby_state *now = &s->state;
    struct sharing w;
    now->way = n ? now->way : SHARING_ALONE;
    if (n == 0) now->why[0] = 0;
    if (n == 0 || now_ms(s->c.hub) < s->again_ms ||
        group_weigh_want(s->c.group, want, n, own_us(s), s->c.pace, &w))
        return;
    bool is_sharing = now->way != SHARING_ALONE;
    now->way = sharing_choose(&w, now->way);
    if (is_sharing && now->way == SHARING_ALONE) s->again_ms = now_ms(s->c.hub) + NEARBY_AGAIN_MS;
    if (now->way == SHARING_ALONE)
        say_alone(s, &w, n);
    else
        now->why[0] = 0;
}

/* Those who are asked: all; without head groups; or who still has some of sessions. */
static uint32_t keep_wanted(const struct nearby *s, struct group_want *want, uint32_t n)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        bool is_needed = is_member(s, &want[i].id) && group_needs(s->c.group, &want[i].id);
        if (s->state.way == SHARING_ALONE && !is_needed) continue;
        want[i].no_heads |= s->state.way != SHARING_ALL;
        want[kept++] = want[i];
    }
    return kept;
}

static uint32_t decide(struct nearby *s, struct group_want *want, uint32_t n)
{
    uint64_t now = now_ms(s->c.hub);
    bool is_due = now - s->weighed_ms >= NEARBY_WEIGH_MS;
    bool is_news = !is_as_weighed(s, want, n);
    if (s->c.how != SHARING_AUTO) s->state.way = n ? SHARING_ALL : SHARING_ALONE;
    if (s->c.how == SHARING_AUTO && (is_due || is_news)) choose_way(s, want, n);
    if (is_due || is_news) s->weighed_ms = now;
    s->n_weighed = n;
    for (uint32_t i = 0; i < n; i++) s->weighed[i] = want[i].id;
    if (is_due && s->c.on_weigh) s->c.on_weigh(s->c.arg);
    return keep_wanted(s, want, n);
}

/* --- every second --- */

static void on_timer(uv_timer_t *t)
{
    struct nearby *s = t->data;
    const struct directory *d = peers_directory(s->c.peers);
    struct nearby_state was = s->state;
    struct group_want want[GROUP_MEMBERS_MAX];
    uint32_t n = 0;
    reach_some(s, d);
    s->state.n_refused = 0;
    for (uint32_t i = 0; i < directory_n(d) && n < GROUP_MEMBERS_MAX; i++) {
        const struct entry *e = directory_nth(d, i);
        struct share *held = s->held + (size_t)n * (s->hi - s->lo);
        if (!is_fit(s, e) || !read_held(s, e, held)) continue;
        if (!is_near(s, &was, &e->id)) continue;
        want[n++] = (struct group_want){ e->id, held, layer_us(s, &e->body),
                                         e->body.state == RECORD_DRAINING };
    }
    n = decide(s, want, n);
    enum err err = group_want(s->c.group, want, n, own_us(s));
    if (err) log_warn("layers cannot be shared: %s", err_text(err));
}

enum err nearby_open(struct nearby **out, const struct nearby_config *c)
{
    struct nearby *s = calloc(1, sizeof *s);
    if (!s) return ERR_NOMEM;
    s->c = *c;
    s->a = &c->weights->manifest.arch;
    holding_led(&c->weights->held, &s->lo, &s->hi);
    s->held = calloc((size_t)GROUP_MEMBERS_MAX * (s->hi - s->lo) + 1, sizeof *s->held);
    s->timer = malloc(sizeof *s->timer);
    if (!s->held || !s->timer) {
        free(s->held);
        free(s->timer);
        free(s);
        return ERR_NOMEM;
    }
    uv_timer_init(&c->hub->loop, s->timer);
    s->timer->data = s;
    s->dials = NEARBY_DIALS;
    uv_timer_start(s->timer, on_timer, NEARBY_TICK_MS / 4, NEARBY_TICK_MS);
    *out = s;
    return ERR_OK;
}

static void on_timer_closed(uv_handle_t *h)
{
    free(h);
}

void nearby_close(struct nearby *s)
{
    if (!s) return;
    uv_close((uv_handle_t *)s->timer, on_timer_closed);
    free(s->held);
    free(s);
}

const struct nearby_state *nearby_state(const struct nearby *s)
{
    return &s->state;
}
