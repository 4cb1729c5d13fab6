/* Names, lengths and places of a model folder's files. */
#include "store/folder.h"

#include <stdio.h>

void folder_layer_name(char out[FOLDER_FILE_NAME], uint32_t layer)
{
    if (layer == ARCH_ENDS)
        snprintf(out, FOLDER_FILE_NAME, "ends.tiles");
    else
        snprintf(out, FOLDER_FILE_NAME, "layer-%03u.tiles", layer);
}

uint64_t folder_layer_bytes(const struct manifest *m, uint32_t layer)
{
    return (uint64_t)manifest_n_tiles(&m->arch, layer) * HASH_BYTES + arch_bytes(&m->arch, layer);
}

enum err folder_path(char out[FILE_PATH_MAX], const char *root, const char *name, struct why *why)
{
    char relative[sizeof((struct store_name *)0)->name];
    bool starts = true;
    size_t n = strlen(name);

    if (!store_name_ok(name)) return fail(why, ERR_USAGE, "'%.63s' is no name for a model", name);
    for (size_t i = 0; i <= n; i++) {
        bool ends = name[i] == ':' || name[i] == '/' || name[i] == 0;
        if (starts && (ends || name[i] == '.'))
            return fail(why, ERR_USAGE, "the name %s cannot be a folder's", name);
        relative[i] = name[i] == ':' ? '/' : name[i];
        starts = ends;
    }
    return file_path(out, root, relative, why);
}

/* --- name.txt --- */

size_t folder_name_write(char out[FOLDER_NAME_MAX], const struct store_name *n)
{
    char id[HASH_TEXT], publisher[HASH_TEXT], sig[2][HASH_TEXT];
    struct hash part;

    hash_text(id, &n->id);
    memcpy(part.b, n->publisher, HASH_BYTES);
    hash_text(publisher, &part);
    for (int i = 0; i < 2; i++) {
        memcpy(part.b, n->sig + i * HASH_BYTES, HASH_BYTES);
        hash_text(sig[i], &part);
    }
    return (size_t)snprintf(out, FOLDER_NAME_MAX,
                            "swarm-model 1\nname %s\nid %s\npublisher %s\nsignature %s%s\n",
                            n->name, id, publisher, sig[0], sig[1]);
}

/* The rest of the line that begins with word, without its end; empty when it does not. */
static struct slice take_line(struct slice *text, const char *word)
{
    const uint8_t *end = text->n ? memchr(text->p, '\n', text->n) : NULL;
    size_t n = end ? (size_t)(end - text->p) : 0, skip = strlen(word);
    struct slice line = slice_of(text->p, n);

    if (!end || n <= skip || memcmp(line.p, word, skip) != 0) {
        *text = slice_of("", 0);
        return slice_of("", 0);
    }
    *text = slice_of(end + 1, text->n - n - 1);
    return slice_of(line.p + skip, n - skip);
}

static bool take_hash(uint8_t out[HASH_BYTES], struct slice hex)
{
    char text[HASH_TEXT];
    struct hash h;

    if (hex.n != HASH_TEXT - 1) return false;
    memcpy(text, hex.p, hex.n);
    text[hex.n] = 0;
    if (!hash_parse(&h, text)) return false;
    memcpy(out, h.b, HASH_BYTES);
    return true;
}

enum err folder_name_parse(struct store_name *out, struct slice text, struct why *why)
{
    struct slice left = text;
    char again[FOLDER_NAME_MAX];

    *out = (struct store_name){ 0 };
    struct slice version = take_line(&left, "swarm-model ");
    struct slice name = take_line(&left, "name ");
    struct slice id = take_line(&left, "id ");
    struct slice publisher = take_line(&left, "publisher ");
    struct slice sig = take_line(&left, "signature ");

    if (version.n && !slice_is(version, "1"))
        return fail(why, ERR_UNSUPPORTED, FOLDER_NAME ": another form than this program knows");
    bool good = text.n < FOLDER_NAME_MAX && name.n < sizeof out->name && left.n == 0 &&
                sig.n == 4 * HASH_BYTES;
    if (good) memcpy(out->name, name.p, name.n);
    good = good && store_name_ok(out->name) && take_hash(out->id.b, id) &&
           take_hash(out->publisher, publisher) &&
           take_hash(out->sig, slice_of(sig.p, sig.n / 2)) &&
           take_hash(out->sig + HASH_BYTES, slice_of(sig.p + sig.n / 2, sig.n / 2));
    /* One entry has one text: written again it is the same. */
    if (good && (folder_name_write(again, out) != text.n || memcmp(again, text.p, text.n) != 0))
        good = false;
    return good ? ERR_OK : fail(why, ERR_MALFORMED, FOLDER_NAME ": the lines do not parse");
}
