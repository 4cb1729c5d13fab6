/* book.h - the peers file: where nodes of the swarm were met, so that a restart finds them again.
 *
 * A line for each address:  ID HOST:PORT LAST-SEEN OK FAILED
 * where HOST is an IP address, LAST-SEEN unix seconds of the last good handshake there (or of the
 * announcement that named it), OK counts good handshakes and FAILED failures since the last good
 * one.  The first line names the swarm; the file of another swarm is not used.  Lines that do not
 * parse are skipped: a person may edit or delete the file while the node does not run.
 *
 * At most BOOK_MAX addresses, BOOK_ADDRS of one node; those that never answered or were seen
 * longest ago make room.  An address that failed is tried at most BOOK_TRIES times an hour. */
#ifndef PEERS_BOOK_H
#define PEERS_BOOK_H

#include "proto/identity.h"

enum { BOOK_MAX = 256, BOOK_ADDRS = 3, BOOK_TRIES = 3, BOOK_TEXT_MAX = 64 << 10 };

struct book_entry {
    struct node_id id;
    uint8_t addr[ADDR_MAX]; /* as on the wire, with addr_n */
    uint8_t addr_n;
    uint32_t ok, failed;
    uint64_t seen; /* unix seconds */
    /* of this run */
    uint64_t tried_ms[BOOK_TRIES]; /* the last tries since it answered, oldest first; 0: none */
    uint64_t next_ms;              /* not before */
    bool dialing;                  /* set and cleared by the caller */
};

struct book {
    uint8_t tag[8]; /* of the swarm */
    uint32_t n;
    struct book_entry entry[BOOK_MAX];
    bool changed; /* since it was last written; cleared by the caller */
};

/* An empty book of this swarm. */
void book_init(struct book *b, const struct swarm_key *swarm);
/* Read what a file holds, at its start.  Returns false, and reads nothing, when it is of another
 * swarm or no peers file. */
bool book_parse(struct book *b, struct slice text);
/* The file's text; returns its length. */
size_t book_print(const struct book *b, char out[BOOK_TEXT_MAX]);

/* A handshake with id at addr was good. */
void book_met(struct book *b, const struct node_id *id, struct slice addr, uint64_t unix_s);
/* id says that it is reached at addr; nobody has tried. */
void book_heard(struct book *b, const struct node_id *id, struct slice addr, uint64_t unix_s);
/* A try failed at time now_ms (monotonic): not again before a while. */
void book_failed(struct book *b, const struct node_id *id, struct slice addr, uint64_t now_ms);
bool book_knows(const struct book *b, const struct node_id *id); /* met, not only heard of */

struct book_entry *book_find(struct book *b, const struct node_id *id, struct slice addr);
/* The address that is best to try now and for which allowed(arg, entry) is true; NULL: none.  It is
 * counted as a try. */
struct book_entry *book_next(struct book *b, uint64_t now_ms,
                             bool (*allowed)(void *arg, const struct book_entry *e), void *arg);

#endif
