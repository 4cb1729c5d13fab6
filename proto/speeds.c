#include "proto/speeds.h"

#include <stdlib.h>

enum { STEPS_LINE = 200, STEPS_MEAN = 64, CHUNKS_LINE = 16, CHUNK_ROWS_MIN = 8, FEW_MAX = 7 };

/* A running mean: of all values at first, then with the weight of one in `most`. */
struct mean {
    double value;
    uint32_t n;
};

/* The last values, of which the middle one counts: an answer that met a busy moment does not. */
struct few {
    double last[FEW_MAX]; /* a ring */
    uint32_t n;           /* ever */
};

/* A line through points, older ones with less and less weight. */
struct line {
    double n, x, y, xx, xy; /* sums */
};

struct speed {
    struct node_id id;
    struct line compute; /* of one row through one layer, us over position */
    struct mean wait;    /* of the same steps */
    uint32_t n_steps;    /* such steps; no more are counted than are needed */
    struct line rows;    /* rows of a prompt through one layer, us over rows */
    uint64_t used_ms;
};

struct speeds {
    struct speed speed[SPEEDS_MAX]; /* [n] */
    uint32_t n;
    struct few head, hop, start; /* of answers */
};

static void add(struct mean *m, double value, uint32_t weight, uint32_t most)
{
    m->n = m->n + weight < most ? m->n + weight : most;
    m->value += (value - m->value) * (weight < m->n ? (double)weight / m->n : 1);
}

static void line_add(struct line *l, double x, double y, double weight, double most)
{
    double keep = 1 - weight / most;
    if (keep < 0) keep = 0;
    *l = (struct line){ l->n * keep + weight, l->x * keep + weight * x, l->y * keep + weight * y,
                        l->xx * keep + weight * x * x, l->xy * keep + weight * x * y };
}

/* Its slope, never negative; 0 where the points lie too close to each other to tell. */
static double line_slope(const struct line *l)
{
    double mean = l->x / l->n, spread = l->xx / l->n - mean * mean;
    if (spread < 16 || spread < mean * mean / 64) return 0;
    double slope = (l->xy / l->n - mean * l->y / l->n) / spread;
    return slope > 0 ? slope : 0;
}

static double line_at(const struct line *l, double x)
{
    double y = l->y / l->n + line_slope(l) * (x - l->x / l->n);
    return y > 0 ? y : 0;
}

enum err speeds_open(struct speeds **out)
{
    *out = calloc(1, sizeof **out);
    return *out ? ERR_OK : ERR_NOMEM;
}

void speeds_close(struct speeds *s)
{
    free(s);
}

static void few_add(struct few *f, double value)
{
    f->last[f->n++ % FEW_MAX] = value;
}

static double few_middle(const struct few *f)
{
    double sorted[FEW_MAX];
    uint32_t n = 0;
    for (uint32_t i = 0; i < f->n && i < FEW_MAX; i++) {
        uint32_t at = n++;
        for (; at > 0 && sorted[at - 1] > f->last[i]; at--) sorted[at] = sorted[at - 1];
        sorted[at] = f->last[i];
    }
    return n ? sorted[(n - 1) / 2] : 0;
}

static const struct speed *find(const struct speeds *s, const struct node_id *id)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (node_id_equal(&s->speed[i].id, id)) return &s->speed[i];
    return NULL;
}

static struct speed *get(struct speeds *s, const struct node_id *id)
{
    uint32_t i = 0, oldest = 0;
    while (i < s->n && !node_id_equal(&s->speed[i].id, id)) {
        if (s->speed[i].used_ms < s->speed[oldest].used_ms) oldest = i;
        i++;
    }
    if (i < s->n) return &s->speed[i];
    i = s->n < SPEEDS_MAX ? s->n++ : oldest;
    s->speed[i] = (struct speed){ .id = *id };
    return &s->speed[i];
}

void speeds_step(struct speeds *s, const struct node_id *id, const struct speeds_work *w,
                 uint64_t now_ms)
{
    if (w->n_layers == 0 || w->n_steps == 0) return;
    struct speed *v = get(s, id);
    double us = (double)w->compute_us / w->n_steps / w->n_layers;

    v->used_ms = now_ms;
    if (w->rows == 1) {
        if (v->n_steps < SPEEDS_STEPS) v->n_steps += w->n_steps;
        line_add(&v->compute, w->pos, us, w->n_steps, STEPS_LINE);
        add(&v->wait, (double)w->wait_us / w->n_steps / w->n_layers, w->n_steps, STEPS_MEAN);
    } else if (w->rows >= CHUNK_ROWS_MIN) {
        line_add(&v->rows, w->rows, us, w->n_steps, CHUNKS_LINE);
    }
}

void speeds_head(struct speeds *s, double us)
{
    few_add(&s->head, us);
}

void speeds_hops(struct speeds *s, double token_us, double known_us, uint32_t n_hops)
{
    if (n_hops == 0) return;
    double us = (token_us - known_us) / n_hops;
    if (us < 1) us = 1;
    if (us > SPEEDS_HOP_MAX_US) us = SPEEDS_HOP_MAX_US;
    few_add(&s->hop, us);
}

void speeds_start(struct speeds *s, double us)
{
    if (us < 0) us = 0;
    if (us > SPEEDS_START_MAX_US) us = SPEEDS_START_MAX_US;
    few_add(&s->start, us);
}

/* Rows cost the same each where the line is too short to tell more. */
static void tell_rows(const struct line *l, struct measured *m)
{
    double slope = line_slope(l), fixed = line_at(l, 0);
    if (slope <= 0) slope = l->y / l->x, fixed = 0;
    m->chunk_us = fixed < UINT32_MAX ? (uint32_t)fixed : UINT32_MAX;
    m->row_ns = plan_number(slope * 1000);
}

void speeds_tell(const struct speeds *s, const struct directory *d, struct measured *m,
                 uint32_t pos, uint64_t now_ms)
{
    for (uint32_t i = 0; i < directory_n(d); i++) {
        const struct speed *v = find(s, &directory_nth(d, i)->id);
        if (v && v->rows.n > 0) tell_rows(&v->rows, &m[i]);
        if (!v || v->n_steps < SPEEDS_STEPS) continue;
        m[i].with_load = now_ms - v->used_ms < SPEEDS_FRESH_MS;
        m[i].layer_us =
            plan_number(line_at(&v->compute, pos) + (m[i].with_load ? v->wait.value : 0));
    }
}

uint32_t speeds_head_us(const struct speeds *s)
{
    return s->head.n ? plan_number(few_middle(&s->head)) : 0;
}

uint32_t speeds_hop_us(const struct speeds *s)
{
    return s->hop.n ? plan_number(few_middle(&s->hop)) : 0;
}

uint32_t speeds_start_us(const struct speeds *s)
{
    return s->start.n ? plan_number(few_middle(&s->start)) : 0;
}
