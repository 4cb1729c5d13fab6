/* swarm-ask - ask a swarm something, or chat with it. */
#include "tools/ask.h"

#include "base/log.h"
#include "home/keys.h"
#include "home/runtime_dir.h"
#include "model/draft.h"
#include "model/sampler.h"
#include "model/tokenizer.h"
#include "proto/trace.h"
#include "tools/args.h"
#include "tools/terminal.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

enum { EXIT_INTERRUPTED = 130 };

static const char *model, *system_text, *swarm_key, *identity, *draft;
static bool plan_only, is_greedy, later, think_option = true;
static double temperature = NAN, top_p = NAN, min_p = NAN; /* NaN: not given */
static uint32_t top_k = UINT32_MAX, max_tokens, patience = 30;
static uint64_t seed = UINT64_MAX;
static struct ask ask;

static const struct arg options[] = {
    { "think", ARG_FLAG, &think_option, NULL,
      "[no-]let the model reason before it answers (default)" },
    { "system", ARG_STR, &system_text, "TEXT", "a system message that comes first" },
    { "model", ARG_STR, &model, "NAME", "which model (default: the node's)" },
    { "max-tokens", ARG_U32, &max_tokens, "N",
      "at most N tokens of answer (default: as many as fit)" },
    { "temperature", ARG_DOUBLE, &temperature, "T", "0 is greedy (default: as the model advises)" },
    { "top-k", ARG_U32, &top_k, "K", "only the K likeliest tokens; 0: all" },
    { "top-p", ARG_DOUBLE, &top_p, "P", "only the likeliest tokens that make up P" },
    { "min-p", ARG_DOUBLE, &min_p, "P", "only tokens at least P times as likely as the likeliest" },
    { "seed", ARG_U64, &seed, "N", "the same seed, the same answer" },
    { "greedy", ARG_FLAG, &is_greedy, NULL, "always the likeliest token" },
    { "later", ARG_FLAG, &later, NULL, "no hurry: others go first where many ask" },
    { "draft", ARG_STR, &draft, "HOW",
      "guess tokens ahead: off, ngram or mtp (default: as the node does)" },
    { "plan", ARG_FLAG, &plan_only, NULL, "explain who would compute what, ask nothing" },
    { "stats", ARG_FLAG, &ask.wants_stats, NULL, "afterwards: speed, and time by stage" },
    { "trace", ARG_STR, &ask.trace_file, "FILE",
      "when what was computed, for Chrome's or Perfetto's viewer" },
    { "json", ARG_FLAG, &ask.wants_json, NULL, "one JSON object at the end instead of text" },
    { "patience", ARG_U32, &patience, "S",
      "seconds to wait for a node that goes away meanwhile (default: 30)" },
    { "swarm-key", ARG_STR, &swarm_key, "FILE|swk1...", "which swarm (default: the public one)" },
    { "identity", ARG_STR, &identity, "FILE", "ask as this node (default: a fresh identity)" },
    { 0 },
};

static const struct args args = {
    .program = "swarm-ask",
    .usage = "[LINK] [QUESTION] [options]",
    .about = "Asks a swarm and prints the answer as it comes; without a question it is a chat. "
             "Without a link it asks a node that runs on this machine.",
    .options = options,
    .more = "Reasoning is shown dimmed, and only on a terminal.\n"
            "Exit status: 0 answered, 1 failed, 2 unusable arguments, 130 interrupted.",
};

/* --- the conversation --- */

void ask_add_message(struct ask *a, const char *role, struct slice content)
{
    struct utf8_stream utf8 = { 0 };
    struct text valid = { 0 };
    utf8_stream_feed(&utf8, content, &valid);
    utf8_stream_flush(&utf8, &valid);
    if (a->history.n > 0) text_str(&a->history, ",");
    text_printf(&a->history, "{\"role\":\"%s\",\"content\":", role);
    json_write_str(&a->history, slice_of(valid.p, valid.n));
    text_str(&a->history, "}");
    free(valid.p);
}

