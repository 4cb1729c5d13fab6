/* swarm-gateway - a swarm behind the interface that OpenAI's clients speak. */
#include "base/log.h"
#include "gateway/gateway.h"
#include "gateway/traces.h"
#include "home/keys.h"
#include "home/runtime_dir.h"
#include "node/beside.h"
#include "store/file.h"
#include "tools/args.h"

#include <stdlib.h>
#include <string.h>

static const char *listen_at = "127.0.0.1:8080", *keys_file, *cors, *model, *swarm_key, *identity,
                  *log_form;
static double per_minute, per_hour, tokens_per_minute;
static uint32_t patience = 30;
static bool is_demo, is_open, no_page, no_usage;
static struct arg_list trusted;
static const char *usage_dir, *traces;

static const struct arg options[] = {
    { "listen", ARG_STR, &listen_at, "HOST:PORT", "serve there (default: 127.0.0.1:8080)" },
    { "keys", ARG_STR, &keys_file, "FILE", "lines of NAME KEY (0600): only those may ask" },
    { "open", ARG_FLAG, &is_open, NULL, "let everybody ask who reaches an outer address" },
    { "per-minute", ARG_DOUBLE, &per_minute, "N",
      "requests of one key, or address; 0: any number" },
    { "per-hour", ARG_DOUBLE, &per_hour, "N", "likewise in an hour" },
    { "tokens-per-minute", ARG_DOUBLE, &tokens_per_minute, "N",
      "likewise, of prompts and answers" },
    { "demo", ARG_FLAG, &is_demo, NULL, "for the public: --open --per-hour 10, and usage" },
    { "trusted-proxy", ARG_LIST, &trusted, "ADDRESS[/BITS]",
      "believe its X-Forwarded-For; may be repeated" },
    { "usage", ARG_STR, &usage_dir, "DIR",
      "count by day there (default: nowhere; with --demo ~/.local/state/swarm-gateway)" },
    { "no-usage", ARG_FLAG, &no_usage, NULL, "do not, with --demo either" },
    { "cors", ARG_STR, &cors, "ORIGIN", "pages from there may ask (default: none)" },
    { "no-page", ARG_FLAG, &no_page, NULL, "only the interface, not the web page" },
    { "model", ARG_STR, &model, "NAME", "which of this machine's nodes (default: the newest)" },
    { "patience", ARG_U32, &patience, "S",
      "seconds to wait for a coordinator that goes away (default: 30)" },
    { "traces", ARG_STR, &traces, "DIR", "keep when what was computed of the last 100 answers" },
    { "log", ARG_STR, &log_form, "FORM", "text, or json: one object a line" },
    { "swarm-key", ARG_STR, &swarm_key, "FILE|swk1...", "which swarm (default: the public one)" },
    { "identity", ARG_STR, &identity, "FILE", "ask as this node (default: a fresh identity)" },
    { 0 },
};

static const struct args args = {
    .program = "swarm-gateway",
    .usage = "[LINK] [options]",
    .about = "Serves /v1/chat/completions, /v1/completions, /v1/responses, /v1/models, /health, "
             "/metrics and a web "
             "page for a swarm. Without a link it asks a node that runs on this machine.",
    .options = options,
    .more = "Prints its address when it listens.  An outer address needs --keys, or --open.\n"
            "TLS is a reverse proxy's; several gateways may stand behind one.\n"
            "Exit status: 0 stopped, 1 failed, 2 unusable arguments.",
};

static bool is_inner(const char *host)
{
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0 ||
           strcmp(host, "localhost") == 0;
}

static enum err read_proxies(struct proxy_net out[PROXIES_MAX], struct gateway_config *c,
                             struct why *why)
{
    enum err e = ERR_OK;
    if (trusted.n > PROXIES_MAX)
        return fail(why, ERR_RANGE, "--trusted-proxy: at most %d", PROXIES_MAX);
    for (unsigned i = 0; i < trusted.n && !e; i++) e = proxy_parse(&out[i], trusted.v[i], why);
    c->proxy = out;
    c->n_proxies = trusted.n;
    return e;
}

