/* publishers.h - whose signature under a model's name is believed.
 *
 * A name ("glm-4.5-air:q40") is a publisher's word for a model id.  The bytes of a model are held
 * by its id; that it is the model one meant only its publisher can say.  Believed are:
 *
 *   - the demonstration's, built in: it signed the names of the shipped atlas
 * (models/atlas/published) and can sign no others, because nobody has kept it
 *   - one's own key: publisher.key in the configuration folder (config_dir.h)
 *   - every key in trusted-publishers there, a line each: the key (swm1...), then anything.
 *     "#" begins a comment.  At most PUBLISHERS_MAX, 64 KiB. */
#ifndef HOME_PUBLISHERS_H
#define HOME_PUBLISHERS_H

#include "proto/identity.h"
#include "store/store.h"

enum { PUBLISHERS_MAX = 256 };

struct publishers {
    struct node_id id[PUBLISHERS_MAX];
    uint32_t n;
};

/* Sign entry->id and entry->name; fills publisher and sig. */
void name_sign(struct store_name *entry, const struct identity *publisher);
bool name_is_signed(const struct store_name *entry); /* by the publisher that it names */

/* Read the file and the own key; neither need be there.  ERR_MALFORMED with why naming the line. */
MUST_CHECK enum err publishers_load(struct publishers *p, struct why *why);
bool publishers_has(const struct publishers *p, const uint8_t id[ID_BYTES]);
/* Believe a key from now on: add it to the file, with note behind it. */
MUST_CHECK enum err publishers_trust(struct publishers *p, const struct node_id *id,
                                     const char *note, struct why *why);
/* Is the entry signed, and by somebody who is believed?  ERR_AUTH with a why that says how to
 * trust. */
MUST_CHECK enum err publishers_check(const struct publishers *p, const struct store_name *entry,
                                     struct why *why);

#endif
