/* swarm-store pin, unpin: what this machine is to hold. */
#include "tools/store_tool.h"

#include <stdio.h>
#include <stdlib.h>

static const char *store_dir;
static struct arg_range layers;
static bool ends, no_ends;

static const struct arg pin_options[] = {
    { "store", ARG_STR, &store_dir, "DIR", "the store" },
    { "layers", ARG_RANGE, &layers, "A-B", "these layers, from 0, both included (default: all)" },
    { "no-ends", ARG_FLAG, &no_ends, NULL, "not the embedding, output head and tokenizer" },
    { 0 },
};
static const struct arg unpin_options[] = {
    { "store", ARG_STR, &store_dir, "DIR", "the store" },
    { "layers", ARG_RANGE, &layers, "A-B",
      "only these layers, from 0, both included (default: all of the model)" },
    { "ends", ARG_FLAG, &ends, NULL, "only the ends, or these too with --layers" },
    { 0 },
};
static const struct args pin_args = {
    .program = "swarm-store pin",
    .usage = "MODEL --store DIR [--layers A-B] [--no-ends]",
    .about = "Says that this machine is to hold layers of a model, whether they are in the store "
             "yet or not. Pins add up. A node keeps what is pinned; a pinned model is not removed.",
    .options = pin_options,
};
static const struct args unpin_args = {
    .program = "swarm-store unpin",
    .usage = "MODEL --store DIR [--layers A-B] [--ends]",
    .about = "Takes pins back. No tile is removed by that.",
    .options = unpin_options,
};

static enum err set_layers(struct store_pin *pin, const struct manifest *m, bool on,
                           struct why *why)
{
    uint32_t n = arch_all_layers(&m->arch), lo = 0, hi = n;

    if (layers.set) {
        if (layers.hi >= n)
            return fail(why, ERR_USAGE, "--layers %u-%u: the model has layers 0-%u", layers.lo,
                        layers.hi, n - 1);
        lo = layers.lo;
        hi = layers.hi + 1;
    } else if (!on && ends) {
        hi = 0;
    }
    for (uint32_t l = lo; l < hi; l++) pin->layer[l] = on;
    if (!on && parts_cut(&pin->parts, lo, hi))
        return fail(why, ERR_FULL, "too many ranges of parts; unpin all of the model");
    if (on ? !no_ends : ends || !layers.set) pin->ends = on;
    return ERR_OK;
}

static enum err change(struct store *s, const char *model, bool on, struct why *why)
{
    struct manifest *m = calloc(1, sizeof *m);
    struct store_name entry;
    struct store_pin pin;
    struct text t = { 0 };

    if (!m) return fail(why, ERR_NOMEM, "out of memory");
    enum err e = store_find_model(s, model, &entry, m, why);
    if (!e && store_pin(s, &entry.id, &pin)) pin = (struct store_pin){ 0 }; /* damaged: anew */
    if (!e) e = set_layers(&pin, m, on, why);
    if (!e) e = store_put_pin(s, &entry.id, &pin, why);
    if (!e) {
        pin_text(&t, &pin, arch_all_layers(&m->arch));
        printf("%s: pinned: %s\n", entry.name[0] ? entry.name : model, t.p ? t.p : "");
    }
    free(t.p);
    free(m);
    return e;
}

static int run(const struct args *args, int argc, char **argv, bool on)
{
    struct store *s = NULL;
    struct why why = { "" };
    const char *model;

    if (args_parse(args, argc, argv, &model, 1) == 0)
        return die(args, 2, "MODEL is missing: a name or an id");
    enum err e = store_tool_open(&s, store_dir, STORE_WRITE, false, &why);
    if (!e) e = change(s, model, on, &why);
    return store_tool_end(args, s, e, &why);
}

int store_pin_main(int argc, char **argv)
{
    return run(&pin_args, argc, argv, true);
}

int store_unpin_main(int argc, char **argv)
{
    return run(&unpin_args, argc, argv, false);
}
