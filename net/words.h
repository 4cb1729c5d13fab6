/* words.h - sentences that go to peers, and names of nodes in them. */
#ifndef NET_WORDS_H
#define NET_WORDS_H

#include "net/net.h"

/* text as an ERROR or SESS_FAIL may carry it: at most 300 bytes of printable ASCII, whatever it
 * quotes.  The slice borrows from out. */
struct words {
    char text[301];
};
struct slice words_for_wire(struct words *out, const char *text);

/* Answer the message of this rid with ERROR; who has gone meanwhile does not hear it. */
void words_refuse(struct net *net, const struct node_id *to, uint32_t rid, enum wire_error code,
                  const char *text);

/* "node swm1abcd...wxyz (layers 3-5)" for layers [lo, hi). */
void words_stage(struct words *out, const struct node_id *id, uint32_t lo, uint32_t hi);

#endif
