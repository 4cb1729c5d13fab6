/* node_settings.h - the settings of swarm-node: one table, and the node_config they make.
 *
 * To add one: a row in node_settings.c, with its value in `struct node_settings` or straight in
 * `config`.  Flag, key, variable, --help, manual page, check-config, docs/config.md and the example
 * file follow (`scripts/config_docs.sh BUILD` writes the last two again; a test compares). */
#ifndef TOOLS_NODE_SETTINGS_H
#define TOOLS_NODE_SETTINGS_H

#include "node/node.h"
#include "tools/settings.h"

struct node_settings {
    struct node_config config; /* what node_run takes; complete after node_settings_read */
    struct settings all;
    /* values that are not in config as they are typed */
    const char *file, *log_level, *log_form, *draft, *share;
    struct arg_list join, bootstrap, allow, trust, hours, pause_on;
    struct arg_range layers;
    const char *experts, *heads, *dense; /* of these layers; NULL: see node_settings.c */
    bool trunk;
    char store_path[FILE_PATH_MAX];
};

/* There is one, since its table points into it; the second call aborts. */
struct node_settings *node_settings_open(void);
void node_settings_close(struct node_settings *s);

/* After args_parse with s->all.option and s->all.given: read the environment and the config file
 * (file; NULL: --config, SWARM_NODE_CONFIG, or node.conf in this person's configuration folder if
 * there is one), say what is wrong, fill config and set the log level.  Returns the number of
 * mistakes. */
unsigned node_settings_read(struct node_settings *s, const char *file,
                            void (*say)(void *arg, const char *sentence), void *arg);

#endif
