#include "store/finish.h"

#include <stdlib.h>

enum err finish_check(const char *chat, struct slice tokenizer, struct why *why)
{
    const size_t most = (size_t)MANIFEST_TOKENIZER_TILES_MAX * TILE_BYTES;

    if (tokenizer.n > most)
        return fail(why, ERR_RANGE, "tokenizer.json has %zu bytes, at most %zu are supported",
                    tokenizer.n, most);
    if (strlen(chat) >= sizeof((struct manifest *)0)->chat)
        return fail(why, ERR_USAGE, "the chat form's name is too long");
    return ERR_OK;
}

static bool keeps(const struct made_model *m, uint32_t layer)
{
    return !m->keeps || m->keeps(m->arg, layer);
}

static enum err put_tables(struct store *s, const struct made_model *m, struct manifest *to,
                           struct why *why)
{
    const struct arch *a = &m->cfg->arch;
    const struct hash *h = m->hash;
    uint32_t all = arch_all_layers(a);

    for (uint32_t t = 0; t <= all; t++) {
        uint32_t layer = t == all ? ARCH_ENDS : t, n = manifest_n_tiles(a, layer);
        struct slice table = slice_of(h, (size_t)n * HASH_BYTES);
        struct hash id = hash_of(table);
        if (keeps(m, layer)) {
            enum err e = store_put_hashed(s, table, &id, why);
            if (e) return e;
        }
        *(t == all ? &to->ends : &to->table[t]) = id;
        h += n;
    }
    return ERR_OK;
}

static enum err put_tokenizer(struct store *s, const struct made_model *m, struct manifest *to,
                              struct why *why)
{
    struct slice left = m->tokenizer;

    to->tokenizer_bytes = left.n;
    while (left.n > 0) {
        struct slice piece = slice_of(left.p, left.n < TILE_BYTES ? left.n : TILE_BYTES);
        struct hash *h = &to->tokenizer[to->n_tokenizer++];
        *h = hash_of(piece);
        enum err e = keeps(m, ARCH_ENDS) ? store_put_hashed(s, piece, h, why) : ERR_OK;
        if (e) return e;
        left = slice_of(left.p + piece.n, left.n - piece.n);
    }
    return ERR_OK;
}

static enum err encode(const struct manifest *m, uint8_t **body, size_t *n, struct why *why)
{
    enum err e = manifest_encode(m, body, n);
    if (e) return fail(why, e, "the manifest: %s", err_text(e));

    /* What others will be asked to believe must be believable. */
    struct manifest *check = calloc(1, sizeof *check);
    e = check ? manifest_decode(check, slice_of(*body, *n), why) : ERR_NOMEM;
    free(check);
    if (e) free(*body);
    return e;
}

enum err finish_model(struct store *s, const struct made_model *m, uint8_t **body, size_t *n,
                      struct hash *id, struct why *why)
{
    enum err e = finish_check(m->chat, m->tokenizer, why);
    if (e) return e;
    struct manifest *to = calloc(1, sizeof *to);
    if (!to) return fail(why, ERR_NOMEM, "out of memory");

    to->arch = m->cfg->arch;
    to->n_eos = m->cfg->n_eos;
    to->sampling = m->cfg->sampling;
    memcpy(to->eos, m->cfg->eos, sizeof to->eos);
    memcpy(to->chat, m->chat, strlen(m->chat));
    e = put_tables(s, m, to, why);
    if (!e) e = put_tokenizer(s, m, to, why);
    if (!e) e = store_commit(s, why);
    if (!e) e = encode(to, body, n, why);
    free(to);
    if (!e) *id = hash_of(slice_of(*body, *n));
    return e;
}
