#include "tools/args.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NEGATABLE "[no-]"

int die(const struct args *a, int status, const char *fmt, ...)
{
    char text[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    log_clean(text); /* the words of a command line may come from anywhere */
    if (log_is_json())
        log_error("%s", text);
    else
        fprintf(stderr, "%s: %s\n", a->program, text);
    return status;
}

/* --- help --- */

/* Print text from column at, broken between words so that lines stay under 100 columns. */
static void print_wrapped(const char *text, int at)
{
    enum { RIGHT = 98 };
    int column = at;

    while (*text) {
        int word = (int)strcspn(text, " ");
        if (column > at && column + 1 + word > RIGHT) {
            printf("\n%*s", at, "");
            column = at;
        } else if (column > at) {
            putchar(' ');
            column++;
        }
        printf("%.*s", word, text);
        column += word;
        text += word;
        text += strspn(text, " ");
    }
    putchar('\n');
}

/* Its help then starts with the mark. */
bool arg_negatable(const struct arg *o)
{
    return o->type == ARG_FLAG && strncmp(o->help, NEGATABLE, strlen(NEGATABLE)) == 0;
}

static const char *help_of(const struct arg *o)
{
    return o->help + (arg_negatable(o) ? strlen(NEGATABLE) : 0);
}

static void print_commands(const struct args *a)
{
    if (a->n_commands) printf("\nCommands:\n");
    for (unsigned i = 0; i < a->n_commands; i++)
        printf("  %-12s %s\n", a->commands[i].name, a->commands[i].about);
}

static void print_help(const struct args *a)
{
    enum { LEFT = 26 };

    printf("usage: %s %s\n\n", a->program, a->usage);
    print_wrapped(a->about, 0);
    putchar('\n');
    for (const struct arg *o = a->options; o->name; o++) {
        int n = printf("  --%s%s%s%s", arg_negatable(o) ? "[no-]" : "", o->name,
                       o->value ? " " : "", o->value ? o->value : "");
        if (n >= LEFT) n = (putchar('\n'), 0);
        printf("%*s", LEFT - n, "");
        print_wrapped(help_of(o), LEFT);
    }
    printf("  --help, --version, --man\n");
    print_commands(a);
    if (a->more) printf("\n%s\n", a->more);
}

/* --- for shells --- */

static void print_table(const struct args *a)
{
    for (unsigned i = 0; i < a->n_commands; i++)
        printf("command\t%s\t\t%s\n", a->commands[i].name, a->commands[i].about);
    for (const struct arg *o = a->options; o->name; o++) {
        printf("option\t--%s\t%s\t%s\n", o->name, o->value ? o->value : "", help_of(o));
        if (arg_negatable(o)) printf("option\t--no-%s\t\tnot: %s\n", o->name, help_of(o));
    }
    printf("option\t--help\t\tprint the options\noption\t--version\t\tprint the version\n");
}

/* --- manual page --- */

/* Text for roff: no line may start with a dot or quote, backslashes and hyphens are literal. */
static void print_roff(const char *text)
{
    bool start = true;

    for (const char *c = text; *c; c++) {
        if (start && (*c == '.' || *c == '\'')) fputs("\\&", stdout);
        if (*c == '\\')
            fputs("\\e", stdout);
        else if (*c == '-')
            fputs("\\-", stdout);
        else
            putchar(*c);
        start = *c == '\n';
    }
    putchar('\n');
}

/* The manual page comes from the same table as --help, so it is never behind. */
static void print_man(const struct args *a)
{
    char page[64];

    snprintf(page, sizeof page, "%s", a->program);
    for (char *c = page; *c; c++)
        if (*c == ' ') *c = '-';
    printf(".TH \"%s\" 1 \"\" \"swarm %s\" \"Swarm\"\n.SH NAME\n%s \\- ", page, SWARM_VERSION,
           page);
    int first = (int)strcspn(a->about, ".");
    printf("%.*s\n.SH SYNOPSIS\n.nf\n%s ", first, a->about, a->program);
    print_roff(a->usage);
    printf(".fi\n.SH DESCRIPTION\n");
    print_roff(a->about);
    printf(".SH OPTIONS\n");
    for (const struct arg *o = a->options; o->name; o++) {
        printf(".TP\n\\fB\\-\\-%s%s\\fR \\fI%s\\fR\n", arg_negatable(o) ? "[no\\-]" : "", o->name,
               o->value ? o->value : "");
        print_roff(help_of(o));
    }
    printf(".TP\n.B \\-\\-help, \\-\\-version, \\-\\-man\nPrint the options, the version, this "
           "page.\n");
    if (a->n_commands) printf(".SH COMMANDS\n");
    for (unsigned i = 0; i < a->n_commands; i++) {
        printf(".TP\n\\fB%s\\fR, see \\fB%s\\-%s\\fR(1)\n", a->commands[i].name, page,
               a->commands[i].name);
        print_roff(a->commands[i].about);
    }
    if (a->more) {
        printf(".SH NOTES\n.nf\n");
        print_roff(a->more);
        printf(".fi\n");
    }
}

/* --- values --- */

static bool parse_u64(const char *s, const char **end, uint64_t *out)
{
    char *e;

    if (*s < '0' || *s > '9') return false; /* strtoull takes signs and spaces */
    errno = 0;
    *out = strtoull(s, &e, 10);
    *end = e;
    return errno == 0;
}

static bool parse_size(const char *s, uint64_t *out)
{
    static const char units[] = "KMGT";
    const char *unit;

    if (!parse_u64(s, &s, out)) return false;
    if (*s && (unit = strchr(units, *s >= 'a' ? *s - 'a' + 'A' : *s))) {
        unsigned shift = 10 * (unsigned)(unit - units + 1);
        if (*out > UINT64_MAX >> shift) return false;
        *out <<= shift;
        s++;
        if (s[0] == 'i' && s[1] == 'B') s += 2;
    }
    return *s == 0;
}

static bool parse_range(const char *s, struct arg_range *out)
{
    uint64_t lo, hi;

    if (!parse_u64(s, &s, &lo)) return false;
    hi = lo;
    if (*s == '-' && !parse_u64(s + 1, &s, &hi)) return false;
    if (*s || lo > hi || hi > UINT32_MAX) return false;
    *out = (struct arg_range){ (uint32_t)lo, (uint32_t)hi, true };
    return true;
}

static bool parse_double(const char *s, double *out)
{
    char *end;

    if (*s == 0 || strspn(s, "+-.0123456789eE") != strlen(s)) return false;
    *out = strtod(s, &end);
    return *end == 0 && isfinite(*out);
}

static bool parse_flag(const char *s, bool *out)
{
    static const char *const words[] = { "no", "yes", "off", "on", "false", "true", "0", "1" };

    for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(s, words[i]) == 0) {
            *out = i % 2;
            return true;
        }
    return false;
}

