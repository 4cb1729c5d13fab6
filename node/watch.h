/* watch.h - the other end of control.h: asks a node of this user how it is, again and again, or to
 * drain. */
#ifndef NODE_WATCH_H
#define NODE_WATCH_H

#include "home/runtime_dir.h"
#include "weights/fetch_store.h"

struct watch;

struct watch_config {
    const struct identity *me;     /* borrowed until watch_run is back */
    const struct swarm_key *swarm; /* likewise */
    struct local_node node;
    bool drain;                 /* say DRAIN once; the end of the connection is then the good end */
    const struct holding *hold; /* say HOLD instead; NULL: not */
    bool pause, resume;         /* say PAUSE instead */
    uint32_t interval_ms;       /* between two STATUS_GET; 0: one is enough */
    void *arg;
    /* JSON; return false when no more is wanted.  Also called when the terminal changes its size,
     * with the last one. */
    bool (*on_status)(void *arg, struct slice json);
};

/* Until on_status says so, a signal (ERR_CANCELLED), or an error with why. */
MUST_CHECK enum err watch_run(const struct watch_config *c, struct why *why);

#endif
