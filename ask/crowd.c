#include "ask/crowd.h"

#include "ask/question.h"

#include <stdio.h>
#include <stdlib.h>

enum { TICK_MS = 5, ROLE_ASKS = 2 };

struct crowd;

/* A client: its identity and connection. */
struct member {
    struct crowd *all;
    struct identity me;
    struct net *net;
    struct questions *questions;
};

struct asking {
    struct crowd *all;
    struct crowd_asker *a;
    struct question *question; /* NULL: not yet, or no more */
    bool has_begun, has_ended;
};

struct crowd {
    struct crowd_config c;
    struct hub hub;
    uv_timer_t timer;
    uint64_t began_ns;
    struct member member[CROWD_MAX];
    struct asking asking[CROWD_MAX];
    uint32_t n, n_members, n_closed;
    bool is_stopping;
};

static uint64_t now_us(const struct crowd *c)
{
    return (uv_hrtime() - c->began_ns) / 1000;
}

/* --- the end --- */

static void on_net_closed(void *arg)
{
    struct crowd *c = arg;
    if (++c->n_closed == c->n_members) hub_stop(&c->hub);
}

static void stop(struct crowd *c)
{
    c->is_stopping = true;
    uv_close((uv_handle_t *)&c->timer, NULL);
    for (uint32_t i = 0; i < c->n_members; i++) {
        questions_close(c->member[i].questions);
        net_close(c->member[i].net, on_net_closed, c);
    }
}

static void has_ended(struct asking *q)
{
    q->question = NULL;
    q->has_ended = true;
    q->a->end_us = now_us(q->all);
}

/* --- what they ask and hear --- */

char *crowd_question(const char *text)
{
    struct text t = { 0 };
    text_str(&t, "{\"messages\":[{\"role\":\"user\",\"content\":");
    json_write_str(&t, slice_str(text));
    text_str(&t, "}]}");
    if (!t.failed) return t.p;
    free(t.p);
    return NULL;
}

static void on_plan(void *arg, struct slice json)
{
    (void)arg, (void)json;
}

static void on_text(void *arg, uint32_t index, struct slice text, bool is_thinking)
{
    struct asking *q = arg;
    struct crowd_asker *a = q->a;
    (void)is_thinking;
    text_add(&a->answer, text.p, text.n);
    if (a->n_marks == a->cap) {
        uint32_t cap = 2 * a->cap + 64;
        struct crowd_mark *mark = realloc(a->mark, cap * sizeof *mark);
        if (!mark) return;
        a->mark = mark;
        a->cap = cap;
    }
    a->mark[a->n_marks++] = (struct crowd_mark){ now_us(q->all), index };
}

static void on_note(void *arg, struct slice text)
{
    (void)arg, (void)text;
}

static void on_place(void *arg, uint32_t place, struct slice text)
{
    struct crowd_asker *a = ((struct asking *)arg)->a;
    (void)text;
    if (a->n_places++ == 0) a->first_place = a->place = place;
    if (place > a->place) a->has_fallen_back = true;
    a->place = place;
}

static void on_done(void *arg, const struct msg_ASK_DONE *done)
{
    struct asking *q = arg;
    q->a->n_prompt = (uint32_t)done->n_prompt;
    q->a->n_tokens = (uint32_t)done->n_tokens;
    q->a->is_done = done->reason != 2;
    q->a->is_cancelled = done->reason == 2;
    has_ended(q);
}

static void on_fail(void *arg, unsigned code, const char *text)
{
    struct asking *q = arg;
    (void)code;
    snprintf(q->a->failed, sizeof q->a->failed, "%s", text);
    has_ended(q);
}

/* --- what they do --- */

static void ask(struct asking *q)
{
    enum { TEMPERATURE = 1, TOP_P = 2, SEED = 16 };
    struct crowd_asker *a = q->a;
    struct question_events on = { q,       on_plan, on_text, on_note, on_place,
                                  on_done, on_fail, NULL,    NULL };
    struct msg_ASK m = { .conversation = slice_str(a->conversation),
                         .sampling = TEMPERATURE | TOP_P | SEED,
                         .temperature = a->temperature,
                         .top_p = 1,
                         .seed = a->seed,
                         .max_tokens = a->tokens,
                         .later = a->later };
    q->has_begun = true;
    a->begin_us = now_us(q->all);
    if (question_ask(q->all->member[a->who].questions, &m, &on, &q->question))
        on_fail(q, 0, err_text(ERR_NOMEM));
}

