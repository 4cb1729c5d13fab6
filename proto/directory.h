/* directory.h - signed announcements: what every node says it holds, with expiry.
 *
 * A record is signature(64) || body; body is the canonical msgpack map of RECORD_FIELDS, signed
 * and passed on as the exact bytes.  The newest seq of an id wins.
 *
 * What is believed:
 *   1. The body is canonical (codec.h) and signed by the id that it names.
 *   2. It was made at most RECORD_SKEW_S in our future, lives at most RECORD_TTL_MAX_S, and is kept
 *      until RECORD_SKEW_S after its end: clocks of home PCs differ.
 *   3. Addresses have a port and are no multicast, broadcast, unspecified or IPv4-mapped ones.
 *      Loopback and private ones are allowed here: whoever knows how a record came filters them.
 *   4. Layers are pairs lo < hi, ascending, not overlapping; layers or ends name a model.
 *   5. One seq has one content.  Two that differ, both signed, are equivocation: the id is dropped
 *      and nothing is believed of it for DIRECTORY_BAN_S.  (So seq must grow faster than a node
 *      restarts: unix milliseconds will do.)
 *
 * At most DIRECTORY_MAX nodes.  When it is full a newcomer takes the place of the node that has
 * been silent longest, if that is over DIRECTORY_SILENT_S: a flood of new names can't push out
 * nodes that announce themselves in time, whatever expiry it claims. */
#ifndef PROTO_DIRECTORY_H
#define PROTO_DIRECTORY_H

#include "proto/codec.h"
#include "proto/identity.h"

enum {
    DIRECTORY_MAX = 4096,
    RECORD_TTL_S = 300,
    RECORD_TTL_MAX_S = 900,
    RECORD_SKEW_S = 120,
    DIRECTORY_SILENT_S = 240, /* two announcements, at 100 s +- 20 % each, were missed */
    DIRECTORY_BAN_S = RECORD_TTL_MAX_S + 2 * RECORD_SKEW_S, /* until both records have expired */
};
enum record_state { RECORD_JOINING, RECORD_ACTIVE, RECORD_DRAINING, RECORD_GONE };

/* Build and sign a record of me; body's id is filled in.  ERR_RANGE: the body breaks a rule above
 * or is too large; ERR_FULL: cap too small (RECORD_BYTES_MAX always suffices). */
MUST_CHECK enum err record_make(const struct identity *me, const struct record_body *body,
                                uint8_t *out, size_t cap, size_t *n);

struct directory;
MUST_CHECK enum err directory_open(struct directory **out);
void directory_close(struct directory *d);

/* Offer a record.  *news: it was unknown and is now stored (pass it on).
 * ERR_AUTH (signature), ERR_MALFORMED, ERR_RANGE (a rule, clock, expiry), ERR_EXISTS (not newer),
 * ERR_DENIED (equivocation, now or lately), ERR_FULL. */
MUST_CHECK enum err directory_offer(struct directory *d, struct slice record, uint64_t unix_s,
                                    bool *news, struct why *why);

/* Drop expired records. */
void directory_expire(struct directory *d, uint64_t unix_s);

/* One known node. */
struct entry {
    struct node_id id;
    struct record_body body; /* slices borrow from record */
    struct slice record;     /* the signed bytes; valid until this id's next offer or expire */
};
uint32_t directory_n(const struct directory *d);
const struct entry *directory_nth(const struct directory *d, uint32_t i);
const struct entry *directory_find(const struct directory *d, const struct node_id *id);

#endif
