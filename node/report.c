#include "node/report.h"

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

void report_plan(struct text *out, const char *model, const struct plan *plan)
{
    text_str(out, "{\"model\":");
    json_write_str(out, slice_str(model));
    text_str(out, ",\"stages\":[");
    for (uint32_t i = 0; i < plan->n; i++) {
        const struct plan_stage *s = &plan->stage[i];
        text_str(out, i ? ",{" : "{");
        add_id(out, &s->id);
        text_printf(out, ",\"lo\":%u,\"hi\":%u,\"layer_us\":%u,\"hop_us\":%u}", s->lo, s->hi,
                    s->layer_us, s->hop_us);
    }
    text_printf(out, "],\"token_us\":%u,\"tokens_per_s\":%.2f,\"bottleneck\":%u,\"left_out\":%u}",
                plan->token_us, per_second(1, plan->token_us), plan->bottleneck, plan->left_out);
}

void report_stats(struct text *out, const struct pipeline *p, const struct report_times *t)
{
    const struct plan *plan = pipeline_plan(p);
    double rate = t->n_tokens > 1 ? per_second(t->n_tokens - 1.0, (double)t->decode_us) : 0;
    text_printf(out,
                "{\"tokens_per_s\":%.2f,\"predicted_tokens_per_s\":%.2f,\"first_token_ms\":%.1f,"
                "\"predicted_first_token_ms\":%.1f,\"pick_ms\":%.1f,\"stages\":[",
                rate, per_second(1, plan->token_us), (double)t->prefill_us / 1e3,
                (double)t->predicted_us / 1e3, (double)t->pick_us / 1e3);
    for (uint32_t i = 0; i < plan->n; i++) {
        const struct plan_stage *s = &plan->stage[i];
        struct stage_time st = pipeline_time(p, i);
        text_printf(out,
                    "%s{\"lo\":%u,\"hi\":%u,\"steps\":%u,\"compute_ms\":%.1f,\"wait_ms\":%.1f}",
                    i ? "," : "", s->lo, s->hi, st.steps, (double)st.compute_us / 1e3,
                    (double)st.wait_us / 1e3);
    }
    struct heal_count h = pipeline_heals(p);
    text_printf(out, "],\"heals\":%u,\"heal_ms\":%llu,\"heal_rows\":%u}", h.n,
                (unsigned long long)h.ms, h.rows);
}
