/* disk_sim.h - the files below /sim/, in memory: one folder is one node's disk.
 *
 * The linker puts these calls in the place of the C library's (open, write, fsync ...); other paths
 * go on to that.  What a process wrote outlives it when it is killed; when the plug is pulled only
 * what was synced is sure to be there: of the rest, some beginning, and a name that was not synced
 * with its folder may be missing, or be back. */
#ifndef SIM_DISK_SIM_H
#define SIM_DISK_SIM_H

#include <stdbool.h>
#include <stdint.h>

void disk_sim_begin(void);
void disk_sim_end(void);

/* The process of this folder has been killed: whatever its code still does changes nothing, until
 * it is thawed at its next start. */
void disk_sim_freeze(const char *dir);
void disk_sim_thaw(const char *dir);
void disk_sim_pull_plug(const char *dir);
/* Until then (us of the world) calls that write or sync fail, more often than not. */
void disk_sim_fail(const char *dir, uint64_t until_us);

unsigned disk_sim_files(const char *dir);

#endif
