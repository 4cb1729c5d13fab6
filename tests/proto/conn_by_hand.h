/* conn_by_hand.h - a connection that is OPEN without a handshake, under known keys: for tests and
 * fuzzing of records, where a handshake each would cost a hundred times more than what is tested.
 */
#ifndef TESTS_PROTO_CONN_BY_HAND_H
#define TESTS_PROTO_CONN_BY_HAND_H

#include "proto/conn_impl.h"
#include "tests/proto/conn_world.h"

/* Both directions start with the zero key. */
static inline struct conn *conn_by_hand(struct conn_config config)
{
    struct conn *c;
    if (conn_open(&c, &config)) abort();
    c->send = c->receive = (struct noise_cipher){ .has_key = true };
    if (records_open(c)) abort();
    c->hs_at = c->hs_n; /* an initiator's first bytes */
    c->stage = READY;
    c->opened = true;
    return c;
}

#endif
