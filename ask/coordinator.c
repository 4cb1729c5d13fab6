#include "ask/coordinator_impl.h"

#include "ask/draft.h"
#include "ask/likely.h"
#include "ask/report.h"
#include "ask/tracing.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

enum { ENOUGH_TOKENS = 1024 }; /* of an answer of any length, to begin it when others run too */
enum { NOTE_PROMPT = 1, NOTE_EMBEDDED, NOTE_NEXT, NOTE_DECODED };

/* --- the end of a request --- */

static void free_request(struct request *r)
{
    if (r->has_answer) answer_fini(&r->answer);
    free(r->said.p);
    free(r->stats.p);
    free(r->traced.p);
    free(r->prompt.ids.p);
    known_fini(r);
    free(r->embed.x);
    free(r->pick.x);
    draft_fini(r);
    likely_fini(r);
    free(r->conversation);
    free(r);
}

void request_hold(struct request *r)
{
    r->n_holds++;
}

void request_release(struct request *r)
{
    if (--r->n_holds > 0 || !r->is_over) return;
    r->c->n_all--;
    r->c->text_bytes -= r->text_bytes;
    struct request **at = &r->c->first;
    while (*at != r) at = &(*at)->next;
    *at = r->next;
    free_request(r);
}

void request_end(struct request *r)
{
    r->is_over = true;
    r->c->n_requests--;
    pipeline_close(r->pipeline);
    r->pipeline = NULL;
    handover_drop(r);
    admit_leave(r->c->admit, r);
    if (r->c->stopping)
        journal_keep(r->journal); /* for the next start */
    else
        journal_remove(r->journal);
    r->journal = NULL;
}

void request_fail(struct request *r, enum wire_error code, const char *text)
{
    if (r->is_over) return;
    request_hold(r);
    tracing_say(r, true);
    if (!r->is_over) {
        request_end(r);
        counters_add(r->c->c.counters, COUNT_FAILED, !r->c->stopping);
        r->on.on_fail(r->on.arg, code, text);
    }
    request_release(r);
}

/* --- 1: the question arrives --- */

static void no_drop(struct note *n)
{
    (void)n; /* jobs are part of their request */
}

static void prepare(struct job *j, struct coordinator *c, int kind)
{
    j->note = (struct note){ .kind = kind, .drop = no_drop };
    j->to = &c->actor;
}

/* The model's advice, with what the client sets. */
static struct sampling sampling_of(const struct manifest *m, const struct msg_ASK *q)
{
    const struct sampling_defaults *d = &m->sampling;
    struct sampling s = { .temperature = d->sample ? d->temperature : 0,
                          .top_p = d->sample ? d->top_p : 1,
                          .min_p = d->sample ? d->min_p : 0,
                          .top_k = d->sample ? d->top_k : 0 };
    random_bytes(&s.seed, sizeof s.seed);
    if (q->sampling & 1) s.temperature = q->temperature;
    if (q->sampling & 2) s.top_p = q->top_p;
    if (q->sampling & 4) s.min_p = q->min_p;
    if (q->sampling & 8) s.top_k = (uint32_t)q->top_k;
    if (q->sampling & 16) s.seed = q->seed;
    return s;
}

/* Those that are being read wait too. */
static bool is_full(const struct coordinator *c, const struct msg_ASK *q)
{
    uint32_t live = 0;
    for (const struct request *r = c->first; r; r = r->next)
        live += !r->is_over && !r->is_ended && !r->plan_only;
    return (live >= c->c.answers + c->c.queue && !q->plan_only) || c->n_requests >= REQUESTS_MAX ||
           c->n_all >= ALL_MAX || c->text_bytes + q->conversation.n > CONVERSATIONS_MAX;
}

static enum err check_ask(const struct coordinator *c, const struct msg_ASK *q,
                          const struct sampling *s, struct why *why)
{
    const char *name = c->c.weights->name.name;
    if (c->stopping || c->draining) return fail(why, ERR_CLOSED, "this node is shutting down");
    if (is_full(c, q)) {
        uint64_t wait_s = admit_wait_ms(c->admit, admit_waiting(c->admit)) / 1000;
        return fail(why, ERR_BUSY,
                    "%u requests wait here already, more than that cannot; try again in %llu s",
                    admit_waiting(c->admit), (unsigned long long)wait_s + 1);
    }
    if (q->model.n > 0 && !slice_is(q->model, name))
        return fail(why, ERR_NOTFOUND, "this node holds %s, not %.*s", name, (int)q->model.n,
                    (const char *)q->model.p);
    if (c->c.form == CHAT_NONE && !q->plan_only)
        return fail(why, ERR_UNSUPPORTED, "%s has no chat form, so it cannot be asked", name);
    return sampling_check(s, why);
}

