/* Manifests by id, and the names that lie beside them. */
#include "store/care.h"
#include "store/store_impl.h"

#include "base/json.h" /* a growing text */

#include <stdio.h>
#include <stdlib.h>

enum {
    NAME_MAX_ = 63,
    NAMES_LISTED = 8, /* in the sentence that says which names there are */
    ENTRY_BYTES = HASH_BYTES + 32 + 64,
};

bool store_name_ok(const char *name)
{
    static const char FIRST[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    size_t n = strlen(name), good = 0;

    if (n == 0 || n > NAME_MAX_ || !strchr(FIRST, name[0])) return false;
    while (good < n && (strchr(FIRST, name[good]) || strchr("._-:/", name[good]))) good++;
    return good == n;
}

static void entry_bytes(uint8_t out[ENTRY_BYTES], const struct store_name *n)
{
    memcpy(out, n->id.b, HASH_BYTES);
    memcpy(out + HASH_BYTES, n->publisher, 32);
    memcpy(out + HASH_BYTES + 32, n->sig, 64);
}

static enum err entry_parse(struct store_name *out, struct slice key, struct slice v)
{
    *out = (struct store_name){ 0 };
    if (key.n > NAME_MAX_ || v.n != ENTRY_BYTES) return ERR_MALFORMED;
    memcpy(out->name, key.p, key.n);
    memcpy(out->id.b, v.p, HASH_BYTES);
    memcpy(out->publisher, v.p + HASH_BYTES, 32);
    memcpy(out->sig, v.p + HASH_BYTES + 32, 64);
    return store_name_ok(out->name) ? ERR_OK : ERR_MALFORMED;
}

enum err store_put_model(struct store *s, struct slice body, const struct store_name *name,
                         struct why *why)
{
    struct manifest *m = malloc(sizeof *m);
    struct hash id = hash_of(body);
    uint8_t entry[ENTRY_BYTES];

    if (!m) return fail(why, ERR_NOMEM, "out of memory");
    enum err e = manifest_decode(m, body, why);
    free(m);
    if (e) return e;
    if (name && !store_name_ok(name->name))
        return fail(why, ERR_USAGE, "'%.63s' is no name for a model", name->name);
    if (name && memcmp(name->id.b, id.b, HASH_BYTES) != 0)
        return fail(why, ERR_AUTH, "the name %s is signed for another model", name->name);

    e = store_add(s, DB_MODELS, hash_slice(&id), body, why);
    if (!e && name) {
        entry_bytes(entry, name);
        e = store_add(s, DB_NAMES_, slice_str(name->name), slice_of(entry, sizeof entry), why);
    }
    return e ? e : store_commit(s, why);
}

enum err store_each_name(struct store *s, bool (*f)(void *arg, const struct store_name *n),
                         void *arg, struct why *why)
{
    MDB_cursor *c;
    MDB_val k, v;
    struct store_name n;
    int rc = mdb_cursor_open(s->read, s->db[DB_NAMES_], &c);

    if (rc) return store_mdb_err(s, rc, "listing its names", why);
    while (!(rc = mdb_cursor_get(c, &k, &v, MDB_NEXT))) {
        if (entry_parse(&n, slice_of(k.mv_data, k.mv_size), slice_of(v.mv_data, v.mv_size))) {
            mdb_cursor_close(c);
            return fail(why, ERR_MALFORMED, "store %s: a damaged name", s->dir);
        }
        if (!f(arg, &n)) break;
    }
    mdb_cursor_close(c);
    return rc == MDB_NOTFOUND ? ERR_OK : store_mdb_err(s, rc, "listing its names", why);
}

enum err store_name_entry(struct store *s, const char *name, struct store_name *out)
{
    struct slice v;
    enum err e = store_get(s, DB_NAMES_, slice_str(name), &v);
    return e ? e : entry_parse(out, slice_str(name), v);
}

/* --- finding --- */

struct listing {
    struct text text;
    uint32_t n;
    struct store_name first;
    const struct hash *with_id; /* only names of this model; NULL: of any */
};

static bool list_name(void *arg, const struct store_name *n)
{
    struct listing *l = arg;

    if (l->with_id && memcmp(l->with_id->b, n->id.b, HASH_BYTES) != 0) return true;
    if (l->n++ == 0) l->first = *n;
    if (l->n <= NAMES_LISTED) text_printf(&l->text, "%s%s", l->n > 1 ? ", " : "", n->name);
    if (l->n == NAMES_LISTED + 1) text_str(&l->text, ", ...");
    return true;
}

static enum err load_manifest(struct store *s, const struct hash *id, const char *name,
                              struct manifest *out, struct slice *body, struct why *why)
{
    enum err e = store_get(s, DB_MODELS, hash_slice(id), body);

    if (e) return fail(why, e, "store %s has no manifest of %s", s->dir, name);
    struct hash is = hash_of(*body);
    if (!hash_equal(&is, id))
        return fail(why, ERR_MALFORMED, "store %s: the manifest of %s is damaged", s->dir, name);
    return manifest_decode(out, *body, why);
}

enum err store_manifest(struct store *s, const struct hash *id, struct manifest *out,
                        struct slice *body, struct why *why)
{
    struct slice bytes;
    char name[HASH_TEXT];

    hash_text(name, id);
    return load_manifest(s, id, name, out, body ? body : &bytes, why);
}

/* By id: whichever name it has, or none. */
static enum err find_by_id(struct store *s, const struct hash *id, struct store_name *entry,
                           struct why *why)
{
    struct listing l = { .with_id = id };
    enum err e = store_each_name(s, list_name, &l, why);

    free(l.text.p);
    *entry = l.first;
    entry->id = *id;
    return e;
}

static enum err find_by_name(struct store *s, const char *name, struct store_name *entry,
                             struct why *why)
{
    struct listing l = { 0 };
    bool any = !name || !name[0];
    enum err e = any ? ERR_NOTFOUND : store_name_entry(s, name, entry);

    if (e != ERR_NOTFOUND) return e;
    e = store_each_name(s, list_name, &l, why);
    const char *names = l.text.p ? l.text.p : "";
    if (!e && any && l.n == 1)
        *entry = l.first;
    else if (!e && l.n == 0)
        e = fail(why, ERR_NOTFOUND, "store %s holds no model", s->dir);
    else if (!e && any)
        e = fail(why, ERR_NOTFOUND, "store %s holds %u models, say which: %s", s->dir, l.n, names);
    else if (!e)
        e = fail(why, ERR_NOTFOUND, "store %s has no model %.63s; it has %s", s->dir, name, names);
    free(l.text.p);
    return e;
}

enum err store_find_id(struct store *s, const char *name, struct store_name *entry, struct why *why)
{
    struct hash id;
    return name && hash_parse(&id, name) ? find_by_id(s, &id, entry, why)
                                         : find_by_name(s, name, entry, why);
}

enum err store_find_model(struct store *s, const char *name, struct store_name *entry,
                          struct manifest *out, struct why *why)
{
    struct slice body;
    enum err e = store_find_id(s, name, entry, why);

    if (e) return e;
    return load_manifest(s, &entry->id, entry->name[0] ? entry->name : "that id", out, &body, why);
}
