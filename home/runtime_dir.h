/* runtime_dir.h - where running nodes leave their links, so that swarm-ask finds one by itself and
 * `swarm-node status` may control it.
 *
 * The folder is $XDG_RUNTIME_DIR/swarm, else /tmp/swarm-UID, mode 0700; a node's file is PID.link,
 * mode 0600:
 *
 *     link swarm://swm1...@127.0.0.1:7777
 *     model atlas:q80
 *     answers yes                          questions, as a coordinator
 *     token 64 hexadecimal digits          whoever knows it may control the node
 *
 * Root also looks in /run/swarm, where the system's service leaves its own (packaging/).
 *
 * A folder or file of another owner, open to others or behind a symbolic link is not used: in /tmp
 * anyone can make one.  Files of processes that have ended are removed by whoever looks. */
#ifndef HOME_RUNTIME_DIR_H
#define HOME_RUNTIME_DIR_H

#include "base/err.h"
#include "proto/identity.h"

#include <sys/types.h>

/* A node that runs here. */
struct local_node {
    pid_t pid; /* runtime_publish fills it in */
    struct link link;
    char model[65]; /* its name; empty: none yet */
    bool answers;
    uint8_t token[TOKEN_BYTES];
};

/* Leave this process's file, or replace it.  ERR_IO, ERR_DENIED with why. */
MUST_CHECK enum err runtime_publish(const struct local_node *me, struct why *why);
void runtime_withdraw(void); /* remove it; nothing happens when there is none */

/* The nodes that run here, newest first: at most cap into out, *n how many.  No folder: none.
 * ERR_DENIED: the folder is not ours alone. */
MUST_CHECK enum err runtime_find(struct local_node *out, unsigned cap, unsigned *n,
                                 struct why *why);

/* The newest node that runs here and answers questions, with that model (NULL: any).
 * ERR_NOTFOUND with why, for people. */
MUST_CHECK enum err runtime_find_asked(struct local_node *out, const char *model, struct why *why);

#endif
