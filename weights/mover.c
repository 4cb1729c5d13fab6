#include "weights/mover.h"

#include "base/log.h"

#include <stdlib.h>

enum {
    TICK_MS = 500,
    LOOK_MS = 10000,          /* while serving */
    AGAIN_MAX = 6,            /* choices, with the first */
    REST_MS = 10 * 60 * 1000, /* after a move that came to nothing */
    MEASURE_BYTES = 64 << 20,
};

struct mover {
    struct mover_config c;
    uv_timer_t *timer;      /* owned by its close callback */
    struct hold_peer *peer; /* [DIRECTORY_MAX] owned */
    uint64_t bytes_per_s;
    /* JOINING */
    bool is_joining;
    struct hold_model model; /* of the choice; later of what is served */
    uint64_t disk_room;
    uint32_t guess_us; /* a layer's time, before it is measured */
    struct hold_window chosen;
    unsigned choices;
    uint64_t again_ms;
    /* SERVING */
    struct hold_now now;
    uint64_t since_ms, looked_ms, rest_until_ms;
};

/* --- this machine --- */

/* Bytes a second that one thread reads.  A layer's time is about its bytes by this, or less with
 * more threads: near enough to be compared until it is measured. */
static uint64_t measure_memory(void)
{
    size_t n = MEASURE_BYTES / sizeof(uint64_t);
    uint64_t *p = malloc(MEASURE_BYTES), best = UINT64_MAX;
    volatile uint64_t sink;

    if (!p) return 0;
    memset(p, 1, MEASURE_BYTES);
    for (unsigned round = 0; round < 2; round++) {
        uint64_t start = uv_hrtime(), sum = 0;
        for (size_t i = 0; i < n; i++) sum += p[i];
        sink = sum;
        uint64_t ns = uv_hrtime() - start;
        if (ns < best) best = ns;
    }
    (void)sink;
    free(p);
    return best ? (uint64_t)MEASURE_BYTES * 1000000000 / best : 0;
}

static uint32_t guess_layer_us(const struct mover *m, const struct manifest *manifest)
{
    uint64_t bytes = arch_token_bytes(&manifest->arch, manifest->arch.n_layers - 1);
    uint64_t us = m->bytes_per_s ? bytes * 1000000 / m->bytes_per_s : 0;
    return us == 0 ? 1 : us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
}

/* --- the model --- */

