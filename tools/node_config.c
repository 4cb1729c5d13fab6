/* swarm-node check-config and new-key: what a node needs before it runs. */
#include "home/keys.h"
#include "tools/node_commands.h"
#include "tools/node_settings.h"

#include <stdio.h>
#include <stdlib.h>

/* --- check-config --- */

static struct args check_args = {
    .program = "swarm-node check-config",
    .usage = "[FILE] [options]",
    .about = "Prints what swarm-node would use with the same options, and where each value comes "
             "from: a flag, the environment, the config file or the default. Each mistake is one "
             "sentence with its place.",
    .more = "What is printed is a config file that says the same.\n"
            "Exit status: 0 nothing wrong, 1 mistakes, 2 unusable options.",
};

static void say(void *arg, const char *sentence)
{
    (void)arg;
    (void)die(&check_args, 1, "%s", sentence);
}

int node_check_config_main(int argc, char **argv)
{
    const char *file = NULL;
    struct text out = { 0 };
    struct node_settings *s = node_settings_open();

    check_args.options = s->all.option;
    check_args.given = s->all.given;
    args_parse(&check_args, argc, argv, &file, 1);
    unsigned mistakes = node_settings_read(s, file, say, NULL);
    text_printf(&out, "# swarm-node with %s%s\n",
                s->all.path[0] ? "the config file " : "no config file", s->all.path);
    settings_print(&s->all, &out);
    if (!mistakes && !out.failed) fputs(out.p, stdout);
    free(out.p);
    node_settings_close(s);
    if (fflush(stdout) != 0) return die(&check_args, 1, "standard output cannot be written");
    return mistakes ? 1 : 0;
}

/* --- new-key --- */

int node_new_key_main(int argc, char **argv)
{
    static const struct arg options[] = { { 0 } };
    static const struct args args = {
        .program = "swarm-node new-key",
        .usage = "[FILE]",
        .about = "Prints a private swarm key, or writes it to a new FILE that only you can read. "
                 "Nodes with another key are not even answered.",
        .options = options,
    };
    const char *file;
    struct why why;
    struct swarm_key key;
    char text[SWARM_KEY_TEXT];

    if (args_parse(&args, argc, argv, &file, 1) > 0)
        return keys_new_swarm(file, &why) ? die(&args, 1, "%s", why.text) : 0;
    swarm_key_make(&key);
    swarm_key_text(text, &key);
    puts(text);
    return 0;
}
