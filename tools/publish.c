#include "tools/publish.h"

#include "home/publishers.h"

#include <stdio.h>

bool name_is_free(struct store *s, const char *name, const struct hash *id)
{
    struct store_name old;

    return store_name_entry(s, name, &old) != ERR_OK || hash_equal(&old.id, id);
}

enum err publish_model(struct store *s, struct slice body, const struct hash *id, const char *name,
                       const struct identity *publisher, bool replace, struct why *why)
{
    struct store_name entry = { .id = *id };

    /* A name that another model has does not move by itself. */
    if (!replace && !name_is_free(s, name, id))
        return fail(why, ERR_EXISTS,
                    "the name %s belongs to another model of this store; the same command with "
                    "--replace, or another --name, now takes moments",
                    name);
    memcpy(entry.name, name, strlen(name));
    name_sign(&entry, publisher);
    return store_put_model(s, body, &entry, why);
}

void print_model_id(const struct hash *id)
{
    char text[HASH_TEXT];
    hash_text(text, id);
    printf("%s", text);
}
