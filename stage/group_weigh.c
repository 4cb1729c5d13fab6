/* What it brings that others share this node's layers: proto/sharing.h fed with what is held, with
 * measured times and round trips. */
#include "stage/group_impl.h"

#include <stdlib.h>
#include <string.h>

_Static_assert((int)SHARING_HANDS_MAX >= (int)HANDS_MAX, "the leader and its members");
_Static_assert((int)PART_ITEMS_MAX >= (int)ARCH_EXPERTS_MAX, "sets hold all items of a layer");

struct weighing {
    struct group *g;
    const struct pace *pace;
    struct group_want in[GROUP_MEMBERS_MAX]; /* [n] */
    uint32_t n;
    uint32_t own_us;
    double expert_us[HANDS_MAX]; /* measured of late, of ours and of in's; 0: not known */
    double scale; /* by which this node computes slower now than when its pace was measured */
    float *use;   /* [n_layers][n_experts] owned; NULL: nothing is known of it */
};

/* What everybody holds of a layer; hand 0 is this node. */
struct holds {
    struct share of[SHARING_HANDS_MAX];
};

static struct sharing_set set_of(const struct share_set *s)
{
    struct sharing_set out = { { 0 } };
    memcpy(out.bit, s->bit, sizeof s->bit < sizeof out.bit ? sizeof s->bit : sizeof out.bit);
    return out;
}

static void read_holds(struct holds *h, const struct weighing *w, uint32_t layer)
{
    uint32_t at = layer - w->g->lo;

    memset(h, 0, sizeof *h);
    h->of[0] = w->g->own[at];
    for (uint32_t i = 0; i < w->n; i++) h->of[1 + i] = w->in[i].held[at];
}

/* Times below a microsecond are measured as 0. */
static double some(uint32_t us)
{
    return us ? us : 0.5;
}

/* All layers together as many as one: the loop waits. */
static uint32_t draws_for(uint32_t times, uint32_t n_layers)
{
    enum { FEW = 4 };
    uint32_t n = SHARING_DRAWS * times / n_layers;
    return n > FEW ? n : FEW;
}

static struct sharing_layer layer_of(const struct weighing *w, uint32_t layer, uint32_t times)
{
    const struct arch *a = w->g->a;
    const struct pace *p = w->pace;
    bool moe = arch_is_moe(a, layer);
    double item_us = w->scale * some(moe ? p->expert_us : p->dense_us);
    double head_us = w->scale * some(p->heads_us), all_us = w->scale * p->layer_us;
    struct sharing_layer l = {
        .heads = a->n_kv,
        .items = moe ? a->n_experts : a->mlp_parts,
        .top_k = moe ? a->top_k : a->mlp_parts,
        .shared_us = moe ? a->n_shared * item_us : 0,
        .round_us = SHARING_ROUND_US,
        .ask_bytes = (uint32_t)share_x_bytes(a, moe ? SHARE_EXPERTS : SHARE_DENSE),
        .piece_bytes = (uint32_t)arch_row_bytes(a),
        .use = moe && w->use ? w->use + (size_t)(layer - w->g->lo) * a->n_experts : NULL,
        .n_use = times,
        .draws = draws_for(times, w->g->n_layers),
    };
    double parts = l.heads * head_us + l.top_k * item_us + l.shared_us;

    l.trunk_us = all_us > parts ? all_us - parts : parts / 20;
    return l;
}

/* Dense parts without width are everybody's. */
static void add_empty_parts(struct sharing_set *items, const struct arch *a)
{
    for (uint32_t p = 0, lo, hi; p < a->mlp_parts; p++) {
        arch_part(a, p, &lo, &hi);
        if (lo == hi) sharing_add(items, p, p + 1);
    }
}

/* Head groups, or dense parts, as the group deals them (group_deal.c, group_ask.c). */
static void deal_as_it_does(uint8_t *who, const struct weighing *w, const struct holds *h,
                            enum share_kind kind)
{
    const struct arch *a = w->g->a;
    const struct share_set *set[HANDS_MAX] = { kind == SHARE_HEADS ? &h->of[0].heads
                                                                   : &h->of[0].dense };
    double speed[HANDS_MAX] = { 1 };

    for (uint32_t i = 0; i < w->n; i++) {
        const struct share *of = &h->of[1 + i];
        set[1 + i] = kind == SHARE_DENSE ? &of->dense : w->in[i].no_heads ? NULL : &of->heads;
        speed[1 + i] = deal_speed(w->in[i].layer_us, w->own_us);
    }
    deal_columns(who, kind == SHARE_HEADS ? a->n_kv : a->mlp_parts, NULL, set, speed, 1 + w->n);
    for (uint32_t p = 0, lo, hi; kind == SHARE_DENSE && p < a->mlp_parts; p++) {
        arch_part(a, p, &lo, &hi);
        if (lo == hi) who[p] = 0; /* nothing to do */
    }
}

/* How much slower hand i is than we: as measured in answers, or announced. */
static double slower_than_us(const struct weighing *w, uint32_t i)
{
    bool is_measured = w->expert_us[0] > 0 && w->expert_us[i] > 0;
    return is_measured ? w->expert_us[i] / w->expert_us[0]
                       : 1 / deal_speed(w->in[i - 1].layer_us, w->own_us);
}

