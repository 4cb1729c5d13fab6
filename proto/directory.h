/* directory.h - signed announcements: what every node says it holds, with expiry.
 *
 * A record is signature(64) || body; body is the canonical msgpack map of RECORD_FIELDS, signed
 * and passed on as the exact bytes.  The newest seq of an id wins; the same seq with other bytes
 * is equivocation and drops the id.  Limits of protocol-notes 2.3 and 3.2. */
#ifndef PROTO_DIRECTORY_H
#define PROTO_DIRECTORY_H

#include "proto/codec.h"
#include "proto/identity.h"

enum { DIRECTORY_MAX = 4096, RECORD_TTL_S = 300, RECORD_TTL_MAX_S = 900, RECORD_SKEW_S = 120 };

/* Build and sign a record. */
MUST_CHECK enum err record_make(const struct identity *me, const struct record_body *body,
                                uint8_t *out, size_t cap, size_t *n);

struct directory;
MUST_CHECK enum err directory_open(struct directory **out);
void directory_close(struct directory *d);

/* Offer a record.  *news: it was unknown and is now stored (pass it on).
 * ERR_AUTH, ERR_MALFORMED, ERR_RANGE (clock, expiry), ERR_EXISTS (not newer), ERR_FULL. */
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
