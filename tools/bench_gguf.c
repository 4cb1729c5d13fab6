/* bench_gguf.c - a model of a store as a GGUF file. */
#include "store/gguf.h"
#include "tools/args.h"
#include "tools/bench.h"
#include "tools/progress.h"

#include <stdio.h>
#include <stdlib.h>

static const char *model;
static bool quiet;

static const struct arg options[] = {
    { "model", ARG_STR, &model, "NAME", "which model, if the store has several" },
    { "quiet", ARG_FLAG, &quiet, NULL, "print errors only" },
    { 0 },
};

static const struct args args = {
    .program = "swarm-bench gguf",
    .usage = "STORE OUT.gguf [options]",
    .about = "Writes a model of a store as a GGUF file that llama.cpp loads: q40 as Q4_0, q80 as "
             "Q8_0, the same numbers. Without tokenizer: the file takes token ids.",
    .options = options,
};

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
    progress_set(arg, done, total);
}

static enum err write_model(struct store *s, const char *path, struct why *why)
{
    struct manifest *m = malloc(sizeof *m);
    struct store_name name;
    struct progress p;
    char time[SIZE_TEXT];

    if (!m) return fail(why, ERR_NOMEM, "out of memory");
    enum err e = store_find_model(s, model, &name, m, why);
    if (!e) {
        struct gguf_options o = { name.name, on_progress, &p };
        progress_start(&p, "writing", quiet);
        e = gguf_write(s, m, path, &o, why);
        time_text(time, progress_end(&p));
    }
    if (!e && !quiet) printf("wrote      %s\ntime       %s\n", path, time);
    free(m);
    return e;
}

int bench_gguf(int argc, char **argv)
{
    const char *pos[2];
    struct store *s = NULL;
    struct why why = { "" };

    if (args_parse(&args, argc, argv, pos, 2) != 2)
        return die(&args, 2, "STORE and OUT.gguf are needed; --help explains them");
    enum err e = store_open(&s, pos[0], STORE_READ, &why);
    if (!e) e = write_model(s, pos[1], &why);
    store_close(s);
    return e ? die(&args, 1, "%s", why.text[0] ? why.text : err_text(e)) : 0;
}
