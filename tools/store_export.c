/* swarm-store export: a model as a plain folder. */
#include "tools/store_tool.h"

#include <stdio.h>
#include <stdlib.h>

static const char *store_dir;
static struct arg_range layers;
static bool no_ends, quiet;

static const struct arg options[] = {
    { "store", ARG_STR, &store_dir, "DIR", "the store" },
    { "layers", ARG_RANGE, &layers, "A-B",
      "only these layers, from 0, both included, and the ends; the folder is then a part" },
    { "no-ends", ARG_FLAG, &no_ends, NULL, "not the embedding, output head and tokenizer" },
    { "quiet", ARG_FLAG, &quiet, NULL, "print nothing but errors" },
    { 0 },
};
static const struct args args = {
    .program = "swarm-store export",
    .usage = "MODEL FOLDER --store DIR [options]",
    .about = "Writes a model as a plain folder that any web server, file host or torrent can "
             "carry: FOLDER/NAME/TYPE with a file of tiles for each layer, the manifest, the "
             "signed name, the tokenizer, a README.md and checksums.txt.",
    .options = options,
    .more = "Who has the folder imports it with: swarm-store import FOLDER/NAME/TYPE --store DIR\n"
            "or from its URL. The checksums: b2sum -l 256 -c checksums.txt",
};

struct job {
    struct store *s;
    struct manifest m;
    struct store_name name;
    uint32_t lo, hi;
    struct folder_writer w;
    struct progress progress;
};

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
    progress_set(arg, done, total);
}

static enum err choose(struct job *j, struct why *why)
{
    uint32_t n = arch_all_layers(&j->m.arch);

    if (layers.set && layers.hi >= n)
        return fail(why, ERR_USAGE, "--layers %u-%u: the model has layers 0-%u", layers.lo,
                    layers.hi, n - 1);
    j->lo = layers.lo;
    j->hi = layers.set ? layers.hi + 1 : n;
    if (!j->name.name[0])
        return fail(why, ERR_NOTFOUND, "the model has no name that is signed, only an id");
    if (!name_is_signed(&j->name))
        return fail(why, ERR_AUTH, "the signature under %s is wrong", j->name.name);
    for (uint32_t l = j->lo; l < j->hi; l++)
        if (!store_holds_layer(j->s, &j->m, l))
            return fail(why, ERR_NOTFOUND,
                        "layer %u is not wholly in the store; --layers says which are to go", l);
    if (!no_ends && !store_holds_layer(j->s, &j->m, ARCH_ENDS))
        return fail(why, ERR_NOTFOUND,
                    "the ends are not wholly in the store; --no-ends leaves them out");
    return ERR_OK;
}

static enum err put_ends(struct job *j, struct why *why)
{
    uint8_t *tokenizer;
    size_t n;
    enum err e = folder_put_layer(&j->w, j->s, &j->m, ARCH_ENDS, why);

    if (e || j->m.n_tokenizer == 0) return e;
    if ((e = store_tokenizer(j->s, &j->m, &tokenizer, &n, why))) return e;
    e = folder_put(&j->w, FOLDER_TOKENIZER, slice_of(tokenizer, n), true, why);
    free(tokenizer);
    return e;
}

static enum err put_small(struct job *j, struct why *why)
{
    char text[FOLDER_NAME_MAX];
    struct slice body;
    struct text readme = { 0 };
    enum err e = store_manifest(j->s, &j->name.id, &j->m, &body, why);

    if (!e) e = folder_put(&j->w, FOLDER_MANIFEST, body, true, why);
    if (!e)
        e = folder_put(&j->w, FOLDER_NAME, slice_of(text, folder_name_write(text, &j->name)), true,
                       why);
    store_readme(&readme, &j->m, &j->name, j->lo, j->hi, !no_ends);
    if (!e && readme.failed) e = fail(why, ERR_NOMEM, "out of memory");
    if (!e) e = folder_put(&j->w, FOLDER_README, slice_of(readme.p, readme.n), false, why);
    free(readme.p);
    return e;
}

static enum err put_all(struct job *j, struct why *why)
{
    enum err e = put_small(j, why);

    for (uint32_t l = j->lo; l < j->hi; l++) j->w.total += arch_bytes(&j->m.arch, l);
    if (!no_ends) j->w.total += arch_bytes(&j->m.arch, ARCH_ENDS);
    j->w.progress = on_progress;
    j->w.arg = &j->progress;
    for (uint32_t l = j->lo; l < j->hi && !e; l++) e = folder_put_layer(&j->w, j->s, &j->m, l, why);
    if (!e && !no_ends) e = put_ends(j, why);
    return e ? e : folder_finish(&j->w, why);
}

static enum err export(struct job *j, const char *model, const char *root, struct why *why) {
    char dir[FILE_PATH_MAX]; enum err e = store_find_model(j->s, model, &j->name, &j->m, why);

    if (!e) e = choose(j, why);
    if (!e) e = folder_path(dir, root, j->name.name, why);
    if (!e) e = folder_create(&j->w, dir, why);
    if (e) return e;
    progress_start(&j->progress, "exporting", quiet);
    e = put_all(j, why);
    (void)progress_end(&j->progress);
    if (!e && !quiet) printf("%s\n", dir);
    return e;
}

int store_export_main(int argc, char **argv)
{
    static struct job j;
    struct why why = { "" };
    const char *pos[2];

    if (args_parse(&args, argc, argv, pos, 2) < 2)
        return die(&args, 2, "MODEL and FOLDER are needed: which model, and where to");
    enum err e = store_tool_open(&j.s, store_dir, STORE_READ, false, &why);
    if (!e) e = export(&j, pos[0], pos[1], &why);
    folder_writer_fini(&j.w);
    return store_tool_end(&args, j.s, e, &why);
}
