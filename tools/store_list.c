/* swarm-store list: models, their names and publishers, and what of them is held. */
#include "tools/store_tool.h"

#include <stdio.h>
#include <stdlib.h>

static const char *store_dir;

static const struct arg options[] = {
    { "store", ARG_STR, &store_dir, "DIR", "the store" },
    { 0 },
};
static const struct args args = {
    .program = "swarm-store list",
    .usage = "--store DIR",
    .about = "Lists the models of a store: their names, publishers and ids, which layers and "
             "experts are held and what is pinned.",
    .options = options,
    .more = "A name in brackets is signed by nobody you trust. A model without a name is being\n"
            "imported, or was not removed to its end: import or remove it (by its id) again.",
};

struct listing {
    struct store *s;
    struct manifest *m; /* owned scratch */
    struct publishers trusted;
    struct hash id;
    uint32_t names;
    enum err err;
    struct why *why;
};

/* --- what of a layer is held --- */

/* Which items of each kind are wholly held, or in part. */
struct shards {
    struct store *s;
    uint32_t n[SHARD_ENDS + 1], whole[SHARD_ENDS + 1];
    bool item[SHARD_ENDS + 1][ARCH_EXPERTS_MAX];
    enum shard_kind kind; /* of the item that is being looked at */
    uint32_t at;
    bool open, complete;
};
_Static_assert((int)ARCH_HEADS_MAX <= (int)ARCH_EXPERTS_MAX, "items of any kind");

static void close_item(struct shards *h)
{
    if (!h->open) return;
    if (h->at >= h->n[h->kind]) h->n[h->kind] = h->at + 1;
    h->item[h->kind][h->at] = h->complete;
    h->whole[h->kind] += h->complete;
    h->open = false;
}

static bool look(void *arg, const struct tile_place *p, const struct hash *hash)
{
    struct shards *h = arg;

    if (!h->open || h->kind != p->spec.shard || h->at != p->spec.item) {
        close_item(h);
        h->kind = p->spec.shard;
        h->at = p->spec.item;
        h->open = h->complete = true;
    }
    h->complete = store_has(h->s, hash) && h->complete;
    return true;
}

/* ", experts 0-63 and 70 of 128" */
static void kind_text(struct text *t, const struct shards *h, enum shard_kind kind)
{
    const char *before = " ";

    if (h->whole[kind] == 0) return;
    text_printf(t, "%s%s", t->n ? ", " : "", shard_name(kind));
    if (h->n[kind] == 1) return;
    text_str(t, "s");
    for (uint32_t i = 0; i < h->n[kind]; i++) {
        uint32_t first = i;
        if (!h->item[kind][i]) continue;
        while (i + 1 < h->n[kind] && h->item[kind][i + 1]) i++;
        text_printf(t, i > first ? "%s%u-%u" : "%s%u", before, first, i);
        before = ", ";
    }
    text_printf(t, " of %u", h->n[kind]);
}

/* "all", "nothing", or what: "trunk, head groups 0-3 of 8, experts 0-63 of 128 (0.6 of 1.3 GiB)" */
static void held_text(struct text *t, struct listing *l, uint32_t layer,
                      const struct store_held *held)
{
    char here[SIZE_TEXT], all[SIZE_TEXT];

    if (held->tiles_here == held->tiles) {
        text_str(t, "all");
        return;
    }
    if (held->tiles_here == 0) {
        text_str(t, "nothing");
        return;
    }
    struct shards *h = calloc(1, sizeof *h);
    if (!h) {
        t->failed = true;
        return;
    }
    h->s = l->s;
    if (store_each_tile(l->s, l->m, layer, look, h) == ERR_OK) close_item(h);
    for (enum shard_kind k = SHARD_TRUNK; k <= SHARD_ENDS; k++) kind_text(t, h, k);
    free(h);
    size_text(here, held->bytes_here);
    size_text(all, held->bytes);
    text_printf(t, "%s%s of %s", t->n ? ", in all " : "", here, all);
}

static void print_layers(uint32_t lo, uint32_t hi, const char *what)
{
    if (lo == ARCH_ENDS)
        printf("  %-16s %s\n", "the ends", what);
    else if (lo == hi)
        printf("  layer %-10u %s\n", lo, what);
    else
        printf("  layers %u-%-*u %s\n", lo, lo > 99 ? 5 : lo > 9 ? 6 : 7, hi, what);
}

