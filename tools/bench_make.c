/* bench_make.c - swarm-bench make: a store of random weights, and a tokenizer of bytes. */
#include "base/json.h"
#include "store/random.h"
#include "tools/bench.h"
#include "tools/progress.h"
#include "tools/publish.h"
#include "tools/shapes.h"

#include <stdlib.h>
#include <string.h>

static const char *store_dir, *name, *type = "q40";
static uint32_t layers, threads;
static uint64_t seed = 1;
static uint32_t skew;
static bool quiet, replace;

static const struct arg options[] = {
    { "store", ARG_STR, &store_dir, "DIR", "the store to write; made if it is not there" },
    { "layers", ARG_U32, &layers, "N", "only the first N layers (default: all)" },
    { "type", ARG_STR, &type, "TYPE",
      "of the weights: q40 (default), q80, f16, bf16 or f32 (norms, router and biases are always "
      "f32)" },
    { "name", ARG_STR, &name, "NAME:TYPE", "what to call it (default: SHAPE:TYPE)" },
    { "seed", ARG_U64, &seed, "N", "of the random numbers: another seed, another model id" },
    { "skew", ARG_U32, &skew, "N",
      "percent: the r-th most used expert of a layer is chosen about as often as r^-(N/100) says "
      "(default 0: all alike)" },
    { "replace", ARG_FLAG, &replace, NULL, "let the name move from another model to this one" },
    { "threads", ARG_U32, &threads, "T", "threads that work (default: every core)" },
    { "quiet", ARG_FLAG, &quiet, NULL, "print nothing but errors" },
    { 0 },
};
static const struct args args = {
    .program = "swarm-bench make",
    .usage = "SHAPE --store DIR [options]",
    .about = "Makes a model of random weights at real dimensions, to measure speed and memory "
             "where the published weights are not at hand. The same shape, options and seed give "
             "the same model id.",
    .options = options,
    .more = "SHAPE is glm-4.5-air, intellect-3 (the same numbers), glm-4-9b, or the path of a\n"
            "config.json. The tokenizer has one token a byte and the markers of a chat.",
};

/* --- a tokenizer --- */

/* What a chat of either form needs to be one token. */
static const char *const markers[] = { "<|endoftext|>",   "[gMASK]",  "<sop>",
                                       "<|system|>",      "<|user|>", "<|assistant|>",
                                       "<|observation|>", "<think>",  "</think>",
                                       "/nothink" };
enum { BYTES = 256, MARKERS = sizeof markers / sizeof *markers };

/* The character that spells a byte in a byte-level vocabulary: itself where it can be seen, else
 * the next of those from U+0100 on. */
static unsigned spelling(unsigned byte, unsigned *next)
{
    bool seen = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte != 0xad);
    return seen ? byte : (*next)++;
}

/* Every byte and every marker is a token, and nothing is merged. */
static void write_tokenizer(struct text *t)
{
    unsigned next = 256;

    text_str(t, "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null,"
                "\"normalizer\": null, \"added_tokens\": [");
    for (unsigned i = 0; i < MARKERS; i++)
        text_printf(t,
                    "%s{\"id\": %u, \"content\": \"%s\", \"single_word\": false, \"lstrip\": false,"
                    "\"rstrip\": false, \"normalized\": false, \"special\": true}",
                    i ? "," : "", BYTES + i, markers[i]);
    text_str(t, "], \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false,"
                "\"trim_offsets\": false, \"use_regex\": true}, \"post_processor\": null,"
                "\"decoder\": {\"type\": \"ByteLevel\"},"
                "\"model\": {\"type\": \"BPE\", \"merges\": [], \"vocab\": {");
    for (unsigned b = 0; b < BYTES; b++)
        text_printf(t, "%s\"\\u%04x\": %u", b ? "," : "", spelling(b, &next), b);
    text_str(t, "}}}");
}

/* --- making --- */

struct job {
    struct hf_config cfg;
    struct random_options o;
    struct text tokenizer;     /* owned */
    struct store *store;       /* owned */
    struct pool *pool;         /* owned */
    struct identity publisher; /* of this run alone: nobody is asked to trust random weights */
    struct progress progress;
};

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
    progress_set(&((struct job *)arg)->progress, done, total);
}

/* NAME of --name, or SHAPE:TYPE. */
static enum err choose_name(char out[64], const char *shape, struct why *why)
{
    int n = name ? snprintf(out, 64, "%s", name) : snprintf(out, 64, "%s:%s", shape, type);

    if (n > 0 && n < 64 && store_name_ok(out)) return ERR_OK;
    return fail(why, ERR_USAGE, "--name: at most 63 letters, digits and ._-:/ are needed");
}

