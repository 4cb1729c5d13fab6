/* memory.h - how much memory there is for us: the machine's, or less where a control group around
 * this process has a limit (a container, a systemd unit with MemoryMax). */
#ifndef WEIGHTS_MEMORY_H
#define WEIGHTS_MEMORY_H

#include <stdint.h>

/* Bytes.  Looks at every group from ours up to the root, of both versions of control groups. */
uint64_t memory_limit(void);

/* The least limit among those of the groups that text, a /proc/PID/cgroup, names, where the
 * hierarchies are mounted under root; UINT64_MAX: none. */
uint64_t memory_limit_of(const char *root, const char *text);

#endif
