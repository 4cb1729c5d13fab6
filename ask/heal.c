/* Stages that are lost: who is suspected, what replaces them, what the owner is told. */
#include "ask/pipeline_impl.h"

#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    SUSPECT_MS = 1500,    /* without progress: stages that owe something are asked */
    UNANSWERED_MS = 1000, /* a PING */
    UNREACHED_MS = 1000,  /* until a node that another could not reach is tried again */
    WHO_MAX = 120,        /* bytes of names in a sentence */
};

/* --- who is not planned with --- */

void heal_avoid(struct pipeline *p, const struct node_id *id, enum avoid_kind kind)
{
    uint32_t i = 0;
    while (i < p->n_avoid && !node_id_equal(&p->avoid[i].id, id)) i++;
    if (i == AVOID_MAX) { /* the oldest may be tried again */
        memmove(p->avoid, p->avoid + 1, (AVOID_MAX - 1) * sizeof *p->avoid);
        i = --p->n_avoid;
    }
    if (i == p->n_avoid) p->n_avoid++;
    p->avoid[i] = (struct avoided){ *id, kind, pipelines_now(p->all) };
}

static void unavoid(struct pipeline *p, uint32_t i)
{
    p->avoid[i] = p->avoid[--p->n_avoid];
}

void heal_on_back(struct pipeline *p, const struct node_id *id)
{
    for (uint32_t i = p->n_avoid; i-- > 0;)
        if (node_id_equal(&p->avoid[i].id, id)) unavoid(p, i);
    if (p->state == PLANNING && p->healing.is_on) pipeline_try_plan(p);
}

/* Those who may have recovered: heard of again, or worth another try. */
static void forgive(struct pipeline *p, uint64_t now)
{
    for (uint32_t i = p->n_avoid; i-- > 0;) {
        const struct avoided *a = &p->avoid[i];
        uint64_t age = now - a->since_ms;
        bool is_back = a->kind == AVOID_SILENT && net_silent_ms(p->all->c.net, &a->id) < age;
        bool is_due = a->kind == AVOID_UNREACHED && age >= UNREACHED_MS;
        if (a->kind == AVOID_SILENT) net_ping(p->all->c.net, &a->id);
        if (is_back || is_due) unavoid(p, i);
    }
}

/* --- a stage is lost --- */

/* Once, though it may be lost twice. */
static void add_name(struct text *t, const struct node_id *id)
{
    char name[NODE_ID_SHORT];
    node_id_short(name, id);
    if (t->n > WHO_MAX || (t->n > 0 && memmem(t->p, t->n, name, strlen(name)))) return;
    text_printf(t, "%s%s", t->n > 0 ? ", " : "", name);
}

static void layers_text(char *out, size_t size, uint32_t lo, uint32_t hi)
{
    if (hi - lo == 1)
        snprintf(out, size, "layer %u", lo);
    else
        snprintf(out, size, "layers %u-%u", lo, hi - 1);
}

static void begin(struct pipeline *p, enum wire_error code, const char *text)
{
    struct healing *h = &p->healing;
    if (h->is_on) return; /* one more loss before the first is healed */
    free(h->who.p);
    *h = (struct healing){ .is_on = true, .lo = UINT32_MAX, .code = code };
    h->since_ms = pipelines_now(p->all);
    fail(&h->why, ERR_CLOSED, "%s", text);
}

void heal_resume(struct pipeline *p)
{
    begin(p, WIRE_NO_PIPELINE, "the answer cannot go on");
    p->tokens = p->wish.max_tokens;
    p->rows_end = p->wish.resumes;
    p->healing.until_ms = p->healing.since_ms + p->all->c.heal_ms;
}

void heal_miss(struct pipeline *p, uint32_t i, enum avoid_kind kind)
{
    struct healing *h = &p->healing;
    const struct plan_stage *s = &p->plan.stage[i];
    h->lo = s->lo < h->lo ? s->lo : h->lo;
    h->hi = s->hi > h->hi ? s->hi : h->hi;
    add_name(&h->who, &s->id);
    heal_avoid(p, &s->id, kind);
}

void heal_lost(struct pipeline *p, uint32_t i, enum avoid_kind kind, enum wire_error code,
               const char *text)
{
    struct healing *h = &p->healing;
    const struct plan_stage *s = &p->plan.stage[i];
    if (!p->on.on_again || p->heals.n >= HEALS_MAX) {
        pipeline_end(p, code, text);
        return;
    }
    log_info("%s; looking for others", text);
    begin(p, code, text);
    h->has_step = false;
    h->until_ms = pipelines_now(p->all) + p->all->c.heal_ms;
    heal_miss(p, i, kind);
    if (kind == AVOID_SILENT) peers_suspect(p->all->c.peers, &s->id);
    p->heals.n++;
    if (pipeline_keep_others(p)) return;
    pipeline_close_sessions(p);
    p->state = PLANNING;
    pipeline_try_plan(p);
}

/* --- nobody replaces it yet --- */

static void say_waiting(struct pipeline *p, const struct plan_stage *s, const char *what)
{
    char layers[48], name[NODE_ID_SHORT], text[200];
    if (p->healing.has_said) return;
    p->healing.has_said = true;
    layers_text(layers, sizeof layers, s->lo, s->hi);
    node_id_short(name, &s->id);
    snprintf(text, sizeof text, "waiting for %s; node %s, which computed them, %s", layers, name,
             what);
    p->on.on_note(p->on.arg, text);
}

