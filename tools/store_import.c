/* swarm-store import: a model from a folder or from its URL. */
#include "tools/store_tool.h"

#include "tools/fetch.h"
#include "tools/publish.h"

#include <stdio.h>

static const char *store_dir;
static struct arg_list trust;
static struct arg_range layers;
static uint32_t retries = 8;
static bool no_ends, replace, quiet;

static const struct arg options[] = {
    { "store", ARG_STR, &store_dir, "DIR", "the store to write; made if it is not there" },
    { "layers", ARG_RANGE, &layers, "A-B",
      "only these layers, from 0, both included, and the ends" },
    { "no-ends", ARG_FLAG, &no_ends, NULL,
      "not the embedding, output head and tokenizer: this store's node cannot coordinate" },
    { "trust-publisher", ARG_LIST, &trust, "KEY",
      "believe this publisher (swm1...) from now on; may be repeated" },
    { "replace", ARG_FLAG, &replace, NULL, "let the name move from another model to this one" },
    { "retries", ARG_U32, &retries, "N",
      "of a broken connection without a byte in between (default 8, about two minutes)" },
    { "quiet", ARG_FLAG, &quiet, NULL, "print nothing but errors" },
    { 0 },
};
static const struct args args = {
    .program = "swarm-store import",
    .usage = "FOLDER|URL --store DIR [options]",
    .about = "Brings a model from an exported folder, or from the http(s) URL of one, into a "
             "store. The publisher's signature and the hash of every tile are checked first. It "
             "may be interrupted: the same command goes on where it was.",
    .options = options,
    .more = "Whom you trust is in swarm/trusted-publishers in your configuration folder; your own\n"
            "key needs no line there. Examples:\n"
            "  swarm-store import models/glm-4.5-air/q40 --store air\n"
            "  swarm-store import https://example.org/glm-4.5-air/q40 --store air --layers 0-22",
};

struct job {
    struct store *s;
    struct folder_dir dir;
    struct fetch *fetch; /* owned */
    struct import_options o;
    struct import *im; /* owned */
    struct publishers publishers;
    struct progress progress;
    uint64_t first; /* bytes that were here already: they do not count for the speed */
};

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
    struct job *j = arg;
    progress_set(&j->progress, done - j->first, total - j->first);
}

static enum err load_publishers(struct job *j, struct why *why)
{
    enum err e = publishers_load(&j->publishers, why);

    for (unsigned i = 0; i < trust.n && !e; i++) {
        struct node_id id;
        struct why inner = { "" };
        if (node_id_parse(&id, trust.v[i], &inner))
            return fail(why, ERR_USAGE, "--trust-publisher %s: %s", trust.v[i], inner.text);
        e = publishers_trust(&j->publishers, &id, "trusted with --trust-publisher", why);
    }
    return e;
}

static enum err open_source(struct job *j, const char *from, struct folder_source **out,
                            struct why *why)
{
    if (!fetch_is_url(from)) {
        folder_dir_init(&j->dir, from);
        *out = &j->dir.source;
        return ERR_OK;
    }
    enum err e = fetch_open(&j->fetch, from, retries, why);
    if (!e) *out = fetch_source(j->fetch);
    return e;
}

static void print_plan(const struct job *j, const struct import_sizes *z)
{
    char all[SIZE_TEXT], here[SIZE_TEXT], who[NODE_ID_TEXT];

    publisher_text(who, import_name(j->im));
    size_text(all, z->bytes);
    size_text(here, z->bytes_here);
    fprintf(stderr, "%s of %s: %s", import_name(j->im)->name, who, all);
    if (z->bytes_here) fprintf(stderr, ", %s of it already in the store", here);
    fprintf(stderr, "\n");
}

static void print_result(const struct job *j, const struct import_sizes *z, double seconds)
{
    char bytes[SIZE_TEXT], time[SIZE_TEXT], rate[SIZE_TEXT];
    uint64_t got = z->bytes - z->bytes_here;

    size_text(bytes, got);
    time_text(time, seconds);
    size_text(rate, seconds > 0 ? (uint64_t)((double)got / seconds) : 0);
    printf("model      ");
    print_model_id(&import_name(j->im)->id);
    printf("\nname       %s\nimported   %s in %s (%s/s)\n", import_name(j->im)->name, bytes, time,
           rate);
}

/* A name that another model has does not move by itself. */
static enum err check_name(struct job *j, struct why *why)
{
    const struct store_name *n = import_name(j->im);
    enum err e = publishers_check(&j->publishers, n, why);

    if (e || name_is_free(j->s, n->name, &n->id) || replace) return e;
    return fail(why, ERR_EXISTS,
                "the name %s belongs to another model of this store; --replace lets it move",
                n->name);
}

static enum err import(struct job *j, const char *from, struct why *why)
{
    struct folder_source *source;
    struct import_sizes sizes;
    enum err e = load_publishers(j, why);

    if (!e) e = open_source(j, from, &source, why);
    if (!e) e = import_open(&j->im, j->s, source, &j->o, why);
    if (!e) e = check_name(j, why);
    if (!e) e = import_plan(j->im, &sizes, why);
    if (e) return e;
    j->first = sizes.bytes_here;
    if (!quiet) print_plan(j, &sizes);
    progress_start(&j->progress, "importing", quiet);
    e = import_run(j->im, why);
    double seconds = progress_end(&j->progress);
    if (!e && !quiet) print_result(j, &sizes, seconds);
    return e;
}

int store_import_main(int argc, char **argv)
{
    static struct job j;
    struct why why = { "" };
    const char *from;

    if (args_parse(&args, argc, argv, &from, 1) == 0)
        return die(&args, 2, "FOLDER or URL is missing: where the model is");
    if (layers.set && layers.hi >= ARCH_LAYERS_MAX)
        return die(&args, 2, "--layers: no model has a layer %u", layers.hi);
    j.o = (struct import_options){ .lo = layers.lo,
                                   .hi = layers.set ? layers.hi + 1 : 0,
                                   .no_ends = no_ends,
                                   .progress = on_progress,
                                   .arg = &j };
    enum err e = store_tool_open(&j.s, store_dir, STORE_WRITE, true, &why);
    if (!e) e = import(&j, from, &why);
    import_close(j.im);
    fetch_close(j.fetch);
    return store_tool_end(&args, j.s, e, &why);
}