struct request *request_make(struct coordinator *c)
{
    struct request *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    r->pick.x = malloc((DRAFT_KEPT + DRAFT_MAX + 1) * c->row_bytes);
    if (!r->pick.x) {
        free_request(r);
        return NULL;
    }
    r->c = c;
    r->asked_ns = uv_hrtime();
    r->prompt.r = r->embed.r = r->pick.r = r->decoding.r = r;
    prepare(&r->prompt.call.job, c, NOTE_PROMPT);
    prepare(&r->embed.call.job, c, NOTE_EMBEDDED);
    prepare(&r->pick.next.job, c, NOTE_NEXT);
    r->next = c->first;
    c->first = r;
    c->n_requests++;
    c->n_all++;
    return r;
}

static enum err read_prompt(struct call_job *call, struct ends *e);

enum err coordinator_ask(struct coordinator *c, const struct node_id *client, uint8_t rank,
                         const struct msg_ASK *q, const struct request_events *on,
                         struct request **out, struct why *why)
{
    struct sampling s = sampling_of(&c->c.weights->manifest, q);
    asker_make_room(c);
    enum err e = likely_read(&s, q, why);
    if (!e) e = check_ask(c, q, &s, why);
    if (e) return e;

    char *conversation = malloc(q->conversation.n);
    struct request *r = conversation ? request_make(c) : NULL;
    if (!r) {
        free(conversation);
        return fail(why, ERR_NOMEM, "this node is out of memory");
    }
    memcpy(conversation, q->conversation.p, q->conversation.n);
    r->conversation = conversation;
    r->conversation_n = q->conversation.n;
    r->on = *on;
    r->client = *client;
    r->rank = rank;
    if (q->asker.n == ASKER_TAG) r->user = fair_who(q->asker.p);
    r->text_bytes = q->conversation.n;
    c->text_bytes += r->text_bytes;
    r->has_key = q->request.n == REQUEST_BYTES && !q->plan_only;
    if (r->has_key) memcpy(r->key, q->request.p, REQUEST_BYTES);
    r->think = (enum think)q->think;
    r->sampling = s;
    r->max_new = (uint32_t)q->max_tokens;
    r->draft_mode = (enum draft_mode)q->draft;
    r->plan_only = q->plan_only;
    r->watch_ms = (uint32_t)q->watch_ms;
    r->is_traced = q->trace && !q->plan_only;
    *out = r;
    r->prompt.call.run = read_prompt;
    request_hold(r);
    compute_call(c->c.compute, &r->prompt.call);
    return ERR_OK;
}

/* --- 2: the conversation becomes ids; on the compute thread --- */

/* A conversation, or a "prompt" to go on with. */
static enum err render(enum chat_form form, const struct json *root, enum think think,
                       struct chat_text *out, bool *is_plain, struct why *why)
{
    const struct json *messages = json_get(root, "messages"), *plain = json_get(root, "prompt");
    *is_plain = plain && plain->type == JSON_STRING && !messages;
    if (*is_plain) return chat_plain(form, plain->text, out, why);
    if (!messages) return fail(why, ERR_MALFORMED, "the conversation holds no \"messages\"");
    return chat_render(form, messages, json_get(root, "tools"), think, true, out, why);
}

static enum err read_prompt(struct call_job *call, struct ends *e)
{
    (void)e;
    struct prompt_job *j = (struct prompt_job *)call;
    const struct request *r = j->r;
    const struct coordinator_config *c = &r->c->c;
    if (r->plan_only) return ERR_OK;
    struct json_doc *doc = NULL;
    struct chat_text text = { 0 };
    enum err err =
        json_parse(&doc, slice_of(r->conversation, r->conversation_n), "the conversation", &j->why);
    if (!err) err = render(c->form, json_root(doc), r->think, &text, &j->is_plain, &j->why);
    if (!err) {
        err = chat_encode(c->tokenizer, &text, &j->ids);
        if (err) fail(&j->why, err, "the conversation cannot be tokenized: %s", err_text(err));
    }
    chat_text_fini(&text);
    json_free(doc);
    return err;
}

