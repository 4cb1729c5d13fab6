#include "tools/node_settings.h"

#include "ask/admit.h"
#include "base/log.h"
#include "home/config_dir.h"
#include "home/keys.h"
#include "node/metrics.h"
#include "proto/mp.h"
#include "stage/pool.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct node_settings the;

/* --- what a value must be, besides its type --- */

static enum err check_host(const void *to, struct why *why)
{
    char host[256];
    uint16_t port;
    return hostport_parse(host, &port, *(const char *const *)to, why);
}

static enum err check_metrics(const void *to, struct why *why)
{
    char host[256];
    uint16_t port;
    return metrics_parse(host, &port, *(const char *const *)to, why);
}

static enum err check_links(const void *to, struct why *why)
{
    const struct arg_list *l = to;
    struct link link;
    enum err e = ERR_OK;
    for (unsigned i = 0; i < l->n && !e; i++) e = link_parse(&link, l->v[i], why);
    return e;
}

static enum err check_ids(const void *to, struct why *why)
{
    const struct arg_list *l = to;
    struct node_id id;
    enum err e = ERR_OK;
    for (unsigned i = 0; i < l->n && !e; i++) e = node_id_parse(&id, l->v[i], why);
    return e;
}

static enum err check_hours(const void *to, struct why *why)
{
    const struct arg_list *l = to;
    struct hours h;
    enum err e = ERR_OK;
    for (unsigned i = 0; i < l->n && !e; i++) e = hours_parse(&h, l->v[i], why);
    return e;
}

static enum err check_reasons(const void *to, struct why *why)
{
    const struct arg_list *l = to;
    for (unsigned i = 0; i < l->n; i++)
        if (!pause_reason_of(l->v[i]) && strcmp(l->v[i], "never") != 0)
            return fail(why, ERR_USAGE,
                        "%s: that is not battery, hot, memory, busy, present, load or never",
                        l->v[i]);
    return ERR_OK;
}

static enum err check_layers(const void *to, struct why *why)
{
    const struct arg_range *r = to;
    return r->hi < LAYER_MAX ? ERR_OK
                             : fail(why, ERR_RANGE, "no model has more than %d layers", LAYER_MAX);
}

static enum err check_items(const void *to, struct why *why)
{
    struct parts parts = { 0 };
    return parts_parse(&parts, 0, 1, SHARD_EXPERT, *(const char *const *)to, why);
}

static enum err check_swarm_key(const void *to, struct why *why)
{
    struct swarm_key key;
    enum err e = keys_swarm(&key, *(const char *const *)to, why);
    explicit_bzero(&key, sizeof key);
    return e;
}

static enum err check_name(const void *to, struct why *why)
{
    enum { NAME_BYTES = 32 }; /* of a record */
    struct slice name = slice_str(*(const char *const *)to);
    if (name.n > NAME_BYTES) return fail(why, ERR_RANGE, "at most %d bytes", NAME_BYTES);
    return utf8_is_valid(name) ? ERR_OK : fail(why, ERR_MALFORMED, "that is not text in UTF-8");
}

/* The place of text among the levels; -1: none of them. */
static int level(const char *text)
{
    static const char *const names[] = { "error", "warn", "info", "debug" };
    for (int i = 0; i < (int)(sizeof names / sizeof *names); i++)
        if (strcmp(text, names[i]) == 0) return i;
    return -1;
}

static enum err check_level(const void *to, struct why *why)
{
    return level(*(const char *const *)to) >= 0
               ? ERR_OK
               : fail(why, ERR_USAGE, "that is not error, warn, info or debug");
}

static enum err check_log_form(const void *to, struct why *why)
{
    const char *form = *(const char *const *)to;
    return strcmp(form, "text") == 0 || strcmp(form, "json") == 0
               ? ERR_OK
               : fail(why, ERR_USAGE, "that is not text or json");
}

