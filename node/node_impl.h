/* node_impl.h - what the files of a running node share: node.c (its life), node_hold.c (what it
 * holds and serves, and what it had better hold), node_pause.c (when its owner needs the PC) and
 * node_own.c (what its own user sees). */
#ifndef NODE_NODE_IMPL_H
#define NODE_NODE_IMPL_H

#include "home/keys.h"
#include "node/beside.h"
#include "node/control.h"
#include "node/metrics.h"
#include "node/node.h"
#include "node/pause.h"
#include "node/services.h"
#include "peers/find.h"
#include "peers/reached.h"
#include "peers/trips.h"
#include "stage/pool.h"
#include "store/file.h"
#include "weights/holder.h"
#include "weights/mover.h"

enum { NODE_SIGNALS = 3 };

struct node {
    /* what it is told */
    const struct node_config *c;
    struct swarm_key swarm;
    struct link join[NODE_JOIN_MAX], bootstrap[NODE_JOIN_MAX];
    char identity_file[FILE_PATH_MAX];
    int identity_lock; /* owned; -1: none */
    struct node_id allow[NODE_ALLOW_MAX], trust[NODE_TRUST_MAX];
    char listen_host[256], advertise_host[256];
    uint16_t listen_port, advertise_port;

    /* what it holds */
    struct identity me;
    struct holder *holder;
    struct mover *mover;             /* NULL: its user says what it holds */
    struct holding holding;          /* what it serves, or will */
    bool is_held;                    /* all of it is in the store */
    bool is_moving;                  /* it is, and is not served yet: sessions are waited for */
    uint64_t moving_ms;              /* since when */
    char journal_dir[FILE_PATH_MAX]; /* for services */

    /* what it does */
    const struct kernels *kernels;
    struct pool *pool;
    struct hub hub;
    bool has_hub;
    struct net *net;
    struct peers *peers;
    struct find *find;
    struct trips trips;  /* announced round trips */
    struct shelf *shelf; /* NULL: nothing of conversations goes to the disk */
    struct services services;
    struct depot_job load_job;
    enum err failed; /* why it stops by itself */
    struct why failed_why;
    struct reached reached;
    struct control control;
    struct beside *gateway; /* NULL: none */
    struct counters counters;
    struct metrics_door *metrics; /* NULL: there is none */
    uint64_t started_ms;
    struct why join_why; /* why a join link does not answer; empty: it does, or none is given */

    uv_signal_t signal[NODE_SIGNALS];
    struct pause *pause; /* NULL: not open yet */
    bool was_paused;     /* when it was last looked at */
    uv_timer_t join_timer, move_timer, drain_timer, away_timer;
    bool has_handles;               /* these are open */
    bool is_settled[NODE_JOIN_MAX]; /* a join link is up, or has failed once */
    bool is_ready, is_draining, is_stopping;
    uint64_t drain_until_ms;
};

/* --- node.c --- */

void node_announce(void *n);
void node_stop(struct node *n);
/* A node that joins is ready when it has met those it was told of, or could not. */
void node_ready_when_settled(struct node *n);

/* --- node_hold.c --- */

MUST_CHECK enum err node_find_holding(struct node *n, struct why *why);
/* Weights and tokenizer of what it holds; on the depot's thread, or before the loop runs. */
MUST_CHECK enum err node_load(struct node *n, struct why *why);
MUST_CHECK enum err node_open_services(struct node *n, struct why *why);
void node_open_shelf(struct node *n); /* before there are threads */
MUST_CHECK enum err node_open_mover(struct node *n, struct why *why);
bool node_computes(void *n); /* for anybody */

/* --- node_pause.c --- */

MUST_CHECK enum err node_open_pause(struct node *n, struct why *why);
bool node_is_paused(const struct node *n);
void node_pause(void *n, bool stay); /* by hand */

/* --- node_own.c --- */

enum { NODE_LINK_TEXT = 400 };
void node_link(const struct node *n, char *out, size_t cap);
/* swarm-ask and `swarm-node status` of this user find us by this. */
void node_publish(struct node *n);
void node_open_control(struct node *n);
MUST_CHECK enum err node_open_metrics(struct node *n, struct why *why);
MUST_CHECK enum err node_open_gateway(struct node *n, struct why *why);

#endif