static void read_model(struct hold_model *out, const uint8_t id[ID_BYTES],
                       const struct manifest *manifest)
{
    const struct arch *a = &manifest->arch;

    *out = (struct hold_model){ .n_layers = a->n_layers };
    memcpy(out->id, id, ID_BYTES);
    for (uint32_t l = 0; l < a->n_layers && l < LAYER_MAX; l++) {
        uint64_t bytes = arch_bytes(a, l);
        out->layer_bytes[l] = bytes + bytes / 50; /* pages of the store are not quite full */
    }
    uint64_t ends = arch_bytes(a, ARCH_ENDS) + manifest->tokenizer_bytes;
    out->ends_bytes = ends + ends / 50;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static struct hold_self describe_me(const struct mover *m, uint64_t disk_room, uint32_t layer_us)
{
    const struct entry *e = directory_find(peers_directory(m->c.peers), &m->c.me);
    return (struct hold_self){ .id = m->c.me,
                               .room = least(m->c.room, disk_fits(disk_room)),
                               .layer_us = layer_us,
                               .net = e ? hold_network(&e->body) : 0,
                               .no_ends = m->c.no_ends };
}

static uint32_t gather(struct mover *m)
{
    return hold_peers(m->peer, peers_directory(m->c.peers), &m->model, &m->c.me);
}

static bool same(const struct hold_window *a, const struct hold_window *b)
{
    return a->lo == b->lo && a->hi == b->hi && a->ends == b->ends;
}

static struct holding to_holding(const struct hold_window *w)
{
    return (struct holding){ .lo = w->lo, .hi = w->hi, .ends = w->ends };
}

static void say(const char *what, const struct hold_window *w, const char *why)
{
    if (w->lo == w->hi)
        log_info("%s the ends%s", what, why);
    else
        log_info("%s layers %u-%u%s%s", what, w->lo, w->hi - 1, w->ends ? " and the ends" : "",
                 why);
}

/* --- joining --- */

static void wait_a_moment(struct mover *m)
{
    uint32_t ms;
    random_bytes(&ms, sizeof ms);
    m->again_ms = now_ms(m->c.hub) + HOLD_WAIT_MIN_MS + ms % (HOLD_WAIT_MAX_MS - HOLD_WAIT_MIN_MS);
}

enum err mover_choose(struct mover *m, const uint8_t model[ID_BYTES],
                      const struct manifest *manifest, uint64_t room, struct holding *out,
                      struct why *why)
{
    read_model(&m->model, model, manifest);
    m->disk_room = room;
    m->guess_us = guess_layer_us(m, manifest);
    struct hold_self me = describe_me(m, room, m->guess_us);
    uint32_t n = gather(m);
    enum err e = hold_choose(&m->chosen, m->peer, n, &m->model, &me, false, why);

    if (e) return e;
    *out = to_holding(&m->chosen);
    m->is_joining = true;
    m->choices = 1;
    wait_a_moment(m);
    say("choosing", &m->chosen, ", which help most");
    return ERR_OK;
}

static void settle(struct mover *m)
{
    m->is_joining = false;
    m->c.on_settled(m->c.arg);
}

/* Others may have chosen the same in the same moment. */
static void choose_again(struct mover *m)
{
    struct hold_self me = describe_me(m, m->disk_room, m->guess_us);
    struct hold_window w;
    struct why why;
    uint32_t n = gather(m);

    if (hold_choose(&w, m->peer, n, &m->model, &me, true, &why) || same(&w, &m->chosen) ||
        m->choices >= AGAIN_MAX) {
        settle(m);
        return;
    }
    struct holding to = to_holding(&w);
    if (m->c.rechoose(m->c.arg, &to, &why)) {
        log_debug("mover: %s", why.text);
        settle(m);
        return;
    }
    m->choices++;
    m->chosen = w;
    wait_a_moment(m);
    say("choosing", &w, " instead: others took those");
}

bool mover_is_choosing(const struct mover *m)
{
    return m && m->is_joining;
}

/* --- serving --- */

static void see(struct mover *m, const struct mover_state *s, uint64_t now)
{
    struct hold_window have = { s->have.lo, s->have.hi, s->have.ends };

    if (memcmp(m->model.id, s->model, ID_BYTES) != 0 || !m->since_ms)
        read_model(&m->model, s->model, s->manifest);
    if (!m->since_ms || !same(&have, &m->now.have)) {
        m->now = (struct hold_now){ .have = have };
        m->since_ms = now;
    }
    m->now.resident_s = (now - m->since_ms) / 1000;
    m->now.sessions = s->sessions;
    m->now.unix_s = unix_now();
}

static void consider(struct mover *m, uint64_t now)
{
    struct mover_state s;
    struct hold_window to;
    struct why why;

    if (!m->c.state(m->c.arg, &s)) return;
    see(m, &s, now);
    if (now < m->rest_until_ms) return;
    struct hold_self me = describe_me(m, m->c.disk ? m->c.disk : UINT64_MAX, s.layer_us);
    uint32_t n = gather(m);
    enum hold_reason reason = hold_move(&to, &m->now, m->peer, n, &m->model, &me);
    if (reason == HOLD_STAY) return;
    say("moving to", &to,
        reason == HOLD_GAP ? ": nobody holds them" : ": the slowest layers become faster");
    struct holding h = to_holding(&to);
    m->rest_until_ms = now + REST_MS;
    if (m->c.move(m->c.arg, &h, &why)) log_warn("this node stays as it is: %s", why.text);
}

/* --- life --- */

static void on_tick(uv_timer_t *t)
{
    struct mover *m = t->data;
    uint64_t now = now_ms(m->c.hub);

    if (m->is_joining && now >= m->again_ms) choose_again(m);
    if (!m->c.may_move || now - m->looked_ms < LOOK_MS) return;
    m->looked_ms = now;
    consider(m, now);
}

enum err mover_open(struct mover **out, const struct mover_config *c)
{
    struct mover *m = calloc(1, sizeof *m);

    if (!m) return ERR_NOMEM;
    m->c = *c;
    m->peer = calloc(DIRECTORY_MAX, sizeof *m->peer);
    m->timer = malloc(sizeof *m->timer);
    if (!m->peer || !m->timer) {
        free(m->peer);
        free(m->timer);
        free(m);
        return ERR_NOMEM;
    }
    m->bytes_per_s = measure_memory();
    if (uv_timer_init(&c->hub->loop, m->timer)) abort(); /* it cannot fail */
    m->timer->data = m;
    uv_timer_start(m->timer, on_tick, TICK_MS, TICK_MS);
    *out = m;
    return ERR_OK;
}

static void on_timer_closed(uv_handle_t *t)
{
    free(t);
}

void mover_close(struct mover *m)
{
    if (!m) return;
    uv_close((uv_handle_t *)m->timer, on_timer_closed);
    free(m->peer);
    free(m);
}