/* Consecutive layers of which the same is held take one line. */
static void print_held(struct listing *l, uint64_t *here, uint64_t *all)
{
    uint32_t n = arch_all_layers(&l->m->arch), first = 0;
    struct text before = { 0 };

    for (uint32_t i = 0; i <= n; i++) {
        uint32_t layer = i == n ? ARCH_ENDS : i;
        struct store_held held;
        struct text now = { 0 };

        store_held(l->s, l->m, layer, &held);
        held_text(&now, l, layer, &held);
        *here += held.bytes_here;
        *all += held.bytes;
        if (now.failed) l->err = ERR_NOMEM;
        if (i && (i == n || !now.p || !before.p || strcmp(now.p, before.p) != 0)) {
            print_layers(first, i - 1, before.p ? before.p : "");
            first = i;
        }
        free(before.p);
        before = now;
    }
    print_layers(ARCH_ENDS, 0, before.p ? before.p : "");
    free(before.p);
}

/* --- a model --- */

static bool print_name(void *arg, const struct store_name *n)
{
    struct listing *l = arg;
    char who[NODE_ID_TEXT];

    if (!hash_equal(&n->id, &l->id)) return true;
    bool good = name_is_signed(n) && publishers_has(&l->trusted, n->publisher);
    publisher_text(who, n);
    printf(good ? "%s\n  publisher        %s\n" : "(%s)\n  publisher        %s, not trusted\n",
           n->name, name_is_signed(n) ? who : "none: the signature is wrong");
    l->names++;
    return true;
}

static void print_pin(struct listing *l)
{
    struct store_pin pin;
    struct text t = { 0 };

    if (store_pin(l->s, &l->id, &pin)) {
        printf("  pinned           (the record is damaged)\n");
        return;
    }
    if (store_pin_empty(&pin)) return;
    pin_text(&t, &pin, arch_all_layers(&l->m->arch));
    printf("  pinned           %s\n", t.p ? t.p : "");
    free(t.p);
}

static bool print_model(void *arg, const struct hash *id)
{
    struct listing *l = arg;
    char hex[HASH_TEXT], here_text[SIZE_TEXT], all_text[SIZE_TEXT];
    uint64_t here = 0, all = 0;
    struct why inner = { "" };

    hash_text(hex, id);
    l->id = *id;
    l->names = 0;
    if ((l->err = store_each_name(l->s, print_name, l, l->why))) return false;
    if (l->names == 0) printf("(no name)\n");
    printf("  id               %s\n", hex);
    if (store_manifest(l->s, id, l->m, NULL, &inner)) {
        printf("  damaged          %s\n", inner.text);
        return true;
    }
    print_held(l, &here, &all);
    size_text(here_text, here);
    size_text(all_text, all);
    printf("  held             %s of %s\n", here_text, all_text);
    print_pin(l);
    return !l->err;
}

static void print_store(const struct store_usage *u, uint64_t room)
{
    char file[SIZE_TEXT], unused[SIZE_TEXT], disk[SIZE_TEXT];

    size_text(file, u->file_bytes);
    size_text(unused, u->free_bytes);
    size_text(disk, room);
    printf("store %s: %s, of which %s are free for new tiles; the disk has %s more\n", store_dir,
           file, unused, disk);
    if (u->readers) printf("read by %u other process%s\n", u->readers, u->readers > 1 ? "es" : "");
}

static enum err list(struct listing *l, struct why *why)
{
    struct store_usage usage;
    enum err e = publishers_load(&l->trusted, why);

    l->why = why;
    l->m = calloc(1, sizeof *l->m);
    if (!l->m) return fail(why, ERR_NOMEM, "out of memory");
    if (!e) e = store_usage(l->s, &usage, why);
    if (!e) {
        print_store(&usage, store_room(l->s));
        e = store_each_model(l->s, print_model, l, why);
    }
    free(l->m);
    return e ? e : l->err;
}

int store_list_main(int argc, char **argv)
{
    static struct listing l;
    struct why why = { "" };

    args_parse(&args, argc, argv, NULL, 0);
    enum err e = store_tool_open(&l.s, store_dir, STORE_READ, false, &why);
    if (!e) e = list(&l, &why);
    return store_tool_end(&args, l.s, e, &why);
}
