/* codec.h - messages <-> bytes, by the table of messages.h. */
#ifndef PROTO_CODEC_H
#define PROTO_CODEC_H

#include "base/err.h"
#include "proto/messages.h"

#include <stdbool.h>
#include <stddef.h>

/* A row of the table. */
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

/* Upper bound of encode's output for m (all limits known), for allocating. */
size_t msg_bound(const struct msg *m);

/* Encode m into out (cap bytes).  *n gets the length.  ERR_RANGE: a field of ours breaks its
 * bounds (a bug or a caller's input); ERR_FULL: cap too small. */
MUST_CHECK enum err msg_encode(const struct msg *m, uint8_t *out, size_t cap, size_t *n);

/* Validate and decode.  m's slices borrow from bytes.  ERR_UNSUPPORTED: a well-formed message of
 * unknown type (m->rid is set); ERR_MALFORMED, ERR_RANGE with why.  Any bytes are safe. */
MUST_CHECK enum err msg_decode(struct msg *m, struct slice bytes, struct why *why);

#endif