static void on_prompt(struct request *r)
{
    struct prompt_job *j = &r->prompt;
    const struct arch *a = &r->c->c.weights->manifest.arch;
    char text[160];
    free(r->conversation);
    r->conversation = NULL;
    if (j->call.job.err == ERR_CANCELLED) {
        request_fail(r, WIRE_SHUTTING_DOWN, "this node is shutting down");
        return;
    }
    if (j->call.job.err) {
        request_fail(r, j->call.job.err == ERR_NOMEM ? WIRE_NO_MEMORY : WIRE_BAD_REQUEST,
                     j->why.text);
        return;
    }
    if (r->plan_only) {
        request_plan(r);
        return;
    }
    r->n_prompt = j->ids.n;
    tracing_job(r, TRACE_PROMPT, &j->call.job, r->n_prompt, 0);
    if (r->n_prompt == 0 || r->n_prompt >= a->context) {
        snprintf(text, sizeof text, "this conversation needs %u positions, the model has %u in all",
                 r->n_prompt + 1, a->context);
        request_fail(r, WIRE_KV_FULL, text);
        return;
    }
    request_begin_text(r);
    admit_join(r->c->admit, r);
}

/* --- 3: a pipeline --- */

static void on_open(void *arg);
static void on_again(void *arg);
/* With the others' of its group. */
static void pick(struct request *r)
{
    struct next_job *j = &r->pick.next;
    uint64_t most_us = 0;
    j->together = 0;
    if (r->pipeline) {
        j->together = pipeline_together(r->pipeline);
        most_us = 2 * (uint64_t)pipeline_plan(r->pipeline)->token_us;
    }
    muster_next(r->c->muster, j, most_us);
}

static void on_rows(void *arg, uint32_t pos, uint32_t n, struct slice x);

static void on_note_of_pipeline(void *arg, const char *text)
{
    struct request *r = arg;
    r->on.on_note(r->on.arg, text);
}

/* While nobody hears, it is tried again when the asker is back. */
static void on_pipeline_fail(void *arg, enum wire_error code, const char *text)
{
    struct request *r = arg;
    if (draft_is_to_blame(r, code)) {
        request_rest(r);
        if (!r->is_away) request_plan(r);
    } else if (code == WIRE_BUSY && r->limit == 0 && r->is_admitted) {
        pipeline_close(r->pipeline);
        r->pipeline = NULL;
        admit_again(r->c->admit, r);
    } else if (r->is_away)
        request_rest(r);
    else
        request_fail(r, code, text);
}

static struct pipeline_events events_to(struct request *r)
{
    return (struct pipeline_events){ .arg = r,
                                     .on_open = on_open,
                                     .on_again = on_again,
                                     .on_note = on_note_of_pipeline,
                                     .on_rows = on_rows,
                                     .on_room = request_feed,
                                     .on_ask_known = known_ask,
                                     .on_prefix = known_learn,
                                     .on_leaving = handover_begin,
                                     .on_trace = tracing_events(r),
                                     .on_fail = on_pipeline_fail };
}

void request_hear(struct request *r, struct pipeline *p)
{
    struct pipeline_events on = events_to(r);
    pipeline_hear(p, &on);
}

void request_plan(struct request *r)
{
    const struct arch *a = &r->c->c.weights->manifest.arch;
    uint64_t most = (uint64_t)r->n_prompt + (r->max_new ? r->max_new : ANSWER_TOKENS);
    struct pipeline_wish wish = { .min_tokens = r->n_prompt + 1,
                                  .max_tokens = most < a->context ? (uint32_t)most : a->context,
                                  .is_modest = r->max_new == 0,
                                  .priority = r->rank,
                                  .plan_only = r->plan_only };
    uint64_t enough = r->n_prompt + (uint64_t)(r->max_new ? r->max_new : ENOUGH_TOKENS);
    wish.enough = enough < a->context ? (uint32_t)enough : a->context;
    if (r->limit > 0) { /* what was granted once is the answer's length, whatever is free now */
        wish.min_tokens = wish.max_tokens = r->n_prompt + r->limit;
        wish.resumes = request_rows(r);
    }
    struct pipeline_events on = events_to(r);
    r->planned_ns = uv_hrtime();
    if (pipeline_open(r->c->c.pipelines, &wish, &on, &r->pipeline))
        request_fail(r, WIRE_NO_MEMORY, "this node is out of memory");
}

