/* settings.h - a program's settings from one table: flag, key of the config file, environment
 * variable, type, range, default and help, declared once a row.
 *
 *     flag  >  environment  >  file  >  default        the first that names a setting decides
 *
 * The key of a setting is its flag without dashes; its variable is the program's prefix and the
 * name in capitals: --kv-ram, kv-ram, SWARM_NODE_KV_RAM.  A setting that may be repeated is decided
 * as a whole: a flag --join hides every join of the file.
 *
 * The file: a line is "key = value", empty, or a comment from # on (at the start of a line or after
 * white space).  A value with such a # or with white space at its ends stands in double quotes,
 * with
 * \" and \\ inside.  Flags are yes or no.  A key that may be repeated takes several lines, or
 * several values in one, by commas or spaces; others are given once.
 *
 * --help, the manual page, this parser, `check-config` and docs/config.md come from the table. */
#ifndef TOOLS_SETTINGS_H
#define TOOLS_SETTINGS_H

#include "base/json.h"
#include "store/file.h"
#include "tools/args.h"

enum {
    SETTINGS_MAX = 64,
    SETTINGS_FILE_MAX = 64 << 10,
    SETTINGS_LINE_MAX = 4096,
};

/* A row; what is not named is NULL or 0. */
struct setting {
    const char *name;
    enum arg_type type;
    void *to;          /* as in struct arg: where the value goes; starts empty */
    const char *value; /* placeholder in the help */
    const char *help;  /* without the default, which is added */
    const char
        *preset;       /* the default, as it would stand in the file; NULL: the value stays empty */
    const char *unset; /* then what happens without a value: "every core" */
    uint64_t min, max; /* of numbers and sizes; max 0: any */
    enum err (*check)(const void *to, struct why *why); /* more to say about the value */
    bool is_secret;                                     /* never printed */
    bool has_no_key;                                    /* makes no sense in a file */
};

enum setting_source { SETTING_DEFAULT, SETTING_FILE, SETTING_ENV, SETTING_FLAG };

struct settings {
    /* set by settings_init */
    const char *prefix;          /* "SWARM_NODE_" */
    const struct setting *table; /* borrowed; ends with {0} */
    unsigned n;
    struct arg option[SETTINGS_MAX + 1]; /* for struct args */
    bool given[SETTINGS_MAX];            /* likewise */
    /* by settings_read */
    enum setting_source source[SETTINGS_MAX];
    unsigned line[SETTINGS_MAX]; /* in the file, with SETTING_FILE; the first of several */
    char path[FILE_PATH_MAX];    /* the file; empty: none is read */
    unsigned mistakes;
    void (*say)(void *arg, const char *sentence);
    void *arg;
    /* owned */
    struct text help[SETTINGS_MAX];
    char *file; /* values of strings point into these */
    char *env[SETTINGS_MAX];
};

/* Give every setting its default, and make the table for args_parse.  A table that breaks its own
 * rules aborts. */
void settings_init(struct settings *s, const char *prefix, const struct setting *table);
void settings_fini(struct settings *s); /* strings of the settings are gone then */

/* After args_parse: what the environment and the file at path (NULL: none) say, where nothing
 * higher spoke.  say hears of each mistake in one sentence that names its place; returns how many.
 * A file that cannot be read is a mistake. */
unsigned settings_read(struct settings *s, const char *path,
                       void (*say)(void *arg, const char *sentence), void *arg);

/* The value of setting i as it would stand in a file; item: which of a list.  false: it has none.
 */
bool setting_text(const struct settings *s, unsigned i, unsigned item, struct text *out);

/* What would be used and why, as a config file that says the same. */
void settings_print(const struct settings *s, struct text *out);
/* A config file with every setting, its help and its default, all commented out. */
void settings_example(const struct settings *s, struct text *out);
/* The same as a table in Markdown. */
void settings_markdown(const struct settings *s, struct text *out);

/* The variable of setting i: "SWARM_NODE_KV_RAM". */
enum { SETTING_ENV_MAX = 64 };
void setting_env(char out[SETTING_ENV_MAX], const struct settings *s, unsigned i);

#endif
