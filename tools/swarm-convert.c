/* swarm-convert - a published checkpoint into the tiles of a store, and a signed name for it. */
#include "home/config_dir.h"
#include "home/keys.h"
#include "model/chat.h"
#include "stage/pool.h"
#include "store/convert.h"
#include "store/file.h"
#include "tools/args.h"
#include "tools/progress.h"
#include "tools/publish.h"

#include <stdio.h>
#include <stdlib.h>

/* --- the command line --- */

static const char *store_dir, *name, *type, *exchange = "bf16", *kv = "f16", *chat, *publisher;
static struct arg_list type_of;
static struct arg_range layers;
static uint32_t threads, mlp_parts = 8;
static bool no_ends, replace, quiet;

static const struct arg options[] = {
    { "store", ARG_STR, &store_dir, "DIR", "the store to write; made if it is not there" },
    { "name", ARG_STR, &name, "NAME:TYPE", "what to call the model, as in glm-4.5-air:q40" },
    { "type", ARG_STR, &type, "TYPE",
      "of the weights: q40, q80, f16, bf16 or f32 (norms, router and biases are always f32)" },
    { "type-of", ARG_LIST, &type_of, "ROLE=TYPE",
      "another type for attn, dense, shared, experts, embed or head; may be repeated" },
    { "exchange", ARG_STR, &exchange, "TYPE",
      "of vectors between nodes: bf16 (default), or f32 for comparisons" },
    { "kv", ARG_STR, &kv, "TYPE", "of keys and values: f16 (default), or f32 for comparisons" },
    { "layers", ARG_RANGE, &layers, "A-B",
      "keep only the tiles of these layers (from 0, both included) and of the ends; the model's id "
      "is that of the whole" },
    { "no-ends", ARG_FLAG, &no_ends, NULL,
      "do not keep embedding, output head and tokenizer: this store's node cannot coordinate" },
    { "chat", ARG_STR, &chat, "FORM",
      "glm-4.5, glm-4, intellect-3 or none, instead of what the chat template's text says" },
    { "mlp-parts", ARG_U32, &mlp_parts, "N", "ranges a dense MLP is cut into (default 8)" },
    { "publisher", ARG_STR, &publisher, "FILE",
      "key that signs the name (default: swarm/publisher.key in your configuration folder); made "
      "if it is not there" },
    { "replace", ARG_FLAG, &replace, NULL, "let the name move from another model to this one" },
    { "threads", ARG_U32, &threads, "N", "threads that pack tiles (default: one a core)" },
    { "quiet", ARG_FLAG, &quiet, NULL, "print nothing but errors" },
    { 0 },
};
static const struct args args = {
    .program = "swarm-convert",
    .usage = "SRC --store DIR --name NAME:TYPE --type TYPE [options]",
    .about = "Turns a Hugging Face folder (Glm4ForCausalLM, Glm4MoeForCausalLM; bf16, f16 or f32 "
             "safetensors) into a model of a swarm. It may be interrupted: the same command goes "
             "on where it was. The same source and options give the same model id.",
    .options = options,
    .more = "Example:\n"
            "  swarm-convert GLM-4.5-Air --store air --name glm-4.5-air:q40 --type q40\n"
            "  swarm-convert GLM-4.5-Air --store air --name glm-4.5-air:mix --type q80 "
            "--type-of experts=q40",
};

static enum err parse_types(struct convert_options *o, struct why *why)
{
    if (!wtype_parse(type, &o->type))
        return fail(why, ERR_USAGE, "--type %s: that is not q40, q80, f16, bf16 or f32", type);
    for (unsigned i = 0; i < type_of.n; i++) {
        const char *text = type_of.v[i], *eq = strchr(text, '=');
        int role = 0;
        while (eq && role < WR_COUNT &&
               !slice_is(slice_of(text, (size_t)(eq - text)), wrole_name((enum wrole)role)))
            role++;
        if (!eq || role == WR_COUNT || !wtype_parse(eq + 1, &o->type_of[role]))
            return fail(why, ERR_USAGE, "--type-of %s: ROLE=TYPE is needed, as in experts=q40",
                        text);
        o->has_type[role] = true;
    }
    return ERR_OK;
}

