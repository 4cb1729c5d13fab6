#include "base/prom.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const double bounds[HISTOGRAM_BOUNDS] = { 0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01,
                                                 0.025,  0.05,   0.1,   0.25,   0.5,   1,
                                                 2.5,    5,      10,    30,     60 };

void histogram_add(struct histogram *h, double seconds, uint64_t times)
{
    unsigned i = 0;
    while (i < HISTOGRAM_BOUNDS && seconds > bounds[i]) i++;
    h->n[i] += times;
    h->sum += seconds * (double)times;
}

static void begin(struct text *out, const char *name, const char *type, const char *help)
{
    text_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void prom_metric(struct text *out, const char *name, enum prom_kind kind, const char *help)
{
    begin(out, name, kind == PROM_COUNTER ? "counter" : "gauge", help);
}

/* Whole numbers as such, others as short as they can be read back. */
static void add_number(struct text *out, double v)
{
    char s[32];
    double back;
    snprintf(s, sizeof s, "%.15g", v);
    if (sscanf(s, "%lf", &back) != 1 || back < v || back > v) snprintf(s, sizeof s, "%.17g", v);
    text_str(out, s);
}

void prom_sample(struct text *out, const char *name, const char *labels, double v)
{
    if (labels)
        text_printf(out, "%s{%s} ", name, labels);
    else
        text_printf(out, "%s ", name);
    add_number(out, v);
    text_str(out, "\n");
}

void prom_one(struct text *out, const char *name, enum prom_kind kind, const char *help, double v)
{
    prom_metric(out, name, kind, help);
    prom_sample(out, name, NULL, v);
}

void prom_histogram(struct text *out, const char *name, const char *help, const char *labels,
                    const struct histogram *h)
{
    const char *comma = labels ? "," : "", *open = labels ? "{" : "", *close = labels ? "}" : "";
    uint64_t n = 0;
    if (!labels) labels = "";
    if (help) begin(out, name, "histogram", help);
    for (unsigned i = 0; i < HISTOGRAM_BOUNDS; i++)
        text_printf(out, "%s_bucket{%s%sle=\"%g\"} %" PRIu64 "\n", name, labels, comma, bounds[i],
                    n += h->n[i]);
    n += h->n[HISTOGRAM_BOUNDS];
    text_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", name, labels, comma, n);
    text_printf(out, "%s_sum%s%s%s ", name, open, labels, close);
    add_number(out, h->sum);
    text_printf(out, "\n%s_count%s%s%s %" PRIu64 "\n", name, open, labels, close, n);
}

void prom_label(char out[PROM_LABEL], const char *name, struct slice value)
{
    size_t at = (size_t)snprintf(out, PROM_LABEL, "%s=\"", name);
    for (size_t i = 0; i < value.n && at + 4 < PROM_LABEL; i++) {
        uint8_t c = value.p[i];
        if (c == '"' || c == '\\') out[at++] = '\\';
        out[at++] = c >= 0x20 && c < 0x7f ? (char)c : '?';
    }
    memcpy(out + at, "\"", 2);
}
