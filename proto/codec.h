/* codec.h - messages <-> bytes, by the table of messages.h. */
#ifndef PROTO_CODEC_H
#define PROTO_CODEC_H

#include "base/err.h"
#include "proto/messages.h"

#include <stdbool.h>
#include <stddef.h>

/* A row of the table.  An optional field that is zero or empty is not sent. */
struct field {
    const char *name, *key, *meaning;
    enum field_type type;
    bool optional;
    size_t offset; /* in the message's struct */
    uint64_t min, max;
};
struct message {
    const char *name, *meaning;
    enum msg_type type;
    uint32_t limit; /* bytes of the encoded message */
    const struct field *fields;
    uint32_t n_fields;
    size_t size; /* of the struct */
};

/* The i-th message, NULL past the end; the one of a type, NULL when unknown. */
const struct message *message_nth(unsigned i);
const struct message *message_find(unsigned type);
const struct message *record_message(void); /* the record's row, type 0 */
const char *wire_error_text(unsigned code);

/* The largest size that a message which starts with these bytes may have, so that a receiver can
 * refuse it before it has room for it: its type's limit, MSG_UNKNOWN_MAX for a type we do not know,
 * 0 when no message starts so.  MSG_HEAD_BYTES always suffice; our own encoder needs 2. */
enum { MSG_HEAD_BYTES = 14, MSG_UNKNOWN_MAX = 64 << 10 };
uint32_t msg_limit(struct slice head);

/* Upper bound of encode's output for m (all limits known), for allocating. */
size_t msg_bound(const struct msg *m);

/* Encode m into out (cap bytes).  *n gets the length.  ERR_RANGE: a field of ours breaks its
 * bounds (a bug or a caller's input); ERR_FULL: cap too small. */
MUST_CHECK enum err msg_encode(const struct msg *m, uint8_t *out, size_t cap, size_t *n);

/* Validate and decode.  m's slices borrow from bytes.  ERR_UNSUPPORTED: a well-formed message of
 * unknown type (m->type and m->rid are set); ERR_MALFORMED (also a missing key or a wrong type),
 * ERR_RANGE (also a size over the type's limit) with why.  Any bytes are safe. */
MUST_CHECK enum err msg_decode(struct msg *m, struct slice bytes, struct why *why);

/* The body of a signed record.  Decoding also refuses what is not canonical: longer encodings than
 * needed, keys out of the table's order, unknown keys, optional fields that hold zero or nothing;
 * so one content has one encoding.  Encoding writes that one. */
MUST_CHECK enum err record_body_encode(const struct record_body *b, uint8_t *out, size_t cap,
                                       size_t *n);
MUST_CHECK enum err record_body_decode(struct record_body *b, struct slice bytes, struct why *why);

#endif