static enum err parse_options(struct convert_options *o, struct why *why)
{
    if (!store_dir || !name || !type)
        return fail(why, ERR_USAGE, "--%s is missing; --help lists the options",
                    !store_dir ? "store"
                    : !name    ? "name"
                               : "type");
    if (!store_name_ok(name))
        return fail(why, ERR_USAGE, "--name %s: at most 63 letters, digits and ._-:/", name);
    if (strcmp(exchange, "bf16") != 0 && strcmp(exchange, "f32") != 0)
        return fail(why, ERR_USAGE, "--exchange %s: bf16 or f32 is needed", exchange);
    if (strcmp(kv, "f16") != 0 && strcmp(kv, "f32") != 0)
        return fail(why, ERR_USAGE, "--kv %s: f16 or f32 is needed", kv);
    if (layers.set && layers.hi >= ARCH_LAYERS_MAX)
        return fail(why, ERR_USAGE, "--layers: no model has a layer %u", layers.hi);
    o->exchange = exchange[0] == 'b' ? FT_BF16 : FT_F32;
    o->kv = kv[1] == '1' ? FT_F16 : FT_F32;
    o->mlp_parts = mlp_parts;
    o->lo = layers.lo;
    o->hi = layers.set ? layers.hi + 1 : 0;
    o->no_ends = no_ends;
    return parse_types(o, why);
}

/* --- the folder's small files --- */

/* Everything that lives while a conversion does. */
struct job {
    const char *src;
    struct convert_options options;
    struct hf_config cfg;
    uint8_t *tokenizer_json;     /* owned */
    struct tokenizer *tokenizer; /* owned while the folder is read */
    struct identity publisher;
    struct store *store;     /* owned */
    struct pool *pool;       /* owned */
    struct convert *convert; /* owned */
    struct progress progress;
};

static enum err load_tokenizer(struct job *j, struct why *why)
{
    enum { TOKENIZER_MAX = MANIFEST_TOKENIZER_TILES_MAX * TILE_BYTES };
    char path[FILE_PATH_MAX];
    size_t n;

    enum err e = file_path(path, j->src, "tokenizer.json", why);
    if (!e) e = file_read(path, TOKENIZER_MAX, &j->tokenizer_json, &n, why);
    if (e == ERR_NOTFOUND) return ERR_OK; /* such a model only computes logits */
    if (!e) e = tokenizer_open(&j->tokenizer, slice_of(j->tokenizer_json, n), why);
    if (e) return e;
    j->options.tokenizer = slice_of(j->tokenizer_json, n);
    if (tokenizer_size(j->tokenizer) > j->cfg.arch.vocab)
        return fail(why, ERR_MALFORMED, "%s has %u ids, the model has %u", path,
                    tokenizer_size(j->tokenizer), j->cfg.arch.vocab);
    return ERR_OK;
}

static enum err detect_chat(struct job *j, enum chat_form *form, struct why *why)
{
    uint8_t *text;
    size_t n;
    struct why inner = { "" };

    enum err e = hf_chat_template(j->src, &text, &n, why);
    if (e == ERR_NOTFOUND) return ERR_OK;
    if (e) return e;
    e = chat_form_detect(slice_of(text, n), form, &inner);
    free(text);
    return e ? fail(why, e, "%s: %s; --chat FORM says which it is", j->src, inner.text) : ERR_OK;
}

static enum err choose_chat(struct job *j, enum chat_form *form, struct why *why)
{
    enum err e = ERR_OK;

    *form = CHAT_NONE;
    if (chat && !chat_form_parse(chat, form))
        return fail(why, ERR_USAGE, "--chat %s: glm-4.5, glm-4, intellect-3 or none is needed",
                    chat);
    if (*form != CHAT_NONE && !j->tokenizer)
        return fail(why, ERR_USAGE, "--chat %s: %s has no tokenizer.json", chat, j->src);
    if (!chat && j->tokenizer) e = detect_chat(j, form, why);
    j->options.chat = chat_form_name(*form);
    return e;
}

/* End tokens that the tokenizer knows by name.  ChatML models keep GLM's configuration, which does
 * not list theirs. */
static enum err add_named_eos(struct job *j, enum chat_form form, struct why *why)
{
    const char *names[] = { j->cfg.eos_name, "<|im_end|>", "<|endoftext|>" };
    int n = form == CHAT_INTELLECT3 ? 3 : 1;

    for (int i = 0; i < n && j->tokenizer; i++) {
        int32_t id = names[i][0] ? tokenizer_find(j->tokenizer, names[i]) : -1;
        enum err e =
            id < 0 ? ERR_OK : hf_config_add_eos(&j->cfg, (uint64_t)id, "tokenizer.json", why);
        if (e) return e;
    }
    return ERR_OK;
}

static enum err read_folder(struct job *j, struct why *why)
{
    enum chat_form form;
    enum err e = hf_config_read(&j->cfg, j->src, why);

    if (!e) e = load_tokenizer(j, why);
    if (!e) e = choose_chat(j, &form, why);
    if (!e) e = add_named_eos(j, form, why);
    /* Only its text is needed from here on, and it can be large. */
    if (j->tokenizer) tokenizer_close(j->tokenizer);
    j->tokenizer = NULL;
    return e;
}

