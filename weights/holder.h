/* holder.h - what a node holds: found in its store, fetched from peers, given to others, changed.
 *
 *     holder_find    the store is opened; is all there that the node is to serve?
 *     holder_open    on the loop: gives what is here (serve.h), fetches what is missing (fetch.h)
 *     on_held        all is there now: the node loads and opens its services
 *     holder_change  later: fetch something else beside what is served; then on_held again
 *
 *     FETCHING --on_held--> HELD --holder_change--> FETCHING (services go on meanwhile)
 *
 * What is fetched is pinned (care.h): so a node that was killed in the middle, and is started
 * without --layers, goes on with what it had decided to hold.
 *
 * A store that has everything is opened for reading, so several nodes may share it and swarm-store
 * may write; one that fetches, or may change, is opened for writing and has it to itself. */
#ifndef WEIGHTS_HOLDER_H
#define WEIGHTS_HOLDER_H

#include "weights/fetch.h"
#include "weights/serve.h"

struct holder;

struct holder_config {
    const char *dir;
    const char *model; /* name, id in hex, or NULL */
    bool has_layers;
    struct holding layers; /* with has_layers; ends: fetch them too */
    bool no_ends;
    uint64_t disk_limit, upload, download; /* as in fetch.h, serve.h; 0: none */
    const struct node_id *trust; /* [n_trust] publishers believed from now on; borrowed */
    unsigned n_trust;
    bool may_fetch;  /* there are ways to meet others */
    bool may_change; /* holder_change will be called */
    struct counters *counters; /* NULL: nobody counts */
    void *arg;
    /* Without has_layers: what to hold. */
    enum err (*choose)(void *arg, const struct manifest *m, uint64_t room, struct holding *out,
                       struct why *why);
    bool (*computes)(void *arg); /* as in serve.h */
    /* All of h is in the store. */
    void (*on_held)(void *arg, const struct holding *h);
    void (*on_change)(void *arg); /* what we announce is another now */
    /* The fetch has failed; a node that serves already goes on as it is. */
    void (*on_fail)(void *arg, enum err e, const char *why);
    void (*progress)(uint64_t done, uint64_t total); /* bytes; for people; NULL is fine */
};

/* Open the store and look.  *complete: *out holds all it is to hold, which is in *h; else
 * holder_open will fetch. */
MUST_CHECK enum err holder_find(struct holder **out, const struct holder_config *c, bool *complete,
                                struct holding *h, struct why *why);
/* hub, net, peers, me are borrowed until holder_close. */
MUST_CHECK enum err holder_open(struct holder *h, struct hub *hub, struct net *net,
                                struct peers *peers, const struct node_id *me, struct why *why);
/* Before net_close: ends fetch and serve.  The store stays open for those who use its tiles. */
void holder_close(struct holder *h);
void holder_free(struct holder *h); /* after the loop has ended: closes the store; NULL is fine */

/* Take the messages of ids 12 to 19, and net's and the directory's events. */
void holder_on_mail(struct holder *h, struct mail *m);
void holder_on_peer(struct holder *h, const struct node_id *id, bool up);
void holder_on_directory(struct holder *h);

/* Fetch what of want is missing, while everything goes on; then on_held (or on_fail).  ERR_BUSY: a
 * fetch is under way; ERR_RANGE: the model has no such layers. */
MUST_CHECK enum err holder_change(struct holder *h, const struct holding *want, struct why *why);

/* While what was chosen at first is fetched: fetch this instead; what came already stays. ERR_BUSY:
 * too late.  Not from a callback of ours. */
MUST_CHECK enum err holder_rechoose(struct holder *h, const struct holding *want, struct why *why);

/* Neither give nor fetch until it is over. */
void holder_pause(struct holder *h, bool is_paused);

/* For the node's record: what it gives; and while it fetches at first (state joining) the model and
 * the layers that it will hold.  Slices borrow from h until the next call. */
void holder_describe(const struct holder *h, struct record_body *r, bool joining);

struct store *holder_store(struct holder *h);
/* Jobs that touch the store while the loop runs. */
struct depot *holder_depot(struct holder *h);
const struct hash *holder_id(const struct holder *h); /* the model's; known to choose and later */
const char *holder_model(const struct holder *h);     /* for store_find_model */
/* "fetching layers 3-5 of atlas:q80: 41 %"; false: nothing is fetched. */
bool holder_text(const struct holder *h, char *out, size_t cap);
struct serve_given holder_given(const struct holder *h);

#endif