void ask_forget(struct ask *a)
{
    a->history.n = 0;
    if (a->system) ask_add_message(a, "system", slice_str(a->system));
}

void ask_send(struct ask *a)
{
    a->answer.n = a->reasoning.n = a->plan.n = a->sending.n = 0;
    a->has_printed = a->is_dim = false;
    a->is_answering = true;
    text_str(&a->sending, "{\"messages\":[");
    text_add(&a->sending, a->history.p, a->history.n);
    text_str(&a->sending, "]}");
    struct msg_ASK q = a->options;
    q.conversation = slice_of(a->sending.p, a->sending.n);
    client_ask(a->client, &q);
}

/* --- the queue --- */

/* The other side's bytes are shown as text only. */
static void print_clean(FILE *f, struct slice text)
{
    for (size_t i = 0; i < text.n; i++)
        fputc(text.p[i] >= 0x20 && text.p[i] < 0x7f ? text.p[i] : '?', f);
}

/* On a terminal one line that changes, elsewhere a line for each place. */
static void on_place(void *arg, uint32_t place, struct slice text)
{
    struct ask *a = arg;
    bool is_terminal = isatty(STDERR_FILENO);
    if (place == a->place && !is_terminal) return;
    a->place = place;
    fputs(is_terminal ? "\r\033[K(" : "(", stderr);
    print_clean(stderr, text);
    fputs(is_terminal ? ")" : ")\n", stderr);
    fflush(stderr);
}

static void end_waiting(struct ask *a)
{
    if (a->place > 0 && isatty(STDERR_FILENO)) fputs("\r\033[K", stderr);
    a->place = 0;
}

/* --- the answer --- */

static void on_plan(void *arg, struct slice json)
{
    struct ask *a = arg;
    end_waiting(a);
    a->plan.n = 0;
    text_add(&a->plan, json.p, json.n);
    if (a->options.plan_only && !a->wants_json) ask_print_plan(stdout, &a->plan);
}

/* On a line of its own, wherever the answer is. */
static void on_note(void *arg, struct slice text)
{
    struct ask *a = arg;
    end_waiting(a);
    fflush(stdout);
    fputs(a->has_printed && isatty(STDOUT_FILENO) ? "\n(" : "(", stderr);
    print_clean(stderr, text);
    fputs(")\n", stderr);
}

static void set_dim(struct ask *a, bool dim)
{
    if (a->is_dim == dim) return;
    terminal_dim(stdout, dim);
    if (!dim) fputs("\n\n", stdout); /* reasoning ends: the answer stands apart */
    a->is_dim = dim;
}

static void on_text(void *arg, uint32_t index, struct slice text, bool is_thinking)
{
    struct ask *a = arg;
    (void)index;
    text_add(is_thinking ? &a->reasoning : &a->answer, text.p, text.n);
    if (a->wants_json || (is_thinking && !isatty(STDOUT_FILENO))) return;
    set_dim(a, is_thinking);
    terminal_print(stdout, text);
    a->has_printed = true;
    if (ferror(stdout)) client_cancel(a->client); /* nobody reads: nobody need compute */
}

/* A person may ask the next thing; who pipes questions in, and nobody reads, may not. */
static bool goes_on(const struct ask *a)
{
    return a->is_chat && !ferror(stdout);
}

/* Leave the terminal as it was found. */
static void end_text(struct ask *a)
{
    end_waiting(a);
    if (a->is_dim) terminal_dim(stdout, false);
    if (a->has_printed) puts("");
    fflush(stdout);
    a->is_dim = a->has_printed = a->is_answering = false;
}

/* JSON of the other side, if it is. */
static void add_json(struct text *out, struct slice json)
{
    struct json_doc *doc = NULL;
    if (json.n > 0 && !json_parse(&doc, json, "the node's report", NULL))
        json_write(out, json_root(doc), 0);
    else
        text_str(out, "null");
    json_free(doc);
}