enum err arg_set(const struct arg *o, const char *v, struct why *why)
{
    static const char *const kinds[] = {
        [ARG_FLAG] = "yes or no",          [ARG_U64] = "a whole number",
        [ARG_U32] = "a whole number",      [ARG_DOUBLE] = "a number",
        [ARG_SIZE] = "a size, as in 512M", [ARG_RANGE] = "a range, as in 0-7",
    };
    const char *end = "";
    uint64_t u;
    bool ok = true;

    switch (o->type) {
    case ARG_FLAG: ok = parse_flag(v, o->to); break;
    case ARG_STR: *(const char **)o->to = v; break;
    case ARG_LIST: {
        struct arg_list *l = o->to;
        enum { MOST = sizeof l->v / sizeof *l->v };
        if (l->n == MOST) return fail(why, ERR_USAGE, "it is given more than %d times", MOST);
        l->v[l->n++] = v;
        break;
    }
    case ARG_U64: ok = parse_u64(v, &end, o->to) && *end == 0; break;
    case ARG_U32:
        ok = parse_u64(v, &end, &u) && *end == 0 && u <= UINT32_MAX;
        if (ok) *(uint32_t *)o->to = (uint32_t)u;
        break;
    case ARG_DOUBLE: ok = parse_double(v, o->to); break;
    case ARG_SIZE: ok = parse_size(v, o->to); break;
    case ARG_RANGE: ok = parse_range(v, o->to); break;
    }
    return ok ? ERR_OK : fail(why, ERR_USAGE, "that is not %s", kinds[o->type]);
}

