#include "tools/ask.h"

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

/* A string of the other side, printable ASCII only; cut to fit. */
static void word(char *out, size_t cap, const struct json *v)
{
    size_t n = 0;
    for (size_t i = 0; v && v->type == JSON_STRING && i < v->text.n && n + 1 < cap; i++)
        if (v->text.p[i] > 0x20 && v->text.p[i] < 0x7f) out[n++] = (char)v->text.p[i];
    out[n] = 0;
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

static void print_stage(FILE *f, const struct json *s)
{
    char layers[64], id[80], name[NODE_ID_SHORT];
    struct node_id node;
    layers_of(layers, sizeof layers, s);
    word(id, sizeof id, json_get(s, "id"));
    if (node_id_parse(&node, id, NULL))
        snprintf(name, sizeof name, "?");
    else
        node_id_short(name, &node);
    fprintf(f, "  %-14s on %s: %.2f ms a layer, %.2f ms to reach it\n", layers, name,
            (double)number(s, "layer_us") / 1e3, (double)number(s, "hop_us") / 1e3);
}

void ask_print_plan(FILE *f, const struct text *plan)
{
    struct json_doc *doc = NULL;
    if (plan->n == 0 || json_parse(&doc, slice_of(plan->p, plan->n), "the plan", NULL)) return;
    const struct json *p = json_root(doc), *stages = json_get(p, "stages");
    char model[80], layers[64];
    word(model, sizeof model, json_get(p, "model"));
    uint32_t n = stages && stages->type == JSON_ARRAY ? stages->n : 0;
    fprintf(f, "%s goes through %u node%s, about %.1f tokens a second (%.1f ms a token):\n", model,
            n, n == 1 ? "" : "s", real(p, "tokens_per_s"), (double)number(p, "token_us") / 1e3);
    for (uint32_t i = 0; i < n; i++) print_stage(f, nth(stages, i));
    const struct json *slowest = nth(stages, number(p, "bottleneck"));
    if (slowest && n > 1) {
        layers_of(layers, sizeof layers, slowest);
        fprintf(f, "  most time is spent in %s\n", layers);
    }
    uint64_t left_out = number(p, "left_out");
    if (left_out == 1) fprintf(f, "  one more node holds layers of it and is not needed\n");
    if (left_out > 1)
        fprintf(f, "  %" PRIu64 " more nodes hold layers of it and are not needed\n", left_out);
    json_free(doc);
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
    fprintf(
        f,
        "%u tokens in %.2f s: %.1f tokens/s (predicted %.1f); the first one after %.2f s (predicted "
        "%.2f), for a prompt of %u tokens\n",
        (unsigned)done->n_tokens, (double)(done->prefill_us + done->decode_us) / 1e6,
        real(s, "tokens_per_s"), real(s, "predicted_tokens_per_s"), (double)done->prefill_us / 1e6,
        real(s, "predicted_first_token_ms") / 1e3, (unsigned)done->n_prompt);
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
