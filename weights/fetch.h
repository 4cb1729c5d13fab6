/* fetch.h - brings what a node is to hold into its store, from the peers that have it.
 *
 *     SEEK    who announces the model; its manifest, and a name that somebody trusted has signed
 *     TABLES  the tile tables of the layers that are wanted
 *     TILES   what of them is not in the store, from several peers at once (proto/gather.h)
 *     OVER    on_done was called
 *
 * Every tile's length, hash and numbers are checked on the depot's thread before it is stored, some
 * at a time in one transaction.  What is in the store is what we have: there is no other record of
 * progress, so after a kill the next fetch asks for the rest.  A peer that sends bytes that are not
 * the tile's is named by on_bad (and banned by the owner); one that goes away is done without.
 *
 * Belief: a manifest by its hash; that the hash is the model one meant by its publisher's signature
 * under the name (publishers.h), or because the person gave the id itself. */
#ifndef WEIGHTS_FETCH_H
#define WEIGHTS_FETCH_H

#include "home/publishers.h"
#include "net/counters.h"
#include "peers/peers.h"
#include "weights/depot.h"
#include "weights/fetch_store.h"

struct fetch;

struct fetch_config {
    struct hub *hub;
    struct net *net; /* all borrowed until fetch_close */
    struct peers *peers;
    struct depot *depot; /* closed after fetch */
    const struct node_id *me;
    struct counters *counters; /* NULL: nobody counts */
    const struct publishers *publishers;
    const char *model; /* name, or id in hex; NULL: the one that most nodes of the swarm hold */
    const struct manifest *known;        /* NULL; else it is in the store and believed already: */
    const struct store_name *known_name; /* there is nothing to seek; both copied */
    /* Layers that have to stay (copied); NULL: none.  Without room others of the model are taken
     * out, if peers have them. */
    const struct holding *serving;
    bool read_only;      /* the store is open for reading: ERR_DENIED when something is missing */
    uint64_t disk_limit; /* bytes of the whole store; 0: what the disk has */
    uint64_t download;   /* bytes a second that it asks for; 0: no limit */
    uint64_t lenient_ms; /* until then (now_ms) tiles of an earlier fetch may come: no lies */
    void *arg;
    /* The manifest is known and believed: say what to hold of it.  room: bytes that the disk has
     * for it, whole; also of what is here already. */
    enum err (*choose)(void *arg, const struct manifest *m, uint64_t room, struct holding *out,
                       struct why *why);
    /* Bytes of tiles that are here, of all that are wanted; as often as something is stored. */
    void (*on_progress)(void *arg, uint64_t done, uint64_t total);
    /* id sent false bytes: what, in words. */
    void (*on_bad)(void *arg, const struct node_id *id, const char *what);
    /* Everything is in the store, durably (ERR_OK), or why not: ERR_DISKFULL, ERR_AUTH (nobody
     * trusted signed that name), ERR_RANGE, ERR_IO ...  What came is kept. */
    void (*on_done)(void *arg, enum err e, const char *why);
};

MUST_CHECK enum err fetch_open(struct fetch **out, const struct fetch_config *c);
void fetch_close(struct fetch *f); /* NULL is fine; no callback any more */

/* Ask for nothing more until it is over. */
void fetch_pause(struct fetch *f, bool is_paused);

/* TILE and MANIFEST; takes m. */
void fetch_on_mail(struct fetch *f, struct mail *m);
void fetch_on_peer(struct fetch *f, const struct node_id *id, bool up);
void fetch_on_directory(struct fetch *f);

/* Which model it is; known when choose is called. */
const struct store_name *fetch_name(const struct fetch *f);

/* Of this fetch, when it is over or before. */
struct fetched {
    uint64_t tiles, bytes; /* that came and were stored */
    uint32_t peers;        /* from whom */
};
struct fetched fetch_counts(const struct fetch *f);

#endif
