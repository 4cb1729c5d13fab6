/* The asker of a request: what he is told, that he goes away and comes back, also to a coordinator
 * that has been started anew. */
#include "ask/coordinator_impl.h"

#include "ask/draft.h"
#include "ask/likely.h"
#include "ask/report.h"
#include "ask/tracing.h"
#include "base/log.h"

#include <stdlib.h>

enum {
    AWAY_TICK_MS = 1000,
    AWAY_COMPUTE_MS = 10000, /* computed for one who is away, then it rests */
};

/* --- text --- */

/* What he has not heard.  He who claims to have half a character goes without the other half. */
void request_say(struct request *r)
{
    struct slice text = slice_of(r->said.p, r->said.n);
    size_t skip = r->n_heard > r->n_told ? r->n_heard - r->n_told : 0;
    r->n_told += text.n;
    r->said.n = 0;
    if (text.n > 0 && skip >= text.n) likely_say(r, true);
    if (skip >= text.n) return;
    while (skip > 0 && skip < text.n && (text.p[skip] & 0xc0) == 0x80) skip++;
    text = slice_of(text.p + skip, text.n - skip);
    if (text.n > 0 && !r->is_over) likely_say(r, false);
    if (text.n > 0 && !r->is_over) r->on.on_text(r->on.arg, r->said_tokens, text, r->said_thinking);
}

void request_gather(void *arg, struct slice text, bool is_thinking)
{
    struct request *r = arg;
    if (is_thinking != r->said_thinking) request_say(r);
    r->said_thinking = is_thinking;
    r->said_tokens = r->fed_tokens;
    text_add(&r->said, text.p, text.n);
}

void request_begin_text(struct request *r)
{
    if (r->has_answer) answer_fini(&r->answer);
    answer_init(&r->answer, r->c->c.tokenizer, r->prompt.ids.p, r->n_prompt);
    if (r->prompt.is_plain) r->answer.is_at_start = false;
    r->has_answer = true;
}

/* All of the answer so far, from the first token on. */
static void say_again(struct request *r)
{
    request_begin_text(r);
    r->said.n = r->likely.said.n = 0;
    r->n_told = 0;
    for (uint32_t i = 0; i < r->n_tokens && !r->is_away && !r->is_over; i++) {
        int32_t id = r->prompt.ids.p[r->n_prompt + i];
        r->fed_tokens = i + 1;
        if (!request_is_end(r, id)) likely_feed(r, i);
    }
    request_say(r);
}

/* --- the end --- */

/* What was predicted, and what became of it. */
static void learn(const struct request *r, const struct report_times *t)
{
    if (t->drafted == 0)
        pipeline_learn(r->pipeline, r->n_tokens - 1, t->decode_us,
                       r->pick_us * (r->n_tokens - 1) / r->n_tokens);
    else
        pipeline_learn(r->pipeline, r->n_plain, r->plain_us, r->plain_pick_us);
    if (r->n_prompt <= r->chunk && r->n_known == 0)
        pipeline_learn_start(r->pipeline, (int64_t)t->prefill_us - (int64_t)t->predicted_us);
}

/* Of an answer through a pipeline that has its first token. */
static struct report_times times_of(const struct request *r)
{
    return (struct report_times){ .n_prompt = r->n_prompt,
                                  .n_known = r->n_known,
                                  .n_tokens = r->n_tokens - r->n_before,
                                  .pick_us = r->pick_us,
                                  .prefill_us = (r->first_ns - r->asked_ns) / 1000,
                                  .decode_us = (r->last_ns - r->first_ns) / 1000,
                                  .predicted_us = r->predicted_us,
                                  .drafted = r->n_guessed,
                                  .right = r->n_right };
}

static void make_stats(struct request *r)
{
    if (r->n_tokens == r->n_before || !r->pipeline) return;
    struct report_times t = times_of(r);
    if (r->n_before == 0 && !r->is_disturbed) learn(r, &t);
    report_stats(&r->stats, r->pipeline, &t);
}

void request_say_times(struct request *r)
{
    uint64_t now = now_ms(r->c->c.hub);
    struct text json = { 0 };
    if (r->watch_ms == 0 || now - r->watched_ms < r->watch_ms) return;
    if (r->is_over || r->is_ended || r->is_away || !r->pipeline || !r->has_plan || !r->first_ns)
        return;
    struct report_times t = times_of(r);
    r->watched_ms = now;
    text_printf(&json, "{\"tokens\":%u,\"now\":", r->n_tokens);
    report_stats(&json, r->pipeline, &t);
    text_str(&json, "}");
    if (json.n > PLAN_JSON_MAX) json.failed = true; /* of too many stages: the end tells */
    request_say_json(r, &json);
}

static void go_away(struct request *r);

/* What a node's metrics say of it. */
static void count(const struct request *r)
{
    struct counters *c = r->c->c.counters;
    if (r->plan_only) return;
    counters_add(c, COUNT_ANSWERS, 1);
    counters_add(c, COUNT_PROMPT, r->n_prompt);
    counters_add(c, COUNT_KNOWN, r->n_known);
    if (!r->first_ns || r->n_before > 0) return;
    counters_time(c, TIME_FIRST, (double)(r->first_ns - r->asked_ns) / 1e3, 1);
    if (r->n_tokens > 1)
        counters_time(c, TIME_TOKEN, (double)(r->last_ns - r->first_ns) / 1e3 / (r->n_tokens - 1.0),
                      r->n_tokens - 1);
}

