/* metrics.h - what a node says about itself in numbers, for Prometheus (docs/monitoring.md).
 *
 * The numbers of status.h, with histograms of counters.h; no text, address or id but its own.  A
 * door for them listens on the loop, takes few connections, and writes anew at most every
 * METRICS_FRESH_MS, so that whoever reads it without end costs little. */
#ifndef NODE_METRICS_H
#define NODE_METRICS_H

#include "net/http.h"
#include "node/status.h"

enum { METRICS_CONNECTIONS = 16, METRICS_BODY_MAX = 4096, METRICS_FRESH_MS = 200 };

void metrics_text(struct text *out, const struct status_source *s);

/* "HOST:PORT", or "PORT" of 127.0.0.1; port 0: any free one.  ERR_USAGE. */
MUST_CHECK enum err metrics_parse(char host[256], uint16_t *port, const char *text,
                                  struct why *why);

struct metrics_door;
/* Answers GET /metrics; write(arg, out) says what. */
MUST_CHECK enum err metrics_open(struct metrics_door **out, struct hub *hub, const char *at,
                                 void (*write)(void *arg, struct text *out), void *arg,
                                 struct why *why);
void metrics_close(struct metrics_door *d); /* while the loop runs; NULL is fine */

#endif
