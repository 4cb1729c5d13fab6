/* control.h - a node is looked at, paused and drained by its own user.
 *
 * STATUS_GET, DRAIN, HOLD and PAUSE carry the token of the file that the node left in its user's runtime
 * folder (runtime_dir.h, 0600): whoever may read that file may control the node.  Others get one
 * sentence and a strike, on this machine too; three end the connection, so the token cannot be
 * guessed. */
#ifndef NODE_CONTROL_H
#define NODE_CONTROL_H

#include "base/json.h"
#include "weights/fetch_store.h"
#include "net/net.h"

struct control {
    struct net *net; /* borrowed */
    uint8_t token[TOKEN_BYTES];
    void *arg;
    void (*describe)(void *arg, struct text *out); /* JSON of at most STATUS_MAX bytes */
    /* Serve something else; an error's sentence goes back. */
    enum err (*hold)(void *arg, const struct holding *h, struct why *why);
    void (*drain)(void *arg); /* finish what is under way, then stop; also said twice */
    void (*pause)(void *arg, bool stay); /* until it is told false */
};

/* STATUS_GET, DRAIN, HOLD, PAUSE; takes m.  drain may close the net. */
void control_on_mail(struct control *c, struct mail *m);

#endif