static enum err settle(struct job *j, const char *shape, struct why *why)
{
    if (!store_dir) return fail(why, ERR_USAGE, "--store is missing; --help lists the options");
    j->o = (struct random_options){ .exchange = FT_BF16,
                                    .kv = FT_F16,
                                    .mlp_parts = 8,
                                    .layers = layers,
                                    .seed = seed,
                                    .skew = (float)skew / 100,
                                    .chat = "none",
                                    .progress = on_progress,
                                    .arg = j };
    if (!wtype_parse(type, &j->o.type)) return fail(why, ERR_USAGE, "unknown type '%s'", type);
    enum err e = shape_read(&j->cfg, shape, why);
    if (e) return e;
    if (j->cfg.arch.vocab >= BYTES + MARKERS) {
        write_tokenizer(&j->tokenizer);
        if (j->tokenizer.failed) return fail(why, ERR_NOMEM, "out of memory");
        j->o.tokenizer = slice_of(j->tokenizer.p, j->tokenizer.n);
        j->o.chat = j->cfg.arch.family == ARCH_GLM4 ? "glm-4" : "glm-4.5";
    }
    return random_settle(&j->cfg, &j->o, why);
}

/* What the tiles take must be free before the first is written. */
static enum err check_room(const struct job *j, struct why *why)
{
    uint64_t need = 0, room = store_room(j->store);

    for (uint32_t l = 0; l < arch_all_layers(&j->cfg.arch); l++)
        need += arch_bytes(&j->cfg.arch, l);
    need += 2 * arch_bytes(&j->cfg.arch, ARCH_ENDS); /* the margin of small values too */
    if (need <= room) return ERR_OK;
    return fail(why, ERR_DISKFULL, "the store needs %llu MiB, the disk has %llu MiB free",
                (unsigned long long)(need >> 20), (unsigned long long)(room >> 20));
}

static void print_result(const struct job *j, const char *called, const struct hash *id,
                         double seconds)
{
    const struct arch *a = &j->cfg.arch;
    uint64_t bytes = arch_bytes(a, ARCH_ENDS), token = arch_token_bytes(a, ARCH_ENDS);
    char holds[SIZE_TEXT], reads[SIZE_TEXT], time[SIZE_TEXT], rate[SIZE_TEXT];

    for (uint32_t l = 0; l < arch_all_layers(a); l++) bytes += arch_bytes(a, l);
    for (uint32_t l = 0; l < a->n_layers; l++) token += arch_token_bytes(a, l);
    size_text(holds, bytes);
    size_text(reads, token);
    time_text(time, seconds);
    size_text(rate, seconds > 0 ? (uint64_t)((double)bytes / seconds) : 0);
    printf("model    ");
    print_model_id(id);
    printf(
        "\nname     %s\nlayers   %u (%u dense)\nholds    %s, %s for a token\ntime     %s (%s/s)\n",
        called, a->n_layers, a->n_dense, holds, reads, time, rate);
}

static enum err make(struct job *j, const char *shape, struct why *why)
{
    char called[64];
    uint8_t *body;
    size_t n;
    struct hash id;

    enum err e = settle(j, shape, why);
    if (!e) e = choose_name(called, shape, why);
    if (!e && proto_init()) e = fail(why, ERR_UNSUPPORTED, "libsodium does not start");
    if (!e) e = store_open(&j->store, store_dir, STORE_WRITE, why);
    if (!e) e = check_room(j, why);
    if (!e && pool_open(&j->pool, threads))
        e = fail(why, ERR_NOMEM, "%u threads cannot be started", threads);
    if (e) return e;
    j->o.workers = pool_workers(j->pool);
    identity_make(&j->publisher);

    progress_start(&j->progress, "making", quiet);
    e = random_model(j->store, &j->cfg, &j->o, &body, &n, &id, why);
    double seconds = progress_end(&j->progress);
    if (e) return e;
    e = publish_model(j->store, slice_of(body, n), &id, called, &j->publisher, replace, why);
    free(body);
    if (!e && !quiet) print_result(j, called, &id, seconds);
    return e;
}

int bench_make(int argc, char **argv)
{
    static struct job j;
    const char *shape;
    struct why why = { "" };

    if (args_parse(&args, argc, argv, &shape, 1) != 1)
        return die(&args, 2,
                   "SHAPE is missing: glm-4.5-air, glm-4-9b or the path of a config.json");
    enum err e = make(&j, shape, &why);

    store_close(j.store);
    if (j.pool) pool_close(j.pool);
    free(j.tokenizer.p);
    identity_fini(&j.publisher);
    if (!e && fflush(stdout) != 0) return die(&args, 1, "standard output cannot be written");
    if (e) return die(&args, e == ERR_USAGE ? 2 : 1, "%s", why.text[0] ? why.text : err_text(e));
    return 0;
}