/* Where usage of the demonstration goes when nobody says. */
static enum err find_usage_dir(char out[FILE_PATH_MAX], struct why *why)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    if (state && state[0] == '/') return file_path(out, state, "swarm-gateway", why);
    if (home && home[0] == '/') return file_path(out, home, ".local/state/swarm-gateway", why);
    return fail(why, ERR_USAGE, "--usage is missing: a folder for counts by day (or --no-usage)");
}

static int run(struct gateway_config *c)
{
    struct identity me;
    struct swarm_key swarm;
    struct why why = { "" };
    bool created;
    enum err e = keys_swarm(&swarm, swarm_key, &why);
    if (!e && identity) e = keys_identity(&me, identity, false, &created, &why);
    if (e) return die(&args, 1, "%s", why.text);
    if (!identity) identity_make(&me);
    c->me = &me;
    c->swarm = &swarm;
    e = gateway_run(c, &why);
    identity_fini(&me);
    return e ? die(&args, 1, "%s", why.text) : 0;
}

int main(int argc, char **argv)
{
    static struct api_key key[GATEWAY_KEYS_MAX];
    struct gateway_config c = { .key = key, .cors = cors };
    static char usage_path[FILE_PATH_MAX];
    struct proxy_net proxy[PROXIES_MAX];
    const char *pos[1];
    char host[256];
    struct why why = { "" };
    int n = args_parse(&args, argc, argv, pos, 1);
    if (!beside_heed_parent()) return 1;
    if (!swarm_key) swarm_key = getenv(BESIDE_SWARM_KEY);
    if (log_form && strcmp(log_form, "json") == 0)
        log_set_json("swarm-gateway");
    else if (log_form && strcmp(log_form, "text") != 0)
        return die(&args, 2, "--log %s: that is not text or json", log_form);
    if (proto_init()) return die(&args, 1, "libsodium does not start");
    if (n > 0 && link_parse(&c.link, pos[0], &why)) return die(&args, 2, "%s", why.text);
    if (hostport_parse(host, &c.port, listen_at, &why)) return die(&args, 2, "%s", why.text);
    if (is_demo && per_hour == 0) per_hour = 10;
    if (per_minute < 0 || per_hour < 0 || tokens_per_minute < 0)
        return die(&args, 2, "a limit is a number from 0 on");
    if (read_proxies(proxy, &c, &why)) return die(&args, 2, "%s", why.text);
    c.usage_dir = no_usage ? NULL : usage_dir;
    if (is_demo && !c.usage_dir && !no_usage) {
        if (find_usage_dir(usage_path, &why)) return die(&args, 2, "%s", why.text);
        c.usage_dir = usage_path;
    }
    if (traces && traces_check(traces, &why)) return die(&args, 2, "%s", why.text);
    c.traces = traces;
    if (patience > 3600) return die(&args, 2, "--patience %u: at most 3600 s", patience);
    if (keys_file && gateway_read_keys(keys_file, key, &c.n_keys, &why))
        return die(&args, 2, "%s", why.text);
    if (!keys_file && !is_open && !is_demo && !is_inner(host))
        return die(&args, 2,
                   "--listen %s: others could ask from there; give --keys FILE, or --open if "
                   "everybody may",
                   listen_at);
    c.only_local = !keys_file && !is_open && !is_demo && c.n_proxies == 0;
    c.is_public = is_demo || c.n_proxies > 0 || !is_inner(host);
    struct local_node here;
    if (n == 0 && runtime_find_asked(&here, model, &why)) return die(&args, 1, "%s", why.text);
    if (n == 0) c.link = here.link;
    c.host = strcmp(host, "localhost") == 0 ? "127.0.0.1" : host;
    c.per_minute = per_minute;
    c.per_hour = per_hour;
    c.tokens_per_minute = tokens_per_minute;
    c.cors = cors;
    c.no_page = no_page;
    c.patience_ms = 1000 * patience;
    int status = run(&c);
    explicit_bzero(key, sizeof key);
    return status;
}
