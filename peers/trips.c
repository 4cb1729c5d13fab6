#include "peers/trips.h"

#include <stdlib.h>

enum { ID_PART = RTT_BYTES - 4, CHANGE_US = 1000 };

struct trip {
    uint8_t id[ID_PART];
    uint32_t us;
};

static int by_time(const void *a, const void *b)
{
    const struct trip *x = a, *y = b;
    return (x->us > y->us) - (x->us < y->us);
}

static int by_id(const void *a, const void *b)
{
    return memcmp(((const struct trip *)a)->id, ((const struct trip *)b)->id, ID_PART);
}

/* The nearest of those connected that hold layers, by id. */
static uint32_t gather(const struct trips *t, struct trip out[RTTS_MAX])
{
    const struct directory *d = peers_directory(t->peers);
    uint32_t n = 0;

    for (uint32_t i = 0; i < directory_n(d); i++) {
        const struct entry *e = directory_nth(d, i);
        struct trip trip = { .us = net_rtt_us(t->net, &e->id) };
        if (trip.us == UINT32_MAX || (e->body.layers.n == 0 && e->body.parts.n == 0) || node_id_equal(&e->id, &t->me))
            continue;
        memcpy(trip.id, e->id.b, ID_PART);
        if (n == RTTS_MAX) {
            qsort(out, n, sizeof *out, by_time);
            if (out[n - 1].us <= trip.us) continue;
            n--;
        }
        out[n++] = trip;
    }
    qsort(out, n, sizeof *out, by_id);
    for (uint32_t i = 1; i < n;) /* two ids that begin the same would make the record invalid */
        if (by_id(&out[i - 1], &out[i]) == 0)
            memmove(&out[i], &out[i + 1], (--n - i) * sizeof *out);
        else
            i++;
    return n;
}

static bool find(const struct trips *t, const uint8_t *id, uint32_t *us)
{
    for (size_t at = 0; at < t->n; at += RTT_BYTES) {
        const uint8_t *p = t->list + at;
        if (memcmp(p, id, ID_PART) != 0) continue;
        *us = (uint32_t)p[8] << 24 | (uint32_t)p[9] << 16 | (uint32_t)p[10] << 8 | p[11];
        return true;
    }
    return false;
}

static bool is_news(const struct trips *t, const struct trip *trip)
{
    uint32_t old;
    if (!find(t, trip->id, &old)) return true;
    uint32_t change = old > trip->us ? old - trip->us : trip->us - old;
    return change > CHANGE_US && change > old / 4;
}

static void write_list(struct trips *t, const struct trip *trip, uint32_t n)
{
    t->n = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *p = t->list + t->n;
        memcpy(p, trip[i].id, ID_PART);
        for (int k = 0; k < 4; k++) p[ID_PART + k] = (uint8_t)(trip[i].us >> (24 - 8 * k));
        t->n += RTT_BYTES;
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct trips *t = timer->data;
    struct trip trip[RTTS_MAX];
    uint32_t n = gather(t, trip);
    uint32_t uplink = net_uplink_kbit(t->net);
    uint32_t change = uplink > t->uplink ? uplink - t->uplink : t->uplink - uplink;
    bool has_news = change > t->uplink / 4;

    for (uint32_t i = 0; i < n; i++) has_news |= is_news(t, &trip[i]);
    if (!has_news) return;
    write_list(t, trip, n);
    t->uplink = uplink;
    t->on_change(t->arg);
}

void trips_start(struct trips *t, struct hub *hub, struct net *net, struct peers *peers,
                 struct node_id me, void (*on_change)(void *arg), void *arg)
{
    *t = (struct trips){ .net = net, .peers = peers, .me = me, .arg = arg, .on_change = on_change };
    uv_timer_init(&hub->loop, &t->timer);
    t->timer.data = t;
    uv_timer_start(&t->timer, on_tick, TRIPS_TICK_MS / 4, TRIPS_TICK_MS);
    t->is_started = true;
}

void trips_stop(struct trips *t)
{
    if (t->is_started) uv_close((uv_handle_t *)&t->timer, NULL);
    t->is_started = false;
}

struct slice trips_list(const struct trips *t)
{
    return slice_of(t->list, t->n);
}

uint32_t trips_uplink(const struct trips *t)
{
    return t->uplink;
}
