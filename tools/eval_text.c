/* swarm-eval tokenize, chat: JSON lines in, JSON lines out, for comparison with other programs. */
#include "base/json.h"
#include "model/chat.h"
#include "model/tokenizer.h"
#include "store/file.h"
#include "tools/args.h"
#include "tools/eval.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { TOKENIZER_MAX = 1 << 28 }; /* bytes of a tokenizer.json */

/* What one line becomes; ctx is the command's. */
typedef enum err answer_line(void *ctx, const struct json *line, struct text *out, struct why *why);

/* Answer each line of stdin; returns the exit status. */
static int answer_lines(const struct args *a, answer_line *answer, void *ctx)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    struct text out = { 0 };
    struct why why = { "" };
    enum err e = ERR_OK;
    unsigned long number = 0;
    while (!e && (n = getline(&line, &cap, stdin)) >= 0) {
        struct json_doc *doc;
        number++;
        if (strspn(line, " \t\r\n") == (size_t)n) continue;
        out.n = 0;
        why.text[0] = 0;
        e = json_parse(&doc, slice_of(line, (size_t)n), "JSON", &why);
        if (!e) {
            e = answer(ctx, json_root(doc), &out, &why);
            text_str(&out, "\n");
            json_free(doc);
        }
        if (!e && out.failed) e = ERR_NOMEM;
        if (!e && fwrite(out.p, 1, out.n, stdout) != out.n) e = ERR_IO;
    }
    bool unread = !e && ferror(stdin);
    if (fflush(stdout) && !e) e = ERR_IO;
    free(line);
    free(out.p);
    if (unread) return die(a, 1, "standard input can't be read: %s", strerror(errno));
    if (!e) return 0;
    return die(a, 1, "line %lu: %s", number, why.text[0] ? why.text : err_text(e));
}

/* ---- tokenize -------------------------------------------------------------------------- */

struct tokenize {
    struct tokenizer *tokenizer;
    struct ids ids;
};

static enum err text_to_ids(void *ctx, const struct json *line, struct text *out, struct why *why)
{
    struct tokenize *t = ctx;
    const struct json *text = json_get(line, "text");
    if (!text || text->type != JSON_STRING)
        return fail(why, ERR_MALFORMED, "no {\"text\": \"...\"}");
    t->ids.n = 0;
    enum err e = tokenizer_encode_document(t->tokenizer, text->text, &t->ids);
    if (e) return e;
    text_str(out, "{\"ids\": [");
    for (uint32_t i = 0; i < t->ids.n; i++) text_printf(out, i ? ", %d" : "%d", t->ids.p[i]);
    text_str(out, "]}");
    return ERR_OK;
}

static enum err ids_to_text(void *ctx, const struct json *line, struct text *out, struct why *why)
{
    struct tokenize *t = ctx;
    const struct json *ids = json_get(line, "ids");
    if (!ids || ids->type != JSON_ARRAY) return fail(why, ERR_MALFORMED, "no {\"ids\": [...]}");
    struct text text = { 0 };
    struct utf8_stream stream = { .n = 0 };
    enum err e = ERR_OK;
    text_str(&text, "");
    for (const struct json *v = ids->child; v && !e; v = v->next) {
        uint64_t id;
        if (!json_u64(v, &id) || id > INT32_MAX)
            e = fail(why, ERR_RANGE, "an id is no number from 0 to %d", INT32_MAX);
        else
            utf8_stream_feed(&stream, tokenizer_bytes(t->tokenizer, (int32_t)id, false), &text);
    }
    utf8_stream_flush(&stream, &text);
    if (text.failed) e = e ? e : ERR_NOMEM;
    if (!e) {
        text_str(out, "{\"text\": ");
        json_write_str(out, slice_of(text.p, text.n));
        text_str(out, "}");
    }
    free(text.p);
    return e;
}

