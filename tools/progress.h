/* progress.h - how far a long job is: a bar on a terminal, else a line every few seconds. */
#ifndef TOOLS_PROGRESS_H
#define TOOLS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *label; /* borrowed */
    bool quiet, terminal, drawn;
    uint64_t start_ms, last_ms; /* monotonic */
};

/* Start the clock.  quiet: nothing is ever printed. */
void progress_start(struct progress *p, const char *label, bool quiet);

/* done of total bytes; prints at most ten times a second on a terminal, else every five seconds. */
void progress_set(struct progress *p, uint64_t done, uint64_t total);

/* Take the bar away; the seconds since the start. */
double progress_end(struct progress *p);

/* "17.3 MiB" */
enum { SIZE_TEXT = 24 };
void size_text(char out[SIZE_TEXT], uint64_t bytes);
/* "850 ms", "12.3 s", "4:05", "2:03:04" */
void time_text(char out[SIZE_TEXT], double seconds);

#endif
