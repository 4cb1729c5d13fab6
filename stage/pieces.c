#include "stage/pieces.h"

#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 9, ROUNDS_US = 50000, FAIR_HELPING = 8 };

static enum err open_stage(struct pieces *p)
{
    const struct compute_config *c = p->c;
    enum err e;

    if (p->stage) return ERR_OK;
    e = stage_open(&p->stage, c->arch, c->all, c->all_lo, c->all_hi, p->rows_max, c->kernels,
                   c->workers);
    if (!e) stage_tell(p->stage, c->pager);
    return e;
}

enum err pieces_do(struct pieces *p, struct share_job *j)
{
    uint64_t start = uv_hrtime();
    enum err e = open_stage(p);

    if (!e) e = stage_share_work(p->stage, &j->work, j->out);
    uint64_t us = (uv_hrtime() - start) / 1000;
    j->job.compute_us = us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
    p->us += us;
    return e;
}

void pieces_close(struct pieces *p)
{
    stage_close(p->stage);
    p->stage = NULL;
}

/* --- how fast --- */

/* The first of the parts in the last layer that has any; false: none is held. */
static bool find_part(const struct compute_config *c, enum share_kind kind, uint32_t *layer,
                      uint32_t *part)
{
    for (uint32_t l = c->all_hi; l-- > c->all_lo;) {
        struct share held;
        share_of(&held, c->arch, &c->all[l - c->all_lo]);
        const struct share_set *set = kind == SHARE_HEADS     ? &held.heads
                                      : kind == SHARE_EXPERTS ? &held.experts
                                                              : &held.dense;
        for (uint32_t i = 0; i < ARCH_EXPERTS_MAX; i++)
            if (share_has(set, i)) {
                *layer = l, *part = i;
                return true;
            }
    }
    return false;
}

/* Up to so many neighbours of it, as a token of a session would have: several weigh less each. */
static uint32_t helping(const struct compute_config *c, enum share_kind kind, uint32_t layer,
                        uint32_t part)
{
    struct share held;
    uint32_t n = 1, most = kind == SHARE_EXPERTS ? c->arch->top_k : FAIR_HELPING;

    share_of(&held, c->arch, &c->all[layer - c->all_lo]);
    const struct share_set *set = kind == SHARE_HEADS     ? &held.heads
                                  : kind == SHARE_EXPERTS ? &held.experts
                                                          : &held.dense;
    while (n < most && part + n < ARCH_EXPERTS_MAX && share_has(set, part + n)) n++;
    return n;
}

static uint32_t time_work(struct pieces *p, struct share_job *j, uint32_t n)
{
    uint32_t us[ROUNDS], rounds = 0;
    uint64_t start = uv_hrtime();

    while (rounds < ROUNDS && (rounds < 3 || (uv_hrtime() - start) / 1000 < ROUNDS_US)) {
        if (pieces_do(p, j)) return 0;
        uint32_t took = j->job.compute_us, at = rounds++;
        for (; at > 0 && us[at - 1] > took; at--) us[at] = us[at - 1];
        us[at] = took;
    }
    uint32_t each = us[(rounds - 1) / 2] / n;
    return each ? each : 1;
}

/* Numbers of about size 1, as norms leave them. */
static void fill(uint8_t *x, size_t bytes, const struct arch *a)
{
    size_t blocks = (a->hidden + BLOCK - 1) / BLOCK, q = blocks * BLOCK;
    float one = 1, scale = 1.0f / 64;

    if (bytes != blocks * (BLOCK + sizeof scale)) {
        for (size_t i = 0; i + sizeof one <= bytes; i += sizeof one)
            memcpy(x + i, &one, sizeof one);
        return;
    }
    for (size_t i = 0; i < q; i++) x[i] = (uint8_t)(i * 37 % 127);
    for (size_t i = 0; i < blocks; i++) memcpy(x + q + i * sizeof scale, &scale, sizeof scale);
}

static void put_picks(uint8_t *to, uint32_t first, uint32_t n)
{
    *to++ = (uint8_t)n;
    *to++ = 0;
    for (uint32_t i = 0; i < n; i++, to += SHARE_PICK_BYTES) {
        uint16_t e = (uint16_t)(first + i);
        float w = 1;
        memcpy(to, &e, sizeof e);
        memcpy(to + sizeof e, &w, sizeof w);
    }
}

static uint32_t measure(struct pieces *p, enum share_kind kind)
{
    const struct arch *a = p->c->arch;
    struct share_job j = { .work = { .kind = kind, .n = 1 } };
    struct row row = { 0 };
    uint32_t part, us = 0;

    if (!find_part(p->c, kind, &j.work.layer, &part)) return 0;
    uint32_t n = helping(p->c, kind, j.work.layer, part);
    size_t x_bytes = share_x_bytes(a, kind);
    uint8_t *x = malloc(x_bytes), *out = malloc(n * arch_row_bytes(a));
    uint8_t *picks = malloc(SHARE_PICKS_HEAD + (size_t)n * SHARE_PICK_BYTES);
    enum err e =
        x && out && picks ? kv_open(&row.kv, a, j.work.layer, j.work.layer + 1, 1) : ERR_NOMEM;
    if (!e) {
        fill(x, x_bytes, a);
        put_picks(picks, part, n);
        j.work.x = x, j.work.lo = part, j.work.hi = part + n, j.work.row = &row;
        j.work.picks = picks, j.work.picks_len = SHARE_PICKS_HEAD + (size_t)n * SHARE_PICK_BYTES;
        j.out = out;
        us = share_check(a, &j.work) ? 0 : time_work(p, &j, n);
    }
    kv_close(row.kv);
    free(picks);
    free(out);
    free(x);
    return us;
}

void pieces_measure(struct pieces *p, struct pace *pace)
{
    pace->heads_us = measure(p, SHARE_HEADS);
    pace->expert_us = measure(p, SHARE_EXPERTS);
    pace->dense_us = measure(p, SHARE_DENSE);
}
