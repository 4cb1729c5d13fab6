/* args.h - command lines from a table: parsing, complete --help that fits a screen, one sentence
 * and exit status 2 for anything unusable. */
#ifndef TOOLS_ARGS_H
#define TOOLS_ARGS_H

#include "base/err.h"
#include "tools/commands.h"

#include <stdbool.h>
#include <stdint.h>

enum arg_type {
    ARG_FLAG,   /* bool *: --name; also --no-name when help starts with "[no-]" */
    ARG_STR,    /* const char ** */
    ARG_LIST,   /* struct arg_list *: may be repeated */
    ARG_U64,    /* uint64_t * */
    ARG_U32,    /* uint32_t * */
    ARG_DOUBLE, /* double * */
    ARG_SIZE,   /* uint64_t *: bytes, with suffix K M G T (powers of 1024) */
    ARG_RANGE,  /* struct arg_range *: A-B, both included, or A */
};
struct arg_list {
    const char *v[16];
    unsigned n;
};
struct arg_range {
    uint32_t lo, hi; /* both included */
    bool set;
};
struct arg {
    const char *name; /* without the dashes */
    enum arg_type type;
    void *to;
    const char *value; /* placeholder in the help, as in "DIR"; NULL for flags */
    const char *help;
};
struct args {
    const char *program;            /* "swarm-convert" */
    const char *usage;              /* "SRC --store DIR --name NAME:TYPE --type TYPE [options]" */
    const char *about;              /* one or two sentences */
    const struct arg *options;      /* ends with {0} */
    const struct command *commands; /* its first word may be one of these; NULL */
    unsigned n_commands;
    const char *more; /* printed after that: examples, exit status; NULL */
    bool *given;      /* [options] set for those that the line names; NULL: nobody asks */
};

/* Set o from its text, as on a command line: ARG_FLAG takes yes or no, ARG_LIST adds one.
 * ERR_USAGE with why: "that is not a whole number". */
MUST_CHECK enum err arg_set(const struct arg *o, const char *text, struct why *why);
/* May the flag be turned off with --no-NAME? */
bool arg_negatable(const struct arg *o);

/* --table is what completions of shells are made from (tools/completions.sh), by tabs:
 *
 *     command  status                  show the node that runs here, live
 *     option   --listen     HOST:PORT  where to take connections
 *     option   --open                  a flag has no placeholder; a negatable one has a second row
 *
 * Parse argv[1..]; positional arguments are gathered in pos (at most max_pos).  "--name=V" and
 * "--name V"; "--" ends options.  --help, --version, --man (the manual page as roff) and --table
 * print and exit 0; anything unusable prints one sentence on stderr and exits 2.  Returns the
 * number of positional arguments. */
int args_parse(const struct args *a, int argc, char **argv, const char **pos, int max_pos);

/* Print "program: sentence" on stderr and return status (for `return die(...)` in main). */
__attribute__((format(printf, 3, 4))) int die(const struct args *a, int status, const char *fmt,
                                              ...);

#endif
