/* publish.h - a model's name in a store, signed. */
#ifndef TOOLS_PUBLISH_H
#define TOOLS_PUBLISH_H

#include "proto/identity.h"
#include "store/store.h"

/* Store a manifest's body (id is its hash) under a name signed by publisher.  ERR_EXISTS with why
 * when the name belongs to another model and replace is false. */
MUST_CHECK enum err publish_model(struct store *s, struct slice body, const struct hash *id,
                                  const char *name, const struct identity *publisher, bool replace,
                                  struct why *why);

/* Is the name nobody's, or this model's already? */
bool name_is_free(struct store *s, const char *name, const struct hash *id);

void print_model_id(const struct hash *id); /* hex, on stdout */

#endif