static enum err check_draft(const void *to, struct why *why)
{
    enum draft_mode mode;
    return draft_mode_parse(&mode, *(const char *const *)to)
               ? ERR_OK
               : fail(why, ERR_USAGE, "that is not auto, off, ngram or mtp");
}

static enum err check_share(const void *to, struct why *why)
{
    enum sharing_how how;
    return sharing_how_parse(&how, *(const char *const *)to)
               ? ERR_OK
               : fail(why, ERR_USAGE, "that is not off, auto or on");
}

/* --- the table --- */

/* clang-format off */
static const struct setting table[] = {
    { .name = "config", .type = ARG_STR, .to = &the.file, .value = "FILE", .has_no_key = true,
      .help = "settings: lines of key = value; a key is a flag without dashes",
      .unset = "~/.config/swarm/node.conf" },
    { .name = "store", .type = ARG_STR, .to = &the.config.store_dir, .value = "DIR",
      .help = "where the model is (made by swarm-convert)", .unset = "~/.local/share/swarm" },
    { .name = "listen", .type = ARG_STR, .to = &the.config.listen, .value = "HOST:PORT",
      .help = "where to take connections; port 0: any free one", .preset = "0.0.0.0:7777",
      .check = check_host },
    { .name = "advertise", .type = ARG_STR, .to = &the.config.advertise, .value = "HOST:PORT",
      .help = "where others reach this node, if elsewhere", .check = check_host },
    { .name = "join", .type = ARG_LIST, .to = &the.join, .value = "LINK",
      .help = "a node of the swarm to join; may be repeated", .check = check_links },
    { .name = "bootstrap", .type = ARG_LIST, .to = &the.bootstrap, .value = "LINK",
      .help = "a node to ask when nobody else is found; may be repeated", .check = check_links },
    { .name = "no-lan", .type = ARG_FLAG, .to = &the.config.no_lan,
      .help = "neither look for nodes on this network nor be found there" },
    { .name = "no-portmap", .type = ARG_FLAG, .to = &the.config.no_portmap,
      .help = "do not ask the router to let others in" },
    { .name = "lan-join", .type = ARG_FLAG, .to = &the.config.lan_join,
      .help = "join nodes found there also without a private swarm key" },
    { .name = "model", .type = ARG_STR, .to = &the.config.model, .value = "NAME",
      .help = "which model, if the store has several" },
    { .name = "layers", .type = ARG_RANGE, .to = &the.layers, .value = "A-B",
      .help = "serve these layers, both included, from 0", .unset = "all it has",
      .check = check_layers },
    { .name = "experts", .type = ARG_STR, .to = &the.experts, .value = "LIST",
      .help = "only these experts of --layers, as in 0-63,70: for a LAN group",
      .check = check_items },
    { .name = "heads", .type = ARG_STR, .to = &the.heads, .value = "LIST",
      .help = "only these head groups of --layers", .check = check_items },
    { .name = "dense", .type = ARG_STR, .to = &the.dense, .value = "LIST",
      .help = "only these dense parts of --layers", .check = check_items },
    { .name = "trunk", .type = ARG_FLAG, .to = &the.trunk,
      .help = "the trunk of --layers too: this node leads the group" },
    { .name = "share", .type = ARG_STR, .to = &the.share, .value = "HOW",
      .help = "have PCs nearby that hold the same layers compute parts of them: off, on, "
              "or auto, where it pays",
      .preset = "off", .check = check_share },
    { .name = "share-rtt", .type = ARG_U32, .to = &the.config.share_rtt, .value = "MS",
      .help = "how far away they may be, there and back", .preset = "2", .min = 1, .max = 1000 },
    { .name = "no-ends", .type = ARG_FLAG, .to = &the.config.no_ends,
      .help = "do not hold embedding and head, do not answer questions" },
    { .name = "ends", .type = ARG_FLAG, .to = &the.config.hold.ends,
      .help = "with --layers: fetch embedding and head too, so that it can be asked" },
    { .name = "ram", .type = ARG_SIZE, .to = &the.config.ram, .value = "SIZE",
      .help = "memory to give: the node picks the layers that help most, and may move later",
      .min = 1 << 20 },
    { .name = "disk", .type = ARG_SIZE, .to = &the.config.disk_limit, .value = "SIZE",
      .help = "how large the store may become by fetching", .unset = "the disk, but for 5 %" },
    { .name = "upload", .type = ARG_SIZE, .to = &the.config.upload, .value = "SIZE",
      .help = "bytes a second that leave this PC", .unset = "what the line takes without a queue" },
    { .name = "download", .type = ARG_SIZE, .to = &the.config.download, .value = "SIZE",
      .help = "bytes a second of weights that it fetches", .unset = "what the line gives" },
    { .name = "trust-publisher", .type = ARG_LIST, .to = &the.trust, .value = "KEY",
      .help = "believe this publisher's names from now on; may be repeated", .check = check_ids },
    { .name = "threads", .type = ARG_U32, .to = &the.config.threads, .value = "T",
      .help = "threads that compute", .unset = "every core", .max = 1024 },
    { .name = "nice", .type = ARG_U32, .to = &the.config.nice, .value = "N",
      .help = "how far they step back for other programs, 0 to 19; 20: wholly", .preset = "10",
      .max = POOL_IDLE },
    { .name = "hours", .type = ARG_LIST, .to = &the.hours, .value = "HH:MM-HH:MM",
      .help = "work for others only then; may be repeated", .unset = "always",
      .check = check_hours },
    { .name = "pause-on", .type = ARG_LIST, .to = &the.pause_on, .value = "WHAT",
      .help = "battery, hot, memory, busy, present, load or never; may be repeated",
      .unset = "battery, hot, memory, busy", .check = check_reasons },
    { .name = "pause-battery", .type = ARG_U32, .to = &the.config.neighbour.battery_percent,
      .value = "PERCENT", .help = "battery: a fuller one is no reason", .preset = "100",
      .max = 100 },
    { .name = "pause-hot", .type = ARG_U32, .to = &the.config.neighbour.hot_c, .value = "CELSIUS",
      .help = "hot: the processor is at so much", .preset = "92", .min = 30, .max = 150 },
    { .name = "pause-memory", .type = ARG_SIZE, .to = &the.config.neighbour.memory_bytes,
      .value = "SIZE", .help = "memory: less than this is available",
      .unset = "a twentieth of all" },
    { .name = "pause-busy", .type = ARG_U32, .to = &the.config.neighbour.busy_percent,
      .value = "PERCENT", .help = "busy, load: others compute more than this of all processors",
      .preset = "50", .max = 100 },
    { .name = "resume-after", .type = ARG_U32, .to = &the.config.neighbour.resume_s, .value = "S",
      .help = "seconds without a reason before it goes on", .preset = "120", .max = 86400 },
    { .name = "ctx", .type = ARG_U32, .to = &the.config.context, .value = "N",
      .help = "longest conversation served", .unset = "the model's", .max = CONTEXT_MAX },
    { .name = "kv-ram", .type = ARG_SIZE, .to = &the.config.kv_bytes, .value = "SIZE",
      .help = "memory for conversations", .unset = "a quarter of all" },
    { .name = "prefix-ram", .type = ARG_SIZE, .to = &the.config.prefix_bytes, .value = "SIZE",
      .help = "of it, for the beginnings of conversations that may go on", .unset = "half of it" },
    { .name = "prefix-disk", .type = ARG_SIZE, .to = &the.config.prefix_disk, .value = "SIZE",
      .help = "the same on disk, so that it outlives a restart", .unset = "none",
      .min = 16 << 20 },
    { .name = "no-prefix", .type = ARG_FLAG, .to = &the.config.no_prefix,
      .help = "forget every conversation when its answer ends" },
    { .name = "draft", .type = ARG_STR, .to = &the.draft, .value = "HOW",
      .help = "guess tokens ahead: auto, off, ngram or mtp", .preset = "auto",
      .check = check_draft },
    { .name = "patience", .type = ARG_U32, .to = &the.config.patience, .value = "S",
      .help = "seconds to wait for others when a node leaves an answer", .preset = "30",
      .min = 1, .max = 3600 },
    { .name = "answers", .type = ARG_U32, .to = &the.config.answers, .value = "N",
      .help = "questions answered at once; more wait", .preset = "64", .min = 1,
      .max = ADMIT_ANSWERS_MAX },
    { .name = "queue", .type = ARG_U32, .to = &the.config.queue, .value = "N",
      .help = "questions that may wait for their turn", .preset = "256", .max = ADMIT_QUEUE_MAX },
    { .name = "per-client", .type = ARG_U32, .to = &the.config.per_client, .value = "N",
      .help = "questions of one client, waiting ones included", .preset = "32", .min = 1,
      .max = 512 },
    { .name = "no-own-first", .type = ARG_FLAG, .to = &the.config.no_own_first,
      .help = "what this machine asks waits like what others ask" },
    { .name = "gateway", .type = ARG_STR, .to = &the.config.gateway, .value = "HOST:PORT",
      .help = "run swarm-gateway there too: OpenAI's interface to this swarm", .unset = "none",
      .check = check_host },
    { .name = "gateway-options", .type = ARG_STR, .to = &the.config.gateway_options,
      .value = "WORDS", .help = "more of its options, as in --demo --cors *" },
    { .name = "drain-limit", .type = ARG_U32, .to = &the.config.drain_limit, .value = "S",
      .help = "seconds to hand over and finish answers when told to stop", .preset = "10",
      .max = 3600 },
    { .name = "allow", .type = ARG_LIST, .to = &the.allow, .value = "ID",
      .help = "who may ask besides this machine; may be repeated", .check = check_ids },
    { .name = "identity", .type = ARG_STR, .to = &the.config.identity, .value = "FILE",
      .help = "who this node is, made at first", .unset = "identity.key in the store" },
    { .name = "swarm-key", .type = ARG_STR, .to = &the.config.swarm_key, .value = "FILE|swk1...",
      .help = "which swarm", .unset = "the public one", .is_secret = true,
      .check = check_swarm_key },
    { .name = "name", .type = ARG_STR, .to = &the.config.name, .value = "NAME",
      .help = "a label that others see", .check = check_name },
    { .name = "metrics", .type = ARG_STR, .to = &the.config.metrics, .value = "[HOST:]PORT",
      .help = "say how it is to Prometheus there", .unset = "it does not", .check = check_metrics },
    { .name = "log", .type = ARG_STR, .to = &the.log_form, .value = "FORM",
      .help = "text, or json: one object a line", .preset = "text", .check = check_log_form },
    { .name = "log-level", .type = ARG_STR, .to = &the.log_level, .value = "LEVEL",
      .help = "error, warn, info or debug", .preset = "info", .check = check_level },
    { 0 },
};
/* clang-format on */