uint32_t request_chunk_rows(const struct request *r, const struct pipeline *p)
{
    return plan_chunk(pipeline_plan(p)->n, r->n_prompt - r->n_known, r->c->row_bytes);
}

void request_say_json(struct request *r, struct text *json)
{
    if (!json->failed) r->on.on_plan(r->on.arg, slice_of(json->p, json->n));
    free(json->p);
}

void request_rest(struct request *r)
{
    pipeline_close(r->pipeline);
    r->pipeline = NULL;
    handover_drop(r);
    admit_leave(r->c->admit, r);
    r->has_plan = false;
    r->round++;
    r->n_sent = 0;
}

void request_say_plan(struct request *r)
{
    struct text json = { 0 };
    tracing_plan(r);
    report_plan(&json, r->c->c.weights->name.name, pipeline_plan(r->pipeline));
    request_say_json(r, &json);
}

/* The plan and all that could be said of it. */
static void say_explanation(struct request *r)
{
    struct text json = { 0 };
    struct plan_explanation *x = malloc(sizeof *x);
    struct why why = { "" };
    enum err e = x ? pipeline_explain(r->pipeline, x, &why) : ERR_NOMEM;
    if (e) {
        request_fail(r, e == ERR_NOMEM ? WIRE_NO_MEMORY : WIRE_NO_PIPELINE,
                     why.text[0] ? why.text : err_text(e));
    } else {
        report_explanation(&json, r->c->c.weights->name.name, x, r->c->row_bytes);
        request_say_json(r, &json);
    }
    free(x);
}

static void on_open(void *arg)
{
    struct request *r = arg;
    request_hold(r);
    r->has_plan = true;
    admit_opened(r->c->admit, r);
    if (r->plan_only)
        say_explanation(r);
    else
        request_say_plan(r);
    if (r->plan_only) {
        request_finish(r, DONE_STOPPED);
    } else if (!r->is_over) {
        r->limit = pipeline_tokens(r->pipeline) - r->n_prompt;
        r->n_sent = r->n_known = known_rows(r, r->pipeline);
        r->chunk = request_chunk_rows(r, r->pipeline);
        r->predicted_us = (r->planned_ns - r->asked_ns) / 1000 +
                          plan_first_us(pipeline_plan(r->pipeline), r->n_prompt - r->n_known,
                                        r->chunk, pipeline_steps_max(r->pipeline));
        request_write_down(r);
        request_feed(r);
    }
    request_release(r);
}

/* Who waits is told how long, when it is worth saying. */
static void say_refill(const struct request *r)
{
    enum { WORTH_SAYING_US = 500000 };
    char text[120];
    uint32_t n = request_rows(r) - r->n_sent;
    uint64_t us =
        plan_first_us(pipeline_plan(r->pipeline), n, r->chunk, pipeline_steps_max(r->pipeline));
    snprintf(text, sizeof text, "computing %u positions again, about %.1f s", n, (double)us / 1e6);
    log_info("%s", text);
    if (us < WORTH_SAYING_US) return;
    r->on.on_note(r->on.arg, text);
}

/* Other stages, which hold nothing yet. */
static void on_again(void *arg)
{
    struct request *r = arg;
    request_hold(r);
    r->has_plan = true;
    admit_opened(r->c->admit, r);
    request_say_plan(r);
    if (!r->is_over) {
        handover_drop(r); /* it was without one who left, perhaps with one who is lost */
        r->round++;
        r->n_sent = known_rows(r, r->pipeline);
        r->chunk = request_chunk_rows(r, r->pipeline);
        say_refill(r);
        request_feed(r);
    }
    request_release(r);
}

/* --- 4: the rows of all ids, as many chunks under way as the stages can work on --- */

uint32_t request_rows(const struct request *r)
{
    return r->n_prompt + r->n_tokens;
}

static enum err embed_chunk(struct call_job *call, struct ends *e)
{
    struct embed_job *j = (struct embed_job *)call;
    return ends_embed(e, j->ids, j->n, j->x);
}

static bool has_room_for(struct embed_job *j, uint32_t n)
{
    if (n <= j->cap) return true;
    uint8_t *x = realloc(j->x, n * j->r->c->row_bytes);
    if (!x) return false;
    j->x = x;
    j->cap = n;
    return true;
}

