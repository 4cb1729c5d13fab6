/* swarm-store remove: a model, a name, or what no model uses. */
#include "tools/store_tool.h"

#include <stdio.h>

static const char *store_dir;
static bool spare, quiet;

static const struct arg options[] = {
    { "store", ARG_STR, &store_dir, "DIR", "the store" },
    { "spare", ARG_FLAG, &spare, NULL,
      "take out the tiles that no model uses: what interrupted conversions have left" },
    { "quiet", ARG_FLAG, &quiet, NULL, "print nothing but errors" },
    { 0 },
};
static const struct args args = {
    .program = "swarm-store remove",
    .usage = "MODEL --store DIR\n       swarm-store remove --spare --store DIR",
    .about = "Takes a model out of a store: its names, its manifest, and the tiles that no other "
             "model uses.",
    .options = options,
    .more = "MODEL is a name or an id. A name of a model that has several: only that name goes.\n"
            "A pinned model is refused. Programs that read the store meanwhile are not disturbed;\n"
            "the room is free for new tiles when they have closed it. The file does not shrink:\n"
            "what is free in it is used first. After an interruption the same command with the id\n"
            "(swarm-store list shows it) goes on.",
};

struct names {
    struct hash id;
    uint32_t n;
};

static bool count_name(void *arg, const struct store_name *n)
{
    struct names *c = arg;
    c->n += hash_equal(&c->id, &n->id);
    return true;
}

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
    progress_set(arg, done, total);
}

static void print_removed(struct store *s, const struct store_removed *r)
{
    struct store_usage u;
    char bytes[SIZE_TEXT];

    if (quiet) return;
    size_text(bytes, r->bytes);
    printf("removed %llu tiles, %s", (unsigned long long)r->tiles, bytes);
    if (r->shared) printf("; %llu stay, other models use them", (unsigned long long)r->shared);
    printf("\n");
    if (!store_usage(s, &u, NULL) && u.readers)
        printf("%u other process%s the store; its room is free when that ends\n", u.readers,
               u.readers > 1 ? "es read" : " reads");
}

static enum err remove_model(struct store *s, const char *model, struct why *why)
{
    struct store_name entry;
    struct store_removed removed;
    struct progress progress;
    enum err e = store_find_id(s, model, &entry, why);
    struct names names = { entry.id, 0 };

    if (!e) e = store_each_name(s, count_name, &names, why);
    if (e) return e;
    if (names.n > 1 && strcmp(entry.name, model) == 0) {
        e = store_remove_name(s, model, why);
        if (!e && !quiet) printf("removed the name %s; the model has others\n", model);
        return e;
    }
    progress_start(&progress, "removing", quiet);
    e = store_remove(s, &entry.id, on_progress, &progress, &removed, why);
    (void)progress_end(&progress);
    if (!e) print_removed(s, &removed);
    return e;
}

static enum err remove_spare(struct store *s, struct why *why)
{
    struct store_removed removed;
    enum err e = store_remove_spare(s, &removed, why);

    if (!e) print_removed(s, &removed);
    return e;
}

int store_remove_main(int argc, char **argv)
{
    struct store *s = NULL;
    struct why why = { "" };
    const char *model = NULL;
    int n = args_parse(&args, argc, argv, &model, 1);

    if (n == 0 && !spare) return die(&args, 2, "MODEL is missing: a name or an id");
    if (n == 1 && spare) return die(&args, 2, "--spare takes no MODEL");
    enum err e = store_tool_open(&s, store_dir, STORE_WRITE, false, &why);
    if (!e) e = spare ? remove_spare(s, &why) : remove_model(s, model, &why);
    return store_tool_end(&args, s, e, &why);
}