static void on_tick(uv_timer_t *t)
{
    struct crowd *c = t->data;
    uint64_t us = now_us(c), ms = us / 1000;
    bool is_over = true;
    if (c->c.on_tick) c->c.on_tick(c->c.arg, us);
    for (uint32_t i = 0; i < c->n; i++) {
        struct asking *q = &c->asking[i];
        const struct crowd_asker *a = q->a;
        if (!q->has_begun && ms >= a->begin_ms) ask(q);
        if (q->question && a->cancel_ms > 0 && ms >= (uint64_t)a->begin_ms + a->cancel_ms)
            question_cancel(q->question);
        is_over = is_over && q->has_ended;
    }
    if (is_over || ms >= c->c.limit_ms) stop(c);
}

/* --- life --- */

static void on_mail(void *arg, struct mail *m)
{
    struct member *b = arg;
    if (b->all->is_stopping)
        m->note.drop(&m->note);
    else
        questions_on_mail(b->questions, m);
}

static void on_peer(void *arg, const struct node_id *id, bool up, const char *why)
{
    struct member *b = arg;
    if (!b->all->is_stopping) questions_on_peer(b->questions, id, up, why);
}

static enum err add_member(struct crowd *c, struct why *why)
{
    struct member *b = &c->member[c->n_members];
    b->all = c;
    identity_make(&b->me);
    struct net_config nc = { .me = &b->me,
                             .swarm = c->c.swarm,
                             .agent = "crowd",
                             .role = ROLE_ASKS,
                             .arg = b,
                             .on_mail = on_mail,
                             .on_peer = on_peer };
    enum err e = net_open(&b->net, &c->hub, &nc, why);
    if (e) return e;
    struct questions_config qc = { .hub = &c->hub, .net = b->net, .link = *c->c.link };
    e = questions_open(&b->questions, &qc);
    if (e) net_close(b->net, NULL, NULL);
    if (!e) c->n_members++;
    return e ? fail(why, e, "%s", err_text(e)) : ERR_OK;
}

enum err crowd_run(const struct crowd_config *config, struct crowd_asker *a, uint32_t n,
                   struct why *why)
{
    struct crowd *c = n <= CROWD_MAX ? calloc(1, sizeof *c) : NULL;
    enum err e = c ? hub_init(&c->hub) : ERR_NOMEM;
    if (e) {
        free(c);
        return fail(why, e, "%s", err_text(e));
    }
    c->c = *config;
    c->n = n;
    uv_timer_init(&c->hub.loop, &c->timer);
    c->timer.data = c;
    for (uint32_t i = 0; i < n && !e; i++) {
        c->asking[i] = (struct asking){ .all = c, .a = &a[i] };
        while (!e && c->n_members <= a[i].who && c->n_members < CROWD_MAX) e = add_member(c, why);
    }
    c->began_ns = uv_hrtime();
    if (e)
        stop(c);
    else
        uv_timer_start(&c->timer, on_tick, 0, TICK_MS);
    if (c->n_members > 0) hub_run(&c->hub);
    hub_fini(&c->hub);
    for (uint32_t i = 0; i < c->n_members; i++) identity_fini(&c->member[i].me);
    free(c);
    return e;
}

void crowd_free(struct crowd_asker *a, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        free(a[i].answer.p);
        free(a[i].mark);
    }
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

bool crowd_pace(const struct crowd_asker *a, uint64_t from_us, uint64_t to_us, double *usual,
                double *longest)
{
    double *gap = malloc((a->n_marks + 1) * sizeof *gap);
    uint32_t n = 0;
    *usual = *longest = 0;
    for (uint32_t i = 1; i < a->n_marks && gap; i++) {
        const struct crowd_mark *m = &a->mark[i], *before = m - 1;
        if (m->us < from_us || before->us >= to_us || m->index <= before->index) continue;
        gap[n] = (double)(m->us - before->us) / (m->index - before->index);
        if (gap[n] > *longest) *longest = gap[n];
        n++;
    }
    if (n > 1) qsort(gap, n, sizeof *gap, compare);
    if (n > 1) *usual = gap[n / 2];
    free(gap);
    return n > 1;
}
