/* node.h - a swarm-node, from the store it opens to the last socket it closes.
 *
 *     holder, identity           what it holds (its store) and who it is
 *     net, peers                 whom it talks to, what they say
 *     services                   what it computes for others (services.h)
 *
 *     JOINING --all that it is to hold is in the store--> SERVING
 *
 * When something is missing in the store it joins first, fetches that from peers (holder.h) and
 * announces itself as joining; then it opens services and is ready.
 *
 * All actors live on one loop; node_run returns when the node has been told to stop. */
#ifndef NODE_NODE_H
#define NODE_NODE_H

#include "model/draft.h"
#include "proto/identity.h"
#include "proto/neighbour.h"
#include "proto/sharing.h"
#include "weights/fetch_store.h"

enum { NODE_JOIN_MAX = 16, NODE_ALLOW_MAX = 16, NODE_TRUST_MAX = 16 };

/* What the command line says; strings are borrowed until node_run returns. */
struct node_config {
    const char *store_dir;
    const char *listen;              /* HOST:PORT */
    const char *advertise;           /* HOST:PORT or NULL */
    const char *join[NODE_JOIN_MAX]; /* links */
    unsigned n_join;
    const char *bootstrap[NODE_JOIN_MAX]; /* links, used when nobody else is found */
    unsigned n_bootstrap;
    const char *allow[NODE_ALLOW_MAX]; /* ids */
    unsigned n_allow;
    const char *model; /* NULL: the only one */
    bool has_layers;
    struct holding hold;   /* with has_layers; ends: fetch them too, if they are missing */
    uint32_t threads;      /* 0: every core */
    uint32_t context;      /* 0: the model's */
    uint64_t kv_bytes;     /* 0: a quarter of the memory */
    uint64_t prefix_bytes; /* of it, for what sessions leave; 0: half of it */
    bool no_prefix;        /* nothing is kept */
    uint64_t prefix_disk;  /* bytes on disk for it; 0: none */
    uint32_t drain_limit;  /* seconds to hand over and finish what is under way; 0: none */
    uint32_t answers;      /* requests answered at once, */
    uint32_t queue;        /* waiting for their turn, */
    uint32_t per_client;   /* and of one client */
    bool no_own_first;     /* those of this machine wait like others */
    uint32_t patience;     /* seconds to wait for a lost stage's replacement; 0: 30 */
    enum draft_mode draft; /* guesses of tokens to come */
    bool no_ends;
    enum sharing_how share; /* its layers with nodes nearby */
    uint32_t share_rtt;     /* ms: how far away they may be */
    bool may_move;          /* node_rehold will be called: the store is opened for writing */
    uint64_t ram;           /* for weights and conversations; 0: three quarters of the machine's */
    uint64_t disk_limit;    /* bytes of the store while fetching; 0: what the disk has */
    uint64_t upload;        /* bytes a second that leave this machine; 0: what the line takes */
    uint64_t download;      /* bytes a second of weights that are fetched; 0: what the line gives */
    uint32_t nice;          /* of the threads that compute, as pool_nice */
    struct neighbour_rules neighbour;  /* when it pauses */
    const char *sensors;               /* a folder in place of / for sensors.h, or NULL */
    const char *trust[NODE_TRUST_MAX]; /* publishers' ids */
    unsigned n_trust;
    /* Bytes of weights that are here, of all that are fetched; 0, 0: over.  NULL: say nothing. */
    void (*progress)(uint64_t done, uint64_t total);
    bool no_lan, lan_join, no_portmap; /* see find.h */
    const char *identity;              /* file; NULL: identity.key in the store */
    const char *swarm_key;             /* see keys.h */
    const char *name;                  /* a label, or NULL */
    const char *metrics;               /* HOST:PORT or PORT to be read at (metrics.h), or NULL */
    const char *gateway;               /* HOST:PORT of a gateway to run beside it, or NULL, */
    const char *gateway_options;       /* and its options: words, or NULL */
};

/* Run a node until SIGINT or SIGTERM; when it is ready its link goes to stdout, a word on a line of
 * its own.  ERR_OK: it stopped as it was told to; else why says in one sentence what is wrong. */
MUST_CHECK enum err node_run(const struct node_config *c, struct why *why);

/* Hold and serve something else from now on: on the loop.  What of it is missing is fetched while
 * the node serves what it has; then it announces itself as draining, waits until no session and no
 * request is open (NODE_MOVE_MS at most), and opens services for the new.  The tiles that it no
 * longer serves stay in the store until room is needed.  ERR_BUSY: it is moving already; ERR_RANGE.
 * What goes wrong later (the store is open for reading and lacks something; the disk is full) is
 * logged, and it stays as it is. */
enum { NODE_MOVE_MS = 10 * 60 * 1000 };
struct node;
MUST_CHECK enum err node_rehold(struct node *n, const struct holding *h, struct why *why);

#endif
