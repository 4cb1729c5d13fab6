/* configdoc - docs/config.md and docs/node.conf.example from the table of swarm-node's settings:
 * the file named, then the table; with --example the example file. */
#include "tools/node_settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    struct text out = { 0 };
    struct why why;
    uint8_t *intro;
    size_t n;

    if (argc != 2) {
        fprintf(stderr, "usage: configdoc INTRO | --example\n");
        return 2;
    }
    struct node_settings *s = node_settings_open();
    if (strcmp(argv[1], "--example") == 0) {
        text_str(&out,
                 "# Settings of swarm-node, all at their defaults: take the # away to change one.\n"
                 "# Its place is ~/.config/swarm/node.conf, or wherever --config says.\n"
                 "# `swarm-node check-config FILE` says what is used and what is wrong.\n");
        settings_example(&s->all, &out);
    } else {
        if (file_read(argv[1], 1 << 20, &intro, &n, &why)) {
            fprintf(stderr, "configdoc: %s\n", why.text);
            return 1;
        }
        text_add(&out, intro, n);
        free(intro);
        text_str(&out, "\n");
        settings_markdown(&s->all, &out);
    }
    if (out.failed || fwrite(out.p, 1, out.n, stdout) != out.n || fflush(stdout)) return 1;
    free(out.p);
    node_settings_close(s);
    return 0;
}
