/* sensors.h - what the PC does beside this node's work, read from files of the kernel.
 *
 *     sys/class/power_supply             mains and batteries (a mouse's is none)
 *     sys/class/hwmon, thermal           the processor's temperature
 *     sys/devices/system/cpu/cpu0        how often it slowed itself down for heat
 *     proc/meminfo, pressure/memory      memory that is available, programs that wait for it
 *     sys/fs/cgroup                      the same of a container (version 2, and 1)
 *     proc/stat, our own times           what others compute (nice programs, ours too, apart)
 *     sys/class/drm, run/systemd         a screen is on and somebody is logged in before it
 *     proc/interrupts                    keyboard and touchpad, where they have lines of their own
 *
 * All below a root that a test may lay out itself; what is not there is SENSED_UNKNOWN.  Some
 * sensors take milliseconds: off the loop. */
#ifndef NODE_SENSORS_H
#define NODE_SENSORS_H

#include "proto/neighbour.h"

enum { SENSORS_ROOT_MAX = 256, PRESENT_S = 300 /* after the last key */ };

struct sensors {
    char root[SENSORS_ROOT_MAX]; /* "" on a PC */
    /* of the last look */
    bool has_last;
    uint64_t all_ticks, taken_ticks, nice_ticks, own_ticks, keys, throttles;
    uint64_t key_s;     /* unix time of the last key; 0: none was seen */
    unsigned own_hertz; /* ticks a second of the kernel's counts */
};

/* root: NULL or empty for the PC itself.  ERR_RANGE: too long. */
MUST_CHECK enum err sensors_init(struct sensors *s, const char *root, struct why *why);
/* Look once; shares and keys are those since the last look.  own_us: microseconds that this process
 * has computed, and unix_s the time. */
void sensors_read(struct sensors *s, uint64_t own_us, uint64_t unix_s, struct sensed *out);

/* Minute of the local day; a file "clock" (12:34) in a test's root decides. */
unsigned sensors_minute(const struct sensors *s, uint64_t unix_s);

/* What a container may use of the PC: processors, rounded up (0: all of them), from cpu.max of
 * this process's cgroup and those above. */
unsigned sensors_cgroup_cores(const char *root);

#endif