struct node_settings *node_settings_open(void)
{
    if (the.all.n) abort();
    settings_init(&the.all, "SWARM_NODE_", table);
    return &the;
}

void node_settings_close(struct node_settings *s)
{
    settings_fini(&s->all);
}

/* --- reading --- */

/* node.conf of this person, when there is one. */
static const char *find_file(char path[FILE_PATH_MAX])
{
    return !config_file(path, "node.conf", false, NULL) && access(path, F_OK) == 0 ? path : NULL;
}

/* Where models are kept when nobody says: $XDG_DATA_HOME/swarm, else ~/.local/share/swarm. */
static enum err find_store(char out[FILE_PATH_MAX], struct why *why)
{
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");

    if (data && data[0] == '/') return file_path(out, data, "swarm", why);
    if (home && home[0] == '/') return file_path(out, home, ".local/share/swarm", why);
    return fail(why, ERR_USAGE, "--store is missing: the folder of the models");
}

/* When it pauses; with nothing said, for what no owner of a PC should have to say. */
static void fill_neighbour(const struct node_settings *s, struct neighbour_rules *r)
{
    static const enum pause_reason usual[] = { PAUSE_BATTERY, PAUSE_HOT, PAUSE_MEMORY, PAUSE_BUSY };

    for (unsigned i = 0; i < s->pause_on.n; i++) r->on[pause_reason_of(s->pause_on.v[i])] = true;
    for (size_t i = 0; s->pause_on.n == 0 && i < sizeof usual / sizeof *usual; i++)
        r->on[usual[i]] = true;
    for (r->n_hours = 0; r->n_hours < s->hours.n; r->n_hours++)
        if (hours_parse(&r->hours[r->n_hours], s->hours.v[r->n_hours], NULL)) abort(); /* checked */
}

