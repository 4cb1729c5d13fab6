#include "ask/report.h"

static void add_id(struct text *out, const struct node_id *id)
{
    char text[NODE_ID_TEXT];
    node_id_text(text, id);
    text_printf(out, "\"id\":\"%s\"", text);
}

static double per_second(double n, double us)
{
    return us > 0 ? n * 1e6 / us : 0;
}

enum { PLAN_JSON_SOFT = 12 << 10 }; /* past it, what is not needed is left away */

static void add_spares(struct text *out, const struct plan *plan, const struct plan_stage *s)
{
    if (s->n_spares == 0 || out->n > PLAN_JSON_SOFT / 2) return;
    text_str(out, ",\"spares\":[");
    for (uint32_t i = 0; i < s->n_spares; i++) {
        const struct plan_spare *spare = &plan->spare[s->spare + i];
        text_str(out, i ? ",{" : "{");
        add_id(out, &spare->id);
        text_printf(out, ",\"lo\":%u,\"hi\":%u}", spare->lo, spare->hi);
    }
    text_printf(out, "],\"spare_token_us\":%u", s->spare_token_us);
}

static void add_plan(struct text *out, const char *model, const struct plan *plan)
{
    text_str(out, "{\"model\":");
    json_write_str(out, slice_str(model));
    text_str(out, ",\"stages\":[");
    for (uint32_t i = 0; i < plan->n; i++) {
        const struct plan_stage *s = &plan->stage[i];
        text_str(out, i ? ",{" : "{");
        add_id(out, &s->id);
        text_printf(out, ",\"lo\":%u,\"hi\":%u,\"layer_us\":%u,\"hop_us\":%u,\"hop_known\":%s",
                    s->lo, s->hi, s->layer_us, s->hop_us, s->hop_known ? "true" : "false");
        if (s->together > 1) text_printf(out, ",\"together\":%u", s->together);
        add_spares(out, plan, s);
        text_str(out, "}");
    }
    text_printf(out,
                "],\"home_us\":%u,\"head_us\":%u,\"token_us\":%u,\"tokens_per_s\":%.2f,"
                "\"bottleneck\":%u,\"left_out\":%u",
                plan->home_us, plan->head_us, plan->token_us, per_second(1, plan->token_us),
                plan->bottleneck, plan->left_out);
}

void report_plan(struct text *out, const char *model, const struct plan *plan)
{
    add_plan(out, model, plan);
    text_str(out, "}");
}

/* --- the explanation --- */

static void add_first_token(struct text *out, const struct plan *plan, size_t row_bytes)
{
    static const uint32_t prompt[] = { 100, 1000 };
    text_str(out, ",\"first_token\":[");
    for (unsigned i = 0; i < sizeof prompt / sizeof *prompt; i++) {
        uint32_t chunk = plan_chunk(plan->n, prompt[i], row_bytes);
        uint64_t us = plan_first_us(plan, prompt[i], chunk, plan->n + PLAN_STEPS_EXTRA);
        text_printf(out, "%s{\"prompt\":%u,\"ms\":%.1f}", i ? "," : "", prompt[i],
                    (double)us / 1e3);
    }
    text_str(out, "]");
}

static const char *left_word(enum plan_left_why why)
{
    static const char *const word[] = {
        [LEFT_SPARE] = "spare",     [LEFT_SLOWER] = "slower",     [LEFT_NO_ROOM] = "no_room",
        [LEFT_REFUSED] = "refused", [LEFT_LOST] = "lost",         [LEFT_BANNED] = "banned",
        [LEFT_JOINING] = "joining", [LEFT_DRAINING] = "draining", [LEFT_EMPTY] = "empty",
        [LEFT_PARTS] = "parts"
    };
    return word[why];
}

static void add_left(struct text *out, const struct plan_explanation *x)
{
    uint32_t more = x->n_left_more, n = 0;
    text_str(out, ",\"left\":[");
    for (uint32_t i = 0; i < x->n_left; i++) {
        const struct plan_left *l = &x->left[i];
        if (out->n > PLAN_JSON_SOFT) {
            more++;
            continue;
        }
        text_str(out, n++ ? ",{" : "{");
        add_id(out, &l->id);
        text_printf(out, ",\"why\":\"%s\",\"token_us\":%u}", left_word(l->why), l->token_us);
    }
    text_printf(out, "],\"left_more\":%u", more);
}

static void add_ranges(struct text *out, const char *key, const struct plan_range *r, uint32_t n)
{
    text_printf(out, ",\"%s\":[", key);
    for (uint32_t i = 0; i < n; i++) text_printf(out, "%s[%u,%u]", i ? "," : "", r[i].lo, r[i].hi);
    text_str(out, "]");
}

void report_explanation(struct text *out, const char *model, const struct plan_explanation *x,
                        size_t row_bytes)
{
    add_plan(out, model, &x->plan);
    if (x->plan.n > 0 && row_bytes > 0) add_first_token(out, &x->plan, row_bytes);
    add_left(out, x);
    add_ranges(out, "single", x->single, x->n_single);
    add_ranges(out, "gap", x->gap, x->n_gap);
    text_printf(out,
                ",\"more\":{\"layer_us\":%u,\"rtt_us\":%u,\"n_layers\":%u,\"lo\":%u,\"hi\":%u,"
                "\"token_us\":%u}}",
                x->more.layer_us, x->more.rtt_us, x->more.n_layers, x->more.lo, x->more.hi,
                x->more.token_us);
}

/* --- after the answer --- */

static void add_way(struct text *out, const char *key, uint32_t us)
{
    if (us != UINT32_MAX) text_printf(out, ",\"%s\":%.2f", key, us / 1e3);
}

void report_stats(struct text *out, const struct pipeline *p, const struct report_times *t)
{
    const struct plan *plan = pipeline_plan(p);
    double rate = t->n_tokens > 1 ? per_second(t->n_tokens - 1.0, (double)t->decode_us) : 0;
    text_printf(out, "{\"known\":%u,", t->n_known);
    text_printf(out,
                "\"tokens_per_s\":%.2f,\"predicted_tokens_per_s\":%.2f,\"first_token_ms\":%.1f,"
                "\"predicted_first_token_ms\":%.1f,\"pick_ms\":%.1f,\"stages\":[",
                rate, per_second(1, plan->token_us), (double)t->prefill_us / 1e3,
                (double)t->predicted_us / 1e3, (double)t->pick_us / 1e3);
    for (uint32_t i = 0; i < plan->n; i++) {
        const struct plan_stage *s = &plan->stage[i];
        struct stage_time st = pipeline_time(p, i);
        text_printf(out, "%s{\"lo\":%u,\"hi\":%u,\"steps\":%u,\"compute_ms\":%.1f,\"wait_ms\":%.1f",
                    i ? "," : "", s->lo, s->hi, st.steps, (double)st.compute_us / 1e3,
                    (double)st.wait_us / 1e3);
        add_way(out, "hop_ms", pipeline_way_us(p, i));
        text_str(out, "}");
    }
    struct heal_count h = pipeline_heals(p);
    text_str(out, "]");
    add_way(out, "home_ms", pipeline_way_us(p, plan->n));
    text_printf(out,
                ",\"heals\":%u,\"heal_ms\":%llu,\"heal_rows\":%u,\"heal_layer_rows\":%llu,"
                "\"drafted\":%u,\"accepted\":%u}",
                h.n, (unsigned long long)h.ms, h.rows, (unsigned long long)h.layer_rows, t->drafted,
                t->right);
}