/* The prompt, and everything when it is to be sent again; an id that is being made is waited for,
 * so that the last row sent is always the one whose result is wanted. */
void request_feed(void *arg)
{
    struct request *r = arg;
    struct embed_job *j = &r->embed;
    uint32_t left = request_rows(r) - r->n_sent;
    if (r->is_over || r->is_ended || r->is_embedding) return;
    if (left > 0 && !r->is_picking && r->pipeline && pipeline_has_room(r->pipeline)) {
        j->lo = r->n_sent;
        j->n = left < r->chunk ? left : r->chunk;
        j->round = r->round;
        j->for_heir = false;
        r->n_sent += j->n;
    } else if ((left = handover_rows(r)) > 0) {
        j->lo = r->heir_sent;
        j->n = left;
        j->round = r->heir_round;
        j->for_heir = true;
        r->heir_sent += j->n;
    } else {
        return;
    }
    if (!has_room_for(j, j->n)) {
        request_fail(r, WIRE_NO_MEMORY, "this node is out of memory");
        return;
    }
    memcpy(j->ids, r->prompt.ids.p + j->lo, j->n * sizeof *j->ids);
    j->call.run = embed_chunk;
    r->is_embedding = true;
    request_hold(r);
    compute_call(r->c->c.compute, &j->call);
}

static void on_embedded(struct request *r)
{
    struct embed_job *j = &r->embed;
    r->is_embedding = false;
    if (j->call.job.err) {
        request_fail(r, WIRE_INTERNAL, err_text(j->call.job.err));
        return;
    }
    tracing_job(r, TRACE_EMBED, &j->call.job, j->n, j->lo);
    bool is_last = j->lo + j->n == request_rows(r);
    if (j->for_heir && j->round == r->heir_round)
        pipeline_send(r->heir, j->lo, j->n, j->x, 0);
    else if (!j->for_heir && j->round == r->round)
        pipeline_send(r->pipeline, j->lo, j->n, j->x, is_last ? draft_want(r, j->n) : 0);
    if (is_last && !r->heir) { /* many who read an answer need little */
        free(j->x);
        j->x = NULL;
        j->cap = 0;
    }
    request_feed(r);
}

/* --- 5: a hidden row comes home, becomes a token, and the token a row --- */

static void how_to_pick(struct request *r, struct next_job *j)
{
    likely_lend(r, j);
    j->sampling = r->sampling;
    j->usable = tokenizer_size(r->c->c.tokenizer);
}

static void on_rows(void *arg, uint32_t pos, uint32_t n, struct slice x)
{
    struct request *r = arg;
    struct pick_job *j = &r->pick;
    if (likely_open(r)) {
        request_fail(r, WIRE_NO_MEMORY, "this node is out of memory");
        return;
    }
    j->next.x = j->x;
    how_to_pick(r, &j->next);
    j->next.position = pos + n - r->drafts.n_drafts;
    draft_rows_came(r, &j->next, n, x.p);
    r->is_picking = true;
    request_hold(r);
    pick(r);
}

bool request_is_end(const struct request *r, int32_t token)
{
    const struct manifest *m = &r->c->c.weights->manifest;
    for (uint32_t i = 0; i < m->n_eos; i++)
        if (m->eos[i] == token) return true;
    return false;
}

/* Picking failed; false: it did not. */
static bool pick_failed(struct request *r, const struct job *j)
{
    char text[120];
    if (j->err == ERR_NONFINITE) {
        snprintf(text, sizeof text, "a logit is not finite at position %u", j->bad.pos);
        request_fail(r, WIRE_NONFINITE, text);
    } else if (j->err) {
        request_fail(r, j->err == ERR_CANCELLED ? WIRE_SHUTTING_DOWN : WIRE_INTERNAL,
                     err_text(j->err));
    }
    return j->err != ERR_OK;
}

/* What is known of n new tokens cannot be kept. */
static bool likely_failed(struct request *r, uint32_t n)
{
    enum err e = likely_take(r, n);
    if (e) request_fail(r, WIRE_NO_MEMORY, "this node is out of memory");
    return e != ERR_OK;
}

static bool ends_answer(const struct request *r, int32_t token, uint32_t n_tokens)
{
    return request_is_end(r, token) || n_tokens >= r->limit;
}