static void fill_config(struct node_settings *s)
{
    struct node_config *c = &s->config;

    c->n_join = s->join.n;
    c->n_bootstrap = s->bootstrap.n;
    c->n_allow = s->allow.n;
    c->n_trust = s->trust.n;
    memcpy(c->join, s->join.v, sizeof s->join.v);
    memcpy(c->bootstrap, s->bootstrap.v, sizeof s->bootstrap.v);
    memcpy(c->allow, s->allow.v, sizeof s->allow.v);
    memcpy(c->trust, s->trust.v, sizeof s->trust.v);
    fill_neighbour(s, &c->neighbour);
    c->sensors = getenv("SWARM_SENSORS"); /* for tests: a PC of files (docs/neighbour.md) */
    c->has_layers = s->layers.set;
    if (!draft_mode_parse(&c->draft, s->draft)) abort(); /* it has been checked */
    if (!sharing_how_parse(&c->share, s->share)) abort(); /* likewise */
    c->may_move = !s->layers.set && c->ram > 0;
}

/* Whole layers, or what --trunk, --heads, --experts and --dense name of them. */
static enum err fill_holding(struct node_settings *s, struct why *why)
{
    const struct {
        enum shard_kind kind;
        const char *items;
    } of[] = { { SHARD_TRUNK, s->trunk ? "0" : NULL },
               { SHARD_HEADS, s->heads },
               { SHARD_EXPERT, s->experts },
               { SHARD_DENSE, s->dense } };
    uint32_t lo = s->layers.lo, hi = s->layers.set ? s->layers.hi + 1 : 0;
    struct holding *h = &s->config.hold;
    enum err e = ERR_OK;
    bool any = false;