static void print_json(const struct ask *a, const struct msg_ASK_DONE *done)
{
    static const char *const reasons[] = { "stop", "length", "cancelled" };
    struct text t = { 0 };
    text_str(&t, "{\"answer\":");
    json_write_str(&t, slice_of(a->answer.p, a->answer.n));
    text_str(&t, ",\"reasoning\":");
    json_write_str(&t, slice_of(a->reasoning.p, a->reasoning.n));
    text_printf(&t, ",\"finish\":\"%s\",\"prompt_tokens\":%u,\"tokens\":%u", reasons[done->reason],
                (unsigned)done->n_prompt, (unsigned)done->n_tokens);
    text_str(&t, ",\"plan\":");
    add_json(&t, slice_of(a->plan.p, a->plan.n));
    text_str(&t, ",\"stats\":");
    add_json(&t, done->stats);
    text_str(&t, "}\n");
    if (isatty(STDOUT_FILENO))
        terminal_print(stdout, slice_of(t.p, t.n));
    else if (!t.failed)
        fwrite(t.p, 1, t.n, stdout);
    free(t.p);
}

static void on_trace(void *arg, struct slice events)
{
    struct ask *a = arg;
    if (a->traced.n + events.n <= (TRACE_EVENTS_MAX + 1) * (size_t)TRACE_BYTES)
        text_add(&a->traced, events.p, events.n);
}

/* Also of an answer that failed. */
static void write_trace(struct ask *a)
{
    struct why why;
    if (a->trace_file && ask_write_trace(a, &why)) a->status = die(&args, 1, "%s", why.text);
}

static void on_done(void *arg, const struct msg_ASK_DONE *done)
{
    enum { CANCELLED = 2 };
    struct ask *a = arg;
    end_text(a);
    if (a->wants_json)
        print_json(a, done);
    else if (a->wants_stats)
        ask_print_stats(stderr, done);
    if (goes_on(a)) {
        ask_chat_turn(a, a->answer.n > 0);
        return;
    }
    write_trace(a);
    if (done->reason == CANCELLED) a->status = EXIT_INTERRUPTED;
    client_stop(a->client);
}

static void on_fail(void *arg, const char *text)
{
    struct ask *a = arg;
    end_text(a);
    bool is_person = a->is_chat && isatty(STDIN_FILENO); /* who asks again */
    if (a->status != EXIT_INTERRUPTED) a->status = die(&args, is_person ? 0 : 1, "%s", text);
    if (goes_on(a)) {
        ask_chat_turn(a, false);
        return;
    }
    write_trace(a);
    client_stop(a->client);
}

static void on_line(void *arg, const char *line)
{
    ask_chat_line(arg, line);
}

/* The first interrupt stops the answer, the second the program; in a chat only the answer. */
static void on_interrupt(void *arg)
{
    struct ask *a = arg;
    if (a->is_answering && a->status != EXIT_INTERRUPTED) {
        if (!a->is_chat) a->status = EXIT_INTERRUPTED;
        client_cancel(a->client);
    } else if (a->is_chat && !a->is_answering) {
        ask_chat_interrupt(a);
    } else {
        end_text(a);
        client_stop(a->client);
    }
}

/* --- the command line --- */

static enum err read_options(struct ask *a, struct why *why)
{
    struct msg_ASK *q = &a->options;
    enum { SET_TEMPERATURE = 1, SET_TOP_P = 2, SET_MIN_P = 4, SET_TOP_K = 8, SET_SEED = 16 };
    if (model && strlen(model) > 64) return fail(why, ERR_RANGE, "--model: at most 64 bytes");
    if (model) q->model = slice_str(model);
    q->think = think_option ? 0 : 2;
    q->max_tokens = max_tokens < CONTEXT_MAX ? max_tokens : CONTEXT_MAX;
    q->plan_only = plan_only;
    q->later = later;
    q->trace = a->trace_file != NULL;
    enum draft_mode mode = DRAFT_AUTO;
    if (draft && !draft_mode_parse(&mode, draft))
        return fail(why, ERR_USAGE, "--draft: that is not auto, off, ngram or mtp");
    q->draft = mode;
    a->system = system_text;

