/* metrics.c - what a gateway counts, in the text format of Prometheus. */
#include "gateway/gateway_impl.h"

static void counter(struct text *out, const char *name, const char *help, uint64_t v)
{
    prom_one(out, name, PROM_COUNTER, help, (double)v);
}

static void gauge(struct text *out, const char *name, const char *help, double v)
{
    prom_one(out, name, PROM_GAUGE, help, v);
}

static void responses(struct text *out, const struct gateway_counts *c)
{
    static const char name[] = "swarm_gateway_responses_total";
    prom_metric(out, name, PROM_COUNTER, "Answers to HTTP requests, by class.");
    for (unsigned i = 2; i < 6; i++) {
        char label[] = "class=\"0xx\"";
        label[7] = (char)('0' + i);
        prom_sample(out, name, label, (double)c->by_status[i]);
    }
}

void metrics_write(struct text *out, const struct gateway *g)
{
    const struct gateway_counts *c = &g->counts;
    responses(out, c);
    counter(out, "swarm_gateway_requests_total", "Questions that were taken.", c->requests);
    counter(out, "swarm_gateway_streams_total", "Of them answered as a stream.", c->streams);
    counter(out, "swarm_gateway_gone_total", "Clients that went before their answer was complete.",
            c->gone);
    counter(out, "swarm_gateway_refused_key_total", "Requests without a valid key.",
            c->refused_key);
    counter(out, "swarm_gateway_refused_limit_total", "Requests over their limit.",
            c->refused_limit);
    counter(out, "swarm_gateway_prompt_tokens_total", "Tokens of prompts.", c->prompt_tokens);
    counter(out, "swarm_gateway_cached_tokens_total", "Of them known already.", c->cached_tokens);
    counter(out, "swarm_gateway_tokens_total", "Tokens of answers.", c->tokens);
    counter(out, "swarm_gateway_reasoning_tokens_total", "Of them reasoning.", c->reasoning_tokens);
    counter(out, "swarm_gateway_notes_total", "Things said about pipelines: waiting, healing.",
            c->notes);
    gauge(out, "swarm_gateway_in_flight", "Answers under way.", g->n_replies);
    gauge(out, "swarm_gateway_connections", "HTTP connections.", http_connections(g->http));
    gauge(out, "swarm_gateway_up", "Does the coordinator answer?", g->is_up);
    gauge(out, "swarm_gateway_start_time_seconds", "When this gateway started.",
          (double)g->started_s);
    prom_histogram(out, "swarm_gateway_first_token_seconds",
                   "From a request to the first piece of its answer.", NULL, &c->first_token);
}