static bool add_id(struct ids *ids, int32_t id)
{
    if (ids->n == ids->cap) {
        uint32_t cap = 2 * ids->cap + 64;
        int32_t *p = realloc(ids->p, cap * sizeof *p);
        if (!p) return false;
        ids->p = p;
        ids->cap = cap;
    }
    ids->p[ids->n++] = id;
    return true;
}

/* The answer's next token; the last one ends the request. */
static void take_token(struct request *r, int32_t token)
{
    bool is_stop = request_is_end(r, token);
    if (!add_id(&r->prompt.ids, token)) {
        request_fail(r, WIRE_NO_MEMORY, "this node is out of memory");
        return;
    }
    r->fed_tokens = ++r->n_tokens;
    counters_add(r->c->c.counters, COUNT_TOKENS, 1);
    if (r->journal) journal_add(r->journal, token, likely_of(r, r->n_tokens - 1));
    if (!is_stop && !r->is_held && !r->is_away) likely_feed(r, r->n_tokens - 1);
    if (is_stop || r->n_tokens >= r->limit) request_finish(r, is_stop ? DONE_STOPPED : DONE_LENGTH);
}

static void take_tokens(struct request *r, const int32_t *token, uint32_t n)
{
    for (uint32_t i = 0; i < n && !r->is_over && !r->is_ended; i++) take_token(r, token[i]);
}

static void decode(struct request *r, uint32_t n_tokens);

/* The row of the last of n new tokens goes on its way, with its drafts. */
static void send_next(struct request *r, uint32_t n)
{
    if (handover_is_due(r)) {
        handover_switch(r);
        if (n > 1) return; /* the heir lacks rows: feed sends them */
    }
    r->n_sent += n;
    /* An heir that has taken over may still have a step under way. */
    if (pipeline_is_home(r->pipeline) && pipeline_under_way(r->pipeline) == 0)
        decode(r, r->n_tokens + n);
    else
        draft_send(r, request_rows(r) + n);
}

static void on_next(struct request *r)
{
    const struct next_job *j = &r->pick.next;
    uint64_t before_ns = r->last_ns;
    int32_t token[DRAFT_MAX + 1]; /* a copy: the next job may begin before we are done */
    r->is_picking = false;
    if (pick_failed(r, &j->job)) return;
    uint32_t n = draft_tokens(j, token);
    draft_came_back(r, j);
    tracing_job(r, TRACE_PICK, &j->job, n, r->n_tokens);
    if (likely_failed(r, n)) return;
    r->pick_us += j->job.compute_us;
    r->last_ns = j->job.finished_ns;
    if (!r->first_ns) r->first_ns = r->last_ns;
    draft_learn(r, before_ns, j->job.compute_us);
    bool is_waited_for = r->n_sent == request_rows(r); /* else feed sends it after the others */
    if (is_waited_for && !ends_answer(r, token[n - 1], r->n_tokens + n)) send_next(r, n);
    take_tokens(r, token, n);
    request_say(r);
    request_say_times(r);
    tracing_say(r, false);
    request_feed(r);
}

/* --- 6: where all layers are here too, several tokens at a time --- */

/* The row of the n_tokens-th token is in pick.x. */
static void decode(struct request *r, uint32_t n_tokens)
{
    struct home_job *h = &r->decoding.home;
    struct decode_job *d = &h->decode;
    uint32_t left = r->limit - n_tokens;
    h->to = &r->c->actor;
    h->kind = NOTE_DECODED;
    d->rows.x = r->pick.x;
    d->rows.pos = r->n_prompt + n_tokens - 1;
    how_to_pick(r, &d->next);
    draft_home(r, &d->next);
    d->eos = r->c->c.weights->manifest.eos;
    d->n_eos = r->c->c.weights->manifest.n_eos;
    d->limit = left < DECODE_MAX ? left : DECODE_MAX;
    r->decoding.round = r->round;
    if (!pipeline_decode(r->pipeline, h)) return;
    r->is_picking = true;
    request_hold(r);
}

static void trace_home(struct request *r, const struct decode_job *d)
{
    struct job both = d->rows.job;
    both.compute_us += d->next.job.compute_us;
    if (d->n_tokens > 0) tracing_job(r, TRACE_HOME, &both, d->n_tokens, r->n_tokens);
}

