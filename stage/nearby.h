/* nearby.h - who is asked to share this node's layers: connected nodes of the same model that are
 * near enough (sharing_is_near) and hold some of what it leads.
 *
 * Those of this network that are not connected are dialled, a few at a time.  Looked at every
 * second.  Who is too far, or on too slow a line, is named in the log and in nearby_state.
 *
 * With SHARING_AUTO prediction decides every NEARBY_WEIGH_MS, and whenever others come or go: are
 * they asked at all, and for head groups too?  When it does not pay any more they are let go as
 * soon as no session has head groups there, and asked again after NEARBY_AGAIN_MS at the earliest;
 * a node that lacks parts asks whoever there is. */
#ifndef STAGE_NEARBY_H
#define STAGE_NEARBY_H

#include "peers/peers.h"
#include "stage/compute.h"
#include "stage/group.h"

enum {
    NEARBY_TICK_MS = 1000,
    NEARBY_WEIGH_MS = 5000,
    NEARBY_AGAIN_MS = 60000, /* before it is tried again where it did not pay */
    NEARBY_DIALS = 8,
    NEARBY_DIAL_MS = 10000,
};

struct nearby;

struct nearby_config {
    struct hub *hub;
    struct net *net; /* all borrowed until nearby_close */
    struct peers *peers;
    struct group *group;
    const struct weights *weights;
    struct node_id me;
    const struct pace *pace; /* ours */
    uint32_t rtt_us;         /* who is farther away is not asked; 0: SHARING_RTT_US */
    enum sharing_how how;    /* AUTO, ON */
    void *arg;
    void (*on_weigh)(void *arg); /* every NEARBY_WEIGH_MS: what it brings may have changed */
};

enum { NEARBY_TEXT = 2 * SHARING_TEXT };
struct nearby_state {
    enum sharing_way way;  /* that is gone; ALONE also while nobody is there */
    char why[NEARBY_TEXT]; /* nobody is asked: in a sentence; else empty */
    struct { /* those who are too far or too slow, [n_refused], and why: the sentence goes on */
        struct node_id id;
        char why[SHARING_TEXT];
    } refused[GROUP_MEMBERS_MAX];
    uint32_t n_refused;
};

MUST_CHECK enum err nearby_open(struct nearby **out, const struct nearby_config *c);
void nearby_close(struct nearby *s); /* NULL is fine */
const struct nearby_state *nearby_state(const struct nearby *s);

#endif
