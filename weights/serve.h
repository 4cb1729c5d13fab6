/* serve.h - gives tiles and manifests of this node's store to others, without getting in the way.
 *
 *     MANIFEST_GET, TILE_GET -> a queue per peer -> read and hashed by the depot -> net, as bulk
 *
 * Who asks has to know a hash: manifests are found by model id, tables in manifests, tiles in
 * tables; nobody can list a store.  What no longer has its hash is not sent (a disk forgets).
 *
 * How fast: one bucket for all peers, filled at
 *
 *     upload                 what the person allows (--upload), or as much as the line takes
 *     a tenth of that        while this node computes for a session; of what was measured, without
 *                            --upload
 *
 * The line's queue is net_pace.c's to keep short.
 *
 * Peers take turns by tile.  Each may have SERVE_WAITING requests waiting; more are answered
 * "busy". */
#ifndef WEIGHTS_SERVE_H
#define WEIGHTS_SERVE_H

#include "net/counters.h"
#include "net/net.h"
#include "weights/depot.h"

enum {
    SERVE_ASKERS_MAX = 64,
    SERVE_WAITING = 32, /* requests of one peer */
    REFUSE_NOT_HERE = 1,
    REFUSE_BUSY = 2,
};

struct serve;

struct serve_config {
    struct hub *hub;
    struct net *net;           /* borrowed until serve_close */
    struct depot *depot;       /* likewise; closed after serve */
    uint64_t upload;           /* bytes a second; 0: no limit but the line's */
    struct counters *counters; /* NULL: nobody counts */
    void *arg;
    bool (*computes)(void *arg); /* is a session open through this node? */
};

MUST_CHECK enum err serve_open(struct serve **out, const struct serve_config *c);
void serve_close(struct serve *s); /* NULL is fine */

/* Answer "busy" to whoever asks, until it is over; tiles that were read already still go. */
void serve_pause(struct serve *s, bool is_paused);

void serve_on_mail(struct serve *s, struct mail *m); /* MANIFEST_GET, TILE_GET, TILE_CANCEL */
void serve_on_peer(struct serve *s, const struct node_id *id, bool up);

/* Since the start: tiles and bytes given. */
struct serve_given {
    uint64_t tiles, bytes;
};
struct serve_given serve_given(const struct serve *s);

#endif
