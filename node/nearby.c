#include "node/nearby.h"

#include "base/log.h"

#include <stdlib.h>
#include <string.h>

struct nearby {
    struct nearby_config c;
    const struct arch *a;
    uint32_t lo, hi;    /* [lo, hi): the layers that are led */
    struct share *held; /* [GROUP_MEMBERS_MAX][hi - lo] owned */
    uv_timer_t *timer;
};

static bool is_member(const struct nearby *s, const struct node_id *id)
{
    for (uint32_t i = 0; i < group_n(s->c.group); i++) {
        struct node_id member = group_nth(s->c.group, i);
        if (node_id_equal(&member, id)) return true;
    }
    return false;
}

static bool is_near(const struct nearby *s, const struct node_id *id)
{
    uint32_t limit = is_member(s, id) ? NEARBY_SLACK * NEARBY_RTT_US : NEARBY_RTT_US;
    return net_is_up(s->c.net, id) && net_rtt_us(s->c.net, id) <= limit;
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

/* What e holds of our layers; false: nothing. */
static bool read_held(const struct nearby *s, const struct entry *e, struct share *held)
{
    const struct uints *l = &e->body.layers;
    bool has_any = false;
    memset(held, 0, (s->hi - s->lo) * sizeof *held);
    for (uint32_t i = 0; i + 1 < l->n; i += 2)
        for (uint32_t k = s->lo; k < s->hi; k++) {
            if (k < l->p[i] || k >= l->p[i + 1]) continue;
            hold_all(&held[k - s->lo], s->a, k);
            has_any = true;
        }
    return has_any;
}

static bool is_fit(const struct nearby *s, const struct entry *e)
{
    const struct record_body *b = &e->body;
    return !node_id_equal(&e->id, &s->c.me) && b->state == RECORD_ACTIVE &&
           b->model.n == ID_BYTES && memcmp(b->model.p, s->c.weights->name.id.b, ID_BYTES) == 0 &&
           is_near(s, &e->id);
}

static void on_timer(uv_timer_t *t)
{
    struct nearby *s = t->data;
    const struct directory *d = peers_directory(s->c.peers);
    struct group_want want[GROUP_MEMBERS_MAX];
    uint32_t n = 0;
    for (uint32_t i = 0; i < directory_n(d) && n < GROUP_MEMBERS_MAX; i++) {
        const struct entry *e = directory_nth(d, i);
        struct share *held = s->held + (size_t)n * (s->hi - s->lo);
        if (!is_fit(s, e) || !read_held(s, e, held)) continue;
        want[n++] = (struct group_want){ e->id, held, (uint32_t)e->body.layer_us };
    }
    enum err err = group_want(s->c.group, want, n, s->c.own_us);
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
