#include "tests/sim/asker.h"

#include "home/runtime_dir.h"
#include "tests/sim/model_sim.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct swarm_key swarm = { { 7 } };

enum { TEXTS = 4 }; /* that are asked more than once */

/* In the place of home/runtime_dir.c: nodes listen where they always did. */
enum err runtime_find(struct local_node *out, unsigned cap, unsigned *n, struct why *why)
{
    (void)out, (void)cap, (void)why;
    *n = 0;
    return ERR_OK;
}

static void end(struct asker *a, enum asked_end how)
{
    trace("%s: %u of at most %u tokens after %.3f s %s",
          how == ASKED_DONE ? "the answer is complete" : "the question failed",
          a->n_ids - a->n_prompt, a->max_new, (double)(world_us() - a->asked_us) / SECOND,
          how == ASKED_FAILED ? a->last_text : "");
    a->is_asking = false;
    a->n_ends[how]++;
    a->last_end = how;
}

/* --- what it hears --- */

static void on_plan(void *arg, struct slice json)
{
    struct asker *a = arg;
    (void)json;
    a->sign_us = world_us();
}

static void take_token(struct asker *a, int32_t id)
{
    if (a->n_ids < a->n_oracle && a->oracle[a->n_ids] == id) {
        a->n_ids++;
        return;
    }
    broken("token %u of the answer is %d, the oracle says %d", a->n_ids - a->n_prompt, (int)id,
           a->n_ids < a->n_oracle ? (int)a->oracle[a->n_ids] : -1);
}

/* A token's text is its number and a space; a piece of text may end anywhere. */
static void on_text(void *arg, uint32_t index, struct slice text, bool is_thinking)
{
    struct asker *a = arg;
    (void)index, (void)is_thinking;
    a->sign_us = world_us();
    for (size_t i = 0; i < text.n && !world_failed(); i++) {
        if (text.p[i] == ' ') {
            take_token(a, a->digits);
            a->digits = 0;
        } else {
            a->digits = a->digits * 10 + (text.p[i] - '0');
        }
    }
}

static void on_note(void *arg, struct slice text)
{
    struct asker *a = arg;
    a->sign_us = world_us();
    trace("is told: %.*s", (int)text.n, (const char *)text.p);
}

static void on_done(void *arg, const struct msg_ASK_DONE *d)
{
    struct asker *a = arg;
    uint32_t n = a->n_ids - a->n_prompt, all = a->n_oracle - a->n_prompt;
    bool oracle_stops = a->oracle[a->n_oracle - 1] == SIM_EOS;
    if (d->reason == 0 && (!oracle_stops || n + 1 != all || d->n_tokens != all))
        broken("the answer stops after %u tokens, the oracle has %u", n, all);
    else if (d->reason == 1 && (d->n_tokens != n || n == 0)) /* fewer than asked for: no room */
        broken("the answer has %u tokens and its end says %u", n, (unsigned)d->n_tokens);
    else if (d->reason == 2 && !a->is_cancelled)
        broken("an answer was cancelled that nobody cancelled");
    if (a->on_stats) a->on_stats(a->stats_arg, d->stats);
    end(a, ASKED_DONE);
}

static void on_fail(void *arg, const char *text)
{
    struct asker *a = arg;
    snprintf(a->last_text, sizeof a->last_text, "%s", text);
    end(a, ASKED_FAILED);
}

static void on_line(void *arg, const char *line)
{
    (void)arg, (void)line;
}

static void on_interrupt(void *arg)
{
    (void)arg;
}

/* --- what it does --- */

void sim_asker_ask(struct asker *a, uint32_t n_prompt, uint32_t max_new)
{
    struct place *before = world_enter(&a->place);
    assert(!a->is_asking && n_prompt + max_new < 2048);
    a->n_prompt = a->n_ids = n_prompt;
    a->max_new = max_new;
    a->seed = draw_below(FOR_WORLD, UINT64_MAX) >> 1;
    a->text = draw_below(FOR_WORLD, 2) ? draw_below(FOR_WORLD, TEXTS) : a->seed;
    a->is_random = draw_is(FOR_WORLD, 50);
    a->is_cancelled = false;
    a->digits = 0;
    struct sampling s = { .temperature = a->is_random ? 0.8 : 0, .seed = a->seed };
    sim_prompt(a->oracle, n_prompt, a->text);
    a->n_oracle = sim_oracle(a->oracle, n_prompt, max_new, a->n_layers, &s);
    a->asked_us = a->sign_us = world_us();
    a->is_asking = true;
    trace("asks %s: %u ids, at most %u tokens", a->at->place.name, n_prompt, max_new);
    int n = snprintf(a->question, sizeof a->question,
                     "{\"messages\":[{\"role\":\"user\",\"content\":\"%u %llu\"}]}", n_prompt,
                     (unsigned long long)a->text);
    struct msg_ASK q = { .conversation = slice_of(a->question, (size_t)n),
                         .sampling = 31,
                         .temperature = s.temperature,
                         .top_p = 1,
                         .seed = a->seed,
                         .max_tokens = max_new };
    client_ask(a->client, &q);
    (void)world_enter(before);
}

void sim_asker_cancel(struct asker *a)
{
    struct place *before = world_enter(&a->place);
    if (a->is_asking) {
        trace("cancels");
        a->is_cancelled = true;
        client_cancel(a->client);
    }
    (void)world_enter(before);
}

void sim_asker_open(struct asker *a, const char *name, unsigned host, const struct identity *me,
                    struct sim_node *at, uint32_t patience_ms)
{
    snprintf(a->place.name, sizeof a->place.name, "%s", name);
    a->place.host = host;
    a->place.slow = 1;
    a->place.up_kb_s = 10000;
    a->me = *me;
    a->at = at;
    a->is_asking = false;
    struct place *before = world_enter(&a->place);
    struct client_config cc = { .me = &a->me,
                                .swarm = &swarm,
                                .link = { .id = at->me.id, .port = SIM_PORT },
                                .patience_ms = patience_ms,
                                .arg = a,
                                .on_plan = on_plan,
                                .on_text = on_text,
                                .on_note = on_note,
                                .on_done = on_done,
                                .on_fail = on_fail,
                                .on_line = on_line,
                                .on_interrupt = on_interrupt };
    snprintf(cc.link.host, sizeof cc.link.host, "10.7.%u.%u", at->place.host >> 8,
             at->place.host & 255);
    a->patience_ms = patience_ms;
    if (client_open(&a->client, &cc, NULL)) abort();
    (void)world_enter(before);
}

void sim_asker_close(struct asker *a)
{
    struct place *before = world_enter(&a->place);
    a->is_asking = false;
    client_stop(a->client);
    client_close(a->client);
    a->client = NULL;
    (void)world_enter(before);
}
