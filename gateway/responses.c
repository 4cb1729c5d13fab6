#include "gateway/responses.h"

#include "proto/identity.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void add_string(struct text *out, const char *key, struct slice value)
{
    text_printf(out, "\"%s\":", key);
    json_write_str(out, value);
}

static struct slice all_of(const struct text *t)
{
    return slice_of(t->p, t->n);
}

/* --- items --- */

static void write_part(struct text *out, const struct response_item *i, bool is_whole)
{
    bool is_text = i->kind == DELTA_TEXT;
    text_printf(out, "{\"type\":\"%s\",", is_text ? "output_text" : "reasoning_text");
    add_string(out, "text", is_whole ? all_of(&i->text) : slice_str(""));
    text_str(out, is_text ? ",\"annotations\":[],\"logprobs\":[]}" : "}");
}

static void write_item(struct text *out, const struct response_item *i, bool is_whole)
{
    const char *status = is_whole ? "completed" : "in_progress";
    text_printf(out, "{\"id\":\"%s\",\"status\":\"%s\",", i->id, status);
    if (i->kind == DELTA_CALL) {
        text_printf(out, "\"type\":\"function_call\",\"call_id\":\"%s\",", i->call_id);
        add_string(out, "name", all_of(&i->name));
        text_str(out, ",");
        add_string(out, "arguments", is_whole ? all_of(&i->text) : slice_str(""));
    } else {
        text_str(out, i->kind == DELTA_TEXT ? "\"type\":\"message\",\"role\":\"assistant\","
                                            : "\"type\":\"reasoning\",\"summary\":[],");
        text_str(out, "\"content\":[");
        if (is_whole) write_part(out, i, true);
        text_str(out, "]");
    }
    text_str(out, "}");
}

/* --- events --- */

static void begin_event(struct responses *s, struct text *out, const char *type)
{
    text_printf(out, "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%u", type, type,
                s->sequence++);
}

static void end_event(struct text *out)
{
    text_str(out, "}\n\n");
}

static void write_place(struct responses *s, struct text *out, const struct response_item *i)
{
    text_printf(out, ",\"item_id\":\"%s\",\"output_index\":%u", i->id, (unsigned)(i - s->item));
    if (i->kind != DELTA_CALL) text_str(out, ",\"content_index\":0");
}

static void item_event(struct responses *s, struct text *out, const struct response_item *i,
                       bool is_done)
{
    begin_event(s, out, is_done ? "response.output_item.done" : "response.output_item.added");
    text_printf(out, ",\"output_index\":%u,\"item\":", (unsigned)(i - s->item));
    write_item(out, i, is_done);
    end_event(out);
}

static void part_event(struct responses *s, struct text *out, const struct response_item *i,
                       bool is_done)
{
    if (i->kind == DELTA_CALL) return;
    begin_event(s, out, is_done ? "response.content_part.done" : "response.content_part.added");
    write_place(s, out, i);
    text_str(out, ",\"part\":");
    write_part(out, i, is_done);
    end_event(out);
}

static void text_event(struct responses *s, struct text *out, const struct response_item *i,
                       const struct slice *delta)
{
    static const char *const names[][2] = {
        [DELTA_TEXT] = { "response.output_text.delta", "response.output_text.done" },
        [DELTA_REASONING] = { "response.reasoning_text.delta", "response.reasoning_text.done" },
        [DELTA_CALL] = { "response.function_call_arguments.delta",
                         "response.function_call_arguments.done" },
    };
    begin_event(s, out, names[i->kind][!delta]);
    write_place(s, out, i);
    text_str(out, ",");
    if (delta)
        add_string(out, "delta", *delta);
    else
        add_string(out, i->kind == DELTA_CALL ? "arguments" : "text", all_of(&i->text));
    if (i->kind == DELTA_TEXT) text_str(out, ",\"logprobs\":[]");
    if (i->kind == DELTA_CALL && !delta) {
        text_str(out, ",");
        add_string(out, "name", all_of(&i->name));
    }
    end_event(out);
}

/* --- an answer --- */

static void name_item(struct response_item *i)
{
    uint8_t random[12];
    const char *prefix = i->kind == DELTA_TEXT ? "msg_" : i->kind == DELTA_CALL ? "fc_" : "rs_";
    size_t n = (size_t)snprintf(i->id, sizeof i->id, "%s", prefix);
    random_bytes(random, sizeof random);
    for (unsigned k = 0; k < sizeof random; k++) snprintf(i->id + n + 2 * k, 3, "%02x", random[k]);
}

static void close_item(struct responses *s, struct text *out)
{
    struct response_item *i = s->n > 0 ? &s->item[s->n - 1] : NULL;
    if (!i || i->is_done) return;
    i->is_done = true;
    if (!out) return;
    text_event(s, out, i, NULL);
    part_event(s, out, i, true);
    item_event(s, out, i, true);
}

