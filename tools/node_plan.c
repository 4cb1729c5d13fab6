/* swarm-node plan: what a coordinator would do now, or what PCs that are only described could do.
 */
#include "ask/client.h"
#include "ask/report.h"
#include "base/log.h"
#include "home/keys.h"
#include "home/runtime_dir.h"
#include "store/random.h"
#include "tools/args.h"
#include "tools/node_commands.h"
#include "tools/plan_print.h"
#include "tools/shapes.h"
#include "tools/whatif.h"

#include <stdlib.h>

static const char *swarm_key, *file, *shape = "glm-4.5-air", *type = "q40";
static struct arg_list pcs;
static uint32_t positions = 8192;
static bool wants_json;

static const struct arg options[] = {
    { "pc", ARG_LIST, &pcs, "SPEC", "plan for such PCs instead; may be repeated" },
    { "what-if", ARG_STR, &file, "FILE", "the same from a file, one SPEC a line" },
    { "model", ARG_STR, &shape, "SHAPE",
      "of what-if: glm-4.5-air (default), intellect-3, glm-4-9b or a config.json" },
    { "type", ARG_STR, &type, "TYPE", "of what-if: the weights' type (default: q40)" },
    { "positions", ARG_U32, &positions, "N",
      "of what-if: room for conversations on every PC (default: 8192)" },
    { "json", ARG_FLAG, &wants_json, NULL, "one JSON object instead of words" },
    { "swarm-key", ARG_STR, &swarm_key, "FILE|swk1...", "which swarm (default: the public one)" },
    { 0 },
};
static const struct args args = {
    .program = "swarm-node plan",
    .usage = "[LINK] [options]\n       swarm-node plan --pc SPEC [--pc SPEC ...] [options]",
    .about = "Explains who would compute what for an answer now: speed, what is slow, who is not "
             "used and why, what one more PC would bring. Without a link a node of this machine "
             "is asked.",
    .options = options,
    .more = "SPEC describes PCs: 16G,40GB/s,20ms x4 is four of 16 GiB memory that is read at\n"
            "40 GB/s, 20 ms (round trip) from the first PC, which is the one that asks. Also\n"
            "10Mbit for a slow uplink, and x? for as many as it takes to hold the model.\n"
            "Exit status: 0 there is a plan, 1 there is none, 2 unusable arguments.",
};

/* --- a swarm's --- */

struct asking {
    struct client *client;
    int status;
};

static void on_plan(void *arg, struct slice json)
{
    (void)arg;
    if (wants_json)
        printf("%.*s\n", (int)json.n, (const char *)json.p);
    else
        plan_print(stdout, json, plan_look_of(stdout));
}

static void on_text(void *arg, uint32_t index, struct slice text, bool is_thinking)
{
    (void)arg, (void)index, (void)text, (void)is_thinking;
}

static void on_note(void *arg, struct slice text)
{
    (void)arg, (void)text;
}

static void on_done(void *arg, const struct msg_ASK_DONE *done)
{
    (void)done;
    client_stop(((struct asking *)arg)->client);
}

static void on_fail(void *arg, const char *text)
{
    struct asking *a = arg;
    a->status = die(&args, 1, "%s", text);
    client_stop(a->client);
}

static void on_line(void *arg, const char *line)
{
    (void)arg, (void)line;
}

static void on_interrupt(void *arg)
{
    struct asking *a = arg;
    a->status = 130;
    client_stop(a->client);
}

static enum err find_link(struct link *out, const char *word, struct why *why)
{
    struct local_node node;
    if (word) return link_parse(out, word, why);
    enum err e = runtime_find_asked(&node, NULL, why);
    if (!e) *out = node.link;
    return e;
}

