/* fetch_impl.h - what the files of a fetch share; nobody else includes it.
 *
 *     fetch.c       its life; tables and tiles: asked for, taken, stored
 *     fetch_seek.c  which model, who has it, is it the one that was meant */
#ifndef WEIGHTS_FETCH_IMPL_H
#define WEIGHTS_FETCH_IMPL_H

#include "base/bucket.h"
#include "weights/fetch.h"

enum {
    FETCH_TICK_MS = 250,
    CANDIDATES_MAX = 8,
    SUSPECTS_MS = 5000,     /* without any other source: those who were lost are tried again */
    SEEK_ANSWER_MS = 10000, /* for a manifest to come */
    SEEK_SETTLE_MS = 1000,  /* without a name: who else is there */
    SEEK_REFUSE_MS = 1500,  /* untrusted ones only, for so long: say so */
    SEEK_FIRST_MS = 3000,   /* without anybody, until the first word of it */
    SEEK_WORD_MS = 10000,   /* "waiting for ..." */
    BATCH_BYTES = 8 << 20,  /* checked and committed together */
    ARRIVED_MAX = 24 << 20, /* bytes that came and are not stored: nothing more is asked for */
};

enum fetch_state { FETCH_SEEK, FETCH_TABLES, FETCH_TILES, FETCH_OVER };

/* A model that somebody announces and that may be meant. */
struct candidate {
    struct hash id;
    unsigned nodes;
    bool refused, asked;
    uint64_t asked_ms;
    struct node_id whom;
    struct why why; /* of refused */
};

struct seek {
    struct candidate candidate[CANDIDATES_MAX];
    unsigned n;
    uint64_t since_ms, found_ms, said_ms;
    struct mail *mail; /* owned: the manifest that is looked at */
    struct depot_job job;
    /* result */
    enum err err;
    struct why why;
    bool false_bytes; /* the sender's fault */
};

struct source {
    struct node_id id;
    bool used;
    bool gave; /* a tile that was stored */
};

/* A tile that came. */
struct arrival {
    struct arrival *next;
    struct mail *mail; /* owned */
    struct node_id from;
    uint32_t want;
    enum err err;
    struct why why;
};

struct fetch {
    struct fetch_config c;
    uv_timer_t *timer; /* owned: freed by its close callback */
    enum fetch_state state;
    unsigned jobs; /* with the depot */
    bool closing;
    struct seek seek;
    /* from TABLES on */
    struct manifest *manifest; /* owned */
    struct store_name name;
    struct holding holding;
    struct wants wants;
    struct wants tables; /* in TILES: what was wanted before; may still come */
    struct gather *gather;
    struct source source[GATHER_PEERS];
    uint64_t tried_ms; /* when lost ones were tried */
    struct fetched count;
    uint64_t done_bytes, total_bytes;
    /* planning */
    struct depot_job plan_job;
    enum err plan_err;
    struct why plan_why;
    struct wants planned;
    struct holding serving;
    bool elsewhere[GATHER_GROUPS]; /* layers that others give, when it was planned */
    /* storing */
    struct arrival *first, **last; /* owned: that wait */
    struct arrival *batch;         /* the depot's */
    size_t arrived_bytes;
    bool paused;
    struct bucket room; /* with c.download: bytes that may be asked for */
    struct depot_job store_job;
    bool storing;
    enum err store_err;
    struct why store_why;
};

/* --- fetch.c --- */
void fetch_finish(struct fetch *f, enum err e, const char *why);
void fetch_found(struct fetch *f); /* manifest, name are set */
void fetch_job(struct fetch *f, struct depot_job *j,
               void (*run)(struct depot_job *, struct store *), void (*done)(struct depot_job *));
/* At the start of every done: is the fetch still there?  false: it has been closed. */
bool fetch_job_done(struct fetch *f);

/* --- fetch_seek.c --- */
void seek_tick(struct fetch *f, uint64_t now);
void seek_on_gone(struct fetch *f, const struct node_id *id); /* who was asked may not answer */
void seek_on_manifest(struct fetch *f, struct mail *m);       /* takes m */

static inline bool entry_is_alive(const struct record_body *b)
{
    return b->state != RECORD_GONE;
}

#endif
