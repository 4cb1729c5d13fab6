/* compute_pace.c - how fast is this machine: its own layers and head, timed at the start. */
#include "stage/compute_impl.h"

#include <stdlib.h>
#include <string.h>

enum {
    MEASURE_US = 200000, /* for compute_measure */
    MEASURE_ROUNDS = 64,
    MEASURE_LEAST = 3,        /* so that one that waited for the disk does not count */
    MEASURE_ROWS = 64,        /* of a prompt's batch */
    MEASURE_BYTES = 64 << 20, /* layers that are larger are not measured so */
};

/* What one token reads in our layers on average, over what it reads in the last of them. */
static double average_layer(const struct compute_config *k)
{
    double all = 0, last = (double)arch_token_bytes(k->arch, k->hi - 1);
    for (uint32_t i = k->lo; i < k->hi; i++) all += (double)arch_token_bytes(k->arch, i);
    return last > 0 ? all / last / (k->hi - k->lo) : 1;
}

/* Rows as layers see them: numbers of magnitude 0.5 to 1 in the exchange type, so that experts are
 * chosen as various as in real prompts. */
static void fill_rows(const struct compute *c, uint8_t *x, uint32_t n)
{
    size_t width = ftype_bytes(c->c.arch->exchange);
    uint32_t r = 1;
    for (size_t i = 0; i < n * c->row_bytes; i += width) {
        r = r * 1664525 + 1013904223;
        uint16_t half = (uint16_t)(0x3f00 | (r >> 16 & 0x80ff));
        memset(x + i, 0, width);
        memcpy(x + i + width - 2, &half, 2);
    }
}

/* The middle one of the times of some rounds of n rows through layers [lo, hi): the first ones
 * bring the weights into memory.  0: it failed. */
static uint32_t time_rows(struct compute *c, uint32_t lo, uint32_t hi, uint32_t n,
                          uint32_t limit_us)
{
    struct batch *b = &c->prompts;
    uint32_t us[MEASURE_ROUNDS], rounds = 0;
    struct kv *kv;
    if (kv_open(&kv, c->c.arch, lo, hi, n * MEASURE_ROUNDS)) return 0;

    uint64_t start = uv_hrtime();
    while (rounds < MEASURE_ROUNDS && (rounds < MEASURE_LEAST || us_since(start) < limit_us)) {
        struct nonfinite bad;
        for (uint32_t i = 0; i < n; i++) b->rows[i] = (struct row){ kv, rounds * n + i };
        fill_rows(c, b->x, n);
        uint64_t round = uv_hrtime();
        if (stage_forward_part(c->stage, lo, hi, b->rows, n, b->x, &bad)) break;
        uint32_t took = us_since(round), at = rounds++;
        for (; at > 0 && us[at - 1] > took; at--) us[at] = us[at - 1];
        us[at] = took;
    }
    kv_close(kv);
    return rounds ? us[(rounds - 1) / 2] : 0;
}

/* All layers where they are small (one of them alone would stay in the cache); where they are large
 * the last one stands for all, so that a node of many large layers starts as fast as any. */
static void measure_layers(struct compute *c, struct pace *p)
{
    const struct compute_config *k = &c->c;
    uint32_t n = k->hi - k->lo;
    double us = time_rows(c, k->hi - 1, k->hi, 1, MEASURE_US) * average_layer(k);
    if (us * n < MEASURE_US / 8) us = (double)time_rows(c, k->lo, k->hi, 1, MEASURE_US / 2) / n;
    p->layer_us = us < 1 ? 1 : (uint32_t)(us + 0.5);

    /* Many rows touch all experts: on a cold disk that would take long. */
    bool is_small = arch_bytes(k->arch, k->hi - 1) <= MEASURE_BYTES;
    if (!is_small || us * MEASURE_ROWS > MEASURE_US || c->rows_max < MEASURE_ROWS) return;
    double batch = time_rows(c, k->hi - 1, k->hi, MEASURE_ROWS, MEASURE_US / 2) * average_layer(k);
    if (batch > 0) p->prefill = (uint32_t)(MEASURE_ROWS * 1e6 / batch);
}

static uint32_t measure_head(struct compute *c)
{
    uint32_t best_us = UINT32_MAX;
    uint64_t start = uv_hrtime();
    const struct sampling usual = { .temperature = 1, .top_p = 1 };
    fill_rows(c, c->x, 1);
    for (uint32_t i = 0; i < MEASURE_ROUNDS && us_since(start) < MEASURE_US; i++) {
        struct next_job j = {
            .x = c->x, .sampling = usual, .usable = c->c.arch->vocab, .position = i
        };
        struct nonfinite bad;
        uint64_t round = uv_hrtime();
        if (ends_logits(c->ends, c->x, 1, c->logits, &bad) || compute_next_token(c, &j, c->logits))
            break;
        uint32_t us = us_since(round);
        if (us < best_us) best_us = us;
    }
    return best_us == UINT32_MAX ? 0 : best_us ? best_us : 1;
}

struct pace compute_measure(struct compute *c)
{
    struct pace p = { 0 };
    if (c->c.lo < c->c.hi) measure_layers(c, &p);
    pieces_measure(&c->pieces, &p);
    if (c->ends) p.head_us = measure_head(c);
    return p;
}
