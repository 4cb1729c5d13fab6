/* metrics.c - what a gateway counts, in the text format of Prometheus. */
#include "gateway/gateway_impl.h"

#include <inttypes.h>

static const double bounds[LATENCIES] = { 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60 };

void metrics_first_token(struct gateway_counts *c, double seconds)
{
    unsigned i = 0;
    while (i < LATENCIES && seconds > bounds[i]) i++;
    c->first_token[i]++;
    c->first_token_s += seconds;
}

static void one(struct text *out, const char *name, const char *type, const char *help, double v)
{
    text_printf(out, "# HELP swarm_gateway_%s %s\n# TYPE swarm_gateway_%s %s\n", name, help, name,
                type);
    text_printf(out, "swarm_gateway_%s %.17g\n", name, v);
}

static void first_token(struct text *out, const struct gateway_counts *c)
{
    static const char name[] = "swarm_gateway_first_token_seconds";
    uint64_t n = 0;
    text_printf(out, "# HELP %s From a request to the first piece of its answer.\n", name);
    text_printf(out, "# TYPE %s histogram\n", name);
    for (unsigned i = 0; i < LATENCIES; i++)
        text_printf(out, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, bounds[i],
                    n += c->first_token[i]);
    n += c->first_token[LATENCIES];
    text_printf(out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, n);
    text_printf(out, "%s_sum %.6f\n%s_count %" PRIu64 "\n", name, c->first_token_s, name, n);
}

void metrics_write(struct text *out, const struct gateway *g)
{
    const struct gateway_counts *c = &g->counts;
    text_str(out, "# HELP swarm_gateway_responses_total Answers to HTTP requests, by class.\n"
                  "# TYPE swarm_gateway_responses_total counter\n");
    for (unsigned i = 2; i < 6; i++)
        text_printf(out, "swarm_gateway_responses_total{class=\"%uxx\"} %" PRIu64 "\n", i,
                    c->by_status[i]);
    one(out, "requests_total", "counter", "Questions that were taken.", (double)c->requests);
    one(out, "streams_total", "counter", "Of them answered as a stream.", (double)c->streams);
    one(out, "gone_total", "counter", "Clients that went before their answer was complete.",
        (double)c->gone);
    one(out, "refused_key_total", "counter", "Requests without a valid key.",
        (double)c->refused_key);
    one(out, "refused_limit_total", "counter", "Requests over their limit.",
        (double)c->refused_limit);
    one(out, "prompt_tokens_total", "counter", "Tokens of prompts.", (double)c->prompt_tokens);
    one(out, "cached_tokens_total", "counter", "Of them known already.", (double)c->cached_tokens);
    one(out, "tokens_total", "counter", "Tokens of answers.", (double)c->tokens);
    one(out, "reasoning_tokens_total", "counter", "Of them reasoning.",
        (double)c->reasoning_tokens);
    one(out, "notes_total", "counter", "Things said about pipelines: waiting, healing.",
        (double)c->notes);
    one(out, "in_flight", "gauge", "Answers under way.", g->n_replies);
    one(out, "connections", "gauge", "HTTP connections.", http_connections(g->http));
    one(out, "up", "gauge", "Does the coordinator answer?", g->is_up);
    one(out, "start_time_seconds", "gauge", "When this gateway started.", (double)g->started_s);
    first_token(out, c);
}