/* The next ones are computed while these are told. */
static void on_decoded(struct request *r)
{
    const struct decode_job *d = &r->decoding.home.decode;
    int32_t token[DECODE_MAX];
    uint32_t n = d->n_tokens;
    enum err e = d->rows.job.err;
    bool is_current = r->decoding.round == r->round;
    memcpy(token, d->token, n * sizeof *token);
    r->is_picking = false;
    trace_home(r, d);
    draft_came_back(r, &d->next);
    if (r->pipeline) pipeline_decoded(r->pipeline, &r->decoding.home);
    if (likely_failed(r, n)) return;
    r->pick_us += d->next.job.compute_us;
    r->last_ns = d->rows.job.finished_ns;
    if (is_current) r->n_sent += n;
    if (!e && is_current && !ends_answer(r, token[n - 1], r->n_tokens + n))
        decode(r, r->n_tokens + n);
    take_tokens(r, token, n);
    request_say(r);
    request_say_times(r);
    tracing_say(r, false);
    request_feed(r);
    /* Layers that failed are the session's failure, which comes as on_fail. */
    if (e && d->rows.job.bad.layer == ARCH_ENDS) pick_failed(r, &d->rows.job);
}

static void on_note(struct actor *a, struct note *n)
{
    (void)a;
    struct request *r = NULL;
    switch (n->kind) {
    case NOTE_PROMPT: r = ((struct prompt_job *)n)->r; break;
    case NOTE_EMBEDDED: r = ((struct embed_job *)n)->r; break;
    case NOTE_DECODED: r = ((struct decoding *)n)->r; break;
    default: r = ((struct pick_job *)n)->r; break;
    }
    if (!r->is_over) switch (n->kind) {
        case NOTE_PROMPT: on_prompt(r); break;
        case NOTE_EMBEDDED: on_embedded(r); break;
        case NOTE_DECODED: on_decoded(r); break;
        default: on_next(r); break;
        }
    request_release(r); /* the job's hold */
}

/* --- life of the coordinator --- */

void coordinator_map(const struct coordinator *c, struct text *out)
{
    pipelines_map(c->c.pipelines, c->c.weights->name.name, out);
}

uint32_t coordinator_requests(const struct coordinator *c)
{
    return c->n_requests;
}

uint32_t coordinator_waiting(const struct coordinator *c)
{
    return admit_waiting(c->admit);
}

enum err coordinator_open(struct coordinator **out, const struct coordinator_config *config)
{
    struct coordinator *c = calloc(1, sizeof *c);
    if (!c) return ERR_NOMEM;
    c->c = *config;
    c->row_bytes = arch_row_bytes(&config->weights->manifest.arch);
    /* Each request has at most four jobs, also those that are over but not yet back. */
    if (c->c.answers == 0) c->c.answers = ADMIT_ANSWERS_MAX;
    enum err e = recall_open(&c->recall);
    if (!e && config->shelf) shelf_recall(config->shelf, c->recall);
    if (!e) e = asker_open(c);
    if (!e && (e = admit_open(&c->admit, c, c->c.answers))) asker_close(c);
    if (!e) e = muster_open(&c->muster, config->hub, config->compute);
    if (!e) e = actor_init(&c->actor, config->hub, "coordinator", ALL_MAX * JOBS_EACH, on_note);
    if (e && c->admit) {
        muster_close(c->muster);
        admit_close(c->admit);
        asker_close(c);
    }
    if (e) {
        recall_close(c->recall);
        free(c);
        return e;
    }
    *out = c;
    return ERR_OK;
}

void coordinator_drain(struct coordinator *c)
{
    c->draining = true;
}

uint32_t coordinator_waited_for(const struct coordinator *c)
{
    uint32_t n = 0;
    for (const struct request *r = c->first; r; r = r->next) n += !r->is_over && !r->is_away;
    return n;
}

void coordinator_stop(struct coordinator *c)
{
    c->stopping = true;
    admit_stop(c->admit);
    for (struct request *r = c->first, *next; r; r = next) {
        next = r->next;
        request_fail(r, WIRE_SHUTTING_DOWN, "this node is shutting down");
    }
}

void coordinator_close(struct coordinator *c)
{
    if (!c) return;
    asker_close(c);
    admit_close(c->admit);
    muster_close(c->muster);
    actor_fini(&c->actor);
    while (c->first) {
        struct request *r = c->first;
        c->first = r->next;
        free_request(r);
    }
    recall_close(c->recall);
    free(c);
}
