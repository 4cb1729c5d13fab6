#include "ask/admit.h"

#include "ask/coordinator_impl.h"

#include <stdlib.h>

enum {
    TICK_MS = 500,        /* places are told, full stages tried again */
    SAY_AGAIN_MS = 10000, /* to who has not moved meanwhile */
    TOKENS_USUAL = 128,   /* of an answer, until some have been made */
    PROMPT_ROWS = 8,      /* cost about as much as a token */
};

struct admit {
    struct coordinator *c;
    struct fair_queue queue;
    uv_timer_t *timer; /* closed by admit_close, freed when libuv lets go */
    uint32_t answers;
    uint32_t n_admitted, n_opening; /* of them, those without a pipeline yet */
    bool is_full;                   /* the stages were, last time */
    bool is_stopped;
    uint64_t tick; /* counts on_timer */
    /* what usually happens; 0: nothing is known */
    double tokens;    /* of an answer */
    double answer_ms; /* from its turn to its end */
    double gap_ms;    /* between two ends */
    uint64_t ended_ms;
};

static uint64_t now(const struct admit *a)
{
    return now_ms(a->c->c.hub);
}

static struct request *request_of(struct fair_place *p)
{
    return (struct request *)(void *)((char *)p - offsetof(struct request, place));
}

static void on_timer(uv_timer_t *t);

/* Look who is next as soon as the loop turns: not inside somebody's callback. */
static void wake(struct admit *a)
{
    if (!a->is_stopped) uv_timer_start(a->timer, on_timer, 0, TICK_MS);
}

/* --- what is usual --- */

static void learn(double *usual, double got)
{
    *usual = *usual > 0 ? *usual + (got - *usual) / 4 : got;
}

/* What r is thought to need, in tokens. */
static uint64_t work_of(const struct admit *a, const struct request *r)
{
    double usual = a->tokens > 0 ? a->tokens : TOKENS_USUAL;
    uint64_t tokens = usual < 1 ? 1 : (uint64_t)usual;
    if (r->max_new > 0 && r->max_new < tokens) tokens = r->max_new;
    return tokens + r->n_prompt / PROMPT_ROWS;
}

static void learn_of(struct admit *a, const struct request *r)
{
    uint64_t ms = now(a), work = r->n_tokens + r->n_prompt / PROMPT_ROWS;
    fair_settle(&a->queue, &r->place, (int64_t)work - (int64_t)r->place.work);
    if (a->queue.n > 0 && a->ended_ms) learn(&a->gap_ms, (double)(ms - a->ended_ms));
    a->ended_ms = a->queue.n > 0 ? ms : 0;
    if (!r->is_ended || r->reason == DONE_CANCELLED) return;
    learn(&a->tokens, r->n_tokens);
    learn(&a->answer_ms, (double)(ms - r->admitted_ms));
}

uint64_t admit_wait_ms(const struct admit *a, uint32_t place)
{
    double gap = a->gap_ms;
    if (gap == 0 && a->n_admitted > 0) gap = a->answer_ms / a->n_admitted;
    double ms = gap * place, waited = a->ended_ms ? (double)(now(a) - a->ended_ms) : 0;
    if (ms == 0) return 0;
    if (waited > gap) waited = gap;
    return ms - waited < 1 ? 1 : (uint64_t)(ms - waited);
}

uint32_t admit_waiting(const struct admit *a)
{
    return a->queue.n;
}

/* --- turns --- */

static void begin(struct admit *a, struct request *r)
{
    fair_take(&a->queue, &r->place);
    r->is_waiting = false;
    r->is_admitted = r->is_opening = true;
    r->admitted_ms = now(a);
    a->n_admitted++;
    a->n_opening++;
    request_plan(r);
}

/* While the stages are full one is tried at a time. */
static bool has_room(const struct admit *a)
{
    return !a->is_stopped && a->n_admitted < a->answers && !(a->is_full && a->n_opening > 0);
}

void admit_join(struct admit *a, struct request *r)
{
    bool is_first = a->queue.n == 0;
    r->place.who = fair_who(r->client.b);
    r->place.user = r->user;
    r->place.rank = r->rank;
    r->place.work = work_of(a, r);
    r->is_waiting = true;
    r->told_place = 0;
    fair_join(&a->queue, &r->place, now(a));
    if (is_first && has_room(a) && !a->is_full)
        begin(a, r);
    else
        wake(a);
}

static void opening_ends(struct admit *a, struct request *r)
{
    if (r->is_opening) a->n_opening--;
    r->is_opening = false;
}

void admit_leave(struct admit *a, struct request *r)
{
    if (r->is_waiting) fair_leave(&a->queue, &r->place);
    r->is_waiting = false;
    if (r->is_admitted) {
        opening_ends(a, r);
        a->n_admitted--;
        r->is_admitted = false;
        learn_of(a, r);
    }
    if (a->queue.n > 0) wake(a);
}

void admit_again(struct admit *a, struct request *r)
{
    opening_ends(a, r);
    a->n_admitted--;
    r->is_admitted = false;
    r->is_waiting = true;
    fair_return(&a->queue, &r->place);
    a->is_full = true;
    if (!uv_is_active((uv_handle_t *)a->timer))
        uv_timer_start(a->timer, on_timer, TICK_MS, TICK_MS);
}

void admit_opened(struct admit *a, struct request *r)
{
    opening_ends(a, r);
    a->is_full = false;
    if (a->queue.n > 0) wake(a);
}

/* --- places --- */

/* The next to be told; what is told may end any of them, so it is looked for anew each time. */
static struct request *to_tell(struct admit *a)
{
    uint64_t ms = now(a);
    for (struct fair_place *p = a->queue.first; p; p = p->next) {
        struct request *r = request_of(p);
        if (r->told_tick == a->tick || r->is_away) continue;
        r->told_tick = a->tick;
        if (r->told_place != p->place || ms - r->told_ms >= SAY_AGAIN_MS) return r;
    }
    return NULL;
}

static void tell_places(struct admit *a)
{
    struct request *r;
    fair_order(&a->queue, now(a));
    while ((r = to_tell(a))) {
        r->told_place = r->place.place;
        r->told_ms = now(a);
        r->on.on_place(r->on.arg, r->told_place, admit_wait_ms(a, r->told_place));
    }
}

static void on_timer(uv_timer_t *t)
{
    struct admit *a = t->data;
    a->tick++;
    while (has_room(a) && a->queue.n > 0) begin(a, request_of(fair_next(&a->queue, now(a))));
    if (a->queue.n > 0)
        tell_places(a);
    else
        uv_timer_stop(t);
}

/* --- life --- */

enum err admit_open(struct admit **out, struct coordinator *c, uint32_t answers)
{
    struct admit *a = calloc(1, sizeof *a);
    uv_timer_t *timer = malloc(sizeof *timer);
    if (!a || !timer) {
        free(a);
        free(timer);
        return ERR_NOMEM;
    }
    a->c = c;
    a->answers = answers;
    a->timer = timer;
    uv_timer_init(&c->c.hub->loop, timer);
    timer->data = a;
    *out = a;
    return ERR_OK;
}

void admit_stop(struct admit *a)
{
    a->is_stopped = true;
    uv_timer_stop(a->timer);
}

static void on_timer_closed(uv_handle_t *h)
{
    free(h);
}

void admit_close(struct admit *a)
{
    uv_close((uv_handle_t *)a->timer, on_timer_closed);
    free(a);
}
