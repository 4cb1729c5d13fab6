/* keys.h - identities and swarm keys as files and options. */
#ifndef HOME_KEYS_H
#define HOME_KEYS_H

#include "proto/identity.h"

/* The identity of a key file (51 bytes, see identity.h).  A file that does not exist is made, 0600,
 * with a fresh identity when create is set; *created says so.  A file that others may read is used
 * with a warning. */
MUST_CHECK enum err keys_identity(struct identity *me, const char *path, bool create, bool *created,
                                  struct why *why);

/* Holds the file of an identity for this process: two nodes that say they are the same would take
 * each other's place with all others.  *fd is to be closed when the node has ended; -1: the file
 * system has no locks.  ERR_BUSY with why: another process holds it. */
MUST_CHECK enum err keys_hold_identity(int *fd, const char *path, struct why *why);

/* A swarm key from an option: "swk1..." itself, or the name of a file that holds one; NULL: the
 * built-in public one. */
MUST_CHECK enum err keys_swarm(struct swarm_key *out, const char *option, struct why *why);

/* Write a fresh private swarm key to path (0600; never over a file that is there). */
MUST_CHECK enum err keys_new_swarm(const char *path, struct why *why);

#endif
