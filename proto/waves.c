#include "proto/waves.h"

uint32_t waves_count(const struct plan *p, const bool *is_here)
{
    uint64_t here = p->head_us, slowest = 1;
    for (uint32_t i = 0; i < p->n; i++) {
        const struct plan_stage *s = &p->stage[i];
        uint64_t us = (uint64_t)s->layer_us * (s->hi - s->lo);
        if (is_here[i])
            here += us;
        else if (us > slowest)
            slowest = us;
    }
    if (here > slowest) slowest = here;
    uint64_t n = (p->token_us + slowest / 2) / slowest;
    return n < 1 ? 1 : n < PLAN_STAGES_MAX ? (uint32_t)n : PLAN_STAGES_MAX;
}

uint32_t waves_size(uint32_t n_waves, uint32_t n_answers)
{
    if (n_waves < 2 || n_answers == 0) return 0;
    return (n_answers + n_waves - 1) / n_waves;
}

uint32_t waves_part(uint32_t n, uint32_t together)
{
    uint32_t parts = together > 0 ? (n + together / 2) / together : 1;
    return parts > 1 ? (n + parts - 1) / parts : n;
}