    if (is_greedy) temperature = 0;
    struct sampling s = { .temperature = 1, .top_p = 1 };
    if (!isnan(temperature)) q->sampling |= SET_TEMPERATURE, s.temperature = temperature;
    if (!isnan(top_p)) q->sampling |= SET_TOP_P, s.top_p = top_p;
    if (!isnan(min_p)) q->sampling |= SET_MIN_P, s.min_p = min_p;
    if (top_k != UINT32_MAX) q->sampling |= SET_TOP_K, s.top_k = top_k;
    if (seed != UINT64_MAX) q->sampling |= SET_SEED, s.seed = seed;
    q->temperature = s.temperature;
    q->top_p = s.top_p;
    q->min_p = s.min_p;
    q->top_k = s.top_k;
    q->seed = s.seed;
    if (s.temperature > 100) return fail(why, ERR_RANGE, "--temperature: at most 100");
    return sampling_check(&s, why);
}

static int run(struct ask *a, const struct link *link, const char *question)
{
    struct identity me;
    struct swarm_key swarm;
    struct why why = { "" };
    bool created;
    enum err e = keys_swarm(&swarm, swarm_key, &why);
    if (!e && identity) e = keys_identity(&me, identity, false, &created, &why);
    if (e) return die(&args, 1, "%s", why.text);
    if (!identity) identity_make(&me);

    struct client_config c = { .me = &me,
                               .swarm = &swarm,
                               .link = *link,
                               .patience_ms = 1000 * patience,
                               .arg = a,
                               .on_plan = on_plan,
                               .on_note = on_note,
                               .on_place = on_place,
                               .on_text = on_text,
                               .on_trace = on_trace,
                               .on_done = on_done,
                               .on_fail = on_fail,
                               .on_line = on_line,
                               .on_interrupt = on_interrupt };
    e = client_open(&a->client, &c, &why);
    if (e) {
        identity_fini(&me);
        return die(&args, 1, "%s", why.text);
    }
    ask_forget(a);
    if (question) ask_add_message(a, "user", slice_str(question));
    if (a->is_chat)
        ask_chat_begin(a);
    else
        ask_send(a);
    client_run(a->client);
    client_close(a->client);
    identity_fini(&me);
    return a->status;
}

int main(int argc, char **argv)
{
    const char *pos[2], *link_word = NULL, *question = NULL;
    struct link link;
    struct why why = { "" };
    int n = args_parse(&args, argc, argv, pos, 2), at = 0;
    if (proto_init()) return die(&args, 1, "libsodium does not start");
    if (n > 0 && strncmp(pos[0], "swarm://", 8) == 0) link_word = pos[at++];
    if (at < n) question = pos[at++];
    if (at < n) return die(&args, 2, "'%s': one question, please (in quotes)", pos[at]);
    if (question && !*question) return die(&args, 2, "the question is empty");
    if (read_options(&ask, &why)) return die(&args, 2, "%s", why.text);
    if (ask.trace_file && (!question || plan_only))
        return die(&args, 2, "--trace is of one question: give it");
    if (patience > 3600) return die(&args, 2, "--patience %u: at most 3600 s", patience);
    if (link_word && link_parse(&link, link_word, &why)) return die(&args, 2, "%s", why.text);
    struct local_node here;
    if (!link_word && runtime_find_asked(&here, model, &why)) return die(&args, 1, "%s", why.text);
    if (!link_word) link = here.link;

    log_set_level(LOG_ERROR); /* what matters is said as the answer's end */
    ask.is_chat = !question && !plan_only;
    int status = run(&ask, &link, question);
    if (fflush(stdout) || ferror(stdout))
        status = die(&args, 1, "standard output cannot be written");
    free(ask.history.p);
    free(ask.sending.p);
    free(ask.answer.p);
    free(ask.reasoning.p);
    free(ask.plan.p);
    free(ask.traced.p);
    return status;
}
