/* stops.h - texts that end an answer, found in a stream although pieces cut them anywhere.
 *
 * What could still become such a text is held back, at most the longest of them less a byte. */
#ifndef GATEWAY_STOPS_H
#define GATEWAY_STOPS_H

#include "base/slice.h"

#include <stdbool.h>

enum { STOPS_MAX = 4, STOP_BYTES_MAX = 256 };

struct stops {
    char text[STOPS_MAX][STOP_BYTES_MAX];
    size_t len[STOPS_MAX]; /* 1 .. STOP_BYTES_MAX */
    unsigned n;
    char held[2 * STOP_BYTES_MAX];
    size_t n_held;
    bool is_found; /* nothing comes any more */
};

typedef void stops_say(void *arg, struct slice text);

/* text as UTF-8, any cut; true: a stop was found, of which and behind which nothing is said. */
bool stops_feed(struct stops *s, struct slice text, stops_say *say, void *arg);
/* The answer ended by itself: what was held back is part of it. */
void stops_flush(struct stops *s, stops_say *say, void *arg);

#endif
