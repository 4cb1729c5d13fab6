/* swarm-node status, hold, pause, resume and drain: the node of this user that runs on this
 * machine. */
#include "home/keys.h"
#include "node/watch.h"
#include "tools/node_commands.h"
#include "tools/node_settings.h"
#include "tools/status_view.h"
#include "tools/terminal.h"

#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const char *config_file_option, *swarm_key;
static bool wants_json, is_once;

static const struct arg status_options[] = {
    { "once", ARG_FLAG, &is_once, NULL, "print it once; so it is where the output is no terminal" },
    { "json", ARG_FLAG, &wants_json, NULL, "one JSON object (docs/status.md)" },
    { "swarm-key", ARG_STR, &swarm_key, "FILE|swk1...", "the node's (default: as it would use)" },
    { "config", ARG_STR, &config_file_option, "FILE", "the node's config file, for its swarm key" },
    { 0 },
};
static const struct args status_args = {
    .program = "swarm-node status",
    .usage = "[NODE] [options]",
    .about = "Shows the node of yours that runs on this machine, anew every second until Ctrl-C: "
             "its work, what it gave and took, who holds the layers, its peers.",
    .options = status_options,
    .more = "NODE is a process number or the start of an id; without it the newest node.\n"
            "Exit status: 0 shown, 1 no such node or it does not answer, 2 unusable options.",
};
static const struct args drain_args = {
    .program = "swarm-node drain",
    .usage = "[NODE] [options]",
    .about = "Tells the node of yours that runs on this machine to take no new work, hand over "
             "what is under way, and stop; waits until it has.",
    .options = status_options + 2,
    .more = "NODE is a process number or the start of an id; without it there must be just one.\n"
            "Exit status: 0 it has stopped, 1 no such node or it does not answer.",
};

static const struct args pause_args = {
    .program = "swarm-node pause",
    .usage = "[NODE] [options]",
    .about = "Tells the node of yours that runs on this machine to hand over what it does for "
             "others, and to take nothing new on until `swarm-node resume` or its next start. "
             "What you ask it yourself it still answers.",
    .options = status_options + 2,
    .more = "NODE is a process number or the start of an id; without it there must be just one.\n"
            "Exit status: 0 it pauses, 1 no such node or it does not answer.",
};
static const struct args resume_args = {
    .program = "swarm-node resume",
    .usage = "[NODE] [options]",
    .about = "Takes `swarm-node pause` back. A node that has another reason to pause, such as "
             "running on battery, says which, and goes on when it has ended.",
    .options = status_options + 2,
    .more = "NODE is a process number or the start of an id; without it there must be just one.\n"
            "Exit status: 0 it was told, 1 no such node or it does not answer.",
};

static struct arg_range hold_layers;
static bool hold_ends;
static const struct arg hold_options[] = {
    { "layers", ARG_RANGE, &hold_layers, "A-B", "the layers, from 0, both included" },
    { "ends", ARG_FLAG, &hold_ends, NULL, "embedding and head too, so that it can be asked" },
    { "swarm-key", ARG_STR, &swarm_key, "FILE|swk1...", "the node's (default: as it would use)" },
    { "config", ARG_STR, &config_file_option, "FILE", "the node's config file, for its swarm key" },
    { 0 },
};
static const struct args hold_args = {
    .program = "swarm-node hold",
    .usage = "[NODE] --layers A-B [--ends] [options]",
    .about = "Tells the node of yours that runs on this machine to hold and serve other layers: "
             "it fetches what it lacks while it goes on, then waits until no answer runs through "
             "it, and changes over. swarm-node status shows how far it is.",
    .options = hold_options,
    .more = "NODE is a process number or the start of an id; without it there must be just one.\n"
            "Exit status: 0 it has begun, 1 it cannot, or there is no such node.",
};

/* --- which node --- */

enum { NODES_MAX = 64 };

static bool is_named(const struct local_node *n, const char *word)
{
    char id[NODE_ID_TEXT], pid[32];
    node_id_text(id, &n->link.id);
    snprintf(pid, sizeof pid, "%ld", (long)n->pid);
    return strcmp(word, pid) == 0 || (strlen(word) > 4 && strncmp(word, id, strlen(word)) == 0);
}

static enum err pick(struct local_node *out, const char *word, bool must_be_one, struct why *why)
{
    struct local_node node[NODES_MAX];
    unsigned n = 0, matching = 0;
    enum err e = runtime_find(node, NODES_MAX, &n, why);

    if (e) return e;
    for (unsigned i = 0; i < n; i++)
        if (!word || is_named(&node[i], word))
            if (matching++ == 0) *out = node[i];
    explicit_bzero(node, sizeof node);
    if (matching == 0 && word)
        return fail(why, ERR_NOTFOUND, "no node %s of yours runs on this machine", word);
    if (matching == 0)
        return fail(why, ERR_NOTFOUND,
                    "no node of yours runs on this machine (as another user? then sudo -u USER)");
    if (matching > 1 && must_be_one)
        return fail(why, ERR_USAGE, "%u nodes run here; say which one: its process number or id",
                    matching);
    return ERR_OK;
}

static void ignore(void *arg, const char *sentence)
{
    (void)arg;
    (void)sentence;
}

/* What the node would use: --swarm-key, its variable, the config file.  Other settings may be
 * wrong: the node has its own. */
static enum err find_key(struct swarm_key *out, struct why *why)
{
    struct node_settings *s = node_settings_open();
    (void)node_settings_read(s, config_file_option, ignore, NULL);
    enum err e = keys_swarm(out, swarm_key ? swarm_key : s->config.swarm_key, why);
    node_settings_close(s);
    return e;
}

/* --- the picture --- */

struct picture {
    const struct args *args;
    bool is_live;    /* on the alternate screen */
    bool has_screen; /* it is switched on */
};