static void say_done(struct request *r)
{
    count(r);
    struct msg_ASK_DONE done = { .reason = r->reason,
                                 .n_prompt = r->n_prompt,
                                 .n_tokens = r->n_tokens,
                                 .n_thinking = r->has_answer ? r->answer.n_thinking : 0,
                                 .n_known = r->n_known };
    if (r->first_ns) {
        done.prefill_us = (r->first_ns - r->asked_ns) / 1000;
        done.decode_us = (r->last_ns - r->first_ns) / 1000;
    }
    if (!r->stats.failed) done.stats = slice_of(r->stats.p, r->stats.n);
    struct request_events on = r->on;
    if (r->has_key && r->reason != DONE_CANCELLED) {
        request_rest(r);
        go_away(r); /* until he says that it has come */
    } else {
        request_end(r);
    }
    on.on_done(on.arg, &done);
}

static void tell_end(struct request *r)
{
    if (r->has_answer && !r->is_held) answer_flush(&r->answer, request_gather, r);
    request_say(r);
    if (!r->is_over) tracing_say(r, true);
    if (!r->is_over && !r->is_away) say_done(r); /* else he went away at the last word */
}

void request_finish(struct request *r, unsigned reason)
{
    bool is_cancelled = reason == DONE_CANCELLED;
    if (r->is_over || (r->is_ended && !is_cancelled)) return;
    request_hold(r);
    make_stats(r);
    r->reason = reason;
    r->is_ended = true;
    if (!r->is_picking) draft_fini(r); /* it may be kept for long */
    if (is_cancelled && r->is_away) {
        request_end(r);
    } else if (!is_cancelled && (r->is_away || r->is_held)) {
        request_rest(r);
    } else {
        tell_end(r);
    }
    request_release(r);
}

/* --- the journal --- */

static void on_durable(void *arg, enum err e)
{
    struct request *r = arg;
    request_hold(r);
    r->is_held = false;
    if (e) { /* the log says so; it goes on without */
        journal_remove(r->journal);
        r->journal = NULL;
    }
    if (!r->is_away) say_again(r);
    if (!r->is_over && !r->is_away && r->is_ended) tell_end(r);
    request_release(r);
}

void request_write_down(struct request *r)
{
    const struct coordinator_config *c = &r->c->c;
    if (!r->has_key || !c->journal_dir || r->journal) return;
    struct journal_head h = { .coordinator = c->me,
                              .client = r->client,
                              .sampling = r->sampling,
                              .is_plain = r->prompt.is_plain,
                              .limit = r->limit,
                              .n_prompt = r->n_prompt };
    memcpy(h.model, c->weights->name.id.b, ID_BYTES);
    memcpy(h.request, r->key, REQUEST_BYTES);
    enum err e =
        journal_start(&r->journal, c->hub, c->journal_dir, &h, r->prompt.ids.p, on_durable, r);
    r->is_held = !e;
    if (e) log_warn("an answer has no journal: %s", err_text(e));
}

/* --- nobody hears --- */

static void ignore_plan(void *arg, struct slice json)
{
    (void)arg, (void)json;
}
static void ignore_text(void *arg, uint32_t index, struct slice text, bool is_thinking)
{
    (void)arg, (void)index, (void)text, (void)is_thinking;
}
static void ignore_note(void *arg, const char *text)
{
    (void)arg, (void)text;
}
static void ignore_place(void *arg, uint32_t place, uint64_t wait_ms)
{
    (void)arg, (void)place, (void)wait_ms;
}
static void ignore_done(void *arg, const struct msg_ASK_DONE *done)
{
    (void)arg, (void)done;
}
static void ignore_fail(void *arg, enum wire_error code, const char *text)
{
    (void)arg, (void)code, (void)text;
}

static const struct request_events nobody = { NULL,        ignore_plan,  ignore_text,
                                              ignore_note, ignore_place, ignore_done,
                                              ignore_fail, NULL,         NULL };

void coordinator_cancel(struct request *r)
{
    request_finish(r, DONE_CANCELLED);
}

void coordinator_drop(struct request *r)
{
    r->on = nobody;
    request_finish(r, DONE_CANCELLED);
}

/* --- he goes away and comes back --- */

static void on_away_timer(uv_timer_t *t);

static void go_away(struct request *r)
{
    struct coordinator *c = r->c;
    r->on = nobody;
    r->is_away = r->is_disturbed = true;
    r->away_ms = now_ms(c->c.hub);
    if (!uv_is_active((uv_handle_t *)c->away_timer))
        uv_timer_start(c->away_timer, on_away_timer, AWAY_TICK_MS, AWAY_TICK_MS);
}

void coordinator_detach(struct request *r)
{
    if (r->has_key && !r->c->stopping)
        go_away(r);
    else
        coordinator_drop(r);
}