    for (unsigned i = 0; i < sizeof of / sizeof *of && !e; i++) {
        any |= of[i].items != NULL;
        if (of[i].items && hi) e = parts_parse(&h->parts, lo, hi, of[i].kind, of[i].items, why);
    }
    if (any && !hi)
        return fail(why, ERR_USAGE,
                    "--trunk, --heads, --experts and --dense say which parts of "
                    "--layers are held: give --layers A-B too");
    h->lo = any ? 0 : lo;
    h->hi = any ? 0 : hi;
    return e;
}

unsigned node_settings_read(struct node_settings *s, const char *file,
                            void (*say)(void *arg, const char *sentence), void *arg)
{
    char path[FILE_PATH_MAX];
    struct why why;

    if (!file) file = s->file ? s->file : getenv("SWARM_NODE_CONFIG");
    if (!file || !*file) file = find_file(path);
    unsigned mistakes = settings_read(&s->all, file, say, arg);
    if (!s->config.store_dir) {
        if (find_store(s->store_path, &why)) {
            say(arg, why.text);
            mistakes++;
        }
        s->config.store_dir = s->store_path;
    }
    if (!mistakes && fill_holding(s, &why)) {
        say(arg, why.text);
        mistakes++;
    }
    if (mistakes) return mistakes;
    fill_config(s);
    log_set_level((enum log_level)level(s->log_level));
    if (strcmp(s->log_form, "json") == 0) log_set_json("swarm-node");
    return 0;
}
