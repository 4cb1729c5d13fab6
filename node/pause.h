/* pause.h - the actor that looks after the owner of this PC: it reads the sensors, and says when
 * the node is to run, to take fewer threads, or to pause (proto/neighbour.h).
 *
 * Sensors are read on a thread of libuv's pool, every PAUSE_LOOK_MS; what the owner says by hand
 * counts at once. */
#ifndef NODE_PAUSE_H
#define NODE_PAUSE_H

#include "net/actor.h"
#include "proto/neighbour.h"

enum { PAUSE_LOOK_MS = 2000, PAUSE_TEXT = 160 };

struct pause;

struct pause_config {
    struct hub *hub;
    const struct neighbour_rules *rules; /* borrowed until pause_close */
    const char *sensors;                 /* a folder in place of /; NULL: / (sensors.h) */
    void *arg;
    void (*on_change)(void *arg); /* mode or reason is another */
};

/* Looks once before it returns, without a word: a node that starts at the wrong time begins
 * paused. */
MUST_CHECK enum err pause_open(struct pause **out, const struct pause_config *c, struct why *why);
void pause_close(struct pause *p); /* NULL is fine */

/* Its owner says so; false takes it back. */
void pause_by_hand(struct pause *p, bool is_paused);

enum neighbour_mode pause_mode(const struct pause *p);
/* "paused: on battery since 12:03"; empty when it runs. */
void pause_describe(const struct pause *p, char out[PAUSE_TEXT]);

#endif
