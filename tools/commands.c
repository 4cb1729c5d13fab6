#include "tools/commands.h"

#include "tools/args.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Add formatted text; a list too long for its buffer would show in the help, and is cut. */
__attribute__((format(printf, 3, 4))) static void add(char *text, size_t cap, const char *fmt, ...)
{
    size_t n = strlen(text);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text + n, cap - n, fmt, ap);
    va_end(ap);
}

const struct command *commands_find(const struct command *commands, unsigned n, const char *name)
{
    for (unsigned i = 0; i < n; i++)
        if (strcmp(name, commands[i].name) == 0) return &commands[i];
    return NULL;
}

int commands_run(const char *program, const char *about, const struct command *commands, unsigned n,
                 int argc, char **argv)
{
    char names[512] = "", text[512];
    const struct command *c = argc > 1 ? commands_find(commands, n, argv[1]) : NULL;

    if (c) return c->run(argc - 1, argv + 1);
    for (unsigned i = 0; i < n; i++)
        add(names, sizeof names, "%s%s", !i ? "" : i + 1 < n ? ", " : " or ", commands[i].name);
    snprintf(text, sizeof text, "%s %s COMMAND --help lists a command's options.", about, program);

    static const struct arg no_options[] = { { 0 } };
    const struct args args = { .program = program,
                               .usage = "COMMAND [options]",
                               .about = text,
                               .options = no_options,
                               .commands = commands,
                               .n_commands = n };
    const char *word;
    if (args_parse(&args, argc, argv, &word, 1) > 0)
        return die(&args, 2, "unknown command '%s'; --help lists them", word);
    return die(&args, 2, "a command is needed: %s", names);
}
