#include "tools/publish.h"

#include <stdio.h>

/* A name that another model has does not move by itself. */
static enum err check_name(struct store *s, const char *name, const struct hash *id, bool replace,
                           struct why *why)
{
    struct store_name old;

    if (store_name_entry(s, name, &old) || replace || memcmp(old.id.b, id->b, HASH_BYTES) == 0)
        return ERR_OK;
    return fail(why, ERR_EXISTS,
                "the name %s belongs to another model of this store; the same command with "
                "--replace, or another --name, now takes moments",
                name);
}

enum err publish_model(struct store *s, struct slice body, const struct hash *id, const char *name,
                       const struct identity *publisher, bool replace, struct why *why)
{
    struct store_name entry = { .id = *id };
    uint8_t text[HASH_BYTES + sizeof entry.name];
    size_t n = strlen(name);

    enum err e = check_name(s, name, id, replace, why);
    if (e) return e;
    memcpy(entry.name, name, n);
    memcpy(entry.publisher, publisher->id.b, sizeof entry.publisher);
    memcpy(text, id->b, HASH_BYTES);
    memcpy(text + HASH_BYTES, name, n);
    identity_sign(publisher, "swarm-model-v1", slice_of(text, HASH_BYTES + n), entry.sig);
    return store_put_model(s, body, &entry, why);
}

void print_model_id(const struct hash *id)
{
    for (int i = 0; i < HASH_BYTES; i++) printf("%02x", id->b[i]);
}
