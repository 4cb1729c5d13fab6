/* swarm-node - join a swarm and compute layers of a model for others. */
#include "base/log.h"
#include "node/keys.h"
#include "node/node.h"
#include "tools/args.h"

#include <stdio.h>
#include <string.h>

static const char *store, *listen_at, *advertise, *model, *identity, *swarm_key, *name, *level;
static struct arg_list join, allow;
static struct arg_range layers;
static uint32_t threads, ctx, patience;
static uint64_t kv_ram;
static bool no_ends;

static const struct arg options[] = {
    { "store", ARG_STR, &store, "DIR", "where the model is (made by swarm-convert)" },
    { "listen", ARG_STR, &listen_at, "HOST:PORT",
      "where to take connections; port 0: any free one" },
    { "advertise", ARG_STR, &advertise, "HOST:PORT", "where others reach this node, if elsewhere" },
    { "join", ARG_LIST, &join, "LINK", "a node of the swarm to join; may be repeated" },
    { "model", ARG_STR, &model, "NAME", "which model, if the store has several" },
    { "layers", ARG_RANGE, &layers, "A-B",
      "serve these layers, both included, from 0 (default: all it has)" },
    { "no-ends", ARG_FLAG, &no_ends, NULL,
      "do not hold embedding and head, do not answer questions" },
    { "threads", ARG_U32, &threads, "T", "threads that compute (default: every core)" },
    { "ctx", ARG_U32, &ctx, "N", "longest conversation served (default: the model's)" },
    { "kv-ram", ARG_SIZE, &kv_ram, "SIZE", "memory for conversations (default: a quarter of all)" },
    { "patience", ARG_U32, &patience, "S",
      "seconds to wait for others when a node leaves an answer (default: 30)" },
    { "allow", ARG_LIST, &allow, "ID", "who may ask besides this machine; may be repeated" },
    { "identity", ARG_STR, &identity, "FILE",
      "who this node is (default: DIR/identity.key, made at first)" },
    { "swarm-key", ARG_STR, &swarm_key, "FILE|swk1...", "which swarm (default: the public one)" },
    { "name", ARG_STR, &name, "NAME", "a label that others see" },
    { "log-level", ARG_STR, &level, "LEVEL", "error, warn, info (default) or debug" },
    { 0 },
};

static const struct args args = {
    .program = "swarm-node",
    .usage = "--store DIR --listen HOST:PORT [--join LINK ...] [options]\n"
             "       swarm-node new-key [FILE]",
    .about = "Joins a swarm, announces which layers of a model it holds, and computes them for "
             "others. When it is ready, its link is printed on a line of its own.",
    .options = options,
    .more =
        "new-key prints a private swarm key, or writes it to a new FILE that only you can read.",
};

static bool set_level(const char *text)
{
    static const char *const names[] = { "error", "warn", "info", "debug" };
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(text, names[i]) == 0) {
            log_set_level((enum log_level)i);
            return true;
        }
    return false;
}

static int new_key(const char *file)
{
    struct why why;
    if (file) return keys_new_swarm(file, &why) ? die(&args, 1, "%s", why.text) : 0;
    struct swarm_key key;
    char text[SWARM_KEY_TEXT];
    swarm_key_make(&key);
    swarm_key_text(text, &key);
    puts(text);
    return 0;
}

int main(int argc, char **argv)
{
    const char *pos[2];
    struct why why = { "" };
    int n = args_parse(&args, argc, argv, pos, 2);
    if (proto_init()) return die(&args, 1, "libsodium does not start");
    if (n > 0 && strcmp(pos[0], "new-key") == 0) return new_key(n > 1 ? pos[1] : NULL);
    if (n > 0) return die(&args, 2, "%s: no such command; try --help", pos[0]);
    if (!store) return die(&args, 2, "--store is missing: the folder made by swarm-convert");
    if (!listen_at) return die(&args, 2, "--listen is missing, as in --listen 0.0.0.0:7777");
    if (layers.set && layers.hi >= LAYER_MAX)
        return die(&args, 2, "--layers %u-%u: no model has so many", layers.lo, layers.hi);
    if (patience > 3600) return die(&args, 2, "--patience %u: at most 3600 s", patience);
    if (level && !set_level(level))
        return die(&args, 2, "--log-level %s: error, warn, info or debug", level);

    struct node_config c = { .store_dir = store,
                             .listen = listen_at,
                             .advertise = advertise,
                             .n_join = join.n,
                             .n_allow = allow.n,
                             .model = model,
                             .has_layers = layers.set,
                             .lo = layers.lo,
                             .hi = layers.set ? layers.hi + 1 : 0,
                             .threads = threads,
                             .context = ctx,
                             .kv_bytes = kv_ram,
                             .patience = patience,
                             .no_ends = no_ends,
                             .identity = identity,
                             .swarm_key = swarm_key,
                             .name = name };
    memcpy(c.join, join.v, sizeof join.v);
    memcpy(c.allow, allow.v, sizeof allow.v);
    if (node_run(&c, &why)) return die(&args, 1, "%s", why.text);
    return 0;
}
