/* services.h - what a node serves: the weights it holds, and the actors that compute with them.
 *
 *     load     weights bound, tokenizer read       nothing of the loop is needed
 *     open     compute, stage_server, pipelines, coordinator, asks on the loop
 *     stop     sessions and requests are ended with a sentence
 *     close    all of it is freed
 *
 * A node opens services once it holds what it serves, and opens others in their place when it holds
 * something else (node.c). */
#ifndef NODE_SERVICES_H
#define NODE_SERVICES_H

#include "ask/asks.h"
#include "peers/peers.h"
#include "stage/member.h"
#include "stage/nearby.h"
#include "stage/stage.h"
#include "weights/warm.h"

/* All pointers are borrowed until services_close. */
struct services_config {
    struct store *store;
    const char *store_dir; /* its folder; NULL: nothing is learnt for the next start */
    const char *model;     /* NULL: the only one */
    struct holding hold;
    uint64_t room;                       /* bytes of weights in memory, about */
    uint32_t context;                    /* 0: the model's */
    uint64_t kv_bytes;                   /* 0: a quarter of the memory */
    uint32_t patience;                   /* seconds to wait for a lost stage's replacement; 0: 30 */
    enum sharing_how share;              /* its layers with nodes nearby that hold the same */
    uint32_t share_rtt;                  /* ms; farther nodes do not share; 0: as usual */
    uint32_t answers, queue, per_client; /* requests at once, waiting, of one client */
    bool no_own_first;                   /* those of this machine wait like others */
    enum draft_mode draft;               /* of the answers it coordinates */
    bool no_ends;                        /* the person wants it so: for the sentence */
    struct node_id me;
    const struct kernels *kernels;
    struct workers *workers;
    int nice; /* of the thread that computes, as pool_nice */
    struct hub *hub;
    struct net *net;
    struct peers *peers;
    struct counters *counters;
    const char *journal_dir;     /* of requests that this node coordinates; NULL: none */
    const struct node_id *allow; /* [n_allow] who else may ask */
    uint32_t n_allow;
    uint64_t prefix_bytes; /* of kv_bytes, for what sessions leave; 0: half of it */
    bool no_prefix;        /* nothing is kept */
    struct shelf *shelf;   /* what they leave is kept there too; NULL: nowhere */
    void *arg;
    void (*on_change)(void *arg); /* sessions came or went: announce it */
};

struct services {
    struct services_config c;
    struct weights weights;
    char learnt[512]; /* file of how much experts are used; empty: none */
    struct warm *warm;
    struct tokenizer *tokenizer; /* NULL: it does not coordinate */
    enum chat_form form;
    const char *no_coordinator; /* then why */
    uint32_t context;
    uint64_t kv_bytes, prefix_bytes;
    uint32_t served_lo, served_hi;              /* as announced last, with a group */
    uint8_t parts[PARTS_WIRE_MAX * PART_BYTES]; /* that it holds, as announced */
    struct sharing shared; /* what the group brings; n_layers 0: it does not share now */
    struct group *group;   /* those who share our layers; NULL: nobody does */
    struct nearby *nearby; /* who that is to be; NULL: nobody */
    struct member *member; /* what we compute of others' layers */
    struct compute *compute;
    struct pace pace; /* how fast it computes */
    struct stage_server *stage;
    struct pipelines *pipelines;
    struct coordinator *coordinator; /* NULL: it does not coordinate */
    struct asks *asks;
};

/* Bind weights and read the tokenizer; hub, net, peers and workers need not be there yet.  *s is
 * overwritten; after an error too services_close is right. */
MUST_CHECK enum err services_load(struct services *s, const struct services_config *c,
                                  struct why *why);
/* Start computing and serving; s->c has hub, net, peers and workers by now. */
MUST_CHECK enum err services_open(struct services *s, struct why *why);
/* Layers [*lo, *hi) that can be computed now, by this node and those who share them. */
void services_served(const struct services *s, uint32_t *lo, uint32_t *hi);
/* A layer's time for one token: as measured alone, or as predicted with those who share it. */
uint32_t services_layer_us(const struct services *s);
/* For its record: what it holds of layers in parts, how fast it computes a part, how many nodes
 * share its layers.  Slices borrow from s until the next call. */
void services_describe_parts(struct services *s, struct record_body *r);
/* Take nothing new on; is there nothing left that others wait for? */
void services_drain(struct services *s);
bool services_are_idle(const struct services *s);
/* Take nothing new on for others, until it is over; what is under way goes on, and so does all
 * that this machine's own user asks. */
void services_pause(struct services *s, bool is_paused);
/* End every session and request; no message may be handed on after it. */
void services_stop(struct services *s);
/* After services_stop, if it was open: joins the compute thread, frees everything. */
void services_close(struct services *s);

static inline bool services_are_open(const struct services *s)
{
    return s->asks != NULL;
}

#endif
