/* bell.h - wakes the loop from any thread.
 *
 * Not uv_async_t: there the sender still has a word to write after the byte that wakes the loop,
 * and the loop waits for it, spinning.  A compute thread that is nicer than the loop (--nice) loses
 * its core to the loop right at that byte, and both then waste a time slice, 0.5 ms and more: as
 * long as several hops.  Here nothing follows the byte. */
#ifndef NET_BELL_H
#define NET_BELL_H

#include "base/err.h"

#include <uv.h>

struct bell {
    uv_poll_t poll;
    int fd;
    void (*on_ring)(struct bell *b); /* on the loop's thread; rings before it are one */
};

/* ERR_IO: no descriptor is left. */
MUST_CHECK enum err bell_open(struct bell *b, uv_loop_t *loop, void (*on_ring)(struct bell *b));
void bell_ring(struct bell *b); /* from any thread, until bell_close */
/* On the loop's thread.  b is the loop's until it has run once more. */
void bell_close(struct bell *b);

#endif
