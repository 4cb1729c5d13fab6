#include "tools/ask.h"

#include "proto/trace.h"
#include "store/file.h"
#include "tools/plan_print.h"

#include <inttypes.h>
#include <stdlib.h>

/* "layers 3-5" or "layer 7" for [lo, hi). */
static void layers_of(char *out, size_t cap, const struct json *stage)
{
    uint64_t lo = json_number_of(stage, "lo"), hi = json_number_of(stage, "hi");
    if (hi == lo + 1)
        snprintf(out, cap, "layer %" PRIu64, lo);
    else
        snprintf(out, cap, "layers %" PRIu64 "-%" PRIu64, lo, hi ? hi - 1 : 0);
}

static const struct json *nth(const struct json *list, uint64_t i)
{
    const struct json *v = list && list->type == JSON_ARRAY ? list->child : NULL;
    while (v && i-- > 0) v = v->next;
    return v;
}

void ask_print_plan(FILE *f, const struct text *plan)
{
    plan_print(f, slice_of(plan->p, plan->n), plan_look_of(f));
}

static void print_stage_time(FILE *f, const struct json *s)
{
    char layers[64];
    uint64_t steps = json_number_of(s, "steps");
    layers_of(layers, sizeof layers, s);
    fprintf(f, "  %-14s computed %.1f ms in %" PRIu64 " steps, waited %.1f ms\n", layers,
            json_real_of(s, "compute_ms"), steps, json_real_of(s, "wait_ms"));
}

enum err ask_write_trace(const struct ask *a, struct why *why)
{
    struct file_out f;
    struct text json = { 0 };
    enum err e = a->traced.failed ? ERR_NOMEM
                                  : trace_write(&json, slice_of(a->traced.p, a->traced.n),
                                                "swarm-ask " SWARM_VERSION);
    if (e) {
        fail(why, e, "--trace: what the node told cannot be drawn: %s", err_text(e));
    } else if (!(e = file_create_private(&f, a->trace_file, why))) {
        file_put(&f, json.p, json.n);
        e = file_finish(&f, ERR_OK, why);
    }
    free(json.p);
    return e;
}

void ask_print_stats(FILE *f, const struct msg_ASK_DONE *done)
{
    struct json_doc *doc = NULL;
    if (done->stats.n == 0 || json_parse(&doc, done->stats, "the statistics", NULL)) return;
    const struct json *s = json_root(doc), *stages = json_get(s, "stages");
    fprintf(f,
            "%u tokens in %.2f s: %.1f tokens/s (predicted %.1f); the first one after %.2f s "
            "(predicted "
            "%.2f), for a prompt of %u tokens\n",
            (unsigned)done->n_tokens, (double)(done->prefill_us + done->decode_us) / 1e6,
            json_real_of(s, "tokens_per_s"), json_real_of(s, "predicted_tokens_per_s"),
            (double)done->prefill_us / 1e6, json_real_of(s, "predicted_first_token_ms") / 1e3,
            (unsigned)done->n_prompt);
    uint64_t known = json_number_of(s, "known");
    if (known > 0)
        fprintf(f, "  %-14s %" PRIu64 " of %u positions from earlier questions\n", "known", known,
                (unsigned)done->n_prompt);
    for (uint32_t i = 0; nth(stages, i); i++) print_stage_time(f, nth(stages, i));
    uint64_t heals = json_number_of(s, "heals");
    if (heals > 0)
        fprintf(f,
                "  %-14s took %.1f s: %" PRIu64 " stage%s lost, %" PRIu64 " rows computed again\n",
                "healing", json_real_of(s, "heal_ms") / 1e3, heals, heals == 1 ? "" : "s",
                json_number_of(s, "heal_rows"));
    uint64_t drafted = json_number_of(s, "drafted");
    if (drafted > 0)
        fprintf(f, "  %-14s %" PRIu64 " guessed ahead, %" PRIu64 " were right\n", "tokens", drafted,
                json_number_of(s, "accepted"));
    fprintf(f, "  %-14s took %.1f ms\n", "picking tokens", json_real_of(s, "pick_ms"));
    json_free(doc);
}