static int ask(const char *word)
{
    struct why why = { "" };
    struct asking a = { 0 };
    struct identity me;
    struct swarm_key swarm;
    struct client_config c = { .me = &me,
                               .swarm = &swarm,
                               .arg = &a,
                               .on_plan = on_plan,
                               .on_text = on_text,
                               .on_note = on_note,
                               .on_done = on_done,
                               .on_fail = on_fail,
                               .on_line = on_line,
                               .on_interrupt = on_interrupt };
    struct msg_ASK q = { .conversation = slice_str("{\"messages\":[]}"), .plan_only = 1 };
    enum err e = find_link(&c.link, word, &why);
    if (!e) e = keys_swarm(&swarm, swarm_key, &why);
    if (e) return die(&args, word && e == ERR_USAGE ? 2 : 1, "%s", why.text);
    identity_make(&me);
    log_set_level(LOG_ERROR);
    e = client_open(&a.client, &c, &why);
    if (!e) {
        client_ask(a.client, &q);
        client_run(a.client);
        client_close(a.client);
    }
    identity_fini(&me);
    return e ? die(&args, 1, "%s", why.text) : a.status;
}

/* --- what if --- */

static const char *pc_name(void *arg, const struct node_id *id)
{
    const struct whatif *w = arg;
    static char name[24];
    for (uint32_t i = 0; i < w->n; i++) {
        if (!node_id_equal(&w->pc[i].id, id)) continue;
        snprintf(name, sizeof name, "PC %u", i + 1);
        return name;
    }
    return "?";
}

static void print_pcs(const struct whatif *w)
{
    double layers = 0, all = 0, read = (double)arch_token_bytes(&w->arch, ARCH_ENDS);
    for (uint32_t l = 0; l < w->arch.n_layers; l++) {
        layers += (double)arch_bytes(&w->arch, l);
        read += (double)arch_token_bytes(&w->arch, l);
    }
    all = layers + (double)arch_bytes(&w->arch, ARCH_ENDS);
    printf("%s:%s: %u layers, %.1f GB in all, %.2f GB a layer; a token reads %.2f GB.\n", shape,
           type, w->arch.n_layers, all / 1e9, layers / 1e9 / w->arch.n_layers, read / 1e9);
    for (uint32_t i = 0, k; i < w->n; i = k) {
        const struct whatif_pc *a = &w->pc[i];
        for (k = i + 1; k < w->n && w->pc[k].ram == a->ram && w->pc[k].gbs == a->gbs &&
                        w->pc[k].rtt_ms == a->rtt_ms && w->pc[k].fits == a->fits;)
            k++;
        printf("  PC %u", i + 1);
        if (k > i + 1) printf(" to %u", k);
        printf(": %.0f GiB, %.0f GB/s, %.1f ms: room for %u layers%s\n", (double)a->ram / (1 << 30),
               a->gbs, i == 0 ? 0 : a->rtt_ms, a->fits, i == 0 ? " beside the ends" : "");
    }
}

static int what_if(void)
{
    static struct whatif w;
    static struct hf_config cfg;
    struct random_options o = { .exchange = FT_BF16, .kv = FT_F16, .mlp_parts = 8, .chat = "none" };
    struct why why = { "" };
    enum err e = ERR_OK;
    if (!wtype_parse(type, &o.type)) return die(&args, 2, "--type %s: no such type", type);
    e = shape_read(&cfg, shape, &why);
    if (!e) e = random_settle(&cfg, &o, &why);
    w.arch = cfg.arch;
    w.positions = positions;
    if (!e && file) e = whatif_add_file(&w, file, &why);
    for (unsigned i = 0; i < pcs.n && !e; i++) e = whatif_add(&w, pcs.v[i], &why);
    if (!e) e = whatif_plan(&w, &why);
    if (e && e != ERR_NOTFOUND) return die(&args, e == ERR_USAGE ? 2 : 1, "%s", why.text);

    struct text json = { 0 };
    struct plan_look look = plan_look_of(stdout);
    look.name = pc_name;
    look.arg = &w;
    report_explanation(&json, shape, &w.plan, 0);
    if (wants_json && !json.failed)
        puts(json.p);
    else if (!json.failed) {
        print_pcs(&w);
        plan_print(stdout, slice_of(json.p, json.n), look);
    }
    free(json.p);
    return e ? 1 : 0;
}

int node_plan_main(int argc, char **argv)
{
    const char *word = NULL;
    int n = args_parse(&args, argc, argv, &word, 1);
    bool is_what_if = pcs.n > 0 || file;
    if (n > 0 && is_what_if) return die(&args, 2, "%s: a link has no place beside --pc", word);
    int status = is_what_if ? what_if() : ask(word);
    if (fflush(stdout) != 0) return die(&args, 1, "standard output cannot be written");
    return status;
}