/* --- the publisher's key --- */

static enum err load_publisher(struct job *j, struct why *why)
{
    char path[FILE_PATH_MAX];
    bool created = false;
    enum err e = publisher ? ERR_OK : config_file(path, "publisher.key", true, why);
    const char *file = publisher ? publisher : path;

    if (!e) e = keys_identity(&j->publisher, file, true, &created, why);
    if (!e && created && !quiet) fprintf(stderr, "made a publisher key: %s\n", file);
    return e;
}

/* --- converting --- */

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
    progress_set(&((struct job *)arg)->progress, done, total);
}

static void print_plan(const struct job *j)
{
    const struct convert_sizes *z = convert_sizes(j->convert);
    const struct arch *a = convert_arch(j->convert);
    char source[SIZE_TEXT], kept[SIZE_TEXT], more[SIZE_TEXT], room[SIZE_TEXT];

    size_text(source, z->bytes_source);
    size_text(kept, z->bytes_kept);
    size_text(more, z->bytes_write);
    size_text(room, z->bytes_room);
    fprintf(stderr, "%s: %u layers%s, %u tensors of %s; chat form %s%s\n", j->src, a->n_layers,
            a->n_predict ? " and a prediction layer" : "", z->tensors, source, j->options.chat,
            j->options.tokenizer.n ? "" : ", no tokenizer");
    fprintf(stderr, "%s: %s to keep, %s still to write, %s free\n", store_dir, kept, more, room);
    if (z->bytes_earlier) {
        size_text(source, z->bytes_earlier);
        fprintf(stderr, "going on where an earlier run stopped, %s of the source done\n", source);
    }
}

static void print_result(const struct job *j, const struct hash *id, double seconds)
{
    const struct convert_sizes *z = convert_sizes(j->convert);
    char in[SIZE_TEXT], out[SIZE_TEXT], rate[SIZE_TEXT], time[SIZE_TEXT];
    char who[NODE_ID_TEXT];

    size_text(in, z->bytes_read);
    size_text(out, z->bytes_kept);
    size_text(rate, seconds > 0 ? (uint64_t)((double)z->bytes_read / seconds) : 0);
    time_text(time, seconds);
    node_id_text(who, &j->publisher.id);
    printf("model      ");
    print_model_id(id);
    printf("\nname       %s\npublisher  %s\ntensors    %u\n", name, who, z->tensors);
    printf("read       %s\nholds      %s\ntime       %s (%s/s)\n", in, out, time, rate);
}

static enum err convert(struct job *j, struct why *why)
{
    uint8_t *body;
    size_t n;
    struct hash id;

    enum err e = convert_open(&j->convert, j->store, j->src, &j->cfg, &j->options, why);
    if (e) return e;
    if (!quiet) print_plan(j);
    if ((e = convert_check_room(j->convert, why))) return e;

    progress_start(&j->progress, "converting", quiet);
    e = convert_run(j->convert, why);
    double seconds = progress_end(&j->progress);
    if (!e) e = convert_finish(j->convert, &body, &n, &id, why);
    if (e) return e;
    e = publish_model(j->store, slice_of(body, n), &id, name, &j->publisher, replace, why);
    free(body);
    if (!e && !quiet) print_result(j, &id, seconds);
    return e;
}

static enum err run(struct job *j, struct why *why)
{
    enum err e = parse_options(&j->options, why);
    if (e) return e;
    if ((e = proto_init())) return fail(why, e, "libsodium does not start");

    e = read_folder(j, why);
    if (!e) e = load_publisher(j, why);
    if (!e) e = store_open(&j->store, store_dir, STORE_WRITE, why);
    /* One more than pack: it waits for the disk most of the time. */
    unsigned n = (threads ? threads : pool_cores()) + 1;
    if (!e && pool_open(&j->pool, n)) e = fail(why, ERR_NOMEM, "%u threads cannot be started", n);
    if (e) return e;
    j->options.workers = pool_workers(j->pool);
    j->options.progress = on_progress;
    j->options.arg = j;
    return convert(j, why);
}

int main(int argc, char **argv)
{
    static struct job j;
    struct why why = { "" };

    if (args_parse(&args, argc, argv, &j.src, 1) != 1)
        return die(&args, 2, "SRC is missing: the folder with config.json and the safetensors");
    enum err e = run(&j, &why);

    convert_close(j.convert);
    store_close(j.store);
    if (j.pool) pool_close(j.pool);
    free(j.tokenizer_json);
    identity_fini(&j.publisher);
    if (!e && fflush(stdout) != 0) return die(&args, 1, "standard output cannot be written");
    if (e) return die(&args, e == ERR_USAGE ? 2 : 1, "%s", why.text[0] ? why.text : err_text(e));
    return 0;
}