void heal_wait(struct pipeline *p, const char *why)
{
    struct healing *h = &p->healing;
    char layers[48], text[300];
    struct why all;
    layers_text(layers, sizeof layers, h->lo, h->hi);
    if (pipelines_now(p->all) >= h->until_ms) {
        fail(&all, ERR_CLOSED, "%.200s; %s within %u s: %.200s", h->why.text,
             h->who.n > 0 ? "nobody replaced it" : "the swarm did not come together",
             p->all->c.heal_ms / 1000, why);
        pipeline_end(p, h->code, all.text);
        return;
    }
    if (h->has_said) return;
    h->has_said = true;
    if (h->who.n > 0)
        snprintf(text, sizeof text, "waiting for %s; node %.*s, which computed them, left", layers,
                 (int)h->who.n, h->who.p);
    else
        snprintf(text, sizeof text, "waiting for the swarm: %.200s", why);
    p->on.on_note(p->on.arg, text);
}

/* --- the refill --- */

void heal_on_sent(struct pipeline *p, uint32_t end)
{
    struct healing *h = &p->healing;
    if (h->is_on && !h->has_step && end >= p->rows_end) {
        h->has_step = true;
        h->step = p->sent;
    }
    if (end > p->rows_end) p->rows_end = end;
}

/* Who computes the lost layers now. */
static void add_successors(struct text *t, const struct pipeline *p)
{
    for (uint32_t i = 0; i < p->plan.n; i++) {
        const struct plan_stage *s = &p->plan.stage[i];
        if (s->hi > p->healing.lo && s->lo < p->healing.hi) add_name(t, &s->id);
    }
}

void heal_on_step(struct pipeline *p)
{
    struct healing *h = &p->healing;
    if (!h->is_on || !h->has_step || p->stage[p->plan.n - 1].steps_done <= h->step) return;
    char layers[48];
    struct text t = { 0 }, others = { 0 };
    uint64_t ms = pipelines_now(p->all) - h->since_ms;
    layers_text(layers, sizeof layers, h->lo, h->hi);
    add_successors(&others, p);
    if (h->who.n > 0)
        text_printf(&t, "node %.*s left; %s %s now computed by %.*s", (int)h->who.n, h->who.p,
                    layers, h->hi - h->lo == 1 ? "is" : "are", (int)others.n, others.p);
    else
        text_str(&t, "the answer goes on");
    text_printf(&t, "; refilled %u positions in %.1f s", p->rows_end, (double)ms / 1e3);
    text_add(&t, "", 1);
    h->is_on = false;
    p->heals.rows += p->rows_end;
    for (uint32_t i = 0; i < p->plan.n; i++) {
        uint32_t held = p->stage[i].held < p->rows_end ? p->stage[i].held : p->rows_end;
        uint64_t n_layers = p->plan.stage[i].hi - p->plan.stage[i].lo;
        p->heals.layer_rows += n_layers * (p->rows_end - held);
    }
    p->heals.ms += ms;
    counters_add(p->all->c.counters, COUNT_HEALS, 1);
    counters_add(p->all->c.counters, COUNT_HEAL_ROWS, p->rows_end);
    counters_time(p->all->c.counters, TIME_HEAL, (double)ms * 1e3, 1);
    if (!t.failed) log_info("%s", t.p);
    if (!t.failed) p->on.on_note(p->on.arg, t.p);
    free(others.p);
    free(t.p);
}

/* --- who does not answer --- */

static bool owes(const struct pipeline *p, uint32_t i)
{
    return p->state == OPENING ? !p->stage[i].granted : p->stage[i].steps_done < p->sent;
}

/* A stage that says nothing may be slow to be reached: it is given up only for another. */
static void silent(struct pipeline *p, uint32_t i)
{
    const struct plan_stage *s = &p->plan.stage[i];
    struct words who;
    struct why why;
    if (p->state == OPENING) {
        pipeline_refused(p, i, AVOID_SILENT, WIRE_TIMEOUT, "it does not answer");
        return;
    }
    words_stage(&who, &s->id, s->lo, s->hi);
    fail(&why, ERR_TIMEOUT, "%s does not answer", who.text);
    struct plan plan;
    bool was_on = p->healing.is_on;
    uint32_t n = p->n_avoid;
    heal_avoid(p, &s->id, AVOID_SILENT);
    p->healing.is_on = true; /* ask for as many positions as are reserved */
    enum err e = pipeline_find_plan(p, &plan, NULL);
    p->healing.is_on = was_on;
    uint64_t waited = pipelines_now(p->all) - p->moved_ms;
    if (!e || waited >= p->all->c.heal_ms) {
        heal_lost(p, i, AVOID_SILENT, WIRE_TIMEOUT, why.text);
        return;
    }
    if (p->n_avoid > n) p->n_avoid = n;
    say_waiting(p, s, "does not answer");
}

void heal_tick(struct pipeline *p, uint64_t now)
{
    if (p->state == FAILED || p->state == CLOSED) return;
    forgive(p, now);
    if (p->state != OPENING && (p->state != OPEN || pipeline_under_way(p) == 0)) return;
    if (!p->on.on_again || now - p->moved_ms < SUSPECT_MS) return;
    if (!p->pinged_ms) p->pinged_ms = now;
    for (uint32_t i = 0; i < p->plan.n; i++) {
        const struct node_id *id = &p->plan.stage[i].id;
        if (!owes(p, i)) continue;
        uint64_t asked = now - p->pinged_ms;
        if (asked >= UNANSWERED_MS && net_silent_ms(p->all->c.net, id) >= asked) {
            silent(p, i);
            return;
        }
        net_ping(p->all->c.net, id);
    }
}

void heal_fini(struct pipeline *p)
{
    free(p->healing.who.p);
}
