/* directory.h - signed announcements: what every node says it holds, with expiry.
 *
 * A record is signature(64) || body; body is the canonical msgpack map of RECORD_FIELDS, passed on
 * as the exact bytes.  The signature is over the swarm's tag || body, so that no record of a node
 * can be carried from one swarm to another.  The newest seq of an id wins.
 *
 * What is believed:
 *   1. The body is canonical (codec.h) and signed by the id that it names.
 *   2. It was made at most RECORD_SKEW_S in our future, lives at most RECORD_TTL_MAX_S, and is
 * taken until RECORD_SKEW_S after its end: clocks of home PCs differ.  Once taken it is kept for
 * the life that it states, by our clock alone: a node that has vanished is forgotten after that.
 *   3. Addresses have a port and are no multicast, broadcast, unspecified or IPv4-mapped ones.
 *      Loopback and private ones are allowed here: whoever knows how a record came filters them.
 *   4. Layers (held, and given) are pairs lo < hi, ascending, not overlapping; layers or ends name
 * a model. So do parts of layers: whole ranges, none empty, of kinds and items that there are.
 *   5. Round trips are whole and in ascending order of ids, each once.
 *   6. One seq has one content.  Two that differ, both signed, are equivocation: the id is dropped
 *      and nothing is believed of it for DIRECTORY_BAN_S.  (So seq must grow faster than a node
 *      restarts: unix milliseconds will do.)
 *
 *   6. In the public swarm at most DIRECTORY_NET_MAX nodes name addresses of one IPv4 /24 or one
 *      IPv6 /56, so that one machine can't pose as many; private addresses are not counted.
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
    DIRECTORY_NET_MAX = 16, /* nodes of one IPv4 /24 or IPv6 /56 */
    RECORD_TTL_S = 300,
    RECORD_TTL_MAX_S = 900,
    RECORD_SKEW_S = 120,
    DIRECTORY_SILENT_S = 240, /* two announcements, at 100 s +- 20 % each, were missed */
    DIRECTORY_BAN_S = RECORD_TTL_MAX_S + 2 * RECORD_SKEW_S, /* until both records have expired */
};
enum record_state { RECORD_JOINING, RECORD_ACTIVE, RECORD_DRAINING, RECORD_GONE };

/* Build and sign a record of me; body's id is filled in.  ERR_RANGE: the body breaks a rule above
 * or is too large; ERR_FULL: cap too small (RECORD_BYTES_MAX always suffices). */
MUST_CHECK enum err record_make(const struct identity *me, const struct swarm_key *swarm,
                                const struct record_body *body, uint8_t *out, size_t cap,
                                size_t *n);

/* The signature alone, of a body that is encoded already. */
void record_sign(const struct identity *me, const struct swarm_key *swarm, struct slice body,
                 uint8_t sig[SIG_BYTES]);

/* A range of parts of layers, as in a record's `parts`. */
enum record_part_kind { PART_TRUNK, PART_HEADS, PART_EXPERTS, PART_DENSE, PART_KINDS };
struct record_part {
    uint32_t lo, hi; /* layers [lo, hi) */
    enum record_part_kind kind;
    uint32_t item_lo, item_hi; /* [item_lo, item_hi) */
};
uint32_t record_n_parts(const struct record_body *b);
/* The i-th; of a record that was checked, or of bytes that record_part_put wrote. */
struct record_part record_part_nth(const struct record_body *b, uint32_t i);
void record_part_put(uint8_t out[PART_BYTES], const struct record_part *p);

struct directory;
/* Of one swarm: records of another do not verify in it. */
MUST_CHECK enum err directory_open(struct directory **out, const struct swarm_key *swarm);
void directory_close(struct directory *d);

/* Offer a record.  *news: it was unknown and is now stored (pass it on).
 * ERR_AUTH (signature), ERR_MALFORMED, ERR_RANGE (a rule, clock, expiry), ERR_EXISTS (not newer),
 * ERR_DENIED (equivocation, now or lately), ERR_FULL (no place, or too many of its network). */
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
