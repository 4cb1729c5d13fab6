/* bench_group.h - a control group with a memory limit, for one process at a time to be measured in.
 * Linux, version 1 or 2 of control groups, and whoever may make them (usually root). */
#ifndef TOOLS_BENCH_GROUP_H
#define TOOLS_BENCH_GROUP_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct group {
    char path[256]; /* empty: none */
    bool is_v1;
};

/* Make one that may have so many bytes, page cache included.  ERR_DENIED, ERR_UNSUPPORTED with why:
 * not allowed here, or no such thing. */
MUST_CHECK enum err group_open(struct group *g, uint64_t limit, struct why *why);
/* Put the calling process into it; for a fork's child.  None: nothing. */
MUST_CHECK enum err group_enter(const struct group *g, struct why *why);
/* The most it has had; 0: the kernel does not say. */
uint64_t group_peak(const struct group *g);
void group_close(struct group *g); /* all processes in it have ended; what it had is let go */

#endif