int eval_tokenize(int argc, char **argv)
{
    const char *path = NULL;
    bool decode = false;
    const struct arg options[] = {
        { "tokenizer", ARG_STR, &path, "FILE", "the model's tokenizer.json" },
        { "decode", ARG_FLAG, &decode, NULL, "ids to text instead of text to ids" },
        { 0 },
    };
    const struct args args = {
        .program = "swarm-eval tokenize",
        .usage = "--tokenizer FILE [--decode] < LINES",
        .about =
            "Turns each line {\"text\": ...} into {\"ids\": [...]}, or back. Special tokens in "
            "the text are recognised.",
        .options = options,
    };
    const char *word;
    if (args_parse(&args, argc, argv, &word, 1) > 0)
        return die(&args, 2, "unexpected word '%s'", word);
    if (!path) return die(&args, 2, "--tokenizer FILE is needed");

    struct why why = { "" };
    uint8_t *json = NULL;
    size_t n = 0;
    struct tokenize t = { 0 };
    enum err e = file_read(path, TOKENIZER_MAX, &json, &n, &why);
    if (!e) e = tokenizer_open(&t.tokenizer, slice_of(json, n), &why);
    free(json);
    if (e) return die(&args, 1, "%s", why.text);
    int status = answer_lines(&args, decode ? ids_to_text : text_to_ids, &t);
    tokenizer_close(t.tokenizer);
    free(t.ids.p);
    return status;
}

/* ---- chat ------------------------------------------------------------------------------ */

/* A member that is true, false or not there (null counts as not there). */
static enum err read_switch(const struct json *line, const char *name, int *out, struct why *why)
{
    const struct json *v = json_get(line, name);
    *out = -1;
    if (!v || v->type == JSON_NULL) return ERR_OK;
    if (v->type != JSON_TRUE && v->type != JSON_FALSE)
        return fail(why, ERR_MALFORMED, "%s is neither true nor false", name);
    *out = v->type == JSON_TRUE;
    return ERR_OK;
}

static enum err conversation_to_text(void *ctx, const struct json *line, struct text *out,
                                     struct why *why)
{
    const enum chat_form *form = ctx;
    int thinking, prompt;
    enum err e = read_switch(line, "enable_thinking", &thinking, why);
    if (!e) e = read_switch(line, "add_generation_prompt", &prompt, why);
    if (e) return e;
    struct chat_text text;
    enum think think = thinking < 0 ? THINK_DEFAULT : thinking ? THINK_ON : THINK_OFF;
    e = chat_render(*form, json_get(line, "messages"), json_get(line, "tools"), think, prompt == 1,
                    &text, why);
    if (e) return e;
    text_str(out, "{\"rendered\": ");
    json_write_str(out, slice_of(text.text.p, text.text.n));
    text_str(out, "}");
    chat_text_fini(&text);
    return ERR_OK;
}

int eval_chat(int argc, char **argv)
{
    const char *name = NULL;
    const struct arg options[] = {
        { "form", ARG_STR, &name, "FORM", "glm-4.5, glm-4 or intellect-3" },
        { 0 },
    };
    const struct args args = {
        .program = "swarm-eval chat",
        .usage = "--form FORM < LINES",
        .about =
            "Turns each line {\"messages\": [...], \"tools\": [...], \"enable_thinking\": ..., "
            "\"add_generation_prompt\": ...} into {\"rendered\": ...}.",
        .options = options,
    };
    const char *word;
    enum chat_form form;
    if (args_parse(&args, argc, argv, &word, 1) > 0)
        return die(&args, 2, "unexpected word '%s'", word);
    if (!name) return die(&args, 2, "--form FORM is needed: glm-4.5, glm-4 or intellect-3");
    if (!chat_form_parse(name, &form) || form == CHAT_NONE)
        return die(&args, 2, "unknown form '%s': it is glm-4.5, glm-4 or intellect-3", name);
    return answer_lines(&args, conversation_to_text, &form);
}
