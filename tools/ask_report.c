#include "tools/ask.h"
#include "tools/plan_print.h"

#include <inttypes.h>
#include <stdlib.h>

static uint64_t number(const struct json *v, const char *key)
{
    uint64_t n = 0;
    return json_u64(json_get(v, key), &n) ? n : 0;
}

static double real(const struct json *v, const char *key)
{
    double d = 0;
    return json_double(json_get(v, key), &d) ? d : 0;
}

/* "layers 3-5" or "layer 7" for [lo, hi). */
static void layers_of(char *out, size_t cap, const struct json *stage)
{
    uint64_t lo = number(stage, "lo"), hi = number(stage, "hi");
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
    uint64_t steps = number(s, "steps");
    layers_of(layers, sizeof layers, s);
    fprintf(f, "  %-14s computed %.1f ms in %" PRIu64 " steps, waited %.1f ms\n", layers,
            real(s, "compute_ms"), steps, real(s, "wait_ms"));
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
            real(s, "tokens_per_s"), real(s, "predicted_tokens_per_s"),
            (double)done->prefill_us / 1e6, real(s, "predicted_first_token_ms") / 1e3,
            (unsigned)done->n_prompt);
    for (uint32_t i = 0; nth(stages, i); i++) print_stage_time(f, nth(stages, i));
    uint64_t heals = number(s, "heals");
    if (heals > 0)
        fprintf(f,
                "  %-14s took %.1f s: %" PRIu64 " stage%s lost, %" PRIu64 " rows computed again\n",
                "healing", real(s, "heal_ms") / 1e3, heals, heals == 1 ? "" : "s",
                number(s, "heal_rows"));
    fprintf(f, "  %-14s took %.1f ms\n", "picking tokens", real(s, "pick_ms"));
    json_free(doc);
}