static void set(const struct args *a, const struct arg *o, const char *v)
{
    struct why why;

    if (a->given) a->given[o - a->options] = true;
    if (arg_set(o, v, &why)) exit(die(a, 2, "--%s %s: %s", o->name, v, why.text));
}

/* --- the line --- */

static const struct arg *find(const struct args *a, const char *name, size_t n)
{
    for (const struct arg *o = a->options; o->name; o++)
        if (strlen(o->name) == n && memcmp(o->name, name, n) == 0) return o;
    return NULL;
}

/* A flag that may be turned off: --no-name. */
static const struct arg *find_negated(const struct args *a, const char *name, size_t n)
{
    const struct arg *o = n > 3 && memcmp(name, "no-", 3) == 0 ? find(a, name + 3, n - 3) : NULL;

    return o && arg_negatable(o) ? o : NULL;
}

/* What every program prints about itself, when it is asked to; then it ends. */
static void print_about(const struct args *a, const char *what)
{
    if (strcmp(what, "help") == 0)
        print_help(a);
    else if (strcmp(what, "man") == 0)
        print_man(a);
    else if (strcmp(what, "table") == 0)
        print_table(a);
    else if (strcmp(what, "version") == 0)
        printf("%s %s\n", a->program, SWARM_VERSION);
    else
        return;
    exit(fflush(stdout) ? die(a, 1, "standard output cannot be written") : 0);
}

/* The option at argv[i], and its value; returns the index of the last word it used. */
static int take_option(const struct args *a, int argc, char **argv, int i)
{
    const char *name = argv[i] + 2, *value = strchr(name, '=');
    size_t n = value ? (size_t)(value - name) : strlen(name);
    const struct arg *o = find(a, name, n);

    if (!o && !value && (o = find_negated(a, name, n))) {
        set(a, o, "no");
        return i;
    }
    if (!o && !value) print_about(a, name);
    if (!o) exit(die(a, 2, "unknown option --%.*s; --help lists them", (int)n, name));
    if (o->type == ARG_FLAG) {
        if (value) exit(die(a, 2, "--%s takes no value", o->name));
        value = "yes";
    } else if (value) {
        value++;
    } else {
        if (i + 1 >= argc) exit(die(a, 2, "--%s needs a value: %s", o->name, o->value));
        value = argv[++i];
    }
    set(a, o, value);
    return i;
}

/* Whoever started us may have closed one of the three.  The next file or socket would get its
 * number, and what is printed would be written into it.  Of such an input is the end read at once,
 * and such an output fails when it is written. */
static void fill_streams(void)
{
    static const int how[] = { O_RDONLY, O_RDONLY, O_WRONLY };

    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", how[fd]) != fd) exit(1);
}

int args_parse(const struct args *a, int argc, char **argv, const char **pos, int max_pos)
{
    int n = 0;
    bool options = true;

    fill_streams();

    for (int i = 1; i < argc; i++) {
        if (options && strcmp(argv[i], "--") == 0) {
            options = false;
        } else if (options && strncmp(argv[i], "--", 2) == 0) {
            i = take_option(a, argc, argv, i);
        } else if (options && argv[i][0] == '-' && argv[i][1]) {
            exit(die(a, 2, "unknown option %s; --help lists them", argv[i]));
        } else {
            if (n == max_pos) exit(die(a, 2, "unexpected argument '%s'", argv[i]));
            pos[n++] = argv[i];
        }
    }
    return n;
}
