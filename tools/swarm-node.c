/* swarm-node - join a swarm and compute layers of a model for others. */
#include "home/keys.h"
#include "tools/commands.h"
#include "tools/node_commands.h"
#include "tools/node_settings.h"
#include "tools/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct command commands[] = {
    { "status", node_status_main, "show the node that runs here, live" },
    { "plan", node_plan_main, "who would compute what, how fast, and what more PCs bring" },
    { "hold", node_hold_main, "let it hold and serve other layers" },
    { "pause", node_pause_main, "let it do nothing for others until it is resumed" },
    { "resume", node_resume_main, "take that back" },
    { "drain", node_drain_main, "let it hand over its work, then stop" },
    { "check-config", node_check_config_main,
      "print what would be used, from where, what is wrong" },
    { "new-key", node_new_key_main, "print a private swarm key, or write it to a new file" },
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static struct args args = {
    .program = "swarm-node",
    .usage = "[--store DIR] [--listen HOST:PORT] [--join LINK ...] [options]\n"
             "       swarm-node COMMAND [options]",
    .about = "Joins a swarm, announces which layers of a model it holds, and computes them for "
             "others. When it is ready, its link is printed on a line of its own.",
};

static void say(void *arg, const char *sentence)
{
    (void)arg;
    (void)die(&args, 2, "%s", sentence);
}

/* Weights that come from others; total 0: it is over. */
static void on_progress(uint64_t done, uint64_t total)
{
    static struct progress bar;
    static bool started;

    if (!started && total) progress_start(&bar, "fetching", false);
    if (total)
        progress_set(&bar, done, total);
    else if (started)
        (void)progress_end(&bar);
    started = total > 0;
}

int main(int argc, char **argv)
{
    const char *word;
    struct why why = { "" };

    if (proto_init()) return die(&args, 1, "libsodium does not start");
    const struct command *c = argc > 1 ? commands_find(commands, N_COMMANDS, argv[1]) : NULL;
    if (c) return c->run(argc - 1, argv + 1);

    struct node_settings *s = node_settings_open();
    args.options = s->all.option;
    args.given = s->all.given;
    args.commands = commands;
    args.n_commands = N_COMMANDS;
    if (args_parse(&args, argc, argv, &word, 1) > 0)
        return die(&args, 2, "%s: no such command; try --help", word);
    if (node_settings_read(s, NULL, say, NULL)) return 2;
    s->config.progress = on_progress;
    enum err e = node_run(&s->config, &why);
    node_settings_close(s);
    return e ? die(&args, 1, "%s", why.text) : 0;
}