static struct view size_of_terminal(void)
{
    struct winsize w;
    struct view v = { .width = 100, .utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0 };
    if (isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0) {
        v.width = w.ws_col;
        v.height = w.ws_row;
    }
    return v;
}

/* From the top, each line to its end, then the rest of the screen empty. */
static void draw(struct picture *p, const struct text *view)
{
    fputs(p->has_screen ? "\033[H" : "\033[?1049h\033[?25l\033[H", stdout);
    p->has_screen = true;
    for (const char *c = view->p, *end; c && *c; c = end + 1) {
        end = strchr(c, '\n');
        if (!end) break;
        fprintf(stdout, "%s%.*s\033[K", c == view->p ? "" : "\r\n", (int)(end - c), c);
    }
    fputs("\033[J", stdout);
}

static void leave_screen(const struct picture *p)
{
    if (p->has_screen) fputs("\033[?25h\033[?1049l", stdout);
    fflush(stdout);
}

static bool show_status(void *arg, struct slice json)
{
    struct picture *p = arg;
    struct text view = { 0 };

    if (wants_json) {
        terminal_print(stdout, json);
        puts("");
        return false;
    }
    struct view v = size_of_terminal();
    if (!p->is_live) v.height = 0;
    if (status_view(&view, json, &v) || view.failed)
        text_str(&view, "the node's status cannot be read\n");
    if (view.failed || !view.p) return false;
    if (p->is_live)
        draw(p, &view);
    else
        fputs(view.p, stdout);
    free(view.p);
    fflush(stdout);
    return p->is_live;
}

static bool is_dumb(void)
{
    const char *term = getenv("TERM");
    return !term || strcmp(term, "dumb") == 0;
}

/* --- the commands --- */

static enum err control(struct watch_config *c, const char *word, struct why *why)
{
    struct identity me;
    struct swarm_key key;
    enum err e = pick(&c->node, word, c->drain || c->hold || c->pause || c->resume, why);

    if (!e) e = find_key(&key, why);
    if (e) return e;
    identity_make(&me);
    c->me = &me;
    c->swarm = &key;
    e = watch_run(c, why);
    identity_fini(&me);
    explicit_bzero(&key, sizeof key);
    explicit_bzero(&c->node, sizeof c->node);
    return e;
}

int node_status_main(int argc, char **argv)
{
    const char *word = NULL;
    struct why why = { "" };
    struct picture p = { .args = &status_args };

    setlocale(LC_CTYPE, "");
    (void)args_parse(&status_args, argc, argv, &word, 1);
    p.is_live = !is_once && !wants_json && isatty(STDOUT_FILENO) && !is_dumb();
    struct watch_config c = { .interval_ms = 1000, .arg = &p, .on_status = show_status };
    enum err e = control(&c, word, &why);
    leave_screen(&p);
    if (e == ERR_CANCELLED) return 0; /* Ctrl-C is how one leaves */
    return e ? die(&status_args, 1, "%s", why.text) : 0;
}

static bool say_draining(void *arg, struct slice json)
{
    (void)arg;
    (void)json;
    fputs("the node takes no new work and hands over what is under way\n", stderr);
    return true;
}

int node_drain_main(int argc, char **argv)
{
    const char *word = NULL;
    struct why why = { "" };
    struct watch_config c = { .drain = true, .on_status = say_draining };

    (void)args_parse(&drain_args, argc, argv, &word, 1);
    enum err e = control(&c, word, &why);
    if (!e) fputs("the node has stopped\n", stderr);
    return e ? die(&drain_args, 1, "%s", why.text) : 0;
}

static bool say_holding(void *arg, struct slice json)
{
    (void)arg;
    (void)json;
    return false;
}

int node_hold_main(int argc, char **argv)
{
    const char *word = NULL;
    struct why why = { "" };

    (void)args_parse(&hold_args, argc, argv, &word, 1);
    if (!hold_layers.set && !hold_ends)
        return die(&hold_args, 2, "--layers A-B is missing: what it is to hold");
    if (hold_layers.hi >= LAYER_MAX)
        return die(&hold_args, 2, "--layers: no model has more than %d layers", LAYER_MAX);
    struct holding h = { .lo = hold_layers.lo,
                         .hi = hold_layers.set ? hold_layers.hi + 1 : 0,
                         .ends = hold_ends };
    struct watch_config c = { .hold = &h, .on_status = say_holding };
    enum err e = control(&c, word, &why);
    return e ? die(&hold_args, 1, "%s", why.text) : 0;
}

/* What the node says of its pause, or that it has none. */
static bool say_pause(void *arg, struct slice json)
{
    struct json_doc *doc;
    (void)arg;
    if (json_parse(&doc, json, "the status", NULL)) return false;
    const struct json *p = json_get(json_root(doc), "pause");
    bool is_paused = p && p->type == JSON_STRING && p->text.n > 0;
    terminal_print(stderr, is_paused ? p->text : slice_str("working for others"));
    fputs("\n", stderr);
    json_free(doc);
    return false;
}

static int say_pause_or_resume(const struct args *args, struct watch_config *c, int argc,
                               char **argv)
{
    const char *word = NULL;
    struct why why = { "" };

    (void)args_parse(args, argc, argv, &word, 1);
    c->on_status = say_pause;
    return control(c, word, &why) ? die(args, 1, "%s", why.text) : 0;
}

int node_pause_main(int argc, char **argv)
{
    struct watch_config c = { .pause = true };
    return say_pause_or_resume(&pause_args, &c, argc, argv);
}

int node_resume_main(int argc, char **argv)
{
    struct watch_config c = { .resume = true };
    return say_pause_or_resume(&resume_args, &c, argc, argv);
}
