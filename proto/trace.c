#include "proto/trace.h"

#include <stdlib.h>

static void put(uint8_t *p, uint64_t v, unsigned n)
{
    while (n-- > 0) {
        p[n] = (uint8_t)v;
        v >>= 8;
    }
}

static uint64_t get(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;
    while (n-- > 0) v = v << 8 | *p++;
    return v;
}

void trace_encode(uint8_t out[TRACE_BYTES], const struct trace_event *e)
{
    out[0] = e->kind;
    out[1] = e->stage;
    put(out + 2, e->n, 2);
    put(out + 4, e->step, 4);
    if (e->kind == TRACE_NAME) {
        memcpy(out + 8, e->id.b, ID_BYTES);
        return;
    }
    put(out + 8, e->at, 8);
    put(out + 16, e->clock, 8);
    put(out + 24, e->wait, 4);
    put(out + 28, e->compute, 4);
    put(out + 32, e->stay, 4);
    put(out + 36, 0, 4);
}

enum err trace_decode(struct trace_event *e, const uint8_t p[TRACE_BYTES])
{
    *e = (struct trace_event){
        .kind = p[0], .stage = p[1], .n = (uint16_t)get(p + 2, 2), .step = (uint32_t)get(p + 4, 4)
    };
    if (e->kind == 0 || e->kind >= TRACE_KINDS || e->stage >= TRACE_STAGES_MAX)
        return ERR_MALFORMED;
    if (e->kind == TRACE_NAME) {
        memcpy(e->id.b, p + 8, ID_BYTES);
        return ERR_OK;
    }
    e->at = get(p + 8, 8);
    e->clock = get(p + 16, 8);
    e->wait = (uint32_t)get(p + 24, 4);
    e->compute = (uint32_t)get(p + 28, 4);
    e->stay = (uint32_t)get(p + 32, 4);
    return e->at >> 50 || e->clock >> 50 ? ERR_MALFORMED : ERR_OK;
}
