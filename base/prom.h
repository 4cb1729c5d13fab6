/* prom.h - numbers for Prometheus: histograms, and the text format (version 0.0.4) that it reads.
 *
 * A metric is a line of HELP and one of TYPE, then its samples:
 *
 *     prom_metric(out, "swarm_node_peers", PROM_GAUGE, "Nodes that are known.");
 *     prom_sample(out, "swarm_node_peers", "state=\"connected\"", 3);
 *
 * Names and help are literals of the caller's; values of labels that come from elsewhere go through
 * prom_label.  Names end in their unit (seconds, bytes), those of counters in _total. */
#ifndef BASE_PROM_H
#define BASE_PROM_H

#include "base/json.h"

#define PROM_TYPE "text/plain; version=0.0.4; charset=utf-8"

enum prom_kind { PROM_COUNTER, PROM_GAUGE };

/* How often something took how long.  Zero-initialize. */
enum { HISTOGRAM_BOUNDS = 17 };
struct histogram {
    uint64_t n[HISTOGRAM_BOUNDS + 1]; /* up to each bound; the last: longer */
    double sum;                       /* seconds */
};
/* It took so many seconds, `times` times. */
void histogram_add(struct histogram *h, double seconds, uint64_t times);

void prom_metric(struct text *out, const char *name, enum prom_kind kind, const char *help);
/* labels: "a=\"b\",c=\"d\"", or NULL. */
void prom_sample(struct text *out, const char *name, const char *labels, double v);
/* A metric of one sample. */
void prom_one(struct text *out, const char *name, enum prom_kind kind, const char *help, double v);
/* A metric whose samples are histograms: the first prom_histogram gets its help, others that belong
 * to it NULL. */
void prom_histogram(struct text *out, const char *name, const char *help, const char *labels,
                    const struct histogram *h);

/* name="value" with what the format and terminals do not take escaped or replaced; what does not
 * fit is cut. */
enum { PROM_LABEL = 256 };
void prom_label(char out[PROM_LABEL], const char *name, struct slice value);

#endif