static void on_away_timer(uv_timer_t *t)
{
    struct coordinator *c = t->data;
    uint64_t now = now_ms(c->c.hub);
    bool is_needed = false;
    for (struct request *r = c->first, *next; r; r = next) {
        next = r->next;
        if (!r->is_away || r->is_over) continue;
        uint64_t age = now - r->away_ms;
        is_needed = true;
        if (age >= JOURNAL_KEEP_S * UINT64_C(1000))
            request_finish(r, DONE_CANCELLED);
        else if (age >= AWAY_COMPUTE_MS && (r->pipeline || r->is_waiting))
            request_rest(r);
    }
    if (!is_needed) uv_timer_stop(t);
}

void asker_make_room(struct coordinator *c)
{
    struct request *oldest = NULL;
    if (c->n_requests < REQUESTS_MAX) return;
    for (struct request *r = c->first; r; r = r->next)
        if (r->is_away && !r->is_over && (!oldest || r->away_ms < oldest->away_ms)) oldest = r;
    if (oldest) request_finish(oldest, DONE_CANCELLED);
}

void coordinator_heard(struct request *r)
{
    if (r->is_ended && r->is_away) request_finish(r, DONE_CANCELLED);
}

struct request *coordinator_find(struct coordinator *c, const struct node_id *client,
                                 struct slice key)
{
    for (struct request *r = c->first; r; r = r->next)
        if (!r->is_over && r->has_key && slice_equal(key, slice_of(r->key, REQUEST_BYTES)) &&
            node_id_equal(&r->client, client))
            return r;
    return NULL;
}

void coordinator_attach(struct request *r, size_t n_heard, const struct request_events *on)
{
    request_hold(r);
    r->on = *on;
    r->is_away = false;
    r->n_heard = n_heard;
    if (r->has_plan) request_say_plan(r);
    if (r->has_answer && !r->is_held && !r->is_away) say_again(r);
    if (r->is_ended && !r->is_held && !r->is_away) tell_end(r);
    if (r->has_answer && !r->is_ended && !r->is_over && !r->pipeline && !r->is_waiting)
        admit_join(r->c->admit, r);
    request_release(r);
}

/* --- a new start --- */

static bool is_usable(const struct coordinator *c, const struct journal_entry *e)
{
    const struct arch *a = &c->c.weights->manifest.arch;
    const struct journal_head *h = &e->head;
    if (c->n_requests >= REQUESTS_MAX || (uint64_t)h->n_prompt + h->limit > a->context)
        return false;
    for (uint32_t i = 0; i < h->n_prompt + e->n_tokens; i++)
        if (e->ids[i] < 0 || (uint32_t)e->ids[i] >= a->vocab) return false;
    return true;
}

/* The request as it was when the last token was written. */
static void take_up(struct request *r, const struct journal_entry *e)
{
    const struct journal_head *h = &e->head;
    uint32_t n = h->n_prompt + e->n_tokens;
    r->client = h->client;
    memcpy(r->key, h->request, REQUEST_BYTES);
    r->has_key = true;
    r->sampling = h->sampling;
    r->limit = h->limit;
    r->n_prompt = h->n_prompt;
    r->n_tokens = r->n_before = e->n_tokens;
    r->prompt.ids = (struct ids){ .p = e->ids, .n = n, .cap = n };
    likely_restore(r, e->likely, e->n_tokens);
    r->prompt.is_plain = h->is_plain;
    request_begin_text(r);
    go_away(r);
    bool is_stop = e->n_tokens > 0 && request_is_end(r, e->ids[n - 1]);
    if (is_stop || e->n_tokens == h->limit)
        request_finish(r, is_stop ? DONE_STOPPED : DONE_LENGTH);
    else
        admit_join(r->c->admit, r);
}

static void on_found(void *arg, struct journal_entry *e)
{
    struct coordinator *c = arg;
    struct journal *j = NULL;
    enum err err = journal_resume(&j, c->c.hub, c->c.journal_dir, e);
    struct request *r = !err && is_usable(c, e) ? request_make(c) : NULL;
    if (!r) {
        log_warn("a request of before the start is given up");
        journal_remove(j);
        free(e->ids);
        free(e->likely);
        return;
    }
    log_info("going on with a request of before the start, after %u tokens", e->n_tokens);
    r->journal = j;
    take_up(r, e);
}

void coordinator_restore(struct coordinator *c)
{
    if (c->c.journal_dir)
        journal_scan(c->c.journal_dir, &c->c.me, c->c.weights->name.id.b, on_found, c);
}

/* --- the timer --- */

enum err asker_open(struct coordinator *c)
{
    c->away_timer = malloc(sizeof *c->away_timer);
    if (!c->away_timer) return ERR_NOMEM;
    uv_timer_init(&c->c.hub->loop, c->away_timer);
    c->away_timer->data = c;
    return ERR_OK;
}

static void on_timer_closed(uv_handle_t *h)
{
    free(h);
}

void asker_close(struct coordinator *c)
{
    uv_close((uv_handle_t *)c->away_timer, on_timer_closed);
}
