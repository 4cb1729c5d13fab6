/* commands.h - a program that is several: its first word picks one. */
#ifndef TOOLS_COMMANDS_H
#define TOOLS_COMMANDS_H

struct command {
    const char *name;
    int (*run)(int argc, char **argv); /* its own name is argv[0] */
    const char *about;                 /* a line of the help */
};

/* The command of that name, or NULL. */
const struct command *commands_find(const struct command *commands, unsigned n, const char *name);

/* Run the command that argv[1] names, or print the help; the exit status.
 *   program   "swarm-eval"
 *   about     one or two sentences
 *   commands  [n] */
int commands_run(const char *program, const char *about, const struct command *commands, unsigned n,
                 int argc, char **argv);

#endif
