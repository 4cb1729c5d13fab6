/* thread.h - how the kernel shares a core between our threads and others'.
 *
 * A thread that wakes with something short to do waits for whoever computes on its core, for a time
 * slice or two: milliseconds, while the token it carries takes one.  One that asks for short slices
 * is let in sooner and gives way sooner; its share of the core is the same.  Several stages on one
 * machine feel it, and an owner's other programs.  Linux 6.12 and later; others ignore it. */
#ifndef NET_THREAD_H
#define NET_THREAD_H

enum { THREAD_SLICE_US = 200 }; /* a turn of the loop, some of a layer; 3000 is usual */

/* The calling thread has short slices from now on, and so have the threads that it makes. */
void thread_short_slices(void);

#endif
