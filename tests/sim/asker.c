#include "tests/sim/asker.h"

#include "tests/sim/model_sim.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct swarm_key swarm = { { 7 } };

static void end(struct asker *a, enum asked_end how)
{
    trace("%s: %u of at most %u tokens after %.3f s %s",
          how == ASKED_DONE   ? "the answer is complete"
          : how == ASKED_LOST ? "lost its coordinator"
                              : "was refused",
          a->n_ids - a->n_prompt, a->max_new, (double)(world_us() - a->asked_us) / SECOND,
          how == ASKED_REFUSED ? a->last_text : "");
    a->state = ASKER_IDLE;
    a->n_ends[how]++;
    a->last_end = how;
}

/* The text of tokens is their numbers. */
static void take_text(struct asker *a, struct slice text)
{
    char copy[8200];
    assert(text.n < sizeof copy);
    memcpy(copy, text.p, text.n);
    copy[text.n] = 0;
    for (char *p = copy, *rest; *p; p = rest) {
        long id = strtol(p, &rest, 10);
        if (rest == p) break;
        if (*rest == ' ') rest++;
        if (a->n_ids >= a->n_oracle || a->oracle[a->n_ids] != id) {
            broken("token %u of the answer is %ld, the oracle says %d", a->n_ids - a->n_prompt, id,
                   a->n_ids < a->n_oracle ? (int)a->oracle[a->n_ids] : -1);
            return;
        }
        a->ids[a->n_ids++] = (int32_t)id;
    }
}

static void take_done(struct asker *a, const struct msg_ASK_DONE *d)
{
    uint32_t n = a->n_ids - a->n_prompt;
    bool oracle_stops = a->oracle[a->n_oracle - 1] == SIM_EOS;
    uint32_t all = a->n_oracle - a->n_prompt;
    if (d->reason == 0 && (!oracle_stops || n + 1 != all || d->n_tokens != all))
        broken("the answer stops after %u tokens, the oracle has %u", n, all);
    else if (d->reason == 1 && (d->n_tokens != n || n == 0)) /* fewer than asked for: no room */
        broken("the answer has %u tokens and its end says %u", n, (unsigned)d->n_tokens);
    else if (d->reason == 2 && !a->is_cancelled)
        broken("an answer was cancelled that nobody cancelled");
    end(a, ASKED_DONE);
}

static void on_mail(void *arg, struct mail *m)
{
    struct asker *a = arg;
    if (a->state == ASKER_WAITS && m->m.rid == a->rid) {
        a->sign_us = world_us();
        switch (m->m.type) {
        case MSG_ASK_TEXT: take_text(a, m->m.u.ASK_TEXT.text); break;
        case MSG_ASK_DONE: take_done(a, &m->m.u.ASK_DONE); break;
        case MSG_ASK_NOTE:
            trace("is told: %.*s", (int)m->m.u.ASK_NOTE.text.n,
                  (const char *)m->m.u.ASK_NOTE.text.p);
            break;
        case MSG_ERROR:
            a->last_code = (uint32_t)m->m.u.ERROR.code;
            snprintf(a->last_text, sizeof a->last_text, "%.*s", (int)m->m.u.ERROR.text.n,
                     (const char *)m->m.u.ERROR.text.p);
            end(a, ASKED_REFUSED);
            break;
        default: break;
        }
    }
    m->note.drop(&m->note);
}

static void on_peer(void *arg, const struct node_id *id, bool up, const char *why)
{
    struct asker *a = arg;
    (void)why;
    if (!up && a->state == ASKER_WAITS && node_id_equal(id, &a->at->me.id)) end(a, ASKED_LOST);
}

static void send_ask(struct asker *a)
{
    char text[200];
    int n =
        snprintf(text, sizeof text, "{\"messages\":[{\"role\":\"user\",\"content\":\"%u %llu\"}]}",
                 a->n_prompt, (unsigned long long)a->seed);
    struct msg m = { .type = MSG_ASK, .rid = ++a->rid };
    m.u.ASK.conversation = slice_of(text, (size_t)n);
    m.u.ASK.sampling = 31;
    m.u.ASK.temperature = a->is_random ? 0.8 : 0;
    m.u.ASK.top_p = 1;
    m.u.ASK.seed = a->seed;
    m.u.ASK.max_tokens = a->max_new;
    a->state = ASKER_WAITS;
    a->sign_us = world_us();
    if (net_send(a->net, &a->at->me.id, &m)) end(a, ASKED_LOST);
}

static void on_dialled(void *arg, const struct node_id *id, enum err e, const char *why)
{
    struct asker *a = arg;
    (void)id, (void)why;
    if (a->state != ASKER_DIALLING) return;
    if (e)
        end(a, ASKED_LOST);
    else
        send_ask(a);
}

void sim_asker_ask(struct asker *a, struct sim_node *at, uint32_t n_prompt, uint32_t max_new)
{
    struct place *before = world_enter(&a->place);
    char host[32];
    assert(a->state == ASKER_IDLE && n_prompt + max_new < 2048);
    a->at = at;
    a->n_prompt = a->n_ids = n_prompt;
    a->max_new = max_new;
    a->seed = draw_below(FOR_WORLD, UINT64_MAX) >> 1;
    a->is_random = draw_is(FOR_WORLD, 50);
    a->is_cancelled = false;
    struct sampling s = { .temperature = a->is_random ? 0.8 : 0, .seed = a->seed };
    sim_prompt(a->oracle, n_prompt, a->seed);
    memcpy(a->ids, a->oracle, n_prompt * sizeof *a->ids);
    a->n_oracle = sim_oracle(a->oracle, n_prompt, max_new, a->n_layers, &s);
    a->asked_us = a->sign_us = world_us();
    a->state = ASKER_DIALLING;
    trace("asks %s: %u ids, at most %u tokens", at->place.name, n_prompt, max_new);
    snprintf(host, sizeof host, "10.7.%u.%u", at->place.host >> 8, at->place.host & 255);
    net_dial(a->net, &at->me.id, host, SIM_PORT, on_dialled, a);
    (void)world_enter(before);
}

void sim_asker_cancel(struct asker *a)
{
    struct msg m = { .type = MSG_ASK_CANCEL, .rid = a->rid };
    struct place *before = world_enter(&a->place);
    if (a->state == ASKER_WAITS) {
        trace("cancels");
        a->is_cancelled = true;
        if (net_send(a->net, &a->at->me.id, &m)) trace("nobody hears it");
    }
    (void)world_enter(before);
}

void sim_asker_open(struct asker *a, unsigned index, unsigned host, const struct identity *me)
{
    memset(a, 0, sizeof *a);
    snprintf(a->place.name, sizeof a->place.name, "ask%u", index);
    a->place.host = host;
    a->place.slow = 1;
    a->place.up_kb_s = 10000;
    a->me = *me;
    struct place *before = world_enter(&a->place);
    struct net_config nc = { .me = &a->me,
                             .swarm = &swarm,
                             .agent = "sim",
                             .role = 2,
                             .arg = a,
                             .on_mail = on_mail,
                             .on_peer = on_peer };
    if (hub_init(&a->hub) || net_open(&a->net, &a->hub, &nc, NULL)) abort();
    (void)world_enter(before);
}

void sim_asker_close(struct asker *a)
{
    struct place *before = world_enter(&a->place);
    a->state = ASKER_IDLE;
    net_close(a->net, NULL, NULL);
    hub_fini(&a->hub);
    (void)world_enter(before);
}
