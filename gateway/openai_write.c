/* openai_write.c - answers and refusals as OpenAI's clients read them. */
#include "gateway/openai.h"

#include <inttypes.h>
#include <stdlib.h>

static void add_string(struct text *out, const char *key, struct slice value)
{
    text_printf(out, "\"%s\":", key);
    json_write_str(out, value);
}

static void add_string_or_null(struct text *out, const char *key, const char *value)
{
    if (value && *value)
        add_string(out, key, slice_str(value));
    else
        text_printf(out, "\"%s\":null", key);
}

static void add_logprobs(struct text *out, struct slice json)
{
    text_str(out, "\"logprobs\":");
    if (json.n > 0)
        text_add(out, json.p, json.n);
    else
        text_str(out, "null");
    text_str(out, ",");
}

void openai_write_error(struct text *out, const struct openai_error *e)
{
    text_str(out, "{\"error\":{");
    add_string(out, "message", slice_str(e->why.text));
    text_printf(out, ",\"type\":\"%s\",", e->type);
    add_string_or_null(out, "param", e->param);
    text_str(out, ",");
    add_string_or_null(out, "code", e->code);
    text_str(out, "}}");
}

const char *finish_reason(unsigned done_reason, bool has_calls)
{
    enum { STOPPED, LENGTH, CANCELLED };
    if (done_reason == LENGTH) return "length";
    return has_calls && done_reason == STOPPED ? "tool_calls" : "stop";
}

static void head(struct text *out, const struct reply_head *h, bool is_piece)
{
    const char *object = h->endpoint == ENDPOINT_COMPLETIONS ? "text_completion"
                         : is_piece                          ? "chat.completion.chunk"
                                                             : "chat.completion";
    text_printf(out, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%" PRIu64 ",", h->id, object,
                h->created);
    add_string(out, "model", slice_str(h->model));
}

/* --- pieces --- */

static void delta_body(struct text *out, const struct delta *d)
{
    switch (d->kind) {
    case DELTA_ROLE: text_str(out, "\"role\":\"assistant\",\"content\":\"\""); break;
    case DELTA_TEXT: add_string(out, "content", d->text); break;
    case DELTA_REASONING: add_string(out, "reasoning_content", d->text); break;
    case DELTA_CALL:
        text_printf(out,
                    "\"tool_calls\":[{\"index\":%u,\"id\":\"%s\",\"type\":\"function\","
                    "\"function\":{",
                    d->call, d->call_id);
        add_string(out, "name", d->text);
        text_str(out, ",\"arguments\":\"\"}}]");
        break;
    case DELTA_ARGS:
        text_printf(out, "\"tool_calls\":[{\"index\":%u,\"function\":{", d->call);
        add_string(out, "arguments", d->text);
        text_str(out, "}}]");
        break;
    case DELTA_END: break;
    }
}

void openai_write_delta(struct text *out, const struct reply_head *h, const struct delta *d)
{
    text_str(out, "data: ");
    head(out, h, true);
    text_printf(out, ",\"choices\":[{\"index\":%u,", d->choice);
    if (h->endpoint == ENDPOINT_COMPLETIONS) {
        add_string(out, "text", d->kind == DELTA_TEXT ? d->text : slice_str(""));
        text_str(out, ",");
    } else {
        text_str(out, "\"delta\":{");
        delta_body(out, d);
        text_str(out, "},");
    }
    add_logprobs(out, d->logprobs);
    add_string_or_null(out, "finish_reason", d->finish);
    text_str(out, "}]}\n\n");
}

static void usage_body(struct text *out, const struct usage *u)
{
    text_printf(out, "\"usage\":{\"prompt_tokens\":%u,\"completion_tokens\":%u,\"total_tokens\":%u",
                u->n_prompt, u->n_tokens, u->n_prompt + u->n_tokens);
    text_printf(out, ",\"completion_tokens_details\":{\"reasoning_tokens\":%u}", u->n_reasoning);
    text_printf(out, ",\"prompt_tokens_details\":{\"cached_tokens\":%u}}", u->n_cached);
}

void openai_write_usage(struct text *out, const struct reply_head *h, const struct usage *u)
{
    text_str(out, "data: ");
    head(out, h, true);
    text_str(out, ",\"choices\":[],");
    usage_body(out, u);
    text_str(out, "}\n\n");
}

void openai_write_done(struct text *out)
{
    text_str(out, "data: [DONE]\n\n");
}

/* --- a whole answer --- */

static struct slice all_of(const struct text *t)
{
    return slice_of(t->p, t->n);
}

static void message(struct text *out, const struct whole_choice *c)
{
    text_str(out, "\"message\":{\"role\":\"assistant\",");
    if (c->content.n > 0 || c->n_calls == 0)
        add_string(out, "content", all_of(&c->content));
    else
        text_str(out, "\"content\":null");
    text_str(out, ",\"refusal\":null");
    if (c->reasoning.n > 0) {
        text_str(out, ",");
        add_string(out, "reasoning_content", all_of(&c->reasoning));
    }
    for (uint32_t i = 0; i < c->n_calls; i++) {
        const struct whole_call *k = &c->call[i];
        text_printf(out, "%s{\"id\":\"%s\",\"type\":\"function\",\"function\":{",
                    i ? "," : ",\"tool_calls\":[", k->id);
        add_string(out, "name", all_of(&k->name));
        text_str(out, ",");
        add_string(out, "arguments", all_of(&k->args));
        text_str(out, i + 1 < c->n_calls ? "}}" : "}}]");
    }
    text_str(out, "}");
}

void openai_write_whole(struct text *out, const struct reply_head *h,
                        const struct whole_choice *choice, uint32_t n, const struct usage *u)
{
    head(out, h, false);
    text_str(out, ",\"choices\":[");
    for (uint32_t i = 0; i < n; i++) {
        const struct whole_choice *c = &choice[i];
        text_printf(out, "%s{\"index\":%u,", i ? "," : "", i);
        if (h->endpoint == ENDPOINT_COMPLETIONS)
            add_string(out, "text", all_of(&c->content));
        else
            message(out, c);
        text_str(out, ",");
        add_logprobs(out, all_of(&c->logprobs));
        add_string_or_null(out, "finish_reason", c->finish);
        text_str(out, "}");
    }
    text_str(out, "],");
    usage_body(out, u);
    text_str(out, "}");
}

void openai_write_models(struct text *out, const char *const *name, uint32_t n, uint64_t created)
{
    text_str(out, "{\"object\":\"list\",\"data\":[");
    for (uint32_t i = 0; i < n; i++) {
        text_str(out, i ? ",{" : "{");
        add_string(out, "id", slice_str(name[i]));
        text_printf(out, ",\"object\":\"model\",\"created\":%" PRIu64 ",\"owned_by\":\"swarm\"}",
                    created);
    }
    text_str(out, "]}");
}