/* The item that d goes on with; NULL: there are too many, or no memory. */
static struct response_item *item_of(struct responses *s, const struct delta *d, struct text *out)
{
    enum delta_kind kind = d->kind == DELTA_ARGS ? DELTA_CALL : d->kind;
    struct response_item *i = s->n > 0 ? &s->item[s->n - 1] : NULL;
    if (i && !i->is_done && i->kind == kind && (kind != DELTA_CALL || i->call == d->call)) return i;
    close_item(s, out);
    if (s->n == ITEMS_MAX || d->kind == DELTA_ARGS) return NULL;
    if (s->n == s->cap) {
        uint32_t cap = 2 * s->cap + 4;
        struct response_item *p = realloc(s->item, cap * sizeof *p);
        if (!p) return NULL;
        s->item = p;
        s->cap = cap;
    }
    i = &s->item[s->n++];
    *i = (struct response_item){ .kind = kind, .call = d->call };
    name_item(i);
    if (kind == DELTA_CALL) {
        snprintf(i->call_id, sizeof i->call_id, "%s", d->call_id);
        text_add(&i->name, d->text.p, d->text.n);
    }
    if (out) {
        item_event(s, out, i, false);
        part_event(s, out, i, false);
    }
    return i;
}

void responses_delta(struct responses *s, const struct delta *d, struct text *out)
{
    if (d->kind == DELTA_ROLE || d->kind == DELTA_END) return;
    struct response_item *i = item_of(s, d, out);
    if (!i || d->kind == DELTA_CALL) return;
    text_add(&i->text, d->text.p, d->text.n);
    if (out) text_event(s, out, i, &d->text);
}

static void write_usage(struct text *out, const struct usage *u)
{
    text_printf(out,
                "{\"input_tokens\":%u,\"input_tokens_details\":{\"cached_tokens\":%u},"
                "\"output_tokens\":%u,\"output_tokens_details\":{\"reasoning_tokens\":%u},"
                "\"total_tokens\":%u}",
                u->n_prompt, u->n_cached, u->n_tokens, u->n_reasoning, u->n_prompt + u->n_tokens);
}

/* finish NULL: it has only begun. */
static void write_response(const struct responses *s, const struct reply_head *h,
                           const char *finish, const struct usage *u, struct text *out)
{
    bool is_cut = finish && strcmp(finish, "length") == 0;
    text_printf(out, "{\"id\":\"%s\",\"object\":\"response\",\"created_at\":%" PRIu64 ",", h->id,
                h->created);
    text_printf(out, "\"status\":\"%s\",\"error\":null,\"incomplete_details\":%s,",
                !finish  ? "in_progress"
                : is_cut ? "incomplete"
                         : "completed",
                is_cut ? "{\"reason\":\"max_output_tokens\"}" : "null");
    add_string(out, "model", slice_str(h->model));
    text_str(out, ",\"output\":[");
    for (uint32_t i = 0; finish && i < s->n; i++) {
        if (i) text_str(out, ",");
        write_item(out, &s->item[i], true);
    }
    text_str(out, "],\"instructions\":null,\"metadata\":{},\"parallel_tool_calls\":true,"
                  "\"previous_response_id\":null,\"store\":false,\"tool_choice\":\"auto\","
                  "\"tools\":[],\"temperature\":null,\"top_p\":null,\"truncation\":\"disabled\","
                  "\"text\":{\"format\":{\"type\":\"text\"}},\"usage\":");
    if (finish)
        write_usage(out, u);
    else
        text_str(out, "null");
    text_str(out, "}");
}

static void response_event(struct responses *s, const struct reply_head *h, const char *type,
                           const char *finish, const struct usage *u, struct text *out)
{
    begin_event(s, out, type);
    text_str(out, ",\"response\":");
    write_response(s, h, finish, u, out);
    end_event(out);
}

void responses_begin(struct responses *s, const struct reply_head *h, struct text *out)
{
    if (!out) return;
    response_event(s, h, "response.created", NULL, NULL, out);
    response_event(s, h, "response.in_progress", NULL, NULL, out);
}

void responses_end(struct responses *s, const struct reply_head *h, const char *finish,
                   const struct usage *u, struct text *out)
{
    close_item(s, out);
    if (!out) return;
    bool is_cut = strcmp(finish, "length") == 0;
    response_event(s, h, is_cut ? "response.incomplete" : "response.completed", finish, u, out);
}

void responses_error(struct responses *s, const struct openai_error *e, struct text *out)
{
    begin_event(s, out, "error");
    text_str(out, ",");
    add_string(out, "code", slice_str(e->code ? e->code : e->type));
    text_str(out, ",");
    add_string(out, "message", slice_str(e->why.text));
    text_str(out, ",\"param\":null");
    end_event(out);
}

void responses_write(const struct responses *s, const struct reply_head *h, const char *finish,
                     const struct usage *u, struct text *out)
{
    write_response(s, h, finish, u, out);
}

void responses_fini(struct responses *s)
{
    for (uint32_t i = 0; i < s->n; i++) {
        free(s->item[i].name.p);
        free(s->item[i].text.p);
    }
    free(s->item);
}