static void add_layers(struct sharing *out, const struct weighing *w, const struct holds *h,
                       uint32_t layer, uint32_t times)
{
    const struct arch *a = w->g->a;
    bool moe = arch_is_moe(a, layer);
    struct sharing_set heads[SHARING_HANDS_MAX], items[SHARING_HANDS_MAX];
    struct sharing_hand hand[SHARING_HANDS_MAX];
    struct sharing_layer l = layer_of(w, layer, times);
    struct sharing one = { 0 };
    uint8_t head[PART_ITEMS_MAX], part[PART_ITEMS_MAX];

    deal_as_it_does(head, w, h, SHARE_HEADS);
    l.head_of = head;
    if (!moe) deal_as_it_does(part, w, h, SHARE_DENSE);
    if (!moe) l.item_of = part;
    for (uint32_t i = 0; i <= w->n; i++) {
        const struct group_want *m = i ? &w->in[i - 1] : NULL;
        uint32_t rtt_us = m ? net_rtt_us(w->g->c.net, &m->id) : 0;
        double slower = w->scale * (m ? slower_than_us(w, i) : 1);
        heads[i] = set_of(&h->of[i].heads);
        items[i] = set_of(moe ? &h->of[i].experts : &h->of[i].dense);
        if (!moe) add_empty_parts(&items[i], a);
        hand[i] = (struct sharing_hand){
            .heads = &heads[i],
            .items = &items[i],
            .head_us = slower * some(w->pace->heads_us),
            .item_us = slower * some(moe ? w->pace->expert_us : w->pace->dense_us),
            .rtt_us = rtt_us == UINT32_MAX ? SHARING_RTT_US : rtt_us,
            .kbit = m ? net_line_kbit(w->g->c.net, &m->id) : 0,
        };
    }
    sharing_add_layer(&one, &l, hand, 1 + w->n);
    out->n_layers += times;
    for (unsigned k = 0; k < SHARING_WAYS; k++) out->us[k] += times * one.us[k];
    for (unsigned k = 0; k < SHARING_HANDS_MAX; k++) out->of[k] += times * one.of[k];
}

static enum err read_uses(struct weighing *w)
{
    uint32_t n = w->g->a->n_experts;
    if (n == 0) return ERR_OK;
    w->use = malloc((size_t)w->g->n_layers * n * sizeof *w->use + 1);
    for (uint32_t l = 0; w->use && l < w->g->n_layers; l++)
        group_use(w->g, w->g->lo + l, w->use + (size_t)l * n);
    return w->use ? ERR_OK : ERR_NOMEM;
}

/* A pace that was measured once, perhaps in a busy moment, is put right by what answers took. */
static void read_times(struct weighing *w)
{
    struct group *g = w->g;
    struct expert_time time[HANDS_MAX];

    pthread_mutex_lock(&g->box.lock);
    memcpy(time, g->box.time, sizeof time);
    pthread_mutex_unlock(&g->box.lock);
    w->expert_us[0] = time[0].us;
    for (uint32_t i = 0; i < w->n; i++)
        for (unsigned k = 0; k < GROUP_MEMBERS_MAX; k++) {
            const struct mate *m = &g->mate[k];
            bool is_it = m->state == MATE_IN && m->gen == time[1 + k].gen &&
                         node_id_equal(&m->id, &w->in[i].id);
            if (is_it) w->expert_us[1 + i] = time[1 + k].us;
        }
    bool is_known = time[0].us > 0 && w->pace->expert_us > 0;
    w->scale = is_known ? time[0].us / w->pace->expert_us : 1;
}

/* Layers of which everybody holds the same at a time. */
static enum err add_all(struct weighing *w, struct sharing *out)
{
    struct group *g = w->g;
    struct holds *h = malloc(2 * sizeof *h);
    uint32_t first = g->lo, end = g->lo + g->n_layers;

    *out = (struct sharing){ 0 };
    read_times(w);
    if (!h || read_uses(w)) {
        free(h);
        return ERR_NOMEM;
    }
    for (uint32_t l = g->lo; l < end; l++) {
        read_holds(&h[1], w, l);
        bool same = l > g->lo && arch_is_moe(g->a, l) == arch_is_moe(g->a, first) &&
                    memcmp(&h[0], &h[1], sizeof *h) == 0;
        if (same) continue;
        if (l > g->lo) add_layers(out, w, &h[0], first, l - first);
        h[0] = h[1];
        first = l;
    }
    if (g->n_layers) add_layers(out, w, &h[0], first, end - first);
    free(w->use);
    free(h);
    return ERR_OK;
}

enum err group_weigh(struct group *g, const struct pace *pace, struct sharing *out)
{
    struct weighing w = { .g = g, .pace = pace, .own_us = g->own_us };

    for (unsigned i = 0; i < GROUP_MEMBERS_MAX; i++) {
        const struct mate *m = &g->mate[i];
        if (m->state != MATE_IN) continue;
        w.in[w.n++] = (struct group_want){ m->id, m->held, m->layer_us, m->no_heads };
    }
    return add_all(&w, out);
}

enum err group_weigh_want(struct group *g, const struct group_want *want, uint32_t n,
                          uint32_t own_us, const struct pace *pace, struct sharing *out)
{
    struct weighing w = { .g = g, .pace = pace, .n = n, .own_us = own_us };

    memcpy(w.in, want, n * sizeof *want);
    return add_all(&w, out);
}
